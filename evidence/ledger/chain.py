"""The evidence ledger: a numbered hash chain, so that nothing can be taken out or changed unseen.

Each entry's hash covers its number, the hash before it, the evidence's id and digest and the time,
in one fixed encoding (all integers big-endian)::

    "kephs-ledger-1" 00 | number u64 | previous hash [32] | id length u32 | id UTF-8
                        | SHA-256 of the evidence bytes [32] | time in microseconds since 1970 UTC, i64
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from struct import pack
from typing import Final

_MARK: Final = b"kephs-ledger-1\x00"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
GENESIS: Final = sha256(b"kephs evidence ledger, genesis 1").digest()
"""The hash "before" entry 1."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One link: the evidence with this id and digest was entered at this time, UTC."""

    number: int  # from 1, without gaps
    previous: bytes
    evidence_id: str
    evidence_sha256: bytes
    at: datetime
    hash: bytes
    salt: bytes  # 32 random octets: the tree's leaf tells nothing without them (`evidence.ledger.merkle`)


@dataclass(frozen=True, slots=True)
class LedgerBreak:
    """The first place where a run does not hold together."""

    number: int
    cause: str


def entry_hash(number: int, previous: bytes, evidence_id: str, evidence_sha256: bytes, at: datetime) -> bytes:
    """Return the hash of an entry.

    Raises:
        ValueError: a digest is not 32 octets, the number is out of range, or the time has no zone.
    """
    if len(previous) != 32 or len(evidence_sha256) != 32:
        raise ValueError("ledger digests have 32 octets")
    if not 1 <= number < 1 << 63:
        raise ValueError("ledger numbers start at 1 and have 63 bits")
    if at.tzinfo is None:
        raise ValueError("ledger times are UTC")
    name = evidence_id.encode()
    return sha256(
        b"".join(
            (
                _MARK,
                pack(">Q", number),
                previous,
                pack(">I", len(name)),
                name,
                evidence_sha256,
                pack(">q", (at - _EPOCH) // _MICROSECOND),
            )
        )
    ).digest()


def append(
    last: LedgerEntry | None, *, evidence_id: str, evidence_sha256: bytes, at: datetime, salt: bytes
) -> LedgerEntry:
    """Return the entry that follows ``last`` (None: the first one)."""
    number, previous = (1, GENESIS) if last is None else (last.number + 1, last.hash)
    return LedgerEntry(
        number,
        previous,
        evidence_id,
        evidence_sha256,
        at,
        entry_hash(number, previous, evidence_id, evidence_sha256, at),
        salt,
    )


def check_run(entries: Iterable[LedgerEntry], *, after: LedgerEntry | None = None) -> LedgerBreak | None:
    """Return the first break of a run of consecutive entries, None when it holds.

    Args:
        entries: in order of number.
        after: a trusted entry that the run must follow; without it the run must start at entry 1.
    """
    number, previous = (1, GENESIS) if after is None else (after.number + 1, after.hash)
    for entry in entries:
        if entry.number != number:
            return LedgerBreak(number, f"entry {entry.number} stands where {number} should be")
        if entry.previous != previous:
            return LedgerBreak(number, "the hash of the entry before does not match")
        if entry.hash != entry_hash(
            entry.number, entry.previous, entry.evidence_id, entry.evidence_sha256, entry.at
        ):
            return LedgerBreak(number, "the entry's own hash does not match")
        number, previous = number + 1, entry.hash
    return None
