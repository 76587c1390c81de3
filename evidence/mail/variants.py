"""Which octets a detached signature may cover where a producer's line ends differ from what arrived.

A signature covers the first part exactly as it lies in the message. Three producers of the eyServis world
do otherwise (eyservis.md 6.1): one ends the signed octets with a CRLF of its own, one trims the line ends
first, one doubles dots at the beginning of lines, as SMTP does on the wire. Each of these, and nothing
else, is a `Variant`: looked at after the exact octets failed, and only where it changes nothing that a
reader sees: line ends after everything shown (`tail_is_unseen`), dots only where every line that begins
with one has it doubled, in text (`dots_may_double`). `as_signed` gives the form that verified. A provider
that delivers what it received takes `LINE_END_VARIANTS`; doubled dots would be seen.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from hashlib import new as new_hash
from types import MappingProxyType
from typing import Final, Protocol, Self

from evidence.mail.parts import IDENTITY, Part, Range
from evidence.ports import ByteSource

PIECE: Final = 512 * 1024
_TAIL: Final = 4096  # read first when looking for the last octet that is no line end
_CRLF: Final = b"\r\n"
_LINE_ENDS: Final = b"\r\n"
_DOUBLED: Final = b"\r\n.."
_SINGLE: Final = b"\r\n."
_PREFIXES: Final = (b"\r\n.", b"\r\n", b"\r")  # of a doubled dot, cut by the end of a piece


class Variant(StrEnum):
    """What was signed, told by what to do to the octets received. The order is the order of trying."""

    EXACT = "exact"
    FINAL_CRLF = "exact+crlf"
    TRIMMED_CRLF = "trimmed+crlf"
    UNDOTTED = "undotted"
    UNDOTTED_FINAL_CRLF = "undotted+crlf"
    UNDOTTED_TRIMMED_CRLF = "undotted+trimmed+crlf"


EXACT_ONLY: Final = (Variant.EXACT,)
LINE_END_VARIANTS: Final = (Variant.EXACT, Variant.FINAL_CRLF, Variant.TRIMMED_CRLF)
"""For a provider that delivers messages as received and not `as_signed`."""
PRODUCER_VARIANTS: Final = tuple(Variant)
"""What the three producers of eyservis.md 6.1 need."""

_WITH_DOTS: Final[Mapping[Variant, Variant]] = MappingProxyType(
    {
        Variant.EXACT: Variant.UNDOTTED,
        Variant.FINAL_CRLF: Variant.UNDOTTED_FINAL_CRLF,
        Variant.TRIMMED_CRLF: Variant.UNDOTTED_TRIMMED_CRLF,
    }
)
_UNDOTTED: Final = frozenset(_WITH_DOTS.values())
_TRIMMED: Final = frozenset({Variant.TRIMMED_CRLF, Variant.UNDOTTED_TRIMMED_CRLF})
_KEPT: Final = frozenset({Variant.EXACT, Variant.UNDOTTED})  # the line ends as received

Digests = dict[str, bytes]


class ShortSourceError(Exception):
    """The source ends before the signed part does."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def copy(self) -> Self: ...
    def digest(self) -> bytes: ...


def variant_digests(
    source: ByteSource, span: Range, part: Part | None, names: Iterable[str], allowed: Iterable[Variant]
) -> Iterator[tuple[Variant, Digests]]:
    """Yield each variant that may stand for the octets at ``span`` with its digests by hashlib name.

    The exact octets come first. One reading serves the variants of line ends, a second one those of dots;
    it is made only where the caller asks for more. What equals an earlier variant is left out.

    Args:
        source: the message.
        span: the signed part, header and body.
        part: the same as scanned. None: nothing is known of it, and only the exact octets count.
        names: hashlib names.
        allowed: which variants are tolerated; the exact one always is.

    Raises:
        ShortSourceError: the source ends inside ``span``.
    """
    listed = tuple(names)
    wanted = {Variant.EXACT} | (set(allowed) if part is not None else set())
    if part is None or not tail_is_unseen(part):
        wanted &= _KEPT
    seen: list[Digests] = []
    for variant, found in _both(source, span, part, listed, wanted):
        if found not in seen:
            seen.append(found)
            yield variant, found


def _both(
    source: ByteSource, span: Range, part: Part | None, names: tuple[str, ...], wanted: set[Variant]
) -> Iterator[tuple[Variant, Digests]]:
    end = _trimmed_end(source, span) if wanted & _TRIMMED else span.end
    head, tail = Range(span.start, end), Range(end, span.end)
    for variant, found in _line_ends(_pieces(source, head), _pieces(source, tail), names):
        if variant in wanted:
            yield variant, found
    if part is None or not wanted & _UNDOTTED or not dots_may_double(part):
        return
    dots = _Dots()
    # all at once: whether dots were doubled throughout is known at the end
    listed = tuple(_line_ends(dots.undone(_pieces(source, head)), _pieces(source, tail), names))
    if dots.doubled and dots.doubled == dots.lines:
        yield from ((_WITH_DOTS[plain], found) for plain, found in listed if _WITH_DOTS[plain] in wanted)


