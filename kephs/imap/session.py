"""One client's session: what is allowed when, and what is answered. No sockets, no clock.

`handle` takes one command and yields bytes; where it leaves `waiting` set, the client's next line goes to
`answer`. The caller tells of changes with `changed` and, while the client idles, asks for `news`.

spec: RFC3501#3, RFC3501#6, RFC2177, RFC4959, RFC3691
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

from directory.accounts import Right
from kephs.domain.mailboxes import Folder
from kephs.domain.messages import Person
from kephs.imap import commands as c
from kephs.imap import mutf7, render
from kephs.imap.cursor import GrammarError, decode_base64
from kephs.imap.listing import listed
from kephs.imap.selected import Selected, TooManyKeywordsError
from kephs.imap.states import (
    AFTER_LOGIN,
    BEFORE_LOGIN,
    BODY_STATES,
    VERB_STATES,
    Guard,
    SessionParts,
    State,
    Waiting,
)
from kephs.imap.view import NoSuchNumberError
from kephs.ports import StoreUnavailableError
from kephs.usecases.mailbox import FolderGoneError, NotPermittedError

__all__ = ["Guard", "Session", "SessionParts", "State", "Waiting"]

LOGIN_TRIES: Final = 3


class _RefusedError(Exception):
    """The command is answered NO with this text."""


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
        self._dirty = False
        self._tries = 0
        self._tag = b"*"

    @staticmethod
    def greeting() -> bytes:
        """Return the first line."""
        return b"* OK [CAPABILITY %b] kephs ready\r\n" % BEFORE_LOGIN

    def changed(self) -> None:
        """Note that something in the account's folders changed."""
        self._dirty = True

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
            elif isinstance(body, c.Fetch | c.Store | c.Search | c.UidExpunge):
                async for piece in self._on_folder(body):
                    yield piece
            else:
                yield await self._simple(body)
        except _RefusedError as error:
            yield self._tagged(b"NO", str(error).encode("ascii"))
        except NoSuchNumberError:
            yield self._tagged(b"BAD", b"No such message number")
        except NotPermittedError:
            yield self._tagged(b"NO", b"[NOPERM] You have no right to do this for this account")
        except TooManyKeywordsError:
            yield self._tagged(b"NO", b"[LIMIT] Too many keywords")
        except StoreUnavailableError:
            yield self._tagged(b"NO", b"[UNAVAILABLE] Try again later")
        except FolderGoneError:
            self._leave()
            yield b"* BYE The selected mailbox is gone\r\n"
            self.state = State.LOGOUT

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
        except FolderGoneError:
            self._leave()
            self.state = State.LOGOUT
            return b"* BYE The selected mailbox is gone\r\n"
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
        if isinstance(body, c.Listing):
            return await self._list(body)
        return await self._rarer(body)

    async def _rarer(self, body: c.Body) -> bytes:
        match body:
            case c.Authenticate():
                return await self._authenticate(body)
            case c.Select():
                return await self._select(body)
            case c.Status():
                folder = await self._folder(body.mailbox)
                return _status_line(folder, body.items) + self._tagged(b"OK", b"STATUS done")
            case c.Subscribe():
                await self._folder(body.mailbox)
                return self._tagged(b"OK", b"Every folder is subscribed, always")
            case c.Identify():
                return b'* ID ("name" "kephs")\r\n' + self._tagged(b"OK", b"ID done")
            case c.Unoffered(verb):
                raise _RefusedError(
                    f"[CANNOT] {verb} is not offered; folders and messages are filed by the server"
                )
            case _:
                raise TypeError(body)

    # --- any state ------------------------------------------------------------------------------------

    async def _capability(self) -> bytes:
        shown = BEFORE_LOGIN if self.person is None else AFTER_LOGIN
        return b"* CAPABILITY %b\r\n" % shown + self._tagged(b"OK", b"CAPABILITY done")

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
            raise _RefusedError("[CANNOT] Only PLAIN is offered")
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
            return self._tagged(b"OK", b"[CAPABILITY %b] Signed in" % AFTER_LOGIN)
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

    async def _folder(self, name: str) -> Folder:
        folder = await self._service.folder(self._who(), name)
        if folder is None:
            raise _RefusedError("[NONEXISTENT] No such mailbox")
        return folder

    async def _namespace(self) -> bytes:
        return b'* NAMESPACE (("" "/")) NIL NIL\r\n' + self._tagged(b"OK", b"NAMESPACE done")

    async def _list(self, body: c.Listing) -> bytes:
        lines: list[bytes] = []
        for entry in listed(body, await self._service.folders(self._who())):
            lines.append(entry.line)
            if body.status and entry.folder is not None:
                lines.append(_status_line(entry.folder, body.status))
        return b"".join(lines) + self._tagged(b"OK", b"Listed")

    async def _select(self, body: c.Select) -> bytes:
        self._leave()  # spec: RFC3501#6.3.1 (also where the new one cannot be opened)
        opened = await self._service.open(self._who(), body.mailbox)
        if opened is None:
            raise _RefusedError("[NONEXISTENT] No such mailbox")
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
        mode = b"[READ-ONLY]" if body.read_only else b"[READ-WRITE]"
        return self._selected.greeting() + self._tagged(b"OK", mode + b" Open")

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
            raise _RefusedError("[READ-ONLY] The mailbox was opened with EXAMINE")
        await selected.expunge()
        return selected.view.news(expunges=True, uids=False) + self._tagged(b"OK", b"Expunged")

    async def _on_folder(self, body: c.Fetch | c.Store | c.Search | c.UidExpunge) -> AsyncIterator[bytes]:
        selected = self._opened()
        uid = isinstance(body, c.UidExpunge) or body.uid
        # spec: RFC3501#7.4.1 (numbers must not change during FETCH, STORE and SEARCH by number)
        if self._dirty and (due := await self._due(uid=uid)):
            yield due
        outcome: list[bytes] = []
        match body:
            case c.Fetch():
                async for piece in selected.fetch(body, outcome):
                    yield piece
            case c.Search():
                yield await selected.search(body)
            case _ if selected.read_only:
                raise _RefusedError("[READ-ONLY] The mailbox was opened with EXAMINE")
            case c.Store():
                yield await selected.store(body)
            case c.UidExpunge(numbers):
                await selected.expunge(numbers)
        last = self._tagged(b"NO", outcome[0]) if outcome else self._tagged(b"OK", b"Done")
        yield await self._due(uid=uid) + last

    async def _due(self, *, uid: bool) -> bytes:
        selected = self._opened()
        if self._dirty:
            self._dirty = False
            await selected.refresh()
        return selected.view.news(expunges=uid, uids=uid)


def _status_line(folder: Folder, items: tuple[c.StatusItem, ...]) -> bytes:
    values = {
        c.StatusItem.MESSAGES: folder.messages,
        c.StatusItem.RECENT: 0,
        c.StatusItem.UIDNEXT: folder.uid_next,
        c.StatusItem.UIDVALIDITY: folder.uid_validity,
        c.StatusItem.UNSEEN: folder.unseen,
    }
    told = " ".join(f"{item.value} {values[item]}" for item in items)
    return b"* STATUS %b (%b)\r\n" % (render.astring(mutf7.encode(folder.name)), told.encode("ascii"))


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
