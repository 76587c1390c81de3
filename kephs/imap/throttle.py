"""Slows password guessing down, counted over all connections of the process.

Every failure makes the next try wait longer: most for the same address from the same host, less for a host
with other addresses, least for an address from other hosts (so that nobody can lock an owner out).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_Key = tuple[str, str]

FORGET_SECONDS: Final = 15 * 60.0
QUEUE_SECONDS: Final = 30.0  # who would have to wait longer is refused
ENTRIES_MAX: Final = 10_000


@dataclass(slots=True)
class _Entry:
    failures: int
    last: float
    free_at: float  # when the next try may start


class LoginThrottle:
    """The shared table. ``unit`` is the first delay in seconds."""

    def __init__(self, *, unit: float = 0.5) -> None:
        self._unit = unit
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()

    def guard(self, host: str) -> "HostGuard":
        """Return the guard of one connection."""
        return HostGuard(self, host)

    def reserve(self, keys: Iterable[tuple[_Key, int, float]], now: float) -> float:
        """Reserve the next free moment for a try; return how long that is from now."""
        wait = 0.0
        for key, free, longest in keys:
            entry = self._entries.get(key)
            if entry is None:
                continue
            if now - entry.last > FORGET_SECONDS:
                del self._entries[key]
                continue
            wait = max(wait, entry.free_at - now)
            over = entry.failures - free
            if over > 0:
                delay = min(self._unit * 2 ** min(over - 1, 10), longest)
                entry.free_at = max(entry.free_at, now) + delay
                wait = max(wait, delay)
        return wait

    def note(self, keys: Iterable[_Key], now: float) -> None:
        """Count a failure."""
        for key in keys:
            entry = self._entries.pop(key, None) or _Entry(0, now, now)
            entry.failures += 1
            entry.last = now
            self._entries[key] = entry
        while len(self._entries) > ENTRIES_MAX:
            self._entries.popitem(last=False)

    def forget(self, key: _Key) -> None:
        """Forget failures after a success."""
        self._entries.pop(key, None)


class HostGuard:
    """`kephs.imap.session.Guard` for one connection."""

    def __init__(self, throttle: LoginThrottle, host: str) -> None:
        self._throttle, self._host = throttle, host

    async def admit(self, address: str) -> bool:
        """Wait as earlier failures demand; False where that would take too long."""
        name = _name(address)
        # key, failures without delay, longest delay in seconds
        keys = (((self._host, name), 0, 8.0), ((self._host, ""), 20, 8.0), (("", name), 10, 1.0))
        wait = self._throttle.reserve(keys, asyncio.get_running_loop().time())
        if wait > QUEUE_SECONDS:
            return False
        if wait > 0:
            await asyncio.sleep(wait)
        return True

    def failed(self, address: str) -> None:
        """Note a failure."""
        name = _name(address)
        now = asyncio.get_running_loop().time()
        self._throttle.note(((self._host, name), (self._host, ""), ("", name)), now)

    def succeeded(self, address: str) -> None:
        """Note a success."""
        self._throttle.forget((self._host, _name(address)))


def _name(address: str) -> str:
    return address.strip().casefold()[:300]
