"""What `kephs doctor` finds out about work that waits: transfers to peers, deliveries, receipts."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from config.settings import Settings, SettingsError
from kephs.cli.findings import Finding, error, ok, warning
from kephs.domain.lifecycle import TransferState
from kephs.domain.messages import TransferKind
from kephs.instances.databases import check_schema, open_database
from kephs.instances.keys import read_keys
from kephs.ports import StoreUnavailableError, Tx
from storage.errors import SchemaError

_OLD: Final = timedelta(hours=1)
_OVERDUE: Final = timedelta(minutes=10)
_MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class _Waiting:
    counts: dict[TransferState, int]
    oldest: datetime | None  # of what is queued
    failed_receipts: int
    due: datetime | None  # of the oldest delivery or receipt


async def check_queue(settings: Settings, now: datetime) -> list[Finding]:
    """Look at the queue; nothing is changed."""
    try:
        check_schema(settings)
        keys = read_keys(settings)
    except (SettingsError, SchemaError, sqlite3.DatabaseError):
        return []  # said elsewhere
    store = open_database(settings, column_key=keys.columns)
    try:
        await store.start()
        try:
            waiting = await store.read(_look)
        finally:
            await store.close()
    except (StoreUnavailableError, SchemaError, sqlite3.Error) as failure:
        return [error("queue", f"the queue cannot be read: {failure}", "see database; run kephs fsck DIR")]
    return _judged(waiting, now)


def _look(tx: Tx) -> _Waiting:
    counts: dict[TransferState, int] = {}
    for (_, state), count in tx.transfers.counts().items():
        counts[state] = counts.get(state, 0) + count
    queued = tx.transfers.list(peer=None, state=TransferState.QUEUED, after="", limit=1)
    failed = tx.transfers.list(peer=None, state=TransferState.FAILED, after="", limit=_MOST)
    due = [at for at in (tx.messages.next_due(), tx.evidence.next_due()) if at is not None]
    return _Waiting(
        counts,
        queued[0].created_at if queued else None,
        sum(1 for one in failed if one.kind is TransferKind.RECEIPT),
        min(due, default=None),
    )


def _judged(waiting: _Waiting, now: datetime) -> list[Finding]:
    findings = []
    queued, held = (waiting.counts.get(one, 0) for one in (TransferState.QUEUED, TransferState.HELD))
    if waiting.oldest is not None and now - waiting.oldest > _OLD:
        hours = (now - waiting.oldest).total_seconds() / 3600
        findings.append(
            warning(
                "queue-old", f"{queued} transfers wait, the oldest for {hours:.1f} hours",
                "kephs queue list DIR names the causes",
            )
        )  # fmt: skip
    if held:
        findings.append(
            warning(
                "queue-held", f"{held} transfers are held by an operator; their deadlines run on",
                "kephs queue release DIR --all, once the reason is gone",
            )
        )  # fmt: skip
    if waiting.failed_receipts:
        findings.append(
            warning(
                "queue-receipts", f"{waiting.failed_receipts} receipts could not be handed over",
                "send them again: kephs queue retry DIR --all",
            )
        )  # fmt: skip
    if waiting.due is not None and now - waiting.due > _OVERDUE:
        minutes = (now - waiting.due).total_seconds() / 60
        findings.append(
            warning(
                "work-overdue", f"deliveries or receipts have been due for {minutes:.0f} minutes",
                "is the server running, with the role worker? Its log says what is missing",
            )
        )  # fmt: skip
    return findings or [ok("queue", f"{queued} transfers wait, none for long")]
