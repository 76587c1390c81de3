"""A scripted SMTP peer over real sockets and TLS: it answers what the script says, and misbehaves where told."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from directory.providers import Peer


class Trick(Enum):
    """What the peer does instead of answering."""

    CUT = auto()  # ends the connection
    SILENCE = auto()  # says nothing, ever
    DRIP = auto()  # one byte after the other, never a line's end


Answer = bytes | Trick
OFFERS = b"250-peer.test\r\n250-PIPELINING\r\n250-SIZE 50000000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
GOOD: dict[str, Answer] = {
    "greeting": b"220 peer.test ESMTP\r\n",
    "ehlo": b"250-peer.test\r\n250 STARTTLS\r\n",
    "starttls": b"220 2.0.0 go\r\n",
    "tls": b"",
    "ehlo-tls": OFFERS,
    "mail": b"250 2.1.0 ok\r\n",
    "rcpt": b"250 2.1.5 ok\r\n",
    "data": b"354 go\r\n",
    "final": b"250 2.0.0 queued as 1\r\n",
    "rset": b"250 2.0.0 ok\r\n",
    "quit": b"221 2.0.0 bye\r\n",
}


@dataclass(frozen=True)
class ServerCertificate:
    """A self-signed certificate with its key, in one PEM file; ``pin`` is its SHA-256."""

    path: Path
    pin: bytes

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path)
        return context


def make_certificate(path: Path) -> ServerCertificate:
    """Make a certificate for TEST purposes; who signed it does not matter to the relay."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "TEST peer")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + encoded)
    return ServerCertificate(path, hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).digest())


def registered(port: int, *pins: bytes, host: str = "127.0.0.1") -> Peer:
    """Return the register's entry for a peer that listens here."""
    return Peer(
        "hs92.kep.tr", "TEST", "hizmet@hs92.kep.tr", host, port, frozenset(pins), (), 25_000_000
    )  # fmt: skip


@dataclass
class ScriptedPeer:
    """The peer. Change ``answers`` before connecting; look at what it ``heard`` afterwards.

    ``answers`` by stage; a list of them in ``turns`` comes first, one for each time the stage is reached.
    ``stops_reading_at``: how much of the content it reads before it goes to sleep.
    """

    certificate: ServerCertificate
    answers: dict[str, Answer] = field(default_factory=lambda: dict(GOOD))
    turns: dict[str, list[Answer]] = field(default_factory=dict)
    stops_reading_at: int | None = None
    drips_instead: bool = False
    refuses_content_at: tuple[int, bytes] | None = None
    keeps_content: bool = True
    before_data: Callable[[], Any] | None = None
    heard: list[bytes] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    octets: int = 0
    connections: int = 0
    open: int = 0
    port: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)  # a trick began, or reading stopped
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def peer(self) -> Peer:
        return registered(self.port, self.certificate.pin)

    @property
    def verbs(self) -> list[bytes]:
        return [line.split()[0].split(b":")[0] for line in self.heard]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self._writers.add(writer)
        try:
            await _Session(self, reader, writer).run()
        except (OSError, asyncio.IncompleteReadError, _CutError):
            pass
        finally:
            self.open -= 1
            self._writers.discard(writer)
            writer.transport.abort()
            self.ended.set()

    def hang_up(self) -> None:
        """End every connection, as a peer that restarts does."""
        for writer in self._writers:
            writer.transport.abort()


class _CutError(Exception):
    pass


@dataclass
class _Session:
    script: ScriptedPeer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    secure: bool = False

    async def run(self) -> None:
        await self.answer("greeting")
        while True:
            line = await self.reader.readuntil(b"\r\n")
            self.script.heard.append(line)
            verb = line.split()[0].split(b":")[0].decode().lower()
            stage = "ehlo-tls" if verb == "ehlo" and self.secure else verb
            said = await self.answer(stage)
            if stage == "starttls" and said.startswith(b"2"):
                await self.shake_hands()
            elif stage == "data" and said.startswith(b"3"):
                await self.content()
            elif stage == "quit":
                return

    async def shake_hands(self) -> None:
        answer = self.script.answers["tls"]
        if answer:  # plain octets or a trick instead of a handshake
            await self.reader.read(1)
            await self.answer("tls")
            await self.reader.read()
            return
        await self.writer.start_tls(self.script.certificate.context())
        self.secure = True

    async def answer(self, stage: str) -> bytes:
        turns = self.script.turns.get(stage)
        answer = turns.pop(0) if turns else self.script.answers.get(stage, b"500 5.5.1 what\r\n")
        if isinstance(answer, bytes):
            self.writer.write(answer)
            await self.writer.drain()
            return answer
        self.script.reached.set()
        if answer is Trick.CUT:
            raise _CutError
        while answer is Trick.DRIP and not self.reader.at_eof() and not self.writer.is_closing():
            self.writer.write(b"2")
            await self.writer.drain()
            await asyncio.sleep(0.002)
        await self.reader.read()  # until the other side has had enough
        raise _CutError

    async def content(self) -> None:
        script = self.script
        if script.before_data is not None:
            script.before_data()
        kept, tail, got = bytearray(), b"\r\n", 0
        while not tail.endswith(b"\r\n.\r\n"):
            data = await self.reader.read(65536)
            if not data:
                raise _CutError
            got += len(data)
            script.octets += len(data)
            tail = (tail + data)[-5:]
            if script.keeps_content:
                kept += data
            if script.refuses_content_at and got >= script.refuses_content_at[0]:
                self.writer.write(script.refuses_content_at[1])
                await self.writer.drain()
                await self.reader.read()
                raise _CutError
            if script.stops_reading_at is not None and got >= script.stops_reading_at:
                assert isinstance(self.writer.transport, asyncio.Transport)
                self.writer.transport.pause_reading()
                script.reached.set()
                while script.drips_instead and not self.writer.is_closing():
                    self.writer.write(b"2")
                    await asyncio.sleep(0.001)
                await asyncio.Event().wait()
        script.contents.append(bytes(kept))
        await self.answer("final")


@asynccontextmanager
async def scripted_peer(certificate: ServerCertificate, **script: Any) -> AsyncIterator[ScriptedPeer]:
    """Run a scripted peer; ``answers`` given here go over the good ones."""
    answers = {**GOOD, **script.pop("answers", {})}
    peer = ScriptedPeer(certificate, answers=answers, **script)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await peer.serve(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
