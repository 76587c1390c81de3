"""How values look on the wire: strings, dates, envelopes, body structures.

spec: RFC3501#7.4.2, RFC3501#9
"""

import base64
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from evidence.mail.headers import Group, Mailbox, Params, address_list, unfold
from evidence.mail.mime import HeaderField, Part

_SIMPLE: Final = re.compile(rb"[ !#-\[\]-~]{0,1000}\Z")  # goes between quotes as it is
_QUOTABLE: Final = re.compile(rb"[ -~]{0,1000}\Z")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WORD_BYTES: Final = 45  # of text in one encoded word, which may have 75 characters


def string(data: bytes) -> bytes:
    """Return a quoted string, or a literal where a quoted string cannot hold the bytes."""
    if _SIMPLE.match(data):
        return b'"' + data + b'"'
    if _QUOTABLE.match(data):
        return b'"' + data.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return literal(data)


def literal(data: bytes) -> bytes:
    """Return a literal."""
    return b"{%d}\r\n%b" % (len(data), data)


def text_string(text: str) -> bytes:
    """Return a text as a string."""
    data = text.encode("utf-8", "replace")
    return b'"' + data + b'"' if _SIMPLE.match(data) else string(data)


def nil_or(text: str | bytes | None) -> bytes:
    """Return a string, or NIL."""
    if text is None:
        return b"NIL"
    return string(text) if isinstance(text, bytes) else text_string(text)


def date_time(at: datetime) -> bytes:
    """Return an INTERNALDATE, in UTC."""
    return b'"%2d-%b-%04d %02d:%02d:%02d +0000"' % (
        at.day,
        _MONTHS[at.month - 1].encode("ascii"),
        at.year,
        at.hour,
        at.minute,
        at.second,
    )


def flag_list(flags: Iterable[str]) -> bytes:
    """Return flags in brackets, in a stable order."""
    return b"(" + " ".join(sorted(flags)).encode("ascii") + b")"


def number_set(numbers: Sequence[int]) -> bytes:
    """Return numbers in the given order, runs of neighbours as ranges (``1:3,7``)."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return b",".join(b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in spans)


# --- envelope -------------------------------------------------------------------------------------


def envelope(fields: Iterable[HeaderField]) -> bytes:
    """Return a message's envelope from its header fields; of repeated ones the first counts."""
    first: dict[str, bytes] = {}
    for field in fields:
        first.setdefault(field.name, field.raw)
    sender = _addresses(first.get("from"))
    words = [
        _unfolded(first.get("date")),
        _unfolded(first.get("subject")),
        sender,
        # spec: RFC3501#7.4.2 (missing Sender and Reply-To are From)
        _addresses(first.get("sender")) if first.get("sender", b"").strip() else sender,
        _addresses(first.get("reply-to")) if first.get("reply-to", b"").strip() else sender,
        _addresses(first.get("to")),
        _addresses(first.get("cc")),
        _addresses(first.get("bcc")),
        _unfolded(first.get("in-reply-to")),
        _unfolded(first.get("message-id")),
    ]
    return b"(" + b" ".join(words) + b")"


def _unfolded(raw: bytes | None) -> bytes:
    return b"NIL" if raw is None else string(unfold(raw).replace(b"\0", b""))


def _addresses(raw: bytes | None) -> bytes:
    if raw is None:
        return b"NIL"
    shown: list[bytes] = []
    for entry in address_list(raw, strict=False):
        if isinstance(entry, Group):
            shown.append(b"(NIL NIL %b NIL)" % _name(entry.name))
            shown.extend(_address(member) for member in entry.members)
            shown.append(b"(NIL NIL NIL NIL)")
        else:
            shown.append(_address(entry))
    return b"(" + b"".join(shown) + b")" if shown else b"NIL"


def _address(box: Mailbox) -> bytes:
    local, at, domain = box.address.rpartition("@")
    if not at:
        local, domain = box.address, ""
    return b"(%b NIL %b %b)" % (
        _name(box.name) if box.name else b"NIL",
        text_string(local),
        text_string(domain),
    )


def _name(name: str) -> bytes:
    """Return a display name, in encoded words where it is not ASCII (clients expect them here)."""
    if name.isascii() and "=?" not in name:
        return text_string(name)
    words: list[bytes] = []
    piece = b""
    for char in name:
        data = char.encode("utf-8", "replace")
        if len(piece) + len(data) > _WORD_BYTES:
            words.append(piece)
            piece = b""
        piece += data
    words.append(piece)
    return string(b" ".join(b"=?UTF-8?B?" + base64.b64encode(word) + b"?=" for word in words))


# --- body structure ---------------------------------------------------------------------------------


def structure(part: Part, *, extended: bool) -> bytes:
    """Return BODYSTRUCTURE, or with ``extended`` off BODY. As deep as the scanner goes, no deeper."""
    # a multipart without a single part still is one part long for clients: RFC 3501 knows no empty ones
    if part.type == "multipart" and part.children:
        return _multipart(part, extended=extended)
    return _single(part, extended=extended)


def _multipart(part: Part, *, extended: bool) -> bytes:
    words = [
        b"".join(structure(child, extended=extended) for child in part.children),
        text_string(part.subtype),
    ]
    if extended:
        words += [_params(part.params), *_extension(part)]
    return b"(" + b" ".join(words) + b")"


def _single(part: Part, *, extended: bool) -> bytes:
    kind, subtype = part.type, part.subtype
    if kind == "multipart":
        kind, subtype = "text", "plain"
    if kind == "message" and subtype in ("rfc822", "global") and part.message is None:
        kind, subtype = "application", "octet-stream"  # encoded: nothing inside can be shown
    params = part.params
    if kind == "text" and not any(name.startswith("charset") for name, _ in params):
        params = (*params, ("charset", "us-ascii"))  # spec: RFC2045#5.2 (what no charset means)
    words = [
        text_string(kind),
        text_string(subtype),
        _params(params),
        nil_or(part.content_id),
        nil_or(part.description),
        text_string(part.encoding),
        b"%d" % part.body.length,
    ]
    if part.message is not None:
        words += [
            envelope(part.message.fields),
            structure(part.message, extended=extended),
            b"%d" % part.lines,
        ]
    elif kind == "text":
        words.append(b"%d" % part.lines)
    if extended:
        words += [nil_or(part.md5), *_extension(part)]
    return b"(" + b" ".join(words) + b")"


def _extension(part: Part) -> list[bytes]:
    disposition = b"NIL"
    if part.disposition is not None:
        disposition = b"(%b %b)" % (text_string(part.disposition), _params(part.disposition_params))
    return [disposition, _languages(part.language), nil_or(part.location)]


def _languages(tags: Sequence[str]) -> bytes:
    if not tags:
        return b"NIL"
    return b"(" + b" ".join(text_string(tag) for tag in tags) + b")"


def _params(params: Params) -> bytes:
    if not params:
        return b"NIL"
    return b"(" + b" ".join(text_string(word) for pair in params for word in pair) + b")"
