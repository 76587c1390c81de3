"""Work due: claims it in batches and runs the use case, again and later where something was missing.

Work is state on the domain rows (D12). Each kind of it is a lane with its own claims and its own pace, so
that a peer that never answers holds up nobody else's; a lane survives every failure.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Protocol

import structlog

from evidence.ports import SignerUnavailableError, TimestampUnavailableError
from kephs.ports import Clock, Store, StoreUnavailableError, Tx

log = structlog.get_logger()

LEASE: Final = timedelta(minutes=5)
BATCH: Final = 20
IDLE: Final = 5.0  # seconds between looks when nothing wakes us
_LATER: Final = (TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError)


def backoff(attempts: int) -> timedelta:
    """Return how long to wait before the next try: 1 s doubling to 5 minutes."""
    return timedelta(seconds=min(300, 2 ** min(attempts, 9)))


class Waker(Protocol):
    """Something that wakes a lane: `kephs.system.LocalSubscription` is one."""

    def wake(self) -> None:
        """Wake whoever waits."""
        ...

    async def wait(self) -> None:
        """Wait until woken."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


@dataclass(frozen=True, slots=True)
class Lane:
    """One kind of work.

    ``claim`` leases at most so many due rows; ``work`` does one; ``postpone`` sets when one that failed is
    due again; ``next_due`` tells when the next row is due. At most ``at_once`` rows are worked on at the same
    time; more are claimed when ``refill`` places are free. ``renew`` prolongs a lease while the work goes on;
    without it ``lease`` must be longer than the work can take. On stopping, work gets ``patience`` seconds to
    end before it is cancelled (every work may be repeated). ``gather``: seconds that changes are let come
    together before the next look, which costs a query. ``eager``: a change most likely brought work of this
    lane, which is claimed without a look.

    Where there is ``work_all``, up to ``group`` rows that were claimed together are done together by it, and
    ``at_once`` and ``refill`` count such groups: what falls due while they are busy makes up the next ones.
    The rows of a group that fails are done one by one.
    """

    name: str
    claim: Callable[[Tx, datetime, int, datetime], Sequence[Any]]
    subject: Callable[[Any], str]
    attempts: Callable[[Any], int]
    work: Callable[[Any], Awaitable[None]]
    postpone: Callable[[Tx, Any, datetime], None]
    next_due: Callable[[Tx], datetime | None]
    at_once: int = BATCH
    refill: int = BATCH // 2
    lease: timedelta = LEASE
    renew: Callable[[Tx, Any, datetime], object] | None = None
    patience: float = 60.0
    gather: float = 0.002
    eager: bool = False
    work_all: Callable[[Sequence[Any]], Awaitable[None]] | None = None
    group: int = 1


@dataclass(frozen=True, slots=True)
class _Claimed:
    """Rows that were claimed; unless ``more`` may be due now, when the next one is, if that is known."""

    rows: Sequence[Any] = ()
    more: bool = False
    next_due: datetime | None = None


