"""Benchmark of the bundle of a large message: made by the product's use case, verified by its verifier.

Everything is real: the message was submitted and delivered by a running server, the bundle is made beside it
as `kephs bundle` does, with revocation data, time stamp and ledger proofs, and lies synced on the disk.
"""

import asyncio
import mmap
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from evidence.ports import BytesSource
from evidence.verify.bundle import verify_bundle
from kephs.bench import bulk
from kephs.bench.fetch import Folder, wait_for
from kephs.bench.figures import BenchError, Figure, own_peak_rss_mb, ticks
from kephs.bench.instance import Instance, login_of, serving
from kephs.bench.letters import BigLetter, write_big
from kephs.bench.site import Site
from kephs.bench.stage import share_ms
from kephs.bootstrap import open_seal_policy, open_trust
from kephs.cli.workbench import open_workbench
from kephs.ledger.keys import open_ledger_key
from kephs.usecases.proof.bundle import MakeBundle, ReadyBundle

WIRE_BYTES: Final = 25_000_000
DECODED_BYTES: Final = WIRE_BYTES * 57 // 78  # as base64 lines
SUPPLY: Final = 4  # messages submitted at a time; the first bundle of all warms up
TARGET_BUILD: Final = 1.0  # seconds
TARGET_VERIFY: Final = 2.0
_PIECE: Final = 1 << 20
_MESSAGE_ID: Final = re.compile(rb"\r\nMessage-ID: (<[^>]+>)\r\n")


@dataclass(slots=True)
class _Tally:
    """Seconds of each round."""

    build: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    verify: list[float] = field(default_factory=list)
    digest: list[float] = field(default_factory=list)
    octets: int = 0  # of all bundles


async def bundle(site: Site) -> list[Figure]:
    """Make and verify the bundle of one message after the other."""
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(site.instance())
        server = await stack.enter_async_context(serving(ours, ("smtp", "imap", "worker")))
        room = stack.enter_context(site.room("b", 0o700))
        inbox = Folder(ours.imap, login_of(ours.people[1]), "INBOX")
        work = await stack.enter_async_context(_making(ours))
        warm, tally = _Tally(), _Tally()
        end = ticks() + site.seconds
        count = 0
        while ticks() < end or not tally.build:
            names = [await _submit(site, ours, room) for _ in range(SUPPLY)]
            await wait_for(inbox, count + SUPPLY)
            await server.quiet()
            for name in names:
                await _round(site, work, ours, name, room / "out.kepdelil", tally if count else warm)
                count += 1
        return _figures(site, tally)


async def _submit(site: Site, ours: Instance, room: Path) -> str:
    """Submit a letter that nobody wrote before; return its Message-ID."""
    sender, recipient = ours.people[:2]
    path = room / "entity"
    letter = await asyncio.to_thread(
        write_big, sender, recipient.address, path, DECODED_BYTES, site.clock()
    )  # fmt: skip
    head = letter.head(site.clock())
    await asyncio.to_thread(_send, ours, letter, head)
    found = _MESSAGE_ID.search(head)
    if found is None:
        raise BenchError("the letter has no Message-ID")
    return found[1].decode("ascii")


def _send(ours: Instance, letter: BigLetter, head: bytes) -> None:
    with ExitStack() as stack:
        client = bulk.smtp(ours.submission, login_of(ours.people[0]), stack)
        bulk.submit_file(client, letter.sender, letter.to, head, letter.entity, letter.tail())


@asynccontextmanager
async def _making(ours: Instance) -> AsyncIterator[MakeBundle]:
    """Open the instance beside its server, as `kephs bundle` does."""
    async with open_workbench(ours.settings) as bench:
        yield await bench.bundles()


async def _round(
    site: Site, work: MakeBundle, ours: Instance, message_id: str, out: Path, tally: _Tally
) -> None:
    """Make one bundle, make it again, verify it, and digest it; all of it on the clock, each apart."""
    tally.build.append(await _timed_make(work, message_id, out))
    first = await asyncio.to_thread(_digest, out)
    tally.again.append(await _timed_make(work, message_id, out))
    started = ticks()
    second = await asyncio.to_thread(_digest, out)
    tally.digest.append(ticks() - started)
    if first != second:
        raise BenchError("the same contents gave another bundle")
    at = site.clock()
    tally.verify.append(await asyncio.to_thread(_timed_verify, ours, out, at))
    tally.octets += await asyncio.to_thread(_remove, out)


async def _timed_make(work: MakeBundle, message_id: str, out: Path) -> float:
    started = ticks()
    made = await work.make(message_id)
    await asyncio.to_thread(_write, made, out)
    return ticks() - started


def _write(made: ReadyBundle, out: Path) -> None:
    with out.open("wb") as file:
        made.write(file)
        file.flush()
        os.fsync(file.fileno())


def _timed_verify(ours: Instance, path: Path, at: datetime) -> float:
    """Verify with the roots and the log's key from outside, nothing remembered; there is no network in it."""
    settings = ours.settings
    trust, policy, key = open_trust(settings), open_seal_policy(settings), open_ledger_key(settings)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        started = ticks()
        report = verify_bundle(BytesSource(mapped), trust, at, policy, log_key=key.verifier)
        spent = ticks() - started
    if not report.passed:
        step = report.failing_step
        raise BenchError(f"a bundle did not pass: {step.name}: {step.detail}" if step else "did not pass")
    return spent


def _remove(path: Path) -> int:
    """Remove a file and return its size."""
    size = path.stat().st_size
    path.unlink()
    return size


def _digest(path: Path) -> bytes:
    hasher = sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            hasher.update(piece)
    return hasher.digest()


def _figures(site: Site, tally: _Tally) -> list[Figure]:
    rounds = len(tally.build)
    megabytes = tally.octets / 1e6
    raw = megabytes / sum(tally.digest)
    about = {"message_mb": WIRE_BYTES / 1e6, "bundle_mb": round(megabytes / rounds, 1), "rounds": rounds}
    build = about | {
        "target_ms": 1000 * TARGET_BUILD, "p50_ms": share_ms(tally.build, 0.5),
        "max_ms": share_ms(tally.build, 1), "again_p50_ms": share_ms(tally.again, 0.5),
        "note": "first bundle of each message: contents decrypted, revocation asked, ledger published, "
        "manifest signed and stamped, archive written and synced; again: the same bytes once more",
    }  # fmt: skip
    check = about | {
        "target_ms": 1000 * TARGET_VERIFY, "p50_ms": share_ms(tally.verify, 0.5),
        "max_ms": share_ms(tally.verify, 1),
        "note": "everything inside, with roots and the log's key from outside; no network, no memory",
    }  # fmt: skip
    name = "SHA-256 of the same file"
    peak = own_peak_rss_mb()
    return [
        Figure("bundle", megabytes / sum(tally.build), "MB/s", raw, name, peak, site.disk, build),
        Figure("bundle-verify", megabytes / sum(tally.verify), "MB/s", raw, name, peak, site.disk, check),
    ]
