"""The archive of an instance that stands alone, to be rebuilt; and how commands tell what a store did.

Beside a running server commands open it by `kephs.cli.workbench`.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from config.settings import Settings, SettingsError
from evidence.stamps.renewal import RenewalError
from kephs.bootstrap import open_seal_policy, open_trust
from kephs.bootstrap.archive import open_archive
from kephs.cli.beside import unreadable_database_named
from kephs.cli.output import ExitError
from kephs.instances.databases import check_schema, open_database
from kephs.instances.keys import open_keys
from kephs.ledger.keys import open_ledger_key
from kephs.ports.objects import ObjectError, ObjectUnavailableError
from kephs.system import SystemClock, ThreadOffload
from kephs.together import together
from kephs.usecases.archive.preserve_object import RenewalObjectError
from kephs.usecases.archive.rebuild import RebuildIndex
from storage.files.blobs import FileBlobStore


@asynccontextmanager
async def rebuilding(settings: Settings, directory: Path) -> AsyncIterator[RebuildIndex]:
    """Open an instance alone, to put back what its archive holds; no server may run.

    Raises:
        SettingsError: a server runs, or as `open_beside`.
        SchemaError, ExitError: the database is missing, unreadable, or not at this program's revision.
    """
    from kephs.cli.run.serve import alone

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
    if isinstance(error, RenewalObjectError | RenewalError):
        return ExitError(
            "renewal-broken", f"a round of renewal contradicts itself: {error} / yenileme turu çelişkili",
            "kephs archive verify DIR --all; restore the object from its copy",
        )  # fmt: skip
    if isinstance(error, SettingsError) and "archive" in str(error):
        return ExitError("archive-unusable", str(error), "see archive in kephs.toml and kephs doctor DIR")
    return None
