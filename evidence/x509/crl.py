"""Certificate revocation lists: complete ones of the certificate's own issuer; nothing else is taken.

A list is checked once and asked many times; its entries are searched as bytes (`evidence.x509.crl_entries`).
Read by our own strict reader, because `cryptography` refuses fractions of a second and issuers whose
algorithm identifiers are odd. (spec: RFC5280#5 and #6.3.3, signing.md 2.5)
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from evidence.asn1.der import (
    BIT_STRING,
    BOOLEAN,
    GENERALIZED_TIME,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    UTC_TIME,
    Cursor,
    DerError,
    Node,
    children,
    inside,
    parse,
    to_bits,
    to_bool,
    to_int,
    to_oid,
)
from evidence.x509.algorithms import Role, UnknownAlgorithmError, signature_algorithm, verify_signature
from evidence.x509.answers import status_time
from evidence.x509.certificates import CRL_SIGN, CertificateFacts
from evidence.x509.chain import TrustStore
from evidence.x509.crl_entries import CrlEntries
from evidence.x509.revocation import (
    DEFAULT_FRESHNESS,
    MAX_CRL,
    FreshnessRules,
    RevocationAnswer,
    RevocationError,
    RevocationSource,
    RevocationStatus,
    window_problem,
)

CRL_NUMBER: Final = "2.5.29.20"
DELTA_INDICATOR: Final = "2.5.29.27"
ISSUING_POINT: Final = "2.5.29.28"
EXPIRED_KEPT: Final = "2.5.29.60"
_PROCESSED: Final = frozenset({CRL_NUMBER, ISSUING_POINT, EXPIRED_KEPT, "2.5.29.35", "2.5.29.18"})
"""May be critical. The key identifier and the issuer's other names change nothing: the signature decides."""
_MAX_EXTENSION: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class CrlScope:
    """Of which certificates a list speaks (spec: RFC5280#5.2.5).

    ``points``: the addresses it is for; None where it is for all certificates of its kind.
    """

    only_users: bool = False
    only_authorities: bool = False
    points: frozenset[str] | None = None

    def problem(self, certificate: CertificateFacts) -> str | None:
        """Return why the list does not speak of a certificate, or None where it does."""
        authority = certificate.extensions.is_ca
        if (self.only_users and authority) or (self.only_authorities and not authority):
            return "CRL does not cover this kind of certificate"
        if self.points is not None and self.points.isdisjoint(certificate.extensions.crl_urls):
            return "CRL does not cover this certificate: it is for another distribution point"
        return None


@dataclass(frozen=True, slots=True)
class CheckedCrl:
    """A list whose signature holds; it answers for certificates of its issuer only."""

    issuer: CertificateFacts
    this_update: datetime
    next_update: datetime
    der: bytes
    number: int | None
    kept_since: datetime | None
    _entries: CrlEntries
    _scope: CrlScope

    def __len__(self) -> int:
        """Return how many certificates are on the list."""
        return len(self._entries)

    def older_than(self, other: "CheckedCrl") -> bool:
        """Say whether this list came before another one of the same issuer and scope.

        CRL numbers only grow (spec: RFC5280#5.2.3); lists without number are compared by thisUpdate.
        """
        if self.number is not None and other.number is not None:
            return self.number < other.number
        return self.this_update < other.this_update

    def answer(
        self, certificate: CertificateFacts, at: datetime, rules: FreshnessRules = DEFAULT_FRESHNESS
    ) -> RevocationAnswer:
        """Return what the list says about a certificate at ``at``.

        Raises:
            RevocationError: another issuer's certificate, outside the list's scope, or not fresh.
        """
        found = self.says(certificate)
        problem = window_problem(self.this_update, self.next_update, at, rules)
        if problem is not None:
            raise RevocationError(f"CRL: {problem}")
        return found

    def says(self, certificate: CertificateFacts) -> RevocationAnswer:
        """Return what the list says about a certificate, whenever that was.

        Raises:
            RevocationError: another issuer's certificate, or outside the list's scope.
        """
        if certificate.issuer != self.issuer.subject:
            raise RevocationError("CRL is another issuer's")
        problem = self._scope.problem(certificate)
        if problem is not None:
            raise RevocationError(problem)
        try:
            entry = self._entries.find(certificate.serial)
        except DerError as error:
            raise RevocationError(f"CRL: {error}") from error
        return RevocationAnswer(
            RevocationStatus.GOOD if entry is None else RevocationStatus.REVOKED,
            RevocationSource.CRL,
            self.this_update,
            self.this_update,
            self.next_update,
            self.der,
            entry.revoked_at if entry is not None else None,
            entry.reason if entry is not None else None,
            kept_since=self.kept_since,
        )


def check_crl(der: bytes, issuer: CertificateFacts, *, at: datetime, trust: TrustStore) -> CheckedCrl:
    """Check a complete CRL of ``issuer`` and return it for questions.

    1. ``issuer`` may sign lists (keyUsage cRLSign) and its key signed this one, by an algorithm that counts;
    2. strict DER, nextUpdate present, no extension twice, no critical one that is not processed;
    3. complete: no delta, not indirect, for all reasons, not for attribute certificates;
    4. every entry well formed, without critical extensions that are not processed.

    Args:
        der: untrusted bytes, at most 20 MiB.
        issuer: the certificate whose key must have signed it.
        at: for the algorithm table.
        trust: gives the algorithm table.

    Raises:
        RevocationError: one of these does not hold.
    """
    try:
        usage = issuer.extensions.key_usage
        if usage is not None and CRL_SIGN not in usage:
            raise RevocationError("issuer may not sign CRLs")
        return _read(_checked(der, issuer, at, trust), issuer, der)
    except (DerError, UnknownAlgorithmError, UnicodeDecodeError) as error:
        raise RevocationError(f"CRL: {error}") from error


