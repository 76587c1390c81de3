"""Benchmarks of the archive: sealing into objects, fixity, rebuild; real evidence, SQLite, files, fsync."""

import asyncio
import json
import secrets
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from directory.addresses import KepAddress
from evidence.ledger.notes import NoteSigner
from evidence.model.records import Authentication, EvidenceKind, EvidenceRecord, Party, SealedEvidence
from evidence.seal.sealing import Sealer
from evidence.x509.certificates import CertificateFacts
from evidence.x509.revocation import RevocationAnswer, check_ocsp, ocsp_request
from kephs.bench.figures import BenchError, Figure, own_peak_rss_mb, ticks
from kephs.bench.site import Site
from kephs.bench.stage import DOMAIN, JOINED, SEAL_POLICY, Stage
from kephs.bootstrap.archive import ObjectCipher
from kephs.domain.lifecycle import MessageState
from kephs.domain.messages import Recipient, Role, StoredEvidence, Submission
from kephs.ports import Tx
from kephs.system import SystemClock, ThreadOffload
from kephs.together import together
from kephs.usecases.archive.fixity import CheckArchive
from kephs.usecases.archive.reading import ReadArchive
from kephs.usecases.archive.rebuild import RebuildIndex
from kephs.usecases.archive.seal import ArchiveRules, SealArchive
from kephs.usecases.proof.publish_ledger import PublishLedger
from storage.files.blobs import FileBlobStore
from storage.migrate import upgrade_sqlite
from storage.objects.file import FileObjectStore
from storage.unit_of_work import SqliteStore

PER_SECOND: Final = 200  # evidences made for each second of the benchmark
LEAST: Final = 2_000
OBJECTS_OF: Final = 1_000
WANTED_RATE: Final = 300
WANTED_SHARE: Final = 0.2
REBUILD_WANTED: Final = 2_000
FIXITY_WANTED: Final = 300
_MB: Final = 1e6
_OF_MESSAGE: Final = 4  # evidence of one message: 10, 40, 60 and a peer's


@dataclass
class _Answers:
    """What issuers say, in this process; asked once for each certificate, as the HTTP client's cache does."""

    stage: Stage

    def __post_init__(self) -> None:
        self._known: dict[bytes, RevocationAnswer] = {}
        names = ("root", "p384", "pss")
        self._names = {self.stage.pki.authorities[name].certificate: name for name in names}
        self._trust = self.stage.trust()

    async def status(
        self, certificate: CertificateFacts, issuer: CertificateFacts, at: datetime
    ) -> RevocationAnswer | None:
        """Return a checked answer."""
        if certificate.sha256 not in self._known:
            request = ocsp_request(certificate, issuer)
            now = self.stage.clock()
            der = self.stage.pki.ocsp_response(request, now, ca=self._names[issuer.der])
            self._known[certificate.sha256] = check_ocsp(der, certificate, issuer, at=at, trust=self._trust)
        return self._known[certificate.sha256]


