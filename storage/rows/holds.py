"""Legal holds and destroyed content in SQL."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    LargeBinary,
    Select,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from kephs.domain.erasure import ContentPart, Destroyed, PendingErasure, Removal, RemovalCause
from kephs.domain.legal_hold import HoldKind, HoldState, LegalHold, Lifting
from kephs.domain.messages import Submission
from storage.crypto import Vault
from storage.files.survey import UnreadableRow, survey
from storage.rows.blobs import SqlBlobs
from storage.rows.hold_tables import (
    destroyed_contents,
    held_contents,
    legal_holds,
    pending_erasures,
    removals,
)
from storage.rows.messages import SqlMessages
from storage.rows.statements import Database, ListStatement, Row
from storage.rows.tables import deliveries, items, loose_blobs, messages
from storage.rows.values import (
    from_micros,
    from_micros_or_none,
    seal_json,
    to_micros,
    to_micros_or_none,
    unseal_json,
)

_PAGE: Final = 1_000
_of_folder: Final = items.c.folder_id == bindparam("folder_id")
_REMOVAL: Final = ("sha256", "account_id", "operator_id", "cause", "at", "personal")


def _removed(which: ColumnElement[bool]) -> Any:
    values = (
        bindparam("account_id", type_=Text()),
        bindparam("operator_id", type_=Text()),
        bindparam("cause", type_=Text()),
        bindparam("at", type_=BigInteger()),
        bindparam("personal", type_=LargeBinary()),
    )
    return insert(removals).from_select(_REMOVAL, select(items.c.sha256, *values).where(which))


def _held(which: ColumnElement[bool]) -> Any:
    stands = and_(legal_holds.c.account_id == bindparam("account_id"), legal_holds.c.lifted_at.is_(None))
    rows = select(items.c.sha256, legal_holds.c.number).select_from(items.join(legal_holds, stands))
    return insert(held_contents).from_select(["sha256", "hold"], rows.where(which).distinct())


_NOTE_ALL: Final = _removed(_of_folder)
_NOTE: Final = ListStatement(lambda uids: _removed(and_(_of_folder, items.c.uid.in_(uids))))
_KEEP_ALL: Final = _held(_of_folder)
_KEEP: Final = ListStatement(lambda uids: _held(and_(_of_folder, items.c.uid.in_(uids))))
_ON_ACCOUNT: Final[Select[Any]] = select(literal_column("1")).where(
    legal_holds.c.account_id == bindparam("account_id"), legal_holds.c.lifted_at.is_(None)
)
_REMOVALS: Final = (
    select(
        removals.c.account_id, removals.c.operator_id, removals.c.cause, removals.c.at, removals.c.personal
    )
    .where(removals.c.sha256 == bindparam("sha256"))
    .order_by(removals.c.number)
    .limit(literal_column("1000"))
)
_FORGET: Final = delete(removals).where(removals.c.sha256 == bindparam("sha256"))
_MESSAGES_WITH: Final = (
    select(messages.c.message_id)
    .where(or_(messages.c.digest_sha256 == bindparam("sha256"), messages.c.dispatch == bindparam("sha256")))
    .order_by(messages.c.message_id)
)
_ADD_DESTROYED: Final = insert(destroyed_contents)
_DESTROYED: Final = (
    select(destroyed_contents)
    .where(destroyed_contents.c.message_id == bindparam("message_id"))
    .order_by(destroyed_contents.c.number)
)
_ALL_DESTROYED: Final = (
    select(destroyed_contents)
    .where(destroyed_contents.c.number > bindparam("after"))
    .order_by(destroyed_contents.c.number)
    .limit(bindparam("most"))
)
_LATER: Final = insert(pending_erasures)
_PENDING: Final = (
    select(pending_erasures)
    .order_by(pending_erasures.c.closed_at, pending_erasures.c.account_id)
    .limit(literal_column("1"))
)
_DONE: Final = delete(pending_erasures).where(pending_erasures.c.account_id == bindparam("account_id"))
_FIRST_UIDS: Final = select(items.c.uid).where(_of_folder).order_by(items.c.uid).limit(bindparam("most"))

_ADD: Final = insert(legal_holds)
_NEXT: Final = select(func.coalesce(func.max(legal_holds.c.number), literal_column("0")))
_GET: Final = select(legal_holds).where(legal_holds.c.number == bindparam("number"))
_ALL: Final = select(legal_holds).order_by(legal_holds.c.number)
_PUT: Final = (
    update(legal_holds)
    .where(legal_holds.c.number == bindparam("of_hold"))
    .values(
        state=bindparam("new_state"), lifted_at=bindparam("new_lifted_at"), personal=bindparam("new_personal")
    )
)
_of_message: Final = legal_holds.c.message_id == bindparam("message_id")
_of_sender: Final = legal_holds.c.account_id.in_(
    select(messages.c.account_id).where(messages.c.message_id == bindparam("message_id"))
)
_of_recipient: Final = legal_holds.c.account_id.in_(
    select(deliveries.c.account_id).where(deliveries.c.message_id == bindparam("message_id"))
)
_KEEPING: Final = (
    select(legal_holds).where(or_(_of_message, _of_sender, _of_recipient)).order_by(legal_holds.c.number)
)
_HELD: Final = (
    select(held_contents.c.sha256)
    .where(held_contents.c.hold == bindparam("hold"), held_contents.c.sha256 > bindparam("after"))
    .order_by(held_contents.c.sha256)
    .limit(bindparam("most"))
)
_LET_GO: Final = delete(held_contents).where(held_contents.c.hold == bindparam("hold"))
_hold_of_contents: Final = held_contents.c.hold == bindparam("hold")
_LOOSEN_HELD: Final = insert(loose_blobs).from_select(
    ["sha256"], select(held_contents.c.sha256).where(_hold_of_contents)
)


def _loosen(column: ColumnElement[Any], where: ColumnElement[bool]) -> Any:
    rows: Select[Any] = select(column).where(column.is_not(None), where)
    return insert(loose_blobs).from_select(["sha256"], rows)


_this_message: Final = messages.c.message_id == bindparam("subject")
_sent: Final = messages.c.account_id == bindparam("subject")
_received: Final = messages.c.message_id.in_(
    select(deliveries.c.message_id).where(deliveries.c.account_id == bindparam("subject"))
)
_LOOSEN: Final = {
    HoldKind.MESSAGE: [_loosen(c, _this_message) for c in (messages.c.digest_sha256, messages.c.dispatch)],
    HoldKind.ACCOUNT: [
        _loosen(column, which)
        for column in (messages.c.digest_sha256, messages.c.dispatch)
        for which in (_sent, _received)
    ],
}


class SqlErasures:
    """`kephs.ports.Erasures` in SQL."""

    def __init__(self, database: Database, rows: SqlMessages) -> None:
        self._db = database
        self._messages = rows

    def removing(self, folder_id: int, uids: Sequence[int] | None, removal: Removal) -> None:
        """Note who removes items; where a hold stands on the account, keep their content."""
        place = f"removals:{removal.account_id}:{to_micros(removal.at)}"
        params = {
            "folder_id": folder_id,
            "account_id": removal.account_id,
            "operator_id": removal.operator_id,
            "cause": removal.cause.value,
            "at": to_micros(removal.at),
            "personal": seal_json(self._db.vault, removal.by, place),
        }
        held = self._db.row(_ON_ACCOUNT, {"account_id": removal.account_id}) is not None
        keep = {"folder_id": folder_id, "account_id": removal.account_id}
        if uids is None:
            self._db.run(_NOTE_ALL, params)
            if held:
                self._db.run_quiet(_KEEP_ALL, keep)
            return
        wanted = sorted(set(uids))
        for statement, listed in _NOTE.parts(wanted):
            self._db.run(statement, {**params, **listed})
        for statement, listed in _KEEP.parts(wanted) if held else ():
            self._db.run_quiet(statement, {**keep, **listed})

    def removals(self, sha256: bytes) -> list[Removal]:
        """Return who removed items with this content, oldest first; at most 1,000."""
        return [_removal(self._db.vault, row) for row in self._db.rows(_REMOVALS, {"sha256": sha256})]

    def forget(self, sha256: bytes) -> None:
        """Forget who removed items with this content."""
        self._db.run(_FORGET, {"sha256": sha256})

    def messages_with(self, sha256: bytes) -> list[Submission]:
        """Return the messages whose original or KEP message this is."""
        found = (self._messages.get(one) for (one,) in self._db.rows(_MESSAGES_WITH, {"sha256": sha256}))
        return [one for one in found if one is not None]

    def add_destroyed(self, one: Destroyed) -> None:
        """Note that content was destroyed."""
        self._db.run(
            _ADD_DESTROYED,
            {
                "number": one.number,
                "message_id": one.message_id,
                "part": one.part.value,
                "sha256": one.sha256,
                "at": to_micros(one.at),
                "cause": None if one.cause is None else one.cause.value,
            },
        )

    def destroyed(self, message_id: str) -> list[Destroyed]:
        """Return what was destroyed of a message."""
        return [_destroyed(row) for row in self._db.rows(_DESTROYED, {"message_id": message_id})]

    def later(self, account: PendingErasure) -> None:
        """Note that a closed account's mailbox is to be emptied."""
        sealed = seal_json(self._db.vault, account.by, f"pending_erasures:{account.account_id}")
        self._db.run_quiet(
            _LATER,
            {
                "account_id": account.account_id,
                "closed_at": to_micros(account.closed_at),
                "personal": sealed,
            },
        )

    def pending(self) -> PendingErasure | None:
        """Return the account that was closed first of those still to be emptied."""
        row = self._db.row(_PENDING, {})
        if row is None:
            return None
        by = unseal_json(self._db.vault, row[2], f"pending_erasures:{row[0]}") if row[2] else ""
        return PendingErasure(row[0], from_micros(row[1]), by)

    def first_uids(self, folder_id: int, limit: int) -> list[int]:
        """Return the lowest UIDs in a folder."""
        rows = self._db.rows(_FIRST_UIDS, {"folder_id": folder_id, "most": limit})
        return [uid for (uid,) in rows]

    def done(self, account_id: str) -> None:
        """Note that an account's mailbox is empty."""
        self._db.run(_DONE, {"account_id": account_id})

    def survey(self) -> Iterator[Destroyed | UnreadableRow]:
        """Yield all that was destroyed, readable or not (asked by fsck)."""
        after = -1
        while rows := self._db.rows(_ALL_DESTROYED, {"after": after, "most": _PAGE}):
            yield from survey("destroyed_contents", rows, _destroyed)
            after = rows[-1][0]


