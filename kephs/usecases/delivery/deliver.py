"""Delivery to our own recipients: the KEP message into the mailbox, evidence 40 or 41, one transaction.

spec: KEP-EV-05, KEP-EV-40, KEP-EV-41, KEP-QU-02 (a full mailbox receives), KEP-CL-07, R-06, R-18.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from directory.accounts import Account, AccountState
from directory.providers import ProviderRegister
from evidence.model.records import EvidenceKind, Reason, SealedEvidence
from evidence.ports import Sealing
from kephs.domain.lifecycle import DeliveryEvent, DeliveryState, advance_delivery
from kephs.domain.mailboxes import FolderRole, NewItem
from kephs.domain.messages import Delivery, StoredEvidence, Submission
from kephs.domain.refusals import TEXTS, RefusalCode
from kephs.ports import Blob, BlobStore, Changes, Store, Tx
from kephs.usecases.delivery.dispatch import Built, DispatchMaker, name_dispatch
from kephs.usecases.delivery.receipts import Receipt, ReceiptMaker, file_due
from kephs.usecases.people.closing import close_when_decided
from kephs.usecases.records import RecordMaker, stored
from kephs.usecases.submission.evidence_form import form_for_origin

CHUNK: Final = 50  # deliveries decided in one transaction

REFUSED_BY_STATE: Final[Mapping[AccountState | None, RefusalCode]] = MappingProxyType(
    {
        None: RefusalCode.RECIPIENT_UNKNOWN,
        AccountState.WAITING: RefusalCode.RECIPIENT_UNKNOWN,  # spec: KEP-AC-09
        AccountState.CLOSED: RefusalCode.RECIPIENT_UNKNOWN,
        AccountState.BLOCKED: RefusalCode.RECIPIENT_BLOCKED,
    }
)


@dataclass(frozen=True, slots=True)
class _Decision:
    """What becomes of one delivery."""

    delivery: Delivery
    event: DeliveryEvent
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What is to be done for a message: deliveries to decide, whose they are, receipts that are due."""

    deliveries: tuple[Delivery, ...]
    accounts: Mapping[str, Account]
    receipts: tuple[StoredEvidence, ...]


@dataclass(frozen=True, slots=True)
class Deliver:
    """Carries an accepted message into the mailboxes of this provider. Safe to repeat at any point.

    The receipts of a message submitted here are filed in the same transaction: evidence 10's and those of
    what is decided. A receipt that a crash or a silent authority left out is filed by `FileReceipts`.
    """

    store: Store
    blobs: BlobStore
    sealer: Sealing
    records: RecordMaker
    dispatches: DispatchMaker
    receipts: ReceiptMaker
    register: ProviderRegister
    changes: Changes

    async def deliver(self, message: Submission) -> None:
        """Decide every pending delivery, then close the message's work due.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
        """
        built = None
        while True:
            ahead = await self.store.read(lambda tx: _next(tx, message))
            if not ahead.deliveries:  # decided before a crash, or all of them are a peer's
                await self.store.write(lambda tx: _finish(tx, message))
                break
            if built is None:
                built = await self.dispatches.build(message)
            await self._decide(message, built, ahead)
            if len(ahead.deliveries) < CHUNK:
                break
        if message.account_id:
            self.changes.publish({message.account_id})

    async def _decide(self, message: Submission, built: Built, ahead: _Ahead) -> None:
        """Seal and store what becomes of some deliveries; with the last ones the work here ends."""
        decisions = [_decision(d, ahead.accounts.get(d.delivery_id)) for d in ahead.deliveries]
        steps = [advance_delivery(d.delivery.state, d.event) for d in decisions]
        made = [
            self.records.make(kind, message, number=d.delivery.number, reasons=d.reasons)
            for d, kind in zip(decisions, (step.evidence for step in steps), strict=True)
            if kind is not None
        ]
        form = form_for_origin(self.register, message.origin)
        sealed = await self.sealer.seal_many(made, profile=form.profile, stamping=form.stamping)
        earlier = [await self.dispatches.kept.open(evidence) for evidence in ahead.receipts]
        receipts = await self._receipts(message, [*earlier, *sealed])
        blobs = await self.blobs.put_many([*(one.xml for one in sealed), *(r.content for r in receipts)])
        contents, filed = blobs[: len(sealed)], list(zip(receipts, blobs[len(sealed) :], strict=True))

        def commit(tx: Tx) -> None:
            dispatch = name_dispatch(tx, message, built)
            for decision, evidence, blob in zip(decisions, sealed, contents, strict=True):
                _commit(tx, message, dispatch, decision, evidence, blob)
            about = [*(e.evidence_id for e in ahead.receipts), *(s.record.evidence_id for s in sealed)]
            for evidence_id, (receipt, kept) in zip(about, filed, strict=False):  # no receipts: a peer's
                file_due(tx, evidence_id, kept, receipt.index)
            _finish(tx, message)

        await self.store.write(commit)
        self.changes.publish({d.account_id for d in ahead.deliveries if d.account_id})

    async def _receipts(self, message: Submission, sealed: Sequence[SealedEvidence]) -> list[Receipt]:
        """Make the receipts of our own senders; those that go to a peer are queued one by one."""
        if message.account_id is None:
            return []
        return [await self.receipts.receipt(one, message) for one in sealed]


