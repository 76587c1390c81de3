"""The journal of small contents: append-only segment files, one sync per batch (D4).

A segment is ``KEPHSJ1`` 00, then its number (u64), then records: ``KJR1``, length of the body (u32),
CRC-32 of the body (u32), body. All integers are big-endian. A record's body is opaque here.
"""

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from typing import Final

SEGMENT_SIZE: Final = 64 << 20
SMALLEST_BODY: Final = 32  # uid and an empty chunk's tag; zeroes after a crash are no records
LARGEST_BODY: Final = 1 << 20

_SEGMENT: Final = Struct(">8sQ")
_SEGMENT_MARK: Final = b"KEPHSJ1\0"
_RECORD: Final = Struct(">4sII")
RECORD_HEAD: Final = _RECORD.size
_RECORD_MARK: Final = b"KJR1"
# A large batch is written piece by piece: what was written makes room for what comes, in memory that is warm.
_WRITE_AT_ONCE: Final = 256 << 10
_PARTS_AT_ONCE: Final = 1000  # a record has fewer than 24; one system call takes 1024


def sync_directory(path: Path) -> None:
    """Make names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of it; `OSError` where the disk does not take it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Journal:
    """Append-only segments. One thread appends; any number read through `path`.

    Args:
        directory: where the segments lie; it must exist.
        segment_size: a segment that has reached it is left for a new one.
    """

    def __init__(self, directory: Path, *, segment_size: int = SEGMENT_SIZE) -> None:
        self._directory = directory
        self._segment_size = segment_size
        self._descriptor: int | None = None
        self._number = 0
        self._offset = 0
        self._waiting: list[bytes] = []  # parts of records on their way into the segment
        self._waiting_size = 0

    def path(self, segment: int) -> Path:
        """Return where a segment lies."""
        return self._directory / f"{segment:08d}.seg"

    def segments(self) -> list[int]:
        """Return the numbers of the segments there are, ascending."""
        return sorted(int(p.stem) for p in self._directory.glob("*.seg") if p.stem.isdecimal())

    def open(self) -> None:
        """Go on after the last durable record: a torn tail, never acknowledged, is cut.

        Where a whole record follows a broken one it is no torn tail: nothing is cut, and a new segment
        begins, so that damage in the middle of a segment never costs what lies behind it.
        """
        numbers = self.segments()
        self._number = numbers[-1] if numbers else 0
        if not numbers:
            return
        path = self.path(self._number)
        data = path.read_bytes()  # one segment at most, once per start
        if len(data) < _SEGMENT.size:
            path.unlink()
            self._number -= 1
            return
        if _SEGMENT.unpack_from(data) != (_SEGMENT_MARK, self._number):
            return
        end = _end_of_records(data)
        if end < len(data) and _any_record(data, end):
            return
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._offset = end
        if end < len(data):
            os.ftruncate(self._descriptor, end)
            os.fsync(self._descriptor)
        os.lseek(self._descriptor, end, os.SEEK_SET)

    @contextmanager
    def batch(self) -> Iterator[Callable[[Sequence[bytes]], tuple[int, int]]]:
        """Take records, and make all of them durable at the end.

        Yields a function that takes a record's body, in parts, and returns its segment and offset.

        Raises:
            OSError: none of them is durable; the segment is left for a new one, because after a failed
                sync nobody knows what the disk holds.
        """
        try:
            yield self._add
            self._write()
            if self._descriptor is not None:
                os.fdatasync(self._descriptor)
        except BaseException:
            self.close()
            raise

    def records(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield segment, offset, body length and the body's first 16 bytes of each record."""
        for number in self.segments():
            with self.path(number).open("rb") as file:
                offset = _SEGMENT.size
                while True:
                    file.seek(offset)
                    head = file.read(RECORD_HEAD + 16)
                    if len(head) < RECORD_HEAD:
                        break
                    mark, length, _ = _RECORD.unpack_from(head)
                    if mark != _RECORD_MARK or not SMALLEST_BODY <= length <= LARGEST_BODY:
                        break
                    yield number, offset, length, head[RECORD_HEAD:]
                    offset += RECORD_HEAD + length

    def close(self) -> None:
        """Close the segment; appending again begins a new one."""
        self._waiting, self._waiting_size = [], 0
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _add(self, body: Sequence[bytes]) -> tuple[int, int]:
        if self._descriptor is None or self._offset >= self._segment_size:
            self._next_segment()
        place = (self._number, self._offset)
        length = crc = 0
        for part in body:
            length += len(part)
            crc = zlib.crc32(part, crc)
        self._waiting += (_RECORD.pack(_RECORD_MARK, length, crc), *body)
        self._waiting_size += RECORD_HEAD + length
        self._offset += RECORD_HEAD + length
        if self._waiting_size >= _WRITE_AT_ONCE or len(self._waiting) >= _PARTS_AT_ONCE:
            self._write()
        return place

    def _write(self) -> None:
        parts, size = self._waiting, self._waiting_size
        self._waiting, self._waiting_size = [], 0
        if parts and self._descriptor is not None:
            written = os.writev(self._descriptor, parts)
            if written < size:  # the disk fills up, or a signal came between
                write_all(self._descriptor, memoryview(b"".join(parts))[written:])

    def _next_segment(self) -> None:
        if self._descriptor is not None:
            self._write()
            os.fdatasync(self._descriptor)
            self.close()
        self._number += 1
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self.path(self._number), flags, 0o600)
        write_all(self._descriptor, _SEGMENT.pack(_SEGMENT_MARK, self._number))
        self._offset = _SEGMENT.size
        sync_directory(self._directory)


def check_record_head(head: bytes, length: int) -> bool:
    """Say whether these are the first bytes of a record whose body has that length."""
    if len(head) < RECORD_HEAD:
        return False
    mark, found, _ = _RECORD.unpack_from(head)
    return bool(mark == _RECORD_MARK and found == length)


def _record_end(data: bytes, offset: int) -> int | None:
    """Return where the record at an offset ends; None where it is not whole."""
    if len(data) - offset < RECORD_HEAD:
        return None
    mark, length, crc = _RECORD.unpack_from(data, offset)
    begin = offset + RECORD_HEAD
    if mark != _RECORD_MARK or not SMALLEST_BODY <= length <= min(LARGEST_BODY, len(data) - begin):
        return None
    return begin + length if zlib.crc32(memoryview(data)[begin : begin + length]) == crc else None


def _end_of_records(data: bytes) -> int:
    offset = _SEGMENT.size
    while (end := _record_end(data, offset)) is not None:
        offset = end
    return offset


def _any_record(data: bytes, offset: int) -> bool:
    """Say whether a whole record begins anywhere behind an offset."""
    at = data.find(_RECORD_MARK, offset + 1)
    while at >= 0:
        if _record_end(data, at) is not None:
            return True
        at = data.find(_RECORD_MARK, at + 1)
    return False
