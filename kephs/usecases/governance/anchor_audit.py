"""Enters the head of the process record into the public ledger, daily (KEP-RT-01, KEP-RT-04).

From the next checkpoint on, nobody can drop, alter or back-date what the record held then without
contradicting what is published, whoever owns the database (`kephs.domain.audit_anchor`).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from evidence.ledger.chain import LedgerEntry
from evidence.ledger.merkle import MissingNodeError
from evidence.ledger.notes import NoteError, NoteVerifier, open_note
from evidence.ledger.proof import check_proof, make_proof
from kephs.domain.audit_anchor import Anchored, anchor_name
from kephs.ports import Clock, Store, Tx
from kephs.usecases.proof.publish_ledger import stored_tiles

EVERY: Final = timedelta(days=1)


class AnchorAudit:
    """Anchors the record. Any number of processes may do so: the same entry is anchored once.

    Args:
        store: the rows.
        clock: the time.
        every: an anchor at most so often, where nobody asks for one.
    """

    def __init__(self, store: Store, clock: Clock, *, every: timedelta = EVERY) -> None:
        self._store, self._clock, self._every = store, clock, every

    def due(self, tx: Tx) -> datetime | None:
        """Return when the next anchor is due; None while the record has nothing new."""
        last = tx.audit.last_anchor()
        if last is not None:
            due = last.at + self._every
            if due > self._clock.now():  # told without a look at the record: this is asked often
                return due
        head = tx.audit.head()
        if head is None or (last is not None and last.number >= head.number):
            return None
        return head.at if last is None else last.at + self._every

    async def anchor(self) -> LedgerEntry | None:
        """Anchor the newest entry now; None where it is anchored, or the record is empty.

        Raises:
            StoreUnavailableError: nothing was entered.
        """
        now = self._clock.now()

        def enter(tx: Tx) -> LedgerEntry | None:
            last = tx.audit.last_anchor()
            return tx.audit.anchor(_not_earlier(now, last))

        return await self._store.write(enter)


def published_anchors(tx: Tx, anchors: Sequence[Anchored], log: NoteVerifier) -> tuple[int, str | None]:
    """Count the anchors under the newest checkpoint; say what contradicts it, None where nothing does.

    Each anchor must be the leaf that was published, and the checkpoint must be signed by the log's key.
    """
    newest = tx.tree.checkpoint()
    if newest is None:
        return 0, None
    note = newest.note.encode()
    try:
        signed = open_note(note, (log,)).checkpoint
    except (NoteError, ValueError) as error:
        return 0, f"the ledger's newest checkpoint is not signed by its key: {error}"
    nodes, count = stored_tiles(tx, newest.size), 0
    for anchor in anchors:
        if anchor.ledger_number > newest.size:
            continue
        entry = tx.evidence.ledger_of(anchor_name(anchor.number))
        try:
            proof = None if entry is None else make_proof(entry.number, entry.salt, note, nodes)
        except (MissingNodeError, NoteError, ValueError) as error:
            return count, f"the ledger does not prove the anchor of entry {anchor.number}: {error}"
        if proof is None or not check_proof(proof, anchor.statement_sha256, signed):
            return count, f"the anchor of entry {anchor.number} is not the one that was published"
        count += 1
    return count, None


def _not_earlier(now: datetime, last: Anchored | None) -> datetime:
    """A clock set back makes no anchor that is earlier than the one before."""
    return now if last is None else max(now, last.at)
