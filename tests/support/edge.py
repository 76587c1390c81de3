"""Edges over twins of their use cases, and a client that speaks in raw lines."""

import asyncio
import smtplib
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from evidence.model.records import Authentication
from kephs.domain.messages import Person
from kephs.usecases.submission.results import Accepted, Arriving, Incoming, Refused, Taken
from smtp_gateway.inbound_server import InboundServer
from smtp_gateway.server import SubmissionServer
from smtp_gateway.settings import EdgeSettings, InboundSettings
from storage.memory.store import MemorySpool

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


# --- the inbound edge -----------------------------------------------------------------------------

PEER_ADDRESS = "rem@hs92.kep.tr"
INBOUND = InboundSettings("mail.hs91.kep.tr", max_wire=3_000_000, max_recipients=5, drain_timeout=5.0)
TO_US = ((b"MAIL FROM:<rem@hs92.kep.tr>", b"250 2.1.0"), (b"RCPT TO:<b@hs91.kep.tr>", b"250 2.1.5"))


@dataclass
class ReceivingTwin:
    """The receiving use case's twin: keeps what it was handed, answers what the test says."""

    answer: Taken | Refused = field(default_factory=lambda: Taken("ev20", "kep1"))
    seen: list[tuple[Arriving, bytes]] = field(default_factory=list)
    hold: asyncio.Event | None = None
    error: Exception | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self, arriving: Arriving) -> Taken | Refused:
        source = arriving.spool.source()
        self.started.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        self.seen.append((arriving, source.read(0, source.size)))
        return self.answer


@dataclass
class InboundEdge:
    server: InboundServer
    twin: ReceivingTwin
    spools: Spools
    client_context: ssl.SSLContext
    ca_file: Path

    async def plain(self, *steps: tuple[bytes, bytes]) -> Line:
        """Open a raw connection, check the greeting, send lines and check how replies begin."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        line = Line(reader, writer)
        await line.expect(b"220 ")
        await self.say(line, *steps)
        return line

    async def secured(self, *steps: tuple[bytes, bytes]) -> Line:
        """Open a raw connection, go under TLS and greet there."""
        line = await self.plain((b"EHLO c", b"250"), (b"STARTTLS", b"220 2.0.0"))
        await self.shake_hands(line)
        await self.say(line, (b"EHLO c", b"250"), *steps)
        return line

    async def shake_hands(self, line: Line) -> None:
        await line.writer.start_tls(self.client_context, server_hostname="localhost")

    async def say(self, line: Line, *steps: tuple[bytes, bytes]) -> None:
        for sent, reply in steps:
            await line.send(sent)
            await line.expect(reply)


@asynccontextmanager
async def inbound_edge(certificate: Path, settings: InboundSettings = INBOUND) -> AsyncIterator[InboundEdge]:
    """Run an inbound edge that serves hs91.kep.tr."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    twin, spools = ReceivingTwin(), Spools()
    server = InboundServer(
        host="127.0.0.1", port=0, ssl_context=context, receive=twin, spools=spools, clock=FixedClock(),
        settings=settings, register_serves=lambda domain: domain == "hs91.kep.tr",
    )  # fmt: skip
    async with server:
        client_context = ssl.create_default_context(cafile=str(certificate))
        yield InboundEdge(server, twin, spools, client_context, certificate)
    assert spools.empty  # whatever happened, no content is left behind
    assert server.open_sessions == 0
