"""Content on disk: small ones in the journal, large ones in files; encrypted, synced, write-once (D4).

A place is ``j:<segment>:<offset>:<uid>`` or ``f:<uid>``, the uid in hexadecimal. A file is ``KEPHSB1``
00, its uid (16 octets), then the sealed chunks (`storage.crypto.ChunkCipher`); a journal record's body
is the uid and the sealed chunks. The wrapped data key stands in the row alone: without the row, the
bytes on disk are noise.

Several processes may write to one directory, each under its own name and with its own journal, lock and
temporary files; everybody reads everything. The places of another writer than ``main`` name it:
``j:<writer>:<segment>:<offset>:<uid>``. Files of large content lie together, their uids tell them apart.
"""

import asyncio
import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256, sha512
from pathlib import Path
from typing import Final

from evidence.ports import ByteSource
from kephs.ports import Blob, BlobMissingError, Spool, StoreUnavailableError
from storage.batching import BatchThread, Counters, Job
from storage.crypto import (
    CHUNK,
    KEY_SIZE,
    UID,
    ChunkCipher,
    KeyMismatchError,
    check_key,
    sealed_size,
    unwrap_key,
    wrap_key,
)
from storage.files.journal import RECORD_HEAD, SEGMENT_SIZE, Journal, check_record_head, sync_directory
from storage.files.spool import FILE_HEAD, FILE_MARK, SMALL, FileSpool, settled
from storage.sealed import Fetch, OpenFile, SealedSource, fetch_from_path

WORKERS: Final = 4

MAIN: Final = "main"  # its journal lies where the only writer's always did
_WRITER: Final = r"[a-z][a-z0-9-]{0,30}"
_PLACE: Final = re.compile(rf"(?:f|j:(?:({_WRITER}):)?([0-9]{{1,9}}):([0-9]{{1,12}})):([0-9a-f]{{32}})\Z")


