"""Folders of an account and the items in them, as mail clients see them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


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
