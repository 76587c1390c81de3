"""Clients that know exactly how far they came: submission and IMAP over TLS, on asyncio streams."""

import asyncio
import base64
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from tests.support.crash import PATIENCE, Holder

_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")
_PIECE = 16 * 1024


class GoneError(Exception):
    """The connection is gone. ``complete`` says whether all of a message had been sent by then."""

    def __init__(self, *, complete: bool = False) -> None:
        super().__init__("the connection is gone")
        self.complete = complete


class LaterError(Exception):
    """The server cannot do it at the moment and says so: NO [UNAVAILABLE]."""


@dataclass(frozen=True)
class Endpoint:
    """Where one protocol is spoken."""

    port: int
    tls: ssl.SSLContext


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    code: int
    text: str

    @property
    def evidence_id(self) -> str:
        return self._named("evidence")

    @property
    def message_id(self) -> str:
        return self._named("message")

    def _named(self, name: str) -> str:
        found = re.search(rf"\b{name}=(\S+)", self.text)
        assert found, self.text
        return found[1]


class Wire:
    """One TLS connection; whatever ends it is a `GoneError`, and nothing takes longer than patience."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, to: Endpoint) -> "Wire":
        try:
            async with asyncio.timeout(PATIENCE):
                return cls(*await asyncio.open_connection("127.0.0.1", to.port, ssl=to.tls))
        except (OSError, EOFError):
            raise GoneError from None

    async def line(self) -> bytes:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._reader.readuntil(b"\n")
        except (OSError, EOFError):
            raise GoneError from None

    async def exactly(self, size: int, begun: Callable[[], None]) -> bytes:
        """Read so many bytes; say when the first have come."""
        content = bytearray()
        while len(content) < size:
            try:
                async with asyncio.timeout(PATIENCE):
                    piece = await self._reader.read(min(_PIECE, size - len(content)))
            except OSError:
                raise GoneError from None
            if not piece:
                raise GoneError
            if not content:
                begun()
            content += piece
        return bytes(content)

    async def send(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            async with asyncio.timeout(PATIENCE):
                await self._writer.drain()
        except OSError:
            raise GoneError from None

    def cut(self) -> None:
        """Hang up without a word, what waits to be sent is lost."""
        self._writer.transport.abort()

    async def part(self) -> None:
        """Hang up after everything was sent, without waiting for an answer."""
        self._writer.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._writer.wait_closed()
        except OSError:
            return


class Submission:
    """A submission session of somebody who is signed in."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    async def reply(self) -> Answer:
        lines = []
        while True:
            line = (await self.wire.line()).decode("utf-8", "replace").rstrip("\r\n")
            lines.append(line[4:])
            if line[3:4] != "-":
                return Answer(int(line[:3]), "\n".join(lines))

    async def say(self, command: str, expect: int) -> None:
        await self.wire.send(command.encode() + b"\r\n")
        answer = await self.reply()
        assert answer.code == expect, (command[:4], answer)

    async def begin(self, sender: str, recipients: tuple[str, ...]) -> None:
        """Come as far as the 354."""
        commands = [f"MAIL FROM:<{sender}> BODY=8BITMIME", *(f"RCPT TO:<{r}>" for r in recipients), "DATA"]
        await self.wire.send("".join(f"{command}\r\n" for command in commands).encode())
        for command in commands:
            answer = await self.reply()
            assert answer.code == (354 if command == "DATA" else 250), (command, answer)

    async def deliver(self, sender: str, recipients: tuple[str, ...], dotted: bytes) -> Answer:
        """Send a message (with its final dot) and return the answer.

        Raises:
            GoneError: complete once its last bytes were given to the connection.
        """
        await self.begin(sender, recipients)
        await self.wire.send(dotted[:-_PIECE])
        try:
            await self.wire.send(dotted[-_PIECE:])
            return await self.reply()
        except GoneError:
            raise GoneError(complete=True) from None


@asynccontextmanager
async def submission(to: Endpoint, who: Holder) -> AsyncIterator[Submission]:
    """Sign in for submission."""
    wire = await Wire.open(to)
    try:
        session = Submission(wire)
        assert (await session.reply()).code == 220
        await session.say("EHLO client.example", 250)
        token = base64.b64encode(f"\0{who.address}\0{who.password}".encode()).decode()
        await session.say(f"AUTH PLAIN {token}", 235)
        yield session
    finally:
        wire.cut()


@dataclass
class Line:
    """One response line: its text without literals, and the literals."""

    text: str
    literals: list[bytes] = field(default_factory=list)


class Mailbox:
    """An IMAP session of somebody who is signed in."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._count = 0
        self.exists = 0

    async def command(self, text: str, begun: Callable[[str], None] = lambda _: None) -> list[Line]:
        """Send a command; return its untagged answers. ``begun`` hears of each literal's first byte.

        Raises:
            LaterError: told to try again later.
        """
        tag = f"a{self._count}"
        self._count += 1
        await self._wire.send(f"{tag} {text}\r\n".encode())
        lines: list[Line] = []
        while True:
            line = await self._response(begun)
            if line.text.startswith(f"{tag} "):
                if line.text.startswith(f"{tag} NO [UNAVAILABLE]"):
                    raise LaterError
                assert line.text.startswith(f"{tag} OK"), (text[:9], line.text)
                return lines
            lines.append(line)

    async def more_than(self, known: int) -> None:
        """Wait in IDLE until there are more messages than those."""
        tag = f"a{self._count}"
        self._count += 1
        await self._wire.send(f"{tag} IDLE\r\n".encode())
        while self.exists <= known:
            await self._response(lambda _: None)
        await self._wire.send(b"DONE\r\n")
        while not (await self._response(lambda _: None)).text.startswith(f"{tag} OK"):
            pass

    async def _response(self, begun: Callable[[str], None]) -> Line:
        text = ""
        literals: list[bytes] = []
        while True:
            raw = await self._wire.line()
            found = _LITERAL.search(raw)
            text += raw[: found.start() if found else None].decode("utf-8", "replace")
            if found is None:
                break
            literals.append(await self._wire.exactly(int(found[1]), partial(begun, text)))
        text = text.rstrip("\r\n")
        counted = re.match(r"\* (\d+) EXISTS\Z", text)
        if counted:
            self.exists = int(counted[1])
        return Line(text, literals)


@asynccontextmanager
async def mailbox(to: Endpoint, who: Holder, folder: str = "INBOX") -> AsyncIterator[tuple[Mailbox, str]]:
    """Sign in over IMAP and select a folder; also return its UIDVALIDITY."""
    wire = await Wire.open(to)
    try:
        session = Mailbox(wire)
        assert (await wire.line()).startswith(b"* OK")
        await session.command(f'LOGIN {who.address} "{who.password}"')
        lines = await session.command(f"SELECT {folder}")
        (validity,) = (found[1] for line in lines if (found := re.search(r"UIDVALIDITY (\d+)", line.text)))
        yield session, validity
    finally:
        wire.cut()
