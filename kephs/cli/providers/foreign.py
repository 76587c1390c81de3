"""Messages of providers taken over, as the commands show them: in memory, nothing is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from config.settings import Settings
from directory.accounts import Account, Operator
from evidence.model.records import EvidenceRecord, Profile, SealedEvidence
from evidence.ports import SignerUnavailableError, Stamping
from evidence.report import Report
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import TrustStore
from evidence.x509.role import SealPolicy
from kephs.bootstrap import open_seal_policy
from kephs.cli.beside import Beside
from kephs.cli.providers.hand_over_work import seal_policy
from kephs.domain.audit import AuditEntry
from kephs.instances.keys import open_keys
from kephs.ports import Blob, Tx
from kephs.ports.hand_over import PartsError
from kephs.usecases.ending.foreign import ForeignMessage, ForeignReader, open_foreign
from kephs.usecases.ending.hand_over_check import CheckHandOver
from kephs.usecases.ending.take_over import KEY_FILE
from kephs.usecases.proof.appendix import Appendix, AppendixError
from kephs.usecases.proof.bundle import MakeBundle, ReadyBundle
from kephs.usecases.proof.timeline import ShowTimeline, Timeline
from storage.crypto import KeyMismatchError
from storage.hand_over_parts import FolderParts, KeyCipher
from storage.memory.store import MemoryBlobStore, MemoryStore
from storage.objects.crypto import open_object, seal_object

FOLDER: Final = "foreign"
_KEY_FILE_MAX: Final = 4_096
_GONE: Final = "the key of a provider that was taken over"


def foreign_folder(directory: Path, domain: str) -> Path:
    """Return where an instance keeps what a provider handed over."""
    return directory / FOLDER / domain


def seal_key(settings: Settings, domain: str, key: bytes) -> bytes:
    """Return a hand-over's key, sealed for this instance."""
    return seal_object(open_keys(settings).objects, f"{FOLDER}/{domain}/{KEY_FILE}", key)


def open_key(settings: Settings, domain: str, sealed: bytes) -> bytes:
    """Return a hand-over's key.

    Raises:
        PartsError: it was sealed for another instance, or changed.
    """
    try:
        return open_object(open_keys(settings).objects, f"{FOLDER}/{domain}/{KEY_FILE}", sealed)
    except KeyMismatchError:
        raise PartsError(f"{domain}: the key of the hand-over does not open") from None


async def read_foreign(settings: Settings, beside: Beside, directory: Path, domain: str) -> ForeignReader:
    """Open what a provider handed over.

    Raises:
        HandOverError, PartsError: it is not what was taken over.
    """
    parts = FolderParts(foreign_folder(directory, domain), beside.offload.run, writable=False)
    key = open_key(settings, domain, await parts.get(KEY_FILE, _KEY_FILE_MAX))
    return await open_foreign(parts, KeyCipher(key), beside.offload)


@dataclass(frozen=True, slots=True)
class Shown:
    """One message of a provider taken over, in a store of its own."""

    found: ForeignMessage
    reader: ForeignReader
    store: MemoryStore
    blobs: MemoryBlobStore
    trust: TrustStore


async def find_foreign(settings: Settings, beside: Beside, directory: Path, wanted: str) -> Shown | None:
    """Return a message of any provider taken over; None where none has it.

    Raises:
        HandOverError, PartsError, ValueError: what was taken over was changed.
    """
    archives = await beside.store.read(lambda tx: list(tx.foreign.archives()))
    for archive in archives:
        reader = await read_foreign(settings, beside, directory, archive.domain)
        found = await reader.find(wanted)
        if found is not None:
            roots, intermediates = await reader.roots()
            store, blobs = await _loaded(found, reader)
            return Shown(found, reader, store, blobs, TrustStore(roots, intermediates=intermediates))
    return None


async def foreign_timeline(
    settings: Settings, beside: Beside, directory: Path, wanted: str
) -> Timeline | None:
    """Return what happened to a message of a provider taken over, as `kephs show` tells it."""
    shown = await find_foreign(settings, beside, directory, wanted)
    if shown is None:
        return None
    work = ShowTimeline(shown.store, shown.blobs, beside.offload, beside.clock, shown.found.domain)
    return await work.show(shown.found.message.message_id)


