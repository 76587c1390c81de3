"""Reading encrypted content in ranges: only the chunks asked for are fetched, decrypted and checked."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kephs.ports import BlobMissingError
from storage.crypto import CHUNK, TAG, ChunkCipher, KeyMismatchError, chunk_count, sealed_size

_AT_ONCE: Final = 8  # chunks per system call: 512 KiB, the read size that served large messages best

Fetch = Callable[[int, int], bytes]
"""Return so many bytes from an offset of the sealed chunks; fewer where the file ends."""


class OpenFile:
    """A descriptor that closes when nobody holds it any more, so that readers outlive renames."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


def fetch_from_descriptor(file: OpenFile, offset: int) -> Fetch:
    """Return a reader of chunks that begin at an offset of an open file."""
    return lambda start, length: os.pread(file.descriptor, length, offset + start)


def fetch_from_path(path: Path, offset: int) -> Fetch:
    """Return a reader that opens the file for each read: no descriptor is held between reads."""

    def fetch(start: int, length: int) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, length, offset + start)
        finally:
            os.close(descriptor)

    return fetch


class SealedSource:
    """A `ByteSource` over sealed chunks. Any number of threads may read.

    Args:
        fetch: reads sealed bytes.
        cipher: opens chunks.
        size: bytes of content.
        ended: whether the last chunk is marked as the last one; False while content still streams in
            (``size`` is a multiple of 64 KiB then).
    """

    def __init__(self, fetch: Fetch, cipher: ChunkCipher, size: int, *, ended: bool = True) -> None:
        self._fetch = fetch
        self._cipher = cipher
        self._size = size
        self._ended = ended
        self._last_read: tuple[int, bytes] = (-1, b"")

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return self._size

    def read(self, start: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``start``; fewer only at the end.

        Raises:
            BlobMissingError: the content is gone or altered.
        """
        if start < 0:
            raise ValueError("a range starts at 0 or later")
        end = min(start + max(length, 0), self._size)
        if start >= end:
            return b""
        first, last = start // CHUNK, (end - 1) // CHUNK
        parts: list[bytes] = []
        number, cached = self._last_read
        if number == first:  # small reads that follow each other stay in one chunk
            parts.append(cached)
            first += 1
        while first <= last:
            upto = min(first + _AT_ONCE, last + 1)
            parts += self._chunks(first, upto)
            first = upto
        self._last_read = (last, parts[-1])
        skip = start % CHUNK
        if len(parts) == 1:
            return parts[0][skip : skip + end - start]
        parts[0] = parts[0][skip:]
        parts[-1] = parts[-1][: (end - 1) % CHUNK + 1]
        return b"".join(parts)

    def _chunks(self, first: int, upto: int) -> list[bytes]:
        """Return chunks ``first`` to before ``upto``, checked."""
        count = chunk_count(self._size)
        whole = sealed_size(self._size)
        begin, end = first * (CHUNK + TAG), min(upto * (CHUNK + TAG), whole)
        try:
            sealed = memoryview(self._fetch(begin, end - begin))
            if len(sealed) != end - begin:
                raise BlobMissingError("content is cut short")
            return [
                self._cipher.decrypt(
                    first + i,
                    sealed[i * (CHUNK + TAG) : (i + 1) * (CHUNK + TAG)],
                    last=self._ended and first + i == count - 1,
                )
                for i in range(upto - first)
            ]
        except KeyMismatchError as error:
            raise BlobMissingError("content is altered") from error
        except OSError as error:
            raise BlobMissingError("content cannot be read") from error


class JoinedSource:
    """A `ByteSource` of content whose beginning is on disk and whose end is still in memory."""

    def __init__(self, first: SealedSource, rest: bytes) -> None:
        self._first = first
        self._rest = rest

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return self._first.size + len(self._rest)

    def read(self, start: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``start``."""
        head = self._first.read(start, length)
        missing = length - len(head)
        if missing <= 0:
            return head
        begin = max(start - self._first.size, 0)
        return head + self._rest[begin : begin + missing]
