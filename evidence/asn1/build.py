"""Builders that emit DER, and the identifier octets. Import these names from `evidence.asn1.der`.

They concatenate bytes; constants are made once per key, the hot paths only join them.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OID: Final = 0x06
ENUMERATED: Final = 0x0A
UTF8_STRING: Final = 0x0C
PRINTABLE_STRING: Final = 0x13
T61_STRING: Final = 0x14
IA5_STRING: Final = 0x16
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
VISIBLE_STRING: Final = 0x1A
UNIVERSAL_STRING: Final = 0x1C
BMP_STRING: Final = 0x1E
SEQUENCE: Final = 0x30
SET: Final = 0x31
NULL_DER: Final = b"\x05\x00"


def tlv(tag: int, *parts: bytes) -> bytes:
    """Return one value with a minimal definite length around the joined parts."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    if size < 0x100:
        return b"%c\x81%c%b" % (tag, size, content)
    if size < 0x10000:
        return b"%c\x82%c%c%b" % (tag, size >> 8, size & 0xFF, content)
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def seq(*parts: bytes) -> bytes:
    """Return a SEQUENCE of the encoded parts."""
    return tlv(SEQUENCE, *parts)


def set_of(parts: Iterable[bytes]) -> bytes:
    """Return a SET OF the encoded parts, in DER order."""
    return tlv(SET, *sorted(parts))


def explicit(number: int, *parts: bytes) -> bytes:
    """Return a constructed context-specific value ``[number]``: explicit, or implicit SEQUENCE or SET."""
    return tlv(0xA0 | number, *parts)


def implicit(number: int, content: bytes) -> bytes:
    """Return a primitive context-specific value ``[number]`` with these content octets."""
    return tlv(0x80 | number, content)


@lru_cache(maxsize=256)  # a pure memo: the names are those of our own code and settings
def oid(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER from dotted text."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    out = bytearray()
    for arc in (first * 40 + second, *rest):
        octets = [arc & 0x7F]
        left = arc >> 7
        while left:
            octets.append(0x80 | left & 0x7F)
            left >>= 7
        out += bytes(reversed(octets))
    return tlv(OID, bytes(out))


def integer(value: int) -> bytes:
    """Return an INTEGER with the fewest octets."""
    magnitude = value if value >= 0 else ~value
    return tlv(INTEGER, value.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True))


def boolean(value: bool) -> bytes:  # noqa: FBT001 - the value itself is what is encoded
    """Return a BOOLEAN."""
    return b"\x01\x01\xff" if value else b"\x01\x01\x00"


def octets(content: bytes) -> bytes:
    """Return an OCTET STRING."""
    return tlv(OCTET_STRING, content)


def bits(content: bytes) -> bytes:
    """Return a BIT STRING without unused bits."""
    return tlv(BIT_STRING, b"\x00", content)


def utf8(text: str) -> bytes:
    """Return a UTF8String."""
    return tlv(UTF8_STRING, text.encode())


def ia5(text: str) -> bytes:
    """Return an IA5String."""
    return tlv(IA5_STRING, text.encode("ascii"))


def utctime(at: datetime) -> bytes:
    """Return a time as CMS and X.509 write it: UTCTime until 2049, GeneralizedTime after; whole seconds.

    spec: RFC5652#11.3

    Raises:
        ValueError: ``at`` is naive.
    """
    moment = _in_utc(at)
    if 1950 <= moment.year < 2050:
        return tlv(UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode("ascii"))
    return generalized_time(moment)


def generalized_time(at: datetime) -> bytes:
    """Return a GeneralizedTime in whole seconds, UTC."""
    return tlv(GENERALIZED_TIME, _in_utc(at).strftime("%Y%m%d%H%M%SZ").encode("ascii"))


def _in_utc(at: datetime) -> datetime:
    offset = at.utcoffset()
    if offset is None:
        raise ValueError("time must be aware")
    return at if offset == timedelta(0) else at.astimezone(UTC)
