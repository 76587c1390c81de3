"""What a MIME scan yields: parts with their places and what their headers declare.

Callers import these names from `evidence.mail.mime`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from evidence.mail.headers import Params, parameter, raw_text, structured, unfold

BOUNDARY_MAX: Final = 256  # spec: RFC2046#5.1.1 says 70; clients exceed it
_ONCE: Final = frozenset({"content-type", "content-transfer-encoding", "mime-version"})
IDENTITY: Final = frozenset({"7bit", "8bit", "binary"})
_NAME: Final = bytes(range(33, 127)).replace(b":", b"")  # spec: RFC5322#2.2
# possessive by construction: each piece begins with what the one before cannot hold
FIELD: Final = re.compile(rb"([!-9;-~]{1,256}):([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)(?:\r\n|\Z)")
_TEXTS: Final = frozenset({"content-id", "content-description", "content-location", "content-md5"})
_OF_THE_BODY: Final = ("content-", "mime-version")
_MEMO_MOST: Final = 512  # octets of a part's header
_new: Final = tuple.__new__  # a third of what the constructor of a NamedTuple costs


class MimeLimitError(ValueError):
    """The message has more structure than `ScanLimits` allows; it is refused, not cut."""


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """What a message may have: nesting, parts, bytes and fields of one header, header bytes in all."""

    depth: int = 32
    parts: int = 10_000
    header_bytes: int = 256 * 1024
    header_fields: int = 2_000
    all_header_bytes: int = 8 * 1024 * 1024


DEFAULT_LIMITS: Final = ScanLimits()


class Range(NamedTuple):
    """Bytes ``start`` to ``end`` (exclusive) of the scanned source."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Return the number of bytes."""
        return self.end - self.start


class HeaderField(NamedTuple):  # a tuple: a message has twenty, and frozen dataclasses are slow to make
    """One header field as received.

    ``name`` is lower-case ASCII, ``raw`` the bytes after the colon with their folding but without the
    final CRLF, ``range`` the whole field with name and final CRLF.
    """

    name: str
    raw_name: str
    raw: bytes
    range: Range


class Head(NamedTuple):
    """What one header declares; its fields as they stand in the source.

    Values that are not decoded here (`content_id`, `description`, ...) are unfolded text as sent, None
    where the field is missing. ``defects`` are stable words for what was tolerated, each once.
    """

    fields: tuple[HeaderField, ...]
    type: str
    subtype: str
    params: Params
    encoding: str
    content_id: str | None
    description: str | None
    disposition: str | None
    disposition_params: Params
    language: tuple[str, ...]
    location: str | None
    md5: str | None
    defects: tuple[str, ...]

    def boundary(self) -> str | None:
        """Return the boundary of a multipart, None where there is no usable one."""
        found = (parameter(self.params, "boundary") or "").rstrip(" \t")
        usable = found and len(found) <= BOUNDARY_MAX and found.isascii() and found.isprintable()
        return found if usable else None

    def with_defects(self, *more: str) -> "Head":
        """Return it with what was found out about it behind the header."""
        return self._replace(defects=(*self.defects, *more))


class Part(NamedTuple):  # as above; made by `part_of`, or by naming every member
    """One entity: where it lies, what its header declares (see `Head`) and what is inside.

    ``header`` includes the blank line, ``body`` excludes the CRLF of the delimiter that ends the part.
    ``lines`` counts the line ends inside the body. ``message`` is the root of
    an embedded message (its ranges refer to the same source); ``closed`` tells whether the closing
    delimiter of a multipart was seen. ``defects`` are stable words for what was tolerated.
    """

    header: Range
    body: Range
    lines: int
    fields: tuple[HeaderField, ...]
    type: str
    subtype: str
    params: Params
    encoding: str
    content_id: str | None = None
    description: str | None = None
    disposition: str | None = None
    disposition_params: Params = ()
    language: tuple[str, ...] = ()
    location: str | None = None
    md5: str | None = None
    defects: tuple[str, ...] = ()
    boundary: str | None = None
    children: tuple["Part", ...] = ()
    message: "Part | None" = None
    preamble: Range | None = None
    epilogue: Range | None = None
    closed: bool = False

    @property
    def whole(self) -> Range:
        """Return header and body together: what a signature over this part covers."""
        return Range(self.header.start, self.body.end)

    @property
    def content_type(self) -> str:
        """Return ``type/subtype``."""
        return f"{self.type}/{self.subtype}"

    @property
    def filename(self) -> str | None:
        """Return the decoded file name, from the disposition or the type's ``name``."""
        return parameter(self.disposition_params, "filename") or parameter(self.params, "name")

    def all(self, name: str) -> tuple[bytes, ...]:
        """Return the raw values of every field called ``name`` (lower-case)."""
        return tuple(found.raw for found in self.fields if found.name == name)

    def first(self, name: str) -> bytes | None:
        """Return the raw value of the first field called ``name`` (lower-case)."""
        return next((found.raw for found in self.fields if found.name == name), None)

    def walk(self) -> Iterator["Part"]:
        """Yield this part and everything inside it, embedded messages too, in order of appearance."""
        yield self
        for child in (*self.children, *((self.message,) if self.message else ())):
            yield from child.walk()


def part_of(
    head: Head,
    header: Range,
    body: Range,
    lines: int,
    *,
    message: Part | None = None,
    boundary: str | None = None,
    children: tuple[Part, ...] = (),
    preamble: Range | None = None,
    epilogue: Range | None = None,
    closed: bool = False,
) -> Part:
    """Return the part of which ``head`` is declared; what is not in it is as in `Part`."""
    return _new(Part, (header, body, lines, *head, boundary, children, message, preamble, epilogue, closed))


