"""The ledger of an instance as its commands need it, beside a running server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from config.settings import Settings
from kephs.cli.beside import open_beside
from kephs.instances.databases import InstanceStore
from kephs.ledger.keys import open_ledger_key
from kephs.ports import StoredCheckpoint
from kephs.usecases.proof.prove import Prove
from kephs.usecases.proof.publish_ledger import PublishLedger


@dataclass(frozen=True, slots=True)
class LedgerWork:
    """Publishing and proving."""

    store: InstanceStore
    publish: PublishLedger
    prove: Prove

    async def newest(self, *, publish: bool) -> StoredCheckpoint | None:
        """Return the newest checkpoint, after publishing what is new where that is asked for."""
        if publish:
            await self.publish.publish()
        return await self.store.read(lambda tx: tx.tree.checkpoint())


@asynccontextmanager
async def open_ledger(settings: Settings) -> AsyncIterator[LedgerWork]:
    """Open an instance's ledger.

    Raises:
        SettingsError: a key is missing or wrong.
        SchemaError: the database is missing, or not at this program's revision.
        ExitError: the database cannot be read.
    """
    signer = open_ledger_key(settings)
    async with open_beside(settings) as beside:
        every = timedelta(seconds=settings.ledger.checkpoint_seconds)
        publish = PublishLedger(beside.store, signer, beside.clock, alarm=lambda _cause: None, every=every)
        yield LedgerWork(beside.store, publish, Prove(beside.store, publish))
