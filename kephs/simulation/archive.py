"""The simulated instance: real seals, real objects in a real store and its copy; rows in memory.

Evidence is entered by the month and sealed into the archive's own containers
(`evidence.bundle.archive_object`), encrypted, in the write-once file store. A second file store is the copy.
"""

import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from evidence.adapters.batch_stamper import BatchStamper
from evidence.bundle.archive_object import (
    ArchivedEvidence,
    EvidenceContents,
    ObjectKind,
    material_name,
    object_name,
    plan_evidence,
)
from evidence.bundle.archive_read import ArchiveObject, read_object
from evidence.ledger.chain import LedgerEntry, append
from evidence.model.records import (
    Authentication,
    EvidenceKind,
    EvidenceRecord,
    Issuer,
    MessageFacts,
    Party,
    SealedEvidence,
)
from evidence.ports import Stamping as StampingWay
from evidence.seal.sealing import Sealer
from evidence.stamps.ers import split_record
from evidence.x509.certificates import certificate_facts
from evidence.x509.chain import Chain, build_chain
from kephs.ports.objects import ObjectDamagedError, ObjectRef
from kephs.ports.preservation import ArchivedRecord, CoveredEvidence, RenewalRow, StampAuthority
from kephs.simulation.authorities import DOMAIN, LEGAL_NAME, YEAR, Authorities, MovingClock, Stamping
from kephs.testpki.issued import Issued
from storage.objects.crypto import open_object, seal_object
from storage.objects.file import FileObjectStore

T = TypeVar("T")

RETENTION: Final = 20 * YEAR
OWN_EVERY: Final = 10
"""Every so many evidences has its time stamp inside (XAdES-B-T) and no record beside it."""
BATCH: Final = 25
"""Evidences under one token at most."""
_METHOD: Final = "urn:oasis:names:tc:SAML:2.0:ac:classes:MobileTwoFactorContract"
_PROVIDER: Final = Issuer(
    LEGAL_NAME,
    f"kep-hizmet@{DOMAIN}",
    f"https://{DOMAIN}/kep-ilkeleri",
    "Büyükdere Cd. 2",
    "İstanbul",
    "34330",
)


