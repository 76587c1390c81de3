"""The worker's lanes: each at its own pace, none stopped by another, by a failure or by silence."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Self

import pytest

from evidence.ports import TimestampUnavailableError
from kephs.ports import StoreUnavailableError
from kephs.system import LocalChanges
from kephs.worker.run import Lane, Worker, backoff
from storage.memory.store import MemoryStore
from tests.support.world import Clock

START = Clock().now()
LATER = timedelta(milliseconds=20)


@dataclass
class Rows:
    """Work due of one lane, without a store: rows are claimed once and done by ``do``.

    Those of ``later`` fall due `LATER`; while they are ``held`` another process is about to take them.
    """

    name: str
    waiting: list[int]
    clock: Clock
    done: list[int] = field(default_factory=list)
    postponed: list[int] = field(default_factory=list)
    at_once: int = 4
    refill: int = 1
    patience: float = 60.0
    claim_error: Exception | None = None
    error: Exception | None = None
    stuck: frozenset[int] = frozenset()
    later: list[int] = field(default_factory=list)
    held: bool = False
    claims: int = 0
    most: int = 0
    running: int = 0

    def lane(self) -> Lane:
        return Lane(
            self.name, self.claim, str, lambda _row: 0, self.work, self.postpone, self.next_due,
            at_once=self.at_once, refill=self.refill, patience=self.patience, gather=0.0,
        )  # fmt: skip

    def claim(self, _tx, now, limit: int, _until) -> Sequence[int]:
        if self.claim_error is not None:
            error, self.claim_error = self.claim_error, None
            raise error
        self.claims += 1
        if self.held:
            return []
        if now >= START + LATER:
            self.waiting, self.later = self.waiting + self.later, []
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken

    def next_due(self, _tx):
        if self.waiting:
            return self.clock.now()
        return START + LATER if self.later else None

    async def work(self, row: int) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            if row in self.stuck:
                await asyncio.Event().wait()
            if self.error is not None:
                error, self.error = self.error, None
                raise error
            self.done.append(row)
        finally:
            self.running -= 1

    def postpone(self, _tx, row: int, _at) -> None:
        self.postponed.append(row)


class CountingStore(MemoryStore):
    """Counts the looks that lanes take."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    async def read(self, work):
        """Look, and count it."""
        self.looks += 1
        return await super().read(work)


class Running:
    """A worker that runs until the test leaves its block."""

    def __init__(self, *rows: Rows, clock: Clock) -> None:
        self.lanes = [one.lane() for one in rows]
        self.changes, self.stopping = LocalChanges(), asyncio.Event()
        self.tidied = 0
        self.store = CountingStore()
        self.worker = Worker(
            store=self.store, clock=clock,
            subscribe=lambda: self.changes.subscribe(LocalChanges.EVERYTHING), lanes=lambda: self.lanes,
            take_over=lambda _tx, _now: None, tidy=self.tidy, tidy_every=timedelta(milliseconds=5),
        )  # fmt: skip

    async def tidy(self) -> int:
        self.tidied += 1
        if self.tidied == 1:
            raise StoreUnavailableError("busy")
        return 1

    async def __aenter__(self) -> Self:
        self.task = asyncio.ensure_future(self.worker.run(self.stopping))
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.stopping.set()
        async with asyncio.timeout(10):
            await self.task


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_everything_due_is_done_with_no_more_at_once_than_the_lane_allows() -> None:
    clock = Clock()
    rows = Rows("a", list(range(25)), clock)
    async with Running(rows, clock=clock):
        await until(lambda: len(rows.done) == 25)
    assert sorted(rows.done) == list(range(25))
    assert rows.most <= rows.at_once


def together(rows: Rows, *, fails_with: Exception | None = None) -> tuple[Lane, list[Sequence[int]]]:
    """Return the lane with groups of three rows, and the groups as they come."""
    groups: list[Sequence[int]] = []

    async def work_all(group: Sequence[int]) -> None:
        groups.append(group)
        await asyncio.sleep(0)
        if fails_with is not None:
            raise fails_with
        rows.done.extend(group)

    return replace(rows.lane(), work_all=work_all, group=3, at_once=2), groups


async def test_what_is_due_together_is_done_together_in_groups() -> None:
    clock = Clock()
    rows = Rows("a", list(range(10)), clock)
    async with Running(rows, clock=clock) as running:
        running.lanes[0], groups = together(rows)
        await until(lambda: len(rows.done) == 10)
    assert sorted(rows.done) == list(range(10))
    assert max(len(group) for group in groups) == 3
    assert rows.postponed == []


async def test_the_rows_of_a_group_that_fails_are_done_one_by_one() -> None:
    clock = Clock()
    rows = Rows("a", list(range(6)), clock, error=ValueError("one of them"))
    async with Running(rows, clock=clock) as running:
        running.lanes[0], groups = together(rows, fails_with=ValueError("one of them"))
        await until(lambda: len(rows.done) == 5 and len(rows.postponed) == 1)
    assert sorted([*rows.done, *rows.postponed]) == list(range(6))
    assert groups == [[0, 1, 2], [3, 4, 5]]


