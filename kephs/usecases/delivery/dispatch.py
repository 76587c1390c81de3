"""The KEP message of an accepted submission: built and sealed once, the same for all recipients."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from evidence.mail.entity import Streamed
from evidence.mail.mime import scan
from evidence.mail.package import Boundaries, Envelope, MessagePlan, plan_dispatch, transfer_label
from evidence.mail.tree import tree_text
from evidence.model.records import EvidenceKind, Profile, SealedEvidence
from evidence.ports import ByteSource, BytesSource, Sealing
from kephs.domain.message_index import join as join_index
from kephs.domain.messages import Role, StoredEvidence, Submission
from kephs.ports import Blob, BlobMissingError, BlobStore, Clock, Ids, Offload, Spool, Store, Tx
from kephs.usecases.delivery.kept_evidence import KeptEvidence
from kephs.usecases.records import RecordMaker
from kephs.usecases.sized import HERE_MAX, run_sized

PIECE: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Built:
    """A KEP message that lies in the blob store; ``index`` is None where its rows are there already."""

    blob: Blob
    index: bytes | None


@dataclass(frozen=True, slots=True)
class Small:
    """A small KEP message that is not durable yet: it becomes so with what is made about it."""

    content: bytes
    index: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a KEP message is made of."""

    message: Submission
    evidence: SealedEvidence  # 10, in the form of the message to make
    original: Blob


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished KEP message in its spool, and what it was made of."""

    spool: Spool
    plan: MessagePlan
    p7s: bytes
    newlines: int  # line ends in the original


@dataclass(frozen=True, slots=True)
class Found:
    """What is stored of a message's dispatch: itself, or what it is made of."""

    existing: Blob | None
    original: Blob | None = None
    accepted: StoredEvidence | None = None


@dataclass(frozen=True, slots=True)
class _Begun:
    """A KEP message up to the end of the original; ``digest`` covers all that is signed."""

    plan: MessagePlan
    digest: bytes
    newlines: int


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
        found = await self.store.read(
            lambda tx: find_dispatches(tx, (message,), tx.evidence.of_messages((message.message_id,)))
        )
        (built,), _ = await self.durable(await self.build(((message, found[0]),)))
        if built.index is None:
            return built.blob
        return await self.store.write(lambda tx: name_dispatch(tx, message, built))

    async def build(self, of: Sequence[tuple[Submission, Found]]) -> list[Built | Small]:
        """Return KEP messages; small ones have to become `durable` before `name_dispatch` names them.

        Several are signed together, which costs much less than one by one.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
            BlobMissingError: content is gone.
        """
        missing = [await self._wanted(*one) for one in of if one[1].existing is None]
        made = iter(await self._build(missing) if missing else ())
        return [next(made) if found.existing is None else Built(found.existing, None) for _, found in of]

    async def durable(
        self, made: Sequence[Built | Small], beside: Sequence[bytes] = ()
    ) -> tuple[list[Built], list[Blob]]:
        """Make small KEP messages durable, and other content beside them, with one sync.

        Raises:
            StoreUnavailableError: try again later.
        """
        contents = [*(one.content for one in made if isinstance(one, Small)), *beside]
        blobs = iter(await self.blobs.put_many(contents) if contents else ())
        built = [Built(next(blobs), one.index) if isinstance(one, Small) else one for one in made]
        return built, list(blobs)

    async def _wanted(self, message: Submission, found: Found) -> Wanted:
        if found.original is None or found.accepted is None:  # what a peer sealed is never made anew
            raise BlobMissingError(message.message_id)
        return Wanted(message, await self.kept.open(found.accepted), found.original)

    async def _build(self, wanted: Sequence[Wanted]) -> list[Built | Small]:
        async with self.rendered(wanted) as finished:
            return [await self._built(one, made) for one, made in zip(wanted, finished, strict=True)]

    async def _built(self, wanted: Wanted, made: Rendered) -> Built | Small:
        index = join_index(made.plan.header, await self._tree(wanted.original, made))
        if wanted.original.size > HERE_MAX:
            return Built(await self.blobs.keep(made.spool), index)
        content = made.spool.source()
        return Small(content.read(0, content.size), index)

    async def _tree(self, original: Blob, made: Rendered) -> str:
        """Return the part tree of a KEP message; that of the original is what submission found, if known."""
        tree = self.kept.fresh.tree(original.sha256)
        if tree is None:
            tree = tree_text(await run_sized(self.offload, original.size, scan, self.blobs.open(original)))
        return made.plan.tree(made.p7s, Streamed(tree, original.size, made.newlines))

    @asynccontextmanager
    async def rendered(self, wanted: Sequence[Wanted]) -> AsyncIterator[list[Rendered]]:
        """Give the KEP messages around originals, signed, each in the form of its evidence 10.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
            BlobMissingError: content is gone.
        """
        spools = [self.blobs.spool() for _ in wanted]
        try:
            begun = [await self._begin(one, spool) for one, spool in zip(wanted, spools, strict=True)]
            signatures = await self.sealer.sign_entities([one.digest for one in begun], self.clock.now())
            finished = [
                Rendered(spool, one.plan, p7s, one.newlines)
                for one, spool, p7s in zip(begun, spools, signatures, strict=True)
            ]
            for made in finished:
                await made.spool.write(made.plan.entity_tail + made.plan.suffix(made.p7s))
            yield finished
        finally:
            for spool in spools:
                await spool.discard()

    async def _begin(self, wanted: Wanted, spool: Spool) -> _Begun:
        """Write a KEP message up to the end of its original."""
        original = self._source(wanted.original)
        size = original.size
        label = await run_sized(self.offload, size, label_of, original)
        plan = self._plan(wanted.message, wanted.evidence, label)
        digest, newlines = sha256(plan.entity_head), 0
        await spool.write(plan.prefix + plan.entity_head)
        for start in range(0, size, PIECE):
            piece = await run_sized(self.offload, size, original.read, start, PIECE)
            await run_sized(self.offload, len(piece), digest.update, piece)
            newlines += piece.count(b"\n")
            await spool.write(piece)
        digest.update(plan.entity_tail)
        return _Begun(plan, digest.digest(), newlines)

    def _source(self, original: Blob) -> ByteSource:
        """Return the original: from memory, where submission has only just kept it."""
        fresh = self.kept.fresh.letter(original.sha256)
        return self.blobs.open(original) if fresh is None else BytesSource(fresh)

    def _plan(self, message: Submission, evidence: SealedEvidence, label: str) -> MessagePlan:
        to = [str(r.address) for r in message.recipients if r.role is Role.TO]
        cc = [str(r.address) for r in message.recipients if r.role is Role.CC]
        return plan_dispatch(
            Envelope(service_address=self.records.issuer.address, to=tuple(to), cc=tuple(cc)),
            evidence,
            label=transfer_label(has_8bit=label == "8bit", is_binary=False),
            boundaries=Boundaries.of(self.ids.token()),
        )


