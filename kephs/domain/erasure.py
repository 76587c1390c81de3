"""Destroyed content: what is recorded when the last reference to a message's content goes (KEP-RT-02).

Content lies encrypted under a key of its own; destroying the key destroys the content. That this happened,
when, and whose deletion led to it enters the process record as ``content.destroyed``. The record's head is
anchored in the public ledger daily (`kephs.domain.audit_anchor`). Evidence of the message stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

CONTENT_DESTROYED: Final = "content.destroyed"
ACCOUNT_ERASED: Final = "account.erased"
NOBODY: Final = "kephs"
"""Who acted where no deletion led to it: nothing referred to the content any more."""
_SHOWN: Final = 8  # deletions named in one entry


class RemovalCause(StrEnum):
    """Why an item left a mailbox."""

    OWNER = "owner"
    CLOSING = "closing"


class ContentPart(StrEnum):
    """Which content of a message."""

    ORIGINAL = "original"  # what the holder signed and sent
    DISPATCH = "kep-message"  # what recipients got; it carries the original


@dataclass(frozen=True, slots=True)
class Removal:
    """One item that was removed for good, while its content may have stayed for others."""

    account_id: str
    operator_id: str | None  # who was signed in
    by: str  # their name, or who closed the account
    cause: RemovalCause
    at: datetime


@dataclass(frozen=True, slots=True)
class Destroyed:
    """Content of a message that is gone; ``number`` is that of the process record's entry.

    ``cause`` is that of the last removal; None where nobody had it in a mailbox.
    """

    message_id: str
    part: ContentPart
    sha256: bytes
    at: datetime
    number: int
    cause: RemovalCause | None = None


@dataclass(frozen=True, slots=True)
class PendingErasure:
    """A closed account whose mailbox is to be emptied."""

    account_id: str
    closed_at: datetime
    by: str


def destroyed_by(removals: Sequence[Removal]) -> str:
    """Return who acted: whoever removed the last item."""
    return max(removals, key=lambda one: one.at).by if removals else NOBODY


def destroyed_cause(removals: Sequence[Removal]) -> RemovalCause | None:
    """Return what led to it: the last removal's cause."""
    return max(removals, key=lambda one: one.at).cause if removals else None


def destroyed_detail(
    part: ContentPart, sha256: bytes, sha512: bytes, size: int, removals: Sequence[tuple[Removal, str]]
) -> str:
    """Return what the entry says.

    Args:
        part: which content.
        sha256: its digest.
        sha512: its other digest.
        size: octets.
        removals: with the address of each account.
    """
    lines = [f"{part.value} sha256={sha256.hex()} sha512={sha512.hex()} size={size}"]
    latest = sorted(removals, key=lambda one: one[0].at)[-_SHOWN:]
    lines += [
        f"{one.at:%Y-%m-%dT%H:%M:%SZ} {one.cause.value} {one.operator_id or '-'} of {address[:260]}"
        for one, address in latest
    ]
    if len(removals) > _SHOWN:
        lines.append(f"and {len(removals) - _SHOWN} before")
    if not removals:
        lines.append("no mailbox and no work referred to it any more")
    return "; ".join(lines)