class FileBlobStore:
    """`kephs.ports.BlobStore` in a directory.

    Args:
        directory: made where it does not exist.
        master_key: 32 octets; wraps the data keys.
        writer: name of the process, 1 to 31 of a-z, 0-9 and hyphen; one process at a time under each name.
        random: makes keys and uids; `os.urandom` unless a test wants the same bytes again.
        segment_size: of the journal.

    Raises:
        ValueError: the name is none.
    """

    def __init__(
        self,
        directory: Path,
        *,
        master_key: bytes,
        writer: str = MAIN,
        random: Callable[[int], bytes] = os.urandom,
        segment_size: int = SEGMENT_SIZE,
    ) -> None:
        if not is_writer_name(writer):
            raise ValueError(f"no name of a writer: {writer!r}")
        self._directory = directory
        self._writer = writer
        self._files = directory / "files"
        self._temp = directory / "temp" if writer == MAIN else directory / "temp" / writer
        self._master_key = check_key(master_key)
        self._random = random
        self._journal = Journal(self._journal_of(writer), segment_size=segment_size)
        self._journals: dict[str, Journal] = {}  # of every writer, for reading
        self._appender: BatchThread[Sequence[bytes]] = BatchThread(
            "blob journal", self._run_batch, on_start=self._prepare, on_exit=self._leave
        )
        self._lock: OpenFile | None = None
        self._pool: ThreadPoolExecutor | None = None

    @property
    def counters(self) -> Counters:
        """Return how many batches and small contents were written."""
        return self._appender.counters

    async def start(self) -> None:
        """Make the directories, cut a torn journal tail, sweep left-over temporary files.

        Reading (`open`, `places`) needs no start, so that other processes can look while one writes.

        Raises:
            StoreUnavailableError: another process writes here under this name.
        """
        await self._appender.start()
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="blob")

    async def close(self) -> None:
        """Finish what waits; safe to call twice."""
        await self._appender.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.get_running_loop().run_in_executor(None, pool.shutdown)

    def spool(self) -> FileSpool:
        """Return an empty spool."""
        return FileSpool(self._threads(), self._temp, self._random)

    async def keep(self, spool: Spool) -> Blob:
        """Make a spool's content durable.

        Raises:
            StoreUnavailableError: nothing was kept.
        """
        small = _own(spool).small
        if small is not None:
            return (await self._append((small,)))[0]
        return await self._publish(_own(spool))

    async def _publish(self, spool: FileSpool) -> Blob:
        file = await spool.publish(self._file_path)
        return Blob(
            file.sha256.digest(),
            file.sha512.digest(),
            file.size,
            f"f:{file.uid.hex()}",
            wrap_key(self._master_key, file.data_key),
        )

    async def put(self, data: bytes) -> Blob:
        """Make content durable; concurrent calls with small content share one sync.

        Raises:
            StoreUnavailableError: nothing was kept.
        """
        if memoryview(data).nbytes <= SMALL:  # what is not bytes fails here, not in the batch
            return (await self._append((data,)))[0]
        spool = self.spool()
        try:
            await spool.write(data)
            return await self.keep(spool)
        finally:
            await spool.discard()

    async def put_many(self, contents: Sequence[bytes]) -> list[Blob]:
        """Make pieces of content durable; small ones together, with one sync.

        Raises:
            StoreUnavailableError: at least one was not kept; those that were are named by nobody.
        """
        if all(memoryview(content).nbytes <= SMALL for content in contents):
            return await self._append(tuple(contents))
        return [await self.put(content) for content in contents]

    def open(self, blob: Blob) -> ByteSource:
        """Return content for reading any range; reads block briefly and check what they read.

        Raises:
            BlobMissingError: content is gone or altered (also from later reads).
        """
        found = _PLACE.match(blob.place)
        if found is None:
            raise BlobMissingError("the row names no place")
        writer, segment, offset, uid = found[1] or MAIN, found[2], found[3], bytes.fromhex(found[4])
        try:
            cipher = ChunkCipher(unwrap_key(self._master_key, blob.key), uid)
            if segment is None:
                path = self._file_path(uid)
                _check_file(path, uid, blob.size)
                fetch = fetch_from_path(path, FILE_HEAD)
            else:
                path = self._segment(writer, int(segment))
                fetch = _record(path, int(offset), uid, blob.size)
        except KeyMismatchError as error:
            raise BlobMissingError("the data key does not open") from error
        except OSError as error:
            raise BlobMissingError("content cannot be read") from error
        return SealedSource(fetch, cipher, blob.size)

    async def erase(self, blob: Blob) -> None:
        """Remove a large content's file; it may be gone already.

        A small one stays as noise in its segment: its key went with the row (`Blobs.release_unused`).
        """
        found = _PLACE.match(blob.place)
        if found is not None and found[2] is None:
            path = self._file_path(bytes.fromhex(found[4]))
            future = self._threads().submit(path.unlink, missing_ok=True)
            await settled(future)
            future.result()

    def places(self) -> Iterator[str]:
        """Yield the place of everything on disk, whoever wrote it, named by a row or not."""
        for writer in self.writers():
            for segment, offset, _, uid in Journal(self._journal_of(writer)).records():
                yield _journal_place(writer, segment, offset, uid)
        for path in sorted(self._files.glob("??/*")):
            yield f"f:{path.name}"

    def writers(self) -> list[str]:
        """Return the names that have written here, ``main`` first."""
        folders = self._journal_of(MAIN).glob("*/")
        return [MAIN, *sorted(path.name for path in folders if is_writer_name(path.name))]

    def _journal_of(self, writer: str) -> Path:
        folder = self._directory / "journal"
        return folder if writer == MAIN else folder / writer

    def _segment(self, writer: str, number: int) -> Path:
        if writer not in self._journals:
            self._journals[writer] = Journal(self._journal_of(writer))
        return self._journals[writer].path(number)

    def _file_path(self, uid: bytes) -> Path:
        name = uid.hex()
        return self._files / name[:2] / name

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            raise StoreUnavailableError("the blob store is closed")
        return self._pool

    async def _append(self, contents: Sequence[bytes]) -> list[Blob]:
        blobs: list[Blob] = await self._appender.submit(contents)
        return blobs

    # The journal's thread.

    def _prepare(self) -> None:
        made = [self._directory, self._files, self._directory / "temp", self._journal_of(MAIN)]
        if self._writer != MAIN:
            made += [self._temp, self._journal_of(self._writer)]
        for directory in made:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(256):  # now, so that nobody relies on a folder another process has not synced yet
            (self._files / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
        own = "lock" if self._writer == MAIN else f"lock-{self._writer}"
        self._lock = _lock(self._directory / own)
        for directory in (self._files, self._journal_of(MAIN), self._directory, self._directory.parent):
            sync_directory(directory)
        for left_over in self._temp.iterdir():
            if not left_over.is_dir():  # the folders are other writers'
                left_over.unlink()
        self._journal.open()

    def _leave(self) -> None:
        self._journal.close()
        self._lock = None

    def _run_batch(self, jobs: Sequence[Job[Sequence[bytes]]]) -> None:
        """Seal, hash and write content after content: each is read, and its sealed form held, once."""
        with self._journal.batch() as add:
            for job in jobs:
                job.result = [self._keep_small(content, add) for content in job.payload]

    def _keep_small(self, data: bytes, add: Callable[[Sequence[bytes]], tuple[int, int]]) -> Blob:
        data_key, uid = self._random(KEY_SIZE), self._random(UID)
        segment, offset = add((uid, *ChunkCipher(data_key, uid).encrypt_all(data)))
        return Blob(
            sha256(data).digest(),
            sha512(data).digest(),
            len(data),
            _journal_place(self._writer, segment, offset, uid),
            wrap_key(self._master_key, data_key),
        )


def _own(spool: Spool) -> FileSpool:
    if not isinstance(spool, FileSpool):
        raise TypeError("a spool of another store")
    return spool


def is_writer_name(name: str) -> bool:
    """Say whether a process may have this name: it stands in places and in the names of files."""
    return re.fullmatch(_WRITER, name) is not None


def _journal_place(writer: str, segment: int, offset: int, uid: bytes) -> str:
    named = "" if writer == MAIN else f"{writer}:"
    return f"j:{named}{segment}:{offset}:{uid.hex()}"


def _lock(path: Path) -> OpenFile:
    file = OpenFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        fcntl.flock(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreUnavailableError("another process writes to these blobs") from error
    return file


def _check_file(path: Path, uid: bytes, size: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = os.pread(descriptor, FILE_HEAD, 0)
        if head != FILE_MARK + uid or os.fstat(descriptor).st_size != FILE_HEAD + sealed_size(size):
            raise BlobMissingError("the file is not what the row names")
    finally:
        os.close(descriptor)


def _record(path: Path, offset: int, uid: bytes, size: int) -> Fetch:
    """Check a record's head and return a reader of its chunks; a single chunk is fetched with the head."""
    head, length = RECORD_HEAD + UID, sealed_size(size)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(descriptor, head + (length if size <= CHUNK else 0), offset)
    finally:
        os.close(descriptor)
    if not check_record_head(data, UID + length) or data[RECORD_HEAD:head] != uid:
        raise BlobMissingError("the record is not what the row names")
    if size > CHUNK:
        return fetch_from_path(path, offset + head)
    return lambda start, count: data[head + start : head + start + count]
