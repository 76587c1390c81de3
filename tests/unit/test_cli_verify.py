"""What `kephs verify` reads and shows: trust folders, times, untrusted text."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from evidence.adapters.trust_folder import TrustFolderError, certificates_of, read_trust
from evidence.bundle import to_pem
from kephs.cli.main import main
from kephs.cli.verify import _shown
from tests.support.pki import ayse, shared_pki
from tests.support.signers import signed_message


def test_a_folder_of_pem_and_der_files_gives_its_roots_and_intermediates(tmp_path: Path):
    pki = shared_pki()
    (tmp_path / "a.pem").write_bytes(b"comment\n" + to_pem(pki.root) + to_pem(pki.tls_root))
    (tmp_path / "b.cer").write_bytes(pki.impostor_of("p384").certificate)
    (tmp_path / "README").write_text("ignored")
    (tmp_path / "intermediates").mkdir()
    (tmp_path / "intermediates" / "c.crt").write_bytes(to_pem(pki.intermediates[0]))
    trust = read_trust(tmp_path)
    assert {root.der for root in trust.roots} == {pki.root, pki.tls_root, pki.impostor_of("p384").certificate}
    assert trust.named(ayse().x509.issuer.public_bytes())


@pytest.mark.parametrize(
    "content", [b"", b"noise", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_a_file_without_a_certificate_spoils_the_folder_and_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "bad.pem").write_bytes(content)
    with pytest.raises(TrustFolderError, match=r"bad\.pem"):
        read_trust(tmp_path)
    result = CliRunner().invoke(main, ["verify", "--trust", str(tmp_path), "x"])
    assert result.exit_code == 64


def test_an_empty_folder_trusts_nobody(tmp_path: Path):
    assert read_trust(tmp_path).empty


def test_pem_and_der_are_one(tmp_path: Path):
    root = shared_pki().root
    assert certificates_of(to_pem(root)) == certificates_of(root) == [root]


def test_text_from_a_file_cannot_steer_the_terminal(tmp_path: Path):
    assert _shown("ödeme\x1b[2J\r\n\u202ex") == "ödeme\ufffd[2J\ufffd\ufffd\ufffdx"


def test_verification_writes_nothing_and_holds_no_file_open(tmp_path: Path):
    path = tmp_path / "m.eml"
    path.write_bytes(signed_message(ayse()))
    before = path.stat()
    result = CliRunner().invoke(main, ["verify", "--sender", str(path)])
    assert result.exit_code == 2
    assert "güvenilen kök yok" in result.stderr
    after = path.stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    assert [one.name for one in tmp_path.iterdir()] == ["m.eml"]
