"""The submission listener: implicit TLS, caps on sessions, messages decided to the end, a graceful stop."""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Protocol, Self

import structlog

from kephs.ports import Clock, Spool
from kephs.usecases.results import Accepted, Incoming, Refused
from smtp_gateway.authenticator import Authenticator
from smtp_gateway.connection import SubmissionProtocol
from smtp_gateway.data_stream import Received
from smtp_gateway.replies import Reply, accepted, refused, simple
from smtp_gateway.settings import EdgeSettings
from smtp_gateway.submission import Dialogue

log = structlog.get_logger(__name__)

_FAILED: Final = simple(451, "4.3.0", "Internal error, try again")


class Submitting(Protocol):
    """The use case behind the edge (`kephs.usecases.submit.Submit`)."""

    async def submit(self, incoming: Incoming) -> Accepted | Refused:
        """Accept or refuse; what it says is durable."""
        ...


class SubmissionServer:
    """Listens while its ``async with`` block runs; leaving it drains and stops.

    Messages whose end has been received are decided to the end, even where the client is gone.
    """

    def __init__(
        self, *, host: str, port: int, ssl_context: ssl.SSLContext | None, submit: Submitting,
        authenticator: Authenticator, spools: Callable[[], Spool], clock: Clock, settings: EdgeSettings,
    ) -> None:  # fmt: skip
        """Prepare; nothing happens before the block is entered. Without TLS there is no AUTH either."""
        self._host, self._port, self._ssl = host, port, ssl_context
        self._submit, self._clock, self._spools = submit, clock, spools
        self.authenticator, self.settings = authenticator, settings
        self._sessions: set[SubmissionProtocol] = set()
        self._networks: Counter[str] = Counter()
        self._tasks = asyncio.TaskGroup()
        self._listener: asyncio.Server | None = None
        self._empty = asyncio.Event()
        self.draining = False

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        assert self._listener is not None
        return int(self._listener.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        # aiosmtpd logs command lines, and with them addresses, which our logs must not hold
        logging.getLogger("mail.log").setLevel(logging.CRITICAL)
        await self._tasks.__aenter__()
        loop = asyncio.get_running_loop()
        tls: dict[str, Any] = {}
        if self._ssl is not None:
            tls = {"ssl": self._ssl, "ssl_handshake_timeout": 20.0, "ssl_shutdown_timeout": 5.0}
        self._listener = await loop.create_server(
            lambda: SubmissionProtocol(self, loop), self._host, self._port, backlog=512, **tls
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._drain()
        finally:
            # whatever ended the block: what was received is decided before the tasks' group ends
            await self._tasks.__aexit__(None, None, None)

    async def _drain(self) -> None:
        assert self._listener is not None
        self.draining = True
        self._listener.close()
        for session in tuple(self._sessions):
            session.leave()
        if self._sessions:
            self._empty.clear()
            try:
                async with asyncio.timeout(self.settings.drain_timeout):
                    await self._empty.wait()
            except TimeoutError:
                log.warning("submission.drain_cut", sessions=len(self._sessions))
                for session in tuple(self._sessions):
                    session.abort()
        await self._listener.wait_closed()

    def admit(self, session: SubmissionProtocol, network: str) -> bool:
        """Count a new session in; False where there are too many or the server is stopping."""
        self._sessions.add(session)
        self._networks[network] += 1
        limits = self.settings
        return not (
            self.draining
            or len(self._sessions) > limits.max_sessions
            or self._networks[network] > limits.max_sessions_per_network
        )

    def dismiss(self, session: SubmissionProtocol, network: str) -> None:
        """Count a session out."""
        if session not in self._sessions:
            return
        self._sessions.discard(session)
        self._networks[network] -= 1
        if not self._networks[network]:
            del self._networks[network]
        if not self._sessions:
            self._empty.set()

    def spool(self) -> Spool:
        """Return an empty spool."""
        return self._spools()

    def hand_over(self, dialogue: Dialogue, spool: Spool, received: Received) -> asyncio.Task[Reply]:
        """Have a message decided in a task of the server, which the client cannot cancel."""
        incoming = dialogue.incoming(spool, received, self._clock.now())
        return self._tasks.create_task(self._decide(incoming, utf8=dialogue.utf8))

    async def _decide(self, incoming: Incoming, *, utf8: bool) -> Reply:
        try:
            outcome = await self._submit.submit(incoming)
        except Exception:
            log.exception("submission.failed")
            return _FAILED
        finally:
            await self._discard(incoming.spool)
        if isinstance(outcome, Refused):
            refusal = outcome.refusal
            log.info(
                "submission.refused",
                code=refusal.code,
                detail=refusal.detail,
                evidence_id=outcome.evidence_id,
            )
            return refused(outcome, utf8=utf8)
        log.info("submission.accepted", message_id=outcome.message_id, evidence_id=outcome.evidence_id)
        return accepted(outcome)

    def forget(self, spool: Spool) -> None:
        """Discard a spool in the background: its session may be cancelled any moment."""
        self._tasks.create_task(self._discard(spool))

    async def _discard(self, spool: Spool) -> None:
        try:
            await spool.discard()
        except Exception:
            log.exception("submission.discard_failed")
