"""Why an event happened, in both evidence formats, and how the two map to one another.

TS 102 640-2 has 22 reasons (Annex D), EN 319 522-1 about 40, each of which stands for one TS reason or for
success (spec: rem-formats §1.3, §2.3; KEP-RC-01..10). In TS the EN code stands before the text in Details
(``RB04: ...``); in EN the first Details is the code, the second the text. What neither table knows (national
codes, later editions) is kept as it came.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from evidence.model.events import EvidenceKind

TS_REASON_PREFIX: Final = "http:uri.etsi.org/REM/EventReason#"  # literally without "//"
ERDS_REASON_PREFIX: Final = "http://uri.etsi.org/19522/EventReason/"


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
    REGULAR_EMAIL_UNREACHABLE = 16
    REGULAR_EMAIL_NON_OPERATIONAL = 17
    REGULAR_EMAIL_REJECTION = 18
    PRINTING_SYSTEM_UNREACHABLE = 19
    PRINTING_SYSTEM_NON_OPERATIONAL = 20
    PRINTING_BUFFER_FULL = 21
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
        ReasonCode.REGULAR_EMAIL_UNREACHABLE: "RegularEmailUnreachable",
        ReasonCode.REGULAR_EMAIL_NON_OPERATIONAL: "RegularEmailNonOperational",
        ReasonCode.REGULAR_EMAIL_REJECTION: "RegularEmailRejection",
        ReasonCode.PRINTING_SYSTEM_UNREACHABLE: "PrintingSystemUnreachable",
        ReasonCode.PRINTING_SYSTEM_NON_OPERATIONAL: "PrintingSystemNonOperational",
        ReasonCode.PRINTING_BUFFER_FULL: "PrintingBufferFull",
        ReasonCode.OTHER: "Other",
    }
)
REASON_BY_NAME: Final[Mapping[str, ReasonCode]] = MappingProxyType(
    {name: code for code, name in REASON_NAMES.items()}
    | {
        "AttachmentFormatNotAccepted": ReasonCode.ATTACHMENT_FORMAT_NOT_ACCEPTED,
        "R_REMMD_NotIdenified": ReasonCode.R_REMMD_NOT_IDENTIFIED,  # sic, seen at peers
        "DuplicateMsgID": ReasonCode.POLICY_VIOLATION,
    }
)
"""TS reason names, ours and the misspelt ones peers send."""


@dataclass(frozen=True, slots=True)
class ErdsReason:
    """One reason of EN 319 522-1 Annex A / 532-4; ``reason`` None: the event succeeded."""

    code: str  # RA01
    name: str  # last part of the URI
    text: str
    reason: ReasonCode | None


_OTHER: Final = ReasonCode.OTHER
ERDS_OTHER: Final = ErdsReason("RXXX", "Other", "Other", _OTHER)
"""The standard gives Other no number that we know of; RXXX stands in its place. [unconfirmed]"""

_ERDS_ROWS: Final = (
    ErdsReason("RA01", "MessageAccepted", "Message accepted", None),
    ErdsReason("RA02", "InvalidMessageFormat", "Invalid message format", ReasonCode.INVALID_MESSAGE_FORMAT),
    ErdsReason("RA03", "MalwareFound", "Malware found in ERD original message", ReasonCode.MALWARE_FOUND),
    ErdsReason(
        "RA04", "SenderSigningCertExpiredOrRevoked", "Sender's signing certificate expired or revoked",
        ReasonCode.USER_CERT_EXPIRED_OR_REVOKED,
    ),
    ErdsReason(
        "RA05", "S_ERDS_PolicyViolation", "Policy of the sender's ERDS violated", ReasonCode.POLICY_VIOLATION
    ),
    ErdsReason(
        "RB01", "S_ERDS_MessageSuccessfullyRelayed",
        "ERD message successfully relayed to the Recipient's ERDSP", None,
    ),
    ErdsReason(
        "RB02", "R_ERDS_MessageRejected", "Rejected by R-ERDSP: invalid message format",
        ReasonCode.INVALID_MESSAGE_FORMAT,
    ),
    ErdsReason(
        "RB03", "R_ERDS_MessageRejectedForMalware", "Rejected by R-ERDSP: malware found",
        ReasonCode.MALWARE_FOUND,
    ),
    # RB04 and RB05 blame the provider's seal; TS 3 and 4 would blame the sender's certificate.
    ErdsReason(
        "RB04", "R_ERDS_MessageRejectedForInvalidSignature", "Rejected by R-ERDSP: invalid ERDS signature",
        _OTHER,
    ),
    ErdsReason(
        "RB05", "R_ERDS_MessageRejectedForInvalidCertificate",
        "Rejected by R-ERDSP: invalid ERDS certificate", _OTHER,
    ),
    ErdsReason(
        "RB06", "R_ERDS_PolicyViolation", "Policy of the Recipient's ERDS violated",
        ReasonCode.POLICY_VIOLATION,
    ),
    ErdsReason(
        "RB07", "R_ERDS_Malfunction", "Recipient's ERDSP malfunction", ReasonCode.R_REMMD_MALFUNCTION
    ),
    ErdsReason(
        "RB08", "R_ERDS_NotIdentified", "Recipient's ERDSP not identified", ReasonCode.R_REMMD_NOT_IDENTIFIED
    ),
    ErdsReason(
        "RB09", "R_ERDS_Unreachable", "Recipient's ERDSP unreachable", ReasonCode.R_REMMD_UNREACHABLE
    ),
    ErdsReason("RB10", "UnknownRecipient", "Unknown recipient", ReasonCode.UNKNOWN_RECIPIENT),
    ErdsReason(
        "RB21", "MessageNotAcceptedForUnregisteredRecipient", "Not accepted for unregistered recipient",
        ReasonCode.UNKNOWN_RECIPIENT,
    ),
    ErdsReason(
        "RB22", "S_ERDSP_ReceivedNoRelayAcceptanceInfoFromR_ERDSP",
        "No relay acceptance information received from the Recipient's ERDSP",
        ReasonCode.S_REMMD_RECEIVED_NO_DELIVERY_INFO,
    ),
    ErdsReason(
        "RC01", "NotificationForAcceptanceSent", "Notification for acceptance sent to recipient", None
    ),
    ErdsReason(
        "RC02", "SubsequentNotificationForAcceptanceSent",
        "Subsequent notification for acceptance sent to recipient", None,
    ),
    ErdsReason(
        "RC03", "NotificationForAcceptenceError",  # sic
        "Error in delivering notification for acceptance", ReasonCode.TECHNICAL_MALFUNCTION,
    ),
    ErdsReason(
        "RC04", "SubsequentNotificationForAcceptanceError",
        "Error in delivering subsequent notification for acceptance", ReasonCode.TECHNICAL_MALFUNCTION,
    ),
    ErdsReason(
        "RC05", "NotificationForAcceptanceMultipleError",
        "Repeated error in delivering notification for acceptance", ReasonCode.TECHNICAL_MALFUNCTION,
    ),
    ErdsReason(
        "RC06", "SubsequentNotificationForAcceptanceMultipleError",
        "Repeated error in delivering subsequent notification for acceptance",
        ReasonCode.TECHNICAL_MALFUNCTION,
    ),
    ErdsReason("RC07", "MessageAcceptedByRecipient", "Message accepted by the recipient", None),
    ErdsReason(
        "RC08", "MessageRejectedByRecipient", "Message explicitly rejected by the recipient",
        ReasonCode.RECIPIENT_REJECTION,
    ),
    ErdsReason(
        "RC09", "MessageNotAcceptedInTimeByRecipient", "Message not accepted in time",
        ReasonCode.RETENTION_PERIOD_EXPIRED,
    ),
    ErdsReason(
        "RD01", "MessageConsignedToRecipient", "Message successfully consigned to the recipient", None
    ),
    ErdsReason(
        "RD02", "MessageConsignedToDelegate", "Message successfully consigned to the recipient's delegate",
        None,
    ),
    ErdsReason(
        "RD03", "S_ERDSP_ReceivedNoDeliveryInfoFromR_ERDSP",
        "No consignment information received from the Recipient's ERDSP",
        ReasonCode.S_REMMD_RECEIVED_NO_DELIVERY_INFO,
    ),
    ErdsReason(
        "RD04", "MessageNotConsignedForQuota", "Not consigned for excessing recipient quota",
        ReasonCode.MAILBOX_FULL,
    ),
    ErdsReason(
        "RD05", "MessageNotConsignedForMalfunction", "Not consigned for technical malfunction",
        ReasonCode.TECHNICAL_MALFUNCTION,
    ),
    ErdsReason(
        "RD06", "MessageNotConsignedForUnallowedType", "Not consigned for unallowed content type",
        ReasonCode.ATTACHMENT_FORMAT_NOT_ACCEPTED,
    ),
    ErdsReason(
        "RD21", "MessageNotConsignedForUnregisteredRecipient", "Not consigned for unregistered recipient",
        ReasonCode.UNKNOWN_RECIPIENT,
    ),
    ErdsReason("RE01", "MessageHandedOver", "Message successfully handed over to the recipient", None),
    ErdsReason(
        "RE02", "MessageHandedOverToDelegate",
        "Message successfully handed over to the recipient's delegate", None,
    ),
    ErdsReason(
        "RE03", "MessageNotHandedOverForUnallowedType", "Not handed over for unallowed content type",
        ReasonCode.ATTACHMENT_FORMAT_NOT_ACCEPTED,
    ),
    ErdsReason(
        "RE04", "MessageHandoverTimeout", "Message handover failed after specific time period",
        ReasonCode.RETENTION_PERIOD_EXPIRED,
    ),
    ErdsReason("RF01", "MessageRelayedToNonERDS", "Successful relay to non ERDS", None),
    ErdsReason(
        "RF02", "ExternalSystemUnreachable", "External system unreachable",
        ReasonCode.REGULAR_EMAIL_UNREACHABLE,
    ),
    ErdsReason(
        "RF03", "MessageRejectedByExternalSystem", "Rejected by the external system",
        ReasonCode.REGULAR_EMAIL_REJECTION,
    ),
    ErdsReason("RF04", "MessageReceivedFromNonERDS", "Received from non ERDS", None),
    ERDS_OTHER,
)  # fmt: skip

ERDS_REASONS: Final[Mapping[str, ErdsReason]] = MappingProxyType({row.code: row for row in _ERDS_ROWS})
"""EN reasons by code. The numbers of the C and E rows are by order. [unconfirmed]"""
ERDS_BY_NAME: Final[Mapping[str, ErdsReason]] = MappingProxyType(
    {row.name: row for row in _ERDS_ROWS}
    | {"NotificationForAcceptanceError": ERDS_REASONS["RC03"]}  # as it was meant
)
"""EN reasons by the last part of their URI."""

ERDS_SUCCESS: Final[Mapping[EvidenceKind, str]] = MappingProxyType(
    {
        EvidenceKind.SUBMISSION_ACCEPTANCE: "RA01",
        EvidenceKind.RELAY_ACCEPTANCE: "RB01",
        EvidenceKind.NOTIFICATION_FOR_ACCEPTANCE: "RC01",
        EvidenceKind.ACCEPTANCE_BY_RECIPIENT: "RC07",
        EvidenceKind.DELIVERY: "RD01",
        EvidenceKind.CONSIGNMENT_NOTIFICATION: ERDS_OTHER.code,  # the standard names none
        EvidenceKind.RETRIEVAL: "RE01",
        EvidenceKind.DOWNLOAD: "RE01",
        EvidenceKind.RELAY_TO_NON_REM: "RF01",
        EvidenceKind.RECEIVED_FROM_NON_REM: "RF04",
    }
)
"""What a success is called; TS says nothing, EN wants a reason always."""
ERDS_TO_DELEGATE: Final[Mapping[str, str]] = MappingProxyType({"RD01": "RD02", "RE01": "RE02"})
"""The same success where a delegate acted."""
ERDS_FAILURE: Final[Mapping[tuple[EvidenceKind, ReasonCode], str]] = MappingProxyType(
    {
        (kind, ReasonCode(number)): code
        for kind, listed in {
            EvidenceKind.SUBMISSION_REJECTION: {1: "RA02", 2: "RA03", 4: "RA04", 5: "RA05"},
            EvidenceKind.RELAY_REJECTION: {
                1: "RB02", 2: "RB03", 5: "RB06", 6: "RB07", 7: "RB08", 8: "RB09", 10: "RB21",
            },
            EvidenceKind.RELAY_FAILURE: {
                1: "RB02", 2: "RB03", 5: "RB06", 6: "RB07", 7: "RB08", 8: "RB09", 9: "RB22", 10: "RB10",
            },
            EvidenceKind.NOTIFICATION_FOR_ACCEPTANCE_FAILURE: {12: "RC03"},
            EvidenceKind.REJECTION_BY_RECIPIENT: {14: "RC08"},
            EvidenceKind.ACCEPTANCE_REJECTION_EXPIRY: {15: "RC09"},
            EvidenceKind.NON_DELIVERY: {9: "RD03", 10: "RD21", 11: "RD04", 12: "RD05", 13: "RD06"},
            EvidenceKind.NON_RETRIEVAL: {13: "RE03", 15: "RE04"},
            EvidenceKind.NON_DOWNLOAD: {13: "RE03", 15: "RE04"},
            EvidenceKind.RELAY_TO_NON_REM_FAILURE: {16: "RF02", 18: "RF03"},
        }.items()
        for number, code in listed.items()
    }
)  # fmt: skip
"""Which EN reason stands for a TS reason in an event; any other pair is `ERDS_OTHER`."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an evidence is negative; ``details`` starts with our stable refusal code.

    The last two are empty in what we issue ourselves and keep what another writer meant: ``erds_code`` the
    EN code where event and ``code`` do not lead to it (``RB04``, ``RA51``), ``foreign`` the reason's whole
    URI where our tables do not know it.
    """

    code: ReasonCode
    details: str = ""
    erds_code: str = ""
    foreign: str = ""


_IN_DETAILS: Final = re.compile(r"(R[A-Z][0-9A-Z]{2,3})(?:/([^\s/:]{1,100}))?(?:: (.*)|)", re.DOTALL)
_ERDS_CODE: Final = re.compile(r"R[A-Z][0-9A-Z]{2,3}")


def _is_erds(uri: str) -> bool:
    """Say whether an unknown reason's URI is one of EN, not of TS."""
    return bool(uri) and "#" not in uri


