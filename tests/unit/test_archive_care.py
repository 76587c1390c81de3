"""Objects are looked after: compared with their digests, quarantined, carried elsewhere, counted."""

from datetime import timedelta

import pytest

from kephs.ports.archive import ObjectState
from kephs.ports.objects import ObjectError, ObjectUnavailableError
from kephs.usecases.archive.fixity import read_status
from tests.support.archive_world import ArchiveWorld, DiedError, archive_world

HALF_YEAR = timedelta(days=181)


async def filled(count: int = 3) -> ArchiveWorld:
    archive = await archive_world(objects_of=2)
    await archive.letters(count)
    await archive.seal.seal_all()
    return archive


def corrupt(archive: ArchiveWorld, name: str) -> None:
    data = archive.memory.contents[name]
    archive.memory.contents[name] = data[:-1] + bytes([data[-1] ^ 1])


async def states(archive: ArchiveWorld) -> dict[str, ObjectState]:
    rows = await archive.world.store.read(lambda tx: tx.archive.all())
    return {row.name: row.state for row in rows}


async def test_only_what_is_due_is_compared_and_then_not_for_half_a_year() -> None:
    archive = await filled()
    assert (await archive.check.run()).objects == 0
    archive.forward(HALF_YEAR)
    names = await archive.names()
    assert (await archive.check.run()).objects == len(names)
    assert (await archive.check.run()).objects == 0


@pytest.mark.parametrize("deep", [False, True])
async def test_a_corrupted_object_is_quarantined_and_sound_again_when_a_copy_came_back(deep: bool) -> None:
    archive = await filled()
    name = (await archive.names())[1]
    good = archive.memory.contents[name]
    corrupt(archive, name)
    found = await archive.check.run(everything=True, deep=deep)
    assert [one for one, _ in found.damaged] == [name]
    assert (await states(archive))[name] is ObjectState.DAMAGED
    status = await archive.world.store.read(
        lambda tx: read_status(tx, archive.world.clock.now(), timedelta(hours=1))
    )
    assert [row.name for row in status.damaged] == [name]
    assert not status.healthy
    archive.memory.contents[name] = good
    assert (await archive.check.run()).damaged == ()
    assert (await states(archive))[name] is ObjectState.SEALED


async def test_a_check_that_was_interrupted_goes_on_where_it_was() -> None:
    archive = await filled(4)
    total = len(await archive.names())
    seen: list[int] = []

    def die(objects: int, _octets: int, _damaged: int) -> None:
        seen.append(objects)
        if objects == 2:
            raise DiedError

    with pytest.raises(DiedError):
        await archive.check.run(everything=True, progress=die)
    assert (await archive.check.run(everything=True)).objects == total - 2


async def test_what_was_compared_today_is_compared_again_when_asked_for() -> None:
    archive = await filled(4)
    total = len(await archive.names())
    await archive.check.run(everything=True)
    archive.forward(timedelta(minutes=1))
    assert (await archive.check.run(everything=True, deep=True)).objects == 0
    assert (await archive.check.run(everything=True, again=True, deep=True)).objects == total


async def test_a_check_keeps_its_pace() -> None:
    archive = await filled()
    found = await archive.check.run(everything=True, octets_per_second=1000.0)
    assert archive.paused[-1] == pytest.approx(found.octets / 1000)


async def test_a_store_that_gives_nothing_ends_the_check_and_nothing_is_marked() -> None:
    archive = await filled()
    archive.objects.silent = 100
    with pytest.raises(ObjectUnavailableError):
        await archive.check.run(everything=True)
    assert set((await states(archive)).values()) == {ObjectState.SEALED}


async def test_carried_objects_lie_elsewhere_and_read_the_same() -> None:
    archive = await filled()
    before = [await archive.reader.open(row) for row in await rows(archive)]
    result = await archive.move.run("s3")
    assert result.objects == len(before)
    assert {row.place for row in await rows(archive)} == {"s3"}
    archive.objects.silent = 100  # the old store is not asked any more
    assert [await archive.reader.open(row) for row in await rows(archive)] == before
    assert (await archive.move.run("s3")).objects == 0


async def rows(archive: ArchiveWorld) -> list:
    return list(await archive.world.store.read(lambda tx: tx.archive.all()))


async def test_a_move_that_was_killed_goes_on_and_carries_nothing_twice() -> None:
    archive = await filled(4)
    total = len(await archive.names())
    archive.other.after = 1
    with pytest.raises(DiedError):
        await archive.move.run("s3")
    archive.other.before = 1
    with pytest.raises(DiedError):
        await archive.move.run("s3")
    assert (await archive.move.run("s3")).objects == total
    back = await archive.move.run("files")
    assert back.objects == total
    assert set((await states(archive)).values()) == {ObjectState.MOVED}


async def test_what_is_damaged_is_not_carried() -> None:
    archive = await filled()
    name = (await archive.names())[0]
    corrupt(archive, name)
    result = await archive.move.run("s3")
    assert [one for one, _ in result.damaged] == [name]
    kept = {row.name: (row.place, row.state) for row in await rows(archive)}
    assert kept[name] == ("files", ObjectState.DAMAGED)
    assert {place for place, _ in kept.values()} == {"files", "s3"}


async def test_objects_in_a_store_the_settings_do_not_name_are_an_error_not_a_loss() -> None:
    archive = await filled()
    with pytest.raises(ObjectError, match="do not name"):
        await archive.move.run("tape")


async def test_the_retention_ledger_says_what_waits_and_what_is_kept_until_when() -> None:
    archive = await filled(1)
    await archive.letters(1)
    archive.forward(timedelta(hours=2))
    now = archive.world.clock.now()
    status = await archive.world.store.read(lambda tx: read_status(tx, now, timedelta(hours=1)))
    assert (status.archived_entry, status.newest_entry) == (2, 4)
    assert status.backlogs[0].entries == 2
    assert status.alarm
    assert status.totals.never_checked == status.totals.objects
    assert status.totals.earliest_end.year == now.year + 20


async def test_evidence_of_a_range_is_read_back_from_objects() -> None:
    archive = await filled(4)
    found = [one async for one in archive.reader.read(2, 7)]
    entries = await archive.world.store.read(lambda tx: tx.evidence.ledger(1, 6))
    assert [one.number for one in found] == [entry.number for entry in entries]
    with pytest.raises(ObjectError, match="no object"):
        [one async for one in archive.reader.read(8, 99)]
