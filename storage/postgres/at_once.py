"""One piece of work on a PostgreSQL database, at once and in this thread (see `storage.at_once`)."""

from collections.abc import Callable
from typing import Final, TypeVar

from kephs.ports import Tx
from storage.crypto import Vault
from storage.postgres.link import WRITER_LOCK
from storage.postgres.schema import join, opened
from storage.postgres.store import PostgresDatabase, dialect
from storage.rows.repositories import SqlTx
from storage.rows.statements import Texts

T = TypeVar("T")
_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_BEGIN_READING: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


def postgres_at_once(url: str, work: Callable[[Tx], T], *, column_key: bytes, write: bool = False) -> T:
    """Return what work on a database gives; what it wrote is committed then.

    Args:
        url: what `storage.postgres.link.connect` takes.
        work: a function of a transaction.
        column_key: 32 octets, the key of sealed columns.
        write: whether the work may write; it waits for other writers then.

    Raises:
        DatabaseRefusedError: the server is not there or refuses us.
        SchemaError: the database is not at this program's revision.
    """
    with opened(url) as link:
        join(link)
        link.execute(_BEGIN if write else _BEGIN_READING, prepare=False)
        if write:
            link.execute(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})", prepare=False)
        tx = SqlTx(PostgresDatabase(link, Texts(dialect()), Vault(column_key)))
        result = work(tx)
        tx.finish()
        link.execute("COMMIT" if write else "ROLLBACK", prepare=False)
    return result
