"""The listener for peers (port 25): STARTTLS, mail for our own domain alone, the use case's word as reply."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Protocol

import structlog

from kephs.ports import Clock, Spool
from kephs.usecases.submission.results import Arriving, Refused, Taken
from smtp_gateway.data_stream import Received
from smtp_gateway.inbound import InboundDialogue
from smtp_gateway.inbound_connection import InboundProtocol
from smtp_gateway.listener import Listener
from smtp_gateway.protocol import EdgeProtocol
from smtp_gateway.replies import Reply, refused, taken
from smtp_gateway.settings import InboundSettings

log = structlog.get_logger(__name__)


class Receiving(Protocol):
    """The use case behind the edge."""

    async def receive(self, arriving: Arriving) -> Taken | Refused:
        """Take or refuse; what it says is durable."""
        ...


class InboundServer(Listener):
    """Listens while its ``async with`` block runs; leaving it drains and stops.

    Messages whose end has been received are decided to the end, even where the peer is gone: it will
    come again with the same bytes and hear the first answer (R-15).
    """

    edge: ClassVar = "inbound"
    settings: InboundSettings

    def __init__(
        self, *, host: str, port: int, ssl_context: ssl.SSLContext, receive: Receiving,
        spools: Callable[[], Spool], clock: Clock, settings: InboundSettings,
        register_serves: Callable[[str], bool], reuse_port: bool = False,
    ) -> None:  # fmt: skip
        """Prepare; nothing happens before the block is entered.

        Args:
            host: where to listen.
            port: where to listen; 0 lets the system choose.
            ssl_context: what STARTTLS shows.
            receive: decides what came.
            spools: makes empty spools.
            clock: tells when a message came.
            settings: the limits.
            register_serves: says whether a domain, in lower-case ASCII, is served here.
            reuse_port: let other processes listen on the same port.
        """
        super().__init__(
            host=host, port=port, ssl_context=None, spools=spools, settings=settings, reuse_port=reuse_port
        )
        self._receive, self._clock = receive, clock
        self.tls, self.serves = ssl_context, register_serves

    def _protocol(self, loop: asyncio.AbstractEventLoop) -> EdgeProtocol:
        return InboundProtocol(self, loop)

    def succeed(self, successor: EdgeProtocol, predecessor: EdgeProtocol) -> None:
        """Let a session go on under another protocol; it counts once."""
        self._sessions.discard(predecessor)
        self._sessions.add(successor)

    def decision(
        self, dialogue: InboundDialogue, spool: Spool, received: Received
    ) -> Coroutine[Any, Any, Reply]:
        """Return the work that decides a message; the envelope is read now, it may be forgotten later."""
        return self._decide(dialogue.arriving(spool, received, self._clock.now()), utf8=dialogue.utf8)

    async def _decide(self, arriving: Arriving, *, utf8: bool) -> Reply:
        outcome = await self._receive.receive(arriving)
        if isinstance(outcome, Refused):
            self.count_refusal(outcome.refusal, evidence_id=outcome.evidence_id)
            return refused(outcome, utf8=utf8)
        self.counters.taken += 1
        log.info("inbound.taken", message_id=outcome.message_id, evidence_id=outcome.evidence_id)
        return taken(outcome)
