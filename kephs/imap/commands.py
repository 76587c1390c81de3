"""What clients ask, as values: one dataclass per command, section and search key.

What SEARCH looks for stands in `kephs.imap.search_keys`.

spec: RFC3501#6, RFC5258 (LIST), RFC2177 (IDLE), RFC2971 (ID), RFC7162 (CONDSTORE), RFC6851 (MOVE),
RFC9208 (QUOTA), RFC5161 (ENABLE), RFC3516 (BINARY)
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import TypeAlias

from kephs.imap.search_keys import NumberSet, SearchKey


class Verb(StrEnum):
    """Commands without arguments."""

    CAPABILITY = "CAPABILITY"
    NOOP = "NOOP"
    LOGOUT = "LOGOUT"
    NAMESPACE = "NAMESPACE"
    CHECK = "CHECK"
    CLOSE = "CLOSE"
    UNSELECT = "UNSELECT"
    EXPUNGE = "EXPUNGE"
    IDLE = "IDLE"
    STARTTLS = "STARTTLS"


@dataclass(frozen=True, slots=True)
class Bare:
    """A command without arguments."""

    verb: Verb


@dataclass(frozen=True, slots=True)
class Identify:
    """ID; what clients say of themselves is not kept."""


@dataclass(frozen=True, slots=True)
class Login:
    """LOGIN."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE; ``initial`` is the decoded initial response (RFC 4959), None where there is none."""

    mechanism: str
    initial: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT or EXAMINE."""

    mailbox: str
    read_only: bool
    condstore: bool = False


class StatusItem(StrEnum):
    """What STATUS can tell."""

    MESSAGES = "MESSAGES"
    RECENT = "RECENT"
    UIDNEXT = "UIDNEXT"
    UIDVALIDITY = "UIDVALIDITY"
    UNSEEN = "UNSEEN"
    SIZE = "SIZE"  # spec: RFC8438#3
    HIGHESTMODSEQ = "HIGHESTMODSEQ"
    APPENDLIMIT = "APPENDLIMIT"
    DELETED = "DELETED"
    DELETED_STORAGE = "DELETED-STORAGE"  # spec: RFC9208#4.1.4


class ListSelection(StrEnum):
    """LIST selection options (RFC 5258, RFC 6154)."""

    SUBSCRIBED = "SUBSCRIBED"
    REMOTE = "REMOTE"
    RECURSIVEMATCH = "RECURSIVEMATCH"
    SPECIAL_USE = "SPECIAL-USE"


class ListReturn(StrEnum):
    """LIST return options (RFC 5258, RFC 6154, RFC 5819)."""

    SUBSCRIBED = "SUBSCRIBED"
    CHILDREN = "CHILDREN"
    SPECIAL_USE = "SPECIAL-USE"
    STATUS = "STATUS"


@dataclass(frozen=True, slots=True)
class Listing:
    """LIST or LSUB. ``extended`` where options or several patterns were given."""

    reference: str
    patterns: tuple[str, ...]
    selection: frozenset[ListSelection] = frozenset()
    returns: frozenset[ListReturn] = frozenset()
    status: tuple[StatusItem, ...] = ()
    lsub: bool = False
    extended: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS."""

    mailbox: str
    items: tuple[StatusItem, ...]


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE or UNSUBSCRIBE."""

    mailbox: str
    on: bool


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename:
    """RENAME."""

    mailbox: str
    to: str


@dataclass(frozen=True, slots=True)
class GetQuota:
    """GETQUOTA."""

    root: str


@dataclass(frozen=True, slots=True)
class GetQuotaRoot:
    """GETQUOTAROOT."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class SetQuota:
    """SETQUOTA: nobody may, so its arguments are not read."""


@dataclass(frozen=True, slots=True)
class Enable:
    """ENABLE; names upper-case, unknown ones among them."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND up to its literal; ``at`` is UTC. ``utf8`` where the literal stands in ``UTF8 (...)``."""

    mailbox: str
    flags: frozenset[str]
    at: datetime | None
    size: int
    utf8: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY or MOVE, and their UID forms."""

    numbers: NumberSet
    mailbox: str
    uid: bool
    move: bool


class ItemKind(Enum):
    """Everything a FETCH can ask about a message, as the read gate tells it apart."""

    FLAGS = "FLAGS"
    UID = "UID"
    INTERNALDATE = "INTERNALDATE"
    SIZE = "RFC822.SIZE"
    MODSEQ = "MODSEQ"
    ENVELOPE = "ENVELOPE"
    STRUCTURE = "BODYSTRUCTURE"
    BODY = "BODY"  # without brackets: the structure without extensions
    SECTION = "BODY[]"
    BINARY = "BINARY[]"
    BINARY_SIZE = "BINARY.SIZE[]"
    PREVIEW = "PREVIEW"


class SectionText(Enum):
    """The word inside the brackets of ``BODY[...]``."""

    ALL = ""
    HEADER = "HEADER"
    HEADER_FIELDS = "HEADER.FIELDS"
    HEADER_FIELDS_NOT = "HEADER.FIELDS.NOT"
    TEXT = "TEXT"
    MIME = "MIME"


@dataclass(frozen=True, slots=True)
class Section:
    """``BODY[parts.text (fields)]<partial>``. ``fields`` are lower-case.

    ``label`` is the name of the answer without its ``<origin>``; ``partial`` is (origin, length).
    """

    parts: tuple[int, ...]
    text: SectionText
    fields: tuple[str, ...] = ()
    partial: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class FetchItem:
    """One item of a FETCH. ``section`` belongs to `ItemKind.SECTION` and the BINARY kinds.

    ``lazy`` belongs to `ItemKind.PREVIEW`: what costs something is left out.
    """

    kind: ItemKind
    section: Section | None = None
    peek: bool = True
    label: bytes = b""
    lazy: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH or UID FETCH."""

    numbers: NumberSet
    items: tuple[FetchItem, ...]
    uid: bool
    changed_since: int | None = None


class StoreMode(Enum):
    """What STORE does with the flags it is given."""

    REPLACE = ""
    ADD = "+"
    REMOVE = "-"


@dataclass(frozen=True, slots=True)
class Store:
    """STORE or UID STORE."""

    numbers: NumberSet
    mode: StoreMode
    silent: bool
    flags: frozenset[str]
    uid: bool
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True)
class UidExpunge:
    """UID EXPUNGE (RFC 4315)."""

    numbers: NumberSet


class SearchReturn(StrEnum):
    """What ESEARCH can tell (RFC 4731)."""

    MIN = "MIN"
    MAX = "MAX"
    ALL = "ALL"
    COUNT = "COUNT"


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH or UID SEARCH; ``returns`` is None for the plain answer. ``modseq`` where a key asks for it."""

    key: SearchKey
    uid: bool
    returns: frozenset[SearchReturn] | None = None
    modseq: bool = False


Body: TypeAlias = (
    Bare
    | Identify
    | Login
    | Authenticate
    | Select
    | Listing
    | Status
    | Subscribe
    | Create
    | Delete
    | Rename
    | GetQuota
    | GetQuotaRoot
    | SetQuota
    | Enable
    | Append
    | Copy
    | Fetch
    | Store
    | UidExpunge
    | Search
)


@dataclass(frozen=True, slots=True)
class Command:
    """One command and its tag."""

    tag: bytes
    body: Body
