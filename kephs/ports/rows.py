"""The rows of one transaction, by subject."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from directory.accounts import Account, AccountState, AppPassword, Operator
from directory.certificates import BoundCertificate
from evidence.ledger.chain import LedgerEntry
from kephs.domain.lifecycle import DeliveryState, MessageState, TransferState
from kephs.domain.mailboxes import Folder, FolderRole, Item, ItemSummary, NewItem
from kephs.domain.messages import Delivery, StoredEvidence, Submission, Transfer
from kephs.ports.content import Blob


class Accounts(Protocol):
    """Accounts, operators, app passwords and bound certificates."""

    def add(self, account: Account) -> None: ...
    def get(self, account_id: str) -> Account | None: ...
    def by_address(self, address: str) -> Account | None: ...
    def by_addresses(self, addresses: Sequence[str]) -> dict[str, Account]: ...
    def all(self) -> list[Account]: ...
    def set_state(self, account_id: str, state: AccountState, at: datetime) -> None: ...
    def add_usage(self, account_id: str, delta: int) -> None: ...
    def add_operator(self, operator: Operator) -> None: ...
    def operators(self, account_id: str) -> list[Operator]: ...
    def operator(self, operator_id: str) -> Operator | None: ...
    def add_password(self, password: AppPassword) -> None: ...
    def passwords(self, account_id: str) -> list[AppPassword]: ...
    def revoke_password(self, account_id: str, password_id: str, at: datetime) -> bool: ...
    def certificates(self, account_id: str) -> Sequence[BoundCertificate]:
        """Return an account's certificates, also withdrawn ones, oldest binding first."""
        ...

    def add_certificate(self, one: BoundCertificate) -> None:
        """Bind a certificate.

        Raises:
            ConflictError: it is bound to the account, or account or operator do not exist.
        """
        ...

    def withdraw_certificate(self, account_id: str, sha256: bytes, at: datetime, by: str) -> bool:
        """Withdraw a bound certificate; False where it is not bound."""
        ...

    def set_seals_allowed(self, account_id: str, allowed: bool) -> None:  # noqa: FBT001  # a column's value
        """Say whether qualified seals may sign for the account; `KeyError` where nobody has the id."""
        ...


class Messages(Protocol):
    """Messages and their work due. ``by`` names the process that holds a lease (D12)."""

    def add(self, message: Submission) -> None: ...
    def get(self, message_id: str) -> Submission | None: ...
    def accepted_with(self, account_id: str, user_message_id: str) -> Submission | None:
        """Return the message accepted under this Message-ID; refused ones are not remembered (R-15)."""
        ...

    def name_dispatches(self, dispatches: Mapping[str, bytes]) -> AbstractSet[str]:
        """Note the digests of several messages' KEP messages, by message id.

        Returns the ids of those whose digest stands now; of the others one was noted before.
        """
        ...

    def dispatches(self, message_ids: Sequence[str]) -> dict[str, Blob]:
        """Return the KEP messages that were noted for some messages, by message id."""
        ...

    def states(self, message_ids: Sequence[str]) -> dict[str, MessageState]: ...
    def set_states(self, message_ids: Sequence[str], state: MessageState) -> None:
        """Change the states of messages; that of a completed one ends its work, too."""
        ...

    def due(self, message_id: str, at: datetime | None, attempts: int) -> None:
        """Set when work is due next; ends the lease."""
        ...

    def claim(self, now: datetime, limit: int, lease_until: datetime, by: str) -> list[Submission]:
        """Return messages whose work is due, each leased so that nobody else claims it meanwhile."""
        ...

    def take_over(self, by: str, now: datetime) -> None:
        """Make due now what ``by`` had leased: it starts anew and holds nothing."""
        ...

    def next_due(self) -> datetime | None: ...
    def all(self) -> Iterable[Submission]: ...


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one delivery, ours: what it came to, the evidence of it, and when.

    ``account_id`` is given where the address got its account only after acceptance.
    """

    delivery_id: str
    state: DeliveryState
    evidence_id: str
    at: datetime
    account_id: str | None = None


class Deliveries(Protocol):
    """One row per message and recipient: ours, and of messages submitted here also the peers'."""

    def add(self, delivery: Delivery) -> None: ...
    def get(self, delivery_id: str) -> Delivery | None: ...
    def of_message(self, message_id: str) -> list[Delivery]: ...
    def of_messages(self, message_ids: Sequence[str]) -> Mapping[str, list[Delivery]]:
        """Return the deliveries of several messages, by message id: each has its list."""
        ...

    def decide_all(self, endings: Sequence[Ending]) -> AbstractSet[str]:
        """Move pending deliveries to their end states; return the ids of those that nobody moved before."""
        ...

    def move(
        self,
        delivery_id: str,
        before: DeliveryState,
        after: DeliveryState,
        evidence_id: str | None,
        at: datetime,
    ) -> bool:
        """Change the state of a peer's recipient; False where the state was not ``before``.

        Args:
            delivery_id: whose.
            before: the state it must have.
            after: the new state.
            evidence_id: what decided it, where that state is an end state.
            at: when.
        """
        ...

    def read(self, delivery_id: str, evidence_id: str) -> bool:
        """Note the first reading; False where it was noted before (60 is made once)."""
        ...

    def read_elsewhere(self, delivery_id: str, evidence_id: str) -> bool:
        """Note a peer's 60 whatever the state is; False where one was noted before."""
        ...


