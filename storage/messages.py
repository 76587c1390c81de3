"""Submissions and deliveries in SQL."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Text, bindparam, func, insert, literal_column, select, update

from directory.addresses import KepAddress
from evidence.records import Authentication, Party
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.domain.messages import Delivery, Recipient, Role, Submission
from storage.blob_rows import SqlBlobs
from storage.errors import ConflictError
from storage.statements import Database, ListStatement, Row
from storage.survey import UnreadableRow, survey
from storage.tables import deliveries, messages
from storage.values import (
    from_micros,
    from_micros_or_none,
    seal_json,
    to_micros,
    to_micros_or_none,
    unseal_json,
)

_ADD: Final = insert(messages)
_GET: Final = select(messages).where(messages.c.message_id == bindparam("message_id"))
_ACCEPTED_WITH: Final = select(messages).where(
    messages.c.account_id == bindparam("account_id"),
    messages.c.user_message_id == bindparam("user_message_id"),
    messages.c.state != literal_column("'refused'"),
)
_SET_DISPATCH: Final = (
    update(messages)
    .where(messages.c.message_id == bindparam("of_message"))
    .values(dispatch=bindparam("new_dispatch"))
)
_SET_STATE: Final = (
    update(messages)
    .where(messages.c.message_id == bindparam("of_message"))
    .values(state=bindparam("new_state"))
)
_DUE: Final = (
    update(messages)
    .where(messages.c.message_id == bindparam("of_message"))
    .values(next_at=bindparam("at"), attempts=bindparam("tried"))
)
_LEASE: Final = (
    update(messages)
    .where(messages.c.message_id == bindparam("of_message"))
    .values(next_at=bindparam("lease_until"))
)
_CLAIMABLE: Final = (
    select(messages.c.message_id)
    .where(messages.c.next_at <= bindparam("now"))
    .order_by(messages.c.next_at, messages.c.message_id)
    .limit(bindparam("most"))
)
_HASTEN: Final = (
    update(messages).where(messages.c.next_at > bindparam("now")).values(next_at=bindparam("now"))
)
_NEXT_DUE: Final = select(func.min(messages.c.next_at)).where(messages.c.next_at.is_not(None))
_PAGE: Final = (
    select(messages)
    .where(messages.c.message_id > bindparam("after"))
    .order_by(messages.c.message_id)
    .limit(literal_column("500"))
)

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
_READ: Final = (
    update(deliveries)
    .where(
        deliveries.c.delivery_id == bindparam("of_delivery"),
        deliveries.c.state == literal_column("'delivered'"),
        deliveries.c.read_evidence_id.is_(None),
    )
    .values(state=literal_column("'read'"), read_evidence_id=bindparam("evidence"))
)


class SqlMessages:
    """`kephs.ports.Messages` in SQL."""

    def __init__(self, database: Database, blobs: SqlBlobs) -> None:
        self._db = database
        self._blobs = blobs

    def add(self, message: Submission) -> None:
        """Store a submission.

        Raises:
            ConflictError: its id is taken, or its Message-ID was accepted before from this account.
        """
        added = self._db.run_quiet(
            _ADD,
            {
                "message_id": message.message_id,
                "account_id": message.account_id,
                "operator_id": message.operator_id,
                "state": message.state.value,
                "user_message_id": message.user_message_id,
                "digest_sha256": message.digest_sha256,
                "digest_sha512": message.digest_sha512,
                "size": message.size,
                "personal": seal_json(self._db.vault, _to_json(message), _place(message.message_id)),
                "submitted_at": to_micros(message.submitted_at),
                "material": message.material,
                "dispatch": message.dispatch,
                "next_at": to_micros_or_none(message.next_at),
                "attempts": message.attempts,
            },
        )
        if not added:
            raise ConflictError("the message's id or Message-ID is taken")
        loose = self._blobs.loose
        loose.discard(message.material or b"")
        if message.state is MessageState.ACCEPTED:
            loose.discard(message.digest_sha256)
            loose.discard(message.dispatch or b"")

    def get(self, message_id: str) -> Submission | None:
        """Return a submission."""
        row = self._db.row(_GET, {"message_id": message_id})
        return None if row is None else self._message(row)

    def accepted_with(self, account_id: str, user_message_id: str) -> Submission | None:
        """Return the message accepted under this Message-ID."""
        row = self._db.row(_ACCEPTED_WITH, {"account_id": account_id, "user_message_id": user_message_id})
        return None if row is None else self._message(row)

    def set_dispatch(self, message_id: str, dispatch: bytes) -> None:
        """Note the KEP message's digest; `KeyError` where the message does not exist."""
        if not self._db.run(_SET_DISPATCH, {"of_message": message_id, "new_dispatch": dispatch}):
            raise KeyError(message_id)
        self._blobs.loose.discard(dispatch)

    def set_state(self, message_id: str, state: MessageState) -> None:
        """Change a message's state; `KeyError` where it does not exist."""
        if not self._db.run(_SET_STATE, {"of_message": message_id, "new_state": state.value}):
            raise KeyError(message_id)

    def due(self, message_id: str, at: datetime | None, attempts: int) -> None:
        """Set when the message's work is due; `KeyError` where it does not exist."""
        params = {"of_message": message_id, "at": to_micros_or_none(at), "tried": attempts}
        if not self._db.run(_DUE, params):
            raise KeyError(message_id)

    def claim(self, now: datetime, limit: int, lease_until: datetime) -> list[Submission]:
        """Return due messages, earliest first, each due again at the end of its lease."""
        until = to_micros(lease_until)
        claimed = []
        for (message_id,) in self._db.rows(_CLAIMABLE, {"now": to_micros(now), "most": limit}):
            self._db.run(_LEASE, {"of_message": message_id, "lease_until": until})
            message = self.get(message_id)
            if message is not None:
                claimed.append(message)
        return claimed

    def hasten(self, now: datetime) -> None:
        """Make all work due now, leased or postponed."""
        self._db.run(_HASTEN, {"now": to_micros(now)})

    def next_due(self) -> datetime | None:
        """Return when the next work is due."""
        row = self._db.row(_NEXT_DUE, {})
        return None if row is None else from_micros_or_none(row[0])

    def all(self) -> Iterable[Submission]:
        """Yield every submission, by id, while the transaction lasts."""
        after = ""
        while rows := self._db.rows(_PAGE, {"after": after}):
            for row in rows:
                yield self._message(row)
            after = rows[-1][0]

    def survey(self) -> Iterator[Submission | UnreadableRow]:
        """Yield every submission, by id, readable or not (asked by fsck)."""
        after = ""
        while rows := self._db.rows(_PAGE, {"after": after}):
            yield from survey("messages", rows, self._message)
            after = rows[-1][0]

    def _message(self, row: Row) -> Submission:
        (
            message_id,
            account_id,
            operator_id,
            state,
            user_message_id,
            sha256,
            sha512,
            size,
            personal,
            submitted_at,
            material,
            dispatch,
            next_at,
            attempts,
        ) = row
        subject, sender, recipients, authentication = unseal_json(
            self._db.vault, personal, _place(message_id)
        )
        return Submission(
            message_id,
            account_id,
            operator_id,
            MessageState(state),
            user_message_id,
            sha256,
            sha512,
            size,
            subject,
            Party(*sender),
            tuple(
                Recipient(KepAddress(local, domain, provider), name, Role(role))
                for local, domain, provider, name, role in recipients
            ),
            Authentication(from_micros(authentication[0]), *authentication[1:]),
            from_micros(submitted_at),
            material,
            dispatch,
            from_micros_or_none(next_at),
            attempts,
        )


