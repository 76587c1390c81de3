"""A process record whose end was cut off is found: by a stranger with an export, by verify, fsck and doctor."""

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from evidence.report import Report, SubIndication, Verdict
from kephs.cli.record.audit import _follow
from kephs.cli.record.audit_files import ANCHORS, RECORD, check, export
from kephs.domain.audit_anchor import TOLERANCE, Statement
from kephs.domain.audit_check import Expected, check_record
from kephs.usecases.archive.compare_record import archived_problem
from kephs.usecases.governance.anchor_audit import LATE, AnchorAudit, Anchoring, read_anchoring
from storage.unit_of_work import SqliteStore
from tests.support.archive_world import archive_world
from tests.support.ledger_world import DAY, LedgerWorld
from tests.support.stores import COLUMN_KEY, new_database
from tests.unit.test_audit_tampering import Site, cut_off


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    path = new_database(tmp_path)
    store = SqliteStore(path, column_key=COLUMN_KEY)
    await store.start()
    world = await LedgerWorld(store).build()
    made = await Site(world, path).live()
    made.known = await store.read(lambda tx: list(tx.audit.page(0, 100)))
    yield made
    await store.close()


def checked(site: Site, folder: Path, **expected: Any) -> Report:
    now, log = site.world.clock.now(), site.world.key.verifier
    return check(folder, log, None, None, now, Expected(**expected))


def cut(folder: Path, last: int) -> None:
    """Take everything behind an entry out of an export, as whoever hands it on can."""
    path = folder / RECORD
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:last]))
    for one in (folder / ANCHORS).iterdir():
        if int(re.sub(r"\D", "", one.name)) > last:
            one.unlink()


async def test_an_export_ends_with_its_own_anchored_entry(site: Site, tmp_path: Path) -> None:
    assert (await site.handed_over(tmp_path / "out")).passed
    last = (tmp_path / "out" / RECORD).read_bytes().splitlines()[-1]
    assert b'"record.exported"' in last
    assert b'"user deneme"' in last
    report = checked(site, tmp_path / "out", asked=site.world.clock.now())
    assert report.verdict is Verdict.PASSED
    assert report.steps[-1].detail.startswith("exported ")
    number, _, digest = str(report.facts["head"]).partition(":")
    assert checked(site, tmp_path / "out", head=(int(number), bytes.fromhex(digest))).passed


@pytest.mark.parametrize("last", [8, 7, 6, 1])
async def test_a_tail_cut_off_an_export_together_with_its_anchors_does_not_pass(
    site: Site, tmp_path: Path, last: int
) -> None:
    await site.handed_over(tmp_path / "out")
    cut(tmp_path / "out", last)
    report = checked(site, tmp_path / "out")
    assert report.verdict is Verdict.INDETERMINATE
    assert report.sub_indication is SubIndication.SIGNED_DATA_NOT_FOUND
    assert report.failing_step is not None
    assert report.failing_step.name == "end"


async def test_an_empty_record_does_not_pass(site: Site) -> None:
    note = (await site.world.last()).note.encode()
    report = check_record([], [], note, site.world.key.verifier, site.world.clock.now())
    assert report.verdict is Verdict.INDETERMINATE
    assert report.facts["head"] == ""


async def test_a_record_cut_back_to_an_older_export_is_found_by_when_it_was_asked_for(
    site: Site, tmp_path: Path
) -> None:
    await site.handed_over(tmp_path / "old")
    site.world.clock.forward(7 * DAY)
    await site.handed_over(tmp_path / "new")
    cut(tmp_path / "new", 9)  # ends with the older export's entry, flawless in itself
    asked = site.world.clock.now()
    assert checked(site, tmp_path / "new").passed
    report = checked(site, tmp_path / "new", asked=asked)
    assert report.verdict is Verdict.FAILED
    assert report.sub_indication is SubIndication.TIMESTAMP_ORDER_FAILURE
    ended = site.world.clock.now() - 7 * DAY
    assert checked(site, tmp_path / "new", asked=ended + TOLERANCE).passed  # clocks differ
    assert not checked(site, tmp_path / "new", asked=ended + TOLERANCE + timedelta(seconds=1)).passed


async def test_a_record_cut_back_or_altered_behind_a_noted_entry_is_found(site: Site, tmp_path: Path) -> None:
    await site.handed_over(tmp_path / "old")
    site.world.clock.forward(DAY)
    await site.handed_over(tmp_path / "new")
    number, _, digest = str(checked(site, tmp_path / "new").facts["head"]).partition(":")
    noted = int(number), bytes.fromhex(digest)
    report = checked(site, tmp_path / "old", head=noted)
    assert report.verdict is Verdict.FAILED
    assert "was noted, and the record ends with 9" in report.steps[-1].detail
    report = checked(site, tmp_path / "new", head=(noted[0], bytes(32)))
    assert report.verdict is Verdict.FAILED
    assert "not the one that was noted" in report.steps[-1].detail


