"""The schema's revisions: bring a database to the newest. `storage.revision` refuses to run on any other."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from storage.errors import SchemaError
from storage.postgres.errors import DatabaseRefusedError
from storage.revision import unreadable

_SCRIPTS: Final = Path(__file__).parent / "migrations"
_LOCALE_COLUMNS: Final = """
    SELECT c.relname, a.attname FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r' AND c.relname <> 'alembic_version'
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
    JOIN pg_collation o ON o.oid = a.attcollation AND o.collname = 'default'
    WHERE a.atttypid = 'text'::regtype AND NOT a.attisdropped ORDER BY 1, a.attnum
"""


def sqlite_engine(path: Path) -> Engine:
    """Return an engine for one SQLite file, for migrations only.

    A file that is not there is made, for its owner alone; SQLite gives ``-wal`` and ``-shm`` the same mode.

    Raises:
        OSError: the file can be neither made nor opened.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin late and leave DDL outside
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def head() -> str:
    """Return the newest revision that this program knows."""
    revision = ScriptDirectory(str(_SCRIPTS)).get_current_head()
    if revision is None:
        raise SchemaError("the program carries no migrations")
    return revision


def current(engine: Engine) -> str | None:
    """Return a database's revision; None where it has none.

    Raises:
        DatabaseUnreadableError: the file is no database or cannot be read.
    """
    with _clear_errors(engine), engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring a database to a revision, in one transaction where the dialect can.

    Raises:
        DatabaseUnreadableError: the file is no database or cannot be read.
        SchemaError: the database is at a revision that this program does not know.
    """
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    with _clear_errors(engine), engine.begin() as connection:
        config.attributes["connection"] = connection
        if connection.dialect.name == "postgresql":
            _alone(connection)
        command.upgrade(config, revision)
        if connection.dialect.name == "postgresql":
            _order_by_bytes(connection)


def postgres_engine(url: str) -> Engine:
    """Return an engine for one PostgreSQL database, for migrations only.

    Args:
        url: what `storage.postgres.link.connect` takes.
    """
    from storage.postgres.link import connect_for_migration  # noqa: PLC0415  # embedded: no psycopg

    return create_engine(
        "postgresql+psycopg://", creator=lambda: connect_for_migration(url), poolclass=NullPool
    )


def upgrade_postgres(url: str) -> None:
    """Create or upgrade the schema of a PostgreSQL database, all of it or nothing.

    Raises:
        DatabaseRefusedError: the server is not there or refuses us, or a server of kephs runs on it.
        SchemaError: the database is at a revision that this program does not know.
    """
    engine = postgres_engine(url)
    try:
        upgrade(engine)
    finally:
        engine.dispose()


def upgrade_sqlite(path: Path) -> None:
    """Create or upgrade a SQLite database; raises what `sqlite_engine` and `upgrade` do."""
    engine = sqlite_engine(path)
    try:
        upgrade(engine)
    finally:
        engine.dispose()


def _alone(connection: Connection) -> None:
    """Hold off whoever wants to work on the database until the transaction ends.

    Raises:
        DatabaseRefusedError: somebody works on it already.
    """
    from storage.postgres.link import SERVER_LOCK  # noqa: PLC0415  # embedded: no psycopg

    for _ in range(20):  # a process that ended a moment ago leaves its lock a moment later
        if connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({SERVER_LOCK})").scalar():
            return
        time.sleep(0.1)
    raise DatabaseRefusedError(
        "database-served", "a process of kephs works on the database", "stop every server on it first"
    )


def _order_by_bytes(connection: Connection) -> None:
    """Give text columns the collation "C": order and indexes never depend on the machine's locale.

    A new version of the C library may order a locale's words anew, and indexes built before then miss rows.
    """
    for table, column in connection.exec_driver_sql(_LOCALE_COLUMNS).all():
        connection.exec_driver_sql(f'ALTER TABLE "{table}" ALTER COLUMN "{column}" TYPE text COLLATE "C"')


@contextmanager
def _clear_errors(engine: Engine) -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise SchemaError(f"the database's revision is not known to this program: {error}") from None
    except DatabaseError as error:
        if engine.dialect.name != "sqlite":
            raise
        code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code == sqlite3.SQLITE_ERROR or error.orig is None:
            raise  # SQL that fails is a defect of a migration
        raise unreadable(Path(engine.url.database or ""), error.orig) from None
