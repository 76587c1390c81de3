"""What `kephs doctor` finds out about the archive's rows: what waits for too long, what is quarantined."""

import sqlite3
from datetime import datetime

from config.settings import Settings, SettingsError
from kephs.bootstrap.archive import open_rules
from kephs.cli.findings import Finding, error, ok, warning
from kephs.instances.databases import check_schema, open_database
from kephs.instances.keys import read_keys
from kephs.ports import StoreUnavailableError
from kephs.usecases.archive.fixity import ArchiveStatus, read_status
from storage.crypto import KeyMismatchError
from storage.errors import SchemaError


async def check_backlog(settings: Settings, now: datetime) -> list[Finding]:
    """Look at the archive's rows; nothing is changed."""
    try:
        check_schema(settings)
        keys, rules = read_keys(settings), open_rules(settings)
    except (SettingsError, SchemaError, sqlite3.DatabaseError):
        return []  # said elsewhere
    store = open_database(settings, column_key=keys.columns)
    try:
        await store.start()
        try:
            found = await store.read(lambda tx: read_status(tx, now, rules.alarm_after))
        finally:
            await store.close()
    except (StoreUnavailableError, SchemaError, KeyMismatchError, sqlite3.Error):
        return []  # said elsewhere
    return _judged(found, now)


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
