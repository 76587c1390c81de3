"""Programs of others accept ``rem-baseline`` messages as they cross, and refuse them when a byte is changed."""

import asyncio
import subprocess
from functools import cache
from pathlib import Path

import pytest

from evidence.mail.kep_message import parse_kep_message
from evidence.ports import BytesSource
from kephs.testpki.issued import to_pem
from tests.support.baseline import new_baseline_pair
from tests.support.pki import shared_pki
from tests.support.world import CAN, FATMA, MEHMET

pytestmark = pytest.mark.tools


@cache
def crossed() -> dict[str, bytes]:
    """Return what crosses between two providers: a dispatch, and receipts of four kinds."""

    async def story() -> dict[str, bytes]:
        pair = await new_baseline_pair()
        message_id = await pair.send(to=(FATMA, f"yok.kimse@{CAN.partition('@')[2]}", MEHMET))
        await pair.work()
        await pair.read(FATMA, message_id)
        await pair.work()
        (dispatch,) = [content for _, content in pair.out.sent]
        return {"dispatch": dispatch} | {name(content): content for _, content in pair.back.sent}

    return asyncio.run(story())


def name(content: bytes) -> str:
    return parse_kep_message(BytesSource(content)).evidences[0].name.removesuffix(".xml")


NAMES = ["dispatch", "RelayAcceptance", "RelayRejection", "ContentConsignment", "ContentHandover"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trust") / "root.pem"
    path.write_bytes(to_pem((shared_pki().root,)))
    return path


def cms_verify(root: Path, message: Path) -> subprocess.CompletedProcess[bytes]:
    """Check a message as rem-formats §4 says; without -binary, as mail programs do."""
    out = message.with_suffix(".out")
    return subprocess.run(
        ["openssl", "cms", "-verify", "-in", message, "-CAfile", root, "-purpose", "any",
         "-no_check_time", "-out", out],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("which", NAMES)
def test_openssl_verifies_what_crosses_and_refuses_a_changed_byte(
    root: Path, tmp_path: Path, which: str
) -> None:
    content = crossed()[which]
    path = tmp_path / "message.eml"
    path.write_bytes(content)
    result = cms_verify(root, path)
    assert result.returncode == 0, result.stderr
    entity = parse_kep_message(BytesSource(content)).signed_entity
    assert path.with_suffix(".out").read_bytes() == content[entity.start : entity.end]
    for old, new in ((b"REM-Section-Type", b"REM-Section-Typf"), (b"KEP", b"KEQ")):
        at = content.index(old, entity.start)
        assert at < entity.end
        path.write_bytes(content[:at] + new + content[at + len(new) :])
        assert cms_verify(root, path).returncode != 0
