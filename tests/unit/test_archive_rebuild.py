"""From the objects alone the index comes back, the same to the letter; what contradicts them is named."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from evidence.bundle.archive_object import ObjectKind
from kephs.ports.objects import ObjectUnavailableError
from storage.fsck import check as fsck
from storage.memory.store import MemoryBlobStore, MemoryStore
from tests.support.archive_world import ArchiveWorld, archive_world


async def filled(**changes: object) -> ArchiveWorld:
    """Return a world whose evidence all lies in the archive, under several objects and checkpoints."""
    archive = await archive_world(**changes)
    at = archive.world.clock.now()
    await archive.world.store.write(
        lambda tx: (tx.audit.add(at=at, actor="a", action="a.b", subject="s"), tx.audit.anchor(at))
    )
    for _ in range(3):
        await archive.letters(1)
        archive.forward(timedelta(seconds=20))
        await archive.publish.publish()
    await archive.seal.seal_all()
    return archive


def forget(tx: Any, *tables: str) -> None:
    """Delete tables beneath the ports, as a lost disk does."""
    for name in tables:
        table = getattr(tx.evidence._t, name)
        for key in list(table):
            table.drop(key)


INDEX = (
    "evidence", "ledger", "records", "tiles", "checkpoints", "archived", "authorities", "appendices",
)  # fmt: skip


async def findings(archive: ArchiveWorld) -> list[Any]:
    return await archive.world.store.read(
        lambda tx: [one for one in fsck.check(tx, archive.world.blobs, log=archive.log) if not one.harmless]
    )


async def dump(archive: ArchiveWorld) -> dict[str, Any]:
    def look(tx: Any) -> dict[str, Any]:
        tables = tx.evidence._t
        return {
            name: {key: getattr(tables, name)[key] for key in getattr(tables, name)} for name in INDEX[:5]
        }

    return await archive.world.store.read(look)


@pytest.mark.parametrize("objects_of", [1, 2, 1000])
async def test_the_index_comes_back_the_same_to_the_letter(objects_of: int) -> None:
    archive = await filled(objects_of=objects_of)
    assert await findings(archive) == []
    before, names = await dump(archive), await archive.names()
    await archive.world.store.write(lambda tx: forget(tx, *INDEX))
    assert await findings(archive) != []
    result = await archive.rebuilding(archive.world.store, archive.world.blobs).run()
    assert result.whole
    assert await dump(archive) == before
    assert await findings(archive) == []
    assert await archive.names() == names


async def test_a_second_rebuild_finds_everything_there() -> None:
    archive = await filled()
    result = await archive.rebuilding(archive.world.store, archive.world.blobs).run()
    assert result.whole
    assert (result.evidence, result.entries, result.contents, result.records) == (0, 0, 0, 0)
    assert result.known == 6


async def test_lost_contents_of_evidence_come_back_too() -> None:
    archive = await filled()

    def forget_all(tx: Any) -> None:
        digests = [row.blob for row in tx.evidence.all()]
        digests += [message.material for message in tx.messages.all() if message.material]
        forget(tx, *INDEX)
        for digest in digests:
            tx.blobs._t.blobs.drop(digest)

    await archive.world.store.write(forget_all)
    result = await archive.rebuilding(archive.world.store, archive.world.blobs).run()
    assert result.whole
    assert result.contents == 9
    assert await findings(archive) == []


async def test_into_an_empty_instance_the_ledger_comes_and_evidence_without_message_is_named() -> None:
    archive = await filled()
    store, blobs = MemoryStore(), MemoryBlobStore()
    result = await archive.rebuilding(store, blobs).run()
    assert not result.whole
    assert len(result.homeless) == 6
    assert result.entries == 7
    assert result.records == await archive.world.store.read(lambda tx: tx.audit.head().number)
    ledger = await archive.world.store.read(lambda tx: tx.evidence.ledger(0, 100))
    assert await store.read(lambda tx: tx.evidence.ledger(0, 100)) == ledger
    assert await store.read(lambda tx: tx.tree.checkpoint()) == await archive.world.store.read(
        lambda tx: tx.tree.checkpoint()
    )


async def test_a_corrupted_object_is_named_with_the_entries_that_are_missing() -> None:
    archive = await filled(objects_of=2)
    (first, second, *_) = await archive.names()
    data = archive.memory.contents[second]
    archive.memory.contents[second] = data[:500] + bytes([data[500] ^ 1]) + data[501:]
    await archive.world.store.write(lambda tx: forget(tx, *INDEX))
    result = await archive.rebuilding(archive.world.store, archive.world.blobs).run()
    assert [name for name, _ in result.damaged] == [second]
    assert result.gaps == [(3, 4)]
    assert not result.whole
    assert first


async def test_swapped_objects_do_not_pass_for_each_other() -> None:
    archive = await filled(objects_of=2)
    (first, second, *_) = await archive.names()
    contents = archive.memory.contents
    contents[first], contents[second] = contents[second], contents[first]
    result = await archive.rebuilding(MemoryStore(), MemoryBlobStore()).run()
    assert {name for name, _ in result.damaged} >= {first, second}


async def test_an_index_that_contradicts_the_objects_is_named_and_stands() -> None:
    archive = await filled()

    def alter(tx: Any) -> None:
        tables = tx.evidence._t
        tables.ledger.put(3, replace(tables.ledger[3], salt=bytes(32)))

    await archive.world.store.write(alter)
    result = await archive.rebuilding(archive.world.store, archive.world.blobs).run()
    assert any("ledger entry 3" in text for text in result.contradictions)
    assert (await archive.world.store.read(lambda tx: tx.evidence.ledger(2, 1)))[0].salt == bytes(32)


async def test_a_rebuild_that_was_interrupted_goes_on() -> None:
    archive = await filled(objects_of=2)
    await archive.world.store.write(lambda tx: forget(tx, *INDEX))
    archive.objects.silent = 0
    calls = 0
    get = archive.memory.get

    async def some(ref: Any) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise ObjectUnavailableError("503")
        return await get(ref)

    archive.memory.get = some  # type: ignore[method-assign]
    index = archive.rebuilding(archive.world.store, archive.world.blobs)
    with pytest.raises(ObjectUnavailableError):
        await index.run()
    result = await archive.rebuilding(archive.world.store, archive.world.blobs).run()
    assert result.whole
    assert await findings(archive) == []


async def test_what_was_published_beyond_the_archive_is_told() -> None:
    archive = await archive_world(objects_of=2)
    await archive.letters(2)
    archive.forward(timedelta(minutes=1))
    await archive.publish.publish()
    await archive.seal.seal_due()  # entries 1 and 2; the checkpoint speaks of 4
    await archive.world.store.write(lambda tx: forget(tx, *INDEX))
    result = await archive.rebuilding(archive.world.store, archive.world.blobs).run()
    assert (result.last_entry, result.signed_beyond) == (2, 4)


async def test_objects_of_both_kinds_come_back_as_rows() -> None:
    archive = await filled()
    rows = await archive.world.store.read(lambda tx: tx.archive.all())
    await archive.world.store.write(lambda tx: forget(tx, *INDEX))
    await archive.rebuilding(archive.world.store, archive.world.blobs).run()
    assert await archive.world.store.read(lambda tx: tx.archive.all()) == rows
    assert {row.kind for row in rows} == {ObjectKind.EVIDENCE, ObjectKind.PROCESS}
    assert await archive.world.store.read(lambda tx: len(tx.preservation.authorities(0))) == 1
