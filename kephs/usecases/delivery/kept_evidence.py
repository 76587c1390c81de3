"""Evidence as it is kept, read back for what is made of it; stamped at last where the grace let it out."""

from dataclasses import dataclass
from hashlib import sha256

from evidence.forms.serialise import read as read_record
from evidence.model.records import SealedEvidence
from evidence.ports import Sealing
from kephs.domain.messages import StoredEvidence
from kephs.ports import Blob, BlobMissingError, BlobStore, Offload, Store, Tx
from kephs.usecases.delivery.fresh import FreshEvidence
from kephs.usecases.sized import run_sized


@dataclass(frozen=True, slots=True)
class KeptEvidence:
    """Opens evidence that is stored."""

    store: Store
    blobs: BlobStore
    sealer: Sealing
    offload: Offload
    fresh: FreshEvidence

    async def open(self, evidence: StoredEvidence) -> SealedEvidence:
        """Return an evidence with the bytes that were sealed and its evidence record.

        One that was released unstamped is stamped now, before anything is made of it (D16).

        Raises:
            BlobMissingError: its bytes are gone.
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
        """
        fresh = self.fresh.take(evidence.evidence_id)
        if fresh is not None and not evidence.unstamped:
            return fresh
        blob, ers = await self.store.read(lambda tx: _look(tx, evidence))
        if blob is None:
            raise BlobMissingError(evidence.evidence_id)
        source = self.blobs.open(blob)
        xml = await run_sized(self.offload, source.size, source.read, 0, source.size)
        if evidence.unstamped and ers is None:
            ers = await self._stamp(evidence.evidence_id, xml)
        return SealedEvidence(read_record(xml), xml, ers)

    async def _stamp(self, evidence_id: str, xml: bytes) -> bytes:
        """Give an evidence its record; where another worker was first, its record stands."""
        (made,) = await self.sealer.records([sha256(xml).digest()])

        def keep(tx: Tx) -> bytes:
            tx.evidence.set_ers(evidence_id, made)
            kept = tx.evidence.ers(evidence_id)
            return made if kept is None else kept

        return await self.store.write(keep)


def _look(tx: Tx, evidence: StoredEvidence) -> tuple[Blob | None, bytes | None]:
    return tx.blobs.get(evidence.blob), tx.evidence.ers(evidence.evidence_id)
