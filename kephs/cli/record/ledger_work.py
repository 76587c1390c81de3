"""The ledger of an instance as its commands need it, beside a running server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from config.settings import Settings
from kephs.cli.workbench import Workbench, open_workbench
from kephs.instances.databases import InstanceStore
from kephs.ports import StoredCheckpoint
from kephs.usecases.proof.prove import Prove
from kephs.usecases.proof.publish_ledger import PublishLedger
from kephs.usecases.proof.record_today import RecordToday


@dataclass(frozen=True, slots=True)
class LedgerWork:
    """Publishing and proving."""

    store: InstanceStore
    publish: PublishLedger
    prove: Prove
    bench: Workbench

    async def newest(self, *, publish: bool) -> StoredCheckpoint | None:
        """Return the newest checkpoint, after publishing what is new where that is asked for."""
        if publish:
            await self.publish.publish()
        return await self.store.read(lambda tx: tx.tree.checkpoint())

    async def record(self, evidence_id: str) -> bytes | None:
        """Return the record of an evidence as it stands today; None where its time stamp is inside.

        Raises:
            BlobMissingError, SettingsError: the evidence is gone, or the archive cannot be opened.
            As `kephs.usecases.archive.archived_proof.ReadProofs.of`.
        """
        one = self.bench.beside
        today = RecordToday(one.store, one.blobs, one.offload, await self.bench.proofs())
        return await today.of(evidence_id)


@asynccontextmanager
async def open_ledger(settings: Settings) -> AsyncIterator[LedgerWork]:
    """Open an instance's ledger.

    Raises:
        SettingsError: a key is missing or wrong.
        SchemaError: the database is missing, or not at this program's revision.
        ExitError: the database cannot be read.
    """
    async with open_workbench(settings) as bench:
        store, publish = bench.beside.store, bench.publishing
        yield LedgerWork(store, publish, Prove(store, publish), bench)
