"""The index of a message: its header block and its part tree, stored beside the content.

With it mail clients get envelopes, structures and any byte range without the content being scanned again.
Format: one version byte, the header's length (4 bytes, big-endian), the header as received, the tree as JSON.
"""

import struct
from dataclasses import dataclass
from typing import Final

from evidence.mail.mime import Part, from_json, to_json
from evidence.ports import ByteSource

_VERSION: Final = 1
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
    header = source.read(part.header.start, part.header.length)
    return _PREFIX.pack(_VERSION, len(header)) + header + to_json(part).encode("ascii")


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
        root = from_json(data[end:])
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
