"""What waits for the archive is seen: as a metric, by the doctor, and the lane keeps its pace after failures."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from config.settings import SettingsError
from kephs.bootstrap.archive import ArchiveWork
from kephs.cli.health.backlog import _judged
from kephs.observability.metrics import Metrics
from kephs.ports.objects import ObjectUnavailableError, PointState, ProbePoint, ProbeReport
from kephs.usecases.archive.fixity import read_status
from kephs.worker.archive_lanes import SEAL, archive_lane
from tests.support.archive_world import ArchiveWorld, archive_world

HOUR = timedelta(hours=1)


async def page(archive: ArchiveWorld) -> str:
    metrics = Metrics(version="1", schema="1")
    metrics.watch_store(archive.world.store)
    return (await metrics.page(archive.world.clock, 0.0)).decode()


async def test_the_backlog_and_its_age_are_metrics() -> None:
    archive = await archive_world()
    await archive.letters(2)
    archive.forward(timedelta(seconds=90))
    shown = await page(archive)
    assert 'kephs_archive_backlog_entries{kind="delil"} 4.0' in shown
    assert 'kephs_archive_backlog_seconds{kind="delil"} 90.0' in shown
    await archive.seal.seal_all()
    shown = await page(archive)
    assert 'kephs_archive_backlog_entries{kind="delil"} 0.0' in shown
    assert 'kephs_archive_backlog_seconds{kind="delil"} 0.0' in shown
    assert 'kephs_archive_last_entry{kind="delil"} 4.0' in shown
    assert "kephs_archive_damaged 0.0" in shown


async def judged(archive: ArchiveWorld) -> dict[str, str]:
    now = archive.world.clock.now()
    status = await archive.world.store.read(lambda tx: read_status(tx, now, HOUR))
    return {one.code: one.level.value for one in _judged(status, now)}


async def test_the_doctor_says_when_the_archive_is_behind_or_rotten() -> None:
    archive = await archive_world()
    await archive.letters(1)
    assert await judged(archive) == {"archive-backlog": "ok"}
    archive.forward(2 * HOUR)
    assert await judged(archive) == {"archive-behind": "error"}
    await archive.seal.seal_all()
    name, at = (await archive.names())[0], archive.world.clock.now()
    await archive.world.store.write(lambda tx: tx.archive.mark_damaged(name, at))
    assert await judged(archive) == {"archive-damaged": "error", "archive-unchecked": "warning"}


async def test_a_lane_that_fails_tries_again_later_and_later_and_then_at_once() -> None:
    archive = await archive_world()
    clock, at = archive.world.clock, archive.world.clock.now()
    outcomes: list[BaseException | None] = [ObjectUnavailableError("503")] * 3 + [None]

    async def work() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    lane = archive_lane(SEAL, clock, lambda _tx: at, work, lambda error: isinstance(error, Exception))

    def claim() -> Any:
        return archive.world.store.write(lambda tx: lane.claim(tx, clock.now(), 1, clock.now()))

    waits = []
    for _ in range(3):
        (row,) = await claim()
        await lane.work(row)
        assert await claim() == ()
        due = await archive.world.store.read(lane.next_due)
        waits.append((due - clock.now()).total_seconds())
        clock.at = due
    assert waits == [2.0, 4.0, 8.0]
    (row,) = await claim()
    await lane.work(row)
    assert await archive.world.store.read(lane.next_due) == at


async def test_work_that_is_always_due_now_is_claimed_although_the_clock_went_on_since_the_look() -> None:
    archive = await archive_world()
    clock = archive.world.clock

    def due(_tx: Any) -> Any:
        clock.at += timedelta(microseconds=1)
        return clock.at

    async def work() -> None:
        return

    lane = archive_lane(SEAL, clock, due, work, lambda _error: False)
    looked = clock.now()
    assert len(await archive.world.store.write(lambda tx: lane.claim(tx, looked, 1, looked))) == 1


async def test_a_defect_in_the_archives_work_goes_up_to_the_worker() -> None:
    archive = await archive_world()

    async def work() -> None:
        raise ZeroDivisionError

    lane = archive_lane(SEAL, archive.world.clock, lambda _tx: None, work, lambda _error: False)
    with pytest.raises(ZeroDivisionError):
        await lane.work(None)


async def test_nothing_starts_on_a_store_that_lets_go_and_a_silent_one_is_proved_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = await archive_world()
    report = ProbeReport("x", (ProbePoint(5, "delete-refused", PointState.FAILED, "refused", "deleted"),))

    async def probe(*, deep: bool = False) -> ProbeReport:
        return report

    parts = SimpleNamespace(objects=archive.objects)
    work = ArchiveWork(parts, archive.seal)  # type: ignore[arg-type]
    await work.prove()
    monkeypatch.setattr(archive.memory, "probe", probe)
    with pytest.raises(SettingsError, match="delete-refused"):
        await work.prove()

    async def silent(*, deep: bool = False) -> ProbeReport:
        raise ObjectUnavailableError("503")

    monkeypatch.setattr(archive.memory, "probe", silent)
    with structlog.testing.capture_logs() as logs:
        await work.prove()
    assert [one["event"] for one in logs] == ["archive.not_proved"]
