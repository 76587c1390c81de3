"""Folders and items in SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import and_, bindparam, case, delete, func, insert, literal_column, select, update

from kephs.domain.mailboxes import STANDARD_FOLDERS, Folder, FolderRole, Item, ItemSummary, NewItem
from storage.accounts import ADD_USAGE
from storage.blob_rows import SqlBlobs, index_place
from storage.errors import ConflictError
from storage.statements import Database, ListStatement, Row
from storage.tables import blobs, deliveries, folders, items, removed_items
from storage.values import from_flags, from_micros, to_flags, to_micros

SEEN: Final = "\\Seen"


@dataclass(frozen=True, slots=True)
class Filed:
    """Where the items of one delivery are; copies and moves carry the delivery along."""

    inbox: int
    elsewhere: int
    removed: int
    inbox_times: int  # distinct times of arrival in INBOX: copies keep it, a second filing does not


_FOLDER_COLUMNS: Final = tuple(folders.c)
_CREATE: Final = insert(folders).values(
    {c.name: bindparam(c.name) for c in folders.c if c.name != "folder_id"}
)
_FOLDERS: Final = (
    select(*_FOLDER_COLUMNS)
    .where(folders.c.account_id == bindparam("account_id"))
    .order_by(folders.c.folder_id)
)
_FOLDER: Final = select(*_FOLDER_COLUMNS).where(
    folders.c.account_id == bindparam("account_id"), folders.c.name == bindparam("name")
)
_BY_ROLE: Final = (
    select(*_FOLDER_COLUMNS)
    .where(folders.c.account_id == bindparam("account_id"), folders.c.role == bindparam("role"))
    .order_by(folders.c.folder_id)
    .limit(literal_column("1"))
)
_COUNTERS: Final = select(folders.c.account_id, folders.c.uid_next, folders.c.modseq).where(
    folders.c.folder_id == bindparam("folder_id")
)
_CHANGE: Final = (
    update(folders)
    .where(folders.c.folder_id == bindparam("of_folder"))
    .values(
        uid_next=folders.c.uid_next + bindparam("uids"),
        modseq=folders.c.modseq + literal_column("1"),
        messages=folders.c.messages + bindparam("more"),
        unseen=folders.c.unseen + bindparam("more_unseen"),
    )
)

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
_REMOVABLE: Final = ListStatement(
    lambda values: select(
        items.c.uid, items.c.sha256, items.c.size, items.c.flags, items.c.delivery_id, items.c.counts
    ).where(items.c.folder_id == bindparam("folder_id"), items.c.uid.in_(values))
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


class SqlMailboxes:
    """`kephs.ports.Mailboxes` in SQL."""

    def __init__(self, database: Database, blobs: SqlBlobs) -> None:
        self._db = database
        self._blobs = blobs

    def create_standard(self, account_id: str, uid_validity: int) -> None:
        """Create INBOX, Giden, Taslaklar, Deliller, Arşiv, Çöp.

        Raises:
            ConflictError: the account has them, or does not exist.
        """
        for name, role in STANDARD_FOLDERS:
            params = {"account_id": account_id, "name": name, "role": role.value}
            counters = {"uid_next": 1, "modseq": 1, "messages": 0, "unseen": 0}
            if not self._db.run_quiet(_CREATE, {**params, **counters, "uid_validity": uid_validity}):
                raise ConflictError("the account has its folders")

    def folders(self, account_id: str) -> list[Folder]:
        """Return an account's folders, oldest first."""
        return [_folder(row) for row in self._db.rows(_FOLDERS, {"account_id": account_id})]

    def folder(self, account_id: str, name: str) -> Folder | None:
        """Return a folder by name; INBOX in any case (RFC 3501 5.1)."""
        name = "INBOX" if name.upper() == "INBOX" else name
        row = self._db.row(_FOLDER, {"account_id": account_id, "name": name})
        return None if row is None else _folder(row)

    def by_role(self, account_id: str, role: FolderRole) -> Folder:
        """Return the folder with this role; `KeyError` where there is none."""
        row = self._db.row(_BY_ROLE, {"account_id": account_id, "role": role.value})
        if row is None:
            raise KeyError(role)
        return _folder(row)

    def append(self, folder_id: int, item: NewItem) -> int:
        """File an item and return its UID; `KeyError` where the folder does not exist.

        Raises:
            ConflictError: the content or the delivery does not exist.
        """
        account_id, uid, modseq = self._counters(folder_id)
        self._db.run(
            _ADD,
            {
                "folder_id": folder_id,
                "uid": uid,
                "sha256": item.sha256,
                "size": item.size,
                "received_at": to_micros(item.received_at),
                "flags": from_flags(item.flags),
                "modseq": modseq + 1,
                "delivery_id": item.delivery_id,
                "counts": item.counts_for_quota,
            },
        )
        self._change(folder_id, uids=1, more=1, more_unseen=int(SEEN not in item.flags))
        if item.counts_for_quota:
            self._db.run(ADD_USAGE, {"of_account": account_id, "delta": item.size})
        self._blobs.loose.discard(item.sha256)
        return uid

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
        row = self._db.row(_FLAGS, {"folder_id": folder_id, "uid": uid})
        if row is None or to_flags(row[0]) == flags:
            return
        modseq = self._counters(folder_id)[2]
        params = {"of_folder": folder_id, "of_uid": uid, "new_flags": from_flags(flags)}
        self._db.run(_SET_FLAGS, {**params, "new_modseq": modseq + 1})
        unseen = (SEEN in to_flags(row[0])) - (SEEN in flags)
        self._change(folder_id, uids=0, more=0, more_unseen=unseen)

    def remove(self, folder_id: int, uids: Sequence[int]) -> None:
        """Remove items for good; UIDs that are gone are passed over."""
        account_id, _, modseq = self._counters(folder_id)
        rows = list(self._db.rows_of(_REMOVABLE, sorted(set(uids)), {"folder_id": folder_id}))
        if not rows:
            return
        freed = unseen = 0
        for uid, sha256, size, flags, delivery_id, counts in rows:
            key = {"folder_id": folder_id, "uid": uid}
            self._db.run(_REMOVE, key)
            self._db.run(_REMEMBER, {**key, "modseq": modseq + 1, "delivery_id": delivery_id})
            self._blobs.unreferenced(sha256)
            unseen += SEEN not in to_flags(flags)
            freed += size if counts else 0
        self._change(folder_id, uids=0, more=-len(rows), more_unseen=-unseen)
        if freed:
            self._db.run(ADD_USAGE, {"of_account": account_id, "delta": -freed})

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

    def _counters(self, folder_id: int) -> tuple[str, int, int]:
        row = self._db.row(_COUNTERS, {"folder_id": folder_id})
        if row is None:
            raise KeyError(folder_id)
        account_id, uid_next, modseq = row
        return account_id, uid_next, modseq

    def _change(self, folder_id: int, *, uids: int, more: int, more_unseen: int) -> None:
        params = {"of_folder": folder_id, "uids": uids, "more": more, "more_unseen": more_unseen}
        self._db.run(_CHANGE, params)

    def _item(self, row: Row) -> Item:
        sha256, sealed = row[7], row[8]
        index = b"" if sealed is None else self._db.vault.unseal(sealed, index_place(sha256))
        return Item(_summary(row), sha256, index)


def _folder(row: Row) -> Folder:
    folder_id, account_id, name, role, uid_validity, uid_next, modseq, messages, unseen = row
    return Folder(
        folder_id, account_id, name, FolderRole(role), uid_validity, uid_next, modseq, messages, unseen
    )


def _summary(row: Row) -> ItemSummary:
    uid, size, received_at, flags, modseq, delivery_id, gated = row[:7]
    return ItemSummary(uid, size, from_micros(received_at), to_flags(flags), modseq, delivery_id, bool(gated))
