"""The grammar of commands: one whole command in, its value out. Pure, linear, never deep.

spec: RFC3501#9, RFC4959, RFC2971, RFC4466, RFC5161, RFC6851, RFC7162#7
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from kephs.imap import commands as c
from kephs.imap.cursor import Cursor, GrammarError
from kephs.imap.fetch_grammar import fetch
from kephs.imap.folder_grammar import FLAGS_MAX, FOLDER_COMMANDS, flag, flag_list
from kephs.imap.search_grammar import parse_search

_TAG: Final = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,64}(?= |\Z)")


class CommandError(GrammarError):
    """A command that cannot be understood; ``tag`` is its tag (``*`` where none was recognised)."""

    def __init__(self, tag: bytes, text: str) -> None:
        super().__init__(text)
        self.tag = tag


def parse(data: bytes, *, utf8: bool = False) -> c.Command:
    """Parse one command as `kephs.imap.framing` cut it; an APPEND ends with the announcement of its literal.

    Args:
        data: the command.
        utf8: whether the client enabled UTF8=ACCEPT (RFC 6855).

    Raises:
        CommandError: it is none; the text may be shown to the client.
        SearchCharsetError: a SEARCH in a character set that is not read.
    """
    found = _TAG.match(data)
    if found is None:
        raise CommandError(b"*", "a tag is missing")
    tag = found[0]
    cursor = Cursor(data, found.end(), utf8=utf8)
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


# --- STORE and the table ----------------------------------------------------------------------------


def _store(*, uid: bool) -> Callable[[Cursor], c.Body]:
    def read(cursor: Cursor) -> c.Body:
        cursor.expect(b" ")
        numbers = cursor.numbers()
        cursor.expect(b" ")
        unchanged_since = None
        if cursor.skips(b"("):  # spec: RFC4466#2.5, RFC7162#3.1.3
            if cursor.word() != "UNCHANGEDSINCE":
                raise GrammarError("unknown modifier")
            cursor.expect(b" ")
            unchanged_since = cursor.modseq()
            cursor.expect(b") ")
        mode = c.StoreMode.REPLACE
        if cursor.skips(b"+"):
            mode = c.StoreMode.ADD
        elif cursor.skips(b"-"):
            mode = c.StoreMode.REMOVE
        word = cursor.word()
        if word not in ("FLAGS", "FLAGS.SILENT"):
            raise GrammarError("FLAGS expected")
        cursor.expect(b" ")
        return c.Store(numbers, mode, word == "FLAGS.SILENT", _flags(cursor), uid, unchanged_since)

    return read


def _flags(cursor: Cursor) -> frozenset[str]:
    if cursor.sees(b"("):
        return flag_list(cursor)
    found = [flag(cursor)]
    while cursor.skips(b" "):
        found.append(flag(cursor))
        if len(found) > FLAGS_MAX:
            raise GrammarError("a list is too long")
    return frozenset(found)


def _search(*, uid: bool) -> Callable[[Cursor], c.Body]:
    def read(cursor: Cursor) -> c.Body:
        cursor.expect(b" ")
        found = parse_search(cursor, uid=uid)
        if found is None:
            raise SearchCharsetError("character set")
        return found

    return read


def _copy(*, uid: bool, move: bool) -> Callable[[Cursor], c.Body]:
    def read(cursor: Cursor) -> c.Body:
        cursor.expect(b" ")
        numbers = cursor.numbers()
        cursor.expect(b" ")
        return c.Copy(numbers, cursor.mailbox(), uid, move)

    return read


def _enable(cursor: Cursor) -> c.Body:
    cursor.expect(b" ")
    names = [cursor.atom()]
    while cursor.skips(b" "):
        names.append(cursor.atom())
    return c.Enable(frozenset(name.decode("ascii").upper() for name in names))


def _uid_expunge(cursor: Cursor) -> c.Body:
    cursor.expect(b" ")
    return c.UidExpunge(cursor.numbers())


_COMMANDS: Final[Mapping[str, Callable[[Cursor], c.Body]]] = MappingProxyType(
    {verb.value: _bare(verb) for verb in c.Verb}
    | {
        "ID": _id,
        "LOGIN": _login,
        "AUTHENTICATE": _authenticate,
        "ENABLE": _enable,
        "FETCH": fetch(uid=False),
        "STORE": _store(uid=False),
        "SEARCH": _search(uid=False),
        "COPY": _copy(uid=False, move=False),
        "MOVE": _copy(uid=False, move=True),
    }
    | dict(FOLDER_COMMANDS)
)
_UID_COMMANDS: Final[Mapping[str, Callable[[Cursor], c.Body]]] = MappingProxyType(
    {
        "FETCH": fetch(uid=True),
        "STORE": _store(uid=True),
        "SEARCH": _search(uid=True),
        "EXPUNGE": _uid_expunge,
        "COPY": _copy(uid=True, move=False),
        "MOVE": _copy(uid=True, move=True),
    }
)
