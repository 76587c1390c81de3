"""`kephs sign --p7s`: any file into a bare CAdES signature, checked by openssl and by our verifier."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from evidence.nes.verifier import conclude, prepare_signature
from evidence.ports import BytesSource
from evidence.x509.chain import TrustStore
from kephs.system import SystemClock
from kephs.testpki.issued import to_pem
from tests.support.cards import Cards, holder, pki, with_card

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module")
def cards() -> Iterator[Cards]:
    made = Cards()
    for kind in ("p256", "p521", "rsa2048", "pss"):
        made.add(f"bare-{kind}")
        made.put(f"bare-{kind}", holder(kind), b"\x01", issuers=True)
    yield made
    made.restart()


def openssl_verify(signature: Path, tmp_path: Path, *more: object) -> subprocess.CompletedProcess[bytes]:
    """Let openssl check a CAdES signature against the TEST root; ESS signing-certificate-v2 included."""
    (tmp_path / "root.pem").write_bytes(to_pem((pki().root,)))
    arguments = (
        "-verify",
        "-cades",
        "-binary",
        "-inform",
        "DER",
        "-in",
        signature,
        "-CAfile",
        tmp_path / "root.pem",
    )
    return subprocess.run(
        ["openssl", "cms", *map(str, arguments), "-purpose", "any", *map(str, more)],
        capture_output=True, check=False, timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["p256", "p521", "rsa2048", "pss"])
def test_any_file_becomes_a_detached_signature_that_openssl_and_we_verify(
    cards: Cards, tmp_path: Path, kind: str
):
    challenge, signature = tmp_path / "challenge.txt", tmp_path / "challenge.p7s"
    challenge.write_bytes(b"bind me\n\r\0\xff")
    done = with_card(f"bare-{kind}", "--p7s", challenge, signature)
    assert done.exit_code == 0, done.output
    verified = openssl_verify(signature, tmp_path, "-content", challenge)
    assert verified.returncode == 0, verified.stderr
    assert bare_steps(signature, BytesSource(challenge.read_bytes()))["3.1.4"] is True
    challenge.write_bytes(b"bind mE\n\r\0\xff")
    assert openssl_verify(signature, tmp_path, "-content", challenge).returncode != 0
    assert bare_steps(signature, BytesSource(challenge.read_bytes()))["3.1.2"] is False


def test_an_attached_signature_holds_its_content(cards: Cards, tmp_path: Path):
    content = tmp_path / "belge.bin"
    content.write_bytes(bytes(range(256)) * 9)
    done = with_card("bare-p256", "--p7s", "--attached", "--out-dir", tmp_path / "out", content)
    assert done.exit_code == 0, done.output
    signature = tmp_path / "out" / "belge.bin.p7s"
    verified = openssl_verify(signature, tmp_path)
    assert (verified.returncode, verified.stdout) == (0, content.read_bytes())
    assert False not in bare_steps(signature, None).values()


def bare_steps(signature: Path, content: BytesSource | None) -> dict[str, bool | None]:
    at = SystemClock().now()
    trust = TrustStore([pki().root], intermediates=pki().intermediates)
    prepared = prepare_signature(signature.read_bytes(), content, trust=trust, at=at)
    return {
        step.number: step.ok for step in conclude(prepared, {}, at).report.steps if step.number[0] in "123"
    }
