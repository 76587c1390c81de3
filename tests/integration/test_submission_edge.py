"""The submission edge before real clients: smtplib, swaks, raw sockets; the use case is a twin."""

import asyncio
import os
import smtplib
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from evidence.ports import BytesSource
from evidence.records import Authentication
from kephs.domain.messages import Person
from kephs.domain.refusals import Refusal, RefusalCode
from kephs.ports import StoreUnavailableError
from kephs.usecases.results import Accepted, Incoming, Refused
from smtp_gateway.authenticator import Authenticator, ThrottleSettings
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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "TEST localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + encoded)
    return path


SETTINGS = EdgeSettings("mail.hs91.kep.tr", max_wire=3_000_000, max_recipients=5, drain_timeout=5.0)


@pytest.fixture
def settings() -> EdgeSettings:
    return SETTINGS


@pytest.fixture
async def edge(certificate: Path, settings: EdgeSettings) -> AsyncIterator[Edge]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    throttle = ThrottleSettings(delay=0.0, per_network=10)
    twin, spools, passwords = Twin(), Spools(), OnePassword()
    server = SubmissionServer(
        host="127.0.0.1", port=0, ssl_context=context, submit=twin, spools=spools, clock=FixedClock(),
        authenticator=Authenticator(passwords, clock=time.monotonic, settings=throttle), settings=settings,
    )  # fmt: skip
    async with server:
        client_context = ssl.create_default_context(cafile=str(certificate))
        yield Edge(server, twin, spools, client_context, certificate, passwords)
    assert spools.empty  # whatever happened, no content is left behind


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


# --- what goes well -------------------------------------------------------------------------------


async def test_smtplib_submits_and_hears_the_evidence_id(edge: Edge):
    def submit() -> tuple[int, bytes]:
        with edge.client() as client:
            client.mail(ADDRESS, ["BODY=8BITMIME", f"SIZE={len(MESSAGE)}"])
            client.rcpt("b@hs91.kep.tr")
            return client.data(MESSAGE)

    assert await asyncio.to_thread(submit) == (250, b"2.0.0 accepted evidence=ev1 message=kep1")
    ((incoming, content),) = edge.twin.seen
    assert content == MESSAGE
    assert incoming.person is PERSON
    assert incoming.envelope_from == ADDRESS
    assert incoming.attempted == ("b@hs91.kep.tr",)
    assert incoming.received_at == NOW
    assert (incoming.any_refused, incoming.nul, incoming.line_too_long) == (False, False, False)


@pytest.mark.tools
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_swaks_submits_with_plain_and_login(edge: Edge, tmp_path: Path, mechanism: str):
    path = tmp_path / "m.eml"
    path.write_bytes(MESSAGE.removesuffix(b"\r\n").replace(b"\r\n", b"\n"))  # swaks adds the last line end
    command = [
        "swaks", "--server", "127.0.0.1", "--port", str(edge.server.port), "--tls-on-connect", "--auth", mechanism,
        "--auth-user", ADDRESS, "--auth-password", "gizli", "--from", ADDRESS, "--to", "b@hs91.kep.tr",
        "--data", f"@{path}", "--tls-verify", "--tls-ca-path", str(edge.ca_file),
    ]  # fmt: skip
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "250 2.0.0 accepted evidence=ev1" in done.stdout
    assert edge.twin.seen[0][1] == MESSAGE


async def test_a_connection_takes_many_messages_and_pipelined_commands(edge: Edge):
    line = await edge.talk(*BEGIN[:2])
    one = b"MAIL FROM:<ayse@hs91.kep.tr>\r\nRCPT TO:<b@hs91.kep.tr>\r\nDATA\r\n"
    await line.send(
        one + b"one\r\n.\r\n" + one + b"two\r\n.\r\nQUIT"
    )  # more eager than allowed, still read right
    replies = [(await line.reply())[:9] for _ in range(9)]
    assert replies == [b"250 2.1.0", b"250 2.1.5", b"354 End d", b"250 2.0.0"] * 2 + [b"221 2.0.0"]
    assert [content for _, content in edge.twin.seen] == [b"one\r\n", b"two\r\n"]
    assert await line.closed()


async def test_a_refusal_is_told_in_two_languages_with_its_evidence(edge: Edge):
    edge.twin.answer = Refused(Refusal(RefusalCode.UNSIGNED), "ev11")
    line = await edge.talk(
        *BEGIN, (b"DATA", b"354"), (b"x\r\n.", b"550-5.7.1 [unsigned] evidence=ev11 The message")
    )
    line.writer.close()


