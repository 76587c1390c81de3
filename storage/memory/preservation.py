"""Rounds of renewal of the in-memory twin."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256

from evidence.bundle.archive_object import ObjectKind
from evidence.ledger.chain import LedgerEntry
from evidence.stamps.ers import split_record
from kephs.ports.objects import ObjectRef
from kephs.ports.preservation import CoveredEvidence, RenewalRow, StampAuthority
from storage.memory.archive import MemoryArchive
from storage.memory.tables import Tables
from storage.rows.preservation import round_object


class MemoryPreservation:
    """`kephs.ports.preservation.Preservation` in memory."""

    def __init__(self, tables: Tables, archive: MemoryArchive) -> None:
        self._t, self._archive = tables, archive

    def rounds(self) -> list[RenewalRow]:
        """Return all rounds, ascending."""
        rows = [self._t.rounds[number] for number in sorted(self._t.rounds)]
        return [replace(row, head=self._t.archived[row.head.name].ref) for row in rows]

    def add_round(self, row: RenewalRow, objects: Sequence[ObjectRef], place: str = "files") -> bool:
        """Note a round that is durable, and the objects it wrote; False where one of its number is known."""
        known = max(self._t.rounds, default=0)
        if row.number <= known:
            return False
        if row.number != known + 1 or row.head not in objects:
            raise ValueError(f"round {row.number} does not follow round {known}, or lacks its head")
        for ref in objects:
            self._archive.adopt(round_object(row, ref, place))
        self._t.rounds.put(row.number, row)
        self._archive.set_renewed(row.number, row.last)
        return True

    def watermark(self) -> int:
        """Return the number of the last archived ledger entry; 0 where there is none."""
        return self._archive.watermark()

    def first_at(self, after: int) -> datetime | None:
        """Return the time of the oldest archived entry numbered above ``after``."""
        entry = self._t.ledger.get(after + 1) if after < self.watermark() else None
        return None if entry is None else entry.at

    def covered(self, after: int, limit: int) -> list[CoveredEvidence]:
        """Return archived evidence numbered above ``after``, ascending, without gaps."""
        last = min(self.watermark(), after + limit)
        return [self._one(self._t.ledger[number]) for number in range(after + 1, last + 1)]

    def evidence_objects(self, after: int) -> list[ObjectRef]:
        """Return the objects that hold entries above ``after``, ascending."""
        kept = [one for one in self._t.archived.values() if one.kind is ObjectKind.EVIDENCE]
        return [one.ref for one in sorted(kept, key=lambda one: one.last) if one.last > after]

    def authorities(self, after: int) -> list[StampAuthority]:
        """Return every authority that stamped archived evidence numbered above ``after``, each once."""
        found = [path for path, _, last in self._t.authorities.values() if last > after]
        return [StampAuthority(path) for path in sorted(found, key=lambda path: sha256(path[0]).digest())]

    def _one(self, entry: LedgerEntry) -> CoveredEvidence:
        row, record = self._t.evidence.get(entry.evidence_id), self._t.records.get(entry.evidence_id)
        token = None if record is None else sha256(split_record(record)[1]).digest()
        again = token is not None and row is not None and row.origin is not None
        return CoveredEvidence(entry.number, entry.evidence_sha256, token, read_again=again)
