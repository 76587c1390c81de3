"""What clients read where a command fails in a way that is no fault of the program.

spec: RFC3501#7.1, RFC5530, RFC4315#3, RFC7889#4, RFC9208#4.3
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kephs.domain.mailboxes import MailboxRefusal
from kephs.imap.selected import TooManyKeywordsError
from kephs.imap.states import RefusedError
from kephs.imap.view import NoSuchNumberError
from kephs.ports import StoreUnavailableError
from kephs.usecases.submission.rights import FolderGoneError, MailboxRefusedError, NotPermittedError

FAILURES: Final = (
    RefusedError,
    MailboxRefusedError,
    NoSuchNumberError,
    NotPermittedError,
    TooManyKeywordsError,
    StoreUnavailableError,
    FolderGoneError,
)

# what clients read where a change of the mailbox is refused
REFUSALS: Final[Mapping[MailboxRefusal, bytes]] = MappingProxyType(
    {
        MailboxRefusal.NO_SUCH_FOLDER: b"[NONEXISTENT] No such mailbox",
        MailboxRefusal.NO_SUCH_TARGET: b"[TRYCREATE] No such mailbox",
        MailboxRefusal.NAME_TAKEN: b"[ALREADYEXISTS] The name is taken",
        MailboxRefusal.NAME_INVALID: b"[CANNOT] No mailbox can have this name",
        MailboxRefusal.NAME_TOO_LONG: b"[LIMIT] The name is too long or too deep",
        MailboxRefusal.TOO_MANY_FOLDERS: b"[LIMIT] The account has too many mailboxes",
        MailboxRefusal.STANDARD_FOLDER: b"[CANNOT] A standard mailbox is neither deleted nor renamed",
        MailboxRefusal.INSIDE_ITSELF: b"[CANNOT] A mailbox cannot be moved into itself",
        MailboxRefusal.FILED_BY_PROVIDER: b"[CANNOT] Only the provider files messages in this mailbox",
        MailboxRefusal.OVER_QUOTA: b"[OVERQUOTA] The account has no room for this",
        MailboxRefusal.TOO_BIG: b"[TOOBIG] The message is larger than APPENDLIMIT",
        MailboxRefusal.TOO_MANY_ITEMS: b"[LIMIT] Too many messages at once",
        MailboxRefusal.FOLDER_FULL: b"[LIMIT] The mailbox holds too many messages",
        MailboxRefusal.EMPTY: b"[CANNOT] An empty message is not filed",
        MailboxRefusal.HOLDS_NUL: b"[UNKNOWN-CTE] A message with NUL octets is not filed",
        MailboxRefusal.ITEMS_GONE: b"[EXPUNGEISSUED] Some messages are gone; nothing was copied",
    }
)
_OTHERS: Final[Mapping[type[Exception], tuple[bytes, bytes]]] = MappingProxyType(
    {
        NoSuchNumberError: (b"BAD", b"No such message number"),
        NotPermittedError: (b"NO", b"[NOPERM] You have no right to do this for this account"),
        TooManyKeywordsError: (b"NO", b"[LIMIT] Too many keywords"),
        StoreUnavailableError: (b"NO", b"[UNAVAILABLE] Try again later"),
        FolderGoneError: (b"NO", b"[EXPUNGEISSUED] The mailbox was deleted meanwhile"),
    }
)


def explained(error: Exception) -> tuple[bytes, bytes]:
    """Return status and text of the tagged answer for one of `FAILURES`."""
    if isinstance(error, MailboxRefusedError):
        return b"NO", REFUSALS[error.refusal]
    if isinstance(error, RefusedError):
        return b"NO", str(error).encode("ascii")
    return next(answer for kind, answer in _OTHERS.items() if isinstance(error, kind))
