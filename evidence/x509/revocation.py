"""Revocation answers: OCSP requests and responses, CRLs. Pure; fetching is an adapter's work.

(spec: RFC6960#4, RFC5280#5 and #6.3, signing.md 2.5)
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import new as new_hash
from typing import Final

from evidence.asn1.der import (
    BIT_STRING,
    BOOLEAN,
    ENUMERATED,
    GENERALIZED_TIME,
    INTEGER,
    NULL_DER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    Cursor,
    DerError,
    Node,
    children,
    explicit,
    inside,
    integer,
    octets,
    oid,
    parse,
    seq,
    to_bits,
    to_bool,
    to_int,
    to_octets,
    to_oid,
    to_time,
)
from evidence.x509.algorithms import (
    Role,
    UnknownAlgorithmError,
    digest_algorithm,
    signature_algorithm,
    verify_signature,
)
from evidence.x509.certificates import (
    EKU_OCSP_SIGNING,
    CertificateError,
    CertificateFacts,
    certificate_facts,
)
from evidence.x509.chain import TrustStore

MAX_OCSP: Final = 1024 * 1024
MAX_CRL: Final = 20 * 1024 * 1024
_BASIC: Final = "1.3.6.1.5.5.7.48.1.1"
_NONCE: Final = "1.3.6.1.5.5.7.48.1.2"
_SHA1_ID: Final = seq(oid("1.3.14.3.2.26"), NULL_DER)


class RevocationStatus(StrEnum):
    """What an issuer says about a certificate."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


class RevocationSource(StrEnum):
    """Where an answer came from."""

    OCSP = "ocsp"
    CRL = "crl"


class RevocationError(ValueError):
    """The answer cannot be relied on: malformed, wrong responder, other certificate, not fresh."""


@dataclass(frozen=True, slots=True)
class RevocationAnswer:
    """A checked answer on one certificate; ``der`` is the whole response or list, to be kept as proof."""

    status: RevocationStatus
    source: RevocationSource
    at: datetime  # producedAt of the response, thisUpdate of the list
    this_update: datetime
    next_update: datetime | None
    der: bytes
    revoked_at: datetime | None = None
    reason: str | None = None
    responder: bytes | None = None  # the delegated responder's certificate, if there was one


@dataclass(frozen=True, slots=True)
class FreshnessRules:
    """How old an answer may be. ``max_age`` counts where the responder names no nextUpdate."""

    skew: timedelta = timedelta(minutes=5)
    max_age: timedelta = timedelta(hours=1)
    require_nonce: bool = False


DEFAULT_FRESHNESS: Final = FreshnessRules()


def is_fresh(answer: RevocationAnswer, at: datetime, rules: FreshnessRules = DEFAULT_FRESHNESS) -> bool:
    """Say whether an answer speaks about ``at``."""
    return window_problem(answer.this_update, answer.next_update, at, rules) is None


def window_problem(
    this_update: datetime, next_update: datetime | None, at: datetime, rules: FreshnessRules
) -> str | None:
    """Return why a validity window does not cover ``at``, or None where it does."""
    if this_update > at + rules.skew:
        return f"thisUpdate {this_update.isoformat()} is in the future"
    end = next_update if next_update is not None else this_update + rules.max_age
    if end < at:
        return f"not fresh since {end.isoformat()}"
    return None


# --------------------------------------------------------------------------- OCSP


def ocsp_request(
    certificate: CertificateFacts, issuer: CertificateFacts, *, nonce: bytes | None = None
) -> bytes:
    """Return an OCSP request on one certificate, DER.

    CertID hashes are SHA-1: the only ones every responder knows; they identify, they protect nothing.

    Args:
        certificate: whose status is asked.
        issuer: its issuer.
        nonce: 16 to 32 octets echoed by responders that support it (spec: RFC9654#2.1).
    """
    name, key = _issuer_hashes("sha1", issuer)
    request = seq(seq(_SHA1_ID, octets(name), octets(key), integer(certificate.serial)))
    extensions = b""
    if nonce is not None:
        extensions = explicit(2, seq(seq(oid(_NONCE), octets(octets(nonce)))))
    return seq(seq(seq(request), extensions))


def _issuer_hashes(hash_name: str, issuer: CertificateFacts) -> tuple[bytes, bytes]:
    return new_hash(hash_name, issuer.subject).digest(), new_hash(hash_name, issuer.key_bits).digest()