class _Place:
    """A store with evidence that waits for the archive."""

    def __init__(self, room: Path, stage: Stage) -> None:
        self.room, self.stage, self.clock, self.offload = room, stage, SystemClock(), ThreadOffload()
        self.columns = secrets.token_bytes(32)
        self.store = self._store("kephs.sqlite3")
        self.blobs = FileBlobStore(room / "blobs", master_key=secrets.token_bytes(32))
        self.objects = FileObjectStore(room / "archive", clock=self.clock.now)
        self.cipher = ObjectCipher(secrets.token_bytes(32))
        self.key = NoteSigner(f"{DOMAIN}/kephs-ledger", Ed25519PrivateKey.generate())
        self.sealer: Sealer
        self.sealer, _ = stage.batch_sealer()
        self.messages: list[Submission] = []

    def _store(self, name: str) -> SqliteStore:
        upgrade_sqlite(self.room / name)
        return SqliteStore(self.room / name, column_key=self.columns)

    async def open(self) -> None:
        (self.room / "blobs").mkdir(exist_ok=True)
        await self.blobs.start()
        await self.store.start()

    async def close(self) -> None:
        await self.store.close()
        await self.blobs.close()
        await self.objects.close()
        self.offload.close()

    def seal(self) -> SealArchive:
        publish = PublishLedger(self.store, self.key, self.clock, alarm=_complain)
        rules = ArchiveRules(DOMAIN, "files", 20, OBJECTS_OF, timedelta(0), timedelta(hours=1))
        return SealArchive(
            store=self.store, blobs=self.blobs, objects=self.objects, cipher=self.cipher, sealer=self.sealer,
            revocation=_Answers(self.stage), publishing=publish, trust=self.stage.trust(),
            policy=SEAL_POLICY, offload=self.offload, clock=self.clock, rules=rules, alarm=_complain,
        )  # fmt: skip

    def reader(self, store: SqliteStore) -> ReadArchive:
        return ReadArchive(store, {"files": self.objects}, self.cipher, self.offload)

    async def fill(self, count: int) -> None:
        """Enter so much evidence, each really sealed, every fourth with its sender's material."""
        while count > 0:
            size = min(JOINED * _OF_MESSAGE, count)
            sealed = await self.sealer.seal_many(self.stage.records(size))
            materials = [_material() for _ in range(-(-size // _OF_MESSAGE))]
            blobs = await self.blobs.put_many([one.xml for one in sealed])
            kept = await self.blobs.put_many(materials)
            messages = [
                _message(one.record, blob.sha256)
                for one, blob in zip(sealed[::_OF_MESSAGE], kept, strict=True)
            ]
            rows = [
                _row(one, messages[n // _OF_MESSAGE].message_id, n % _OF_MESSAGE)
                for n, one in enumerate(sealed)
            ]

            def add(
                tx: Tx, blobs: Sequence[object] = (*blobs, *kept), messages: list[Submission] = messages,
                rows: Sequence[tuple[StoredEvidence, bytes | None]] = rows,
            ) -> None:  # fmt: skip
                for blob in blobs:
                    tx.blobs.add(blob)  # type: ignore[arg-type]
                for message in messages:
                    tx.messages.add(message)
                for row, ers in rows:
                    tx.evidence.add(row, ers)

            await self.store.write(add)
            self.messages += messages
            count -= size


async def archive(site: Site) -> list[Figure]:
    """Seal evidence into objects, compare them with their digests, rebuild the index from them."""
    count = max(LEAST, int(PER_SECOND * site.seconds) // OBJECTS_OF * OBJECTS_OF)
    stage = Stage.make(site.clock)
    with site.room("r", 0o700) as room:
        place = _Place(room, stage)
        await place.open()
        try:
            await place.fill(count)
            sealing, fixity = await _sealing(site, place, count), await _fixity(site, place)
            return [sealing, fixity, await _rebuild(site, place, count)]
        finally:
            await place.close()


async def _sealing(site: Site, place: _Place, count: int) -> Figure:
    seal = place.seal()
    wall, cpu = ticks(), time.process_time()
    made = await seal.seal_all()
    wall, cpu = ticks() - wall, time.process_time() - cpu
    if sum(one.last - one.first + 1 for one in made) < count:
        raise BenchError("not everything was sealed")
    rate = count / cpu
    more = {
        "evidences": count, "objects": len(made), "object_bytes": sum(one.size for one in made) // len(made),
        "wall_per_s": round(count / wall), "bytes_per_evidence": sum(one.size for one in made) // count,
        "share_of_core_at_300_per_s": round(WANTED_RATE / rate, 3), "target_share": WANTED_SHARE,
        "note": "per second of processor time, all threads: rows and contents read, proofs made and checked, "
        "material collected, both digests, seal, encryption, fsync",
    }  # fmt: skip
    name = f"{WANTED_RATE}/s in {WANTED_SHARE:.0%} of a core"
    return Figure(
        "archive", rate, "evidences/s", WANTED_RATE / WANTED_SHARE, name, own_peak_rss_mb(), site.disk, more
    )


async def _fixity(site: Site, place: _Place) -> Figure:
    check = CheckArchive(
        place.store, place.reader(place.store), place.clock, trust=place.stage.trust(), policy=SEAL_POLICY,
        pause=asyncio.sleep, monotonic=time.monotonic,
    )  # fmt: skip
    wall, cpu = ticks(), time.process_time()
    found = await check.run(everything=True)
    wall, cpu = ticks() - wall, time.process_time() - cpu
    if found.damaged or not found.objects:
        raise BenchError("objects did not hold")
    more = {
        "objects": found.objects, "octets": found.octets, "wall_mb_per_s": round(found.octets / _MB / wall),
        "note": "per second of processor time; SHA-256 and SHA-512; the cache may hold the files",
    }  # fmt: skip
    return Figure(
        "archive-fixity", found.octets / _MB / cpu, "MB/s", FIXITY_WANTED, f"{FIXITY_WANTED} MB/s a core",
        own_peak_rss_mb(), site.disk, more,
    )  # fmt: skip


async def _rebuild(site: Site, place: _Place, count: int) -> Figure:
    store = place._store("rebuilt.sqlite3")  # noqa: SLF001  # this module's own
    await store.start()
    try:
        await store.write(lambda tx: _enter(tx, place.messages))
        blobs = FileBlobStore(place.room / "rebuilt", master_key=secrets.token_bytes(32))
        (place.room / "rebuilt").mkdir()
        await blobs.start()
        index = RebuildIndex(
            store=store, blobs=blobs, objects=place.objects, place="files", reader=place.reader(store),
            trust=place.stage.trust(), policy=SEAL_POLICY, provider=DOMAIN, log=place.key.verifier,
            clock=place.clock, offload=place.offload, together=together,
        )  # fmt: skip
        wall, cpu = ticks(), time.process_time()
        result = await index.run()
        wall, cpu = ticks() - wall, time.process_time() - cpu
        await blobs.close()
    finally:
        await store.close()
    if not result.whole or result.evidence != count:
        raise BenchError("the index did not come back")
    more = {
        "evidences": count, "contents": result.contents, "cpu_per_s": round(count / cpu),
        "note": "wall time; contents of evidence and material put back too, tree built, seals judged",
    }  # fmt: skip
    return Figure(
        "archive-rebuild", count / wall, "evidences/s", REBUILD_WANTED, f"{REBUILD_WANTED}/s",
        own_peak_rss_mb(), site.disk, more,
    )  # fmt: skip


def _row(one: SealedEvidence, message_id: str, position: int) -> tuple[StoredEvidence, bytes | None]:
    kinds = (
        EvidenceKind.SUBMISSION_ACCEPTANCE,
        EvidenceKind.DELIVERY,
        EvidenceKind.RETRIEVAL,
        EvidenceKind.DELIVERY,
    )
    number = None if position == 0 else 1 + position // 3
    digest, record = sha256(one.xml).digest(), one.record
    row = StoredEvidence(
        record.evidence_id, kinds[position], message_id, number, None, digest, record.event_time
    )
    return row, one.ers


def _message(record: EvidenceRecord, material: bytes) -> Submission:
    facts = record.message
    recipient = Recipient(KepAddress.parse(f"mehmet@{DOMAIN}"), None, Role.TO)
    return Submission(
        facts.kep_message_id, None, None, MessageState.COMPLETED, facts.user_message_id, facts.digest_sha256,
        bytes(64), 4_096, facts.subject, Party(f"ayse@{DOMAIN}"), (recipient,),
        Authentication(record.event_time, "urn:test"), record.event_time, material, origin=None,
    )  # fmt: skip


def _material() -> bytes:
    """Return what is kept of a sender's signature: as large as it is, its certificate and answer its own."""
    shared = [b64encode(bytes([n]) * 1_100).decode() for n in range(2)]
    plain = {
        "report": {"steps": ["x" * 200] * 15},
        "certificates": [b64encode(secrets.token_bytes(1_100)).decode(), *shared],
        "ocsp": [b64encode(secrets.token_bytes(1_500)).decode()],
        "crls": [],
        "record": b64encode(secrets.token_bytes(2_100)).decode(),
    }
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def _enter(tx: Tx, messages: Sequence[Submission]) -> None:
    for one in messages:
        tx.messages.add(one)


def _complain(*what: object) -> None:
    raise BenchError(f"the archive complained: {what}")
