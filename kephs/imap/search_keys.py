"""What SEARCH looks for, as values: one dataclass per key.

spec: RFC3501#6.4.4, RFC7162#3.1.5
"""

from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Final, TypeAlias

STAR: Final = 0  # "*" in number sets: the largest number in use

NumberSet: TypeAlias = tuple[tuple[int, int], ...]  # ranges as sent, `STAR` for "*"


class Compare(Enum):
    """How dates and sizes compare."""

    BEFORE = "<"
    ON = "="
    SINCE = ">="
    LARGER = ">"


@dataclass(frozen=True, slots=True)
class All:
    """ALL, and what is the same here: OLD."""


@dataclass(frozen=True, slots=True)
class HasFlag:
    """A flag or keyword, compared without case."""

    flag: str


@dataclass(frozen=True, slots=True)
class InHeader:
    """A text in a header field (lower-case name), or, where empty, the field itself."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class InText:
    """A text in the body, or in header and body."""

    text: str
    header_too: bool


@dataclass(frozen=True, slots=True)
class Received:
    """INTERNALDATE, the time disregarded."""

    compare: Compare
    day: date


@dataclass(frozen=True, slots=True)
class Sent:
    """The Date field, time and zone disregarded."""

    compare: Compare
    day: date


@dataclass(frozen=True, slots=True)
class Size:
    """RFC822.SIZE: LARGER, or BEFORE for SMALLER."""

    compare: Compare
    octets: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """Sequence numbers or UIDs."""

    numbers: NumberSet
    uid: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """MODSEQ: changed at this modification number or later (RFC 7162)."""

    modseq: int


@dataclass(frozen=True, slots=True)
class Not:
    """NOT."""

    key: "SearchKey"


@dataclass(frozen=True, slots=True)
class Or:
    """OR."""

    first: "SearchKey"
    second: "SearchKey"


@dataclass(frozen=True, slots=True)
class And:
    """Keys side by side."""

    keys: tuple["SearchKey", ...]


SearchKey: TypeAlias = (
    All | HasFlag | InHeader | InText | Received | Sent | Size | Numbers | Changed | Not | Or | And
)
