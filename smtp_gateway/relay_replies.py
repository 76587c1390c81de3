"""What a peer says to us: replies cut from its bytes, what EHLO offers, what may be written down."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LINE_MAX: Final = 1000  # octets with CRLF; spec: RFC5321#4.5.3.1.5 says 512, peers with long texts exist
LINES_MAX: Final = 100
DETAIL_MAX: Final = 200
REPLY_MAX: Final = 512
_SIZE_DIGITS: Final = 20  # spec: RFC1870#3
_REPLY: Final = re.compile(rb"([2-5][0-5][0-9])(?:([ -])([^\r\n\0]*))?")
_ENHANCED: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?: |$)")


class NotSmtpError(Exception):
    """What came is no SMTP reply; the text says why, without quoting it."""


@dataclass(frozen=True, slots=True)
class PeerReply:
    """One reply: its code and the texts of its lines, as they came."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def severity(self) -> int:
        """Return the first digit, which decides what happens (RFC 5321 4.2)."""
        return self.code // 100


class ReplyReader:
    """Bytes in any pieces in, replies out. Holds at most one line beyond the lines of one reply."""

    __slots__ = ("_buffer", "_code", "_lines", "_scanned")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._code = 0
        self._lines: list[bytes] = []

    @property
    def pending(self) -> bool:
        """Say whether bytes wait that belong to no reply given out so far."""
        return bool(self._buffer or self._lines)

    def clear(self) -> None:
        """Forget what waits."""
        self._buffer.clear()
        self._lines.clear()
        self._scanned = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._buffer += data

    def next(self) -> PeerReply | None:
        """Return the next whole reply, if it is here.

        Raises:
            NotSmtpError: what came is none, or beyond the caps.
        """
        # spec: RFC5321#4.2.1 (multiline replies)
        while (end := self._buffer.find(b"\n", self._scanned, LINE_MAX)) >= 0:
            line = bytes(self._buffer[: end + 1])
            del self._buffer[: end + 1]
            self._scanned = 0
            if self._add(line):
                reply = PeerReply(self._code, tuple(self._lines))
                self._lines.clear()
                return reply
        if len(self._buffer) >= LINE_MAX:
            raise NotSmtpError("line too long")
        self._scanned = len(self._buffer)
        return None

    def _add(self, line: bytes) -> bool:
        """Take one line; say whether it ends its reply."""
        found = _REPLY.fullmatch(line, 0, len(line) - 2) if line.endswith(b"\r\n") else None
        if found is None:
            raise NotSmtpError("no reply line")
        code = int(found[1])
        if self._lines and code != self._code:
            raise NotSmtpError("codes differ within one reply")
        if len(self._lines) >= LINES_MAX:
            raise NotSmtpError("too many lines")
        self._code = code
        self._lines.append(found[3] or b"")
        return found[2] != b"-"


@dataclass(frozen=True, slots=True)
class Offers:
    """What a peer's EHLO offers. ``size``: most octets of content it takes, None where it does not say."""

    starttls: bool = False
    pipelining: bool = False
    eight_bit: bool = False
    utf8: bool = False
    sizes: bool = False  # SIZE= may be given
    size: int | None = None

    @classmethod
    def parse(cls, reply: PeerReply) -> "Offers":
        """Read the lines of an EHLO reply behind its first; what is unknown or malformed is not offered."""
        # spec: RFC5321#4.1.1.1
        words = [line.upper().split() for line in reply.lines[1:]]
        offered = {line[0]: line[1:] for line in words if line}
        return cls(
            starttls=b"STARTTLS" in offered,
            pipelining=b"PIPELINING" in offered,  # spec: RFC2920#3.1
            eight_bit=b"8BITMIME" in offered,  # spec: RFC6152
            utf8=b"SMTPUTF8" in offered,  # spec: RFC6531#3.1
            sizes=b"SIZE" in offered,
            size=_size(offered.get(b"SIZE", [])),
        )


def _size(words: Sequence[bytes]) -> int | None:
    """Return SIZE's parameter; 0 and none mean that there is no fixed limit (RFC 1870 4)."""
    if len(words) != 1 or len(words[0]) > _SIZE_DIGITS or not words[0].isdigit():
        return None
    return int(words[0]) or None


def detail(stage: str, reply: PeerReply) -> str:
    """Return stage, code and text for logs: printable ASCII, without words that hold an address.

    The enhanced status code of the first line stays in front, those of the others are left out.
    """
    texts = [line.decode("ascii", "replace") for line in reply.lines]
    texts[1:] = [_ENHANCED.sub("", text, count=1) for text in texts[1:]]
    return plain(f"{stage} {reply.code} {' '.join(texts)}")


def plain(text: str) -> str:
    """Return the words of a text that are printable ASCII and no address, at most 200 characters."""
    words = (word for word in text.split() if "@" not in word and word.isascii() and word.isprintable())
    return " ".join(words)[:DETAIL_MAX].rstrip()


def shown(reply: PeerReply) -> str:
    """Return a reply's text as people may see it: printable, at most 512 characters."""
    text = " ".join((str(reply.code), *(line.decode("utf-8", "replace") for line in reply.lines)))
    return "".join(char if char.isprintable() else "?" for char in text)[:REPLY_MAX]
