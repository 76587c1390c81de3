"""Where the parts of a message lie: a streaming MIME scanner that keeps offsets, not content.

The bytes as received are the record (R-20, style habit 11), so nothing is decoded or rewritten here:
a `Part` says where header and body begin and end, and what the header declares. Lines end in CRLF;
a bare LF is no line end (files with LF lines are canonicalised by their reader before).

Delimiters follow RFC 2046 section 5.1.1: the CRLF before one belongs to it, blanks may follow it, and an
outer boundary ends everything inside, also where the inner one is the same string. A line that merely
starts with a boundary is no delimiter.
"""

import binascii
from dataclasses import dataclass
from typing import Final, NamedTuple

from evidence.mail.parts import (
    BOUNDARY_MAX,
    DEFAULT_LIMITS,
    IDENTITY,
    Head,
    HeaderField,
    MimeLimitError,
    Part,
    Range,
    ScanLimits,
    part_of,
    read_head,
    read_part_head,
)
from evidence.ports import ByteSource

__all__ = [
    "DEFAULT_LIMITS", "HeaderField", "MimeLimitError", "Part", "Range", "ScanLimits",
    "decoded_size", "scan",
]  # fmt: skip

READ_SIZE: Final = 512 * 1024
PADDING_MAX: Final = 1000  # blanks read after a boundary; a line holds 998 characters
_EMBEDDED: Final = frozenset({"rfc822", "global"})  # spec: RFC6532#3.7
_MARK: Final = b"\r\n--"  # every delimiter begins so
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def scan(source: ByteSource, limits: ScanLimits = DEFAULT_LIMITS) -> Part:
    """Return the structure of a message, reading it once in pieces of 512 kB.

    Malformed headers are tolerated and named in `Part.defects`.

    Raises:
        MimeLimitError: depth, parts or header size are beyond ``limits``.
    """
    scanner = _Scanner(source, limits)
    part, _ = scanner.entity(0, depth=1, default="text/plain")
    return part


@dataclass(slots=True)
class _Open:
    """A multipart being read: its delimiter, and the next place where that may stand."""

    needle: bytes  # CRLF, two hyphens, boundary
    hit: int = -1  # absolute; -1: none before `clear_to`
    clear_to: int = 0  # every place before this was looked at, `hit` being the only find


class _Delimiter(NamedTuple):
    level: int  # which of the open multiparts, outermost first
    start: int  # of its CRLF
    after: int  # the line that follows
    closing: bool
    lines: int  # line ends before `start`


