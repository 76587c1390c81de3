"""A provider with evidence, and its archive, all in memory; every part can fail on demand."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from evidence.x509.role import SealPolicy
from kephs.bootstrap.archive import ObjectCipher
from kephs.ports.objects import ObjectRef, ObjectStore, ObjectUnavailableError, ProbeReport
from kephs.together import together
from kephs.usecases.archive.fixity import CheckArchive
from kephs.usecases.archive.move import MoveArchive
from kephs.usecases.archive.reading import ReadArchive
from kephs.usecases.archive.rebuild import RebuildIndex
from kephs.usecases.archive.seal import ArchiveRules, SealArchive
from kephs.usecases.proof.publish_ledger import PublishLedger
from storage.memory.store import MemoryBlobStore, MemoryStore
from storage.objects.memory import MemoryObjectStore
from tests.support.ledger_world import signer
from tests.support.pki import ayse
from tests.support.world import AYSE, DOMAIN, MEHMET, Inline, World, compose, new_world, signed

KEY = bytes(range(64, 96))
POLICY = SealPolicy()


class DiedError(BaseException):
    """The process was killed here."""


@dataclass
class Brittle:
    """An object store that dies or is silent around its calls, as often as told."""

    inner: ObjectStore
    before: int = 0  # puts that are not made
    after: int = 0  # puts that are made, and nobody hears of it
    silent: int = 0  # calls of any kind

    async def put(self, name: str, data: bytes, retain_until: datetime) -> ObjectRef:
        self._silence()
        if self.before:
            self.before -= 1
            raise DiedError
        ref = await self.inner.put(name, data, retain_until)
        if self.after:
            self.after -= 1
            raise DiedError
        return ref

    async def get(self, ref: ObjectRef) -> bytes:
        self._silence()
        return await self.inner.get(ref)

    async def check(self, ref: ObjectRef) -> None:
        self._silence()
        await self.inner.check(ref)

    async def list(self, prefix: str) -> AsyncIterator[ObjectRef]:
        self._silence()
        async for ref in self.inner.list(prefix):
            yield ref

    async def extend(self, ref: ObjectRef, retain_until: datetime) -> ObjectRef:
        return await self.inner.extend(ref, retain_until)

    async def probe(self, *, deep: bool = False) -> ProbeReport:
        return await self.inner.probe(deep=deep)

    async def close(self) -> None:
        await self.inner.close()

    def _silence(self) -> None:
        if self.silent:
            self.silent -= 1
            raise ObjectUnavailableError("503")


@dataclass
class ArchiveWorld:
    """A world, its archive in one store, and another store to move to."""

    world: World
    rules: ArchiveRules
    memory: MemoryObjectStore
    alarms: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        world, key = self.world, signer(1, f"{self.rules.provider}/kephs-ledger")
        self.objects = Brittle(self.memory)
        self.other = Brittle(MemoryObjectStore(clock=world.clock.now))
        self.cipher = ObjectCipher(KEY)
        self.log = key.verifier
        self.publish = PublishLedger(world.store, key, world.clock, alarm=lambda cause: None)
        places = {"files": self.objects, "s3": self.other}
        self.reader = ReadArchive(world.store, places, self.cipher, Inline())
        self.seal = self.sealing(self.rules)
        self.check = CheckArchive(
            world.store, self.reader, world.clock, trust=world.trust, policy=POLICY,
            pause=self._pause, monotonic=lambda: 0.0,
        )  # fmt: skip
        self.move = MoveArchive(world.store, self.reader, world.clock)
        self.paused: list[float] = []

    def sealing(self, rules: ArchiveRules) -> SealArchive:
        world = self.world
        return SealArchive(
            store=world.store, blobs=world.blobs, objects=self.objects, cipher=self.cipher,
            sealer=world.sealer, revocation=world.ocsp, publishing=self.publish, trust=world.trust,
            policy=POLICY, offload=Inline(), clock=world.clock, rules=rules,
            alarm=lambda event, detail: self.alarms.append((event, detail)),
        )  # fmt: skip

    def rebuilding(self, store: MemoryStore, blobs: MemoryBlobStore) -> RebuildIndex:
        world = self.world
        places = {"files": self.objects, "s3": self.other}
        return RebuildIndex(
            store=store, blobs=blobs, objects=self.objects, place="files",
            reader=ReadArchive(store, places, self.cipher, Inline()), trust=world.trust, policy=POLICY,
            provider=self.rules.provider, log=self.log, clock=world.clock, offload=Inline(),
            together=together,
        )  # fmt: skip

    async def letters(self, count: int = 1) -> None:
        """Send letters that are delivered: evidence 10 and 40 each."""
        for _ in range(count):
            letter = compose(AYSE, (MEHMET,), message_id=f"<{self.world.ids.new()}@test>")
            await self.world.send(await signed(letter, ayse()))
            await self.world.work()

    async def names(self) -> list[str]:
        """Return the names of all objects that rows name."""
        rows = await self.world.store.read(lambda tx: tx.archive.all())
        return [row.name for row in rows]

    def forward(self, by: timedelta) -> None:
        """Move the clock."""
        self.world.clock.at += by

    async def _pause(self, seconds: float) -> None:
        self.paused.append(seconds)


async def archive_world(**changes: object) -> ArchiveWorld:
    """Return a world with its accounts open and an empty archive."""
    world = await new_world()
    rules = ArchiveRules(DOMAIN, "files", 20, 1000, timedelta(minutes=1), timedelta(hours=1))
    return ArchiveWorld(world, replace(rules, **changes), MemoryObjectStore(clock=world.clock.now))  # type: ignore[arg-type]