async def test_turkish_stays_turkish_with_smtputf8(edge: Edge):
    edge.twin.answer = Refused(Refusal(RefusalCode.UNSIGNED), "ev11")
    line = await edge.talk(
        *BEGIN[:2], (b"MAIL FROM:<ayse@hs91.kep.tr> SMTPUTF8", b"250"), BEGIN[3], (b"DATA", b"354")
    )
    await line.send(b"x\r\n.")
    assert "İleti imzalı değil".encode() in await line.reply()
    line.writer.close()


# --- what must not happen -------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [b"a\nb\r\n.", b"a\rb\r\n.", b"a\n.\n", b"a\r\n.\nMAIL FROM:<x@y>\r\n."])
async def test_a_bare_line_ending_is_told_and_ends_the_session(edge: Edge, ending: bytes):
    line = await edge.talk(*BEGIN, (b"DATA", b"354"), (ending, b"521-5.5.2 [bare-line-ending]"))
    line.writer.write_eof() if line.writer.can_write_eof() else line.writer.close()
    assert await line.closed()
    assert edge.twin.seen == []


async def test_nul_and_long_lines_are_handed_on_to_be_refused_with_evidence(edge: Edge):
    line = await edge.talk(*BEGIN, (b"DATA", b"354"), (b"a\0b\r\n" + b"x" * 5000 + b"\r\n.", b"250"))
    ((incoming, content),) = edge.twin.seen
    assert incoming.nul
    assert incoming.line_too_long
    assert content == b"a\0b\r\n" + b"x" * 5000 + b"\r\n"
    line.writer.close()


async def test_what_exceeds_the_wire_limit_is_drained_and_refused(edge: Edge):
    content = (b"x" * 98 + b"\r\n") * 40_000
    line = await edge.talk(
        *BEGIN, (b"DATA", b"354"), (content + b".", b"552-5.3.4 [too-big]"), (b"NOOP", b"250 2.0.0")
    )
    assert edge.twin.seen == []
    line.writer.close()


async def test_announced_size_is_refused_at_mail(edge: Edge):
    line = await edge.talk(
        *BEGIN[:2], (b"MAIL FROM:<a@b> SIZE=3000001", b"552-5.3.4 [too-big]"), (b"QUIT", b"221")
    )
    line.writer.close()


async def test_too_many_recipients_are_refused_and_remembered(edge: Edge):
    more = tuple((b"RCPT TO:<r%d@hs91.kep.tr>" % n, b"250") for n in range(4))
    last = (b"RCPT TO:<r9@hs91.kep.tr>", b"550-5.5.3 [too-many-recipients]")
    line = await edge.talk(*BEGIN, *more, last, (b"DATA", b"354"), (b"x\r\n.", b"250"))
    assert edge.twin.seen[0][0].any_refused
    assert len(edge.twin.seen[0][0].attempted) == 6
    line.writer.close()


async def test_nothing_goes_without_signing_in(edge: Edge):
    line = await edge.talk(
        (b"MAIL FROM:<a@b>", b"503 5.5.1"), (b"EHLO c", b"250"), (b"MAIL FROM:<a@b>", b"530 5.7.0"),
        (b"DATA", b"530 5.7.0"), (b"VRFY a@b", b"502 5.5.1"), (b"EXPN a", b"502 5.5.1"), (b"STARTTLS", b"502 5.5.1"),
        (b"HELP", b"214 2.0.0"), (b"RSET", b"250 2.0.0"), (b"WHAT \xff", b"500 5.5.2"), (b"", b"500 5.5.2"),
    )  # fmt: skip
    line.writer.close()


async def test_without_tls_there_is_no_auth(edge: Edge):
    plain = SubmissionServer(
        host="127.0.0.1", port=0, ssl_context=None, submit=edge.twin, spools=edge.spools, clock=FixedClock(),
        authenticator=edge.server.authenticator, settings=SETTINGS,
    )  # fmt: skip
    async with plain:
        reader, writer = await asyncio.open_connection("127.0.0.1", plain.port)
        line = Line(reader, writer)
        await line.expect(b"220 ")
        await line.send(b"EHLO c")
        assert b"AUTH" not in await line.reply()
        await line.send(SIGN_IN)
        await line.expect(b"538 5.7.11")
        writer.close()


async def test_a_third_failed_login_ends_the_connection(edge: Edge):
    wrong = b"AUTH PLAIN " + b64encode(b"\0ayse@hs91.kep.tr\0falsch")
    line = await edge.talk(
        (b"EHLO c", b"250"), (wrong, b"535 5.7.8"), (wrong, b"535 5.7.8"), (wrong, b"421 4.7.0")
    )
    assert await line.closed()


