"""MIME messages that we write: their octets, and where their parts lie, from one description.

All messages of a kind have one shape. It is described as entities with gaps and worked out once, as a
`Layout`; after that each message only fills the gaps. Nothing of ours needs to be scanned to know its parts:
the tree that a layout gives is exactly the one that `evidence.mail.mime.scan` reads from the octets (a test
compares them).
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final, NamedTuple

from evidence.mail.parts import DEFAULT_LIMITS, Range, part_of, read_head
from evidence.mail.tree import declared_text, fields_text, placed, row_text


class Gap(NamedTuple):
    """What is different in each message of a shape."""

    name: bytes


class Entity(NamedTuple):
    """A header with its blank line, and a body: octets and gaps, or other entities.

    An entity with parts has the boundary its header names; there is neither preamble nor epilogue.
    """

    head: bytes
    body: tuple[bytes | Gap, ...] = ()
    boundary: str = ""
    parts: tuple["Entity", ...] = ()


class Extent(NamedTuple):
    """What the tree says of any octets: how many, and how many line ends."""

    size: int
    lines: int

    @classmethod
    def of(cls, content: bytes) -> "Extent":
        """Measure octets."""
        return cls(len(content), content.count(b"\n"))


class Streamed(NamedTuple):
    """The message that is streamed in: its tree (`evidence.mail.tree`), its octets and its line ends."""

    tree: str
    size: int
    newlines: int


STREAMED: Final = Gap(b"streamed")
"""The body of a part that is a message itself and is streamed in."""
_HEADER: Final = Gap(b"header")  # the outer one
_SEED: Final = b"seed"


class _Point(NamedTuple):
    """A place in a shape: the gaps before it, and the octets and line ends beside them."""

    gaps: int
    size: int
    lines: int


class _Span(NamedTuple):
    """A distance in a shape: so much is known, the rest is in the gaps from ``first`` up to ``last``."""

    first: int
    last: int
    known: int
    in_lines: bool  # else in octets


class Layout(NamedTuple):
    """The shape of messages with two parts, of which the first one is signed.

    In its tree every number is a distance between two places, so once it is known which gaps lie between
    them, it is a constant and a difference of two sums.

    Attributes:
        before: the signed entity up to what is streamed in, or all of it; its gaps to be filled by ``%``.
        after: the signed entity from there on.
        gaps: what is to be filled in the whole message, in its order.
        tree: the part tree, to be filled by ``format`` with the distances in ``spans``.
        streamed_at: where the message streamed in begins, counted from its part.
    """

    before: bytes
    after: bytes
    gaps: tuple[bytes, ...]
    tree: str
    spans: tuple[_Span, ...]
    streamed_at: int

    @classmethod
    def of(cls, message: Entity, seed: str) -> "Layout":
        """Work out a shape.

        Args:
            message: as its header, that part of the outer one which declares the body.
            seed: stands for what is random in all boundaries; that of a message is as long.
        """
        before, after = _octets(message.parts[0], seed)
        survey = _Survey(seed)
        tree = survey.message(message)
        return cls(before, after, tuple(survey.gaps), tree, tuple(survey.spans), survey.streamed_at)

    def signed(self, seed: str, values: Mapping[bytes, bytes]) -> tuple[bytes, bytes]:
        """Return the signed entity before and after what is streamed in."""
        known = {**values, _SEED: seed.encode("ascii")}
        return self.before % known, self.after % known

    def places(
        self, header: bytes, seed: str, extents: Mapping[bytes, Extent], streamed: Streamed | None = None
    ) -> str:
        """Return the part tree of a message (`evidence.mail.tree`).

        Args:
            header: the outer one: nothing but well-formed fields, and its blank line.
            seed: what is random in the boundaries.
            extents: what is filled in, by gap.
            streamed: the message that is streamed in.
        """
        known = {**extents, _HEADER.name: Extent(len(header), 0)}
        message = ""
        if streamed is not None:
            known[STREAMED.name] = Extent(streamed.size, streamed.newlines)
            message = placed(streamed.tree, self.streamed_at)
        filled = [known[name] for name in self.gaps]
        sizes = list(accumulate([extent.size for extent in filled], initial=0))
        lines = list(accumulate([extent.lines for extent in filled], initial=0))
        numbers = [
            sure + (lines[last] - lines[first] if in_lines else sizes[last] - sizes[first])
            for first, last, sure, in_lines in self.spans
        ]
        return self.tree.format(*numbers, seed=seed, fields=fields_text(header), message=message)


def _octets(entity: Entity, seed: str) -> tuple[bytes, bytes]:
    pieces = list(_pieces(entity, seed))
    at = pieces.index(STREAMED) if STREAMED in pieces else len(pieces)
    before, after = (
        b"".join([b"%%(%b)b" % piece.name if isinstance(piece, Gap) else piece for piece in some])
        for some in (pieces[:at], pieces[at + 1 :])
    )
    return before, after


def _pieces(entity: Entity, seed: str) -> Iterator[bytes | Gap]:
    """Yield gaps and what stands between them, ready for ``%``."""
    head = _escaped(entity.head)
    if not entity.parts:
        yield head
        for piece in entity.body:
            yield piece if isinstance(piece, Gap) else _escaped(piece)
        return
    random, gap = seed.encode("ascii"), b"%%(%b)b" % _SEED
    yield head.replace(random, gap)
    mark = b"--" + entity.boundary.encode("ascii").replace(random, gap)
    delimiter = mark + b"\r\n"
    for part in entity.parts:
        yield delimiter
        yield from _pieces(part, seed)
        delimiter = b"\r\n" + mark + b"\r\n"
    yield b"\r\n" + mark + b"--\r\n"


def _escaped(piece: bytes) -> bytes:
    return piece.replace(b"%", b"%%")


class _Survey:
    """Goes through a message once and writes down where its parts lie, ready for ``format``."""

    def __init__(self, seed: str) -> None:
        self.gaps: list[bytes] = []
        self.spans: list[_Span] = []
        self.streamed_at = 0
        self._seed = seed
        self._at = _Point(0, 0, 0)

    def message(self, entity: Entity) -> str:
        """Return the tree of a whole message; the fields of its header are a gap."""
        start = self._at
        self._pass(_HEADER)
        return self._row(entity, start, start, f"{{fields}},{self._head(entity)[1]}")

    def _part(self, entity: Entity, around: _Point) -> str:
        start = self._at
        self._pass(entity.head)
        return self._row(entity, around, start, ",".join(self._head(entity)))

    def _row(self, entity: Entity, around: _Point, start: _Point, words: str) -> str:
        """Return the row of an entity whose header was passed."""
        body, message, edges = self._at, "null", ("null", "null")
        children = ",".join(self._parts(entity, start))
        for piece in entity.body:
            if piece == STREAMED:
                self.streamed_at, message = body.size - start.size, "{message}"
            self._pass(piece)
        end = self._at
        at, header, size = self._size(around, start), self._size(start, body), self._size(body, end)
        if entity.parts:
            last = self._size(start, end)
            edges = f"[{header},{header}]", f"[{last},{last}]"
        return row_text(
            at, header, size, self._lines(body, end), words, children=children, message=message,
            preamble=edges[0], epilogue=edges[1], closed=bool(entity.parts),
        )  # fmt: skip

    def _parts(self, entity: Entity, around: _Point) -> Iterator[str]:
        mark = b"--" + entity.boundary.encode("ascii")
        delimiter = mark + b"\r\n"
        for part in entity.parts:
            self._pass(delimiter)
            yield self._part(part, around)
            delimiter = b"\r\n" + mark + b"\r\n"
        if entity.parts:
            self._pass(b"\r\n" + mark + b"--\r\n")

    def _pass(self, piece: bytes | Gap) -> None:
        gaps, size, lines = self._at
        if isinstance(piece, Gap):
            self.gaps.append(piece.name)
            self._at = _Point(gaps + 1, size, lines)
        else:
            self._at = _Point(gaps, size + len(piece), lines + piece.count(b"\n"))

    def _size(self, first: _Point, last: _Point) -> str:
        return self._number(_Span(first.gaps, last.gaps, last.size - first.size, in_lines=False))

    def _lines(self, first: _Point, last: _Point) -> str:
        return self._number(_Span(first.gaps, last.gaps, last.lines - first.lines, in_lines=True))

    def _number(self, span: _Span) -> str:
        """Return a distance, or where it is to be filled in."""
        if span.first == span.last:
            return str(span.known)
        if span not in self.spans:
            self.spans.append(span)
        return f"{{{self.spans.index(span)}}}"

    def _head(self, entity: Entity) -> tuple[str, str]:
        """Return the fields of a header and what they declare."""
        block, size = entity.head, len(entity.head)
        head = read_head(block, 0, "text/plain", DEFAULT_LIMITS.header_fields)
        boundary = head.boundary() if head.type == "multipart" else None
        part = part_of(head, Range(0, size), Range(size, size), 0, boundary=boundary)
        fields, declared = (
            text.replace("{", "{{").replace("}", "}}") for text in (fields_text(block), declared_text(part))
        )
        if not entity.parts:
            return fields, declared
        return fields.replace(self._seed, "{seed}"), declared.replace(self._seed, "{seed}")
