"""What issuers say about certificates: the answer, how old it may be, of which time it speaks.

Import these names from `evidence.x509.revocation`. (spec: RFC6960#4, RFC5280#5, signing.md 2.5)
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from evidence.asn1.der import GENERALIZED_TIME, DerError, Node, expect, parse, tlv, to_time
from evidence.x509.certificates import CertificateFacts

_TIME_MAX: Final = 26

CERTIFICATE_HOLD: Final = "certificateHold"
"""The one reason that can be taken back. (spec: RFC5280#5.3.1)"""

REMOVE_FROM_CRL: Final = "removeFromCRL"
"""Only delta lists, which are not used here, may say so. (spec: RFC5280#5.3.1)"""

REASONS: Final = {
    b"\x00": "unspecified",
    b"\x01": "keyCompromise",
    b"\x02": "cACompromise",
    b"\x03": "affiliationChanged",
    b"\x04": "superseded",
    b"\x05": "cessationOfOperation",
    b"\x06": CERTIFICATE_HOLD,
    b"\x08": REMOVE_FROM_CRL,
    b"\x09": "privilegeWithdrawn",
    b"\x0a": "aACompromise",
}
"""Content of the ENUMERATED CRLReason and its name. (spec: RFC5280#5.3.1)"""


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


class ResponderUnknownError(RevocationError):
    """The delegated responder's own status is not known: no ocsp-nocheck, and nobody vouched for it."""

    def __init__(self, responder: CertificateFacts) -> None:
        super().__init__("OCSP responder is not marked ocsp-nocheck and its own status is not known")
        self.responder = responder


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
    kept_since: datetime | None = None
    """OCSP archiveCutoff or CRL expiredCertsOnCRL: certificates that expired since then are told of too."""

    @property
    def on_hold(self) -> bool:
        """Say whether the certificate is revoked for now only."""
        return self.status is RevocationStatus.REVOKED and self.reason == CERTIFICATE_HOLD


@dataclass(frozen=True, slots=True)
class FreshnessRules:
    """How old an answer may be. ``max_age`` counts where the responder names no nextUpdate.

    ``require_nonce``: a response without the nonce that was sent is refused; off by default, because most
    responders answer from prepared responses (spec: RFC9654#4).
    """

    skew: timedelta = timedelta(minutes=5)
    max_age: timedelta = timedelta(hours=1)
    require_nonce: bool = False


DEFAULT_FRESHNESS: Final = FreshnessRules()


def is_fresh(answer: RevocationAnswer, at: datetime, rules: FreshnessRules = DEFAULT_FRESHNESS) -> bool:
    """Say whether an answer was the current one at ``at``."""
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


def speaks_about(
    answer: RevocationAnswer,
    certificate: CertificateFacts,
    at: datetime,
    rules: FreshnessRules = DEFAULT_FRESHNESS,
) -> bool:
    """Say whether an answer, perhaps a later one, tells what the certificate was worth at ``at``.

    The current answer of that time does. A later one does too, as revocation is dated and final: "revoked
    since then" and "not revoked yet" both settle the past. But issuers forget expired certificates: "good",
    said after the certificate's end, counts only where the answer says that it still tells of such ones
    (spec: RFC6960#4.4.4). An older answer and "unknown" say nothing.
    """
    if answer.status is RevocationStatus.UNKNOWN:
        return False
    if is_fresh(answer, at, rules):
        return True
    if answer.this_update < at:
        return False
    if answer.status is RevocationStatus.REVOKED or answer.this_update <= certificate.not_after:
        return True
    return answer.kept_since is not None and answer.kept_since <= certificate.not_after


def revoked_by(answer: RevocationAnswer, at: datetime) -> bool:
    """Say whether the answer tells of a revocation that had happened at ``at``; on hold counts as revoked."""
    if answer.status is not RevocationStatus.REVOKED:
        return False
    return answer.revoked_at is None or answer.revoked_at <= at


def produced_problem(
    answer: RevocationAnswer, not_before: datetime, rules: FreshnessRules = DEFAULT_FRESHNESS
) -> str | None:
    """Return why an answer was made too early for a profile, or None where it was not.

    P4 wants a response produced at or after the signature time, P2 and P3 a list of 24 h after the time stamp
    (BTK guide 2012, signing.md 2.3 and 2.5). The clock tolerance of the rules is allowed.
    """
    if answer.at + rules.skew >= not_before:
        return None
    return f"made {answer.at.isoformat()}, before {not_before.isoformat()}"


def status_time(node: Node) -> datetime:
    """Return a time of an OCSP response or a list, aware UTC.

    Fractions of a second are forbidden there (spec: RFC5280#4.1.2.5.2) but real issuers write them, also with
    trailing zeros: they are read, so that an issuer's habit stops nobody's mail.

    Raises:
        DerError: not a time.
    """
    content = node.content
    fraction = content[15:-1]
    if node.tag != GENERALIZED_TIME or content[14:15] != b"." or fraction[-1:] != b"0":
        return to_time(node)
    if not fraction.isdigit() or len(content) > _TIME_MAX:
        raise DerError("malformed fraction of a second")
    kept = fraction.rstrip(b"0")
    text = content[:14] + (b"." + kept if kept else b"") + content[-1:]
    return to_time(parse(tlv(GENERALIZED_TIME, text), max_size=64))


def generalized(node: Node) -> datetime:
    """Return a GeneralizedTime, the only form that OCSP knows.

    Raises:
        DerError: not a GeneralizedTime.
    """
    return status_time(expect(node, GENERALIZED_TIME))
