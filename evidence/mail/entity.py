"""MIME entities that we write: their octets, and where their parts lie, from one description.

Nothing of ours needs to be scanned to know its parts: what `octets` writes, `tree` finds without looking.
It gives exactly the tree that `evidence.mail.mime.scan` reads from those octets (a test compares them).
"""

from functools import lru_cache
from typing import Final, NamedTuple

from evidence.mail.parts import DEFAULT_LIMITS, Range, part_of, read_head
from evidence.mail.tree import declared_text, fields_text, placed, row_text

_HEADS_KEPT: Final = 256
_DECLARING: Final = b"Content-Type:"


class Entity(NamedTuple):
    """A header with its blank line, and a body: octets, other entities, or what is streamed in later (None).

    An entity with parts has the boundary its header names; there is neither preamble nor epilogue.
    """

    head: bytes
    body: bytes | None = b""
    boundary: str = ""
    parts: tuple["Entity", ...] = ()


class Streamed(NamedTuple):
    """The message that is streamed in: its tree (`evidence.mail.tree`), its octets and its line ends."""

    tree: str
    size: int
    newlines: int


class _Head(NamedTuple):
    """A header in the words of the tree: its fields, what they declare; and the line ends in it."""

    fields: str
    declared: str
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


def tree(entity: Entity, streamed: Streamed | None = None) -> str:
    """Return the part tree of a message written by `octets`, with ``streamed`` in its place."""
    text, _, _ = _place(entity, _outer(entity), 0, streamed)
    return text


def _place(entity: Entity, head: _Head, at: int, streamed: Streamed | None) -> tuple[str, int, int]:
    """Return the tree of an entity that begins at ``at``, its size, and the line ends in it."""
    start = len(entity.head)
    words = f"{head.fields},{head.declared}"
    if entity.parts:
        inside, size, lines = _place_parts(entity, start, streamed)
        end = start + size
        text = row_text(
            at, start, size, lines, words, children=inside,
            preamble=f"[{start},{start}]", epilogue=f"[{end},{end}]", closed=True,
        )  # fmt: skip
    elif entity.body is not None:
        size, lines = len(entity.body), entity.body.count(b"\n")
        text = row_text(at, start, size, lines, words)
    else:
        assert streamed is not None  # whoever describes a gap has what fills it
        size, lines = streamed.size, streamed.newlines
        text = row_text(at, start, size, lines, words, message=placed(streamed.tree, start))
    return text, start + size, lines + head.newlines


def _place_parts(entity: Entity, start: int, streamed: Streamed | None) -> tuple[str, int, int]:
    mark = len(entity.boundary) + 2
    rows = []
    at, lines = start + mark + 2, 1
    for part in entity.parts:
        text, size, inside = _place(part, _inner(part.head, part.boundary), at, streamed)
        rows.append(text)
        lines += inside + 2
        at += size + mark + 4
    return ",".join(rows), at + 2 - start, lines  # the last delimiter has two hyphens more


def _outer(entity: Entity) -> _Head:
    """Return the header of a whole message: what comes again is what stands from Content-Type on."""
    block = entity.head
    declaring = block[max(block.find(_DECLARING), 0) :]
    return _Head(fields_text(block), _inner(declaring, entity.boundary).declared, block.count(b"\n"))


def _inner(block: bytes, boundary: str) -> _Head:
    """Return the header of a part: but for their boundaries all of ours come again and again."""
    if not boundary:
        return _read(block)
    any_boundary = "?" * len(boundary)
    fields, declared, newlines = _read(block.replace(boundary.encode("ascii"), any_boundary.encode("ascii")))
    return _Head(
        fields.replace(any_boundary, boundary), declared.replace(any_boundary, boundary), newlines
    )  # fmt: skip


@lru_cache(maxsize=_HEADS_KEPT)
def _read(block: bytes) -> _Head:
    head = read_head(block, 0, "text/plain", DEFAULT_LIMITS.header_fields)
    size = len(block)
    boundary = head.boundary() if head.type == "multipart" else None
    part = part_of(head, Range(0, size), Range(size, size), 0, boundary=boundary)
    return _Head(fields_text(block), declared_text(part), block.count(b"\n"))