class _Scanner:
    """Reads forward only; what is kept in memory is one piece and the headers."""

    def __init__(self, source: ByteSource, limits: ScanLimits) -> None:
        self._source = source
        self._size = source.size
        self._limits = limits
        self._base = 0
        self._data = b""
        self._open: list[_Open] = []
        self._counted = 0
        self._newlines = 0
        self._parts = 0
        self._header_bytes = 0
        self._lookalikes = 0
        self._load(0)

    # -- reading ------------------------------------------------------------------------------

    def _load(self, at: int) -> None:
        """Make the piece in memory begin at ``at``."""
        self._count_to(at)
        self._base = at
        self._data = self._source.read(at, READ_SIZE)
        if len(self._data) < READ_SIZE:  # the end, also of a source that is shorter than it said
            self._size = at + len(self._data)

    def _ends_source(self) -> bool:
        return self._base + len(self._data) >= self._size

    def _count_to(self, at: int) -> None:
        if at > self._counted:
            self._newlines += self._data.count(b"\n", self._counted - self._base, at - self._base)
            self._counted = at

    # -- delimiters ---------------------------------------------------------------------------

    def _next(self, line: int, stop: int | None = None) -> _Delimiter | None:
        """Return the first delimiter whose line begins at or after ``line``.

        With ``stop`` only delimiters whose CRLF begins before it are looked for, and that much must
        be in memory; without, the search goes to the end of the source and counts line ends.
        """
        at = max(line - 2, 0)
        while True:
            if at < self._base:
                self._load(at)
            end = self._base + len(self._data)
            limit = end if stop is None else min(stop, end)
            hit = self._candidate(at, limit)
            if hit >= 0:
                if hit + BOUNDARY_MAX + PADDING_MAX + 8 > end and not self._ends_source():
                    self._load(hit)
                found = self._confirm(hit)
                if found is not None:
                    return found
                at = hit + 1
                continue
            if stop is not None:
                return None
            if self._ends_source():
                self._count_to(end)
                return None
            # a delimiter may begin in the last bytes of this piece
            at = max(at, end - (BOUNDARY_MAX + 4)) if self._open else end
            self._load(at)

    def _candidate(self, at: int, limit: int) -> int:
        """Return where the first open boundary stands at or after ``at`` and before ``limit``, or -1."""
        best = -1
        for one in self._open:
            bound = limit if best < 0 else best
            if one.hit < at:
                start = max(at, one.clear_to)
                if start >= bound:
                    continue
                found = self._data.find(
                    one.needle, start - self._base, bound - self._base + len(one.needle) - 1
                )
                one.hit = found + self._base if found >= 0 else -1
                end = self._base + len(self._data) - len(one.needle) + 1
                one.clear_to = one.hit + 1 if found >= 0 else max(start, min(bound, end))
            if at <= one.hit < bound:
                best = one.hit
        return best

    def _confirm(self, hit: int) -> _Delimiter | None:
        """Return the delimiter at ``hit``: the outermost boundary there that fills its line."""
        offset = hit - self._base
        for level, one in enumerate(self._open):
            if not self._data.startswith(one.needle, offset):
                continue
            after = offset + len(one.needle)
            closing = self._data.startswith(b"--", after)
            after += 2 if closing else 0
            padding = 0
            rest = self._data[after : after + 2]
            if rest != b"\r\n":
                tail = self._data[after : after + PADDING_MAX + 2]
                padding = len(tail) - len(tail.lstrip(b" \t"))
                rest = tail[padding : padding + 2]
            if rest == b"\r\n" or (not rest and self._base + after + padding == self._size):
                early = hit < self._counted  # its CRLF was counted with the line before
                if not early:
                    self._count_to(hit)
                lines = self._newlines - 1 if early else self._newlines
                return _Delimiter(level, hit, self._base + after + padding + len(rest), closing, lines)
        self._lookalikes += 1
        if self._lookalikes > 2 * self._limits.parts:
            raise MimeLimitError("too many lines that look like delimiters")
        return None

    # -- entities -----------------------------------------------------------------------------

    def entity(self, start: int, *, depth: int, default: str) -> tuple[Part, _Delimiter | None]:
        """Return the entity that begins at ``start`` and the delimiter that ends it (None: the end)."""
        self._parts += 1
        if depth > self._limits.depth or self._parts > self._limits.parts:
            raise MimeLimitError("nested too deep" if depth > self._limits.depth else "too many parts")
        end, block, ended = self._header(start)
        reader = read_head if depth == 1 else read_part_head  # nobody writes the outermost one twice
        head = reader(block, start, default, self._limits.header_fields)
        if ended is not None:
            stop = max(ended.start, start)
            return part_of(head, Range(start, stop), Range(stop, stop), 0), ended
        lines = self._newlines
        header = Range(start, end)
        if head.type == "multipart":
            boundary = head.boundary()
            if boundary:
                return self._multipart(head, header, boundary, lines, depth)
            head = head.with_defects("boundary")
        if head.type == "message" and head.subtype in _EMBEDDED and head.encoding in IDENTITY:
            inner, ended = self.entity(end, depth=depth + 1, default="text/plain")
            body = Range(end, max(inner.body.end, end))
            return part_of(head, header, body, self._lines(ended, lines), message=inner), ended
        ended = self._next(end)
        body = Range(end, max(end, ended.start if ended else self._size))
        return part_of(head, header, body, self._lines(ended, lines)), ended

    def _lines(self, ended: _Delimiter | None, before: int) -> int:
        return max(0, (ended.lines if ended else self._newlines) - before)

    def _multipart(
        self, head: Head, header: Range, boundary: str, lines: int, depth: int
    ) -> tuple[Part, _Delimiter | None]:
        start = header.end
        level = len(self._open)
        self._open.append(_Open(_MARK + boundary.encode(), clear_to=max(start - 2, 0)))
        default = "message/rfc822" if head.subtype == "digest" else "text/plain"  # spec: RFC2046#5.1.5
        ended = self._next(start)
        preamble = Range(start, max(start, ended.start if ended else self._size))
        children: list[Part] = []
        while ended is not None and ended.level == level and not ended.closing:
            child, ended = self.entity(ended.after, depth=depth + 1, default=default)
            children.append(child)
        closed = ended is not None and ended.level == level
        epilogue: Range | None = None
        self._open.pop()
        if ended is not None and closed:
            after = ended.after
            ended = self._next(after)
            stop = ended.start if ended else self._size
            epilogue = Range(min(after, stop), stop)
        if not closed:
            head = head.with_defects("not-closed")
        if not children:
            head = head.with_defects("no-parts")
        body = Range(start, max(start, ended.start if ended else self._size))
        part = part_of(
            head, header, body, self._lines(ended, lines), boundary=boundary,
            children=tuple(children), preamble=preamble, epilogue=epilogue, closed=closed,
        )  # fmt: skip
        return part, ended

    def _header(self, start: int) -> tuple[int, bytes, _Delimiter | None]:
        """Return where the header ends (blank line included), its bytes, and the delimiter that cut it."""
        # a header and the delimiter that may cut it are looked at in one piece
        margin = BOUNDARY_MAX + PADDING_MAX + 12
        most = min(self._limits.header_bytes, READ_SIZE - margin - 2)
        if start + most + margin > self._base + len(self._data) and not self._ends_source():
            self._load(max(start - 2, 0))
        offset = start - self._base
        if self._data.startswith(b"\r\n", offset):
            end = offset + 2
        else:
            blank = self._data.find(b"\r\n\r\n", offset, offset + most + 4)
            end = blank + 4 if blank >= 0 else min(len(self._data), offset + most + 4)
            if blank < 0 and end < len(self._data) and not self._open:
                raise MimeLimitError("a header is too long")
        ended = None
        # nearly no header has a line that begins with two hyphens: only such a one can be a delimiter
        if self._open and self._data.find(_MARK, max(offset - 2, 0), end + 3) >= 0:
            ended = self._next(start, stop=self._base + end)
        if ended is not None:
            end = max(offset, ended.start - self._base)
        elif end - offset > most:
            raise MimeLimitError("a header is too long")
        else:
            self._count_to(self._base + end)
        self._header_bytes += end - offset
        if self._header_bytes > self._limits.all_header_bytes:
            raise MimeLimitError("too much header")
        return self._base + end, self._data[offset:end], ended


