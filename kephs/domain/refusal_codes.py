"""The stable codes of refusals, and what outside sees of one.

spec: rules-in-detail "One table of codes"; RFC 3463, RFC 5248.
"""

from dataclasses import dataclass
from enum import StrEnum

from evidence.model.records import ReasonCode


class RefusalCode(StrEnum):
    """Stable codes: they enter evidence, SMTP replies, REST problem types and logs. Never renamed."""

    RECIPIENT_UNKNOWN = "recipient-unknown"
    RECIPIENT_BLOCKED = "recipient-blocked"
    RECIPIENT_NOT_KEP = "recipient-not-kep"
    PROVIDER_UNKNOWN = "provider-unknown"
    RECIPIENTS_MISSING = "recipients-missing"
    RECIPIENTS_DIFFER = "recipients-differ"
    TOO_MANY_RECIPIENTS = "too-many-recipients"
    FROM_DIFFERS = "from-differs"
    BCC_PRESENT = "bcc-present"
    UNSIGNED = "unsigned"
    SIGNATURE_BROKEN = "signature-broken"
    SIGNATURE_INCOMPLETE = "signature-incomplete"
    SIGNATURE_UNTRUSTED = "signature-untrusted"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_REVOKED = "certificate-revoked"
    CERTIFICATE_NOT_QUALIFIED = "certificate-not-qualified"
    ALGORITHM_NOT_ALLOWED = "algorithm-not-allowed"
    SIGNER_NOT_AUTHORISED = "signer-not-authorised"
    CERTIFICATE_WITHDRAWN = "certificate-withdrawn"
    CERTIFICATE_NOT_BOUND = "certificate-not-bound"
    HEADERS_DIFFER = "headers-differ"
    ACCOUNT_BLOCKED = "account-blocked"
    ACCOUNT_RECEIVE_ONLY = "account-receive-only"
    NO_RIGHT_TO_SEND = "no-right-to-send"
    OVER_QUOTA = "over-quota"
    MALWARE = "malware"
    NOT_MIME = "not-mime"
    NUL_BYTE = "nul-byte"
    LINE_TOO_LONG = "line-too-long"
    BARE_LINE_ENDING = "bare-line-ending"
    TOO_BIG = "too-big"
    TOO_BIG_FOR_PROVIDER = "too-big-for-provider"
    DUPLICATE_ID = "duplicate-message-id"
    HEADER_INVALID = "header-invalid"
    REVOCATION_UNKNOWN = "revocation-unknown"
    SEALING_UNAVAILABLE = "sealing-unavailable"
    SCANNER_UNAVAILABLE = "scanner-unavailable"
    STORE_UNAVAILABLE = "store-unavailable"
    BUSY = "busy"
    # between providers
    NOT_A_KEP_MESSAGE = "not-a-kep-message"
    SEAL_BROKEN = "seal-broken"
    SEAL_NOT_REGISTERED = "seal-not-registered"
    SEAL_REVOKED = "seal-revoked"
    SEAL_EXPIRED = "seal-expired"
    EVIDENCE_NOT_THE_PEERS = "evidence-not-the-peers"
    ORIGINAL_DIFFERS = "original-differs"
    RECEIPT_UNMATCHED = "receipt-unmatched"
    MAIL_LOOP = "mail-loop"
    NOT_SERVED_HERE = "not-served-here"
    TLS_REQUIRED = "tls-required"
    CLOCK_DIFFERS = "clock-differs"
    REGISTER_NOT_CURRENT = "register-not-current"


@dataclass(frozen=True, slots=True)
class PublicText:
    """What outside sees of one refusal. ``durum`` is the SOAP status; None for reason means no evidence."""

    smtp: int
    enhanced: str
    reason: ReasonCode | None
    durum: int
    english: str
    turkish: str

    @property
    def temporary(self) -> bool:
        """Say whether trying later can help: then no evidence exists."""
        return 400 <= self.smtp < 500