class Worker:
    """Runs lanes until told to stop."""

    def __init__(
        self, *, store: Store, clock: Clock, subscribe: Callable[[], Waker],
        lanes: Callable[[], Sequence[Lane]],
        take_over: Callable[[Tx, datetime], None], tidy: Callable[[], Awaitable[int]],
        tidy_every: timedelta = timedelta(seconds=10),
    ) -> None:  # fmt: skip
        self._store, self._clock, self._subscribe = store, clock, subscribe
        self._lanes, self._take_over, self._tidy = lanes, take_over, tidy
        self._tidy_every = tidy_every

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; what is under way is finished first."""
        await self._begin()
        running: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while not stopping.is_set():
                await self._safe_tidy()
                for lane in self._lanes():  # new peers get theirs while the process runs
                    if lane.name not in running:
                        running.add(lane.name)
                        group.create_task(self._run_lane(lane, stopping), name=f"lane {lane.name}")
                await _until(stopping, self._tidy_every)

    async def round(self) -> int:
        """Do one batch of each lane; return how much was found (tests and tools)."""
        found = 0
        for lane in self._lanes():
            rows = (await self._claim(lane, lane.at_once * lane.group)).rows
            found += len(rows)
            async with asyncio.TaskGroup() as group:
                for part in _parts(rows, lane.group):
                    group.create_task(self._part(lane, part))
        await self._safe_tidy()
        return found

    async def _begin(self) -> None:
        """Free what this process had leased before it died."""
        now = self._clock.now()
        try:
            await self._store.write(lambda tx: self._take_over(tx, now))
        except StoreUnavailableError as error:
            log.warning("worker.store_unavailable", cause=str(error))  # the leases run out instead

    async def _run_lane(self, lane: Lane, stopping: asyncio.Event) -> None:
        waker = self._subscribe()
        under_way: set[asyncio.Task[None]] = set()
        changed = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_wake_when(stopping, waker), name=f"{lane.name} waker")
                while not stopping.is_set():
                    look = not (lane.eager and changed)
                    claimed = await self._safe_claim(lane, lane.at_once - len(under_way), look=look)
                    for part in _parts(claimed.rows, lane.group):
                        task = group.create_task(self._part(lane, part))
                        under_way.add(task)
                        task.add_done_callback(under_way.discard)
                        task.add_done_callback(lambda _done: waker.wake())
                    changed = False
                    if not claimed.more or len(under_way) > lane.at_once - lane.refill:
                        changed = await self._pause(lane, waker, claimed.next_due)
                await _finish(under_way, lane.patience)
        finally:
            waker.close()

    async def _safe_tidy(self) -> None:
        """Release content, a batch at a time: erasing many files at once slows everybody."""
        try:
            released = await self._tidy()
        except (StoreUnavailableError, OSError) as error:
            log.warning("worker.not_tidied", cause=str(error))
            return
        if released:
            log.info("worker.released", blobs=released)

    async def _safe_claim(self, lane: Lane, free: int, *, look: bool) -> _Claimed:
        if free < lane.refill:
            return _Claimed()
        try:
            return await self._claim(lane, free * lane.group, look=look)
        except Exception:  # a defect must not stop the work of everybody else
            log.exception("worker.claim_failed", lane=lane.name)
            return _Claimed()

    async def _claim(self, lane: Lane, most: int, *, look: bool = True) -> _Claimed:
        """Claim what is due; else say when the next row is. Looking costs a snapshot, claiming a write."""
        if look:
            due = await self._next_due(lane)
            if due is None or due > self._clock.now():
                return _Claimed(next_due=due)
        now = self._clock.now()  # after the look: what is due at this very moment is not passed over

        def claim(tx: Tx) -> _Claimed:
            rows = lane.claim(tx, now, most, now + lane.lease)
            if len(rows) >= most:
                return _Claimed(rows, more=True)
            due = lane.next_due(tx)
            held = due is not None and due <= self._clock.now()  # by others: asking again at once is in vain
            return _Claimed(rows, next_due=None if held else due)

        try:
            return await self._store.write(claim)
        except StoreUnavailableError as error:
            log.warning("worker.store_unavailable", cause=str(error))
            return _Claimed()

    async def _part(self, lane: Lane, rows: Sequence[Any]) -> None:
        """Do some rows together; where that fails, each alone, so that one of them holds up no other."""
        if lane.work_all is not None and len(rows) > 1:
            try:
                await lane.work_all(rows)
            except _LATER as error:
                await self._later(lane, rows, error)
                return
            except Exception as error:  # noqa: BLE001 - told of where the row that causes it is done alone
                log.warning("worker.apart", kind=lane.name, rows=len(rows), cause=type(error).__name__)
            else:
                return
        for row in rows:
            await self._one(lane, row)

    async def _one(self, lane: Lane, row: Any) -> None:
        try:
            await self._work(lane, row)
        except _LATER as error:
            await self._later(lane, (row,), error)
        except Exception:
            log.exception("worker.failed", kind=lane.name, subject=lane.subject(row))
            await self._postpone(lane, (row,))

    async def _later(self, lane: Lane, rows: Sequence[Any], error: Exception) -> None:
        for row in rows:
            log.warning("worker.later", kind=lane.name, subject=lane.subject(row), cause=type(error).__name__)
        await self._postpone(lane, rows)

    async def _postpone(self, lane: Lane, rows: Sequence[Any]) -> None:
        now = self._clock.now()

        def postpone(tx: Tx) -> None:
            for row in rows:
                lane.postpone(tx, row, now + backoff(lane.attempts(row)))

        try:
            await self._store.write(postpone)
        except StoreUnavailableError:
            subjects = [lane.subject(row) for row in rows]
            log.warning(
                "worker.not_postponed", kind=lane.name, subjects=subjects
            )  # the leases run out instead

    async def _work(self, lane: Lane, row: Any) -> None:
        """Do the work, and keep its lease meanwhile where the lane has leases to renew."""
        if lane.renew is None:
            await lane.work(row)
            return
        failure: Exception | None = None
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(self._keep_lease(lane, row))
            try:
                await lane.work(row)
            except Exception as error:  # noqa: BLE001 - raised below, not wrapped in a group
                failure = error
            finally:
                keeper.cancel()
        if failure is not None:
            raise failure

    async def _keep_lease(self, lane: Lane, row: Any) -> None:
        renew = lane.renew
        assert renew is not None
        while True:
            await asyncio.sleep(lane.lease.total_seconds() / 3)
            until = self._clock.now() + lane.lease
            try:
                await self._store.write(partial(_renewed, renew, row, until))
            except StoreUnavailableError as error:
                log.warning("worker.lease_not_renewed", kind=lane.name, cause=str(error))

    async def _pause(self, lane: Lane, waker: Waker, due: datetime | None) -> bool:
        """Wait for a change, or for the next work that falls due; where places are taken, for a free one.

        Returns:
            whether something woke us.
        """
        seconds = IDLE if due is None else min(IDLE, max(0.0, (due - self._clock.now()).total_seconds()))
        try:
            async with asyncio.timeout(seconds):
                await waker.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(lane.gather)
        return True

    async def _next_due(self, lane: Lane) -> datetime | None:
        try:
            return await self._store.read(lane.next_due)
        except StoreUnavailableError:
            return None


def _parts(rows: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _renewed(renew: Callable[[Tx, Any, datetime], object], row: Any, until: datetime, tx: Tx) -> None:
    renew(tx, row, until)


async def _until(stopping: asyncio.Event, most: timedelta) -> None:
    try:
        async with asyncio.timeout(most.total_seconds()):
            await stopping.wait()
    except TimeoutError:
        return


async def _finish(tasks: set[asyncio.Task[None]], patience: float) -> None:
    """Let what is under way end; cancel what takes too long: it is done again after the next start."""
    if not tasks:
        return
    _, late = await asyncio.wait(tuple(tasks), timeout=patience)
    for task in late:
        task.cancel()


async def _wake_when(stopping: asyncio.Event, waker: Waker) -> None:
    await stopping.wait()
    waker.wake()
