"""The grammar of commands: one whole command in, its value out. Pure, linear, never deep.

spec: RFC3501#9, RFC5258#6, RFC6154#6, RFC4959, RFC2971
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from kephs.imap import commands as c
from kephs.imap.cursor import Cursor, GrammarError
from kephs.imap.fetch_grammar import fetch
from kephs.imap.search_grammar import parse_search

E = TypeVar("E")

_TAG: Final = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,64}(?= |\Z)")
_SYSTEM_FLAGS: Final = {
    flag.lower(): flag for flag in ("\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft")
}
_FLAGS_MAX: Final = 50
_KEYWORD_MAX: Final = 64
_PATTERNS_MAX: Final = 50


class CommandError(GrammarError):
    """A command that cannot be understood; ``tag`` is its tag (``*`` where none was recognised)."""

    def __init__(self, tag: bytes, text: str) -> None:
        super().__init__(text)
        self.tag = tag


def parse(data: bytes) -> c.Command:
    """Parse one command as `kephs.imap.framing` cut it.

    Raises:
        CommandError: it is none; the text may be shown to the client.
        SearchCharsetError: a SEARCH in a character set that is not read.
    """
    found = _TAG.match(data)
    if found is None:
        raise CommandError(b"*", "a tag is missing")
    tag = found[0]
    cursor = Cursor(data, found.end())
    try:
        cursor.expect(b" ")
        verb = cursor.word()
        uid = verb == "UID"
        if uid:
            cursor.expect(b" ")
            verb = cursor.word()
        body = (_UID_COMMANDS if uid else _COMMANDS).get(verb, _unknown)(cursor)
        cursor.end()
    except GrammarError as error:
        if isinstance(error, SearchCharsetError):
            error.tag = tag
            raise
        raise CommandError(tag, str(error)) from error
    return c.Command(tag, body)


class SearchCharsetError(GrammarError):
    """SEARCH named a character set that is not read; the answer is ``NO [BADCHARSET ...]``."""

    tag = b"*"


def _unknown(_: Cursor) -> c.Body:
    raise GrammarError("unknown command")


def _bare(verb: c.Verb) -> Callable[[Cursor], c.Body]:
    return lambda _: c.Bare(verb)


def _unoffered(verb: str) -> Callable[[Cursor], c.Body]:
    def read(cursor: Cursor) -> c.Body:
        cursor.at = len(cursor.data)
        return c.Unoffered(verb)

    return read


def _id(cursor: Cursor) -> c.Body:
    cursor.expect(b" ")
    if cursor.data[cursor.at : cursor.at + 3].upper() == b"NIL":
        cursor.at += 3
        return c.Identify()
    cursor.listed(lambda: _nstring(cursor), 60)  # spec: RFC2971#3.3 (30 pairs)
    return c.Identify()


def _nstring(cursor: Cursor) -> bytes | None:
    if cursor.data[cursor.at : cursor.at + 3].upper() == b"NIL":
        cursor.at += 3
        return None
    return cursor.string()


def _login(cursor: Cursor) -> c.Body:
    cursor.expect(b" ")
    user = cursor.text()
    cursor.expect(b" ")
    return c.Login(user, cursor.text())


def _authenticate(cursor: Cursor) -> c.Body:
    cursor.expect(b" ")
    mechanism = cursor.word()
    initial = cursor.base64() if cursor.skips(b" ") else None
    return c.Authenticate(mechanism, initial)


def _select(*, read_only: bool) -> Callable[[Cursor], c.Body]:
    def read(cursor: Cursor) -> c.Body:
        cursor.expect(b" ")
        return c.Select(cursor.mailbox(), read_only)

    return read


def _subscribe(*, on: bool) -> Callable[[Cursor], c.Body]:
    def read(cursor: Cursor) -> c.Body:
        cursor.expect(b" ")
        return c.Subscribe(cursor.mailbox(), on)

    return read


# --- LIST and STATUS ------------------------------------------------------------------------------


def _status(cursor: Cursor) -> c.Body:
    cursor.expect(b" ")
    mailbox = cursor.mailbox()
    cursor.expect(b" ")
    return c.Status(mailbox, _status_items(cursor))


def _status_items(cursor: Cursor) -> tuple[c.StatusItem, ...]:
    items = cursor.listed(lambda: _one_of(cursor, c.StatusItem), 20)
    if not items:
        raise GrammarError("an item is missing")
    return items


def _one_of(cursor: Cursor, kind: Callable[[str], E]) -> E:
    try:
        return kind(cursor.word())
    except ValueError as error:
        raise GrammarError("unknown option") from error


def _lsub(cursor: Cursor) -> c.Body:
    cursor.expect(b" ")
    reference = cursor.mailbox()
    cursor.expect(b" ")
    return c.Listing(reference, (cursor.pattern(),), lsub=True)


def _list(cursor: Cursor) -> c.Body:
    cursor.expect(b" ")
    selection: frozenset[c.ListSelection] = frozenset()
    extended = cursor.sees(b"(")
    if extended:
        selection = frozenset(cursor.listed(lambda: _one_of(cursor, c.ListSelection), 10))
        cursor.expect(b" ")
        # spec: RFC5258#3.1
        if c.ListSelection.RECURSIVEMATCH in selection and not selection & {
            c.ListSelection.SUBSCRIBED,
            c.ListSelection.SPECIAL_USE,
        }:
            raise GrammarError("RECURSIVEMATCH needs another option")
    reference = cursor.mailbox()
    cursor.expect(b" ")
    if cursor.sees(b"("):
        extended = True
        patterns = cursor.listed(cursor.pattern, _PATTERNS_MAX)
        if not patterns:
            raise GrammarError("a pattern is missing")
    else:
        patterns = (cursor.pattern(),)
    returns: tuple[c.ListReturn, ...] = ()
    status: list[c.StatusItem] = []
    if cursor.skips(b" "):
        extended = True
        if cursor.word() != "RETURN":
            raise GrammarError("RETURN expected")
        cursor.expect(b" ")
        returns = cursor.listed(lambda: _list_return(cursor, status), 10)
    return c.Listing(reference, patterns, selection, frozenset(returns), tuple(status), extended=extended)


def _list_return(cursor: Cursor, status: list[c.StatusItem]) -> c.ListReturn:
    found = _one_of(cursor, c.ListReturn)
    if found is c.ListReturn.STATUS:
        cursor.expect(b" ")
        status.extend(_status_items(cursor))
    return found


# --- STORE and the table ----------------------------------------------------------------------------


def _store(*, uid: bool) -> Callable[[Cursor], c.Body]:
    def read(cursor: Cursor) -> c.Body:
        cursor.expect(b" ")
        numbers = cursor.numbers()
        cursor.expect(b" ")
        mode = c.StoreMode.REPLACE
        if cursor.skips(b"+"):
            mode = c.StoreMode.ADD
        elif cursor.skips(b"-"):
            mode = c.StoreMode.REMOVE
        word = cursor.word()
        if word not in ("FLAGS", "FLAGS.SILENT"):
            raise GrammarError("FLAGS expected")
        cursor.expect(b" ")
        if cursor.sees(b"("):
            flags = cursor.listed(lambda: _flag(cursor), _FLAGS_MAX)
        else:
            found = [_flag(cursor)]
            while cursor.skips(b" "):
                found.append(_flag(cursor))
                if len(found) > _FLAGS_MAX:
                    raise GrammarError("a list is too long")
            flags = tuple(found)
        return c.Store(numbers, mode, word == "FLAGS.SILENT", frozenset(flags), uid)

    return read


def _flag(cursor: Cursor) -> str:
    system = cursor.skips(b"\\")
    name = cursor.atom().decode("ascii")
    if system:
        flag = _SYSTEM_FLAGS.get("\\" + name.lower())
        if flag is None:
            raise GrammarError("unknown flag")
        return flag
    if len(name) > _KEYWORD_MAX:
        raise GrammarError("a keyword is too long")
    return name


def _search(*, uid: bool) -> Callable[[Cursor], c.Body]:
    def read(cursor: Cursor) -> c.Body:
        cursor.expect(b" ")
        key = parse_search(cursor)
        if key is None:
            raise SearchCharsetError("character set")
        return c.Search(key, uid)

    return read


def _uid_expunge(cursor: Cursor) -> c.Body:
    cursor.expect(b" ")
    return c.UidExpunge(cursor.numbers())


_COMMANDS: Final[Mapping[str, Callable[[Cursor], c.Body]]] = MappingProxyType(
    {verb.value: _bare(verb) for verb in c.Verb}
    | {
        "ID": _id,
        "LOGIN": _login,
        "AUTHENTICATE": _authenticate,
        "SELECT": _select(read_only=False),
        "EXAMINE": _select(read_only=True),
        "LIST": _list,
        "LSUB": _lsub,
        "STATUS": _status,
        "SUBSCRIBE": _subscribe(on=True),
        "UNSUBSCRIBE": _subscribe(on=False),
        "FETCH": fetch(uid=False),
        "STORE": _store(uid=False),
        "SEARCH": _search(uid=False),
    }
    | {verb: _unoffered(verb) for verb in ("CREATE", "DELETE", "RENAME", "COPY", "MOVE", "APPEND")}
)
_UID_COMMANDS: Final[Mapping[str, Callable[[Cursor], c.Body]]] = MappingProxyType(
    {
        "FETCH": fetch(uid=True),
        "STORE": _store(uid=True),
        "SEARCH": _search(uid=True),
        "EXPUNGE": _uid_expunge,
    }
    | {verb: _unoffered(verb) for verb in ("COPY", "MOVE")}
)
