"""Two or more pieces of work measured in turns, so that a noisy minute hits all of them alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kephs.bench.figures import Ticks, ticks

_TURN: Final = 0.25  # seconds of one turn
_FIRST: Final = 4  # items of the first turn, which is not counted
_MOST: Final = 4000  # items prepared at once


@dataclass(frozen=True, slots=True)
class Work:
    """What is measured: ``prepare(n)`` makes n fresh items outside the clock, ``run`` takes one."""

    prepare: Callable[[int], Sequence[Any]]
    run: Callable[[Any], object]


@dataclass(slots=True)
class _Count:
    work: Work
    done: int = 0
    seconds: float = 0.0
    next_batch: int = _FIRST

    def turn(self, clock: Ticks) -> None:
        items, run = self.work.prepare(self.next_batch), self.work.run
        started = clock()
        for item in items:
            run(item)
        spent = max(clock() - started, 1e-9)
        if self.next_batch != _FIRST or self.done:
            self.done += len(items)
            self.seconds += spent
        self.next_batch = max(_FIRST + 1, min(_MOST, int(_TURN * len(items) / spent)))


def rates(works: Sequence[Work], seconds: float, clock: Ticks = ticks) -> list[float]:
    """Return items per second of each work, one process and one core, in turns.

    Args:
        works: what to measure.
        seconds: wall time for all of them together, preparation included.
        clock: seconds, only forward.
    """
    counts = [_Count(work) for work in works]
    end = clock() + seconds
    while clock() < end or not all(count.done for count in counts):
        for count in counts:
            count.turn(clock)
    return [count.done / count.seconds for count in counts]