def crl_header(der: bytes) -> tuple[bytes, datetime]:
    """Return issuer (Name, DER) and thisUpdate of a list; nothing is checked but the outermost shape.

    Raises:
        RevocationError: not a list.
    """
    try:
        outer = Cursor(parse(der, max_size=MAX_CRL, tag=SEQUENCE), limit=3)
        inner = Cursor(outer.take(SEQUENCE), limit=8)
        inner.optional(INTEGER)
        inner.take(SEQUENCE)
        return inner.take(SEQUENCE).whole, status_time(inner.take())
    except DerError as error:
        raise RevocationError(f"CRL: {error}") from error


def _checked(der: bytes, issuer: CertificateFacts, at: datetime, trust: TrustStore) -> Cursor:
    """Check the signature; return the members of the list from thisUpdate on."""
    outer = Cursor(parse(der, max_size=MAX_CRL, tag=SEQUENCE), limit=3)
    data, identifier, value = outer.take(SEQUENCE), outer.take(SEQUENCE), outer.take(BIT_STRING)
    outer.finish()
    inner = Cursor(data, limit=8)
    version = inner.optional(INTEGER)
    if version is not None and to_int(version) != 1:
        raise RevocationError("CRL version")
    if inner.take(SEQUENCE).whole != identifier.whole:  # spec: RFC5280#5.1.1.2
        raise RevocationError("the two signature algorithms of the CRL differ")
    if inner.take(SEQUENCE).whole != issuer.subject:
        raise RevocationError("CRL is another issuer's")
    algorithm = signature_algorithm(identifier)
    if algorithm.hash_name is None:
        raise RevocationError("CRL signature names no hash")
    refusal = trust.algorithms.refusal(Role.AUTHORITY, algorithm, algorithm.hash_name, issuer.key.size, at)
    if refusal is not None:
        raise RevocationError(f"CRL signature: {refusal}")
    signature = to_bits(value)
    if not verify_signature(issuer.public_key, algorithm, algorithm.hash_name, signature, data.whole):
        raise RevocationError("CRL signature does not verify")
    return inner


def _read(members: Cursor, issuer: CertificateFacts, der: bytes) -> CheckedCrl:
    this_update = status_time(members.take())
    until = members.optional(UTC_TIME) or members.optional(GENERALIZED_TIME)
    if until is None:  # spec: RFC5280#5.1.2.5
        raise RevocationError("CRL without nextUpdate")
    next_update = status_time(until)
    listed = members.optional(SEQUENCE)
    found = _extensions(members.optional(0xA0))
    members.finish()
    scope = _scope(found[ISSUING_POINT]) if ISSUING_POINT in found else CrlScope()
    return CheckedCrl(
        issuer,
        this_update,
        next_update,
        der,
        to_int(found[CRL_NUMBER], max_octets=32) if CRL_NUMBER in found else None,
        status_time(found[EXPIRED_KEPT]) if EXPIRED_KEPT in found else None,
        CrlEntries(listed),
        scope,
    )


def _extensions(tagged: Node | None) -> dict[str, Node]:
    """Return the processed extensions; refuse delta lists and unknown critical ones (spec: RFC5280#5.2)."""
    found: dict[str, Node] = {}
    seen: set[str] = set()
    for extension in children(inside(tagged, SEQUENCE), limit=32) if tagged is not None else []:
        cursor = Cursor(extension, limit=3)
        kind = to_oid(cursor.take(OID))
        flag = cursor.optional(BOOLEAN)
        value = cursor.take(OCTET_STRING).content
        cursor.finish()
        if kind in seen:
            raise DerError(f"extension {kind} twice")
        seen.add(kind)
        if kind == DELTA_INDICATOR:
            raise RevocationError("delta CRL: only complete lists are taken")
        if kind in _PROCESSED:
            found[kind] = parse(value, max_size=_MAX_EXTENSION)
        elif flag is not None and to_bool(flag):
            raise RevocationError(f"unknown critical CRL extension {kind}")
    return found


def _scope(node: Node) -> CrlScope:
    """Read the IssuingDistributionPoint; refuse lists that are not complete (spec: RFC5280#5.2.5)."""
    cursor = Cursor(node, limit=6)
    name = cursor.optional(0xA0)
    users, authorities = _flag(cursor.optional(0x81)), _flag(cursor.optional(0x82))
    reasons = cursor.optional(0x83)
    indirect, attributes = _flag(cursor.optional(0x84)), _flag(cursor.optional(0x85))
    cursor.finish()
    if indirect:
        raise RevocationError("CRL is indirect: it speaks for other issuers too")
    if reasons is not None:
        raise RevocationError("CRL is for some reasons only")
    if attributes:
        raise RevocationError("CRL is for attribute certificates")
    if name is None:
        return CrlScope(users, authorities)
    full = inside(name)
    # A name relative to the issuer is refused with all others: no certificate here is found by it.
    entries = children(full, limit=64) if full.tag == 0xA0 else []
    addresses = (entry.content.decode("ascii") for entry in entries if entry.tag == 0x86)
    return CrlScope(users, authorities, frozenset(addresses))


def _flag(node: Node | None) -> bool:
    """Return an implicitly tagged BOOLEAN; explicit FALSE, which DER leaves out, is read too."""
    if node is None:
        return False
    if node.content not in {b"\x00", b"\xff"}:
        raise DerError("malformed boolean")
    return node.content == b"\xff"
