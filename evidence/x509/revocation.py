"""OCSP requests and responses. Pure; fetching is an adapter's work.

What an answer is and of which time it speaks stands in `evidence.x509.answers`; import its names from here.
`check_ocsp` takes the answer that is current at one moment, `OcspResponse.answers` gives all that is
authentic, for judging the past (`evidence.x509.offline`). (spec: RFC6960#4, signing.md 2.5)
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from hashlib import new as new_hash
from typing import Final, TypeAlias

from evidence.asn1.der import (
    BIT_STRING,
    ENUMERATED,
    INTEGER,
    NULL_DER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    Cursor,
    DerError,
    children,
    explicit,
    inside,
    integer,
    octets,
    oid,
    parse,
    seq,
    to_bits,
    to_int,
    to_octets,
    to_oid,
)
from evidence.x509.algorithms import (
    Role,
    UnknownAlgorithmError,
    signature_algorithm,
    verify_signature,
)
from evidence.x509.answers import (
    DEFAULT_FRESHNESS,
    FreshnessRules,
    ResponderUnknownError,
    RevocationAnswer,
    RevocationError,
    RevocationSource,
    RevocationStatus,
    generalized,
    is_fresh,
    produced_problem,
    revoked_by,
    speaks_about,
    window_problem,
)
from evidence.x509.certificates import (
    DIGITAL_SIGNATURE,
    EKU_OCSP_SIGNING,
    NON_REPUDIATION,
    CertificateError,
    CertificateFacts,
    certificate_facts,
)
from evidence.x509.chain import TrustStore
from evidence.x509.ocsp_single import NONCE, SingleResponse, issuer_hashes, read_extensions

__all__ = [
    "DEFAULT_FRESHNESS", "MAX_CRL", "MAX_OCSP", "FreshnessRules", "OcspResponse", "ResponderGood",
    "ResponderUnknownError", "RevocationAnswer", "RevocationError", "RevocationSource", "RevocationStatus",
    "check_ocsp", "is_fresh", "ocsp_request", "parse_ocsp", "produced_problem", "revoked_by", "speaks_about",
    "window_problem",
]  # fmt: skip

MAX_OCSP: Final = 1024 * 1024
MAX_CRL: Final = 20 * 1024 * 1024
_MAX_CERTIFICATES: Final = 16
_MAX_SINGLES: Final = 64
_MAX_SIGNERS: Final = 4
"""Responder certificates of the right name whose signatures are tried."""
_BASIC: Final = "1.3.6.1.5.5.7.48.1.1"
_SHA1_ID: Final = seq(oid("1.3.14.3.2.26"), NULL_DER)

ResponderGood: TypeAlias = Callable[[CertificateFacts], bool]
"""Says whether a delegated responder that is not marked ocsp-nocheck was good, as its issuer tells."""


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
    name, key = issuer_hashes("sha1", issuer)
    request = seq(seq(_SHA1_ID, octets(name), octets(key), integer(certificate.serial)))
    extensions = b""
    if nonce is not None:
        extensions = explicit(2, seq(seq(oid(NONCE), octets(octets(nonce)))))
    return seq(seq(seq(request), extensions))


def check_ocsp(
    der: bytes,
    certificate: CertificateFacts,
    issuer: CertificateFacts,
    *,
    at: datetime,
    trust: TrustStore,
    nonce: bytes | None = None,
    rules: FreshnessRules = DEFAULT_FRESHNESS,
    responder_good: ResponderGood | None = None,
) -> RevocationAnswer:
    """Check an OCSP response and return what it says about ``certificate`` at ``at``.

    1. success status, strict DER, no critical extension that is not processed;
    2. CertID: serial, hash of the issuer's name and of its key, by SHA-1 or SHA-2;
    3. signature by the issuer, or by a delegate that this very issuer certified for OCSPSigning, valid at
       ``at``, and either marked ocsp-nocheck or vouched for by ``responder_good``;
    4. nonce: the one that was sent, or none where the rules allow that;
    5. window: producedAt and thisUpdate not in the future, nextUpdate not past.

    Where a response tells of the certificate more than once, revoked goes before good.

    Raises:
        ResponderUnknownError: all holds but that the delegate's own status is unknown.
        RevocationError: it cannot be relied on.
    """
    response = parse_ocsp(der)
    answers = response.answers(certificate, issuer, trust=trust, at=at, responder_good=responder_good)
    response.check_nonce(nonce, rules)
    if response.produced_at > at + rules.skew:
        raise RevocationError("OCSP response is from the future")
    problems = [window_problem(one.this_update, one.next_update, at, rules) for one in answers]
    current = [one for one, problem in zip(answers, problems, strict=True) if problem is None]
    if not current:
        raise RevocationError(f"OCSP response: {problems[0]}")
    return max(current, key=lambda one: (one.status is RevocationStatus.REVOKED, one.this_update))


def parse_ocsp(der: bytes) -> "OcspResponse":
    """Take a response apart; nothing is believed yet.

    Args:
        der: untrusted bytes, at most 1 MiB.

    Raises:
        RevocationError: not a successful basic response in strict DER.
    """
    try:
        return OcspResponse(der)
    except (DerError, CertificateError) as error:
        raise RevocationError(f"OCSP response: {error}") from error


class OcspResponse:
    """One BasicOCSPResponse, taken apart (spec: RFC6960#4.2.1). Make it with `parse_ocsp`."""

    __slots__ = (
        "_algorithm", "_certificates", "_data", "_nonce", "_responder", "_signature", "_singles", "der",
        "produced_at",
    )  # fmt: skip

    def __init__(self, der: bytes) -> None:
        self.der = der
        basic = Cursor(parse(_basic(der), max_size=MAX_OCSP, tag=SEQUENCE), limit=4)
        self._data = basic.take(SEQUENCE)
        self._algorithm = basic.take(SEQUENCE)
        self._signature = to_bits(basic.take(BIT_STRING))
        listed = basic.optional(0xA0)
        basic.finish()
        self._certificates = (
            children(inside(listed, SEQUENCE), limit=_MAX_CERTIFICATES) if listed is not None else []
        )
        data = Cursor(self._data, limit=6)
        if (version := data.optional(0xA0)) is not None and to_int(inside(version, INTEGER)) != 0:
            raise RevocationError("OCSP version")
        self._responder = data.take()
        self.produced_at = generalized(data.take())
        self._singles = [SingleResponse(node) for node in children(data.take(SEQUENCE), limit=_MAX_SINGLES)]
        self._nonce = read_extensions(data.optional(0xA1)).get(NONCE)
        data.finish()

    @property
    def serials(self) -> tuple[int, ...]:
        """Return the serial numbers the response speaks of."""
        return tuple(single.serial for single in self._singles)

    def answers(
        self,
        certificate: CertificateFacts,
        issuer: CertificateFacts,
        *,
        trust: TrustStore,
        at: datetime,
        responder_good: ResponderGood | None = None,
    ) -> list[RevocationAnswer]:
        """Return all that the response says about a certificate, once its signer's mandate is checked.

        Windows are not looked at.

        Args:
            certificate: whose status is asked.
            issuer: its issuer.
            trust: gives the algorithm table and remembers signatures.
            at: when the responder's certificate and the algorithms must hold.
            responder_good: asked about a delegate that is not marked ocsp-nocheck.

        Raises:
            ResponderUnknownError: all holds but that the delegate's own status is unknown.
            RevocationError: on another certificate, malformed, or not signed by who may.
        """
        try:
            about = [single for single in self._singles if single.is_about(certificate, issuer)]
            if not about:
                raise RevocationError("OCSP response is on another certificate")
            delegate = self._signer(issuer, at, trust, responder_good)
            return [self._answer(single, delegate) for single in about]
        except (DerError, UnknownAlgorithmError) as error:
            raise RevocationError(f"OCSP response: {error}") from error

    def check_nonce(self, nonce: bytes | None, rules: FreshnessRules) -> None:
        """Refuse a response with another nonce than the one sent, or, by the rules, without it.

        Raises:
            RevocationError: another nonce, or none where one is required.
        """
        if nonce is None:
            return
        if self._nonce is None:
            if rules.require_nonce:
                raise RevocationError("OCSP response without nonce")
        elif self._nonce != octets(nonce):
            raise RevocationError("OCSP nonce is another one")

    def _answer(self, single: SingleResponse, delegate: CertificateFacts | None) -> RevocationAnswer:
        return single.answer(self.produced_at, self.der, delegate.der if delegate is not None else None)

    def _signer(
        self, issuer: CertificateFacts, at: datetime, trust: TrustStore, good: ResponderGood | None
    ) -> CertificateFacts | None:
        """Return the delegate that signed, None where the issuer did."""
        problem: RevocationError | None = None
        for signer in self._candidates(issuer):
            try:
                if signer is issuer:
                    self._check_value(issuer, at, trust)
                    return None
                _check_mandate(signer, issuer, at)
                self._check_value(signer, at, trust)
                _check_standing(signer, issuer, trust, good)
            except RevocationError as error:
                if problem is None or isinstance(error, ResponderUnknownError):
                    problem = error
            else:
                return signer
        raise problem or RevocationError("OCSP responder's certificate is missing")

    def _candidates(self, issuer: CertificateFacts) -> Iterator[CertificateFacts]:
        """Yield the issuer and the enclosed certificates where the responder id names them."""
        if self._names(issuer):
            yield issuer
        tried = 0
        for node in self._certificates:
            try:
                facts = certificate_facts(node.whole)
            except CertificateError:
                continue  # certificates that nobody needs may be odd
            if facts != issuer and self._names(facts) and tried < _MAX_SIGNERS:
                tried += 1
                yield facts

    def _names(self, facts: CertificateFacts) -> bool:
        if self._responder.tag == 0xA1:
            return inside(self._responder, SEQUENCE).whole == facts.subject
        if self._responder.tag == 0xA2:
            key_hash = to_octets(inside(self._responder))
            return key_hash == new_hash("sha1", facts.key_bits).digest()  # noqa: S324 - a name, RFC 6960
        raise DerError("unknown responder id")

    def _check_value(self, signer: CertificateFacts, at: datetime, trust: TrustStore) -> None:
        algorithm = signature_algorithm(self._algorithm)
        if algorithm.hash_name is None:
            raise RevocationError("OCSP signature names no hash")
        refusal = trust.algorithms.refusal(Role.SIGNER, algorithm, algorithm.hash_name, signer.key.size, at)
        if refusal is not None:
            raise RevocationError(f"OCSP signature: {refusal}")
        if not verify_signature(
            signer.public_key, algorithm, algorithm.hash_name, self._signature, self._data.whole
        ):
            raise RevocationError("OCSP signature does not verify")


def _basic(der: bytes) -> bytes:
    """Return the BasicOCSPResponse inside an OCSPResponse."""
    outer = Cursor(parse(der, max_size=MAX_OCSP, tag=SEQUENCE), limit=2)
    status = outer.take(ENUMERATED).content
    if status != b"\x00":
        raise RevocationError(f"OCSP responder answered status {status[:4].hex()}")
    typed = Cursor(inside(outer.take(0xA0), SEQUENCE), limit=2)
    outer.finish()
    if to_oid(typed.take(OID)) != _BASIC:
        raise RevocationError("not a basic OCSP response")
    body = typed.take(OCTET_STRING).content
    typed.finish()
    return body


def _check_mandate(responder: CertificateFacts, issuer: CertificateFacts, at: datetime) -> None:
    """Refuse a certificate that the issuer did not make for answering (spec: RFC6960#4.2.2.2)."""
    facts = responder.extensions
    if responder.issuer != issuer.subject:
        raise RevocationError("OCSP responder was not issued by the certificate's issuer")
    if EKU_OCSP_SIGNING not in (facts.extended_key_usage or ()):
        raise RevocationError("OCSP responder has no OCSPSigning usage")
    # spec: RFC5280#4.2.1.12 - OCSPSigning goes with digitalSignature or nonRepudiation
    if facts.key_usage is not None and not facts.key_usage & {DIGITAL_SIGNATURE, NON_REPUDIATION}:
        raise RevocationError("OCSP responder's key may not sign")
    if not responder.valid_at(at) or facts.unknown_critical:
        raise RevocationError("OCSP responder's certificate is not valid")


def _check_standing(
    responder: CertificateFacts, issuer: CertificateFacts, trust: TrustStore, good: ResponderGood | None
) -> None:
    """Refuse a certificate that the issuer did not sign, or may have revoked since."""
    if not trust.link_holds(responder, issuer):
        raise RevocationError("OCSP responder was not issued by the certificate's issuer")
    if not responder.extensions.ocsp_no_check and (good is None or not good(responder)):
        raise ResponderUnknownError(responder)