def _place(message_id: str) -> str:
    return f"messages:{message_id}"


def _to_json(message: Submission) -> list[Any]:
    who = message.authentication
    return [
        message.subject,
        [message.sender.address, message.sender.name],
        [
            [r.address.local, r.address.domain, r.address.provider, r.name, r.role.value]
            for r in message.recipients
        ],
        [to_micros(who.at), who.method, who.person],
    ]


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

    def decide(
        self,
        delivery_id: str,
        state: DeliveryState,
        evidence_id: str,
        at: datetime,
        account_id: str | None = None,
    ) -> bool:
        """Move a pending delivery to its end state; False where somebody did so before."""
        params = {
            "of_delivery": delivery_id,
            "new_state": state.value,
            "evidence": evidence_id,
            "at": to_micros(at),
            "found_account": account_id,
        }
        return self._db.run(_DECIDE, params) == 1

    def read(self, delivery_id: str, evidence_id: str) -> bool:
        """Note the first reading of a delivered message; False where it was noted before."""
        return self._db.run(_READ, {"of_delivery": delivery_id, "evidence": evidence_id}) == 1

    def survey(self, message_ids: Sequence[str]) -> Iterator[Delivery | UnreadableRow]:
        """Yield the deliveries of some messages, readable or not (asked by fsck)."""
        yield from survey("deliveries", self._db.rows_of(_OF_MESSAGES, message_ids, {}), _delivery)

    def strays(self) -> Iterator[Delivery | UnreadableRow]:
        """Yield the deliveries whose message is gone, by id (asked by fsck)."""
        after = ""
        while rows := self._db.rows(_STRAYS, {"after": after}):
            yield from survey("deliveries", rows, _delivery)
            after = rows[-1][0]


def _delivery(row: Row) -> Delivery:
    delivery_id, message_id, number, address, account_id, state, decided_at, evidence_id, read_id = row
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
    )
