"""Lean mail clients over TLS: one for SMTP, one for IMAP, driven the same way against every server.

They do as little as a client can, because they share the processor with the server they measure.
"""

import asyncio
import base64
import itertools
import ssl
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, cast

from kephs.bench.figures import BenchError

_PATIENCE: Final = 60.0  # seconds for one answer
_SHOWN: Final = 200
SERVER_NAME: Final = "localhost"  # every TEST certificate carries it


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens, and the root of its TLS certificate."""

    port: int
    ca_file: Path
    host: str = "127.0.0.1"

    def tls(self) -> ssl.SSLContext:
        """Return a client context that trusts this root alone."""
        return ssl.create_default_context(cafile=str(self.ca_file))


@dataclass(frozen=True, slots=True)
class Login:
    """How a client signs in."""

    user: str
    password: str


class LineClient(asyncio.Protocol, ABC):
    """One connection on which one answer at a time is awaited."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiter: asyncio.Future[bytes] | None = None
        self._lost: str | None = None
        self.transport: asyncio.Transport

    @classmethod
    async def connect(
        cls, place: Place, stack: AsyncExitStack, *, context: ssl.SSLContext | None = None,
        source: str | None = None,
    ) -> Self:  # fmt: skip
        """Connect under TLS; the connection is cut when ``stack`` is left.

        Args:
            place: where to.
            stack: cuts the connection.
            context: of `Place.tls`, where many connections share it.
            source: the loopback address to come from; servers count clients by it.

        Raises:
            OSError: nobody answers, or the certificate is not the expected one.
        """
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            cls, place.host, place.port, ssl=context or place.tls(), server_hostname=SERVER_NAME,
            local_addr=None if source is None else (source, 0),
        )  # fmt: skip
        stack.callback(client.transport.abort)
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Gather bytes until the answer is complete."""
        self._buffer += data
        self._answer()

    def connection_lost(self, error: Exception | None) -> None:
        """Wake who waits."""
        self._lost = str(error or "the server hung up")
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(BenchError(f"{self._lost}: {bytes(self._buffer[:_SHOWN])!r}"))

    async def answer(self) -> bytes:
        """Return the next complete answer.

        Raises:
            BenchError: the connection is gone, or nothing came.
        """
        if self._lost is not None:
            raise BenchError(self._lost)
        self._waiter = asyncio.get_running_loop().create_future()
        self._answer()
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._waiter
        except TimeoutError:
            raise BenchError(f"no answer within {_PATIENCE:.0f} s") from None

    def _answer(self) -> None:
        if self._waiter is not None and not self._waiter.done() and self._complete(self._buffer):
            answer = bytes(self._buffer)
            self._buffer.clear()
            self._waiter.set_result(answer)

    @abstractmethod
    def _complete(self, buffer: bytearray) -> bool:
        """Say whether the answer awaited stands in the buffer."""


class SmtpClient(LineClient):
    """Submits ready messages. No pipelining: mail programs use none on submission as a rule."""

    @classmethod
    async def connect_starttls(cls, place: Place, stack: AsyncExitStack) -> Self:
        """Connect in clear, begin TLS and greet again, as one provider does with another.

        Raises:
            OSError: nobody answers, or the certificate is not the expected one.
            BenchError: the server does not begin TLS.
        """
        loop = asyncio.get_running_loop()
        plain, client = await loop.create_connection(cls, place.host, place.port)
        stack.callback(plain.abort)
        await client.hello(None)
        await client.command(b"STARTTLS", b"220")
        secure = await loop.start_tls(plain, client, place.tls(), server_hostname=SERVER_NAME)
        if secure is None:
            raise BenchError("the server hung up during the TLS handshake")
        client.transport = secure
        await client.command(b"EHLO bench.test", b"250")
        return client

    def _complete(self, buffer: bytearray) -> bool:
        last = last_line(buffer)
        return last >= 0 and buffer[last + 3 : last + 4] != b"-"

    async def hello(self, login: Login | None) -> None:
        """Greet, and sign in where the server wants that."""
        _expect(await self.answer(), b"220")
        await self.command(b"EHLO bench.test", b"250")
        if login is not None:
            plain = base64.b64encode(f"\0{login.user}\0{login.password}".encode())
            await self.command(b"AUTH PLAIN " + plain, b"235")

    async def command(self, line: bytes, code: bytes) -> bytes:
        """Send a line and return the answer, which must begin with this code."""
        self.transport.write(line + b"\r\n")
        return _expect(await self.answer(), code)

    async def submit(self, sender: str, recipient: str, message: bytes) -> bytes:
        """Submit one message, no line of which begins with a dot; return the last reply."""
        await self.command(f"MAIL FROM:<{sender}>".encode("ascii"), b"250")
        await self.command(f"RCPT TO:<{recipient}>".encode("ascii"), b"250")
        await self.command(b"DATA", b"354")
        self.transport.write(message + b".\r\n")
        return _expect(await self.answer(), b"250")


class ImapClient(LineClient):
    """Sends commands and returns whole answers."""

    def __init__(self) -> None:
        super().__init__()
        self._tags = itertools.count(1)
        self._end = b"* "  # the greeting

    def _complete(self, buffer: bytearray) -> bool:
        last = last_line(buffer)
        return last >= 0 and buffer.startswith((self._end, b"+ "), last)

    async def hello(self, login: Login) -> None:
        """Take the greeting and sign in."""
        await self.answer()
        await self.command(f'LOGIN "{login.user}" "{login.password}"'.encode("ascii"))

    async def idle(self) -> None:
        """Begin to wait for news.

        Raises:
            BenchError: the server does not.
        """
        self._end = b"+ "
        self.transport.write(b"%c%d IDLE\r\n" % (65, next(self._tags)))
        _expect(await self.answer(), b"+ ")

    async def news(self, ending: bytes) -> bytes:
        """Return what the server tells while we wait, up to a line that begins with ``* `` and ends so."""
        self._end = b"* "
        while not (told := await self.answer()).endswith(ending + b"\r\n"):
            pass
        return told

    async def command(self, line: bytes, literal: bytes | None = None) -> bytes:
        """Send a command, with a synchronising literal at its end where given; return the whole answer.

        Raises:
            BenchError: the server did not say OK.
        """
        tag = b"%c%d" % (65, next(self._tags))
        self._end = tag + b" "
        if literal is None:
            self.transport.write(tag + b" " + line + b"\r\n")
        else:
            self.transport.write(tag + b" " + line + b" {%d}\r\n" % len(literal))
            _expect(await self.answer(), b"+ ")
            self.transport.write(literal + b"\r\n")
        answer = await self.answer()
        if not answer.startswith(tag + b" OK", last_line(answer)):
            raise BenchError(f"{line[:60]!r}: {answer[-_SHOWN:]!r}")
        return answer


def last_line(buffer: bytes | bytearray) -> int:
    """Return where the last line begins; -1 while it is not complete."""
    if not buffer.endswith(b"\r\n"):
        return -1
    before = buffer.rfind(b"\r\n", 0, len(buffer) - 2)
    return before + 2 if before >= 0 else 0


def _expect(answer: bytes, code: bytes) -> bytes:
    if not answer.startswith(code):
        raise BenchError(f"the server said {answer[:_SHOWN]!r}")
    return answer
