"""Content on disk: what was changed, cut or swapped is refused; what was torn is cut."""

import asyncio
import errno
import os
import random
import time
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kephs.ports import Blob, BlobMissingError, StoreUnavailableError
from storage.crypto import CHUNK, TAG, unwrap_key, wrap_key
from storage.files.blobs import FileBlobStore
from storage.files.spool import FILE_HEAD, FileSpool
from tests.support.stores import MASTER_KEY

LARGE = 3 * CHUNK + 262_144 + 5
SMALL = CHUNK + 100


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[FileBlobStore]:
    store = FileBlobStore(tmp_path / "blobs", master_key=MASTER_KEY)
    await store.start()
    yield store
    await store.close()


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def file_of(tmp_path: Path, blob: Blob) -> Path:
    if blob.place.startswith("f:"):
        return tmp_path / "blobs" / "files" / blob.place[2:4] / blob.place[2:]
    return tmp_path / "blobs" / "journal" / f"{int(blob.place.split(':')[1]):08d}.seg"


def read_all(blobs: FileBlobStore, blob: Blob) -> bytes:
    return blobs.open(blob).read(0, blob.size)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x01
    path.write_bytes(data)


@pytest.mark.parametrize(
    "offset",
    [
        0,
        7,
        8,
        23,
        FILE_HEAD,
        FILE_HEAD + CHUNK - 1,
        FILE_HEAD + CHUNK,
        FILE_HEAD + CHUNK + TAG,
        -TAG - 1,
        -TAG,
        -1,
    ],
)
async def test_one_flipped_byte_of_a_file_is_refused(
    blobs: FileBlobStore, tmp_path: Path, offset: int
) -> None:
    blob = await blobs.put(content(LARGE))
    assert read_all(blobs, blob) == content(LARGE)
    flip(file_of(tmp_path, blob), offset)
    with pytest.raises(BlobMissingError):
        read_all(blobs, blob)


@pytest.mark.parametrize(
    "offset", [16, 19, 20, 23, 28, 28 + 15, 28 + 16, 28 + 16 + CHUNK, 28 + 16 + CHUNK + TAG, -1]
)
async def test_one_flipped_byte_of_a_journal_record_is_refused(
    blobs: FileBlobStore, tmp_path: Path, offset: int
) -> None:
    blob = await blobs.put(content(SMALL))
    assert blob.place.startswith("j:1:16:")
    flip(file_of(tmp_path, blob), offset)
    with pytest.raises(BlobMissingError):
        read_all(blobs, blob)


async def test_an_untouched_range_of_an_altered_file_can_still_be_read(
    blobs: FileBlobStore, tmp_path: Path
) -> None:
    blob = await blobs.put(content(LARGE))
    flip(file_of(tmp_path, blob), -1)
    assert blobs.open(blob).read(10, 100) == content(LARGE)[10:110]


async def test_swapped_chunks_are_refused(blobs: FileBlobStore, tmp_path: Path) -> None:
    blob = await blobs.put(content(LARGE))
    path = file_of(tmp_path, blob)
    data, step = path.read_bytes(), CHUNK + TAG
    first, second = data[FILE_HEAD : FILE_HEAD + step], data[FILE_HEAD + step : FILE_HEAD + 2 * step]
    path.write_bytes(data[:FILE_HEAD] + second + first + data[FILE_HEAD + 2 * step :])
    with pytest.raises(BlobMissingError):
        read_all(blobs, blob)


async def test_a_truncated_file_is_refused_even_at_a_chunk_boundary(
    blobs: FileBlobStore, tmp_path: Path
) -> None:
    size = 8 * CHUNK
    blob = await blobs.put(content(size))
    path = file_of(tmp_path, blob)
    os.truncate(path, FILE_HEAD + 7 * (CHUNK + TAG))
    with pytest.raises(BlobMissingError):
        blobs.open(blob)
    shorter = replace(
        blob, size=7 * CHUNK
    )  # a row changed to fit: the last chunk does not say it is the last
    with pytest.raises(BlobMissingError):
        read_all(blobs, shorter)


