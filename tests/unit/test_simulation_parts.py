"""The simulation's own parts: its SHA-512 authority, its losses, and twins that only look whole."""

import shutil
import subprocess
from datetime import timedelta
from hashlib import sha512

import pytest

from evidence.stamps.stamp_check import token_problem
from evidence.stamps.timestamps import verify_token
from kephs.simulation.archive import SimulatedArchive
from kephs.simulation.authorities import YEAR, Authorities, MovingClock
from kephs.simulation.story import START
from kephs.testpki.issued import to_pem

DIGEST = sha512(b"x").digest()


def authorities(*, sha512: bool = True) -> Authorities:
    made = Authorities(MovingClock(START), START)
    made.new_generation()
    made.new_stamping(sha512=sha512)
    return made


def imprint(name: str) -> bytes:
    return DIGEST if name == "sha512" else b""


async def test_a_token_signed_with_sha512_is_a_strict_one_and_outlives_sha256():
    by = authorities()
    token = await by.stamp(DIGEST, "sha512")
    by.retire_sha256(START - YEAR)
    table = by.algorithms()
    found = verify_token(token, imprint=imprint, trust=by.trust, at=START, algorithms=table)
    assert found.passed, found.report.failing_step
    assert token_problem(found) is None
    old = authorities(sha512=False)
    token = await old.stamp(DIGEST, "sha512")
    old.retire_sha256(START - YEAR)
    found = verify_token(token, imprint=imprint, trust=old.trust, at=START, algorithms=old.algorithms())
    assert found.report.failing_step is not None
    assert "sha256 is not allowed" in found.report.failing_step.detail


@pytest.mark.tools
async def test_openssl_verifies_the_token_signed_with_sha512(tmp_path):
    assert shutil.which("openssl")
    by = authorities()
    (tmp_path / "token").write_bytes(await by.stamp(DIGEST, "sha512"))
    (tmp_path / "root.pem").write_bytes(to_pem((by.newest.root,)))
    done = subprocess.run(
        ["openssl", "ts", "-verify", "-token_in", "-in", str(tmp_path / "token"), "-digest", DIGEST.hex(),
         "-CAfile", str(tmp_path / "root.pem"), "-attime", str(int(START.timestamp()))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Verification: OK" in done.stdout + done.stderr, done.stderr


async def test_a_damaged_and_a_lost_object_are_found_and_come_back_from_the_copy(tmp_path):
    by = authorities(sha512=False)
    clock = MovingClock(START)
    archive = SimulatedArchive(tmp_path, clock, by)
    archive.use(by.new_transaction())
    try:
        await archive.enter(3)
        clock.move(START + timedelta(days=30))
        await archive.enter(4)
        assert await archive.fixity() == []
        ref = archive.rows.holding(5)
        archive.damage(ref)
        assert await archive.fixity() == [ref]
        await archive.restore([ref])
        assert await archive.fixity() == []
        await archive.lose()
        refs = archive.rows.refs
        await archive.restore(refs)
        assert await archive.fixity() == []
        assert [one.number async for one in archive.read(2, 6)] == [2, 3, 4, 5, 6]
        with pytest.raises(KeyError):
            archive.rows.holding(8)
    finally:
        await archive.close()


def test_a_clock_never_goes_back():
    clock = MovingClock(START)
    clock.move(START + YEAR)
    clock.move(START)
    assert clock.now() == START + YEAR
