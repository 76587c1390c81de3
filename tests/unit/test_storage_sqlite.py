"""The writer on SQLite: batches, savepoints, durability, failing disks, snapshots."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement

from kephs.domain.mailboxes import FolderRole
from kephs.ports import StoreUnavailableError, Tx
from storage.crypto import Vault
from storage.errors import ConflictError, SchemaError
from storage.rows import blobs as blob_rows
from storage.rows import deliveries, evidences, folders, mailboxes, messages, transfers
from storage.rows.repositories import SqlTx
from storage.rows.statements import Database, Params, Row, Texts
from storage.unit_of_work import SqliteStore, connect
from tests.support.stores import (
    COLUMN_KEY,
    account,
    blob,
    evidence,
    item,
    message,
    new_database,
    operator,
    password,
    with_message,
)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_database(tmp_path_factory.mktemp("template"))


@pytest.fixture
async def store(tmp_path: Path, template: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(new_database(tmp_path, template), column_key=COLUMN_KEY)
    await opened.start()
    yield opened
    await opened.close()


def adds(name: str) -> Callable[[Tx], None]:
    return lambda tx: tx.accounts.add(account(name, f"{name}@hs91.kep.tr"))


def ids(tx: Tx) -> list[str]:
    return [a.account_id for a in tx.accounts.all()]


class Spy(sqlite3.Connection):
    """A connection that notes what is run and fails where it is told to, each time as often as it is listed."""

    events: list[str]
    fail_on: dict[str, list[sqlite3.Error]]

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        word = sql.split(maxsplit=1)[0]
        self.events.append(word)
        if self.fail_on.get(word):
            raise self.fail_on[word].pop()
        return super().execute(sql, *args)


def spy_store(path: Path) -> tuple[SqliteStore, list[str], dict[str, list[sqlite3.Error]]]:
    events: list[str] = []
    fail_on: dict[str, list[sqlite3.Error]] = {}

    def connector(database: Path) -> sqlite3.Connection:
        made = sqlite3.connect(database, isolation_level=None, check_same_thread=False, factory=Spy)
        made.events, made.fail_on = events, fail_on
        return made

    return SqliteStore(path, column_key=COLUMN_KEY, connector=connector), events, fail_on


# Batches.


async def test_what_arrives_together_is_committed_together(store: SqliteStore) -> None:
    await asyncio.gather(*(store.write(adds(f"a{n:02}")) for n in range(50)))
    assert store.counters.items == 50
    assert store.counters.batches < 50
    assert len(await store.read(ids)) == 50


async def test_an_item_that_fails_never_takes_its_batch_or_the_writer_with_it(store: SqliteStore) -> None:
    def broken_key(tx: Tx) -> None:
        adds("half")(tx)
        tx.accounts.add(account("half2", "half@hs91.kep.tr"))

    def not_bytes(tx: Tx) -> None:
        adds("half")(tx)
        tx.blobs.get(object())  # type: ignore[arg-type]

    def exits(tx: Tx) -> None:
        adds("half")(tx)
        raise SystemExit

    works = [adds("a1"), broken_key, adds("a2"), not_bytes, adds("a3"), exits, adds("a4")]
    results = await asyncio.gather(*(store.write(work) for work in works), return_exceptions=True)
    assert [r is None for r in results] == [True, False, True, False, True, False, True]
    assert isinstance(results[1], ConflictError)
    assert isinstance(results[3], sqlite3.ProgrammingError)
    assert await store.read(ids) == ["a1", "a2", "a3", "a4"]
    await store.write(adds("a5"))


async def test_savepoints_are_set_only_where_an_item_failed(tmp_path: Path, template: Path) -> None:
    store, events, _ = spy_store(new_database(tmp_path, template))
    await store.start()
    await asyncio.gather(*(store.write(adds(f"a{n}")) for n in range(5)))
    assert "SAVEPOINT" not in events
    again = await asyncio.gather(
        store.write(adds("b1")), store.write(adds("a1")), store.write(adds("b2")), return_exceptions=True
    )
    assert [type(one) for one in again] == [type(None), ConflictError, type(None)]
    assert events.count("SAVEPOINT") == events.count("RELEASE") > 0
    assert await store.read(ids) == ["a0", "a1", "a2", "a3", "a4", "b1", "b2"]
    await store.close()


async def test_a_failed_item_leaves_no_loose_content_behind(store: SqliteStore) -> None:
    def fails(tx: Tx) -> None:
        tx.blobs.add(blob(b"x"))
        raise LookupError

    results = await asyncio.gather(store.write(fails), store.write(adds("a1")), return_exceptions=True)
    assert isinstance(results[0], LookupError)
    assert await store.write(lambda tx: tx.blobs.release_unused(10)) == []


async def test_callers_hear_only_after_the_commit(tmp_path: Path, template: Path) -> None:
    store, events, _ = spy_store(new_database(tmp_path, template))
    await store.start()

    async def write(name: str) -> None:
        await store.write(adds(name))
        events.append("heard")

    await asyncio.gather(write("a1"), write("a2"))
    await store.close()
    begun = events.index("BEGIN")
    assert "heard" not in events[begun : events.index("COMMIT")]
    assert events.index("COMMIT", begun) < events.index("heard")
    assert events.count("heard") == 2


async def test_the_writer_syncs_each_commit(tmp_path: Path, template: Path) -> None:
    path = new_database(tmp_path, template)
    opened: list[sqlite3.Connection] = []

    def connector(database: Path) -> sqlite3.Connection:
        opened.append(connect(database))
        return opened[-1]

    store = SqliteStore(path, column_key=COLUMN_KEY, connector=connector)
    await store.start()
    await store.write(adds("a1"))
    settings = {
        p: opened[0].execute(f"PRAGMA {p}").fetchone()[0]
        for p in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
    }
    await store.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}


@pytest.mark.parametrize("word", ["BEGIN", "COMMIT", "RELEASE", "ROLLBACK", "SAVEPOINT"])
async def test_a_failing_database_fails_the_batch_and_the_writer_lives_on(
    tmp_path: Path, template: Path, word: str
) -> None:
    store, _, fail_on = spy_store(new_database(tmp_path, template))
    await store.start()
    await store.write(adds("before"))
    fail_on[word] = [sqlite3.OperationalError("disk I/O error")]
    if word not in {"BEGIN", "COMMIT"}:  # of the second run, which follows a failure in the first
        fail_on["INSERT"] = [sqlite3.OperationalError("disk I/O error")]
    results = await asyncio.gather(*(store.write(adds(f"x{n}")) for n in range(3)), return_exceptions=True)
    failed = [r for r in results if r is not None]
    assert failed
    assert all(isinstance(r, StoreUnavailableError) for r in failed)
    await store.write(adds("after"))
    kept = [f"x{n}" for n, r in enumerate(results) if r is None]
    assert await store.read(ids) == sorted(["before", "after", *kept])
    await store.close()


async def test_a_database_that_fails_in_an_item_is_unavailable_to_that_item(
    tmp_path: Path, template: Path
) -> None:
    store, _, fail_on = spy_store(new_database(tmp_path, template))
    await store.start()
    fail_on["INSERT"] = [sqlite3.OperationalError("disk I/O error") for _ in range(2)]
    results = await asyncio.gather(store.write(adds("a1")), store.write(adds("a2")), return_exceptions=True)
    assert isinstance(results[0], StoreUnavailableError)
    assert results[1] is None
    assert await store.read(ids) == ["a2"]
    await store.close()


async def test_a_full_disk_is_unavailable_and_what_was_there_stays(tmp_path: Path, template: Path) -> None:
    def connector(path: Path) -> sqlite3.Connection:
        made = connect(path)
        pages = made.execute("PRAGMA page_count").fetchone()[0]
        made.execute(f"PRAGMA max_page_count={pages + 8}")
        return made

    store = SqliteStore(new_database(tmp_path, template), column_key=COLUMN_KEY, connector=connector)
    await store.start()
    await store.write(adds("before"))
    results = await asyncio.gather(
        *(store.write(adds(f"x{n:04}")) for n in range(400)), return_exceptions=True
    )
    assert {type(r) for r in results} <= {type(None), StoreUnavailableError}
    assert StoreUnavailableError in {type(r) for r in results}
    kept = {f"x{n:04}" for n, r in enumerate(results) if r is None}
    assert set(await store.read(ids)) == kept | {"before"}
    await store.close()


async def test_closing_finishes_what_waits(tmp_path: Path, template: Path) -> None:
    path = new_database(tmp_path, template)
    store = SqliteStore(path, column_key=COLUMN_KEY)
    await store.start()
    waiting = [asyncio.ensure_future(store.write(adds(f"a{n:03}"))) for n in range(300)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*waiting)
    again = SqliteStore(path, column_key=COLUMN_KEY)
    await again.start()
    assert len(await again.read(ids)) == 300
    await again.close()


async def test_a_store_that_was_not_started_takes_no_work(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "none.db", column_key=COLUMN_KEY)
    with pytest.raises(StoreUnavailableError):
        await store.write(adds("a1"))
    with pytest.raises(StoreUnavailableError):
        await store.read(ids)
    await store.close()


def test_the_writer_outlives_an_event_loop_that_is_gone(tmp_path: Path, template: Path) -> None:
    store = SqliteStore(new_database(tmp_path, template), column_key=COLUMN_KEY)

    async def leave() -> None:
        await store.start()
        task = asyncio.ensure_future(store.write(adds("a1")))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())

    async def come_back() -> list[str]:
        await store.write(adds("a2"))
        found = await store.read(ids)
        await store.close()
        return found

    assert "a2" in asyncio.run(come_back())


async def test_writers_of_the_ledger_go_one_after_the_other_before_they_read_its_end(
    tmp_path: Path, template: Path
) -> None:
    events: list[str] = []

    class Several(Database):
        def serialise(self, name: str) -> None:
            events.append(name)

        def row(self, statement: ClauseElement, params: Params) -> Row | None:
            if statement is evidences._TAIL:
                events.append("tail")
            return super().row(statement, params)

    connection = connect(new_database(tmp_path, template))
    texts = Texts(sqlite.dialect(paramstyle="named"))
    tx = SqlTx(Several(connection, texts, Vault(COLUMN_KEY), sqlite3.IntegrityError))
    with_message(tx)
    tx.evidence.add(evidence())
    connection.close()
    assert events == ["ledger", "tail"]


# Reading.


async def test_a_read_sees_one_moment(store: SqliteStore) -> None:
    await store.write(adds("a1"))
    loop = asyncio.get_running_loop()

    def twice(tx: Tx) -> tuple[list[str], list[str]]:
        first = ids(tx)
        asyncio.run_coroutine_threadsafe(store.write(adds("a2")), loop).result(10)
        return first, ids(tx)

    assert await store.read(twice) == (["a1"], ["a1"])
    assert await store.read(ids) == ["a1", "a2"]


async def test_what_was_written_is_seen_by_the_next_read(store: SqliteStore) -> None:
    for n in range(30):
        await store.write(adds(f"a{n:02}"))
        assert len(await store.read(ids)) == n + 1


async def test_many_reads_run_at_once(store: SqliteStore) -> None:
    await store.write(adds("a1"))
    assert await asyncio.gather(*(store.read(ids) for _ in range(40))) == [["a1"]] * 40


async def test_a_read_that_fails_leaves_its_connection_usable(store: SqliteStore) -> None:
    def fails(_tx: Tx) -> None:
        raise SystemExit

    for _ in range(8):
        with pytest.raises(RuntimeError, match="SystemExit"):
            await store.read(fails)
    assert await store.read(ids) == []


# Opening again.


async def test_everything_is_there_after_reopening(tmp_path: Path, template: Path) -> None:
    path = new_database(tmp_path, template)
    store = SqliteStore(path, column_key=COLUMN_KEY)
    await store.start()

    def fill(tx: Tx) -> None:
        tx.accounts.add(account())
        tx.accounts.add_operator(operator())
        tx.accounts.add_password(password())
        tx.mailboxes.create_standard("a1", 1)
        tx.blobs.add(blob())
        tx.blobs.set_index(blob().sha256, b"index")
        tx.messages.add(message())
        tx.mailboxes.append(tx.mailboxes.by_role("a1", FolderRole.SENT).folder_id, item())

    await store.write(fill)
    await store.close()
    again = SqliteStore(path, column_key=COLUMN_KEY)
    await again.start()
    assert await again.read(lambda tx: tx.messages.get("m1")) == message()
    assert await again.read(lambda tx: tx.accounts.operators("a1")) == [operator()]
    assert await again.read(lambda tx: tx.accounts.passwords("a1")) == [password()]
    assert await again.read(lambda tx: tx.blobs.index(blob().sha256)) == b"index"
    sent = await again.read(lambda tx: tx.mailboxes.folder("a1", "Giden"))
    assert sent is not None
    assert (sent.messages, sent.uid_next) == (1, 2)
    await again.close()


async def test_no_personal_text_lies_readable_in_the_database(tmp_path: Path, template: Path) -> None:
    path = new_database(tmp_path, template)
    store = SqliteStore(path, column_key=COLUMN_KEY)
    await store.start()

    def fill(tx: Tx) -> None:
        tx.accounts.add(account(holder_name="Gizliholder"))
        tx.accounts.add_operator(operator())
        tx.accounts.add_password(password())
        tx.blobs.add(blob())
        tx.blobs.set_index(blob().sha256, b"Gizliindex")
        tx.messages.add(message(subject="Gizlikonu"))

    await store.write(fill)
    await store.close()
    data = b"".join(p.read_bytes() for p in tmp_path.glob("kephs.db*"))
    for text in ("Gizli", "Çiğdem", "Veli Demir", "telefonu", "ihtar", "acme"):
        assert text.encode() not in data


async def test_another_column_key_opens_nothing(tmp_path: Path, template: Path) -> None:
    path = new_database(tmp_path, template)
    store = SqliteStore(path, column_key=COLUMN_KEY)
    await store.start()
    await store.write(lambda tx: tx.accounts.add(account()))
    await store.close()
    other = SqliteStore(path, column_key=bytes(32))
    await other.start()
    with pytest.raises(Exception, match="accounts:a1"):
        await other.read(lambda tx: tx.accounts.get("a1"))
    await other.close()


@pytest.mark.parametrize("what", ["missing", "empty", "older"])
async def test_a_database_that_is_not_current_is_refused(tmp_path: Path, template: Path, what: str) -> None:
    path = tmp_path / "kephs.db"
    if what == "empty":
        path.touch()
    if what == "older":
        new_database(tmp_path, template)
        connection = sqlite3.connect(path)
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
        connection.commit()
        connection.close()
    store = SqliteStore(path, column_key=COLUMN_KEY)
    with pytest.raises(SchemaError, match="kephs migrate"):
        await store.start()
    await store.close()


async def test_hot_queries_use_their_indexes(store: SqliteStore, tmp_path: Path) -> None:
    connection = connect(tmp_path / "kephs.db")
    dialect = sqlite.dialect(paramstyle="named")
    statements = [
        messages._ACCEPTED_WITH,
        messages._CLAIMABLE,
        messages._NEXT_DUE,
        messages._TAKE_OVER,
        messages._LET_DISPATCH_GO,
        deliveries._OF_MESSAGE,
        evidences._CLAIMABLE,
        evidences._NEXT_DUE,
        evidences._TAKE_OVER,
        transfers._CLAIMABLE,
        transfers._CLAIMABLE_WAITING,
        transfers._TAKE_OVER_QUEUED,
        transfers._TAKE_OVER_WAITING,
        transfers._NEXT_QUEUED,
        transfers._NEXT_WAITING,
        transfers._NEXT_DEADLINE,
        transfers._SAME,
        transfers._COUNTS,
        transfers._LIST,
        transfers._ALL,
        folders._DELETE_ITEMS,
        folders._FORGET_REMOVED,
        folders._LOOSEN_ITEMS,
        evidences._TAIL,
        mailboxes._SUMMARIES,
        mailboxes._SINCE,
        mailboxes._EXPUNGED,
        mailboxes._WITH_CONTENT,
        mailboxes._FILED,
        mailboxes._FILED_ONCE,
        blob_rows._REFERENCES,
        blob_rows._LOOSE,
    ]
    for statement in statements:
        compiled = statement.compile(dialect=dialect)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {compiled}", compiled.params).fetchall()
        scans = [step[3] for step in plan if step[3].startswith("SCAN") and "USING" not in step[3]]
        allowed = {"SCAN CONSTANT ROW", "SCAN loose_blobs", "SCAN ledger"}  # in key order, with a limit
        assert set(scans) <= allowed, (str(compiled), plan)
        sorts = [step[3] for step in plan if "TEMP B-TREE" in step[3]]
        assert set(sorts) <= {"USE TEMP B-TREE FOR RIGHT PART OF ORDER BY"}, (
            str(compiled),
            plan,
        )  # ties only
    connection.close()
