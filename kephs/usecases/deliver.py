"""Delivery to our own recipients: the KEP message into the mailbox, evidence 40 or 41, one transaction.

spec: KEP-EV-05, KEP-EV-40, KEP-EV-41, KEP-QU-02 (a full mailbox receives), KEP-CL-07, R-06, R-18.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from directory.accounts import Account, AccountState
from evidence.records import Reason, SealedEvidence
from evidence.sealing import Sealer
from kephs.domain.lifecycle import DeliveryEvent, DeliveryState, advance_delivery
from kephs.domain.mailboxes import FolderRole, NewItem
from kephs.domain.messages import Delivery, Submission
from kephs.domain.refusals import TEXTS, RefusalCode
from kephs.ports import Blob, BlobStore, Changes, Store, Tx
from kephs.usecases.closing import close_when_decided
from kephs.usecases.dispatch import DispatchMaker
from kephs.usecases.records import RecordMaker, stored

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


class Deliver:
    """Carries an accepted message into the mailboxes of this provider. Safe to repeat at any point."""

    def __init__(
        self, *, store: Store, blobs: BlobStore, sealer: Sealer, records: RecordMaker,
        dispatches: DispatchMaker, changes: Changes,
    ) -> None:  # fmt: skip
        self._store, self._blobs, self._sealer, self._records = store, blobs, sealer, records
        self._changes, self._dispatches = changes, dispatches

    async def deliver(self, message: Submission) -> None:
        """Decide every pending delivery, then close the message's work due.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
        """
        dispatch = await self._dispatches.dispatch(message)
        while True:
            deliveries, accounts = await self._store.read(lambda tx: _next(tx, message.message_id))
            if not deliveries:  # decided before a crash
                await self._store.write(lambda tx: _finish(tx, message))
                break
            await self._decide(message, dispatch, deliveries, accounts)
            if len(deliveries) < CHUNK:
                break
        if message.account_id:
            self._changes.publish({message.account_id})

    async def _decide(
        self, message: Submission, dispatch: Blob, deliveries: Sequence[Delivery],
        accounts: Mapping[str, Account],
    ) -> None:  # fmt: skip
        """Seal and store what becomes of some deliveries; with the last ones the work here ends."""
        decisions = [_decision(delivery, accounts.get(delivery.delivery_id)) for delivery in deliveries]
        steps = [advance_delivery(d.delivery.state, d.event) for d in decisions]
        records = [
            self._records.make(kind, message, number=d.delivery.number, reasons=d.reasons)
            for d, kind in zip(decisions, (step.evidence for step in steps), strict=True)
            if kind is not None
        ]
        sealed = await self._sealer.seal_many(records)
        blobs = await self._blobs.put_many([one.xml for one in sealed])

        def commit(tx: Tx) -> None:
            for decision, evidence, blob in zip(decisions, sealed, blobs, strict=True):
                _commit(tx, message, dispatch, decision, evidence, blob)
            _finish(tx, message)

        await self._store.write(commit)
        self._changes.publish({d.account_id for d in deliveries if d.account_id})


def _pending(tx: Tx, message_id: str) -> list[Delivery]:
    deliveries = tx.deliveries.of_message(message_id)
    return [d for d in deliveries if d.peer is None and d.state is DeliveryState.PENDING]


def _next(tx: Tx, message_id: str) -> tuple[list[Delivery], dict[str, Account]]:
    deliveries = _pending(tx, message_id)[:CHUNK]
    return deliveries, _accounts(tx, deliveries)


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
    tx.evidence.add(stored(evidence, message, blob, receipt_due=record.event_time))
    if decision.event is DeliveryEvent.STORE and delivery.account_id:
        inbox = tx.mailboxes.by_role(delivery.account_id, FolderRole.INBOX)
        item = NewItem(dispatch.sha256, dispatch.size, record.event_time, delivery_id=delivery.delivery_id)
        tx.mailboxes.append(inbox.folder_id, item)


def _finish(tx: Tx, message: Submission) -> None:
    """End the work here: the message is complete, or waits for peers alone (their transfers are due)."""
    if not _pending(tx, message.message_id) and not close_when_decided(tx, message.message_id):
        tx.messages.due(message.message_id, None, 0)
