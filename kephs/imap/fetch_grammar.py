"""The grammar of FETCH items and sections.

spec: RFC3501#6.4.5, RFC3501#9, RFC3516#7, RFC7162#7, RFC8970#6
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from kephs.imap import commands as c
from kephs.imap.cursor import NUMBER_MAX, Cursor, GrammarError

_ITEMS_MAX: Final = 200
_PARTS_MAX: Final = 32  # as deep as the MIME scanner goes
_FIELDS_MAX: Final = 500
_PLAIN_ITEMS: Final[Mapping[str, c.ItemKind]] = MappingProxyType(
    {
        kind.value: kind
        for kind in (
            c.ItemKind.FLAGS,
            c.ItemKind.UID,
            c.ItemKind.INTERNALDATE,
            c.ItemKind.SIZE,
            c.ItemKind.ENVELOPE,
            c.ItemKind.STRUCTURE,
            c.ItemKind.BODY,
            c.ItemKind.MODSEQ,
        )
    }
)
_RFC822: Final[Mapping[str, tuple[c.SectionText, bool]]] = MappingProxyType(
    {
        "RFC822": (c.SectionText.ALL, False),
        "RFC822.HEADER": (c.SectionText.HEADER, True),
        "RFC822.TEXT": (c.SectionText.TEXT, False),
    }
)
_FAST: Final = (c.ItemKind.FLAGS, c.ItemKind.INTERNALDATE, c.ItemKind.SIZE)
_MACROS: Final[Mapping[str, tuple[c.ItemKind, ...]]] = MappingProxyType(
    {
        "FAST": _FAST,
        "ALL": (*_FAST, c.ItemKind.ENVELOPE),
        "FULL": (*_FAST, c.ItemKind.ENVELOPE, c.ItemKind.BODY),
    }
)
_ITEM: Final = re.compile(rb"[A-Za-z0-9.]+")
_SECTION_PARTS: Final = re.compile(rb"[1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9})*")
_SECTION_TEXT: Final = re.compile(rb"[A-Za-z.]*")
_BINARY: Final = ("BINARY", "BINARY.PEEK", "BINARY.SIZE")
_PARTIAL: Final = re.compile(rb"<([0-9]{1,10})\.([1-9][0-9]{0,9})>")


def fetch(*, uid: bool) -> Callable[[Cursor], c.Body]:
    """Return the reader of FETCH or UID FETCH."""

    def read(cursor: Cursor) -> c.Body:
        cursor.expect(b" ")
        numbers = cursor.numbers()
        cursor.expect(b" ")
        if cursor.sees(b"("):
            items = cursor.listed(lambda: _item(cursor), _ITEMS_MAX)
            if not items:
                raise GrammarError("an item is missing")
        else:
            name = _ITEM.match(cursor.data, cursor.at)
            macro = _MACROS.get(name[0].decode("ascii").upper()) if name else None
            if macro is not None and name is not None:
                cursor.at = name.end()
                items = tuple(c.FetchItem(kind, label=kind.value.encode("ascii")) for kind in macro)
            else:
                items = (_item(cursor),)
        return c.Fetch(numbers, items, uid, _changed_since(cursor))

    return read


def _changed_since(cursor: Cursor) -> int | None:
    if not cursor.skips(b" "):  # spec: RFC4466#2.4, RFC7162#3.1.4.1
        return None
    cursor.expect(b"(")
    if cursor.word() != "CHANGEDSINCE":
        raise GrammarError("unknown modifier")
    cursor.expect(b" ")
    modseq = cursor.modseq()
    cursor.expect(b")")
    return modseq


def _item(cursor: Cursor) -> c.FetchItem:
    name = cursor.match(_ITEM, "an item")[0].decode("ascii").upper()
    if cursor.sees(b"["):
        if name in _BINARY:
            return _binary(cursor, name)
        if name not in ("BODY", "BODY.PEEK"):
            raise GrammarError("unknown item")
        return _section(cursor, peek=name == "BODY.PEEK")
    if name == "PREVIEW":
        lazy = cursor.data[cursor.at : cursor.at + 7].upper() == b" (LAZY)"
        cursor.at += 7 if lazy else 0
        return c.FetchItem(c.ItemKind.PREVIEW, label=b"PREVIEW", lazy=lazy)
    if name in _RFC822:
        text, peek = _RFC822[name]
        return c.FetchItem(c.ItemKind.SECTION, c.Section((), text), peek, name.encode("ascii"))
    kind = _PLAIN_ITEMS.get(name)
    if kind is None:
        raise GrammarError("unknown item")
    return c.FetchItem(kind, label=name.encode("ascii"))


def _binary(cursor: Cursor, name: str) -> c.FetchItem:
    start = cursor.at
    cursor.expect(b"[")
    parts = _part_numbers(cursor)
    cursor.expect(b"]")
    label = cursor.data[start : cursor.at]
    if name == "BINARY.SIZE":
        section = c.Section(parts, c.SectionText.ALL)
        return c.FetchItem(c.ItemKind.BINARY_SIZE, section, label=b"BINARY.SIZE" + label)
    section = c.Section(parts, c.SectionText.ALL, partial=_partial(cursor))
    return c.FetchItem(c.ItemKind.BINARY, section, name == "BINARY.PEEK", b"BINARY" + label)


def _part_numbers(cursor: Cursor) -> tuple[int, ...]:
    found = _SECTION_PARTS.match(cursor.data, cursor.at)
    if found is None:
        return ()
    parts = tuple(int(number) for number in found[0].split(b"."))
    if len(parts) > _PARTS_MAX:
        raise GrammarError("a part number is too deep")
    cursor.at = found.end()
    return parts


def _section(cursor: Cursor, *, peek: bool) -> c.FetchItem:
    start = cursor.at
    cursor.expect(b"[")
    parts = _part_numbers(cursor)
    if parts and not cursor.sees(b"]"):
        cursor.expect(b".")
    word = cursor.match(_SECTION_TEXT, "a section")[0].decode("ascii").upper()
    try:
        text = c.SectionText(word)
    except ValueError as error:
        raise GrammarError("unknown section") from error
    dotted = bool(parts) and cursor.data[cursor.at - 1 : cursor.at] == b"."
    if dotted or (text is c.SectionText.MIME and not parts):
        raise GrammarError("unknown section")
    label = cursor.data[start : cursor.at].upper()
    fields: tuple[str, ...] = ()
    if text in (c.SectionText.HEADER_FIELDS, c.SectionText.HEADER_FIELDS_NOT):
        cursor.expect(b" ")
        fields = cursor.listed(lambda: _field_name(cursor), _FIELDS_MAX)
        if not fields:
            raise GrammarError("a field name is missing")
        label += b" (" + b" ".join(_field_label(name) for name in fields) + b")"
    cursor.expect(b"]")
    lowered = tuple(name.lower() for name in fields)
    section = c.Section(parts, text, lowered, _partial(cursor))
    return c.FetchItem(c.ItemKind.SECTION, section, peek, b"BODY" + label + b"]")


def _partial(cursor: Cursor) -> tuple[int, int] | None:
    if not cursor.sees(b"<"):
        return None
    found = cursor.match(_PARTIAL, "an origin and a length")
    where = (int(found[1]), int(found[2]))
    if max(where) > NUMBER_MAX:
        raise GrammarError("a number is too large")
    return where


def _field_name(cursor: Cursor) -> str:
    raw = cursor.astring()
    if not raw or not raw.isascii() or any(byte <= 32 or byte in b'\x7f:"\\' for byte in raw):
        raise GrammarError("not a field name")
    return raw.decode("ascii")


def _field_label(name: str) -> bytes:
    plain = all(char.isalnum() or char in "-_" for char in name)
    return name.encode("ascii") if plain else b'"' + name.encode("ascii") + b'"'
