"""The words commands are made of: atoms, strings, numbers, sets, dates.

spec: RFC3501#9
"""

import binascii
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeVar

from kephs.imap.mutf7 import MailboxNameError
from kephs.imap.mutf7 import decode as decode_name
from kephs.imap.search_keys import STAR, NumberSet

T = TypeVar("T")

_ATOM: Final = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_ASTRING: Final = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_PATTERN: Final = re.compile(rb"[!#$%&'*+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~\x80-\xff]+")
_WORD: Final = re.compile(rb"[A-Za-z0-9.\-]+")
_QUOTED: Final = re.compile(rb'"((?:[^"\\\r\n\0]|\\["\\])*)"')
_ESCAPE: Final = re.compile(rb'\\(["\\])')
_LITERAL: Final = re.compile(rb"\{([0-9]{1,10})\+?\}\r\n")
_NUMBER: Final = re.compile(rb"[0-9]{1,10}(?![0-9])")
_SET: Final = re.compile(rb"(?:[0-9]+|\*)(?::(?:[0-9]+|\*))?(?:,(?:[0-9]+|\*)(?::(?:[0-9]+|\*))?)*")
_DATE: Final = re.compile(rb"(\"?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1")
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"), 1
    )
}
_DATE_TIME: Final = re.compile(
    rb'"([ 0-9][0-9]-[A-Za-z]{3}-[0-9]{4}) ([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)'
    rb' ([+-])([0-9]{2})([0-5][0-9])"'
)
_MODSEQ: Final = re.compile(rb"[0-9]{1,19}(?![0-9])")
NUMBER_MAX: Final = 2**32 - 1  # spec: RFC3501#9 (number)
MODSEQ_MAX: Final = 2**63 - 1  # spec: RFC7162#7 (mod-sequence-value)


class GrammarError(ValueError):
    """A command that is not one. ``args[0]`` may be shown to the client."""


