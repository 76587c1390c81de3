"""Work due: claims it in batches and runs the use case, again and later where something was missing.

Work is state on the domain rows (D12); this loop only looks for what is due and survives every failure.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

import structlog

from evidence.ports import SignerUnavailableError, TimestampUnavailableError
from kephs.domain.messages import StoredEvidence, Submission
from kephs.ports import Clock, Store, StoreUnavailableError, Tx
from kephs.system import LocalChanges, LocalSubscription
from kephs.usecases.deliver import Deliver
from kephs.usecases.receipts import FileReceipts
from kephs.usecases.tidy import Tidy

T = TypeVar("T")
log = structlog.get_logger()

LEASE: Final = timedelta(minutes=5)
BATCH: Final = 20
TIDY_EVERY: Final = timedelta(seconds=10)
IDLE: Final = 5.0  # seconds between looks when nothing wakes us
_LATER: Final = (TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError)


def backoff(attempts: int) -> timedelta:
    """Return how long to wait before the next try: 1 s doubling to 5 minutes."""
    return timedelta(seconds=min(300, 2 ** min(attempts, 9)))


class Worker:
    """Delivers accepted messages and files receipts."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        changes: LocalChanges,
        deliver: Deliver,
        receipts: FileReceipts,
        tidy: Tidy,
    ) -> None:
        self._store, self._clock, self._changes = store, clock, changes
        self._deliver, self._receipts, self._tidy = deliver, receipts, tidy
        self._tidied: datetime | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; what is under way is finished first."""
        subscription = self._changes.subscribe(LocalChanges.EVERYTHING)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_wake_when(stopping, subscription), name="worker waker")
                await self._take_over()
                while not stopping.is_set():
                    if not await self._safe_round():
                        await self._pause(subscription)
        finally:
            subscription.close()

    async def _take_over(self) -> None:
        """Free what a worker that died had leased: on SQLite we are the only one (D18)."""

        def hasten(tx: Tx) -> None:
            tx.messages.hasten(now)
            tx.evidence.hasten(now)

        now = self._clock.now()
        try:
            await self._store.write(hasten)
        except StoreUnavailableError as error:
            log.warning("worker.store_unavailable", cause=str(error))  # the leases run out instead

    async def _safe_round(self) -> int:
        try:
            return await self.round()
        except Exception:  # a defect must not stop the work of everybody else
            log.exception("worker.round_failed")
            return 0

    async def round(self) -> int:
        """Do one batch of each kind of work; return how much was found."""
        now = self._clock.now()
        try:
            messages = await self._store.write(lambda tx: tx.messages.claim(now, BATCH, now + LEASE))
            receipts = await self._store.write(lambda tx: tx.evidence.claim_receipts(now, BATCH, now + LEASE))
        except StoreUnavailableError as error:
            log.warning("worker.store_unavailable", cause=str(error))
            return 0
        await self._all(messages, self._deliver_one)
        await self._all(receipts, self._file_one)
        await self._tidy_up(now)
        return len(messages) + len(receipts)

    async def _tidy_up(self, now: datetime) -> None:
        """Release content now and then, a batch at a time: erasing many files at once slows everybody."""
        if self._tidied is not None and now - self._tidied < TIDY_EVERY:
            return
        self._tidied = now
        try:
            released = await self._tidy.release()
        except (StoreUnavailableError, OSError) as error:
            log.warning("worker.not_tidied", cause=str(error))
            return
        if released:
            log.info("worker.released", blobs=released)

    async def _all(self, work: Sequence[T], one: Callable[[T], Awaitable[None]]) -> None:
        async with asyncio.TaskGroup() as group:
            for item in work:
                group.create_task(_as_coroutine(one(item)))

    async def _deliver_one(self, message: Submission) -> None:
        await self._guarded(
            "deliver",
            message.message_id,
            self._deliver.deliver(message),
            lambda tx, at: tx.messages.due(message.message_id, at, message.attempts + 1),
            message.attempts,
        )

    async def _file_one(self, evidence: StoredEvidence) -> None:
        await self._guarded(
            "receipt",
            evidence.evidence_id,
            self._receipts.file(evidence),
            lambda tx, at: tx.evidence.receipt_due(evidence.evidence_id, at, evidence.attempts + 1),
            evidence.attempts,
        )

    async def _guarded(
        self, kind: str, subject: str, work: Awaitable[None],
        postpone: Callable[[Tx, datetime], None], attempts: int,
    ) -> None:  # fmt: skip
        try:
            await work
        except _LATER as error:
            log.warning("worker.later", kind=kind, subject=subject, cause=type(error).__name__)
        except Exception:
            log.exception("worker.failed", kind=kind, subject=subject)
        else:
            return
        at = self._clock.now() + backoff(attempts)
        try:
            await self._store.write(lambda tx: postpone(tx, at))
        except StoreUnavailableError:
            log.warning("worker.not_postponed", kind=kind, subject=subject)  # the lease runs out instead

    async def _pause(self, subscription: LocalSubscription) -> None:
        """Wait for a change, or for the next work that falls due."""
        due = await self._next_due()
        seconds = IDLE if due is None else min(IDLE, max(0.0, (due - self._clock.now()).total_seconds()))
        try:
            async with asyncio.timeout(seconds):
                await subscription.wait()
        except TimeoutError:
            return

    async def _next_due(self) -> datetime | None:
        try:
            both = await self._store.read(lambda tx: (tx.messages.next_due(), tx.evidence.next_due()))
        except StoreUnavailableError:
            return None
        return min((at for at in both if at is not None), default=None)


async def _wake_when(stopping: asyncio.Event, subscription: LocalSubscription) -> None:
    await stopping.wait()
    subscription.wake()


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work
