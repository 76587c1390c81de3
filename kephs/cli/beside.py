"""An instance seen from a second process, while its server may be running.

The blob store has one process at a time (starting it sweeps temporary files and mends the journal's end),
so it is opened for reading only here; the database takes writers from several processes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from config.settings import Settings
from directory.providers import ProviderRegister
from kephs.bootstrap import derived_key, read_key
from kephs.system import Argon2Passwords, HmacIdentity, SystemClock, ThreadOffload, TimeOrderedIds
from kephs.usecases.accounts import AccountWork
from storage.files import FileBlobStore
from storage.unit_of_work import SqliteStore


@dataclass(frozen=True, slots=True)
class Beside:
    """What commands need; ``blobs`` only opens content, it takes none in."""

    settings: Settings
    store: SqliteStore
    blobs: FileBlobStore
    clock: SystemClock
    offload: ThreadOffload
    accounts: AccountWork


@asynccontextmanager
async def open_beside(settings: Settings) -> AsyncIterator[Beside]:
    """Open an instance's database and its content for reading.

    Raises:
        SettingsError: a key is missing or wrong.
        SchemaError: the database is missing, or not at this program's revision.
    """
    master, clock = read_key(settings.storage.master_key), SystemClock()
    identity = HmacIdentity(read_key(settings.storage.identity_key))
    store = SqliteStore(settings.storage.database, column_key=derived_key(master, b"kephs columns"))
    blobs = FileBlobStore(settings.storage.blobs, master_key=derived_key(master, b"kephs blobs"))
    offload = ThreadOffload()
    accounts = AccountWork(
        store=store, identity=identity, passwords=Argon2Passwords(offload), clock=clock,
        ids=TimeOrderedIds(clock),
        register=ProviderRegister(settings.provider.domain, settings.provider.suffix),
    )  # fmt: skip
    await store.start()
    try:
        yield Beside(settings, store, blobs, clock, offload, accounts)
    finally:
        await store.close()
        offload.close()