async def foreign_bundle(settings: Settings, beside: Beside, shown: Shown) -> ReadyBundle:
    """Return the bundle that its own provider sealed, octet by octet as it was.

    Raises:
        BundleUnavailableError: that provider sealed none, or of other contents.
    """
    # its roots were judged when it was taken over; a TEST provider's certificates name the TEST policy
    policy = seal_policy(tuple(open_seal_policy(settings).transaction_policies))
    work = MakeBundle(
        store=shown.store, blobs=shown.blobs, sealer=_NoSealer(), revocation=_NobodySpeaks(),
        trust=shown.trust, policy=policy, offload=beside.offload, clock=beside.clock,
        renewed=await shown.reader.rounds.as_of(rounds_sealed(shown.found)),
    )  # fmt: skip
    return await work.make(shown.found.message.message_id)


def rounds_sealed(found: ForeignMessage) -> int:
    """Return how many rounds of renewal its own provider's bundle was sealed with; 0 where there is none."""
    if found.appendix is None:
        return 0
    try:
        return Appendix.decode(found.appendix[1]).rounds
    except AppendixError:
        return 0


class _NoSealer:
    """Nobody seals for a provider that is gone."""

    async def seal_many(
        self,
        records: Sequence[EvidenceRecord],  # noqa: ARG002  # the port's, as all here
        *,
        profile: Profile = Profile.KEP,  # noqa: ARG002
        stamping: Stamping | None = None,  # noqa: ARG002
    ) -> list[SealedEvidence]:
        raise SignerUnavailableError(_GONE)

    async def records(self, leaves: Sequence[bytes]) -> list[bytes]:  # noqa: ARG002
        raise SignerUnavailableError(_GONE)

    async def sign_entity(self, digest: bytes, at: datetime) -> bytes:  # noqa: ARG002
        raise SignerUnavailableError(_GONE)

    async def sign_entities(self, digests: Sequence[bytes], at: datetime) -> list[bytes]:  # noqa: ARG002
        raise SignerUnavailableError(_GONE)


class _NobodySpeaks:
    """Nobody is asked about the certificates of a provider that is gone: what was collected stands."""

    async def status(
        self,
        certificate: CertificateFacts,  # noqa: ARG002
        issuer: CertificateFacts,  # noqa: ARG002
        at: datetime,  # noqa: ARG002  # the port's
    ) -> None:
        return None


async def check_foreign(
    settings: Settings, beside: Beside, directory: Path, domain: str,
    how: tuple[TrustStore, SealPolicy, int], progress: Callable[[str, int], None],
) -> Report:  # fmt: skip
    """Return the report of a check of what a provider handed over, where it lies.

    Raises:
        PartsError: its key is missing or does not open.
    """
    parts = FolderParts(foreign_folder(directory, domain), beside.offload.run, writable=False)
    key = open_key(settings, domain, await parts.get(KEY_FILE, _KEY_FILE_MAX))
    trust, policy, sample = how
    check = CheckHandOver(
        parts, beside.offload, beside.clock, trust=trust, policy=policy, cipher=KeyCipher(key), sample=sample,
        ignored=frozenset({KEY_FILE}), progress=progress,
    )  # fmt: skip
    return (await check.run()).report


async def _loaded(found: ForeignMessage, reader: ForeignReader) -> tuple[MemoryStore, MemoryBlobStore]:
    store, blobs = MemoryStore(), MemoryBlobStore()
    kept: dict[bytes, Blob] = {}
    for content in [*found.contents.values(), *(one.xml for one in found.evidences)]:
        blob = await blobs.put(content)
        kept[blob.sha256] = blob
    upto = max((one.number for one in found.destroyed), default=0)
    record = await reader.record(upto) if upto else []

    holder = None if found.message.account_id is None else await reader.account(found.message.account_id)

    await store.write(lambda tx: _fill(tx, found, holder, list(kept.values()), record))
    return store, blobs


def _fill(
    tx: Tx, found: ForeignMessage, holder: tuple[Account, tuple[Operator, ...]] | None, kept: list[Blob],
    record: list[AuditEntry],
) -> None:  # fmt: skip
    if holder is not None:
        tx.accounts.add(holder[0])
        for operator in holder[1]:
            tx.accounts.add_operator(operator)
    for blob in kept:
        tx.blobs.add(blob)
    tx.messages.add(found.message)
    for delivery in found.deliveries:
        tx.deliveries.add(delivery)
    for transfer in found.transfers:
        tx.transfers.add(transfer)
    for one in found.evidences:
        tx.archive.restore(one.row, one.ers)
        tx.archive.restore_entry(one.entry)
    for entry in record:
        tx.archive.restore_audit(entry)
    for gone in found.destroyed:
        tx.erasures.add_destroyed(gone)
    if found.appendix is not None:
        tx.evidence.set_appendix(found.message.message_id, *found.appendix)
