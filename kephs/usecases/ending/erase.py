"""Emptying the mailboxes of closed accounts (KEP-RT-02, KEP-CL-01): content goes, evidence stays.

Closing only notes the account; a worker empties it in small transactions and goes on after a kill where it
stopped. What leaves the mailbox this way is destroyed like what its owner deletes, and kept where a legal
hold stands. Folders stay, empty, and so does what was ever delivered into them.
"""

from datetime import datetime
from typing import Final

from directory.accounts import AccountState
from kephs.domain.erasure import ACCOUNT_ERASED, PendingErasure, Removal, RemovalCause
from kephs.ports import Tx

BATCH: Final = 500  # items of one transaction: others write in between


def erase_later(tx: Tx, account_id: str, at: datetime, by: str) -> None:
    """Note that an account was closed; call it in the transaction that closes it."""
    tx.erasures.later(PendingErasure(account_id, at, by))


def empty_next(tx: Tx, now: datetime) -> int:
    """Remove a batch of items of the account closed first; return how many. 0: it is empty, or none waits."""
    job = tx.erasures.pending()
    if job is None:
        return 0
    account = tx.accounts.get(job.account_id)
    if account is None or account.state is not AccountState.CLOSED:
        tx.erasures.done(job.account_id)
        return 0
    removal = Removal(job.account_id, None, job.by or "kephs", RemovalCause.CLOSING, now)
    left = BATCH
    for folder in tx.mailboxes.folders(job.account_id):
        uids = tx.erasures.first_uids(folder.folder_id, left)
        if uids:
            tx.erasures.removing(folder.folder_id, uids, removal)
            tx.mailboxes.remove(folder.folder_id, uids)
            left -= len(uids)
        if not left:
            return BATCH
    tx.erasures.done(job.account_id)
    tx.audit.add(
        at=now, actor=removal.by, action=ACCOUNT_ERASED, subject=str(account.address),
        detail=f"mailbox emptied after closing on {job.closed_at:%Y-%m-%d}; evidence stays",
    )  # fmt: skip
    return BATCH - left