async def test_an_anchored_entry_that_was_deleted_is_gone_in_the_export_too(
    site: Site, tmp_path: Path
) -> None:
    """The rows of two days are deleted; what the export has of their anchors is a proof without entry."""
    site.rewrite(lambda entries: entries[:4])
    store = SqliteStore(site.path, column_key=COLUMN_KEY)
    await store.start()
    try:
        made = await export(store, site.world.prove, tmp_path / "out", site.world.clock, "deneme")
    finally:
        await store.close()
    assert made == (5, 4, [6, 8])
    assert not (tmp_path / "out" / ANCHORS / "000000000008.capa").exists()
    report = checked(site, tmp_path / "out")
    assert report.verdict is Verdict.FAILED
    assert report.failing_step is not None
    assert "whose entry is gone" in report.failing_step.detail


async def test_a_statement_of_another_record_is_no_anchor_of_this_one(site: Site, tmp_path: Path) -> None:
    await site.handed_over(tmp_path / "out")
    path = tmp_path / "out" / ANCHORS / "000000000009.capa"
    said = Statement.read(path.read_bytes())
    path.write_bytes(Statement(said.number, bytes(32), said.at).encode())
    assert checked(site, tmp_path / "out").verdict is Verdict.FAILED


async def test_verify_finds_deleted_rows_that_were_anchored(site: Site) -> None:
    log = site.world.key.verifier
    assert (await site.read(lambda tx: _follow(tx, None, log))).problem is None
    site.rewrite(cut_off)
    assert "it is gone" in (await site.read(lambda tx: _follow(tx, None, log))).problem
    assert (await site.read(read_anchoring)).missing == 1


async def test_rows_behind_the_last_anchor_are_missed_where_the_archive_has_them(site: Site) -> None:
    """Broken twin: without the object the same cut is not seen; that is what the documents say."""
    store, log = site.world.store, site.world.key.verifier
    for number in range(3):
        at = site.world.clock.now()
        await store.write(
            lambda tx, at=at, n=number: tx.audit.add(at=at, actor="Ali", action="a.b", subject=str(n))
        )
    site.known = await site.read(lambda tx: list(tx.audit.page(0, 100)))
    site.rewrite(cut_off)
    assert (await site.read(lambda tx: _follow(tx, None, log))).problem is None
    site.cheat.sql(
        "INSERT INTO archive_objects (name, kind, first_no, last_no, size, sha256, sha512, place, version, sealed_at,"
        " retain_until, state, renewed_round) SELECT 'surec/x', 'surec', 1, 11, 1, zeroblob(32), zeroblob(64),"
        " 'files', '', 0, 0, 'sealed', 0"
    )
    found = await site.read(lambda tx: _follow(tx, None, log))
    assert found.problem == "the archive holds 1 entries more: the end was cut off"


async def test_an_end_cut_off_and_written_anew_is_not_what_the_objects_hold() -> None:
    """The chain holds, the count is right, no anchor covers it; broken twin: without the objects."""
    archive = await archive_world()
    store, at = archive.world.store, archive.world.clock.now()

    def note(tx: Any, subject: str) -> None:
        tx.audit.add(at=at, actor="a", action="a.b", subject=subject)

    for number in range(3):
        await store.write(partial(note, subject=f"s{number}"))
    archive.forward(timedelta(minutes=2))
    assert await archived_problem(store, archive.reader) is None
    await archive.seal.seal_all()
    assert await archived_problem(store, archive.reader) is None

    def cut(tx: Any) -> None:
        table = tx.evidence._t.audit
        table.drop(len(table))

    await store.write(cut)
    last = await store.read(lambda tx: len(list(tx.audit.page(0, 100)))) + 1
    assert str(await archived_problem(store, archive.reader)).startswith(f"entry {last} is gone; surec/")
    await store.write(lambda tx: note(tx, "another"))
    assert await store.read(read_anchoring) == Anchoring(last, at)  # nothing is missing by its count
    problem = str(await archived_problem(store, archive.reader))
    assert problem.startswith(f"entry {last} is another one than surec/")


async def test_what_is_not_anchored_for_two_days_is_late_and_raises_the_alarm() -> None:
    archive = await archive_world()
    store, clock = archive.world.store, archive.world.clock
    alarms: list[tuple[str, str]] = []
    work = AnchorAudit(store, clock, alarm=lambda event, detail: alarms.append((event, detail)))
    await work.anchor()
    assert await store.read(read_anchoring) == Anchoring()
    at: datetime = clock.now()
    await store.write(lambda tx: tx.audit.add(at=at, actor="a", action="a.b", subject="s"))
    archive.forward(LATE)
    assert (await store.read(read_anchoring)) == Anchoring(1, at)
    assert not (await store.read(read_anchoring)).late(clock.now())
    archive.forward(timedelta(seconds=1))
    assert (await store.read(read_anchoring)).late(clock.now())
    await work.anchor()
    assert alarms == [("audit.anchor_late", "1 entries, oldest 172801 s")]
    await work.anchor()
    assert len(alarms) == 1
    assert (await store.read(read_anchoring)).age(clock.now()) == timedelta(0)


async def test_the_worker_raises_the_alarm_where_anchored_rows_were_deleted(site: Site) -> None:
    site.rewrite(cut_off)
    store = SqliteStore(site.path, column_key=COLUMN_KEY)
    await store.start()
    alarms: list[str] = []
    try:
        await AnchorAudit(store, site.world.clock, alarm=lambda event, _: alarms.append(event)).anchor()
    finally:
        await store.close()
    assert alarms == ["audit.cut"]
