"""The index of a message: its header block and its part tree, stored beside the content.

With it mail clients get envelopes, structures and any byte range without the content being scanned again.
Format: one version byte, the header's length (4 bytes, big-endian), the header as received, the tree as JSON.
"""

import struct
from dataclasses import dataclass
from typing import Final

from evidence.mail.mime import Part
from evidence.mail.tree import read_tree, tree_text
from evidence.ports import ByteSource

_VERSION: Final = 2  # 1 counted every place from the begin of the message: its content is scanned instead
_PREFIX: Final = struct.Struct(">BI")


class MessageIndexError(ValueError):
    """The stored index is not one that `encode` wrote."""


@dataclass(frozen=True, slots=True)
class MessageIndex:
    """``header`` is the root's header block with its blank line; ``root`` the part tree (byte ranges)."""

    header: bytes
    root: Part


def encode(source: ByteSource, part: Part) -> bytes:
    """Return the index of a message.

    Args:
        source: the message; only its header block is read.
        part: what `evidence.mail.mime.scan` found in it.
    """
    return join(header_of(source, part), tree_text(part))


def header_of(source: ByteSource, part: Part) -> bytes:
    """Return the header block of a scanned message, with its blank line."""
    return source.read(part.header.start, part.header.length)


def join(header: bytes, tree: str) -> bytes:
    """Return the index of a message of which the header block and the tree's text are known."""
    return b"".join((_PREFIX.pack(_VERSION, len(header)), header, tree.encode("ascii")))


def decode_header(data: bytes) -> bytes:
    """Return the header block alone: much cheaper than the tree.

    Raises:
        MessageIndexError: the bytes are no index.
    """
    start, end = _bounds(data)
    return data[start:end]


def decode(data: bytes) -> MessageIndex:
    """Return the header block and the part tree.

    Raises:
        MessageIndexError: the bytes are no index.
    """
    start, end = _bounds(data)
    try:
        root = read_tree(data[end:])
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise MessageIndexError("part tree") from error
    return MessageIndex(data[start:end], root)


def _bounds(data: bytes) -> tuple[int, int]:
    if len(data) < _PREFIX.size:
        raise MessageIndexError("too short")
    version, length = _PREFIX.unpack_from(data)
    end = _PREFIX.size + length
    if version != _VERSION or end > len(data):
        raise MessageIndexError("version or length")
    return _PREFIX.size, end
