"""The IMAP server's sockets: TLS connections, timeouts, caps, drain. What is said stands in `session`.

spec: RFC3501#5.4 (autologout at least 30 minutes), RFC8314#3.3 (implicit TLS)
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import structlog

from kephs.imap.commands import Command
from kephs.imap.cursor import GrammarError
from kephs.imap.fetch import ContentLostError
from kephs.imap.framing import (
    AFTER_LOGIN,
    BEFORE_LOGIN,
    AppendBegins,
    AppendEnds,
    Broken,
    Event,
    Framer,
    Piece,
    Received,
    WantsLiteral,
)
from kephs.imap.grammar import CommandError, SearchCharsetError, parse
from kephs.imap.link import TlsLink
from kephs.imap.session import Session
from kephs.imap.states import SessionParts, State, Waiting
from kephs.imap.throttle import LoginThrottle
from kephs.ports import Subscription

_log = structlog.get_logger(__name__)

_FLUSH_AT: Final = 64 * 1024  # bytes collected before they are sent, so that others get their turn
_BAD_MAX: Final = 20  # commands in a row that are none
_BAD_MAX_BEFORE_LOGIN: Final = 5


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Caps on connections and times in seconds."""

    connections: int = 10_000
    connections_per_host: int = 2_000
    handshake: float = 60.0
    login: float = 300.0  # from the greeting until somebody signed in
    idle: float = 1800.0  # spec: RFC3501#5.4
    write: float = 300.0  # a client that reads nothing
    drain: float = 10.0


class ImapServer:
    """Serves IMAP over implicit TLS until `drain` is called."""

    def __init__(
        self,
        parts: SessionParts,
        context: ssl.SSLContext,
        *,
        limits: ServerLimits | None = None,
        throttle: LoginThrottle | None = None,
        reuse_port: bool = False,
    ) -> None:
        self._parts = parts
        self._reuse_port = reuse_port  # other processes of the instance listen there too
        self._context = context
        self._limits = limits or ServerLimits()
        self._throttle = throttle or LoginThrottle()
        self._stop = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._links: dict[TlsLink, asyncio.Task[None]] = {}
        self._hosts: Counter[str] = Counter()

    @property
    def connections(self) -> int:
        """Return how many clients are connected."""
        return len(self._links)

    def drain(self) -> None:
        """Accept nobody any more, let commands under way end, say BYE to the rest."""
        self._stop.set()
        for link in self._links:
            link.poke()

    async def serve(self, host: str, port: int, *, ready: Callable[[int], None] | None = None) -> None:
        """Listen and serve; returns after `drain`.

        Args:
            host: address to listen on.
            port: port, 0 for any free one.
            ready: called with the port when connections are accepted.

        Raises:
            OSError: the port cannot be had.
        """
        async with asyncio.TaskGroup() as group:
            self._group = group
            server = await asyncio.get_running_loop().create_server(
                lambda: TlsLink(self._context, self._opened),
                host,
                port,
                backlog=512,
                reuse_port=self._reuse_port or None,
            )
            try:
                if ready is not None:
                    ready(server.sockets[0].getsockname()[1])
                await self._stop.wait()
            finally:
                server.close()
            await self._end_sessions()
        self._group = None

    async def _end_sessions(self) -> None:
        """Wait for the sessions to end by themselves, then end them."""
        tasks = list(self._links.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._limits.drain)
            for task in late:
                task.cancel()

    def _opened(self, link: TlsLink) -> None:
        full = len(self._links) >= self._limits.connections
        crowded = self._hosts[link.host] >= self._limits.connections_per_host
        if self._group is None or self._stop.is_set() or full or crowded:
            link.abort()
            return
        self._hosts[link.host] += 1
        self._links[link] = self._group.create_task(self._serve(link))

    async def _serve(self, link: TlsLink) -> None:
        """Serve one connection; whatever goes wrong ends that connection alone."""
        try:
            async with asyncio.timeout(self._limits.handshake):
                await link.handshake()
            await _Conversation(self, link).run()
        except (TimeoutError, ConnectionError, ssl.SSLError):
            link.abort()
        except ContentLostError:
            _log.error("imap.content_lost")  # the trace says nothing more
            link.abort()
        except Exception:  # noqa: BLE001  # one client's trouble never ends the others
            _log.exception("imap.connection_failed")
            link.abort()
        finally:
            link.close()
            del self._links[link]
            self._hosts[link.host] -= 1
            if not self._hosts[link.host]:
                del self._hosts[link.host]

    # --- what conversations share ---------------------------------------------------------------------

    @property
    def limits(self) -> ServerLimits:
        """Return the caps."""
        return self._limits

    @property
    def draining(self) -> bool:
        """Say whether the server is stopping."""
        return self._stop.is_set()

    def session(self, host: str) -> Session:
        """Return a fresh session."""
        return Session(self._parts, self._throttle.guard(host))

    def watch(self, session: Session, link: TlsLink) -> "tuple[Subscription, asyncio.Task[None]] | None":
        """Tell a session of changes from now on."""
        if session.person is None or self._group is None:
            return None
        subscription = self._parts.service.subscribe(session.person)
        return subscription, self._group.create_task(_tell(subscription, session, link))


async def _tell(subscription: Subscription, session: Session, link: TlsLink) -> None:
    try:
        async for _ in subscription:
            session.changed()
            link.poke()
    except Exception:  # noqa: BLE001  # without news the session still works: NOOP asks
        _log.exception("imap.watch_failed")


