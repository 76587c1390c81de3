"""The system's side of small ports: clock, ids, workers, changes, password hashing, identity hashes."""

import asyncio
import gc
import hmac
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

T = TypeVar("T")

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuv"  # base32hex: ascending text for ascending numbers
_PAIRS: Final = tuple([first + second for first in _DIGITS for second in _DIGITS])
_SHIFTS: Final = tuple(range(120, -1, -10))  # where in 130 bits each pair of digits stands
_REMEMBERED: Final = 4096


_COLLECT_AFTER: Final = 100_000
"""New objects after which cycles are looked for; with the usual 700 that is several times a message."""


def spare_the_collector() -> None:
    """Keep what start-up made out of every later search for garbage, and search less often.

    For processes that run long: modules and tables never become garbage, and messages leave few cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the time, UTC."""
        return datetime.now(UTC)  # noqa: TID251  # the one place


class TimeOrderedIds:
    """Ids that ascend in time: 48 bits of milliseconds and 80 random bits, in base32hex."""

    def __init__(self, clock: SystemClock) -> None:
        self._clock = clock

    def new(self) -> str:
        """Return 26 characters 0-9a-v."""
        number = (int(self._clock.now().timestamp() * 1000) << 80) | int.from_bytes(secrets.token_bytes(10))
        return "".join([_PAIRS[(number >> shift) & 1023] for shift in _SHIFTS])

    def token(self) -> str:
        """Return 32 random hexadecimal digits."""
        return secrets.token_hex(16)


class ThreadOffload:
    """Runs plain functions in a bounded pool of threads (hashing and file work release the lock)."""

    def __init__(self, threads: int = 4) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="offload")

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Run ``function(*args)`` in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(function, *args))

    def close(self) -> None:
        """Wait for what runs and stop the threads."""
        self._pool.shutdown()


class LocalChanges:
    """Tells sessions of this process about changed accounts; the empty id hears of all."""

    EVERYTHING: Final = ""

    def __init__(self) -> None:
        self._listeners: dict[str, set[LocalSubscription]] = {}

    def publish(self, account_ids: Iterable[str]) -> None:
        """Wake whoever listens to these accounts."""
        for account_id in (*account_ids, self.EVERYTHING):
            for listener in self._listeners.get(account_id, ()):
                listener.wake()

    def subscribe(self, account_id: str) -> "LocalSubscription":
        """Listen to one account; close the subscription when done."""
        listener = LocalSubscription(self, account_id)
        self._listeners.setdefault(account_id, set()).add(listener)
        return listener

    def forget(self, listener: "LocalSubscription") -> None:
        """Remove a listener."""
        listeners = self._listeners.get(listener.account_id, set())
        listeners.discard(listener)
        if not listeners:
            self._listeners.pop(listener.account_id, None)


class LocalSubscription:
    """One listener. Many changes before the next look count as one."""

    def __init__(self, changes: LocalChanges, account_id: str) -> None:
        self.account_id = account_id
        self._changes = changes
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Note a change."""
        self._event.set()

    async def wait(self) -> None:
        """Wait for the next change."""
        await self._event.wait()
        self._event.clear()

    async def __aiter__(self) -> AsyncIterator[None]:
        """Yield once for each change or run of changes."""
        while True:
            await self.wait()
            yield

    def close(self) -> None:
        """Stop listening."""
        self._changes.forget(self)


class Argon2Passwords:
    """Argon2id in worker threads. A success is remembered for this process, keyed by a random secret."""

    def __init__(self, offload: ThreadOffload) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
        self._offload = offload
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()

    async def hash(self, password: str) -> str:
        """Return the Argon2id hash with a fresh salt."""
        return await self._offload.run(self._hasher.hash, password)

    async def verify(self, stored: str, password: str) -> bool:
        """Say whether the password belongs to the hash."""
        token = hmac.digest(self._key, f"{stored}\0{password}".encode(), sha256)
        if token in self._known:
            self._known.move_to_end(token)
            return True
        matches = await self._offload.run(self._check, stored, password)
        if matches:
            self._known[token] = None
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return matches

    def _check(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


class HmacIdentity:
    """Keyed hashes of identity numbers (KEP-AP-05)."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def mac(self, identity_number: str) -> bytes:
        """Return HMAC-SHA-256 of the number."""
        return hmac.digest(self._key, identity_number.encode(), sha256)
