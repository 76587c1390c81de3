"""What `kephs verify` reads and shows: trust folders, times, untrusted text."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from evidence.adapters.trust_folder import TrustFolderError, certificates_of, read_trust
from evidence.bundle.making import to_pem
from kephs.cli.main import main
from kephs.cli.proof.verify_text import clean
from tests.support.pki import ayse, shared_pki
from tests.support.sealed import dispatch
from tests.support.signers import opaque_message, signed_message

RUN = "import sys; from kephs.cli.main import main; main(sys.argv[1:])"


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
    assert clean("ödeme\x1b[2J\r\n\u202ex") == "ödeme\ufffd[2J\ufffd\ufffd\ufffdx"


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


def _into_a_closed_pipe(*arguments: object, errors_too: bool = False) -> tuple[int, bytes]:
    """Run `kephs verify` with an output whose reader has gone; return the exit code and what errors say."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "verify", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT if errors_too else subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    said = b"" if process.stderr is None else process.stderr.read()
    code = process.wait(60)
    if process.stderr is not None:
        process.stderr.close()
    return code, said


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
def test_a_reader_that_goes_away_changes_neither_the_exit_code_nor_prints_an_error(
    tmp_path: Path, as_json: bool
):
    path = tmp_path / "m.eml"
    path.write_bytes(signed_message(ayse()))
    more = ["--json"] if as_json else []
    code, said = _into_a_closed_pipe("--sender", path, *more)
    assert code == 2
    assert b"Broken" not in said
    assert b"file-error" not in said
    assert _into_a_closed_pipe("--sender", path, *more, errors_too=True)[0] == 2
    path.write_bytes(b"neither\n")
    assert _into_a_closed_pipe(path, *more)[0] == 1


@pytest.mark.parametrize("make", [signed_message, opaque_message])
def test_a_senders_message_is_named_as_one_with_the_option_that_checks_it(tmp_path: Path, make):
    path = tmp_path / "original.eml"
    path.write_bytes(make(ayse()))
    result = CliRunner().invoke(main, ["verify", str(path)])
    assert result.exit_code == 1
    assert "a sender's message" in result.stdout
    assert "kephs verify --sender" in result.stdout
    told = json.loads(CliRunner().invoke(main, ["verify", "--json", str(path)]).stdout)["reports"][0]
    assert (told["verdict"], told["facts"]) == ("TOTAL-FAILED", {"type": "sender's message"})


def test_a_kep_message_is_never_taken_for_a_senders_message_even_when_its_sections_are_gone(tmp_path: Path):
    path = tmp_path / "dispatch.eml"
    for message in (dispatch(), dispatch().replace(b"X-REM-Section-Type", b"X-Nothing-Here-Typ")):
        path.write_bytes(message)
        result = CliRunner().invoke(main, ["verify", str(path)])
        assert result.exit_code in (1, 2)
        assert "a sender's message" not in result.stdout


def test_a_message_nobody_signed_is_no_senders_message(tmp_path: Path):
    path = tmp_path / "plain.eml"
    path.write_bytes(b"Subject: x\r\n\r\nx\r\n")
    result = CliRunner().invoke(main, ["verify", str(path)])
    assert result.exit_code == 1
    assert "a sender's message" not in result.stdout
