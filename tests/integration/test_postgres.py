"""The store on PostgreSQL: batches, lost connections, lost commits, two writers side by side."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors

from directory.accounts import Operator
from evidence.ledger.chain import GENESIS, entry_hash
from evidence.model.records import EvidenceKind
from kephs.domain.messages import Submission
from kephs.ports import DuplicateEvidenceError, StoreUnavailableError, Tx
from storage.errors import ConflictError
from storage.postgres.link import WRITER_LOCK
from storage.postgres.store import PostgresStore
from tests.support.postgres import (
    FaultyConnector,
    PostgresServer,
    fails_with,
    lost_after,
    lost_before,
    running,
)
from tests.support.stores import (
    COLUMN_KEY,
    T0,
    account,
    after,
    blob,
    evidence,
    inbox,
    item,
    message,
    operator,
    release,
    with_account,
    with_message,
)

pytestmark = pytest.mark.tools


@pytest.fixture
def url() -> Iterator[str]:
    made = running().fresh()
    yield made
    running().drop(made)


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(url, column_key=COLUMN_KEY, **options)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    async with opened(url) as made:
        yield made


def adds(name: str) -> Callable[[Tx], None]:
    return lambda tx: tx.accounts.add(account(name, f"{name}@hs91.kep.tr"))


def ids(tx: Tx) -> list[str]:
    return [a.account_id for a in tx.accounts.all()]


def used(tx: Tx) -> int:
    found = tx.accounts.get("a1")
    assert found is not None
    return found.used_bytes


# Batches.


async def test_what_arrives_together_is_committed_together(store: PostgresStore) -> None:
    await asyncio.gather(*(store.write(adds(f"a{n:02}")) for n in range(50)))
    assert store.counters.items == 50
    assert store.counters.batches < 50
    assert len(await store.read(ids)) == 50


async def test_an_item_that_fails_never_takes_its_batch_or_the_writer_with_it(store: PostgresStore) -> None:
    def broken_key(tx: Tx) -> None:
        adds("half")(tx)
        tx.accounts.add(account("half2", "half@hs91.kep.tr"))

    def broken_reference(tx: Tx) -> None:
        adds("half")(tx)
        tx.accounts.add_operator(_stranger())

    def not_text(tx: Tx) -> None:
        adds("half")(tx)
        tx.accounts.get("nul\0byte")

    def exits(tx: Tx) -> None:
        adds("half")(tx)
        raise SystemExit

    works = [adds("a1"), broken_key, adds("a2"), broken_reference, adds("a3"), not_text, exits, adds("a4")]
    results = await asyncio.gather(*(store.write(work) for work in works), return_exceptions=True)
    assert [type(r) for r in results] == [
        type(None), ConflictError, type(None), ConflictError, type(None), psycopg.DataError, RuntimeError,
        type(None),
    ]  # fmt: skip
    assert await store.read(ids) == ["a1", "a2", "a3", "a4"]
    for work in (broken_key, broken_reference, not_text, exits):  # the same, each alone in its batch
        with pytest.raises((ConflictError, psycopg.DataError, RuntimeError)):
            await store.write(work)
    assert await store.read(ids) == ["a1", "a2", "a3", "a4"]
    await store.write(adds("a5"))


def _stranger() -> Operator:
    return operator("o9", "nobody")


@pytest.mark.parametrize("neighbours", [0, 3])
async def test_work_that_passes_over_a_database_error_is_never_taken_for_done(
    store: PostgresStore, neighbours: int
) -> None:
    def passes_over(tx: Tx) -> str:
        adds("half")(tx)
        try:
            tx.accounts.add_operator(_stranger())
        except ConflictError:
            return "done, it says"
        return "no conflict"

    results = await asyncio.gather(
        store.write(passes_over), *(store.write(adds(f"a{n}")) for n in range(neighbours)),
        return_exceptions=True,
    )  # fmt: skip
    assert isinstance(results[0], RuntimeError)
    assert await store.read(ids) == [f"a{n}" for n in range(neighbours)]


async def test_a_commit_is_on_disk_whatever_the_servers_default_is(url: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    running().sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
    connector = FaultyConnector()
    async with opened(url, connector=connector) as store:
        found: list[Any] = []

        def looks(link: Any, run: Callable[[], Any]) -> Any:
            found.append(link.execute("SHOW synchronous_commit").fetchone())
            return run()

        connector.plan["COMMIT"] = [looks]
        await store.write(adds("a1"))
        assert found == [("on",)]


async def test_a_closed_store_takes_nothing_and_leaves_no_connection(url: str) -> None:
    async with opened(url) as store:
        await store.write(adds("a1"))
        await store.read(ids)
        assert running().backends(url)
    for use in (store.write, store.read):
        with pytest.raises(StoreUnavailableError):
            await use(ids)
    assert not running().backends(url)


async def test_embedded_instances_never_load_psycopg() -> None:
    code = (
        "import sys, kephs.cli.main, kephs.instances.databases, kephs.instances.keys, storage.migrate, storage.unit_of_work;"
        "sys.exit('psycopg' in sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


# Somebody is in the way.


@pytest.mark.parametrize("error", [errors.SerializationFailure, errors.DeadlockDetected])
@pytest.mark.parametrize("word", ["BEGIN", "INSERT", "COMMIT"])
async def test_work_another_transaction_was_in_the_way_of_runs_again(
    url: str, error: type[Exception], word: str
) -> None:
    connector = FaultyConnector()
    async with opened(url, connector=connector) as store:
        connector.plan[word] = [fails_with(error("in the way"))] * 2
        await asyncio.gather(*(store.write(adds(f"a{n}")) for n in range(5)))
        assert await store.read(ids) == [f"a{n}" for n in range(5)]
        assert not connector.plan[word]


async def test_work_that_always_finds_somebody_in_the_way_ends_and_its_neighbours_do_not(url: str) -> None:
    def unlucky(tx: Tx) -> None:
        adds("unlucky")(tx)
        raise errors.DeadlockDetected("always")

    async with opened(url) as store:
        results = await asyncio.gather(
            store.write(adds("a1")), store.write(unlucky), store.write(adds("a2")), return_exceptions=True
        )
        assert [type(r) for r in results] == [type(None), StoreUnavailableError, type(None)]
        assert await store.read(ids) == ["a1", "a2"]


# Lost connections.


async def test_connections_that_were_cut_while_idle_are_made_anew_unnoticed(
    store: PostgresStore, url: str
) -> None:
    await store.write(adds("a1"))
    await asyncio.gather(*(store.read(ids) for _ in range(8)))
    running().cut(url)
    await asyncio.gather(*(store.write(adds(f"b{n}")) for n in range(3)))
    running().cut(url)
    assert await store.read(ids) == ["a1", "b0", "b1", "b2"]


@pytest.mark.parametrize("word", ["BEGIN", "SAVEPOINT", "INSERT", "RELEASE"])
async def test_a_batch_that_lost_its_connection_runs_again_on_another(url: str, word: str) -> None:
    connector = FaultyConnector()
    async with opened(url, connector=connector) as store:
        await store.write(adds("a0"))
        connector.plan[word] = [lost_before]
        await asyncio.gather(*(store.write(adds(f"b{n}")) for n in range(3)))
        assert await store.read(ids) == ["a0", "b0", "b1", "b2"]


async def test_a_database_that_is_away_is_unavailable_until_it_is_back(url: str) -> None:
    connector = FaultyConnector()
    async with opened(url, connector=connector) as store:
        await store.write(adds("a0"))
        await store.read(ids)
        connector.refusing = True
        running().cut(url)
        for use in (store.write, store.read):
            with pytest.raises(StoreUnavailableError):
                await use(adds("a1"))
        connector.refusing = False
        await store.write(adds("a2"))
        assert await store.read(ids) == ["a0", "a2"]


@pytest.mark.slow
async def test_what_was_answered_outlives_a_crash_of_the_server() -> None:
    server = PostgresServer()
    try:
        url = server.fresh()
        async with opened(url) as store:
            await store.write(adds("a1"))
            server.stop()
            with pytest.raises(StoreUnavailableError):
                await store.write(adds("a2"))
            with pytest.raises(StoreUnavailableError):
                await store.read(ids)
            server.start()
            await store.write(adds("a3"))
            assert await store.read(ids) == ["a1", "a3"]
    finally:
        server.close()


# Commits without an answer.


@pytest.mark.parametrize("fault", [lost_before, lost_after], ids=["before", "after"])
async def test_a_commit_that_got_no_answer_is_asked_for_and_never_done_twice(url: str, fault: Any) -> None:
    runs: list[str] = []

    def counts(tx: Tx) -> None:
        runs.append("run")
        tx.accounts.add_usage("a1", 100)

    connector = FaultyConnector()
    async with opened(url, connector=connector) as store:
        await store.write(with_account)
        connector.plan["COMMIT"] = [fault]
        await store.write(counts)
        assert await store.read(used) == 100
        assert len(runs) == (2 if fault is lost_before else 1)


async def test_after_a_commit_nobody_can_ask_for_the_same_submission_gives_the_first_answer(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class's promise: `accepted_with` covers submissions, `add` covers their evidence."""
    monkeypatch.setattr("storage.postgres.store._SETTLING_SECONDS", 0.2)

    def submits(message_id: str, evidence_id: str) -> Callable[[Tx], Submission]:
        def work(tx: Tx) -> Submission:
            first = tx.messages.accepted_with("a1", "<one@client>")
            if first is not None:
                return first
            made = message(message_id, user_message_id="<one@client>")
            tx.messages.add(made)
            tx.blobs.add(blob(evidence_id.encode()))
            tx.evidence.add(evidence(evidence_id, message_id=message_id))
            return made

        return work

    connector = FaultyConnector()
    async with opened(url, connector=connector) as store:
        await store.write(with_account)

        def lost_for_good(link: Any, run: Callable[[], Any]) -> Any:
            connector.refusing = True
            return lost_after(link, run)

        connector.plan["COMMIT"] = [lost_for_good]
        with pytest.raises(StoreUnavailableError, match="may be there"):
            await store.write(submits("m1", "e1"))
        connector.refusing = False
        again = await store.write(submits("m2", "e2"))
        assert again.message_id == "m1"
        with pytest.raises(DuplicateEvidenceError):
            await store.write(
                lambda tx: tx.evidence.add(evidence("e1b", message_id="m1", blob=blob(b"e1").sha256))
            )
        assert [e.evidence_id for e in await store.read(lambda tx: tx.evidence.ledger(0, 10))] == ["e1"]


