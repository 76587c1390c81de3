"""LIST and LSUB: which folders match, and what is said of them.

spec: RFC3501#6.3.8, RFC3501#6.3.9, RFC5258, RFC6154, RFC3348
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from kephs.domain.mailboxes import DELIMITER, Folder, FolderRole, superiors
from kephs.imap import mutf7
from kephs.imap.commands import Listing, ListReturn, ListSelection

_PIECE: Final = re.compile(r"[%*]+|[^%*]+")
_RECURSIVE: Final = frozenset({ListSelection.SUBSCRIBED, ListSelection.RECURSIVEMATCH})
_PIECES_MAX: Final = 40  # of one pattern: matching stays quick

SPECIAL_USE: Final[Mapping[FolderRole, bytes]] = MappingProxyType(
    {
        FolderRole.SENT: rb"\Sent",
        FolderRole.DRAFTS: rb"\Drafts",
        FolderRole.ARCHIVE: rb"\Archive",
        FolderRole.TRASH: rb"\Trash",
    }
)


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of an answer; ``folder`` is None for a level that holds folders but is none itself."""

    name: str
    folder: Folder | None
    line: bytes


def listed(request: Listing, folders: Sequence[Folder], *, utf8: bool = False) -> list[Listed]:
    """Return the answers to LIST or LSUB, in name order with INBOX first.

    Args:
        request: what is asked.
        folders: the account's folders.
        utf8: whether names are told in UTF-8.
    """
    if not request.extended and request.patterns == ("",):
        # spec: RFC3501#6.3.8 (an empty pattern asks for the delimiter)
        line = b'* %b (\\Noselect) "/" ""\r\n' % (b"LSUB" if request.lsub else b"LIST")
        return [Listed("", None, line)]
    by_name = {folder.name: folder for folder in folders}
    # spec: RFC3501#6.3.8 (INBOX in any case; a reference stands before the pattern)
    patterns = [request.reference + pattern for pattern in request.patterns]
    chosen = {name for name, folder in by_name.items() if _selects(request, folder)}
    holders = _levels(chosen)  # names with something chosen below them
    parents = _levels(by_name)
    if request.lsub:
        # spec: RFC3501#6.3.9 (a level is told where what is subscribed below it is not)
        names = chosen | _levels(name for name in chosen if not _matches_any(patterns, name))
    elif request.selection:
        names = chosen | holders if request.selection >= _RECURSIVE else chosen
    else:
        names = chosen | holders
    found: list[Listed] = []
    for name in sorted(names, key=lambda name: (name != "INBOX", name)):
        if _matches_any(patterns, name):
            folder = by_name.get(name)
            told = _Told(name, folder, name in chosen, name in parents, name in holders)
            found.append(Listed(name, folder, _line(request, told, utf8=utf8)))
    return found


@dataclass(frozen=True, slots=True)
class _Told:
    """One name: whether it is chosen, holds folders, and holds chosen ones."""

    name: str
    folder: Folder | None
    chosen: bool
    parent: bool
    holder: bool


def _selects(request: Listing, folder: Folder) -> bool:
    if (request.lsub or ListSelection.SUBSCRIBED in request.selection) and not folder.subscribed:
        return False
    return ListSelection.SPECIAL_USE not in request.selection or folder.role in SPECIAL_USE


def _matches_any(patterns: Sequence[str], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)


def _levels(names: Iterable[str]) -> set[str]:
    """Return every name that stands above one of these."""
    return {level for name in names for level in superiors(name)}


def matches(pattern: str, name: str) -> bool:
    """Say whether a list pattern finds a name; ``*`` takes anything, ``%`` all but the delimiter.

    Time is bounded by wildcards times the length of the name.
    """
    if name == "INBOX":  # spec: RFC3501#5.1 (in any case)
        pattern = pattern.upper()
    pieces = _PIECE.findall(pattern)
    if len(pieces) > _PIECES_MAX:
        return False
    places = {0}  # where the rest of the pattern may go on in the name
    for piece in pieces:
        if piece[0] not in "%*":
            places = {at + len(piece) for at in places if name.startswith(piece, at)}
        elif "*" in piece:
            places = set(range(min(places), len(name) + 1))
        else:
            places = {after for at in places for after in _level(name, at)}
        if not places:
            return False
    return len(name) in places


def _level(name: str, at: int) -> range:
    end = name.find(DELIMITER, at)
    return range(at, (len(name) if end < 0 else end) + 1)


def _line(request: Listing, told: _Told, *, utf8: bool) -> bytes:
    name = mutf7.wire(told.name, utf8=utf8)
    if request.lsub:
        return b'* LSUB (%b) "/" %b\r\n' % (b"" if told.chosen else rb"\Noselect", name)
    flags: list[bytes] = []
    if told.folder is None:
        flags.append(rb"\NonExistent" if request.extended else rb"\Noselect")
    flags.append(rb"\HasChildren" if told.parent else rb"\HasNoChildren")
    if told.folder is not None and told.folder.role in SPECIAL_USE:
        flags.append(SPECIAL_USE[told.folder.role])
    asked = ListSelection.SUBSCRIBED in request.selection or ListReturn.SUBSCRIBED in request.returns
    if told.folder is not None and told.folder.subscribed and asked:
        flags.append(rb"\Subscribed")
    line = b'* LIST (%b) "/" %b' % (b" ".join(flags), name)
    if told.holder and request.selection >= _RECURSIVE:
        line += b' ("CHILDINFO" ("SUBSCRIBED"))'
    return line + b"\r\n"
