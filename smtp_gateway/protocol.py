"""One SMTP connection, whatever the edge: its life, its timers, its replies, and DATA as a stream.

aiosmtpd gives the command loop alone (D9); the dialogue and DATA are ours.
"""
# ruff: noqa: N802  # aiosmtpd finds commands by the name of their method

import asyncio
import contextlib
import re
from collections.abc import Coroutine
from math import inf
from typing import Any, ClassVar, Final, Protocol

import structlog
from aiosmtpd.smtp import SMTP

from kephs.domain.refusals import Refusal, RefusalCode
from kephs.ports import Spool
from smtp_gateway.authenticator import network_of
from smtp_gateway.data_stream import BareLineEndingError, DataEndedEarlyError, Received, receive
from smtp_gateway.dialogue import MailDialogue
from smtp_gateway.replies import Reply, busy, coded, failed, simple
from smtp_gateway.settings import ListenerSettings

log = structlog.get_logger(__name__)

NOT_IMPLEMENTED: Final = simple(502, "5.5.1", "Command not implemented")
TIMED_OUT: Final = simple(421, "4.4.2", "Timeout, closing", close=True)
_BUFFER: Final = 64 * 1024  # the reader holds at most twice this before the client is made to wait
_LINGER: Final = 2.0  # seconds in which a client that is still sending may read why we hang up
_LAST_WORDS: Final = 5.0  # seconds for our last reply to leave; who does not read holds no connection
_TURN: Final = 16  # replies

_LIBRARY_REPLY: Final = re.compile(r"([2-5])(\d\d) (?!\d\.\d)(?:Error: )?(.*)\Z", re.DOTALL)
_ENHANCED: Final = {"221": "2.0.0", "250": "2.0.0", "500": "5.5.2", "501": "5.5.4", "502": "5.5.1"}


class Hub(Protocol):
    """The server as its connections see it (`smtp_gateway.listener.Listener`)."""

    settings: ListenerSettings
    draining: bool

    def admit(self, session: "EdgeProtocol", network: str) -> bool:
        """Count a session in; False where it has to leave."""
        ...

    def dismiss(self, session: "EdgeProtocol", network: str) -> None:
        """Count a session out."""
        ...

    def count_refusal(self, refusal: Refusal, *, evidence_id: str | None = None, told: bool = False) -> None:
        """Count a refusal, and log it unless the session was told the same before."""
        ...

    def spool(self) -> Spool:
        """Return an empty spool."""
        ...

    def hand_over(self, decision: Coroutine[Any, Any, Reply], spool: Spool) -> "asyncio.Future[Reply]":
        """Have a message decided in a task that the client cannot cancel; return where its answer will be."""
        ...

    def forget(self, spool: Spool) -> None:
        """Discard a spool in the background."""
        ...


