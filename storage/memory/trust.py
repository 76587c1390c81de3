"""Trust list and process record of the in-memory twin."""

from collections.abc import Iterator
from datetime import datetime

from evidence.ledger.chain import LedgerEntry
from kephs.domain.audit import AuditEntry, next_entry
from kephs.domain.audit_anchor import Anchored, Statement, anchor_name, anchored_number
from kephs.domain.trust_list import TrustAnchor
from storage.memory.evidence import enter
from storage.memory.tables import Tables


class MemoryAnchors:
    """`kephs.ports.Anchors` in memory."""

    def __init__(self, tables: Tables) -> None:
        self._t = tables

    def all(self) -> list[TrustAnchor]:
        """Return every anchor, by fingerprint."""
        return sorted(self._t.anchors.values(), key=lambda anchor: anchor.fingerprint)

    def get(self, fingerprint: bytes) -> TrustAnchor | None:
        """Return an anchor."""
        return self._t.anchors.get(fingerprint)

    def put(self, anchor: TrustAnchor) -> None:
        """Store an anchor."""
        self._t.anchors.put(anchor.fingerprint, anchor)

    def survey(self) -> Iterator[TrustAnchor]:
        """Yield every anchor, by fingerprint (asked by fsck)."""
        yield from self.all()


class MemoryAudit:
    """`kephs.ports.Audit` in memory."""

    def __init__(self, tables: Tables) -> None:
        self._t = tables

    def add(self, *, at: datetime, actor: str, action: str, subject: str, detail: str = "") -> AuditEntry:
        """Append an entry."""
        entry = next_entry(self.head(), at=at, actor=actor, action=action, subject=subject, detail=detail)
        self._t.audit.put(entry.number, entry)
        return entry

    def page(self, after: int, limit: int) -> list[AuditEntry]:
        """Return entries numbered above ``after``, ascending."""
        last = min(after + limit, len(self._t.audit))
        return [self._t.audit[number] for number in range(max(after, 0) + 1, last + 1)]

    def head(self) -> AuditEntry | None:
        """Return the newest entry."""
        return self._t.audit.get(len(self._t.audit))

    def anchor(self, at: datetime) -> LedgerEntry | None:
        """Enter the newest entry's digest into the ledger."""
        head, last = self.head(), self.last_anchor()
        if head is None or (last is not None and last.number >= head.number):
            return None
        entered = Statement(head.number, head.digest, at).sha256
        return enter(self._t, anchor_name(head.number), entered, at)

    def anchors(self, after: int, limit: int) -> list[Anchored]:
        """Return the anchors of entries numbered above ``after``, ascending."""
        return [one for one in self._anchors() if one.number > after][:limit]

    def last_anchor(self) -> Anchored | None:
        """Return the anchor of the highest number."""
        return max(self._anchors(), key=lambda one: one.number, default=None)

    def _anchors(self) -> list[Anchored]:
        named = ((anchored_number(entry.evidence_id), entry) for entry in self._t.ledger.values())
        return [
            Anchored(number, entry.evidence_sha256, entry.at, entry.number)
            for number, entry in named
            if number is not None
        ]

    def survey(self) -> Iterator[AuditEntry]:
        """Yield every entry, ascending (asked by fsck)."""
        yield from list(self._t.audit.values())
