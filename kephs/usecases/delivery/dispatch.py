"""The KEP message of an accepted submission: built and sealed once, the same for all recipients."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from evidence.mail.entity import Streamed
from evidence.mail.mime import Part, scan
from evidence.mail.package import Boundaries, Envelope, MessagePlan, plan_dispatch, transfer_label
from evidence.model.records import EvidenceKind, Profile, SealedEvidence
from evidence.ports import ByteSource, Sealing
from kephs.domain.message_index import encode as encode_index
from kephs.domain.messages import Role, StoredEvidence, Submission
from kephs.ports import Blob, BlobMissingError, BlobStore, Clock, Ids, Offload, Spool, Store, Tx
from kephs.usecases.delivery.kept_evidence import KeptEvidence
from kephs.usecases.records import RecordMaker
from kephs.usecases.sized import run_sized

PIECE: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Built:
    """A KEP message that lies in the blob store; ``index`` is None where its rows are there already."""

    blob: Blob
    index: bytes | None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished KEP message in its spool, and what it was made of."""

    spool: Spool
    plan: MessagePlan
    p7s: bytes
    newlines: int  # line ends in the original


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a dispatch is made of: the original and evidence 10."""

    original: Blob
    accepted: StoredEvidence


@dataclass(frozen=True, slots=True)
class DispatchMaker:
    """Makes dispatches. Safe to repeat and to race: the first one stored stands."""

    store: Store
    blobs: BlobStore
    sealer: Sealing
    records: RecordMaker
    offload: Offload
    clock: Clock
    ids: Ids
    kept: KeptEvidence

    async def dispatch(self, message: Submission) -> Blob:
        """Return the stored KEP message of an accepted submission, or the one a peer relayed to us.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
            BlobMissingError: content is gone.
        """
        built = await self.build(message)
        if built.index is None:
            return built.blob
        return await self.store.write(lambda tx: name_dispatch(tx, message, built))

    async def build(self, message: Submission) -> Built:
        """Return the KEP message without naming it: `name_dispatch` does, in whatever transaction comes next.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
            BlobMissingError: content is gone.
        """
        existing, parts = await self.store.read(lambda tx: _look_up(tx, message))
        if existing is not None:
            return Built(existing, None)
        if parts is None:  # content is gone; and what a peer sealed is never made anew
            raise BlobMissingError(message.message_id)
        evidence = await self.kept.open(parts.accepted)
        async with self.rendered(message, evidence, parts.original) as made:
            original = Streamed(await self._tree(parts.original), parts.original.size, made.newlines)
            index = encode_index(made.spool.source(), made.plan.parts(made.p7s, original))
            return Built(await self.blobs.keep(made.spool), index)

    async def _tree(self, original: Blob) -> Part:
        """Return the parts of the original: those that submission found, as long as they are known."""
        fresh = self.kept.fresh.tree(original.sha256)
        if fresh is not None:
            return fresh
        return await run_sized(self.offload, original.size, scan, self.blobs.open(original))

    @asynccontextmanager
    async def rendered(
        self, message: Submission, evidence: SealedEvidence, original: Blob
    ) -> AsyncIterator[Rendered]:
        """Give the KEP message around an original, signed, in the form of its evidence 10.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
            BlobMissingError: content is gone.
        """
        content = self.blobs.open(original)
        plan = self._plan(message, evidence, await run_sized(self.offload, content.size, label_of, content))
        spool = self.blobs.spool()
        try:
            yield await self._write(plan, content, spool)
        finally:
            await spool.discard()

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

    async def _write(self, plan: MessagePlan, original: ByteSource, spool: Spool) -> Rendered:
        digest, newlines = sha256(plan.entity_head), 0
        await spool.write(plan.prefix + plan.entity_head)
        for start in range(0, original.size, PIECE):
            piece = await run_sized(self.offload, original.size, original.read, start, PIECE)
            await run_sized(self.offload, len(piece), digest.update, piece)
            newlines += piece.count(b"\n")
            await spool.write(piece)
        digest.update(plan.entity_tail)
        p7s = await self.sealer.sign_entity(digest.digest(), self.clock.now())
        await spool.write(plan.entity_tail + plan.suffix(p7s))
        return Rendered(spool, plan, p7s, newlines)


def label_of(original: ByteSource) -> str:
    """Return ``8bit`` where some octet is above 127, else ``7bit``."""
    pieces = (original.read(start, PIECE) for start in range(0, original.size, PIECE))
    return "7bit" if all(piece.isascii() for piece in pieces) else "8bit"


def _look_up(tx: Tx, message: Submission) -> tuple[Blob | None, _Parts | None]:
    """Return the KEP message that is stored, else what it is made of: the original and evidence 10."""
    existing = _dispatch_of(tx, message.message_id)
    if existing is not None or message.origin is not None:
        return existing, None
    accepted = acceptance(tx, message.message_id)
    assert accepted is not None  # no message of ours is accepted without it
    original = tx.blobs.get(message.digest_sha256)
    return None, None if original is None else _Parts(original, accepted)


def acceptance(tx: Tx, message_id: str, profile: Profile = Profile.KEP) -> StoredEvidence | None:
    """Return our evidence 10 of a message in this serialisation."""
    return next(
        (
            e for e in tx.evidence.of_message(message_id)
            if e.kind is EvidenceKind.SUBMISSION_ACCEPTANCE and e.origin is None and e.profile is profile
        ),
        None,
    )  # fmt: skip


def _dispatch_of(tx: Tx, message_id: str) -> Blob | None:
    message = tx.messages.get(message_id)
    return tx.blobs.get(message.dispatch) if message is not None and message.dispatch else None


def name_dispatch(tx: Tx, message: Submission, built: Built) -> Blob:
    """Name a KEP message in the rows and return it, or the one that was named first: it stands."""
    if built.index is None:
        return built.blob
    earlier = _dispatch_of(tx, message.message_id)
    if earlier is not None:  # local delivery and relay began together: one of them was first
        return earlier
    tx.blobs.add(built.blob)
    tx.blobs.set_index(built.blob.sha256, built.index)
    if not tx.messages.set_dispatch(message.message_id, built.blob.sha256):
        winner = _dispatch_of(tx, message.message_id)
        assert winner is not None
        return winner
    return built.blob
