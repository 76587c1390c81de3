"""The KEP message of an accepted submission: built and sealed once, the same for all recipients."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from evidence.mime import scan
from evidence.package import Boundaries, Envelope, MessagePlan, plan_dispatch, transfer_label
from evidence.ports import ByteSource
from evidence.records import EvidenceKind, SealedEvidence
from evidence.rem_xml import read as read_record
from evidence.sealing import Sealer
from kephs.domain.message_index import encode as encode_index
from kephs.domain.messages import Role, Submission
from kephs.ports import Blob, BlobMissingError, BlobStore, Clock, Ids, Offload, Spool, Store, Tx
from kephs.usecases.records import RecordMaker

PIECE: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class DispatchMaker:
    """Makes dispatches. Safe to repeat and to race: the first one stored stands."""

    store: Store
    blobs: BlobStore
    sealer: Sealer
    records: RecordMaker
    offload: Offload
    clock: Clock
    ids: Ids

    async def dispatch(self, message: Submission) -> Blob:
        """Return the stored KEP message of an accepted submission, or the one a peer relayed to us.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
            BlobMissingError: content is gone.
        """
        existing = await self.store.read(lambda tx: _dispatch_of(tx, message.message_id))
        if existing is not None:
            return existing
        if message.origin is not None:  # what a peer sealed is never made anew
            raise BlobMissingError(message.message_id)
        original, evidence = await self._parts(message)
        plan = self._plan(message, evidence, await self.offload.run(label_of, original))
        spool = self.blobs.spool()
        try:
            await self._write(plan, original, spool)
            source = spool.source()
            root = await self.offload.run(scan, source)
            index = encode_index(source, root)
            blob = await self.blobs.keep(spool)
        finally:
            await spool.discard()
        return await self.store.write(lambda tx: _name_dispatch(tx, message, blob, index))

    async def _parts(self, message: Submission) -> tuple[ByteSource, SealedEvidence]:
        def look_up(tx: Tx) -> tuple[Blob | None, Blob | None]:
            accepted = next(
                e for e in tx.evidence.of_message(message.message_id)
                if e.kind is EvidenceKind.SUBMISSION_ACCEPTANCE and e.origin is None
            )  # fmt: skip
            return tx.blobs.get(message.digest_sha256), tx.blobs.get(accepted.blob)

        original, evidence = await self.store.read(look_up)
        if original is None or evidence is None:
            raise BlobMissingError(message.message_id)
        source = self.blobs.open(evidence)
        xml = await self.offload.run(source.read, 0, source.size)
        return self.blobs.open(original), SealedEvidence(read_record(xml), xml)

    def _plan(self, message: Submission, evidence: SealedEvidence, label: str) -> MessagePlan:
        addresses = {
            role: tuple(str(r.address) for r in message.recipients if r.role is role) for role in Role
        }
        envelope = Envelope(
            service_address=self.records.issuer.address, to=addresses[Role.TO], cc=addresses[Role.CC]
        )
        boundaries = Boundaries.of(self.ids.token())
        return plan_dispatch(
            envelope,
            evidence,
            label=transfer_label(has_8bit=label == "8bit", is_binary=False),
            boundaries=boundaries,
        )

    async def _write(self, plan: MessagePlan, original: ByteSource, spool: Spool) -> None:
        digest = sha256(plan.entity_head)
        await spool.write(plan.prefix + plan.entity_head)
        for start in range(0, original.size, PIECE):
            piece = await self.offload.run(original.read, start, PIECE)
            await self.offload.run(digest.update, piece)
            await spool.write(piece)
        digest.update(plan.entity_tail)
        p7s = await self.sealer.sign_entity(digest.digest(), self.clock.now())
        await spool.write(plan.entity_tail + plan.suffix(p7s))


def label_of(original: ByteSource) -> str:
    """Return ``8bit`` where some octet is above 127, else ``7bit``."""
    pieces = (original.read(start, PIECE) for start in range(0, original.size, PIECE))
    return "7bit" if all(piece.isascii() for piece in pieces) else "8bit"


def _dispatch_of(tx: Tx, message_id: str) -> Blob | None:
    message = tx.messages.get(message_id)
    return tx.blobs.get(message.dispatch) if message is not None and message.dispatch else None


def _name_dispatch(tx: Tx, message: Submission, blob: Blob, index: bytes) -> Blob:
    earlier = _dispatch_of(tx, message.message_id)
    if earlier is not None:  # local delivery and relay began together: one of them was first
        return earlier
    tx.blobs.add(blob)
    tx.blobs.set_index(blob.sha256, index)
    if not tx.messages.set_dispatch(message.message_id, blob.sha256):
        winner = _dispatch_of(tx, message.message_id)
        assert winner is not None
        return winner
    return blob