def success_row(kind: EvidenceKind, *, delegated: bool) -> ErdsReason | None:
    """Return what EN calls the success of this event, None for an event that is none."""
    code = ERDS_SUCCESS.get(kind)
    if code is None:
        return None
    return ERDS_REASONS[ERDS_TO_DELEGATE.get(code, code) if delegated else code]


def erds_row(kind: EvidenceKind, reason: Reason) -> ErdsReason:
    """Return the EN reason that stands for a reason of this event; `ERDS_OTHER` where none fits."""
    if _is_erds(reason.foreign):
        name = reason.foreign.rstrip("/").rpartition("/")[2]
        return ErdsReason(reason.erds_code or ERDS_OTHER.code, name, "", reason.code)
    if reason.erds_code:
        row = ERDS_REASONS.get(reason.erds_code)
        return ErdsReason(reason.erds_code, ERDS_OTHER.name, "", reason.code) if row is None else row
    return ERDS_REASONS[ERDS_FAILURE.get((kind, reason.code), ERDS_OTHER.code)]


def shown(reason: Reason) -> str:
    """Return what a reason is called for people: its name and, where another writer gave one, its code."""
    name = REASON_NAMES[reason.code]
    if reason.foreign:
        name = re.split("[#/]", reason.foreign.rstrip("#/"))[-1] or name
    return f"{name} ({reason.erds_code})" if reason.erds_code else name


