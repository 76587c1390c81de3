"""The process record as files for an authority.

::

    kayit.jsonl               the entries, a line each: the JSON that the chain of digests covers
    capa/<number>.capa        what an anchor says (`kephs.domain.audit_anchor.Statement`)
    capa/<number>.proof       that the ledger has it
    checkpoint                the ledger's note that all proofs are made under

The last entry is that of the export itself, and it is anchored: whoever cuts the end off takes it along. A
proof without its statement is an anchor whose entry is gone, or another one now: it goes along, and fails the
check.
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
from kephs.cli.output import ExitError
from kephs.domain.audit import AuditEntry
from kephs.domain.audit_anchor import STATEMENT_MAX, Anchored, Statement, anchor_name
from kephs.domain.audit_check import (
    LINE_MAX,
    Expected,
    Held,
    ShownAnchor,
    check_record,
    record_line,
)
from kephs.ports import Clock, Store, Tx
from kephs.usecases.governance.anchor_audit import AnchorAudit
from kephs.usecases.proof.prove import Prove

RECORD: Final = "kayit.jsonl"
ANCHORS: Final = "capa"
CHECKPOINT: Final = "checkpoint"
_PAGE: Final = 1_000
_ANCHORS_MOST: Final = 100_000  # daily ones of 270 years
_ANCHOR_FILE: Final = re.compile(r"([0-9]{12})\.(?:capa|proof)\Z")


async def export(
    store: Store, prove: Prove, folder: Path, clock: Clock, user: str
) -> tuple[int, int, list[int]]:
    """Note and anchor that the record is handed out, publish, write it.

    Args:
        store: of the instance.
        prove: proves what the ledger has, and publishes what is new.
        folder: empty, or to be made.
        clock: the time.
        user: the machine's account that exports.

    Returns:
        How many entries and anchors; the numbers of anchored entries that are gone.

    Raises:
        ExitError: the folder holds something.
        LedgerContradictionError: the ledger does not prove an anchor.
        OSError: a file cannot be written.
    """
    await asyncio.to_thread(_prepare, folder)
    upto = (await AnchorAudit(store, clock).close(user)).number
    anchors: list[tuple[Anchored, AuditEntry | None]] = []
    while page := await store.read(partial(_anchors, after=anchors[-1][0].number if anchors else 0)):
        anchors += page
    # what another process enters from now on belongs into the next export
    anchors = [pair for pair in anchors if pair[0].number <= upto or pair[1] is None]
    proven = await prove.prove([anchor_name(one.number) for one, _ in anchors])
    await asyncio.to_thread((folder / CHECKPOINT).write_bytes, proven.note)
    for one, entry in anchors:
        said = None if entry is None else Statement(one.number, entry.digest, one.at).encode()
        proof = proven.proofs[anchor_name(one.number)].encode()
        await asyncio.to_thread(_write_anchor, folder, one.number, said, proof)
    count = 0
    with (folder / RECORD).open("wb") as out:
        while entries := await store.read(partial(_entries, after=count, upto=upto)):
            await asyncio.to_thread(out.write, b"".join(map(record_line, entries)))
            count = entries[-1].number
    return count, len(anchors), [one.number for one, entry in anchors if entry is None]


def check(
    folder: Path, log: NoteVerifier, old: Path | None, got: datetime | None, at: datetime,
    expected: Expected | None = None,
) -> Report:  # fmt: skip
    """Check what `export` wrote; see `check_record`.

    Args:
        folder: the export.
        log: the ledger's key.
        old: a checkpoint that the reader kept.
        got: when they got it.
        at: time of the check, UTC.
        expected: what the reader knows of the record's end.

    Raises:
        ExitError: the folder is no export.
        OSError: a file cannot be read.
    """
    held = None if old is None else Held(_read(old, MAX_NOTE), got)
    note = _read(folder / CHECKPOINT, MAX_NOTE)
    with (folder / RECORD).open("rb") as record:
        lines = iter(lambda: record.readline(LINE_MAX + 1), b"")
        anchors = list(_shown(folder / ANCHORS))
        return check_record(lines, anchors, note, log, at, held=held, expected=expected)


def _prepare(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ExitError("folder-not-empty", f"{folder} is not empty", "choose a new folder")
    (folder / ANCHORS).mkdir(mode=0o700)


def _anchors(tx: Tx, after: int) -> Sequence[tuple[Anchored, AuditEntry | None]]:
    """Return some anchors with the entries they are about; None where that is gone, or is another one."""
    found: list[tuple[Anchored, AuditEntry | None]] = []
    for one in tx.audit.anchors(after, _PAGE):
        entries = tx.audit.page(one.number - 1, 1)
        entry = entries[0] if entries and entries[0].number == one.number else None
        if entry and Statement(one.number, entry.digest, one.at).sha256 != one.statement_sha256:
            entry = None  # another one took its number
        found.append((one, entry))
    return found


def _entries(tx: Tx, after: int, upto: int) -> Sequence[AuditEntry]:
    return [entry for entry in tx.audit.page(after, _PAGE) if entry.number <= upto]


def _write_anchor(folder: Path, number: int, said: bytes | None, proof: bytes) -> None:
    if said is not None:
        (folder / ANCHORS / f"{number:012d}.capa").write_bytes(said)
    (folder / ANCHORS / f"{number:012d}.proof").write_bytes(proof)


def _shown(folder: Path) -> Iterator[ShownAnchor]:
    matches = (_ANCHOR_FILE.match(path.name) for path in folder.iterdir())
    numbers = sorted({found[1] for found in matches if found is not None})
    if len(numbers) > _ANCHORS_MOST:
        raise ExitError("too-many-anchors", f"{folder} holds more than {_ANCHORS_MOST}", "give an export")
    for number in numbers:
        said, proof = folder / f"{number}.capa", folder / f"{number}.proof"
        statement = _read(said, STATEMENT_MAX) if said.is_file() else b""
        yield ShownAnchor(statement, _read(proof, MAX_FILE))


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ExitError("file-too-large", f"{path} is longer than {most} octets", "give an export")
    return content
