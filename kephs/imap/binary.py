"""BINARY: a part without its content transfer encoding, piece by piece, so that no part is ever held whole.

spec: RFC3516, RFC2045#6
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

from evidence.mail.mime import Part, Range
from evidence.ports import ByteSource
from kephs.imap.commands import Section
from kephs.imap.sections import part_at
from kephs.ports import BlobMissingError

PIECE: Final = 512 * 1024  # encoded bytes read at once
_HELD_MAX: Final = 64 * 1024  # bytes of a line without end that are held for quoted-printable
_IDENTITY: Final = frozenset({"7bit", "8bit", "binary"})
_ENCODED: Final = frozenset({"base64", "quoted-printable"})
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/]+")
_SPLIT_ESCAPE: Final = re.compile(rb"=[0-9A-Fa-f]?\r?\Z")


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
    """Yield a part's content. Reads block.

    Raises:
        BlobMissingError: content is gone or altered.
    """
    feed = _base64_pieces if encoding == "base64" else _quoted_pieces
    yield from feed(_raw(source, where))


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


def _base64_pieces(raw: Iterator[bytes]) -> Iterator[bytes]:
    held = b""
    for data in raw:
        text, padding, _ = data.partition(b"=")
        held += _NOT_BASE64.sub(b"", text)
        if padding:
            break
        whole = len(held) & ~3
        yield base64.b64decode(held[:whole])
        held = held[whole:]
    held = held[: len(held) - (len(held) % 4 == 1)]  # six bits alone are no byte
    yield base64.b64decode(held + b"=" * (-len(held) % 4))


def _quoted_pieces(raw: Iterator[bytes]) -> Iterator[bytes]:
    held = b""
    for data in raw:
        held += data
        end = held.rfind(b"\n") + 1
        if not end and len(held) > _HELD_MAX:
            split = _SPLIT_ESCAPE.search(held, len(held) - 3)
            end = split.start() if split else len(held)
        yield binascii.a2b_qp(held[:end])
        held = held[end:]
    yield binascii.a2b_qp(held)
