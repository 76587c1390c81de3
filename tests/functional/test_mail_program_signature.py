"""What a mail program's own library signs (NSS, which Thunderbird signs with): a provider's switch decides."""

import subprocess
from base64 import encodebytes
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from config import settings as config_settings
from kephs.domain.refusals import RefusalCode
from tests.functional.refusal import check_refusal
from tests.functional.site import Holder, Site, fresh_message_id, kephs, now

pytestmark = pytest.mark.tools
PASSWORD = "gizli"


class Nss:
    """A certificate database as Thunderbird keeps one, with a holder's key in it."""

    def __init__(self, folder: Path, site: Site, holder: Holder) -> None:
        self.folder = folder
        folder.mkdir()
        self._run("certutil", "-N", "--empty-password")
        site.pki.write_p12(holder.issued, folder / "holder.p12", PASSWORD)
        self._run("pk12util", "-i", folder / "holder.p12", "-W", PASSWORD, "-K", "")
        (folder / "root.der").write_bytes(site.pki.root)
        self._run("certutil", "-A", "-n", "root", "-t", "C,C,C", "-i", folder / "root.der")
        listed = self._run("certutil", "-L").stdout.decode().splitlines()
        self.nickname = next(line for line in listed if "u,u,u" in line).rsplit(None, 1)[0].strip()

    def sign(self, entity: bytes) -> bytes:
        """Return the detached signature over an entity, in whatever encoding the library chooses."""
        (self.folder / "entity").write_bytes(entity)
        made = self.folder / "made.p7s"
        self._run(
            "cmsutil", "-S", "-T", "-G", "-N", self.nickname, "-H", "SHA256", "-u", "4",
            "-i", self.folder / "entity", "-o", made,
        )  # fmt: skip
        return made.read_bytes()

    def _run(self, program: str, *arguments: object) -> "subprocess.CompletedProcess[bytes]":
        command = [program, *map(str, arguments), "-d", f"sql:{self.folder}"]
        return subprocess.run(command, capture_output=True, check=True, timeout=60)


def letter(sender: Holder, to: Holder, nss: Nss, *, changed: bool = False) -> bytes:
    entity = (
        "Content-Type: text/plain; charset=UTF-8; format=flowed\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        "Sayın yetkili,\r\nsözleşme yenilenmeyecektir.\r\n"
    ).encode()
    p7s = nss.sign(entity)
    assert p7s[1] == 0x80, "of indefinite length: what this test is about"
    shown = entity.replace(b"yenilenmeyecektir", b"yenilenecektir") if changed else entity
    head = (
        f"From: {sender.address}\r\nTo: {to.address}\r\nSubject: Ihtar\r\n"
        f"Date: {now():%a, %d %b %Y %H:%M:%S +0000}\r\nMessage-ID: {fresh_message_id()}\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256;\r\n'
        ' boundary="------------ms010203"\r\n\r\n'
        "This is a cryptographically signed message in MIME format.\r\n\r\n--------------ms010203\r\n"
    ).encode()
    signature = (
        b"\r\n--------------ms010203\r\nContent-Type: application/pkcs7-signature; name=smime.p7s\r\n"
        b"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=smime.p7s\r\n\r\n"
    ) + encodebytes(p7s).replace(b"\n", b"\r\n")
    return head + shown + signature + b"--------------ms010203--\r\n"


async def _people(site: Site, core: object) -> SimpleNamespace:
    ayse = await site.open(core, "ayse", "Ayşe Yılmaz")  # type: ignore[arg-type]
    return SimpleNamespace(ayse=ayse, mehmet=await site.open(core, "mehmet", "Mehmet Demir"))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A provider that takes what mail programs sign by themselves."""
    made = Site(tmp_path_factory.mktemp("lenient") / "hs91")
    values = config_settings.load(made.home).model_dump(mode="json")["trust"]
    path = made.home / config_settings.FILE_NAME
    text = path.read_text("utf-8")
    assert values["client_signatures"] == "strict"
    path.write_text(text.replace("[trust]\n", '[trust]\nclient_signatures = "mail-programs"\n', 1), "utf-8")
    made.settings = config_settings.load(made.home)
    try:
        made.who = made.with_core(lambda core: _people(made, core))
        made.start()
        yield made
        made.stop()
    finally:
        made.close()


def test_a_strict_provider_refuses_it_with_evidence(site: Site, who, tmp_path: Path):
    message = letter(who.ayse, who.mehmet, Nss(tmp_path / "nss", site, who.ayse))
    answer = site.submit(who.ayse, message, [who.mehmet.address])
    check_refusal(site, who.ayse, answer, RefusalCode.SIGNATURE_INCOMPLETE)


def test_a_provider_with_the_switch_takes_it_and_its_bundle_verifies_with_a_note(
    lenient: Site, tmp_path: Path
):
    who = lenient.who
    message = letter(who.ayse, who.mehmet, Nss(tmp_path / "nss", lenient, who.ayse))
    answer = lenient.submit(who.ayse, message, [who.mehmet.address])
    assert answer.code == 250, answer
    lenient.wait_evidence(answer.message_id, 40)
    bundle, trust = tmp_path / "message.kepdelil", tmp_path / "trust"
    trust.mkdir()
    (trust / "root.der").write_bytes(lenient.pki.root)
    kephs("bundle", lenient.home, answer.message_id, bundle)
    told = kephs("verify", bundle, "--trust", trust, "--json").stdout
    assert '"TOTAL-PASSED"' in told
    assert "ess-absent" in told
    original = tmp_path / "original.eml"
    original.write_bytes(message)
    strict = kephs("verify", "--sender", original, "--trust", trust, ok=False)
    assert strict.returncode == 1


def test_the_switch_forgives_no_changed_content(lenient: Site, tmp_path: Path):
    who = lenient.who
    message = letter(who.ayse, who.mehmet, Nss(tmp_path / "nss", lenient, who.ayse), changed=True)
    answer = lenient.submit(who.ayse, message, [who.mehmet.address])
    check_refusal(lenient, who.ayse, answer, RefusalCode.SIGNATURE_BROKEN)
