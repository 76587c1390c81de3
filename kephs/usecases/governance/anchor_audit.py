"""Enters the head of the process record into the public ledger, daily (KEP-RT-01, KEP-RT-04).

From the next checkpoint on, nobody can drop, alter or back-date what the record held then without
contradicting what is published, whoever owns the database (`kephs.domain.audit_anchor`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from evidence.bundle.archive_object import ObjectKind
from evidence.ledger.chain import LedgerEntry
from evidence.ledger.merkle import MissingNodeError
from evidence.ledger.notes import NoteError, NoteVerifier, open_note
from evidence.ledger.proof import check_proof, make_proof
from kephs.domain.audit import AuditEntry
from kephs.domain.audit_anchor import Anchored, anchor_name
from kephs.domain.audit_check import RECORD_EXPORTED
from kephs.ports import Clock, Store, Tx
from kephs.usecases.people.accounts import SHELL
from kephs.usecases.proof.publish_ledger import stored_tiles

EVERY: Final = timedelta(days=1)
LATE: Final = timedelta(days=2)
"""An entry that no anchor holds for longer raises the alarm."""
_USER_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Anchoring:
    """How far the record is held by more than its own chain."""

    open: int = 0
    """Entries behind the last anchor."""
    since: datetime | None = None
    """Time of the oldest of them."""
    missing: int = 0
    """Entries that an anchor or an archived object is about, and that are not there: the end was cut."""

    def age(self, now: datetime) -> timedelta:
        """Return for how long the oldest open entry waits."""
        return timedelta(0) if self.since is None else max(timedelta(0), now - self.since)

    def late(self, now: datetime) -> bool:
        """Say whether that is an alarm."""
        return self.age(now) > LATE


def read_anchoring(tx: Tx) -> Anchoring:
    """Return how far the record is anchored; a few look-ups, however long it is."""
    head, last = tx.audit.head(), tx.audit.last_anchor()
    number, anchored = 0 if head is None else head.number, 0 if last is None else last.number
    missing = max(0, max(anchored, tx.archive.watermark(ObjectKind.PROCESS)) - number)
    first = tx.audit.page(anchored, 1) if number > anchored else ()
    return Anchoring(max(0, number - anchored), first[0].at if first else None, missing)


def _silent(_event: str, _detail: str) -> None:
    return


class AnchorAudit:
    """Anchors the record. Any number of processes may do so: the same entry is anchored once.

    Args:
        store: the rows.
        clock: the time.
        every: an anchor at most so often, where nobody asks for one.
        alarm: told an event and its detail where entries waited for longer than `LATE`, before each try to
            anchor them, and where entries are gone that were anchored or archived.
    """

    def __init__(
        self, store: Store, clock: Clock, *, every: timedelta = EVERY,
        alarm: Callable[[str, str], object] = _silent,
    ) -> None:  # fmt: skip
        self._store, self._clock, self._every, self._alarm = store, clock, every, alarm

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
        await self._raise_alarm(now)

        def enter(tx: Tx) -> LedgerEntry | None:
            last = tx.audit.last_anchor()
            return tx.audit.anchor(_not_earlier(now, last))

        return await self._store.write(enter)

    async def close(self, user: str) -> AuditEntry:
        """Note that the record is handed out, and anchor that very entry: an export ends with it.

        It stays without anchor where the record is shorter than what was anchored before: its end was cut.

        Args:
            user: the machine's account that exports it.

        Returns:
            The entry.

        Raises:
            StoreUnavailableError: nothing was entered, so nothing may be handed out.
        """
        now = self._clock.now()

        def enter(tx: Tx) -> AuditEntry:
            noted = tx.audit.add(
                at=now, actor=SHELL, action=RECORD_EXPORTED, subject="process record",
                detail=f"user {user[:_USER_MAX]}",
            )  # fmt: skip
            tx.audit.anchor(_not_earlier(now, tx.audit.last_anchor()))
            return noted

        return await self._store.write(enter)

    async def _raise_alarm(self, now: datetime) -> None:
        found = await self._store.read(read_anchoring)
        if found.late(now):
            seconds = int(found.age(now).total_seconds())
            self._alarm("audit.anchor_late", f"{found.open} entries, oldest {seconds} s")
        if found.missing:
            self._alarm("audit.cut", f"{found.missing} entries at the end are gone")


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
