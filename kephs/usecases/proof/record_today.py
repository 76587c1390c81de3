"""The record of one evidence as it stands today: what goes along with its proof from the ledger."""

from dataclasses import dataclass

from kephs.ports import Blob, BlobMissingError, BlobStore, Offload, Store, Tx
from kephs.usecases.archive.archived_proof import RenewedProofs


@dataclass(frozen=True, slots=True)
class RecordToday:
    """Reads the record of an evidence and joins it with the rounds that renewed it."""

    store: Store
    blobs: BlobStore
    offload: Offload
    renewed: RenewedProofs

    async def of(self, evidence_id: str) -> bytes | None:
        """Return the record; None where the time stamp is inside the evidence and no round covers it yet.

        Raises:
            BlobMissingError: the evidence is not there.
            As `kephs.usecases.archive.archived_proof.ReadProofs.of`.
        """
        number, blob, ers = await self.store.read(lambda tx: _look(tx, evidence_id))
        if number is None or blob is None:
            raise BlobMissingError(evidence_id)
        source = self.blobs.open(blob)
        xml = await self.offload.run(source.read, 0, source.size)
        return (await self.renewed.of(number, xml, ers)).ers


def _look(tx: Tx, evidence_id: str) -> tuple[int | None, Blob | None, bytes | None]:
    entry, row = tx.evidence.ledger_of(evidence_id), tx.evidence.get(evidence_id)
    return (
        None if entry is None else entry.number,
        None if row is None else tx.blobs.get(row.blob),
        tx.evidence.ers(evidence_id),
    )
