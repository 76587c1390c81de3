"""Rows as fsck reads them: one that cannot be read is told of, and the rows after it are read too."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from storage.crypto import KeyMismatchError
from storage.rows.statements import Row

T = TypeVar("T")

UNREADABLE: Final = (
    KeyMismatchError,  # a sealed column
    ValueError,  # a state or kind nobody knows, JSON or UTF-8 that is none
    TypeError,  # another type than the column's: SQLite keeps what it is given
    LookupError,
    AttributeError,
    OverflowError,  # a time beyond the calendar
)
"""What reading a tampered row raises."""


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row that does not decode. ``cause`` is the class of the error: its text may hold what was sealed."""

    table: str
    key: str
    cause: str


def survey(table: str, rows: Iterable[Row], decode: Callable[[Row], T]) -> Iterator[T | UnreadableRow]:
    """Yield each row decoded, or what is known of one that does not decode."""
    for row in rows:
        try:
            yield decode(row)
        except UNREADABLE as error:
            yield UnreadableRow(table, str(row[0]), type(error).__name__)