async def test_another_contents_file_under_this_name_is_refused(blobs: FileBlobStore, tmp_path: Path) -> None:
    first, second = await blobs.put(content(LARGE, 1)), await blobs.put(content(LARGE, 2))
    file_of(tmp_path, first).write_bytes(file_of(tmp_path, second).read_bytes())
    for row in (first, replace(first, key=second.key)):
        with pytest.raises(BlobMissingError):
            read_all(blobs, row)


async def test_another_contents_place_or_key_in_the_row_is_refused(blobs: FileBlobStore) -> None:
    first, second = await blobs.put(content(SMALL, 1)), await blobs.put(content(SMALL, 2))
    for row in (replace(first, place=second.place), replace(first, key=second.key)):
        with pytest.raises(BlobMissingError):
            read_all(blobs, row)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_the_wrong_master_key_opens_nothing(blobs: FileBlobStore, tmp_path: Path, size: int) -> None:
    blob = await blobs.put(content(size))
    other = FileBlobStore(tmp_path / "blobs", master_key=bytes(32))
    with pytest.raises(BlobMissingError):
        other.open(blob)
    right = FileBlobStore(tmp_path / "blobs", master_key=MASTER_KEY)
    assert read_all(right, blob) == content(size)


async def test_a_master_key_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="32 octets"):
        FileBlobStore(tmp_path, master_key=bytes(16))


async def test_data_keys_are_wrapped_as_rfc_3394_says(blobs: FileBlobStore) -> None:
    # spec: RFC3394#4.6
    wrapped = bytes.fromhex(
        "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"
    )
    kek = bytes.fromhex("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F")
    data = bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
    assert wrap_key(kek, data) == wrapped
    blob = await blobs.put(b"x")
    assert len(unwrap_key(MASTER_KEY, blob.key)) == 32


@pytest.mark.parametrize(
    "place", ["", "f:", "f:../../etc/passwd", "j:1:16:zz", "x:1", "j:99:16:" + "0" * 32, "f:" + "0" * 32]
)
async def test_a_place_that_names_nothing_is_missing(blobs: FileBlobStore, place: str) -> None:
    blob = replace(await blobs.put(b"x"), place=place)
    with pytest.raises(BlobMissingError):
        blobs.open(blob)


async def test_no_content_or_data_key_lies_readable_on_disk(blobs: FileBlobStore, tmp_path: Path) -> None:
    marker = b"GIZLI ICERIK 0123456789 " * 20
    small = await blobs.put(marker)
    large = await blobs.put(marker * 2000)
    for path in (tmp_path / "blobs").rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert marker[:24] not in data
        for blob in (small, large):
            assert blob.key not in data
            assert unwrap_key(MASTER_KEY, blob.key) not in data


# Starting again.


async def reopened(tmp_path: Path, segment_size: int = 64 << 20) -> FileBlobStore:
    store = FileBlobStore(tmp_path / "blobs", master_key=MASTER_KEY, segment_size=segment_size)
    await store.start()
    return store


@pytest.mark.parametrize("cut", [1, 5, 40, 90])
async def test_a_torn_journal_tail_is_cut_and_writing_goes_on(
    blobs: FileBlobStore, tmp_path: Path, cut: int
) -> None:
    kept = [await blobs.put(content(100, n)) for n in range(3)]
    torn = await blobs.put(content(100, 9))
    await blobs.close()
    path = file_of(tmp_path, torn)
    os.truncate(path, path.stat().st_size - cut)
    again = await reopened(tmp_path)
    new = await again.put(b"new")
    assert new.place.split(":")[:3] == torn.place.split(":")[:3]
    assert [read_all(again, b) for b in kept] == [content(100, n) for n in range(3)]
    assert read_all(again, new) == b"new"
    with pytest.raises(BlobMissingError):
        again.open(torn)
    await again.close()


