"""Account work from the shell while the server runs: what one process writes the other sees at once."""

import json
import re
import smtplib

import pytest

from kephs.testpki.profiles import make_tckn
from tests.functional.site import Holder, Site, compose, kephs, sign

LEGAL, MEMBER = ("--kind", "legal_person"), ("--kind", "corporate_member")


@pytest.fixture(scope="module")
def opened(site: Site) -> Holder:
    """An account opened by the shell, with a password made by the shell."""
    tckn = site.next_tckn()
    holder = Holder("kabuk.hesabi@hs91.kep.tr", "Kabuk Hesabı", tckn, site.issue("Kabuk Hesabı", tckn))
    done = kephs(
        "account", "open", site.home, "Kabuk.HESABI@hs91.kep.tr", "--name", "Kabuk Hesabı", "--tckn", "-", "--json",
        text_in=f"{tckn}\n",
    )  # fmt: skip
    facts = json.loads(done.stdout)
    assert (facts["address"], facts["state"], facts["durum"]) == (holder.address, "active", "Aktif")
    done = kephs("account", "add-password", site.home, holder.address, "--label", "telefon", "--json")
    holder.password = json.loads(done.stdout)["password"]
    return holder


def _login(site: Site, holder: Holder) -> bool:
    try:
        with site.smtp(holder):
            return True
    except smtplib.SMTPAuthenticationError:
        return False


def test_a_password_has_the_documented_form_and_opens_the_running_server(site, opened):
    assert re.fullmatch(r"[a-z2-7]{6}(-[a-z2-7]{5}){4}", opened.password)
    assert _login(site, opened)


def test_a_new_account_sends_and_receives_at_once(site, who, opened):
    message = sign(compose(opened.address, who.mehmet.address), opened.issued)
    assert site.submit(opened, message, [who.mehmet.address]).code == 250
    message = sign(compose(who.ayse.address, opened.address), who.ayse.issued)
    site.wait_evidence(site.submit(who.ayse, message, [opened.address]).message_id, 40)


def test_show_tells_everything_but_secrets(site, opened):
    done = kephs("account", "show", site.home, opened.address, "--json")
    facts = json.loads(done.stdout)
    assert [one["name"] for one in facts["folders"]][:4] == ["INBOX", "Giden", "Taslaklar", "Deliller"]
    assert [one["label"] for one in facts["passwords"]] == ["telefon"]
    assert [one["holder"] for one in facts["operators"]] == [True]
    assert opened.password not in done.stdout
    assert opened.tckn not in done.stdout
    assert "argon2" not in done.stdout
    assert "telefon" in kephs("account", "show", site.home, opened.address).stdout


def test_a_revoked_password_opens_nothing_any_more(site, opened):
    done = kephs("account", "add-password", site.home, opened.address, "--json")
    made = json.loads(done.stdout)
    second = Holder(opened.address, opened.name, opened.tckn, opened.issued, made["password"])
    assert _login(site, second)
    kephs("account", "revoke-password", site.home, opened.address, made["id"])
    assert not _login(site, second)
    assert _login(site, opened)
    done = kephs("account", "revoke-password", site.home, opened.address, made["id"], ok=False)
    assert (done.returncode, "[no-such-password]" in done.stderr) == (1, True)


def test_a_blocked_account_neither_sends_nor_receives_and_unblocking_ends_that(site, who, opened):
    assert (
        json.loads(kephs("account", "block", site.home, opened.address, "--json").stdout)["state"]
        == "blocked"
    )
    message = sign(compose(opened.address, who.mehmet.address), opened.issued)
    assert site.submit(opened, message, [who.mehmet.address]).stable_code == "account-blocked"
    incoming = sign(compose(who.ayse.address, opened.address), who.ayse.issued)
    site.wait_evidence(site.submit(who.ayse, incoming, [opened.address]).message_id, 41)
    done = kephs("account", "close", site.home, opened.address, ok=False)
    assert (done.returncode, "[blocked-too-short]" in done.stderr) == (1, True)
    assert "92 days" in done.stderr
    assert (
        json.loads(kephs("account", "unblock", site.home, opened.address, "--json").stdout)["state"]
        == "active"
    )
    message = sign(compose(opened.address, who.mehmet.address), opened.issued)
    assert site.submit(opened, message, [who.mehmet.address]).code == 250


def test_an_operator_added_by_the_shell_signs_for_the_account(site, who, opened):
    tckn = site.next_tckn()
    done = kephs(
        "account", "add-operator", site.home, opened.address, "--name", "Yeni Yetkili", "--tckn", tckn,
        "--right", "send", "--right", "read", "--json",
    )  # fmt: skip
    operator = json.loads(done.stdout)
    assert operator["rights"] == ["read", "send"]
    done = kephs(
        "account", "add-password", site.home, opened.address, "--operator", operator["operator_id"], "--json"
    )
    deputy = Holder(
        opened.address,
        "Yeni Yetkili",
        tckn,
        site.issue("Yeni Yetkili", tckn),
        json.loads(done.stdout)["password"],
    )
    message = sign(compose(opened.address, who.mehmet.address), deputy.issued)
    assert site.submit(deputy, message, [who.mehmet.address]).code == 250


def test_the_same_person_is_not_added_twice(site, opened):
    done = kephs(
        "account", "add-operator", site.home, opened.address, "--name", "Aynı Kişi", "--tckn", opened.tckn,
        "--right", "read", ok=False,
    )  # fmt: skip
    assert (done.returncode, "[operator-exists]" in done.stderr) == (1, True)
    assert len(done.stderr.strip().splitlines()) == 2


def test_list_names_every_account(site, opened):
    listed = json.loads(kephs("account", "list", site.home, "--json").stdout)["accounts"]
    assert {opened.address, "ayse@hs91.kep.tr", "bloke@hs91.kep.tr"} <= {one["address"] for one in listed}
    assert opened.address in kephs("account", "list", site.home).stdout


@pytest.mark.parametrize(
    ("address", "tckn", "more", "code"),
    [
        ("kabuk.hesabi@hs91.kep.tr", make_tckn(900), (), "address-taken"),
        ("kapali@hs91.kep.tr", make_tckn(901), (*LEGAL, "--person", "Can Ak"), "address-taken"),
        ("birisi@hs92.kep.tr", make_tckn(902), (), "address-elsewhere"),
        ("birisi@gmail.com", make_tckn(903), (), "address-invalid"),
        ("yeni.kisi@hs91.kep.tr", "12345678901", (), "identity-invalid"),
        ("hizmet@hs91.kep.tr", make_tckn(904), (), "address-form"),
        ("yeni.kisi@hs91.kep.tr", make_tckn(905), MEMBER, "address-form"),
        ("yenikurum@hs91.kep.tr", make_tckn(906), LEGAL, "person-missing"),
        ("yeni.kisi@kurum.hs91.kep.tr", make_tckn(907), MEMBER, "person-missing"),
    ],
)
def test_an_account_that_cannot_be_opened_is_refused_with_a_code_and_a_cure(
    site, opened, address, tckn, more, code
):
    done = kephs("account", "open", site.home, address, "--name", "Deneme", "--tckn", tckn, *more, ok=False)
    assert done.returncode == 1
    assert f"[{code}]" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2


def test_errors_are_json_where_json_was_asked_for(site):
    done = kephs("account", "show", site.home, "hickimse@hs91.kep.tr", "--json", ok=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "no-such-account"


def test_after_all_this_the_store_still_proves_itself(site, opened):
    done = kephs("fsck", site.home, "--deep", "--json", ok=False)
    assert done.returncode == 0, done.stdout
