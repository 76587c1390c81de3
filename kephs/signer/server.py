"""The signer's side: answers one connection with what a `Sealing` makes, and checks what it is asked to seal.

The checks are the signer's own (trust boundaries, architecture): whoever took over the main process can have
evidence of this provider about now sealed, of nobody else and of no other time, and cannot pass a digest off
as evidence, for the signer writes what it signs.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from evidence.ports import Sealing, SignerRefusedError, SignerUnavailableError, TimestampUnavailableError
from evidence.record_wire import RecordWireError, decode, fingerprint
from evidence.records import EvidenceRecord, Issuer
from kephs.signer.link import FrameLink
from kephs.signer.wire import (
    DIGEST_SIZE,
    REQUEST_MAX,
    Answer,
    Failure,
    Frame,
    Hello,
    Part,
    Request,
    Seal,
    Sign,
    Stamp,
    Trouble,
    WireError,
    pack_answer,
    read_request,
)

MOST_DISTANCE: Final = timedelta(minutes=5)
REQUESTS_MAX: Final = 256
"""Requests under way; beyond them nothing more is read."""
LOAD_MAX: Final = 8 << 20
"""Octets of requests under way, likewise."""
DRAIN_SECONDS: Final = 8.0
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SignerRules:
    """What the signer seals: evidence of its own provider, about now.

    Attributes:
        issuer: the provider, as evidence names it.
        most_distance: longest way between a claimed time and the signer's clock.
    """

    issuer: Issuer
    most_distance: timedelta = MOST_DISTANCE

    def check_record(self, record: EvidenceRecord, now: datetime) -> None:
        """Check an event before it becomes evidence.

        Raises:
            SignerRefusedError: another's, of another time, or about nothing.
        """
        if record.issuer != self.issuer:
            raise SignerRefusedError(
                "the record's issuer is not this provider; restart the server if its settings were changed"
            )
        self.check_time(record.event_time, now)
        if record.submission_time > now + self.most_distance:
            raise SignerRefusedError("the record's submission lies in the future")
        if len(record.message.digest_sha256) != DIGEST_SIZE:
            raise SignerRefusedError("the record's message digest is no SHA-256")
        if record.refers_to is not None and not 1 <= record.refers_to <= len(record.recipients):
            raise SignerRefusedError("the record refers to no recipient of its own")

    def check_time(self, at: datetime, now: datetime) -> None:
        """Check a claimed time.

        Raises:
            SignerRefusedError: too far away.
        """
        if abs(at - now) > self.most_distance:
            raise SignerRefusedError("the claimed time is too far from the signer's clock")


class SignerServer:
    """Answers what comes over one socket, many requests at a time.

    Args:
        sealing: what holds the key.
        rules: what it may be used for.
        clock: the current time, UTC.
    """

    def __init__(self, sealing: Sealing, rules: SignerRules, clock: Callable[[], datetime]) -> None:
        self._sealing, self._rules, self._clock = sealing, rules, clock

    async def serve(self, connected: socket.socket, stopping: asyncio.Event) -> None:
        """Answer until the other side is gone, or until ``stopping``: then what was asked is answered still.

        Args:
            connected: this side's end of the pair; closed in the end.
            stopping: set to drain.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            link = _ServerLink(lambda request: group.create_task(self._answered(link, request)))
            await loop.create_unix_connection(lambda: link, sock=connected)
            link.send(pack_answer(Hello(fingerprint())))
            log.info("signer.ready")
            ends = [group.create_task(event.wait()) for event in (link.lost, stopping)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            await link.drain()
            for task in ends:
                task.cancel()
        log.info("signer.stopped", reason=link.reason)

    async def _answered(self, link: "_ServerLink", request: Request) -> None:
        link.send(await self._frame(request))

    async def _frame(self, request: Request) -> bytes:
        try:
            return pack_answer(Answer(request.number, await self._parts(request)))
        except (SignerRefusedError, RecordWireError, WireError) as error:  # before its base class
            trouble, text = Trouble.REFUSED, str(error)
            log.error("signer.refused", reason=text)  # noqa: TRY400  # no trace: the text says it all
        except SignerUnavailableError as error:
            trouble, text = Trouble.SIGNER, str(error)
        except TimestampUnavailableError as error:
            trouble, text = Trouble.STAMP, str(error)
        except Exception:  # a defect here must not end other requests; the trace stays in this log
            trouble, text = Trouble.REFUSED, "the signer failed; its log says why"
            log.exception("signer.defect")
        return pack_answer(Failure(request.number, trouble, text))

    async def _parts(self, request: Request) -> tuple[Part, ...]:
        match request:
            case Seal():
                records = [decode(record) for record in request.records]
                now = self._clock()
                for record in records:
                    self._rules.check_record(record, now)
                sealed = await self._sealing.seal_many(
                    records, profile=request.profile, stamping=request.stamping
                )
                return tuple([part for one in sealed for part in (one.xml, one.ers)])
            case Sign():
                self._rules.check_time(request.at, self._clock())
                return (await self._sealing.sign_entity(request.digest, request.at),)
            case Stamp():
                return tuple(await self._sealing.records(request.leaves))
        raise SignerRefusedError(request.problem)


class _ServerLink(FrameLink):
    """The server's end: what is under way."""

    def __init__(self, start: "Callable[[Request], asyncio.Task[None]]") -> None:
        super().__init__(REQUEST_MAX)
        self._start = start
        self._tasks: dict[asyncio.Task[None], int] = {}
        self._load = 0
        self._draining = False

    def take(self, frame: Frame) -> None:
        """Begin what a frame asks for."""
        task = self._start(read_request(frame))
        self._tasks[task] = frame.size
        self._load += frame.size
        task.add_done_callback(self._done)
        self._regulate()

    async def drain(self) -> None:
        """Take nothing more, let what is under way be answered, and close."""
        self._draining = True
        self._regulate()
        if self._tasks and not self.lost.is_set():
            await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS)
        for task in self._tasks:
            task.cancel()
        self.close()
        try:
            async with asyncio.timeout(1):
                await self.lost.wait()
        except TimeoutError:
            self.abort("the other side does not read")

    def pause_writing(self) -> None:
        """Read no more until the other side reads."""
        super().pause_writing()
        self._regulate()

    def resume_writing(self) -> None:
        """Read on."""
        super().resume_writing()
        self._regulate()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop working for nobody."""
        super().connection_lost(exc)
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._load -= self._tasks.pop(task)
        self._regulate()

    def _regulate(self) -> None:
        full = len(self._tasks) >= REQUESTS_MAX or self._load >= LOAD_MAX
        if self._draining or full or not self.writable.is_set():
            self.pause()
        else:
            self.resume()
