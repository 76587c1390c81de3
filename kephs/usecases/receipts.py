"""Receipts: each evidence reaches its sender as a signed message: in Deliller, or at the sender's provider.

spec: KEP-EV-07, KEP-SG-02, R-17 (receipts never cause receipts).
"""

from datetime import datetime

from directory.providers import ProviderRegister
from evidence.mime import scan
from evidence.package import Boundaries, Envelope, plan_receipt
from evidence.ports import BytesSource
from evidence.records import SealedEvidence
from evidence.rem_xml import read as read_record
from evidence.sealing import Sealer
from kephs.domain.lifecycle import TransferState
from kephs.domain.mailboxes import FolderRole, NewItem
from kephs.domain.message_index import encode as encode_index
from kephs.domain.messages import StoredEvidence, Submission, Transfer, TransferKind
from kephs.domain.relay_times import RelayTimes
from kephs.ports import Blob, BlobMissingError, BlobStore, Changes, Clock, Ids, Offload, Store, Tx
from kephs.usecases.records import RecordMaker, receipt_recipient
from kephs.usecases.sized import run_sized


class FileReceipts:
    """Files or queues the receipt of one evidence. Safe to repeat: it happens once."""

    def __init__(
        self, *, store: Store, blobs: BlobStore, sealer: Sealer, records: RecordMaker, offload: Offload,
        clock: Clock, ids: Ids, changes: Changes, register: ProviderRegister, times: RelayTimes,
    ) -> None:  # fmt: skip
        self._store, self._blobs, self._sealer, self._records = store, blobs, sealer, records
        self._offload, self._clock, self._ids, self._changes = offload, clock, ids, changes
        self._register, self._times = register, times

    async def file(self, evidence: StoredEvidence) -> None:
        """Build and sign the receipt; file it in the sender's Deliller, or queue it for their provider.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
        """
        blob, message = await self._store.read(
            lambda tx: (tx.blobs.get(evidence.blob), tx.messages.get(evidence.message_id))
        )
        if blob is None or message is None:
            raise BlobMissingError(evidence.evidence_id)
        source = self._blobs.open(blob)
        xml = await run_sized(self._offload, source.size, source.read, 0, source.size)
        receipt = await self._receipt(SealedEvidence(read_record(xml), xml), message)
        root = scan(BytesSource(receipt))
        index = encode_index(BytesSource(receipt), root)
        (kept,) = await self._blobs.put_many([receipt])
        if message.origin is not None:
            transfer = self._transfer(evidence, message.origin, kept)
            await self._store.write(lambda tx: _queue(tx, evidence, transfer, kept))
            self._changes.publish(())  # nobody's folder changed, but there is work to do
        elif evidence.account_id is not None:
            account_id = evidence.account_id
            await self._store.write(lambda tx: _file(tx, evidence, account_id, kept, index))
            self._changes.publish({account_id})

    async def _receipt(self, sealed: SealedEvidence, message: Submission) -> bytes:
        record, now = sealed.record, self._clock.now()
        whom = record.sender.address
        if message.origin is not None:
            peer = self._register.peers.get(message.origin)
            whom = receipt_recipient(record.kind, whom, peer.service_address if peer else whom)
        envelope = Envelope(service_address=self._records.issuer.address, to=(whom,))
        plan = plan_receipt(envelope, sealed, boundaries=Boundaries.of(self._ids.token()))
        return plan.finish(await self._sealer.sign_entity(plan.digest(), now))

    def _transfer(self, evidence: StoredEvidence, peer: str, receipt: Blob) -> Transfer:
        now = self._clock.now()
        return Transfer(
            transfer_id=self._ids.new(),
            kind=TransferKind.RECEIPT,
            message_id=evidence.message_id,
            peer=peer,
            state=TransferState.QUEUED,
            created_at=now,
            deadline=now + self._times.receipts,
            evidence_id=evidence.evidence_id,
            blob=receipt.sha256,
            next_at=now,
        )


def _queue(tx: Tx, evidence: StoredEvidence, transfer: Transfer, receipt: Blob) -> None:
    current = tx.evidence.get(evidence.evidence_id)
    if current is None or current.receipt_due is None:
        return  # another worker queued it
    tx.blobs.add(receipt)
    tx.transfers.add(transfer)
    tx.evidence.receipt_due(evidence.evidence_id, None, 0)


def _file(tx: Tx, evidence: StoredEvidence, account_id: str, receipt: Blob, index: bytes) -> None:
    current = tx.evidence.get(evidence.evidence_id)
    if current is None or current.receipt_due is None:
        return  # another worker filed it
    file_receipt(tx, account_id, receipt, index, evidence.event_time)
    tx.evidence.receipt_due(evidence.evidence_id, None, 0)


def file_receipt(tx: Tx, account_id: str, receipt: Blob, index: bytes, at: datetime) -> None:
    """Put a receipt, ours or a peer's, into the sender's Deliller. It never counts for the quota."""
    folder = tx.mailboxes.by_role(account_id, FolderRole.EVIDENCE)
    tx.blobs.add(receipt)
    tx.blobs.set_index(receipt.sha256, index)
    item = NewItem(receipt.sha256, receipt.size, at, counts_for_quota=False)
    tx.mailboxes.append(folder.folder_id, item)
