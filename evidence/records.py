"""The one internal record behind every evidence; serialisers turn it into XML.

spec: KEP-EV-01..08, KEP-EC-01..15, TS 102 640-2 v2 (names in rem-formats §1.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from types import MappingProxyType
from typing import Final


class EvidenceKind(IntEnum):
    """The KEP evidence codes (delilTurId)."""

    SUBMISSION_ACCEPTANCE = 10
    SUBMISSION_REJECTION = 11
    RELAY_ACCEPTANCE = 20
    RELAY_REJECTION = 21
    RELAY_FAILURE = 31
    DELIVERY = 40
    NON_DELIVERY = 41
    RETRIEVAL = 60
    NON_RETRIEVAL = 61


@dataclass(frozen=True, slots=True)
class KindNames:
    """How one kind is called: canonical event, XML root, event code, and for people."""

    event: str
    root: str
    event_code: str
    turkish: str
    english: str
    per_recipient: bool
    negative: bool


NAMES: Final[Mapping[EvidenceKind, KindNames]] = MappingProxyType(
    {
        EvidenceKind.SUBMISSION_ACCEPTANCE: KindNames(
            "SubmissionAcceptance",
            "SubmissionAcceptanceRejection",
            "Acceptance",
            "Kabul edildi",
            "Accepted",
            per_recipient=False,
            negative=False,
        ),
        EvidenceKind.SUBMISSION_REJECTION: KindNames(
            "SubmissionRejection",
            "SubmissionAcceptanceRejection",
            "Rejection",
            "Kabul edilmedi",
            "Not accepted",
            per_recipient=False,
            negative=True,
        ),
        EvidenceKind.RELAY_ACCEPTANCE: KindNames(
            "RelayAcceptance",
            "RelayREMMDAcceptanceRejection",
            "Acceptance",
            "Alıcı KEPHS'ye teslim edildi",
            "Handed to the recipient's provider",
            per_recipient=False,
            negative=False,
        ),
        EvidenceKind.RELAY_REJECTION: KindNames(
            "RelayRejection",
            "RelayREMMDAcceptanceRejection",
            "Rejection",
            "Alıcı KEPHS'ye teslim edilemedi",
            "Refused by the recipient's provider",
            per_recipient=False,
            negative=True,
        ),
        EvidenceKind.RELAY_FAILURE: KindNames(
            "RelayFailure",
            "RelayREMMDFailure",
            "DeliveryExpiration",
            "Alıcı KEPHS'ye ulaşılamadı",
            "Recipient's provider not reached",
            per_recipient=False,
            negative=True,
        ),
        EvidenceKind.DELIVERY: KindNames(
            "Delivery",
            "DeliveryNonDeliveryToRecipient",
            "Delivery",
            "Teslim edildi",
            "Delivered",
            per_recipient=True,
            negative=False,
        ),
        EvidenceKind.NON_DELIVERY: KindNames(
            "NonDelivery",
            "DeliveryNonDeliveryToRecipient",
            "DeliveryExpiration",
            "Teslim edilemedi",
            "Not delivered",
            per_recipient=True,
            negative=True,
        ),
        EvidenceKind.RETRIEVAL: KindNames(
            "Retrieval",
            "RetrievalNonRetrievalByRecipient",
            "Retrieval",
            "Okundu",
            "Read",
            per_recipient=True,
            negative=False,
        ),
        EvidenceKind.NON_RETRIEVAL: KindNames(
            "NonRetrieval",
            "RetrievalNonRetrievalByRecipient",
            "RetrievalExpiration",
            "Süresinde okunmadı",
            "Not read in time",
            per_recipient=True,
            negative=True,
        ),
    }
)


class ReasonCode(IntEnum):
    """Annex D reasons by number (rem-formats §1.3)."""

    INVALID_MESSAGE_FORMAT = 1
    MALWARE_FOUND = 2
    INVALID_USER_SIGNATURE = 3
    USER_CERT_EXPIRED_OR_REVOKED = 4
    POLICY_VIOLATION = 5
    R_REMMD_MALFUNCTION = 6
    R_REMMD_NOT_IDENTIFIED = 7
    R_REMMD_UNREACHABLE = 8
    S_REMMD_RECEIVED_NO_DELIVERY_INFO = 9
    UNKNOWN_RECIPIENT = 10
    MAILBOX_FULL = 11
    TECHNICAL_MALFUNCTION = 12
    ATTACHMENT_FORMAT_NOT_ACCEPTED = 13
    RECIPIENT_REJECTION = 14
    RETENTION_PERIOD_EXPIRED = 15
    OTHER = 22


REASON_NAMES: Final[Mapping[ReasonCode, str]] = MappingProxyType(
    {
        ReasonCode.INVALID_MESSAGE_FORMAT: "InvalidMessageFormat",
        ReasonCode.MALWARE_FOUND: "MalwareFound",
        ReasonCode.INVALID_USER_SIGNATURE: "InvalidUserSignature",
        ReasonCode.USER_CERT_EXPIRED_OR_REVOKED: "UserCertExpiredOrRevoked",
        ReasonCode.POLICY_VIOLATION: "PolicyViolation",
        ReasonCode.R_REMMD_MALFUNCTION: "R_REMMD_Malfunction",
        ReasonCode.R_REMMD_NOT_IDENTIFIED: "R_REMMD_NotIdentified",
        ReasonCode.R_REMMD_UNREACHABLE: "R_REMMD_Unreachable",
        ReasonCode.S_REMMD_RECEIVED_NO_DELIVERY_INFO: "S_REMMD_ReceivedNoDeliveryInfoFromR_REMMD",
        ReasonCode.UNKNOWN_RECIPIENT: "UnknownRecipient",
        ReasonCode.MAILBOX_FULL: "MailboxFull",
        ReasonCode.TECHNICAL_MALFUNCTION: "TechnicalMalfunction",
        ReasonCode.ATTACHMENT_FORMAT_NOT_ACCEPTED: "AttachementFormatNotAccepted",  # sic, Annex D
        ReasonCode.RECIPIENT_REJECTION: "RecipientRejection",
        ReasonCode.RETENTION_PERIOD_EXPIRED: "RetentionPeriodExpired",
        ReasonCode.OTHER: "Other",
    }
)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an evidence is negative; ``details`` starts with our stable refusal code."""

    code: ReasonCode
    details: str = ""


