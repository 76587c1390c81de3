"""Connections to PostgreSQL: how they are opened, which of their errors mean what.

Loaded only where an instance's database is PostgreSQL: embedded instances never load psycopg.
"""

import re
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8Dumper

from storage.postgres.errors import DatabaseRefusedError, DatabaseUrlError

Link: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

WRITER_LOCK: Final = 0x6B657068_77726974  # advisory lock of whoever writes: "kephwrit"
SERVER_LOCK: Final = 0x6B657068_73727672  # shared by running servers, whole for migrations: "kephsrvr"
_PREPARED: Final = 1000  # statements one connection keeps prepared; the store has some hundred
_DEFAULTS: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "kephs",
}
_SESSION: Final = (
    "SET client_min_messages = warning",
    "SET idle_in_transaction_session_timeout = '20s'",  # a stopped process frees what it locked
    "SET lock_timeout = '20s'",
)
_STRONGER: Final = (  # a commit is on disk when it returns, whatever the server's default is
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')"
)
_RETRYABLE: Final = (errors.SerializationFailure, errors.DeadlockDetected)


def connect(url: str) -> Link:
    """Return a connection in autocommit mode; transactions are begun and ended by hand.

    Args:
        url: ``postgresql://user@host/name`` or any libpq connection string; a password may stand in it,
            in a passfile it names, or where ``PGPASSFILE`` says.

    Raises:
        psycopg.OperationalError: there is no connection.
        DatabaseUrlError: the text cannot be read.
    """
    link = psycopg.connect(conninfo(url), autocommit=True)
    try:
        link.prepare_threshold = 0
        link.prepared_max = _PREPARED
        link.adapters.register_dumper(int, Int8Dumper)  # one type, so one prepared statement for each text
        for statement in _SESSION:
            link.execute(statement, prepare=False)
        link.execute(_STRONGER, prepare=False)
    except BaseException:
        link.close()
        raise
    return link


def connect_for_migration(url: str) -> Link:
    """Return a connection as SQLAlchemy wants it: transactions begin by themselves.

    Raises:
        DatabaseRefusedError: the server is not there or refuses us.
        DatabaseUrlError: the text cannot be read.
    """
    try:
        return psycopg.connect(conninfo(url))
    except psycopg.OperationalError as error:
        raise refused(url, error) from None


def conninfo(url: str) -> str:
    """Return libpq's connection string with our defaults where the URL says nothing.

    Raises:
        DatabaseUrlError: the text cannot be read.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:  # its text may quote the password
        raise DatabaseUrlError(
            "the database URL cannot be read; it looks like postgresql://kephs@host/kephs"
        ) from None
    return make_conninfo("", **{**_DEFAULTS, **given})


def shown(url: str) -> str:
    """Return what may be printed of a URL: where it leads and as whom, never the password."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return "(unreadable database URL)"
    host, port = given.get("host") or "local socket", given.get("port")
    who = f"{given['user']}@" if given.get("user") else ""
    return f"{who}{host}{f':{port}' if port else ''}/{given.get('dbname') or given.get('user') or ''}"


def is_outage(error: BaseException) -> bool:
    """Say whether the database failed (gone, full, shutting down, damaged), not the work given to it."""
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return True
    return isinstance(error, psycopg.InternalError) and (error.sqlstate or "").startswith("XX")


def is_retryable(error: BaseException) -> bool:
    """Say whether another transaction was in the way: the same work may succeed at once (40001, 40P01)."""
    return isinstance(error, _RETRYABLE)


def is_lost(link: Link) -> bool:
    """Say whether a connection is gone."""
    return bool(link.closed or link.info.transaction_status is TransactionStatus.UNKNOWN)


def is_aborted(link: Link) -> bool:
    """Say whether the transaction can only be undone: an error was passed over."""
    return link.info.transaction_status is TransactionStatus.INERROR


_REFUSALS: Final = (
    (
        re.compile(
            r"password authentication failed|no password supplied|authentication failed", re.IGNORECASE
        ),
        "database-password",
        "the database does not accept the password",
        "correct it in storage.database_url of kephs.toml, or in the passfile (PGPASSFILE)",
    ),
    (
        re.compile(r'database ".*" does not exist', re.IGNORECASE),
        "database-missing",
        "there is no such database",
        "make it: createdb --template template0 --encoding UTF8 --locale C NAME",
    ),
    (
        re.compile(r'role ".*" does not exist', re.IGNORECASE),
        "database-role",
        "the database knows no such user",
        "make it: createuser NAME; or name another in the URL",
    ),
    (
        re.compile(r"pg_hba\.conf|permission denied for database|not permitted to log in", re.IGNORECASE),
        "database-denied",
        "the database does not let us in",
        "allow this user and host in pg_hba.conf, or GRANT CONNECT",
    ),
    (
        re.compile(r"too many (clients|connections)|remaining connection slots", re.IGNORECASE),
        "database-full",
        "the database takes no more connections",
        "raise max_connections: each process of kephs takes up to seven",
    ),
)


def refused(url: str, error: BaseException) -> DatabaseRefusedError:
    """Return a clear error for a connection that was not made; libpq tells reasons as text alone."""
    text = str(error)
    where = shown(url)
    for pattern, code, sentence, cure in _REFUSALS:
        if pattern.search(text):
            return DatabaseRefusedError(code, f"{where}: {sentence}", cure)
    reason = " ".join(text.split())[:300] or type(error).__name__
    return DatabaseRefusedError(
        "database-unreachable", f"{where}: the database server cannot be reached ({reason})",
        "start it, or correct host and port in the database URL",
    )  # fmt: skip
