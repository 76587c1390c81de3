"""A provider in memory that is handed over and taken over: folders that die, cheats with the provider's own key."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any

from directory.accounts import AccountState
from directory.providers import ProviderRegister
from evidence.bundle.hand_over import (
    LIST_FOLDER,
    MANIFEST,
    SEAL,
    HandedBy,
    Listed,
    Manifest,
    is_sealed,
    make_lists,
    make_manifest,
    read_manifest,
)
from kephs.ledger.server import published
from kephs.ports.hand_over import PartMissingError, PartsError
from kephs.usecases.ending.hand_over import Handing, HandOver
from kephs.usecases.ending.hand_over_check import CheckHandOver, HandOverCheck
from kephs.usecases.ending.hand_over_notes import note_handing
from kephs.usecases.ending.take_over import TakenOver, TakeOver
from kephs.usecases.proof.publish_ledger import PublishLedger
from storage.hand_over_parts import KeyCipher
from storage.memory.store import MemoryStore
from tests.support.ledger_world import signer
from tests.support.pki import ayse
from tests.support.world import AYSE, DOMAIN, KURUM, Inline, World, compose, new_world, signed

KEY = bytes(range(32))
SUCCESSOR = "hs93.kep.tr"
PERSON = "Derya Devir"


class KilledError(Exception):
    """The process died here."""


@dataclass
class MemoryParts:
    """`kephs.ports.hand_over.Parts` in memory; dies at the write numbered ``dies_at``, before or after it."""

    files: dict[str, bytes] = field(default_factory=dict)
    puts: int = 0
    dies_at: int = 0
    written: bool = False  # the write that it dies at was done

    async def put(self, name: str, content: bytes) -> None:
        self.puts += 1
        if self.puts == self.dies_at and not self.written:
            raise KilledError
        self.files[name] = content
        if self.puts == self.dies_at:
            raise KilledError

    async def get(self, name: str, most: int) -> bytes:
        return self.get_now(name, most)

    def get_now(self, name: str, most: int) -> bytes:
        content = self.files.get(name)
        if content is None:
            raise PartMissingError(f"{name} is missing")
        if len(content) > most:
            raise PartsError(f"{name} is longer than {most} octets")
        return content

    async def names(self) -> AsyncIterator[str]:
        for name in list(self.files):
            yield name

    async def drop(self, name: str) -> None:
        self.files.pop(name, None)


@dataclass
class Ending:
    """A provider that ends."""

    world: World
    message_id: str

    def publisher(self) -> PublishLedger:
        return PublishLedger(
            self.world.store,
            signer(),
            self.world.clock,
            alarm=lambda _cause: None,
            every=timedelta(seconds=10),
        )

    def work(self, parts: Any) -> HandOver:
        async def no_objects(_row: Any) -> bytes:
            raise AssertionError

        world = self.world
        return HandOver(
            store=world.store, blobs=world.blobs, read_object=no_objects, published=published, parts=parts,
            cipher=KeyCipher(KEY), sealer=world.sealer, offload=Inline(), clock=world.clock,
        )  # fmt: skip

    @property
    def handing(self) -> Handing:
        by = HandedBy(DOMAIN, "Örnek A.Ş.", f"kephizmet@{DOMAIN}", PERSON)
        log = signer().verifier
        return Handing(by, log.name, log.vkey, {"BENIOKU.txt": b"oku"})

    async def hand(self, parts: Any) -> Manifest:
        return await self.work(parts).make(self.handing)

    def checker(self, parts: Any, **changes: Any) -> CheckHandOver:
        options = {"trust": self.world.trust, "cipher": KeyCipher(KEY)} | changes
        return CheckHandOver(parts, Inline(), self.world.clock, **options)

    async def check(self, parts: Any, **changes: Any) -> HandOverCheck:
        return await self.checker(parts, **changes).run()

    async def cheat(self, parts: MemoryParts, change: Callable[[dict[str, bytes]], object]) -> MemoryParts:
        """Return a hand-over whose contents were changed and that the provider's own key signed anew."""
        cipher = KeyCipher(KEY)
        plain = {
            name: cipher.open(name, content) if is_sealed(name) else content
            for name, content in parts.files.items()
            if name not in {MANIFEST, SEAL} and not name.startswith(LIST_FOLDER)
        }
        change(plain)
        files = {
            name: cipher.seal(name, content) if is_sealed(name) else content
            for name, content in plain.items()
        }
        lists = dict(make_lists(Listed.of(name, files[name]) for name in sorted(files)))
        old = read_manifest(parts.files[MANIFEST])
        listed = tuple(Listed.of(name, content) for name, content in lists.items())
        content = make_manifest(
            Manifest(
                old.by, old.made_at, old.ledger, old.record, old.counts, old.key_check, listed, old.notes
            )
        )
        seal = await self.world.sealer.sign_entity(sha256(content).digest(), old.made_at)
        return MemoryParts({**files, **lists, MANIFEST: content, SEAL: seal})


async def ending() -> Ending:
    """Return a provider with one message delivered and a closed account, ready to be handed over."""
    world = await new_world()
    accepted = await world.send(await signed(compose(), ayse()))
    await world.work()
    made = Ending(world, accepted.message_id)

    def finish(tx: Any) -> None:
        closed = tx.accounts.by_address(KURUM)
        tx.accounts.set_state(closed.account_id, AccountState.CLOSED, world.clock.now())
        note_handing(tx, world.clock.now(), made.handing.by)

    await world.store.write(finish)
    await made.publisher().publish()
    assert AYSE.endswith(DOMAIN)
    return made


@dataclass
class Successor:
    """A provider that takes over."""

    old: Ending
    store: MemoryStore = field(default_factory=MemoryStore)
    target: MemoryParts = field(default_factory=MemoryParts)
    domains: list[str] = field(default_factory=list)

    @property
    def register(self) -> ProviderRegister:
        return ProviderRegister(SUCCESSOR, peers={})

    async def take(self, source: Any, *, own: str = SUCCESSOR) -> TakenOver:
        def target(domain: str) -> MemoryParts:
            self.domains.append(domain)
            return self.target

        work = TakeOver(
            store=self.store, register=ProviderRegister(own, peers={}), source=source,
            check=self.old.checker(source).run, target=target, cipher=KeyCipher(KEY),
            key_file=lambda domain: domain.encode(), offload=Inline(), clock=self.old.world.clock,
        )  # fmt: skip
        return await work.run("Yeni Yetkili")
