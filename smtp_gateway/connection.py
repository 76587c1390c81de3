"""One submission connection: moves lines and bytes between the socket and the dialogue.

aiosmtpd gives the command loop alone (D9); the dialogue, authentication and DATA are ours.
"""
# ruff: noqa: N802  # aiosmtpd finds commands by the name of their method

import asyncio
import contextlib
import re
from typing import Any, Final, Protocol

import structlog
from aiosmtpd.smtp import SMTP

from kephs.domain.refusals import RefusalCode
from kephs.ports import Spool
from smtp_gateway.authenticator import (
    RESPONSE_MAX,
    Authenticator,
    CredentialsUnavailableError,
    SaslError,
    ThrottledError,
    decode_response,
    network_of,
    split_plain,
)
from smtp_gateway.data_stream import BareLineEndingError, DataEndedEarlyError, Received, receive
from smtp_gateway.replies import Reply, busy, coded, simple
from smtp_gateway.settings import EdgeSettings
from smtp_gateway.submission import Dialogue, DialogueSettings

log = structlog.get_logger(__name__)

_BUFFER: Final = 64 * 1024  # the reader holds at most twice this before the client is made to wait
_FAILED: Final = simple(451, "4.3.0", "Internal error, try again")
_TIMED_OUT: Final = simple(421, "4.4.2", "Timeout, closing", close=True)
_REJECTED: Final = simple(535, "5.7.8", "Authentication credentials invalid")
_UNREADABLE: Final = simple(501, "5.5.2", "Cannot read the authentication answer")
_TOO_MANY_TRIES: Final = simple(421, "4.7.0", "Too many authentication failures", close=True)
_AUTH_LATER: Final = simple(454, "4.7.0", "Temporary authentication failure")
_SIGNED_IN: Final = simple(235, "2.7.0", "Authentication successful")
_NOT_IMPLEMENTED: Final = simple(502, "5.5.1", "Command not implemented")
_LINGER: Final = 2.0  # seconds in which a client that is still sending may read why we hang up

_LIBRARY_REPLY: Final = re.compile(r"([2-5])(\d\d) (?!\d\.\d)(?:Error: )?(.*)\Z", re.DOTALL)
_ENHANCED: Final = {"221": "2.0.0", "250": "2.0.0", "500": "5.5.2", "501": "5.5.4", "502": "5.5.1"}


class Hub(Protocol):
    """The server as its connections see it."""

    settings: EdgeSettings
    authenticator: Authenticator
    draining: bool

    def admit(self, session: "SubmissionProtocol", network: str) -> bool:
        """Count a session in; False where it has to leave."""
        ...

    def dismiss(self, session: "SubmissionProtocol", network: str) -> None:
        """Count a session out."""
        ...

    def spool(self) -> Spool:
        """Return an empty spool."""
        ...

    def hand_over(self, dialogue: Dialogue, spool: Spool, received: Received) -> "asyncio.Task[Reply]":
        """Have a message decided in a task that the client cannot cancel."""
        ...

    def forget(self, spool: Spool) -> None:
        """Discard a spool in the background."""
        ...


