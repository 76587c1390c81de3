"""One peer's connection: STARTTLS and time limits, beside what every edge does (`smtp_gateway.protocol`)."""
# ruff: noqa: N802  # aiosmtpd finds commands by the name of their method

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, ClassVar, Final, Protocol, Self

import structlog

from kephs.ports import Spool
from smtp_gateway.data_stream import Received
from smtp_gateway.dialogue import DialogueSettings
from smtp_gateway.inbound import InboundDialogue
from smtp_gateway.protocol import NOT_IMPLEMENTED, TIMED_OUT, EdgeProtocol, Hub
from smtp_gateway.replies import Reply
from smtp_gateway.settings import InboundSettings

log = structlog.get_logger(__name__)

# what a BDAT client sends behind the command is content: reading it as commands would let content command us
_NO_CHUNKS: Final = replace(NOT_IMPLEMENTED, close=True)
_SHUTDOWN: Final = 5.0  # seconds for the other side to end TLS in order


class InboundHub(Hub, Protocol):
    """The inbound server as its connections see it."""

    settings: InboundSettings
    tls: ssl.SSLContext
    serves: Callable[[str], bool]

    def succeed(self, successor: EdgeProtocol, predecessor: EdgeProtocol) -> None:
        """Let a session go on under another protocol; it counts once."""
        ...

    def decision(
        self, dialogue: InboundDialogue, spool: Spool, received: Received
    ) -> Coroutine[Any, Any, Reply]:
        """Return the work that decides a message."""
        ...


class InboundProtocol(EdgeProtocol):
    """One peer's connection, in clear or under TLS.

    STARTTLS hands the connection to a second `InboundProtocol`: it has its own reader and its own dialogue,
    so nothing that came in clear, not even half a line, can be read or remembered under TLS.

    Attributes:
        ends: when the session's time is over, in the loop's time.
        mail_due: when the first MAIL must have come.
    """

    edge: ClassVar = "inbound"
    commands: ClassVar = "EHLO STARTTLS MAIL RCPT DATA RSET NOOP QUIT"
    _hub: InboundHub
    _dialogue: InboundDialogue

    def __init__(
        self, hub: InboundHub, loop: asyncio.AbstractEventLoop, predecessor: Self | None = None
    ) -> None:
        super().__init__(hub, loop)
        # kept as long as we live: collected before, its writer would close the socket below us
        self._predecessor = predecessor
        self._greeted = predecessor is not None
        self._shaking_hands = False
        self._over = False
        now = loop.time()
        self.ends: float = predecessor.ends if predecessor else now + hub.settings.session_timeout
        self.mail_due: float = predecessor.mail_due if predecessor else now + hub.settings.first_mail_timeout
        self._mail_timer: asyncio.TimerHandle | None = None

    def _fresh_dialogue(self, *, secure: bool) -> InboundDialogue:
        settings = self._hub.settings
        limits = DialogueSettings(settings.hostname, settings.max_wire, settings.max_recipients)
        return InboundDialogue(limits, secure=secure, serves=self._hub.serves)

    def _set_deadlines(self) -> None:
        self._deadlines.append(self.loop.call_at(self.ends, self._session_over))
        self._mail_timer = self.loop.call_at(self.mail_due, self._timeout_cb)
        self._deadlines.append(self._mail_timer)

    def _decision(self, spool: Spool, received: Received) -> Coroutine[Any, Any, Reply]:
        return self._hub.decision(self._dialogue, spool, received)

    # --- the connection's life ----------------------------------------------------------------

    @property
    def gone(self) -> bool:
        """Say whether the client has hung up."""
        return self._leaving

    def _admit(self) -> bool:
        if self._predecessor is None:
            return super()._admit()
        self._hub.succeed(self, self._predecessor)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """End, perhaps before the beginning: the client may go while the handshake's end is being noted."""
        if self.session is None:
            self._leaving = True
        else:
            super().connection_lost(error)

    def eof_received(self) -> bool | None:
        """Note that the client is gone."""
        if self.session is None:
            self._leaving = True
            return False
        return super().eof_received()

    def _session_over(self) -> None:
        self._over = True
        if not self._deciding:
            self._close(TIMED_OUT)

    def _may_stay(self) -> bool:
        return super()._may_stay() and not self._over

    def _close(self, last: Reply | None = None) -> None:
        if self._shaking_hands:  # no word fits into a handshake
            self.abort()
        else:
            super()._close(last)

    async def push(self, status: str | bytes) -> None:
        """Send a reply. The library greets every protocol; behind STARTTLS nobody is greeted again."""
        # spec: RFC3207#4
        if self._greeted:
            self._greeted = False
            return
        await super().push(status)

    # --- commands -----------------------------------------------------------------------------

    async def smtp_MAIL(self, arg: str | None) -> None:
        """Answer MAIL."""
        await super().smtp_MAIL(arg)
        if self._dialogue.in_transaction and self._mail_timer is not None:
            self._mail_timer.cancel()

    async def smtp_ETRN(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Refuse ETRN: nothing is queued here for others to fetch."""
        await self._say(NOT_IMPLEMENTED)

    async def smtp_BDAT(self, arg: str | None) -> None:  # noqa: ARG002  # the library's signature
        """Refuse BDAT, which is not announced, and hang up."""
        await self._say(_NO_CHUNKS)

    # --- STARTTLS -----------------------------------------------------------------------------

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        """Go under TLS with a protocol that knows nothing of this one's commands."""
        reply, begin = self._dialogue.starttls(arg)
        if not begin:
            await self._answer(reply)
            return
        assert isinstance(self.transport, asyncio.Transport)
        plain = self.transport
        plain.pause_reading()  # what comes from here on is for the handshake
        await self._say(reply)
        if self._leaving:
            return
        self._drop_cleartext()
        self._shaking_hands = True
        self._drop_deadlines()
        self._bear_with()  # the handshake has its own limit
        successor = InboundProtocol(self._hub, self.loop, self)
        under_tls = False
        try:
            secured = await self._shake_hands(plain, successor)
            if secured is not None and not successor.gone:
                successor.connection_made(secured)
                under_tls = True
        finally:
            self.transport = None  # ends aiosmtpd's loop
            if not under_tls:
                plain.abort()
                self._hub.dismiss(self, self._network)
        if not self._may_stay():
            successor.leave()

    def _drop_cleartext(self) -> None:
        """Forget what was pipelined behind STARTTLS: somebody in between may have written it."""
        buffer: bytearray = self._reader._buffer  # type: ignore[attr-defined]  # noqa: SLF001  # no public way
        if buffer:
            log.warning("inbound.cleartext_dropped", size=len(buffer))
            buffer.clear()

    async def _shake_hands(self, plain: asyncio.Transport, successor: Self) -> asyncio.Transport | None:
        """Return the transport under TLS, or None where there is none."""
        try:
            return await self.loop.start_tls(
                plain, successor, self._hub.tls, server_side=True,
                ssl_handshake_timeout=self._hub.settings.handshake_timeout, ssl_shutdown_timeout=_SHUTDOWN,
            )  # fmt: skip
        except OSError as error:
            log.info("inbound.tls_failed", reason=type(error).__name__)
            return None
