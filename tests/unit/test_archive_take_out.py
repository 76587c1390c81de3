"""Evidence whose message is not known any more is read from the objects, and comes back with its message."""

from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Any

import pytest

from evidence.ledger.proof import LedgerProof
from evidence.stamps.ers import read_record
from kephs.domain.audit_anchor import anchor_name
from kephs.ports.objects import ObjectDamagedError
from kephs.ports.preservation import RenewalReason
from kephs.usecases.archive.archived_proof import ReadProofs
from kephs.usecases.archive.preserve_records import RenewedRecords
from kephs.usecases.archive.reading import ReadArchive
from kephs.usecases.archive.take_out import TakeOut
from storage.fsck import check as fsck
from storage.fsck.findings import FindingCode
from storage.memory.store import MemoryBlobStore, MemoryStore
from tests.support.archive_world import ArchiveWorld, archive_world
from tests.support.world import Inline
from tests.unit.test_bundle_renewed import preserve


async def sealed(**changes: object) -> ArchiveWorld:
    archive = await archive_world(**changes)
    at = archive.world.clock.now()
    await archive.world.store.write(
        lambda tx: (tx.audit.add(at=at, actor="a", action="a.b", subject="s"), tx.audit.anchor(at))
    )
    await archive.letters(3)
    archive.forward(timedelta(minutes=1))
    await archive.seal.seal_all()
    return archive


def taking(archive: ArchiveWorld, store: Any) -> TakeOut:
    reader = ReadArchive(store, {"files": archive.objects}, archive.cipher, Inline())
    return TakeOut(
        store, reader, ReadProofs(store, reader, RenewedRecords(store, archive.objects, archive.cipher))
    )


def ers_of(name: str, tx: Any) -> Any:
    return tx.evidence.ers(name)


async def rebuilt(archive: ArchiveWorld) -> tuple[MemoryStore, Any]:
    store = MemoryStore()
    return store, await archive.rebuilding(store, MemoryBlobStore()).run()


@pytest.mark.parametrize("objects_of", [1, 1000])
async def test_all_evidence_that_a_rebuild_could_not_place_is_read_by_its_id(objects_of: int) -> None:
    archive = await sealed(objects_of=objects_of)
    store, result = await rebuilt(archive)
    assert len(result.homeless) == 6
    known = {
        row.evidence_id: row for row in await archive.world.store.read(lambda tx: list(tx.evidence.all()))
    }
    for name in result.homeless:
        (one,) = await taking(archive, store).find(name)
        assert one.evidence_id == name
        assert sha256(one.xml).digest() == known[name].blob
        assert one.message_id == known[name].message_id
        assert one.ers == await archive.world.store.read(partial(ers_of, name))
        assert one.proof is not None
        assert LedgerProof.read(one.proof).number == one.number
        assert {name.rpartition(".")[2] for name in one.revocation} >= {"ocsp"}


async def test_all_evidence_of_a_message_is_found_in_whichever_objects() -> None:
    archive = await sealed(objects_of=1)
    store, _ = await rebuilt(archive)
    message = (await archive.world.store.read(lambda tx: list(tx.messages.all())))[1]
    found = await taking(archive, store).find(message.message_id)
    assert [one.message_id for one in found] == [message.message_id] * 2
    assert [one.number for one in found] == sorted(one.number for one in found)


async def test_what_is_not_there_or_not_evidence_is_not_found() -> None:
    archive = await sealed()
    store, _ = await rebuilt(archive)
    assert await taking(archive, store).find("nothing") == []
    assert await taking(archive, store).find(anchor_name(1)) == []
    await archive.letters(1)
    waiting = (await archive.world.store.read(lambda tx: list(tx.evidence.ledger(7, 1))))[0]
    assert await taking(archive, archive.world.store).find(waiting.evidence_id) == []


async def test_rounds_of_renewal_are_joined() -> None:
    archive = await sealed()
    await preserve(archive).renew(RenewalReason.YEARLY, "sha256")
    store, result = await rebuilt(archive)
    (one,) = await taking(archive, store).find(result.homeless[0])
    assert one.ers is not None
    assert sum(map(len, read_record(one.ers).chains)) == 2


async def test_a_damaged_object_gives_nothing() -> None:
    archive = await sealed()
    store, result = await rebuilt(archive)
    name = next(one for one in archive.memory.contents if one.startswith("delil/"))
    content = archive.memory.contents[name]
    archive.memory.contents[name] = content[:500] + bytes([content[500] ^ 1]) + content[501:]
    with pytest.raises(ObjectDamagedError):
        await taking(archive, store).find(result.homeless[0])


def tables_of(tx: Any) -> Any:
    return tx.evidence._t


async def test_when_the_messages_come_back_the_next_rebuild_places_their_evidence() -> None:
    archive = await sealed()
    store, blobs = MemoryStore(), MemoryBlobStore()
    assert len((await archive.rebuilding(store, blobs).run()).homeless) == 6

    def unknown(tx: Any) -> list[str]:
        findings = fsck.check(tx, blobs, log=archive.log)
        return [one.detail for one in findings if one.code is FindingCode.LEDGER_UNKNOWN_EVIDENCE]

    assert len(await store.read(unknown)) == 6  # fsck tells of each until then

    def back(tx: Any) -> None:
        mine, theirs = tx.evidence._t, before
        for name in ("accounts", "operators", "messages", "deliveries"):
            for key in getattr(theirs, name):
                getattr(mine, name).put(key, getattr(theirs, name)[key])

    before = await archive.world.store.read(tables_of)
    await store.write(back)
    result = await archive.rebuilding(store, blobs).run()
    assert result.whole
    assert (result.evidence, result.entries, result.homeless) == (6, 0, [])
    assert await store.read(unknown) == []
