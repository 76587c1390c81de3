"""Objects of the archive read back: whole, or the evidence of a range of the ledger."""

from collections.abc import AsyncIterator, Mapping

from evidence.bundle.archive_object import ArchiveObjectError, ObjectKind
from evidence.bundle.archive_read import ArchiveObject, read_object
from kephs.ports import Offload, Store
from kephs.ports.archive import ArchiveCipher, ArchivedObject
from kephs.ports.objects import ObjectDamagedError, ObjectError, ObjectRef, ObjectStore
from kephs.ports.preservation import ArchivedRecord


class ReadArchive:
    """Opens objects wherever they lie. A `kephs.ports.preservation.ArchivedRecords`.

    Args:
        store: the rows.
        places: the object stores there are, by the name that rows call them.
        cipher: opens objects.
        offload: for decrypting and reading.
    """

    def __init__(
        self, store: Store, places: Mapping[str, ObjectStore], cipher: ArchiveCipher, offload: Offload
    ) -> None:
        self._store, self._places, self._cipher, self._offload = store, places, cipher, offload

    @property
    def cipher(self) -> ArchiveCipher:
        """Return what opens objects."""
        return self._cipher

    def place(self, name: str) -> ObjectStore:
        """Return a store by name.

        Raises:
            ObjectError: the settings name no such store: its objects cannot be had.
        """
        found = self._places.get(name)
        if found is None:
            raise ObjectError(f"objects lie in a store of kind {name!r}, which the settings do not name")
        return found

    async def open(self, row: ArchivedObject) -> ArchiveObject:
        """Return an object, both digests, encryption and form checked; its seal is not judged.

        Raises:
            ObjectUnavailableError: not now.
            ObjectDamagedError: not what its row says.
            ObjectError: its store is not configured.
        """
        return await self.open_ref(self.place(row.place), row.ref)

    async def open_ref(self, objects: ObjectStore, ref: ObjectRef) -> ArchiveObject:
        """Return an object of a store; raises as `open`."""
        sealed = await objects.get(ref)

        def work() -> ArchiveObject:
            try:
                return read_object(self._cipher.open(ref.name, sealed), name=ref.name)
            except ArchiveObjectError as error:
                raise ObjectDamagedError(f"{ref.name}: {error}") from error

        return await self._offload.run(work)

    async def read(self, first: int, last: int) -> AsyncIterator[ArchivedRecord]:
        """Yield the evidence of a range of the ledger, both ends included, ascending.

        Raises:
            ObjectUnavailableError: not now.
            ObjectDamagedError: an object must be restored first.
            ObjectError: the range is not archived, or its store is not configured.
        """
        number = first
        while number <= last:
            row = await self._store.read(lambda tx, n=number: tx.archive.holding(ObjectKind.EVIDENCE, n))  # type: ignore[misc]
            if row is None:
                raise ObjectError(f"ledger entry {number} lies in no object")
            one = await self.open(row)
            for item in one.evidences:
                if number <= item.entry.number <= last:
                    yield ArchivedRecord(item.entry.number, item.xml, item.ers)
            number = row.last + 1
