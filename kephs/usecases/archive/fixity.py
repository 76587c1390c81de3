"""Fixity: the octets of every object compared with their digests, at a set pace; and what is known of all.

spec: KEP-RT-05
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from evidence.bundle.archive_object import ObjectKind
from evidence.bundle.archive_read import judge_object
from evidence.x509.chain import TrustStore
from evidence.x509.role import SealPolicy
from kephs.ports import Clock, Store, Tx
from kephs.ports.archive import CHECK_EVERY, ArchivedObject, ArchiveTotals
from kephs.ports.objects import ObjectDamagedError, ObjectUnavailableError
from kephs.ports.preservation import RenewalRow
from kephs.usecases.archive.reading import ReadArchive
from kephs.usecases.archive.seal import Backlog, backlog

PAGE: Final = 100
AGAIN: Final = timedelta(days=1)
"""What was compared within this time is not read again by a check of everything: so it resumes."""
EXPIRING: Final = timedelta(days=365)
_SILENT_MOST: Final = 3

Progress = Callable[[int, int, int], object]
"""``progress(objects done, octets done, damaged)``."""


@dataclass(frozen=True, slots=True)
class FixityResult:
    """What a check found. ``damaged``: name and cause; ``waiting``: objects the store did not give now."""

    objects: int
    octets: int
    damaged: tuple[tuple[str, str], ...]
    waiting: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """The retention ledger in figures."""

    totals: ArchiveTotals
    backlogs: tuple[Backlog, ...]
    newest_entry: int
    archived_entry: int
    rounds: tuple[RenewalRow, ...]
    renewed_entry: int  # number of the last ledger entry that a round covers
    damaged: tuple[ArchivedObject, ...]
    alarm: bool

    @property
    def healthy(self) -> bool:
        """Say whether nobody needs to do anything."""
        return not self.damaged and not self.alarm


def read_status(tx: Tx, now: datetime, alarm_after: timedelta) -> ArchiveStatus:
    """Return how the archive stands."""
    waiting = tuple(backlog(tx, kind) for kind in (ObjectKind.EVIDENCE, ObjectKind.PROCESS))
    rounds = tuple(tx.preservation.rounds())
    damaged = tuple(tx.archive.damaged(PAGE))
    return ArchiveStatus(
        tx.archive.totals(now, now + EXPIRING), waiting, tx.archive.newest_entry(), tx.archive.watermark(),
        rounds, rounds[-1].last if rounds else 0, damaged, any(one.age(now) > alarm_after for one in waiting),
    )  # fmt: skip


class CheckArchive:
    """Compares objects with their digests.

    Args:
        store: the rows.
        reader: the stores.
        clock: the time.
        trust: roots, for checks of the seals too.
        policy: which certificates seal.
        pause: waits so many seconds; keeps the pace.
        monotonic: seconds of a clock that only goes forward.
    """

    def __init__(
        self, store: Store, reader: ReadArchive, clock: Clock, *, trust: TrustStore, policy: SealPolicy,
        pause: Callable[[float], Awaitable[object]], monotonic: Callable[[], float],
    ) -> None:  # fmt: skip
        self._store, self._reader, self._clock = store, reader, clock
        self._trust, self._policy, self._pause, self._monotonic = trust, policy, pause, monotonic

    async def run(
        self, *, everything: bool = False, again: bool = False, deep: bool = False,
        octets_per_second: float | None = None, progress: Progress = lambda _objects, _octets, _damaged: None,
    ) -> FixityResult:  # fmt: skip
        """Check what is due; each object is noted as it is done, so a check that was killed goes on there.

        Args:
            everything: due or not, but for what was compared within a day.
            again: with ``everything``, that as well.
            deep: also decrypt, read, and judge the provider's seal.
            octets_per_second: pace; None: as fast as it goes.
            progress: called after each object.

        Raises:
            ObjectUnavailableError: the store gave nothing several times in a row.
        """
        began, now = self._monotonic(), self._clock.now()
        done, octets = 0, 0
        damaged: list[tuple[str, str]] = []
        waiting: list[str] = []
        silent = 0
        before = None if not everything else now if again else now - AGAIN
        while page := await self._page(now, {name for name, _ in damaged} | set(waiting), before):
            for row in page:
                try:
                    cause = await self._one(row, deep=deep)
                except ObjectUnavailableError:
                    silent += 1
                    waiting.append(row.name)
                    if silent >= _SILENT_MOST:
                        raise
                    continue
                silent = 0
                done, octets = done + 1, octets + row.size
                if cause is not None:
                    damaged.append((row.name, cause))
                progress(done, octets, len(damaged))
                if octets_per_second:
                    await self._pause(max(0.0, octets / octets_per_second - (self._monotonic() - began)))
        return FixityResult(done, octets, tuple(damaged), tuple(waiting))

    async def _page(self, now: datetime, seen: set[str], before: datetime | None) -> list[ArchivedObject]:
        """Return what is due, or what was last compared before a time."""
        most = PAGE + len(seen)
        rows = await self._store.read(
            lambda tx: tx.archive.unchecked(now, most) if before is None else tx.archive.stale(before, most)
        )
        return [row for row in rows if row.name not in seen]

    async def _one(self, row: ArchivedObject, *, deep: bool) -> str | None:
        """Check one object and note it; return what is wrong with it."""
        try:
            if deep and row.kind is not ObjectKind.RENEWAL:
                one = await self._reader.open(row)
                report = judge_object(one, self._trust, self._clock.now(), self._policy)
                if not report.passed:  # the octets are those that were sealed; time may have passed over it
                    step = report.failing_step
                    return f"seal: {report.verdict.value}: {step.name if step else ''}"
            else:
                await self._reader.place(row.place).check(row.ref)
        except ObjectDamagedError as error:
            now = self._clock.now()
            await self._store.write(lambda tx: tx.archive.mark_damaged(row.name, now))
            return str(error)
        now = self._clock.now()
        await self._store.write(lambda tx: tx.archive.mark_checked(row.name, now, now + CHECK_EVERY))
        return None
