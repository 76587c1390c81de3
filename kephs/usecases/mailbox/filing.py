"""Filing: copies, moves and what clients append. Never into INBOX or Deliller: those the provider files.

The read gate hangs on the delivery and goes along with every copy (rules-in-detail "The read gate").
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from directory.accounts import Account
from evidence.mail.headers import unfold
from evidence.mail.mime import MimeLimitError, scan
from evidence.ports import ByteSource
from kephs.domain.mailboxes import (
    FILED_BY_PROVIDER,
    ITEMS_MAX,
    Folder,
    FolderRole,
    MailboxRefusal,
    NewItem,
)
from kephs.domain.message_index import encode as encode_index
from kephs.domain.messages import Person
from kephs.ports import Blob, BlobStore, Changes, Clock, Offload, Spool, Store, Tx
from kephs.usecases.mailbox.places import Delta, Place, changes_since, located
from kephs.usecases.submission.rights import (
    FolderGoneError,
    MailboxRefusedError,
    demand,
    right_to_append,
    right_to_file,
    rights_of,
)

COPY_MAX: Final = 10_000  # items of one COPY: it is one transaction, all or nothing
_MOVE_BATCH: Final = 500  # items of one transaction: others write in between


@dataclass(frozen=True, slots=True)
class Filed:
    """Where items went: the target's UIDVALIDITY, and (UID, new UID) ascending."""

    uid_validity: int
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an appended message is; ``already`` where the provider had filed it before."""

    uid_validity: int
    uid: int
    already: bool = False


@dataclass(frozen=True, slots=True)
class _Read:
    """What an appended message tells of itself: its index, None where it is beyond the scanner's caps."""

    index: bytes | None
    message_id: str


class Filing:
    """Copies, moves and appends for persons."""

    def __init__(
        self, *, store: Store, blobs: BlobStore, changes: Changes, offload: Offload, clock: Clock,
        append_max: int,
    ) -> None:  # fmt: skip
        self._store, self._blobs, self._changes = store, blobs, changes
        self._offload, self._clock = offload, clock
        self.append_max = append_max
        self._coming: Counter[str] = Counter()  # bytes being appended, by account

    async def copy(
        self, person: Person, place: Place, uids: Sequence[int], into: str, *, exact: bool
    ) -> Filed:
        """Copy items in one transaction.

        Args:
            person: who does it.
            place: the folder they are in.
            uids: the items.
            into: the target's name.
            exact: whether nothing is copied where one of them is gone; else those are left out.

        Raises:
            MailboxRefusedError: no such target, not there, over quota, too many, or some are gone.
            NotPermittedError: the person may not.
            FolderGoneError: the folder is not there any more.
        """
        if len(uids) > COPY_MAX:
            raise MailboxRefusedError(MailboxRefusal.TOO_MANY_ITEMS)

        def work(tx: Tx) -> Filed:
            target = self._target(tx, person, place, into, len(uids))
            before = _account(tx, person)
            pairs = tuple(tx.mailboxes.copy(place.folder_id, uids, target.folder_id))
            if exact and len(pairs) < len(uids):
                raise MailboxRefusedError(MailboxRefusal.ITEMS_GONE)
            after = _account(tx, person)
            # spec: KEP-QU-02 (a full mailbox takes nothing that its owner adds); evidence never counts
            if before.used_bytes < after.used_bytes > after.quota_bytes:
                raise MailboxRefusedError(MailboxRefusal.OVER_QUOTA)
            return Filed(target.uid_validity, pairs)

        filed = await self._store.write(work)
        self._changes.publish([person.account_id])
        return filed

    async def move(self, person: Person, place: Place, uids: Sequence[int], into: str) -> tuple[Filed, Delta]:
        """Move some items (of a batch that the caller keeps small) in one transaction; gone ones stay out.

        Returns:
            Where they went, and what happened in the folder since ``place.modseq``, this included.

        Raises:
            MailboxRefusedError: no such target, or clients put nothing there.
            NotPermittedError: the person may not.
            FolderGoneError: the folder is not there any more.
        """

        def work(tx: Tx) -> tuple[Filed, Delta]:
            target = self._target(tx, person, place, into, len(uids))
            pairs = tuple(tx.mailboxes.move(place.folder_id, uids, target.folder_id))
            return Filed(target.uid_validity, pairs), changes_since(tx, person, place, self._clock.now())

        moved = await self._store.write(work)
        self._changes.publish([person.account_id])
        return moved

    def _target(self, tx: Tx, person: Person, place: Place, into: str, count: int) -> Folder:
        located(tx, person, place)
        target = _writable(tx, person, into, count)
        demand(right_to_file(target.role), rights_of(tx, person, self._clock.now()))
        return target

    # --- APPEND ---------------------------------------------------------------------------------------

    async def begin(self, person: Person, into: str, size: int) -> "Appending":
        """Say whether a message of that size may come; nothing of it needs to be here yet.

        Raises:
            MailboxRefusedError: no such target, not there, too big, empty, or over quota.
            NotPermittedError: the person may not.
        """
        if not 0 < size <= self.append_max:
            raise MailboxRefusedError(MailboxRefusal.TOO_BIG if size else MailboxRefusal.EMPTY)

        def work(tx: Tx) -> tuple[Folder, Account]:
            return self._append_target(tx, person, into), _account(tx, person)

        folder, account = await self._store.read(work)
        # a copy of what was sent is most likely filed already and takes no space then
        used = 0 if folder.role is FolderRole.SENT else account.used_bytes
        if used + self._coming[person.account_id] + size > account.quota_bytes:
            raise MailboxRefusedError(MailboxRefusal.OVER_QUOTA)
        self._coming[person.account_id] += size
        return Appending(self, self._blobs.spool(), person, into, size)

    def forget(self, person: Person, size: int) -> None:
        """Give back what `begin` reserved."""
        self._coming[person.account_id] -= size
        if self._coming[person.account_id] <= 0:
            del self._coming[person.account_id]

    async def file(
        self, person: Person, into: str, spool: Spool, flags: frozenset[str], at: datetime | None
    ) -> Appended:
        """File a message that has come whole."""
        source = spool.source()
        read = await self._offload.run(_read, source)
        blob = await self._blobs.keep(spool)
        at = at or self._clock.now()

        def work(tx: Tx) -> Appended:
            folder = self._append_target(tx, person, into)
            if folder.role is FolderRole.SENT and (uid := _filed_before(tx, person, folder, read)):
                return Appended(folder.uid_validity, uid, already=True)
            account = _account(tx, person)
            if account.used_bytes + blob.size > account.quota_bytes:
                raise MailboxRefusedError(MailboxRefusal.OVER_QUOTA)
            return Appended(folder.uid_validity, _append(tx, folder, blob, read, flags, at))

        appended = await self._store.write(work)
        self._changes.publish([person.account_id])
        return appended

    def _append_target(self, tx: Tx, person: Person, into: str) -> Folder:
        folder = _writable(tx, person, into, 1)
        demand(right_to_append(folder.role), rights_of(tx, person, self._clock.now()))
        return folder


