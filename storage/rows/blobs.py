"""Rows that name content, and when they may go.

What refers to content: an item in any mailbox, an evidence, a message's verification material, a
receipt that is not handed over yet (also one that was given up: an operator may send it again), and an
accepted message (its original and its KEP message) until everybody has it. A completed message keeps
its digests but no longer its content: the mailboxes do, and when the last item goes, so does the key. The
KEP message of a message sent here stays as long as somebody has the original: its bundle holds both. A legal
hold keeps content as a reference does.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    FromClause,
    Select,
    bindparam,
    delete,
    exists,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from kephs.ports import Blob
from storage.rows.hold_tables import held_contents, legal_holds
from storage.rows.statements import Database, ListStatement, Params
from storage.rows.tables import blobs, deliveries, evidence, items, loose_blobs, messages, transfers


def blob_columns(table: FromClause) -> tuple[ColumnElement[Any], ...]:
    """Return the columns that make a `Blob`, of the table or of an alias of it."""
    return (table.c.sha256, table.c.sha512, table.c.size, table.c.place, table.c.data_key)


_ADD: Final = insert(blobs)
_COLUMNS: Final = blob_columns(blobs)
_GET: Final = select(*_COLUMNS).where(blobs.c.sha256 == bindparam("sha256"))
_GET_ALL: Final = ListStatement(lambda values: select(*_COLUMNS).where(blobs.c.sha256.in_(values)))
# Whoever refers to content holds its row, and whoever drops it looks for references once they hold it alone.
_HOLD: Final[Select[Any]] = (
    select(literal_column("1"))
    .select_from(blobs)
    .where(blobs.c.sha256 == bindparam("sha256"))
    .with_for_update(read=True, key_share=True)
)
_HOLD_ALONE: Final = _GET.with_for_update()
_PAGE: Final = (
    select(*_COLUMNS)
    .where(blobs.c.sha256 > bindparam("after"))
    .order_by(blobs.c.sha256)
    .limit(literal_column("500"))
)
_SET_INDEX: Final = (
    update(blobs)
    .where(blobs.c.sha256 == bindparam("of_blob"), blobs.c.message_index.is_(None))
    .values(message_index=bindparam("sealed"))
)
_INDEX: Final = select(blobs.c.message_index).where(blobs.c.sha256 == bindparam("sha256"))
_DROP: Final = delete(blobs).where(blobs.c.sha256 == bindparam("sha256"))

_LOOSEN: Final = insert(loose_blobs).values(sha256=bindparam("sha256"))
_LOOSE: Final = (
    select(loose_blobs.c.number, loose_blobs.c.sha256)
    .order_by(loose_blobs.c.number)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_SETTLE: Final = delete(loose_blobs).where(loose_blobs.c.number == bindparam("number"))
_accepted = messages.c.state == literal_column("'accepted'")
_sha256: BindParameter[bytes] = bindparam("sha256")


def _held_by(sha256: BindParameter[bytes]) -> ColumnElement[bool]:
    """Whether a hold stands on content: kept when it left a mailbox, or a message's by message or account."""
    stands = legal_holds.c.lifted_at.is_(None)
    of_message = or_(messages.c.digest_sha256 == sha256, messages.c.dispatch == sha256)
    return or_(
        exists().where(held_contents.c.sha256 == sha256),
        exists().where(stands, of_message, legal_holds.c.message_id == messages.c.message_id),
        exists().where(stands, of_message, legal_holds.c.account_id == messages.c.account_id),
        exists().where(
            stands,
            of_message,
            deliveries.c.message_id == messages.c.message_id,
            legal_holds.c.account_id == deliveries.c.account_id,
        ),
    )


_REFERENCES: Final = select(
    or_(
        exists().where(items.c.sha256 == _sha256),
        exists().where(evidence.c.blob == _sha256),
        exists().where(messages.c.material == _sha256),
        exists().where(transfers.c.blob == _sha256, transfers.c.state != literal_column("'done'")),
        exists().where(
            messages.c.dispatch == _sha256,
            messages.c.account_id.is_not(None),
            exists().where(items.c.sha256 == messages.c.digest_sha256),
        ),
        _held_by(_sha256),
    ),
    or_(
        exists().where(messages.c.digest_sha256 == _sha256, _accepted),
        exists().where(messages.c.dispatch == _sha256, _accepted),
    ),
)

_LOOSEN_DISPATCHES: Final = insert(loose_blobs).from_select(
    ["sha256"],
    select(messages.c.dispatch).where(messages.c.digest_sha256 == _sha256, messages.c.dispatch.is_not(None)),
)