def label_of(original: ByteSource) -> str:
    """Return ``8bit`` where some octet is above 127, else ``7bit``."""
    pieces = (original.read(start, PIECE) for start in range(0, original.size, PIECE))
    return "7bit" if all(piece.isascii() for piece in pieces) else "8bit"


def find_dispatches(
    tx: Tx, messages: Sequence[Submission], made: Mapping[str, Iterable[StoredEvidence]]
) -> list[Found]:
    """Return each message's KEP message where it is stored, else what it is made of: original, evidence 10.

    ``made``: the messages' evidence, by message id.
    """
    existing = tx.messages.dispatches([message.message_id for message in messages])
    ours = [one for one in messages if one.message_id not in existing and one.origin is None]
    originals = tx.blobs.get_all([message.digest_sha256 for message in ours])
    found = {
        one.message_id: Found(None, originals.get(one.digest_sha256), acceptance(made[one.message_id]))
        for one in ours
    }
    return [found.get(one.message_id) or Found(existing.get(one.message_id)) for one in messages]


def acceptance(made: Iterable[StoredEvidence], profile: Profile = Profile.KEP) -> StoredEvidence | None:
    """Return our evidence 10 in this serialisation from all evidence of a message."""
    return next(
        (
            e for e in made
            if e.kind is EvidenceKind.SUBMISSION_ACCEPTANCE and e.origin is None and e.profile is profile
        ),
        None,
    )  # fmt: skip


def name_dispatch(tx: Tx, message: Submission, built: Built) -> Blob:
    """Name a KEP message in the rows and return it, or the one that was named first: it stands."""
    if built.index is None:
        return built.blob
    tx.blobs.add(built.blob, built.index)
    (named,) = name_dispatches(tx, ((message, built),))
    return named


def name_dispatches(tx: Tx, of: Sequence[tuple[Submission, Built]]) -> list[Blob]:
    """Name KEP messages in their messages' rows; return each, or the one that was named first: it stands.

    The content is named already (`kephs.ports.Blobs.add_all`).
    """
    made = {message.message_id: built.blob for message, built in of if built.index is not None}
    standing = tx.messages.name_dispatches({key: blob.sha256 for key, blob in made.items()})
    beaten = made.keys() - standing  # local delivery and relay began together: relay was first
    winners = tx.messages.dispatches(sorted(beaten))
    return [
        winners[message.message_id] if message.message_id in beaten else built.blob for message, built in of
    ]
