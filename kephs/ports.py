"""What the use cases ask of the outside. Edges and storage implement these; `kephs.bootstrap` picks.

Store work is a plain function of a transaction: it runs where the database is, together with whatever
else arrived while the last batch was committing (D2). It must be quick, pure of I/O and repeatable.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from directory.accounts import Account, AccountState, AppPassword, Operator
from evidence.certificates import CertificateFacts
from evidence.ledger import LedgerEntry
from evidence.ports import ByteSource
from evidence.revocation import RevocationAnswer
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.domain.mailboxes import Folder, FolderRole, Item, ItemSummary, NewItem
from kephs.domain.messages import Delivery, StoredEvidence, Submission

T = TypeVar("T")


class StoreUnavailableError(Exception):
    """The store cannot take work now (full, locked out, closing). Nothing was written."""


class ScannerUnavailableError(Exception):
    """The malware scanner does not answer."""


class BlobMissingError(Exception):
    """A row names content that cannot be read or does not match its digest."""


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """Return the time, UTC and aware."""
        ...


class Ids(Protocol):
    """Fresh identifiers."""

    def new(self) -> str:
        """Return a unique id: 26 characters a-z0-9, ascending in time, safe in NCNames, files and URLs."""
        ...

    def token(self) -> str:
        """Return 32 random hexadecimal digits (MIME boundaries, never secrets)."""
        ...


class Offload(Protocol):
    """Runs long plain functions away from the event loop."""

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Run ``function(*args)`` in a worker and return its result; exceptions pass through."""
        ...


@dataclass(frozen=True, slots=True)
class Blob:
    """Stored content: durable before this value exists. ``place`` and ``key`` are the store's own."""

    sha256: bytes
    sha512: bytes
    size: int
    place: str
    key: bytes  # data key, wrapped by the master key; destroying it destroys the content


class Spool(Protocol):
    """Content on its way in: encrypted on disk when large, in memory when small."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes; waits where the disk is behind."""
        ...

    def source(self) -> ByteSource:
        """Return what was written so far for reading; only after the last write."""
        ...

    async def discard(self) -> None:
        """Forget everything; safe to call twice and after `BlobStore.keep`."""
        ...


class BlobStore(Protocol):
    """Content-addressed, encrypted, write-once content (D4)."""

    def spool(self) -> Spool:
        """Return an empty spool."""
        ...

    async def keep(self, spool: Spool) -> Blob:
        """Make a spool's content durable.

        Raises:
            StoreUnavailableError: nothing was kept.
        """
        ...

    async def put(self, data: bytes) -> Blob:
        """Make content durable; concurrent calls with small content share one sync.

        Raises:
            StoreUnavailableError: nothing was kept.
        """
        ...

    async def put_many(self, contents: Sequence[bytes]) -> list[Blob]:
        """Make pieces of small content durable together; concurrent calls share one sync.

        Raises:
            StoreUnavailableError: nothing was kept.
        """
        ...

    def open(self, blob: Blob) -> ByteSource:
        """Return content for reading any range; reads block briefly and check what they read.

        Raises:
            BlobMissingError: content is gone or altered (also from later reads).
        """
        ...

    async def erase(self, blob: Blob) -> None:
        """Erase the bytes of released content; safe to call twice."""
        ...


class Accounts(Protocol):
    """Accounts, operators and app passwords."""

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


class Blobs(Protocol):
    """Rows that name content. References are counted from the rows that use it."""

    def add(self, blob: Blob) -> None:
        """Name content; a digest that is already named keeps its first place."""
        ...

    def get(self, sha256: bytes) -> Blob | None: ...

    def set_index(self, sha256: bytes, index: bytes) -> None:
        """Keep a message's index (header block and part tree), encrypted, once."""
        ...

    def index(self, sha256: bytes) -> bytes | None: ...

    def release_unused(self, limit: int) -> list[Blob]:
        """Drop rows that nothing refers to any more, destroying their keys; return what may be erased."""
        ...

    def all(self) -> Iterable[Blob]: ...


class Messages(Protocol):
    """Submissions and their work due."""

    def add(self, message: Submission) -> None: ...
    def get(self, message_id: str) -> Submission | None: ...
    def accepted_with(self, account_id: str, user_message_id: str) -> Submission | None:
        """Return the message accepted under this Message-ID; refused ones are not remembered (R-15)."""
        ...

    def set_dispatch(self, message_id: str, dispatch: bytes) -> None: ...
    def set_state(self, message_id: str, state: MessageState) -> None: ...
    def due(self, message_id: str, at: datetime | None, attempts: int) -> None: ...
    def claim(self, now: datetime, limit: int, lease_until: datetime) -> list[Submission]:
        """Return messages whose work is due, each leased so that nobody else claims it meanwhile."""
        ...

    def hasten(self, now: datetime) -> None:
        """Make everything due now: leases of a process that died must not hold work back."""
        ...

    def next_due(self) -> datetime | None: ...
    def all(self) -> Iterable[Submission]: ...


