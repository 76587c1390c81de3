"""A small ZIP reader and writer for evidence bundles: deterministic out, strict and capped in.

The writer stores (no compression, no dates, no extra fields), so that the same parts always give the
same bytes and large members can be read in place. The reader also takes deflated members, because
people repack archives; it never trusts a size it did not check (spec: PKWARE APPNOTE 4.3).
"""

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from struct import Struct
from types import MappingProxyType
from typing import Any, BinaryIO, Final

from evidence.ports import ByteSource, BytesSource

MEMBERS_MAX: Final = 4_000
DIRECTORY_MAX: Final = 1 << 20
MEMBER_MAX: Final = 256 << 20
TOTAL_MAX: Final = 1 << 30
DEFLATED_MAX: Final = 128 << 20  # held in memory one at a time; stored members never are
RATIO_MAX: Final = 200
UNPACKED_FREE: Final = 16 << 20
"""What deflated members unpack to may be this much, and `RATIO_MAX` times the archive: more is a bomb."""
NAME_MAX: Final = 200
READ_SIZE: Final = 512 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9@+_.-]*(/[A-Za-z0-9][A-Za-z0-9@+_.-]*)*")
_LOCAL: Final = Struct("<4s5H3I2H")
_CENTRAL: Final = Struct("<4s6H3I5H2I")
_END: Final = Struct("<4s4H2IH")
_DOS_DATE: Final = 0x21  # 1 January 1980, the first date there is
_STORED: Final = 0
_DEFLATED: Final = 8
_ALLOWED_FLAGS: Final = 0x0008 | 0x0006 | 0x0800  # data descriptor, deflate level, UTF-8 names


class ArchiveError(Exception):
    """Not an archive this reader takes, or one that would cost too much."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive."""

    name: str
    size: int
    method: int
    crc: int
    start: int  # of the data in the container
    stored_size: int


