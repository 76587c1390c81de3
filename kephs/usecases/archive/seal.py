"""Sealing evidence and process records into objects of the archive (KEP-RT-01).

Entries leave in the order of their numbers, each into exactly one object: what was archived is a number, no
mark on every row. An object becomes durable first; then one transaction notes it, and with it the number.

Killed in between, the object is there and no row names it. Its signature is random, so making it again would
give other octets; its name begins with the first number alone, so it is found under that, read, verified,
compared with the store, and taken as it is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from evidence.bundle.archive_object import (
    ArchivedCheckpoint,
    ArchivedEvidence,
    ArchiveObjectError,
    ArchivePlan,
    EvidenceContents,
    ObjectKind,
    name_prefix,
    object_name,
    plan_evidence,
    plan_process,
)
from evidence.bundle.archive_read import ArchiveObject, judge_object, read_object
from evidence.ports import Sealing
from evidence.x509.chain import TrustStore
from evidence.x509.role import SealPolicy
from kephs.ports import Blob, BlobStore, Clock, Offload, Revocation, Store, Tx
from kephs.ports.archive import CHECK_EVERY, ArchiveCipher, ArchivedObject
from kephs.ports.objects import ObjectDamagedError, ObjectError, ObjectRef, ObjectStore
from kephs.usecases.archive.audit import process_json
from kephs.usecases.archive.material import (
    CertificateFinder,
    CollectMaterial,
    MaterialSilentError,
    SlimMaterial,
)
from kephs.usecases.archive.rows import EvidenceRow, EvidenceRows, gather, plain_row
from kephs.usecases.proof.prove import Publishing

PROCESS_OF: Final = 1_000
"""Process records of one object at most."""
RETENTION_MIN: Final = 20
"""Years (KEP-RT-01)."""
_NAMES_TRIED: Final = 8
_READ_AT_ONCE: Final = 32
"""Evidence read in one go: a worker holds the interpreter meanwhile, and a busy server waits for it."""


@dataclass(frozen=True, slots=True)
class ArchiveRules:
    """What an archive is told. ``place`` names the kind of store that new objects go to."""

    provider: str  # domain
    place: str
    retention_years: int
    objects_of: int  # evidences of one object at most
    seal_after: timedelta  # an object that is not full is sealed when its first entry is so old
    alarm_after: timedelta

    def __post_init__(self) -> None:
        """Refuse what the law refuses.

        Raises:
            ValueError: so it is.
        """
        if self.retention_years < RETENTION_MIN:
            raise ValueError(f"evidence is kept {RETENTION_MIN} years at least (KEP-RT-01)")
        if not 1 <= self.objects_of <= 1_000:
            raise ValueError("an object holds 1 to 1000 evidences")


@dataclass(frozen=True, slots=True)
class _ByAnother:
    """Another process of ours sealed these entries; ``row`` where it was us who noted its object."""

    row: ArchivedObject | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits to be archived."""

    kind: ObjectKind
    entries: int
    oldest: datetime | None  # time of the first entry that waits

    def age(self, now: datetime) -> timedelta:
        """Return how long the oldest has waited."""
        return timedelta() if self.oldest is None else max(timedelta(), now - self.oldest)


@dataclass(frozen=True, slots=True)
class _Read:
    """One row with its content, the certificates behind it, and the files of its sender's material."""

    row: EvidenceRow
    content: bytes
    group: frozenset[bytes]
    files: Mapping[str, bytes] = field(default_factory=dict)
    verdict: tuple[str, ...] = ()  # name of the file that names the others

    def archived(self, used: tuple[str, ...]) -> ArchivedEvidence:
        """Return what goes into the object; ``used``: names of the files about its certificates."""
        row, statement = self.row, self.row.evidence is None
        plain = {} if row.evidence is None else plain_row(row.evidence)
        return ArchivedEvidence(
            row.entry, self.content, row.ers, plain, row.proof, (*used, *self.verdict), statement
        )


def years_after(at: datetime, years: int) -> datetime:
    """Return the same day so many years later; 1 March where there is no 29 February."""
    try:
        return at.replace(year=at.year + years)
    except ValueError:
        return at.replace(year=at.year + years, month=3, day=1)


def backlog(tx: Tx, kind: ObjectKind) -> Backlog:
    """Return what of a kind waits."""
    mark = tx.archive.watermark(kind)
    if kind is ObjectKind.EVIDENCE:
        first = tx.evidence.ledger(mark, 1)
        return Backlog(kind, tx.archive.newest_entry() - mark, first[0].at if first else None)
    records, head = tx.audit.page(mark, 1), tx.audit.head()
    return Backlog(kind, (0 if head is None else head.number) - mark, records[0].at if records else None)


