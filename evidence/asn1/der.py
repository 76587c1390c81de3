"""A small strict DER reader over bytes, and builders that emit DER.

The reader takes hostile input: single-byte tags, definite minimal lengths of at most four octets, no
trailing bytes, nothing read outside the enclosing value, callers never recurse deeper than their schema.
BER (indefinite lengths, padded lengths) is refused. (spec: signing.md 2.4 rule 1)

The builders come from `evidence.asn1.build`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from evidence.asn1.build import (
    BIT_STRING,
    BMP_STRING,
    BOOLEAN,
    ENUMERATED,
    GENERALIZED_TIME,
    IA5_STRING,
    INTEGER,
    NULL,
    NULL_DER,
    OCTET_STRING,
    OID,
    PRINTABLE_STRING,
    SEQUENCE,
    SET,
    T61_STRING,
    UNIVERSAL_STRING,
    UTC_TIME,
    UTF8_STRING,
    VISIBLE_STRING,
    bits,
    boolean,
    explicit,
    generalized_time,
    ia5,
    implicit,
    integer,
    octets,
    oid,
    seq,
    set_of,
    tlv,
    utctime,
    utf8,
)  # fmt: skip

__all__ = [
    "BIT_STRING", "BMP_STRING", "BOOLEAN", "ENUMERATED", "GENERALIZED_TIME", "IA5_STRING", "INTEGER",
    "MAX_CHILDREN", "MAX_OID_OCTETS", "NULL", "NULL_DER", "OCTET_STRING", "OID", "PRINTABLE_STRING",
    "SEQUENCE", "SET", "T61_STRING", "UNIVERSAL_STRING", "UTC_TIME", "UTF8_STRING", "VISIBLE_STRING",
    "Cursor", "DerError", "Node", "bits", "boolean", "children", "expect", "explicit", "generalized_time",
    "ia5", "implicit", "inside", "integer", "is_sorted_set", "octets", "oid", "oid_text", "parse", "read",
    "seq", "set_of", "tlv", "to_bits", "to_bool", "to_int", "to_named_bits", "to_octets", "to_oid",
    "to_text", "to_time", "utctime", "utf8", "walk",
]  # fmt: skip


MAX_CHILDREN: Final = 10_000
MAX_OID_OCTETS: Final = 64
_TIME_MAX: Final = 26
_TIMES: Final = frozenset({UTC_TIME, GENERALIZED_TIME})


class DerError(ValueError):
    """The bytes are not the strict DER that was asked for."""


class Node(NamedTuple):
    """One value inside ``data``: ``[start, end)`` is the whole TLV, ``[body, end)`` its content.

    A NamedTuple because thousands are made per second; a frozen dataclass costs three times as much.
    """

    data: bytes
    tag: int
    start: int
    body: int
    end: int

    @property
    def content(self) -> bytes:
        """Return the content octets."""
        return self.data[self.body : self.end]

    @property
    def whole(self) -> bytes:
        """Return the value with its tag and length."""
        return self.data[self.start : self.end]

    @property
    def length(self) -> int:
        """Return the number of content octets."""
        return self.end - self.body


# --------------------------------------------------------------------------- reading

_new: Final = tuple.__new__  # a third of what the constructor of a NamedTuple costs


def read(data: bytes, start: int, limit: int) -> Node:
    """Read the one value that begins at ``start`` and must end at or before ``limit``.

    Raises:
        DerError: truncated, high tag number, indefinite, padded or overlong length.
    """
    if limit - start < 2:
        raise DerError("value is cut short")
    tag = data[start]
    if tag & 0x1F == 0x1F:
        raise DerError("high tag numbers are not used here")
    size = data[start + 1]
    body = start + 2
    if size >= 0x80:
        octets = size & 0x7F
        if not 1 <= octets <= 4:
            raise DerError("indefinite or oversized length")
        if body + octets > limit:
            raise DerError("length is cut short")
        size = int.from_bytes(data[body : body + octets], "big")
        if size < 0x80 or data[body] == 0:
            raise DerError("length is not minimal")
        body += octets
    end = body + size
    if end > limit:
        raise DerError("value runs past its container")
    return Node(data, tag, start, body, end)


def parse(data: bytes, *, max_size: int, tag: int | None = None) -> Node:
    """Return the single value that ``data`` consists of.

    Args:
        data: untrusted bytes.
        max_size: refused when longer, octets.
        tag: the identifier octet it must have, if known.

    Raises:
        DerError: not strict DER, larger than the cap, or followed by trailing bytes.
    """
    if len(data) > max_size:
        raise DerError(f"larger than {max_size} octets")
    node = read(data, 0, len(data))
    if node.end != len(data):
        raise DerError("trailing bytes")
    return node if tag is None else expect(node, tag)


def expect(node: Node, tag: int) -> Node:
    """Return the node if it has this tag.

    Raises:
        DerError: another tag.
    """
    if node.tag != tag:
        raise DerError(f"expected tag 0x{tag:02x}, found 0x{node.tag:02x}")
    return node


def children(node: Node, *, limit: int = MAX_CHILDREN, tag: int | None = None) -> list[Node]:
    """Return the values inside a constructed value, in order.

    Args:
        node: the value.
        limit: how many members are read at most.
        tag: the identifier octet the value itself must have, if known.

    Raises:
        DerError: another tag, the value is primitive, malformed inside, or has more than ``limit`` members.
    """
    if tag is not None and node.tag != tag:
        raise DerError(f"expected tag 0x{tag:02x}, found 0x{node.tag:02x}")
    if not node.tag & 0x20:
        raise DerError("value is not constructed")
    found: list[Node] = []
    data, _, _, position, end = node
    room = limit
    while position < end:
        if not room:
            raise DerError(f"more than {limit} members")
        room -= 1
        if end - position < 4 or data[position] & 0x1F == 0x1F:
            child = read(data, position, end)
        else:  # the usual lengths, read without a call: thousands of values are read per second
            size, body = data[position + 1], position + 2
            if size == 0x82 and data[body]:
                size, body = data[body] << 8 | data[body + 1], body + 2
            elif size == 0x81 and data[body] >= 0x80:
                size, body = data[body], body + 1
            elif size >= 0x80:
                size, body = end, end  # `read` says what is wrong, or takes a length of three octets
            after = body + size
            if after > end:
                child = read(data, position, end)
            else:
                child = _new(Node, (data, data[position], position, body, after))
        found.append(child)
        position = child[4]
    return found


def inside(node: Node, tag: int | None = None) -> Node:
    """Return the only value inside an explicit tag, or a SET or SEQUENCE of exactly one member.

    Raises:
        DerError: none or several values, or another tag than ``tag``.
    """
    members = children(node, limit=2)
    if len(members) != 1:
        raise DerError("expected exactly one value")
    return members[0] if tag is None else expect(members[0], tag)


class Cursor:
    """Walks the members of a SEQUENCE (or a value of another ``tag``) by schema, each taken exactly once."""

    __slots__ = ("_index", "_members")

    def __init__(self, node: Node, *, limit: int = MAX_CHILDREN, tag: int = SEQUENCE) -> None:
        self._members = children(node, limit=limit, tag=tag)
        self._index = 0

    def take(self, tag: int | None = None) -> Node:
        """Return the next member, which must exist and have this tag."""
        if self._index >= len(self._members):
            raise DerError("a mandatory member is missing")
        node = self._members[self._index]
        if tag is not None and node.tag != tag:
            raise DerError(f"expected tag 0x{tag:02x}, found 0x{node.tag:02x}")
        self._index += 1
        return node

    def optional(self, tag: int) -> Node | None:
        """Return the next member if it has this tag, else leave it."""
        if self._index < len(self._members) and self._members[self._index].tag == tag:
            self._index += 1
            return self._members[self._index - 1]
        return None

    def rest(self) -> list[Node]:
        """Return all members not taken yet."""
        left = self._members[self._index :]
        self._index = len(self._members)
        return left

    def finish(self) -> None:
        """Refuse members that the schema does not know."""
        if self._index != len(self._members):
            raise DerError(f"unexpected member with tag 0x{self._members[self._index].tag:02x}")


def walk(node: Node, *, max_depth: int = 24, max_nodes: int = 100_000) -> Iterator[tuple[int, Node]]:
    """Yield (depth, node) for every value inside, depth first, without recursion.

    Raises:
        DerError: malformed anywhere, deeper than ``max_depth`` or more values than ``max_nodes``.
    """
    stack = [(0, node)]
    seen = 0
    while stack:
        depth, current = stack.pop()
        seen += 1
        if depth > max_depth or seen > max_nodes:
            raise DerError("nested too deeply or too many values")
        yield depth, current
        if current.tag & 0x20:
            stack.extend((depth + 1, child) for child in reversed(children(current, limit=max_nodes)))


def is_sorted_set(members: list[Node]) -> bool:
    """Say whether the members of a SET OF stand in DER order (ascending encodings)."""
    encoded = [member.whole for member in members]
    return all(left <= right for left, right in pairwise(encoded))


# --------------------------------------------------------------------------- primitive values


def to_oid(node: Node) -> str:
    """Return an OBJECT IDENTIFIER as dotted text.

    Raises:
        DerError: another type, padded or cut arcs, or more than 64 octets.
    """
    if node.tag != OID or node.end - node.body > MAX_OID_OCTETS:
        raise DerError("expected an object identifier")
    return oid_text(node.data[node.body : node.end])


@lru_cache(maxsize=1024)  # a pure memo: signatures name the same dozen over and over
def oid_text(content: bytes) -> str:
    """Return the content octets of an OBJECT IDENTIFIER as dotted text.

    Raises:
        DerError: padded or cut arcs, or more than 64 octets.
    """
    if not content or len(content) > MAX_OID_OCTETS or content[-1] & 0x80:
        raise DerError("malformed object identifier")
    arcs: list[int] = []
    value = 0
    fresh = True
    for octet in content:
        if fresh and octet == 0x80:
            raise DerError("padded object identifier arc")
        value = value << 7 | octet & 0x7F
        fresh = not octet & 0x80
        if fresh:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def to_int(node: Node, *, max_octets: int = 1024) -> int:
    """Return an INTEGER.

    Raises:
        DerError: another type, empty, padded, or longer than ``max_octets``.
    """
    if node.tag != INTEGER:
        raise DerError("expected an integer")
    content = node.content
    if not 1 <= len(content) <= max_octets:
        raise DerError("integer is empty or too long")
    if len(content) > 1 and (
        (content[0] == 0 and content[1] < 0x80) or (content[0] == 0xFF and content[1] >= 0x80)
    ):
        raise DerError("integer is not minimal")
    return int.from_bytes(content, "big", signed=True)


def to_bool(node: Node) -> bool:
    """Return a BOOLEAN; DER knows only 0x00 and 0xFF."""
    if node.tag != BOOLEAN or node.content not in {b"\x00", b"\xff"}:
        raise DerError("malformed boolean")
    return node.content == b"\xff"


def to_octets(node: Node) -> bytes:
    """Return the content of a primitive OCTET STRING."""
    return expect(node, OCTET_STRING).content


def to_bits(node: Node) -> bytes:
    """Return the octets of a BIT STRING that has no unused bits."""
    content = expect(node, BIT_STRING).content
    if not content or content[0] != 0:
        raise DerError("bit string with unused bits")
    return content[1:]


def to_named_bits(node: Node) -> frozenset[int]:
    """Return the numbers of the bits set in a named-bit list (KeyUsage, ReasonFlags)."""
    content = expect(node, BIT_STRING).content
    if not content or content[0] > 7 or (content[0] and len(content) == 1) or len(content) > 9:
        raise DerError("malformed bit string")
    unused, octets = content[0], content[1:]
    if octets and octets[-1] & ((1 << unused) - 1):
        raise DerError("unused bits are set")
    return frozenset(
        8 * index + bit for index, octet in enumerate(octets) for bit in range(8) if octet & (0x80 >> bit)
    )


_TEXT_CODECS: Final = {
    UTF8_STRING: "utf-8",
    PRINTABLE_STRING: "ascii",
    IA5_STRING: "ascii",
    VISIBLE_STRING: "ascii",
    0x12: "ascii",
    T61_STRING: "latin-1",
    BMP_STRING: "utf-16-be",
    UNIVERSAL_STRING: "utf-32-be",
}


def to_text(node: Node) -> str:
    """Return any of the ASN.1 character strings as text.

    Raises:
        DerError: not a character string, or bytes outside its alphabet.
    """
    codec = _TEXT_CODECS.get(node.tag)
    if codec is None:
        raise DerError(f"tag 0x{node.tag:02x} is not a character string")
    try:
        return node.content.decode(codec)
    except UnicodeDecodeError as error:
        raise DerError("character string is not in its alphabet") from error


def to_time(node: Node) -> datetime:
    """Return UTCTime or GeneralizedTime as an aware UTC datetime.

    Seconds are mandatory and the zone is ``Z``; GeneralizedTime may carry a fraction, which some time
    stamps and OCSP answers do. (spec: RFC5280#4.1.2.5)

    Raises:
        DerError: another type or form.
    """
    if node.tag not in _TIMES:
        raise DerError("expected a time")
    if node.end - node.body > _TIME_MAX:
        raise DerError("malformed time")
    return _moment(node.tag, node.data[node.body : node.end])


@lru_cache(maxsize=1024)  # a pure memo: time stamps of one second say the same, certificates always do
def _moment(tag: int, content: bytes) -> datetime:
    if tag == UTC_TIME:
        if len(content) != 13:
            raise DerError("malformed UTCTime")
        century = b"19" if content[:2] >= b"50" else b"20"
        content = century + content
    if len(content) < 15 or content[-1:] != b"Z" or not content[:14].isdigit():
        raise DerError("malformed time")
    micro = 0
    if len(content) > 15:
        fraction = content[15:-1]
        if content[14:15] != b"." or not fraction.isdigit() or fraction[-1:] == b"0":
            raise DerError("malformed fraction of a second")
        micro = int(fraction[:6].ljust(6, b"0"))
    text = content[:14].decode("ascii")
    parts = (
        int(text[:4]),
        int(text[4:6]),
        int(text[6:8]),
        int(text[8:10]),
        int(text[10:12]),
        int(text[12:14]),
    )
    try:
        return datetime(*parts, micro, tzinfo=UTC)
    except ValueError as error:
        raise DerError("no such time") from error
