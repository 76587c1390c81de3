"""Wiring of the archive: its stores, its cipher, sealing, reading, checking, moving, rebuilding."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from config.settings import Settings, SettingsError
from evidence.ports import Sealing, SignerUnavailableError, TimestampUnavailableError
from evidence.x509.chain import TrustStore
from kephs.bootstrap.objects import open_objects, prove_objects
from kephs.bootstrap.sealing import open_seal_policy
from kephs.failpoints import Failpoint, failing_objects
from kephs.ports import BlobMissingError, BlobStore, Clock, Offload, Revocation, Store, StoreUnavailableError
from kephs.ports.objects import (
    ObjectDamagedError,
    ObjectError,
    ObjectRef,
    ObjectStore,
    ObjectUnavailableError,
    ProbeReport,
)
from kephs.system import SystemClock
from kephs.usecases.archive.fixity import CheckArchive
from kephs.usecases.archive.move import MoveArchive
from kephs.usecases.archive.reading import ReadArchive
from kephs.usecases.archive.rows import EvidenceIncompleteError
from kephs.usecases.archive.seal import ArchiveRules, MaterialSilentError, SealArchive
from kephs.usecases.proof.prove import Publishing
from kephs.usecases.proof.publish_ledger import LedgerContradictionError
from kephs.worker.archive_lanes import SEAL, archive_lane
from kephs.worker.run import Lane
from storage.crypto import KeyMismatchError
from storage.objects.crypto import open_object, seal_object

log = structlog.get_logger()

KINDS: Final = ("files", "s3")
_LATER: Final = (
    ObjectUnavailableError, StoreUnavailableError, SignerUnavailableError, TimestampUnavailableError,
    MaterialSilentError,
)  # fmt: skip
_PEOPLE: Final = (
    ObjectError, EvidenceIncompleteError, LedgerContradictionError, BlobMissingError, SettingsError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ObjectCipher:
    """`kephs.ports.archive.ArchiveCipher` under the master key."""

    key: bytes

    def seal(self, name: str, plain: bytes) -> bytes:
        """Return the sealed object."""
        return seal_object(self.key, name, plain)

    def open(self, name: str, sealed: bytes) -> bytes:
        """Return the container; `ObjectDamagedError` where it does not open."""
        try:
            return open_object(self.key, name, sealed)
        except KeyMismatchError as error:
            raise ObjectDamagedError(f"{name}: not sealed by this instance, or altered") from error


class PlacedObjects:
    """One `ObjectStore` out of those that the settings name: it writes to one, and reads from each.

    Which store has a version stands in the rows; whoever has only a reference gets it from wherever it lies.
    """

    def __init__(self, first: str, places: Mapping[str, ObjectStore]) -> None:
        self._main = places[first]
        self._all = (places[first], *(store for name, store in places.items() if name != first))

    async def put(self, name: str, data: bytes, retain_until: datetime) -> ObjectRef:
        """Write to the store that the settings name."""
        return await self._main.put(name, data, retain_until)

    async def get(self, ref: ObjectRef) -> bytes:
        """Return that version from whichever store has it."""
        for store in self._all[:-1]:
            try:
                return await store.get(ref)
            except ObjectDamagedError:
                continue
        return await self._all[-1].get(ref)

    async def check(self, ref: ObjectRef) -> None:
        """Check that version in whichever store has it."""
        for store in self._all[:-1]:
            try:
                await store.check(ref)
            except ObjectDamagedError:
                continue
            return
        await self._all[-1].check(ref)

    async def list(self, prefix: str) -> AsyncIterator[ObjectRef]:
        """Yield the objects of the store that the settings name."""
        async for ref in self._main.list(prefix):
            yield ref

    async def extend(self, ref: ObjectRef, retain_until: datetime) -> ObjectRef:
        """Keep that version longer."""
        return await self._main.extend(ref, retain_until)

    async def probe(self, *, deep: bool = False) -> ProbeReport:
        """Probe the store that is written to."""
        return await self._main.probe(deep=deep)

    async def close(self) -> None:
        """Close all; safe to call twice."""
        for store in self._all:
            await store.close()


@dataclass(frozen=True, slots=True)
class ArchiveParts:
    """What an archive consists of, without whoever seals."""

    settings: Settings
    clock: SystemClock
    store: Store
    places: Mapping[str, ObjectStore]
    cipher: ObjectCipher
    reader: ReadArchive
    rules: ArchiveRules
    trust: TrustStore

    @property
    def objects(self) -> ObjectStore:
        """Return the store that new objects go to."""
        return self.places[self.rules.place]

    @property
    def placed(self) -> PlacedObjects:
        """Return all stores as one."""
        return PlacedObjects(self.rules.place, self.places)

    def check(self) -> CheckArchive:
        """Return what does fixity checks."""
        return CheckArchive(
            self.store, self.reader, self.clock, trust=self.trust, policy=open_seal_policy(self.settings),
            pause=asyncio.sleep, monotonic=time.monotonic,
        )  # fmt: skip

    def move(self) -> MoveArchive:
        """Return what carries objects."""
        return MoveArchive(self.store, self.reader, self.clock)


@dataclass(frozen=True, slots=True)
class ArchiveWork:
    """The archive of a running instance."""

    parts: ArchiveParts
    seal: SealArchive

    async def prove(self) -> None:
        """Prove at start-up that the store keeps what it is given; one that does not answer is proved later.

        Raises:
            SettingsError: it lets go of what it should keep: nothing may start on it.
        """
        try:
            await prove_objects(self.parts.objects)
        except ObjectUnavailableError as error:
            log.warning("archive.not_proved", cause=str(error))  # the lane proves it before its first object

    def lanes(self) -> list[Lane]:
        """Return the archive's work for the worker; the store is proved before the first object."""
        proved = False

        async def work() -> None:
            nonlocal proved
            if not proved:
                await prove_objects(self.parts.objects)
                proved = True
            made = await self.seal.seal_due()
            if made is not None:
                log.info("archive.sealed", name=made.name, first=made.first, last=made.last, size=made.size)

        return [archive_lane(SEAL, self.parts.clock, self.seal.due, work, _told)]