@dataclass(frozen=True, slots=True)
class Entered:
    """An entry of the ledger with what the rows say of it; an anchor's has nothing but itself."""

    entry: LedgerEntry
    evidence: StoredEvidence | None
    blob: Blob | None  # of the entry's digest
    ers: bytes | None
    material: Blob | None  # of the signature of its message's sender


class DuplicateEvidenceError(Exception):
    """This event already has its evidence."""


class Evidences(Protocol):
    """Evidence rows; adding one also appends to the ledger's hash chain."""

    def add(self, evidence: StoredEvidence, ers: bytes | None = None) -> LedgerEntry:
        """Store an evidence and its ledger entry.

        Of ours there is one per message, kind, recipient and profile. A peer's is told apart by its id
        alone: repeated and contradictory ones stand beside each other.

        Args:
            evidence: the row.
            ers: the evidence record (RFC 4998, DER) that travels beside it in batch mode.

        Raises:
            DuplicateEvidenceError: this event already has its evidence, or the id is taken.
        """
        ...

    def add_all(self, made: Sequence[tuple[StoredEvidence, bytes | None]]) -> None:
        """Store several evidences with their evidence records, in this order.

        Raises:
            DuplicateEvidenceError: as `add`; it names the first that cannot be stored.
        """
        ...

    def get(self, evidence_id: str) -> StoredEvidence | None: ...
    def ers(self, evidence_id: str) -> bytes | None:
        """Return the evidence record exactly as it was added, None where the evidence has none."""
        ...

    def set_ers(self, evidence_id: str, ers: bytes) -> bool:
        """Store the record of what was released without one; False where it has its stamp already."""
        ...

    def appendix(self, message_id: str) -> tuple[bytes, bytes] | None:
        """Return what a message's bundle was sealed with: the digest of its inputs, and the content."""
        ...

    def set_appendix(self, message_id: str, inputs: bytes, content: bytes) -> None:
        """Keep what a message's bundle is sealed with; an earlier one is replaced."""
        ...

    def of_message(self, message_id: str) -> list[StoredEvidence]: ...
    def of_messages(self, message_ids: Sequence[str]) -> Mapping[str, list[StoredEvidence]]:
        """Return the evidence of several messages, by message id: each has its list."""
        ...

    def claim_receipts(
        self, now: datetime, limit: int, lease_until: datetime, by: str
    ) -> list[StoredEvidence]: ...
    def receipt_due(self, evidence_id: str, at: datetime | None, attempts: int) -> None: ...
    def end_receipts(self, evidence_ids: Sequence[str]) -> AbstractSet[str]:
        """Note that receipts are due no more, and end their leases; return the ids of those that were due."""
        ...

    def take_over(self, by: str, now: datetime) -> None:
        """Make due now what ``by`` had leased."""
        ...

    def next_due(self) -> datetime | None: ...
    def ledger(self, after: int, limit: int) -> list[LedgerEntry]: ...
    def ledger_of(self, evidence_id: str) -> LedgerEntry | None: ...
    def entered(self, after: int, limit: int) -> list[Entered]:
        """Return entries numbered above ``after``, ascending, each with its rows: one query for all."""
        ...

    def all(self) -> Iterable[StoredEvidence]: ...


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed statement about a log: so many entries, this root (C2SP checkpoint)."""

    size: int
    root: bytes
    note: str  # with every signature that was gathered
    at: datetime


class Tree(Protocol):
    """The Merkle tree over the ledger, in tiles of up to 256 hashes, and what was signed about it."""

    def tile(self, level: int, number: int) -> bytes | None:
        """Return a tile's hashes, 32 octets each, as many as there are; None where it has none."""
        ...

    def put_tile(self, level: int, number: int, hashes: bytes) -> None:
        """Store a tile; one that grew replaces the shorter one."""
        ...

    def checkpoint(self, size: int | None = None) -> StoredCheckpoint | None:
        """Return the checkpoint of this size, or the newest."""
        ...

    def checkpoints(self, after: int, limit: int) -> list[StoredCheckpoint]:
        """Return checkpoints larger than ``after``, ascending."""
        ...

    def add_checkpoint(self, checkpoint: StoredCheckpoint) -> bool:
        """Store a checkpoint; False where one of this size stands: it stays."""
        ...

    def set_note(self, size: int, note: str) -> None:
        """Replace a checkpoint's note by one with more signatures."""
        ...

    def witnessed(self, origin: str) -> StoredCheckpoint | None:
        """Return the newest checkpoint of another log that we cosigned."""
        ...

    def set_witnessed(self, origin: str, checkpoint: StoredCheckpoint) -> None:
        """Note that we cosigned a checkpoint of another log."""
        ...


