"""A process record that nobody anchors, or whose end is gone, is seen: as a metric, by the doctor, in the log."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import structlog

from kephs.bootstrap.ledger import PublicLedger
from kephs.cli.health.backlog import _anchored
from kephs.cli.health.turkish import TURKISH
from kephs.observability.metrics import Metrics
from kephs.usecases.governance.anchor_audit import AnchorAudit, Anchoring
from tests.support.archive_world import ArchiveWorld, archive_world

HOUR = timedelta(hours=1)


async def shown(archive: ArchiveWorld) -> dict[str, float]:
    metrics = Metrics(version="1", schema="1")
    metrics.watch_store(archive.world.store)
    page = (await metrics.page(archive.world.clock, 0.0)).decode()
    return {
        name.removeprefix("kephs_audit_"): float(value)
        for name, _, value in (line.partition(" ") for line in page.splitlines())
        if name.startswith("kephs_audit_")
    }


async def note(archive: ArchiveWorld) -> None:
    at = archive.world.clock.now()
    await archive.world.store.write(lambda tx: tx.audit.add(at=at, actor="a", action="a.b", subject="s"))


async def test_entries_without_an_anchor_and_their_age_are_metrics() -> None:
    archive = await archive_world()
    await AnchorAudit(archive.world.store, archive.world.clock).anchor()
    none = {
        "unanchored_entries": 0.0, "unanchored_seconds": 0.0, "anchor_late": 0.0, "missing_entries": 0.0,
    }  # fmt: skip
    assert await shown(archive) == none
    await note(archive)
    archive.forward(47 * HOUR)
    await note(archive)
    assert await shown(archive) == none | {"unanchored_entries": 2.0, "unanchored_seconds": 47 * 3600.0}
    archive.forward(2 * HOUR)
    late = await shown(archive)
    assert (late["anchor_late"], late["unanchored_seconds"]) == (1.0, 49 * 3600.0)
    await AnchorAudit(archive.world.store, archive.world.clock).anchor()
    assert await shown(archive) == none


async def test_a_cut_end_is_a_metric() -> None:
    archive = await archive_world()
    await note(archive)
    await AnchorAudit(archive.world.store, archive.world.clock).anchor()

    def cut(tx: Any) -> None:
        table = tx.evidence._t.audit
        table.drop(len(table))

    await archive.world.store.write(cut)
    assert (await shown(archive))["missing_entries"] == 1.0


def codes(found: Anchoring, now: Any) -> dict[str, str]:
    return {one.code: one.level.value for one in _anchored(found, now)}


async def test_the_doctor_says_when_the_record_is_not_anchored_or_was_cut() -> None:
    now = (await archive_world()).world.clock.now()
    assert codes(Anchoring(), now) == {"audit-anchored": "ok"}
    assert codes(Anchoring(3, now - 48 * HOUR), now) == {"audit-anchored": "ok"}
    assert codes(Anchoring(3, now - 49 * HOUR), now) == {"audit-unanchored": "error"}
    assert codes(Anchoring(missing=1), now) == {"audit-cut": "error"}
    both = codes(Anchoring(3, now - 49 * HOUR, 1), now)
    assert both == {"audit-cut": "error", "audit-unanchored": "error"}
    assert set(both) <= set(TURKISH)


async def test_the_workers_lane_writes_the_alarm_into_the_log_before_it_anchors() -> None:
    archive = await archive_world()
    store, clock = archive.world.store, archive.world.clock
    await note(archive)
    archive.forward(49 * HOUR)
    parts: Any = SimpleNamespace(due=lambda _tx: None, publish=None)
    ledger = PublicLedger(None, store, clock, parts, None, None, None)  # type: ignore[arg-type]
    lane = next(one for one in ledger.lanes() if one.name == "audit anchor")
    (row,) = await store.write(lambda tx: lane.claim(tx, clock.now(), 1, clock.now()))
    with structlog.testing.capture_logs() as logs:
        await lane.work(row)
    assert [(one["event"], one["log_level"]) for one in logs] == [("audit.anchor_late", "error")]
    assert (await shown(archive))["unanchored_entries"] == 0.0
