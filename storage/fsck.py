"""Checks that the store holds together: states, evidence, ledger, mailboxes, content.

Reads only, on one snapshot. While a server runs beside it, content that was released and erased after
the snapshot looks missing: such a finding about an item, a message or a receipt is gone when fsck runs
again. Memory grows with the number of accounts, unread deliveries (a digest each), evidence (their ids)
and contents (their places), not with their size.
"""

from collections.abc import Iterator
from typing import cast

from evidence.ledger import GENESIS, LedgerEntry, entry_hash
from kephs.domain.messages import StoredEvidence
from kephs.ports import Tx
from storage.fsck_findings import Finding, FindingCode, unreadable
from storage.fsck_mailboxes import AccountCheck, MailboxCheck
from storage.fsck_messages import MessageCheck
from storage.fsck_scope import PAGE, CheckedBlobs, CheckedTx, Progress, Scope
from storage.survey import UNREADABLE, UnreadableRow

__all__ = ["CheckedBlobs", "Finding", "FindingCode", "Progress", "check"]


def _silent(_what: str, _count: int) -> None:
    return


def check(
    tx: Tx, blobs: CheckedBlobs, *, deep: bool = False, progress: Progress = _silent
) -> Iterator[Finding]:
    """Yield everything that does not hold, while the transaction lasts.

    Args:
        tx: a snapshot of a store of this package.
        blobs: the blob store; it need not be started.
        deep: read every item's content too; evidence is always read in full.
        progress: called now and then.
    """
    scope = Scope(cast("CheckedTx", tx), blobs, progress, deep)  # the stores of this package have more
    yield from AccountCheck(scope).run()
    yield from _ledger(scope)
    yield from MessageCheck(scope).run()
    yield from MailboxCheck(scope).run()
    yield from _orphans(scope)


def _ledger(scope: Scope) -> Iterator[Finding]:
    """Follow the chain from its beginning, compare each link with its evidence, note which are entered."""
    count, number, previous = 0, 0, GENESIS
    for count, entry in enumerate(scope.tx.evidence.survey_ledger(), 1):
        if isinstance(entry, UnreadableRow):
            yield unreadable(entry)
            continue
        yield from _link(entry, number + 1, previous)
        yield from _entered(scope, entry)
        scope.entered[entry.evidence_id] += 1
        number, previous = entry.number, entry.hash
        if count % PAGE == 0:
            scope.progress("ledger", count)
    scope.progress("ledger", count)
    for evidence_id, times in scope.entered.items():
        if times > 1:
            yield Finding(FindingCode.LEDGER_DOUBLED, evidence_id, f"{times} entries")


def _link(entry: LedgerEntry, number: int, previous: bytes) -> Iterator[Finding]:
    """Check one link of the chain against the one before."""
    if entry.number != number:
        yield Finding(FindingCode.LEDGER_GAP, str(number), f"entry {entry.number} follows")
    try:
        expected = entry_hash(entry.number, previous, entry.evidence_id, entry.evidence_sha256, entry.at)
    except UNREADABLE:  # a digest of another length, a number below 1
        expected = b""
    if entry.previous != previous or entry.hash != expected:
        yield Finding(FindingCode.LEDGER_BROKEN, str(entry.number), entry.evidence_id)


def _entered(scope: Scope, entry: LedgerEntry) -> Iterator[Finding]:
    evidence: StoredEvidence | None
    try:
        evidence = scope.tx.evidence.get(entry.evidence_id)
    except UNREADABLE:
        return  # found where evidence is read
    if evidence is None:
        yield Finding(FindingCode.LEDGER_UNKNOWN_EVIDENCE, str(entry.number), entry.evidence_id)
        return
    if evidence.blob != entry.evidence_sha256:
        yield Finding(FindingCode.LEDGER_OTHER_DIGEST, str(entry.number), entry.evidence_id)
    if evidence.event_time != entry.at:
        yield Finding(FindingCode.LEDGER_OTHER_TIME, str(entry.number), entry.evidence_id)


def _orphans(scope: Scope) -> Iterator[Finding]:
    """Count content without a row: refused messages and tries answered 4xx leave it as a matter of course."""
    named = {blob.place for blob in scope.tx.blobs.all()}
    orphans = sum(place not in named for place in scope.blobs.places())
    scope.progress("blobs", len(named))
    if orphans:
        yield Finding(FindingCode.BLOBS_ORPHANED, "", f"{orphans} contents no row names", harmless=True)
