"""BINARY: a part without its content transfer encoding, piece by piece, so that no part is ever held whole.

spec: RFC3516, RFC2045#6
"""

from collections.abc import Iterator
from typing import Final

from evidence.mail.mime import Part, Range
from evidence.mail.transfer import decoded_pieces
from evidence.ports import ByteSource
from kephs.imap.commands import Section
from kephs.imap.sections import part_at
from kephs.ports import BlobMissingError

PIECE: Final = 512 * 1024  # encoded bytes read at once
_IDENTITY: Final = frozenset({"7bit", "8bit", "binary"})
_ENCODED: Final = frozenset({"base64", "quoted-printable"})


class UnknownEncodingError(ValueError):
    """A part has a content transfer encoding that is not known here."""


def encoded_part(root: Part, section: Section) -> tuple[Range, str] | None:
    """Return where a section's bytes lie and how they are encoded (empty: not), None where it does not exist.

    The whole message and parts that hold parts have no encoding of their own (RFC 2045 6.4): they are
    given as they are.

    Raises:
        UnknownEncodingError: the part cannot be decoded.
    """
    if not section.parts:
        return Range(root.header.start, root.body.end), ""
    part = part_at(root, section.parts)
    if part is None:
        return None
    if part.children or part.message is not None or part.encoding in _IDENTITY:
        return part.body, ""
    if part.encoding not in _ENCODED:
        raise UnknownEncodingError(part.encoding)
    return part.body, part.encoding


def decoded(source: ByteSource, where: Range, encoding: str) -> Iterator[bytes]:
    """Return a part's content in pieces. Reads block.

    Raises:
        BlobMissingError: content is gone or altered.
    """
    return decoded_pieces(_raw(source, where), encoding)


def decoded_size(source: ByteSource, where: Range, encoding: str) -> int:
    """Return how many bytes `decoded` yields. Reads block."""
    return sum(len(piece) for piece in decoded(source, where, encoding))


def window(pieces: Iterator[bytes], start: int, length: int) -> Iterator[bytes]:
    """Yield ``length`` bytes from ``start`` on, of what pieces hold together."""
    for piece in pieces:
        if start >= len(piece):
            start -= len(piece)
            yield b""  # a turn for others
            continue
        chosen = piece[start : start + length]
        start = 0
        length -= len(chosen)
        yield chosen
        if not length:
            return


def _raw(source: ByteSource, where: Range) -> Iterator[bytes]:
    for at in range(where.start, where.end, PIECE):
        length = min(PIECE, where.end - at)
        data = source.read(at, length)
        if len(data) != length:
            raise BlobMissingError("short read")
        yield data
