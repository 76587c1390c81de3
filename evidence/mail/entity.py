"""MIME entities that we write: their octets, and where their parts lie, from one description.

Nothing of ours needs to be scanned to know its parts: what `octets` writes, `lay_out` finds without looking.
It gives exactly the tree that `evidence.mail.mime.scan` reads from those octets (a test compares them).
"""

from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple

from evidence.mail.parts import DEFAULT_LIMITS, Head, HeaderField, Part, Range, part_of, read_head

_HEADS_KEPT: Final = 256


class Entity(NamedTuple):
    """A header with its blank line, and a body: octets, other entities, or what is streamed in later (None).

    An entity with parts has the boundary its header names; there is neither preamble nor epilogue.
    """

    head: bytes
    body: bytes | None = b""
    boundary: str = ""
    parts: tuple["Entity", ...] = ()


class Streamed(NamedTuple):
    """The message that is streamed in: its tree as if it stood alone, its octets and the line ends in it."""

    root: Part
    size: int
    newlines: int


def octets(entity: Entity) -> tuple[bytes, bytes]:
    """Return what stands before and after the message that is streamed in; without one, all and nothing."""
    pieces: list[bytes | None] = []
    _write(entity, pieces)
    at = pieces.index(None) if None in pieces else len(pieces)
    return b"".join(filter(None, pieces[:at])), b"".join(filter(None, pieces[at:]))


def _write(entity: Entity, pieces: list[bytes | None]) -> None:
    pieces.append(entity.head)
    if not entity.parts:
        pieces.append(entity.body)
        return
    mark = b"--" + entity.boundary.encode("ascii")
    delimiter = mark + b"\r\n"
    for part in entity.parts:
        pieces.append(delimiter)
        _write(part, pieces)
        delimiter = b"\r\n" + mark + b"\r\n"
    pieces.append(b"\r\n" + mark + b"--\r\n")


def lay_out(entity: Entity, streamed: Streamed | None = None) -> Part:
    """Return the parts of a message written by `octets`, with ``streamed`` in its place."""
    part, _, _ = _place(entity, 0, streamed)
    return part


def _place(entity: Entity, at: int, streamed: Streamed | None) -> tuple[Part, int, int]:
    """Return an entity that begins at ``at``, where it ends, and the line ends in it."""
    start = at + len(entity.head)
    children: tuple[Part, ...] = ()
    message: Part | None = None
    if entity.parts:
        children, end, lines = _place_parts(entity, start, streamed)
    elif entity.body is not None:
        end, lines = start + len(entity.body), entity.body.count(b"\n")
    else:
        assert streamed is not None  # whoever describes a gap has what fills it
        end, lines = start + streamed.size, streamed.newlines
        message = moved(streamed.root, start)
    several = bool(children)
    head = _head(entity.head)
    part = part_of(
        head, Range(at, start), Range(start, end), lines, fields=_moved_fields(head.fields, at),
        message=message, boundary=entity.boundary if several else None, children=children,
        preamble=Range(start, start) if several else None, epilogue=Range(end, end) if several else None,
        closed=several,
    )  # fmt: skip
    return part, end, lines + entity.head.count(b"\n")


def _place_parts(entity: Entity, start: int, streamed: Streamed | None) -> tuple[tuple[Part, ...], int, int]:
    mark = len(entity.boundary) + 2
    children = []
    at, lines = start + mark + 2, 1
    for part in entity.parts:
        child, end, inside = _place(part, at, streamed)
        children.append(child)
        lines += inside + 2
        at = end + mark + 4
    return tuple(children), at + 2, lines  # the last delimiter has two hyphens more


@lru_cache(maxsize=_HEADS_KEPT)
def _head(block: bytes) -> Head:
    """Return what a header declares, as if it began at 0: most of ours come again with every message."""
    return read_head(block, 0, "text/plain", DEFAULT_LIMITS.header_fields)


def moved(part: Part, by: int) -> Part:
    """Return a tree as it lies in a source with so many octets before it."""
    return replace(
        part, header=_later(part.header, by), body=_later(part.body, by),
        fields=_moved_fields(part.fields, by),
        children=tuple(moved(child, by) for child in part.children),
        message=None if part.message is None else moved(part.message, by),
        preamble=None if part.preamble is None else _later(part.preamble, by),
        epilogue=None if part.epilogue is None else _later(part.epilogue, by),
    )  # fmt: skip


def _later(place: Range, by: int) -> Range:
    return Range(place.start + by, place.end + by)


def _moved_fields(fields: "list[HeaderField] | tuple[HeaderField, ...]", by: int) -> tuple[HeaderField, ...]:
    return tuple(
        HeaderField(name, raw_name, raw, Range(start + by, end + by))
        for name, raw_name, raw, (start, end) in fields
    )
