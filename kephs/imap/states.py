"""Where a session stands, what is allowed there, what is announced, and what sessions ask of their server.

spec: RFC3501#3, RFC3501#6
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final, Protocol

from kephs.domain.messages import Person
from kephs.imap import commands as c
from kephs.imap.fetch import FetchPolicy
from kephs.ports import Offload
from kephs.usecases.mailbox.mailbox import MailboxService

BEFORE_LOGIN: Final = b"IMAP4rev1 LITERAL- SASL-IR AUTH=PLAIN ID"
AFTER_LOGIN: Final = (
    b"IMAP4rev1 LITERAL- ID IDLE NAMESPACE UNSELECT CHILDREN LIST-EXTENDED LIST-STATUS SPECIAL-USE"
    b" ENABLE UIDPLUS MOVE ESEARCH CONDSTORE UTF8=ACCEPT QUOTA QUOTA=RES-STORAGE STATUS=SIZE BINARY PREVIEW"
)  # and APPENDLIMIT with the limit


class RefusedError(Exception):
    """The command is answered NO with this text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command is answered: untagged lines, then OK with this text."""

    lines: bytes = b""
    text: bytes = b"Done"


class SignsIn(Protocol):
    """Checks credentials; `kephs.usecases.people.sign_in.SignIn` is one."""

    async def sign_in(self, address: str, password: str) -> Person | None:
        """Return who that is, or None."""
        ...


class Guard(Protocol):
    """Slows guessing down, over all connections."""

    async def admit(self, address: str) -> bool:
        """Wait as long as earlier failures demand; False where no try is allowed at all."""
        ...

    def failed(self, address: str) -> None:
        """Note a failure."""
        ...

    def succeeded(self, address: str) -> None:
        """Note a success."""
        ...


class State(Enum):
    """Where a session stands."""

    NOT_AUTHENTICATED = 1
    AUTHENTICATED = 2
    SELECTED = 3
    LOGOUT = 4


class Waiting(Enum):
    """What the client's next line is."""

    COMMAND = 0
    AUTHENTICATION = 1
    IDLE = 2


@dataclass(frozen=True, slots=True)
class SessionParts:
    """What every session of one server shares."""

    service: MailboxService
    sign_in: SignsIn
    offload: Offload
    policy: FetchPolicy


_ANY: Final = frozenset(State)
_IN: Final = frozenset({State.AUTHENTICATED, State.SELECTED})
_OUT: Final = frozenset({State.NOT_AUTHENTICATED})
_OPEN: Final = frozenset({State.SELECTED})

VERB_STATES: Final[Mapping[c.Verb, frozenset[State]]] = MappingProxyType(
    {
        c.Verb.CAPABILITY: _ANY,
        c.Verb.NOOP: _ANY,
        c.Verb.LOGOUT: _ANY,
        c.Verb.STARTTLS: _OUT,
        c.Verb.NAMESPACE: _IN,
        c.Verb.IDLE: _IN,
        c.Verb.CHECK: _OPEN,
        c.Verb.CLOSE: _OPEN,
        c.Verb.UNSELECT: _OPEN,
        c.Verb.EXPUNGE: _OPEN,
    }
)
BODY_STATES: Final[Mapping[type[c.Body], frozenset[State]]] = MappingProxyType(
    {
        c.Identify: _ANY,
        c.Login: _OUT,
        c.Authenticate: _OUT,
        c.Select: _IN,
        c.Listing: _IN,
        c.Status: _IN,
        c.Subscribe: _IN,
        c.Create: _IN,
        c.Delete: _IN,
        c.Rename: _IN,
        c.GetQuota: _IN,
        c.GetQuotaRoot: _IN,
        c.SetQuota: _IN,
        c.Enable: _IN,
        c.Append: _IN,
        c.Fetch: _OPEN,
        c.Store: _OPEN,
        c.Search: _OPEN,
        c.UidExpunge: _OPEN,
        c.Copy: _OPEN,
    }
)
