"""What is shown is what was signed: the outer header against the one that the signature covers.

A signature covers the body. Mail programs that protect the header repeat it inside: as a whole message
(message/rfc822), as fields of the signed part (RFC 9788, ``hp="clear"``), or in its older form
(``protected-headers="v1"``). What stands outside must then say the same, else somebody put another sender,
recipient or subject over the signer's words. Fields of the signed part without any declaration are compared
too.

Fields are compared by meaning: folding, encoded words, order of addresses, quoting of names and the zone of
a date may differ (transport rewrites these: noted); anything else is a difference. Where two programs may
read a value differently, only the same octets are the same. Reports name the field, never what stands in it.

(spec: RFC9788#2, RFC8551#3.1, signing.md 2.6)
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final
from unicodedata import category, normalize

from evidence.asn1.der import DerError
from evidence.mail.headers import (
    AddressSyntaxError,
    Group,
    Mailbox,
    address_list,
    decode_text,
    parameter,
    raw_text,
    strip_comments,
    unfold,
)
from evidence.mail.mime import MimeLimitError, Part, scan
from evidence.mail.smime import DEFAULT_SMIME_LIMITS, SmimeError, SmimeLimits, content_of, locate, read_signed
from evidence.ports import ByteSource
from evidence.report import Step, SubIndication, Verdict

STEP: Final = "6"
_NAME: Final = "what is shown is what was signed"
_ADDRESSES: Final = ("from", "sender", "reply-to", "to", "cc")
_COMPARED: Final = (*_ADDRESSES, "subject", "date", "message-id")
_ALL_COMPARED: Final = frozenset(_COMPARED)
_BY_TRANSPORT: Final = frozenset({"date", "message-id"})  # spec: RFC6409#8.2, RFC6409#8.3 (added if missing)
_MESSAGES: Final = frozenset({"message/rfc822", "message/global"})
_BLANKS: Final = re.compile(rb"[ \t]+")
_SPACES: Final = re.compile(r"\s+")
_WORD_CHARSET: Final = re.compile(rb"=\?([^?*]{1,64})(?:\*[^?]{0,64})?\?[bBqQ]\?")
_CHARSETS: Final = frozenset(
    {b"utf-8", b"us-ascii", b"iso-8859-1", b"iso-8859-9", b"iso-8859-15", b"windows-1252", b"windows-1254"}
)
"""Character sets that every mail program reads alike."""
_DATE_MAX: Final = 200
# spec: KEP-AD-02; the same as `directory.addresses.fold`, which a test proves (this library stands alone)
_FOLDS: Final = str.maketrans("çÇğĞıIİöÖşŞüÜâÂîÎûÛ", "ccggiiioossuuaaiiuu") | {0x307: None}


class Protection(StrEnum):
    """How the signed content repeats the header."""

    NONE = "none"
    MESSAGE = "message/rfc822"
    DECLARED = "hp"
    LEGACY = "protected-headers"
    UNDECLARED = "fields of the signed part"


_WHOLE: Final = frozenset({Protection.MESSAGE, Protection.DECLARED})  # what they lack, nobody signed


class Kind(StrEnum):
    """What was found about a field; the values are the codes of the report's steps."""

    DIFFERS = "header-differs"
    TWICE = "header-twice"
    REWRITTEN = "shown-as-signed"
    UNPROTECTED = "header-unprotected"


@dataclass(frozen=True, slots=True)
class Finding:
    """One field (lower-case name) and what is the matter with it, told without its content."""

    field: str
    kind: Kind
    detail: str


@dataclass(frozen=True, slots=True)
class Shown:
    """The comparison of an outer header with the signed one."""

    protection: Protection
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> tuple[Finding, ...]:
        """Return the differences, which no transport explains."""
        return tuple(one for one in self.findings if one.kind is not Kind.REWRITTEN)

    @property
    def differing_field(self) -> str:
        """Return the first field that differs or stands twice, or ""."""
        return next((one.field for one in self.refused), "") if self.findings else ""


_Fields = Mapping[str, tuple[bytes, ...]]


# --------------------------------------------------------------------------- report