# Two writers.


@asynccontextmanager
async def pair(url: str) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    async with opened(url) as one, opened(url) as two:
        yield one, two


async def test_two_writers_keep_one_unbroken_ledger(url: str) -> None:
    def seals(number: int) -> Callable[[Tx], None]:
        def work(tx: Tx) -> None:
            name = f"e{number:03}"
            tx.messages.add(message(f"m{number}"))
            tx.blobs.add(blob(name.encode()))
            tx.evidence.add(evidence(name, message_id=f"m{number}"))

        return work

    async with pair(url) as (one, two):
        await one.write(with_account)
        await asyncio.gather(*((one if n % 2 else two).write(seals(n)) for n in range(300)))
        entries = await two.read(lambda tx: tx.evidence.ledger(0, 1000))
        assert one.counters.failed == two.counters.failed == 0
    previous = GENESIS
    for number, entry in enumerate(entries, 1):
        assert (entry.number, entry.previous) == (number, previous)
        previous = entry_hash(number, previous, entry.evidence_id, entry.evidence_sha256, entry.at)
        assert entry.hash == previous
    assert len(entries) == 300


async def test_two_writers_give_every_item_its_own_uid_and_count_all(url: str) -> None:
    async with pair(url) as (one, two):
        await one.write(with_account)

        def files(tx: Tx) -> int:
            return tx.mailboxes.append(inbox(tx), item(size=10))

        uids = await asyncio.gather(*((one if n % 2 else two).write(files) for n in range(200)))
        assert sorted(uids) == list(range(1, 201))
        folder = await one.read(lambda tx: tx.mailboxes.folder("a1", "INBOX"))
        assert folder is not None
        assert (folder.messages, folder.uid_next, folder.unseen) == (200, 201, 200)
        assert await two.read(used) == 2000


