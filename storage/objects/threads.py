"""Threads of an object store: a bounded pool of its own, and both digests of some octets."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from kephs.ports.objects import ObjectUnavailableError
from storage.files.spool import settled
from storage.objects.folders import Digests

P = ParamSpec("P")
T = TypeVar("T")


class ObjectThreads:
    """Runs blocking work of a store; what was begun is finished before `close` returns.

    Args:
        count: threads that talk to disk or server; more calls wait.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ThreadPoolExecutor | None = None
        self._hashing: ThreadPoolExecutor | None = None
        self._closed = False

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work in a thread. Who is cancelled leaves at once; the work goes on to its end.

        Raises:
            ObjectUnavailableError: the store is closed.
        """
        future = self._open()[0].submit(work, *args, **kwargs)
        try:
            await settled(future)
        except asyncio.CancelledError:
            future.cancel()  # where it has not begun
            raise
        return future.result()

    def digests(self, data: bytes) -> Callable[[], Digests]:
        """Begin both digests, in a thread each; call what is returned to wait for them."""
        pool = self._open()[1]
        first: Future[bytes] = pool.submit(lambda: hashlib.sha256(data).digest())
        second: Future[bytes] = pool.submit(lambda: hashlib.sha512(data).digest())
        return lambda: Digests(len(data), first.result(), second.result())

    async def close(self) -> None:
        """Finish what runs; safe to call twice."""
        self._closed = True
        pools, self._pool, self._hashing = (self._pool, self._hashing), None, None
        for pool in pools:
            if pool is not None:
                await asyncio.get_running_loop().run_in_executor(None, pool.shutdown)

    def _open(self) -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
        if self._closed:
            raise ObjectUnavailableError("the object store is closed")
        if self._pool is None or self._hashing is None:
            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="archive")
            self._hashing = ThreadPoolExecutor(2, thread_name_prefix="archive-digest")
        return self._pool, self._hashing


def digests_of(pieces: Iterable[bytes | memoryview]) -> Digests:
    """Return both digests of octets that come in pieces."""
    size, sha256, sha512 = 0, hashlib.sha256(), hashlib.sha512()
    for piece in pieces:
        size += len(piece)
        sha256.update(piece)
        sha512.update(piece)
    return Digests(size, sha256.digest(), sha512.digest())
