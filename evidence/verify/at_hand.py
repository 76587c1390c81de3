"""Verification data that somebody kept: told apart by content, never by name.

OCSP responses, revocation lists, certificates, time stamps and evidence records, DER or PEM. All of it is
untrusted: each counts by its own signature alone, so what is sorted wrongly helps nobody and harms nobody.
"""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from evidence.asn1.der import ENUMERATED, OID, SEQUENCE, DerError, Node, children, parse
from evidence.x509.revocation import MAX_CRL

MAX_ITEM: Final = MAX_CRL
"""Octets of one file; revocation lists are the largest."""
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]+)-----END \1-----", re.ASCII)
_PEM_BLOCKS: Final = 1000
_PEM_BEGIN: Final = b"-----BEGIN "
HEAD: Final = 4096
"""Octets by which DER and PEM are told from anything else; text may stand before a PEM block."""
_SHORT: Final = 0x80
_VERSION_1: Final = b"\x02\x01\x01"
_CERTIFICATE_VERSION: Final = 0xA0


class Sort(StrEnum):
    """What an item is."""

    CERTIFICATE = "certificate"
    CRL = "crl"
    OCSP = "ocsp"
    RECORD = "evidence record"
    STAMP = "time stamp"  # a token or the response that carries it


@dataclass(frozen=True, slots=True)
class AtHand:
    """Items by sort, DER, each once, in the order they came; ``names``: where one came from, by SHA-256."""

    items: Mapping[Sort, tuple[bytes, ...]] = field(default_factory=lambda: MappingProxyType({}))
    names: Mapping[bytes, str] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, sort: Sort) -> tuple[bytes, ...]:
        """Return all items of a sort."""
        return self.items.get(sort, ())

    def name_of(self, der: bytes) -> str | None:
        """Return where an item came from, None where it is none of these."""
        return self.names.get(sha256(der).digest())


def gathered(contents: Iterable[tuple[str, bytes]]) -> AtHand:
    """Sort what is at hand; what is none of the sorts is left out.

    Args:
        contents: the name and content of each file.
    """
    items: dict[Sort, dict[bytes, None]] = {}
    names: dict[bytes, str] = {}
    for name, content in contents:
        for der in _unwrapped(content):
            sort = sort_of(der)
            if sort is not None:
                items.setdefault(sort, {})[der] = None
                names.setdefault(sha256(der).digest(), name)
    return AtHand({sort: tuple(found) for sort, found in items.items()}, names)


def joined(*several: AtHand) -> AtHand:
    """Return what several have, each item once."""
    items = {sort: tuple(dict.fromkeys(der for one in several for der in one.of(sort))) for sort in Sort}
    names: dict[bytes, str] = {}
    for one in reversed(several):
        names |= one.names
    return AtHand(items, names)


def from_pem(content: bytes) -> bytes | None:
    """Return the first PEM block of a file, DER, whatever its label; None where there is none."""
    match = _PEM.search(content)
    return None if match is None else _decoded(match[2])


def sort_of(der: bytes) -> Sort | None:
    """Say what an item is by its outermost structure, None where it is none of the sorts."""
    try:
        members = children(parse(der, max_size=MAX_ITEM, tag=SEQUENCE), limit=8)
        return _sort(members) if members else None
    except DerError:
        return None


def _sort(members: list[Node]) -> Sort | None:
    first = members[0]
    if first.tag == ENUMERATED:
        return Sort.OCSP
    if first.tag == OID:
        return Sort.STAMP
    if first.whole == _VERSION_1:
        return Sort.RECORD
    if first.tag != SEQUENCE:
        return None
    if len(members) == 3:  # certificate or list: content, algorithm, signature
        begins = children(first, limit=64)
        return Sort.CERTIFICATE if begins and begins[0].tag == _CERTIFICATE_VERSION else Sort.CRL
    return Sort.STAMP if len(members) == 2 else None


def is_der(head: bytes) -> bool:
    """Say whether octets begin as a DER SEQUENCE of more than 127 octets does: no text begins so."""
    return len(head) > 1 and head[0] == SEQUENCE and head[1] > _SHORT


def promising(head: bytes) -> bool:
    """Say whether a file that begins so can hold anything of use."""
    return is_der(head) or _PEM_BEGIN in head[:HEAD]


def _unwrapped(content: bytes) -> list[bytes]:
    if is_der(content) or not promising(content):
        return [content]
    found = []
    for number, match in enumerate(_PEM.finditer(content)):
        if number >= _PEM_BLOCKS:
            break
        der = _decoded(match[2])
        if der is not None:
            found.append(der)
    return found


def _decoded(text: bytes) -> bytes | None:
    try:
        return b64decode(b"".join(text.split()), validate=True)
    except (Base64Error, ValueError):
        return None
