"""Servers measured in turns: a slice of time for one, then for the other, several times over."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kephs.bench.figures import Ticks, ticks

SLICE: Final = 1.0  # seconds
_SLICES_MIN: Final = 4
_SETTLE: Final = 0.2  # seconds of rest between slices


async def _at_once() -> None:
    """Be ready: there is nothing to do before a slice."""


@dataclass(slots=True)
class Runner:
    """One server under load.

    ``turn`` works until a deadline of the clock and returns how much it did; ``before`` runs outside the
    clock, and ``after`` waits until the server is quiet, so that its left-overs do not hit the other.
    """

    turn: Callable[[float], Awaitable[int]]
    before: Callable[[], Awaitable[None]] = _at_once
    after: Callable[[], Awaitable[None]] = _at_once
    done: int = field(default=0, init=False)
    spent: float = field(default=0.0, init=False)

    @property
    def rate(self) -> float:
        """Return what was done per second."""
        return self.done / self.spent if self.spent else 0.0


async def take_turns(
    runners: Sequence[Runner], seconds: float, *, slice_seconds: float = SLICE, clock: Ticks = ticks
) -> None:
    """Run all of them in turns for so many seconds together; the first round warms up and is not counted.

    At least one round is counted, however short the time; short times have short slices.
    """
    slice_seconds = min(slice_seconds, seconds / _SLICES_MIN)
    end = clock() + seconds
    counted = False
    while clock() < end or not any(runner.done for runner in runners):
        for runner in runners:
            await runner.before()
            started = clock()
            done = await runner.turn(started + slice_seconds)
            spent = clock() - started
            if counted:
                runner.done += done
                runner.spent += spent
            await runner.after()
            await asyncio.sleep(_SETTLE)
        counted = True


async def each(clients: Sequence[Callable[[float], Awaitable[int]]], deadline: float) -> list[int]:
    """Let all clients work until the deadline; return what each did."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_until(client, deadline)) for client in clients]
    return [task.result() for task in tasks]


async def _until(client: Callable[[float], Awaitable[int]], deadline: float) -> int:
    return await client(deadline)