def _line_ends(
    head: Iterable[bytes], tail: Iterable[bytes], names: tuple[str, ...]
) -> Iterator[tuple[Variant, Digests]]:
    """Yield the three variants of line ends of ``head`` followed by ``tail``, which holds only line ends."""
    hashes: dict[str, _Hash] = {name: new_hash(name) for name in names}
    _feed(hashes, head)
    trimmed = {name: one.copy() for name, one in hashes.items()}
    _feed(hashes, tail)
    yield Variant.EXACT, _digests(hashes)
    _feed(hashes, (_CRLF,))
    yield Variant.FINAL_CRLF, _digests(hashes)
    _feed(trimmed, (_CRLF,))
    yield Variant.TRIMMED_CRLF, _digests(trimmed)


def _feed(hashes: Mapping[str, _Hash], pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        for one in hashes.values():
            one.update(piece)


def _digests(hashes: Mapping[str, _Hash]) -> Digests:
    return {name: one.digest() for name, one in hashes.items()}


def _pieces(source: ByteSource, span: Range) -> Iterator[bytes]:
    position, end = span
    while position < end:
        piece = source.read(position, min(PIECE, end - position))
        if not piece:
            raise ShortSourceError
        position += len(piece)
        yield piece


def _trimmed_end(source: ByteSource, span: Range) -> int:
    """Return where the line ends begin that ``span`` ends with, reading from behind."""
    end, step = span.end, _TAIL
    while end > span.start:
        at = max(span.start, end - step)
        kept = source.read(at, end - at).rstrip(_LINE_ENDS)
        if kept:
            return at + len(kept)
        end, step = at, PIECE
    return span.start


class _Dots:
    """Undoes doubled dots at the beginning of lines, and counts them.

    ``lines``: how many lines began with a dot; ``doubled``: how many of them with two.
    """

    def __init__(self) -> None:
        self.lines = self.doubled = 0

    def undone(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        held = b""
        for piece in pieces:
            data = held + piece
            held = next((cut for cut in _PREFIXES if data.endswith(cut)), b"")
            yield self._undo(data.removesuffix(held))
        yield self._undo(held)

    def _undo(self, data: bytes) -> bytes:
        self.lines += data.count(_SINGLE)
        self.doubled += data.count(_DOUBLED)
        return data.replace(_DOUBLED, _SINGLE)


# --------------------------------------------------------------------------- what a reader sees


def tail_is_unseen(part: Part) -> bool:
    """Say whether line ends more or less at the end of a part change nothing that a reader sees.

    They stand behind a closing delimiter, in base64, or at the end of text; at the end of any other file
    they would belong to it.
    """
    while True:
        if part.message is not None:
            part = part.message
        elif part.closed:
            return True
        elif part.children:
            part = part.children[-1]
        elif part.boundary is not None:
            return False  # a multipart without parts: no two readers agree on it
        else:
            return _is_text(part) or part.encoding == "base64"


def _is_text(part: Part) -> bool:
    """Say whether the part's lines are text, not octets of a file: "binary" is never lines."""
    return part.type == "text" and part.encoding in {"7bit", "8bit", "quoted-printable"}


def dots_may_double(part: Part) -> bool:
    """Say whether doubled dots can only stand in text: no other content has lines, no field begins so."""
    for one in part.walk():
        if any(found.raw_name.startswith(".") for found in one.fields):
            return False
        leaf = one.message is None and one.boundary is None
        if leaf and not _is_text(one) and one.encoding != "base64":
            return False
        if not leaf and one.encoding not in IDENTITY:
            return False
    return True


def as_signed(source: ByteSource, span: Range | None, variant: Variant) -> Iterator[bytes]:
    """Yield the message in the form that verified, so that any S/MIME program finds it intact.

    Args:
        source: the message as received.
        span: the signed part in it; None: an opaque signature, which has no variants.
        variant: the one that held.

    Raises:
        ShortSourceError: the source ends before its size.
    """
    if span is None or variant is Variant.EXACT:
        yield from _pieces(source, Range(0, source.size))
        return
    end = _trimmed_end(source, span) if variant in _TRIMMED else span.end
    body = _pieces(source, Range(span.start, end))
    yield from _pieces(source, Range(0, span.start))
    yield from _Dots().undone(body) if variant in _UNDOTTED else body
    if variant not in _KEPT:
        yield _CRLF
    yield from _pieces(source, Range(span.end, source.size))
