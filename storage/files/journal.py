"""The journal of small contents: append-only segment files, one sync per batch (D4).

A segment is ``KEPHSJ1`` 00, then its number (u64), then records: ``KJR1``, length of the body (u32),
CRC-32 of the body (u32), body. All integers are big-endian. A record's body is opaque here.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
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
_WRITE_AT_ONCE: Final = 1 << 20


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

    def append(self, bodies: Sequence[bytes]) -> list[tuple[int, int]]:
        """Write records and make them durable; return each one's segment and offset.

        Raises:
            OSError: none of them is durable; the segment is left for a new one, because after a failed
                sync nobody knows what the disk holds.
        """
        places = []
        waiting: list[bytes] = []
        size = 0
        try:
            for body in bodies:
                if self._descriptor is None or self._offset >= self._segment_size:
                    self._write(waiting)
                    waiting, size = [], 0
                    self._next_segment()
                places.append((self._number, self._offset))
                waiting += (_RECORD.pack(_RECORD_MARK, len(body), zlib.crc32(body)), body)
                self._offset += RECORD_HEAD + len(body)
                size += RECORD_HEAD + len(body)
                if size >= _WRITE_AT_ONCE:
                    self._write(waiting)
                    waiting, size = [], 0
            self._write(waiting)
            if self._descriptor is not None:
                os.fdatasync(self._descriptor)
        except OSError:
            self.close()
            raise
        return places

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
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _write(self, parts: Sequence[bytes]) -> None:
        if parts and self._descriptor is not None:
            write_all(self._descriptor, b"".join(parts))

    def _next_segment(self) -> None:
        if self._descriptor is not None:
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
