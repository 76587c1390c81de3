"""What keeping proofs alive asks of the store, the archive and the time-stamping authorities."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeVar

from kephs.ports.objects import ObjectRef

T = TypeVar("T")


class RenewalReason(StrEnum):
    """Why a round was made."""

    YEARLY = "yearly"
    EXPIRY = "expiry"  # an authority's certificate ends
    REVOKED = "revoked"  # an authority's certificate was revoked
    HASH = "hash"  # a hash is retired: hash-tree renewal


@dataclass(frozen=True, slots=True)
class RenewalRow:
    """One finished round. Times are UTC.

    Attributes:
        number: from 1, without gaps.
        at: the token's time.
        reason: why.
        hash_name: of tree and imprint, as hashlib names it.
        token_sha256: of the token.
        leaves: of this round by itself, without what it carries.
        last: number of the last ledger entry that some round up to this one covers.
        head: the object ``yenileme/<round>.kepa``.
    """

    number: int
    at: datetime
    reason: RenewalReason
    hash_name: str
    token_sha256: bytes
    leaves: int
    last: int
    head: ObjectRef


@dataclass(frozen=True, slots=True)
class CoveredEvidence:
    """What a round under SHA-256 needs to know of an archived evidence.

    ``token_sha256``: digest of the token that ends its record as stored; None where the time stamp is inside
    the evidence. ``read_again``: its record may end under another hash than SHA-256 (a peer's), so its leaf
    is computed from its object.
    """

    number: int  # in the ledger
    sha256: bytes  # of the evidence's bytes
    token_sha256: bytes | None
    read_again: bool = False


@dataclass(frozen=True, slots=True)
class StampAuthority:
    """A certificate that stamped evidence, with its path: DER, authority first, root last."""

    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ArchivedRecord:
    """An evidence as it lies in an object of the archive."""

    number: int
    xml: bytes
    ers: bytes | None


class Preservation(Protocol):
    """Rows about rounds, and what they are made of."""

    def rounds(self) -> Sequence[RenewalRow]:
        """Return all rounds, ascending."""
        ...

    def add_round(self, row: RenewalRow, objects: Sequence[ObjectRef], place: str = "files") -> bool:
        """Note a round that is durable, and the objects it wrote, its head among them.

        False where a round of this number is known: it stays. ``place``: the kind of store that has them.
        """
        ...

    def watermark(self) -> int:
        """Return the number of the last archived ledger entry; 0 where there is none."""
        ...

    def first_at(self, after: int) -> datetime | None:
        """Return the time of the oldest archived entry numbered above ``after``."""
        ...

    def covered(self, after: int, limit: int) -> Sequence[CoveredEvidence]:
        """Return archived evidence numbered above ``after``, ascending, without gaps."""
        ...

    def evidence_objects(self, after: int) -> Sequence[ObjectRef]:
        """Return the objects that hold entries above ``after``, ascending."""
        ...

    def authorities(self, after: int) -> Sequence[StampAuthority]:
        """Return every authority that stamped archived evidence numbered above ``after``, each once."""
        ...


class PreservationTx(Protocol):
    """A transaction as far as preservation needs it."""

    @property
    def preservation(self) -> Preservation:
        """Return the rows."""
        ...


class PreservationStore(Protocol):
    """The store as far as preservation needs it (`kephs.ports.Store` is one)."""

    async def read(self, work: Callable[[PreservationTx], T]) -> T:
        """Run a function on a snapshot."""
        ...

    async def write(self, work: Callable[[PreservationTx], T]) -> T:
        """Run a function in a transaction; durable on return."""
        ...


class ArchivedRecords(Protocol):
    """Reads evidence back from the objects of the archive."""

    def read(self, first: int, last: int) -> AsyncIterator[ArchivedRecord]:
        """Yield the evidence of a range of the ledger, both ends included, ascending.

        Raises:
            kephs.ports.objects.ObjectUnavailableError: not now.
            kephs.ports.objects.ObjectDamagedError: an object must be restored first.
        """
        ...


class RenewalStamper(Protocol):
    """A client of the time-stamping authorities that stamps imprints of any hash."""

    async def stamp(self, digest: bytes, hash_name: str) -> bytes:
        """Return a checked RFC 3161 token over a digest, from an authority that is not revoked.

        Raises:
            evidence.ports.TimestampUnavailableError: no authority answered with a usable token.
        """
        ...
