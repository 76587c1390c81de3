"""Writing the published ledger as static files that any web server can show (C2SP tlog-tiles)."""

import asyncio
import os
from pathlib import Path
from typing import Final

from evidence.ledger.notes import Checkpoint, Note, NoteError, NoteVerifier
from evidence.ledger.tiles import ENTRIES, TileName, tiles_of
from kephs.cli.output import ExitError
from kephs.ledger.server import published
from kephs.ports import Store, StoredCheckpoint
from storage.files.journal import sync_directory

_PAGE: Final = 64  # tiles of one look into the store


async def export(store: Store, verifier: NoteVerifier, folder: Path) -> tuple[StoredCheckpoint, int]:
    """Write tiles, entries, key, and last the checkpoint; return it and how many tiles were new.

    Full tiles that are there already are left alone: they never change.

    Raises:
        ExitError: nothing was published, the folder shows a larger ledger, or a tile is missing.
        OSError: a file cannot be written.
    """
    newest = await store.read(lambda tx: tx.tree.checkpoint())
    if newest is None:
        raise ExitError(
            "nothing-published", "no checkpoint was signed yet", "kephs ledger checkpoint DIR --publish"
        )
    _check_growing(folder, newest)
    names = [name for name in _names(newest.size) if not (name.full and (folder / name.path).exists())]
    for at in range(0, len(names), _PAGE):
        page = names[at : at + _PAGE]
        bodies = await store.read(lambda tx, page=page: [published(tx, name) for name in page])  # type: ignore[misc]
        await asyncio.to_thread(_write_page, folder, page, bodies)
    await asyncio.to_thread(_write, folder / "log.vkey", f"{verifier.vkey}\n".encode())
    await asyncio.to_thread(_write, folder / "checkpoint", newest.note.encode())
    await asyncio.to_thread(sync_directory, folder)
    return newest, len(names)


def _names(size: int) -> list[TileName]:
    tiles = list(tiles_of(size))
    return [*tiles, *(TileName(ENTRIES, tile.number, tile.width) for tile in tiles if tile.level == 0)]


def _check_growing(folder: Path, newest: StoredCheckpoint) -> None:
    """Refuse to show less than was shown before.

    Raises:
        ExitError: so it would be.
    """
    try:
        shown = Checkpoint.parse(Note.parse((folder / "checkpoint").read_bytes()).text)
    except FileNotFoundError:
        return
    except NoteError as error:
        raise ExitError("not-a-ledger", f"{folder}/checkpoint: {error}", "choose another folder") from None
    if shown.size > newest.size or (shown.size == newest.size and shown.root != newest.root):
        raise ExitError(
            "ledger-contradiction",
            f"{folder} shows {shown.size} entries, the store has {newest.size}, or others",
            "the store was set back or rewritten: kephs fsck DIR",
        )


def _write_page(folder: Path, names: list[TileName], bodies: list[bytes | None]) -> None:
    for name, body in zip(names, bodies, strict=True):
        if body is None:
            raise ExitError("tile-missing", f"{name.path} cannot be made", "run kephs fsck DIR")
        _write(folder / name.path, body)


def _write(path: Path, body: bytes) -> None:
    """Write a file so that a reader sees all of it or the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
