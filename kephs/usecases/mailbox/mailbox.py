"""Mailboxes as their owners see them: folders, items, flags, removal, content behind the read gate.

spec: KEP-LM-05, KEP-AC-05, KEP-AC-06, rules-in-detail "The read gate"
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Generic, Protocol, TypeVar

from directory.accounts import Right
from evidence.mail.mime import MimeLimitError, Part, Range, scan
from evidence.ports import ByteSource, BytesSource
from kephs.domain.mailboxes import Folder, Item, ItemSummary
from kephs.domain.message_index import MessageIndex, MessageIndexError, decode, decode_header
from kephs.domain.messages import Person
from kephs.domain.policy import Limits
from kephs.ports import (
    Blob,
    BlobMissingError,
    BlobStore,
    Changes,
    Clock,
    Offload,
    Store,
    Subscription,
    Tx,
)
from kephs.usecases.mailbox.filing import Filing
from kephs.usecases.mailbox.folders import DELETED, Folders
from kephs.usecases.mailbox.places import Delta, Place, changes_since
from kephs.usecases.submission.rights import NotPermittedError, removal_by, rights_of

SEEN: Final = "\\Seen"
INLINE_MAX: Final = 64 * 1024  # bytes read without a worker: far less than a thread's round trip
COMPUTE_MAX: Final = 32 * 1024  # bytes of an index or a header looked at without a worker
APPEND_MAX: Final = Limits().max_wire  # bytes of an appended message: as large as one that is submitted
_HEADER_MAX: Final = 256 * 1024

Flags = frozenset[str]
K = TypeVar("K")
V = TypeVar("V")


class Exposer(Protocol):
    """The read gate's other half; `kephs.usecases.delivery.read.Reader` is one."""

    async def expose(self, person: Person, delivery_ids: Sequence[str]) -> frozenset[str]:
        """Return those deliveries whose evidence 60 is durable now; never raises for sealing trouble."""
        ...


@dataclass(frozen=True, slots=True)
class OpenFolder:
    """A folder as it is at one moment. ``rights`` are the person's at that moment."""

    folder: Folder
    summaries: tuple[ItemSummary, ...]
    rights: Right


@dataclass(frozen=True, slots=True)
class Row:
    """One item with its index (encoded) and where its content lies."""

    item: Item
    blob: Blob | None


