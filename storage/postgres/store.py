"""The store on PostgreSQL: one writer per process, writers of several processes one after the other.

Every batch takes one advisory lock at its beginning and holds it to its commit. The ledger is a chain,
and nearly every batch appends to it, so writers wait for each other in any case; waiting first means that
they never hold rows meanwhile: no deadlocks, and under READ COMMITTED each batch sees everything that
earlier ones committed, as on SQLite. Batches grow while they wait (D2), so little is lost.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import Dialect

from kephs.ports import StoreUnavailableError, Tx
from storage.batching import BatchThread, Counters, Job, for_caller
from storage.crypto import Vault
from storage.errors import ReadOnlyError
from storage.postgres.link import (
    WRITER_LOCK,
    Link,
    connect,
    is_aborted,
    is_lost,
    is_outage,
    is_retryable,
    refused,
)
from storage.postgres.schema import join
from storage.rows.repositories import SqlTx
from storage.rows.statements import Database, Texts

T = TypeVar("T")
Work = Callable[[Tx], Any]

READERS: Final = 4
_ATTEMPTS: Final = 4
_SETTLING_SECONDS: Final = 5.0  # how long a commit that got no answer is asked for
_SETTLING_PAUSE: Final = 0.1
_BEGIN: Final = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
    f"SELECT pg_advisory_xact_lock({WRITER_LOCK}); SELECT pg_current_xact_id()::text"
)
_BEGIN_READING: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_FATE: Final = "SELECT pg_xact_status(%s::text::xid8)"


def dialect() -> Dialect:
    """Return the dialect statements are compiled for: named parameters, no RETURNING of its own."""
    made: Any = PGDialect_psycopg(paramstyle="pyformat")  # type: ignore[no-untyped-call]  # SQLAlchemy's
    # Otherwise inserts into numbered tables ask for the number, and an ON CONFLICT appended comes too late.
    made.insert_returning = False
    made.preexecute_autoincrement_sequences = False
    found: Dialect = made
    return found


class _Again(Exception):  # noqa: N818  # no error: a signal inside this module
    """The batch was undone through no fault of its work; run it once more."""


class PostgresDatabase(Database):
    """`Database` on a psycopg connection."""

    def __init__(self, link: Link, texts: Texts, vault: Vault) -> None:
        super().__init__(_Binary(link), texts, vault, psycopg.IntegrityError)

    def serialise(self, name: str) -> None:
        """Do nothing: every batch holds the writers' lock from its first statement on."""