def to_ts(kind: EvidenceKind, reason: Reason) -> tuple[str, str] | None:
    """Return the TS code URI and Details of a reason; None for a success, which TS does not state."""
    row = erds_row(kind, reason)
    if row.reason is None:
        return None
    code = TS_REASON_PREFIX + REASON_NAMES[reason.code]
    if _is_erds(reason.foreign):
        mark = f"{row.code}/{row.name}"
    elif row is ERDS_OTHER:
        mark, code = "", reason.foreign or code
    else:
        mark, code = row.code, reason.foreign or code
    text = reason.details or row.text
    if not mark:
        return code, reason.details
    return code, f"{mark}: {text}" if text else mark


def from_ts(kind: EvidenceKind, uri: str, details: str) -> Reason:
    """Read a TS reason; the name counts, whatever stands before ``#`` (hosts are misspelt at peers)."""
    code = REASON_BY_NAME.get(uri.rpartition("#")[2])
    foreign = uri if code is None else ""
    code = ReasonCode.OTHER if code is None else code
    marked = _IN_DETAILS.fullmatch(details)
    if marked is None:
        return Reason(code, details, "", foreign)
    mark, name, text = marked[1], marked[2], marked[3] or ""
    if name:
        return Reason(code, text, "" if mark == ERDS_OTHER.code else mark, ERDS_REASON_PREFIX + name)
    row = ERDS_REASONS.get(mark)
    if row is not None and row.reason is None:  # a text that looks like the code of a success
        return Reason(code, details, "", foreign)
    if row is not None and text == row.text:
        text = ""
    return Reason(code, text, "" if mark == erds_row(kind, Reason(code)).code else mark, foreign)


