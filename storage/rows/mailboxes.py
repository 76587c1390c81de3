"""Items of folders in SQL."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from sqlalchemy import and_, bindparam, case, delete, func, insert, literal_column, select, update

from kephs.domain.mailboxes import FolderRole, Item, ItemSummary, NewItem
from kephs.ports import Filing
from storage.errors import ConflictError
from storage.rows.accounts import ADD_USAGE
from storage.rows.blobs import index_place
from storage.rows.folders import TAKE_BY_ROLE, TAKE_IN, SqlFolders
from storage.rows.statements import ListStatement, Params, Row
from storage.rows.tables import blobs, deliveries, folders, items, removed_items
from storage.rows.values import from_flags, from_micros, to_flags, to_micros

SEEN: Final = "\\Seen"


@dataclass(frozen=True, slots=True)
class Filed:
    """Where the items of one delivery are; copies and moves carry the delivery along."""

    inbox: int
    elsewhere: int
    removed: int
    inbox_times: int  # distinct times of arrival in INBOX: copies keep it, a second filing does not


@dataclass(frozen=True, slots=True)
class _Stored:
    """An item's row without its folder."""

    uid: int
    sha256: bytes
    size: int
    received_at: int
    flags: str
    modseq: int
    delivery_id: str | None
    counts: bool


_ADD: Final = insert(items)
_unread = and_(items.c.delivery_id.is_not(None), deliveries.c.read_evidence_id.is_(None))
_SUMMARY_COLUMNS: Final = (
    items.c.uid,
    items.c.size,
    items.c.received_at,
    items.c.flags,
    items.c.modseq,
    items.c.delivery_id,
    case((_unread, literal_column("1")), else_=literal_column("0")).label("gated"),
)
_WITH_GATE: Final = items.outerjoin(deliveries, deliveries.c.delivery_id == items.c.delivery_id)
_SUMMARIES: Final = (
    select(*_SUMMARY_COLUMNS)
    .select_from(_WITH_GATE)
    .where(items.c.folder_id == bindparam("folder_id"))
    .order_by(items.c.uid)
)
_SINCE: Final = (
    select(*_SUMMARY_COLUMNS)
    .select_from(_WITH_GATE)
    .where(items.c.folder_id == bindparam("folder_id"), items.c.modseq > bindparam("since"))
    .order_by(items.c.uid)
)
_EXPUNGED: Final = (
    select(removed_items.c.uid)
    .where(removed_items.c.folder_id == bindparam("folder_id"), removed_items.c.modseq > bindparam("since"))
    .order_by(removed_items.c.uid)
)
_ITEMS: Final = ListStatement(
    lambda values: (
        select(*_SUMMARY_COLUMNS, items.c.sha256, blobs.c.message_index)
        .select_from(_WITH_GATE.join(blobs, blobs.c.sha256 == items.c.sha256))
        .where(items.c.folder_id == bindparam("folder_id"), items.c.uid.in_(values))
    )
)
_FLAGS: Final = select(items.c.flags).where(
    items.c.folder_id == bindparam("folder_id"), items.c.uid == bindparam("uid")
)
_SET_FLAGS: Final = (
    update(items)
    .where(items.c.folder_id == bindparam("of_folder"), items.c.uid == bindparam("of_uid"))
    .values(flags=bindparam("new_flags"), modseq=bindparam("new_modseq"))
)
_STORED: Final = ListStatement(
    lambda values: select(items).where(items.c.folder_id == bindparam("folder_id"), items.c.uid.in_(values))
)
_REMOVE: Final = delete(items).where(
    items.c.folder_id == bindparam("folder_id"), items.c.uid == bindparam("uid")
)
_REMEMBER: Final = insert(removed_items)
_WITH_CONTENT: Final = select(func.min(items.c.uid)).where(
    items.c.sha256 == bindparam("sha256"), items.c.folder_id == bindparam("folder_id")
)
_FILED: Final = (
    select(folders.c.role, items.c.received_at)
    .select_from(items.join(folders, folders.c.folder_id == items.c.folder_id))
    .where(items.c.delivery_id == bindparam("delivery_id"))
)
_FILED_ONCE: Final = select(func.count()).where(removed_items.c.delivery_id == bindparam("delivery_id"))
_USAGE: Final = (
    select(func.coalesce(func.sum(items.c.size), literal_column("0")))
    .select_from(items.join(folders, folders.c.folder_id == items.c.folder_id))
    .where(folders.c.account_id == bindparam("account_id"), items.c.counts)
)