def check_ocsp(
    der: bytes,
    certificate: CertificateFacts,
    issuer: CertificateFacts,
    *,
    at: datetime,
    trust: TrustStore,
    nonce: bytes | None = None,
    rules: FreshnessRules = DEFAULT_FRESHNESS,
) -> RevocationAnswer:
    """Check an OCSP response and return what it says about ``certificate``.

    Checked: success status, signature by the issuer or by a delegate of this very issuer with EKU
    OCSPSigning and ocsp-nocheck, CertID (serial, issuer name and key hashes), window, nonce, extensions.

    Raises:
        RevocationError: it cannot be relied on.
    """
    try:
        return _Response(der).answer(certificate, issuer, at, trust, nonce, rules)
    except (DerError, UnknownAlgorithmError, CertificateError) as error:
        raise RevocationError(f"OCSP response: {error}") from error


class _Response:
    """One BasicOCSPResponse, taken apart (spec: RFC6960#4.2.1)."""

    def __init__(self, der: bytes) -> None:
        outer = Cursor(parse(der, max_size=MAX_OCSP, tag=SEQUENCE), limit=2)
        status = outer.take(ENUMERATED).content
        if status != b"\x00":
            raise RevocationError(f"OCSP responder answered status {status.hex()}")
        typed = Cursor(inside(outer.take(0xA0), SEQUENCE), limit=2)
        outer.finish()
        if to_oid(typed.take(OID)) != _BASIC:
            raise RevocationError("not a basic OCSP response")
        body = typed.take(OCTET_STRING).content
        typed.finish()
        basic = Cursor(parse(body, max_size=MAX_OCSP, tag=SEQUENCE), limit=4)
        self.der = der
        self.data = basic.take(SEQUENCE)
        self.algorithm = basic.take(SEQUENCE)
        self.signature = to_bits(basic.take(BIT_STRING))
        listed = basic.optional(0xA0)
        basic.finish()
        self.certificates = (
            [node.whole for node in children(inside(listed, SEQUENCE), limit=16)]
            if listed is not None
            else []
        )
        data = Cursor(self.data, limit=6)
        if (version := data.optional(0xA0)) is not None and to_int(inside(version, INTEGER)) != 0:
            raise RevocationError("OCSP version")
        self.responder = data.take()
        self.produced_at = to_time(data.take(GENERALIZED_TIME))
        self.responses = children(data.take(SEQUENCE), limit=64)
        self.extensions = _extensions(data.optional(0xA1))
        data.finish()

    def answer(
        self,
        certificate: CertificateFacts,
        issuer: CertificateFacts,
        at: datetime,
        trust: TrustStore,
        nonce: bytes | None,
        rules: FreshnessRules,
    ) -> RevocationAnswer:
        delegate = self._check_signature(issuer, at, trust)
        self._check_nonce(nonce, rules)
        if self.produced_at > at + rules.skew:
            raise RevocationError("OCSP response is from the future")
        for single in self.responses:
            found = self._single(single, certificate, issuer, delegate)
            if found is None:
                continue
            problem = window_problem(found.this_update, found.next_update, at, rules)
            if problem is not None:
                raise RevocationError(f"OCSP response: {problem}")
            return found
        raise RevocationError("OCSP response is on another certificate")

    def _check_signature(
        self, issuer: CertificateFacts, at: datetime, trust: TrustStore
    ) -> CertificateFacts | None:
        delegate = None
        if not self._is_responder(issuer):
            delegate = self._delegate(issuer, at, trust)
        signer = delegate or issuer
        algorithm = signature_algorithm(self.algorithm)
        if algorithm.hash_name is None:
            raise RevocationError("OCSP signature names no hash")
        refusal = trust.algorithms.refusal(Role.SIGNER, algorithm, algorithm.hash_name, signer.key.size, at)
        if refusal is not None:
            raise RevocationError(f"OCSP signature: {refusal}")
        if not verify_signature(
            signer.public_key, algorithm, algorithm.hash_name, self.signature, self.data.whole
        ):
            raise RevocationError("OCSP signature does not verify")
        return delegate

    def _is_responder(self, facts: CertificateFacts) -> bool:
        if self.responder.tag == 0xA1:
            return inside(self.responder, SEQUENCE).whole == facts.subject
        if self.responder.tag == 0xA2:
            key_hash = to_octets(inside(self.responder))
            return key_hash == new_hash("sha1", facts.key_bits).digest()  # noqa: S324 - a name, RFC 6960
        raise DerError("unknown responder id")

    def _delegate(self, issuer: CertificateFacts, at: datetime, trust: TrustStore) -> CertificateFacts:
        """Return the authorised responder's certificate (spec: RFC6960#4.2.2.2)."""
        for der in self.certificates:
            facts = certificate_facts(der)
            if not self._is_responder(facts):
                continue
            if facts.issuer != issuer.subject or not trust.link_holds(facts, issuer):
                raise RevocationError("OCSP responder was not issued by the certificate's issuer")
            if EKU_OCSP_SIGNING not in (facts.extensions.extended_key_usage or ()):
                raise RevocationError("OCSP responder has no OCSPSigning usage")
            if not facts.extensions.ocsp_no_check:
                raise RevocationError("OCSP responder is not marked ocsp-nocheck")
            if not facts.valid_at(at) or facts.extensions.unknown_critical:
                raise RevocationError("OCSP responder's certificate is not valid")
            return facts
        raise RevocationError("OCSP responder's certificate is missing")

    def _check_nonce(self, nonce: bytes | None, rules: FreshnessRules) -> None:
        echoed = self.extensions.get(_NONCE)
        if echoed is None:
            if rules.require_nonce and nonce is not None:
                raise RevocationError("OCSP response without nonce")
        elif nonce is not None and echoed != octets(nonce):
            raise RevocationError("OCSP nonce is another one")

    def _single(
        self,
        single: Node,
        certificate: CertificateFacts,
        issuer: CertificateFacts,
        delegate: CertificateFacts | None,
    ) -> RevocationAnswer | None:
        cursor = Cursor(single, limit=5)
        if not _is_about(cursor.take(SEQUENCE), certificate, issuer):
            return None
        status = cursor.take()
        this_update = to_time(cursor.take(GENERALIZED_TIME))
        until = cursor.optional(0xA0)
        next_update = to_time(inside(until, GENERALIZED_TIME)) if until is not None else None
        _extensions(cursor.optional(0xA1))
        cursor.finish()
        revoked_at, reason = None, None
        if status.tag == 0x80 and not status.length:
            word = RevocationStatus.GOOD
        elif status.tag == 0x82 and not status.length:
            word = RevocationStatus.UNKNOWN
        elif status.tag == 0xA1:
            word = RevocationStatus.REVOKED
            info = Cursor(status, limit=2, tag=0xA1)
            revoked_at = to_time(info.take(GENERALIZED_TIME))
            code = info.optional(0xA0)
            reason = (
                _REASONS.get(inside(code, ENUMERATED).content, "unspecified") if code is not None else None
            )
        else:
            raise DerError("unknown certificate status")
        return RevocationAnswer(
            word,
            RevocationSource.OCSP,
            self.produced_at,
            this_update,
            next_update,
            self.der,
            revoked_at,
            reason,
            delegate.der if delegate is not None else None,
        )