class SqlHolds:
    """`kephs.ports.Holds` in SQL."""

    def __init__(self, database: Database, blobs: SqlBlobs) -> None:
        self._db = database
        self._blobs = blobs

    def add(self, hold: LegalHold) -> LegalHold:
        """Store a hold and return it with its number.

        Raises:
            ConflictError: its message or account does not exist.
        """
        self._db.serialise("legal_holds")
        number = int((self._db.row(_NEXT, {}) or (0,))[0]) + 1
        stored = LegalHold(number, hold.kind, hold.subject, hold.set_by, hold.set_at, hold.reason)
        of_message = hold.kind is HoldKind.MESSAGE
        self._db.run(
            _ADD,
            {
                "number": number,
                "message_id": hold.subject if of_message else None,
                "account_id": None if of_message else hold.subject,
                "state": stored.state.value,
                "set_at": to_micros(hold.set_at),
                "lifted_at": None,
                "personal": _seal(self._db.vault, stored),
            },
        )
        return stored

    def get(self, number: int) -> LegalHold | None:
        """Return a hold."""
        row = self._db.row(_GET, {"number": number})
        return None if row is None else _hold(self._db.vault, row)

    def all(self) -> list[LegalHold]:
        """Return every hold, by number."""
        return [_hold(self._db.vault, row) for row in self._db.rows(_ALL, {})]

    def put(self, hold: LegalHold) -> None:
        """Store a hold's new state; one that is lifted lets its content go. `KeyError`: there is none."""
        changed = self._db.run(
            _PUT,
            {
                "of_hold": hold.number,
                "new_state": hold.state.value,
                "new_lifted_at": to_micros_or_none(hold.lifted_at),
                "new_personal": _seal(self._db.vault, hold),
            },
        )
        if not changed:
            raise KeyError(hold.number)
        if hold.keeps:
            return
        self._db.run(_LOOSEN_HELD, {"hold": hold.number})
        self._db.run(_LET_GO, {"hold": hold.number})
        for statement in _LOOSEN[hold.kind]:
            self._db.run(statement, {"subject": hold.subject})

    def keeping(self, message_id: str, at: datetime | None = None) -> list[LegalHold]:
        """Return the holds that keep a message's content, or kept it at a time."""
        rows = self._db.rows(_KEEPING, {"message_id": message_id})
        found = [_hold(self._db.vault, row) for row in rows]
        return [one for one in found if stood(one, at)]

    def survey(self) -> Iterator[LegalHold | UnreadableRow]:
        """Yield every hold, readable or not (asked by fsck)."""
        yield from survey("legal_holds", self._db.rows(_ALL, {}), lambda row: _hold(self._db.vault, row))

    def held(self, number: int) -> Iterator[bytes]:
        """Yield the digests of content that a hold keeps by itself (asked by fsck)."""
        after = b""
        while rows := self._db.rows(_HELD, {"hold": number, "after": after, "most": _PAGE}):
            for (sha256,) in rows:
                yield sha256
            after = rows[-1][0]


