"""A database written anew, chain, tree and checkpoints included, contradicts what the archive holds."""

from dataclasses import replace
from typing import Any

import pytest

from evidence.bundle.archive_object import ObjectKind
from evidence.ledger.chain import GENESIS, entry_hash
from kephs.ports.archive import ArchivedObject
from kephs.ports.objects import ObjectUnavailableError
from storage.fsck.archive import archived_rows
from storage.fsck.archived_entries import check_archived_entries, newest_objects
from tests.support.archive_world import ArchiveWorld
from tests.unit.test_archive_rebuild import filled, findings, forget


async def swap(archive: ArchiveWorld) -> None:
    """Let entries 2 and 5 change places, and write anew what would tell of it."""

    def work(tx: Any) -> None:
        ledger, previous = tx.evidence._t.ledger, GENESIS
        two, five = ledger[2], ledger[5]
        facts = ("evidence_id", "evidence_sha256", "at", "salt")
        ledger.put(2, replace(two, **{name: getattr(five, name) for name in facts}))
        ledger.put(5, replace(five, **{name: getattr(two, name) for name in facts}))
        for number in sorted(ledger):
            one = ledger[number]
            digest = entry_hash(number, previous, one.evidence_id, one.evidence_sha256, one.at)
            ledger.put(number, replace(one, previous=previous, hash=digest))
            previous = digest
        forget(tx, "tiles", "checkpoints")

    await archive.world.store.write(work)
    await archive.publish.publish()


async def alter_record(archive: ArchiveWorld) -> None:
    """Let an entry of the process record name another actor."""

    def work(tx: Any) -> None:
        audit = tx.evidence._t.audit
        audit.put(1, replace(audit[1], actor="somebody else"))

    await archive.world.store.write(work)


async def found(archive: ArchiveWorld, *, deep: bool = True) -> list[tuple[str, str]]:
    rows: list[ArchivedObject] = await archive.world.store.read(lambda tx: list(archived_rows(tx)))
    rows = rows if deep else newest_objects(rows)
    told = check_archived_entries(rows, archive.reader, archive.world.store, lambda _what, _count: None)
    return [(one.code.value, one.subject) async for one in told]


@pytest.mark.parametrize("objects_of", [1, 2, 1000])
async def test_an_archive_that_holds_what_the_database_has_has_no_findings(objects_of: int) -> None:
    archive = await filled(objects_of=objects_of)
    assert await found(archive) == []


async def test_a_ledger_written_anew_is_not_the_one_that_was_archived() -> None:
    archive = await filled(objects_of=3)
    await swap(archive)
    assert await findings(archive) == [], "chain, tree and checkpoint fit each other"
    assert await found(archive) == [
        ("archive.other_entry", "delil:2"), ("archive.other_entry", "delil:4"), ("archive.other_entry", "delil:7")
    ]  # fmt: skip


async def test_the_newest_object_alone_tells_of_every_entry_before_it() -> None:
    archive = await filled(objects_of=1)
    assert await found(archive, deep=False) == []
    await swap(archive)
    assert await found(archive, deep=False) == [("archive.other_entry", "delil:7")]


async def test_an_entry_of_the_process_record_that_was_altered_is_found() -> None:
    archive = await filled()
    await alter_record(archive)
    assert await found(archive) == [("archive.other_entry", "surec:1")]


async def test_entries_missing_at_the_end_and_silent_stores_are_for_other_checks() -> None:
    archive = await filled()

    def cut(tx: Any) -> None:
        tx.evidence._t.ledger.drop(7)

    await archive.world.store.write(cut)
    assert await found(archive) == []

    class Silent:
        async def open(self, row: ArchivedObject) -> Any:
            raise ObjectUnavailableError("503")

    rows = await archive.world.store.read(lambda tx: list(archived_rows(tx)))
    told = check_archived_entries(rows, Silent(), archive.world.store, lambda _what, _count: None)
    assert [one async for one in told] == []


async def test_rounds_of_renewal_hold_no_entries_and_are_not_opened_for_any() -> None:
    archive = await filled()
    rows = await archive.world.store.read(lambda tx: list(archived_rows(tx)))
    round_row = replace(rows[0], name="yenileme/000001.kepa", kind=ObjectKind.RENEWAL, last=99)
    assert round_row not in newest_objects([*rows, round_row])
    told = check_archived_entries(
        [round_row], archive.reader, archive.world.store, lambda _what, _count: None
    )
    assert [one async for one in told] == []


async def test_an_object_that_does_not_open_is_found() -> None:
    archive = await filled()
    (name,) = [one for one in await archive.names() if one.startswith(ObjectKind.EVIDENCE.value)]
    archive.memory.contents[name] = archive.memory.contents[name][:-1] + b"x"
    assert await found(archive) == [("archive.object_altered", name)]
