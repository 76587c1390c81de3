"""The events of both evidence formats, and how they map to one another: data only.

TS 102 640-2 v2 calls an event by its root element and event code, EN 319 522-1 by one URI; the codes KEP
law gives (delilTurId) match the TS roots (spec: rem-formats §1.1, §2.1; KEP-EV-01, KEP-EV-10..61).

What is lost on the way: EN knows no difference between Download and Retrieval (both ContentHandover, read
as Retrieval), and five EN events have no TS form. `evidence.model.reasons` does the same for reasons.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final


class EvidenceKind(IntEnum):
    """What an evidence is about.

    Up to 99 the number is the KEP evidence code (delilTurId). KEP rules number no other event: those from
    901 on are ours, for storage and file names, and are never shown as a delilTurId.
    """

    SUBMISSION_ACCEPTANCE = 10
    SUBMISSION_REJECTION = 11
    RELAY_ACCEPTANCE = 20
    RELAY_REJECTION = 21
    RELAY_FAILURE = 31
    DELIVERY = 40
    NON_DELIVERY = 41
    RETRIEVAL = 60
    NON_RETRIEVAL = 61
    DOWNLOAD = 901
    NON_DOWNLOAD = 902
    ACCEPTANCE_BY_RECIPIENT = 903
    REJECTION_BY_RECIPIENT = 904
    RELAY_TO_NON_REM = 905
    RELAY_TO_NON_REM_FAILURE = 906
    RECEIVED_FROM_NON_REM = 907
    NOTIFICATION_FOR_ACCEPTANCE = 908
    NOTIFICATION_FOR_ACCEPTANCE_FAILURE = 909
    ACCEPTANCE_REJECTION_EXPIRY = 910
    CONSIGNMENT_NOTIFICATION = 911
    CONSIGNMENT_NOTIFICATION_FAILURE = 912

    @property
    def kep_code(self) -> int | None:
        """Return the delilTurId, None where KEP rules have none."""
        return self.value if self.value < 100 else None


@dataclass(frozen=True, slots=True)
class KindNames:
    """How one kind is called: canonical event, XML root, event code, and for people."""

    event: str
    root: str  # TS 102 640-2 root element, "" without a TS counterpart
    event_code: str  # last part of the TS EventCode, "" without a TS counterpart
    turkish: str
    english: str
    per_recipient: bool
    negative: bool
    erds_event: str  # last part of the EN 319 522 event URI
    erds_code: str  # A.1 to F.3

    @property
    def family(self) -> str:
        """Return the letter: A submission, B relay, C consent, D consignment, E handover, F outside."""
        return self.erds_code[0]


def _kind(
    event: str,
    ts: tuple[str, str],
    erds: tuple[str, str],
    people: tuple[str, str],
    *,
    negative: bool = False,
) -> KindNames:
    per_recipient = erds[0][0] in "CDE"
    return KindNames(event, *ts, *people, per_recipient, negative, erds[1], erds[0])


_SUBMISSION: Final = "SubmissionAcceptanceRejection"
_RELAY: Final = "RelayREMMDAcceptanceRejection"
_DELIVERY: Final = "DeliveryNonDeliveryToRecipient"
_DOWNLOAD: Final = "DownloadNonDownloadByRecipient"
_RETRIEVAL: Final = "RetrievalNonRetrievalByRecipient"
_CONSENT: Final = "AcceptanceRejectionByRecipient"
_TO_OUTSIDE: Final = "RelayToNonREMSystem"
_NO_TS: Final = ("", "")

NAMES: Final[Mapping[EvidenceKind, KindNames]] = MappingProxyType(
    {
        EvidenceKind.SUBMISSION_ACCEPTANCE: _kind(
            "SubmissionAcceptance", (_SUBMISSION, "Acceptance"), ("A.1", "SubmissionAcceptance"),
            ("Kabul edildi", "Accepted"),
        ),
        EvidenceKind.SUBMISSION_REJECTION: _kind(
            "SubmissionRejection", (_SUBMISSION, "Rejection"), ("A.2", "SubmissionRejection"),
            ("Kabul edilmedi", "Not accepted"), negative=True,
        ),
        EvidenceKind.RELAY_ACCEPTANCE: _kind(
            "RelayAcceptance", (_RELAY, "Acceptance"), ("B.1", "RelayAcceptance"),
            ("Alıcı KEPHS'ye teslim edildi", "Handed to the recipient's provider"),
        ),
        EvidenceKind.RELAY_REJECTION: _kind(
            "RelayRejection", (_RELAY, "Rejection"), ("B.2", "RelayRejection"),
            ("Alıcı KEPHS'ye teslim edilemedi", "Refused by the recipient's provider"), negative=True,
        ),
        EvidenceKind.RELAY_FAILURE: _kind(
            "RelayFailure", ("RelayREMMDFailure", "DeliveryExpiration"), ("B.3", "RelayFailure"),
            ("Alıcı KEPHS'ye ulaşılamadı", "Recipient's provider not reached"), negative=True,
        ),
        EvidenceKind.DELIVERY: _kind(
            "Delivery", (_DELIVERY, "Delivery"), ("D.1", "ContentConsignment"),
            ("Teslim edildi", "Delivered"),
        ),
        EvidenceKind.NON_DELIVERY: _kind(
            "NonDelivery", (_DELIVERY, "DeliveryExpiration"), ("D.2", "ContentConsignmentFailure"),
            ("Teslim edilemedi", "Not delivered"), negative=True,
        ),
        EvidenceKind.RETRIEVAL: _kind(
            "Retrieval", (_RETRIEVAL, "Retrieval"), ("E.1", "ContentHandover"), ("Okundu", "Read"),
        ),
        EvidenceKind.NON_RETRIEVAL: _kind(
            "NonRetrieval", (_RETRIEVAL, "RetrievalExpiration"), ("E.2", "ContentHandoverFailure"),
            ("Süresinde okunmadı", "Not read in time"), negative=True,
        ),
        EvidenceKind.DOWNLOAD: _kind(
            "Download", (_DOWNLOAD, "Download"), ("E.1", "ContentHandover"),
            ("İndirildi", "Downloaded"),
        ),
        EvidenceKind.NON_DOWNLOAD: _kind(
            "NonDownload", (_DOWNLOAD, "DownloadExpiration"), ("E.2", "ContentHandoverFailure"),
            ("Süresinde indirilmedi", "Not downloaded in time"), negative=True,
        ),
        EvidenceKind.ACCEPTANCE_BY_RECIPIENT: _kind(
            "AcceptanceByRecipient", (_CONSENT, "Acceptance"), ("C.3", "ConsignmentAcceptance"),
            ("Alıcı kabul etti", "Accepted by the recipient"),
        ),
        EvidenceKind.REJECTION_BY_RECIPIENT: _kind(
            "RejectionByRecipient", (_CONSENT, "Rejection"), ("C.4", "ConsignmentRejection"),
            ("Alıcı reddetti", "Refused by the recipient"), negative=True,
        ),
        EvidenceKind.RELAY_TO_NON_REM: _kind(
            "RelayToNonREM", (_TO_OUTSIDE, "Acceptance"), ("F.1", "RelayToNonERDS"),
            ("KEP dışı sisteme iletildi", "Passed to ordinary e-mail"),
        ),
        EvidenceKind.RELAY_TO_NON_REM_FAILURE: _kind(
            "RelayToNonREMFailure", (_TO_OUTSIDE, "Rejection"), ("F.2", "RelayToNonERDSFailure"),
            ("KEP dışı sisteme iletilemedi", "Not passed to ordinary e-mail"), negative=True,
        ),
        EvidenceKind.RECEIVED_FROM_NON_REM: _kind(
            "ReceivedFromNonREM", ("ReceivedFromNonREMSystem", "Acceptance"), ("F.3", "ReceivedFromNonERDS"),
            ("KEP dışı sistemden alındı", "Received from ordinary e-mail"),
        ),
        EvidenceKind.NOTIFICATION_FOR_ACCEPTANCE: _kind(
            "NotificationForAcceptance", _NO_TS, ("C.1", "NotificationForAcceptance"),
            ("Onay için bildirildi", "Recipient asked to accept"),
        ),
        EvidenceKind.NOTIFICATION_FOR_ACCEPTANCE_FAILURE: _kind(
            "NotificationForAcceptanceFailure", _NO_TS, ("C.2", "NotificationForAcceptanceFailure"),
            ("Onay için bildirilemedi", "Recipient not asked to accept"), negative=True,
        ),
        EvidenceKind.ACCEPTANCE_REJECTION_EXPIRY: _kind(
            "AcceptanceRejectionExpiry", _NO_TS, ("C.5", "AcceptanceRejectionExpiry"),
            ("Alıcı süresinde yanıtlamadı", "Not answered by the recipient in time"), negative=True,
        ),
        EvidenceKind.CONSIGNMENT_NOTIFICATION: _kind(
            "ConsignmentNotification", _NO_TS, ("D.3", "ConsignmentNotification"),
            ("Teslim bildirildi", "Recipient notified of the delivery"),
        ),
        EvidenceKind.CONSIGNMENT_NOTIFICATION_FAILURE: _kind(
            "ConsignmentNotificationFailure", _NO_TS, ("D.4", "ConsignmentNotificationFailure"),
            ("Teslim bildirilemedi", "Recipient not notified of the delivery"), negative=True,
        ),
    }
)  # fmt: skip

KEP_KINDS: Final = frozenset(kind for kind in EvidenceKind if kind.kep_code is not None)
"""The kinds KEP rules know and this server issues."""
TS_KINDS: Final = frozenset(kind for kind, names in NAMES.items() if names.root)
"""The kinds TS 102 640-2 v2 has a root for; EN 319 522 has all."""
REM_BASELINE_KINDS: Final = frozenset(
    kind
    for kind, names in NAMES.items()
    if names.erds_code in {"A.1", "A.2", "B.1", "B.2", "B.3", "D.1", "D.2"}
)
"""The events of the REM baseline, spec: rem-formats §2.1."""

KIND_BY_TS: Final[Mapping[tuple[str, str], EvidenceKind]] = MappingProxyType(
    {(NAMES[kind].root, NAMES[kind].event_code): kind for kind in EvidenceKind if kind in TS_KINDS}
    | {(_DELIVERY, "NonDelivery"): EvidenceKind.NON_DELIVERY}  # peers write it so
)
"""TS root and event code to kind."""
KIND_BY_ERDS: Final[Mapping[str, EvidenceKind]] = MappingProxyType(
    {names.erds_event: kind for kind, names in reversed(list(NAMES.items()))}
)
"""EN event to kind; where two kinds share an event the first counts: Retrieval, not Download."""
