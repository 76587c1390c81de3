"""The archive's work as lanes of the worker: sealing objects, rounds of renewal.

Nothing is leased: two processes that seal the same range agree in the transaction, and what the second one
wrote is noted by nobody.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kephs.ports import Clock, Tx
from kephs.worker.run import Lane, backoff

SEAL: Final = "archive"
RENEW: Final = "renewal"


@dataclass(slots=True)
class _Pace:
    """When a lane may try again; it has no rows to note that on."""

    clock: Clock
    failures: int = 0
    not_before: datetime | None = None

    def after(self, due: datetime | None) -> datetime | None:
        """Return when work that is due may be tried."""
        return due if due is None or self.not_before is None else max(due, self.not_before)

    def failed(self) -> None:
        """Note a failure: the next try is later each time, 5 minutes at most."""
        self.failures += 1
        self.not_before = self.clock.now() + backoff(self.failures)

    def succeeded(self) -> None:
        """Forget failures."""
        self.failures, self.not_before = 0, None


def archive_lane(
    name: str, clock: Clock, due: Callable[[Tx], datetime | None], work: Callable[[], Awaitable[object]],
    failed: Callable[[BaseException], bool],
) -> Lane:  # fmt: skip
    """Return a lane.

    Args:
        name: of the lane: `SEAL` or `RENEW`.
        clock: the time.
        due: when the next work is due.
        work: does one piece.
        failed: told of a failure; says whether it is one of those that were to be expected.
    """
    pace = _Pace(clock)

    def when(tx: Tx) -> datetime | None:
        return pace.after(due(tx))

    def claim(tx: Tx, _now: datetime, _limit: int, _until: datetime) -> Sequence[_Pace]:
        at = when(tx)
        return () if at is None or at > clock.now() else (pace,)  # what is due at once is due when we ask

    async def run(_pace: _Pace) -> None:
        try:
            await work()
        except Exception as error:
            pace.failed()
            if not failed(error):
                raise
            return
        pace.succeeded()

    def postpone(_tx: Tx, _pace: _Pace, _at: datetime) -> None:
        return

    return Lane(
        name, claim, lambda _: name, lambda one: one.failures, run, postpone,
        when, at_once=1, refill=1, patience=30.0, gather=0.5,
    )  # fmt: skip
