"""The grammar of commands that name mailboxes: SELECT, LIST, STATUS, CREATE, APPEND and the like.

spec: RFC3501#9, RFC5258#6, RFC6154#6, RFC9208#7, RFC3516#7, RFC6855#4, RFC7162#7
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from kephs.imap import commands as c
from kephs.imap.cursor import Cursor, GrammarError

E = TypeVar("E")

FLAGS_MAX: Final = 50
_SYSTEM_FLAGS: Final = {
    name.lower(): name for name in ("\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft")
}
_KEYWORD_MAX: Final = 64
_PATTERNS_MAX: Final = 50
_ANNOUNCED: Final = re.compile(rb"\{([0-9]{1,10})\+?\}\Z")


def _select(*, read_only: bool) -> Callable[[Cursor], c.Body]:
    def read(cursor: Cursor) -> c.Body:
        cursor.expect(b" ")
        mailbox = cursor.mailbox()
        condstore = False
        if cursor.skips(b" "):  # spec: RFC4466#2.1
            names = cursor.listed(cursor.word, 10)
            condstore = names == ("CONDSTORE",)
            if not condstore:
                raise GrammarError("unknown parameter")
        return c.Select(mailbox, read_only, condstore)

    return read


def _on_mailbox(make: Callable[[str], c.Body]) -> Callable[[Cursor], c.Body]:
    def read(cursor: Cursor) -> c.Body:
        cursor.expect(b" ")
        return make(cursor.mailbox())

    return read


def _rename(cursor: Cursor) -> c.Body:
    cursor.expect(b" ")
    name = cursor.mailbox()
    cursor.expect(b" ")
    return c.Rename(name, cursor.mailbox())


def _get_quota(cursor: Cursor) -> c.Body:
    cursor.expect(b" ")
    return c.GetQuota(cursor.text())


def _set_quota(cursor: Cursor) -> c.Body:
    cursor.at = len(cursor.data)
    return c.SetQuota()


# --- APPEND ---------------------------------------------------------------------------------------


def _append(cursor: Cursor) -> c.Body:
    cursor.expect(b" ")
    mailbox = cursor.mailbox()
    cursor.expect(b" ")
    flags: frozenset[str] = frozenset()
    at = None
    if cursor.sees(b"("):
        flags = flag_list(cursor)
        cursor.expect(b" ")
    if cursor.sees(b'"'):
        at = cursor.date_time()
        cursor.expect(b" ")
    utf8 = cursor.data[cursor.at : cursor.at + 6].upper() == b"UTF8 ("
    if utf8:
        if not cursor.utf8:  # spec: RFC6855#4
            raise GrammarError("UTF8=ACCEPT is not enabled")
        cursor.at += 6
        cursor.expect(b"~")
    else:
        cursor.skips(b"~")  # spec: RFC3516#4.4
    size = int(cursor.match(_ANNOUNCED, "a literal")[1])
    return c.Append(mailbox, flags, at, size, utf8)


def flag_list(cursor: Cursor) -> frozenset[str]:
    """Read flags in brackets."""
    return frozenset(cursor.listed(lambda: flag(cursor), FLAGS_MAX))


def flag(cursor: Cursor) -> str:
    r"""Read a flag or keyword; ``\Recent`` is none that clients set."""
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


FOLDER_COMMANDS: Final[Mapping[str, Callable[[Cursor], c.Body]]] = MappingProxyType(
    {
        "SELECT": _select(read_only=False),
        "EXAMINE": _select(read_only=True),
        "LIST": _list,
        "LSUB": _lsub,
        "STATUS": _status,
        "SUBSCRIBE": _on_mailbox(lambda name: c.Subscribe(name, on=True)),
        "UNSUBSCRIBE": _on_mailbox(lambda name: c.Subscribe(name, on=False)),
        "CREATE": _on_mailbox(c.Create),
        "DELETE": _on_mailbox(c.Delete),
        "RENAME": _rename,
        "APPEND": _append,
        "GETQUOTA": _get_quota,
        "GETQUOTAROOT": _on_mailbox(c.GetQuotaRoot),
        "SETQUOTA": _set_quota,
    }
)