class Transfers(Protocol):
    """What is on its way to peers."""

    def add(self, transfer: Transfer) -> bool:
        """Queue one; False where this message, peer and evidence have theirs already."""
        ...

    def get(self, transfer_id: str) -> Transfer | None: ...
    def of_message(self, message_id: str) -> list[Transfer]: ...
    def save(self, transfer: Transfer, before: TransferState) -> bool:
        """Store state, deadline, due time, attempts, cause and hand-over time; ends the lease.

        False where the state was not ``before``: somebody else moved it, nothing was stored. Content that
        is not to be handed over any more is let go: a receipt's that is done, a dispatch's that left.
        """
        ...

    def name_blob(self, transfer_id: str, sha256: bytes) -> bool:
        """Note the dispatch made for this peer alone; the lease goes on.

        False where one was noted before (that one stands), or it is not to be handed over any more.
        """
        ...

    def claim(self, peer: str, now: datetime, limit: int, lease_until: datetime, by: str) -> list[Transfer]:
        """Return what is queued for a peer and due, earliest first, leased."""
        ...

    def claim_waiting(self, now: datetime, limit: int, lease_until: datetime, by: str) -> list[Transfer]:
        """Return what is held, handed or answered and whose deadline has come, leased."""
        ...

    def renew(self, transfer_id: str, until: datetime, by: str) -> bool:
        """Prolong the lease of what is queued and still under way; False where ``by`` has it no more."""
        ...

    def take_over(self, by: str, now: datetime) -> None:
        """Make due now what ``by`` had leased."""
        ...

    def next_due(self, peer: str | None) -> datetime | None:
        """Return when the next one queued for a peer is due, or (None) the next one for `claim_waiting`."""
        ...

    def list(
        self, *, peer: str | None, state: TransferState | None, after: str, limit: int
    ) -> list[Transfer]:
        """Return transfers by id, above ``after``; by default those of every peer in every state."""
        ...

    def counts(self) -> dict[tuple[str, TransferState], int]:
        """Return how many there are per peer and state."""
        ...


class FolderExistsError(Exception):
    """The account has a folder of this name."""


@dataclass(frozen=True, slots=True)
class Filing:
    """An item and where it goes: into the folder with this role of an account."""

    account_id: str
    role: FolderRole
    item: NewItem


class Mailboxes(Protocol):
    """Folders and the items in them. UIDs ascend and are never reused (RFC 3501 2.3.1.1)."""

    def create_standard(self, account_id: str, uid_validity: int) -> None:
        """Create INBOX, Giden, Taslaklar, Deliller, Arşiv, Çöp."""
        ...

    def folders(self, account_id: str) -> list[Folder]: ...
    def folder(self, account_id: str, name: str) -> Folder | None: ...
    def by_role(self, account_id: str, role: FolderRole) -> Folder: ...
    def append(self, folder_id: int, item: NewItem) -> int:
        """File an item and return its UID; counts into the account's usage unless it is evidence."""
        ...

    def file(self, account_id: str, role: FolderRole, item: NewItem) -> int:
        """File an item in the account's folder with this role; otherwise as `append`."""
        ...

    def file_all(self, filings: Sequence[Filing]) -> list[int]:
        """File several items, each as `file` does and in this order within a folder; return their UIDs."""
        ...

    def summaries(self, folder_id: int) -> list[ItemSummary]:
        """Return uid, size, flags, date and gate of every item, ascending by UID: one cheap query."""
        ...

    def since(self, folder_id: int, modseq: int) -> list[ItemSummary]:
        """Return items that are new or changed since a modification number."""
        ...

    def expunged_since(self, folder_id: int, modseq: int) -> list[int]:
        """Return UIDs removed since a modification number, ascending."""
        ...

    def items(self, folder_id: int, uids: Sequence[int]) -> list[Item]: ...
    def set_flags(self, folder_id: int, uid: int, flags: frozenset[str]) -> None: ...
    def remove(self, folder_id: int, uids: Sequence[int]) -> None:
        """Remove items for good; usage falls accordingly."""
        ...

    def with_content(self, folder_id: int, sha256: bytes) -> int | None:
        """Return the UID of an item with this content, if the folder has one."""
        ...

    def create(self, account_id: str, name: str, uid_validity: int) -> Folder:
        """Create a plain folder, subscribed.

        ``uid_validity`` must differ from that of every folder that had this name before (RFC 3501 2.3.1.1).

        Raises:
            FolderExistsError: the name is taken.
        """
        ...

    def rename(self, folder_id: int, name: str) -> None:
        """Rename a folder; its items, UIDs and UIDVALIDITY stay.

        Raises:
            FolderExistsError: the name is taken.
        """
        ...

    def delete(self, folder_id: int) -> None:
        """Remove a folder with its items; usage falls accordingly."""
        ...

    def subscribe(self, folder_id: int, *, on: bool) -> None: ...
    def copy(self, folder_id: int, uids: Sequence[int], into: int) -> list[tuple[int, int]]:
        """Copy items with flags, dates and the read gate; return (UID, new UID) ascending.

        Missing ones are left out. What counts for the quota counts again.
        """
        ...

    def move(self, folder_id: int, uids: Sequence[int], into: int) -> list[tuple[int, int]]:
        """Copy items and remove the originals in one step; usage stays the same."""
        ...
