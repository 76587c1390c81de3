"""The process record as files for an authority.

::

    kayit.jsonl               the entries, a line each: the JSON that the chain of digests covers
    capa/<number>.capa        what an anchor says (`kephs.domain.audit_anchor.Statement`)
    capa/<number>.proof       that the ledger has it
    checkpoint                the ledger's note that all proofs are made under
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from evidence.ledger.notes import MAX_NOTE, NoteVerifier
from evidence.ledger.proof import MAX_FILE
from evidence.report import Report
from kephs.cli.ledger_work import LedgerWork
from kephs.cli.output import ExitError
from kephs.domain.audit import AuditEntry
from kephs.domain.audit_anchor import STATEMENT_MAX, Anchored, Statement, anchor_name
from kephs.domain.audit_check import LINE_MAX, Held, ShownAnchor, check_record, record_line
from kephs.ports import Tx

RECORD: Final = "kayit.jsonl"
ANCHORS: Final = "capa"
CHECKPOINT: Final = "checkpoint"
_PAGE: Final = 1_000
_ANCHORS_MOST: Final = 100_000  # daily ones of 270 years
_ANCHOR_FILE: Final = re.compile(r"[0-9]{12}\.capa\Z")


async def export(ledger: LedgerWork, folder: Path) -> tuple[int, int]:
    """Write the record; return how many entries and anchors.

    What is not anchored yet stands behind the last anchor. Anchors that are not published yet are published.

    Raises:
        ExitError: the folder holds something.
        LedgerContradictionError: the ledger does not prove an anchor.
        OSError: a file cannot be written.
    """
    await asyncio.to_thread(_prepare, folder)
    anchors: list[tuple[Anchored, AuditEntry]] = []
    last = 0
    while page := await ledger.store.read(partial(_anchors, after=last)):
        anchors += page
        last = page[-1][0].number
    if anchors:
        proven = await ledger.prove.prove([anchor_name(one.number) for one, _ in anchors])
        await asyncio.to_thread((folder / CHECKPOINT).write_bytes, proven.note)
        for one, entry in anchors:
            said = Statement(one.number, entry.digest, one.at).encode()
            proof = proven.proofs[anchor_name(one.number)].encode()
            await asyncio.to_thread(_write_anchor, folder, one.number, said, proof)
    else:
        newest = await ledger.newest(publish=True)
        await asyncio.to_thread(
            (folder / CHECKPOINT).write_bytes, b"" if newest is None else newest.note.encode()
        )
    count = 0
    with (folder / RECORD).open("wb") as out:
        while entries := await ledger.store.read(partial(_entries, after=count)):
            await asyncio.to_thread(out.write, b"".join(map(record_line, entries)))
            count = entries[-1].number
    return count, len(anchors)


def check(folder: Path, log: NoteVerifier, old: Path | None, got: datetime | None, at: datetime) -> Report:
    """Check what `export` wrote; see `check_record`.

    Args:
        folder: the export.
        log: the ledger's key.
        old: a checkpoint that the reader kept.
        got: when they got it.
        at: time of the check, UTC.

    Raises:
        ExitError: the folder is no export.
        OSError: a file cannot be read.
    """
    held = None if old is None else Held(_read(old, MAX_NOTE), got)
    note = _read(folder / CHECKPOINT, MAX_NOTE)
    with (folder / RECORD).open("rb") as record:
        lines = iter(lambda: record.readline(LINE_MAX + 1), b"")
        return check_record(lines, list(_shown(folder / ANCHORS)), note, log, at, held=held)


def _prepare(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ExitError("folder-not-empty", f"{folder} is not empty", "choose a new folder")
    (folder / ANCHORS).mkdir(mode=0o700)


def _anchors(tx: Tx, after: int) -> Sequence[tuple[Anchored, AuditEntry]]:
    """Return some anchors with the entries they are about; one without is left out: `check` tells."""
    found = []
    for one in tx.audit.anchors(after, _PAGE):
        entries = tx.audit.page(one.number - 1, 1)
        if entries and entries[0].number == one.number:
            found.append((one, entries[0]))
    return found


def _entries(tx: Tx, after: int) -> Sequence[AuditEntry]:
    return list(tx.audit.page(after, _PAGE))


def _write_anchor(folder: Path, number: int, said: bytes, proof: bytes) -> None:
    (folder / ANCHORS / f"{number:012d}.capa").write_bytes(said)
    (folder / ANCHORS / f"{number:012d}.proof").write_bytes(proof)


def _shown(folder: Path) -> Iterator[ShownAnchor]:
    names = sorted(path.name for path in folder.iterdir() if _ANCHOR_FILE.match(path.name))
    if len(names) > _ANCHORS_MOST:
        raise ExitError("too-many-anchors", f"{folder} holds more than {_ANCHORS_MOST}", "give an export")
    for name in names:
        path = folder / name
        yield ShownAnchor(_read(path, STATEMENT_MAX), _read(path.with_suffix(".proof"), MAX_FILE))


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ExitError("file-too-large", f"{path} is longer than {most} octets", "give an export")
    return content