async def test_two_workers_never_claim_the_same(url: str) -> None:
    async with pair(url) as (one, two):
        await one.write(with_account)

        def fill(tx: Tx) -> None:
            for n in range(100):
                tx.messages.add(message(f"m{n:03}", next_at=T0))

        await one.write(fill)
        until = T0 + timedelta(minutes=5)

        async def claims(store: PostgresStore, by: str) -> list[str]:
            return [
                m.message_id
                for _ in range(10)
                for m in await store.write(lambda tx: tx.messages.claim(after(1), 7, until, by))
            ]

        both = await asyncio.gather(claims(one, "one"), claims(two, "two"))
        claimed = [message_id for each in both for message_id in each]
        assert sorted(claimed) == [f"m{n:03}" for n in range(100)]
        await one.write(lambda tx: tx.messages.take_over("one", after(2)))
        freed = await two.write(lambda tx: tx.messages.claim(after(2), 200, until, "two"))
        assert sorted(m.message_id for m in freed) == sorted(both[0]), "only what the dead one held"


async def test_one_event_gets_one_evidence_whoever_makes_it(url: str) -> None:
    async with pair(url) as (one, two):
        await one.write(with_message)

        def reads(evidence_id: str) -> Callable[[Tx], object]:
            row = evidence(evidence_id, EvidenceKind(60), number=1, blob=blob(b"e1").sha256)
            return lambda tx: tx.evidence.add(row)

        results = await asyncio.gather(
            *((one if n % 2 else two).write(reads(f"r{n}")) for n in range(20)), return_exceptions=True
        )
        assert sum(not isinstance(r, Exception) for r in results) == 1
        assert all(isinstance(r, DuplicateEvidenceError) for r in results if isinstance(r, Exception))


