"""One SingleResponse of an OCSP response, and OCSP extensions. Import `evidence.x509.revocation` instead.

(spec: RFC6960#4.2.1 and #4.4)
"""

from datetime import datetime
from hashlib import new as new_hash
from typing import Final

from evidence.asn1.der import (
    BOOLEAN,
    ENUMERATED,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    Cursor,
    DerError,
    Node,
    children,
    inside,
    parse,
    to_bool,
    to_int,
    to_octets,
    to_oid,
)
from evidence.x509.algorithms import UnknownAlgorithmError, digest_algorithm
from evidence.x509.answers import (
    REASONS,
    REMOVE_FROM_CRL,
    RevocationAnswer,
    RevocationError,
    RevocationSource,
    RevocationStatus,
    generalized,
)
from evidence.x509.certificates import CertificateFacts

NONCE: Final = "1.3.6.1.5.5.7.48.1.2"
ARCHIVE_CUTOFF: Final = "1.3.6.1.5.5.7.48.1.6"
EXTENDED_REVOKE: Final = "1.3.6.1.5.5.7.48.1.9"
"""Says that certificates never issued are told to be revoked: refused either way. (spec: RFC6960#4.4.8)"""

_PROCESSED: Final = frozenset({NONCE, ARCHIVE_CUTOFF, EXTENDED_REVOKE})
_MAX_SERIAL: Final = 64
_MEMBERS: Final = 5


def issuer_hashes(hash_name: str, issuer: CertificateFacts) -> tuple[bytes, bytes]:
    """Return the hashes of an issuer's name and key as a CertID holds them (spec: RFC6960#4.1.1)."""
    return new_hash(hash_name, issuer.subject).digest(), new_hash(hash_name, issuer.key_bits).digest()


class SingleResponse:
    """One SingleResponse: of which certificate it speaks is read at once, the rest when it is needed."""

    __slots__ = ("_hash", "_key", "_name", "_node", "serial")

    def __init__(self, node: Node) -> None:
        self._node = node
        cursor = Cursor(Cursor(node, limit=_MEMBERS).take(SEQUENCE), limit=4)
        self._hash = cursor.take(SEQUENCE)
        self._name, self._key = to_octets(cursor.take()), to_octets(cursor.take())
        self.serial = to_int(cursor.take(INTEGER), max_octets=_MAX_SERIAL)
        cursor.finish()

    def is_about(self, certificate: CertificateFacts, issuer: CertificateFacts) -> bool:
        """Say whether this is the certificate, by serial and by its issuer's name and key."""
        if self.serial != certificate.serial:
            return False
        try:
            return (self._name, self._key) == issuer_hashes(digest_algorithm(self._hash), issuer)
        except UnknownAlgorithmError:
            return False

    def answer(self, produced_at: datetime, der: bytes, responder: bytes | None) -> RevocationAnswer:
        """Return what it says.

        Args:
            produced_at: of the response.
            der: the response.
            responder: the certificate of the delegate that signed it, DER; None where the issuer did.

        Raises:
            DerError: malformed.
            RevocationError: a critical extension that is not processed.
        """
        body = Cursor(self._node, limit=_MEMBERS)
        body.take(SEQUENCE)
        status = body.take()
        this_update = generalized(body.take())
        until = body.optional(0xA0)
        next_update = generalized(inside(until)) if until is not None else None
        cutoff = read_extensions(body.optional(0xA1)).get(ARCHIVE_CUTOFF)
        body.finish()
        word, revoked_at, reason = _status(status)
        return RevocationAnswer(
            word,
            RevocationSource.OCSP,
            produced_at,
            this_update,
            next_update,
            der,
            revoked_at,
            reason,
            responder,
            generalized(parse(cutoff, max_size=64)) if cutoff is not None else None,
        )


def _status(node: Node) -> tuple[RevocationStatus, datetime | None, str | None]:
    """Return status, time of revocation and reason of a CertStatus."""
    if node.tag == 0x80 and not node.length:
        return RevocationStatus.GOOD, None, None
    if node.tag == 0x82 and not node.length:
        return RevocationStatus.UNKNOWN, None, None
    if node.tag != 0xA1:
        raise DerError("unknown certificate status")
    info = Cursor(node, limit=2, tag=0xA1)
    revoked_at = generalized(info.take())
    code = info.optional(0xA0)
    info.finish()
    reason = REASONS.get(inside(code, ENUMERATED).content, "unspecified") if code is not None else None
    if reason == REMOVE_FROM_CRL:
        raise DerError("removeFromCRL in a response")
    return RevocationStatus.REVOKED, revoked_at, reason


def read_extensions(tagged: Node | None) -> dict[str, bytes]:
    """Return OCSP extensions by OID, from the value of their explicit tag.

    Raises:
        DerError: malformed, or one comes twice.
        RevocationError: a critical one that is not processed (spec: RFC6960#4.4).
    """
    found: dict[str, bytes] = {}
    for extension in children(inside(tagged, SEQUENCE), limit=32) if tagged is not None else []:
        cursor = Cursor(extension, limit=3)
        kind = to_oid(cursor.take(OID))
        flag = cursor.optional(BOOLEAN)
        if kind in found:
            raise DerError(f"extension {kind} twice")
        found[kind] = cursor.take(OCTET_STRING).content
        cursor.finish()
        if flag is not None and to_bool(flag) and kind not in _PROCESSED:
            raise RevocationError(f"unknown critical OCSP extension {kind}")
    return found
