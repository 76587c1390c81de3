"""One client's session: what is allowed when, and what is answered. No sockets, no clock.

`handle` takes one command and yields bytes; where it leaves `waiting` set, the client's next line goes to
`answer`. The message of an APPEND goes from `begin_append` over `take` to `end_append`. The caller tells of
changes with `changed` and, while the client idles, asks for `news`; it ends with `close`.

spec: RFC3501#3, RFC3501#6, RFC2177, RFC4959, RFC3691, RFC5161
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from directory.accounts import Right
from kephs.domain.messages import Person
from kephs.imap import commands as c
from kephs.imap.cursor import GrammarError, decode_base64
from kephs.imap.failures import FAILURES, explained
from kephs.imap.folder_commands import FolderCommand, FolderCommands
from kephs.imap.receiving import AppendReceiver
from kephs.imap.selected import Selected
from kephs.imap.states import (
    AFTER_LOGIN,
    BEFORE_LOGIN,
    BODY_STATES,
    VERB_STATES,
    Answer,
    Guard,
    RefusedError,
    SessionParts,
    State,
    Waiting,
)
from kephs.ports import StoreUnavailableError
from kephs.usecases.submission.rights import FolderGoneError

__all__ = ["Guard", "Session", "SessionParts", "State", "Waiting"]

LOGIN_TRIES: Final = 3
_CONDSTORE: Final = "CONDSTORE"
_UTF8: Final = "UTF8=ACCEPT"
_OnFolder: TypeAlias = c.Fetch | c.Store | c.Search | c.UidExpunge | c.Copy


class Session:
    """The state machine of one connection."""

    def __init__(self, parts: SessionParts, guard: Guard) -> None:
        self._parts = parts
        self._service = parts.service
        self._guard = guard
        self.state = State.NOT_AUTHENTICATED
        self.waiting = Waiting.COMMAND
        self.person: Person | None = None
        self._selected: Selected | None = None
        self._append: AppendReceiver | None = None
        self._enabled: set[str] = set()
        self._dirty = False
        self._tries = 0
        self._tag = b"*"

    @staticmethod
    def greeting() -> bytes:
        """Return the first line."""
        return b"* OK [CAPABILITY %b] kephs ready\r\n" % BEFORE_LOGIN

    @property
    def utf8(self) -> bool:
        """Say whether the client reads and writes mailbox names in UTF-8 (RFC 6855)."""
        return _UTF8 in self._enabled

    def changed(self) -> None:
        """Note that something in the account's folders changed."""
        self._dirty = True

    async def close(self) -> None:
        """Forget what was under way; the session is over."""
        if self._append is not None:
            await self._append.abandon()
            self._append = None

    # --- commands -------------------------------------------------------------------------------------

    async def handle(self, command: c.Command) -> AsyncGenerator[bytes, None]:
        """Yield the answer to one command, the tagged line last.

        Raises:
            ContentLostError: the answer broke off inside a literal; the connection must end.
        """
        self._tag = command.tag
        try:
            body = command.body
            states = VERB_STATES[body.verb] if isinstance(body, c.Bare) else BODY_STATES[type(body)]
            if self.state not in states:
                yield self._tagged(b"BAD", b"Not now")
            elif isinstance(body, _OnFolder):
                async for piece in self._on_folder(body):
                    yield piece
            else:
                yield await self._simple(body)
        except FAILURES as error:
            yield self._failed(error)

    def _failed(self, error: Exception) -> bytes:
        """Return the tagged answer for a command that failed."""
        if isinstance(error, FolderGoneError) and self._selected is not None:
            self._selected.vanish()
        return self._tagged(*explained(error))

    async def answer(self, line: bytes) -> AsyncGenerator[bytes, None]:
        """Take the line that `waiting` asked for, and yield what follows."""
        waited, self.waiting = self.waiting, Waiting.COMMAND
        if waited is Waiting.AUTHENTICATION:
            if line == b"*":
                yield self._tagged(b"BAD", b"Cancelled")
                return
            try:
                yield await self._plain(decode_base64(line))
            except GrammarError:
                yield self._tagged(b"BAD", b"Not base64")
            except StoreUnavailableError:
                yield self._tagged(b"NO", b"[UNAVAILABLE] Try again later")
        elif line.upper() == b"DONE":
            yield await self.news() + self._tagged(b"OK", b"IDLE done")
        else:
            yield self._tagged(b"BAD", b"DONE expected")

    async def news(self) -> bytes:
        """Return what an idling client has to hear; call it after `changed`."""
        if self._selected is None or not self._dirty:
            return b""
        self._dirty = False
        try:
            await self._selected.refresh()
        except StoreUnavailableError:
            self._dirty = True
            return b""
        return self._selected.view.news(expunges=True, uids=False)

    def _tagged(self, status: bytes, text: bytes) -> bytes:
        return b"%b %b %b\r\n" % (self._tag, status, text)

    def _leave(self) -> None:
        self._selected = None
        if self.state is State.SELECTED:
            self.state = State.AUTHENTICATED

    async def _simple(self, body: c.Body) -> bytes:
        if isinstance(body, c.Bare):
            return await _BARE[body.verb](self)
        if isinstance(body, c.Login):
            return await self._sign_in(body.user, body.password)
        return await self._rarer(body)

    async def _rarer(self, body: c.Body) -> bytes:
        match body:
            case c.Authenticate():
                return await self._authenticate(body)
            case c.Select():
                return await self._select(body)
            case c.Identify():
                return b'* ID ("name" "kephs")\r\n' + self._tagged(b"OK", b"ID done")
            case c.Enable(names):
                return self._enable(names)
            case _ if isinstance(body, FolderCommand):
                return await self._about_folders(body)
            case _:  # APPEND goes to `begin_append`
                raise TypeError(body)

    async def _about_folders(self, body: FolderCommand) -> bytes:
        lines = b""
        if isinstance(body, c.Status) and c.StatusItem.HIGHESTMODSEQ in body.items:
            lines = self._enable_condstore()  # spec: RFC7162#3.1
        answer = await FolderCommands(self._service, self._who(), utf8=self.utf8).answer(body)
        self._dirty = self._dirty or isinstance(body, c.Delete | c.Rename)  # it may be the one that is open
        lines += await self.news()
        return lines + answer.lines + self._tagged(b"OK", answer.text)

    # --- any state ------------------------------------------------------------------------------------

    async def _capability(self) -> bytes:
        shown = BEFORE_LOGIN if self.person is None else self._offered()
        return b"* CAPABILITY %b\r\n" % shown + self._tagged(b"OK", b"CAPABILITY done")

    def _offered(self) -> bytes:
        return AFTER_LOGIN + b" APPENDLIMIT=%d" % self._service.filing.append_max

    async def _noop(self) -> bytes:
        return await self._polled() + self._tagged(b"OK", b"Done")

    async def _polled(self) -> bytes:
        """Look for changes also where nobody told of any."""
        self._dirty = True
        return await self.news()

    async def _logout(self) -> bytes:
        self._leave()
        self.state = State.LOGOUT
        return b"* BYE Good-bye\r\n" + self._tagged(b"OK", b"LOGOUT done")

    async def _starttls(self) -> bytes:
        return self._tagged(b"BAD", b"This connection is encrypted already")

    # --- signing in -----------------------------------------------------------------------------------

    async def _authenticate(self, body: c.Authenticate) -> bytes:
        if body.mechanism != "PLAIN":
            raise RefusedError("[CANNOT] Only PLAIN is offered")
        if body.initial is None:
            self.waiting = Waiting.AUTHENTICATION
            return b"+ \r\n"
        return await self._plain(body.initial)

    async def _plain(self, answer: bytes) -> bytes:
        # spec: RFC4616#2
        try:
            authorize, user, password = answer.decode().split("\0")
        except ValueError:
            return self._tagged(b"BAD", b"Not a PLAIN answer")
        if authorize not in ("", user):
            return self._tagged(b"NO", b"[AUTHORIZATIONFAILED] You may act for yourself only")
        return await self._sign_in(user, password)

    async def _sign_in(self, user: str, password: str) -> bytes:
        person = None
        if await self._guard.admit(user):
            person = await self._parts.sign_in.sign_in(user, password)
            if person is None:
                self._guard.failed(user)
        if person is not None:
            self._guard.succeeded(user)
            self.person = person
            self.state = State.AUTHENTICATED
            return self._tagged(b"OK", b"[CAPABILITY %b] Signed in" % self._offered())
        self._tries += 1
        refused = self._tagged(b"NO", b"[AUTHENTICATIONFAILED] Address or app password is wrong")
        if self._tries >= LOGIN_TRIES:
            self.state = State.LOGOUT
            return refused + b"* BYE Too many tries\r\n"
        return refused

    # --- folders --------------------------------------------------------------------------------------

    def _who(self) -> Person:
        assert self.person is not None  # the state says so
        return self.person

    async def _namespace(self) -> bytes:
        return b'* NAMESPACE (("" "/")) NIL NIL\r\n' + self._tagged(b"OK", b"NAMESPACE done")

    async def _select(self, body: c.Select) -> bytes:
        # spec: RFC7162#3.2.11; RFC3501#6.3.1 (the old one is left also where the new one cannot be opened)
        closed = b"* OK [CLOSED] Left\r\n" if self._selected is not None else b""
        self._leave()
        opened = await self._service.open(self._who(), body.mailbox)
        if opened is None:
            return closed + self._tagged(b"NO", b"[NONEXISTENT] No such mailbox")
        self._dirty = False
        self._selected = Selected(
            self._service,
            self._parts.offload,
            self._who(),
            opened,
            self._parts.policy,
            read_only=body.read_only,
        )
        self.state = State.SELECTED
        if body.condstore:
            self._enabled.add(_CONDSTORE)
        self._selected.view.condstore = _CONDSTORE in self._enabled
        mode = b"[READ-ONLY]" if body.read_only else b"[READ-WRITE]"
        return closed + self._selected.greeting() + self._tagged(b"OK", mode + b" Open")

    # --- ENABLE ---------------------------------------------------------------------------------------

    def _enable(self, names: frozenset[str]) -> bytes:
        known = sorted(names & {_CONDSTORE, _UTF8})
        lines = b"* ENABLED" + b"".join(b" " + name.encode("ascii") for name in known) + b"\r\n"
        if _CONDSTORE in known:
            lines += self._enable_condstore()
        self._enabled.update(known)
        return lines + self._tagged(b"OK", b"Enabled")

    def _enable_condstore(self) -> bytes:
        """Tell of modification numbers from now on; a client in a folder hears the highest (RFC 7162 3.1)."""
        fresh = _CONDSTORE not in self._enabled
        self._enabled.add(_CONDSTORE)
        if self._selected is None or not fresh:
            return b""
        self._selected.view.condstore = True
        return b"* OK [HIGHESTMODSEQ %d] highest\r\n" % self._selected.view.modseq

    # --- APPEND ---------------------------------------------------------------------------------------

    async def begin_append(self, command: c.Command) -> bytes:
        """Look whether the message of an APPEND may come; return nothing where it may, else the answer."""
        self._tag = command.tag
        body = command.body
        if not isinstance(body, c.Append) or self.state not in BODY_STATES[c.Append]:
            return self._tagged(b"BAD", b"Not now")
        try:
            self._append = await AppendReceiver.begin(self._service, self._who(), body)
        except FAILURES as error:
            return self._failed(error)
        return b""

    async def take(self, data: bytes) -> None:
        """Take some bytes of the message."""
        if self._append is not None:
            await self._append.take(data)

    async def end_append(self, rest: bytes) -> bytes:
        """File the message, which has come whole; return the answer.

        Args:
            rest: what followed the message on its last line.
        """
        append, self._append = self._append, None
        if append is None:
            return self._tagged(b"BAD", b"Not now")
        try:
            answer = await append.file(rest)
        except GrammarError as error:
            return self._tagged(b"BAD", str(error).encode("ascii"))
        except FAILURES as error:
            return self._failed(error)
        # it may have gone into the folder that is open
        return await self._polled() + self._tagged(b"OK", answer.text)

    # --- waiting for news -----------------------------------------------------------------------------

    async def _idle(self) -> bytes:
        self.waiting = Waiting.IDLE
        return b"+ idling\r\n" + await self._polled()

    # --- the selected folder --------------------------------------------------------------------------

    def _opened(self) -> Selected:
        assert self._selected is not None  # the state says so
        return self._selected

    async def _close(self) -> bytes:
        selected = self._opened()
        if not selected.read_only and Right.DELETE in selected.rights:
            await selected.expunge()
        self._leave()
        return self._tagged(b"OK", b"Closed")

    async def _unselect(self) -> bytes:
        self._leave()
        return self._tagged(b"OK", b"Closed")

    async def _expunge(self) -> bytes:
        selected = self._opened()
        if selected.read_only:
            raise RefusedError("[READ-ONLY] The mailbox was opened with EXAMINE")
        await selected.expunge()
        return selected.view.news(expunges=True, uids=False) + self._tagged(b"OK", b"Expunged")

    async def _on_folder(self, body: _OnFolder) -> AsyncIterator[bytes]:
        selected = self._opened()
        uid = isinstance(body, c.UidExpunge) or body.uid
        if _asks_modseq(body) and (line := self._enable_condstore()):
            yield line
        # spec: RFC3501#7.4.1 (numbers must not change before a command that names them is performed)
        # nor flags while others may be set in silence: nobody could tell which came first
        told = not isinstance(body, c.Store)
        if self._dirty and (due := await self._due(expunges=uid, uids=uid, flags=told)):
            yield due
        outcome: list[bytes] = []
        if isinstance(body, c.Fetch):
            async for piece in selected.fetch(body, outcome):
                yield piece
            answer = Answer()
        elif isinstance(body, c.Search):
            answer = Answer(await selected.search(body, self._tag))
        else:
            answer = await self._changing(selected, body)
        if answer.lines:
            yield answer.lines
        last = self._tagged(b"NO", outcome[0]) if outcome else self._tagged(b"OK", answer.text)
        # spec: RFC3501#7.4.1 (nor at the end of FETCH, STORE and SEARCH by number)
        yield await self._due(expunges=uid or isinstance(body, c.Copy), uids=uid) + last

    async def _changing(self, selected: Selected, body: c.Store | c.UidExpunge | c.Copy) -> Answer:
        if isinstance(body, c.Copy) and not body.move:
            self._dirty = True  # it may be copied into the folder itself
            return await selected.copy(body)
        if selected.read_only:
            raise RefusedError("[READ-ONLY] The mailbox was opened with EXAMINE")
        match body:
            case c.Copy():
                self._dirty = True
                return await selected.move(body)
            case c.Store():
                return await selected.store(body)
            case c.UidExpunge(numbers):
                await selected.expunge(numbers)
                return Answer()

    async def _due(self, *, expunges: bool, uids: bool, flags: bool = True) -> bytes:
        selected = self._opened()
        if self._dirty:
            self._dirty = False
            await selected.refresh()
        return selected.view.news(expunges=expunges, uids=uids, flags=flags)


