"""The ledger over real HTTP: what strangers see, and what they may cost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from evidence.ledger.audit import audit
from evidence.ledger.merkle import leaf_data, leaf_hash
from evidence.ledger.notes import NoteVerifier, open_note
from evidence.ledger.tiles import read_entries, tiles_of
from kephs.ledger.reading import HttpLedger
from kephs.ledger.server import LedgerLimits, serve_ledger
from kephs.ports import StoreUnavailableError
from kephs.usecases.proof.publish_ledger import PublishLedger
from storage.memory.store import MemoryStore
from storage.postgres.store import PostgresStore
from tests.support.ledger_world import LedgerWorld
from tests.support.postgres import ThrowAwayStore
from tests.support.stores import COLUMN_KEY, T0, open_store


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


async def got(session: aiohttp.ClientSession, url: str | URL) -> tuple[int, bytes, Any]:
    async with session.get(url) as response:
        return response.status, await response.read(), response.headers


# What is shown.


async def test_the_newest_checkpoint_is_shown_and_not_kept_for_long(world: LedgerWorld, session: Any) -> None:
    async with served(world) as url:
        assert (await got(session, f"{url}/checkpoint"))[0] == 404
        await world.grow(3)
        made = (await world.grow(2))[0]
        status, body, headers = await got(session, f"{url}/checkpoint")
    assert (status, body) == (200, made.note.encode())
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["Cache-Control"] == "public, max-age=1"
    assert open_note(body, [world.key.verifier]).checkpoint.size == 5


async def test_the_logs_key_is_shown(world: LedgerWorld, session: Any) -> None:
    async with served(world) as url:
        status, body, _ = await got(session, f"{url}/log.vkey")
        assert (await got(session, f"{url}/witness.vkey"))[0] == 404
    assert status == 200
    assert NoteVerifier.parse(body.decode().strip()) == world.key.verifier


async def test_every_tile_of_the_tree_is_served_and_may_be_kept_for_ever(
    world: LedgerWorld, session: Any
) -> None:
    await world.grow(300)
    async with served(world) as url:
        for name in tiles_of(300):
            status, body, headers = await got(session, f"{url}/{name.path}")
            stored = await world.store.read(lambda tx, name=name: tx.tree.tile(name.level, name.number))
            assert (status, body) == (200, stored)
            assert headers["Content-Type"] == "application/octet-stream"
            assert "immutable" in headers["Cache-Control"]


async def test_a_partial_tile_of_an_earlier_checkpoint_is_the_beginning_of_what_it_became(
    world: LedgerWorld, session: Any
) -> None:
    await world.grow(3, 300)
    async with served(world) as url:
        _, full, _ = await got(session, f"{url}/tile/0/000")
        status, part, _ = await got(session, f"{url}/tile/0/000.p/3")
    assert status == 200
    assert part == full[:96]


async def test_entries_are_salted_digests_that_hash_to_the_leaves(world: LedgerWorld, session: Any) -> None:
    await world.grow(260)
    entries = await world.store.read(lambda tx: tx.evidence.ledger(0, 1000))
    async with served(world) as url:
        _, full, _ = await got(session, f"{url}/tile/entries/000")
        _, part, _ = await got(session, f"{url}/tile/entries/001.p/4")
        _, tile, _ = await got(session, f"{url}/tile/0/000")
    data = read_entries(full, 256) + read_entries(part, 4)
    assert data == [leaf_data(entry.salt, entry.evidence_sha256) for entry in entries]
    assert b"".join(leaf_hash(one) for one in data[:256]) == tile
    for entry in entries:  # neither salt nor digest can be read from it
        assert entry.salt not in full + part
        assert entry.evidence_sha256 not in full + part


async def test_nothing_is_served_that_no_checkpoint_covers(world: LedgerWorld, session: Any) -> None:
    await world.grow(3)
    await world.enter(2)
    async with served(world) as url:
        for path in (
            "tile/0/000.p/4",
            "tile/entries/000.p/4",
            "tile/0/000",
            "tile/1/000.p/1",
            "tile/0/001.p/1",
        ):
            assert (await got(session, f"{url}/{path}"))[0] == 404
        assert (await got(session, f"{url}/tile/entries/000.p/3"))[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/tile", "/tile/", "/tile/0/0", "/tile/00/000", "/tile/0/000.p/03", "/tile/0/000.p/0",
        "/tile/0/000.p/256", "/tile/8/000", "/tile/0/x000/000", "/tile/0/%30%30%30", "/tile/0/../0/000",
        "/tile/-1/000", "/tile/0/000/", "/checkpoint/", "/Checkpoint", "/tile/0/" + "x001/" * 6 + "000",
        "/add-checkpoint", "/log.vkey/x",
    ],
    ids=str,
)  # fmt: skip
async def test_only_the_exact_paths_exist(world: LedgerWorld, session: Any, path: str) -> None:
    await world.grow(3)
    async with served(world) as url:
        assert (await got(session, URL(url + path, encoded=True)))[0] == 404


async def test_it_only_reads(world: LedgerWorld, session: Any) -> None:
    await world.grow(3)
    async with served(world) as url:
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            async with session.request(method, f"{url}/checkpoint", data=b"x") as response:
                assert response.status == 405
        async with session.head(f"{url}/checkpoint") as response:
            assert response.status == 200
            assert await response.read() == b""


async def test_entries_that_somebody_took_out_are_not_served(world: LedgerWorld, session: Any) -> None:
    await world.grow(3)
    world.store._tables.ledger.drop(3)
    async with served(world) as url:
        assert (await got(session, f"{url}/tile/entries/000.p/3"))[0] == 404


async def test_a_store_that_does_not_answer_is_told_without_its_reasons(
    world: LedgerWorld, session: Any
) -> None:
    await world.grow(3)

    async def read(_work: Any) -> Any:
        raise StoreUnavailableError("the disk /dev/secret is full")

    async with served(world) as url:
        world.store.read = read
        status, body, headers = await got(session, f"{url}/checkpoint")
    assert (status, headers["Retry-After"]) == (503, "5")
    assert b"secret" not in body


# What strangers may cost.


async def test_full_tiles_are_read_from_the_store_once(world: LedgerWorld, session: Any) -> None:
    await world.grow(256)
    reads = 0
    read = world.store.read

    async def counting(work: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(work)

    async with served(world) as url:
        world.store.read = counting
        for _ in range(5):
            assert (await got(session, f"{url}/tile/0/000"))[0] == 200
    assert reads == 1


async def test_an_address_that_asks_too_often_is_told_to_wait(world: LedgerWorld, session: Any) -> None:
    async with served(world, limits=LedgerLimits(per_second=0.001, burst=3)) as url:
        statuses = [(await got(session, f"{url}/log.vkey"))[0] for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]


async def test_connections_beyond_the_limit_are_closed_and_places_come_back(world: LedgerWorld) -> None:
    async with served(world, limits=LedgerLimits(connections=2)) as url:
        port = int(url.rpartition(":")[2])
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in held:  # both are there before the third comes
            writer.write(b"GET /log.vkey HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET /log.vkey HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.read() == b""
        except ConnectionError:
            pass
        writer.close()
        for _, one in held:
            one.close()
        async with aiohttp.ClientSession() as fresh, asyncio.timeout(10):
            while True:
                try:
                    assert (await got(fresh, f"{url}/log.vkey"))[0] == 200
                    break
                except aiohttp.ClientError:
                    await asyncio.sleep(0)


async def test_a_connection_that_sends_slowly_is_ended(world: LedgerWorld) -> None:
    async with served(world, limits=LedgerLimits(lifetime=0.1, grace=0.1)) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"GET /checkpoint HTTP/1.1\r\nHost:")
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


# A stranger's audit over the wire.


async def test_a_stranger_audits_two_checkpoints_over_http(world: LedgerWorld) -> None:
    old, new = await world.grow(100, 500)
    async with served(world) as url:

        def audited() -> Any:
            with HttpLedger(url) as ledger:
                shown = ledger.checkpoint()
                return shown, audit(old.note.encode(), shown, ledger.tile, world.key.verifier, T0)

        shown, report = await asyncio.to_thread(audited)
    assert shown == new.note.encode()
    assert report.passed, report.failing_step


# Two processes on one database.


@pytest.mark.tools
async def test_two_processes_of_one_instance_publish_one_history() -> None:
    async with open_store("postgres", Path()) as first:
        assert isinstance(first, ThrowAwayStore)
        second = PostgresStore(first.url, column_key=COLUMN_KEY)
        await second.start()
        try:
            worlds = [await LedgerWorld(first).build(), LedgerWorld(second)]
            publishers = [
                PublishLedger(one.store, one.key, one.clock, alarm=one.alarms.append, batch=4)
                for one in worlds
            ]
            for _ in range(5):
                await worlds[0].enter(9)
                await asyncio.gather(*(publisher.publish() for publisher in publishers * 2))
            sizes = [one.size for one in await first.read(lambda tx: tx.tree.checkpoints(0, 100))]
        finally:
            await second.close()
        assert sizes[-1] == 45
        assert all(after - before <= 4 for before, after in pairwise([0, *sizes]))
        assert await worlds[0].found() == set()
        assert worlds[0].alarms + worlds[1].alarms == []
