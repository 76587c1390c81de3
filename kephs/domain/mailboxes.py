"""Folders of an account and the items in them, as mail clients see them."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

DELIMITER: Final = "/"
DEPTH_MAX: Final = 8  # levels of a name
LEVEL_MAX: Final = 100  # characters of one level
NAME_MAX: Final = 300  # characters of a whole name
FOLDERS_MAX: Final = 500  # of one account, the standard ones included
ITEMS_MAX: Final = 100_000  # of one folder, as far as clients file them; what is delivered always fits


class FolderRole(StrEnum):
    """What a folder is for."""

    INBOX = "inbox"
    SENT = "sent"
    DRAFTS = "drafts"
    EVIDENCE = "evidence"
    ARCHIVE = "archive"
    TRASH = "trash"
    PLAIN = "plain"


STANDARD_FOLDERS: Final[tuple[tuple[str, FolderRole], ...]] = (
    ("INBOX", FolderRole.INBOX),
    ("Giden", FolderRole.SENT),
    ("Taslaklar", FolderRole.DRAFTS),
    ("Deliller", FolderRole.EVIDENCE),
    ("Arşiv", FolderRole.ARCHIVE),
    ("Çöp", FolderRole.TRASH),
)


# where clients put nothing: what arrives is filed by the provider alone, evidence too
FILED_BY_PROVIDER: Final = frozenset({FolderRole.INBOX, FolderRole.EVIDENCE})

# names that other interfaces give to standard folders (interfaces.md)
_ALIASES: Final = frozenset({"outbox", "inbox.sent"})
_WILDCARDS: Final = frozenset("%*")
_TURNING: Final = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))  # of text direction


class MailboxRefusal(StrEnum):
    """Why a change of folders, or filing something into one, is refused."""

    NO_SUCH_FOLDER = "no_such_folder"
    NO_SUCH_TARGET = "no_such_target"
    NAME_TAKEN = "name_taken"
    NAME_INVALID = "name_invalid"
    NAME_TOO_LONG = "name_too_long"
    TOO_MANY_FOLDERS = "too_many_folders"
    STANDARD_FOLDER = "standard_folder"
    INSIDE_ITSELF = "inside_itself"
    FILED_BY_PROVIDER = "filed_by_provider"
    OVER_QUOTA = "over_quota"
    TOO_BIG = "too_big"
    TOO_MANY_ITEMS = "too_many_items"
    FOLDER_FULL = "folder_full"
    EMPTY = "empty"
    HOLDS_NUL = "holds_nul"
    ITEMS_GONE = "items_gone"


def check_folder_name(name: str) -> MailboxRefusal | None:
    """Say why a name cannot be given to a folder; None where it can.

    Levels are parted by `DELIMITER`. Names are expected in NFC.
    """
    levels = name.split(DELIMITER)
    if len(name) > NAME_MAX or len(levels) > DEPTH_MAX or any(len(level) > LEVEL_MAX for level in levels):
        return MailboxRefusal.NAME_TOO_LONG
    if any(not level or level != level.strip() or level in (".", "..") for level in levels):
        return MailboxRefusal.NAME_INVALID
    if not _TURNING.union(_WILDCARDS).isdisjoint(name):
        return MailboxRefusal.NAME_INVALID
    if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name):
        return MailboxRefusal.NAME_INVALID
    if name.casefold() in _ALIASES:
        return MailboxRefusal.NAME_TAKEN
    return None


def superiors(name: str) -> list[str]:
    """Return the names above a name, the highest first."""
    levels = name.split(DELIMITER)
    return [DELIMITER.join(levels[:end]) for end in range(1, len(levels))]


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder. ``modseq`` rises with every change in it."""

    folder_id: int
    account_id: str
    name: str
    role: FolderRole
    uid_validity: int
    uid_next: int
    modseq: int
    messages: int
    unseen: int
    subscribed: bool = True


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to file."""

    sha256: bytes
    size: int
    received_at: datetime
    flags: frozenset[str] = frozenset()
    delivery_id: str | None = None  # the read gate hangs on it; never on Giden, Taslaklar, Deliller
    counts_for_quota: bool = True


@dataclass(frozen=True, slots=True)
class ItemSummary:
    """What lists and sequence numbers need."""

    uid: int
    size: int
    received_at: datetime
    flags: frozenset[str]
    modseq: int
    delivery_id: str | None
    gated: bool  # content still unread: only the header may be shown or searched


@dataclass(frozen=True, slots=True)
class Item:
    """An item with where its content lies and its index (header block and part tree)."""

    summary: ItemSummary
    sha256: bytes
    index: bytes
