"""What handing over and taking over need of the outside: a folder of files, a cipher, foreign rows."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class PartsError(Exception):
    """A folder of parts cannot be read or written as asked; the text names the file."""


class PartMissingError(PartsError):
    """There is no such file."""


class Parts(Protocol):
    """A folder of files with names as `evidence.bundle.hand_over.check_name` allows."""

    async def put(self, name: str, content: bytes) -> None:
        """Write a file whole and durable, or not at all; one that is there is replaced.

        Raises:
            PartsError: it cannot be written.
        """
        ...

    async def get(self, name: str, most: int) -> bytes:
        """Return a file's content.

        Raises:
            PartMissingError: there is none.
            PartsError: it is longer than ``most`` octets, no plain file, or cannot be read.
        """
        ...

    def get_now(self, name: str, most: int) -> bytes:
        """Return a file's content as `get` does; it blocks, so call it in a worker."""
        ...

    def names(self) -> AsyncIterator[str]:
        """Yield the names of all files, in no special order; those of files no part can have, too."""
        ...

    async def drop(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""
        ...


class PartCipher(Protocol):
    """Seals files under the hand-over's key; the same content under the same name gives the same octets."""

    @property
    def check(self) -> bytes:
        """Return 32 octets that tell this key from others and say nothing else about it."""
        ...

    def seal(self, name: str, plain: bytes) -> bytes:
        """Return the sealed file."""
        ...

    def open(self, name: str, sealed: bytes) -> bytes:
        """Return the content.

        Raises:
            PartsError: another key, another name, or a changed octet.
        """
        ...


class ForeignState(StrEnum):
    """How an address of a provider that was taken over stands."""

    WAITING = "waiting"  # its holder has not said whether we may serve them
    CLOSED = "closed"  # closed there: never given to anybody again (KEP-CL-05)
    CONSENTED = "consented"  # its holder has an account here; the address is theirs


@dataclass(frozen=True, slots=True)
class ForeignArchive:
    """A provider's hand-over that was taken over; its files lie under the domain's name."""

    domain: str
    manifest_sha256: bytes
    made_at: datetime
    taken_at: datetime
    taken_by: str


@dataclass(frozen=True, slots=True)
class ForeignAddress:
    """An address of a provider that was taken over."""

    address: str
    domain: str
    state: ForeignState
    since: datetime
    account_id: str | None = None  # of the holder's account here, once they consented


class Foreign(Protocol):
    """Rows about providers taken over."""

    def archives(self) -> Sequence[ForeignArchive]:
        """Return all, by domain."""
        ...

    def archive(self, domain: str) -> ForeignArchive | None: ...
    def add_archive(self, archive: ForeignArchive) -> bool:
        """Note that one is complete; False where the domain has its row: it stays."""
        ...

    def address(self, address: str) -> ForeignAddress | None: ...
    def addresses(self, domain: str, after: str, limit: int) -> Sequence[ForeignAddress]:
        """Return addresses of a domain above ``after``, ascending."""
        ...

    def add_address(self, one: ForeignAddress) -> bool:
        """Keep an address for its holder, or for nobody; False where it is known: it stays."""
        ...

    def consent(self, address: str, account_id: str, at: datetime) -> bool:
        """Note that a waiting address's holder has an account here; False where it is not waiting."""
        ...
