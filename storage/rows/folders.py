"""Folders in SQL: names, roles, counters and UIDVALIDITY."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import bindparam, case, delete, func, insert, literal_column, select, update

from kephs.domain.mailboxes import STANDARD_FOLDERS, Folder, FolderRole
from kephs.ports import FolderExistsError
from storage.errors import ConflictError
from storage.rows.accounts import ADD_USAGE
from storage.rows.blobs import SqlBlobs
from storage.rows.statements import Database, Row
from storage.rows.tables import folders, items, loose_blobs, removed_items, uid_validities

_f: Final = folders.c
_COLUMNS: Final = tuple(_f)
# Inline: appending ON CONFLICT must not follow a RETURNING that the dialect adds for the number.
_CREATE: Final = (
    insert(folders).values({c.name: bindparam(c.name) for c in _f if c.name != "folder_id"}).inline()
)
_FOLDERS: Final = select(*_COLUMNS).where(_f.account_id == bindparam("account_id")).order_by(_f.folder_id)
_FOLDER: Final = select(*_COLUMNS).where(
    _f.account_id == bindparam("account_id"), _f.name == bindparam("name")
)
_BY_ROLE: Final = (
    select(*_COLUMNS)
    .where(_f.account_id == bindparam("account_id"), _f.role == bindparam("role"))
    .order_by(_f.folder_id)
    .limit(literal_column("1"))
)
# Whoever changes a folder or its items holds its row first: counters are read, then written.
_COUNTERS: Final = (
    select(_f.account_id, _f.uid_next, _f.modseq)
    .where(_f.folder_id == bindparam("folder_id"))
    .with_for_update()
)
_CHANGE: Final = (
    update(folders)
    .where(_f.folder_id == bindparam("of_folder"))
    .values(
        uid_next=_f.uid_next + bindparam("uids"),
        modseq=_f.modseq + literal_column("1"),
        messages=_f.messages + bindparam("more"),
        unseen=_f.unseen + bindparam("more_unseen"),
    )
)
# Takes the next UIDs for some items.
_TAKE: Final = (
    update(folders)
    .values(
        uid_next=_f.uid_next + bindparam("taken"),
        modseq=_f.modseq + bindparam("taken"),
        messages=_f.messages + bindparam("taken"),
        unseen=_f.unseen + bindparam("more_unseen"),
    )
    .returning(_f.folder_id, _f.account_id, _f.uid_next, _f.modseq)
)
TAKE_IN: Final = _TAKE.where(_f.folder_id == bindparam("of_folder"))
_with_role: Final = folders.alias("with_role")
TAKE_BY_ROLE: Final = _TAKE.where(
    _f.folder_id
    == select(func.min(_with_role.c.folder_id))
    .where(_with_role.c.account_id == bindparam("of_account"), _with_role.c.role == bindparam("of_role"))
    .scalar_subquery()
)
_RENAME: Final = (
    update(folders).where(_f.folder_id == bindparam("of_folder")).values(name=bindparam("new_name"))
)
_SUBSCRIBE: Final = (
    update(folders).where(_f.folder_id == bindparam("of_folder")).values(subscribed=bindparam("wanted"))
)

_FIRST_VALIDITY: Final = insert(uid_validities)
_given: Final = bindparam("given", type_=uid_validities.c.highest.type)
_RAISE_VALIDITY: Final = (
    update(uid_validities)
    .where(uid_validities.c.account_id == bindparam("of_account"))
    .values(
        highest=case(
            (_given > uid_validities.c.highest, _given),
            else_=uid_validities.c.highest + literal_column("1"),
        )
    )
    .returning(uid_validities.c.highest)
)

_of_folder: Final = items.c.folder_id == bindparam("folder_id")
_DELETED_BYTES: Final = select(func.coalesce(func.sum(items.c.size), literal_column("0"))).where(
    _of_folder, items.c.counts
)
_LOOSEN_ITEMS: Final = insert(loose_blobs).from_select(["sha256"], select(items.c.sha256).where(_of_folder))
_REMEMBER_DELIVERED: Final = insert(removed_items).from_select(
    ["folder_id", "uid", "modseq", "delivery_id"],
    select(items.c.folder_id, items.c.uid, items.c.modseq, items.c.delivery_id).where(
        _of_folder, items.c.delivery_id.is_not(None)
    ),
)
_DELETE_ITEMS: Final = delete(items).where(_of_folder)
_FORGET_REMOVED: Final = delete(removed_items).where(
    removed_items.c.folder_id == bindparam("folder_id"), removed_items.c.delivery_id.is_(None)
)
_DELETE: Final = delete(folders).where(_f.folder_id == bindparam("folder_id"))


class SqlFolders:
    """The folders of `kephs.ports.Mailboxes` in SQL."""

    def __init__(self, database: Database, blobs: SqlBlobs) -> None:
        self._db = database
        self._blobs = blobs

    def create_standard(self, account_id: str, uid_validity: int) -> None:
        """Create INBOX, Giden, Taslaklar, Deliller, Arşiv, Çöp.

        Raises:
            ConflictError: the account has them, or does not exist.
        """
        validity = self._next_validity(account_id, uid_validity)
        for name, role in STANDARD_FOLDERS:
            if not self._insert(account_id, name, role, validity):
                raise ConflictError("the account has its folders")

    def folders(self, account_id: str) -> list[Folder]:
        """Return an account's folders, oldest first."""
        return [_folder(row) for row in self._db.rows(_FOLDERS, {"account_id": account_id})]

    def folder(self, account_id: str, name: str) -> Folder | None:
        """Return a folder by name; INBOX in any case (RFC 3501 5.1)."""
        row = self._db.row(_FOLDER, {"account_id": account_id, "name": canonical(name)})
        return None if row is None else _folder(row)

    def by_role(self, account_id: str, role: FolderRole) -> Folder:
        """Return the folder with this role; `KeyError` where there is none."""
        row = self._db.row(_BY_ROLE, {"account_id": account_id, "role": role.value})
        if row is None:
            raise KeyError(role)
        return _folder(row)

    def create(self, account_id: str, name: str, uid_validity: int) -> Folder:
        """Create a plain folder, subscribed.

        Its UIDVALIDITY is the one given, or the next above all that the account's folders ever had where
        that is higher: a name used again never gets an old one (RFC 3501 2.3.1.1).

        Raises:
            ConflictError: the account does not exist.
            FolderExistsError: the name is taken.
        """
        validity = self._next_validity(account_id, uid_validity)
        if not self._insert(account_id, canonical(name), FolderRole.PLAIN, validity):
            raise FolderExistsError(name)
        created = self.folder(account_id, name)
        if created is None:
            raise KeyError(name)
        return created

    def rename(self, folder_id: int, name: str) -> None:
        """Rename a folder; `KeyError` where it does not exist.

        Raises:
            FolderExistsError: another folder has the name.
        """
        account_id, _, _ = self._counters(folder_id)
        found = self.folder(account_id, name)
        if found is not None and found.folder_id != folder_id:
            raise FolderExistsError(name)
        try:
            self._db.run(_RENAME, {"of_folder": folder_id, "new_name": canonical(name)})
        except ConflictError:  # another writer was quicker
            raise FolderExistsError(name) from None

    def delete(self, folder_id: int) -> None:
        """Remove a folder with its items for good; `KeyError` where it does not exist.

        That deliveries were filed in it stays on record.
        """
        account_id, _, _ = self._counters(folder_id)
        of: Mapping[str, object] = {"folder_id": folder_id}
        freed = int((self._db.row(_DELETED_BYTES, of) or (0,))[0])
        for statement in (
            _LOOSEN_ITEMS,
            _REMEMBER_DELIVERED,
            _DELETE_ITEMS,
            _FORGET_REMOVED,
            _DELETE,
        ):
            self._db.run(statement, of)
        if freed:
            self._db.run(ADD_USAGE, {"of_account": account_id, "delta": -freed})

    def subscribe(self, folder_id: int, *, on: bool) -> None:
        """Subscribe or unsubscribe a folder; `KeyError` where it does not exist."""
        if not self._db.run(_SUBSCRIBE, {"of_folder": folder_id, "wanted": on}):
            raise KeyError(folder_id)

    def _insert(self, account_id: str, name: str, role: FolderRole, uid_validity: int) -> bool:
        params = {
            "account_id": account_id,
            "name": name,
            "role": role.value,
            "uid_validity": uid_validity,
            "uid_next": 1,
            "modseq": 1,
            "messages": 0,
            "unseen": 0,
            "subscribed": True,
        }
        return self._db.run_quiet(_CREATE, params)

    def _next_validity(self, account_id: str, given: int) -> int:
        if self._db.run_quiet(_FIRST_VALIDITY, {"account_id": account_id, "highest": given}):
            return given
        ((highest,),) = self._db.rows(_RAISE_VALIDITY, {"of_account": account_id, "given": given})
        return int(highest)

    def _counters(self, folder_id: int) -> tuple[str, int, int]:
        """Hold a folder's row and return its account, next UID and modification number."""
        row = self._db.row(_COUNTERS, {"folder_id": folder_id})
        if row is None:
            raise KeyError(folder_id)
        account_id, uid_next, modseq = row
        return account_id, uid_next, modseq

    def _change(self, folder_id: int, *, uids: int, more: int, more_unseen: int) -> None:
        params = {"of_folder": folder_id, "uids": uids, "more": more, "more_unseen": more_unseen}
        self._db.run(_CHANGE, params)


def canonical(name: str) -> str:
    """Return the name a folder is stored under: INBOX has no case (RFC 3501 5.1)."""
    return "INBOX" if name.upper() == "INBOX" else name


def _folder(row: Row) -> Folder:
    folder_id, account_id, name, role, uid_validity, uid_next, modseq, messages, unseen, subscribed = row
    return Folder(
        folder_id,
        account_id,
        name,
        FolderRole(role),
        uid_validity,
        uid_next,
        modseq,
        messages,
        unseen,
        bool(subscribed),
    )
