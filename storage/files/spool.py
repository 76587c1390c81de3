"""Content on its way in: in memory while small, encrypted straight into a file once large."""

import asyncio
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from evidence.ports import ByteSource, BytesSource
from kephs.ports import StoreUnavailableError
from storage.crypto import CHUNK, KEY_SIZE, UID, ChunkCipher
from storage.files.journal import sync_directory, write_all
from storage.sealed import JoinedSource, OpenFile, SealedSource, fetch_from_descriptor

P = ParamSpec("P")
T = TypeVar("T")

SMALL: Final = 256 * 1024  # content up to here goes into the journal
_SYNC_EVERY: Final = 8 << 20  # a large write never leaves more than this to sync at its end

FILE_MARK: Final = b"KEPHSB1\0"
FILE_HEAD: Final = len(FILE_MARK) + 16


async def settled(future: "Future[T]") -> None:
    """Wait for a thread's future without cancelling it when the waiter is cancelled."""
    if not future.done():
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def tell() -> None:
            if not waiter.done():
                waiter.set_result(None)

        future.add_done_callback(lambda _: loop.call_soon_threadsafe(tell))
        await waiter


class TempFile:
    """A file of sealed chunks that is being written; gone with its last holder unless it is published."""

    def __init__(self, path: Path, data_key: bytes, uid: bytes) -> None:
        self.path: Path | None = path
        self.uid = uid
        self.data_key = data_key
        self.cipher = ChunkCipher(data_key, uid)
        self.sha256 = hashlib.sha256()
        self.sha512 = hashlib.sha512()
        self.size = 0
        self._chunks = 0
        self._unsynced = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.file = OpenFile(os.open(path, flags, 0o600))
        write_all(self.file.descriptor, FILE_MARK + uid)

    def __del__(self) -> None:
        self.unlink()

    def add(self, block: bytes, *, last: bool) -> None:
        """Hash, encrypt and write a block of whole chunks (any length where it is the last)."""
        self.sha256.update(block)
        self.sha512.update(block)
        view = memoryview(block)
        for start in range(0, len(block), CHUNK):
            final = last and start + CHUNK >= len(block)
            sealed = self.cipher.encrypt(self._chunks, view[start : start + CHUNK], last=final)
            write_all(self.file.descriptor, sealed)
            self._chunks += 1
        self.size += len(block)
        self._unsynced += len(block)
        if self._unsynced >= _SYNC_EVERY:
            os.fdatasync(self.file.descriptor)
            self._unsynced = 0

    def publish(self, rest: bytes, path: Path) -> None:
        """Write the rest, sync, and move the file to its final place, durably."""
        self.add(rest, last=True)
        os.fdatasync(self.file.descriptor)
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            sync_directory(path.parent.parent)
        assert self.path is not None  # published once
        self.path.rename(path)
        self.path = None
        sync_directory(path.parent)

    def unlink(self) -> None:
        """Remove the file where it is still temporary."""
        path, self.path = self.path, None
        if path is not None:
            path.unlink(missing_ok=True)


class FileSpool:
    """`kephs.ports.Spool`: up to 256 KiB in memory, the rest in a temporary, encrypted file.

    One block of 256 KiB fills while the block before it is hashed, encrypted and written in a thread.
    """

    def __init__(
        self, pool: ThreadPoolExecutor, directory: Path, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._pool, self._directory, self._random = pool, directory, random
        self._tail = bytearray()
        self._pending: tuple[Future[None], bytes] | None = None
        self._flushed = 0
        self._usable = True
        self._kept = False
        self._opening: Future[TempFile] | None = None
        self._file: TempFile | None = None

    async def write(self, data: bytes) -> None:
        """Take the next bytes; waits where the disk is behind.

        Raises:
            StoreUnavailableError: the disk does not take them, or an earlier write failed.
        """
        self._check_usable()
        self._usable = False  # until all of it is taken: a cancelled write leaves a hole
        view = memoryview(data)
        while view:
            room = SMALL - len(self._tail)
            self._tail += view[:room]
            view = view[room:]
            if view:
                await self._flush()
        self._usable = True

    def source(self) -> ByteSource:
        """Return what was written so far for reading, without waiting for the disk."""
        file = self._file
        if file is None:
            return BytesSource(bytes(self._tail))
        fetch = fetch_from_descriptor(file.file, FILE_HEAD)
        if self._kept:
            return SealedSource(fetch, file.cipher, file.size)
        if self._pending is not None and self._pending[0].done():
            self._settle()
        pending = self._pending[1] if self._pending is not None else b""
        stored = SealedSource(fetch, file.cipher, self._flushed, ended=False)
        return JoinedSource(stored, pending + self._tail)

    async def discard(self) -> None:
        """Forget everything not kept; safe to call twice."""
        self._usable = False
        if self._pending is not None:
            await settled(self._pending[0])
            self._pending = None
        if not self._kept:
            self._tail = bytearray()
        opening, self._opening, self._file = self._opening, None, None
        if opening is not None:
            await settled(opening)  # a cancelled write may have left it behind
            if opening.exception() is None:
                opening.result().unlink()

    @property
    def small(self) -> bytes | None:
        """Return the content while it is small; None once it went to a file."""
        self._check_usable()
        return bytes(self._tail) if self._file is None else None

    async def publish(self, path_of: Callable[[bytes], Path]) -> TempFile:
        """Finish a large content's file and move it to its place.

        Args:
            path_of: tells the place of a uid.

        Raises:
            StoreUnavailableError: nothing was kept.
        """
        self._check_usable()
        self._usable = False  # written once
        await self._drain()
        assert self._file is not None  # callers ask `small` first
        future = self._submit(self._file.publish, bytes(self._tail), path_of(self._file.uid))
        await settled(future)
        _raise(future)
        self._kept = True
        self._tail = bytearray()
        return self._file

    def _submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        try:
            return self._pool.submit(function, *args, **kwargs)
        except RuntimeError as error:
            raise StoreUnavailableError("the blob store is closed") from error

    def _check_usable(self) -> None:
        if not self._usable:
            raise StoreUnavailableError("the spool failed, is finished or was discarded")

    async def _flush(self) -> None:
        await self._drain()
        if self._file is None:
            data_key, uid = self._random(KEY_SIZE), self._random(UID)
            self._opening = self._submit(TempFile, self._directory / uid.hex(), data_key, uid)
            await settled(self._opening)
            self._file = _raise(self._opening)
        block, self._tail = bytes(self._tail), bytearray()
        self._pending = (self._submit(self._file.add, block, last=False), block)

    async def _drain(self) -> None:
        if self._pending is not None:
            await settled(self._pending[0])
            self._settle()

    def _settle(self) -> None:
        assert self._pending is not None
        (future, block), self._pending = self._pending, None
        _raise(future)
        self._flushed += len(block)


def _raise(future: "Future[T]") -> T:
    try:
        return future.result()
    except OSError as error:
        raise StoreUnavailableError("the disk does not take content") from error
