"""The rows of the archive: which objects hold which entries, and what is known of each object's health."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from evidence.bundle.archive_object import ObjectKind
from evidence.ledger.chain import LedgerEntry
from kephs.domain.audit import AuditEntry
from kephs.domain.messages import StoredEvidence
from kephs.ports.objects import ObjectRef

CHECK_EVERY: Final = timedelta(days=180)
"""An object's octets are compared with their digests at least so often (KEP-RT-05)."""


class ObjectState(StrEnum):
    """How an object stands."""

    SEALED = "sealed"  # where it was written
    MOVED = "moved"  # carried to another store since, and read back there
    DAMAGED = "damaged"  # not what its row says: quarantined, a copy is needed


@dataclass(frozen=True, slots=True)
class ArchivedObject:
    """One object of the archive. Times are UTC; ``place`` is the kind of store that has this version."""

    name: str
    kind: ObjectKind
    first: int  # number of its first entry: of the ledger, of the process record, or the round
    last: int
    place: str  # "files" or "s3"
    version: str
    size: int
    sha256: bytes
    sha512: bytes
    retain_until: datetime
    sealed_at: datetime
    state: ObjectState = ObjectState.SEALED
    checked_at: datetime | None = None  # when its octets were last compared with the digests
    check_due: datetime | None = None  # when that is due again
    renewed_round: int = 0  # the newest round of renewal that covers its tokens

    @property
    def ref(self) -> ObjectRef:
        """Return what the store knows it by."""
        return ObjectRef(self.name, self.version, self.size, self.sha256, self.sha512, self.retain_until)


@dataclass(frozen=True, slots=True)
class ArchiveTotals:
    """Counts for the retention ledger."""

    objects: int
    octets: int
    damaged: int
    moved: int
    never_checked: int
    check_overdue: int
    expiring: int  # retention ends before the time asked about
    earliest_end: datetime | None
    oldest_check: datetime | None


class ArchiveCipher(Protocol):
    """Encrypts objects before a store sees them; the instance's master key alone opens them."""

    def seal(self, name: str, plain: bytes) -> bytes:
        """Return the sealed object; the same arguments give the same octets."""
        ...

    def open(self, name: str, sealed: bytes) -> bytes:
        """Return the container.

        Raises:
            kephs.ports.objects.ObjectDamagedError: another key, another name, or a changed octet.
        """
        ...


class Archive(Protocol):
    """Rows about objects, and putting back what objects hold."""

    def watermark(self, kind: ObjectKind = ObjectKind.EVIDENCE) -> int:
        """Return the number of the last entry that lies in an object; 0 where none does."""
        ...

    def newest_entry(self) -> int:
        """Return the number of the newest entry of the ledger; 0 where there is none."""
        ...

    def add(self, row: ArchivedObject, authorities: Sequence[tuple[bytes, ...]] = ()) -> bool:
        """Note an object that is durable; False where its entries are archived already.

        Args:
            row: the object.
            authorities: paths (DER, authority first, root last) of those who stamped its evidence.

        Raises:
            ValueError: it does not begin behind the watermark: a gap would be forgotten for ever.
        """
        ...

    def adopt(self, row: ArchivedObject, authorities: Sequence[tuple[bytes, ...]] = ()) -> bool:
        """Note an object found in a store (rebuild), in any order; False where its entries are archived."""
        ...

    def get(self, name: str) -> ArchivedObject | None:
        """Return the row of an object."""
        ...

    def all(
        self, after: str = "", limit: int = 500, *, kind: ObjectKind | None = None
    ) -> Sequence[ArchivedObject]:
        """Return objects by name, above ``after``."""
        ...

    def holding(self, kind: ObjectKind, number: int) -> ArchivedObject | None:
        """Return the object that holds an entry."""
        ...

    def unchecked(self, due: datetime, limit: int) -> Sequence[ArchivedObject]:
        """Return objects whose fixity check is due by then, longest due first; damaged ones too."""
        ...

    def stale(self, before: datetime, limit: int) -> Sequence[ArchivedObject]:
        """Return objects that were last compared before a time, or never, or are damaged; by name."""
        ...

    def damaged(self, limit: int) -> Sequence[ArchivedObject]:
        """Return quarantined objects, by name."""
        ...

    def elsewhere(self, place: str, limit: int, after: str = "") -> Sequence[ArchivedObject]:
        """Return objects that do not lie in this kind of store, by name, above ``after``."""
        ...

    def mark_checked(self, name: str, at: datetime, due: datetime) -> None:
        """Note that an object's digests hold; one that was damaged is sound again."""
        ...

    def mark_damaged(self, name: str, at: datetime) -> None:
        """Quarantine an object."""
        ...

    def moved(self, name: str, before: ObjectRef, after: ObjectRef, place: str, at: datetime) -> bool:
        """Note that an object lies elsewhere now; False where its row did not name ``before`` any more."""
        ...

    def extended(self, name: str, retain_until: datetime) -> None:
        """Note a later end of retention; an earlier one changes nothing."""
        ...

    def set_renewed(self, number: int, last: int) -> None:
        """Note that a round of renewal covers every entry up to ``last``."""
        ...

    def totals(self, now: datetime, until: datetime) -> ArchiveTotals:
        """Count.

        Args:
            now: what is due is due by then.
            until: whose retention ends before this is expiring.
        """
        ...

    def restore(self, evidence: StoredEvidence, ers: bytes | None) -> bool:
        """Put an evidence's row back as it was; False where it is there.

        Raises:
            KeyError: its message is not known here, so it cannot be entered.
        """
        ...

    def restore_entry(self, entry: LedgerEntry) -> bool:
        """Put a ledger entry back, salt and all; False where the very same is there.

        Raises:
            ValueError: another entry has this number or is about this evidence.
        """
        ...

    def restore_audit(self, entry: AuditEntry) -> bool:
        """Put an entry of the process record back behind the newest; False where the very same is there.

        Raises:
            ValueError: another entry has its number, or the one before it is missing.
        """
        ...
