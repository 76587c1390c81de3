"""The machine and other services: time, ids, workers, scanner, revocation, peers."""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from directory.providers import Peer
from evidence.ports import ByteSource
from evidence.x509.certificates import CertificateFacts
from evidence.x509.revocation import RevocationAnswer
from kephs.domain.relay import Handed, Letter, NotHanded

T = TypeVar("T")


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


class ScannerUnavailableError(Exception):
    """The malware scanner does not answer."""


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


class Courier(Protocol):
    """Hands KEP messages to peers."""

    async def hand_over(self, peer: Peer, letter: Letter) -> Handed | NotHanded:
        """Hand one message over; never raises for what a peer or the network does.

        `Handed` is returned only after the peer's 250 to the content. Where the connection died after the
        content was sent, the peer may have it: the caller sends the same bytes again.
        """
        ...