async def test_garbage_after_the_last_record_is_cut(blobs: FileBlobStore, tmp_path: Path) -> None:
    kept = await blobs.put(b"kept")
    await blobs.close()
    path = file_of(tmp_path, kept)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"KJR1" + bytes(5000))
    again = await reopened(tmp_path)
    assert path.stat().st_size == size
    assert read_all(again, kept) == b"kept"
    await again.close()


async def test_damage_before_whole_records_cuts_nothing(blobs: FileBlobStore, tmp_path: Path) -> None:
    kept = [await blobs.put(content(100, n)) for n in range(3)]
    await blobs.close()
    path = file_of(tmp_path, kept[1])
    size = path.stat().st_size
    flip(path, int(kept[1].place.split(":")[2]) + 40)
    again = await reopened(tmp_path)
    new = await again.put(b"new")
    assert path.stat().st_size == size
    assert new.place.startswith("j:2:")
    assert read_all(again, kept[2]) == content(100, 2)
    with pytest.raises(BlobMissingError):
        read_all(again, kept[1])
    await again.close()


async def test_a_segment_without_its_head_is_replaced(blobs: FileBlobStore, tmp_path: Path) -> None:
    kept = await blobs.put(b"kept")
    await blobs.close()
    (tmp_path / "blobs" / "journal" / "00000002.seg").write_bytes(b"KEPH")
    again = await reopened(tmp_path)
    new = await again.put(b"new")
    assert new.place.startswith("j:2:16:")
    assert (read_all(again, kept), read_all(again, new)) == (b"kept", b"new")
    await again.close()


async def test_a_full_segment_is_left_for_a_new_one(tmp_path: Path) -> None:
    store = await reopened(tmp_path, segment_size=10_000)
    kept = await asyncio.gather(*(store.put(content(3000, n)) for n in range(20)))
    assert {b.place.split(":")[1] for b in kept} == {"1", "2", "3", "4", "5"}
    assert [read_all(store, b) for b in kept] == [content(3000, n) for n in range(20)]
    await store.close()
    again = await reopened(tmp_path, segment_size=10_000)
    assert (await again.put(b"x")).place.startswith("j:6:")
    await again.close()


async def test_left_over_temporary_files_are_swept(blobs: FileBlobStore, tmp_path: Path) -> None:
    await blobs.close()
    (tmp_path / "blobs" / "temp" / "left").write_bytes(b"x")
    again = await reopened(tmp_path)
    assert list((tmp_path / "blobs" / "temp").iterdir()) == []
    await again.close()


async def test_only_one_process_writes(blobs: FileBlobStore, tmp_path: Path) -> None:
    second = FileBlobStore(tmp_path / "blobs", master_key=MASTER_KEY)
    with pytest.raises(StoreUnavailableError, match="another process"):
        await second.start()
    await second.close()
    await blobs.close()
    third = await reopened(tmp_path)
    await third.close()


async def test_a_store_that_is_closed_or_was_never_opened_takes_nothing(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", master_key=MASTER_KEY)
    with pytest.raises(StoreUnavailableError):
        await store.put(b"x")
    with pytest.raises(StoreUnavailableError):
        store.spool()
    await store.close()


# Spools.


def temp_files(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "blobs" / "temp").iterdir())


async def test_a_discarded_spool_leaves_no_file(blobs: FileBlobStore, tmp_path: Path) -> None:
    spool = blobs.spool()
    await spool.write(content(LARGE))
    assert len(temp_files(tmp_path)) == 1
    await spool.discard()
    assert temp_files(tmp_path) == []
    with pytest.raises(StoreUnavailableError):
        await spool.write(b"more")
    with pytest.raises(StoreUnavailableError):
        await blobs.keep(spool)


async def test_a_forgotten_spool_leaves_no_file(blobs: FileBlobStore, tmp_path: Path) -> None:
    spool = blobs.spool()
    await spool.write(content(LARGE))
    await spool.write(content(LARGE))
    source = spool.source()
    while spool._pending is not None and not spool._pending[0].done():
        await asyncio.sleep(0.001)
    del spool, source
    await blobs.close()
    assert temp_files(tmp_path) == []


