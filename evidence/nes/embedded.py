"""Certificates, revocation data and references that a signature carries: read, not judged.

Unsigned attributes of CAdES-C, -X and -XL, entries of ``SignedData.crls``, certificates of time stamps.
(syntax: RFC 5126 6.2 and 6.3; explicit tags)
"""

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from hashlib import new as new_hash
from typing import Final, NamedTuple

from evidence.asn1.der import (
    ENUMERATED,
    GENERALIZED_TIME,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    Cursor,
    DerError,
    Node,
    children,
    explicit,
    inside,
    octets,
    oid,
    parse,
    seq,
    tlv,
    to_int,
    to_octets,
    to_oid,
    to_time,
)
from evidence.cms.signed_data import SignedData, SignerInfo
from evidence.nes.model import Embedded
from evidence.x509.algorithms import UnknownAlgorithmError, digest_algorithm
from evidence.x509.certificates import CertificateFacts

CERTIFICATE_REFS: Final = "1.2.840.113549.1.9.16.2.21"
REVOCATION_REFS: Final = "1.2.840.113549.1.9.16.2.22"
CERTIFICATE_VALUES: Final = "1.2.840.113549.1.9.16.2.23"
REVOCATION_VALUES: Final = "1.2.840.113549.1.9.16.2.24"
MAX_VALUES: Final = 64
_OCSP_BASIC: Final = "1.3.6.1.5.5.7.48.1.1"
_OCSP_RESPONSE: Final = "1.3.6.1.5.5.7.16.2"
_OCSP_HEAD: Final = tlv(ENUMERATED, b"\x00")
_WEAK: Final = frozenset({"sha1", "sha224"})


class OtherHash(NamedTuple):
    """A digest with its algorithm."""

    name: str
    digest: bytes


class CertificateRef(NamedTuple):
    """A reference to a certificate (OtherCertID)."""

    hashed: OtherHash
    issuers: tuple[bytes, ...]
    serial: int | None

    def names(self, facts: CertificateFacts) -> bool:
        """Say whether this is the certificate's: by hash, and by issuer and serial where they are given."""
        if self.serial is not None and (self.serial != facts.serial or facts.issuer not in self.issuers):
            return False
        name, digest = self.hashed
        return digest == (facts.sha256 if name == "sha256" else _certificate_digest(facts, name))


@lru_cache(maxsize=256)  # every reference is compared with every certificate
def _certificate_digest(facts: CertificateFacts, name: str) -> bytes:
    return new_hash(name, facts.der).digest()


class RevocationRef(NamedTuple):
    """A reference to a list or an OCSP response; the hash of the latter may be missing."""

    ocsp: bool
    hashed: OtherHash | None
    made: datetime | None  # thisUpdate, or producedAt
    name: bytes  # the list's issuer, or the responder's id with its tag

    def names(self, value: "RevocationValue") -> bool:
        """Say whether this is the value's: by hash, time and name as far as they are given."""
        if self.ocsp is not value.ocsp or (self.made is not None and self.made != value.made):
            return False
        if not value.ocsp and self.name and self.name != value.name:
            return False
        if value.ocsp and self.name not in value.inner:
            return False
        return self.hashed is None or self.hashed.digest in value.digests(self.hashed.name)


class RevocationValue:
    """A list or response at hand, with its digests, each made once.

    Args:
        der: the list, or the whole response.
        made: thisUpdate, or producedAt.
        name: the list's issuer; None: it is a response.

    Raises:
        DerError: a response without content.
    """

    __slots__ = ("_digests", "der", "inner", "made", "name", "ocsp")

    def __init__(self, der: bytes, made: datetime, name: bytes | None = None) -> None:
        self.der, self.made, self.name, self.ocsp = der, made, name, name is None
        self.inner = basic_response(der) if name is None else b""
        self._digests: dict[str, frozenset[bytes]] = {}

    def digests(self, hash_name: str) -> frozenset[bytes]:
        """Return what may stand in a reference: of a response also its inner part's digest is in use."""
        found = self._digests.get(hash_name)
        if found is None:
            parts = (self.der, self.inner) if self.ocsp else (self.der,)
            found = frozenset(new_hash(hash_name, part).digest() for part in parts)
            self._digests[hash_name] = found
        return found


def only_value(signer: SignerInfo, kind: str) -> Node | None:
    """Return the value of an unsigned attribute, None where there is none.

    Raises:
        DerError: more than one.
    """
    found = signer.unsigned_values(kind)
    if len(found) > 1:
        raise DerError(f"unsigned attribute {kind} must stand once with one value")
    return found[0] if found else None


# --------------------------------------------------------------------------- values


def certificate_values(node: Node) -> tuple[bytes, ...]:
    """Return the certificates of CertificateValues, DER.

    Raises:
        DerError: malformed, or more than 64.
    """
    listed = children(node, limit=MAX_VALUES, tag=SEQUENCE)
    if any(one.tag != SEQUENCE for one in listed):
        raise DerError("a certificate value is no certificate")
    return tuple(one.whole for one in listed)


