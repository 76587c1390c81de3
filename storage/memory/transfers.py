"""Transfers of the in-memory twin."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from kephs.domain.lifecycle import TO_HAND_OVER, TransferState
from kephs.domain.messages import Transfer, TransferKind
from storage.errors import ConflictError
from storage.memory.tables import Tables

Transfers = list[Transfer]  # in the classes `list` is a method

_WAITING: Final = (TransferState.HELD, TransferState.HANDED, TransferState.ANSWERED)


class MemoryTransfers:
    """`kephs.ports.Transfers` in memory."""

    def __init__(self, tables: Tables) -> None:
        self._t = tables

    def add(self, transfer: Transfer) -> bool:
        """Queue one; False where this message, peer and evidence have theirs already."""
        if any(_same(transfer) == _same(other) for other in self._t.transfers.values()):
            return False
        if transfer.transfer_id in self._t.transfers or transfer.message_id not in self._t.messages:
            raise ConflictError("the transfer's id is taken or its message does not exist")
        self._t.transfers.put(transfer.transfer_id, transfer)
        return True

    def get(self, transfer_id: str) -> Transfer | None:
        """Return a transfer."""
        return self._t.transfers.get(transfer_id)

    def of_message(self, message_id: str) -> Transfers:
        """Return a message's transfers, by id."""
        return [t for t in self._sorted() if t.message_id == message_id]

    def save(self, transfer: Transfer, before: TransferState) -> bool:
        """Store state, deadline, due time, attempts, cause and hand-over time; ends the lease.

        A dispatch that is not to be handed over any more lets its content go.
        """
        row = self._t.transfers.get(transfer.transfer_id)
        if row is None or row.state is not before:
            return False
        row = replace(
            row,
            state=transfer.state,
            deadline=transfer.deadline,
            next_at=transfer.next_at,
            attempts=transfer.attempts,
            cause=transfer.cause,
            handed_at=transfer.handed_at,
        )
        if row.kind is TransferKind.DISPATCH and row.state not in TO_HAND_OVER:
            row = replace(row, blob=None)
        self._t.transfers.put(row.transfer_id, row)
        self._t.lease("transfers", row.transfer_id, None)
        return True

    def name_blob(self, transfer_id: str, sha256: bytes) -> bool:
        """Note the dispatch made for this peer alone; the lease goes on."""
        row = self._t.transfers.get(transfer_id)
        if row is None or row.blob is not None or row.state not in TO_HAND_OVER:
            return False
        self._t.transfers.put(transfer_id, replace(row, blob=sha256))
        return True

    def claim(self, peer: str, now: datetime, limit: int, lease_until: datetime, by: str) -> Transfers:
        """Return what is queued for a peer and due, earliest first, leased."""
        due = (t for t in self._queued(peer) if t.next_at is not None and t.next_at <= now)
        return self._lease(sorted(due, key=_turn)[:limit], lease_until, by)

    def claim_waiting(self, now: datetime, limit: int, lease_until: datetime, by: str) -> Transfers:
        """Return what is held, handed or answered and whose deadline has come, leased."""
        due = (t for t in self._waiting() if t.next_at and t.next_at <= now and t.deadline <= now)
        return self._lease(sorted(due, key=_turn)[:limit], lease_until, by)

    def renew(self, transfer_id: str, until: datetime, by: str) -> bool:
        """Prolong a lease; False where ``by`` has it no more."""
        transfer = self._t.transfers.get(transfer_id)
        held = transfer_id in self._t.leased("transfers", by)
        if transfer is None or not held or transfer.state is not TransferState.QUEUED:
            return False
        self._t.transfers.put(transfer_id, replace(transfer, next_at=until))
        return True

    def take_over(self, by: str, now: datetime) -> None:
        """Make due now what ``by`` had leased."""
        for key in self._t.leased("transfers", by):
            self._t.transfers.put(key, replace(self._t.transfers[key], next_at=now))
            self._t.lease("transfers", key, None)

    def next_due(self, peer: str | None) -> datetime | None:
        """Return when the next one queued for a peer, or (None) the next waiting one, is due."""
        if peer is None:
            return min((max(t.next_at, t.deadline) for t in self._waiting() if t.next_at), default=None)
        return min((t.next_at for t in self._queued(peer) if t.next_at), default=None)

    def list(self, *, peer: str | None, state: TransferState | None, after: str, limit: int) -> Transfers:
        """Return transfers by id, above ``after``; by default those of every peer in every state."""
        found = (
            t
            for t in self._sorted()
            if t.transfer_id > after and peer in (None, t.peer) and state in (None, t.state)
        )
        return [t for t, _ in zip(found, range(limit), strict=False)]

    def counts(self) -> dict[tuple[str, TransferState], int]:
        """Return how many there are per peer and state."""
        counts: dict[tuple[str, TransferState], int] = {}
        for transfer in self._t.transfers.values():
            key = (transfer.peer, transfer.state)
            counts[key] = counts.get(key, 0) + 1
        return counts

    def survey(self, message_ids: Sequence[str]) -> Iterator[Transfer]:
        """Yield the transfers of some messages (asked by fsck)."""
        for message_id in message_ids:
            yield from self.of_message(message_id)

    def strays(self) -> Iterator[Transfer]:
        """Yield the transfers whose message is gone, by id (asked by fsck)."""
        yield from (t for t in self._sorted() if t.message_id not in self._t.messages)

    def _sorted(self) -> Transfers:
        return sorted(self._t.transfers.values(), key=lambda t: t.transfer_id)

    def _queued(self, peer: str) -> Transfers:
        return [t for t in self._t.transfers.values() if t.state is TransferState.QUEUED and t.peer == peer]

    def _waiting(self) -> Transfers:
        return [t for t in self._t.transfers.values() if t.state in _WAITING]

    def _lease(self, due: Sequence[Transfer], until: datetime, by: str) -> Transfers:
        claimed = [replace(transfer, next_at=until) for transfer in due]
        for transfer in claimed:
            self._t.transfers.put(transfer.transfer_id, transfer)
            self._t.lease("transfers", transfer.transfer_id, by)
        return claimed


def _same(transfer: Transfer) -> tuple[str, str, str]:
    return transfer.message_id, transfer.peer, transfer.evidence_id or ""


def _turn(transfer: Transfer) -> tuple[datetime | None, str]:
    return transfer.next_at, transfer.transfer_id
