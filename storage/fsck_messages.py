"""fsck on messages: their deliveries, their evidence, and what the signed XML says of all three."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Final, TypeVar

from evidence.records import EvidenceKind, EvidenceRecord
from evidence.rem_xml import clean_text
from evidence.rem_xml import read as read_record
from evidence.xml_reader import XML_SIZE_MAX, EvidenceFormatError
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.domain.messages import Delivery, StoredEvidence, Submission
from storage.fsck_findings import Finding, FindingCode, unreadable
from storage.fsck_scope import PAGE, ContentAlteredError, ContentGoneError, Scope
from storage.survey import UNREADABLE, UnreadableRow

T = TypeVar("T")
R = TypeVar("R", Delivery, StoredEvidence)

_ABOUT_A_RECIPIENT: Final = frozenset(
    {
        EvidenceKind.DELIVERY,
        EvidenceKind.NON_DELIVERY,
        EvidenceKind.RETRIEVAL,
        EvidenceKind.NON_RETRIEVAL,
    }
)
_IN_A_MAILBOX: Final = (DeliveryState.DELIVERED, DeliveryState.READ)


class MessageCheck:
    """Reads every message with all that belongs to it, once, a page at a time."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._tx = scope.tx
        self._messages = self._evidence = 0

    def run(self) -> Iterator[Finding]:
        """Yield everything that does not hold, messages by id, then what lost its message."""
        for page in _pages(self._tx.messages.survey(), PAGE):
            yield from self._page(page)
            self._report()
        yield from self._strays()
        self._report()

    def _report(self) -> None:
        self._scope.progress("messages", self._messages)
        self._scope.progress("evidence", self._evidence)

    def _page(self, page: Sequence[Submission | UnreadableRow]) -> Iterator[Finding]:
        self._messages += len(page)
        ids = [row.key if isinstance(row, UnreadableRow) else row.message_id for row in page]
        findings: list[Finding] = []
        deliveries = _by_message(self._tx.deliveries.survey(ids), findings)
        evidence = _by_message(self._tx.evidence.survey(ids), findings)
        yield from findings
        for key, row in zip(ids, page, strict=True):
            if isinstance(row, UnreadableRow):
                yield unreadable(row)
                yield from self._evidence_of(None, deliveries[key], evidence[key])
                continue
            try:
                yield from self._message(row, deliveries[key], evidence[key])
            except UNREADABLE as error:  # a number that is none
                yield unreadable(UnreadableRow("messages", key, type(error).__name__))

    def _message(
        self, message: Submission, deliveries: list[Delivery], evidence: list[StoredEvidence]
    ) -> Iterator[Finding]:
        if message.dispatch is not None:
            self._scope.dispatches.add(message.dispatch)
        if message.account_id not in self._scope.accounts:
            yield Finding(FindingCode.MESSAGE_WITHOUT_ACCOUNT, message.message_id, message.account_id)
        yield from _message(message, evidence, deliveries)
        by_event = {(e.kind, e.number): e for e in evidence}
        for delivery in deliveries:
            yield from _delivery(delivery, by_event)
            yield from _addressed(delivery, message, self._scope.accounts)
            yield from self._filing(delivery)
        yield from self._evidence_of(message, deliveries, evidence)

    def _filing(self, delivery: Delivery) -> Iterator[Finding]:
        filed = self._tx.mailboxes.filed(delivery.delivery_id)
        everywhere = filed.inbox + filed.elsewhere + filed.removed
        if delivery.state in _IN_A_MAILBOX:
            if not everywhere:
                yield Finding(FindingCode.DELIVERY_NOT_FILED, delivery.delivery_id)
            if filed.inbox_times > 1:  # a client's copies keep the time of arrival
                yield Finding(FindingCode.DELIVERY_DOUBLED, delivery.delivery_id, f"{filed.inbox} in INBOX")
        elif everywhere:
            yield Finding(FindingCode.DELIVERY_FILED_EARLY, delivery.delivery_id, delivery.state.value)

    def _strays(self) -> Iterator[Finding]:
        for delivery in self._tx.deliveries.strays():
            if isinstance(delivery, UnreadableRow):
                yield unreadable(delivery)
            else:
                yield Finding(
                    FindingCode.DELIVERY_WITHOUT_MESSAGE, delivery.delivery_id, str(delivery.message_id)
                )
        for evidence in self._tx.evidence.strays():
            if isinstance(evidence, UnreadableRow):
                yield unreadable(evidence)
                continue
            yield Finding(
                FindingCode.EVIDENCE_WITHOUT_MESSAGE, evidence.evidence_id, str(evidence.message_id)
            )
            yield from self._evidence_of(None, [], [evidence])

    def _evidence_of(
        self, message: Submission | None, deliveries: list[Delivery], evidence: list[StoredEvidence]
    ) -> Iterator[Finding]:
        """Read each evidence, once: its digest, and its XML against the rows that are there."""
        addresses = {delivery.number: delivery.address for delivery in deliveries}
        for row in evidence:
            self._evidence += 1
            if row.evidence_id not in self._scope.entered:
                yield Finding(FindingCode.EVIDENCE_NOT_IN_LEDGER, row.evidence_id)
            try:
                record = read_record(self._scope.look(row.blob, keep=XML_SIZE_MAX))
            except ContentGoneError as error:
                yield Finding(FindingCode.EVIDENCE_CONTENT_MISSING, row.evidence_id, str(error))
            except ContentAlteredError as error:
                yield Finding(FindingCode.EVIDENCE_CONTENT_ALTERED, row.evidence_id, str(error))
            except EvidenceFormatError as error:
                yield Finding(FindingCode.EVIDENCE_NOT_XML, row.evidence_id, str(error))
            else:
                others = [*_other_than_row(record, row, addresses.get(row.number or 0))]
                if message is not None:
                    others += _other_than_message(record, row, message)
                if others:
                    yield Finding(FindingCode.EVIDENCE_OTHER_FACTS, row.evidence_id, ", ".join(others))


