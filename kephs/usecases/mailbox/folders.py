"""An account's folders: making, renaming, removing, subscribing them; usage and quota.

Standard folders stay as they are (interfaces.md). Names are checked by `kephs.domain.mailboxes`.

spec: RFC3501#6.3.3, RFC3501#6.3.4, RFC3501#6.3.5, KEP-AC-05
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from directory.accounts import Right
from kephs.domain.mailboxes import (
    DELIMITER,
    FOLDERS_MAX,
    Folder,
    FolderRole,
    MailboxRefusal,
    check_folder_name,
    superiors,
)
from kephs.domain.messages import Person
from kephs.ports import Changes, Clock, FolderExistsError, Store, Tx
from kephs.usecases.submission.rights import MailboxRefusedError, demand, removal_by, rights_of

T = TypeVar("T")

DELETED: Final = "\\Deleted"


@dataclass(frozen=True, slots=True)
class Quota:
    """Bytes an account uses and may use; evidence is not counted (KEP-RT-06)."""

    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class FolderSize:
    r"""What a folder's items weigh, in bytes; how many are marked ``\Deleted`` and what those weigh."""

    total: int
    deleted: int
    deleted_bytes: int


class Folders:
    """Changes an account's folders; every change is one transaction and is told to open sessions."""

    def __init__(self, *, store: Store, changes: Changes, clock: Clock) -> None:
        self._store, self._changes, self._clock = store, changes, clock

    async def create(self, person: Person, name: str) -> None:
        """Make a plain folder, and those above it that are missing.

        Raises:
            MailboxRefusedError: the name cannot be had, or there are too many folders.
            NotPermittedError: the person may not archive.
        """
        _checked(name)

        def work(tx: Tx) -> None:
            self._demand(tx, person, Right.ARCHIVE)
            if tx.mailboxes.folder(person.account_id, name) is not None:
                raise MailboxRefusedError(MailboxRefusal.NAME_TAKEN)
            self._make(tx, person, [*superiors(name), name])

        await self._change(person, work)

    async def rename(self, person: Person, name: str, to: str) -> None:
        """Rename a folder and all below it; missing folders above the new name are made.

        RFC 3501 lets the renaming of INBOX move its messages; here it is refused like any standard folder's.

        Raises:
            MailboxRefusedError: one of the names cannot be had or given away.
            NotPermittedError: the person may not archive.
        """
        _checked(to)

        def work(tx: Tx) -> None:
            self._demand(tx, person, Right.ARCHIVE)
            moved = _below(tx.mailboxes.folders(person.account_id), name)
            if not moved:
                raise MailboxRefusedError(MailboxRefusal.NO_SUCH_FOLDER)
            if any(folder.role is not FolderRole.PLAIN for folder in moved):
                raise MailboxRefusedError(MailboxRefusal.STANDARD_FOLDER)
            if to.startswith(name + DELIMITER):
                raise MailboxRefusedError(MailboxRefusal.INSIDE_ITSELF)
            if to == name or _below(tx.mailboxes.folders(person.account_id), to):
                raise MailboxRefusedError(MailboxRefusal.NAME_TAKEN)
            for folder in moved:
                tx.mailboxes.rename(folder.folder_id, _checked(to + folder.name[len(name) :]))
            self._make(tx, person, superiors(to))

        await self._change(person, work)

    async def delete(self, person: Person, name: str) -> None:
        """Remove a folder and the items in it for good; folders below it stay.

        Raises:
            MailboxRefusedError: there is none, or it is a standard folder.
            NotPermittedError: the person may not delete.
        """

        def work(tx: Tx) -> None:
            self._demand(tx, person, Right.DELETE)
            folder = tx.mailboxes.folder(person.account_id, name)
            if folder is None:
                raise MailboxRefusedError(MailboxRefusal.NO_SUCH_FOLDER)
            if folder.role is not FolderRole.PLAIN:
                raise MailboxRefusedError(MailboxRefusal.STANDARD_FOLDER)
            tx.erasures.removing(folder.folder_id, None, removal_by(person, self._clock.now()))
            tx.mailboxes.delete(folder.folder_id)

        await self._change(person, work)

    async def subscribe(self, person: Person, name: str, *, on: bool) -> None:
        """Note whether a folder is shown among the subscribed ones.

        Raises:
            MailboxRefusedError: there is none.
            NotPermittedError: the person may neither read nor archive.
        """

        def work(tx: Tx) -> None:
            if not rights_of(tx, person, self._clock.now()) & (Right.READ | Right.ARCHIVE):
                self._demand(tx, person, Right.READ)
            folder = tx.mailboxes.folder(person.account_id, name)
            if folder is None:
                raise MailboxRefusedError(MailboxRefusal.NO_SUCH_FOLDER)
            tx.mailboxes.subscribe(folder.folder_id, on=on)

        await self._store.write(work)

    async def quota(self, person: Person) -> Quota:
        """Return what the account uses and may use."""

        def work(tx: Tx) -> Quota:
            account = tx.accounts.get(person.account_id)
            return Quota(account.used_bytes, account.quota_bytes) if account else Quota(0, 0)

        return await self._store.read(work)

    async def size(self, folder: Folder) -> FolderSize:
        """Return what a folder's items weigh."""
        summaries = await self._store.read(lambda tx: tx.mailboxes.summaries(folder.folder_id))
        marked = [summary.size for summary in summaries if DELETED in summary.flags]
        return FolderSize(sum(summary.size for summary in summaries), len(marked), sum(marked))

    def _demand(self, tx: Tx, person: Person, right: Right) -> None:
        demand(right, rights_of(tx, person, self._clock.now()))

    def _make(self, tx: Tx, person: Person, names: Sequence[str]) -> None:
        existing = {folder.name for folder in tx.mailboxes.folders(person.account_id)}
        missing = [name for name in names if name not in existing]
        if len(existing) + len(missing) > FOLDERS_MAX:
            raise MailboxRefusedError(MailboxRefusal.TOO_MANY_FOLDERS)
        validity = int(self._clock.now().timestamp())  # the store raises it where it was given before
        for name in missing:
            tx.mailboxes.create(person.account_id, name, validity)

    async def _change(self, person: Person, work: Callable[[Tx], T]) -> T:
        try:
            result = await self._store.write(work)
        except FolderExistsError as error:
            raise MailboxRefusedError(MailboxRefusal.NAME_TAKEN) from error
        self._changes.publish([person.account_id])
        return result


def _checked(name: str) -> str:
    refusal = check_folder_name(name)
    if refusal is not None:
        raise MailboxRefusedError(refusal)
    return name


def _below(folders: Sequence[Folder], name: str) -> list[Folder]:
    """Return the folder of that name and all below it."""
    return [f for f in folders if f.name == name or f.name.startswith(name + DELIMITER)]