class _Conversation:
    """One client: bytes from the link to the framer, commands to the session, answers back."""

    def __init__(self, server: ImapServer, link: TlsLink) -> None:
        self._server = server
        self._link = link
        self._session = server.session(link.host)
        self._framer = Framer(BEFORE_LOGIN)
        self._watch: tuple[Subscription, asyncio.Task[None]] | None = None
        self._login_by = asyncio.get_running_loop().time() + server.limits.login
        self._bad = 0
        self._append_tag = b"*"

    async def run(self) -> None:
        self._link.send(self._session.greeting())
        try:
            await self._talk()
            await self._flush()
        finally:
            await self._session.close()
            if self._watch is not None:
                self._watch[0].close()
                self._watch[1].cancel()

    async def _talk(self) -> None:
        while self._session.state is not State.LOGOUT:
            if self._server.draining:
                self._link.send(b"* BYE The server is stopping\r\n")
                return
            event = self._next()
            if event is None:
                data = await self._more()
                if not data:
                    return
                self._framer.feed(data)
                continue
            await self._react(event)
            if isinstance(event, Broken) and event.fatal:
                self._link.send(b"* BYE %b\r\n" % event.text)
                return
            if self._bad >= (_BAD_MAX if self._session.person else _BAD_MAX_BEFORE_LOGIN):
                self._link.send(b"* BYE Too many bad commands\r\n")
                return

    def _next(self) -> Event | bytes | None:
        if self._session.waiting is Waiting.COMMAND:
            return self._framer.next_command()
        return self._framer.next_line()

    async def _react(self, event: Event | bytes) -> None:
        match event:
            case bytes():
                await self._line(event)
            case WantsLiteral():
                self._link.send(b"+ go on\r\n")
            case Broken():
                self._refuse(event.tag, event.code + event.text)
            case Received():
                await self._command(event)
            case AppendBegins():
                await self._begin_append(event)
            case Piece(data):
                await self._session.take(data)
            case AppendEnds(rest):
                self._link.send(await self._safely(self._append_tag, self._session.end_append(rest)))

    async def _begin_append(self, event: AppendBegins) -> None:
        command = self._parsed(event.data)
        if command is None:
            self._framer.decline()
            return
        self._append_tag = command.tag
        answer = await self._safely(command.tag, self._session.begin_append(command))
        if answer:
            self._framer.decline()
            self._link.send(answer)
            return
        self._framer.accept()
        if event.sync:
            self._link.send(b"+ go on\r\n")

    async def _more(self) -> bytes:
        """Return the client's next bytes; nothing where the conversation is over."""
        await self._flush()
        loop = asyncio.get_running_loop()
        signed_in = self._session.person is not None
        until = loop.time() + self._server.limits.idle if signed_in else self._login_by
        try:
            async with asyncio.timeout_at(until):
                while (data := await self._link.read()) is None:
                    if self._server.draining:
                        self._link.send(b"* BYE The server is stopping\r\n")
                        return b""
                    if self._session.waiting is Waiting.IDLE:
                        self._link.send(await self._session.news())
                        await self._flush()
                        if self._session.state is State.LOGOUT:
                            return b""
                return data
        except TimeoutError:
            self._link.send(b"* BYE Idle for too long\r\n")
            return b""

    async def _flush(self) -> None:
        async with asyncio.timeout(self._server.limits.write):
            await self._link.flush()

    def _refuse(self, tag: bytes, text: bytes) -> None:
        self._bad += 1
        self._link.send(b"%b BAD %b\r\n" % (tag, text))

    async def _line(self, line: bytes) -> None:
        async with aclosing(self._session.answer(line)) as answers:
            async for piece in answers:
                self._link.send(piece)
        self._signed_in()

    async def _safely(self, tag: bytes, work: Awaitable[bytes]) -> bytes:
        """Return an answer, and a NO where something failed that should not."""
        try:
            return await work
        except Exception:  # noqa: BLE001  # one message's trouble never ends the session
            _log.exception("imap.append_failed")
            return b"%b NO [SERVERBUG] Internal error\r\n" % tag

    def _parsed(self, data: bytes) -> Command | None:
        """Return the command; None where it is none, which was answered then."""
        try:
            command = parse(data, utf8=self._session.utf8)
        except SearchCharsetError as error:
            self._link.send(b"%b NO [BADCHARSET (US-ASCII UTF-8)] Unknown character set\r\n" % error.tag)
            return None
        except CommandError as error:
            self._refuse(error.tag, str(error).encode("ascii", "replace"))
            return None
        except GrammarError:
            self._refuse(b"*", b"Not a command")
            return None
        self._bad = 0
        return command

    async def _command(self, event: Received) -> None:
        command = self._parsed(event.data)
        if command is not None:
            await self._answer(command)
            self._signed_in()

    async def _answer(self, command: Command) -> None:
        begun = False
        try:
            async with aclosing(self._session.handle(command)) as answers:
                async for piece in answers:
                    self._link.send(piece)
                    if self._link.pending_bytes >= _FLUSH_AT:
                        begun = True
                        await self._flush()
                        await asyncio.sleep(0)  # others' turn
        except (ConnectionError, TimeoutError, ContentLostError):
            raise
        except Exception:
            _log.exception("imap.command_failed", command=type(command.body).__name__)
            if begun:
                raise
            self._link.send(b"%b NO [SERVERBUG] Internal error\r\n" % command.tag)

    def _signed_in(self) -> None:
        """Raise the caps and listen for changes as soon as somebody signed in."""
        person = self._session.person
        if self._watch is None and person is not None:
            _log.info("imap.signed_in", account_id=person.account_id, operator_id=person.operator_id)
            self._framer.limits = AFTER_LOGIN
            self._watch = self._server.watch(self._session, self._link)
