"""Certificate revocation lists. `cryptography` reads them: a list may have 20 MiB, its search is native.

(spec: RFC5280#5 and #6.3.3, signing.md 2.5)
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from evidence.asn1.der import BIT_STRING, INTEGER, SEQUENCE, Cursor, parse, to_bits
from evidence.x509.algorithms import Role, signature_algorithm, verify_signature
from evidence.x509.certificates import CRL_SIGN, CertificateFacts
from evidence.x509.chain import TrustStore
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

_KNOWN_ENTRY_EXTENSIONS: Final = (x509.CRLReason, x509.InvalidityDate)


@dataclass(frozen=True, slots=True)
class CheckedCrl:
    """A list whose signature holds; it answers for certificates of its issuer only."""

    issuer: CertificateFacts
    this_update: datetime
    next_update: datetime
    der: bytes
    _list: x509.CertificateRevocationList
    _only_users: bool
    _only_authorities: bool

    def answer(
        self, certificate: CertificateFacts, at: datetime, rules: FreshnessRules = DEFAULT_FRESHNESS
    ) -> RevocationAnswer:
        """Return what the list says about a certificate.

        Raises:
            RevocationError: another issuer's certificate, outside the list's scope, or not fresh.
        """
        if certificate.issuer != self.issuer.subject:
            raise RevocationError("CRL is another issuer's")
        authority = certificate.extensions.is_ca
        if (self._only_users and authority) or (self._only_authorities and not authority):
            raise RevocationError("CRL does not cover this kind of certificate")
        problem = window_problem(self.this_update, self.next_update, at, rules)
        if problem is not None:
            raise RevocationError(f"CRL: {problem}")
        entry = self._list.get_revoked_certificate_by_serial_number(certificate.serial)
        if entry is None:
            return self._made(RevocationStatus.GOOD, None, None)
        reason = None
        for extension in entry.extensions:
            if isinstance(extension.value, x509.CRLReason):
                reason = extension.value.reason.value
            elif extension.critical and not isinstance(extension.value, _KNOWN_ENTRY_EXTENSIONS):
                raise RevocationError(f"unknown critical CRL entry extension {extension.oid.dotted_string}")
        return self._made(RevocationStatus.REVOKED, entry.revocation_date_utc, reason)

    def _made(
        self, status: RevocationStatus, revoked_at: datetime | None, reason: str | None
    ) -> RevocationAnswer:
        return RevocationAnswer(
            status,
            RevocationSource.CRL,
            self.this_update,
            self.this_update,
            self.next_update,
            self.der,
            revoked_at,
            reason,
        )


def check_crl(der: bytes, issuer: CertificateFacts, *, at: datetime, trust: TrustStore) -> CheckedCrl:
    """Check a complete CRL of ``issuer`` and return it for questions.

    Args:
        der: untrusted bytes, at most 20 MiB.
        issuer: the certificate whose key must have signed it.
        at: for the algorithm table.
        trust: gives the algorithm table.

    Raises:
        RevocationError: malformed, of another issuer, badly signed, delta, indirect, or of limited reasons.
    """
    try:
        usage = issuer.extensions.key_usage
        if usage is not None and CRL_SIGN not in usage:
            raise RevocationError("issuer may not sign CRLs")
        _check_signature(der, issuer, at, trust)
        listed = x509.load_der_x509_crl(der)
        users, authorities = _scope(listed)
        next_update = listed.next_update_utc
        if next_update is None:
            raise RevocationError("CRL without nextUpdate")
        this_update = listed.last_update_utc
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension) as error:
        if isinstance(error, RevocationError):
            raise
        raise RevocationError(f"CRL: {error}") from error
    return CheckedCrl(issuer, this_update, next_update, der, listed, users, authorities)


def _check_signature(der: bytes, issuer: CertificateFacts, at: datetime, trust: TrustStore) -> None:
    outer = Cursor(parse(der, max_size=MAX_CRL, tag=SEQUENCE), limit=3)
    data, identifier, value = outer.take(SEQUENCE), outer.take(SEQUENCE), outer.take(BIT_STRING)
    inner = Cursor(data, limit=8)
    inner.optional(INTEGER)
    if inner.take(SEQUENCE).whole != identifier.whole:
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


def _scope(listed: x509.CertificateRevocationList) -> tuple[bool, bool]:
    """Return (only users, only authorities); refuse what this library does not process."""
    users = authorities = False
    for extension in listed.extensions:
        value = extension.value
        if isinstance(value, x509.IssuingDistributionPoint):
            if value.indirect_crl or value.only_some_reasons or value.only_contains_attribute_certs:
                raise RevocationError("indirect or partial CRL")
            users, authorities = value.only_contains_user_certs, value.only_contains_ca_certs
        elif isinstance(value, x509.DeltaCRLIndicator) or (
            extension.critical and isinstance(value, x509.UnrecognizedExtension)
        ):
            raise RevocationError(f"CRL extension {extension.oid.dotted_string}")
    return users, authorities