class Deliveries(Protocol):
    """One row per message and recipient of ours."""

    def add(self, delivery: Delivery) -> None: ...
    def get(self, delivery_id: str) -> Delivery | None: ...
    def of_message(self, message_id: str) -> list[Delivery]: ...
    def decide(
        self,
        delivery_id: str,
        state: DeliveryState,
        evidence_id: str,
        at: datetime,
        account_id: str | None = None,
    ) -> bool:
        """Move a pending delivery to its end state; False where somebody did so before.

        ``account_id`` is given where the address got its account only after acceptance.
        """
        ...

    def read(self, delivery_id: str, evidence_id: str) -> bool:
        """Note the first reading; False where it was noted before (60 is made once)."""
        ...


class Evidences(Protocol):
    """Evidence rows; adding one also appends to the ledger's hash chain."""

    def add(self, evidence: StoredEvidence) -> LedgerEntry:
        """Store an evidence and its ledger entry. One per (message, kind, recipient).

        Raises:
            DuplicateEvidenceError: this event already has its evidence.
        """
        ...

    def get(self, evidence_id: str) -> StoredEvidence | None: ...
    def of_message(self, message_id: str) -> list[StoredEvidence]: ...
    def claim_receipts(self, now: datetime, limit: int, lease_until: datetime) -> list[StoredEvidence]: ...
    def receipt_due(self, evidence_id: str, at: datetime | None, attempts: int) -> None: ...
    def hasten(self, now: datetime) -> None:
        """Make everything due now: leases of a process that died must not hold work back."""
        ...

    def next_due(self) -> datetime | None: ...
    def ledger(self, after: int, limit: int) -> list[LedgerEntry]: ...
    def ledger_of(self, evidence_id: str) -> LedgerEntry | None: ...
    def all(self) -> Iterable[StoredEvidence]: ...


class DuplicateEvidenceError(Exception):
    """This event already has its evidence."""


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


class Tx(Protocol):
    """One transaction's view of the store."""

    @property
    def accounts(self) -> Accounts: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def messages(self) -> Messages: ...
    @property
    def deliveries(self) -> Deliveries: ...
    @property
    def evidence(self) -> Evidences: ...
    @property
    def mailboxes(self) -> Mailboxes: ...


class Store(Protocol):
    """The store: all writes pass one writer, which commits what arrived together."""

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run work in its own savepoint of the next batch; durable when this returns.

        An exception from the work undoes that work alone and is raised here.

        Raises:
            StoreUnavailableError: nothing was written.
        """
        ...

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run work on a consistent snapshot; it must not write."""
        ...


@dataclass(frozen=True, slots=True)
class ScanVerdict:
    """What the scanner said; ``name`` of the malware where it found some."""

    clean: bool
    name: str = ""


class Scanner(Protocol):
    """A malware scanner."""

    async def scan(self, content: ByteSource) -> ScanVerdict:
        """Scan content.

        Raises:
            ScannerUnavailableError: no answer; the message must wait.
        """
        ...


class Revocation(Protocol):
    """Asks whether certificates are revoked: OCSP first, CRL as fallback."""

    async def status(
        self, certificate: CertificateFacts, issuer: CertificateFacts, at: datetime
    ) -> RevocationAnswer | None:
        """Return a fresh answer; None where neither service gave one. Never raises for the network."""
        ...


class Passwords(Protocol):
    """Password hashing, slow on purpose."""

    async def hash(self, password: str) -> str: ...
    async def verify(self, stored: str, password: str) -> bool: ...


class IdentityKeeper(Protocol):
    """Keyed hashes of identity numbers (KEP-AP-05)."""

    def mac(self, identity_number: str) -> bytes:
        """Return the keyed hash that operators carry."""
        ...


class Changes(Protocol):
    """Tells sessions that an account's folders changed, after the change is durable."""

    def publish(self, account_ids: Iterable[str]) -> None: ...
    def subscribe(self, account_id: str) -> "Subscription": ...


class Subscription(Protocol):
    """One listener; must be closed."""

    def __aiter__(self) -> AsyncIterator[None]: ...
    def close(self) -> None: ...
