"""Tables of the in-memory twin: dictionaries that can take back what failed work did."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from directory.accounts import Account, AppPassword, Operator
from directory.certificates import BoundCertificate
from evidence.ledger.chain import LedgerEntry
from kephs.domain.audit import AuditEntry
from kephs.domain.erasure import Destroyed, PendingErasure, Removal
from kephs.domain.legal_hold import LegalHold
from kephs.domain.mailboxes import Folder, NewItem
from kephs.domain.messages import Delivery, StoredEvidence, Submission, Transfer
from kephs.domain.trust_list import TrustAnchor
from kephs.ports import Blob, StoredCheckpoint
from kephs.ports.archive import ArchivedObject
from kephs.ports.preservation import RenewalRow

K = TypeVar("K")
V = TypeVar("V")


class Table(Generic[K, V]):
    """A dictionary of frozen rows whose changes can be undone."""

    def __init__(self, undo: list[Callable[[], None]]) -> None:
        self._rows: dict[K, V] = {}
        self._undo = undo

    def get(self, key: K) -> V | None:
        """Return a row or None."""
        return self._rows.get(key)

    def __getitem__(self, key: K) -> V:
        return self._rows[key]

    def __contains__(self, key: K) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[K]:
        return iter(self._rows)

    def values(self) -> Iterable[V]:
        """Return the rows in the order they came."""
        return self._rows.values()

    def put(self, key: K, row: V) -> None:
        """Write a row."""
        rows = self._rows
        if key in rows:
            old = rows[key]
            self._undo.append(lambda: rows.__setitem__(key, old))
        else:
            self._undo.append(lambda: rows.__delitem__(key))
        rows[key] = row

    def drop(self, key: K) -> None:
        """Remove a row; undoing brings it back at the end."""
        rows = self._rows
        old = rows.pop(key)
        self._undo.append(lambda: rows.__setitem__(key, old))


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One mailbox item; ``item.flags`` are its flags now."""

    uid: int
    item: NewItem
    modseq: int


@dataclass(frozen=True, slots=True)
class RemovedItem:
    """What is remembered of an item that was removed."""

    modseq: int
    delivery_id: str | None


@dataclass(slots=True)
class Tables:
    """All tables of one memory store, with the undo log of the work that runs."""

    undo: list[Callable[[], None]] = field(default_factory=list)
    accounts: Table[str, Account] = field(init=False)
    operators: Table[str, Operator] = field(init=False)
    passwords: Table[tuple[str, str], AppPassword] = field(init=False)
    certificates: Table[int, BoundCertificate] = field(init=False)  # by number, from 1
    anchors: Table[bytes, TrustAnchor] = field(init=False)
    audit: Table[int, AuditEntry] = field(init=False)
    removals: Table[bytes, tuple[Removal, ...]] = field(init=False)  # by content
    destroyed: Table[int, Destroyed] = field(init=False)  # by number of the process record's entry
    erasures: Table[str, PendingErasure] = field(init=False)  # by account
    holds: Table[int, LegalHold] = field(init=False)
    held: Table[tuple[bytes, int], LegalHold] = field(init=False)  # by content and hold
    archived: Table[str, ArchivedObject] = field(init=False)
    # by certificate: path, first and last ledger entry
    authorities: Table[bytes, tuple[tuple[bytes, ...], int, int]] = field(init=False)
    rounds: Table[int, RenewalRow] = field(init=False)
    blobs: Table[bytes, Blob] = field(init=False)
    indexes: Table[bytes, bytes] = field(init=False)
    messages: Table[str, Submission] = field(init=False)
    deliveries: Table[str, Delivery] = field(init=False)
    evidence: Table[str, StoredEvidence] = field(init=False)
    ledger: Table[int, LedgerEntry] = field(init=False)
    records: Table[str, bytes] = field(init=False)  # RFC 4998, by evidence id
    appendices: Table[str, tuple[bytes, bytes]] = field(init=False)  # by message: digest of inputs, content
    tiles: Table[tuple[int, int], bytes] = field(init=False)  # by level and number
    checkpoints: Table[int, StoredCheckpoint] = field(init=False)  # by size
    witnessed: Table[str, StoredCheckpoint] = field(init=False)  # by origin
    transfers: Table[str, Transfer] = field(init=False)
    leases: Table[tuple[str, str], str] = field(init=False)  # by table and id: which process holds it
    validities: Table[str, int] = field(init=False)  # by account: the highest UIDVALIDITY ever
    last_folder: Table[str, int] = field(init=False)  # one row: the highest folder id ever
    folders: Table[int, Folder] = field(init=False)
    items: Table[tuple[int, int], StoredItem] = field(init=False)
    removed: Table[tuple[int, int], RemovedItem] = field(init=False)

    def __post_init__(self) -> None:
        self.accounts = Table(self.undo)
        self.operators = Table(self.undo)
        self.passwords = Table(self.undo)
        self.certificates = Table(self.undo)
        self.anchors = Table(self.undo)
        self.audit = Table(self.undo)
        self.removals = Table(self.undo)
        self.destroyed = Table(self.undo)
        self.erasures = Table(self.undo)
        self.holds = Table(self.undo)
        self.held = Table(self.undo)
        self.archived = Table(self.undo)
        self.authorities = Table(self.undo)
        self.rounds = Table(self.undo)
        self.blobs = Table(self.undo)
        self.indexes = Table(self.undo)
        self.messages = Table(self.undo)
        self.deliveries = Table(self.undo)
        self.evidence = Table(self.undo)
        self.ledger = Table(self.undo)
        self.records = Table(self.undo)
        self.appendices = Table(self.undo)
        self.tiles = Table(self.undo)
        self.checkpoints = Table(self.undo)
        self.witnessed = Table(self.undo)
        self.transfers = Table(self.undo)
        self.leases = Table(self.undo)
        self.validities = Table(self.undo)
        self.last_folder = Table(self.undo)
        self.folders = Table(self.undo)
        self.items = Table(self.undo)
        self.removed = Table(self.undo)

    def lease(self, table: str, key: str, by: str | None) -> None:
        """Note who holds a row; None: nobody."""
        if by is not None:
            self.leases.put((table, key), by)
        elif (table, key) in self.leases:
            self.leases.drop((table, key))

    def leased(self, table: str, by: str) -> list[str]:
        """Return the ids of the rows that somebody holds."""
        return [key[1] for key in self.leases if key[0] == table and self.leases[key] == by]

    def take_back(self) -> None:
        """Undo everything since the log was last cleared."""
        while self.undo:
            self.undo.pop()()