def _asks_modseq(body: _OnFolder) -> bool:
    """Say whether a command makes the client hear of modification numbers from now on (RFC 7162 3.1)."""
    match body:
        case c.Fetch():
            return body.changed_since is not None or any(i.kind is c.ItemKind.MODSEQ for i in body.items)
        case c.Store():
            return body.unchanged_since is not None
        case c.Search():
            return body.modseq
        case _:
            return False


_BARE: Final[Mapping[c.Verb, Callable[[Session], Awaitable[bytes]]]] = MappingProxyType(
    {
        c.Verb.CAPABILITY: Session._capability,  # noqa: SLF001  # the class's own table
        c.Verb.NOOP: Session._noop,  # noqa: SLF001
        c.Verb.LOGOUT: Session._logout,  # noqa: SLF001
        c.Verb.STARTTLS: Session._starttls,  # noqa: SLF001
        c.Verb.NAMESPACE: Session._namespace,  # noqa: SLF001
        c.Verb.IDLE: Session._idle,  # noqa: SLF001
        c.Verb.CHECK: Session._noop,  # noqa: SLF001
        c.Verb.CLOSE: Session._close,  # noqa: SLF001
        c.Verb.UNSELECT: Session._unselect,  # noqa: SLF001
        c.Verb.EXPUNGE: Session._expunge,  # noqa: SLF001
    }
)