class _Binary:
    """A connection as `Database` wants it; results come in binary form."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def execute(self, sql: str, parameters: Any = None, /) -> Any:
        """Run a statement; the doubled percent signs of its text are undone even without parameters."""
        return self._link.execute(sql, {} if parameters is None else parameters, binary=True)

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        """Run a statement for each of several parameters, in one exchange with the server."""
        cursor = self._link.cursor()
        cursor.executemany(sql, parameters)
        return cursor


class PostgresStore:
    """`kephs.ports.Store` on PostgreSQL.

    Work runs in the writer's thread, each in its own savepoint of the batch's transaction (none where it
    is alone); callers hear of it only after the commit is on disk. One that raises is undone alone. Where
    another transaction is in the way, or the server restarted, the batch runs again: work is repeatable.

    A connection that dies during COMMIT leaves the outcome open. The next connection asks PostgreSQL for
    it (``pg_xact_status``); only where that is not answered within seconds do callers get
    `StoreUnavailableError` for work that may be there. Nothing is done twice then: submissions are found
    by `Messages.accepted_with` (same Message-ID and bytes give the first answer), `Deliveries.decide`,
    `move` and `read` say False the second time, `Evidences.add` raises `DuplicateEvidenceError`,
    `Transfers.add` says False, and work due stays due or is done.

    Args:
        url: of the database; its schema must be current (`storage.postgres.schema`).
        column_key: 32 octets, the key of sealed columns.
        connector: makes connections; tests hand in one that fails.
        readers: how many reads run at the same time.
    """

    def __init__(
        self,
        url: str,
        *,
        column_key: bytes,
        connector: Callable[[str], Link] = connect,
        readers: int = READERS,
    ) -> None:
        self._url = url
        self._connector = connector
        self._vault = Vault(column_key)
        self._texts = Texts(dialect())
        self._writer: BatchThread[Work] = BatchThread(
            "store writer", self._run_batch, on_start=self._open_writer, on_exit=self._drop_writer
        )
        self._link: Link | None = None
        self._tx: SqlTx | None = None
        self._readers = readers
        self._pool: ThreadPoolExecutor | None = None
        self._reading = threading.local()
        self._read_links: list[Link] = []

    @property
    def counters(self) -> Counters:
        """Return how many batches and items were written."""
        return self._writer.counters

    async def start(self) -> None:
        """Open the database.

        Raises:
            DatabaseRefusedError: the server is not there or refuses us.
            SchemaError: the database's revision is not this program's.
        """
        await self._writer.start()
        self._pool = ThreadPoolExecutor(self._readers, thread_name_prefix="store reader")

    async def close(self) -> None:
        """Finish what waits and close; safe to call twice."""
        await self._writer.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.get_running_loop().run_in_executor(None, pool.shutdown)
        while self._read_links:
            self._read_links.pop().close()

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run work in the next batch; durable when this returns.

        Raises:
            StoreUnavailableError: nothing was written, or (see the class) the commit got no answer.
        """
        result: T = await self._writer.submit(work)
        return result

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run work on a consistent snapshot.

        Raises:
            ReadOnlyError: it tried to write.
            StoreUnavailableError: the store is closed or the database does not answer.
        """
        if self._pool is None:
            raise StoreUnavailableError("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run_read, work)

    # The writer's thread.

    def _open_writer(self) -> None:
        try:
            self._writable()
        except BaseException as error:
            self._drop_writer()
            if isinstance(error, psycopg.OperationalError):
                raise refused(self._url, error) from None
            raise

    def _drop_writer(self) -> None:
        link, self._link, self._tx = self._link, None, None
        if link is not None:
            link.close()

    def _writable(self) -> tuple[Link, SqlTx]:
        """Return the writer's connection, opened anew where it was dropped after an error."""
        if self._link is None or self._tx is None:
            self._drop_writer()
            self._link = self._connector(self._url)
            join(self._link)
            self._tx = SqlTx(PostgresDatabase(self._link, self._texts, self._vault))
        return self._link, self._tx

    def _run_batch(self, jobs: Sequence[Job[Work]]) -> None:
        if self._tried(jobs) or len(jobs) == 1:
            return
        for job in jobs:  # somebody is always in the way of all of them together
            self._tried((job,))

    def _tried(self, jobs: Sequence[Job[Work]]) -> bool:
        """Run jobs in one transaction, a few times if need be; False where somebody was always in the way."""
        for _ in range(_ATTEMPTS):
            for job in jobs:
                job.result = job.error = None
            try:
                self._attempt(jobs)
            except _Again as again:
                cause = again.__cause__
            except BaseException as error:  # noqa: BLE001 - the writer lives on and callers hear
                self._give_up(jobs, error)
                return True
            else:
                return True
        self._give_up(jobs, cause)
        return False

    def _attempt(self, jobs: Sequence[Job[Work]]) -> None:
        """Run jobs and commit.

        Raises:
            _Again: nothing was written and the same may succeed at once.
        """
        fresh = self._link is None
        link, tx = self._writable()
        try:
            xid = _begin(link)
            _run_all(link, tx, jobs)
        except BaseException as error:
            stale = is_lost(link) and not fresh  # it broke while it was idle, or the server restarted
            self._drop_writer()
            if is_retryable(error) or stale:
                raise _Again from error
            raise
        try:
            _commit(link)
        except psycopg.Error as error:
            lost = is_lost(link)
            self._drop_writer()
            if is_retryable(error):
                raise _Again from error
            if not lost:
                raise
            if not self._was_committed(xid):
                raise _Again from error

    def _was_committed(self, xid: str) -> bool:
        """Ask for the outcome of a COMMIT that got no answer.

        Raises:
            StoreUnavailableError: nobody answers: the work may or may not be there.
        """
        deadline = time.monotonic() + _SETTLING_SECONDS
        cause: BaseException | None = None
        while time.monotonic() < deadline:
            try:
                link, _ = self._writable()
                row = link.execute(_FATE, (xid,)).fetchone()
            except psycopg.Error as error:
                self._drop_writer()
                cause, row = error, None
            if row is not None and row[0] in {"committed", "aborted"}:
                return bool(row[0] == "committed")
            time.sleep(_SETTLING_PAUSE)
        raise StoreUnavailableError("the commit got no answer: the work may be there") from cause

    def _give_up(self, jobs: Sequence[Job[Work]], error: BaseException | None) -> None:
        """Undo the batch; the next one opens the database anew."""
        unclear = isinstance(error, StoreUnavailableError)
        text = str(error) if unclear else f"nothing was written: {type(error).__name__}"
        try:
            self._drop_writer()
        finally:
            self._link = self._tx = None
            for job in jobs:
                if job.error is None:
                    job.error = StoreUnavailableError(text)
                    job.error.__cause__ = error

    # The readers' threads.

    def _run_read(self, work: Callable[[Tx], T]) -> T:
        try:
            try:
                return self._read_once(work)
            except _Again:  # the connection broke while it was idle
                return self._read_once(work)
        except _Again as again:
            raise StoreUnavailableError("the database cannot be read") from again.__cause__
        except errors.ReadOnlySqlTransaction as error:
            raise ReadOnlyError("work given to read() wrote") from error
        except BaseException as error:
            if is_outage(error):
                raise StoreUnavailableError("the database cannot be read") from error
            failure = for_caller(error)
            if failure is error:
                raise
            raise failure from error

    def _read_once(self, work: Callable[[Tx], T]) -> T:
        fresh = getattr(self._reading, "pair", None) is None
        link, tx = self._readable()
        try:
            link.execute(_BEGIN_READING, prepare=False)
            try:
                tx.begin()
                result = work(tx)
                if is_aborted(link):
                    raise RuntimeError("work went on after the database refused a statement")
                return result
            finally:
                if not is_lost(link):
                    link.execute("ROLLBACK", prepare=False)
        except BaseException as error:
            if not is_lost(link):
                raise
            self._reading.pair = None
            self._read_links.remove(link)
            link.close()
            if fresh or not is_outage(error):
                raise
            raise _Again from error

    def _readable(self) -> tuple[Link, SqlTx]:
        """Return this thread's connection."""
        found: tuple[Link, SqlTx] | None = getattr(self._reading, "pair", None)
        if found is None:
            link = self._connector(self._url)
            found = self._reading.pair = (link, SqlTx(PostgresDatabase(link, self._texts, self._vault)))
            self._read_links.append(link)
        return found


