"""Evidence of the in-memory twin, and its ledger."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from secrets import token_bytes

from evidence.ledger.chain import LedgerEntry, append
from kephs.domain.audit_anchor import is_anchor_name
from kephs.domain.messages import StoredEvidence
from kephs.ports import DuplicateEvidenceError, Entered
from storage.errors import ConflictError
from storage.memory.tables import Tables


class MemoryEvidences:
    """`kephs.ports.Evidences` in memory."""

    def __init__(self, tables: Tables) -> None:
        self._t = tables

    def add(self, evidence: StoredEvidence, ers: bytes | None = None) -> LedgerEntry:
        """Store an evidence with its record and its ledger entry."""
        same = (e for e in self.of_message(evidence.message_id) if _event(e) == _event(evidence))
        said = evidence.origin is None and any(e.origin is None for e in same)
        taken = evidence.evidence_id in self._t.evidence or is_anchor_name(evidence.evidence_id)
        if said or taken:
            raise DuplicateEvidenceError(evidence.evidence_id)
        if evidence.message_id not in self._t.messages or evidence.blob not in self._t.blobs:
            raise ConflictError("the evidence's message or content does not exist")
        self._t.evidence.put(evidence.evidence_id, evidence)
        if ers is not None:
            self._t.records.put(evidence.evidence_id, ers)
        return enter(self._t, evidence.evidence_id, evidence.blob, evidence.event_time)

    def add_all(self, made: Sequence[tuple[StoredEvidence, bytes | None]]) -> None:
        """Store several evidences, each as `add` does."""
        for evidence, ers in made:
            self.add(evidence, ers)

    def get(self, evidence_id: str) -> StoredEvidence | None:
        """Return an evidence."""
        return self._t.evidence.get(evidence_id)

    def ers(self, evidence_id: str) -> bytes | None:
        """Return the evidence record that travels beside an evidence."""
        return self._t.records.get(evidence_id)

    def set_ers(self, evidence_id: str, ers: bytes) -> bool:
        """Store the record of what was released without one; False where it has its stamp already."""
        row = self._t.evidence.get(evidence_id)
        if row is None or not row.unstamped:
            return False
        self._t.evidence.put(evidence_id, replace(row, unstamped=False))
        self._t.records.put(evidence_id, ers)
        return True

    def appendix(self, message_id: str) -> tuple[bytes, bytes] | None:
        """Return what a message's bundle was sealed with."""
        return self._t.appendices.get(message_id)

    def set_appendix(self, message_id: str, inputs: bytes, content: bytes) -> None:
        """Keep what a message's bundle is sealed with."""
        if message_id not in self._t.messages:
            raise ConflictError("there is no such message")
        self._t.appendices.put(message_id, (inputs, content))

    def of_message(self, message_id: str) -> list[StoredEvidence]:
        """Return a message's evidence in the order of the events."""
        found = (e for e in self._t.evidence.values() if e.message_id == message_id)
        return sorted(found, key=lambda e: (e.event_time, e.kind, e.number or 0, e.evidence_id))

    def of_messages(self, message_ids: Sequence[str]) -> dict[str, list[StoredEvidence]]:
        """Return the evidence of several messages, each message's in the order of the events."""
        return {message_id: self.of_message(message_id) for message_id in message_ids}

    def claim_receipts(
        self, now: datetime, limit: int, lease_until: datetime, by: str
    ) -> list[StoredEvidence]:
        """Return evidence whose receipt is due, earliest first, each leased."""
        due = sorted(
            (e.receipt_due, e.evidence_id)
            for e in self._t.evidence.values()
            if e.receipt_due and e.receipt_due <= now
        )
        claimed = [replace(self._t.evidence[key], receipt_due=lease_until) for _, key in due[:limit]]
        for evidence in claimed:
            self._t.evidence.put(evidence.evidence_id, evidence)
            self._t.lease("evidence", evidence.evidence_id, by)
        return claimed

    def end_receipts(self, evidence_ids: Sequence[str]) -> set[str]:
        """Note that receipts are due no more; return the ids of those that were due."""
        rows = [self._t.evidence.get(key) for key in evidence_ids]
        due = {row.evidence_id for row in rows if row is not None and row.receipt_due is not None}
        for evidence_id in due:
            self.receipt_due(evidence_id, None, 0)
        return due

    def receipt_due(self, evidence_id: str, at: datetime | None, attempts: int) -> None:
        """Set when the receipt is due, None once it is filed; ends the lease."""
        self._t.lease("evidence", evidence_id, None)
        row = replace(self._t.evidence[evidence_id], receipt_due=at, attempts=attempts)
        self._t.evidence.put(evidence_id, row)

    def take_over(self, by: str, now: datetime) -> None:
        """Make due now what ``by`` had leased."""
        for key in self._t.leased("evidence", by):
            self.receipt_due(key, now, self._t.evidence[key].attempts)

    def next_due(self) -> datetime | None:
        """Return when the next receipt is due."""
        return min((e.receipt_due for e in self._t.evidence.values() if e.receipt_due), default=None)

    def ledger(self, after: int, limit: int) -> list[LedgerEntry]:
        """Return entries numbered above ``after``, ascending."""
        last = min(after + limit, len(self._t.ledger))
        return [self._t.ledger[seq] for seq in range(after + 1, last + 1)]

    def ledger_of(self, evidence_id: str) -> LedgerEntry | None:
        """Return the entry of one evidence."""
        return next((e for e in self._t.ledger.values() if e.evidence_id == evidence_id), None)

    def entered(self, after: int, limit: int) -> list[Entered]:
        """Return entries numbered above ``after``, ascending, each with its rows."""
        return [self._entered(entry) for entry in self.ledger(after, limit)]

    def _entered(self, entry: LedgerEntry) -> Entered:
        row = self.get(entry.evidence_id)
        message = None if row is None else self._t.messages.get(row.message_id)
        material = None if message is None else message.material
        return Entered(
            entry, row, self._t.blobs.get(entry.evidence_sha256), self.ers(entry.evidence_id),
            None if material is None else self._t.blobs.get(material),
        )  # fmt: skip

    def all(self) -> Iterable[StoredEvidence]:
        """Return every evidence, by id."""
        return sorted(self._t.evidence.values(), key=lambda e: e.evidence_id)

    def survey(self, message_ids: Sequence[str]) -> Iterator[StoredEvidence]:
        """Yield the evidence of some messages (asked by fsck)."""
        for message_id in message_ids:
            yield from self.of_message(message_id)

    def strays(self) -> Iterator[StoredEvidence]:
        """Yield the evidence whose message is gone, by id (asked by fsck)."""
        found = (e for e in self._t.evidence.values() if e.message_id not in self._t.messages)
        yield from sorted(found, key=lambda e: e.evidence_id)

    def survey_ledger(self) -> Iterator[LedgerEntry]:
        """Yield every entry, ascending (asked by fsck)."""
        yield from (self._t.ledger[seq] for seq in sorted(self._t.ledger))


def enter(tables: Tables, name: str, digest: bytes, at: datetime) -> LedgerEntry:
    """Append to the ledger: an evidence, or an anchor of the process record."""
    entry = append(
        tables.ledger.get(len(tables.ledger)), evidence_id=name, evidence_sha256=digest, at=at,
        salt=token_bytes(32),
    )  # fmt: skip
    tables.ledger.put(entry.number, entry)
    return entry


def _event(evidence: StoredEvidence) -> tuple[int, int, str]:
    return evidence.kind, evidence.number or 0, evidence.profile.value
