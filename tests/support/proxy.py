"""A TCP proxy that counts what passes and cuts where it is told: in clear text by lines, under TLS by records."""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Final, Self

_RECORD_HEAD: Final = 5  # type, version, length; spec: RFC8446#5.1
_FIRST_TEXT: Final = 0x20  # SMTP lines begin above, TLS records below
_PIECE: Final = 65_536


class Side(Enum):
    """Whose word it is."""

    CLIENT = "client"
    SERVER = "server"


class When(Enum):
    """Where in a unit the connection is cut."""

    BEFORE = "before"  # it came to the proxy and no further
    HALF = "half"
    AFTER = "after"  # it was passed on, nothing more is


@dataclass(frozen=True)
class Cut:
    """Cut a connection at the n-th line or record (from 1) of one side; ``hard`` with a reset."""

    side: Side
    number: int
    when: When
    hard: bool = False


class Units:
    """Splits a stream into lines or, where one begins with a control character, TLS records."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return what is complete by now."""
        self._rest += data
        found = []
        while (size := self._size()) and size <= len(self._rest):
            found.append(self._rest[:size])
            self._rest = self._rest[size:]
        return found

    def _size(self) -> int:
        """Return the size of the unit that comes next; 0 while that is unknown."""
        if not self._rest:
            return 0
        if self._rest[0] >= _FIRST_TEXT:
            return self._rest.find(b"\n") + 1
        if len(self._rest) < _RECORD_HEAD:
            return 0
        return _RECORD_HEAD + int.from_bytes(self._rest[3:_RECORD_HEAD])


@dataclass
class Passage:
    """One connection through the proxy: which cut it has to suffer, and how many units passed."""

    plan: Cut | None
    passed: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))


class Proxy:
    """Listens while its ``async with`` block runs. Each connection takes the next of the cuts planned.

    A connection whose target cannot be reached takes none. ``passages`` are all there were, oldest first;
    ``fired`` the cuts that happened. ``at_cut`` is called when one happens, before anything is passed on.
    """

    def __init__(self, port: int, target: int) -> None:
        self._port, self._target = port, target
        self.plans: deque[Cut] = deque()
        self.fired: list[Cut] = []
        self.at_cut: Callable[[], None] = lambda: None
        self.passages: list[Passage] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def plan(self, cuts: Iterable[Cut]) -> None:
        """Plan cuts for the connections that come next."""
        self.plans.extend(cuts)

    def hang_up(self) -> None:
        """End every connection there is."""
        for end in list(self._ends):
            end.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._ends.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._pass(reader, writer)
        finally:
            self._tasks.discard(task)
            self._ends.discard(writer)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        passage = Passage(self.plans.popleft() if self.plans else None)
        self.passages.append(passage)
        self._ends.add(inner_writer)
        pumps = [
            asyncio.ensure_future(self._pump(passage, side, source, target))
            for side, source, target in (
                (Side.CLIENT, reader, inner_writer), (Side.SERVER, inner_reader, writer),
            )
        ]  # fmt: skip
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for end in (writer, inner_writer):  # what was passed on still arrives
                if passage.plan is not None and passage.plan.hard:
                    raw: socket.socket = end.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._ends.discard(inner_writer)
            inner_writer.transport.abort()

    async def _pump(
        self, passage: Passage, side: Side, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        """Pass on one direction; return at its end or where it is cut."""
        units, plan = Units(), passage.plan
        while data := await source.read(_PIECE):
            for unit in units.feed(data):
                passage.passed[side] += 1
                if plan is not None and (plan.side, plan.number) == (side, passage.passed[side]):
                    await self._cut(plan, unit, target)
                    return
                target.write(unit)
            await target.drain()

    async def _cut(self, plan: Cut, unit: bytes, target: asyncio.StreamWriter) -> None:
        self.at_cut()
        target.write({When.BEFORE: b"", When.HALF: unit[: len(unit) // 2], When.AFTER: unit}[plan.when])
        await target.drain()
        self.fired.append(plan)
