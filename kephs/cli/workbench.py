"""The parts of an instance that commands work with beside its server: opened on demand, each once.

Whoever needs only the ledger opens no archive, whoever only looks opens no key. All is closed with the block.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import cached_property

import aiohttp

from config.settings import Settings
from evidence.adapters.revocation_http import HttpRevocation
from evidence.seal.sealing import Sealer
from evidence.x509.chain import TrustStore
from kephs.bootstrap import open_seal_policy, open_sealing, open_trust
from kephs.bootstrap.archive import ArchiveParts, ArchiveWork, open_archive, open_sealing_work
from kephs.bootstrap.objects import prove_objects
from kephs.bootstrap.preservation import open_preservation, open_proofs
from kephs.bootstrap.sealing import open_revocation
from kephs.cli.beside import Beside, open_beside
from kephs.instances.keys import open_keys
from kephs.ledger.keys import open_ledger_key
from kephs.usecases.archive.archived_proof import ReadProofs
from kephs.usecases.archive.preserve import Preserve
from kephs.usecases.proof.bundle import MakeBundle
from kephs.usecases.proof.prove import Prove
from kephs.usecases.proof.publish_ledger import PublishLedger


class Workbench:
    """An instance beside its server; make it with `open_workbench`.

    Args:
        beside: its database and content.
        stack: closes what is opened.
    """

    def __init__(self, beside: Beside, stack: AsyncExitStack) -> None:
        self.beside = beside
        self._stack = stack
        self._archive: ArchiveParts | None = None
        self._revocation: HttpRevocation | None = None
        self._sealer: Sealer | None = None

    @cached_property
    def trust(self) -> TrustStore:
        """Return the trusted roots.

        Raises:
            SettingsError: as `kephs.bootstrap.open_trust`.
        """
        return open_trust(self.beside.settings)

    @cached_property
    def publishing(self) -> PublishLedger:
        """Return what publishes the ledger.

        Raises:
            SettingsError: its key cannot be read.
        """
        settings = self.beside.settings
        return PublishLedger(
            self.beside.store, open_ledger_key(settings), self.beside.clock, alarm=lambda _cause: None,
            every=timedelta(seconds=settings.ledger.checkpoint_seconds),
        )  # fmt: skip

    async def archive(self) -> ArchiveParts:
        """Return the archive's stores, rows and cipher; nothing is asked of the stores yet.

        Raises:
            SettingsError: the store that the settings name cannot be had.
        """
        if self._archive is None:
            one = self.beside
            self._archive = await open_archive(
                one.settings, one.store, open_keys(one.settings).objects, self.trust, one.offload,
                self._stack, clock=one.clock,
            )  # fmt: skip
        return self._archive

    async def revocation(self) -> HttpRevocation:
        """Return the client of OCSP responders and CRLs."""
        if self._revocation is None:
            session = await self._stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
            self._revocation = open_revocation(self.beside.settings, session, self.trust)
        return self._revocation

    async def sealer(self) -> Sealer:
        """Return the provider's key and time stamps.

        Raises:
            SettingsError: as `kephs.bootstrap.open_sealing`.
        """
        if self._sealer is None:
            sealing = open_sealing(self.beside.settings, self.trust)
            self._sealer = await self._stack.enter_async_context(sealing)
        return self._sealer

    # --- work -----------------------------------------------------------------------------------

    async def proofs(self) -> ReadProofs:
        """Return what joins records that go out with the rounds that renewed them.

        Raises:
            SettingsError: as `archive`.
        """
        return open_proofs(await self.archive())

    async def bundles(self) -> MakeBundle:
        """Return what makes bundles, renewed records in them.

        Raises:
            SettingsError: as `archive`, `sealer` and `publishing`.
        """
        one = self.beside
        return MakeBundle(
            store=one.store, blobs=one.blobs, sealer=await self.sealer(), revocation=await self.revocation(),
            trust=self.trust, policy=open_seal_policy(one.settings), offload=one.offload, clock=one.clock,
            ledger=Prove(one.store, self.publishing), renewed=await self.proofs(),
        )  # fmt: skip

    async def sealing(self) -> ArchiveWork:
        """Return what seals into the archive; its store is proved first.

        Raises:
            SettingsError: as `bundles`, or the store lets go of what it is given.
            kephs.ports.objects.ObjectUnavailableError: it does not answer.
        """
        parts, one = await self.archive(), self.beside
        sealer, revocation = await self.sealer(), await self.revocation()
        await prove_objects(parts.objects)
        return open_sealing_work(
            parts, blobs=one.blobs, sealer=sealer, revocation=revocation, publishing=self.publishing,
            offload=one.offload, clock=one.clock,
        )  # fmt: skip

    async def preserving(self) -> Preserve:
        """Return what renews proofs; the archive's store is proved first.

        Raises:
            As `sealing`.
        """
        parts = await self.archive()
        await prove_objects(parts.objects)
        return open_preservation(parts, await self.revocation())


@asynccontextmanager
async def open_workbench(settings: Settings) -> AsyncIterator[Workbench]:
    """Open an instance beside a server that may be running.

    Raises:
        SettingsError, SchemaError, ExitError: as `kephs.cli.beside.open_beside`.
    """
    async with open_beside(settings) as beside, AsyncExitStack() as stack:
        yield Workbench(beside, stack)
