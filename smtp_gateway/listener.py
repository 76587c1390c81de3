"""What both listeners share: caps on sessions, messages decided to the end, counters, a graceful stop."""

import asyncio
import logging
import ssl
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Self

import structlog

from kephs.domain.refusals import Refusal, RefusalCode
from kephs.ports import Spool
from smtp_gateway.protocol import EdgeProtocol
from smtp_gateway.replies import Reply, failed
from smtp_gateway.settings import ListenerSettings

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class EdgeCounters:
    """What happened since the start: connections, messages taken, refusals by code."""

    sessions: int = 0
    taken: int = 0
    refused: Counter[RefusalCode] = field(default_factory=Counter)


class Listener(ABC):
    """Listens while its ``async with`` block runs; leaving it drains and stops.

    Messages whose end has been received are decided to the end, even where the client is gone.

    Attributes:
        edge: how the names of log events begin.
        settings: the limits.
        counters: figures since the start.
        draining: no more sessions are taken.
    """

    edge: ClassVar[str]

    def __init__(
        self, *, host: str, port: int, ssl_context: ssl.SSLContext | None,
        spools: Callable[[], Spool], settings: ListenerSettings, reuse_port: bool,
    ) -> None:  # fmt: skip
        """Prepare; nothing happens before the block is entered. With ``ssl_context`` TLS is implicit."""
        self._host, self._port, self._ssl, self._reuse_port = host, port, ssl_context, reuse_port
        self._spools = spools
        self.settings = settings
        self.counters = EdgeCounters()
        self.draining = False
        self._sessions: set[EdgeProtocol] = set()
        self._networks: Counter[str] = Counter()
        self._tasks = asyncio.TaskGroup()
        self._listener: asyncio.Server | None = None
        self._empty = asyncio.Event()

    @abstractmethod
    def _protocol(self, loop: asyncio.AbstractEventLoop) -> EdgeProtocol:
        """Return what serves one connection."""

    def _event(self, name: str) -> str:
        return f"{self.edge}.{name}"

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        assert self._listener is not None
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def open_sessions(self) -> int:
        """Return how many connections are open now."""
        return len(self._sessions)

    async def __aenter__(self) -> Self:
        # aiosmtpd logs command lines, and with them addresses, which our logs must not hold
        logging.getLogger("mail.log").setLevel(logging.CRITICAL)
        await self._tasks.__aenter__()
        loop = asyncio.get_running_loop()
        tls: dict[str, Any] = {}
        if self._ssl is not None:
            tls = {"ssl": self._ssl, "ssl_handshake_timeout": 20.0, "ssl_shutdown_timeout": 5.0}
        self._listener = await loop.create_server(
            lambda: self._protocol(loop),
            self._host,
            self._port,
            backlog=512,
            reuse_port=self._reuse_port or None,
            **tls,
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
                log.warning(self._event("drain_cut"), sessions=len(self._sessions))
                for session in tuple(self._sessions):
                    session.abort()
        await self._listener.wait_closed()

    # --- what connections ask -----------------------------------------------------------------

    def admit(self, session: EdgeProtocol, network: str) -> bool:
        """Count a new session in; False where there are too many or the server is stopping."""
        self.counters.sessions += 1
        self._sessions.add(session)
        self._networks[network] += 1
        limits = self.settings
        return not (
            self.draining
            or len(self._sessions) > limits.max_sessions
            or self._networks[network] > limits.max_sessions_per_network
        )

    def dismiss(self, session: EdgeProtocol, network: str) -> None:
        """Count a session out."""
        if session not in self._sessions:
            return
        self._sessions.discard(session)
        self._networks[network] -= 1
        if not self._networks[network]:
            del self._networks[network]
        if not self._sessions:
            self._empty.set()

    def count_refusal(self, refusal: Refusal, *, evidence_id: str | None = None, told: bool = False) -> None:
        """Count a refusal; log it unless the session was ``told`` the same before."""
        self.counters.refused[refusal.code] += 1
        if not told:
            log.info(
                self._event("refused"), code=refusal.code, detail=refusal.detail, evidence_id=evidence_id
            )

    def spool(self) -> Spool:
        """Return an empty spool."""
        return self._spools()

    def hand_over(self, decision: Coroutine[Any, Any, Reply], spool: Spool) -> asyncio.Future[Reply]:
        """Have a message decided in a task of the server; the client can cancel its answer alone."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._tasks.create_task(self._tell(answer, self._decided(decision, spool)))
        return answer

    async def _tell(self, answer: asyncio.Future[Reply], decided: Coroutine[Any, Any, Reply]) -> None:
        try:
            reply = await decided
            if not answer.done():  # else the client is gone
                answer.set_result(reply)
        finally:
            answer.cancel()  # where the server ends before it was given

    async def _decided(self, decision: Coroutine[Any, Any, Reply], spool: Spool) -> Reply:
        try:
            return await decision
        except Exception:
            log.exception(self._event("failed"))
            return failed()
        finally:
            await self._discard(spool)

    def forget(self, spool: Spool) -> None:
        """Discard a spool in the background: its session may be cancelled any moment."""
        self._tasks.create_task(self._discard(spool))

    async def _discard(self, spool: Spool) -> None:
        try:
            await spool.discard()
        except Exception:
            log.exception(self._event("discard_failed"))
