"""The schema on PostgreSQL: whether a database is fit, empty, current; bringing it to the newest revision."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from storage.crypto import KeyMismatchError, unwrap_key
from storage.errors import SchemaError
from storage.postgres.errors import DatabaseRefusedError
from storage.postgres.link import SERVER_LOCK, Link, connect, refused, shown
from storage.revision import HEAD

OLDEST: Final = 140000  # pg_xact_status of 64-bit ids and the planner we measured with

_TABLES: Final = (
    "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1"
)
_KINDS: Final = (
    "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),"
    " current_setting('fsync'), current_setting('full_page_writes'),"
    " has_schema_privilege(current_schema(), 'CREATE')"
)


@contextmanager
def opened(url: str) -> Iterator[Link]:
    """Open a connection for the block.

    Raises:
        DatabaseRefusedError: the server is not there or refuses us.
        DatabaseUrlError: the text is no database URL.
    """
    try:
        link = connect(url)
    except psycopg.OperationalError as error:
        raise refused(url, error) from None
    try:
        yield link
    finally:
        link.close()


def check_current_postgres(url: str) -> None:
    """Check that a database is at this program's revision.

    Raises:
        DatabaseRefusedError: the server is not there or refuses us.
        SchemaError: the database is at another revision, or at none.
    """
    with opened(url) as link:
        _check_revision(link)


def join(link: Link) -> None:
    """Note on a connection that somebody works on the database, so that no migration begins meanwhile.

    The lock is shared by all who work there and goes with the connection.

    Raises:
        SchemaError: a migration runs, or the database is not at this program's revision.
    """
    if not _one(link, f"SELECT pg_try_advisory_lock_shared({SERVER_LOCK})")[0]:
        raise SchemaError("the database is being migrated; try again in a moment")
    _check_revision(link)


def check_new(url: str) -> None:
    """Check that a new instance may be made in a database: fit, and empty.

    Raises:
        DatabaseRefusedError: it is not; the text names the cure.
    """
    with opened(url) as link:
        for problem in problems(link, url):
            raise problem
        tables = [str(row[0]) for row in link.execute(_TABLES, prepare=False).fetchall()]
    if "alembic_version" in tables and "ledger" in tables:
        raise DatabaseRefusedError(
            "database-in-use", f"{shown(url)} holds another instance's data",
            "make an empty database for this one; kephs never takes over what it did not make",
        )  # fmt: skip
    if tables:
        raise DatabaseRefusedError(
            "database-not-empty", f"{shown(url)} holds {len(tables)} tables, such as {tables[0]}",
            "make an empty database for kephs alone",
        )  # fmt: skip


def problems(link: Link, url: str) -> Iterator[DatabaseRefusedError]:
    """Yield what keeps a database from being used at all."""
    row = _one(link, _KINDS)
    version, encoding, fsync, full_pages, may_create = row
    del fsync, full_pages
    if version < OLDEST:
        yield DatabaseRefusedError(
            "database-old", f"{shown(url)} is PostgreSQL {version // 10000}", "use PostgreSQL 14 or newer"
        )
    if encoding != "UTF8":
        yield DatabaseRefusedError(
            "database-encoding", f"{shown(url)} stores text as {encoding}, Turkish names need UTF8",
            "make it: createdb --template template0 --encoding UTF8 --locale C NAME",
        )  # fmt: skip
    if not may_create:
        yield DatabaseRefusedError(
            "database-denied", f"{shown(url)}: this user may not make tables",
            "make the user its owner: ALTER DATABASE NAME OWNER TO USER, or GRANT CREATE ON SCHEMA public",
        )  # fmt: skip


def unsafe_settings(url: str) -> list[str]:
    """Return the server's settings that lose what was answered for when the power fails (asked by doctor).

    Raises:
        DatabaseRefusedError: the server is not there or refuses us.
    """
    with opened(url) as link:
        _, _, fsync, full_pages, _ = _one(link, _KINDS)
    found = {"fsync": fsync, "full_page_writes": full_pages}
    return [f"{name} = {value}" for name, value in found.items() if value != "on"]


def in_use_postgres(url: str) -> bool:
    """Say whether a database at the current schema holds accounts or content: its keys matter already.

    Raises:
        DatabaseRefusedError: the server is not there or refuses us.
    """
    query = "SELECT EXISTS (SELECT 1 FROM accounts) OR EXISTS (SELECT 1 FROM blobs)"
    with opened(url) as link:
        return bool(_one(link, query)[0])


def opens_content_postgres(url: str, blob_key: bytes) -> bool:
    """Say whether a key opens the data key of the database's content; true where there is no content.

    Raises:
        DatabaseRefusedError: the server is not there or refuses us.
    """
    with opened(url) as link:
        row = link.execute("SELECT data_key FROM blobs LIMIT 1", prepare=False).fetchone()
    try:
        return row is None or bool(unwrap_key(blob_key, bytes(row[0])))
    except KeyMismatchError:
        return False


def _check_revision(link: Link) -> None:
    found = _revision(link)
    if found != HEAD:
        raise SchemaError(
            f"the database is at revision {found or 'none'}, this program needs {HEAD}; run `kephs migrate`"
        )


def _revision(link: Link) -> str | None:
    try:
        row = link.execute("SELECT version_num FROM alembic_version", prepare=False).fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return None if row is None else str(row[0])


def _one(link: Link, query: str) -> tuple[Any, ...]:
    row = link.execute(query, prepare=False).fetchone()
    assert row is not None
    return tuple(row)
