"""SEARCH: which messages match, reading no more than it takes, and never content behind the read gate.

A key is true, false, or unknown for want of knowledge: first only flags, dates and sizes are known, then the
header, then the text. Whatever is decided early never costs the next step.

spec: RFC3501#6.4.4, rules-in-detail "The read gate" (SEARCH sees only headers of unread messages)
"""

import base64
import binascii
import email.utils
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date
from typing import Final

from evidence.mail.headers import decode_text, parameter, raw_text
from evidence.mail.mime import Part
from evidence.ports import ByteSource
from kephs.domain.mailboxes import ItemSummary
from kephs.imap import search_keys as c
from kephs.imap.cursor import NUMBER_MAX
from kephs.imap.sections import fields_of

_TEXT_PART_MAX: Final = 1024 * 1024  # bytes of one text part that are searched
_TEXT_PARTS_MAX: Final = 50
_DOT_ABOVE: Final = {0x307: None}


def fold(text: str) -> str:
    """Return text as it is compared: without case, İ and I alike (Turkish letters keep their marks)."""
    return text.casefold().translate(_DOT_ABOVE).replace("ı", "i")


@dataclass(frozen=True, slots=True)
class Header:
    """A message's header fields as text, folded for comparison."""

    fields: tuple[tuple[str, str], ...]
    whole: str
    sent: date | None

    @classmethod
    def of(cls, block: bytes) -> "Header":
        """Read a header block."""
        found = fields_of(block)
        fields = tuple((field.name, fold(decode_text(field.raw))) for field in found)
        dates = [field.raw for field in found if field.name == "date"]
        whole = "\n".join(f"{name}: {text}" for name, text in fields)
        return cls(fields, whole, _sent(dates[0]) if dates else None)


def _sent(raw: bytes) -> date | None:
    try:
        return email.utils.parsedate_to_datetime(raw_text(raw).strip()).date()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one message. ``header`` and ``text`` are None until they were read."""

    number: int
    summary: ItemSummary
    header: Header | None = None
    text: str | None = None


class Matcher:
    """Decides one key for messages of one folder."""

    def __init__(self, key: c.SearchKey, *, last_uid: int, count: int) -> None:
        self._key = key
        self._last_uid = last_uid
        self._count = count
        self._sets: dict[int, list[tuple[int, int]]] = {}

    def decide(self, known: Known) -> bool | None:
        """Return whether the message matches, or None where more must be known."""
        return self._decide(self._key, known)

    def decide_all(self, messages: Sequence[Known]) -> list[bool | None]:
        """Decide for several messages."""
        return [self._decide(self._key, known) for known in messages]

    def _decide(self, key: c.SearchKey, known: Known) -> bool | None:  # noqa: PLR0911  # one per kind of key
        match key:
            case c.And(keys):
                return self._every(keys, known)
            case c.Not(inner):
                found = self._decide(inner, known)
                return None if found is None else not found
            case c.Or(first, second):
                one = self._decide(first, known)
                two = True if one else self._decide(second, known)
                return True if one or two else None if one is None or two is None else False
            case c.InHeader() | c.Sent():
                return None if known.header is None else _in_header(key, known.header)
            case c.InText():
                return _in_text(key, known)
            case c.Numbers():
                return self._numbered(key, known)
            case _:
                return _by_summary(key, known.summary)

    def _every(self, keys: Sequence[c.SearchKey], known: Known) -> bool | None:
        result: bool | None = True
        for key in keys:
            found = self._decide(key, known)
            if found is False:
                return False
            if found is None:
                result = None
        return result

    def _numbered(self, key: c.Numbers, known: Known) -> bool:
        spans = self._sets.get(id(key))
        if spans is None:
            spans = self._sets[id(key)] = _merged(key, self._last_uid if key.uid else self._count)
        value = known.summary.uid if key.uid else known.number
        at = bisect_right(spans, (value, NUMBER_MAX)) - 1
        return at >= 0 and spans[at][1] >= value


def _merged(key: c.Numbers, last: int) -> list[tuple[int, int]]:
    """Return the ranges of a set, ascending and apart, so that one look decides."""
    pairs = ((low if low != c.STAR else last, high if high != c.STAR else last) for low, high in key.numbers)
    spans: list[tuple[int, int]] = []
    for low, high in sorted((min(pair), max(pair)) for pair in pairs):
        if spans and low <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(high, spans[-1][1]))
        else:
            spans.append((low, high))
    return spans


def _by_summary(key: c.SearchKey, summary: ItemSummary) -> bool:
    match key:
        case c.HasFlag(flag):
            wanted = flag.lower()
            return any(flag.lower() == wanted for flag in summary.flags)
        case c.Received(compare, day):
            return _compares(compare, summary.received_at.astimezone(UTC).date(), day)
        case c.Size(compare, octets):
            return summary.size > octets if compare is c.Compare.LARGER else summary.size < octets
        case c.Changed(modseq):
            return summary.modseq >= modseq
        case _:  # ALL
            return True


def _compares(compare: c.Compare, value: date, day: date) -> bool:
    if compare is c.Compare.BEFORE:
        return value < day
    return value == day if compare is c.Compare.ON else value >= day


def _in_header(key: c.InHeader | c.Sent, header: Header) -> bool:
    if isinstance(key, c.Sent):
        return header.sent is not None and _compares(key.compare, header.sent, key.day)
    wanted = fold(key.text)
    return any(name == key.name and wanted in text for name, text in header.fields)


def _in_text(key: c.InText, known: Known) -> bool | None:
    wanted = fold(key.text)
    if key.header_too:
        if known.header is None:
            return None
        if wanted in known.header.whole:
            return True
    if known.summary.gated:
        return False
    return None if known.text is None else wanted in known.text


# --- text of a message ------------------------------------------------------------------------------

_TAGS: Final = re.compile(r"<[^<>]*>")


def text_of(source: ByteSource, root: Part) -> str:
    """Return the readable text of a message, folded; long parts only as far as 1 MiB. Reads block."""
    found: list[str] = []
    for part in root.walk():
        if part.type == "text" and not part.children and len(found) < _TEXT_PARTS_MAX:
            raw = source.read(part.body.start, min(part.body.length, _TEXT_PART_MAX))
            found.append(part_text(raw, part))
        elif part.message is not None and len(found) < _TEXT_PARTS_MAX:
            found.extend(decode_text(field.raw) for field in part.message.fields)
    return fold("\n".join(found))


def part_text(raw: bytes, part: Part) -> str:
    """Return the text of (the beginning of) a text part, without the tags of HTML."""
    text = _characters(_decoded(raw, part.encoding), parameter(part.params, "charset"))
    return _TAGS.sub(" ", text) if part.subtype == "html" else text


def _decoded(raw: bytes, encoding: str) -> bytes:
    if encoding == "quoted-printable":
        return binascii.a2b_qp(raw)
    if encoding != "base64":
        return raw
    kept = re.sub(rb"[^A-Za-z0-9+/]", b"", raw)
    return base64.b64decode(kept[: len(kept) & ~3])


def _characters(data: bytes, charset: str | None) -> str:
    name = (charset or "utf-8").lower()
    if name in ("utf-8", "us-ascii", "ascii"):
        return data.decode("utf-8", "replace")
    words = b"=?%b?B?%b?=" % (name.encode("ascii", "replace"), base64.b64encode(data))
    return decode_text(words)