async def test_a_group_that_lacks_its_time_stamp_is_tried_later_as_a_whole() -> None:
    clock = Clock()
    rows = Rows("a", list(range(3)), clock)
    async with Running(rows, clock=clock) as running:
        running.lanes[0], _ = together(rows, fails_with=TimestampUnavailableError("silent"))
        await until(lambda: len(rows.postponed) == 3)
    assert (rows.done, rows.postponed) == ([], [0, 1, 2])


async def test_work_that_never_ends_takes_its_own_place_and_no_other() -> None:
    clock = Clock()
    peer = Rows("silent peer", list(range(20)), clock, stuck=frozenset({0, 1, 2}), patience=0.0)
    other = Rows("other", list(range(20)), clock)
    async with Running(peer, other, clock=clock):
        await until(lambda: len(peer.done) == 17 and len(other.done) == 20)


async def test_a_lease_is_renewed_while_its_work_goes_on_and_no_longer() -> None:
    clock = Clock()
    rows, renewed = Rows("a", [1], clock, stuck=frozenset({1}), patience=0.0), []
    async with Running(rows, clock=clock) as running:
        running.lanes[0] = replace(
            rows.lane(),
            lease=timedelta(milliseconds=3),
            renew=lambda _tx, row, until: renewed.append((row, until)),
        )
        await until(lambda: len(renewed) >= 3)
    assert set(renewed) == {(1, clock.now() + timedelta(milliseconds=3))}
    assert rows.running == 0


async def test_stopping_waits_for_what_is_under_way_no_longer_than_its_patience() -> None:
    clock = Clock()
    rows = Rows("a", [1], clock, stuck=frozenset({1}), patience=0.01)
    async with Running(rows, clock=clock):
        await until(lambda: rows.running == 1)
    assert rows.running == 0
    assert rows.done == []


@pytest.mark.parametrize(
    "error", [TimestampUnavailableError("down"), ZeroDivisionError()], ids=["later", "defect"]
)
async def test_what_fails_is_postponed_and_the_rest_goes_on(error: Exception) -> None:
    clock = Clock()
    rows = Rows("a", [1, 2, 3], clock, error=error)
    async with Running(rows, clock=clock):
        await until(lambda: len(rows.done) == 2 and len(rows.postponed) == 1)
    assert sorted([*rows.done, *rows.postponed]) == [1, 2, 3]


@pytest.mark.parametrize(
    "error", [StoreUnavailableError("full"), ZeroDivisionError()], ids=["store", "defect"]
)
async def test_a_lane_survives_a_claim_that_fails(error: Exception) -> None:
    clock = Clock()
    rows = Rows("a", [1, 2], clock, claim_error=error)
    async with Running(rows, clock=clock) as running:
        await until(lambda: rows.claim_error is None)
        running.changes.publish(())
        await until(lambda: len(rows.done) == 2)


async def test_a_lane_that_appears_later_is_worked_on_without_a_restart() -> None:
    clock = Clock()
    first, late = Rows("first", [1], clock), Rows("late", [2], clock)
    async with Running(first, clock=clock) as running:
        await until(lambda: first.done == [1])
        running.lanes.append(late.lane())
        await until(lambda: late.done == [2])


async def test_a_change_wakes_a_lane_that_had_nothing_to_do() -> None:
    clock = Clock()
    rows = Rows("a", [], clock)
    async with Running(rows, clock=clock) as running:
        await until(lambda: running.tidied > 2)
        rows.waiting.append(7)
        running.changes.publish(["somebody"])
        await until(lambda: rows.done == [7])


async def test_a_change_is_claimed_without_a_look_where_it_most_likely_brought_work() -> None:
    clock = Clock()
    rows = Rows("a", [], clock)
    async with Running(rows, clock=clock) as running:
        running.lanes[0] = replace(rows.lane(), eager=True)
        await until(lambda: running.tidied > 2)
        before = running.store.looks
        for number in range(5):
            rows.waiting.append(number)
            running.changes.publish(["somebody"])
            await until(lambda n=number: rows.done == list(range(n + 1)))
        assert running.store.looks == before
    assert before == 1  # at the start, when nothing had changed


async def test_work_that_falls_due_later_is_done_then_although_nothing_changes() -> None:
    clock = Clock()
    rows = Rows("a", [1], clock, at_once=2, later=[2])
    async with Running(rows, clock=clock) as running:
        running.lanes[0] = replace(rows.lane(), eager=True)
        await until(lambda: rows.done == [1])
        clock.at += LATER
        await until(lambda: rows.done == [1, 2])


async def test_due_work_that_another_process_holds_is_not_asked_for_again_and_again() -> None:
    clock = Clock()
    rows = Rows("a", [1, 2], clock, held=True)
    async with Running(rows, clock=clock) as running:
        await until(lambda: running.tidied > 5)
        assert rows.claims == 1
        rows.held = False
        running.changes.publish(["somebody"])
        await until(lambda: rows.done == [1, 2])


def test_tries_are_spaced_by_doubling_up_to_five_minutes() -> None:
    assert [backoff(n).total_seconds() for n in (0, 1, 2, 8, 9, 50)] == [1, 2, 4, 256, 300, 300]