async def open_archive(
    settings: Settings, store: Store, key: bytes, trust: TrustStore, offload: Offload, stack: AsyncExitStack,
    *, clock: SystemClock | None = None, point: Failpoint | None = None,
) -> ArchiveParts:  # fmt: skip
    """Open the archive's stores; they are closed with the stack. Nothing is asked of them yet.

    Args:
        settings: of the instance.
        store: the rows.
        key: of objects (`kephs.instances.keys.Keys.objects`).
        trust: roots.
        offload: for reading and encrypting.
        stack: closes the stores.
        clock: the time.
        point: where a fault test kills the process.

    Raises:
        SettingsError: the store that the settings name cannot be had.
    """
    clock = SystemClock() if clock is None else clock
    places: dict[str, ObjectStore] = {}
    for kind, found in open_places(settings, clock).items():
        places[kind] = failing_objects(point, found)
        stack.push_async_callback(found.close)
    cipher = ObjectCipher(key)
    reader = ReadArchive(store, places, cipher, offload)
    return ArchiveParts(settings, clock, store, places, cipher, reader, open_rules(settings), trust)


def open_sealing_work(
    parts: ArchiveParts, *, blobs: BlobStore, sealer: Sealing, revocation: Revocation, publishing: Publishing,
    offload: Offload, clock: Clock,
) -> ArchiveWork:  # fmt: skip
    """Return the archive of an instance that seals."""
    seal = SealArchive(
        store=parts.store, blobs=blobs, objects=parts.objects, cipher=parts.cipher, sealer=sealer,
        revocation=revocation, publishing=publishing, trust=parts.trust,
        policy=open_seal_policy(parts.settings), offload=offload, clock=clock, rules=parts.rules,
        alarm=_alarm,
    )  # fmt: skip
    return ArchiveWork(parts, seal)


def open_rules(settings: Settings) -> ArchiveRules:
    """Return what the settings tell the archive.

    Raises:
        SettingsError: something that the law refuses.
    """
    archive = settings.archive
    try:
        return ArchiveRules(
            settings.provider.domain, archive.kind, archive.retention_years, archive.objects_of,
            timedelta(seconds=archive.seal_after_seconds), timedelta(seconds=archive.alarm_after_seconds),
        )  # fmt: skip
    except ValueError as error:
        raise SettingsError(f"archive: {error}") from None


def open_places(settings: Settings, clock: SystemClock) -> dict[str, ObjectStore]:
    """Return the object stores that the settings name, by kind: the one written to, others for reading.

    Raises:
        SettingsError: the one that is written to cannot be had.
    """
    found = {kind: _open_place(settings, kind, clock) for kind in KINDS}
    return {kind: store for kind, store in found.items() if store is not None}


def _open_place(settings: Settings, kind: str, clock: SystemClock) -> ObjectStore | None:
    """Return a store; None for one that the settings neither use nor describe."""
    archive = settings.archive
    if kind != archive.kind and (kind == "s3" and not (archive.endpoint and archive.bucket)):
        return None
    wanted = settings.model_copy(update={"archive": archive.model_copy(update={"kind": kind})})
    try:
        return open_objects(wanted, clock)
    except SettingsError:
        if kind == archive.kind:
            raise
        return None


def _alarm(event: str, detail: str) -> None:
    log.error(event, detail=detail)


def _told(error: BaseException) -> bool:
    """Log a failure that was to be expected; a defect is left to the worker."""
    if isinstance(error, _LATER):
        log.warning("archive.later", cause=type(error).__name__, detail=str(error))
        return True
    if isinstance(error, _PEOPLE):
        log.error("archive.stopped", cause=type(error).__name__, detail=str(error))
        return True
    return False
