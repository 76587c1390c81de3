"""What a decided delivery means for its message and its transfer. Plain functions inside a transaction."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from typing import Final

from evidence.model.records import EvidenceKind
from kephs.domain.lifecycle import (
    DECIDED,
    DeliveryState,
    MessageEvent,
    MessageState,
    TransferEvent,
    TransferState,
    advance_message,
    advance_transfer,
)
from kephs.domain.messages import Delivery, Submission, Transfer, TransferKind
from kephs.domain.relay_times import RelayTimes
from kephs.ports import Tx

OPEN: Final = frozenset(
    {TransferState.QUEUED, TransferState.HELD, TransferState.HANDED, TransferState.ANSWERED}
)


def close_when_decided(tx: Tx, message_id: str) -> bool:
    """Complete a message once every recipient, ours or a peer's, reached an end state (KEP-EV-03)."""
    return message_id in close_decided(tx, {message_id: tx.deliveries.of_message(message_id)})


def close_decided(tx: Tx, deliveries: Mapping[str, Sequence[Delivery]]) -> AbstractSet[str]:
    """Complete those of several messages whose deliveries all reached an end state; return their ids.

    Args:
        tx: the transaction.
        deliveries: of each message all there are, as they stand in this transaction, by message id.
    """
    decided = [key for key, all_of in deliveries.items() if all(one.state in DECIDED for one in all_of)]
    states = tx.messages.states(decided)
    closed = [key for key in decided if states.get(key) is MessageState.ACCEPTED]
    if closed:
        completed = advance_message(MessageState.ACCEPTED, MessageEvent.ALL_DECIDED).state
        tx.messages.set_states(closed, completed)
    return frozenset(closed)


def own_numbers(
    message: Submission, concerned: Sequence[Delivery], kind: EvidenceKind
) -> list[int | None]:  # spec: KEP-EV-02
    """Return which recipients get an evidence of ours of their own; None is one for all of the message's."""
    if not concerned:
        return []
    if kind is EvidenceKind.RELAY_FAILURE and len(concerned) == len(message.recipients):
        return [None]
    return [delivery.number for delivery in concerned]


def dispatch_to(tx: Tx, message_id: str, peer: str) -> Transfer | None:
    """Return the transfer that carries a message to a peer."""
    return next(
        (
            transfer
            for transfer in tx.transfers.of_message(message_id)
            if transfer.kind is TransferKind.DISPATCH and transfer.peer == peer
        ),
        None,
    )


def follow_deliveries(
    tx: Tx, transfer: Transfer, times: RelayTimes, now: datetime, *, gave_up: bool = False
) -> None:
    """Move a dispatch's transfer to where its recipients stand now, with the deadline of that phase.

    Args:
        tx: the transaction that moved the deliveries.
        transfer: as it is stored.
        times: the provider's timers.
        now: UTC.
        gave_up: the deliveries ended because the peer was not reached or did not answer.
    """
    if transfer.state not in OPEN:
        return
    states = {d.state for d in tx.deliveries.of_message(transfer.message_id) if d.peer == transfer.peer}
    if states <= DECIDED:
        lost = gave_up and states == {DeliveryState.UNREACHED}
        event = TransferEvent.GIVE_UP if lost else TransferEvent.COMPLETE
        _move(tx, transfer, event, transfer.deadline, next_at=None)
    elif DeliveryState.PENDING not in states and transfer.state is not TransferState.ANSWERED:
        # where the wait for somebody else's 20 ended, the others' 24 hours began with their own (KEP-MS-12)
        since = _accepted_at(tx, transfer) if gave_up else now
        deadline = max(now, since + times.no_delivery_info)
        _move(tx, transfer, TransferEvent.ANSWER, deadline, next_at=deadline)


def _accepted_at(tx: Tx, transfer: Transfer) -> datetime:
    """Return when the peer said last that it had taken the message for a recipient."""
    return max(
        one.event_time
        for one in tx.evidence.of_message(transfer.message_id)
        if one.kind is EvidenceKind.RELAY_ACCEPTANCE and one.origin == transfer.peer
    )


def _move(
    tx: Tx, transfer: Transfer, event: TransferEvent, deadline: datetime, next_at: datetime | None
) -> None:
    state = advance_transfer(transfer.state, event)
    tx.transfers.save(replace(transfer, state=state, deadline=deadline, next_at=next_at), transfer.state)
