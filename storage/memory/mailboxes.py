"""Folders and items of the in-memory twin."""

from collections.abc import Sequence
from dataclasses import replace

from kephs.domain.mailboxes import (
    STANDARD_FOLDERS,
    Folder,
    FolderRole,
    Item,
    ItemSummary,
    NewItem,
)
from kephs.ports import Filing, FolderExistsError
from storage.errors import ConflictError
from storage.memory.tables import RemovedItem, StoredItem, Tables
from storage.rows.folders import canonical
from storage.rows.mailboxes import SEEN, Filed


class MemoryMailboxes:
    """`kephs.ports.Mailboxes` in memory."""

    def __init__(self, tables: Tables) -> None:
        self._t = tables

    def create_standard(self, account_id: str, uid_validity: int) -> None:
        """Create INBOX, Giden, Taslaklar, Deliller, Arşiv, Çöp."""
        if account_id not in self._t.accounts or self.folders(account_id):
            raise ConflictError("the account does not exist or has its folders")
        validity = self._next_validity(account_id, uid_validity)
        for name, role in STANDARD_FOLDERS:
            self._create(account_id, name, role, validity)

    def folders(self, account_id: str) -> list[Folder]:
        """Return an account's folders, oldest first."""
        return [f for f in self._t.folders.values() if f.account_id == account_id]

    def folder(self, account_id: str, name: str) -> Folder | None:
        """Return a folder by name; INBOX in any case."""
        wanted = canonical(name)
        return next((f for f in self.folders(account_id) if f.name == wanted), None)

    def by_role(self, account_id: str, role: FolderRole) -> Folder:
        """Return the folder with this role."""
        for folder in self.folders(account_id):
            if folder.role is role:
                return folder
        raise KeyError(role)

    def create(self, account_id: str, name: str, uid_validity: int) -> Folder:
        """Create a plain folder, subscribed."""
        if account_id not in self._t.accounts:
            raise ConflictError("the account does not exist")
        validity = self._next_validity(account_id, uid_validity)
        if self.folder(account_id, name) is not None:
            raise FolderExistsError(name)
        return self._create(account_id, canonical(name), FolderRole.PLAIN, validity)

    def rename(self, folder_id: int, name: str) -> None:
        """Rename a folder; its items, UIDs and UIDVALIDITY stay."""
        folder = self._t.folders[folder_id]
        found = self.folder(folder.account_id, name)
        if found is not None and found.folder_id != folder_id:
            raise FolderExistsError(name)
        self._t.folders.put(folder_id, replace(folder, name=canonical(name)))

    def delete(self, folder_id: int) -> None:
        """Remove a folder with its items; that deliveries were filed in it stays on record."""
        self.remove(folder_id, [key[1] for key, _ in self._entries(folder_id)])
        for key in [key for key in self._t.removed if key[0] == folder_id]:
            if self._t.removed[key].delivery_id is None:
                self._t.removed.drop(key)
        self._t.folders.drop(folder_id)

    def subscribe(self, folder_id: int, *, on: bool) -> None:
        """Subscribe or unsubscribe a folder."""
        self._t.folders.put(folder_id, replace(self._t.folders[folder_id], subscribed=on))

    def copy(self, folder_id: int, uids: Sequence[int], into: int) -> list[tuple[int, int]]:
        """Copy items with flags, dates and the read gate; return (UID, new UID) ascending."""
        source, target = self._t.folders[folder_id], self._t.folders[into]
        if source.account_id != target.account_id:
            raise ConflictError("the folders are of two accounts")
        found = [uid for uid in sorted(set(uids)) if (folder_id, uid) in self._t.items]
        pairs = list(zip(found, range(target.uid_next, target.uid_next + len(found)), strict=True))
        if not pairs:
            return []
        modseq, unseen = target.modseq + 1, target.unseen
        for uid, new in pairs:
            item = self._t.items[folder_id, uid].item
            self._t.items.put((into, new), StoredItem(new, item, modseq))
            unseen += SEEN not in item.flags
            self._count(target.account_id, item, 1)
        count = len(pairs)
        target = replace(target, uid_next=target.uid_next + count, messages=target.messages + count)
        self._t.folders.put(into, replace(target, modseq=modseq, unseen=unseen))
        return pairs

    def move(self, folder_id: int, uids: Sequence[int], into: int) -> list[tuple[int, int]]:
        """Copy items and remove the originals in one step; usage stays the same."""
        pairs = self.copy(folder_id, uids, into)
        self.remove(folder_id, [uid for uid, _ in pairs])
        return pairs

    def append(self, folder_id: int, item: NewItem) -> int:
        """File an item and return its UID."""
        folder = self._t.folders[folder_id]
        if item.sha256 not in self._t.blobs:
            raise ConflictError("the item's content does not exist")
        if item.delivery_id is not None and item.delivery_id not in self._t.deliveries:
            raise ConflictError("the item's delivery does not exist")
        uid, modseq = folder.uid_next, folder.modseq + 1
        self._t.items.put((folder_id, uid), StoredItem(uid, item, modseq))
        unseen = folder.unseen + (SEEN not in item.flags)
        folder = replace(folder, uid_next=uid + 1, modseq=modseq, messages=folder.messages + 1, unseen=unseen)
        self._t.folders.put(folder_id, folder)
        self._count(folder.account_id, item, 1)
        return uid

    def file(self, account_id: str, role: FolderRole, item: NewItem) -> int:
        """File an item in the account's folder with this role and return its UID."""
        return self.append(self.by_role(account_id, role).folder_id, item)

    def file_all(self, filings: Sequence[Filing]) -> list[int]:
        """File several items, each as `file` does, and return their UIDs."""
        return [self.file(one.account_id, one.role, one.item) for one in filings]

    def summaries(self, folder_id: int) -> list[ItemSummary]:
        """Return what lists need of every item, ascending by UID."""
        return self.since(folder_id, 0)

    def since(self, folder_id: int, modseq: int) -> list[ItemSummary]:
        """Return items that are new or changed since a modification number."""
        found = (i for key, i in self._entries(folder_id) if i.modseq > modseq and key[0] == folder_id)
        return [self._summary(i) for i in sorted(found, key=lambda i: i.uid)]

    def expunged_since(self, folder_id: int, modseq: int) -> list[int]:
        """Return UIDs removed since a modification number, ascending."""
        keys = (key for key in self._t.removed if key[0] == folder_id)
        return sorted(key[1] for key in keys if self._t.removed[key].modseq > modseq)

    def items(self, folder_id: int, uids: Sequence[int]) -> list[Item]:
        """Return those of the items that exist, ascending by UID."""
        found = (self._t.items.get((folder_id, uid)) for uid in sorted(set(uids)))
        return [
            Item(self._summary(i), i.item.sha256, self._t.indexes.get(i.item.sha256) or b"")
            for i in found
            if i
        ]

    def set_flags(self, folder_id: int, uid: int, flags: frozenset[str]) -> None:
        """Replace an item's flags; nothing happens where it is gone or has them already."""
        row = self._t.items.get((folder_id, uid))
        if row is None or row.item.flags == flags:
            return
        folder = self._t.folders[folder_id]
        unseen = folder.unseen + (SEEN in row.item.flags) - (SEEN in flags)
        self._t.folders.put(folder_id, replace(folder, modseq=folder.modseq + 1, unseen=unseen))
        changed = StoredItem(uid, replace(row.item, flags=flags), folder.modseq + 1)
        self._t.items.put((folder_id, uid), changed)

    def remove(self, folder_id: int, uids: Sequence[int]) -> None:
        """Remove items for good; UIDs that are gone are passed over."""
        folder = self._t.folders[folder_id]
        gone = [(folder_id, uid) for uid in set(uids) if (folder_id, uid) in self._t.items]
        if not gone:
            return
        modseq, unseen = folder.modseq + 1, folder.unseen
        for key in gone:
            item = self._t.items[key].item
            self._t.items.drop(key)
            self._t.removed.put(key, RemovedItem(modseq, item.delivery_id))
            unseen -= SEEN not in item.flags
            self._count(folder.account_id, item, -1)
        folder = replace(folder, modseq=modseq, messages=folder.messages - len(gone), unseen=unseen)
        self._t.folders.put(folder_id, folder)

    def with_content(self, folder_id: int, sha256: bytes) -> int | None:
        """Return the lowest UID of an item with this content."""
        uids = (i.uid for _, i in self._entries(folder_id) if i.item.sha256 == sha256)
        return min(uids, default=None)

    def filed(self, delivery_id: str) -> Filed:
        """Return where the items of a delivery are."""
        keys = [key for key in self._t.items if self._t.items[key].item.delivery_id == delivery_id]
        inbox = [k for k in keys if self._t.folders[k[0]].role is FolderRole.INBOX]
        times = {self._t.items[k].item.received_at for k in inbox}
        removed = sum(r.delivery_id == delivery_id for r in self._t.removed.values())
        return Filed(len(inbox), len(keys) - len(inbox), removed, len(times))

    def usage(self, account_id: str) -> int:
        """Return the bytes of an account's items that count, added up anew."""
        folders = {f.folder_id for f in self.folders(account_id)}
        stored = (self._t.items[key].item for key in self._t.items if key[0] in folders)
        return sum(item.size for item in stored if item.counts_for_quota)

    def _create(self, account_id: str, name: str, role: FolderRole, validity: int) -> Folder:
        number = (self._t.last_folder.get("") or 0) + 1
        self._t.last_folder.put("", number)
        created = Folder(number, account_id, name, role, validity, 1, 1, 0, 0)
        self._t.folders.put(number, created)
        return created

    def _next_validity(self, account_id: str, given: int) -> int:
        highest = self._t.validities.get(account_id)
        validity = given if highest is None else max(given, highest + 1)
        self._t.validities.put(account_id, validity)
        return validity

    def _entries(self, folder_id: int) -> list[tuple[tuple[int, int], StoredItem]]:
        return [(key, self._t.items[key]) for key in self._t.items if key[0] == folder_id]

    def _summary(self, row: StoredItem) -> ItemSummary:
        item = row.item
        delivery = self._t.deliveries[item.delivery_id] if item.delivery_id is not None else None
        gated = delivery is not None and delivery.read_evidence_id is None
        return ItemSummary(
            row.uid, item.size, item.received_at, item.flags, row.modseq, item.delivery_id, gated
        )

    def _count(self, account_id: str, item: NewItem, sign: int) -> None:
        if item.counts_for_quota:
            account = self._t.accounts[account_id]
            used = account.used_bytes + sign * item.size
            self._t.accounts.put(account_id, replace(account, used_bytes=used))
