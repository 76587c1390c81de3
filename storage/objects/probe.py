"""The probe of an archive's store: points are run in order, a report says what was seen.

`storage.objects.probe_s3` has the points of a server; `probe_port` looks at any store through its port alone,
where deleting is not even a word.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from kephs.ports.objects import (
    ObjectDamagedError,
    ObjectError,
    ObjectRef,
    ObjectStore,
    ObjectUnavailableError,
    PointState,
    ProbePoint,
    ProbeReport,
    whole_second,
)
from storage.objects.probe_table import POINTS, Point

PREFIX: Final = "probe"
KEPT: Final = timedelta(days=1)
_LONGER: Final = timedelta(hours=1)
_BACK: Final = timedelta(minutes=1)
LARGE: Final = 100_000_000
SMALL: Final = b"kephs probe: nobody may delete this before its time\n"


class NotAsExpectedError(Exception):
    """A point failed; the text is what was seen."""


class NothingToSeeError(Exception):
    """A point cannot be looked at; the text says why."""


Look: TypeAlias = Callable[[], Awaitable[str]]


async def run_points(store: str, looks: Mapping[str, Look], *, deep: bool, other: str = "") -> ProbeReport:
    """Look at the points in order; those without a look are skipped and say ``other``.

    Raises:
        ObjectUnavailableError: the store does not answer.
    """
    return ProbeReport(
        store, tuple([await _run(point, looks, other) for point in POINTS if deep or point.short])
    )


async def _run(point: Point, looks: Mapping[str, Look], other: str) -> ProbePoint:
    look = looks.get(point.code)
    try:
        seen, state = (other, PointState.SKIPPED) if look is None else (await look(), PointState.PASSED)
    except NothingToSeeError as why:
        seen, state = str(why), PointState.SKIPPED
    except NotAsExpectedError as why:
        seen, state = str(why), PointState.FAILED
    failed = state is PointState.FAILED
    return ProbePoint(
        point.number, point.code, state, point.expected, seen,
        point.cure if failed else "", point.cure_turkish if failed else "",
    )  # fmt: skip


def large_content() -> bytes:
    """Return 100 MB that no server can shrink to nothing."""
    block = b"".join(hashlib.sha256(number.to_bytes(4)).digest() for number in range(1 << 15))
    return (block * (LARGE // len(block) + 1))[:LARGE]


async def probe_port(store: ObjectStore, described: str, now: datetime, *, deep: bool) -> ProbeReport:
    """Look at a store through its port; the same one or two objects each time, kept for a day more.

    Args:
        store: nobody but us can ask it to delete, and we cannot.
        described: names it in the report.
        now: the time.
        deep: all points.
    """
    probe = _PortProbe(store, now)
    return await run_points(
        described, probe.looks(), deep=deep, other="this kind of store knows no such thing"
    )


class _PortProbe:
    def __init__(self, store: ObjectStore, now: datetime) -> None:
        self._store = store
        self._until = whole_second(now) + KEPT
        self._name = f"{PREFIX}/write-once"
        self._kept: ObjectRef | None = None

    def looks(self) -> dict[str, Look]:
        """Return how each point is looked at."""
        return {
            "clock": self._clock,
            "put-version": self._put,
            "retention-kept": self._retention,
            "read-back": self._read,
            "shorten-refused": self._shorten,
            "extend-allowed": self._extend,
            "old-version-read": self._overwrite,
            "versions-listed": self._listed,
            "wrong-version-refused": self._wrong_version,
            "multipart": self._large,
        }

    async def _clock(self) -> str:
        """Compare with the last probe, which kept the object for a day and an hour of its own time."""
        kept = [ref.retain_until async for ref in self._store.list(self._name) if ref.name == self._name]
        ahead = max(kept, default=self._until) - self._until - _LONGER
        return _must(ahead <= _BACK, f"{max(ahead.total_seconds(), 0):.0f} s behind the last probe")

    async def _put(self) -> str:
        self._kept = await self._store.put(self._name, SMALL, self._until)
        return f"version {self._kept.version}"

    async def _retention(self) -> str:
        until = self._ref().retain_until
        return _must(until >= self._until, f"kept until {until:%Y-%m-%d %H:%M:%S}")

    async def _read(self) -> str:
        await self._store.check(self._ref())
        return _must(await self._store.get(self._ref()) == SMALL, f"{len(SMALL)} octets")

    async def _shorten(self) -> str:
        return await _refused(self._store.extend(self._ref(), self._ref().retain_until - _LONGER))

    async def _extend(self) -> str:
        self._kept = await self._store.extend(self._ref(), self._until + _LONGER)
        return f"kept until {self._kept.retain_until:%Y-%m-%d %H:%M:%S}"

    async def _overwrite(self) -> str:
        seen = await _refused(self._store.put(self._name, SMALL + b"another\n", self._until))
        await self._store.check(self._ref())
        return f"overwriting: {seen}"

    async def _listed(self) -> str:
        found = [ref async for ref in self._store.list(self._name) if ref.name == self._name]
        return _must(found == [self._ref()], f"{len(found)} listed")

    async def _wrong_version(self) -> str:
        changed = self._ref().version[::-1] + "0"
        return await _refused(self._store.get(replace(self._ref(), version=changed)), ObjectDamagedError)

    async def _large(self) -> str:
        ref = await self._store.put(f"{self._name}-large", large_content(), self._until)
        await self._store.check(ref)
        return f"{ref.size} octets"

    def _ref(self) -> ObjectRef:
        if self._kept is None:
            raise NothingToSeeError("nothing could be written")
        return self._kept


async def _refused(work: Awaitable[object], kind: type[ObjectError] = ObjectError) -> str:
    try:
        await work
    except ObjectUnavailableError:
        raise
    except kind as error:
        return f"refused: {error}"
    raise NotAsExpectedError("was done")


def _must(fits: bool, seen: str) -> str:  # noqa: FBT001  # reads as a sentence
    if not fits:
        raise NotAsExpectedError(seen)
    return seen