async def test_guesses_pipelined_behind_the_third_are_not_looked_at(edge: Edge):
    wrong = b"AUTH PLAIN " + b64encode(b"\0ayse@hs91.kep.tr\0falsch")
    line = await edge.talk((b"EHLO c", b"250"))
    await line.send(b"\r\n".join([wrong] * 50))
    assert [(await line.reply())[:3] for _ in range(3)] == [b"535", b"535", b"421"]
    assert await line.closed()
    assert edge.passwords.asked == 3


@pytest.mark.parametrize(
    ("steps", "final"),
    [
        (((b"AUTH LOGIN", b"334 VXNlcm5hbWU6"), (b"*", b"501 5.5.2")), b"250"),
        (((b"AUTH PLAIN", b"334 "), (b"%%%", b"501 5.5.2")), b"250"),
        (((b"AUTH PLAIN", b"334 "), (b"A" * 3000, b"501 5.5.2")), b"250"),
        (((b"AUTH PLAIN =", b"501 5.5.2"),), b"250"),
        (((b"AUTH CRAM-MD5", b"504 5.5.4"),), b"250"),
        (((b"AUTH", b"501 5.5.4"),), b"250"),
    ],
)
async def test_unreadable_logins_are_answered(edge: Edge, steps, final):
    line = await edge.talk((b"EHLO c", b"250"), *steps, (b"NOOP", final))
    line.writer.close()


async def test_login_may_bring_the_name_at_once(edge: Edge):
    line = await edge.talk(
        (b"EHLO c", b"250"),
        (b"AUTH LOGIN " + b64encode(ADDRESS.encode()), b"334 UGFzc3dvcmQ6"),
        (b64encode(b"gizli"), b"235 2.7.0"),
        (SIGN_IN, b"503 5.5.1"),
    )
    line.writer.close()


async def test_long_command_lines_are_refused(edge: Edge):
    line = await edge.talk((b"EHLO c", b"250"), (b"NOOP " + b"x" * 3000, b"500 5.5.2"), (b"NOOP", b"250"))
    await line.send(b"NOOP " + b"x" * 300_000)
    await line.expect(b"500 5.5.2")
    line.writer.close()


async def test_a_defect_is_answered_without_its_cause(edge: Edge):
    edge.twin.error = ValueError("secret cause")
    line = await edge.talk(*BEGIN, (b"DATA", b"354"))
    await line.send(b"x\r\n.")
    assert await line.reply() == b"451 4.3.0 Internal error, try again\r\n"
    line.writer.close()


async def test_a_full_store_is_a_temporary_refusal(edge: Edge):
    class Full(MemorySpool):
        async def write(self, data: bytes) -> None:
            raise StoreUnavailableError

    edge.spools.factory = Full
    line = await edge.talk(
        *BEGIN, (b"DATA", b"354"), (b"x\r\n.", b"451-4.3.0 [store-unavailable]"), (b"NOOP", b"250")
    )
    assert edge.twin.seen == []
    line.writer.close()


# --- cuts, timers, caps, the end ------------------------------------------------------------------


async def test_a_cut_inside_data_leaves_nothing(edge: Edge):
    line = await edge.talk(*BEGIN, (b"DATA", b"354"))
    await line.send(b"x" * 600_000)
    await until(lambda: edge.spools.made[0].source().size > 0)
    line.writer.transport.abort()
    await until(lambda: edge.spools.empty)
    assert edge.twin.seen == []


async def test_a_message_that_came_whole_is_decided_though_the_client_is_gone(edge: Edge):
    edge.twin.hold = asyncio.Event()
    line = await edge.talk(*BEGIN, (b"DATA", b"354"))
    await line.send(b"x\r\n.")
    await edge.twin.started.wait()
    line.writer.transport.abort()
    await until(lambda: not edge.server._sessions)
    edge.twin.hold.set()
    await until(lambda: len(edge.twin.seen) == 1)


async def test_stopping_lets_a_message_under_way_have_its_answer(edge: Edge):
    edge.twin.hold = asyncio.Event()
    idle, port = await edge.talk((b"EHLO c", b"250")), edge.server.port
    line = await edge.talk(*BEGIN, (b"DATA", b"354"))
    await line.send(b"x\r\n.")
    await edge.twin.started.wait()
    drained = asyncio.ensure_future(edge.server._drain())
    await idle.expect(b"421-4.3.2 [busy]")
    assert await idle.closed()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    edge.twin.hold.set()
    await line.expect(b"250 2.0.0 accepted")
    await line.expect(b"421-4.3.2 [busy]")
    assert await line.closed()
    await drained