def _pending(tx: Tx, message_id: str) -> list[Delivery]:
    deliveries = tx.deliveries.of_message(message_id)
    return [d for d in deliveries if d.peer is None and d.state is DeliveryState.PENDING]


def _next(tx: Tx, message: Submission) -> _Ahead:
    deliveries = _pending(tx, message.message_id)[:CHUNK]
    return _Ahead(tuple(deliveries), _accounts(tx, deliveries), tuple(_receipts_due(tx, message)))


def _receipts_due(tx: Tx, message: Submission) -> Iterator[StoredEvidence]:
    """Yield evidence 10 while its receipt is due: its sender sees it together with what came of it."""
    if message.account_id is None:
        return
    for evidence in tx.evidence.of_message(message.message_id):
        accepted = evidence.kind is EvidenceKind.SUBMISSION_ACCEPTANCE
        if accepted and evidence.receipt_due is not None:
            yield evidence


def _accounts(tx: Tx, deliveries: Sequence[Delivery]) -> dict[str, Account]:
    found = {d.delivery_id: tx.accounts.by_address(d.address) for d in deliveries}
    return {delivery_id: account for delivery_id, account in found.items() if account is not None}


def _decision(delivery: Delivery, account: Account | None) -> _Decision:
    code = REFUSED_BY_STATE.get(account.state if account else None)
    if code is None and account is not None:
        return _Decision(replace(delivery, account_id=account.account_id), DeliveryEvent.STORE, ())
    text = TEXTS[code or RefusalCode.RECIPIENT_UNKNOWN]
    assert text.reason is not None
    detail = f"{(code or RefusalCode.RECIPIENT_UNKNOWN).value}: {text.english}"
    return _Decision(delivery, DeliveryEvent.FAIL, (Reason(text.reason, detail),))


def _commit(
    tx: Tx, message: Submission, dispatch: Blob, decision: _Decision, evidence: SealedEvidence, blob: Blob
) -> None:
    delivery, record = decision.delivery, evidence.record
    state = advance_delivery(delivery.state, decision.event).state
    if not tx.deliveries.decide(
        delivery.delivery_id, state, record.evidence_id, record.event_time, delivery.account_id
    ):
        return  # another worker was first: its evidence stands
    tx.blobs.add(blob)
    tx.evidence.add(stored(evidence, message, blob, receipt_due=record.event_time), evidence.ers)
    if decision.event is DeliveryEvent.STORE and delivery.account_id:
        inbox = tx.mailboxes.by_role(delivery.account_id, FolderRole.INBOX)
        item = NewItem(dispatch.sha256, dispatch.size, record.event_time, delivery_id=delivery.delivery_id)
        tx.mailboxes.append(inbox.folder_id, item)


def _finish(tx: Tx, message: Submission) -> None:
    """End the work here: the message is complete, or waits for peers alone (their transfers are due)."""
    if not _pending(tx, message.message_id) and not close_when_decided(tx, message.message_id):
        tx.messages.due(message.message_id, None, 0)