def revocation_values(node: Node) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return lists and OCSP responses of RevocationValues, DER; the responses whole.

    Raises:
        DerError: malformed, or more than 64 of a kind.
    """
    cursor = Cursor(node, limit=3)
    crls, basics = cursor.optional(0xA0), cursor.optional(0xA1)
    cursor.optional(0xA2)
    cursor.finish()
    lists = children(inside(crls, SEQUENCE), limit=MAX_VALUES) if crls is not None else []
    responses = children(inside(basics, SEQUENCE), limit=MAX_VALUES) if basics is not None else []
    return tuple(one.whole for one in lists), tuple(whole_response(one.whole) for one in responses)


def whole_response(basic: bytes) -> bytes:
    """Return an OCSPResponse around a BasicOCSPResponse, DER."""
    return seq(_OCSP_HEAD, explicit(0, seq(oid(_OCSP_BASIC), octets(basic))))


def basic_response(whole: bytes) -> bytes:
    """Return the BasicOCSPResponse inside a response made by `whole_response`, or the like.

    Raises:
        DerError: there is none.
    """
    members = children(parse(whole, max_size=len(whole)), limit=2)
    if len(members) != 2:
        raise DerError("an OCSP response without content")
    return to_octets(children(inside(members[1], SEQUENCE), limit=2)[-1])


def other_responses(entries: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the OCSP responses among entries of ``SignedData.crls`` that are no lists (RFC 5940)."""
    found = []
    for der in entries:
        try:
            cursor = Cursor(parse(der, max_size=len(der)), limit=2, tag=0xA1)
            if to_oid(cursor.take(OID)) == _OCSP_RESPONSE:
                found.append(cursor.take(SEQUENCE).whole)
        except DerError:
            continue
    return tuple(found)


def embedded_in(signed: SignedData, signer: SignerInfo) -> Embedded:
    """Return what a signer's unsigned attributes and ``SignedData.crls`` hold; what is malformed is left out.

    Steps 15 name what is malformed; here it just cannot help.
    """
    certificates: tuple[bytes, ...] = ()
    crls, ocsp = signed.crls, other_responses(signed.other_revocation)
    try:
        if (node := only_value(signer, CERTIFICATE_VALUES)) is not None:
            certificates = certificate_values(node)
    except DerError:
        pass
    try:
        if (node := only_value(signer, REVOCATION_VALUES)) is not None:
            lists, responses = revocation_values(node)
            crls, ocsp = (*crls, *lists), (*ocsp, *responses)
    except DerError:
        pass
    return Embedded(certificates, ocsp, crls)


def joined(parts: Iterable[Embedded]) -> Embedded:
    """Return everything of several, each thing once."""
    listed = list(parts)
    return Embedded(
        tuple(dict.fromkeys(der for part in listed for der in part.certificates)),
        tuple(dict.fromkeys(der for part in listed for der in part.ocsp)),
        tuple(dict.fromkeys(der for part in listed for der in part.crls)),
    )


# --------------------------------------------------------------------------- references


def certificate_refs(node: Node) -> tuple[CertificateRef, ...]:
    """Return the entries of CompleteCertificateRefs.

    Raises:
        DerError: malformed, more than 64, or a weak hash.
    """
    return tuple(_certificate_ref(one) for one in children(node, limit=MAX_VALUES, tag=SEQUENCE))


def _certificate_ref(node: Node) -> CertificateRef:
    cursor = Cursor(node, limit=2)
    hashed = _other_hash(cursor.take())
    issuer_serial = cursor.optional(SEQUENCE)
    cursor.finish()
    if issuer_serial is None:
        return CertificateRef(hashed, (), None)
    members = Cursor(issuer_serial, limit=3)
    names = children(members.take(SEQUENCE), limit=16)
    serial = to_int(members.take(INTEGER), max_octets=64)
    return CertificateRef(hashed, tuple(inside(one).whole for one in names if one.tag == 0xA4), serial)


def _other_hash(node: Node) -> OtherHash:
    if node.tag == OCTET_STRING:
        raise DerError("a reference by SHA-1")
    cursor = Cursor(node, limit=2)
    try:
        name = digest_algorithm(cursor.take(SEQUENCE))
    except UnknownAlgorithmError as error:
        raise DerError(str(error)) from error
    digest = to_octets(cursor.take(OCTET_STRING))
    cursor.finish()
    if name in _WEAK:
        raise DerError(f"a reference by {name}")
    return OtherHash(name, digest)


def revocation_refs(node: Node) -> tuple[RevocationRef, ...]:
    """Return the entries of CompleteRevocationRefs, in order; those without any are dropped.

    Raises:
        DerError: malformed, more than 64, or a weak hash.
    """
    found: list[RevocationRef] = []
    for entry in children(node, limit=MAX_VALUES, tag=SEQUENCE):
        cursor = Cursor(entry, limit=3)
        crls, responses = cursor.optional(0xA0), cursor.optional(0xA1)
        cursor.optional(0xA2)
        cursor.finish()
        if crls is not None:
            listed = inside(inside(crls, SEQUENCE), SEQUENCE)
            found += [_crl_ref(one) for one in children(listed, limit=MAX_VALUES)]
        if responses is not None:
            listed = inside(inside(responses, SEQUENCE), SEQUENCE)
            found += [_ocsp_ref(one) for one in children(listed, limit=MAX_VALUES)]
        if len(found) > MAX_VALUES:
            raise DerError("too many references")
    return tuple(found)


def _crl_ref(node: Node) -> RevocationRef:
    cursor = Cursor(node, limit=2)
    hashed = _other_hash(cursor.take())
    identifier = cursor.optional(SEQUENCE)
    cursor.finish()
    if identifier is None:
        return RevocationRef(ocsp=False, hashed=hashed, made=None, name=b"")
    members = Cursor(identifier, limit=3)
    name, made = members.take(SEQUENCE).whole, to_time(members.take())
    return RevocationRef(ocsp=False, hashed=hashed, made=made, name=name)


def _ocsp_ref(node: Node) -> RevocationRef:
    cursor = Cursor(node, limit=2)
    identifier = Cursor(cursor.take(SEQUENCE), limit=2)
    responder, made = identifier.take().whole, to_time(identifier.take(GENERALIZED_TIME))
    identifier.finish()
    rest = cursor.rest()
    hashed = _other_hash(rest[0]) if rest else None
    return RevocationRef(ocsp=True, hashed=hashed, made=made, name=responder)