@dataclass(frozen=True, slots=True)
class Party:
    """A sender or recipient: plain ``a@b`` address and, where known, the name."""

    address: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Issuer:
    """The provider that issues evidence (KEP-EC-05, KEP-EC-06)."""

    name: str
    address: str  # service address, kep-hizmet@hs91.kep.tr
    policy_id: str  # OID URN or URL of the practice statement (KEPUE)
    street: str
    locality: str
    postal_code: str
    country: str = "TR"


@dataclass(frozen=True, slots=True)
class Authentication:
    """How and when somebody proved who they are (KEP-EC-07); ``person`` names who logged in."""

    at: datetime
    method: str  # URI, urn:oasis:names:tc:SAML:2.0:ac:classes:...
    person: str | None = None


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """What the evidence says of the message (KEP-EC-12)."""

    subject: str
    user_message_id: str | None  # with <>
    kep_message_id: str  # without <>
    digest_sha256: bytes  # of the prepared original, its final CRLF included


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """One event, provable. Times are UTC; ``refers_to`` is 1-based (KEP-EC-11)."""

    kind: EvidenceKind
    evidence_id: str  # unique, Message-ID style without <>
    event_time: datetime
    submission_time: datetime
    issuer: Issuer
    sender: Party
    recipients: tuple[Party, ...]
    message: MessageFacts
    reasons: tuple[Reason, ...] = ()
    refers_to: int | None = None
    sender_authentication: Authentication | None = None
    recipient_authentication: Authentication | None = None
    delegate: Party | None = None  # the operator who read for a legal person (KEP-EC-10)


@dataclass(frozen=True, slots=True)
class SealedEvidence:
    """A record with its exact signed bytes; never regenerated."""

    record: EvidenceRecord
    xml: bytes


def file_stem(kind: EvidenceKind, refers_to: int | None) -> str:
    """Return the file name without ending: ``10-SubmissionAcceptance``, ``40-Delivery-1``."""
    stem = f"{kind.value}-{NAMES[kind].event}"
    return f"{stem}-{refers_to}" if refers_to is not None else stem