def shown_steps(source: ByteSource, root: Part, *, limits: SmimeLimits = DEFAULT_SMIME_LIMITS) -> list[Step]:
    """Return step 6 of a sender's report and one step (6.1, 6.2, ...) for each field with a finding.

    Where there is no signed content to compare with, step 6 could not be made (``ok`` None): an earlier
    step has failed.

    Args:
        source: the message exactly as received.
        root: its structure, from `evidence.mail.mime.scan`.
        limits: caps for the signature.
    """
    signed = _signed_part(source, root, limits)
    if signed is None:
        return [Step(STEP, _NAME, None, "no signed content", code="nothing-to-compare")]
    return steps_of(compare_headers(root, signed))


def steps_of(shown: Shown) -> list[Step]:
    """Return a comparison as the steps of a report."""
    refused = shown.refused
    unprotected = shown.protection is Protection.NONE
    first = refused[0].kind if refused else Kind.UNPROTECTED if unprotected else Kind.REWRITTEN
    detail = f"header protection: {shown.protection}"
    if shown.findings:
        detail += "; " + ", ".join(one.field for one in shown.findings)
    steps = [_step(STEP, _NAME, detail, first)]
    for number, one in enumerate(shown.findings, 1):
        steps.append(_step(f"{STEP}.{number}", one.field, one.detail, one.kind))
    return steps


def _step(number: str, name: str, detail: str, kind: Kind) -> Step:
    if kind in (Kind.REWRITTEN, Kind.UNPROTECTED):
        return Step(number, name, ok=True if kind is Kind.REWRITTEN else None, detail=detail, code=kind)
    constraint = SubIndication.SIG_CONSTRAINTS_FAILURE
    return Step(number, name, False, detail, constraint, Verdict.INDETERMINATE, kind)  # noqa: FBT003 - `ok` by place


def _signed_part(source: ByteSource, root: Part, limits: SmimeLimits) -> Part | None:
    try:
        entity = locate(source, root, limits=limits)
        if entity.part is not None:
            return entity.part
        found = content_of(source, entity, read_signed(entity))
        return None if found is None else scan(found[0])
    except (SmimeError, DerError, MimeLimitError):
        return None


# --------------------------------------------------------------------------- comparison


def compare_headers(root: Part, signed: Part) -> Shown:
    """Compare what a mail program shows with what the signature covers.

    Args:
        root: the message; its header is the outer one.
        signed: the signed content as a part.
    """
    outside = _fields(root)
    protection, inside = _protected(signed)
    found = [
        Finding(name, Kind.TWICE, f"stands {len(values)} times {place}")
        for place, fields in (("outside", outside), ("inside the signature", inside))
        for name, values in fields.items()
        if len(values) > 1
    ]
    if signed.content_type in _MESSAGES and signed.message is None:
        found.append(
            Finding("content-type", Kind.DIFFERS, "the signed message is encoded: nothing to compare")
        )
    if protection is Protection.NONE:
        return Shown(protection, tuple(found))
    twice = {one.field for one in found}
    for name in _COMPARED:
        if name in twice:
            continue
        one = _finding(name, inside.get(name), outside.get(name), whole=protection in _WHOLE)
        if one is not None:
            found.append(one)
    return Shown(protection, tuple(found))


def _fields(part: Part) -> _Fields:
    """Return the values of the compared fields, in the order of `_COMPARED`."""
    found: dict[str, tuple[bytes, ...]] = {}
    for name, _, raw, _ in part.fields:
        if name in _ALL_COMPARED:
            found[name] = (*found[name], raw) if name in found else (raw,)
    return {name: found[name] for name in _COMPARED if name in found} if found else found


def _protected(signed: Part) -> tuple[Protection, _Fields]:
    if signed.message is not None:
        # spec: RFC8551#3.1: a message that was merely passed on is no header of this one
        if (parameter(signed.params, "forwarded") or "").lower() == "yes":
            return Protection.NONE, {}
        return Protection.MESSAGE, _fields(signed.message)
    fields = _fields(signed)
    if parameter(signed.params, "hp") is not None:
        return Protection.DECLARED, fields
    if parameter(signed.params, "protected-headers") is not None:
        return Protection.LEGACY, fields
    return (Protection.UNDECLARED, fields) if fields else (Protection.NONE, {})


