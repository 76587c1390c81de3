"""Evidence and process records leave for the archive in order, once, and whole (KEP-RT-01)."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from evidence.bundle.archive_object import ObjectKind
from evidence.bundle.archive_read import judge_object
from evidence.ledger.proof import LedgerProof, check_proof
from evidence.report import Verdict
from evidence.x509.chain import TrustStore
from kephs.ports.objects import ObjectRef, ObjectStore, ObjectUnavailableError
from kephs.usecases.archive.material import whole_material
from kephs.usecases.archive.seal import ArchiveRules, MaterialSilentError, years_after
from tests.support.archive_world import ArchiveWorld, DiedError, archive_world

MINUTE = timedelta(minutes=1)


async def objects_of(archive: ArchiveWorld, kind: ObjectKind = ObjectKind.EVIDENCE) -> list:
    rows = await archive.world.store.read(lambda tx: tx.archive.all(kind=kind))
    return [await archive.reader.open(row) for row in rows]


async def entries(archive: ArchiveWorld) -> list:
    return await archive.world.store.read(lambda tx: tx.evidence.ledger(0, 10_000))


async def assert_each_entry_lies_in_exactly_one_object(archive: ArchiveWorld) -> None:
    held = [one.entry for item in await objects_of(archive) for one in item.evidences]
    assert sorted(held, key=lambda entry: entry.number) == await entries(archive)


async def test_evidence_waits_for_company_until_it_is_old_enough() -> None:
    archive = await archive_world()
    await archive.letters(2)
    assert await archive.seal.seal_due() is None
    archive.forward(MINUTE)
    made = await archive.seal.seal_due()
    assert made is not None
    assert (made.first, made.last) == (1, 4)
    await assert_each_entry_lies_in_exactly_one_object(archive)


async def test_an_object_that_is_full_does_not_wait() -> None:
    archive = await archive_world(objects_of=2)
    await archive.letters(2)
    spans = [(one.first, one.last) for _ in range(2) if (one := await archive.seal.seal_due())]
    assert spans == [(1, 2), (3, 4)]
    await assert_each_entry_lies_in_exactly_one_object(archive)


async def test_one_evidence_an_object_turns_gathering_off() -> None:
    archive = await archive_world(objects_of=1)
    await archive.letters(1)
    made = await archive.seal.seal_all()
    assert [(one.first, one.last) for one in made if one.kind is ObjectKind.EVIDENCE] == [(1, 1), (2, 2)]


async def test_an_object_brings_everything_that_proof_needs() -> None:
    archive = await archive_world()
    await archive.letters(2)
    await archive.seal.seal_all()
    (one,) = await objects_of(archive)
    assert judge_object(one, archive.world.trust, archive.world.clock.now()).verdict is Verdict.PASSED
    rows = await archive.world.store.read(lambda tx: {e.evidence_id: e for e in tx.evidence.all()})
    newest = max(one.checkpoints, key=lambda item: item.size)
    for item in one.evidences:
        assert sha256(item.xml).digest() == rows[item.entry.evidence_id].blob
        ers = await archive.world.store.read(lambda tx, i=item: tx.evidence.ers(i.entry.evidence_id))
        assert item.ers == ers is not None
        proof = LedgerProof.read(item.proof)
        assert proof.checkpoint.root == newest.root
        assert check_proof(proof, item.entry.evidence_sha256, proof.checkpoint)
        endings = {name.rpartition(".")[2] for name in item.material}
        assert {"cer", "ocsp"} <= endings
    assert one.authorities
    assert one.body["missing"] == []


async def test_the_material_of_the_senders_signature_comes_back_to_the_letter() -> None:
    archive = await archive_world()
    await archive.letters(1)
    await archive.seal.seal_all()
    (one,) = await objects_of(archive)
    (verdict,) = [name for name in one.evidences[0].material if name.endswith(".json")]
    stored = await archive.world.store.read(
        lambda tx: tx.messages.get(one.evidences[0].row["message_id"]).material
    )
    assert sha256(whole_material(one.files[verdict], one.files)).digest() == stored
    assert not any(name.endswith(".json") for name in one.evidences[1].material)


async def test_process_records_are_kept_the_same_way() -> None:
    archive = await archive_world()
    at = archive.world.clock.now()
    for n in range(3):
        await archive.world.store.write(
            lambda tx, n=n: tx.audit.add(at=at, actor="Çiğdem", action="a.b", subject=f"s{n}")
        )
    await archive.seal.seal_all()
    (one,) = await objects_of(archive, ObjectKind.PROCESS)
    last = one.last
    assert last == await archive.world.store.read(lambda tx: tx.audit.head().number)
    assert judge_object(one, archive.world.trust, at).passed
    assert "Çiğdem" in one.records[-1][1].decode()


async def test_an_anchor_of_the_process_record_lies_in_the_archive_with_its_statement() -> None:
    archive = await archive_world()
    at = archive.world.clock.now()
    await archive.world.store.write(
        lambda tx: (tx.audit.add(at=at, actor="a", action="a.b", subject="s"), tx.audit.anchor(at))
    )
    await archive.letters(1)
    await archive.seal.seal_all()
    (one,) = await objects_of(archive)
    assert one.evidences[0].statement
    assert one.evidences[0].xml.startswith(b"kephs process record\n")
    assert not one.evidences[1].statement
    await assert_each_entry_lies_in_exactly_one_object(archive)


async def test_retention_is_twenty_years_from_the_sealing_and_less_is_refused() -> None:
    archive = await archive_world()
    await archive.letters(1)
    (made, *_) = await archive.seal.seal_all()
    assert made.retain_until >= years_after(archive.world.clock.now(), 20)
    with pytest.raises(ValueError, match="KEP-RT-01"):
        ArchiveRules("hs91.kep.tr", "files", 19, 1000, MINUTE, MINUTE)
    assert years_after(datetime(2028, 2, 29, tzinfo=UTC), 21) == datetime(2049, 3, 1, tzinfo=UTC)


async def test_killed_before_the_object_is_written_nothing_is_lost() -> None:
    archive = await archive_world()
    await archive.letters(2)
    archive.objects.before = 1
    with pytest.raises(DiedError):
        await archive.seal.seal_all()
    await archive.seal.seal_all()
    await assert_each_entry_lies_in_exactly_one_object(archive)


async def test_killed_after_the_object_is_written_it_is_found_and_taken() -> None:
    archive = await archive_world()
    await archive.letters(2)
    archive.objects.after = 1
    with pytest.raises(DiedError):
        await archive.seal.seal_all()
    assert await archive.names() == []
    await archive.letters(1)  # more came meanwhile: the range would be another one today
    archive.forward(MINUTE)
    await archive.seal.seal_all()
    spans = [(one.first, one.last) for one in await objects_of(archive)]
    assert spans == [(1, 4), (5, 6)]
    await assert_each_entry_lies_in_exactly_one_object(archive)
    assert archive.alarms == []


@dataclass
class Beside:
    """An object store whose first put finds that another process has just sealed the same."""

    inner: ObjectStore
    other: Callable[[], Awaitable[object]] | None

    async def put(self, name: str, data: bytes, retain_until: datetime) -> ObjectRef:
        if self.other is not None:
            other, self.other = self.other, None
            with suppress(DiedError):
                await other()
        return await self.inner.put(name, data, retain_until)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.mark.parametrize("dies", [False, True], ids=["noted", "put, and not noted yet"])
@pytest.mark.parametrize("size", [1, 1000])
async def test_what_another_process_seals_at_the_same_moment_is_sealed_once(size: int, dies: bool) -> None:
    archive = await archive_world(objects_of=size)
    await archive.letters(2)
    other = archive.sealing(archive.rules)

    async def beside() -> None:
        archive.objects.after = int(dies)
        await (other.seal_due() if size == 1000 else other.seal_all())

    archive.forward(MINUTE)
    ours = archive.sealing(archive.rules)
    ours._objects = Beside(archive.objects, beside)
    await ours.seal_all()
    await assert_each_entry_lies_in_exactly_one_object(archive)
    assert archive.alarms == []


async def test_what_stands_under_our_name_and_is_not_ours_is_told_and_passed_by() -> None:
    archive = await archive_world()
    await archive.letters(1)
    first = (await entries(archive))[0]
    name = f"delil/{first.at:%Y/%m/%d}/000000000001-000000000002.kepa"
    await archive.memory.put(name, b"rubbish", archive.world.clock.now() + MINUTE)
    await archive.seal.seal_all()
    assert {event for event, _ in archive.alarms} == {"archive.strange_object", "archive.name_taken"}
    assert [(one.first, one.last) for one in await objects_of(archive)] == [(1, 1), (2, 2)]


async def test_an_object_of_somebody_elses_key_is_not_taken() -> None:
    """An attacker who may write the store but has not the master key puts nothing into the archive."""
    archive, other = await archive_world(), await archive_world()
    for each in (archive, other):
        await each.letters(1)
    await other.seal.seal_all()
    (name, *_) = await other.names()
    foreign = other.memory.contents[name]
    await archive.memory.put(name, foreign, archive.world.clock.now() + MINUTE)
    await archive.seal.seal_all()
    assert "archive.strange_object" in {event for event, _ in archive.alarms}
    await assert_each_entry_lies_in_exactly_one_object(archive)


async def test_a_silent_store_loses_nothing_and_the_backlog_raises_the_alarm() -> None:
    archive = await archive_world()
    await archive.letters(1)
    archive.forward(MINUTE)
    archive.objects.silent = 1
    with pytest.raises(ObjectUnavailableError):
        await archive.seal.seal_due()
    assert archive.alarms == []
    archive.forward(timedelta(hours=2))
    archive.objects.silent = 1
    with pytest.raises(ObjectUnavailableError):
        await archive.seal.seal_due()
    assert {event for event, _ in archive.alarms} == {"archive.behind"}
    assert await archive.seal.seal_due() is not None
    await assert_each_entry_lies_in_exactly_one_object(archive)


async def test_issuers_that_are_silent_are_waited_for_and_then_named_as_missing() -> None:
    archive = await archive_world()
    await archive.letters(1)
    archive.world.ocsp.down = True
    with pytest.raises(MaterialSilentError):
        await archive.seal.seal_all()
    assert await archive.names() == []
    archive.forward(timedelta(hours=2))
    await archive.seal.seal_all()
    assert "archive.issuer_silent" in {event for event, _ in archive.alarms}
    (one,) = await objects_of(archive)
    assert one.body["missing"]


async def test_evidence_that_waits_for_its_stamp_holds_what_is_behind_it() -> None:
    archive = await archive_world()
    await archive.letters(1)

    def unstamp(tx) -> None:
        tables = tx.evidence._t  # beneath the port: what the grace of D16 leaves behind
        row = tables.evidence[tables.ledger[2].evidence_id]
        tables.evidence.put(row.evidence_id, replace(row, unstamped=True))

    await archive.world.store.write(unstamp)
    await archive.seal.seal_all()
    assert [(one.first, one.last) for one in await objects_of(archive)] == [(1, 1)]


async def test_two_processes_that_seal_at_once_hold_every_entry_once() -> None:
    archive = await archive_world()
    await archive.letters(2)
    first, second = archive.sealing(archive.rules), archive.sealing(archive.rules)
    await asyncio.gather(first.seal_all(), second.seal_all())
    await assert_each_entry_lies_in_exactly_one_object(archive)


async def test_no_root_no_verdict() -> None:
    archive = await archive_world()
    await archive.letters(1)
    await archive.seal.seal_all()
    (one,) = await objects_of(archive)
    at = archive.world.clock.now()
    assert judge_object(one, None, at).verdict is Verdict.INDETERMINATE
    assert judge_object(one, TrustStore(()), at).verdict is Verdict.INDETERMINATE