class Cursor:
    """Reads one command from left to right; every method moves on or raises `GrammarError`."""

    __slots__ = ("at", "data", "utf8")

    def __init__(self, data: bytes, at: int = 0, *, utf8: bool = False) -> None:
        self.data = data
        self.at = at
        self.utf8 = utf8  # mailbox names are UTF-8, never modified UTF-7 (RFC 6855)

    def more(self) -> bool:
        """Say whether anything is left."""
        return self.at < len(self.data)

    def sees(self, token: bytes) -> bool:
        """Say whether the token comes next."""
        return self.data.startswith(token, self.at)

    def skips(self, token: bytes) -> bool:
        """Move over the token if it comes next, and say so."""
        found = self.data.startswith(token, self.at)
        if found:
            self.at += len(token)
        return found

    def expect(self, token: bytes) -> None:
        """Move over the token."""
        if not self.skips(token):
            raise GrammarError("a blank is missing" if token == b" " else f"{token.decode('ascii')} expected")

    def end(self) -> None:
        """Make sure that nothing is left."""
        if self.at != len(self.data):
            raise GrammarError("unexpected words at the end")

    def match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        """Read what a pattern describes."""
        found = pattern.match(self.data, self.at)
        if found is None:
            raise GrammarError(f"{what} expected")
        self.at = found.end()
        return found

    def atom(self) -> bytes:
        """Read an atom."""
        return self.match(_ATOM, "a word")[0]

    def word(self) -> str:
        """Read a keyword of the protocol, upper-case: letters, digits, dots and hyphens."""
        return self.match(_WORD, "a word")[0].decode("ascii").upper()

    def string(self) -> bytes:
        """Read a quoted string or a literal."""
        if self.sees(b'"'):
            text = self.match(_QUOTED, "a quoted string")[1]
            return _ESCAPE.sub(rb"\1", text) if b"\\" in text else text
        found = self.match(_LITERAL, "a string")
        end = self.at + int(found[1])
        data = self.data[self.at : end]
        if end > len(self.data) or b"\0" in data:
            raise GrammarError("a literal is cut or holds a NUL")
        self.at = end
        return data

    def astring(self) -> bytes:
        """Read an atom, a quoted string or a literal."""
        if self.data[self.at : self.at + 1] in (b'"', b"{"):
            return self.string()
        return self.match(_ASTRING, "a string")[0]

    def text(self) -> str:
        """Read an astring that holds UTF-8 text."""
        try:
            return self.astring().decode()
        except UnicodeDecodeError as error:
            raise GrammarError("not UTF-8") from error

    def mailbox(self) -> str:
        """Read a mailbox name."""
        raw = self.astring()
        try:
            return decode_name(raw, utf8=self.utf8)
        except MailboxNameError as error:
            raise GrammarError("not a mailbox name") from error

    def pattern(self) -> str:
        """Read a list pattern: like a mailbox name, with wildcards."""
        if self.data[self.at : self.at + 1] in (b'"', b"{"):
            raw = self.string()
        else:
            raw = self.match(_PATTERN, "a pattern")[0]
        try:
            return decode_name(raw, utf8=self.utf8)
        except MailboxNameError as error:
            raise GrammarError("not a mailbox pattern") from error

    def number(self) -> int:
        """Read a number of 32 bits."""
        value = int(self.match(_NUMBER, "a number")[0])
        if value > NUMBER_MAX:
            raise GrammarError("a number is too large")
        return value

    def modseq(self) -> int:
        """Read a modification number, 0 included."""
        value = int(self.match(_MODSEQ, "a modification number")[0])
        if value > MODSEQ_MAX:
            raise GrammarError("a number is too large")
        return value

    def positive(self) -> int:
        """Read a number of 32 bits that is not 0."""
        value = self.number()
        if not value:
            raise GrammarError("0 is no number here")
        return value

    def sees_numbers(self) -> bool:
        """Say whether a number set comes next."""
        return self.data[self.at : self.at + 1] in b"0123456789*" and self.more()

    def numbers(self) -> NumberSet:
        """Read a number set."""
        ranges: list[tuple[int, int]] = []
        for piece in self.match(_SET, "a number set")[0].split(b","):
            low, colon, high = piece.partition(b":")
            first = _set_number(low)
            ranges.append((first, _set_number(high) if colon else first))
        return tuple(ranges)

    def date(self) -> date:
        """Read a date (1-Feb-1994), quoted or not."""
        found = self.match(_DATE, "a date")
        try:
            return date(int(found[4]), _MONTHS[found[3].lower()], int(found[2]))
        except (KeyError, ValueError) as error:
            raise GrammarError("no such date") from error

    def date_time(self) -> datetime:
        """Read a date with time and zone; the result is UTC."""
        found = self.match(_DATE_TIME, "a date and time")
        day = Cursor(found[1].lstrip(b" ")).date()
        hours, minutes, seconds = (int(found[number]) for number in (2, 3, 4))
        away = timedelta(hours=int(found[6]), minutes=int(found[7])) * (-1 if found[5] == b"-" else 1)
        try:
            local = datetime(day.year, day.month, day.day, hours, minutes, min(seconds, 59), tzinfo=UTC)
            return local - away
        except OverflowError as error:
            raise GrammarError("no such date") from error

    def base64(self) -> bytes:
        """Read the rest as base64; ``=`` stands for nothing at all (RFC 4959)."""
        raw = self.data[self.at :]
        self.at = len(self.data)
        return decode_base64(raw)

    def listed(self, read: Callable[[], T], most: int) -> tuple[T, ...]:
        """Read ``(a b c)``, which may be empty."""
        self.expect(b"(")
        found: list[T] = []
        while not self.skips(b")"):
            if found:
                self.expect(b" ")
            found.append(read())
            if len(found) > most:
                raise GrammarError("a list is too long")
        return tuple(found)


def decode_base64(raw: bytes) -> bytes:
    """Return what a SASL answer holds.

    Raises:
        GrammarError: not base64.
    """
    if raw == b"=":
        return b""
    try:
        return binascii.a2b_base64(raw, strict_mode=True) if raw else b""
    except binascii.Error as error:
        raise GrammarError("not base64") from error


def _set_number(raw: bytes) -> int:
    if raw == b"*":
        return STAR
    value = int(raw) if len(raw) <= 10 else 0
    if not 0 < value <= NUMBER_MAX:
        raise GrammarError("a number is out of range")
    return value
