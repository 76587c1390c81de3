"""LIST and LSUB: which folders match, and what is said of them.

spec: RFC3501#6.3.8, RFC3501#6.3.9, RFC5258, RFC6154, RFC3348
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    if request.lsub:
        # spec: RFC3501#6.3.9 (a level is told where what is subscribed below it is not)
        names = chosen | _levels(name for name in chosen if not _matches_any(patterns, name))
    elif request.selection:
        names = chosen | holders if request.selection >= _RECURSIVE else chosen
    else:
        names = chosen | holders
    return [
        Listed(name, by_name.get(name) if name in chosen or not request.lsub else None, line)
        for name in sorted(names, key=lambda name: (name != "INBOX", name))
        if _matches_any(patterns, name)
        for line in [_line(request, name, by_name, chosen, holders, utf8=utf8)]
    ]


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


def _line(
    request: Listing,
    name: str,
    by_name: Mapping[str, Folder],
    chosen: Collection[str],
    holders: Collection[str],
    *,
    utf8: bool,
) -> bytes:
    folder = by_name.get(name)
    if request.lsub:
        flags = [] if name in chosen else [rb"\Noselect"]
        return b'* LSUB (%b) "/" %b\r\n' % (b" ".join(flags), mutf7.wire(name, utf8=utf8))
    flags = []
    if folder is None:
        flags.append(rb"\NonExistent" if request.extended else rb"\Noselect")
    below = any(other.startswith(name + DELIMITER) for other in by_name)
    flags.append(rb"\HasChildren" if below else rb"\HasNoChildren")
    if folder is not None and folder.role in SPECIAL_USE:
        flags.append(SPECIAL_USE[folder.role])
    asked = ListSelection.SUBSCRIBED in request.selection or ListReturn.SUBSCRIBED in request.returns
    if folder is not None and folder.subscribed and asked:
        flags.append(rb"\Subscribed")
    line = b'* LIST (%b) "/" %b' % (b" ".join(flags), mutf7.wire(name, utf8=utf8))
    if name in holders and request.selection >= _RECURSIVE:
        line += b' ("CHILDINFO" ("SUBSCRIBED"))'
    return line + b"\r\n"
