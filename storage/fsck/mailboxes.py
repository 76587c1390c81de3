"""fsck on accounts, their folders and the items in them."""

from collections.abc import Iterator, Sequence
from typing import Final

from directory.accounts import Account, Operator
from kephs.domain.mailboxes import STANDARD_FOLDERS, Folder, Item
from kephs.domain.messages import Delivery, Submission
from storage.files.survey import UNREADABLE, UnreadableRow
from storage.fsck.findings import Finding, FindingCode, unreadable
from storage.fsck.scope import PAGE, ContentAlteredError, ContentGoneError, Scope
from storage.rows.mailboxes import SEEN

_ROLES: Final = frozenset(role for _, role in STANDARD_FOLDERS)


class AccountCheck:
    """Reads accounts and the persons who act for them, and tells the scope who there is."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def run(self) -> Iterator[Finding]:
        """Yield everything that does not hold."""
        accounts = self._scope.accounts
        for row in self._scope.tx.accounts.survey():
            if isinstance(row, UnreadableRow):
                accounts[row.key] = None
                yield unreadable(row)
            else:
                accounts[row.account_id] = str(row.address)
                self._scope.own.add(row.address.provider)
        unheld = set(accounts)
        for person in self._scope.tx.accounts.survey_persons():
            if isinstance(person, UnreadableRow):
                yield unreadable(person)
            elif isinstance(person, Operator) and person.is_holder:
                unheld.discard(person.account_id)
        for account_id in sorted(unheld):  # spec: KEP-AC-05; without one nobody can sign or sign in
            yield Finding(FindingCode.ACCOUNT_WITHOUT_HOLDER, account_id)


class MailboxCheck:
    """Reads every folder and item. Runs after `AccountCheck` and the messages, whose notes it needs."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._tx = scope.tx

    def run(self) -> Iterator[Finding]:
        """Yield everything that does not hold."""
        accounts = self._scope.accounts
        for count, account_id in enumerate(accounts, 1):
            try:
                yield from self._account(account_id)
            except UNREADABLE as error:
                yield unreadable(UnreadableRow("folders", account_id, type(error).__name__))
            if count % PAGE == 0:
                self._scope.progress("accounts", count)
        self._scope.progress("accounts", len(accounts))

    def _account(self, account_id: str) -> Iterator[Finding]:
        yield from self._usage(account_id)
        folders = self._tx.mailboxes.folders(account_id)
        for role in sorted(_ROLES - {folder.role for folder in folders}):
            yield Finding(FindingCode.ACCOUNT_WITHOUT_FOLDER, account_id, role.value)
        for folder in folders:
            try:
                yield from self._folder(folder)
            except UNREADABLE as error:
                yield unreadable(UnreadableRow("items", f"{folder.folder_id}", type(error).__name__))

    def _usage(self, account_id: str) -> Iterator[Finding]:
        if self._scope.accounts[account_id] is None:
            return  # its row is unreadable
        account: Account | None = self._tx.accounts.get(account_id)
        used = self._tx.mailboxes.usage(account_id)
        if account is not None and used != account.used_bytes:
            detail = f"counted {account.used_bytes}, holds {used}"
            yield Finding(FindingCode.ACCOUNT_USAGE, account_id, detail)

    def _folder(self, folder: Folder) -> Iterator[Finding]:
        summaries = self._tx.mailboxes.summaries(folder.folder_id)
        uids = [s.uid for s in summaries]
        unseen = sum(SEEN not in s.flags for s in summaries)
        modseq = max((s.modseq for s in summaries), default=0)
        if (
            (folder.messages, folder.unseen) != (len(uids), unseen)
            or max(uids, default=0) >= folder.uid_next
            or modseq > folder.modseq
        ):
            yield Finding(FindingCode.FOLDER_COUNTERS, str(folder.folder_id), folder.name)
        for start in range(0, len(uids), PAGE):
            yield from self._items(folder, uids[start : start + PAGE])

    def _items(self, folder: Folder, uids: Sequence[int]) -> Iterator[Finding]:
        try:
            found = {item.summary.uid: item for item in self._tx.mailboxes.items(folder.folder_id, uids)}
        except UNREADABLE as error:
            if len(uids) == 1:
                key = f"{folder.folder_id}:{uids[0]}"
                yield unreadable(UnreadableRow("items", key, type(error).__name__))
                return
            for uid in uids:  # one of them: find out which
                yield from self._items(folder, (uid,))
            return
        for uid in uids:
            if uid in found:
                yield from self._item(folder, found[uid])
            else:
                detail = "no row names it"
                yield Finding(FindingCode.ITEM_CONTENT_MISSING, f"{folder.folder_id}:{uid}", detail)

    def _item(self, folder: Folder, item: Item) -> Iterator[Finding]:
        key = f"{folder.folder_id}:{item.summary.uid}"
        try:
            self._scope.look(item.sha256, read=self._scope.deep)
        except ContentGoneError as error:
            yield Finding(FindingCode.ITEM_CONTENT_MISSING, key, str(error))
        except ContentAlteredError as error:
            yield Finding(FindingCode.ITEM_CONTENT_ALTERED, key, str(error))
        if item.summary.delivery_id is not None:
            yield from self._delivered(key, folder, item, item.summary.delivery_id)
        elif (item.sha256, folder.account_id) in self._scope.unread:  # who has read it may file it anywhere
            yield Finding(FindingCode.ITEM_UNGATED, key)

    def _delivered(self, key: str, folder: Folder, item: Item, delivery_id: str) -> Iterator[Finding]:
        """Check that an item is the KEP message of its delivery, in the account it was delivered to."""
        try:
            delivery = self._tx.deliveries.get(delivery_id)
            message = self._tx.messages.get(delivery.message_id) if delivery else None
        except UNREADABLE:
            return  # found where deliveries and messages are read
        if delivery is None:
            yield Finding(FindingCode.ITEM_WITHOUT_DELIVERY, key, delivery_id)
            return
        if not self._belongs(folder, delivery):
            yield Finding(FindingCode.ITEM_OTHER_ACCOUNT, key, delivery_id)
        if _other_content(item, message):
            yield Finding(FindingCode.ITEM_OTHER_CONTENT, key, delivery_id)

    def _belongs(self, folder: Folder, delivery: Delivery) -> bool:
        if delivery.account_id is not None:
            return folder.account_id == delivery.account_id
        return self._scope.accounts[folder.account_id] in (None, delivery.address)  # opened since


def _other_content(item: Item, message: Submission | None) -> bool:
    """Say whether an item is not its message's KEP message; a missing digest is the message's finding."""
    return message is not None and message.dispatch is not None and item.sha256 != message.dispatch
