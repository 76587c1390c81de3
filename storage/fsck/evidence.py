"""fsck on evidence: what the signed XML says against the rows, and who may have made it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from evidence.forms.rem_xml import clean_text
from evidence.model.records import EvidenceKind, EvidenceRecord, ReasonCode
from kephs.domain.lifecycle import MessageState
from kephs.domain.messages import Delivery, StoredEvidence, Submission
from storage.fsck.findings import Finding, FindingCode

_K = EvidenceKind
_OF_A_RECIPIENT: Final = frozenset({_K.DELIVERY, _K.NON_DELIVERY, _K.RETRIEVAL, _K.NON_RETRIEVAL})
_OURS_SUBMITTED: Final = _OF_A_RECIPIENT | {
    _K.SUBMISSION_ACCEPTANCE,
    _K.SUBMISSION_REJECTION,
    _K.RELAY_FAILURE,
}
_RECIPIENTS_PROVIDERS: Final = _OF_A_RECIPIENT | {_K.RELAY_ACCEPTANCE, _K.RELAY_REJECTION}
_OF_OURS_ELSEWHERE: Final = frozenset({_K.RELAY_FAILURE, _K.NON_DELIVERY})
"""What we say about a recipient of a peer's."""
_SENDERS_PROVIDERS: Final = frozenset({_K.SUBMISSION_ACCEPTANCE})
"""What came with a message that a peer relayed to us; messages taken in earlier have none on record."""


Covers = Mapping[str, tuple[int, ...]]
"""Whom relay evidence lists, by evidence id, where it is about several recipients and not all (KEP-EV-02)."""


def about(row: StoredEvidence, delivery: Delivery, covers: Covers) -> bool:
    """Say whether an evidence is about this recipient: it names them, or all that its maker speaks for."""
    listed = covers.get(row.evidence_id)
    return delivery.number in listed if listed else row.number in (None, delivery.number)


def makers(
    message: Submission, deliveries: Sequence[Delivery], evidence: Sequence[StoredEvidence], covers: Covers
) -> Iterator[Finding]:
    """Check that each evidence is its maker's to make, and about a recipient there is (KEP-EV table)."""
    for row in evidence:
        concerned = [d for d in deliveries if about(row, d, covers)]
        refused_beside = message.origin is not None and row.kind is _K.RELAY_REJECTION
        of_message = row.kind in _SENDERS_PROVIDERS  # whatever its maker wrote beside: of no recipient
        to_all = row.number is None or of_message
        if (to_all and row.kind in _OF_A_RECIPIENT) or not (to_all or concerned or refused_beside):
            yield Finding(FindingCode.EVIDENCE_WITHOUT_DELIVERY, row.evidence_id)
        elif not _may_make(message, row, concerned):
            detail = f"{row.kind.value} of {row.origin or 'ours'}"
            yield Finding(FindingCode.EVIDENCE_OTHER_MAKER, row.evidence_id, detail)


def _may_make(message: Submission, row: StoredEvidence, concerned: Sequence[Delivery]) -> bool:
    if message.origin is not None:
        if row.origin is None:
            return row.kind in _RECIPIENTS_PROVIDERS
        taken = message.state is not MessageState.REFUSED
        return taken and row.origin == message.origin and row.kind in _SENDERS_PROVIDERS
    if row.origin is not None:
        return row.kind in _RECIPIENTS_PROVIDERS and any(d.peer == row.origin for d in concerned)
    if row.number is not None and any(d.peer is not None for d in concerned):
        return row.kind in _OF_OURS_ELSEWHERE
    return row.kind in _OURS_SUBMITTED


def other_facts(
    record: EvidenceRecord,
    row: StoredEvidence,
    message: Submission | None,
    deliveries: Mapping[int, Delivery],
) -> list[str]:
    """Name what the XML says otherwise than the rows that are there."""
    delivery = deliveries.get(row.number or 0)
    found = [*_other_than_row(record, row, delivery), *_other_issuer(record, row, message, deliveries)]
    if delivery is not None and delivery.peer is not None and row.origin is None:
        found += _other_reason(record)
    if message is None:
        return found
    if row.account_id != message.account_id:
        found.append("sender's account")
    if _of_another_original(record, row, message):
        return found  # another original under an id that was taken: refused, on record beside the first
    if row.origin is None:
        return [*found, *_other_than_message(record, message)]
    if row.kind in _SENDERS_PROVIDERS:
        found += _other_than_relayed(record, message)
    return [*found, *_other_of_peers(record, message)]


