"""One piece of work on a SQLite database, at once and in this thread: for commands that run before a server.

`storage.unit_of_work` is for servers: it has threads and batches. What is done here stands beside them, in a
transaction of its own.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from sqlalchemy.dialects import sqlite as sqlite_dialect

from kephs.ports import Tx
from storage.crypto import Vault
from storage.revision import check_current, unreadable
from storage.rows.repositories import SqlTx
from storage.rows.statements import Database, Texts
from storage.unit_of_work import connect, is_outage

T = TypeVar("T")


def sqlite_at_once(path: Path, work: Callable[[Tx], T], *, column_key: bytes, write: bool = False) -> T:
    """Return what work on a database gives; what it wrote is on disk then.

    Args:
        path: the database file.
        work: a function of a transaction.
        column_key: 32 octets, the key of sealed columns.
        write: whether the work may write.

    Raises:
        SchemaError: the database is missing, unreadable, or not at this program's revision.
    """
    check_current(path)
    with closing(connect(path)) as connection:
        try:
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA query_only={'OFF' if write else 'ON'}")
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            texts = Texts(sqlite_dialect.dialect(paramstyle="named"))
            tx = SqlTx(Database(connection, texts, Vault(column_key), sqlite3.IntegrityError))
            result = work(tx)
            tx.finish()
            connection.execute("COMMIT" if write else "ROLLBACK")
        except sqlite3.Error as error:
            if is_outage(error):
                raise unreadable(path, error) from None
            raise
    return result
