"""What clients ask, as values: one dataclass per command, section and search key.

spec: RFC3501#6, RFC5258 (LIST), RFC2177 (IDLE), RFC2971 (ID)
"""

from dataclasses import dataclass, field
from datetime import date
from enum import Enum, StrEnum
from typing import Final, TypeAlias

STAR: Final = 0  # "*" in number sets: the largest number in use

NumberSet: TypeAlias = tuple[tuple[int, int], ...]  # ranges as sent, `STAR` for "*"


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


class StatusItem(StrEnum):
    """What STATUS can tell."""

    MESSAGES = "MESSAGES"
    RECENT = "RECENT"
    UIDNEXT = "UIDNEXT"
    UIDVALIDITY = "UIDVALIDITY"
    UNSEEN = "UNSEEN"


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
class Unoffered:
    """A command of RFC 3501 that this server does not perform; its arguments are not read."""

    verb: str


class ItemKind(Enum):
    """Everything a FETCH can ask about a message, as the read gate tells it apart."""

    FLAGS = "FLAGS"
    UID = "UID"
    INTERNALDATE = "INTERNALDATE"
    SIZE = "RFC822.SIZE"
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
    """One item of a FETCH. ``section`` belongs to `ItemKind.SECTION` and the BINARY kinds."""

    kind: ItemKind
    section: Section | None = None
    peek: bool = True
    label: bytes = b""


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH or UID FETCH."""

    numbers: NumberSet
    items: tuple[FetchItem, ...]
    uid: bool


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


@dataclass(frozen=True, slots=True)
class UidExpunge:
    """UID EXPUNGE (RFC 4315)."""

    numbers: NumberSet


# --- SEARCH -------------------------------------------------------------------------------------


class Compare(Enum):
    """How dates and sizes compare."""

    BEFORE = "<"
    ON = "="
    SINCE = ">="
    LARGER = ">"


@dataclass(frozen=True, slots=True)
class All:
    """ALL, and what is the same here: OLD."""


@dataclass(frozen=True, slots=True)
class HasFlag:
    """A flag or keyword, compared without case."""

    flag: str


@dataclass(frozen=True, slots=True)
class InHeader:
    """A text in a header field (lower-case name), or, where empty, the field itself."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class InText:
    """A text in the body, or in header and body."""

    text: str
    header_too: bool


@dataclass(frozen=True, slots=True)
class Received:
    """INTERNALDATE, the time disregarded."""

    compare: Compare
    day: date


@dataclass(frozen=True, slots=True)
class Sent:
    """The Date field, time and zone disregarded."""

    compare: Compare
    day: date


@dataclass(frozen=True, slots=True)
class Size:
    """RFC822.SIZE: LARGER, or BEFORE for SMALLER."""

    compare: Compare
    octets: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """Sequence numbers or UIDs."""

    numbers: NumberSet
    uid: bool


@dataclass(frozen=True, slots=True)
class Not:
    """NOT."""

    key: "SearchKey"


@dataclass(frozen=True, slots=True)
class Or:
    """OR."""

    first: "SearchKey"
    second: "SearchKey"


@dataclass(frozen=True, slots=True)
class And:
    """Keys side by side."""

    keys: tuple["SearchKey", ...]


SearchKey: TypeAlias = All | HasFlag | InHeader | InText | Received | Sent | Size | Numbers | Not | Or | And


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH or UID SEARCH."""

    key: SearchKey
    uid: bool


Body: TypeAlias = (
    Bare
    | Identify
    | Login
    | Authenticate
    | Select
    | Listing
    | Status
    | Subscribe
    | Unoffered
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
