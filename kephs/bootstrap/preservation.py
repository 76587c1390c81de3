"""Wiring of preservation: rounds of renewal over the archive, and their lane."""

from dataclasses import dataclass
from datetime import timedelta

import structlog

from config.settings import Settings
from evidence.ports import SignerUnavailableError, TimestampUnavailableError
from evidence.x509.chain import TrustStore
from kephs.bootstrap.archive import ArchiveParts
from kephs.bootstrap.sealing import open_timestamper
from kephs.ports import Revocation, StoreUnavailableError
from kephs.ports.objects import ObjectError, ObjectUnavailableError
from kephs.usecases.archive.archived_proof import ReadProofs
from kephs.usecases.archive.preserve import MaterialMissingError, PreservationParts, Preserve
from kephs.usecases.archive.preserve_object import RenewalObjectError
from kephs.usecases.archive.preserve_records import RenewedRecords
from kephs.worker.archive_lanes import RENEW, archive_lane
from kephs.worker.run import Lane

log = structlog.get_logger()

YEAR = timedelta(days=365.25)
_LATER = (
    ObjectUnavailableError, StoreUnavailableError, TimestampUnavailableError, SignerUnavailableError,
    MaterialMissingError,
)  # fmt: skip
_PEOPLE = (ObjectError, RenewalObjectError)


@dataclass(frozen=True, slots=True)
class YearlyStamper:
    """The time-stamping authorities as rounds need them: opened for the one token of a year."""

    settings: Settings
    trust: TrustStore

    async def stamp(self, digest: bytes, hash_name: str) -> bytes:
        """Return a checked token over a digest; see `kephs.ports.preservation.RenewalStamper`."""
        async with open_timestamper(self.settings, self.trust) as timestamper:
            return await timestamper.stamp(digest, hash_name)


def open_preservation(parts: ArchiveParts, revocation: Revocation) -> Preserve:
    """Return what keeps the proofs of an archive alive."""
    years = parts.rules.retention_years
    return Preserve(
        PreservationParts(
            store=parts.store, objects=parts.placed, cipher=parts.cipher, records=parts.reader,
            stamper=YearlyStamper(parts.settings, parts.trust), revocation=revocation, trust=parts.trust,
            clock=parts.clock, provider=parts.rules.provider, retention=YEAR * years + timedelta(days=1),
            place=parts.rules.place,
        ),
        warn=lambda text: log.warning("renewal.warning", detail=text),
    )  # fmt: skip


def open_proofs(parts: ArchiveParts) -> ReadProofs:
    """Return what joins the records of evidence that goes out with the rounds made so far."""
    records = RenewedRecords(parts.store, parts.placed, parts.cipher)
    return ReadProofs(parts.store, parts.reader, records)


def preservation_lane(preserve: Preserve, parts: ArchiveParts) -> Lane:
    """Return preservation as a lane of the worker."""

    async def work() -> None:
        made = await preserve.run()
        if made is not None:
            log.info(
                "renewal.done", round=made.number, reason=made.reason.value, hash=made.hash_name,
                leaves=made.leaves, last=made.last,
            )  # fmt: skip

    return archive_lane(RENEW, parts.clock, preserve.due, work, _told)


def _told(error: BaseException) -> bool:
    """Log a failure that was to be expected; a defect is left to the worker."""
    if isinstance(error, _LATER):
        log.warning("renewal.later", cause=type(error).__name__, detail=str(error))
        return True
    if isinstance(error, _PEOPLE):
        log.error("renewal.stopped", cause=type(error).__name__, detail=str(error))
        return True
    return False
