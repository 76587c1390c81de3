"""Which folder somebody looks at, and what happened in it since they last looked."""

from dataclasses import dataclass
from datetime import datetime

from directory.accounts import Right
from kephs.domain.mailboxes import Folder, ItemSummary
from kephs.domain.messages import Person
from kephs.ports import Tx
from kephs.usecases.submission.rights import FolderGoneError, rights_of


@dataclass(frozen=True, slots=True)
class Place:
    """Which folder a caller looks at, and how far it has looked. The name may be an earlier one."""

    folder_id: int
    name: str
    modseq: int


@dataclass(frozen=True, slots=True)
class Delta:
    """What happened in a folder since a modification number: items new or changed, UIDs gone.

    ``name`` is the folder's name now; ``refused`` are UIDs that somebody had changed before (RFC 7162).
    """

    changed: tuple[ItemSummary, ...]
    expunged: tuple[int, ...]
    modseq: int
    rights: Right
    name: str
    refused: tuple[int, ...] = ()


def located(tx: Tx, person: Person, place: Place) -> Folder:
    """Return the folder as it is now; renaming does not lose it.

    Raises:
        FolderGoneError: the folder is not there any more.
    """
    folder = tx.mailboxes.folder(person.account_id, place.name)
    if folder is not None and folder.folder_id == place.folder_id:
        return folder
    for folder in tx.mailboxes.folders(person.account_id):
        if folder.folder_id == place.folder_id:
            return folder
    raise FolderGoneError


def changes_since(tx: Tx, person: Person, place: Place, at: datetime) -> Delta:
    """Return what happened since ``place.modseq``.

    Raises:
        FolderGoneError: the folder is not there any more.
    """
    folder = located(tx, person, place)
    rights = rights_of(tx, person, at)
    if folder.modseq <= place.modseq:
        return Delta((), (), folder.modseq, rights, folder.name)
    changed = tuple(tx.mailboxes.since(place.folder_id, place.modseq))
    expunged = tuple(tx.mailboxes.expunged_since(place.folder_id, place.modseq))
    return Delta(changed, expunged, folder.modseq, rights, folder.name)
