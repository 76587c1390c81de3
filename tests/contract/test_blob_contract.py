"""What every blob store promises: the twin in memory and the one on disk pass the same tests."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kephs.ports import Blob, BlobMissingError
from storage.files.blobs import FileBlobStore
from storage.memory.store import MemoryBlobStore
from tests.support.stores import BLOB_STORES, open_blobs

Store = MemoryBlobStore | FileBlobStore

SIZES = [0, 1, 10_000, 65_535, 65_536, 65_537, 262_144, 262_145, 524_288, 1_000_001]


@pytest.fixture(params=BLOB_STORES)
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_blobs(request.param, tmp_path) as opened:
        yield opened


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def keep(blobs: Store, data: bytes, piece: int = 50_000) -> Blob:
    spool = blobs.spool()
    try:
        for start in range(0, len(data), piece):
            await spool.write(data[start : start + piece])
        return await blobs.keep(spool)
    finally:
        await spool.discard()


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_put_comes_back_with_both_digests(blobs: Store, size: int) -> None:
    data = content(size)
    blob = await blobs.put(data)
    assert (blob.sha256, blob.sha512) == (hashlib.sha256(data).digest(), hashlib.sha512(data).digest())
    source = blobs.open(blob)
    assert (blob.size, source.size) == (size, size)
    assert source.read(0, size + 1) == data


@pytest.mark.parametrize("size", SIZES)
async def test_what_streams_in_comes_back_with_both_digests(blobs: Store, size: int) -> None:
    data = content(size)
    blob = await keep(blobs, data, 70_000)
    assert (blob.sha256, blob.sha512) == (hashlib.sha256(data).digest(), hashlib.sha512(data).digest())
    assert blobs.open(blob).read(0, size) == data


@pytest.mark.parametrize("size", SIZES)
async def test_a_spool_can_be_read_before_and_after_it_is_kept(blobs: Store, size: int) -> None:
    data = content(size)
    spool = blobs.spool()
    for start in range(0, size, 33_333):
        await spool.write(data[start : start + 33_333])
    before = spool.source()
    assert before.size == size
    assert before.read(0, size) == data
    assert before.read(size // 2, 9) == data[size // 2 : size // 2 + 9]
    await blobs.keep(spool)
    assert before.read(0, size) == data
    assert spool.source().read(size // 3, 100_000) == data[size // 3 : size // 3 + 100_000]
    await spool.discard()


@pytest.mark.parametrize("size", [10, 600_000])
async def test_discarding_twice_or_after_keeping_hurts_nothing(blobs: Store, size: int) -> None:
    dropped = blobs.spool()
    await dropped.write(content(size))
    await dropped.discard()
    await dropped.discard()
    spool = blobs.spool()
    await spool.write(content(size))
    blob = await blobs.keep(spool)
    await spool.discard()
    await spool.discard()
    assert blobs.open(blob).read(0, size) == content(size)


async def test_equal_contents_are_kept_apart_until_a_row_chooses(blobs: Store) -> None:
    first, second = await asyncio.gather(blobs.put(b"same"), blobs.put(b"same"))
    assert first.sha256 == second.sha256
    assert first.place != second.place
    await blobs.erase(first)
    assert blobs.open(second).read(0, 4) == b"same"


async def test_many_at_once_are_all_kept(blobs: Store) -> None:
    contents = [content(n * 997, n) for n in range(60)] + [content(300_000 + n, n) for n in range(5)]
    kept = await asyncio.gather(*(blobs.put(data) for data in contents))
    assert [blobs.open(blob).read(0, blob.size) for blob in kept] == contents
    assert set(blobs.places()) == {blob.place for blob in kept}


@pytest.mark.parametrize("sizes", [[], [0], [10, 10, 0, 70_000], [10, 300_000, 20]])
async def test_several_contents_are_kept_together_in_their_order(blobs: Store, sizes: list[int]) -> None:
    contents = [content(size, n) for n, size in enumerate(sizes)]
    kept, pair, one = await asyncio.gather(
        blobs.put_many(contents), blobs.put_many([b"x", b"y"]), blobs.put(b"z")
    )
    assert [blobs.open(blob).read(0, blob.size) for blob in kept] == contents
    assert [blobs.open(blob).read(0, 9) for blob in (*pair, one)] == [b"x", b"y", b"z"]


async def test_large_content_that_was_erased_is_missing(blobs: Store) -> None:
    blob = await blobs.put(content(300_000))
    source = blobs.open(blob)
    await blobs.erase(blob)
    await blobs.erase(blob)
    with pytest.raises(BlobMissingError):
        blobs.open(blob)
    assert list(blobs.places()) == []
    del source


async def test_a_size_that_is_not_the_contents_is_refused(blobs: Store) -> None:
    for size in (1000, 300_000):
        blob = await blobs.put(content(size))
        wrong = Blob(blob.sha256, blob.sha512, size - 1, blob.place, blob.key)
        with pytest.raises(BlobMissingError):
            blobs.open(wrong)


@pytest.mark.parametrize("kind", BLOB_STORES)
async def test_any_range_is_what_slicing_the_bytes_gives(kind: str, tmp_path: Path) -> None:
    sizes = (0, 1, 65_536, 200_000, 400_000)
    async with open_blobs(kind, tmp_path) as blobs:
        contents = [content(size, size) for size in sizes]
        sources = [blobs.open(await blobs.put(data)) for data in contents]
        spools = [blobs.spool() for _ in sizes]
        for spool, data in zip(spools, contents, strict=True):
            await spool.write(data)
        spooled = [spool.source() for spool in spools]

        @settings(
            max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
        )
        @given(
            which=st.integers(0, len(sizes) - 1),
            start=st.integers(0, 400_100) | st.sampled_from([65_535, 65_536, 65_537, 131_072, 262_144]),
            length=st.integers(0, 150_000) | st.sampled_from([0, 1, 65_536, 65_537, 1 << 30]),
        )
        def check(which: int, start: int, length: int) -> None:
            expected = contents[which][start : start + length]
            assert sources[which].read(start, length) == expected
            assert spooled[which].read(start, length) == expected

        await asyncio.to_thread(check)
        for spool in spools:
            await spool.discard()


@pytest.mark.parametrize("kind", BLOB_STORES)
async def test_how_content_arrives_does_not_matter(kind: str, tmp_path: Path) -> None:
    data = content(900_000)
    async with open_blobs(kind, tmp_path) as blobs:
        for piece in (1 << 20, 262_144, 262_145, 65_536, 9_999):
            blob = await keep(blobs, data, piece)
            assert blobs.open(blob).read(0, len(data)) == data
            assert blob.sha256 == hashlib.sha256(data).digest()
