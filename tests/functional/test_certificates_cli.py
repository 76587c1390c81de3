"""Certificates from the shell while the server runs: first use, list, withdraw, challenge, seals, the record."""

import asyncio
import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from config import settings as config_settings
from directory.accounts import ALL_RIGHTS, AccountKind, Right, ServiceType
from kephs.cli.beside import open_beside
from kephs.domain.refusals import RefusalCode
from kephs.testpki.issued import Issued
from kephs.usecases.people.accounts import Opening
from tests.functional.refusal import check_refusal
from tests.functional.site import DOMAIN, Holder, Site, compose, kephs, sign

pytestmark = [pytest.mark.tools, pytest.mark.slow]


def openssl_sign(text: Path, by: Issued, folder: Path, *options: str) -> Path:
    """Sign a file as CAdES with openssl; detached DER where no option says otherwise."""
    for name, pems in (
        ("leaf", [by.x509]),
        ("chain", [x509.load_der_x509_certificate(der) for der in by.chain]),
    ):
        (folder / f"{name}.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in pems))
    key = by.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(key)
    out = folder / "signature.p7s"
    command = ["openssl", "cms", "-sign", "-cades", "-md", "sha256", *(options or ("-outform", "DER"))]
    files = ["-in", text, "-signer", folder / "leaf.pem", "-inkey", folder / "key.pem"]
    files += ["-certfile", folder / "chain.pem", "-out", out]
    subprocess.run([*command, *map(str, files)], check=True, capture_output=True, timeout=60)
    return out


def certificates(site: Site, holder: Holder) -> list[dict]:
    done = kephs("account", "certificates", site.home, holder.address, "--json")
    return json.loads(done.stdout)["certificates"]


def bind(
    site: Site, holder: Holder, by: Issued, folder: Path, *options: str, operator: str = "", ok: bool = True
):
    text = folder / "text.txt"
    more = ("--operator", operator) if operator else ()
    kephs("account", "challenge", site.home, holder.address, text, *more)
    signature = openssl_sign(text, by, folder, *options)
    return kephs(
        "account", "bind", site.home, holder.address, text, signature, "--by", "Zeynep", "--json", ok=ok
    )


def send(site: Site, sender: Holder, by: Issued, to: Holder):
    return site.submit(sender, sign(compose(sender.address, to.address), by), [to.address])


def audit(site: Site, subject: str) -> list[tuple[str, str]]:
    async def look() -> list[tuple[str, str]]:
        async with open_beside(site.settings) as core:
            page = await core.store.read(lambda tx: tx.audit.page(0, 10_000))
            return [(one.actor, one.action) for one in page if one.subject == subject]

    return asyncio.run(look())


def open_person(site: Site, local: str, name: str) -> Holder:
    """Open an account as the shell does, beside the running server."""
    tckn = site.next_tckn()
    holder = Holder(f"{local}@{DOMAIN}", name, tckn, site.issue(name, tckn))
    kephs("account", "open", site.home, holder.address, "--name", name, "--tckn", tckn, "--by", "Memur Bey")
    done = kephs("account", "add-password", site.home, holder.address, "--json")
    holder.password = json.loads(done.stdout)["password"]
    return holder


# --------------------------------------------------------------------------- first use


@pytest.fixture(scope="module")
def person(site: Site) -> Holder:
    return open_person(site, "baglanan.kisi", "Bağlanan Kişi")


def test_first_use_binds_and_withdrawing_ends_it_for_ever(site, who, person, tmp_path):
    assert certificates(site, person) == []
    assert send(site, person, person.issued, who.mehmet).code == 250
    assert send(site, person, person.issued, who.mehmet).code == 250
    (row,) = certificates(site, person)
    assert row["fingerprint"] == person.issued.x509.fingerprint(hashes.SHA256()).hex()
    assert (row["how"], row["state"], row["durum"]) == ("first-use", "valid", "Geçerli")
    assert row["serial"] == f"{person.issued.serial:x}"
    assert row["person"] == "Bağlanan Kişi"

    gone = json.loads(
        kephs(
            "account", "withdraw", site.home, person.address, row["fingerprint"][:16].upper(), "--by", "Kişi",
            "--json",
        ).stdout
    )  # fmt: skip
    assert (gone["state"], gone["withdrawn_by"]) == ("withdrawn", "Kişi")
    answer = send(site, person, person.issued, who.mehmet)
    check_refusal(site, person, answer, RefusalCode.CERTIFICATE_WITHDRAWN)
    assert [one["state"] for one in certificates(site, person)] == ["withdrawn"]

    done = bind(site, person, person.issued, tmp_path, ok=False)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "certificate-withdrawn")

    second = site.issue(person.name, person.tckn)
    bound = json.loads(bind(site, person, second, tmp_path).stdout)
    assert (bound["how"], bound["state"]) == ("challenge", "bound")
    assert send(site, person, second, who.mehmet).code == 250
    assert [one["state"] for one in certificates(site, person)] == ["withdrawn", "valid"]
    shown = kephs("account", "certificates", site.home, person.address).stdout
    assert "Geri alınmış" in shown
    assert person.tckn not in shown

    done = audit(site, person.address)
    assert done[0] == ("Memur Bey", "account.opened")
    assert [action for _, action in done] == [
        "account.opened", "account.password-added", "certificate.bound", "certificate.withdrawn",
        "certificate.bound",
    ]  # fmt: skip
    assert done[3:] == [("Kişi", "certificate.withdrawn"), ("Zeynep", "certificate.bound")]