class Cipher:
    """`kephs.ports.archive.ArchiveCipher` with a fresh master key."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def seal(self, name: str, plain: bytes) -> bytes:
        """Return the sealed object."""
        return seal_object(self._key, name, plain)

    def open(self, name: str, sealed: bytes) -> bytes:
        """Return the container."""
        return open_object(self._key, name, sealed)


@dataclass(slots=True)
class Rows:
    """`kephs.ports.preservation.Preservation` in memory, and the transaction around it."""

    evidence: list[CoveredEvidence] = field(default_factory=list)
    times: list[datetime] = field(default_factory=list)
    objects: list[tuple[int, int, ObjectRef]] = field(default_factory=list)
    made: list[RenewalRow] = field(default_factory=list)
    renewal_objects: list[ObjectRef] = field(default_factory=list)
    used: list[tuple[int, StampAuthority]] = field(default_factory=list)

    @property
    def preservation(self) -> "Rows":
        """Return the rows: this is the transaction too."""
        return self

    def rounds(self) -> Sequence[RenewalRow]:
        """Return all rounds."""
        return tuple(self.made)

    def add_round(self, row: RenewalRow, objects: Sequence[ObjectRef], place: str = "files") -> bool:  # noqa: ARG002 - one kind of store
        """Note a round and its objects."""
        if row.number != len(self.made) + 1:
            return False
        self.made.append(row)
        self.renewal_objects += objects
        return True

    def watermark(self) -> int:
        """Return the last archived number."""
        return len(self.evidence)

    def first_at(self, after: int) -> datetime | None:
        """Return the time of the entry behind ``after``."""
        return self.times[after] if after < len(self.times) else None

    def covered(self, after: int, limit: int) -> Sequence[CoveredEvidence]:
        """Return evidence above ``after``."""
        return self.evidence[after : after + limit]

    def evidence_objects(self, after: int) -> Sequence[ObjectRef]:
        """Return objects that hold entries above ``after``."""
        return [ref for _, last, ref in self.objects if last > after]

    def authorities(self, after: int) -> Sequence[StampAuthority]:
        """Return who stamped evidence above ``after``."""
        return list(dict.fromkeys(one for last, one in self.used if last > after))

    async def read(self, work: Callable[["Rows"], T]) -> T:
        """Run a function on the rows."""
        return work(self)

    async def write(self, work: Callable[["Rows"], T]) -> T:
        """Run a function on the rows."""
        return work(self)

    def holding(self, number: int) -> ObjectRef:
        """Return the object that holds an entry; `KeyError` where none does."""
        for first, last, ref in self.objects:
            if first <= number <= last:
                return ref
        raise KeyError(number)

    @property
    def refs(self) -> list[ObjectRef]:
        """Return every object of the archive."""
        return [ref for _, _, ref in self.objects] + self.renewal_objects


class SimulatedArchive:
    """Enters evidence, seals objects, keeps a copy, restores from it.

    Args:
        folder: where both stores lie.
        clock: the simulation's.
        authorities: who certifies and stamps.
    """

    def __init__(self, folder: Path, clock: MovingClock, authorities: Authorities) -> None:
        self._folder, self._clock, self._authorities = folder, clock, authorities
        self.rows, self.cipher = Rows(), Cipher()
        self.store = FileObjectStore(folder / "store", clock=clock.now)
        self.copy = FileObjectStore(folder / "copy", clock=clock.now)
        self.batch_tokens = self.content = 0
        self._ledger: LedgerEntry | None = None
        self._copied = (0, 0)
        self._sealer: Sealer | None = None
        self.transaction: Issued | None = None
        self.originals: dict[int, bytes] = {}
        self._last_read: tuple[str, ArchiveObject] | None = None

    def use(self, transaction: Issued) -> None:
        """Seal with this transaction certificate from now on."""
        self.transaction = transaction
        signer = self._authorities.signer(transaction)
        self._sealer = Sealer(signer, self._authorities, BatchStamper(self._authorities))

    @property
    def sealer(self) -> Sealer:
        """Return what seals today."""
        assert self._sealer is not None
        return self._sealer

    # ----------------------------------------------------------------- entering and sealing

    async def enter(self, count: int) -> None:
        """Seal so many evidences now, and an object of them."""
        if not count:
            return
        now, start = self._clock.now(), len(self.rows.evidence) + 1
        records = [self._record(start + index, now) for index in range(count)]
        before = self._authorities.tokens
        own = [one for index, one in enumerate(records) if (start + index) % OWN_EVERY == 0]
        rest = [one for index, one in enumerate(records) if (start + index) % OWN_EVERY]
        sealed: dict[str, SealedEvidence] = {}
        for first in range(0, len(rest), BATCH):
            for item in await self.sealer.seal_many(rest[first : first + BATCH]):
                sealed[item.record.evidence_id] = item
        for item in await self.sealer.seal_many(own, stamping=StampingWay.OWN) if own else ():
            sealed[item.record.evidence_id] = item
        self.batch_tokens += self._authorities.tokens - before
        self._clock.move(now + timedelta(minutes=1))
        await self._seal_object([sealed[one.evidence_id] for one in records], now)

    def _record(self, number: int, at: datetime) -> EvidenceRecord:
        original = _original(number)
        self.originals[number] = original
        return EvidenceRecord(
            EvidenceKind.SUBMISSION_ACCEPTANCE,
            f"10-{number:08d}@{DOMAIN}",
            at,
            at,
            _PROVIDER,
            Party(f"gonderen{number}@{DOMAIN}", "TEST Gönderen"),
            (Party(f"alici{number}@{DOMAIN}"),),
            MessageFacts(
                f"Deneme {number}",
                f"<{number}@{DOMAIN}>",
                f"kep-{number:08d}@{DOMAIN}",
                sha256(original).digest(),
            ),
            sender_authentication=Authentication(at, _METHOD, "TEST Gönderen"),
        )

    async def _seal_object(self, items: list[SealedEvidence], at: datetime) -> None:
        authority = self._authorities.stamping
        assert authority is not None
        assert self.transaction is not None
        material = await self._material((self.transaction, authority.issued))
        archived = []
        for item in items:
            self._ledger = append(
                self._ledger,
                evidence_id=item.record.evidence_id,
                evidence_sha256=sha256(item.xml).digest(),
                at=at,
                salt=secrets.token_bytes(32),
            )
            archived.append(ArchivedEvidence(self._ledger, item.xml, item.ers, {}, None, tuple(material)))
        plan = plan_evidence(EvidenceContents(DOMAIN, archived, material), sealed_at=self._clock.now())
        plain = plan.write(await self.sealer.sign_entity(plan.digest, self._clock.now()))
        self.content += len(plan.head) + sum(len(one.xml) + len(one.ers or b"") for one in archived)
        first, last = archived[0].entry.number, archived[-1].entry.number
        name = object_name(ObjectKind.EVIDENCE, first, last, at)
        until = self._clock.now() + RETENTION
        ref = await self.store.put(name, self.cipher.seal(name, plain), until)
        self.rows.objects.append((first, last, ref))
        for one in archived:
            token = None if one.ers is None else sha256(split_record(one.ers)[1]).digest()
            self.rows.evidence.append(CoveredEvidence(one.entry.number, one.entry.evidence_sha256, token))
            self.rows.times.append(at)
        self.rows.used.append((last, self._path(authority)))
        await self.replicate()

    async def _material(self, whom: Sequence[Issued]) -> dict[str, bytes]:
        """Return what issuers say of these certificates now, and the certificates, by file name."""
        found = {}
        for issued in whom:
            for certificate, issuer in self._chain(issued).links:
                answer = await self._authorities.status(certificate, issuer, self._clock.now())
                if answer is not None:
                    found[material_name(answer.der, answer.source.value)] = answer.der
                found[material_name(certificate.der, "cer")] = certificate.der
        return found

    def _chain(self, issued: Issued) -> Chain:
        offered = [certificate_facts(der) for der in issued.chain]
        leaf = certificate_facts(issued.certificate)
        chain = build_chain(leaf, offered, self._authorities.trust, self._clock.now())
        assert isinstance(chain, Chain), chain
        return chain

    def _path(self, authority: Stamping) -> StampAuthority:
        return StampAuthority(tuple(one.der for one in self._chain(authority.issued).certificates))

    # ----------------------------------------------------------------- reading

    async def read(self, first: int, last: int) -> AsyncIterator[ArchivedRecord]:
        """Yield archived evidence; `kephs.ports.preservation.ArchivedRecords`."""
        number = first
        while number <= last:
            holder = await self.object_of(number)
            for one in holder.evidences:
                if first <= one.entry.number <= last:
                    yield ArchivedRecord(one.entry.number, one.xml, one.ers)
            number = holder.last + 1

    async def object_of(self, number: int) -> ArchiveObject:
        """Return the object that holds an entry, read from the store."""
        ref = self.rows.holding(number)
        if self._last_read is None or self._last_read[0] != ref.name:
            plain = self.cipher.open(ref.name, await self.store.get(ref))
            self._last_read = (ref.name, read_object(plain, name=ref.name))
        return self._last_read[1]

    # ----------------------------------------------------------------- the copy, losses, fixity

    async def replicate(self) -> None:
        """Copy what is new to the other store."""
        refs = [ref for _, _, ref in self.rows.objects[self._copied[0] :]]
        refs += self.rows.renewal_objects[self._copied[1] :]
        for ref in refs:
            await self.copy.put(ref.name, await self.store.get(ref), ref.retain_until)
        self._copied = (len(self.rows.objects), len(self.rows.renewal_objects))

    async def fixity(self) -> list[ObjectRef]:
        """Check every object; return those that are damaged or gone."""
        damaged = []
        for ref in self.rows.refs:
            try:
                await self.store.check(ref)
            except ObjectDamagedError:
                damaged.append(ref)
        return damaged

    async def restore(self, refs: Sequence[ObjectRef]) -> None:
        """Take damaged objects out of the way and put the copy's in their place."""
        for ref in refs:
            await self.copy.check(ref)
            self._quarantine(ref.name)
            await self.store.put(ref.name, await self.copy.get(ref), ref.retain_until)
            await self.store.check(ref)
        self._last_read = None

    def damage(self, ref: ObjectRef) -> None:
        """Flip a bit of an object on the disk, as age does."""
        path = self._folder / "store" / "objects" / ref.name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x10
        path.chmod(0o600)
        path.write_bytes(content)
        self._last_read = None

    async def lose(self) -> None:
        """Lose the store with all that is in it."""
        await self.store.close()
        shutil.rmtree(self._folder / "store")
        self.store = FileObjectStore(self._folder / "store", clock=self._clock.now)
        self._last_read = None

    def _quarantine(self, name: str) -> None:
        """Move what is left of an object away, as an operator does; the store itself has no way to."""
        path = self._folder / "store" / "objects" / name
        aside = self._folder / "quarantine"
        aside.mkdir(exist_ok=True)
        if path.exists():
            path.rename(aside / name.replace("/", "_"))

    async def close(self) -> None:
        """Close both stores."""
        await self.store.close()
        await self.copy.close()

    async def asked(self, *whom: Issued) -> dict[str, bytes]:
        """Return what issuers say today of certificates still in use, by file name."""
        return await self._material(whom)


def _original(number: int) -> bytes:
    return (
        f"From: gonderen{number}@{DOMAIN}\r\nTo: alici{number}@{DOMAIN}\r\n"
        f"Message-ID: <{number}@{DOMAIN}>\r\nSubject: Deneme {number}\r\nMIME-Version: 1.0\r\n\r\n"
        f"Merhaba {number}\r\n"
    ).encode()
