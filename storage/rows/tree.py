"""The Merkle tree over the ledger in SQL: its tiles, its checkpoints, and what we cosigned of other logs."""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import bindparam, func, insert, literal_column, select, update

from kephs.ports import StoredCheckpoint
from storage.files.survey import UnreadableRow, survey
from storage.rows.statements import Database, Row
from storage.rows.tables import checkpoints, ledger_tiles, witnessed
from storage.rows.values import from_micros, to_micros

_PAGE: Final = 500

_TILE: Final = select(ledger_tiles.c.hashes).where(
    ledger_tiles.c.level == bindparam("level"), ledger_tiles.c.number == bindparam("number")
)
_GROW: Final = (
    update(ledger_tiles)
    .where(ledger_tiles.c.level == bindparam("of_level"), ledger_tiles.c.number == bindparam("of_number"))
    .values(hashes=bindparam("grown"))
)
_ADD_TILE: Final = insert(ledger_tiles)
_TILES: Final = select(func.count()).select_from(ledger_tiles)
_NEWEST: Final = select(checkpoints).order_by(checkpoints.c.size.desc()).limit(literal_column("1"))
_OF_SIZE: Final = select(checkpoints).where(checkpoints.c.size == bindparam("size"))
_AFTER: Final = (
    select(checkpoints)
    .where(checkpoints.c.size > bindparam("after"))
    .order_by(checkpoints.c.size)
    .limit(bindparam("most"))
)
_ADD_CHECKPOINT: Final = insert(checkpoints)
_SET_NOTE: Final = (
    update(checkpoints).where(checkpoints.c.size == bindparam("of_size")).values(note=bindparam("signed"))
)
_WITNESSED: Final = select(witnessed).where(witnessed.c.origin == bindparam("origin"))
_MOVE_WITNESSED: Final = (
    update(witnessed)
    .where(witnessed.c.origin == bindparam("of_origin"))
    .values(
        size=bindparam("new_size"),
        root=bindparam("new_root"),
        note=bindparam("new_note"),
        at=bindparam("new_at"),
    )
)
_ADD_WITNESSED: Final = insert(witnessed)


class SqlTree:
    """`kephs.ports.Tree` in SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def tile(self, level: int, number: int) -> bytes | None:
        """Return a tile's hashes, as many as there are."""
        row = self._db.row(_TILE, {"level": level, "number": number})
        return None if row is None else row[0]

    def put_tile(self, level: int, number: int, hashes: bytes) -> None:
        """Store a tile; one that grew replaces the shorter one."""
        if not self._db.run(_GROW, {"of_level": level, "of_number": number, "grown": hashes}):
            self._db.run(_ADD_TILE, {"level": level, "number": number, "hashes": hashes})

    def checkpoint(self, size: int | None = None) -> StoredCheckpoint | None:
        """Return the checkpoint of this size, or the newest."""
        row = self._db.row(_NEWEST, {}) if size is None else self._db.row(_OF_SIZE, {"size": size})
        return None if row is None else _checkpoint(row)

    def checkpoints(self, after: int, limit: int) -> list[StoredCheckpoint]:
        """Return checkpoints larger than ``after``, ascending."""
        return [_checkpoint(row) for row in self._db.rows(_AFTER, {"after": after, "most": limit})]

    def add_checkpoint(self, checkpoint: StoredCheckpoint) -> bool:
        """Store a checkpoint; False where one of this size stands: it stays."""
        return self._db.run_quiet(
            _ADD_CHECKPOINT,
            {
                "size": checkpoint.size,
                "root": checkpoint.root,
                "note": checkpoint.note,
                "at": to_micros(checkpoint.at),
            },
        )

    def set_note(self, size: int, note: str) -> None:
        """Replace a checkpoint's note; `KeyError` where there is none of this size."""
        if not self._db.run(_SET_NOTE, {"of_size": size, "signed": note}):
            raise KeyError(size)

    def witnessed(self, origin: str) -> StoredCheckpoint | None:
        """Return the newest checkpoint of another log that we cosigned."""
        row = self._db.row(_WITNESSED, {"origin": origin})
        return None if row is None else _checkpoint(row[1:])

    def set_witnessed(self, origin: str, checkpoint: StoredCheckpoint) -> None:
        """Note that we cosigned a checkpoint of another log."""
        size, root, note = checkpoint.size, checkpoint.root, checkpoint.note
        at = to_micros(checkpoint.at)
        moved = {"of_origin": origin, "new_size": size, "new_root": root, "new_note": note, "new_at": at}
        if not self._db.run(_MOVE_WITNESSED, moved):
            added = {"origin": origin, "size": size, "root": root, "note": note, "at": at}
            self._db.run(_ADD_WITNESSED, added)

    def tile_count(self) -> int:
        """Return how many tiles there are (asked by fsck)."""
        row = self._db.row(_TILES, {})
        return 0 if row is None else int(row[0])

    def survey_checkpoints(self) -> Iterator[StoredCheckpoint | UnreadableRow]:
        """Yield every checkpoint, ascending, readable or not (asked by fsck)."""
        after = -1
        while rows := self._db.rows(_AFTER, {"after": after, "most": _PAGE}):
            yield from survey("checkpoints", rows, _checkpoint)
            after = rows[-1][0]


def _checkpoint(row: Row) -> StoredCheckpoint:
    size, root, note, at = row
    return StoredCheckpoint(size, root, note, from_micros(at))
