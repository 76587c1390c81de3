"""Messages in SQL."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, exists, func, insert, literal_column, null, select, update

from directory.addresses import KepAddress
from evidence.model.records import Authentication, Party
from kephs.domain.lifecycle import MessageState
from kephs.domain.messages import Recipient, Role, Submission
from kephs.ports import Blob
from storage.errors import ConflictError
from storage.files.survey import UnreadableRow, survey
from storage.rows.blobs import SqlBlobs, blob_columns
from storage.rows.statements import Database, ListStatement, Row
from storage.rows.tables import blobs, items, loose_blobs, messages
from storage.rows.values import (
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
    .where(messages.c.message_id == bindparam("of_message"), messages.c.dispatch.is_(None))
    .values(dispatch=bindparam("new_dispatch"))
)
_DISPATCHES: Final = ListStatement(
    lambda values: (
        select(messages.c.message_id, *blob_columns(blobs))
        .select_from(messages.join(blobs, blobs.c.sha256 == messages.c.dispatch))
        .where(messages.c.message_id.in_(values))
    )
)
_STANDING: Final = ListStatement(
    lambda values: select(messages.c.message_id, messages.c.dispatch).where(messages.c.message_id.in_(values))
)
# Of a message that no mailbox here holds, the KEP message goes with the last reference: this one.
_LET_DISPATCH_GO: Final = insert(loose_blobs).from_select(
    ["sha256"],
    select(messages.c.dispatch).where(
        messages.c.message_id == bindparam("of_message"),
        messages.c.dispatch.is_not(None),
        ~exists().where(items.c.sha256 == messages.c.dispatch),
    ),
)
_SET_STATE: Final = (
    update(messages)
    .where(messages.c.message_id == bindparam("of_message"))
    .values(state=bindparam("new_state"))
)
_COMPLETE: Final = _SET_STATE.values(next_at=null(), attempts=literal_column("0"), leased_by=null())
_STATES: Final = ListStatement(
    lambda values: select(messages.c.message_id, messages.c.state).where(messages.c.message_id.in_(values))
)
_DUE: Final = (
    update(messages)
    .where(messages.c.message_id == bindparam("of_message"))
    .values(next_at=bindparam("at"), attempts=bindparam("tried"), leased_by=null())
)
_LEASE: Final = ListStatement(
    lambda values: (
        update(messages)
        .where(messages.c.message_id.in_(values))
        .values(next_at=bindparam("lease_until"), leased_by=bindparam("by"))
    )
)
_CLAIMABLE: Final = (
    select(messages)
    .where(messages.c.next_at <= bindparam("now"))
    .order_by(messages.c.next_at, messages.c.message_id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_TAKE_OVER: Final = (
    update(messages)
    .where(messages.c.next_at.is_not(None), messages.c.leased_by == bindparam("by"))
    .values(next_at=bindparam("now"), leased_by=null())
)
_NEXT_DUE: Final = select(func.min(messages.c.next_at)).where(messages.c.next_at.is_not(None))
_NEXT_AT: Final = list(messages.c.keys()).index("next_at")
_PAGE: Final = (
    select(messages)
    .where(messages.c.message_id > bindparam("after"))
    .order_by(messages.c.message_id)
    .limit(literal_column("500"))
)


class SqlMessages:
    """`kephs.ports.Messages` in SQL."""

    def __init__(self, database: Database, blobs: SqlBlobs) -> None:
        self._db = database
        self._blobs = blobs

    def add(self, message: Submission) -> None:
        """Store a message.

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
                "origin": message.origin,
                "leased_by": None,
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
        """Return a message."""
        row = self._db.row(_GET, {"message_id": message_id})
        return None if row is None else self._message(row)

    def accepted_with(self, account_id: str, user_message_id: str) -> Submission | None:
        """Return the message accepted under this Message-ID."""
        row = self._db.row(_ACCEPTED_WITH, {"account_id": account_id, "user_message_id": user_message_id})
        return None if row is None else self._message(row)

    def name_dispatches(self, dispatches: Mapping[str, bytes]) -> AbstractSet[str]:
        """Note the digests of several messages' KEP messages; return the ids of those whose digest stands.

        `KeyError` where a message does not exist.
        """
        each = [{"of_message": key, "new_dispatch": digest} for key, digest in dispatches.items()]
        named: AbstractSet[str] = dispatches.keys()
        if self._db.run_each(_SET_DISPATCH, each) != len(each):
            standing = self._standing(list(dispatches))
            named = {key for key, digest in dispatches.items() if standing[key] == digest}
        self._blobs.loose.difference_update([dispatches[key] for key in named])
        return named

    def dispatches(self, message_ids: Sequence[str]) -> dict[str, Blob]:
        """Return the KEP messages that were noted for some messages, by message id."""
        return {row[0]: Blob(*row[1:]) for row in self._db.rows_of(_DISPATCHES, message_ids, {})}

    def states(self, message_ids: Sequence[str]) -> dict[str, MessageState]:
        """Return the states of several messages, by id."""
        return {row[0]: MessageState(row[1]) for row in self._db.rows_of(_STATES, message_ids, {})}

    def set_states(self, message_ids: Sequence[str], state: MessageState) -> None:
        """Change the states of messages, and end completed ones' work; `KeyError` where one is missing."""
        completed = state is MessageState.COMPLETED
        statement = _COMPLETE if completed else _SET_STATE
        each = [{"of_message": key, "new_state": state.value} for key in message_ids]
        if self._db.run_each(statement, each) != len(each):
            raise KeyError(*message_ids)
        if completed:
            self._db.run_each(_LET_DISPATCH_GO, [{"of_message": key} for key in message_ids])

    def due(self, message_id: str, at: datetime | None, attempts: int) -> None:
        """Set when the message's work is due and end its lease; `KeyError` where it does not exist."""
        params = {"of_message": message_id, "at": to_micros_or_none(at), "tried": attempts}
        if not self._db.run(_DUE, params):
            raise KeyError(message_id)

    def claim(self, now: datetime, limit: int, lease_until: datetime, by: str) -> list[Submission]:
        """Return due messages, earliest first, each due again at the end of its lease."""
        until = to_micros(lease_until)
        rows = self._db.rows(_CLAIMABLE, {"now": to_micros(now), "most": limit})
        self._db.run_of(_LEASE, [row[0] for row in rows], {"lease_until": until, "by": by})
        return [self._message((*row[:_NEXT_AT], until, *row[_NEXT_AT + 1 :])) for row in rows]

    def take_over(self, by: str, now: datetime) -> None:
        """Make due now what ``by`` had leased."""
        self._db.run(_TAKE_OVER, {"by": by, "now": to_micros(now)})

    def next_due(self) -> datetime | None:
        """Return when the next work is due."""
        row = self._db.row(_NEXT_DUE, {})
        return None if row is None else from_micros_or_none(row[0])

    def all(self) -> Iterable[Submission]:
        """Yield every message, by id, while the transaction lasts."""
        after = ""
        while rows := self._db.rows(_PAGE, {"after": after}):
            for row in rows:
                yield self._message(row)
            after = rows[-1][0]

    def survey(self) -> Iterator[Submission | UnreadableRow]:
        """Yield every message, by id, readable or not (asked by fsck)."""
        after = ""
        while rows := self._db.rows(_PAGE, {"after": after}):
            yield from survey("messages", rows, self._message)
            after = rows[-1][0]

    def _standing(self, message_ids: Sequence[str]) -> dict[str, bytes | None]:
        """Return the digests of messages' KEP messages; `KeyError` where a message does not exist."""
        found: dict[str, bytes | None] = dict(self._db.rows_of(_STANDING, message_ids, {}))
        for message_id in message_ids:
            if message_id not in found:
                raise KeyError(message_id)
        return found

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
            origin,
            _leased_by,
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
            origin,
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
