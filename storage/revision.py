"""Which revision of the schema this program needs; `storage.migrate` loads slowly, so this stands apart."""

import sqlite3
from pathlib import Path
from typing import Final

from storage.errors import SchemaError

HEAD: Final = "0001"  # a test compares it with the newest migration


def check_current(path: Path) -> None:
    """Check that a SQLite database is at this program's revision.

    Raises:
        SchemaError: it is not, or there is none.
    """
    if not path.is_file():
        raise SchemaError("there is no database here; `kephs init` makes one")
    found = _revision(path)
    if found != HEAD:
        raise SchemaError(
            f"the database is at revision {found or 'none'}, this program needs {HEAD}; run `kephs migrate`"
        )


def _revision(path: Path) -> str | None:
    connection = sqlite3.connect(path)
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        return None  # no such table: never migrated
    finally:
        connection.close()
    return None if row is None else str(row[0])
