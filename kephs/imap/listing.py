"""LIST and LSUB: which folders match, and what is said of them.

spec: RFC3501#6.3.8, RFC5258, RFC6154
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from kephs.domain.mailboxes import Folder, FolderRole
from kephs.imap import mutf7, render
from kephs.imap.commands import Listing, ListReturn, ListSelection

DELIMITER: Final = "/"
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


def listed(request: Listing, folders: Sequence[Folder]) -> list[Listed]:
    """Return the answers to LIST or LSUB, in name order with INBOX first."""
    by_name = {folder.name: folder for folder in folders}
    if not request.extended and request.patterns == ("",):
        # spec: RFC3501#6.3.8 (an empty pattern asks for the delimiter)
        line = b'* %b (\\Noselect) "/" ""\r\n' % (b"LSUB" if request.lsub else b"LIST")
        return [Listed("", None, line)]
    # spec: RFC3501#6.3.8 (INBOX in any case; a reference stands before the pattern)
    patterns = [request.reference + pattern for pattern in request.patterns]
    names = _with_levels(by_name)
    found: list[Listed] = []
    for name in sorted(names, key=lambda name: (name != "INBOX", name)):
        if not any(matches(pattern, name) for pattern in patterns):
            continue
        folder = by_name.get(name)
        # subscriptions are of folders; LIST shows a level itself only where it is asked about all names
        wanted = folder is not None or not request.selection
        if ListSelection.SPECIAL_USE in request.selection:
            wanted = folder is not None and folder.role in SPECIAL_USE
        below = any(other.startswith(name + DELIMITER) for other in by_name)
        if wanted or (below and request.selection >= _RECURSIVE):
            found.append(Listed(name, folder, _line(request, name, folder, below=below)))
    return found


def _with_levels(by_name: Mapping[str, Folder]) -> set[str]:
    names = set(by_name)
    for name in by_name:
        pieces = name.split(DELIMITER)
        names.update(DELIMITER.join(pieces[:end]) for end in range(1, len(pieces)))
    return names


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


def _line(request: Listing, name: str, folder: Folder | None, *, below: bool) -> bytes:
    flags: list[bytes] = []
    if folder is None:
        flags.append(rb"\NonExistent" if request.extended else rb"\Noselect")
    if not request.lsub:
        flags.append(rb"\HasChildren" if below else rb"\HasNoChildren")
        if folder is not None and folder.role in SPECIAL_USE:
            flags.append(SPECIAL_USE[folder.role])
    subscribed = ListSelection.SUBSCRIBED in request.selection or ListReturn.SUBSCRIBED in request.returns
    if folder is not None and subscribed:
        flags.append(rb"\Subscribed")
    line = b'* %b (%b) "/" %b' % (
        b"LSUB" if request.lsub else b"LIST",
        b" ".join(flags),
        render.astring(mutf7.encode(name)),
    )
    if below and request.selection >= _RECURSIVE:
        line += b' ("CHILDINFO" ("SUBSCRIBED"))'
    return line + b"\r\n"