def _begin(link: Link) -> str:
    """Begin a batch: wait for the other writers; return the transaction's number, asked for later."""
    cursor = link.execute(_BEGIN, prepare=False)
    while cursor.nextset():
        pass
    row = cursor.fetchone()
    assert row is not None
    return str(row[0])


def _commit(link: Link) -> None:
    """Make the batch durable.

    Raises:
        psycopg.Error: it is not, or nobody knows.
    """
    done = link.execute("COMMIT", prepare=False).statusmessage
    if done != "COMMIT":  # an aborted transaction answers ROLLBACK, and no error
        raise psycopg.InternalError(f"COMMIT was answered by {done}")


def _run_all(link: Link, tx: SqlTx, jobs: Sequence[Job[Work]]) -> None:
    if len(jobs) == 1:
        if not _run_one(link, tx, jobs[0]):
            link.execute("ROLLBACK", prepare=False)
            link.execute("BEGIN", prepare=False)  # so that one COMMIT ends every batch
        return
    before = ""
    for job in jobs:
        link.execute(before + "SAVEPOINT item", prepare=False)
        before = "RELEASE item; "
        if not _run_one(link, tx, job):
            before = "ROLLBACK TO item; RELEASE item; "
    link.execute(before.removesuffix("; "), prepare=False)


def _run_one(link: Link, tx: SqlTx, job: Job[Work]) -> bool:
    """Run one item; what it raises is kept for its caller. False where it must be undone.

    Raises:
        psycopg.Error: the whole batch is lost, or should run again.
    """
    try:
        tx.begin()
        job.result = job.payload(tx)
        tx.finish()
        if is_aborted(link):
            raise RuntimeError("work went on after the database refused a statement")  # noqa: TRY301
    except BaseException as error:
        if is_lost(link) or is_retryable(error):
            raise
        job.result, job.error = None, error
        if is_outage(error):
            job.error = StoreUnavailableError(f"the database refused: {type(error).__name__}")
            job.error.__cause__ = error
        return False
    return True
