"""The archive's rows of the in-memory twin."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from evidence.bundle.archive_object import ObjectKind
from evidence.ledger.chain import LedgerEntry
from kephs.domain.audit import GENESIS, AuditEntry, link_problem
from kephs.domain.messages import StoredEvidence
from kephs.ports.archive import ArchivedObject, ArchiveTotals, ObjectState
from kephs.ports.objects import ObjectRef
from storage.memory.tables import Tables

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class MemoryArchive:
    """`kephs.ports.archive.Archive` in memory."""

    def __init__(self, tables: Tables) -> None:
        self._t = tables

    def watermark(self, kind: ObjectKind = ObjectKind.EVIDENCE) -> int:
        """Return the number of the last entry that lies in an object; 0 where none does."""
        return max((one.last for one in self._t.archived.values() if one.kind is kind), default=0)

    def newest_entry(self) -> int:
        """Return the number of the newest entry of the ledger; 0 where there is none."""
        return max(self._t.ledger, default=0)

    def add(self, row: ArchivedObject, authorities: Sequence[tuple[bytes, ...]] = ()) -> bool:
        """Note an object that is durable; False where its entries are archived already."""
        watermark = self.watermark(row.kind)
        if row.first <= watermark:
            return False
        if row.first != watermark + 1:
            raise ValueError(f"{row.name} leaves a gap behind {watermark}")
        return self.adopt(row, authorities)

    def adopt(self, row: ArchivedObject, authorities: Sequence[tuple[bytes, ...]] = ()) -> bool:
        """Note an object found in a store; False where its entries are archived, or its name is known."""
        same = (one for one in self._t.archived.values() if one.kind is row.kind is not ObjectKind.RENEWAL)
        overlaps = any(one.last >= row.first and one.first <= row.last for one in same)
        if overlaps or row.name in self._t.archived:
            return False
        self._t.archived.put(row.name, row)
        for path in authorities:
            _, first, last = self._t.authorities.get(path[0]) or (path, row.first, row.last)
            self._t.authorities.put(path[0], (path, min(first, row.first), max(last, row.last)))
        return True

    def get(self, name: str) -> ArchivedObject | None:
        """Return the row of an object."""
        return self._t.archived.get(name)

    def all(
        self, after: str = "", limit: int = 500, *, kind: ObjectKind | None = None
    ) -> list[ArchivedObject]:
        """Return objects by name, above ``after``."""
        return [one for one in self.survey() if one.name > after and kind in (None, one.kind)][:limit]

    def holding(self, kind: ObjectKind, number: int) -> ArchivedObject | None:
        """Return the object that holds an entry."""
        found = (one for one in self._t.archived.values() if one.kind is kind)
        return next((one for one in found if one.first <= number <= one.last), None)

    def unchecked(self, due: datetime, limit: int) -> list[ArchivedObject]:
        """Return objects whose fixity check is due by then, longest due first."""
        found = [one for one in self._t.archived.values() if one.check_due is None or one.check_due <= due]
        return sorted(found, key=lambda one: (one.check_due or _NEVER, one.name))[:limit]

    def stale(self, before: datetime, limit: int) -> list[ArchivedObject]:
        """Return objects that were last compared before a time, or never, or are damaged; by name."""
        return [
            one
            for one in self.survey()
            if one.checked_at is None or one.checked_at < before or one.state is ObjectState.DAMAGED
        ][:limit]

    def damaged(self, limit: int) -> list[ArchivedObject]:
        """Return quarantined objects, by name."""
        return [one for one in self.survey() if one.state is ObjectState.DAMAGED][:limit]

    def elsewhere(self, place: str, limit: int, after: str = "") -> list[ArchivedObject]:
        """Return objects that do not lie in this kind of store, by name."""
        return [one for one in self.survey() if one.place != place and one.name > after][:limit]

    def mark_checked(self, name: str, at: datetime, due: datetime) -> None:
        """Note that an object's digests hold; `KeyError` where there is no such object."""
        one = self._t.archived[name]
        state = ObjectState.SEALED if one.state is ObjectState.DAMAGED else one.state
        self._t.archived.put(name, replace(one, checked_at=at, check_due=due, state=state))

    def mark_damaged(self, name: str, at: datetime) -> None:
        """Quarantine an object."""
        one = self._t.archived[name]
        self._t.archived.put(name, replace(one, checked_at=at, check_due=at, state=ObjectState.DAMAGED))

    def moved(self, name: str, before: ObjectRef, after: ObjectRef, place: str, at: datetime) -> bool:
        """Note that an object lies elsewhere now; False where its row named another version."""
        one = self._t.archived.get(name)
        if one is None or one.version != before.version:
            return False
        row = replace(one, place=place, version=after.version, retain_until=after.retain_until)
        self._t.archived.put(name, replace(row, state=ObjectState.MOVED, checked_at=at))
        return True

    def extended(self, name: str, retain_until: datetime) -> None:
        """Note a later end of retention."""
        one = self._t.archived.get(name)
        if one is not None and one.retain_until < retain_until:
            self._t.archived.put(name, replace(one, retain_until=retain_until))

    def set_renewed(self, number: int, last: int) -> None:
        """Note that a round of renewal covers every entry up to ``last``."""
        for one in list(self._t.archived.values()):
            if one.kind is ObjectKind.EVIDENCE and one.renewed_round < number and one.last <= last:
                self._t.archived.put(one.name, replace(one, renewed_round=number))

    def totals(self, now: datetime, until: datetime) -> ArchiveTotals:
        """Count."""
        every = list(self._t.archived.values())
        return ArchiveTotals(
            objects=len(every),
            octets=sum(one.size for one in every),
            damaged=sum(one.state is ObjectState.DAMAGED for one in every),
            moved=sum(one.state is ObjectState.MOVED for one in every),
            never_checked=sum(one.checked_at is None for one in every),
            check_overdue=sum(one.check_due is None or one.check_due <= now for one in every),
            expiring=sum(one.retain_until < until for one in every),
            earliest_end=min((one.retain_until for one in every), default=None),
            oldest_check=min((one.checked_at for one in every if one.checked_at), default=None),
        )

    def restore(self, evidence: StoredEvidence, ers: bytes | None) -> bool:
        """Put an evidence's row back as it was; `KeyError` where its message is not known."""
        if evidence.message_id not in self._t.messages:
            raise KeyError(evidence.message_id)
        if evidence.evidence_id in self._t.evidence:
            return False
        self._t.evidence.put(evidence.evidence_id, evidence)
        if ers is not None:
            self._t.records.put(evidence.evidence_id, ers)
        return True

    def restore_entry(self, entry: LedgerEntry) -> bool:
        """Put a ledger entry back; `ValueError` where another one stands there."""
        stands = self._t.ledger.get(entry.number)
        if stands == entry:
            return False
        if stands is not None or any(e.evidence_id == entry.evidence_id for e in self._t.ledger.values()):
            raise ValueError(f"ledger entry {entry.number} is another one here")
        self._t.ledger.put(entry.number, entry)
        return True

    def restore_audit(self, entry: AuditEntry) -> bool:
        """Put an entry of the process record back; `ValueError` where it does not follow the newest."""
        stands = self._t.audit.get(entry.number)
        if stands == entry:
            return False
        head = self._t.audit.get(len(self._t.audit))
        number, digest = (0, GENESIS) if head is None else (head.number, head.digest)
        if stands is not None or (problem := link_problem(entry, number + 1, digest)) is not None:
            raise ValueError(f"process record {entry.number}: {problem if stands is None else 'another one'}")
        self._t.audit.put(entry.number, entry)
        return True

    def survey(self) -> Iterator[ArchivedObject]:
        """Yield every object by name (asked by fsck)."""
        yield from sorted(self._t.archived.values(), key=lambda one: one.name)