@pytest.mark.parametrize(
    "settings", [replace(SETTINGS, max_sessions=2), replace(SETTINGS, max_sessions_per_network=2)]
)
async def test_sessions_beyond_the_cap_hear_busy(edge: Edge, settings: EdgeSettings):
    first, second = [await edge.talk((b"NOOP", b"250")) for _ in range(2)]
    reader, writer = await asyncio.open_connection("localhost", edge.server.port, ssl=edge.client_context)
    assert await Line(reader, writer).expect(b"421-4.3.2 [busy]")
    writer.close()
    await second.send(b"QUIT")
    await until(lambda: len(edge.server._sessions) == 1)
    third = await edge.talk((b"NOOP", b"250"))
    first.writer.close()
    second.writer.close()
    third.writer.close()


@pytest.mark.parametrize("settings", [replace(SETTINGS, login_timeout=0.3)])
async def test_who_does_not_sign_in_is_sent_away(edge: Edge, settings: EdgeSettings):
    line = await edge.talk((b"EHLO c", b"250"))
    await line.expect(b"421 4.4.2")
    assert await line.closed()


@pytest.mark.parametrize("settings", [replace(SETTINGS, data_idle_timeout=0.3)])
async def test_who_falls_silent_inside_data_is_sent_away(edge: Edge, settings: EdgeSettings):
    line = await edge.talk(*BEGIN, (b"DATA", b"354"), (b"some", b"421 4.4.2"))
    assert await line.closed()
    await until(lambda: edge.spools.empty)


@pytest.mark.parametrize("settings", [replace(SETTINGS, data_grace=0.3, data_min_rate=10_000)])
async def test_who_drips_data_is_sent_away(edge: Edge, settings: EdgeSettings):
    line = await edge.talk(*BEGIN, (b"DATA", b"354"))

    async def drip() -> None:
        while True:
            await line.send(b"x")
            await asyncio.sleep(0.02)

    dripping = asyncio.ensure_future(drip())
    await line.expect(b"421 4.4.2")
    dripping.cancel()
    line.writer.transport.abort()


# --- figures: what the issue demands of 100 MB ------------------------------------------------------


class FileSpool:
    """Content on disk, written in a thread, as the real one does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb", buffering=0)

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(self._file.write, data)

    def source(self) -> BytesSource:
        return BytesSource(self._path.read_bytes())

    async def discard(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


class Measuring(Twin):
    async def submit(self, incoming: Incoming) -> Accepted | Refused:
        return self.answer


@pytest.mark.slow
async def test_100_mb_come_in_flat_memory_and_nobody_else_waits(certificate: Path, tmp_path: Path):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    count = 0

    def spools() -> FileSpool:
        nonlocal count
        count += 1
        return FileSpool(tmp_path / str(count))

    server = SubmissionServer(
        host="127.0.0.1", port=0, ssl_context=context, submit=Measuring(), spools=spools, clock=FixedClock(),
        authenticator=Authenticator(OnePassword(), clock=time.monotonic),
        settings=EdgeSettings("mail.hs91.kep.tr", max_wire=150_000_000),
    )  # fmt: skip
    process = psutil.Process(os.getpid())
    async with server:
        script = tmp_path / "client.py"
        script.write_text(
            "import smtplib,ssl,sys\n"
            "c=smtplib.SMTP_SSL('localhost',int(sys.argv[1]),context=ssl.create_default_context(cafile=sys.argv[2]))\n"
            f"c.login({ADDRESS!r},'gizli')\n"
            f"c.mail({ADDRESS!r}); c.rcpt('b@hs91.kep.tr'); c.docmd('DATA')\n"
            "block=(b'x'*76+b'\\r\\n')*1000\n"
            "for _ in range(1350): c.sock.sendall(block)\n"
            "c.sock.sendall(b'.\\r\\n'); print(c.getreply()); c.quit()\n"
        )
        before = process.memory_info().rss
        client = await asyncio.create_subprocess_exec(
            "python3", str(script), str(server.port), str(certificate), stdout=subprocess.PIPE
        )
        waits: list[float] = []
        peak = before
        loop = asyncio.get_running_loop()
        talking = asyncio.ensure_future(client.communicate())
        while not talking.done():
            began = loop.time()
            await asyncio.sleep(0.005)
            waits.append(loop.time() - began - 0.005)
            peak = max(peak, process.memory_info().rss)
        out, _ = await talking
    assert b"(250" in out
    assert peak - before < 32 * 2**20
    assert sorted(waits)[-3] < 0.05
    assert list(tmp_path.glob("[0-9]*")) == []
