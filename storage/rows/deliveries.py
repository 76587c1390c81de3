"""Deliveries in SQL."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, Text, bindparam, case, func, insert, literal_column, select, update

from kephs.domain.lifecycle import DeliveryState
from kephs.domain.messages import Delivery
from kephs.ports import Ending
from storage.errors import ConflictError
from storage.files.survey import UnreadableRow, survey
from storage.rows.statements import Database, ListStatement, Params, Row
from storage.rows.tables import deliveries, messages
from storage.rows.values import from_micros_or_none, to_micros, to_micros_or_none

_ADD_DELIVERY: Final = insert(deliveries)
_DELIVERY: Final = select(deliveries).where(deliveries.c.delivery_id == bindparam("delivery_id"))
_OF_MESSAGE: Final = (
    select(deliveries).where(deliveries.c.message_id == bindparam("message_id")).order_by(deliveries.c.number)
)
_OF_MESSAGES: Final = ListStatement(
    lambda values: select(deliveries).where(deliveries.c.message_id.in_(values)).order_by(deliveries.c.number)
)
_STRAYS: Final = (
    select(deliveries)
    .select_from(deliveries.outerjoin(messages, messages.c.message_id == deliveries.c.message_id))
    .where(messages.c.message_id.is_(None), deliveries.c.delivery_id > bindparam("after"))
    .order_by(deliveries.c.delivery_id)
    .limit(literal_column("500"))
)
_DECIDE: Final = (
    update(deliveries)
    .where(
        deliveries.c.delivery_id == bindparam("of_delivery"),
        deliveries.c.state == literal_column("'pending'"),
    )
    .values(
        state=bindparam("new_state"),
        evidence_id=bindparam("evidence"),
        decided_at=bindparam("at"),
        account_id=func.coalesce(bindparam("found_account", type_=Text), deliveries.c.account_id),
    )
)
_PENDING: Final = ListStatement(
    lambda values: (
        select(deliveries.c.delivery_id)
        .where(deliveries.c.delivery_id.in_(values), deliveries.c.state == literal_column("'pending'"))
        .with_for_update()
    )
)
_READ: Final = (
    update(deliveries)
    .where(
        deliveries.c.delivery_id == bindparam("of_delivery"),
        deliveries.c.state == literal_column("'delivered'"),
        deliveries.c.read_evidence_id.is_(None),
    )
    .values(state=literal_column("'read'"), read_evidence_id=bindparam("evidence"))
)
_MOVE: Final = (
    update(deliveries)
    .where(
        deliveries.c.delivery_id == bindparam("of_delivery"),
        deliveries.c.state == bindparam("old_state"),
        deliveries.c.peer.is_not(None),
    )
    .values(state=bindparam("new_state"))
)
_evidence: Final = bindparam("evidence", type_=Text)
_MOVE_TO_END: Final = _MOVE.values(
    evidence_id=_evidence,
    # what decided before, named once more, decided then
    decided_at=case(
        (deliveries.c.evidence_id == _evidence, deliveries.c.decided_at),
        else_=bindparam("at", type_=BigInteger),
    ),
)
_READ_ELSEWHERE: Final = (
    update(deliveries)
    .where(deliveries.c.delivery_id == bindparam("of_delivery"), deliveries.c.read_evidence_id.is_(None))
    .values(read_evidence_id=bindparam("evidence"))
)


class SqlDeliveries:
    """`kephs.ports.Deliveries` in SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, delivery: Delivery) -> None:
        """Store a delivery.

        Raises:
            ConflictError: its id or number is taken.
        """
        added = self._db.run_quiet(
            _ADD_DELIVERY,
            {
                "delivery_id": delivery.delivery_id,
                "message_id": delivery.message_id,
                "number": delivery.number,
                "address": delivery.address,
                "account_id": delivery.account_id,
                "state": delivery.state.value,
                "decided_at": to_micros_or_none(delivery.decided_at),
                "evidence_id": delivery.evidence_id,
                "read_evidence_id": delivery.read_evidence_id,
                "peer": delivery.peer,
            },
        )
        if not added:
            raise ConflictError("the delivery's id or number is taken")

    def get(self, delivery_id: str) -> Delivery | None:
        """Return a delivery."""
        row = self._db.row(_DELIVERY, {"delivery_id": delivery_id})
        return None if row is None else _delivery(row)

    def of_message(self, message_id: str) -> list[Delivery]:
        """Return a message's deliveries by recipient number."""
        return [_delivery(row) for row in self._db.rows(_OF_MESSAGE, {"message_id": message_id})]

    def of_messages(self, message_ids: Sequence[str]) -> Mapping[str, list[Delivery]]:
        """Return the deliveries of several messages, each message's by recipient number."""
        found: dict[str, list[Delivery]] = {message_id: [] for message_id in message_ids}
        for row in self._db.rows_of(_OF_MESSAGES, list(found), {}):
            found[row[1]].append(_delivery(row))
        return found

    def decide_all(self, endings: Sequence[Ending]) -> AbstractSet[str]:
        """Move pending deliveries to their end states; return the ids of those that nobody moved before."""
        pending = {row[0] for row in self._db.rows_of(_PENDING, [one.delivery_id for one in endings], {})}
        self._db.run_each(_DECIDE, [_decided(one) for one in endings if one.delivery_id in pending])
        return pending

    def move(
        self,
        delivery_id: str,
        before: DeliveryState,
        after: DeliveryState,
        evidence_id: str | None,
        at: datetime,
    ) -> bool:
        """Change the state of a peer's recipient; False where the state was not ``before``.

        Without ``evidence_id``, or with the one it has, what decided it and when stay as they are.
        """
        params = {"of_delivery": delivery_id, "old_state": before.value, "new_state": after.value}
        if evidence_id is None:
            return self._db.run(_MOVE, params) == 1
        return self._db.run(_MOVE_TO_END, {**params, "evidence": evidence_id, "at": to_micros(at)}) == 1

    def read(self, delivery_id: str, evidence_id: str) -> bool:
        """Note the first reading of a delivered message; False where it was noted before."""
        return self._db.run(_READ, {"of_delivery": delivery_id, "evidence": evidence_id}) == 1

    def read_elsewhere(self, delivery_id: str, evidence_id: str) -> bool:
        """Note a peer's 60 whatever the state is; False where one was noted before."""
        return self._db.run(_READ_ELSEWHERE, {"of_delivery": delivery_id, "evidence": evidence_id}) == 1

    def survey(self, message_ids: Sequence[str]) -> Iterator[Delivery | UnreadableRow]:
        """Yield the deliveries of some messages, readable or not (asked by fsck)."""
        yield from survey("deliveries", self._db.rows_of(_OF_MESSAGES, message_ids, {}), _delivery)

    def strays(self) -> Iterator[Delivery | UnreadableRow]:
        """Yield the deliveries whose message is gone, by id (asked by fsck)."""
        after = ""
        while rows := self._db.rows(_STRAYS, {"after": after}):
            yield from survey("deliveries", rows, _delivery)
            after = rows[-1][0]


def _decided(ending: Ending) -> Params:
    return {
        "of_delivery": ending.delivery_id,
        "new_state": ending.state.value,
        "evidence": ending.evidence_id,
        "at": to_micros(ending.at),
        "found_account": ending.account_id,
    }


def _delivery(row: Row) -> Delivery:
    delivery_id, message_id, number, address, account_id, state, decided_at, evidence_id, read_id, peer = row
    return Delivery(
        delivery_id,
        message_id,
        number,
        address,
        account_id,
        DeliveryState(state),
        from_micros_or_none(decided_at),
        evidence_id,
        read_id,
        peer,
    )
