"""The evidence index restored from the objects of the archive alone.

What comes back: evidence with its bytes and records, the ledger with its salts, its tree, its checkpoints,
the verification material of senders' signatures, the process record, rows about the objects themselves. What
no object holds, and therefore does not: accounts, messages and their states, mailboxes, content, the register
of providers. An evidence whose message is not known here is entered in the ledger and named in the result.

Nothing that is there is changed: what contradicts an object is named, and stands.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import zip_longest
from typing import Final, TypeVar

from evidence.bundle.archive_object import DIGITS, ArchivedEvidence, ObjectKind
from evidence.bundle.archive_read import ArchiveObject, judge_object
from evidence.ledger.notes import NoteError, NoteVerifier, open_note
from evidence.ledger.tiles import GrowingTree, Tile
from evidence.x509.chain import TrustStore
from evidence.x509.role import SealPolicy
from kephs.ports import Blob, BlobStore, Clock, Offload, Store, StoredCheckpoint, Tx
from kephs.ports.archive import ArchivedObject
from kephs.ports.objects import ObjectDamagedError, ObjectRef, ObjectStore
from kephs.usecases.archive.audit import read_process
from kephs.usecases.archive.material import whole_material
from kephs.usecases.archive.preserve_object import RenewalObjectError
from kephs.usecases.archive.preserve_records import rebuilt_rounds
from kephs.usecases.archive.reading import ReadArchive
from kephs.usecases.archive.rows import row_of
from kephs.usecases.archive.seal import archived, authorities_of
from kephs.usecases.proof.publish_ledger import entry_leaf
from kephs.usecases.submission.reception import Together

T = TypeVar("T")

SMALL: Final = 64 * 1024
NAMED_MOST: Final = 1_000
LEAVES: Final = 10_000


@dataclass(slots=True)
class RebuildResult:
    """What a rebuild found and did. Lists name at most the first thousand of each."""

    objects: int = 0
    evidence: int = 0  # rows put back
    known: int = 0  # that were there
    entries: int = 0
    records: int = 0
    contents: int = 0  # bytes of evidence and material put back
    checkpoints: int = 0
    tiles: int = 0
    rounds: int = 0
    last_entry: int = 0
    signed_beyond: int = 0  # size of a checkpoint that was signed about entries no object holds
    homeless: list[str] = field(default_factory=list)  # evidence whose message is not known here
    damaged: list[tuple[str, str]] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)  # ledger entries no sound object holds

    @property
    def whole(self) -> bool:
        """Say whether everything the objects hold is in the index now."""
        return not (self.damaged or self.contradictions or self.gaps or self.homeless)


class RebuildIndex:
    """Reads all objects and puts their rows back.

    Args:
        store: the rows; it may be empty.
        blobs: takes evidence and material; nobody else may have it open.
        objects: the store that has the objects.
        place: what rows call it.
        reader: opens objects.
        trust: roots: only objects that the provider sealed count.
        policy: which certificates seal.
        provider: whose objects: its domain.
        log: the key of the ledger's checkpoints.
        clock: the time.
        offload: for reading and judging.
        together: runs two things at once.
    """

    def __init__(
        self, *, store: Store, blobs: BlobStore, objects: ObjectStore, place: str, reader: ReadArchive,
        trust: TrustStore, policy: SealPolicy, provider: str, log: NoteVerifier, clock: Clock,
        offload: Offload, together: Together,
    ) -> None:  # fmt: skip
        self._store, self._blobs, self._objects, self._place = store, blobs, objects, place
        self._together = together
        self._reader, self._trust, self._policy, self._provider = reader, trust, policy, provider
        self._log, self._clock, self._offload = log, clock, offload
        self._last_hash: bytes | None = None
        self._cipher = reader.cipher

    async def run(self, progress: Callable[[RebuildResult], object] = lambda _result: None) -> RebuildResult:
        """Restore everything; may be run again at any time, and goes on where it was killed.

        Raises:
            ObjectUnavailableError, StoreUnavailableError: what was restored stands; run again.
        """
        result, checkpoints = RebuildResult(), dict[int, StoredCheckpoint]()
        refs = await self._listed(ObjectKind.EVIDENCE)
        ahead = await self._sound(refs[0], result) if refs else None
        for ref, following in zip_longest(refs, refs[1:]):
            one = ahead
            entering = self._enter(one, ref, checkpoints, result)
            if following is None:
                await entering
            else:  # the next object is read and judged while this one's rows and contents become durable
                _, ahead = await self._together(entering, self._sound(following, result))
            progress(result)
        await self._tree(checkpoints, result)
        for ref in await self._listed(ObjectKind.PROCESS):
            one = await self._sound(ref, result)
            if one is not None:
                await self._records(one, ref, result)
            progress(result)
        await self._rounds(result)
        return result

    # --- objects ------------------------------------------------------------------------------

    async def _listed(self, kind: ObjectKind) -> list[ObjectRef]:
        """Return the objects of a kind in the order of their first entries; larger ones first."""
        found = [ref async for ref in self._objects.list(f"{kind.value}/")]
        return sorted(found, key=lambda ref: _span(ref.name))

    async def _enter(
        self, one: ArchiveObject | None, ref: ObjectRef, checkpoints: dict[int, StoredCheckpoint],
        result: RebuildResult,
    ) -> None:  # fmt: skip
        if one is not None and self._follows(one, result):
            checkpoints |= self._checkpoints(one, result)
            await self._evidence(one, ref, result)

    async def _sound(self, ref: ObjectRef, result: RebuildResult) -> ArchiveObject | None:
        """Return an object that the provider sealed; what is none is noted."""
        try:
            one = await self._reader.open_ref(self._objects, ref)
        except ObjectDamagedError as error:
            _note(result.damaged, (ref.name, str(error)))
            return None
        now = self._clock.now()
        report = await self._offload.run(judge_object, one, self._trust, now, self._policy)
        named = ref.name.startswith(f"{one.kind.value}/")
        if not report.passed or not named or one.provider != self._provider:
            step = report.failing_step
            cause = f"seal: {report.verdict.value}: {step.detail if step else 'of another provider or kind'}"
            _note(result.damaged, (ref.name, cause))
            return None
        result.objects += 1
        return one

    def _follows(self, one: ArchiveObject, result: RebuildResult) -> bool:
        """Note gaps; False for an object whose entries another one held already."""
        if one.last <= result.last_entry:
            return False  # two processes sealed the same range once: one of them was noted
        if one.first > result.last_entry + 1:
            _note(result.gaps, (result.last_entry + 1, one.first - 1))
        elif self._last_hash is not None:
            at = result.last_entry + 1 - one.first
            if one.evidences[at].entry.previous != self._last_hash:
                _note(
                    result.contradictions,
                    f"ledger entry {result.last_entry + 1} does not follow the one before",
                )
                return False
        return True

    def _checkpoints(self, one: ArchiveObject, result: RebuildResult) -> dict[int, StoredCheckpoint]:
        """Return the checkpoints inside that our key signed."""
        found = {}
        for item in one.checkpoints:
            try:
                signed = open_note(item.note.encode(), (self._log,)).checkpoint
            except NoteError as error:
                _note(result.contradictions, f"checkpoint at {item.size}: {error}")
                continue
            if (signed.size, signed.root) != (item.size, item.root):
                _note(result.contradictions, f"checkpoint at {item.size} says otherwise than what was signed")
                continue
            found[item.size] = StoredCheckpoint(item.size, item.root, item.note, item.at)
        return found

    # --- evidence -----------------------------------------------------------------------------

    async def _evidence(self, one: ArchiveObject, ref: ObjectRef, result: RebuildResult) -> None:
        fresh = [item for item in one.evidences if item.entry.number > result.last_entry]
        contents = await self._missing(one, fresh)
        blobs = await self._put(list(contents.values()))
        row = archived(ObjectKind.EVIDENCE, (one.first, one.last), ref, self._place, sealed_at=one.sealed_at)
        work = _Restore(row, authorities_of(one), tuple(fresh), blobs)
        done = await self._store.write(work.run)
        result.evidence += done.evidence
        evidences = sum(not item.statement for item in fresh)
        result.known += evidences - done.evidence - len(done.homeless) - len(done.contradictions)
        result.entries += done.entries
        result.contents += len(blobs)
        for name in done.homeless:
            _note(result.homeless, name)
        for text in done.contradictions:
            _note(result.contradictions, text)
        result.last_entry, self._last_hash = one.last, one.evidences[-1].entry.hash

    async def _missing(self, one: ArchiveObject, fresh: Sequence[ArchivedEvidence]) -> dict[bytes, bytes]:
        """Return contents, by digest, that rows need and the store does not name."""
        wanted = {item.entry.evidence_sha256: item.xml for item in fresh if not item.statement}
        for item in fresh:
            for name in item.material:
                if name.endswith(".json"):
                    whole = _whole(one.files[name], one.files)
                    wanted[sha256(whole).digest()] = whole
        known = await self._store.read(lambda tx: {d for d in wanted if tx.blobs.get(d) is not None})
        return {digest: content for digest, content in wanted.items() if digest not in known}

    async def _put(self, contents: Sequence[bytes]) -> list[Blob]:
        small = [content for content in contents if len(content) <= SMALL]
        blobs = list(await self._blobs.put_many(small)) if small else []
        return blobs + [await self._blobs.put(content) for content in contents if len(content) > SMALL]

    # --- tree ---------------------------------------------------------------------------------

    async def _tree(self, checkpoints: Mapping[int, StoredCheckpoint], result: RebuildResult) -> None:
        """Build the tiles up to the largest checkpoint whose entries are all there, and put it with them."""
        beyond = [size for size in checkpoints if size > result.last_entry]
        result.signed_beyond = max(beyond, default=0)
        usable = sorted(size for size in checkpoints if size <= result.last_entry)
        if result.gaps or not usable:
            return
        tree, stops = GrowingTree(), [*usable]
        for size in stops:
            while tree.size < size:
                after, most = tree.size, min(LEAVES, size - tree.size)
                tiles = await self._store.read(lambda tx, a=after, m=most: _grow(tx, tree, a, m))  # type: ignore[misc]
                result.tiles += await self._store.write(lambda tx, t=tiles: _put_tiles(tx, t))  # type: ignore[misc]
            if tree.root() != checkpoints[size].root:
                _note(result.contradictions, f"the tree has not the root that was signed at {size}")
                return
            if await self._store.write(lambda tx, s=size: tx.tree.add_checkpoint(checkpoints[s])):  # type: ignore[misc]
                result.checkpoints += 1

    # --- process records ----------------------------------------------------------------------

    async def _records(self, one: ArchiveObject, ref: ObjectRef, result: RebuildResult) -> None:
        row = archived(ObjectKind.PROCESS, (one.first, one.last), ref, self._place, sealed_at=one.sealed_at)

        def work(tx: Tx) -> int:
            restored = sum(tx.archive.restore_audit(read_process(content)) for _, content in one.records)
            tx.archive.adopt(row)
            return restored

        try:
            result.records += await self._store.write(work)
        except ValueError as error:
            _note(result.contradictions, f"{ref.name}: {error}")

    # --- rounds of renewal ----------------------------------------------------------------------

    async def _rounds(self, result: RebuildResult) -> None:
        try:
            found = await rebuilt_rounds(self._objects, self._cipher)
        except (RenewalObjectError, ObjectDamagedError) as error:
            _note(result.damaged, ("yenileme", str(error)))
            return
        for one in found:
            result.objects += len(one.objects)
            added = await self._store.write(
                lambda tx, o=one: tx.preservation.add_round(o.row, o.objects, self._place)  # type: ignore[misc]
            )
            result.rounds += added


@dataclass(slots=True)
class _Done:
    evidence: int = 0
    entries: int = 0
    homeless: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Restore:
    """One object's rows in one transaction."""

    row: ArchivedObject
    authorities: list[tuple[bytes, ...]]
    evidences: tuple[ArchivedEvidence, ...]
    blobs: Sequence[Blob]

    def run(self, tx: Tx) -> _Done:
        """Put them back."""
        done = _Done()
        for blob in self.blobs:
            tx.blobs.add(blob)
        for item in self.evidences:
            try:
                done.entries += tx.archive.restore_entry(item.entry)
                if item.statement:
                    continue  # made again from the process record
                done.evidence += tx.archive.restore(row_of(dict(item.row), item.entry), item.ers)
            except KeyError:
                done.homeless.append(item.entry.evidence_id)
            except (ValueError, TypeError) as error:
                done.contradictions.append(f"{item.entry.evidence_id}: {error}")
        tx.archive.adopt(self.row, self.authorities)
        return done


def _whole(slim: bytes, files: Mapping[str, bytes]) -> bytes:
    try:
        return whole_material(slim, files)
    except (ValueError, KeyError, TypeError):
        return slim


def _grow(tx: Tx, tree: GrowingTree, after: int, most: int) -> list[Tile]:
    return tree.append([entry_leaf(entry) for entry in tx.evidence.ledger(after, most)])


def _put_tiles(tx: Tx, tiles: Sequence[Tile]) -> int:
    """Store tiles that are not there, or shorter there."""
    count = 0
    for tile in tiles:
        stands = tx.tree.tile(tile.level, tile.number) or b""
        if len(stands) < len(tile.hashes):
            tx.tree.put_tile(tile.level, tile.number, tile.hashes)
            count += 1
    return count


def _span(name: str) -> tuple[int, int]:
    """Return the first number in a name, and the last one negative: who holds more comes first."""
    first, _, last = name.rpartition("/")[2].partition("-")
    digits = last[:DIGITS]
    if not (first.isdigit() and digits.isdigit()):
        return (0, 0)
    return (int(first), -int(digits))


def _note(listed: list[T], item: T) -> None:
    if len(listed) < NAMED_MOST:
        listed.append(item)
