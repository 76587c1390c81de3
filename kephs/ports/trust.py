"""The rows of the trust list and of the process record."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from evidence.ledger.chain import LedgerEntry
from kephs.domain.audit import AuditEntry
from kephs.domain.audit_anchor import Anchored
from kephs.domain.trust_list import TrustAnchor


class Anchors(Protocol):
    """The trust list. Anchors change state and are never deleted."""

    def all(self) -> Sequence[TrustAnchor]:
        """Return every anchor, also retired ones, by fingerprint."""
        ...

    def get(self, fingerprint: bytes) -> TrustAnchor | None: ...
    def put(self, anchor: TrustAnchor) -> None:
        """Store an anchor; what was stored under its fingerprint is replaced."""
        ...


class Audit(Protocol):
    """The process record (KEP-RT-01): a hash chain without any way to change or delete."""

    def add(self, *, at: datetime, actor: str, action: str, subject: str, detail: str = "") -> AuditEntry:
        """Append an entry.

        Raises:
            ValueError: `kephs.domain.audit.next_entry` refuses it.
        """
        ...

    def page(self, after: int, limit: int) -> Sequence[AuditEntry]:
        """Return entries numbered above ``after``, ascending."""
        ...

    def head(self) -> AuditEntry | None:
        """Return the newest entry."""
        ...

    def anchor(self, at: datetime) -> LedgerEntry | None:
        """Enter the newest entry's digest into the ledger; None where it is there, or there is no entry.

        What is entered is `kephs.domain.audit_anchor.Statement`.
        """
        ...

    def anchors(self, after: int, limit: int) -> Sequence[Anchored]:
        """Return the anchors of entries numbered above ``after``, ascending."""
        ...

    def last_anchor(self) -> Anchored | None:
        """Return the anchor of the highest number."""
        ...
