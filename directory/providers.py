"""Which provider serves an address: ours, a registered peer, or nobody we know; and what is known of peers.

A peer's entry says where its SMTP server is, which TLS certificates it may show, which transaction
certificates seal for it and when, and what it takes (rem-formats §5, R-09).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from directory.addresses import DEFAULT_SUFFIX, KepAddress


class Served(StrEnum):
    """Where an address is served."""

    HERE = "here"
    PEER = "peer"
    NOWHERE = "nowhere"


class Profile(StrEnum):
    """The form of KEP messages and evidence that a peer reads."""

    KEP_TS102640 = "kep-ts102640"
    REM_BASELINE = "rem-baseline"


class Stamps(StrEnum):
    """How evidence for a peer is stamped: in each XML, or by evidence records beside it (agreed with it)."""

    PER_EVIDENCE = "per_evidence"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class SealingCertificate:
    """A transaction certificate registered for a peer; entries stay for ever, their end is noted."""

    sha256: bytes  # of the DER certificate
    valid_from: datetime
    valid_until: datetime

    def valid_at(self, at: datetime) -> bool:
        """Say whether the register lets it seal at a time."""
        return self.valid_from <= at <= self.valid_until


@dataclass(frozen=True, slots=True)
class Peer:
    """Another provider. ``tls_pins`` are SHA-256 digests of DER certificates: old and new in a roll-over."""

    domain: str
    name: str
    service_address: str
    host: str
    port: int
    tls_pins: frozenset[bytes]
    certificates: tuple[SealingCertificate, ...]
    max_message: int  # bytes of decoded content it takes (KEP-MS-02)
    profile: Profile = Profile.KEP_TS102640
    stamps: Stamps = Stamps.PER_EVIDENCE

    def sealing(self, sha256: bytes) -> SealingCertificate | None:
        """Return the registered transaction certificate with this digest."""
        return next((c for c in self.certificates if c.sha256 == sha256), None)


@dataclass(frozen=True, slots=True)
class ProviderRegister:
    """Our own domain, the suffix all KEP domains share, and the peers known by contract.

    ``peers`` by domain may be a live view of the register's file; ``stale`` says that the file is past its
    next update: who is known stays known, but nothing is handed over on its word.
    """

    own: str
    suffix: str = DEFAULT_SUFFIX
    peers: Mapping[str, Peer] = field(default_factory=lambda: MappingProxyType({}))
    stale: Callable[[], bool] = lambda: False
    doubtful: Callable[[], bool] = lambda: (
        False
    )  # stale, or from our clock's future: it may know less than peers

    def parse(self, text: str) -> KepAddress:
        """Parse an address under this register's suffix.

        Raises:
            AddressError: the text is no KEP address.
        """
        return KepAddress.parse(text, suffix=self.suffix)

    def served(self, address: KepAddress) -> Served:
        """Say who serves an address."""
        if address.provider == self.own:
            return Served.HERE
        return Served.PEER if address.provider in self.peers else Served.NOWHERE

    def sealed_by(self, sha256: bytes) -> tuple[Peer, SealingCertificate] | None:
        """Return the peer for which a transaction certificate is registered, whatever its dates."""
        for peer in self.peers.values():
            certificate = peer.sealing(sha256)
            if certificate is not None:
                return peer, certificate
        return None
