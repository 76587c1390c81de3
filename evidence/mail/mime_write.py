"""Small MIME emitters: header lines that fold, encoded words, quoted-printable and base64 bodies.

No ``email`` package: it costs 0.6-3 ms a message (numbers, "What mattered").
"""

import re
from binascii import b2a_base64, b2a_qp
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from struct import unpack_from
from typing import Final

CRLF: Final = b"\r\n"
LINE_SOFT_MAX: Final = 76  # spec: RFC2047#2
ENCODED_WORD_OCTETS: Final = (
    39  # 52 base64 characters and the frame: 64, so the first fits beside a field name
)

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_NO_VALUE: Final = re.compile(_CONTROL.pattern + r"|\s")
_VALUE_MAX: Final = 900
_PLAIN: Final = re.compile("[\x20-\x7e]*")
# b2a_qp does not count the encoded blank at a line's end: it belongs on a line of its own
_BLANK_BEYOND: Final = re.compile(rb"(?<=[^\r\n]{74})(?==(?:20|09)\r\n)")
_BLANK_AT_END: Final = b"=20\r\n"
_TAB_AT_END: Final = b"=09\r\n"
_ATOM_PHRASE: Final = re.compile("[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


_MAILBOXES_KEPT: Final = 1024  # the same people write again and again
_BASE64_LINE: Final = 76  # spec: RFC2045#6.8
_LINES_AT_ONCE: Final = 512


class HeaderTextError(Exception):
    """A value that must stand in a header unchanged holds characters that would break the line."""


def one_line(text: str) -> str:
    """Return the text with every run of control characters and line breaks as one space."""
    return _CONTROL.sub(" ", text)


def checked(value: str) -> str:
    """Return a machine value (address, message id) unchanged, or refuse it.

    Raises:
        HeaderTextError: the value holds control characters or white space.
    """
    if len(value) > _VALUE_MAX or _NO_VALUE.search(value) is not None:
        raise HeaderTextError("a header value holds white space or control characters, or is too long")
    return value


def encoded_words(text: str) -> list[str]:
    """Return RFC 2047 base64 words of at most 75 characters; no character is cut in two."""
    octets, words, start = text.encode(), [], 0
    while start < len(octets):
        end = start + ENCODED_WORD_OCTETS
        while end < len(octets) and octets[end] & 0xC0 == 0x80:  # inside a character: spec RFC3629#3
            end -= 1
        words.append(f"=?UTF-8?B?{b2a_base64(octets[start:end], newline=False).decode('ascii')}?=")
        start = end
    return words


def text_header(name: str, text: str) -> str:
    """Return an unstructured header line, folded; encoded words where ASCII does not suffice."""
    clean = one_line(text).strip()
    words = clean.split(" ")
    plain = (
        _PLAIN.fullmatch(clean) is not None
        and "=?" not in clean
        and all(words)
        and max(map(len, words)) <= LINE_SOFT_MAX - len(name) - 2
    )
    return fold(name, words if plain else encoded_words(clean))


def fold(name: str, tokens: Sequence[str]) -> str:
    """Join tokens by spaces into a header, breaking lines before 77 characters."""
    line = " ".join((f"{name}:", *tokens))
    if len(line) <= LINE_SOFT_MAX and line.isascii():
        return line + "\r\n"
    pieces, width = [name, ":"], len(name) + 1
    fresh = True
    for token in tokens:
        size = 1 + (len(token) if token.isascii() else len(token.encode()))
        if not fresh and width + size > LINE_SOFT_MAX:
            pieces.append("\r\n")
            width = 0
        pieces += (" ", token)
        width += size
        fresh = False
    pieces.append("\r\n")
    return "".join(pieces)


@lru_cache(maxsize=_MAILBOXES_KEPT)
def mailbox(address: str, name: str | None = None) -> str:
    """Return ``name <address>`` for a structured header; the name is quoted or encoded as needed.

    Raises:
        HeaderTextError: the address holds white space or control characters.
    """
    address = checked(address)
    if not name:
        return address
    clean = one_line(name).strip()
    if _PLAIN.fullmatch(clean) is None or "=?" in clean or len(clean) > 60:
        return f"{' '.join(encoded_words(clean))} <{address}>"
    if _ATOM_PHRASE.fullmatch(clean):
        return f"{clean} <{address}>"
    escaped = clean.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" <{address}>'


def address_header(name: str, mailboxes: Sequence[str]) -> str:
    """Return an address-list header, one `mailbox` after the other, folded between them."""
    return fold(name, ", ".join(mailboxes).split(" ") if mailboxes else ())


def date_header(at: datetime) -> str:
    """Return the Date header in UTC (spec: RFC5322#3.3)."""
    utc = at.astimezone(UTC)
    return (
        f"Date: {_DAYS[utc.weekday()]}, {utc.day:02d} {_MONTHS[utc.month - 1]} {utc.year:04d} "
        f"{utc.hour:02d}:{utc.minute:02d}:{utc.second:02d} +0000\r\n"
    )


def base64_size(size: int) -> tuple[int, int]:
    """Return the octets and the line ends of the `base64_body` of so many octets."""
    text = (size + 2) // 3 * 4
    lines = -(-text // _BASE64_LINE)
    return text + 2 * lines, lines


def base64_body(data: bytes) -> bytes:
    """Return base64 in lines of 76 characters, each ended by CRLF."""
    text = b2a_base64(data, newline=False)
    whole = len(text) // _BASE64_LINE
    if whole <= _LINES_AT_ONCE:  # cut in one call: three times as fast
        lines: Sequence[bytes] = unpack_from(f"{_BASE64_LINE}s" * whole, text)
    else:
        lines = [text[at : at + _BASE64_LINE] for at in range(0, whole * _BASE64_LINE, _BASE64_LINE)]
    rest = text[whole * _BASE64_LINE :]
    return CRLF.join((*lines, rest, b"") if rest else (*lines, b""))


def quoted_printable(text: str) -> bytes:
    """Return UTF-8 text in quoted-printable, CRLF lines of at most 76 characters, ending in CRLF."""
    octets = text.replace("\r\n", "\n").replace("\n", "\r\n").encode()
    encoded = b2a_qp(octets if octets.endswith(CRLF) else octets + CRLF, istext=True)
    if _BLANK_AT_END in encoded or _TAB_AT_END in encoded:  # seldom, and the pattern is slow
        return _BLANK_BEYOND.sub(b"=\r\n", encoded)
    return encoded
