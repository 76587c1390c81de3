"""Witnesses over real HTTP: asking for cosignatures, giving them; and the ledger's lanes of the worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from evidence.ledger.notes import KeyKind, Note, NoteVerifier, cosign, open_note
from evidence.ledger.witness_rules import AddCheckpoint
from kephs.ledger.lanes import ledger_lanes
from kephs.ledger.server import serve_ledger
from kephs.ledger.witness import HttpWitness, OwnWitness
from kephs.ports import StoreUnavailableError
from kephs.usecases.proof.cosignatures import GatherCosignatures
from kephs.worker.run import Lane
from storage.memory.store import MemoryStore
from tests.support.ledger_world import LedgerWorld, signer
from tests.support.stores import T0

WITNESS = signer(7, "hs92.kep.tr/kephs-witness", KeyKind.COSIGNATURE)


@pytest.fixture
async def world() -> LedgerWorld:
    return await LedgerWorld(MemoryStore()).build()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as opened:
        yield opened


@asynccontextmanager
async def served(world: LedgerWorld, **options: Any) -> AsyncIterator[str]:
    async with serve_ledger(world.store, world.key.verifier, port=0, **options) as port:
        yield f"http://127.0.0.1:{port}"


class Pair:
    """A log, and another provider that witnesses it."""

    def __init__(self, log: LedgerWorld, witness: LedgerWorld) -> None:
        self.log, self.witness = log, witness
        self.refused: list[tuple[str, str, str]] = []
        self.alarms: list[str] = []
        self.warnings: list[str] = []
        logs = {log.key.name: log.key.verifier}
        self.own = OwnWitness(
            witness.store, logs, WITNESS, witness.clock, refused=lambda *told: self.refused.append(told)
        )

    def gather(self, session: aiohttp.ClientSession, url: str, key: NoteVerifier = WITNESS.verifier) -> Any:
        return GatherCosignatures(
            self.log.store, [HttpWitness(session, url, key)], self.log.clock,
            alarm=self.alarms.append, warn=self.warnings.append,
        )  # fmt: skip


@pytest.fixture
async def pair(world: LedgerWorld) -> Pair:
    return Pair(world, await LedgerWorld(MemoryStore()).build())


@asynccontextmanager
async def witnessing(pair: Pair) -> AsyncIterator[str]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(served(pair.witness, witness=pair.own))


def cosigned(world: LedgerWorld, note: str) -> dict[str, Any]:
    return open_note(note.encode(), [world.key.verifier, WITNESS.verifier]).cosigned


async def test_a_witness_cosigns_each_checkpoint_that_continues_the_one_before(
    pair: Pair, session: Any
) -> None:
    async with witnessing(pair) as url:
        gather = pair.gather(session, url)
        for count in (3, 1, 300):
            await pair.log.grow(count)
            assert await gather.gather() == 1
            newest = await pair.log.last()
            assert cosigned(pair.log, newest.note) == {WITNESS.name: T0.replace(microsecond=0)}
            assert await gather.gather() == 0
            assert await pair.log.store.read(gather.due) is None
    assert (pair.refused, pair.alarms, pair.warnings) == ([], [], [])
    known = await pair.witness.store.read(lambda tx: tx.tree.witnessed(pair.log.key.name))
    assert (known.size, known.root) == (newest.size, newest.root)
    assert await pair.log.found() == set()


async def test_a_log_that_started_anew_asks_the_witness_what_it_knows(pair: Pair, session: Any) -> None:
    async with witnessing(pair) as url:
        await pair.log.grow(3)
        await pair.gather(session, url).gather()
        await pair.log.grow(3)
        assert await pair.gather(session, url).gather() == 1  # knows nothing: 409, then the right size
    assert pair.warnings == []


async def test_the_record_is_durable_before_the_cosignature_is_answered(pair: Pair, session: Any) -> None:
    await pair.log.grow(3)

    async def write(_work: Any) -> Any:
        raise StoreUnavailableError("full")

    pair.witness.store.write = write
    async with witnessing(pair) as url:
        assert await pair.gather(session, url).gather() == 0
    newest = await pair.log.last()
    assert cosigned(pair.log, newest.note) == {}
    assert pair.warnings == [f"{WITNESS.name}: it answered 503"]


async def test_a_witness_refuses_another_history_and_both_sides_raise_the_alarm(
    pair: Pair, session: Any
) -> None:
    async with witnessing(pair) as url:
        await pair.log.grow(5)
        await pair.gather(session, url).gather()
        other = await LedgerWorld(MemoryStore()).build()  # the same key, another history
        await other.grow(7)
        pair.log = other
        gather = pair.gather(session, url)
        assert await gather.gather() == 0
    assert [told[:2] for told in pair.refused] == [(other.key.name, "it does not continue what is known")]
    assert Note.parse(pair.refused[0][2].encode())  # the proof of what the log signed
    assert len(pair.alarms) == 1
    assert cosigned(other, (await other.last()).note) == {}


async def test_two_roots_at_one_size_are_refused_with_the_alarm(pair: Pair, session: Any) -> None:
    async with witnessing(pair) as url:
        await pair.log.grow(5)
        await pair.gather(session, url).gather()
        other = await LedgerWorld(MemoryStore()).build()
        await other.grow(5)
        pair.log = other
        assert await pair.gather(session, url).gather() == 0
    assert [told[1] for told in pair.refused] == ["another root is known at this size"]
    assert len(pair.alarms) == 1


async def test_a_store_that_was_set_back_is_noticed_by_what_the_witness_knows(
    pair: Pair, session: Any
) -> None:
    async with witnessing(pair) as url:
        await pair.log.grow(5, 4)
        await pair.gather(session, url).gather()
        pair.log.store._tables.checkpoints.drop(9)
        assert await pair.gather(session, url).gather() == 0
    assert pair.alarms == [f"{WITNESS.name} cosigned 9 entries of our log, we know of 5"]


async def test_requests_at_the_same_time_never_set_the_record_back(pair: Pair, session: Any) -> None:
    made = await pair.log.grow(*[1] * 8)
    notes = [one.note.encode() for one in made]
    async with witnessing(pair) as url:

        async def ask(note: bytes) -> int:
            body = AddCheckpoint(0, (), note).encode()
            async with session.post(f"{url}/add-checkpoint", data=body) as response:
                return int(response.status)

        statuses = await asyncio.gather(*(ask(note) for note in notes))
    assert sorted(set(statuses)) == [200, 409]
    assert statuses.count(200) == 1
    known = await pair.witness.store.read(lambda tx: tx.tree.witnessed(pair.log.key.name))
    assert known.note.encode() == notes[statuses.index(200)]


async def test_the_same_checkpoint_again_is_cosigned_again_without_a_write(pair: Pair, session: Any) -> None:
    (made,) = await pair.log.grow(3)
    bodies = [AddCheckpoint(old, (), made.note.encode()).encode() for old in (0, 3, 3)]
    statuses = []
    async with witnessing(pair) as url:
        for body in bodies:
            async with session.post(f"{url}/add-checkpoint", data=body) as response:
                statuses.append(response.status)
                line = await response.read()
    assert statuses == [200, 200, 200]
    assert line == cosign(made.note.encode(), WITNESS, T0).line


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"old 0\n\nnonsense", 400),
        (b"old 0\n" * 1000, 400),
        (b"x" * 500_000, 413),
    ],
    ids=["empty", "no-note", "lines", "long"],
)
async def test_what_is_no_request_is_refused(pair: Pair, session: Any, body: bytes, status: int) -> None:
    async with witnessing(pair) as url, session.post(f"{url}/add-checkpoint", data=body) as response:
        assert response.status == status


async def test_logs_it_was_not_told_of_and_keys_that_are_not_theirs_are_refused(
    pair: Pair, session: Any
) -> None:
    stranger = await LedgerWorld(MemoryStore(), key=signer(3, "other.example/log")).build()
    forger = await LedgerWorld(MemoryStore(), key=signer(4)).build()
    statuses = []
    async with witnessing(pair) as url:
        for world in (stranger, forger):
            (made,) = await world.grow(2)
            body = AddCheckpoint(0, (), made.note.encode()).encode()
            async with session.post(f"{url}/add-checkpoint", data=body) as response:
                statuses.append(response.status)
    assert statuses == [404, 403]
    assert pair.refused == []


async def test_a_conflict_tells_the_size_in_its_own_type(pair: Pair, session: Any) -> None:
    made = await pair.log.grow(3, 2)
    async with witnessing(pair) as url:
        for note in (one.note.encode() for one in made):
            body = AddCheckpoint(0, (), note).encode()
            async with session.post(f"{url}/add-checkpoint", data=body) as response:
                told = response.status, response.headers["Content-Type"], await response.read()
    assert told == (409, "text/x.tlog.size", b"3\n")


async def test_a_silent_witness_is_asked_again_later_and_told_of_once(pair: Pair, session: Any) -> None:
    await pair.log.grow(3)
    gather = pair.gather(session, "http://127.0.0.1:9")
    assert await gather.gather() == 0
    due = await pair.log.store.read(gather.due)
    assert due == pair.log.clock.now() + timedelta(seconds=5)
    assert await gather.gather() == 0  # not before
    pair.log.clock.forward(timedelta(seconds=6))
    assert await gather.gather() == 0
    assert await pair.log.store.read(gather.due) == pair.log.clock.now() + timedelta(seconds=10)
    assert len(pair.warnings) == 1


async def test_a_cosignature_of_another_key_or_of_the_future_is_not_kept(pair: Pair, session: Any) -> None:
    await pair.log.grow(3)
    async with witnessing(pair) as url:
        other = signer(8, WITNESS.name, KeyKind.COSIGNATURE).verifier
        assert await pair.gather(session, url, other).gather() == 0
        pair.witness.clock.forward(timedelta(hours=1))
        assert await pair.gather(session, url).gather() == 0
    assert len(pair.warnings) == 2
    newest = await pair.log.last()
    assert cosigned(pair.log, newest.note) == {}


# The lanes.


async def work(lane: Lane, world: LedgerWorld) -> bool:
    """Do what a lane has due, as the worker does; False where nothing is."""
    now = world.clock.now()
    due = await world.store.read(lane.next_due)
    if due is None or due > now:
        return False
    for row in await world.store.write(lambda tx: lane.claim(tx, now, 1, now + lane.lease)):
        await lane.work(row)
    return True


async def test_the_worker_publishes_what_is_new_at_its_pace(world: LedgerWorld) -> None:
    (lane,) = ledger_lanes(world.clock, world.publisher)
    assert not await work(lane, world)
    await world.enter(2)
    assert await work(lane, world)
    await world.enter(2)
    assert not await work(lane, world)
    world.clock.forward()
    assert await work(lane, world)
    assert (await world.last()).size == 4


async def test_after_a_contradiction_the_worker_tries_again_only_now_and_then(world: LedgerWorld) -> None:
    (lane,) = ledger_lanes(world.clock, world.publisher)
    await world.grow(3)
    await world.enter(1)
    ledger = world.store._tables.ledger
    ledger.put(3, replace(ledger[3], salt=bytes(32)))
    world.clock.forward()
    assert await work(lane, world)
    assert len(world.alarms) == 1
    assert not await work(lane, world)
    world.clock.forward(timedelta(minutes=5))
    assert await work(lane, world)
    assert len(world.alarms) == 2


async def test_the_worker_gathers_cosignatures(pair: Pair, session: Any) -> None:
    async with witnessing(pair) as url:
        lanes = ledger_lanes(pair.log.clock, pair.log.publisher, pair.gather(session, url))
        assert [lane.name for lane in lanes] == ["ledger", "cosignatures"]
        await pair.log.enter(2)
        assert [await work(lane, pair.log) for lane in lanes] == [True, True]
        assert [await work(lane, pair.log) for lane in lanes] == [False, False]
    assert cosigned(pair.log, (await pair.log.last()).note)
