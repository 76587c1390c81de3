"""An instance seen from a second process, while its server may be running.

The blob store has one process at a time (starting it sweeps temporary files and mends the journal's end),
so it is opened for reading only here; the database takes writers from several processes.
"""

import os
import pwd
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from config.settings import Settings
from kephs.bootstrap import open_register
from kephs.cli.output import ExitError
from kephs.instances.databases import InstanceStore, check_schema, open_database
from kephs.instances.keys import open_keys
from kephs.system import Argon2Passwords, HmacIdentity, SystemClock, ThreadOffload, TimeOrderedIds
from kephs.usecases.people.accounts import AccountWork
from storage.files.blobs import FileBlobStore
from storage.revision import DatabaseUnreadableError


@dataclass(frozen=True, slots=True)
class Beside:
    """What commands need; ``blobs`` only opens content, it takes none in."""

    settings: Settings
    store: InstanceStore
    blobs: FileBlobStore
    clock: SystemClock
    offload: ThreadOffload
    accounts: AccountWork


@asynccontextmanager
async def open_beside(settings: Settings) -> AsyncIterator[Beside]:
    """Open an instance's database and its content for reading.

    Raises:
        SettingsError: a key is missing or not this instance's.
        SchemaError: the database is missing, or not at this program's revision.
        ExitError: the database cannot be read.
    """
    clock = SystemClock()
    with unreadable_database_named():
        check_schema(settings)
        keys = open_keys(settings)
    identity = HmacIdentity(keys.identity)
    store = open_database(settings, column_key=keys.columns)
    blobs = FileBlobStore(settings.storage.blobs, master_key=keys.blobs)
    offload = ThreadOffload()
    accounts = AccountWork(
        store=store, identity=identity, passwords=Argon2Passwords(offload), clock=clock,
        ids=TimeOrderedIds(clock),
        register=open_register(settings),
    )  # fmt: skip
    await store.start()
    try:
        yield Beside(settings, store, blobs, clock, offload, accounts)
    finally:
        await store.close()
        offload.close()


def shell_user() -> str:
    """Return the machine's account that runs this command, by name where it has one."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


@contextmanager
def unreadable_database_named() -> Iterator[None]:
    """Turn what an unreadable database raises into a command's end with the right cure: no migration helps.

    Raises:
        ExitError: instead of `DatabaseUnreadableError` and `sqlite3.DatabaseError`.
    """
    try:
        yield
    except (DatabaseUnreadableError, sqlite3.DatabaseError) as error:
        raise ExitError(
            "database-unreadable", f"the database cannot be used: {error}",
            "stop the server; restore database and blobs from one backup",
        ) from None  # fmt: skip
