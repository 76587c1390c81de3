"""Indefinite lengths around a signature, made definite before the strict reader sees them.

Mail programs write the frame of a SignedData as a stream: ContentInfo, SignedData, the encapsulated content
and their tags have indefinite lengths, an embedded content comes in pieces. No signature covers these octets.
Whatever inside has a definite length is copied as it stands, so attributes and certificates keep their
bytes, and what is not DER there is found by the reader afterwards. (spec: RFC5652#10, X.690 8.1.3.6)
"""

from typing import Final

from evidence.asn1.build import OCTET_STRING, tlv
from evidence.asn1.der import DerError, read

MAX_DEPTH: Final = 8
MAX_MEMBERS: Final = 100_000
"""Pieces of an embedded content, all levels together: 48 MiB in pieces of 512 octets."""

_INDEFINITE: Final = 0x80
_CONSTRUCTED: Final = 0x20
_END: Final = b"\x00\x00"


def is_indefinite(data: bytes) -> bool:
    """Say whether the outermost value is of indefinite length."""
    return len(data) > 1 and data[1] == _INDEFINITE


def definite(data: bytes, *, max_size: int) -> bytes:
    """Return the value with definite lengths wherever the frame had indefinite ones.

    Args:
        data: untrusted bytes, one value; nothing may follow it.
        max_size: refused when longer, octets.

    Raises:
        DerError: larger than the cap, malformed, nested too deeply, too many members, or trailing bytes.
    """
    if len(data) > max_size:
        raise DerError(f"larger than {max_size} octets")
    frame = _Frame(data)
    made, end = frame.value(0, 0)
    if end != len(data):
        raise DerError("trailing bytes")
    return made


class _Frame:
    """Reads one value; every octet is copied once a level, and levels are few."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._members = 0

    def value(self, start: int, depth: int) -> tuple[bytes, int]:
        """Return the value at ``start`` with definite lengths, and where it ends."""
        self._members += 1
        if depth > MAX_DEPTH or self._members > MAX_MEMBERS:
            raise DerError("nested too deeply or too many values")
        head = self._data[start : start + 2]
        if len(head) < 2 or head[1] != _INDEFINITE:
            node = read(self._data, start, len(self._data))
            return node.whole, node.end
        tag = head[0]
        if not tag & _CONSTRUCTED or tag & 0x1F == 0x1F:
            raise DerError("only constructed values may have an indefinite length")
        members, end = self._inside(start + 2, depth)
        if tag == OCTET_STRING | _CONSTRUCTED:
            return tlv(OCTET_STRING, *map(_piece, members)), end
        return tlv(tag, *members), end

    def _inside(self, at: int, depth: int) -> tuple[list[bytes], int]:
        members: list[bytes] = []
        while self._data[at : at + 2] != _END:
            member, at = self.value(at, depth + 1)
            members.append(member)
        return members, at + 2


def _piece(member: bytes) -> bytes:
    """Return the octets of one piece of an OCTET STRING."""
    node = read(member, 0, len(member))
    if node.tag != OCTET_STRING:
        raise DerError("a piece of an octet string is something else")
    return node.content
