"""What `kephs doctor` finds out about the archive's rows, the process record's anchors, providers taken over.

What waits for too long, what is quarantined, what was cut off, what is lost.
"""

import sqlite3
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from config.settings import Settings, SettingsError
from kephs.bootstrap.archive import open_rules
from kephs.cli.findings import Finding, error, ok, warning
from kephs.cli.providers.foreign import FOLDER, open_key
from kephs.instances.databases import check_schema, open_database
from kephs.instances.keys import read_keys
from kephs.ports import StoreUnavailableError, Tx
from kephs.usecases.archive.fixity import ArchiveStatus, read_status
from kephs.usecases.governance.anchor_audit import Anchoring, read_anchoring
from storage.crypto import KeyMismatchError
from storage.errors import SchemaError
from storage.fsck.foreign import check_foreign as fsck_foreign

T = TypeVar("T")


async def check_backlog(settings: Settings, now: datetime) -> list[Finding]:
    """Look at the archive's rows; nothing is changed."""
    try:
        rules = open_rules(settings)
    except SettingsError:
        return []  # said elsewhere
    found = await read_rows(
        settings, lambda tx: (read_status(tx, now, rules.alarm_after), read_anchoring(tx))
    )
    return [] if found is None else [*_judged(found[0], now), *_anchored(found[1], now)]


async def check_foreign(settings: Settings, directory: Path) -> list[Finding]:
    """Look for the files of providers taken over: there, of their size, their lists what was signed."""
    archives = await read_rows(settings, lambda tx: list(tx.foreign.archives()))
    if not archives:
        return []
    key = partial(open_key, settings)
    found = fsck_foreign(archives, directory / FOLDER, key, deep=False, progress=lambda _what, _count: None)
    wrong = [one for one in found if not one.harmless]
    if not wrong:
        names = ", ".join(one.domain for one in archives)
        return [ok("foreign", f"what was taken over of {names} is there; kephs fsck --deep reads it all")]
    text = f"{len(wrong)} files taken over are lost, changed or strange, first {wrong[0].subject}"
    return [error("foreign-damaged", text, "kephs fsck DIR names each and its cure")]


async def read_rows(settings: Settings, work: Callable[[Tx], T]) -> T | None:
    """Return what a piece of work reads; None where the store cannot be read, which others tell."""
    try:
        check_schema(settings)
        store = open_database(settings, column_key=read_keys(settings).columns)
    except (SettingsError, SchemaError, sqlite3.DatabaseError):
        return None
    try:
        await store.start()
        try:
            return await store.read(work)
        finally:
            await store.close()
    except (StoreUnavailableError, SchemaError, KeyMismatchError, sqlite3.Error):
        return None


def _judged(found: ArchiveStatus, now: datetime) -> list[Finding]:
    findings = []
    waiting = ", ".join(f"{one.entries} {one.kind.value}" for one in found.backlogs)
    oldest = max(int(one.age(now).total_seconds()) for one in found.backlogs)
    if found.alarm:
        findings.append(
            error(
                "archive-behind",
                f"the archive is behind: {waiting} wait, the oldest for {oldest} s",
                "see archive.* in the log; is kephs serve running? kephs archive seal DIR",
            )
        )
    for row in found.damaged:
        cure = "bring a copy back under the same name (docs/archive.md), then kephs archive verify DIR"
        findings.append(error("archive-damaged", f"{row.name} is quarantined", cure))
    if found.totals.check_overdue:
        findings.append(
            warning(
                "archive-unchecked",
                f"{found.totals.check_overdue} objects are due for their fixity check",
                "kephs archive verify DIR, at a pace that suits: --mbps",
            )
        )
    if not findings:
        text = (
            f"the archive holds {found.archived_entry} of {found.newest_entry} ledger entries; {waiting} wait"
        )
        findings.append(ok("archive-backlog", text))
    return findings


def _anchored(found: Anchoring, now: datetime) -> Iterable[Finding]:
    if found.missing:
        yield error(
            "audit-cut",
            f"{found.missing} entries at the end of the process record are gone",
            "kephs audit verify DIR; keep a copy of the database, restore it from a backup, report it",
        )
    if found.late(now):
        yield error(
            "audit-unanchored",
            f"{found.open} entries of the process record are in the ledger by no anchor, the oldest for "
            f"{found.age(now).days} days",
            "see audit.* in the log; is kephs serve running? kephs audit anchor DIR",
        )
    elif not found.missing:
        yield ok("audit-anchored", f"{found.open} entries of the process record behind the last anchor")
