"""The store on SQLite: one writer that commits what arrived together, and snapshot readers (D2)."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy.dialects import sqlite as sqlite_dialect

from kephs.ports import StoreUnavailableError, Tx
from storage.batching import BatchThread, Counters, Job, for_caller
from storage.crypto import Vault
from storage.errors import ReadOnlyError
from storage.revision import check_current
from storage.rows.repositories import SqlTx
from storage.rows.statements import Database, Texts

T = TypeVar("T")
Work = Callable[[Tx], Any]

READERS: Final = 4
_WRITER_PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",  # destroyed data keys leave no trace in free pages
    "cache_size=-65536",
    "journal_size_limit=67108864",
)
_READER_PRAGMAS: Final = ("query_only=ON", "cache_size=-16384")


def is_outage(error: BaseException) -> bool:
    """Say whether the database failed (disk full, I/O, locked, corrupt), not the work given to it."""
    outages = (sqlite3.OperationalError, sqlite3.InternalError)
    return isinstance(error, outages) or type(error) is sqlite3.DatabaseError


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection in autocommit mode; transactions are begun and ended by hand."""
    return sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=30
    )


class SqliteStore:
    """`kephs.ports.Store` on one SQLite file.

    Work runs in the writer's thread, a batch in one transaction; callers hear of it only after the commit is
    on disk. One that raises is undone alone: the batch then runs again, each in its own savepoint.

    Args:
        path: the database file; its schema must be current (`storage.migrate`).
        column_key: 32 octets, the key of sealed columns.
        connector: makes connections; tests hand in one that fails.
    """

    def __init__(
        self,
        path: Path,
        *,
        column_key: bytes,
        connector: Callable[[Path], sqlite3.Connection] = connect,
        readers: int = READERS,
    ) -> None:
        self._path = path
        self._connector = connector
        self._vault = Vault(column_key)
        self._texts = Texts(sqlite_dialect.dialect(paramstyle="named"))
        self._writer: BatchThread[Work] = BatchThread(
            "store writer", self._run_batch, on_start=self._open_writer, on_exit=self._drop_writer
        )
        self._connection: sqlite3.Connection | None = None
        self._tx: SqlTx | None = None
        self._readers = readers
        self._pool: ThreadPoolExecutor | None = None
        self._reading = threading.local()
        self._read_connections: list[sqlite3.Connection] = []

    @property
    def counters(self) -> Counters:
        """Return how many batches and items were written."""
        return self._writer.counters

    async def start(self) -> None:
        """Open the database.

        Raises:
            SchemaError: its revision is not this program's, or it does not exist.
        """
        await self._writer.start()
        self._pool = ThreadPoolExecutor(self._readers, thread_name_prefix="store reader")

    async def close(self) -> None:
        """Finish what waits and close; safe to call twice."""
        await self._writer.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.get_running_loop().run_in_executor(None, pool.shutdown)
        while self._read_connections:
            self._read_connections.pop().close()

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run work in the next batch; durable when this returns.

        Raises:
            StoreUnavailableError: nothing was written.
        """
        result: T = await self._writer.submit(work)
        return result

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run work on a consistent snapshot.

        Raises:
            ReadOnlyError: it tried to write.
            StoreUnavailableError: the store is closed or the disk fails.
        """
        if self._pool is None:
            raise StoreUnavailableError("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run_read, work)

    # The writer's thread.

    def _open_writer(self) -> None:
        check_current(self._path)
        self._writable()

    def _drop_writer(self) -> None:
        connection, self._connection, self._tx = self._connection, None, None
        if connection is not None:
            connection.close()

    def _writable(self) -> tuple[sqlite3.Connection, SqlTx]:
        """Return the writer's connection, opened anew where it was dropped after an error."""
        if self._connection is None or self._tx is None:
            connection = self._connector(self._path)
            for pragma in _WRITER_PRAGMAS:
                connection.execute("PRAGMA " + pragma)
            self._connection = connection
            self._tx = SqlTx(Database(connection, self._texts, self._vault, sqlite3.IntegrityError))
        return self._connection, self._tx

    def _run_batch(self, jobs: Sequence[Job[Work]]) -> None:
        try:
            connection, tx = self._writable()
            connection.execute("BEGIN IMMEDIATE")
            if not _all_went_well(connection, tx, jobs):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                connection.execute("BEGIN IMMEDIATE")
                _run_apart(connection, tx, jobs)
            connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - the writer lives on and callers hear
            self._give_up(jobs, error)

    def _give_up(self, jobs: Sequence[Job[Work]], error: BaseException) -> None:
        """Undo the batch; the next one opens the database anew."""
        try:
            self._drop_writer()
        finally:
            self._connection = self._tx = None
            for job in jobs:
                if job.error is None:
                    job.error = StoreUnavailableError(f"nothing was written: {type(error).__name__}")
                    job.error.__cause__ = error

    # The readers' threads.

    def _run_read(self, work: Callable[[Tx], T]) -> T:
        try:
            connection, tx = self._readable()
            connection.execute("BEGIN")
            try:
                tx.begin()
                return work(tx)
            finally:
                connection.execute("ROLLBACK")
        except BaseException as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY:
                raise ReadOnlyError("work given to read() wrote") from error
            if is_outage(error):
                raise StoreUnavailableError("the database cannot be read") from error
            failure = for_caller(error)
            if failure is error:
                raise
            raise failure from error

    def _readable(self) -> tuple[sqlite3.Connection, SqlTx]:
        """Return this thread's connection."""
        found: tuple[sqlite3.Connection, SqlTx] | None = getattr(self._reading, "pair", None)
        if found is None:
            connection = self._connector(self._path)
            for pragma in _READER_PRAGMAS:
                connection.execute("PRAGMA " + pragma)
            database = Database(connection, self._texts, self._vault, sqlite3.IntegrityError)
            found = self._reading.pair = (connection, SqlTx(database))
            self._read_connections.append(connection)
        return found


def _all_went_well(connection: sqlite3.Connection, tx: SqlTx, jobs: Sequence[Job[Work]]) -> bool:
    """Run all items as one; False where one failed: the transaction is of no use then.

    Behind a savepoint every page that changes is copied; items that fail are rare, and work may be repeated.
    """
    try:
        for job in jobs:
            tx.begin()
            job.result = job.payload(tx)
            tx.finish()
            if not connection.in_transaction:  # SQLite undid everything by itself: disk full, I/O error
                return False
    except BaseException:  # noqa: BLE001 - raised again where it runs apart from the others
        return False
    return True


def _run_apart(connection: sqlite3.Connection, tx: SqlTx, jobs: Sequence[Job[Work]]) -> None:
    """Run each item in a savepoint of its own: one of them fails."""
    for job in jobs:
        _run_one(connection, tx, job)
        if not connection.in_transaction:  # as above
            raise StoreUnavailableError("the transaction ended by itself") from job.error


def _run_one(connection: sqlite3.Connection, tx: SqlTx, job: Job[Work]) -> None:
    """Run one item in its savepoint; what it raises is kept for its caller."""
    connection.execute("SAVEPOINT item")
    try:
        tx.begin()
        job.result = job.payload(tx)
        tx.finish()
    except BaseException as error:  # noqa: BLE001 - one item never hurts the others
        job.error = error
        if is_outage(error):
            job.error = StoreUnavailableError(f"the database refused: {type(error).__name__}")
            job.error.__cause__ = error
        if connection.in_transaction:
            connection.execute("ROLLBACK TO item")
            connection.execute("RELEASE item")
    else:
        connection.execute("RELEASE item")
