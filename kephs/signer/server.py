"""The signer's side: answers one connection with what a `Sealing` makes, and checks what it is asked to seal.

The checks are the signer's own (trust boundaries, architecture): whoever took over the main process can have
evidence of this provider about now sealed, of nobody else and of no other time, and cannot pass a digest off
as evidence, for the signer writes what it signs.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

import structlog

from evidence.forms.record_wire import RecordWireError, decode, fingerprint
from evidence.model.records import EvidenceRecord, Issuer, SealedEvidence
from evidence.ports import Sealing, SignerRefusedError, SignerUnavailableError, TimestampUnavailableError
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
TOGETHER_MAX: Final = 64
"""Requests that are sealed with one call, where they came together: that costs much less than one by one."""
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
            link = _ServerLink(lambda asked: group.create_task(self._answer(link, asked)))
            await loop.create_unix_connection(lambda: link, sock=connected)
            link.send(pack_answer(Hello(fingerprint())))
            log.debug("signer.ready")
            ends = [group.create_task(event.wait()) for event in (link.lost, stopping)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            await link.drain()
            for task in ends:
                task.cancel()
        log.debug("signer.stopped", reason=link.reason)

    async def _answer(self, link: "_ServerLink", asked: Sequence[Request]) -> None:
        """Answer requests that came together; with several, all are to be sealed in the same way."""
        if len(asked) > 1 and await self._answered_together(link, asked):
            return
        for request in asked:
            link.send(await self._frame(request.number, self._parts(request)))

    async def _answered_together(self, link: "_ServerLink", asked: Sequence[Request]) -> bool:
        """Seal what several requests hold with one call; say False where one of them spoils that."""
        try:
            groups = [self._records(request) for request in asked]
            joined = [record for group in groups for record in group]
            sealed = iter(await self._seal(asked[0], joined))
        except TimestampUnavailableError as error:
            for request in asked:
                link.send(pack_answer(Failure(request.number, Trouble.STAMP, str(error))))
            return True
        except Exception:  # noqa: BLE001  # each on its own then: that says which one, and logs why
            return False
        for request, group in zip(asked, groups, strict=True):
            parts = _parts_of(list(islice(sealed, len(group))))
            link.send(await self._frame(request.number, _ready(parts)))
        return True

    async def _frame(self, number: int, work: Awaitable[tuple[Part, ...]]) -> bytes:
        """Return the frame with what the work gives, or with why it does not."""
        try:
            return pack_answer(Answer(number, await work))
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
        return pack_answer(Failure(number, trouble, text))

    async def _parts(self, request: Request) -> tuple[Part, ...]:
        match request:
            case Seal():
                return _parts_of(await self._seal(request, self._records(request)))
            case Sign():
                self._rules.check_time(request.at, self._clock())
                return tuple(await self._sealing.sign_entities(request.digests, request.at))
            case Stamp():
                return tuple(await self._sealing.records(request.leaves))
        raise SignerRefusedError(request.problem)

    def _records(self, request: Request) -> list[EvidenceRecord]:
        """Read and check the records of a request."""
        assert isinstance(request, Seal)
        records = [decode(record) for record in request.records]
        now = self._clock()
        for record in records:
            self._rules.check_record(record, now)
        return records

    async def _seal(self, request: Request, records: list[EvidenceRecord]) -> list[SealedEvidence]:
        assert isinstance(request, Seal)
        return await self._sealing.seal_many(records, profile=request.profile, stamping=request.stamping)


def _parts_of(sealed: list[SealedEvidence]) -> tuple[Part, ...]:
    return tuple([part for one in sealed for part in (one.xml, one.ers)])


async def _ready(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    return parts


class _ServerLink(FrameLink):
    """The server's end: what is under way."""

    def __init__(self, start: "Callable[[Sequence[Request]], asyncio.Task[None]]") -> None:
        super().__init__(REQUEST_MAX)
        self._start = start
        self._arrived: list[tuple[Request, int]] = []
        self._tasks: dict[asyncio.Task[None], tuple[int, int]] = {}
        self._requests = self._load = 0
        self._draining = False

    def take(self, frame: Frame) -> None:
        """Note what a frame asks for."""
        self._arrived.append((read_request(frame), frame.size))

    def data_received(self, data: bytes) -> None:
        """Begin what these bytes ask for; what is sealed alike and came together is sealed together."""
        super().data_received(data)
        arrived, self._arrived = self._arrived, []
        alike: dict[object, list[tuple[Request, int]]] = {}
        for request, size in arrived:
            way = (request.profile, request.stamping) if isinstance(request, Seal) else request.number
            alike.setdefault(way, []).append((request, size))
        for group in alike.values():
            for start in range(0, len(group), TOGETHER_MAX):
                self._begin(group[start : start + TOGETHER_MAX])
        self._regulate()

    def _begin(self, group: list[tuple[Request, int]]) -> None:
        task = self._start([request for request, _ in group])
        self._tasks[task] = (len(group), sum(size for _, size in group))
        self._requests += self._tasks[task][0]
        self._load += self._tasks[task][1]
        task.add_done_callback(self._done)

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
        requests, load = self._tasks.pop(task)
        self._requests -= requests
        self._load -= load
        self._regulate()

    def _regulate(self) -> None:
        full = self._requests >= REQUESTS_MAX or self._load >= LOAD_MAX
        if self._draining or full or not self.writable.is_set():
            self.pause()
        else:
            self.resume()
