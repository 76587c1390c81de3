"""What the archive adds to evidence that goes out: its record as rounds renewed it, old revocation data.

Before the first round covers an evidence there is nothing to add, and the archive is not asked: a bundle of
yesterday's message needs no object store.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from evidence.bundle.archive_object import ObjectKind
from evidence.bundle.archive_read import ArchiveObject
from kephs.ports import Store, Tx
from kephs.ports.archive import ArchivedObject
from kephs.usecases.archive.preserve_records import RenewedRecords
from kephs.usecases.archive.reading import ReadArchive

_ENDINGS: Final = (".ocsp", ".crl")


@dataclass(frozen=True, slots=True)
class ArchivedProof:
    """The record as it stands today, and revocation data (DER) by file name without folder.

    ``rounds``: so many had been made; 0 where none covers the evidence.
    """

    ers: bytes | None
    revocation: Mapping[str, bytes] = field(default_factory=dict)
    rounds: int = 0

    def files(self, ending: str) -> list[bytes]:
        """Return the revocation data of a kind: ``.ocsp`` or ``.crl``."""
        return [content for name, content in self.revocation.items() if name.endswith(ending)]


class RenewedProofs(Protocol):
    """Whoever joins records with the rounds that renewed them."""

    async def of(self, number: int, xml: bytes, ers: bytes | None) -> ArchivedProof:
        """Return what goes out with an evidence; see `ReadProofs.of`."""
        ...


class ReadProofs:
    """Joins records with rounds (RFC 4998), and brings what was collected while issuers still answered.

    Args:
        store: the rows.
        reader: the archive's objects.
        records: the rounds.
    """

    def __init__(self, store: Store, reader: ReadArchive, records: RenewedRecords) -> None:
        self._store, self._reader, self._records = store, reader, records
        self._last: tuple[str, ArchiveObject] | None = None

    async def of(self, number: int, xml: bytes, ers: bytes | None) -> ArchivedProof:
        """Return what goes out with an evidence.

        Args:
            number: in the ledger.
            xml: the evidence, all its bytes.
            ers: its record as stored.

        Raises:
            kephs.ports.objects.ObjectError: the archive does not answer, or an object must be restored.
            evidence.stamps.renewal.RenewalError,
            kephs.usecases.archive.preserve_object.RenewalObjectError: a round
                contradicts itself.
        """
        row = await self._store.read(lambda tx: _covered(tx, number))
        if row is None:
            return ArchivedProof(ers)
        joined = await self._records.record_of(number, xml, ers)
        files = dict(await self._records.material_of(number))
        one = await self._opened(row)
        item = one.evidences[number - one.first]
        files |= {name: one.files[name] for name in item.material}
        revocation = {
            name.rpartition("/")[2]: content for name, content in files.items() if name.endswith(_ENDINGS)
        }
        rounds = self._records.newest
        return ArchivedProof(joined, revocation, 0 if rounds is None else rounds.head.round.number)

    async def _opened(self, row: ArchivedObject) -> ArchiveObject:
        """Return an object; evidence of one message lies side by side, so the last one is remembered."""
        last = self._last
        if last is None or last[0] != row.name:
            last = self._last = row.name, await self._reader.open(row)
        return last[1]


def _covered(tx: Tx, number: int) -> ArchivedObject | None:
    """Return the object that holds an entry, None where no round covers it."""
    rounds = tx.preservation.rounds()
    if not rounds or rounds[-1].last < number:
        return None
    return tx.archive.holding(ObjectKind.EVIDENCE, number)
