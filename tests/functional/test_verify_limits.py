"""`kephs verify` of files far too large: refused in bounded time and memory, whatever they say they are."""

import resource
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest

from kephs.testpki.issued import to_pem
from tests.support.batches import accepted_in_batch, delivered_in_batch
from tests.support.pki import shared_pki
from tests.support.sealed import LATER, dispatch

pytestmark = pytest.mark.slow
GIB = 1 << 30
MEMORY = 400 << 20
"""Octets of memory of its own that the process may have; the file is mapped, which does not count."""
RUN = "import sys; from kephs.cli.main import main; main(sys.argv[1:])"
SIGNED = (
    b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; boundary="b"\r\n\r\n'
    b'--b\r\nContent-Type: multipart/mixed; boundary="c"\r\n\r\n--c\r\nX-REM-Section-Type: '
    b"rem_message/original\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n"
)
HEADS = {
    "nothing.bin": b"",
    "evidence.xml": b"<x>",
    "record.ers": b"\x30\x83\xff\xff\xf0\x02\x01\x01\x30\x00",
    "bundle.kepdelil": b"PK\x03\x04",
    "message.eml": b"Subject: x\r\n\r\n",
    "unix.eml": b"Subject: x\n\n",
    "signed.eml": SIGNED,
    "checkpoint": b"origin\n1\n" + b"A" * 43 + b"=\n",
    "ledger.proof": b"c2sp.org/tlog-proof@v1\n",
}


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def sparse(path: Path, head: bytes, tail: bytes = b"") -> Path:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(GIB)
        file.seek(GIB)
        file.write(tail)
    return path


def verify(*arguments: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, "verify", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=100, preexec_fn=limited,
    )  # fmt: skip
    assert "MemoryError" not in done.stderr + done.stdout
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_file_of_1_gib_is_refused_within_bounds(tmp_path: Path, name: str):
    started = perf_counter()
    code, said = verify(sparse(tmp_path / name, HEADS[name]))
    assert code == 1, said
    assert perf_counter() - started < 30


def test_a_kep_message_with_an_original_of_1_gib_is_read_in_pieces(tmp_path: Path):
    head, mark, tail = dispatch(accepted_in_batch()).partition(b"Merhaba")
    code, said = verify(sparse(tmp_path / "big.eml", head, mark + tail))
    assert code == 1
    assert "messageDigest" in said


@pytest.mark.parametrize("large", ["xml", "ers"])
def test_a_neighbour_of_1_gib_is_refused_within_bounds(tmp_path: Path, large: str):
    evidence = delivered_in_batch()
    (tmp_path / "root.pem").write_bytes(to_pem((shared_pki().root,)))
    paths = {"xml": tmp_path / "e.xml", "ers": tmp_path / "e.ers"}
    paths["xml"].write_bytes(evidence.xml)
    paths["ers"].write_bytes(evidence.ers or b"")
    sparse(paths[large], paths[large].read_bytes())
    at = ("--trust", tmp_path, "--at", LATER.isoformat())
    assert verify(*at, paths["xml"])[0] == 1
    assert verify(*at, paths["ers"])[0] == 1