@dataclass(frozen=True, slots=True)
class RangeSource:
    """A part of another `ByteSource`, read in place."""

    outer: ByteSource
    start: int
    size: int

    def read(self, start: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``start`` of the part."""
        return self.outer.read(self.start + start, max(0, min(length, self.size - start)))


@dataclass(frozen=True, slots=True)
class Archive:
    """An opened archive.

    ``exact`` says that the container is byte for byte what `write_archive` makes of these names, sizes and
    checksums; whether the contents have those checksums is for `measure` to say.
    """

    source: ByteSource
    members: tuple[Member, ...]
    comment: bytes
    exact: bool

    def open(self, member: Member) -> ByteSource:
        """Return a member's content; deflated ones are unpacked into memory.

        Raises:
            ArchiveError: damaged, longer than it said, or too large.
        """
        stored = RangeSource(self.source, member.start, member.stored_size)
        if member.method == _STORED:
            return stored
        if member.size > DEFLATED_MAX:
            raise ArchiveError(f"{member.name}: too large to unpack")
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = unpacker.decompress(stored.read(0, stored.size), member.size + 1)
        except zlib.error as error:
            raise ArchiveError(f"{member.name}: damaged") from error
        if len(data) != member.size or zlib.crc32(data) != member.crc:
            raise ArchiveError(f"{member.name}: damaged")
        return BytesSource(data)


def pieces(source: ByteSource) -> Iterator[bytes]:
    """Yield a source's content in pieces of 512 kB.

    Raises:
        ArchiveError: the source ends early.
    """
    at = 0
    while at < source.size:
        piece = source.read(at, min(READ_SIZE, source.size - at))
        if not piece:
            raise ArchiveError("the source ends early")
        yield piece
        at += len(piece)


@dataclass(frozen=True, slots=True)
class Measure:
    """What is known of a content after one pass over it."""

    sha256: bytes
    crc: int


def measure(source: ByteSource) -> Measure:
    """Read a source once and return its digest and its checksum.

    Raises:
        ArchiveError: the source ends early.
    """
    hasher, crc = sha256(), 0
    for piece in pieces(source):
        hasher.update(piece)
        crc = zlib.crc32(piece, crc)
    return Measure(hasher.digest(), crc)


def write_archive(
    out: BinaryIO,
    members: Sequence[tuple[str, ByteSource]],
    *,
    comment: bytes = b"",
    crcs: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Write an archive: members stored in the order given, everything else fixed.

    Args:
        out: where to; written from its position on.
        members: names and contents.
        comment: of the archive.
        crcs: checksums known from an earlier pass; without one a content is read twice.

    Raises:
        ArchiveError: a name or size that the reader would refuse, or a content that is not the one whose
            checksum was known.
    """
    _check_members([(name, source.size) for name, source in members])
    offset, listed = 0, []
    for name, source in members:
        crc = crcs[name] if name in crcs else measure(source).crc
        header = _local_header(name, crc, source.size)
        out.write(header)
        written = 0
        for piece in pieces(source):
            written = zlib.crc32(piece, written)
            out.write(piece)
        if written != crc:
            raise ArchiveError(f"{name}: changed while it was written")
        listed.append((name, crc, source.size, offset))
        offset += len(header) + source.size
    out.write(_tail(listed, offset, comment))


def join_archive(contents: Sequence[tuple[str, bytes]], *, comment: bytes = b"") -> bytes:
    """Return the archive that `write_archive` makes of contents in memory: one pass, each read once.

    Raises:
        ArchiveError: a name or size that the reader would refuse.
    """
    _check_members([(name, len(content)) for name, content in contents])
    parts: list[bytes] = []
    offset, listed = 0, []
    for name, content in contents:
        crc, size = zlib.crc32(content), len(content)
        header = _local_header(name, crc, size)
        parts += (header, content)
        listed.append((name, crc, size, offset))
        offset += len(header) + size
    return b"".join((*parts, _tail(listed, offset, comment)))


def _check_members(members: Sequence[tuple[str, int]]) -> None:
    """Check names and sizes before anything is written.

    Raises:
        ArchiveError: the reader would refuse one.
    """
    if len(members) > MEMBERS_MAX or len({name.casefold() for name, _ in members}) != len(members):
        raise ArchiveError("too many members, or a name twice")
    if any(not _good_name(name) or size > MEMBER_MAX for name, size in members):
        raise ArchiveError("unusable name or size")
    if sum(size + len(name) + _LOCAL.size for name, size in members) > TOTAL_MAX:
        raise ArchiveError("too large")


def _local_header(name: str, crc: int, size: int) -> bytes:
    encoded = name.encode("ascii")
    return (
        _LOCAL.pack(b"PK\x03\x04", 20, 0, _STORED, 0, _DOS_DATE, crc, size, size, len(encoded), 0) + encoded
    )


def _tail(listed: Sequence[tuple[str, int, int, int]], offset: int, comment: bytes) -> bytes:
    directory = b"".join(
        _CENTRAL.pack(
            b"PK\x01\x02", 20, 20, 0, _STORED, 0, _DOS_DATE, crc, size, size, len(name), 0, 0, 0, 0, 0, at
        )
        + name.encode("ascii")
        for name, crc, size, at in listed
    )
    count = len(listed)
    end = _END.pack(b"PK\x05\x06", 0, 0, count, count, len(directory), offset, len(comment))
    return directory + end + comment


def read_archive(source: ByteSource) -> Archive:
    """Open an archive and check its structure; contents are read later, by `Archive.open`.

    Raises:
        ArchiveError: not a plain archive, encrypted, ZIP64, an odd or repeated name, overlapping members,
            or beyond a cap.
    """
    count, directory_size, directory_at, comment, end_at = _end_record(source)
    if count > MEMBERS_MAX or directory_size > DIRECTORY_MAX or directory_at + directory_size != end_at:
        raise ArchiveError("directory too large or misplaced")
    directory = source.read(directory_at, directory_size)
    members, offsets = _directory(source, directory, count, directory_at)
    unpacked = sum(member.size for member in members if member.method == _DEFLATED)
    if unpacked > UNPACKED_FREE + RATIO_MAX * source.size:
        raise ArchiveError("it would unpack to far more than it is")
    exact = _is_exact(source, members, offsets, directory_at, comment)
    return Archive(
        source, tuple(member for member in members if not member.name.endswith("/")), comment, exact
    )


def _end_record(source: ByteSource) -> tuple[int, int, int, bytes, int]:
    tail_at = max(0, source.size - _END.size - 0xFFFF)
    tail = source.read(tail_at, source.size - tail_at)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise ArchiveError("not a ZIP archive")
    _, disk, first, here, count, size, offset, comment_size = _END.unpack_from(tail, at)
    comment = tail[at + _END.size :]
    if disk or first or here != count or len(comment) != comment_size or 0xFFFF in {here, count}:
        raise ArchiveError("damaged, split or ZIP64 archive")
    return count, size, offset, comment, tail_at + at


def _directory(
    source: ByteSource, directory: bytes, count: int, limit: int
) -> tuple[list[Member], list[int]]:
    members: list[Member] = []
    offsets: list[int] = []
    at = total = 0
    for _ in range(count):
        if len(directory) - at < _CENTRAL.size:
            raise ArchiveError("damaged directory")
        record = _CENTRAL.unpack_from(directory, at)
        name_size, extra, remark = record[10:13]
        name = directory[at + _CENTRAL.size : at + _CENTRAL.size + name_size].decode("ascii", "replace")
        at += _CENTRAL.size + name_size + extra + remark
        member = _member(source, record, name)
        total += member.size
        if total > TOTAL_MAX or member.start + member.stored_size > limit:
            raise ArchiveError("too large, or a member lies outside the archive")
        members.append(member)
        offsets.append(record[16])
    if at != len(directory) or len({member.name.casefold() for member in members}) != count:
        raise ArchiveError("damaged directory, or a name twice")
    spans = sorted(
        (offset, member.start + member.stored_size) for offset, member in zip(offsets, members, strict=True)
    )
    if any(end > start for (_, end), (start, _) in pairwise(spans)):
        raise ArchiveError("members overlap")
    return members, offsets


def _member(source: ByteSource, record: tuple[Any, ...], name: str) -> Member:
    """Check one directory record and the local header it points to."""
    flags, method, crc, stored, size, offset = (*record[3:5], *record[7:10], record[16])
    if record[0] != b"PK\x01\x02" or flags & ~_ALLOWED_FLAGS or method not in {_STORED, _DEFLATED}:
        raise ArchiveError("encrypted, or packed in an unknown way")
    if (method == _STORED and stored != size) or size > MEMBER_MAX:
        raise ArchiveError("damaged directory, or a member too large")
    if not _good_name(name.removesuffix("/")) or (name.endswith("/") and size):
        raise ArchiveError(f"unusable name {name[:80]!r}")
    return Member(name, size, method, crc, _data_start(source, name, offset), stored)


def _data_start(source: ByteSource, name: str, offset: int) -> int:
    """Check the local header against the directory's name and return where the data begins."""
    raw = source.read(offset, _LOCAL.size)
    if len(raw) != _LOCAL.size:
        raise ArchiveError("a member lies outside the archive")
    record = _LOCAL.unpack(raw)
    if record[0] != b"PK\x03\x04" or source.read(offset + _LOCAL.size, record[9]) != name.encode():
        raise ArchiveError("local header and directory differ")
    return offset + _LOCAL.size + int(record[9]) + int(record[10])


def _is_exact(
    source: ByteSource, members: list[Member], offsets: list[int], directory_at: int, comment: bytes
) -> bool:
    at, listed = 0, []
    for member, offset in zip(members, offsets, strict=True):
        if member.name.endswith("/") or member.method != _STORED or offset != at:
            return False
        header = _local_header(member.name, member.crc, member.size)
        if source.read(offset, len(header)) != header:
            return False
        listed.append((member.name, member.crc, member.size, offset))
        at += len(header) + member.size
    tail = _tail(listed, directory_at, comment)
    return at == directory_at and at + len(tail) == source.size and source.read(at, len(tail)) == tail


def _good_name(name: str) -> bool:
    return 0 < len(name) <= NAME_MAX and _NAME.fullmatch(name) is not None and ".." not in name