async def test_a_spool_is_kept_once(blobs: FileBlobStore) -> None:
    spool = blobs.spool()
    await spool.write(content(LARGE))
    await blobs.keep(spool)
    with pytest.raises(StoreUnavailableError):
        await blobs.keep(spool)
    with pytest.raises(StoreUnavailableError):
        await spool.write(b"more")


async def test_a_write_that_was_cancelled_spoils_the_spool(blobs: FileBlobStore, tmp_path: Path) -> None:
    spool = blobs.spool()
    task = asyncio.ensure_future(spool.write(content(20 * CHUNK)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(StoreUnavailableError):
        await blobs.keep(spool)
    await spool.discard()
    assert temp_files(tmp_path) == []


async def test_a_full_disk_fails_the_spool_and_nothing_is_kept(
    blobs: FileBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = blobs.spool()
    await spool.write(content(LARGE))
    monkeypatch.setattr("storage.files.spool.write_all", _disk_full)
    with pytest.raises(StoreUnavailableError):
        await _write_and_keep(blobs, spool)
    monkeypatch.undo()
    with pytest.raises(StoreUnavailableError):
        await blobs.keep(spool)
    await spool.discard()
    assert temp_files(tmp_path) == []
    assert list(blobs.places()) == []


async def _write_and_keep(blobs: FileBlobStore, spool: FileSpool) -> None:
    await spool.write(content(LARGE))
    await blobs.keep(spool)


def _disk_full(_descriptor: int, _data: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_spool_of_another_store_is_refused(blobs: FileBlobStore) -> None:
    class Strange:
        pass

    with pytest.raises(TypeError):
        await blobs.keep(Strange())  # type: ignore[arg-type]
    assert isinstance(blobs.spool(), FileSpool)


# The journal when the disk fails.


async def test_a_failed_sync_keeps_nothing_and_the_next_batch_goes_on(
    blobs: FileBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await blobs.put(b"before")
    real = os.fdatasync

    def fails(_descriptor: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "fdatasync", fails)
    results = await asyncio.gather(*(blobs.put(bytes([n])) for n in range(5)), return_exceptions=True)
    assert [type(r) for r in results] == [StoreUnavailableError] * 5
    monkeypatch.setattr(os, "fdatasync", real)
    new = await blobs.put(b"after")
    # nobody knows what a failed segment holds; the five may have come as more than one batch
    assert int(new.place.split(":")[1]) > int(kept.place.split(":")[1])
    assert (read_all(blobs, kept), read_all(blobs, new)) == (b"before", b"after")


async def test_what_is_not_bytes_fails_alone(blobs: FileBlobStore) -> None:
    results = await asyncio.gather(
        blobs.put(b"good"),
        blobs.put("text"),  # type: ignore[arg-type]
        blobs.put(None),  # type: ignore[arg-type]
        blobs.put(b"good too"),
        return_exceptions=True,
    )
    assert [isinstance(r, Blob) for r in results] == [True, False, False, True]


async def test_concurrent_puts_share_a_sync(blobs: FileBlobStore) -> None:
    await asyncio.gather(*(blobs.put(content(1000, n)) for n in range(50)))
    assert blobs.counters.items == 50
    assert blobs.counters.batches < 50


async def test_streaming_keeps_memory_flat_and_the_loop_free(blobs: FileBlobStore) -> None:
    piece, pieces = content(64 * 1024), 320  # 20 MB
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - before)

    watcher = asyncio.ensure_future(watch())
    tracemalloc.start()
    spool = blobs.spool()
    for _ in range(pieces):
        await spool.write(piece)
    blob = await blobs.keep(spool)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    watcher.cancel()
    assert blob.size == pieces * len(piece)
    assert peak < 2 << 20
    assert longest < 1.0  # a generous bound; the benchmark measures it