def test_a_refused_message_binds_nothing(site, who, person):
    stranger = site.issue(person.name, site.next_tckn())
    answer = send(site, who.fatma, stranger, who.mehmet)
    check_refusal(site, who.fatma, answer, RefusalCode.SIGNER_NOT_AUTHORISED)
    assert stranger.x509.fingerprint(hashes.SHA256()).hex() not in str(certificates(site, who.fatma))


@pytest.mark.parametrize(
    "options",
    [("-outform", "DER", "-nodetach"), ("-outform", "PEM"), ("-outform", "DER", "-binary")],
    ids=["opaque", "pem", "binary"],
)
def test_any_way_of_signing_exactly_the_text_binds(site, person, tmp_path, options):
    again = site.issue(person.name, person.tckn)
    bound = json.loads(bind(site, person, again, tmp_path, *options).stdout)
    assert bound["fingerprint"] == again.x509.fingerprint(hashes.SHA256()).hex()
    done = kephs(
        "account",
        "bind",
        site.home,
        person.address,
        tmp_path / "text.txt",
        tmp_path / "signature.p7s",
        ok=False,
    )
    assert (done.returncode, "[certificate-already-bound]" in done.stderr) == (1, True)


def test_mistakes_are_named_with_code_and_cure_in_both_languages(site, who, person, tmp_path):
    done = bind(site, person, who.ayse.issued, tmp_path, ok=False)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (1, "other-person")
    assert "--operator" in error["cure"]
    assert "metni sertifikanın sahibi" in error["cure"]
    text, signature = tmp_path / "text.txt", tmp_path / "signature.p7s"
    text.write_bytes(text.read_bytes().replace(b"mac: ", b"mac:  "))
    for wrong, code in ((text, "challenge-invalid"), (signature, "challenge-invalid")):
        done = kephs("account", "bind", site.home, person.address, wrong, signature, ok=False)
        assert (done.returncode, f"[{code}]" in done.stderr) == (1, True)
    for fingerprint, status in (("0" * 64, 1), ("12", 2), ("zz" * 32, 2)):
        done = kephs("account", "withdraw", site.home, person.address, fingerprint, "--by", "x", ok=False)
        assert done.returncode == status
    done = kephs("account", "seals", site.home, person.address, "on", "--by", "x", ok=False)
    assert (done.returncode, "[seals-off]" in done.stderr) == (1, True)
    done = kephs("account", "challenge", site.home, person.address, text, "--operator", "nobody", ok=False)
    assert (done.returncode, "[no-such-operator]" in done.stderr) == (1, True)


@pytest.mark.parametrize("defect", ["qualified", "non_repudiation"])
def test_a_certificate_that_may_not_sign_messages_is_refused_in_the_verifiers_words(
    site, person, tmp_path, defect
):
    bad = site.issue(person.name, person.tckn, **{defect: False})
    error = json.loads(bind(site, person, bad, tmp_path, ok=False).stdout)["error"]
    assert error["code"] == "signature-not-valid"
    assert "CHAIN_CONSTRAINTS_FAILURE" in error["text"]
    assert " / " in error["text"]
    assert bad.x509.fingerprint(hashes.SHA256()).hex() not in str(certificates(site, person))


def test_without_revocation_data_nothing_is_bound_and_trying_again_helps(site, person, tmp_path):
    fresh = site.issue(person.name, person.tckn)
    with site.silent_pki():
        error = json.loads(bind(site, person, fresh, tmp_path, ok=False).stdout)["error"]
    assert error["code"] == "revocation-unknown"
    text, signature = tmp_path / "text.txt", tmp_path / "signature.p7s"
    kephs("account", "bind", site.home, person.address, text, signature)
    assert fresh.x509.fingerprint(hashes.SHA256()).hex() in str(certificates(site, person))