async def test_content_somebody_refers_to_again_is_not_released_by_the_other(url: str) -> None:
    """Without order among writers one would count references while the other adds one."""
    async with pair(url) as (one, two):
        await one.write(with_account)
        for n in range(30):
            content = f"content {n}".encode()

            def names(tx: Tx, content: bytes = content) -> None:
                tx.blobs.add(blob(content))

            def files(tx: Tx, content: bytes = content) -> None:
                tx.blobs.add(blob(content))
                tx.mailboxes.append(inbox(tx), item(content))

            def kept(tx: Tx, content: bytes = content) -> bool:
                return tx.blobs.get(blob(content).sha256) is not None

            await one.write(names)
            await asyncio.gather(one.write(release), two.write(files))
            assert await one.read(kept)


async def test_a_writer_waits_for_the_other_and_not_for_readers(url: str) -> None:
    async with opened(url) as store:
        await store.write(adds("a1"))
        with psycopg.connect(url) as other:
            other.execute(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")
            waiting = asyncio.ensure_future(store.write(adds("a2")))
            assert await store.read(ids) == ["a1"]
            assert not waiting.done()
        await waiting
        assert await store.read(ids) == ["a1", "a2"]


async def test_a_read_sees_one_moment(url: str) -> None:
    loop = asyncio.get_running_loop()
    async with pair(url) as (one, two):
        await one.write(adds("a1"))

        def reads(tx: Tx) -> tuple[list[str], list[str]]:
            before = ids(tx)
            asyncio.run_coroutine_threadsafe(two.write(adds("a2")), loop).result(30)
            return before, ids(tx)

        assert await one.read(reads) == (["a1"], ["a1"])
        assert await one.read(ids) == ["a1", "a2"]