_MOST_LOOKED_AT: Final = 1000


def index_place(sha256: bytes) -> str:
    """Return the place that a message's index is sealed for."""
    return f"blobs:{sha256.hex()}"


class SqlBlobs:
    """`kephs.ports.Blobs` in SQL.

    ``loose`` holds the digests that this transaction named and nothing refers to yet; `settle` notes
    them at its end. So the hot path pays nothing for the rare content that stays unreferenced.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self.loose: set[bytes] = set()

    def add(self, blob: Blob, index: bytes | None = None) -> None:
        """Name content, a message's with its index; a digest that is named keeps what it has."""
        row = self._row(blob, index)
        while not self._db.run_quiet(_ADD, row):
            if self._db.row(_HOLD, {"sha256": blob.sha256}) is not None:
                if index is not None:
                    self.set_index(blob.sha256, index)
                return
            # released by another writer just now: name it anew
        self.loose.add(blob.sha256)

    def add_all(self, contents: Sequence[tuple[Blob, bytes | None]]) -> None:
        """Name several pieces of content, each as `add` does."""
        if self._db.run_each_quiet(_ADD, [self._row(*one) for one in contents]) == len(contents):
            self.loose.update(blob.sha256 for blob, _ in contents)
            return
        for blob, index in contents:  # some were named before: look at each
            self.add(blob, index)
            self.loose.add(blob.sha256)

    def get(self, sha256: bytes) -> Blob | None:
        """Return where content lies."""
        row = self._db.row(_GET, {"sha256": sha256})
        return None if row is None else Blob(*row)

    def get_all(self, digests: Sequence[bytes]) -> dict[bytes, Blob]:
        """Return where several pieces of content lie, by digest; what nobody named is left out."""
        return {row[0]: Blob(*row) for row in self._db.rows_of(_GET_ALL, digests, {})}

    def set_index(self, sha256: bytes, index: bytes) -> None:
        """Keep a message's index, once: later calls change nothing."""
        self._db.run(_SET_INDEX, {"of_blob": sha256, "sealed": self._sealed(sha256, index)})

    def index(self, sha256: bytes) -> bytes | None:
        """Return a message's index."""
        row = self._db.row(_INDEX, {"sha256": sha256})
        if row is None or row[0] is None:
            return None
        return self._db.vault.unseal(row[0], index_place(sha256))

    def release_unused(self, limit: int) -> list[Blob]:
        """Drop up to ``limit`` rows that nothing refers to any more; return what may be erased.

        Content that only a pending message holds stays a candidate. At most 1,000 candidates are looked
        at, so that others need not wait: call again for more.
        """
        released: list[Blob] = []
        for number, sha256 in self._db.rows(_LOOSE, {"most": _MOST_LOOKED_AT}):
            if len(released) >= limit:
                break
            self._db.run(_SETTLE, {"number": number})
            row = self._db.row(_HOLD_ALONE, {"sha256": sha256})
            if row is None:
                continue
            used, pending = self._db.row(_REFERENCES, {"sha256": sha256}) or (0, 0)
            if used:
                continue
            if pending:
                self._db.run(_LOOSEN, {"sha256": sha256})  # to the end of the queue
                continue
            self._db.run(_DROP, {"sha256": sha256})
            self._db.run(_LOOSEN_DISPATCHES, {"sha256": sha256})
            released.append(Blob(*row))
        return released

    def all(self) -> Iterable[Blob]:
        """Yield every row, by digest, while the transaction lasts."""
        after = b""
        while rows := self._db.rows(_PAGE, {"after": after}):
            for row in rows:
                yield Blob(*row)
            after = rows[-1][0]

    def unreferenced(self, sha256: bytes) -> None:
        """Note that a reference to content went."""
        self._db.run(_LOOSEN, {"sha256": sha256})

    def _row(self, blob: Blob, index: bytes | None) -> Params:
        return {
            "sha256": blob.sha256,
            "sha512": blob.sha512,
            "size": blob.size,
            "place": blob.place,
            "data_key": blob.key,
            "message_index": self._sealed(blob.sha256, index),
        }

    def _sealed(self, sha256: bytes, index: bytes | None) -> bytes | None:
        return None if index is None else self._db.vault.seal(index, index_place(sha256))

    def settle(self) -> None:
        """Note the content that this transaction named and left without a reference."""
        for sha256 in self.loose:
            self.unreferenced(sha256)
        self.loose.clear()