class SqlMailboxes(SqlFolders):
    """`kephs.ports.Mailboxes` in SQL."""

    def append(self, folder_id: int, item: NewItem) -> int:
        """File an item and return its UID; `KeyError` where the folder does not exist.

        Raises:
            ConflictError: the content or the delivery does not exist.
        """
        place = self._db.row(TAKE_IN, {"of_folder": folder_id, **_more((item,))})
        if place is None:
            raise KeyError(folder_id)
        self._db.run(_ADD, _rows(place, (item,))[0])
        self._count(((place[1], item),))
        uid: int = place[2] - 1
        return uid

    def file(self, account_id: str, role: FolderRole, item: NewItem) -> int:
        """File an item in the account's folder with this role and return its UID; `KeyError` without one.

        Raises:
            ConflictError: the content or the delivery does not exist.
        """
        (uid,) = self.file_all((Filing(account_id, role, item),))
        return uid

    def file_all(self, filings: Sequence[Filing]) -> list[int]:
        """File several items, in this order within a folder, and return their UIDs; raises as `file`."""
        folders: dict[tuple[str, FolderRole], list[NewItem]] = {}
        for one in filings:
            folders.setdefault((one.account_id, one.role), []).append(one.item)
        rows: list[Params] = []
        uids: dict[tuple[str, FolderRole], Iterator[int]] = {}
        for account_id, role in sorted(folders):  # in one order: two writers never wait for each other
            items_of = folders[account_id, role]
            of = {"of_account": account_id, "of_role": role.value}
            place = self._db.row(TAKE_BY_ROLE, {**of, **_more(items_of)})
            if place is None:
                raise KeyError(role)
            rows += _rows(place, items_of)
            uids[account_id, role] = count(place[2] - len(items_of))
        self._db.run_each(_ADD, rows)
        self._count([(one.account_id, one.item) for one in filings])
        return [next(uids[one.account_id, one.role]) for one in filings]

    def _count(self, added: Sequence[tuple[str, NewItem]]) -> None:
        """Count items that accounts received into their usage; their content is referred to now."""
        usage: dict[str, int] = {}
        for account_id, item in added:
            if item.counts_for_quota:
                usage[account_id] = usage.get(account_id, 0) + item.size
            self._blobs.loose.discard(item.sha256)
        self._db.run_each(ADD_USAGE, [{"of_account": key, "delta": usage[key]} for key in sorted(usage)])

    def summaries(self, folder_id: int) -> list[ItemSummary]:
        """Return what lists need of every item, ascending by UID."""
        return [_summary(row) for row in self._db.rows(_SUMMARIES, {"folder_id": folder_id})]

    def since(self, folder_id: int, modseq: int) -> list[ItemSummary]:
        """Return items that are new or changed since a modification number."""
        return [_summary(r) for r in self._db.rows(_SINCE, {"folder_id": folder_id, "since": modseq})]

    def expunged_since(self, folder_id: int, modseq: int) -> list[int]:
        """Return UIDs removed since a modification number, ascending."""
        return [uid for (uid,) in self._db.rows(_EXPUNGED, {"folder_id": folder_id, "since": modseq})]

    def items(self, folder_id: int, uids: Sequence[int]) -> list[Item]:
        """Return those of the items that exist, ascending by UID."""
        rows = self._db.rows_of(_ITEMS, sorted(set(uids)), {"folder_id": folder_id})
        return [self._item(row) for row in sorted(rows, key=lambda row: row[0])]

    def set_flags(self, folder_id: int, uid: int, flags: frozenset[str]) -> None:
        """Replace an item's flags; nothing happens where it is gone or has them already."""
        place = {"folder_id": folder_id, "uid": uid}
        row = self._db.row(_FLAGS, place)
        if row is None or to_flags(row[0]) == flags:
            return
        modseq = self._counters(folder_id)[2]
        row = self._db.row(_FLAGS, place)  # anew: another writer may have held the folder
        if row is None or to_flags(row[0]) == flags:
            return
        params = {"of_folder": folder_id, "of_uid": uid, "new_flags": from_flags(flags)}
        self._db.run(_SET_FLAGS, {**params, "new_modseq": modseq + 1})
        unseen = (SEEN in to_flags(row[0])) - (SEEN in flags)
        self._change(folder_id, uids=0, more=0, more_unseen=unseen)

    def remove(self, folder_id: int, uids: Sequence[int]) -> None:
        """Remove items for good; UIDs that are gone are passed over."""
        account_id, _, modseq = self._counters(folder_id)
        rows = self._stored(folder_id, uids)
        self._take_out(folder_id, rows, modseq + 1)
        for row in rows:
            self._blobs.unreferenced(row.sha256)
        self._add_usage(account_id, -sum(row.size for row in rows if row.counts))

    def copy(self, folder_id: int, uids: Sequence[int], into: int) -> list[tuple[int, int]]:
        """Copy items with flags, dates and the read gate; return (UID, new UID) ascending.

        Missing ones are left out. `KeyError` where a folder does not exist.

        Raises:
            ConflictError: the folders are of two accounts.
        """
        account_id, _ = self._hold_both(folder_id, into)
        rows = self._stored(folder_id, uids)
        pairs = self._put_in(into, rows)
        self._add_usage(account_id, sum(row.size for row in rows if row.counts))
        return pairs

    def move(self, folder_id: int, uids: Sequence[int], into: int) -> list[tuple[int, int]]:
        """Copy items and remove the originals in one step; raises what `copy` does."""
        self._hold_both(folder_id, into)
        rows = self._stored(folder_id, uids)
        pairs = self._put_in(into, rows)
        self._take_out(folder_id, rows, self._counters(folder_id)[2] + 1)
        return pairs

    def with_content(self, folder_id: int, sha256: bytes) -> int | None:
        """Return the lowest UID of an item with this content."""
        row = self._db.row(_WITH_CONTENT, {"folder_id": folder_id, "sha256": sha256})
        uid: int | None = None if row is None else row[0]
        return uid

    def filed(self, delivery_id: str) -> Filed:
        """Return where the items of a delivery are (asked by fsck)."""
        rows = self._db.rows(_FILED, {"delivery_id": delivery_id})
        times = [received_at for role, received_at in rows if role == FolderRole.INBOX.value]
        removed = self._db.row(_FILED_ONCE, {"delivery_id": delivery_id}) or (0,)
        return Filed(len(times), len(rows) - len(times), removed[0], len(set(times)))

    def usage(self, account_id: str) -> int:
        """Return the bytes of an account's items that count, added up anew (asked by fsck)."""
        row = self._db.row(_USAGE, {"account_id": account_id}) or (0,)
        return int(row[0])

    def _stored(self, folder_id: int, uids: Sequence[int]) -> "list[_Stored]":
        rows = self._db.rows_of(_STORED, sorted(set(uids)), {"folder_id": folder_id})
        return sorted({_Stored(*row[1:]) for row in rows}, key=lambda row: row.uid)

    def _hold_both(self, folder_id: int, into: int) -> tuple[str, int]:
        """Hold two folders, always in the same order: two writers must not wait for each other."""
        found = {key: self._counters(key) for key in sorted({folder_id, into})}
        if found[folder_id][0] != found[into][0]:
            raise ConflictError("the folders are of two accounts")
        return found[into][0], found[into][1]

    def _put_in(self, into: int, rows: "Sequence[_Stored]") -> list[tuple[int, int]]:
        _, uid_next, modseq = self._counters(into)
        for uid, row in enumerate(rows, uid_next):
            values = {"folder_id": into, "uid": uid, "modseq": modseq + 1}
            self._db.run(
                _ADD,
                {
                    **values,
                    "sha256": row.sha256,
                    "size": row.size,
                    "received_at": row.received_at,
                    "flags": row.flags,
                    "delivery_id": row.delivery_id,
                    "counts": bool(row.counts),
                },
            )
        if rows:
            unseen = sum(SEEN not in to_flags(row.flags) for row in rows)
            self._change(into, uids=len(rows), more=len(rows), more_unseen=unseen)
        return [(row.uid, uid) for uid, row in enumerate(rows, uid_next)]

    def _take_out(self, folder_id: int, rows: "Sequence[_Stored]", modseq: int) -> None:
        for row in rows:
            key = {"folder_id": folder_id, "uid": row.uid}
            self._db.run(_REMOVE, key)
            self._db.run(_REMEMBER, {**key, "modseq": modseq, "delivery_id": row.delivery_id})
        if rows:
            unseen = sum(SEEN not in to_flags(row.flags) for row in rows)
            self._change(folder_id, uids=0, more=-len(rows), more_unseen=-unseen)

    def _add_usage(self, account_id: str, delta: int) -> None:
        if delta:
            self._db.run(ADD_USAGE, {"of_account": account_id, "delta": delta})

    def _item(self, row: Row) -> Item:
        sha256, sealed = row[7], row[8]
        index = b"" if sealed is None else self._db.vault.unseal(sealed, index_place(sha256))
        return Item(_summary(row), sha256, index)


def _more(added: Sequence[NewItem]) -> Params:
    """Return by how much items that are added raise a folder's counters."""
    return {"taken": len(added), "more_unseen": sum(SEEN not in item.flags for item in added)}


def _rows(place: Row, added: Sequence[NewItem]) -> list[Params]:
    """Return the rows of items for which a folder's next UIDs were just taken."""
    folder_id, _, uid_next, modseq = place
    return [
        {
            "folder_id": folder_id,
            "uid": uid_next - back,
            "sha256": item.sha256,
            "size": item.size,
            "received_at": to_micros(item.received_at),
            "flags": from_flags(item.flags),
            "modseq": modseq - back + 1,
            "delivery_id": item.delivery_id,
            "counts": item.counts_for_quota,
        }
        for back, item in zip(range(len(added), 0, -1), added, strict=True)
    ]


def _summary(row: Row) -> ItemSummary:
    uid, size, received_at, flags, modseq, delivery_id, gated = row[:7]
    return ItemSummary(uid, size, from_micros(received_at), to_flags(flags), modseq, delivery_id, bool(gated))