def _pages(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(rows)
    while page := list(islice(iterator, size)):
        yield page


def _by_message(rows: Iterable[R | UnreadableRow], findings: list[Finding]) -> defaultdict[str, list[R]]:
    """Sort rows by their message; those that do not decode become findings."""
    found: defaultdict[str, list[R]] = defaultdict(list)
    for row in rows:
        if isinstance(row, UnreadableRow):
            findings.append(unreadable(row))
        else:
            found[row.message_id].append(row)
    return found


def _message(
    message: Submission, evidence: list[StoredEvidence], deliveries: list[Delivery]
) -> Iterator[Finding]:
    """Check that a message's state has its evidence and fits its deliveries."""
    key = message.message_id
    kinds = Counter(e.kind for e in evidence)
    refused = message.state is MessageState.REFUSED
    owed = EvidenceKind.SUBMISSION_REJECTION if refused else EvidenceKind.SUBMISSION_ACCEPTANCE
    if kinds[owed] != 1:
        detail = f"{message.state.value} with {kinds[owed]} of {owed.value}"
        yield Finding(FindingCode.MESSAGE_WITHOUT_EVIDENCE, key, detail)
    if kinds[EvidenceKind.SUBMISSION_ACCEPTANCE] and kinds[EvidenceKind.SUBMISSION_REJECTION]:
        yield Finding(FindingCode.MESSAGE_ACCEPTED_AND_REFUSED, key)
    if refused and deliveries:
        yield Finding(FindingCode.MESSAGE_REFUSED_WITH_DELIVERIES, key)
    yield from _work(message, deliveries)
    numbers = {d.number for d in deliveries}
    for row in evidence:
        if row.kind in _ABOUT_A_RECIPIENT and row.number not in numbers:
            yield Finding(FindingCode.EVIDENCE_WITHOUT_DELIVERY, row.evidence_id)


def _work(message: Submission, deliveries: list[Delivery]) -> Iterator[Finding]:
    """Check that what is left to do is due, and that what is done left its KEP message."""
    pending = any(d.state is DeliveryState.PENDING for d in deliveries)
    completed = message.state is MessageState.COMPLETED
    if completed and pending:
        yield Finding(FindingCode.MESSAGE_COMPLETED_EARLY, message.message_id)
    if message.state is MessageState.ACCEPTED and message.next_at is None:
        what = "deliveries are pending" if pending else "nothing is pending, yet it is not completed"
        yield Finding(FindingCode.MESSAGE_STUCK, message.message_id, f"{what} and no work is due")
    # Its content may be gone once nobody keeps it; its digest stays on the row.
    in_mailboxes = any(d.state in _IN_A_MAILBOX for d in deliveries)
    if message.dispatch is None and (in_mailboxes or (completed and deliveries and not pending)):
        yield Finding(FindingCode.MESSAGE_WITHOUT_DISPATCH, message.message_id)


def _delivery(
    delivery: Delivery, by_event: Mapping[tuple[EvidenceKind, int | None], StoredEvidence]
) -> Iterator[Finding]:
    """Check that a delivery's state has its evidence and no other."""

    def of(kind: EvidenceKind) -> StoredEvidence | None:
        return by_event.get((kind, delivery.number))

    key, state = delivery.delivery_id, delivery.state
    delivered, failed = of(EvidenceKind.DELIVERY), of(EvidenceKind.NON_DELIVERY)
    if delivered is not None and failed is not None:
        yield Finding(FindingCode.DELIVERY_CONTRADICTED, key)
    if state is DeliveryState.PENDING:
        if delivered is not None or failed is not None:
            yield Finding(FindingCode.DELIVERY_EVIDENCE_EARLY, key)
        return
    owed = failed if state is DeliveryState.FAILED else delivered
    if owed is None or owed.evidence_id != delivery.evidence_id:
        yield Finding(FindingCode.DELIVERY_WITHOUT_EVIDENCE, key, state.value)
    elif delivery.decided_at != owed.event_time:
        yield Finding(FindingCode.DELIVERY_OTHER_TIME, key, owed.evidence_id)
    read = of(EvidenceKind.RETRIEVAL)
    if state is DeliveryState.READ:
        if read is None or read.evidence_id != delivery.read_evidence_id:
            yield Finding(FindingCode.DELIVERY_WITHOUT_EVIDENCE, key, state.value)
    elif read is not None or delivery.read_evidence_id is not None:
        yield Finding(FindingCode.DELIVERY_EVIDENCE_EARLY, key, "read")


def _addressed(
    delivery: Delivery, message: Submission, accounts: Mapping[str, str | None]
) -> Iterator[Finding]:
    """Check that a delivery is for the recipient its message names, and in the account of that address."""
    index = delivery.number - 1
    if not (
        0 <= index < len(message.recipients) and delivery.address == str(message.recipients[index].address)
    ):
        yield Finding(
            FindingCode.DELIVERY_OTHER_RECIPIENT, delivery.delivery_id, f"recipient {delivery.number}"
        )
    if delivery.account_id is None:
        return  # nobody had the address when the message came
    known = delivery.account_id in accounts
    address = accounts.get(delivery.account_id)
    if not known or address not in (None, delivery.address):
        yield Finding(FindingCode.DELIVERY_OTHER_ACCOUNT, delivery.delivery_id, delivery.account_id)


def _milliseconds(at: datetime) -> datetime:
    """Return a time as evidence carries it (KEP-EC-08)."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _other_than_row(record: EvidenceRecord, row: StoredEvidence, address: str | None) -> Iterator[str]:
    """Name what the XML says otherwise than its row, and than the delivery it is about."""
    if record.kind is not row.kind:
        yield f"kind {record.kind.value}"
    if record.evidence_id != row.evidence_id:
        yield "evidence id"
    if record.message.kep_message_id != row.message_id:
        yield "message id"
    if record.event_time != _milliseconds(row.event_time):
        yield "event time"
    if record.refers_to != row.number:
        yield "recipient's number"
    elif (
        record.refers_to is not None  # the reader checked that it names somebody
        and address is not None
        and record.recipients[record.refers_to - 1].address != address
    ):
        yield "recipient's address"


def _other_than_message(record: EvidenceRecord, row: StoredEvidence, message: Submission) -> Iterator[str]:
    """Name what the XML, or the evidence's row, says otherwise than the message's row."""
    if row.account_id != message.account_id:
        yield "sender's account"
    if record.sender.address != message.sender.address:
        yield "sender's address"
    if record.message.digest_sha256 != message.digest_sha256:
        yield "digest of the original"
    if record.message.user_message_id != (clean_text(message.user_message_id or "") or None):
        yield "Message-ID"
    if record.submission_time != _milliseconds(message.submitted_at):
        yield "submission time"
    if record.kind is EvidenceKind.SUBMISSION_REJECTION:
        return  # names recipients as they were written
    if [party.address for party in record.recipients] != [str(r.address) for r in message.recipients]:
        yield "recipients"
