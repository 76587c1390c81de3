"""What the evidence library asks of the outside: bytes, keys and time stamps."""

from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Protocol


class TimestampUnavailableError(Exception):
    """No time-stamping authority gave a usable token: the caller must wait, never go on without."""


class SignerUnavailableError(Exception):
    """The key cannot be reached (token out, process down): the caller must wait."""


class ByteSource(Protocol):
    """Bytes that can be read anywhere without being held in memory: a file, a blob, a buffer."""

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        ...

    def read(self, start: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``start``; fewer only at the end."""
        ...


@dataclass(frozen=True, slots=True)
class BytesSource:
    """A `ByteSource` over bytes already in memory, or over a memory map."""

    data: bytes | mmap

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return len(self.data)

    def read(self, start: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``start``."""
        return self.data[start : start + length]


class Signer(Protocol):
    """The key behind one certificate. It signs digests; formats are not its business."""

    @property
    def certificate(self) -> bytes:
        """Return the signer's certificate, DER."""
        ...

    @property
    def chain(self) -> tuple[bytes, ...]:
        """Return the intermediate certificates, DER, issuer first, without the root."""
        ...

    async def sign_many(self, digests: Sequence[bytes]) -> list[bytes]:
        """Sign SHA-256 digests, in order.

        ECDSA signatures are DER SEQUENCEs; RSA ones are raw.

        Raises:
            SignerUnavailableError: the key cannot be used now.
        """
        ...


class Timestamper(Protocol):
    """A client of one or more time-stamping authorities."""

    async def stamp(self, digest: bytes) -> bytes:
        """Return a checked RFC 3161 token (DER ContentInfo) over a SHA-256 digest.

        Raises:
            TimestampUnavailableError: no authority answered with a usable token.
        """
        ...