# --------------------------------------------------------------------------- challenge mode, seals


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An instance where only bound certificates sign, and organisations may use seals."""
    made = Site(tmp_path_factory.mktemp("strict") / "hs91")
    path = made.home / config_settings.FILE_NAME
    values = tomllib.loads(path.read_text("utf-8"))
    values["trust"] |= {"certificate_binding": "challenge", "allow_qualified_seals": True}
    config_settings.save(made.home, values)
    made.settings = config_settings.load(made.home)
    try:
        made.start()
        yield made
        made.stop()
    finally:
        made.close()


@pytest.fixture(scope="module")
def kurum(strict: Site) -> Holder:
    """An organisation's account whose main operator is a person with a certificate."""
    tckn = strict.next_tckn()
    holder = Holder(f"ornekkurum@{DOMAIN}", "Zeynep Işık", tckn, strict.issue("Zeynep Işık", tckn))
    opening = Opening(
        holder.address, AccountKind.LEGAL_PERSON, ServiceType.SEND_AND_RECEIVE, "Örnek Kurum A.Ş.",
        holder.name, tckn,
    )  # fmt: skip

    async def open_it() -> None:
        async with open_beside(strict.settings) as core:
            await core.accounts.open(opening)
            await core.accounts.add_password(holder.address, holder.password, label="test")

    asyncio.run(open_it())
    return holder


def test_in_challenge_mode_an_unbound_certificate_is_refused_until_it_is_bound(strict, kurum, tmp_path):
    answer = send(strict, kurum, kurum.issued, kurum)
    check_refusal(strict, kurum, answer, RefusalCode.CERTIFICATE_NOT_BOUND)
    assert certificates(strict, kurum) == []
    bind(strict, kurum, kurum.issued, tmp_path)
    assert send(strict, kurum, kurum.issued, kurum).code == 250


def test_a_seal_signs_once_it_is_allowed_and_bound(strict, kurum, tmp_path):
    seal = strict.issue("Örnek Kurum A.Ş.", strict.next_tckn(), seal=True, organization="Örnek Kurum A.Ş.")
    refused = RefusalCode.CERTIFICATE_NOT_QUALIFIED
    check_refusal(strict, kurum, send(strict, kurum, seal, kurum), refused)
    done = bind(strict, kurum, seal, tmp_path, ok=False)
    assert json.loads(done.stdout)["error"]["code"] == "seals-not-allowed"
    done = kephs("account", "seals", strict.home, kurum.address, "on", "--by", "Zeynep", "--json")
    assert json.loads(done.stdout)["seals_allowed"] is True
    unbound = RefusalCode.CERTIFICATE_NOT_BOUND
    check_refusal(strict, kurum, send(strict, kurum, seal, kurum), unbound)
    bind(strict, kurum, seal, tmp_path)
    assert send(strict, kurum, seal, kurum).code == 250
    kephs("account", "seals", strict.home, kurum.address, "off", "--by", "Zeynep")
    check_refusal(strict, kurum, send(strict, kurum, seal, kurum), refused)
    assert ("Zeynep", "account.seals-refused") in audit(strict, kurum.address)


def test_an_operator_without_the_right_to_manage_binds_no_seal(strict, kurum, tmp_path):
    tckn = strict.next_tckn()
    rights = [f"--right={str(right.name).lower()}" for right in Right if right in ALL_RIGHTS & ~Right.MANAGE]
    done = kephs(
        "account", "add-operator", strict.home, kurum.address, "--name", "Can Ak", "--tckn", tckn, *rights, "--json"
    )  # fmt: skip
    clerk = json.loads(done.stdout)["operator_id"]
    kephs("account", "seals", strict.home, kurum.address, "on", "--by", "Zeynep")
    seal = strict.issue("Örnek Kurum A.Ş.", strict.next_tckn(), seal=True, organization="Örnek Kurum A.Ş.")
    done = bind(strict, kurum, seal, tmp_path, operator=clerk, ok=False)
    assert json.loads(done.stdout)["error"]["code"] == "seal-needs-manager"
    own = strict.issue("Can Ak", tckn)
    bound = json.loads(bind(strict, kurum, own, tmp_path, operator=clerk).stdout)
    assert bound["operator_id"] == clerk
