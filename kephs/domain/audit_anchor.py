"""Anchors: the head of the process record in the public ledger, once a day (KEP-RT-01, KEP-RT-04).

What an anchor enters is a statement, four lines of ASCII, each ended by a newline::

    kephs process record
    <number of the entry, decimal>
    <its digest, 64 hexadecimal digits>
    <when it was anchored, UTC with microseconds: 2026-11-22T09:43:14.000000Z>

The ledger's entry has the name ``audit:<number, 12 digits>`` and the SHA-256 of the statement, so whoever
checks evidence against the ledger (`evidence.ledger.proof`) checks a statement in the same way. The public
tree shows a salted hash as of any other entry: nobody learns from it that it is an anchor.

An entry of the record that stands after an anchor was made after it, one that stands before was made before:
a time that says otherwise, by more than `TOLERANCE`, was written later than it claims.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Final

from kephs.domain.audit import GENESIS, AuditEntry, link_problem

PREFIX: Final = "audit:"
"""How the ledger's entries about the process record begin; no evidence has such an id."""
AFTER_LAST: Final = "audit;"
"""Sorts behind every name of an anchor."""
TOLERANCE: Final = timedelta(hours=1)
"""Clocks of two processes, a clock set right."""
TITLE: Final = "kephs process record"
STATEMENT_MAX: Final = 160  # octets
_NUMBER_MAX: Final = 10**12
_NAME: Final = re.compile(r"audit:([0-9]{12})", re.ASCII)
_STATEMENT: Final = re.compile(
    # every field has its full width: what is read can be written in no other way
    rb"kephs process record\n([1-9][0-9]{0,11})\n([0-9a-f]{64})\n([0-9]{4}-[0-9TZ:.-]{22})\n"
)
_AT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


class StatementError(ValueError):
    """The bytes are no statement about a process record."""


@dataclass(frozen=True, slots=True)
class Anchored:
    """One anchor as the ledger has it."""

    number: int  # of the process record's entry
    statement_sha256: bytes
    at: datetime
    ledger_number: int


class BreakKind(StrEnum):
    """What a record contradicts."""

    CHAIN = "chain"  # itself
    ANCHOR = "anchor"  # the ledger
    TIME = "time"  # the ledger's times


@dataclass(frozen=True, slots=True)
class RecordBreak:
    """A place where the record does not hold."""

    number: int
    kind: BreakKind
    cause: str


def anchor_name(number: int) -> str:
    """Return the name that an entry's anchor has in the ledger; names sort as numbers do.

    Raises:
        ValueError: a number that no entry has.
    """
    if not 1 <= number < _NUMBER_MAX:
        raise ValueError("numbers of anchored entries start at 1 and have 12 digits")
    return f"{PREFIX}{number:012d}"


def anchored_number(name: str) -> int | None:
    """Return which entry of the process record a ledger entry is about; None where it is about none."""
    found = _NAME.fullmatch(name)
    return int(found[1]) or None if found is not None else None


def is_anchor_name(name: str) -> bool:
    """Say whether a name is kept for anchors: evidence may not have it."""
    return name.startswith(PREFIX)


@dataclass(frozen=True, slots=True)
class Statement:
    """What an anchor says: the process record had this digest at this number at this time."""

    number: int
    digest: bytes
    at: datetime

    def encode(self) -> bytes:
        """Return its four lines.

        Raises:
            ValueError: a number or a digest that no entry has, a time without zone.
        """
        anchor_name(self.number)
        if len(self.digest) != len(GENESIS) or self.at.tzinfo is None:
            raise ValueError("digests of the process record have 32 octets, its times are UTC")
        at = self.at.astimezone(UTC).strftime(_AT).rjust(27, "0")  # strftime shortens years below 1000
        return f"{TITLE}\n{self.number}\n{self.digest.hex()}\n{at}\n".encode()

    @property
    def sha256(self) -> bytes:
        """Return the digest that the ledger has."""
        return sha256(self.encode()).digest()

    @classmethod
    def read(cls, data: bytes) -> "Statement":
        """Read a statement.

        Raises:
            StatementError: it is none.
        """
        found = _STATEMENT.fullmatch(data) if len(data) <= STATEMENT_MAX else None
        try:
            if found is None:
                raise StatementError("not a statement about a process record")
            at = datetime.strptime(found[3].decode(), _AT).replace(tzinfo=UTC)
            return cls(int(found[1]), bytes.fromhex(found[2].decode()), at)
        except ValueError as error:
            raise StatementError(str(error)) from None


