"""A proxy in front of a real S3 server that answers, keeps silent, cuts and changes as it is told.

One request a connection: each takes the next of the faults planned, or passes untouched. With a context it
speaks TLS with the client.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from enum import Enum
from types import TracebackType
from typing import Self

_HEAD_MAX = 65_536


class Fault(Enum):
    """What happens to a request."""

    BUSY = "503"  # answered by the proxy, the server never hears of it
    BROKEN = "500 that is no XML"
    SILENT = "no answer, the server never hears of it"
    ANSWER_LOST = "done by the server, no answer"
    CUT_BEFORE = "cut before anything is passed on"
    CUT_REQUEST = "half of the request passes"
    CUT_ANSWER = "half of the answer passes"
    FLIPPED = "a bit in the middle of the answer's content is another"


_BUSY = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"
_BROKEN = b"<html>the proxy on the way is broken"


class S3Proxy:
    """Listens on a free port while its ``async with`` block runs."""

    def __init__(self, target: int, context: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._context = context
        self.port = 0
        self.plan: deque[Fault | None] = deque()
        self.requests: list[str] = []
        self.fired: list[Fault] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=_HEAD_MAX, ssl=self._context
        )
        self.port = self._server.sockets[0].getsockname()[1]
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

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await self._pass(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        length = next((int(x.partition(":")[2]) for x in lines if x.lower().startswith("content-length:")), 0)
        body = await reader.readexactly(length)
        self.requests.append(lines[0])
        fault = self.plan.popleft() if self.plan else None
        if fault is not None:
            self.fired.append(fault)
        request = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + body
        match fault:
            case Fault.BUSY:
                await _answer(writer, "503 Slow Down", "application/xml", _BUSY)
            case Fault.BROKEN:
                await _answer(writer, "500 Oops", "text/html", _BROKEN)
            case Fault.SILENT:
                await reader.read()
            case Fault.CUT_BEFORE:
                return
            case Fault.CUT_REQUEST:
                await self._ask(request[: len(request) // 2], whole=False)
            case Fault.ANSWER_LOST:
                await self._ask(request)
                await reader.read()
            case _:
                answer = await self._ask(request)
                await _send(writer, _changed(answer, fault), whole=fault is not Fault.CUT_ANSWER)

    async def _ask(self, request: bytes, *, whole: bool = True) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read() if whole else b""
        finally:
            writer.transport.abort()


def _changed(answer: bytes, fault: Fault | None) -> bytes:
    if fault is Fault.CUT_ANSWER:
        return answer[: len(answer) // 2]
    begin = answer.find(b"\r\n\r\n") + 4
    if fault is Fault.FLIPPED and begin < len(answer):
        middle = (begin + len(answer)) // 2
        return answer[:middle] + bytes([answer[middle] ^ 1]) + answer[middle + 1 :]
    return answer


async def _answer(writer: asyncio.StreamWriter, status: str, kind: str, body: bytes) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    await _send(writer, head.encode() + body)


async def _send(writer: asyncio.StreamWriter, data: bytes, *, whole: bool = True) -> None:
    writer.write(data)
    await writer.drain()
    if whole:
        writer.close()
        await writer.wait_closed()