class SealArchive:
    """Makes objects; any number of processes may do so, one of them wins each range.

    Args:
        store: the rows.
        blobs: evidence and material.
        objects: where objects go.
        cipher: encrypts them.
        sealer: signs each with the transaction certificate.
        revocation: asked about the certificates behind seals and stamps.
        publishing: enters new entries into the ledger's tree before they are archived.
        trust: roots.
        policy: which certificates seal.
        offload: for reading, hashing, encrypting.
        clock: the time.
        rules: see there.
        alarm: told what waits longer than it may, and what stands under a name that is ours.
    """

    def __init__(
        self, *, store: Store, blobs: BlobStore, objects: ObjectStore, cipher: ArchiveCipher, sealer: Sealing,
        revocation: Revocation, publishing: Publishing, trust: TrustStore, policy: SealPolicy,
        offload: Offload, clock: Clock, rules: ArchiveRules, alarm: Callable[[str, str], object],
    ) -> None:  # fmt: skip
        self._store, self._blobs, self._objects, self._cipher = store, blobs, objects, cipher
        self._sealer, self._publishing, self._trust, self._policy = sealer, publishing, trust, policy
        self._offload, self._clock, self._rules, self._alarm = offload, clock, rules, alarm
        self._collect = CollectMaterial(revocation, trust)
        self._finder, self._slim = CertificateFinder(), SlimMaterial()

    @property
    def rules(self) -> ArchiveRules:
        """Return what the archive was told."""
        return self._rules

    def due(self, tx: Tx) -> datetime | None:
        """Return when the next object is due; None while nothing waits."""
        return min((at for at in (self._due(tx, kind) for kind in _KINDS) if at is not None), default=None)

    async def seal_due(self) -> ArchivedObject | None:
        """Seal one object that is due; None where none is.

        Raises:
            ObjectUnavailableError, StoreUnavailableError, SignerUnavailableError, TimestampUnavailableError,
            MaterialSilentError: later.
            ObjectError, EvidenceIncompleteError, LedgerContradictionError: people are needed.
        """
        now = self._clock.now()
        waiting, dues = await self._store.read(self._look)
        self._raise_alarm(waiting, now)
        ready = sorted((at, kind) for kind, at in dues.items() if at is not None and at <= now)
        for _, kind in ready:
            made = await self._seal(kind)
            if made is not None:
                return made
        return None

    async def seal_all(self) -> list[ArchivedObject]:
        """Seal everything that may be sealed, due or not (commands, hand-over); raises as `seal_due`."""
        made: list[ArchivedObject] = []
        for kind in _KINDS:
            last: tuple[int, datetime] | None = None
            while (first := await self._first(kind)) is not None and first != last:
                one = await self._seal(kind)
                made += [] if one is None else [one]
                last = first if one is None else None  # none is made where another process was first, too
        return made

    # --- when ---------------------------------------------------------------------------------

    def _due(self, tx: Tx, kind: ObjectKind) -> datetime | None:
        mark = tx.archive.watermark(kind)
        if kind is ObjectKind.EVIDENCE:
            first, full = tx.evidence.ledger(mark, 1), self._rules.objects_of
            times = [entry.at for entry in first]
            filled = bool(first) and bool(tx.evidence.ledger(mark + full - 1, 1))
        else:
            times = [entry.at for entry in tx.audit.page(mark, 1)]
            filled = bool(times) and bool(tx.audit.page(mark + PROCESS_OF - 1, 1))
        if not times:
            return None
        return times[0] if filled else times[0] + self._rules.seal_after

    def _look(self, tx: Tx) -> tuple[list[Backlog], dict[ObjectKind, datetime | None]]:
        return [backlog(tx, kind) for kind in _KINDS], {kind: self._due(tx, kind) for kind in _KINDS}

    def _raise_alarm(self, backlogs: Iterable[Backlog], now: datetime) -> None:
        for waiting in backlogs:
            age = waiting.age(now)
            if age > self._rules.alarm_after:
                told = f"{waiting.entries} entries, oldest {int(age.total_seconds())} s"
                self._alarm("archive.behind", f"{waiting.kind.value}: {told}")

    # --- one object ---------------------------------------------------------------------------

    async def _seal(self, kind: ObjectKind) -> ArchivedObject | None:
        if kind is ObjectKind.EVIDENCE:
            await self._publishing.publish()
        first = await self._first(kind)
        if first is None:
            return None
        number, at = first
        adopted = await self._adopt(kind, number, at)
        if adopted is not None:
            return adopted
        made = self._evidence if kind is ObjectKind.EVIDENCE else self._process
        return await made(number, at)

    async def _first(self, kind: ObjectKind) -> tuple[int, datetime] | None:
        return await self._store.read(lambda tx: _first(tx, kind))

    async def _by_another(self, kind: ObjectKind, first: int, at: datetime) -> _ByAnother | None:
        """Say what a process that seals beside us did since we looked; None where it did nothing."""
        adopted = await self._adopt(kind, first, at)
        if adopted is None and await self._first(kind) == (first, at):
            return None
        return _ByAnother(adopted)

    async def _evidence(self, first: int, at: datetime) -> ArchivedObject | None:
        limit = self._rules.objects_of
        rows = await self._store.read(lambda tx: gather(tx, first - 1, limit))
        if not rows.rows:
            return None
        now = self._clock.now()
        contents = await self._contents(rows, now)
        for spare in range(min(_NAMES_TRIED, len(rows.rows))):  # a name that somebody took gives way
            kept = contents if not spare else _without_last(contents, spare)
            last = kept.evidences[-1].entry
            name = object_name(ObjectKind.EVIDENCE, first, last.number, kept.evidences[0].entry.at)
            plan = await self._offload.run(lambda k=kept: plan_evidence(k, sealed_at=now))
            until = max(now, *(one.entry.at for one in kept.evidences))
            ref = await self._put(name, plan, now, until)
            if ref is not None:
                paths = authority_paths(kept.authorities, kept.material)
                return await self._note(ObjectKind.EVIDENCE, (first, last.number), ref, now, paths)
            other = None if spare else await self._by_another(ObjectKind.EVIDENCE, first, at)
            if other is not None:
                return other.row
            self._alarm("archive.name_taken", name)
        raise ObjectError(f"every name that begins with entry {first} is taken by something that is not ours")

    async def _process(self, first: int, at: datetime) -> ArchivedObject | None:
        entries = await self._store.read(lambda tx: list(tx.audit.page(first - 1, PROCESS_OF)))
        if not entries:
            return None
        now, last = self._clock.now(), entries[-1].number
        records = [(entry.number, process_json(entry)) for entry in entries]
        plan = plan_process(self._rules.provider, records, sealed_at=now)
        name = object_name(ObjectKind.PROCESS, first, last, entries[0].at)
        ref = await self._put(name, plan, now, max(now, entries[-1].at))
        if ref is None:
            other = await self._by_another(ObjectKind.PROCESS, first, at)
            if other is not None:
                return other.row
            self._alarm("archive.name_taken", name)
            raise ObjectError(f"{name} is taken by something that is not ours")
        return await self._note(ObjectKind.PROCESS, (first, last), ref, now)

    async def _put(
        self, name: str, plan: ArchivePlan, now: datetime, kept_from: datetime
    ) -> ObjectRef | None:
        """Sign, encrypt and store; None where other octets stand under the name."""
        signature = await self._sealer.sign_entity(plan.digest, now)
        sealed = await self._offload.run(lambda: self._cipher.seal(name, plan.write(signature)))
        try:
            return await self._objects.put(name, sealed, years_after(kept_from, self._rules.retention_years))
        except ObjectError as error:
            if type(error) is not ObjectError:
                raise
            return None

    async def _note(
        self, kind: ObjectKind, span: tuple[int, int], ref: ObjectRef, at: datetime,
        authorities: Sequence[tuple[bytes, ...]] = (),
    ) -> ArchivedObject | None:  # fmt: skip
        row = archived(kind, span, ref, self._rules.place, sealed_at=at)
        added = await self._store.write(lambda tx: tx.archive.add(row, authorities))
        return row if added else None  # another process was first; its object holds the entries

    # --- what goes in -------------------------------------------------------------------------

    async def _contents(self, rows: EvidenceRows, now: datetime) -> EvidenceContents:
        parts = [rows.rows[at : at + _READ_AT_ONCE] for at in range(0, len(rows.rows), _READ_AT_ONCE)]
        read = [one for part in parts for one in await self._offload.run(self._read, part)]
        patient = now - rows.rows[0].entry.at <= self._rules.alarm_after
        material, names = await self._collect.collect([one.group for one in read], now, patient=patient)
        if material.missing:
            self._alarm(
                "archive.issuer_silent",
                f"{len(material.missing)} certificates from {rows.rows[0].entry.number}",
            )
        files = dict(material.files)
        for one in read:
            files |= one.files
        checkpoints = [ArchivedCheckpoint(one.size, one.root, one.note, one.at) for one in rows.checkpoints]
        return EvidenceContents(
            self._rules.provider, [one.archived(names[one.group]) for one in read], files, checkpoints,
            sorted(material.missing), sorted(material.authorities),
        )  # fmt: skip

    def _read(self, rows: Sequence[EvidenceRow]) -> list[_Read]:
        """Read some evidence and its sender's material; runs in a worker."""
        return [self._read_one(row) for row in rows]

    def _read_one(self, row: EvidenceRow) -> _Read:
        if row.blob is None:
            return _Read(row, row.statement, frozenset())
        xml = self._content(row.blob)
        group = self._finder.certificates_of(xml, row.ers)
        if row.material is None:
            return _Read(row, xml, group)
        files, name = self._slim.slim(self._content(row.material))
        return _Read(row, xml, group, files, (name,))

    def _content(self, blob: Blob) -> bytes:
        source = self._blobs.open(blob)
        return source.read(0, source.size)

    # --- what an earlier life left ------------------------------------------------------------

    async def _adopt(self, kind: ObjectKind, first: int, at: datetime) -> ArchivedObject | None:
        """Take an object that begins here and that no row names."""
        async for ref in self._objects.list(name_prefix(kind, first, at)):
            try:
                found = await self._verified(ref)
            except (ObjectDamagedError, ArchiveObjectError) as error:
                self._alarm("archive.strange_object", f"{ref.name}: {error}")
                continue
            if found.kind is kind and found.first == first and await self._same(found):
                span = (found.first, found.last)
                return await self._note(kind, span, ref, found.sealed_at, authorities_of(found))
            self._alarm("archive.strange_object", f"{ref.name}: not what the store has")
        return None

    async def _verified(self, ref: ObjectRef) -> ArchiveObject:
        sealed = await self._objects.get(ref)

        def check() -> ArchiveObject:
            one = read_object(self._cipher.open(ref.name, sealed), name=ref.name)
            report = judge_object(one, self._trust, self._clock.now(), self._policy)
            if not report.passed:
                raise ArchiveObjectError(f"its seal is {report.verdict.value}")
            return one

        return await self._offload.run(check)

    async def _same(self, one: ArchiveObject) -> bool:
        """Say whether an object holds what the store has under these numbers."""
        if one.kind is ObjectKind.PROCESS:
            entries = await self._store.read(
                lambda tx: list(tx.audit.page(one.first - 1, one.last - one.first + 1))
            )
            return [(entry.number, process_json(entry)) for entry in entries] == list(one.records)
        listed = await self._store.read(
            lambda tx: list(tx.evidence.ledger(one.first - 1, one.last - one.first + 1))
        )
        return listed == [evidence.entry for evidence in one.evidences]


