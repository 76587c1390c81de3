"""Receipts: each evidence reaches its sender as a signed message in Deliller.

spec: KEP-EV-07, KEP-SG-02, R-17 (receipts never cause receipts).
"""

from evidence.mime import scan
from evidence.package import Boundaries, Envelope, plan_receipt
from evidence.ports import BytesSource
from evidence.records import SealedEvidence
from evidence.rem_xml import read as read_record
from evidence.sealing import Sealer
from kephs.domain.mailboxes import FolderRole, NewItem
from kephs.domain.message_index import encode as encode_index
from kephs.domain.messages import StoredEvidence
from kephs.ports import Blob, BlobMissingError, BlobStore, Changes, Clock, Ids, Offload, Store, Tx
from kephs.usecases.records import RecordMaker


class FileReceipts:
    """Files the receipt of one evidence. Safe to repeat: it is filed once."""

    def __init__(
        self, *, store: Store, blobs: BlobStore, sealer: Sealer, records: RecordMaker, offload: Offload,
        clock: Clock, ids: Ids, changes: Changes,
    ) -> None:  # fmt: skip
        self._store, self._blobs, self._sealer, self._records = store, blobs, sealer, records
        self._offload, self._clock, self._ids, self._changes = offload, clock, ids, changes

    async def file(self, evidence: StoredEvidence) -> None:
        """Build, sign and file the receipt in the sender's Deliller.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
        """
        blob = await self._store.read(lambda tx: tx.blobs.get(evidence.blob))
        if blob is None:
            raise BlobMissingError(evidence.evidence_id)
        source = self._blobs.open(blob)
        xml = await self._offload.run(source.read, 0, source.size)
        receipt = await self._receipt(SealedEvidence(read_record(xml), xml))
        root = scan(BytesSource(receipt))
        index = encode_index(BytesSource(receipt), root)
        (kept,) = await self._blobs.put_many([receipt])
        await self._store.write(lambda tx: _file(tx, evidence, kept, index))
        self._changes.publish({evidence.account_id})

    async def _receipt(self, sealed: SealedEvidence) -> bytes:
        record, now = sealed.record, self._clock.now()
        envelope = Envelope(
            service_address=self._records.issuer.address,
            to=(record.sender.address,),
        )
        plan = plan_receipt(envelope, sealed, boundaries=Boundaries.of(self._ids.token()))
        return plan.finish(await self._sealer.sign_entity(plan.digest(), now))


def _file(tx: Tx, evidence: StoredEvidence, receipt: Blob, index: bytes) -> None:
    current = tx.evidence.get(evidence.evidence_id)
    if current is None or current.receipt_due is None:
        return  # another worker filed it
    folder = tx.mailboxes.by_role(evidence.account_id, FolderRole.EVIDENCE)
    tx.blobs.add(receipt)
    tx.blobs.set_index(receipt.sha256, index)
    item = NewItem(receipt.sha256, receipt.size, evidence.event_time, counts_for_quota=False)
    tx.mailboxes.append(folder.folder_id, item)
    tx.evidence.receipt_due(evidence.evidence_id, None, 0)
