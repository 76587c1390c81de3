"""A processor of its own for a server: its threads take turns there, its children work beside it.

Threads of one interpreter hold its lock in turns. Where they do that on different processors, all that it
touches, counts of references above all, moves between the caches of both at every turn (ADR 0051).
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

SERVERS: Final = "kephs-processor"


@dataclass(frozen=True, slots=True)
class OwnProcessor:
    """The processor that this process keeps to, and the others, for its children."""

    number: int
    others: frozenset[int]

    def send_away(self, pid: int) -> None:
        """Let a child, which began where we are, run on the other processors, if it is still there."""
        try:
            os.sched_setaffinity(pid, self.others)
        except ProcessLookupError:
            return


def stay(_pid: int) -> None:
    """Leave a child where it is: we have no processor of our own."""


@contextmanager
def own_processor(kind: str = SERVERS) -> Iterator[OwnProcessor | None]:
    """Keep this thread, and the threads it starts inside the block, to a processor nobody of its kind has.

    None where there is no choice: the process may use one processor only, or others of its kind claimed all.
    """
    allowed = os.sched_getaffinity(0)
    claimed = _claim(kind, allowed) if len(allowed) > 1 else None
    if claimed is None:
        yield None
        return
    number, claim = claimed
    with claim:
        os.sched_setaffinity(0, {number})
        try:
            yield OwnProcessor(number, frozenset(allowed - {number}))
        finally:
            os.sched_setaffinity(0, allowed)


def _claim(kind: str, allowed: set[int]) -> tuple[int, socket.socket] | None:
    """Return the last processor that is free, for interrupts often go to the first, and what holds it.

    An abstract address is the claim: it goes with the process, however that ends.
    """
    for number in sorted(allowed, reverse=True):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0{kind}-{number}")
        except OSError:  # another server's
            claim.close()
        else:
            return number, claim
    return None
