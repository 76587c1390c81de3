"""What a MIME scan yields: parts with their places and what their headers declare.

Callers import these names from `evidence.mail.mime`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from evidence.mail.headers import Params, parameter, raw_text, structured, unfold

BOUNDARY_MAX: Final = 256  # spec: RFC2046#5.1.1 says 70; clients exceed it
_ONCE: Final = frozenset({"content-type", "content-transfer-encoding", "mime-version"})
IDENTITY: Final = frozenset({"7bit", "8bit", "binary"})
_NAME: Final = bytes(range(33, 127)).replace(b":", b"")  # spec: RFC5322#2.2
# possessive by construction: each piece begins with what the one before cannot hold
FIELD: Final = re.compile(rb"([!-9;-~]{1,256}):([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)(?:\r\n|\Z)")
_TEXTS: Final = {
    "content-id": "content_id",
    "content-description": "description",
    "content-location": "location",
    "content-md5": "md5",
}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One entity: where it lies and what its header declares.

    ``header`` includes the blank line, ``body`` excludes the CRLF of the delimiter that ends the part.
    Values that are not decoded here (`content_id`, `description`, ...) are unfolded text as sent, None
    where the field is missing. ``lines`` counts the line ends inside the body. ``message`` is the root of
    an embedded message (its ranges refer to the same source); ``closed`` tells whether the closing
    delimiter of a multipart was seen. ``defects`` are stable words for what was tolerated.
    """

    header: Range
    body: Range
    fields: tuple[HeaderField, ...]
    type: str
    subtype: str
    params: Params
    encoding: str
    lines: int
    content_id: str | None = None
    description: str | None = None
    disposition: str | None = None
    disposition_params: Params = ()
    language: tuple[str, ...] = ()
    location: str | None = None
    md5: str | None = None
    boundary: str | None = None
    children: tuple["Part", ...] = ()
    message: "Part | None" = None
    preamble: Range | None = None
    epilogue: Range | None = None
    closed: bool = False
    defects: tuple[str, ...] = ()

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


@dataclass(slots=True)
class Head:
    """What one header declares, gathered while its fields are read."""

    type: str
    subtype: str
    params: Params = ()
    encoding: str = "7bit"
    texts: dict[str, str] = field(default_factory=dict)
    disposition: str | None = None
    disposition_params: Params = ()
    language: tuple[str, ...] = ()
    fields: list[HeaderField] = field(default_factory=list)
    defects: dict[str, None] = field(default_factory=dict)  # ordered, each once

    def add(self, one: HeaderField) -> None:
        """Take one field in; of fields that may stand once the first counts."""
        name = one.name
        self.fields.append(one)
        if not name.startswith(("content-", "mime-version")):
            return
        if name in _ONCE and any(earlier.name == name for earlier in self.fields[:-1]):
            self.defects[f"duplicate-{name}"] = None
        elif name == "content-type":
            self._content_type(one.raw)
        elif name == "content-transfer-encoding":
            self.encoding = structured(one.raw)[0] or "7bit"
        elif name == "content-disposition":
            value, params, clean = structured(one.raw)
            self.disposition, self.disposition_params = value or None, params
            if not clean:
                self.defects["content-disposition"] = None
        elif name == "content-language":
            tags = (tag.strip() for tag in structured(one.raw)[0].split(","))
            self.language = tuple(tag for tag in tags if tag)
        elif name in _TEXTS:
            self.texts.setdefault(_TEXTS[name], raw_text(unfold(one.raw)))

    def _content_type(self, raw: bytes) -> None:
        value, params, clean = structured(raw)
        kind, slash, subtype = (word.strip() for word in value.partition("/"))
        if not clean:
            self.defects["content-type"] = None
        if slash and kind and subtype:
            self.type, self.subtype, self.params = kind, subtype, params
        else:  # spec: RFC2045#5.2 (what cannot be read is plain text)
            self.type, self.subtype, self.params = "text", "plain", ()
            self.defects["content-type"] = None

    def boundary(self) -> str | None:
        """Return a usable boundary, or None with the reason among the defects."""
        found = (parameter(self.params, "boundary") or "").rstrip(" \t")
        if found and len(found) <= BOUNDARY_MAX and found.isascii() and found.isprintable():
            return found
        self.defects["boundary"] = None
        return None


def part_of(
    head: Head,
    header: Range,
    body: Range,
    lines: int,
    *,
    fields: Sequence[HeaderField] | None = None,
    message: Part | None = None,
    boundary: str | None = None,
    children: tuple[Part, ...] = (),
    preamble: Range | None = None,
    epilogue: Range | None = None,
    closed: bool = False,
) -> Part:
    """Return the part of which ``head`` is declared; what is not in it is as in `Part`.

    ``fields`` are the header's own where they lie elsewhere than ``head`` has them.
    """
    return Part(
        header=header, body=body, fields=tuple(head.fields if fields is None else fields),
        type=head.type, subtype=head.subtype,
        params=head.params, encoding=head.encoding, lines=lines,
        content_id=head.texts.get("content_id"), description=head.texts.get("description"),
        disposition=head.disposition, disposition_params=head.disposition_params, language=head.language,
        location=head.texts.get("location"), md5=head.texts.get("md5"), boundary=boundary,
        children=children, message=message, preamble=preamble, epilogue=epilogue, closed=closed,
        defects=tuple(head.defects),
    )  # fmt: skip


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
    kind, _, subtype = default.partition("/")
    head = Head(kind, subtype)
    at = seen = 0
    end = len(block)
    while at < end:
        match = FIELD.match(block, at)
        if match is not None:  # nearly every line of nearly every header
            name, raw_name = _names(match[1])
            stop = match.end()
            head.add(HeaderField(name, raw_name, match[2], Range(start + at, start + stop)))
        else:
            stop = _line_end(block, at)
            if block.startswith(b"\r\n", at):
                break  # the blank line
            _odd_field(head, block[at:stop], start + at)
        at = stop
        seen += 1
        if seen > most_fields:
            raise MimeLimitError("too many header fields")
    if head.type == "multipart" and head.encoding not in IDENTITY:
        head.defects["encoded-multipart"] = None
    return head


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


def _odd_field(head: Head, whole: bytes, start: int) -> None:
    """Take in a line that is no plain field: an obsolete form, or no field at all."""
    name, colon, value = whole.partition(b":")
    bare = name.rstrip(b" \t")
    if not colon or not bare or bare.translate(None, _NAME):
        if whole.strip(b" \t\r\n"):
            head.defects["not-a-field"] = None
        return
    if bare != name:
        head.defects["blank-before-colon"] = None
    value = value.removesuffix(b"\r\n")
    head.add(HeaderField(*_names(bare), value, Range(start, start + len(whole))))
