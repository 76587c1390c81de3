"""The submission listener: implicit TLS, and what the use case says becomes the reply."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Protocol

import structlog

from kephs.ports import Clock, Spool
from kephs.usecases.submission.results import Accepted, Incoming, Refused
from smtp_gateway.authenticator import Authenticator
from smtp_gateway.connection import SubmissionProtocol
from smtp_gateway.data_stream import Received
from smtp_gateway.listener import Listener
from smtp_gateway.protocol import EdgeProtocol
from smtp_gateway.replies import Reply, accepted, refused
from smtp_gateway.settings import EdgeSettings
from smtp_gateway.submission import Dialogue

log = structlog.get_logger(__name__)


class Submitting(Protocol):
    """The use case behind the edge (`kephs.usecases.submission.submit.Submit`)."""

    async def submit(self, incoming: Incoming) -> Accepted | Refused:
        """Accept or refuse; what it says is durable."""
        ...


class SubmissionServer(Listener):
    """Listens while its ``async with`` block runs; leaving it drains and stops.

    Messages whose end has been received are decided to the end, even where the client is gone.
    """

    edge: ClassVar = "submission"
    settings: EdgeSettings

    def __init__(
        self, *, host: str, port: int, ssl_context: ssl.SSLContext | None, submit: Submitting,
        authenticator: Authenticator, spools: Callable[[], Spool], clock: Clock, settings: EdgeSettings,
        reuse_port: bool = False,
    ) -> None:  # fmt: skip
        """Prepare; nothing happens before the block is entered. Without TLS there is no AUTH either."""
        super().__init__(
            host=host, port=port, ssl_context=ssl_context, spools=spools, settings=settings,
            reuse_port=reuse_port,
        )  # fmt: skip
        self._submit, self._clock = submit, clock
        self.authenticator = authenticator

    def _protocol(self, loop: asyncio.AbstractEventLoop) -> EdgeProtocol:
        return SubmissionProtocol(self, loop)

    def decision(self, dialogue: Dialogue, spool: Spool, received: Received) -> Coroutine[Any, Any, Reply]:
        """Return the work that decides a message; the envelope is read now, it may be forgotten later."""
        incoming = dialogue.incoming(spool, received, self._clock.now())
        return self._decide(incoming, utf8=dialogue.utf8)

    async def _decide(self, incoming: Incoming, *, utf8: bool) -> Reply:
        outcome = await self._submit.submit(incoming)
        if isinstance(outcome, Refused):
            self.count_refusal(outcome.refusal, evidence_id=outcome.evidence_id)
            return refused(outcome, utf8=utf8)
        self.counters.taken += 1
        log.info("submission.accepted", message_id=outcome.message_id, evidence_id=outcome.evidence_id)
        return accepted(outcome)