_KINDS: Final = (ObjectKind.EVIDENCE, ObjectKind.PROCESS)


def archived(
    kind: ObjectKind, span: tuple[int, int], ref: ObjectRef, place: str, *, sealed_at: datetime
) -> ArchivedObject:
    """Return the row of an object that lies in a store."""
    return ArchivedObject(
        ref.name, kind, *span, place, ref.version, ref.size, ref.sha256, ref.sha512,
        ref.retain_until, sealed_at, check_due=sealed_at + CHECK_EVERY,
    )  # fmt: skip


def authorities_of(one: ArchiveObject) -> list[tuple[bytes, ...]]:
    """Return the paths of the time-stamping authorities that an object names, DER, authority first."""
    return authority_paths(one.authorities, one.files)


def authority_paths(
    authorities: Iterable[Sequence[str]], files: Mapping[str, bytes]
) -> list[tuple[bytes, ...]]:
    """Return paths whose certificates are named, as certificates."""
    return [tuple(files[name] for name in names) for names in authorities]


def _first(tx: Tx, kind: ObjectKind) -> tuple[int, datetime] | None:
    mark = tx.archive.watermark(kind)
    if kind is ObjectKind.PROCESS:
        records = tx.audit.page(mark, 1)
        return (mark + 1, records[0].at) if records else None
    entries = tx.evidence.ledger(mark, 1)
    return (mark + 1, entries[0].at) if entries else None


def _without_last(contents: EvidenceContents, count: int) -> EvidenceContents:
    return EvidenceContents(
        contents.provider, contents.evidences[:-count], contents.material, contents.checkpoints,
        contents.missing, contents.authorities,
    )  # fmt: skip


__all__ = [
    "ArchiveRules", "Backlog", "MaterialSilentError", "SealArchive", "archived",
    "authorities_of", "backlog", "years_after",
]  # fmt: skip
