"""Transfers in SQL: what is on its way to peers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Select,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    null,
    select,
    update,
)

from kephs.domain.lifecycle import TO_HAND_OVER, TransferState
from kephs.domain.messages import Transfer, TransferKind
from storage.errors import ConflictError
from storage.files.survey import UnreadableRow, survey
from storage.rows.blobs import SqlBlobs
from storage.rows.statements import Database, ListStatement, Row
from storage.rows.tables import messages, transfers
from storage.rows.values import from_micros, from_micros_or_none, to_micros, to_micros_or_none

Transfers = list[Transfer]  # in the class `list` is a method

_t: Final = transfers.c
_ADD: Final = insert(transfers)
_GET: Final = select(transfers).where(_t.transfer_id == bindparam("transfer_id"))
_SAME: Final[Select[Any]] = select(literal_column("1")).where(
    _t.message_id == bindparam("message_id"),
    _t.peer == bindparam("peer"),
    _t.evidence_id == bindparam("evidence_id"),
)
_OF_MESSAGE: Final = (
    select(transfers).where(_t.message_id == bindparam("message_id")).order_by(_t.transfer_id)
)
_SAVE: Final = (
    update(transfers)
    .where(_t.transfer_id == bindparam("of_transfer"), _t.state == bindparam("old_state"))
    .values(
        state=bindparam("new_state"),
        deadline=bindparam("until"),
        next_at=bindparam("at"),
        attempts=bindparam("tried"),
        cause=bindparam("why"),
        handed_at=bindparam("handed"),
        blob=case((bindparam("letting_go", type_=Boolean), null()), else_=_t.blob),
        leased_by=null(),
    )
)

# Constants, not parameters: only they are served by the partial indexes.
_queued: Final = _t.state == literal_column("'queued'")
_waiting: Final = _t.state.in_([literal_column(f"'{state}'") for state in ("held", "handed", "answered")])
_CLAIMABLE: Final = (
    select(transfers)
    .where(_queued, _t.peer == bindparam("peer"), _t.next_at <= bindparam("now"))
    .order_by(_t.next_at, _t.transfer_id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_CLAIMABLE_WAITING: Final = (
    select(transfers)
    .where(_waiting, _t.next_at <= bindparam("now"), _t.deadline <= bindparam("now"))
    .order_by(_t.next_at, _t.transfer_id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_to_hand_over: Final = _t.state.in_([literal_column(f"'{state}'") for state in sorted(TO_HAND_OVER)])
_NAME_BLOB: Final = (
    update(transfers)
    .where(_to_hand_over, _t.transfer_id == bindparam("of_transfer"), _t.blob.is_(None))
    .values(blob=bindparam("sha256"))
)
_LEASE: Final = (
    update(transfers)
    .where(_t.transfer_id == bindparam("of_transfer"))
    .values(next_at=bindparam("lease_until"), leased_by=bindparam("by"))
)
_RENEW: Final = (
    update(transfers)
    .where(_queued, _t.transfer_id == bindparam("of_transfer"), _t.leased_by == bindparam("holder"))
    .values(next_at=bindparam("until"))
)
_TAKE_OVER_QUEUED: Final = (
    update(transfers)
    .where(_queued, _t.leased_by == bindparam("by"))
    .values(next_at=bindparam("now"), leased_by=null())
)
_TAKE_OVER_WAITING: Final = (
    update(transfers)
    .where(_waiting, _t.leased_by == bindparam("by"))
    .values(next_at=bindparam("now"), leased_by=null())
)
_NEXT_QUEUED: Final = select(func.min(_t.next_at)).where(_queued, _t.peer == bindparam("peer"))
_NEXT_WAITING: Final = (
    select(_t.next_at, _t.deadline)
    .where(_waiting, _t.next_at.is_not(None))
    .order_by(_t.next_at, _t.deadline)
    .limit(literal_column("1"))
)
_NEXT_DEADLINE: Final = select(
    func.min(case((_t.deadline > _t.next_at, _t.deadline), else_=_t.next_at))
).where(_waiting, _t.next_at.is_not(None))
_COUNTS: Final = select(_t.peer, _t.state, func.count()).group_by(_t.peer, _t.state)


_PEERS: Final = select(_t.peer).distinct()
_ALL: Final = (
    select(transfers)
    .where(_t.transfer_id > bindparam("after"))
    .order_by(_t.transfer_id)
    .limit(bindparam("most"))
)
_LIST: Final = _ALL.where(_t.peer == bindparam("peer"), _t.state == bindparam("state"))
_OF_MESSAGES: Final = ListStatement(
    lambda values: select(transfers).where(_t.message_id.in_(values)).order_by(_t.transfer_id)
)
_STRAYS: Final = (
    select(transfers)
    .select_from(transfers.outerjoin(messages, messages.c.message_id == _t.message_id))
    .where(messages.c.message_id.is_(None), _t.transfer_id > bindparam("after"))
    .order_by(_t.transfer_id)
    .limit(literal_column("500"))
)


class SqlTransfers:
    """`kephs.ports.Transfers` in SQL."""

    def __init__(self, database: Database, blobs: SqlBlobs) -> None:
        self._db = database
        self._blobs = blobs

    def add(self, transfer: Transfer) -> bool:
        """Queue one; False where this message, peer and evidence have theirs already.

        Raises:
            ConflictError: its id is taken, or its message does not exist.
        """
        key = {
            "message_id": transfer.message_id,
            "peer": transfer.peer,
            "evidence_id": transfer.evidence_id or "",
        }
        added = self._db.run_quiet(
            _ADD,
            {
                **key,
                "transfer_id": transfer.transfer_id,
                "kind": transfer.kind.value,
                "state": transfer.state.value,
                "created_at": to_micros(transfer.created_at),
                "deadline": to_micros(transfer.deadline),
                "blob": transfer.blob,
                "next_at": to_micros_or_none(transfer.next_at),
                "attempts": transfer.attempts,
                "cause": transfer.cause,
                "handed_at": to_micros_or_none(transfer.handed_at),
                "leased_by": None,
            },
        )
        if added:
            if transfer.state is not TransferState.DONE:
                self._blobs.loose.discard(transfer.blob or b"")
            return True
        if self._db.row(_SAME, key) is None:
            raise ConflictError("the transfer's id is taken")
        return False

    def get(self, transfer_id: str) -> Transfer | None:
        """Return a transfer."""
        row = self._db.row(_GET, {"transfer_id": transfer_id})
        return None if row is None else _transfer(row)

    def of_message(self, message_id: str) -> Transfers:
        """Return a message's transfers, by id."""
        return [_transfer(row) for row in self._db.rows(_OF_MESSAGE, {"message_id": message_id})]

    def save(self, transfer: Transfer, before: TransferState) -> bool:
        """Store state, deadline, due time, attempts, cause and hand-over time; ends the lease.

        False where the state was not ``before`` or there is no such transfer. A receipt that is done lets
        its content go, and so does a dispatch that is not to be handed over any more.
        """
        left = transfer.kind is TransferKind.DISPATCH and transfer.state not in TO_HAND_OVER
        saved = self._db.run(
            _SAVE,
            {
                "of_transfer": transfer.transfer_id,
                "old_state": before.value,
                "new_state": transfer.state.value,
                "until": to_micros(transfer.deadline),
                "at": to_micros_or_none(transfer.next_at),
                "tried": transfer.attempts,
                "why": transfer.cause,
                "handed": to_micros_or_none(transfer.handed_at),
                "letting_go": left,
            },
        )
        if saved and transfer.blob is not None and (left or transfer.state is TransferState.DONE):
            self._blobs.unreferenced(transfer.blob)
        return saved == 1

    def name_blob(self, transfer_id: str, sha256: bytes) -> bool:
        """Note the dispatch made for this peer alone; the lease goes on.

        False where one was noted before, or it is not to be handed over any more.
        """
        named = self._db.run(_NAME_BLOB, {"of_transfer": transfer_id, "sha256": sha256}) == 1
        if named:
            self._blobs.loose.discard(sha256)
        return named

    def claim(self, peer: str, now: datetime, limit: int, lease_until: datetime, by: str) -> Transfers:
        """Return what is queued for a peer and due, earliest first, leased."""
        rows = self._db.rows(_CLAIMABLE, {"peer": peer, "now": to_micros(now), "most": limit})
        return self._lease(rows, lease_until, by)

    def claim_waiting(self, now: datetime, limit: int, lease_until: datetime, by: str) -> Transfers:
        """Return what is held, handed or answered and whose deadline has come, leased."""
        rows = self._db.rows(_CLAIMABLE_WAITING, {"now": to_micros(now), "most": limit})
        return self._lease(rows, lease_until, by)

    def renew(self, transfer_id: str, until: datetime, by: str) -> bool:
        """Prolong a lease; False where ``by`` has it no more."""
        params = {"of_transfer": transfer_id, "until": to_micros(until), "holder": by}
        return self._db.run(_RENEW, params) == 1

    def take_over(self, by: str, now: datetime) -> None:
        """Make due now what ``by`` had leased."""
        params = {"by": by, "now": to_micros(now)}
        self._db.run(_TAKE_OVER_QUEUED, params)
        self._db.run(_TAKE_OVER_WAITING, params)

    def next_due(self, peer: str | None) -> datetime | None:
        """Return when the next one queued for a peer, or (None) the next waiting one, is due.

        A waiting one is due when its deadline has come and nobody has it leased.
        """
        if peer is not None:
            row = self._db.row(_NEXT_QUEUED, {"peer": peer})
            return None if row is None else from_micros_or_none(row[0])
        first = self._db.row(_NEXT_WAITING, {})
        if first is not None and first[1] > first[0]:  # one that looks due before its deadline
            first = self._db.row(_NEXT_DEADLINE, {})
        return None if first is None else from_micros_or_none(first[0])

    def list(self, *, peer: str | None, state: TransferState | None, after: str, limit: int) -> Transfers:
        """Return transfers by id, above ``after``; by default those of every peer in every state."""
        page: dict[str, object] = {"after": after, "most": limit}
        if peer is None and state is None:
            return [_transfer(row) for row in self._db.rows(_ALL, page)]
        peers = [peer] if peer is not None else [name for (name,) in self._db.rows(_PEERS, {})]
        states = [state] if state is not None else TransferState
        rows: Iterator[Row] = chain.from_iterable(
            self._db.rows(_LIST, {**page, "peer": name, "state": one.value})
            for name in peers
            for one in states
        )  # each in the order of its index
        return [_transfer(row) for row in sorted(rows, key=itemgetter(0))[:limit]]

    def counts(self) -> dict[tuple[str, TransferState], int]:
        """Return how many there are per peer and state."""
        return {(peer, TransferState(state)): count for peer, state, count in self._db.rows(_COUNTS, {})}

    def survey(self, message_ids: Sequence[str]) -> Iterator[Transfer | UnreadableRow]:
        """Yield the transfers of some messages, readable or not (asked by fsck)."""
        yield from survey("transfers", self._db.rows_of(_OF_MESSAGES, message_ids, {}), _transfer)

    def strays(self) -> Iterator[Transfer | UnreadableRow]:
        """Yield the transfers whose message is gone, by id (asked by fsck)."""
        after = ""
        while rows := self._db.rows(_STRAYS, {"after": after}):
            yield from survey("transfers", rows, _transfer)
            after = rows[-1][0]

    def _lease(self, rows: Sequence[Row], until: datetime, by: str) -> Transfers:
        claimed = []
        for row in rows:
            self._db.run(_LEASE, {"of_transfer": row[0], "lease_until": to_micros(until), "by": by})
            claimed.append(replace(_transfer(row), next_at=until))
        return claimed


def _transfer(row: Row) -> Transfer:
    (
        transfer_id,
        kind,
        message_id,
        peer,
        state,
        created_at,
        deadline,
        evidence_id,
        blob,
        next_at,
        attempts,
        cause,
        handed_at,
        _leased_by,
    ) = row
    return Transfer(
        transfer_id,
        TransferKind(kind),
        message_id,
        peer,
        TransferState(state),
        from_micros(created_at),
        from_micros(deadline),
        evidence_id or None,
        blob,
        from_micros_or_none(next_at),
        attempts,
        cause,
        from_micros_or_none(handed_at),
    )
