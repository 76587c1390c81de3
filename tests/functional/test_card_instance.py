"""A holder signs with a card and submits with a plain program: the path that docs/thunderbird.md describes."""

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from evidence.cms.signed_data import SIGNATURE_TIME_STAMP
from evidence.mail.mime import scan
from evidence.mail.smime import locate, read_signed
from evidence.model.events import EvidenceKind
from evidence.ports import BytesSource
from evidence.stamps.timestamps import verify_token
from kephs.testpki.issued import to_pem
from tests.functional.site import Holder, Site, compose, kephs_process, now
from tests.support.cards import PIN, Cards
from tests.support.softhsm import MODULE

pytestmark = [pytest.mark.slow, pytest.mark.tools, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made, cards = Site(tmp_path_factory.mktemp("card") / "hs91"), Cards()
    try:
        ayse = made.with_core(lambda core: made.open(core, "ayse", "Ayşe Yılmaz"))
        mehmet = made.with_core(lambda core: made.open(core, "mehmet", "Mehmet Demir"))
        made.who = SimpleNamespace(ayse=ayse, mehmet=mehmet)
        for label, kind in (("site-p256", None), ("site-p521", "p521"), ("site-rsa", "rsa2048")):
            issued = ayse.issued if kind is None else made.issue(ayse.name, ayse.tckn, key=kind)
            cards.add(label)
            cards.put(label, issued, b"\x01", issuers=True)
        cards.restart()
        made.start()
        yield made
        made.stop()
    finally:
        made.close()


@pytest.fixture
def pin_file(tmp_path: Path) -> Path:
    (tmp_path / "pin").write_text(PIN + "\n")
    (tmp_path / "pin").chmod(0o600)
    return tmp_path / "pin"


def curl(site: Site, sender: Holder, to: Holder, message: Path) -> str:
    """Submit a file as it is and return what the server said at the end."""
    secrets = message.with_suffix(".netrc")
    secrets.write_text(f"machine localhost login {sender.address} password {sender.password}\n")
    done = subprocess.run(
        [
            "curl", "--silent", "--show-error", "--verbose", "--cacert", site.home / "tls-ca.pem",
            "--url", f"smtps://localhost:{site.settings.network.submission_port}", "--netrc-file", secrets,
            "--mail-from", sender.address, "--mail-rcpt", to.address, "--upload-file", message,
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return next(line for line in done.stderr.splitlines() if "evidence=" in line)


def swaks(site: Site, sender: Holder, to: Holder, message: Path) -> str:
    done = subprocess.run(
        [
            "swaks", "--server", "localhost", "--port", str(site.settings.network.submission_port), "--tls-on-connect",
            "--auth", "PLAIN", "--auth-user", sender.address, "--auth-password", sender.password,
            "--from", sender.address, "--to", to.address, "--data", f"@{message}",
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return next(line for line in done.stdout.splitlines() if "evidence=" in line)


@pytest.mark.parametrize(
    ("label", "submit"),
    [("site-p256", curl), ("site-p521", swaks), ("site-rsa", curl)],
    ids=["p256", "p521", "rsa"],
)
def test_what_a_card_signed_is_accepted_and_proven(
    site: Site, tmp_path: Path, pin_file: Path, label: str, submit
):
    ayse, mehmet = site.who.ayse, site.who.mehmet
    letters = [tmp_path / f"{number}.eml" for number in range(3)]
    for letter in letters:
        letter.write_bytes(compose(ayse.address, mehmet.address).replace(b"\r\n", b"\n"))
    done = kephs_process(
        "sign", "--pkcs11", MODULE, "--token", label, "--pin-file", pin_file, "--out-dir", tmp_path / "out",
        "--json", *letters,
    )  # fmt: skip
    assert json.loads(done.stdout)["signed"] == 3
    for letter in letters:
        said = submit(site, ayse, mehmet, tmp_path / "out" / letter.name)
        found = re.search(r"evidence=(\S+)", said)
        assert found, said
        assert site.record(ayse, found[1]).kind is EvidenceKind.SUBMISSION_ACCEPTANCE


def test_with_the_network_there_a_diagnosis_finds_nothing_wrong(site: Site, pin_file: Path):
    done = kephs_process(
        "sign", "--diagnose", "--json", "--pkcs11", MODULE, "--token", "site-p256", "--pin-file", pin_file
    )
    found = json.loads(done.stdout)["findings"]
    assert [one for one in found if one["level"] != "ok"] == []
    assert {"revocation", "clock", "key", "pin-tried"} <= {one["code"] for one in found}


def test_a_revoked_certificate_is_told_as_revoked(site: Site, pin_file: Path):
    issued = site.issue("Iptal", site.next_tckn())
    cards = Cards()
    cards.add("site-revoked")
    cards.put("site-revoked", issued, b"\x01", issuers=True)
    site.pki.revoke(issued.serial, now() - timedelta(minutes=1))
    done = kephs_process(
        "sign", "--diagnose", "--json", "--pkcs11", MODULE, "--token", "site-revoked", ok=False
    )
    (finding,) = (one for one in json.loads(done.stdout)["findings"] if one["code"] == "revocation")
    assert finding["level"] == "error"
    assert "revoked" in finding["text"]
    assert "iptal" in finding["cure"]


def test_a_signature_with_a_time_stamp_is_accepted(site: Site, tmp_path: Path, pin_file: Path):
    ayse, mehmet = site.who.ayse, site.who.mehmet
    letter, signed, root = (tmp_path / name for name in ("in.eml", "out.eml", "root.pem"))
    letter.write_bytes(compose(ayse.address, mehmet.address))
    root.write_bytes(to_pem((site.pki.root,)))
    (tsa,) = site.settings.seal.tsa
    card = ("--pkcs11", MODULE, "--token", "site-p256", "--pin-file", pin_file)
    kephs_process("sign", letter, signed, *card, "--tsa", tsa, "--tsa-root", root)
    source = BytesSource(signed.read_bytes())
    (signer,) = read_signed(locate(source, scan(source))).signers
    (stamp,) = (one for one in signer.unsigned if one.oid == SIGNATURE_TIME_STAMP)
    (token,) = stamp.values
    imprint = sha256(signer.signature).digest()
    verified = verify_token(token.whole, imprint=imprint, trust=site.trust, at=now() + timedelta(seconds=1))
    assert verified.passed, verified.report
    assert "evidence=" in curl(site, ayse, mehmet, signed)


def test_without_an_answer_of_the_authority_nothing_is_written(site: Site, tmp_path: Path, pin_file: Path):
    (tmp_path / "root.pem").write_bytes(to_pem((site.pki.root,)))
    (tmp_path / "in.eml").write_bytes(compose("a@b", "c@d"))
    card = ("--pkcs11", MODULE, "--token", "site-p256", "--pin-file", pin_file)
    done = kephs_process(
        "sign", tmp_path / "in.eml", tmp_path / "out.eml", *card,
        "--tsa", "http://127.0.0.1:9/tsa", "--tsa-root", tmp_path / "root.pem", ok=False,
    )  # fmt: skip
    assert (done.returncode, "[no-time-stamp]" in done.stderr) == (1, True)
    assert not (tmp_path / "out.eml").exists()


def test_a_letter_saved_by_a_mail_program_is_signed_and_accepted(site: Site, tmp_path: Path, pin_file: Path):
    """The fields are those that Thunderbird writes into a draft; they stay outside the signature."""
    ayse, mehmet = site.who.ayse, site.who.mehmet
    fields = (
        "X-Mozilla-Draft-Info: internal/draft; vcard=0; receipt=0; DSN=0; uuencode=0;\r\n"
        " attachmentreminder=0; deliveryformat=0\r\nX-Identity-Key: id1\r\nX-Account-Key: account1\r\n"
        "Fcc: imap://ayse@localhost/Giden\r\nUser-Agent: Mozilla Thunderbird\r\nContent-Language: tr"
    )
    letter = compose(ayse.address, mehmet.address, more=fields)
    letter = letter.replace(b"charset=utf-8", b"charset=UTF-8; format=flowed")
    (tmp_path / "letter.eml").write_bytes(
        b"X-Mozilla-Status: 0800\r\nX-Mozilla-Status2: 00000000\r\n" + letter
    )
    card = ("--pkcs11", MODULE, "--token", "site-p256", "--pin-file", pin_file)
    kephs_process("sign", tmp_path / "letter.eml", tmp_path / "signed.eml", *card)
    assert "evidence=" in curl(site, ayse, mehmet, tmp_path / "signed.eml")


def test_a_certificate_is_bound_by_a_challenge_that_the_card_signs(
    site: Site, tmp_path: Path, pin_file: Path
):
    ayse, text, signature = site.who.ayse, tmp_path / "challenge.txt", tmp_path / "challenge.p7s"
    cards, issued = Cards(), site.issue(ayse.name, ayse.tckn, key="p384")
    cards.add("site-new")
    cards.put("site-new", issued, b"\x01", issuers=True)
    kephs_process("account", "challenge", site.home, ayse.address, text)
    card = ("--pkcs11", MODULE, "--token", "site-new", "--pin-file", pin_file)
    kephs_process("sign", "--p7s", text, signature, *card)
    kephs_process("account", "bind", site.home, ayse.address, text, signature)
    listed = json.loads(kephs_process("account", "certificates", site.home, ayse.address, "--json").stdout)
    assert sha256(issued.certificate).hexdigest() in {one["fingerprint"] for one in listed["certificates"]}
