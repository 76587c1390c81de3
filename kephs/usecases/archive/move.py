"""Carrying objects from one store to another: files to S3, or back.

One object after the other: read with its digests checked, written, read back, and only then its row names the
new place. Killed at any moment, the next run goes on where the rows say. What was carried stays where it was,
too: stores are write-once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kephs.ports import Clock, Store
from kephs.ports.archive import ArchivedObject
from kephs.ports.objects import ObjectDamagedError, ObjectError
from kephs.usecases.archive.reading import ReadArchive

PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class MoveResult:
    """What was carried; ``damaged``: name and cause of what could not be, and is quarantined."""

    objects: int
    octets: int
    damaged: tuple[tuple[str, str], ...]


class MoveArchive:
    """Carries every object to one store.

    Args:
        store: the rows.
        reader: the stores, both of them.
        clock: the time.
    """

    def __init__(self, store: Store, reader: ReadArchive, clock: Clock) -> None:
        self._store, self._reader, self._clock = store, reader, clock

    async def run(
        self, target: str, *, progress: Callable[[int, int], object] = lambda _objects, _octets: None
    ) -> MoveResult:
        """Carry what does not lie in ``target`` yet.

        Args:
            target: name of the store as rows call it.
            progress: called with objects and octets done.

        Raises:
            ObjectUnavailableError: a store gave up; what was carried stands, run again.
            ObjectError: a store is not configured, or the target holds other octets under a name.
        """
        objects, octets, after = 0, 0, ""
        damaged: list[tuple[str, str]] = []
        while page := await self._store.read(lambda tx, a=after: tx.archive.elsewhere(target, PAGE, a)):  # type: ignore[misc]
            for row in page:
                try:
                    await self._carry(row, target)
                except ObjectDamagedError as error:
                    damaged.append((row.name, str(error)))
                    continue
                objects, octets = objects + 1, octets + row.size
                progress(objects, octets)
            after = page[-1].name
        return MoveResult(objects, octets, tuple(damaged))

    async def _carry(self, row: ArchivedObject, target: str) -> None:
        to = self._reader.place(target)
        try:
            data = await self._reader.place(row.place).get(row.ref)
        except ObjectDamagedError:
            now = self._clock.now()
            await self._store.write(lambda tx: tx.archive.mark_damaged(row.name, now))
            raise
        ref = await to.put(row.name, data, row.retain_until)
        if (ref.size, ref.sha256, ref.sha512) != (row.size, row.sha256, row.sha512):
            raise ObjectError(f"{row.name}: the new store says it holds something else")
        if ref.retain_until < row.retain_until:
            raise ObjectError(f"{row.name}: the new store would keep it for a shorter time")
        await to.check(ref)
        now = self._clock.now()
        await self._store.write(lambda tx: tx.archive.moved(row.name, row.ref, ref, target, now))