# --- sizes ------------------------------------------------------------------------------------


def decoded_size(source: ByteSource, part: Part) -> int:
    """Return the bytes of all bodies inside ``part`` after transfer decoding.

    This is what the 25 and 100 MB count (D15): headers, preambles and epilogues are left out, embedded
    messages are counted by their parts. Content is read in pieces, nothing is kept.
    """
    total = 0
    parts = [part]
    while parts:
        leaf = parts.pop()
        if leaf.children:
            parts += leaf.children
        elif leaf.message is not None:
            parts.append(leaf.message)
        elif leaf.encoding == "base64":
            total += _base64_size(source, leaf.body)
        elif leaf.encoding == "quoted-printable":
            total += _quoted_printable_size(source, leaf.body)
        else:
            total += leaf.body.length
    return total


def _base64_size(source: ByteSource, body: Range) -> int:
    other = 0
    for at in range(body.start, body.end, READ_SIZE):
        piece = source.read(at, min(READ_SIZE, body.end - at))
        other += len(piece.translate(None, _BASE64))
    return (body.length - other) * 3 // 4


def _quoted_printable_size(source: ByteSource, body: Range) -> int:
    total = 0
    at = body.start
    while at < body.end:
        piece = source.read(at, min(READ_SIZE, body.end - at))
        if not piece:
            break
        if at + len(piece) < body.end:  # cut behind a line, or at least outside an escape
            cut = piece.rfind(b"\n") + 1 or piece.rfind(b"=", len(piece) - 3)
            piece = piece[:cut] if cut > 0 else piece
        total += len(binascii.a2b_qp(piece))
        at += len(piece)
    return total
