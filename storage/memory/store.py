"""In-memory twins of the store and of the blob store, under the same contract tests.

They keep the rules (unique keys, rollback of failed work, references) and nothing on disk.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from evidence.ports import ByteSource, BytesSource
from kephs.ports import Blob, BlobMissingError, Spool, StoreUnavailableError, Tx
from storage.batching import for_caller
from storage.errors import ReadOnlyError
from storage.memory.archive import MemoryArchive
from storage.memory.evidence import MemoryEvidences
from storage.memory.foreign import MemoryForeign
from storage.memory.holds import MemoryErasures, MemoryHolds
from storage.memory.mailboxes import MemoryMailboxes
from storage.memory.preservation import MemoryPreservation
from storage.memory.tables import Tables
from storage.memory.transfers import MemoryTransfers
from storage.memory.tree import MemoryTree
from storage.memory.trust import MemoryAnchors, MemoryAudit
from storage.memory.tx import MemoryAccounts, MemoryBlobs, MemoryDeliveries, MemoryMessages

T = TypeVar("T")


class MemoryTx:
    """`kephs.ports.Tx` in memory."""

    def __init__(self, tables: Tables) -> None:
        self.accounts = MemoryAccounts(tables)
        self.blobs = MemoryBlobs(tables)
        self.messages = MemoryMessages(tables)
        self.deliveries = MemoryDeliveries(tables)
        self.evidence = MemoryEvidences(tables)
        self.tree = MemoryTree(tables)
        self.transfers = MemoryTransfers(tables)
        self.mailboxes = MemoryMailboxes(tables)
        self.anchors = MemoryAnchors(tables)
        self.audit = MemoryAudit(tables)
        self.archive = MemoryArchive(tables)
        self.preservation = MemoryPreservation(tables, self.archive)
        self.erasures = MemoryErasures(tables)
        self.holds = MemoryHolds(tables)
        self.foreign = MemoryForeign(tables)


class MemoryStore:
    """`kephs.ports.Store` in memory: work runs at once, one after the other."""

    def __init__(self) -> None:
        self._tables = Tables()
        self._tx = MemoryTx(self._tables)
        self._open = True

    async def start(self) -> None:
        """Do nothing: there is nothing to open."""

    async def close(self) -> None:
        """Take no more work."""
        self._open = False

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run work; what it did is undone where it raises.

        Raises:
            StoreUnavailableError: the store is closed.
        """
        self._check_open()
        self._tables.undo.clear()
        try:
            return work(self._tx)
        except BaseException as error:
            self._tables.take_back()
            failure = for_caller(error)
            if failure is error:
                raise
            raise failure from error
        finally:
            self._tables.undo.clear()

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run work that must not write.

        Raises:
            ReadOnlyError: it wrote; what it did is undone.
            StoreUnavailableError: the store is closed.
        """
        self._check_open()
        self._tables.undo.clear()
        result = work(self._tx)
        if self._tables.undo:
            self._tables.take_back()
            raise ReadOnlyError("work given to read() wrote")
        return result

    def _check_open(self) -> None:
        if not self._open:
            raise StoreUnavailableError("the store is closed")


class MemorySpool:
    """`kephs.ports.Spool` in memory."""

    def __init__(self) -> None:
        self._data = bytearray()

    async def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._data += data

    def source(self) -> ByteSource:
        """Return what was written so far."""
        return BytesSource(bytes(self._data))

    async def discard(self) -> None:
        """Forget everything."""
        self._data.clear()


class MemoryBlobStore:
    """`kephs.ports.BlobStore` in memory."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}
        self._count = 0

    async def start(self) -> None:
        """Do nothing: there is nothing to recover."""

    async def close(self) -> None:
        """Do nothing: contents stay as long as the object."""

    def spool(self) -> MemorySpool:
        """Return an empty spool."""
        return MemorySpool()

    async def keep(self, spool: Spool) -> Blob:
        """Keep a spool's content."""
        source = spool.source()
        return await self.put(source.read(0, source.size))

    async def put(self, data: bytes) -> Blob:
        """Keep content."""
        self._count += 1
        place = f"m:{self._count}"
        self._contents[place] = data
        key = self._count.to_bytes(40)
        return Blob(hashlib.sha256(data).digest(), hashlib.sha512(data).digest(), len(data), place, key)

    async def put_many(self, contents: Sequence[bytes]) -> list[Blob]:
        """Keep several pieces of content."""
        return [await self.put(content) for content in contents]

    def open(self, blob: Blob) -> ByteSource:
        """Return content for reading.

        Raises:
            BlobMissingError: it is gone, or is not what the blob says.
        """
        data = self._contents.get(blob.place)
        if data is None or len(data) != blob.size:
            raise BlobMissingError(blob.place)
        return BytesSource(data)

    async def erase(self, blob: Blob) -> None:
        """Forget content; it may be gone already."""
        self._contents.pop(blob.place, None)

    def places(self) -> Iterator[str]:
        """Yield every place that holds content."""
        yield from list(self._contents)
