"""The archive of an instance as its commands need it: beside a running server, or alone."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp

from config.settings import Settings, SettingsError
from kephs.bootstrap import open_seal_policy, open_sealing, open_trust
from kephs.bootstrap.archive import ArchiveParts, ArchiveWork, open_archive, open_sealing_work
from kephs.bootstrap.objects import prove_objects
from kephs.bootstrap.preservation import open_preservation
from kephs.bootstrap.sealing import open_revocation
from kephs.cli.beside import open_beside, unreadable_database_named
from kephs.cli.output import ExitError
from kephs.instances.databases import check_schema, open_database
from kephs.instances.keys import open_keys
from kephs.ledger.keys import open_ledger_key
from kephs.ports.objects import ObjectError, ObjectUnavailableError
from kephs.system import SystemClock, ThreadOffload
from kephs.together import together
from kephs.usecases.archive.preserve import Preserve
from kephs.usecases.archive.rebuild import RebuildIndex
from kephs.usecases.proof.publish_ledger import PublishLedger
from storage.files.blobs import FileBlobStore


@asynccontextmanager
async def archive_beside(settings: Settings) -> AsyncIterator[ArchiveParts]:
    """Open the archive beside a server that may be running: to look, to check, to carry.

    Raises:
        SettingsError, SchemaError, ExitError: as `open_beside`.
    """
    async with open_beside(settings) as beside, AsyncExitStack() as stack:
        keys, trust = open_keys(settings), open_trust(settings)
        yield await open_archive(
            settings, beside.store, keys.objects, trust, beside.offload, stack, clock=beside.clock
        )


@asynccontextmanager
async def sealing_beside(settings: Settings) -> AsyncIterator[ArchiveWork]:
    """Open the archive beside a server that may be running, to seal into it; the store is proved first.

    Raises:
        SettingsError, SchemaError, ExitError: as `open_beside`, or the store lets go of what it is given.
    """
    trust = open_trust(settings)
    async with (
        open_beside(settings) as beside,
        open_sealing(settings) as sealer,
        aiohttp.ClientSession(auto_decompress=False) as session,
        AsyncExitStack() as stack,
    ):
        parts = await open_archive(
            settings, beside.store, open_keys(settings).objects, trust, beside.offload, stack,
            clock=beside.clock,
        )  # fmt: skip
        publishing = PublishLedger(
            beside.store, open_ledger_key(settings), beside.clock, alarm=lambda _cause: None,
            every=timedelta(seconds=settings.ledger.checkpoint_seconds),
        )  # fmt: skip
        await prove_objects(parts.objects)
        yield open_sealing_work(
            parts, blobs=beside.blobs, sealer=sealer, revocation=open_revocation(settings, session, trust),
            publishing=publishing, offload=beside.offload, clock=beside.clock,
        )  # fmt: skip


@asynccontextmanager
async def preserving(settings: Settings) -> AsyncIterator[Preserve]:
    """Open the archive beside a server that may be running, to renew its proofs; the store is proved first.

    Raises:
        SettingsError, SchemaError, ExitError: as `open_beside`, or the store lets go of what it is given.
    """
    async with (
        archive_beside(settings) as parts,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        await prove_objects(parts.objects)
        yield open_preservation(parts, open_revocation(settings, session, parts.trust))


@asynccontextmanager
async def rebuilding(settings: Settings, directory: Path) -> AsyncIterator[RebuildIndex]:
    """Open an instance alone, to put back what its archive holds; no server may run.

    Raises:
        SettingsError: a server runs, or as `open_beside`.
        SchemaError, ExitError: the database is missing, unreadable, or not at this program's revision.
    """
    from kephs.cli.serve import alone

    clock, offload = SystemClock(), ThreadOffload()
    async with AsyncExitStack() as stack:
        stack.callback(offload.close)
        stack.enter_context(alone(directory))
        with unreadable_database_named():
            check_schema(settings)
            keys = open_keys(settings)
        blobs = FileBlobStore(
            settings.storage.blobs, master_key=keys.blobs, writer=f"rebuild{secrets.token_hex(4)}"
        )
        await blobs.start()
        stack.push_async_callback(blobs.close)
        store = open_database(settings, column_key=keys.columns)
        await store.start()
        stack.push_async_callback(store.close)
        trust = open_trust(settings)
        parts = await open_archive(settings, store, keys.objects, trust, offload, stack, clock=clock)
        yield RebuildIndex(
            store=store, blobs=blobs, objects=parts.objects, place=parts.rules.place, reader=parts.reader,
            trust=trust, policy=open_seal_policy(settings), provider=settings.provider.domain,
            log=open_ledger_key(settings).verifier, clock=clock, offload=offload, together=together,
        )  # fmt: skip


def told(error: BaseException) -> ExitError | None:
    """Return the command's end for what a store or a key did; None for anything else."""
    if isinstance(error, ObjectUnavailableError):
        return ExitError(
            "archive-silent", f"the archive's store does not answer: {error} / arşiv deposu yanıt vermiyor",
            "look at disk, network and keys; nothing is lost: run the command again",
        )  # fmt: skip
    if isinstance(error, ObjectError):
        return ExitError(
            "archive-refused", f"{error} / arşiv nesnesi kullanılamıyor", "see docs/archive.md, doctor --deep"
        )
    if isinstance(error, SettingsError) and "archive" in str(error):
        return ExitError("archive-unusable", str(error), "see archive in kephs.toml and kephs doctor DIR")
    return None