class SubmissionProtocol(SMTP):
    """One connection under aiosmtpd's command loop."""

    line_length_limit = _BUFFER
    command_size_limit = 2048

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
        self._tries = 0
        self._busy = False
        self._leaving = False
        self._login_deadline: asyncio.TimerHandle | None = None

    def _fresh_dialogue(self, *, secure: bool) -> Dialogue:
        settings = self._hub.settings
        return Dialogue(
            DialogueSettings(settings.hostname, settings.max_wire, settings.max_recipients), secure=secure
        )

    # --- the connection's life ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: count in, start the timers, let aiosmtpd start its loop."""
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self._network = network_of(self._peer)
        self._dialogue = self._fresh_dialogue(secure=transport.get_extra_info("ssl_object") is not None)
        self._admitted = self._hub.admit(self, self._network)
        self._login_deadline = self.loop.call_later(self._hub.settings.login_timeout, self._timeout_cb)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """End: count out, stop the timers."""
        if self._login_deadline is not None:
            self._login_deadline.cancel()
        self._hub.dismiss(self, self._network)
        super().connection_lost(error)

    async def _handle_client(self) -> None:
        with contextlib.suppress(ConnectionError):
            if self._admitted:
                await super()._handle_client()
            else:
                await self._say(busy())

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

    def _timeout_cb(self) -> None:
        self._close(_TIMED_OUT)

    def leave(self) -> None:
        """Say 421 and hang up, at once or after the message that is under way."""
        if not self._busy:
            self._close(busy())

    def abort(self) -> None:
        """Hang up without a word."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    # --- replies ------------------------------------------------------------------------------

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

    async def handle_exception(self, error: Exception) -> str:
        """Answer a defect: the cause goes to the log, never to the client."""
        log.error("submission.command_failed", exc_info=error)
        return _FAILED.text.decode()

    # --- commands -----------------------------------------------------------------------------

    async def smtp_EHLO(self, hostname: str) -> None:
        """Answer EHLO."""
        await self._say(self._dialogue.hello(hostname, extended=True))

    async def smtp_HELO(self, hostname: str) -> None:
        """Answer HELO."""
        await self._say(self._dialogue.hello(hostname, extended=False))

    async def smtp_MAIL(self, arg: str | None) -> None:
        """Answer MAIL."""
        await self._say(self._dialogue.mail(arg))

    async def smtp_RCPT(self, arg: str | None) -> None:
        """Answer RCPT."""
        await self._say(self._dialogue.rcpt(arg))

    async def smtp_RSET(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Answer RSET."""
        await self._say(self._dialogue.reset())

    async def smtp_QUIT(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Answer QUIT."""
        await self._say(simple(221, "2.0.0", "Bye", close=True))

    async def smtp_HELP(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Answer HELP."""
        await self._say(simple(214, "2.0.0", "EHLO AUTH MAIL RCPT DATA RSET NOOP QUIT"))

    async def smtp_VRFY(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Refuse VRFY: who has an account is nobody's business here."""
        await self._say(_NOT_IMPLEMENTED)

    async def smtp_EXPN(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Refuse EXPN."""
        await self._say(_NOT_IMPLEMENTED)

    async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Refuse STARTTLS: the port is under TLS from the first byte."""
        await self._say(_NOT_IMPLEMENTED)

    # --- AUTH ---------------------------------------------------------------------------------

    async def smtp_AUTH(self, arg: str | None) -> None:
        """Sign in with PLAIN or LOGIN: address and app password."""
        arguments = (arg or "").split()
        refusal = self._dialogue.auth_refusal(arguments)
        if refusal is None:
            refusal = await self._sign_in(*arguments)
            if self._dialogue.person is None:
                self._tries += 1
                if self._tries >= self._hub.settings.auth_tries:
                    refusal = _TOO_MANY_TRIES
        await self._say(refusal)

    async def _sign_in(self, mechanism: str, initial: str | None = None) -> Reply:
        try:
            address, password = await self._credentials(mechanism.upper(), initial)
            person = await self._hub.authenticator.check(address, password, self._peer)
        except SaslError:
            return _UNREADABLE
        except ThrottledError:
            return _TOO_MANY_TRIES
        except CredentialsUnavailableError:
            return _AUTH_LATER
        if person is None:
            return _REJECTED
        self._dialogue.person = person
        if self._login_deadline is not None:
            self._login_deadline.cancel()
        return _SIGNED_IN

    async def _credentials(self, mechanism: str, initial: str | None) -> tuple[str, str]:
        # spec: RFC4954#4
        first = None if initial is None else initial.encode("utf-8", "surrogateescape")
        if mechanism == "PLAIN":
            return split_plain(decode_response(await self._answer(b"") if first is None else first))
        name = decode_response(await self._answer(b"VXNlcm5hbWU6") if first is None else first)
        return name, decode_response(await self._answer(b"UGFzc3dvcmQ6"))

    async def _answer(self, challenge: bytes) -> bytes:
        await self.push(b"334 " + challenge)
        line = bytes(await self._reader.readuntil()).rstrip(b"\r\n")
        if line == b"*" or len(line) > RESPONSE_MAX:
            raise SaslError("given up or too long")
        return line

    # --- DATA ---------------------------------------------------------------------------------

    async def smtp_DATA(self, arg: str | None) -> None:
        """Take the content, have it decided, answer."""
        reply, come = self._dialogue.data(arg)
        if not come:
            await self._say(reply)
            return
        self._busy = True
        try:
            await self._say(reply)
            await self._say(await self._content())
        finally:
            self._busy = False
            self._dialogue.reset()
        self._reset_timeout()
        if self._hub.draining:
            self.leave()

    async def _content(self) -> Reply:
        spool = self._hub.spool()
        handed = False
        try:
            received = await receive(self._timed_reader(), spool, max_size=self._hub.settings.max_wire)
            self._unread(received.rest)
            if received.too_big:  # spec: R-02 (beyond the second limit there is no evidence)
                return coded(RefusalCode.TOO_BIG, utf8=self._dialogue.utf8)
            if received.store_failed:
                return coded(RefusalCode.STORE_UNAVAILABLE, utf8=self._dialogue.utf8)
            if self._timeout_handle is not None:
                self._timeout_handle.cancel()  # deciding has limits of its own
            task = self._hub.hand_over(self._dialogue, spool, received)
            handed = True
            return await asyncio.shield(task)
        except BareLineEndingError:
            return await self._hang_up(coded(RefusalCode.BARE_LINE_ENDING, utf8=self._dialogue.utf8))
        except DataEndedEarlyError:
            return await self._hang_up(coded(RefusalCode.TOO_BIG, utf8=self._dialogue.utf8))
        finally:
            if not handed:
                self._hub.forget(spool)

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

    async def _hang_up(self, reply: Reply) -> Reply:
        """Answer a client that is still sending, and read on shortly so that it can hear us."""
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
