"""What the evidence library asks of the outside: bytes, keys and time stamps."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from mmap import mmap
from typing import Protocol

from evidence.model.records import EvidenceRecord, Profile, SealedEvidence


class TimestampUnavailableError(Exception):
    """No time-stamping authority gave a usable token: the caller must wait, never go on without."""


class SignerUnavailableError(Exception):
    """The key cannot be reached (token out, process down): the caller must wait."""


class SignerRefusedError(SignerUnavailableError):
    """The signer will not sign this: it is not ours to say, or not now. A defect or an attack, no outage.

    For whoever waits it is the same: nothing was signed, so nothing is answered (KEP-SG-10).
    """


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


class Stamping(StrEnum):
    """How evidence gets its proof of time (D6)."""

    BATCH = "batch"
    """One token per batch; an evidence record (RFC 4998) travels beside the XML."""
    OWN = "per_evidence"
    """A signature time stamp inside each XML (XAdES-B-T)."""


class Batcher(Protocol):
    """Stamps many digests with one token."""

    async def records(self, leaves: Sequence[bytes]) -> list[bytes]:
        """Return one evidence record (RFC 4998, DER) for each SHA-256 digest, in order.

        Raises:
            TimestampUnavailableError: no authority answered with a usable token.
        """
        ...


class Sealing(Protocol):
    """Whoever makes evidence of records: signs and stamps, in this process or in the signer's."""

    async def seal_many(
        self,
        records: Sequence[EvidenceRecord],
        *,
        profile: Profile = Profile.KEP,
        stamping: Stamping | None = None,
    ) -> list[SealedEvidence]:
        """Seal records, all of them or none.

        Args:
            records: what happened.
            profile: the serialisation whoever gets it reads.
            stamping: how it is stamped; None: as the provider does it.

        Raises:
            SignerUnavailableError, TimestampUnavailableError: nothing was sealed; try again later.
            SignerRefusedError: not ours to seal.
        """
        ...

    async def records(self, leaves: Sequence[bytes]) -> list[bytes]:
        """Stamp what was released unstamped; see `Batcher.records`."""
        ...

    async def sign_entity(self, digest: bytes, at: datetime) -> bytes:
        """Return the detached CMS signature (p7s, DER) of a KEP message, with its signature time stamp.

        Args:
            digest: SHA-256 of the signed entity.
            at: claimed signing time, UTC.

        Raises:
            SignerUnavailableError, TimestampUnavailableError: nothing was signed; try again later.
        """
        ...

    async def sign_entities(self, digests: Sequence[bytes], at: datetime) -> list[bytes]:
        """Return the signatures of several messages, each as `sign_entity` makes it, at once.

        Raises:
            SignerUnavailableError, TimestampUnavailableError: nothing is signed; try again later.
        """
        ...
