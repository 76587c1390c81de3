"""The ledger's work as lanes of the worker: publishing what is new, gathering cosignatures, daily anchors.

Nothing is leased: two processes that publish at once agree in the transaction, and the second finds
nothing left to do.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kephs.ports import Clock, Tx
from kephs.usecases.governance.anchor_audit import AnchorAudit
from kephs.usecases.proof.cosignatures import GatherCosignatures
from kephs.usecases.proof.publish_ledger import LedgerContradictionError, PublishLedger
from kephs.worker.run import Lane

_CONTRADICTED_WAIT: Final = timedelta(minutes=5)


@dataclass(slots=True)
class _Pace:
    """When a lane may try again; it has no rows to note that on."""

    failures: int = 0
    not_before: datetime | None = None

    def after(self, due: datetime | None) -> datetime | None:
        """Return when work that is due may be tried."""
        return due if due is None or self.not_before is None else max(due, self.not_before)

    def succeeded(self) -> None:
        """Forget failures."""
        self.failures, self.not_before = 0, None


def ledger_lanes(
    clock: Clock,
    publish: PublishLedger | None,
    gather: GatherCosignatures | None = None,
    anchor: AnchorAudit | None = None,
) -> list[Lane]:
    """Return the lanes.

    Args:
        clock: the time.
        publish: None where there is no ledger key.
        gather: None where there are no witnesses.
        anchor: None where the process record is not anchored here.
    """
    lanes = []
    if anchor is not None:
        lanes.append(_lane("audit anchor", anchor.due, anchor.anchor, _Pace()))
    if publish is not None:
        lanes.append(_publishing(publish, clock))
    if gather is not None:
        lanes.append(_lane("cosignatures", gather.due, gather.gather, _Pace()))
    return lanes


def _publishing(publish: PublishLedger, clock: Clock) -> Lane:
    pace = _Pace()

    async def work() -> None:
        try:
            await publish.publish()
        except LedgerContradictionError:  # the alarm was raised where it was found; nothing mends it
            pace.not_before = clock.now() + _CONTRADICTED_WAIT

    return _lane("ledger", publish.due, work, pace)


def _lane(
    name: str, due: Callable[[Tx], datetime | None], work: Callable[[], Awaitable[object]], pace: _Pace
) -> Lane:
    def when(tx: Tx) -> datetime | None:
        return pace.after(due(tx))

    def claim(tx: Tx, now: datetime, _limit: int, _until: datetime) -> Sequence[_Pace]:
        at = when(tx)
        return () if at is None or at > now else (pace,)

    async def run(_pace: _Pace) -> None:
        before = pace.not_before
        await work()
        if pace.not_before == before:
            pace.succeeded()

    def postpone(_tx: Tx, _pace: _Pace, at: datetime) -> None:
        pace.failures += 1
        pace.not_before = at

    return Lane(
        name, claim, lambda _: name, lambda one: one.failures, run, postpone,
        when, at_once=1, refill=1, patience=10.0, gather=0.5,
    )  # fmt: skip
