"""Receipts: each evidence reaches its sender as a signed message: in Deliller, or at the sender's provider.

spec: KEP-EV-07, KEP-SG-02, R-17 (receipts never cause receipts).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from directory.providers import ProviderRegister
from evidence.mail.package import Boundaries, Envelope, MessagePlan, plan_receipt
from evidence.model.records import SealedEvidence
from evidence.ports import Sealing
from kephs.domain.lifecycle import TransferState
from kephs.domain.mailboxes import FolderRole, NewItem
from kephs.domain.message_index import join as join_index
from kephs.domain.messages import StoredEvidence, Submission, Transfer, TransferKind
from kephs.domain.relay_times import RelayTimes
from kephs.ports import Blob, BlobMissingError, BlobStore, Changes, Clock, Filing, Ids, Store, Tx
from kephs.usecases.delivery.kept_evidence import KeptEvidence
from kephs.usecases.records import RecordMaker, receipt_recipient


@dataclass(frozen=True, slots=True)
class Receipt:
    """A finished receipt: its bytes and its index for the mailbox."""

    content: bytes
    index: bytes


@dataclass(frozen=True, slots=True)
class ReceiptMaker:
    """Builds and signs receipts."""

    sealer: Sealing
    records: RecordMaker
    register: ProviderRegister
    clock: Clock
    ids: Ids

    async def receipts(self, about: Sequence[tuple[SealedEvidence, Submission]]) -> list[Receipt]:
        """Return the receipts of evidence for each message's sender, or for their provider; signed together.

        Raises:
            TimestampUnavailableError, SignerUnavailableError: try again later.
        """
        plans = [self._plan(sealed, message) for sealed, message in about]
        signatures = await self.sealer.sign_entities([plan.digest() for plan in plans], self.clock.now())
        return [
            Receipt(plan.finish(p7s), join_index(plan.header, plan.tree(p7s)))
            for plan, p7s in zip(plans, signatures, strict=True)
        ]

    def _plan(self, sealed: SealedEvidence, message: Submission) -> MessagePlan:
        record = sealed.record
        whom = record.sender.address
        if message.origin is not None:
            peer = self.register.peers.get(message.origin)
            whom = receipt_recipient(record.kind, whom, peer.service_address if peer else whom)
        envelope = Envelope(service_address=self.records.issuer.address, to=(whom,))
        return plan_receipt(envelope, sealed, boundaries=Boundaries.of(self.ids.token()))


@dataclass(frozen=True, slots=True)
class FileReceipts:
    """Files or queues the receipt of one evidence. Safe to repeat: it happens once."""

    store: Store
    blobs: BlobStore
    maker: ReceiptMaker
    kept: KeptEvidence
    clock: Clock
    ids: Ids
    changes: Changes
    times: RelayTimes

    async def file(self, evidence: StoredEvidence) -> None:
        """Build and sign the receipt; file it in the sender's Deliller, or queue it for their provider.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
        """
        message = await self.store.read(lambda tx: tx.messages.get(evidence.message_id))
        if message is None:
            raise BlobMissingError(evidence.evidence_id)
        (receipt,) = await self.maker.receipts([(await self.kept.open(evidence), message)])
        (kept,) = await self.blobs.put_many([receipt.content])
        if message.origin is not None:
            transfer = self._transfer(evidence, message.origin, kept)
            await self.store.write(lambda tx: _queue(tx, evidence, transfer, kept))
            self.changes.publish(())  # nobody's folder changed, but there is work to do
        elif evidence.account_id is not None:
            account_id = evidence.account_id
            await self.store.write(lambda tx: file_due(tx, evidence.evidence_id, kept, receipt.index))
            self.changes.publish({account_id})

    def _transfer(self, evidence: StoredEvidence, peer: str, receipt: Blob) -> Transfer:
        now = self.clock.now()
        return Transfer(
            transfer_id=self.ids.new(),
            kind=TransferKind.RECEIPT,
            message_id=evidence.message_id,
            peer=peer,
            state=TransferState.QUEUED,
            created_at=now,
            deadline=now + self.times.receipts,
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


def file_due(tx: Tx, evidence_id: str, receipt: Blob, index: bytes) -> None:
    """File the receipt of one of our senders' evidence, unless that was done meanwhile."""
    current = tx.evidence.get(evidence_id)
    if current is None or current.receipt_due is None or current.account_id is None:
        return
    file_receipt(tx, current.account_id, receipt, index, current.event_time)
    tx.evidence.receipt_due(current.evidence_id, None, 0)


def file_receipt(tx: Tx, account_id: str, receipt: Blob, index: bytes, at: datetime) -> None:
    """Put a receipt, ours or a peer's, into the sender's Deliller. It never counts for the quota."""
    tx.blobs.add(receipt, index)
    tx.mailboxes.file_all((receipt_filing(account_id, receipt, at),))


def receipt_filing(account_id: str, receipt: Blob, at: datetime) -> Filing:
    """Return where a receipt goes: into the sender's Deliller. It never counts for the quota."""
    item = NewItem(receipt.sha256, receipt.size, at, counts_for_quota=False)
    return Filing(account_id, FolderRole.EVIDENCE, item)