def to_erds(kind: EvidenceKind, reason: Reason) -> tuple[str, tuple[str, ...]]:
    """Return the EN code URI and its Details: the EN code, then the text.

    Where EN has no reason of its own, the TS name goes between the two.
    """
    row = erds_row(kind, reason)
    uri = reason.foreign if _is_erds(reason.foreign) else ERDS_REASON_PREFIX + row.name
    details = reason.details or row.text
    if row is not ERDS_OTHER:
        return uri, (row.code, details) if details else (row.code,)
    if reason.foreign:
        name = reason.foreign.rpartition("#")[2]
        return uri, (row.code, f"{name}: {reason.details}" if reason.details else name)
    if reason.code is ReasonCode.OTHER:
        return uri, (row.code, details)
    name = REASON_NAMES[reason.code]
    return uri, (row.code, name, reason.details) if reason.details else (row.code, name)


def from_erds(
    kind: EvidenceKind, uri: str, details: Sequence[str], *, delegated: bool = False
) -> Reason | None:
    """Read an EN reason; None for the success its event is by itself."""
    mark = details[0].strip() if details and _ERDS_CODE.fullmatch(details[0].strip()) else ""
    texts = list(details[1:] if mark else details)
    name = uri.rstrip("/#").replace("#", "/").rpartition("/")[2]
    row = ERDS_BY_NAME.get(name)
    if row is None:
        known = ERDS_REASONS.get(mark)
        code = known.reason if known is not None and known.reason is not None else ReasonCode.OTHER
        return Reason(code, "\n".join(texts), "" if mark == ERDS_OTHER.code else mark, uri)
    if texts == [row.text]:
        texts = []
    mark = mark or row.code
    success = success_row(kind, delegated=delegated)
    if success is not None and row.code == success.code == mark and not texts:
        return None
    return _known(kind, uri, row, mark, texts)


def _known(kind: EvidenceKind, uri: str, row: ErdsReason, mark: str, texts: list[str]) -> Reason:
    code = ReasonCode.OTHER if row.reason is None else row.reason
    if row is ERDS_OTHER:
        if texts and texts[0] in REASON_BY_NAME:
            code = REASON_BY_NAME[texts.pop(0)]
        own_number = mark not in ERDS_REASONS or mark == row.code
        erds_code = "" if mark == row.code else mark
        return Reason(code, "\n".join(texts), erds_code, "" if own_number else uri)
    details = "\n".join(texts)
    if mark != row.code:  # another edition's number: name and number stay as they are
        return Reason(code, details, mark, uri)
    usual = erds_row(kind, Reason(code)).code == row.code
    return Reason(code, details, "" if usual else row.code)
