"""What an operator sees of the transfers to peers, and does with them: hold, release, send at once or again.

Every change goes through the transfers' table of states; the worker sees it at its next look, in this process
or another. A transfer that is being handed over meanwhile is handed over all the same: that is harmless, the
peer answers the same bytes alike (KEP-MS-13).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Final

from kephs.domain.lifecycle import TransferEvent, TransferState, advance_transfer
from kephs.domain.messages import Delivery, StoredEvidence, Submission, Transfer, TransferKind
from kephs.domain.relay_times import RelayTimes
from kephs.ports import Clock, Store, Tx

OPEN: Final = (
    TransferState.QUEUED,
    TransferState.HELD,
    TransferState.HANDED,
    TransferState.ANSWERED,
    TransferState.FAILED,
)
"""What is listed by default: all but what is done."""
_PAGE: Final = 200  # transfers per transaction


class QueueAction(StrEnum):
    """What can be asked of a transfer."""

    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"


class QueueDenial(StrEnum):
    """Why a transfer stays as it is. Stable."""

    NOT_QUEUED = "not-queued"
    NOT_HELD = "not-held"
    HELD = "held"
    NOTHING_TO_SEND = "nothing-to-send"  # handed over, or done
    EVIDENCE_STANDS = "evidence-stands"  # 31 says that the message was not handed over: it never is again
    NO_SUCH_TRANSFER = "no-such-transfer"


class NoSuchTransferError(Exception):
    """No transfer, or no message with transfers, has this id."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which transfers are meant: these ids, those of a message, those to a peer, or (nothing set) all."""

    ids: tuple[str, ...] = ()
    message_id: str | None = None
    peer: str | None = None

    @property
    def named(self) -> bool:
        """Say whether single ones are named; then each that cannot be changed is told with its reason."""
        return bool(self.ids) or self.message_id is not None


@dataclass(frozen=True, slots=True)
class QueueChange:
    """What was done: transfers as they are now, and the ids of named ones that stay, with the reason."""

    changed: tuple[Transfer, ...] = ()
    denied: tuple[tuple[str, QueueDenial], ...] = ()


@dataclass(frozen=True, slots=True)
class QueueView:
    """How many transfers there are per peer and state, and some of them, oldest first."""

    counts: dict[tuple[str, TransferState], int]
    transfers: tuple[Transfer, ...]


@dataclass(frozen=True, slots=True)
class TransferView:
    """One transfer, its message, the recipients at that peer, and all evidence about the message."""

    transfer: Transfer
    message: Submission
    deliveries: tuple[Delivery, ...]
    evidence: tuple[StoredEvidence, ...]