_REASONS: Final = {
    b"\x01": "keyCompromise",
    b"\x02": "cACompromise",
    b"\x03": "affiliationChanged",
    b"\x04": "superseded",
    b"\x05": "cessationOfOperation",
    b"\x06": "certificateHold",
    b"\x08": "removeFromCRL",
    b"\x09": "privilegeWithdrawn",
    b"\x0a": "aACompromise",
}


def _is_about(certificate_id: Node, certificate: CertificateFacts, issuer: CertificateFacts) -> bool:
    cursor = Cursor(certificate_id, limit=4)
    hash_name = digest_algorithm(cursor.take(SEQUENCE))
    name, key = to_octets(cursor.take()), to_octets(cursor.take())
    serial = to_int(cursor.take(INTEGER), max_octets=64)
    cursor.finish()
    return serial == certificate.serial and (name, key) == _issuer_hashes(hash_name, issuer)


def _extensions(tagged: Node | None) -> dict[str, bytes]:
    """Return OCSP extensions; an unknown critical one refuses the response."""
    found: dict[str, bytes] = {}
    for extension in children(inside(tagged, SEQUENCE), limit=32) if tagged is not None else []:
        cursor = Cursor(extension, limit=3)
        kind = to_oid(cursor.take(OID))
        flag = cursor.optional(BOOLEAN)
        found[kind] = cursor.take(OCTET_STRING).content
        cursor.finish()
        if flag is not None and to_bool(flag) and kind != _NONCE:
            raise RevocationError(f"unknown critical OCSP extension {kind}")
    return found
