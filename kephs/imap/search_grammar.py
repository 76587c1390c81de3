"""The grammar of SEARCH keys, with caps on how deep and how many they are.

spec: RFC3501#6.4.4, RFC4466#2.6, RFC4731#3, RFC7162#3.1.5
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kephs.imap import search_keys as c
from kephs.imap.commands import Search, SearchReturn
from kephs.imap.cursor import Cursor, GrammarError

DEPTH_MAX: Final = 32
KEYS_MAX: Final = 1_000
_CHARSETS: Final = frozenset({"UTF-8", "US-ASCII"})

_NEVER: Final = c.Not(c.All())
_FLAGS: Final = ("Answered", "Deleted", "Draft", "Flagged", "Seen")
_FIXED: Final[Mapping[str, c.SearchKey]] = MappingProxyType(
    {
        "ALL": c.All(),
        "OLD": c.All(),  # nothing is ever recent
        "NEW": _NEVER,
        "RECENT": _NEVER,
        **{flag.upper(): c.HasFlag(f"\\{flag}") for flag in _FLAGS},
        **{f"UN{flag.upper()}": c.Not(c.HasFlag(f"\\{flag}")) for flag in _FLAGS},
    }
)
_DATES: Final[Mapping[str, c.Compare]] = MappingProxyType(
    {"BEFORE": c.Compare.BEFORE, "ON": c.Compare.ON, "SINCE": c.Compare.SINCE}
)
_FIELDS: Final = frozenset({"BCC", "CC", "FROM", "SUBJECT", "TO"})


def parse_search(cursor: Cursor, *, uid: bool) -> Search | None:
    """Read a SEARCH to the end; None where its character set is not read.

    Raises:
        GrammarError: no search keys, or too many or too deep.
    """
    returns: frozenset[SearchReturn] | None = None
    if cursor.data[cursor.at : cursor.at + 8].upper() == b"RETURN (":
        cursor.at += 7
        asked = frozenset(cursor.listed(lambda: _return(cursor), 10))
        returns = asked or frozenset({SearchReturn.ALL})  # spec: RFC4731#3.1
        cursor.expect(b" ")
    if cursor.data[cursor.at : cursor.at + 8].upper() == b"CHARSET ":
        if cursor.utf8:
            raise GrammarError("CHARSET has no place after ENABLE UTF8=ACCEPT")  # spec: RFC6855#3
        cursor.at += 8
        if cursor.astring().decode("latin-1").upper() not in _CHARSETS:
            return None
        cursor.expect(b" ")
    keys = _Keys(cursor)
    key = keys.together(0, closing=b"")
    return Search(key, uid, returns, keys.modseq)


def _return(cursor: Cursor) -> SearchReturn:
    try:
        return SearchReturn(cursor.word())
    except ValueError as error:
        raise GrammarError("unknown option") from error


class _Keys:
    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._count = 0
        self.modseq = False  # whether a key asks for modification numbers

    def together(self, depth: int, *, closing: bytes) -> c.SearchKey:
        keys = [self._key(depth)]
        while self._cursor.skips(b" "):
            keys.append(self._key(depth))
        if closing:
            self._cursor.expect(closing)
        return keys[0] if len(keys) == 1 else c.And(tuple(keys))

    def _key(self, depth: int) -> c.SearchKey:
        self._count += 1
        if depth > DEPTH_MAX or self._count > KEYS_MAX:
            raise GrammarError("too many search keys")
        cursor = self._cursor
        if cursor.skips(b"("):
            return self.together(depth + 1, closing=b")")
        if cursor.sees_numbers():
            return c.Numbers(cursor.numbers(), uid=False)
        word = cursor.word()
        if (fixed := _FIXED.get(word)) is not None:
            return fixed
        cursor.expect(b" ")
        if word == "NOT":
            return c.Not(self._key(depth + 1))
        if word == "OR":
            first = self._key(depth + 1)
            cursor.expect(b" ")
            return c.Or(first, self._key(depth + 1))
        return self._with_argument(word)

    def _with_argument(self, word: str) -> c.SearchKey:
        cursor = self._cursor
        if word in _FIELDS:
            return c.InHeader(word.lower(), cursor.text())
        if word in ("BODY", "TEXT"):
            return c.InText(cursor.text(), header_too=word == "TEXT")
        if word in _DATES:
            return c.Received(_DATES[word], cursor.date())
        if word.startswith("SENT") and word[4:] in _DATES:
            return c.Sent(_DATES[word[4:]], cursor.date())
        return self._rarer(word)

    def _rarer(self, word: str) -> c.SearchKey:
        cursor = self._cursor
        match word:
            case "HEADER":
                name = cursor.text().lower()
                cursor.expect(b" ")
                return c.InHeader(name, cursor.text())
            case "KEYWORD" | "UNKEYWORD":
                flag = c.HasFlag(cursor.atom().decode("ascii"))
                return flag if word == "KEYWORD" else c.Not(flag)
            case "LARGER" | "SMALLER":
                compare = c.Compare.LARGER if word == "LARGER" else c.Compare.BEFORE
                return c.Size(compare, cursor.number())
            case "MODSEQ":
                self.modseq = True
                if cursor.sees(b'"'):  # spec: RFC7162#3.1.5 (the entry makes no difference here)
                    cursor.string()
                    cursor.expect(b" ")
                    if cursor.word() not in ("ALL", "PRIV", "SHARED"):
                        raise GrammarError("unknown entry type")
                    cursor.expect(b" ")
                return c.Changed(cursor.modseq())
            case "UID":
                return c.Numbers(cursor.numbers(), uid=True)
            case _:
                raise GrammarError("unknown search key")