class RecordCheck:
    """Follows a process record entry by entry and compares it with its anchors.

    One break in the chain does not hide what comes behind it: each problem is told where it stands.

    Args:
        anchors: ascending by number.
    """

    def __init__(self, anchors: Iterable[Anchored]) -> None:
        self._anchors: Sequence[Anchored] = tuple(sorted(anchors, key=lambda one: one.number))
        self._next = 0  # the anchor under way
        self._since: datetime | None = None  # the newest time of the anchors before
        self.number, self.digest = 0, GENESIS
        self.first_open: AuditEntry | None = None
        """The oldest entry behind the last anchor."""

    def take(self, entry: AuditEntry) -> list[RecordBreak]:
        """Return what is wrong with the next entry."""
        found = []
        problem = link_problem(entry, self.number + 1, self.digest)
        if problem is not None:
            found.append(RecordBreak(entry.number, BreakKind.CHAIN, problem))
        while self._next < len(self._anchors) and self._anchors[self._next].number < entry.number:
            found += self._pass()
        found += self._times(entry)
        if self._next < len(self._anchors) and self._anchors[self._next].number == entry.number:
            anchor = self._anchors[self._next]
            if anchor.statement_sha256 != _digest(entry, anchor.at):
                cause = f"the ledger's entry {anchor.ledger_number} anchors another one"
                found.append(RecordBreak(entry.number, BreakKind.ANCHOR, cause))
            self._reached(anchor)
            self.first_open = None
        elif self.first_open is None:
            self.first_open = entry
        self.number, self.digest = entry.number, entry.digest
        return found

    def skip(self) -> None:
        """Pass over an entry that cannot be read: what follows cannot be joined to it."""
        self.number += 1

    def finish(self) -> list[RecordBreak]:
        """Return which anchors are about entries that are not there."""
        found = []
        while self._next < len(self._anchors):
            found += self._pass()
        return found

    def _pass(self) -> list[RecordBreak]:
        """Leave behind an anchor whose entry was not met."""
        anchor = self._anchors[self._next]
        self._reached(anchor)
        if anchor.number <= self.number:  # met, or unreadable: told of there
            return []
        cause = f"it is gone; the ledger's entry {anchor.ledger_number} anchors it"
        return [RecordBreak(anchor.number, BreakKind.ANCHOR, cause)]

    def _reached(self, anchor: Anchored) -> None:
        self._since = anchor.at if self._since is None else max(self._since, anchor.at)
        self._next += 1

    def _times(self, entry: AuditEntry) -> list[RecordBreak]:
        if self._since is not None and entry.at < self._since - TOLERANCE:
            cause = f"back-dated: of {_time(entry.at)}, entered after the anchor of {_time(self._since)}"
            return [RecordBreak(entry.number, BreakKind.TIME, cause)]
        if self._next < len(self._anchors) and entry.at > self._anchors[self._next].at + TOLERANCE:
            anchor = self._anchors[self._next]
            cause = f"of {_time(entry.at)}, later than the anchor of {_time(anchor.at)} that it is before"
            return [RecordBreak(entry.number, BreakKind.TIME, cause)]
        return []


def _digest(entry: AuditEntry, at: datetime) -> bytes:
    """Return what an anchor made at a time would have entered; nothing where the entry can have none."""
    try:
        return Statement(entry.number, entry.digest, at).sha256
    except (ValueError, TypeError, AttributeError):  # an altered row
        return b""


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