class MailboxService:
    """What every face of a mailbox (IMAP, webmail, interfaces) asks. Knows persons, not sessions."""

    def __init__(
        self,
        *,
        store: Store,
        blobs: BlobStore,
        reader: Exposer,
        changes: Changes,
        offload: Offload,
        clock: Clock,
        cache_bytes: int = 16 * 1024 * 1024,
        append_max: int = APPEND_MAX,
    ) -> None:
        self._store, self._blobs, self._reader = store, blobs, reader
        self._changes, self._offload, self._clock = changes, offload, clock
        self._cache: _Cache[bytes, bytes] = _Cache(cache_bytes)
        self._rows: _Cache[tuple[int, int], Row] = _Cache(cache_bytes // 2)
        self.tree = Folders(store=store, changes=changes, clock=clock)
        self.filing = Filing(
            store=store, blobs=blobs, changes=changes, offload=offload, clock=clock, append_max=append_max
        )

    async def folders(self, person: Person) -> list[Folder]:
        """Return the account's folders."""
        return await self._store.read(lambda tx: tx.mailboxes.folders(person.account_id))

    async def folder(self, person: Person, name: str) -> Folder | None:
        """Return one folder, None where the account has none of that name."""
        return await self._store.read(lambda tx: tx.mailboxes.folder(person.account_id, name))

    async def open(self, person: Person, name: str) -> OpenFolder | None:
        """Return a folder with everything in it, None where the account has none of that name."""

        def work(tx: Tx) -> OpenFolder | None:
            folder = tx.mailboxes.folder(person.account_id, name)
            if folder is None:
                return None
            summaries = tuple(tx.mailboxes.summaries(folder.folder_id))
            return OpenFolder(folder, summaries, self._rights(tx, person))

        return await self._store.read(work)

    async def refresh(self, person: Person, place: Place) -> Delta:
        """Return what happened since.

        Raises:
            FolderGoneError: the folder is not there any more.
        """
        return await self._store.read(lambda tx: self._delta(tx, person, place))

    async def rows(
        self, person: Person, place: Place, uids: Sequence[int], ahead: Sequence[int] = ()
    ) -> tuple[dict[int, Row], Right | None]:
        """Return items by UID with their indexes; missing ones are left out.

        Args:
            person: who asks.
            place: the folder.
            uids: the items.
            ahead: items that will probably be asked next; read along where the store is asked anyway.

        Returns:
            The rows, and the rights that hold now, or None where the store was not asked.
        """
        known: dict[int, Row] = {}
        for uid in uids:
            row = self._rows.get((place.folder_id, uid))
            if row is not None:
                known[uid] = row
        if len(known) == len(uids):
            return known, None
        missing = {uid for uid in uids if uid not in known}

        def work(tx: Tx) -> tuple[list[Row], Right]:
            items = tx.mailboxes.items(place.folder_id, sorted(missing.union(ahead)))
            return [Row(item, tx.blobs.get(item.sha256)) for item in items], self._rights(tx, person)

        found, rights = await self._store.read(work)
        for row in found:
            uid = row.item.summary.uid
            self._rows.put((place.folder_id, uid), row, len(row.item.index) + 500)
            if uid in missing:
                known[uid] = row
        return known, rights

    async def expose(self, person: Person, delivery_ids: Sequence[str]) -> frozenset[str]:
        """Return those deliveries whose content may be shown: their evidence 60 is durable."""
        return await self._reader.expose(person, delivery_ids)

    async def change_flags(
        self,
        person: Person,
        place: Place,
        known: Mapping[int, Flags],
        change: Callable[[Flags], Flags],
        *,
        unchanged_since: int | None = None,
    ) -> Delta:
        r"""Change flags of several items in one transaction; return what happened since, this included.

        Args:
            person: who does it.
            place: the folder and the modification number that ``known`` stands for.
            known: flags of the items to change, as of ``place.modseq``.
            change: gives the new flags for the old ones.
            unchanged_since: where given, items changed after this modification number stay as they are and
                are named in `Delta.refused`; the caller has left out those it knows of.

        Raises:
            NotPermittedError: the person may not read, or ``\Deleted`` would change and they may not delete.
            FolderGoneError: the folder is not there any more.
        """

        def work(tx: Tx) -> Delta:
            before = self._delta(tx, person, place)
            if Right.READ not in before.rights:
                raise NotPermittedError
            current = dict(known) | {s.uid: s.flags for s in before.changed if s.uid in known}
            gone = set(before.expunged)
            refused = _changed_after(before, unchanged_since).intersection(known)
            for uid, flags in current.items():
                wanted = change(flags)
                if uid in gone or uid in refused or wanted == flags:
                    continue
                if (DELETED in wanted) != (DELETED in flags) and Right.DELETE not in before.rights:
                    raise NotPermittedError
                tx.mailboxes.set_flags(place.folder_id, uid, wanted)
            return replace(self._delta(tx, person, place), refused=tuple(sorted(refused)))

        delta = await self._store.write(work)
        self._changes.publish([person.account_id])
        return delta

    async def expunge(
        self, person: Person, place: Place, known: Mapping[int, Flags], only: Collection[int] | None = None
    ) -> Delta:
        r"""Remove the items marked ``\Deleted`` for good and return what happened since.

        Args:
            person: who does it.
            place: the folder and the modification number that ``known`` stands for.
            known: flags of the items the caller knows, as of ``place.modseq``.
            only: where given, nothing else is removed.

        Raises:
            NotPermittedError: the person may not delete.
            FolderGoneError: the folder is not there any more.
        """

        def work(tx: Tx) -> Delta:
            before = self._delta(tx, person, place)
            if Right.DELETE not in before.rights:
                raise NotPermittedError
            current = dict(known) | {s.uid: s.flags for s in before.changed if s.uid in known}
            doomed = [
                uid for uid, flags in current.items() if DELETED in flags and (only is None or uid in only)
            ]
            if not doomed:
                return before
            tx.erasures.removing(place.folder_id, doomed, removal_by(person, self._clock.now()))
            tx.mailboxes.remove(place.folder_id, doomed)
            return self._delta(tx, person, place)

        delta = await self._store.write(work)
        self._changes.publish([person.account_id])
        return delta

    async def source(self, blob: Blob) -> ByteSource:
        """Return content for reading ranges; small content comes from memory where it was read lately.

        Raises:
            BlobMissingError: content is gone or altered (also from later reads).
        """
        cached = self._cache.get(blob.sha256)
        if cached is not None:
            return BytesSource(cached)
        if blob.size > INLINE_MAX:
            return await self._offload.run(self._blobs.open, blob)
        data = self._blobs.open(blob).read(0, blob.size)
        if len(data) != blob.size:
            raise BlobMissingError("short read")
        self._cache.put(blob.sha256, data, len(data))
        return BytesSource(data)

    async def read(self, source: ByteSource, start: int, length: int) -> bytes:
        """Read a range without holding up others.

        Raises:
            BlobMissingError: content is gone or altered.
        """
        if isinstance(source, BytesSource):
            return source.read(start, length)
        return await self._offload.run(source.read, start, length)

    async def index(self, row: Row) -> MessageIndex:
        """Return an item's index; where none was stored, its content is scanned.

        Raises:
            BlobMissingError: there is no content either.
        """
        with suppress(MessageIndexError):
            return await self.compute(len(row.item.index), decode, row.item.index)
        if row.blob is None:
            raise BlobMissingError("no content")
        return await self._offload.run(_scanned, await self.source(row.blob))

    async def header(self, row: Row) -> bytes:
        """Return an item's header block.

        Raises:
            BlobMissingError: there is neither an index nor content.
        """
        with suppress(MessageIndexError):
            return decode_header(row.item.index)
        return (await self.index(row)).header

    async def compute(self, size: int, function: Callable[..., V], *args: object) -> V:
        """Run a pure function over ``size`` bytes: at once where that is quick, else beside the loop."""
        return function(*args) if size <= COMPUTE_MAX else await self._offload.run(function, *args)

    async def run(self, source: ByteSource, function: Callable[..., V], *args: object) -> V:
        """Run a function that reads content: at once where that is small and in memory, else beside the loop.

        Raises:
            BlobMissingError: content is gone or altered.
        """
        if isinstance(source, BytesSource) and source.size <= COMPUTE_MAX:
            return function(*args)
        return await self._offload.run(function, *args)

    async def beside(self, function: Callable[..., V], *args: object) -> V:
        """Run a function beside the loop."""
        return await self._offload.run(function, *args)

    def subscribe(self, person: Person) -> Subscription:
        """Return a listener for changes in the account's folders."""
        return self._changes.subscribe(person.account_id)

    def _rights(self, tx: Tx, person: Person) -> Right:
        return rights_of(tx, person, self._clock.now())

    def _delta(self, tx: Tx, person: Person, place: Place) -> Delta:
        return changes_since(tx, person, place, self._clock.now())


class _Cache(Generic[K, V]):
    """Things by key, least recently used dropped first; ``cap`` counts bytes."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._held = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, size: int) -> None:
        before = self._entries.pop(key, None)
        self._held += size - (before[1] if before else 0)
        self._entries[key] = (value, size)
        while self._held > self._cap:
            self._held -= self._entries.popitem(last=False)[1][1]


def _changed_after(delta: Delta, modseq: int | None) -> set[int]:
    return set() if modseq is None else {s.uid for s in delta.changed if s.modseq > modseq}


def _scanned(source: ByteSource) -> MessageIndex:
    """Return the index of content that was stored without one."""
    try:
        root = scan(source)
    except MimeLimitError:  # shown as one text, so that its owner can still get it
        size = source.size
        head = source.read(0, _HEADER_MAX)
        end = head.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in head else len(head)
        root = Part(
            header=Range(0, end), body=Range(end, size), fields=(), type="text", subtype="plain",
            params=(), encoding="7bit", lines=0,
        )  # fmt: skip
    return MessageIndex(source.read(root.header.start, root.header.length), root)