def read_head(block: bytes, start: int, default: str, most_fields: int) -> Head:
    """Read one header.

    Args:
        block: its bytes, with or without the blank line.
        start: where it begins in the source.
        default: the content type where none is declared.
        most_fields: the cap on fields and unreadable lines together.

    Raises:
        MimeLimitError: more than ``most_fields``.
    """
    reading = _Reading(default)
    fields: list[HeaderField] = []
    at = seen = 0
    end = len(block)
    while at < end:
        match = FIELD.match(block, at)
        if match is not None:  # nearly every line of nearly every header
            name, raw_name = _names(match[1])
            stop, raw = match.end(), match[2]
        else:
            stop = _line_end(block, at)
            if block.startswith(b"\r\n", at):
                break  # the blank line
            name, raw_name, raw = reading.odd_field(block[at:stop])
        if name:
            fields.append(_new(HeaderField, (name, raw_name, raw, _new(Range, (start + at, start + stop)))))
            if name.startswith(_OF_THE_BODY):
                reading.declare(name, raw)
        at = stop
        seen += 1
        if seen > most_fields:
            raise MimeLimitError("too many header fields")
    return reading.head(tuple(fields))


def read_part_head(block: bytes, start: int, default: str, most_fields: int) -> Head:
    """Read the header of a part inside another one, as `read_head` does.

    Mail programs write the same few of them into every letter: short ones come from a memo by their octets.

    Raises:
        MimeLimitError: more than ``most_fields``.
    """
    if len(block) > _MEMO_MOST:
        return read_head(block, start, default, most_fields)
    fields, *declared = _known_head(block, default, most_fields)
    shifted = [
        _new(HeaderField, (name, raw_name, raw, _new(Range, (start + begin, start + end))))
        for name, raw_name, raw, (begin, end) in fields
    ]
    return _new(Head, (tuple(shifted), *declared))


@lru_cache(maxsize=512)
def _known_head(block: bytes, default: str, most_fields: int) -> Head:
    return read_head(block, 0, default, most_fields)


class _Reading:
    """What a header declares of its body, gathered field by field."""

    __slots__ = (
        "_defects", "_disposition", "_disposition_params", "_encoding", "_language", "_once", "_params",
        "_subtype", "_texts", "_type",
    )  # fmt: skip

    def __init__(self, default: str) -> None:
        self._type, _, self._subtype = default.partition("/")
        self._params: Params = ()
        self._encoding = "7bit"
        self._texts: dict[str, str] = {}
        self._disposition: str | None = None
        self._disposition_params: Params = ()
        self._language: tuple[str, ...] = ()
        self._once: set[str] = set()
        self._defects: dict[str, None] = {}  # ordered, each once

    def head(self, fields: tuple[HeaderField, ...]) -> Head:
        """Return all that was gathered."""
        if self._type == "multipart" and self._encoding not in IDENTITY:
            self._defects["encoded-multipart"] = None
        text = self._texts.get
        return Head(
            fields, self._type, self._subtype, self._params, self._encoding,
            text("content-id"), text("content-description"), self._disposition, self._disposition_params,
            self._language, text("content-location"), text("content-md5"), tuple(self._defects),
        )  # fmt: skip

    def declare(self, name: str, raw: bytes) -> None:
        """Take in one field about the body; of fields that may stand once the first counts."""
        if name in _ONCE:
            if name in self._once:
                self._defects[f"duplicate-{name}"] = None
                return
            self._once.add(name)
        if name == "content-type":
            self._content_type(raw)
        elif name == "content-transfer-encoding":
            self._encoding = structured(raw)[0] or "7bit"
        elif name == "content-disposition":
            value, params, clean = structured(raw)
            self._disposition, self._disposition_params = value or None, params
            if not clean:
                self._defects["content-disposition"] = None
        elif name == "content-language":
            tags = (tag.strip() for tag in structured(raw)[0].split(","))
            self._language = tuple(tag for tag in tags if tag)
        elif name in _TEXTS:
            self._texts.setdefault(name, raw_text(unfold(raw)))

    def _content_type(self, raw: bytes) -> None:
        value, params, clean = structured(raw)
        kind, slash, subtype = value.partition("/")
        kind, subtype = kind.strip(), subtype.strip()
        if not clean:
            self._defects["content-type"] = None
        if slash and kind and subtype:
            self._type, self._subtype, self._params = kind, subtype, params
        else:  # spec: RFC2045#5.2 (what cannot be read is plain text)
            self._type, self._subtype, self._params = "text", "plain", ()
            self._defects["content-type"] = None

    def odd_field(self, whole: bytes) -> tuple[str, str, bytes]:
        """Return name and value of a line that is no plain field: an obsolete form, or ("", "", b"")."""
        name, colon, value = whole.partition(b":")
        bare = name.rstrip(b" \t")
        if not colon or not bare or bare.translate(None, _NAME):
            if whole.strip(b" \t\r\n"):
                self._defects["not-a-field"] = None
            return "", "", b""
        if bare != name:
            self._defects["blank-before-colon"] = None
        return *_names(bare), value.removesuffix(b"\r\n")


def _line_end(block: bytes, at: int) -> int:
    """Return where the field that begins at ``at`` ends, with its folded lines and CRLF."""
    while True:
        found = block.find(b"\r\n", at)
        if found < 0:
            return len(block)
        at = found + 2
        if block[at : at + 1] not in (b" ", b"\t"):
            return at


@lru_cache(maxsize=512)
def _names(raw: bytes) -> tuple[str, str]:
    text = raw.decode("ascii")
    return text.lower(), text
