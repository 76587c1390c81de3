"""Which database an instance has: SQLite in a file, or PostgreSQL where `storage.database_url` names one.

What is for PostgreSQL is loaded only there: embedded instances never load psycopg.
"""
# ruff: noqa: PLC0415

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from config.settings import Settings
from kephs.ports import Tx
from storage import key_check
from storage.revision import check_current

if TYPE_CHECKING:
    from storage.postgres.store import PostgresStore
    from storage.unit_of_work import SqliteStore

InstanceStore: TypeAlias = "SqliteStore | PostgresStore"
T = TypeVar("T")


def open_database(settings: Settings, *, column_key: bytes) -> InstanceStore:
    """Return the instance's store, not started; ``start`` raises `SchemaError` where it cannot be used."""
    storage = settings.storage
    if storage.database_url:
        from storage.postgres.store import PostgresStore

        return PostgresStore(storage.database_url, column_key=column_key)
    from storage.unit_of_work import SqliteStore

    return SqliteStore(storage.database, column_key=column_key)


def at_once(settings: Settings, work: Callable[[Tx], T], *, column_key: bytes, write: bool = False) -> T:
    """Return what one piece of work on the instance's database gives, without a store; committed then.

    Raises:
        DatabaseRefusedError: the PostgreSQL server is not there or refuses us.
        SchemaError: the database is missing, unreadable, or not at this program's revision.
    """
    storage = settings.storage
    if storage.database_url:
        from storage.postgres.at_once import postgres_at_once

        return postgres_at_once(storage.database_url, work, column_key=column_key, write=write)
    from storage.at_once import sqlite_at_once

    return sqlite_at_once(storage.database, work, column_key=column_key, write=write)


def upgrade_database(settings: Settings) -> None:
    """Create or upgrade the schema of the instance's database.

    Raises:
        DatabaseRefusedError: the PostgreSQL server is not there or refuses us.
        SchemaError: the database is unreadable or at a revision that this program does not know.
    """
    from storage.migrate import upgrade_postgres, upgrade_sqlite

    if settings.storage.database_url:
        upgrade_postgres(settings.storage.database_url)
    else:
        upgrade_sqlite(settings.storage.database)


def check_schema(settings: Settings) -> None:
    """Check that the instance's database is there and at this program's revision.

    Raises:
        DatabaseRefusedError: the PostgreSQL server is not there or refuses us.
        DatabaseUnreadableError: the SQLite file is no database or cannot be read.
        SchemaError: it is at another revision, or at none.
    """
    if settings.storage.database_url:
        from storage.postgres.schema import check_current_postgres

        check_current_postgres(settings.storage.database_url)
    else:
        check_current(settings.storage.database)


def in_use(settings: Settings) -> bool:
    """Say whether the database, at the current schema, holds accounts or content.

    Raises:
        DatabaseRefusedError, sqlite3.DatabaseError: it cannot be read.
    """
    if settings.storage.database_url:
        from storage.postgres.schema import in_use_postgres

        return in_use_postgres(settings.storage.database_url)
    return key_check.in_use(settings.storage.database)


def opens_content(settings: Settings, blob_key: bytes) -> bool:
    """Say whether a key opens the database's content; true where there is none.

    Raises:
        DatabaseRefusedError, sqlite3.DatabaseError: it cannot be read.
    """
    if settings.storage.database_url:
        from storage.postgres.schema import opens_content_postgres

        return opens_content_postgres(settings.storage.database_url, blob_key)
    return key_check.opens_content(settings.storage.database, blob_key)


def unsafe_settings(settings: Settings) -> list[str]:
    """Return settings of the database server that lose commits when the power fails; none for SQLite.

    Raises:
        DatabaseRefusedError: it cannot be asked.
    """
    if not settings.storage.database_url:
        return []
    from storage.postgres.schema import unsafe_settings as unsafe_settings_postgres

    return unsafe_settings_postgres(settings.storage.database_url)
