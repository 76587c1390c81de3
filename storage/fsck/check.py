"""Checks that the store holds together: states, evidence, ledger, mailboxes, trust list, content.

Reads only, on one snapshot. While a server runs beside it, content that was released and erased after
the snapshot looks missing: such a finding about an item, a message or a receipt is gone when fsck runs
again. Memory grows with the number of accounts, unread deliveries (a digest each), evidence (their ids)
and contents (their places), not with their size.
"""

from collections.abc import Iterator
from typing import cast

from evidence.ledger.notes import NoteVerifier
from kephs.ports import Tx
from storage.fsck.archive import check_archive
from storage.fsck.findings import Finding, FindingCode
from storage.fsck.ledger import check_ledger
from storage.fsck.mailboxes import AccountCheck, MailboxCheck
from storage.fsck.messages import MessageCheck
from storage.fsck.scope import CheckedBlobs, CheckedTx, Progress, Scope
from storage.fsck.trust import check_trust

__all__ = ["CheckedBlobs", "Finding", "FindingCode", "Progress", "check"]


def _silent(_what: str, _count: int) -> None:
    return


def check(
    tx: Tx,
    blobs: CheckedBlobs,
    *,
    deep: bool = False,
    progress: Progress = _silent,
    log: NoteVerifier | None = None,
) -> Iterator[Finding]:
    """Yield everything that does not hold, while the transaction lasts.

    Args:
        tx: a snapshot of a store of this package.
        blobs: the blob store; it need not be started.
        deep: read every item's content too; evidence is always read in full.
        progress: called now and then.
        log: the public key of the ledger's checkpoints; without it their signatures are not checked.
    """
    scope = Scope(cast("CheckedTx", tx), blobs, progress, deep)  # the stores of this package have more
    yield from AccountCheck(scope).run()
    yield from check_ledger(scope, log)
    yield from MessageCheck(scope).run()
    yield from MailboxCheck(scope).run()
    yield from check_trust(scope)
    yield from check_archive(scope)
    yield from _orphans(scope)


def _orphans(scope: Scope) -> Iterator[Finding]:
    """Count content without a row: refused messages and tries answered 4xx leave it as a matter of course."""
    named = {blob.place for blob in scope.tx.blobs.all()}
    orphans = sum(place not in named for place in scope.blobs.places())
    scope.progress("blobs", len(named))
    if orphans:
        yield Finding(FindingCode.BLOBS_ORPHANED, "", f"{orphans} contents no row names", harmless=True)
