"""The Merkle tree over the ledger of the in-memory twin."""

from collections.abc import Iterator
from dataclasses import replace

from kephs.ports import StoredCheckpoint
from storage.memory.tables import Tables


class MemoryTree:
    """`kephs.ports.Tree` in memory."""

    def __init__(self, tables: Tables) -> None:
        self._t = tables

    def tile(self, level: int, number: int) -> bytes | None:
        """Return a tile's hashes, as many as there are."""
        return self._t.tiles.get((level, number))

    def put_tile(self, level: int, number: int, hashes: bytes) -> None:
        """Store a tile; one that grew replaces the shorter one."""
        self._t.tiles.put((level, number), hashes)

    def checkpoint(self, size: int | None = None) -> StoredCheckpoint | None:
        """Return the checkpoint of this size, or the newest."""
        wanted = max(self._t.checkpoints, default=None) if size is None else size
        return None if wanted is None else self._t.checkpoints.get(wanted)

    def checkpoints(self, after: int, limit: int) -> list[StoredCheckpoint]:
        """Return checkpoints larger than ``after``, ascending."""
        sizes = sorted(size for size in self._t.checkpoints if size > after)
        return [self._t.checkpoints[size] for size in sizes[:limit]]

    def add_checkpoint(self, checkpoint: StoredCheckpoint) -> bool:
        """Store a checkpoint; False where one of this size stands: it stays."""
        if checkpoint.size in self._t.checkpoints:
            return False
        self._t.checkpoints.put(checkpoint.size, checkpoint)
        return True

    def set_note(self, size: int, note: str) -> None:
        """Replace a checkpoint's note; `KeyError` where there is none of this size."""
        self._t.checkpoints.put(size, replace(self._t.checkpoints[size], note=note))

    def witnessed(self, origin: str) -> StoredCheckpoint | None:
        """Return the newest checkpoint of another log that we cosigned."""
        return self._t.witnessed.get(origin)

    def set_witnessed(self, origin: str, checkpoint: StoredCheckpoint) -> None:
        """Note that we cosigned a checkpoint of another log."""
        self._t.witnessed.put(origin, checkpoint)

    def tile_count(self) -> int:
        """Return how many tiles there are (asked by fsck)."""
        return len(self._t.tiles)

    def survey_checkpoints(self) -> Iterator[StoredCheckpoint]:
        """Yield every checkpoint, ascending (asked by fsck)."""
        yield from (self._t.checkpoints[size] for size in sorted(self._t.checkpoints))