class EdgeProtocol(SMTP):
    """One connection under aiosmtpd's command loop.

    Attributes:
        edge: how the names of log events begin.
        commands: what HELP names.
    """

    line_length_limit = _BUFFER
    command_size_limit = 2048
    edge: ClassVar[str]
    commands: ClassVar[str]

    def __init__(self, hub: Hub, loop: asyncio.AbstractEventLoop) -> None:
        settings = hub.settings
        super().__init__(
            object(), hostname=settings.hostname, ident="ESMTP kephs", enable_SMTPUTF8=True,
            timeout=settings.idle_timeout, loop=loop,
        )  # fmt: skip
        self._hub = hub
        self._dialogue = self._fresh_dialogue(secure=False)
        self._network = ""
        self._peer = ""
        self._admitted = False
        self._receiving = False
        self._deciding = False
        self._leaving = False
        self._said = 0
        self._told: set[RefusalCode] = set()
        self._deadlines: list[asyncio.TimerHandle] = []
        self._idle_until = inf
        self._timer_at = inf

    # --- what the edges differ in -------------------------------------------------------------

    def _fresh_dialogue(self, *, secure: bool) -> MailDialogue:
        """Return a dialogue that has heard nothing yet."""
        raise NotImplementedError

    def _set_deadlines(self) -> None:
        """Start the timers of the whole session, in ``_deadlines``."""
        raise NotImplementedError

    def _decision(self, spool: Spool, received: Received) -> Coroutine[Any, Any, Reply]:
        """Return the work that decides a message."""
        raise NotImplementedError

    # --- the connection's life ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: count in, start the timers, let aiosmtpd start its loop."""
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self._network = network_of(self._peer)
        self._dialogue = self._fresh_dialogue(secure=transport.get_extra_info("ssl_object") is not None)
        self._admitted = self._admit()
        self._set_deadlines()
        super().connection_made(transport)

    def _admit(self) -> bool:
        return self._hub.admit(self, self._network)

    def connection_lost(self, error: Exception | None) -> None:
        """End: count out, stop the timers."""
        self._drop_deadlines()
        super().connection_lost(error)
        assert self._handler_coroutine is not None
        # not before the commands' loop has ended: what it leaves behind is the server's to clear away
        self._handler_coroutine.add_done_callback(lambda _: self._hub.dismiss(self, self._network))

    def _drop_deadlines(self) -> None:
        for deadline in self._deadlines:
            deadline.cancel()
        self._deadlines.clear()

    async def _handle_client(self) -> None:
        with contextlib.suppress(OSError):  # also what TLS says of bytes behind its end
            if self._admitted:
                await super()._handle_client()
            else:
                await self._answer(busy())

    def eof_received(self) -> bool | None:
        """Note that the client is gone; aiosmtpd ends the loop."""
        self._leaving = True
        return super().eof_received()

    def _close(self, last: Reply | None = None) -> None:
        """Hang up once; a closing TLS transport takes neither bytes nor a second close."""
        if self._leaving or self.transport is None:
            return
        self._leaving = True
        if last is not None:
            self._writer.write(last.text + b"\r\n")
        self.transport.close()
        self._deadlines.append(self.loop.call_later(_LAST_WORDS, self.abort))

    # --- the idle client's timer --------------------------------------------------------------

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Bear with an idle client for so many seconds from now.

        aiosmtpd calls this for every command and sets a new timer each time. Ours stays, and when it rings
        too early it is set again: a client that is not idle costs one timer in minutes.
        """
        self._idle_until = self.loop.time() + (duration or self._timeout_duration)
        if self._idle_until < self._timer_at:
            self._set_timer()

    def _bear_with(self) -> None:
        """Let no timer run while the client has to wait for us."""
        self._idle_until = inf

    def _set_timer(self) -> None:
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        self._timer_at = self._idle_until
        self._timeout_handle = self.loop.call_at(self._timer_at, self._timer_rang)

    def _timer_rang(self) -> None:
        self._timer_at = inf
        if self._idle_until <= self.loop.time():
            self._timeout_cb()
        elif self._idle_until < inf:
            self._set_timer()

    def _timeout_cb(self) -> None:
        self._close(TIMED_OUT)

    def _may_stay(self) -> bool:
        return not self._hub.draining

    def leave(self) -> None:
        """Say 421 and hang up, at once or after the message that is under way."""
        if not (self._receiving or self._deciding):
            self._close(busy())

    def abort(self) -> None:
        """Hang up without a word."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    # --- replies ------------------------------------------------------------------------------

    async def _answer(self, reply: Reply) -> None:
        """Count a refusal of the edge itself, and say it."""
        self._count(reply)
        await self._say(reply)

    def _count(self, reply: Reply) -> None:
        if reply.refusal is not None:
            self._hub.count_refusal(Refusal(reply.refusal), told=reply.refusal in self._told)
            self._told.add(reply.refusal)

    async def _say(self, reply: Reply) -> None:
        await self.push(reply.text)
        if reply.close:
            self._close()
            # ends aiosmtpd's loop: commands that were pipelined behind this are not looked at
            raise ConnectionResetError

    async def push(self, status: str | bytes) -> None:
        """Send a reply; the library's own get the enhanced code that we announce."""
        data = status if isinstance(status, bytes) else _with_enhanced_code(status)
        self._writer.write(data + b"\r\n")
        await self._writer.drain()
        self._said += 1
        if self._said % _TURN == 0:
            await asyncio.sleep(0)  # pipelined commands come without waiting: let others have a turn

    def _event(self, name: str) -> str:
        return f"{self.edge}.{name}"

    async def handle_exception(self, error: Exception) -> str:
        """Answer a defect: the cause goes to the log, never to the client."""
        log.error(self._event("command_failed"), exc_info=error)
        return failed().text.decode()

    # --- commands -----------------------------------------------------------------------------

    async def smtp_EHLO(self, hostname: str) -> None:
        """Answer EHLO."""
        await self._answer(self._dialogue.hello(hostname, extended=True))

    async def smtp_HELO(self, hostname: str) -> None:
        """Answer HELO."""
        await self._answer(self._dialogue.hello(hostname, extended=False))

    async def smtp_MAIL(self, arg: str | None) -> None:
        """Answer MAIL."""
        await self._answer(self._dialogue.mail(arg))

    async def smtp_RCPT(self, arg: str | None) -> None:
        """Answer RCPT."""
        await self._answer(self._dialogue.rcpt(arg))

    async def smtp_RSET(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Answer RSET."""
        await self._answer(self._dialogue.reset())

    async def smtp_QUIT(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Answer QUIT."""
        await self._say(simple(221, "2.0.0", "Bye", close=True))

    async def smtp_HELP(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Answer HELP."""
        await self._say(simple(214, "2.0.0", self.commands))

    async def smtp_VRFY(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Refuse VRFY: who has an account is nobody's business here."""
        await self._say(NOT_IMPLEMENTED)

    async def smtp_EXPN(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Refuse EXPN."""
        await self._say(NOT_IMPLEMENTED)

    async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Refuse STARTTLS: the library's own is not used anywhere."""
        await self._say(NOT_IMPLEMENTED)

    async def smtp_AUTH(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Refuse AUTH: the library's own is not used anywhere."""
        await self._say(NOT_IMPLEMENTED)

    # --- DATA ---------------------------------------------------------------------------------

    async def smtp_DATA(self, arg: str | None) -> None:
        """Take the content, have it decided, answer."""
        reply, come = self._dialogue.data(arg)
        if not come:
            await self._answer(reply)
            return
        self._receiving = True
        try:
            await self._say(reply)
            await self._say(await self._content())
        finally:
            self._receiving = self._deciding = False
            self._dialogue.reset()
        self._reset_timeout()
        if not self._may_stay():
            self.leave()

    async def _content(self) -> Reply:
        spool = self._hub.spool()
        handed = False
        try:
            received = await receive(self._timed_reader(), spool, max_size=self._hub.settings.max_wire)
            self._unread(received.rest)
            unkept = self._unkept(received)
            if unkept is not None:
                return unkept
            self._bear_with()  # deciding has limits of its own
            self._deciding = True
            answer = self._hub.hand_over(self._decision(spool, received), spool)
            handed = True
            return await answer
        except BareLineEndingError:
            return await self._hang_up(RefusalCode.BARE_LINE_ENDING)
        except DataEndedEarlyError:
            return await self._hang_up(self._dialogue.too_big)
        finally:
            if not handed:
                self._hub.forget(spool)

    def _unkept(self, received: Received) -> Reply | None:
        """Return the refusal of content that the spool does not hold, or None."""
        if not (received.too_big or received.store_failed):
            return None
        # spec: R-02 (beyond the second limit there is no evidence)
        code = self._dialogue.too_big if received.too_big else RefusalCode.STORE_UNAVAILABLE
        reply = coded(code, utf8=self._dialogue.utf8)
        self._count(reply)
        return reply

    def _timed_reader(self) -> Any:
        settings = self._hub.settings
        started = self.loop.time()
        total = 0

        async def read(most: int) -> bytes:
            nonlocal total
            patience = settings.data_grace + total / settings.data_min_rate - (self.loop.time() - started)
            self._reset_timeout(max(min(settings.data_idle_timeout, patience), 0.001))
            data: bytes = await self._reader.read(most)
            total += len(data)
            return data

        return read

    def _unread(self, rest: bytes) -> None:
        """Give back what a pipelining client sent behind the final dot."""
        if rest:
            buffer: bytearray = self._reader._buffer  # type: ignore[attr-defined]  # noqa: SLF001  # no public way
            buffer[:0] = rest

    async def _hang_up(self, code: RefusalCode) -> Reply:
        """Answer a client that is still sending, and read on shortly so that it can hear us."""
        reply = coded(code, utf8=self._dialogue.utf8)
        self._count(reply)
        await self.push(reply.text)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while await self._reader.read(_BUFFER):
                    pass
        self._close()
        raise ConnectionResetError


def _with_enhanced_code(status: str) -> bytes:
    match = _LIBRARY_REPLY.match(status)
    if match is None or match[1] + match[2] == "220":
        return status.encode()
    code, text = match[1] + match[2], match[3]
    if text.startswith("command"):  # the library repeats what the client sent
        text = "Command not recognized"
    return f"{code} {_ENHANCED.get(code, f'{match[1]}.0.0')} {text}".encode()
