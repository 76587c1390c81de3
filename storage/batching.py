"""Natural batching: one thread that takes whatever arrived while it was busy with the last batch (D2)."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future as ThreadFuture
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

from kephs.ports import StoreUnavailableError

P = TypeVar("P")

LARGEST_BATCH: Final = 256  # bounds how long one commit keeps the others waiting


def for_caller(error: BaseException) -> Exception:
    """Return an error in a form that can be raised in the caller's task.

    `KeyboardInterrupt`, `SystemExit`, `CancelledError` and the like would stop the event loop or look
    like a cancellation there; `StopIteration` cannot be set on a future. All become `RuntimeError`.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError(f"work raised {type(error).__name__}")
    wrapped.__cause__ = error
    return wrapped


@dataclass(slots=True, eq=False)
class Job(Generic[P]):
    """One thing to do and what came of it: ``result``, or ``error`` where that is not None."""

    payload: P
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"
    result: Any = None
    error: BaseException | None = None

    def resolve(self) -> None:
        """Tell the caller; runs in the caller's loop."""
        if self.future.done():  # cancelled: nobody waits any more
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(for_caller(self.error))


@dataclass(slots=True)
class Counters:
    """How much went through: ``items / batches`` is the natural batch size."""

    batches: int = 0
    items: int = 0
    failed: int = 0


@dataclass(slots=True, eq=False)
class BatchThread(Generic[P]):
    """A thread that hands batches of jobs to ``process`` and then tells each caller.

    ``process`` sets each job's ``result`` or ``error``. If it raises, whatever it is, every job of that
    batch fails with `StoreUnavailableError` and the thread goes on. ``on_exit`` runs in the thread at
    its end; ``on_start`` at its beginning, and what it raises is raised by `start`.
    """

    name: str
    process: Callable[[Sequence[Job[P]]], None]
    on_start: Callable[[], None] = lambda: None
    on_exit: Callable[[], None] = lambda: None
    counters: Counters = field(default_factory=Counters)
    _queue: "SimpleQueue[Job[P] | None]" = field(default_factory=SimpleQueue)
    _thread: threading.Thread | None = None
    _open: bool = False

    async def start(self) -> None:
        """Start the thread; raises what ``on_start`` raises."""
        started: ThreadFuture[None] = ThreadFuture()
        # A daemon: a process that dies without close() must not hang on it; nothing unacknowledged is owed.
        self._thread = threading.Thread(target=self._run, args=(started,), name=self.name, daemon=True)
        self._thread.start()
        await asyncio.wrap_future(started)
        self._open = True

    async def submit(self, payload: P) -> Any:
        """Have a payload processed with the next batch and return its result.

        Raises:
            StoreUnavailableError: the thread is not running or its batch failed.
        """
        if not self._open:
            raise StoreUnavailableError(f"{self.name} is closed")
        loop = asyncio.get_running_loop()
        job = Job(payload, loop, loop.create_future())
        self._queue.put(job)
        return await job.future

    async def close(self) -> None:
        """Finish what waits, then end the thread; safe to call twice."""
        thread, self._thread, self._open = self._thread, None, False
        if thread is None:
            return
        self._queue.put(None)
        await asyncio.get_running_loop().run_in_executor(None, thread.join)

    def _run(self, started: "ThreadFuture[None]") -> None:
        try:
            self.on_start()
        except BaseException as error:  # noqa: BLE001 - raised by start()
            started.set_exception(for_caller(error))
            return
        started.set_result(None)
        going = True
        while going:
            going = self._one_batch()
        self.on_exit()

    def _one_batch(self) -> bool:
        """Process what waits; False once the end was asked for and nothing waits."""
        first = self._queue.get()
        if first is None:
            return False
        jobs, going = [first], True
        while len(jobs) < LARGEST_BATCH:
            try:
                job = self._queue.get_nowait()
            except Empty:
                break
            if job is None:
                going = False
                break
            jobs.append(job)
        jobs = [job for job in jobs if not job.future.cancelled()]  # they were told nothing yet
        if jobs:
            self._process(jobs)
        return going

    def _process(self, jobs: Sequence[Job[P]]) -> None:
        try:
            self.process(jobs)
        except BaseException as error:  # noqa: BLE001 - whatever happens, the thread lives and callers hear
            for job in jobs:
                job.error = StoreUnavailableError(f"{self.name}: {type(error).__name__}")
                job.error.__cause__ = error
        self.counters.batches += 1
        self.counters.items += len(jobs)
        self.counters.failed += sum(job.error is not None for job in jobs)
        for loop in {job.loop for job in jobs}:
            _tell(loop, [job for job in jobs if job.loop is loop])


def _tell(loop: asyncio.AbstractEventLoop, jobs: Sequence[Job[P]]) -> None:
    def resolve() -> None:
        for job in jobs:
            job.resolve()

    try:
        loop.call_soon_threadsafe(resolve)
    except RuntimeError:  # the loop is closed: nobody is left to hear
        return
