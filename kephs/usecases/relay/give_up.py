"""What we say of recipients elsewhere when their provider does not: evidence 31, and 41 with reason 9.

spec: KEP-EV-31, KEP-EV-41, KEP-EV-02 (index), KEP-MS-12, R-04, R-19.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evidence.model.records import Reason, SealedEvidence
from evidence.ports import Sealing
from kephs.domain.lifecycle import DeliveryEvent, DeliveryState, advance_delivery
from kephs.domain.messages import Delivery, Submission, Transfer
from kephs.domain.relay import TROUBLES, RelayTrouble
from kephs.domain.relay_times import RelayTimes
from kephs.ports import Blob, BlobStore, Changes, Clock, Store, Tx
from kephs.usecases.people.closing import close_when_decided, follow_deliveries, own_numbers
from kephs.usecases.records import RecordMaker, stored


class _OvertakenError(Exception):
    """A recipient's state changed while the evidence about all of them was sealed."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Ends the wait for a peer. Safe to repeat and to race with evidence that comes at last."""

    store: Store
    blobs: BlobStore
    sealer: Sealing
    records: RecordMaker
    changes: Changes
    clock: Clock
    times: RelayTimes

    async def on_handing_over(self, transfer: Transfer, trouble: RelayTrouble, detail: str) -> None:
        """Make 31 for every recipient of whom nothing is known; those that have 20 go on waiting.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
        """
        noted = replace(transfer, cause=trouble.value)
        await self._end(noted, DeliveryState.PENDING, DeliveryEvent.GIVE_UP, _reason(trouble, detail))

    async def on_delivery_info(self, transfer: Transfer) -> None:
        """Make 41, reason 9, for every recipient that has 20 and neither 40 nor 41.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
        """
        noted = replace(transfer, cause=RelayTrouble.NO_DELIVERY_INFO.value)
        reason = _reason(RelayTrouble.NO_DELIVERY_INFO, "")
        await self._end(noted, DeliveryState.RELAYED, DeliveryEvent.SILENCE, reason)

    async def _end(
        self, transfer: Transfer, state: DeliveryState, event: DeliveryEvent, reason: Reason
    ) -> None:
        for _ in range(3):  # then the lease runs out, and it is looked at again
            try:
                await self._try(transfer, state, event, reason)
            except _OvertakenError:
                continue
            return

    async def _try(
        self, transfer: Transfer, state: DeliveryState, event: DeliveryEvent, reason: Reason
    ) -> None:
        message, concerned = await self.store.read(lambda tx: _concerned(tx, transfer, state))
        kind = advance_delivery(state, event).evidence
        assert kind is not None
        numbers = own_numbers(message, concerned, kind)
        made = [self.records.make(kind, message, number=n, reasons=(reason,)) for n in numbers]
        sealed = await self.sealer.seal_many(made)
        contents = await self.blobs.put_many([one.xml for one in sealed])
        now = self.clock.now()

        def commit(tx: Tx) -> None:
            _, still = _concerned(tx, transfer, state)
            if {d.number for d in still} != {d.number for d in concerned}:
                raise _OvertakenError
            _store(tx, message, sealed, contents)
            after = advance_delivery(state, event).state
            for delivery in concerned:
                evidence = _about(sealed, delivery.number)
                tx.deliveries.move(delivery.delivery_id, state, after, evidence.record.evidence_id, now)
            current = tx.transfers.get(transfer.transfer_id)
            assert current is not None
            noted = replace(current, cause=transfer.cause, attempts=max(current.attempts, transfer.attempts))
            follow_deliveries(tx, noted, self.times, now, gave_up=True)
            close_when_decided(tx, message.message_id)

        await self.store.write(commit)
        if message.account_id:
            self.changes.publish({message.account_id})


def _concerned(tx: Tx, transfer: Transfer, state: DeliveryState) -> tuple[Submission, list[Delivery]]:
    message = tx.messages.get(transfer.message_id)
    assert message is not None  # the row refers to it
    deliveries = tx.deliveries.of_message(transfer.message_id)
    return message, [d for d in deliveries if d.peer == transfer.peer and d.state is state]


def _about(sealed: Sequence[SealedEvidence], number: int) -> SealedEvidence:
    return next(one for one in sealed if one.record.refers_to in (None, number))


def _store(tx: Tx, message: Submission, sealed: Sequence[SealedEvidence], contents: Sequence[Blob]) -> None:
    for one, blob in zip(sealed, contents, strict=True):
        tx.blobs.add(blob)
        tx.evidence.add(stored(one, message, blob, receipt_due=one.record.event_time), one.ers)


def _reason(trouble: RelayTrouble, detail: str) -> Reason:
    facts = TROUBLES[trouble]
    more = f" ({detail})" if detail else ""
    return Reason(facts.reason, f"{trouble.value}: {facts.english}{more}")
