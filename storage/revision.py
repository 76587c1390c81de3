"""Which revision of the schema this program needs; `storage.migrate` loads slowly, so this stands apart."""

import sqlite3
from pathlib import Path
from typing import Final

from storage.errors import SchemaError

HEAD: Final = "0007"  # a test compares it with the newest migration


class DatabaseUnreadableError(SchemaError):
    """The file is no database, is damaged, or cannot be opened: migrating it would not help."""


def check_current(path: Path) -> None:
    """Check that a SQLite database is at this program's revision.

    Raises:
        DatabaseUnreadableError: the file is no database or cannot be read.
        SchemaError: it is not, or there is none.
    """
    if not path.exists():
        raise SchemaError(
            f"there is no database at {path}; restore it from its backup; `kephs migrate` makes an empty one"
        )
    found = _revision(path)
    if found != HEAD:
        raise SchemaError(
            f"the database is at revision {found or 'none'}, this program needs {HEAD}; run `kephs migrate`"
        )


def unreadable(path: Path, error: BaseException) -> DatabaseUnreadableError:
    """Return the error for a database that SQLite cannot read."""
    return DatabaseUnreadableError(f"{path} is no readable database ({error}); restore it from its backup")


def _revision(path: Path) -> str | None:
    connection = None
    try:
        connection = sqlite3.connect(path)
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            return None  # no such table: never migrated
        raise unreadable(path, error) from None
    finally:
        if connection is not None:
            connection.close()
    return None if row is None else str(row[0])
