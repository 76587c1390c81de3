"""The trusted certificates as a server hands them to its signer when it starts it.

The signer opens no database, and a file it would read could be put there by anybody who may write the folder;
so they come over the socket that the two share, before anything else::

    "kephs-trust-1" 00 | roots u16 | intermediates u16 | (length u32 | DER)*     all integers big-endian
"""

import socket
from struct import Struct
from typing import Final

from evidence.x509.certificates import CertificateError
from evidence.x509.chain import TrustStore

MAGIC: Final = b"kephs-trust-1\x00"
_HEAD: Final = Struct(">HH")
_LENGTH: Final = Struct(">I")
_LARGEST: Final = 1 << 20


class TrustWireError(Exception):
    """What came is no list of certificates."""


def pack_trust(trust: TrustStore) -> bytes:
    """Return roots and intermediates as the signer reads them."""
    roots, others = trust.roots, trust.intermediates
    packed = [MAGIC, _HEAD.pack(len(roots), len(others))]
    for facts in (*roots, *others):
        packed += [_LENGTH.pack(len(facts.der)), facts.der]
    return b"".join(packed)


def receive_trust(connected: socket.socket) -> TrustStore:
    """Read the trusted certificates from a socket that blocks; not one octet more is taken.

    Raises:
        TrustWireError: the other side is gone, or sends something else.
    """
    if _exactly(connected, len(MAGIC)) != MAGIC:
        raise TrustWireError("the parent's list of trusted certificates has another form")
    roots, others = _HEAD.unpack(_exactly(connected, _HEAD.size))
    certificates = [_certificate(connected) for _ in range(roots + others)]
    try:
        return TrustStore(certificates[:roots], intermediates=certificates[roots:])
    except CertificateError as error:
        raise TrustWireError(f"a trusted certificate cannot be read: {error}") from None


def _certificate(connected: socket.socket) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(connected, _LENGTH.size))
    if not 0 < length <= _LARGEST:
        raise TrustWireError("a trusted certificate is too large")
    return _exactly(connected, length)


def _exactly(connected: socket.socket, length: int) -> bytes:
    found = bytearray()
    while len(found) < length:
        try:
            piece = connected.recv(length - len(found))
        except OSError as error:
            raise TrustWireError(f"the parent cannot be heard: {error}") from None
        if not piece:
            raise TrustWireError("the parent is gone")
        found += piece
    return bytes(found)
