"""The kinds of work due, each as a lane of the worker: which rows, which use case, what on failure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from kephs.domain.lifecycle import TransferState
from kephs.domain.messages import StoredEvidence, Submission, Transfer
from kephs.ports import Store, Tx
from kephs.usecases.delivery.deliver import Deliver
from kephs.usecases.delivery.receipts import FileReceipts
from kephs.usecases.relay.relay import Relay, Wait
from kephs.worker.run import Lane

_GROUPS: Final = 3  # one is laid out while others wait for the signer, the authority, the disk
_GROUP: Final = 12  # messages that are delivered together: few enough for others to get their turn


def lanes(
    node: str, *, deliver: Deliver, receipts: FileReceipts, relay: Relay, wait: Wait,
    peers: Iterable[str], connections: int, lease: timedelta,
) -> list[Lane]:  # fmt: skip
    """Return all lanes of one process: delivery, receipts, the waits, and one per peer.

    ``peers``: those of the register, and those that left it while transfers to them were queued.
    ``node`` names this process in leases; ``connections`` bounds transfers to one peer at the same time;
    ``lease`` frees what a process took and never finished; that of a hand-over is renewed while it goes on.
    """
    here = (_delivery(node, deliver), _receipts(node, receipts), _waits(node, wait))
    relays = (_peer(node, peer, relay, connections) for peer in peers)
    return [replace(lane, lease=lease) for lane in (*here, *relays)]


def take_over(node: str, tx: Tx, now: datetime) -> None:
    """Free what this process had leased in an earlier life."""
    tx.messages.take_over(node, now)
    tx.evidence.take_over(node, now)
    tx.transfers.take_over(node, now)


def _delivery(node: str, deliver: Deliver) -> Lane:
    def claim(tx: Tx, now: datetime, limit: int, until: datetime) -> Sequence[Submission]:
        return tx.messages.claim(now, limit, until, node)

    def postpone(tx: Tx, message: Submission, at: datetime) -> None:
        current = tx.messages.get(message.message_id)
        if current is not None and current.next_at is not None:
            tx.messages.due(message.message_id, at, message.attempts + 1)

    return Lane(
        "deliver", claim, lambda m: m.message_id, lambda m: m.attempts,
        deliver.deliver, postpone, lambda tx: tx.messages.next_due(),
        at_once=_GROUPS, refill=1, work_all=deliver.deliver_all, group=_GROUP, gather=0.01, eager=True,
    )  # fmt: skip


def _receipts(node: str, receipts: FileReceipts) -> Lane:
    def claim(tx: Tx, now: datetime, limit: int, until: datetime) -> Sequence[StoredEvidence]:
        return tx.evidence.claim_receipts(now, limit, until, node)

    def postpone(tx: Tx, evidence: StoredEvidence, at: datetime) -> None:
        current = tx.evidence.get(evidence.evidence_id)
        if current is not None and current.receipt_due is not None:  # else delivery has filed it meanwhile
            tx.evidence.receipt_due(evidence.evidence_id, at, evidence.attempts + 1)

    return Lane(
        "receipt", claim, lambda e: e.evidence_id, lambda e: e.attempts,
        receipts.file, postpone, lambda tx: tx.evidence.next_due(), gather=0.1,
    )  # fmt: skip


def _waits(node: str, wait: Wait) -> Lane:
    def claim(tx: Tx, now: datetime, limit: int, until: datetime) -> Sequence[Transfer]:
        return tx.transfers.claim_waiting(now, limit, until, node)

    return Lane(
        "wait", claim, lambda t: t.transfer_id, lambda t: t.attempts,
        wait.end, _postpone_transfer, lambda tx: tx.transfers.next_due(None), gather=0.5,
    )  # fmt: skip


def _peer(node: str, peer: str, relay: Relay, connections: int) -> Lane:
    def claim(tx: Tx, now: datetime, limit: int, until: datetime) -> Sequence[Transfer]:
        return tx.transfers.claim(peer, now, limit, until, node)

    def renew(tx: Tx, transfer: Transfer, until: datetime) -> object:
        return tx.transfers.renew(transfer.transfer_id, until, node)

    return Lane(
        f"relay {peer}", claim, lambda t: t.transfer_id, lambda t: t.attempts,
        relay.send, _postpone_transfer, lambda tx: tx.transfers.next_due(peer),
        at_once=connections, refill=1, renew=renew, patience=10.0, gather=0.01,
    )  # fmt: skip


def _postpone_transfer(tx: Tx, transfer: Transfer, at: datetime) -> None:
    after = replace(transfer, next_at=at, attempts=transfer.attempts + 1)
    tx.transfers.save(after, transfer.state)


@dataclass(slots=True)
class QueuedPeers:
    """The peers to which something is queued, as of the last look: also those the register has no more."""

    store: Store
    known: frozenset[str] = frozenset()

    async def look(self) -> None:
        """Look again: one cheap query."""
        counts = await self.store.read(lambda tx: tx.transfers.counts())
        self.known = frozenset(peer for peer, state in counts if state is TransferState.QUEUED)
