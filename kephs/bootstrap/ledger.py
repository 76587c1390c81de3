"""Wiring of the public ledger: publication, proofs, witnesses, and the server for anyone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import aiohttp
import structlog

from config.settings import Settings
from evidence.ledger.notes import NoteVerifier
from kephs.ledger.keys import known_witnesses, open_ledger_key, open_witness_key, witnessed_logs
from kephs.ledger.lanes import ledger_lanes
from kephs.ledger.server import serve_ledger
from kephs.ledger.witness import HttpWitness, OwnWitness
from kephs.ports import Clock, Store
from kephs.usecases.governance.anchor_audit import AnchorAudit
from kephs.usecases.proof.cosignatures import GatherCosignatures
from kephs.usecases.proof.prove import Prove
from kephs.usecases.proof.publish_ledger import PublishLedger
from kephs.worker.run import Lane

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PublicLedger:
    """The parts of an instance's public ledger."""

    settings: Settings
    store: Store
    clock: Clock
    publish: PublishLedger
    prove: Prove
    gather: GatherCosignatures | None  # none: no witnesses
    witness: OwnWitness | None  # none: no logs to cosign

    @property
    def verifier(self) -> NoteVerifier:
        """Return the log's public key."""
        return self.publish.verifier

    def lanes(self) -> list[Lane]:
        """Return the ledger's work for the worker."""
        anchor = AnchorAudit(self.store, self.clock, alarm=_alarm)
        return ledger_lanes(self.clock, self.publish, self.gather, anchor)

    @asynccontextmanager
    async def served(self, *, reuse_port: bool = False) -> AsyncIterator[int]:
        """Serve it while the block runs, where the settings name a port; yield the port, 0 for none.

        Raises:
            OSError: the port cannot be had.
        """
        ledger = self.settings.ledger
        if not ledger.port:
            yield 0
            return
        async with serve_ledger(
            self.store, self.verifier, host=ledger.host, port=ledger.port, witness=self.witness,
            reuse_port=reuse_port,
        ) as port:  # fmt: skip
            yield port


def open_public_ledger(
    settings: Settings, store: Store, clock: Clock, session: aiohttp.ClientSession
) -> PublicLedger:
    """Join the parts.

    Raises:
        SettingsError: a key is missing or wrong.
    """
    publish = PublishLedger(
        store, open_ledger_key(settings), clock, alarm=_contradiction,
        every=timedelta(seconds=settings.ledger.checkpoint_seconds),
    )  # fmt: skip
    asked = [HttpWitness(session, one.url, one.verifier) for one in known_witnesses(settings)]
    logs, witness, gather = witnessed_logs(settings), None, None
    if asked:
        gather = GatherCosignatures(store, asked, clock, alarm=_contradiction, warn=_not_cosigned)
    if logs:
        witness = OwnWitness(store, logs, open_witness_key(settings), clock, refused=_refused)
    return PublicLedger(settings, store, clock, publish, Prove(store, publish), gather, witness)


def _contradiction(cause: str) -> None:
    log.error("ledger.contradiction", cause=cause)


def _alarm(event: str, detail: str) -> None:
    log.error(event, detail=detail)


def _not_cosigned(cause: str) -> None:
    log.warning("ledger.not_cosigned", cause=cause)


def _refused(origin: str, reason: str, note: str) -> None:
    log.error("witness.contradiction", origin=origin, reason=reason, note=note)