@dataclass(frozen=True, slots=True)
class QueueWork:
    """An operator's look at the queue, and hand on it."""

    store: Store
    clock: Clock
    times: RelayTimes

    async def view(self, *, peer: str | None, state: TransferState | None, limit: int) -> QueueView:
        """Return counts and the oldest transfers.

        Args:
            peer: only those to this domain.
            state: only those in this state; None for all that are not done.
            limit: how many at most.

        Raises:
            StoreUnavailableError: the store cannot be read.
        """
        states = OPEN if state is None else (state,)

        def look(tx: Tx) -> QueueView:
            found = [
                one
                for each in states
                for one in tx.transfers.list(peer=peer, state=each, after="", limit=limit)
            ]
            counts = {key: n for key, n in tx.transfers.counts().items() if peer in (None, key[0])}
            return QueueView(counts, tuple(sorted(found, key=lambda one: one.transfer_id)[:limit]))

        return await self.store.read(look)

    async def show(self, transfer_id: str) -> TransferView:
        """Return everything about one transfer.

        Raises:
            NoSuchTransferError: there is none with this id.
            StoreUnavailableError: the store cannot be read.
        """

        def look(tx: Tx) -> TransferView | None:
            transfer = tx.transfers.get(transfer_id)
            message = tx.messages.get(transfer.message_id) if transfer else None
            if transfer is None or message is None:
                return None
            deliveries = tx.deliveries.of_message(transfer.message_id)
            return TransferView(
                transfer,
                message,
                tuple(one for one in deliveries if one.peer == transfer.peer),
                tuple(tx.evidence.of_message(transfer.message_id)),
            )

        found = await self.store.read(look)
        if found is None:
            raise NoSuchTransferError(transfer_id)
        return found

    async def change(self, action: QueueAction, chosen: Chosen) -> QueueChange:
        """Do one thing with the chosen transfers, as far as their states allow it.

        Raises:
            NoSuchTransferError: the named message has no transfers.
            StoreUnavailableError: the store cannot take it; what was changed before stays changed.
        """
        if chosen.named:
            return await self._change_named(action, chosen)
        changed: list[Transfer] = []
        for state in _CONCERNED[action]:
            after = ""
            while True:
                last, done = await self.store.write(partial(self._page, action, chosen.peer, state, after))
                changed += done
                if last is None:
                    break
                after = last
        return QueueChange(tuple(changed))

    async def _change_named(self, action: QueueAction, chosen: Chosen) -> QueueChange:
        now = self.clock.now()

        def work(tx: Tx) -> QueueChange:
            ids = list(dict.fromkeys(chosen.ids))
            if chosen.message_id is not None:
                ids += [one.transfer_id for one in tx.transfers.of_message(chosen.message_id)]
            results = [(one, self._one(tx, action, tx.transfers.get(one), now)) for one in ids]
            return QueueChange(
                tuple(result for _, result in results if isinstance(result, Transfer)),
                tuple((one, result) for one, result in results if isinstance(result, QueueDenial)),
            )

        done = await self.store.write(work)
        if not done.changed and not done.denied:
            raise NoSuchTransferError(chosen.message_id)
        return done

    def _page(
        self, action: QueueAction, peer: str | None, state: TransferState, after: str, tx: Tx
    ) -> tuple[str | None, Sequence[Transfer]]:
        """Change one page; return the last id of a full page, and what was changed."""
        now = self.clock.now()
        page = tx.transfers.list(peer=peer, state=state, after=after, limit=_PAGE)
        results = [self._one(tx, action, one, now) for one in page]
        last = page[-1].transfer_id if len(page) == _PAGE else None
        return last, [one for one in results if isinstance(one, Transfer)]

    def _one(
        self, tx: Tx, action: QueueAction, transfer: Transfer | None, now: datetime
    ) -> Transfer | QueueDenial:
        if transfer is None:
            return QueueDenial.NO_SUCH_TRANSFER
        after = _AFTER[action](transfer, now, self.times)
        if isinstance(after, Transfer):
            tx.transfers.save(after, transfer.state)  # read in this very transaction: it is in that state
        return after


def _hold(transfer: Transfer, now: datetime, times: RelayTimes) -> Transfer | QueueDenial:  # noqa: ARG001  # one signature for all
    if transfer.state is not TransferState.QUEUED:
        return QueueDenial.NOT_QUEUED
    state = advance_transfer(transfer.state, TransferEvent.HOLD)
    return replace(transfer, state=state, next_at=transfer.deadline)  # its deadline runs on


def _release(transfer: Transfer, now: datetime, times: RelayTimes) -> Transfer | QueueDenial:  # noqa: ARG001
    if transfer.state is not TransferState.HELD:
        return QueueDenial.NOT_HELD
    return replace(transfer, state=advance_transfer(transfer.state, TransferEvent.RELEASE), next_at=now)


def _retry(transfer: Transfer, now: datetime, times: RelayTimes) -> Transfer | QueueDenial:
    if transfer.state is TransferState.QUEUED:
        return replace(transfer, next_at=now)
    if transfer.state is TransferState.HELD:
        return QueueDenial.HELD
    if transfer.state is not TransferState.FAILED:
        return QueueDenial.NOTHING_TO_SEND
    if transfer.kind is not TransferKind.RECEIPT:  # spec: KEP-EV-31, it was said that it is not handed over
        return QueueDenial.EVIDENCE_STANDS
    state = advance_transfer(transfer.state, TransferEvent.REQUEUE)
    return replace(transfer, state=state, next_at=now, deadline=now + times.receipts, attempts=0)


_AFTER: Final = {QueueAction.HOLD: _hold, QueueAction.RELEASE: _release, QueueAction.RETRY: _retry}
_CONCERNED: Final = {
    QueueAction.HOLD: (TransferState.QUEUED,),
    QueueAction.RELEASE: (TransferState.HELD,),
    QueueAction.RETRY: (TransferState.QUEUED, TransferState.FAILED),
}