def stood(hold: LegalHold, at: datetime | None) -> bool:
    """Say whether a hold stands (None), or stood at a time."""
    if at is None:
        return hold.keeps
    return hold.set_at <= at and (hold.lifted_at is None or at < hold.lifted_at)


def _seal(vault: Vault, hold: LegalHold) -> bytes:
    plain = {
        "kind": hold.kind.value,
        "subject": hold.subject,
        "by": hold.set_by,
        "reason": hold.reason,
        "state": hold.state.value,
        "lifting": [[one.by, to_micros(one.at), one.reason] for one in hold.lifting],
    }
    return seal_json(vault, plain, f"legal_holds:{hold.number}")


def _hold(vault: Vault, row: Row) -> LegalHold:
    number, message_id, account_id, state, set_at, lifted_at, personal = row
    plain = unseal_json(vault, personal, f"legal_holds:{number}")
    hold = LegalHold(
        number,
        HoldKind(plain["kind"]),
        plain["subject"],
        plain["by"],
        from_micros(set_at),
        plain["reason"],
        HoldState(plain["state"]),
        tuple(Lifting(by, from_micros(at), why) for by, at, why in plain["lifting"]),
    )
    subject = message_id if hold.kind is HoldKind.MESSAGE else account_id
    if (state, subject, from_micros_or_none(lifted_at)) != (hold.state.value, hold.subject, hold.lifted_at):
        raise ValueError("another state or subject than what was sealed")
    return hold


def _removal(vault: Vault, row: Row) -> Removal:
    account_id, operator_id, cause, at, personal = row
    by = unseal_json(vault, personal, f"removals:{account_id}:{at}")
    return Removal(account_id, operator_id, by, RemovalCause(cause), from_micros(at))


def _destroyed(row: Row) -> Destroyed:
    number, message_id, part, sha256, at, cause = row
    why = None if cause is None else RemovalCause(cause)
    return Destroyed(message_id, ContentPart(part), sha256, from_micros(at), number, why)