def _milliseconds(at: datetime) -> datetime:
    """Return a time as our evidence carries it (KEP-EC-08)."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _domain(address: str) -> str:
    return address.rpartition("@")[2].lower()


def _other_than_row(record: EvidenceRecord, row: StoredEvidence, delivery: Delivery | None) -> Iterator[str]:
    """Name what the XML says otherwise than its row, and than the delivery it is about."""
    ours = row.origin is None
    if record.kind is not row.kind:
        yield f"kind {record.kind.value}"
    if record.evidence_id != row.evidence_id:
        yield "evidence id"
    # A peer may rewrite the domain of a referenced id, R-13.
    part = str if ours else _local_part
    if part(record.message.kep_message_id) != part(row.message_id):
        yield "message id"
    if record.event_time != (_milliseconds(row.event_time) if ours else row.event_time):
        yield "event time"
    if record.refers_to != row.number:
        yield "recipient's number"
    elif (
        record.refers_to is not None  # the reader checked that it names somebody
        and delivery is not None
        and record.recipients[record.refers_to - 1].address.lower() != delivery.address
    ):
        yield "recipient's address"


def _local_part(message_id: str) -> str:
    return message_id.partition("@")[0]


def _other_issuer(
    record: EvidenceRecord,
    row: StoredEvidence,
    message: Submission | None,
    deliveries: Mapping[int, Delivery],
) -> Iterator[str]:
    """Compare who made it: the provider its row names, and no peer where the row says we did."""
    issuer = _domain(record.issuer.address)
    if row.origin is not None:
        if issuer != row.origin:
            yield "issuer"
        return
    peers = {d.peer for d in deliveries.values()} | {message.origin if message else None}
    if issuer in peers:
        yield "issuer"


def _other_reason(record: EvidenceRecord) -> Iterator[str]:
    """Of a peer's recipient we say 41 for one reason alone: the peer kept silent (KEP-MS-12)."""
    silent = ReasonCode.S_REMMD_RECEIVED_NO_DELIVERY_INFO
    if record.kind is _K.NON_DELIVERY and silent not in {reason.code for reason in record.reasons}:
        yield "reason"


def _of_another_original(record: EvidenceRecord, row: StoredEvidence, message: Submission) -> bool:
    return (
        message.origin is not None
        and row.kind is _K.RELAY_REJECTION
        and record.message.digest_sha256 != message.digest_sha256
    )


def _other_than_message(record: EvidenceRecord, message: Submission) -> Iterator[str]:
    """Name what our XML says otherwise than the message's row."""
    if record.sender.address != message.sender.address:
        yield "sender's address"
    if record.message.digest_sha256 != message.digest_sha256:
        yield "digest of the original"
    if record.message.user_message_id != (clean_text(message.user_message_id or "") or None):
        yield "Message-ID"
    if record.submission_time != _milliseconds(message.submitted_at):
        yield "submission time"
    if record.kind is _K.SUBMISSION_REJECTION:
        return  # names recipients as they were written
    told, noted = [p.address for p in record.recipients], [str(r.address) for r in message.recipients]
    if message.origin is not None and message.state is MessageState.REFUSED:
        # named as the peer wrote them; the row has those that are addresses at all
        told = [address.lower() for address in told if address.lower() in set(noted)]
    if told != noted:
        yield "recipients"


def _other_than_relayed(record: EvidenceRecord, message: Submission) -> Iterator[str]:
    """Name what a peer's evidence 10 says otherwise than the row that was made of it."""
    if record.message.kep_message_id != message.message_id:
        yield "message id"
    if record.sender.address != message.sender.address:
        yield "sender's address"
    if record.message.user_message_id != message.user_message_id:
        yield "Message-ID"
    if record.submission_time != message.submitted_at:
        yield "submission time"


def _other_of_peers(record: EvidenceRecord, message: Submission) -> Iterator[str]:
    """Name what a peer's XML says otherwise than the message's row, in what it was matched by."""
    if record.message.digest_sha256 != message.digest_sha256:
        yield "digest of the original"
    if [p.address.lower() for p in record.recipients] != [str(r.address) for r in message.recipients]:
        yield "recipients"