def _finding(
    name: str, inside: tuple[bytes, ...] | None, outside: tuple[bytes, ...] | None, *, whole: bool
) -> Finding | None:
    """Compare one field that stands at most once on either side."""
    if inside is None:
        if outside is None or not whole:
            return None
        if name in _BY_TRANSPORT:
            return Finding(name, Kind.REWRITTEN, "added outside, the signature has none")
    signed, shown = (one[0] if one else b"" for one in (inside, outside))
    if _plain(signed) == _plain(shown):
        return None
    certain = _read_alike(signed) and _read_alike(shown)
    if certain and _SAME.get(name, _same_text)(signed, shown):
        return Finding(name, Kind.REWRITTEN, "written differently, the same meaning")
    missing = "missing outside" if outside is None else "not in the signed header" if inside is None else ""
    return Finding(name, Kind.DIFFERS, missing or "another value outside than signed")


def _plain(raw: bytes) -> bytes:
    """Return a value on one line with single blanks: what folding may change is gone."""
    return _BLANKS.sub(b" ", unfold(raw))


def _read_alike(raw: bytes) -> bool:
    """Say whether every program decodes the value to the same text."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    if any(found[1].lower() not in _CHARSETS for found in _WORD_CHARSET.finditer(raw)):
        return False
    text = decode_text(raw)
    return "\ufffd" not in text and not any(category(char) == "Cc" and char != "\t" for char in text)


def _text(text: str) -> str:
    return normalize("NFC", _SPACES.sub(" ", text)).strip()


def _same_text(signed: bytes, shown: bytes) -> bool:
    return _text(decode_text(signed)) == _text(decode_text(shown))


def _same_identifier(signed: bytes, shown: bytes) -> bool:
    return _identifier(signed) == _identifier(shown)


def _identifier(raw: bytes) -> bytes:
    return strip_comments(unfold(raw))[0].translate(None, b" \t")


def _same_date(signed: bytes, shown: bytes) -> bool:
    one, other = _date(signed), _date(shown)
    return one is not None and one == other


def _date(raw: bytes) -> datetime | None:
    value = unfold(raw)
    if len(value) > _DATE_MAX:
        return None
    try:
        found = parsedate_to_datetime(raw_text(value))
        # spec: RFC5322#3.3 (-0000 is universal time of an unknown zone, and comes out without one)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# --------------------------------------------------------------------------- addresses


def fold_address(text: str) -> str:
    """Return an address as KEP compares it: Turkish letters and case folded (spec: KEP-AD-02, KEP-AD-03)."""
    if text.isascii():
        return text.lower()
    folded = normalize("NFC", text).translate(_FOLDS)
    return "".join(char.lower() if char.isascii() else char for char in folded)


@dataclass(slots=True)
class _Addressed:
    """What an address field shows: names by folded address, names of groups, and comments."""

    names: dict[str, set[str]]
    labels: set[str]


def _same_addresses(signed: bytes, shown: bytes) -> bool:
    """Say whether both name the same addresses, and ``shown`` adds no name, group or comment of its own."""
    try:
        one, other = _addressed(signed), _addressed(shown)
    except AddressSyntaxError:
        return False
    if one.names.keys() != other.names.keys() or not other.labels <= one.labels:
        return False
    # a program that writes the address as its own name shows nothing new
    return all(names <= one.names[key] | {"", key} for key, names in other.names.items())


def _addressed(raw: bytes) -> _Addressed:
    found = _Addressed({}, _comments(unfold(raw)))
    for entry in address_list(raw):
        members: tuple[Mailbox, ...] = entry.members if isinstance(entry, Group) else (entry,)
        if isinstance(entry, Group):
            found.labels.add(_text(entry.name))
        for box in members:
            key = fold_address(box.address)
            name = _text(box.name)
            found.names.setdefault(key, set()).add(key if fold_address(name) == key else name)
    return found


def _comments(value: bytes) -> set[str]:
    """Return the comments of a value: programs show them as names (``a@b (Ayşe)``)."""
    if b"(" not in value:
        return set()
    found: set[str] = set()
    depth, quoted, escaped, start = 0, False, False, 0
    for at, char in enumerate(value):
        if escaped:
            escaped = False
        elif char == 0x5C:
            escaped = True
        elif char == 0x22 and not depth:
            quoted = not quoted
        elif char == 0x28 and not quoted:
            start = at + 1 if not depth else start
            depth += 1
        elif char == 0x29 and depth:
            depth -= 1
            if not depth:
                found.add(_text(decode_text(value[start:at])))
    return found


_SAME: Final[Mapping[str, Callable[[bytes, bytes], bool]]] = MappingProxyType(
    dict.fromkeys(_ADDRESSES, _same_addresses) | {"date": _same_date, "message-id": _same_identifier}
)
