"""A submission edge over a twin of the use case, and a client that speaks in raw lines."""

import asyncio
import smtplib
import ssl
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from evidence.records import Authentication
from kephs.domain.messages import Person
from kephs.usecases.results import Accepted, Incoming, Refused
from smtp_gateway.server import SubmissionServer
from smtp_gateway.settings import EdgeSettings
from storage.memory import MemorySpool

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
PERSON = Person("a1", "o1", "Ayşe", Authentication(NOW, "urn:x"))
ADDRESS = "ayse@hs91.kep.tr"
MESSAGE = b"From: ayse@hs91.kep.tr\r\nTo: b@hs91.kep.tr\r\nSubject: x\r\n\r\nmerhaba\r\n.dot\r\n"


@dataclass
class Twin:
    """The use case's twin: keeps what it was handed, answers what the test says."""

    answer: Accepted | Refused = field(default_factory=lambda: Accepted("ev1", "kep1"))
    seen: list[tuple[Incoming, bytes]] = field(default_factory=list)
    hold: asyncio.Event | None = None
    error: Exception | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def submit(self, incoming: Incoming) -> Accepted | Refused:
        source = incoming.spool.source()
        self.started.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        self.seen.append((incoming, source.read(0, source.size)))
        return self.answer


@dataclass
class Spools:
    """Makes spools and knows which were discarded."""

    made: list[MemorySpool] = field(default_factory=list)
    factory: Callable[[], MemorySpool] = MemorySpool

    def __call__(self) -> MemorySpool:
        self.made.append(self.factory())
        return self.made[-1]

    @property
    def empty(self) -> bool:
        return all(spool.source().size == 0 for spool in self.made)


@dataclass
class OnePassword:
    asked: int = 0

    async def sign_in(self, address: str, password: str) -> Person | None:
        self.asked += 1
        return PERSON if (address, password) == (ADDRESS, "gizli") else None


class FixedClock:
    def now(self) -> datetime:
        return NOW


@dataclass
class Edge:
    server: SubmissionServer
    twin: Twin
    spools: Spools
    client_context: ssl.SSLContext
    ca_file: Path
    passwords: OnePassword

    def client(self, *, login: bool = True) -> smtplib.SMTP_SSL:
        client = smtplib.SMTP_SSL("localhost", self.server.port, context=self.client_context, timeout=20)
        if login:
            client.login(ADDRESS, "gizli")
        return client

    async def talk(self, *steps: tuple[bytes, bytes]) -> "Line":
        """Open a raw connection, check the greeting, send lines and check how replies begin."""
        reader, writer = await asyncio.open_connection("localhost", self.server.port, ssl=self.client_context)
        line = Line(reader, writer)
        await line.expect(b"220 ")
        for sent, reply in steps:
            await line.send(sent)
            await line.expect(reply)
        return line


@dataclass
class Line:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data + b"\r\n")
        await self.writer.drain()

    async def reply(self) -> bytes:
        lines = [await self.reader.readline()]
        while lines[-1][3:4] == b"-":
            lines.append(await self.reader.readline())
        return b"".join(lines)

    async def expect(self, beginning: bytes) -> bytes:
        found = await self.reply()
        assert found.startswith(beginning), found
        return found

    async def closed(self) -> bool:
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True
        finally:
            self.writer.transport.abort()


SIGN_IN = b"AUTH PLAIN " + b64encode(f"\0{ADDRESS}\0gizli".encode())
BEGIN = (
    (b"EHLO c", b"250"),
    (SIGN_IN, b"235 2.7.0"),
    (b"MAIL FROM:<ayse@hs91.kep.tr>", b"250 2.1.0"),
    (b"RCPT TO:<b@hs91.kep.tr>", b"250 2.1.5"),
)


SETTINGS = EdgeSettings("mail.hs91.kep.tr", max_wire=3_000_000, max_recipients=5, drain_timeout=5.0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