class Appending:
    """One message on its way into a folder. Must end with `file` or `abandon`; both may follow each other."""

    def __init__(self, filing: Filing, spool: Spool, person: Person, into: str, size: int) -> None:
        self._filing, self._spool, self._person = filing, spool, person
        self._into, self._size = into, size
        self._nul = False
        self._over = False

    async def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            StoreUnavailableError: there is no room.
        """
        self._nul = self._nul or b"\0" in data
        await self._spool.write(data)

    async def file(self, flags: frozenset[str], at: datetime | None) -> Appended:
        """File the message.

        Args:
            flags: its flags.
            at: its INTERNALDATE; None for now.

        Raises:
            MailboxRefusedError: it holds NUL, is over quota, or the folder changed meanwhile.
            NotPermittedError: the person may not any more.
            StoreUnavailableError: nothing was filed.
        """
        try:
            if self._nul:  # spec: RFC3501#9 (CHAR8), RFC3516#4.4
                raise MailboxRefusedError(MailboxRefusal.HOLDS_NUL)
            return await self._filing.file(self._person, self._into, self._spool, flags, at)
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """Forget what came."""
        if not self._over:
            self._over = True
            self._filing.forget(self._person, self._size)
            await self._spool.discard()


def _account(tx: Tx, person: Person) -> Account:
    account = tx.accounts.get(person.account_id)
    if account is None:
        raise FolderGoneError
    return account


def _writable(tx: Tx, person: Person, name: str, count: int) -> Folder:
    folder = tx.mailboxes.folder(person.account_id, name)
    if folder is None:
        raise MailboxRefusedError(MailboxRefusal.NO_SUCH_TARGET)
    if folder.role in FILED_BY_PROVIDER:
        raise MailboxRefusedError(MailboxRefusal.FILED_BY_PROVIDER)
    if folder.messages + count > ITEMS_MAX:  # copies of evidence take no quota, yet they are rows
        raise MailboxRefusedError(MailboxRefusal.FOLDER_FULL)
    return folder


def _read(source: ByteSource) -> _Read:
    """Read what is stored beside a message. Reads block."""
    try:
        root = scan(source)
    except MimeLimitError:  # kept as it is; whoever looks at it sees one text
        return _Read(None, "")
    raw = next((field.raw for field in root.fields if field.name == "message-id"), b"")
    return _Read(encode_index(source, root), unfold(raw).strip().decode("utf-8", "replace"))


def _filed_before(tx: Tx, person: Person, folder: Folder, read: _Read) -> int | None:
    """Return the UID of the copy that the provider filed in Giden when it accepted this message."""
    accepted = tx.messages.accepted_with(person.account_id, read.message_id) if read.message_id else None
    return None if accepted is None else tx.mailboxes.with_content(folder.folder_id, accepted.digest_sha256)


def _append(tx: Tx, folder: Folder, blob: Blob, read: _Read, flags: frozenset[str], at: datetime) -> int:
    tx.blobs.add(blob, read.index)
    return tx.mailboxes.append(folder.folder_id, NewItem(blob.sha256, blob.size, at, flags))
