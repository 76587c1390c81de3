"""fsck on messages: their deliveries, evidence and transfers, and what the signed XML says of them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

from evidence.forms.serialise import profile_of_root, read_root
from evidence.xml.reader import XML_SIZE_MAX, EvidenceFormatError, parse_xml
from kephs.domain.lifecycle import TO_HAND_OVER, MessageState, TransferState
from kephs.domain.messages import Delivery, StoredEvidence, Submission, Transfer, TransferKind
from storage.files.survey import UNREADABLE, UnreadableRow
from storage.fsck.evidence import makers, other_facts
from storage.fsck.findings import Finding, FindingCode, unreadable
from storage.fsck.proofs import proof_of
from storage.fsck.relay import delivered_elsewhere, transfers_of
from storage.fsck.scope import PAGE, ContentAlteredError, ContentGoneError, Scope
from storage.fsck.states import addressed, delivered_here, in_mailbox, message_states

T = TypeVar("T")
R = TypeVar("R", Delivery, StoredEvidence, Transfer)


@dataclass(frozen=True, slots=True)
class _Rows:
    """What belongs to one message."""

    deliveries: list[Delivery]
    evidence: list[StoredEvidence]
    transfers: list[Transfer]


_HOLDING: Final = TO_HAND_OVER | {TransferState.FAILED}  # a receipt given up may be sent again


class MessageCheck:
    """Reads every message with all that belongs to it, once, a page at a time."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._tx = scope.tx
        self._messages = self._evidence = self._transfers = 0

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
        self._scope.progress("transfers", self._transfers)

    def _page(self, page: Sequence[Submission | UnreadableRow]) -> Iterator[Finding]:
        self._messages += len(page)
        ids = [row.key if isinstance(row, UnreadableRow) else row.message_id for row in page]
        findings: list[Finding] = []
        deliveries = _by_message(self._tx.deliveries.survey(ids), findings)
        evidence = _by_message(self._tx.evidence.survey(ids), findings)
        transfers = _by_message(self._tx.transfers.survey(ids), findings)
        yield from findings
        for key, row in zip(ids, page, strict=True):
            rows = _Rows(deliveries[key], evidence[key], transfers[key])
            self._transfers += len(rows.transfers)
            if isinstance(row, UnreadableRow):
                yield unreadable(row)
                yield from self._evidence_of(None, rows.deliveries, rows.evidence, {})
                continue
            try:
                yield from self._message(row, rows)
            except UNREADABLE as error:  # a number that is none
                yield unreadable(UnreadableRow("messages", key, type(error).__name__))

    def _message(self, message: Submission, rows: _Rows) -> Iterator[Finding]:
        scope, deliveries, evidence = self._scope, rows.deliveries, rows.evidence
        if message.dispatch is not None:
            scope.unread.update((message.dispatch, d.account_id) for d in deliveries if d.gated)
        yield from self._owner(message)
        yield from self._content(message, deliveries)
        covers: dict[str, tuple[int, ...]] = {}
        said = list(self._evidence_of(message, deliveries, evidence, covers))
        yield from message_states(message, deliveries, evidence, covers, scope.own)
        yield from makers(message, deliveries, evidence, covers)
        for delivery in deliveries:
            if delivery.peer is None:
                yield from delivered_here(delivery, evidence)
            else:
                yield from delivered_elsewhere(delivery, evidence, covers)
            yield from addressed(delivery, message, scope.accounts, scope.own)
            yield from self._filing(delivery)
        yield from transfers_of(message, deliveries, evidence, rows.transfers)
        yield from self._to_hand_over(rows.transfers)
        yield from said

    def _owner(self, message: Submission) -> Iterator[Finding]:
        """Check that a message submitted here has its sender's account, and a relayed one none."""
        if message.origin is not None:
            if message.account_id is not None:
                detail = f"relayed, yet of {message.account_id}"
                yield Finding(FindingCode.MESSAGE_WITHOUT_ACCOUNT, message.message_id, detail)
        elif message.account_id not in self._scope.accounts:
            detail = message.account_id or ""
            yield Finding(FindingCode.MESSAGE_WITHOUT_ACCOUNT, message.message_id, detail)

    def _content(self, message: Submission, deliveries: Sequence[Delivery]) -> Iterator[Finding]:
        """Look for what a message under way needs, and for what a bundle needs that lies in no mailbox."""
        under_way = message.state is MessageState.ACCEPTED
        original = message.digest_sha256 if under_way and message.origin is None else None
        dispatch = message.dispatch
        if (
            dispatch is not None
            and not under_way
            and (any(one.peer is None for one in deliveries) or self._tx.blobs.get(dispatch) is None)
        ):
            dispatch = None  # read in mailboxes, or destroyed with the original (`storage.fsck.erasures`)
        named = (("original", original), ("KEP message", dispatch), ("material", message.material))
        for what, sha256 in named:
            try:
                if sha256 is not None:
                    self._scope.look(sha256, read=self._scope.deep)
            except (ContentGoneError, ContentAlteredError) as error:
                detail = f"{what}: {error}"
                yield Finding(FindingCode.MESSAGE_CONTENT_MISSING, message.message_id, detail)

    def _to_hand_over(self, transfers: Sequence[Transfer]) -> Iterator[Finding]:
        """Look for the content of receipts, and of dispatches made for one peer, that are not handed over."""
        for transfer in transfers:
            receipt = transfer.kind is TransferKind.RECEIPT
            if transfer.state not in (_HOLDING if receipt else TO_HAND_OVER):
                continue
            if not receipt and transfer.blob is None:
                continue
            try:
                self._scope.look(transfer.blob or b"")
            except (ContentGoneError, ContentAlteredError) as error:
                yield Finding(FindingCode.TRANSFER_CONTENT_MISSING, transfer.transfer_id, str(error))

    def _filing(self, delivery: Delivery) -> Iterator[Finding]:
        filed = self._tx.mailboxes.filed(delivery.delivery_id)
        everywhere = filed.inbox + filed.elsewhere + filed.removed
        if in_mailbox(delivery):
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
        for transfer in self._tx.transfers.strays():
            if isinstance(transfer, UnreadableRow):
                yield unreadable(transfer)
            else:
                yield Finding(
                    FindingCode.TRANSFER_WITHOUT_MESSAGE, transfer.transfer_id, str(transfer.message_id)
                )
        for evidence in self._tx.evidence.strays():
            if isinstance(evidence, UnreadableRow):
                yield unreadable(evidence)
                continue
            yield Finding(
                FindingCode.EVIDENCE_WITHOUT_MESSAGE, evidence.evidence_id, str(evidence.message_id)
            )
            yield from self._evidence_of(None, [], [evidence], {})

    def _evidence_of(
        self,
        message: Submission | None,
        deliveries: list[Delivery],
        evidence: list[StoredEvidence],
        covers: dict[str, tuple[int, ...]],
    ) -> Iterator[Finding]:
        """Read each evidence, once: its digest, and its XML against the rows that are there.

        ``covers`` is filled with what relay evidence says it is about.
        """
        by_number = {delivery.number: delivery for delivery in deliveries}
        for row in evidence:
            self._evidence += 1
            if row.evidence_id not in self._scope.entered:
                yield Finding(FindingCode.EVIDENCE_NOT_IN_LEDGER, row.evidence_id)
            try:
                xml = self._scope.look(row.blob, keep=XML_SIZE_MAX)
                root = parse_xml(xml)
                record = read_root(root)
            except ContentGoneError as error:
                yield Finding(FindingCode.EVIDENCE_CONTENT_MISSING, row.evidence_id, str(error))
            except ContentAlteredError as error:
                yield Finding(FindingCode.EVIDENCE_CONTENT_ALTERED, row.evidence_id, str(error))
            except EvidenceFormatError as error:
                yield Finding(FindingCode.EVIDENCE_NOT_XML, row.evidence_id, str(error))
            else:
                if record.covers:
                    covers[row.evidence_id] = record.covers
                yield from proof_of(row, xml, self._tx.evidence.ers(row.evidence_id))
                others = other_facts(record, row, message, by_number)
                others += [] if profile_of_root(root) is row.profile else ["profile"]
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
