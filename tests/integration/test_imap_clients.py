"""Real clients over real sockets and TLS: imaplib, aioimaplib, curl, mbsync; and clients that misbehave."""

import asyncio
import imaplib
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aioimaplib
import pytest

from kephs.imap.server import ServerLimits
from kephs.system import ThreadOffload
from tests.support.imap_server import Running, client_context, running_server, tls_files
from tests.support.imap_world import ADDRESS, DISPATCH, PASSWORD, PLAIN, World, build_world, notice


@pytest.fixture
async def world() -> AsyncIterator[World]:
    offload = ThreadOffload()
    world = await build_world(offload=offload)
    await world.file(PLAIN)
    await world.file(DISPATCH, gated=True)
    await world.file(notice("üçüncü", "x" * 700_000))
    yield world
    offload.close()


@pytest.fixture
async def running(world: World) -> AsyncIterator[Running]:
    async with running_server(world.parts) as running:
        yield running


class Raw:
    """A plain TLS client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> "Raw":
        raw = cls(*await asyncio.open_connection("localhost", port, ssl=client_context()))
        assert (await raw.line()).startswith(b"* OK [CAPABILITY IMAP4rev1")
        return raw

    async def line(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.readline()

    async def until(self, tag: bytes) -> list[bytes]:
        lines = [await self.line()]
        while lines[-1] and not lines[-1].startswith(tag):
            lines.append(await self.line())
        return lines

    async def say(self, data: bytes, tag: bytes = b"a ") -> list[bytes]:
        self.writer.write(data)
        return await self.until(tag)

    async def login(self) -> None:
        await self.say(f'a LOGIN {ADDRESS} "{PASSWORD}"\r\n'.encode())

    async def rest(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            return


# --- clients people use -------------------------------------------------------------------------------


def _imaplib(port: int) -> dict[str, object]:
    client = imaplib.IMAP4_SSL("localhost", port, ssl_context=client_context())
    client.authenticate("PLAIN", lambda _: f"\0{ADDRESS}\0{PASSWORD}".encode())
    seen: dict[str, object] = {"select": client.select("INBOX")}
    _, headers = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    seen["headers"] = [part[1] for part in headers if isinstance(part, tuple)]
    _, body = client.fetch("2", "(RFC822)")
    seen["body"] = body[0][1]
    _, big = client.uid("FETCH", "3", "(BODY.PEEK[])")
    seen["big"] = big[0][1]
    seen["search"] = client.search(None, "UNSEEN")
    seen["store"] = client.store("1", "+FLAGS", r"(\Deleted)")
    seen["expunge"] = client.expunge()
    seen["list"] = client.list()
    client.close()
    seen["logout"] = client.logout()
    return seen


async def test_imaplib_reads_the_mailbox(world: World, running: Running):
    seen = await asyncio.to_thread(_imaplib, running.port)
    assert seen["select"] == ("OK", [b"3"])
    assert seen["headers"] == [
        b"Subject: afternoon meeting\r\n\r\n",
        b"Subject: =?utf-8?b?xLBodGFy?=\r\n\r\n",
        "Subject: üçüncü\r\n\r\n".encode(),
    ]
    assert seen["body"] == DISPATCH
    assert seen["big"] == notice("üçüncü", "x" * 700_000)
    assert seen["search"] == ("OK", [b"1 3"])
    assert seen["expunge"] == ("OK", [b"1"])
    assert len(seen["list"][1]) == 6
    assert seen["logout"][0] == "BYE"
    assert world.reader.made == ["d2"]


async def test_aioimaplib_reads_and_hears_news_while_idle(world: World, running: Running):
    client = aioimaplib.IMAP4_SSL("localhost", running.port, ssl_context=client_context(), timeout=10)
    await client.wait_hello_from_server()
    assert (await client.login(ADDRESS, PASSWORD)).result == "OK"
    await client.select("INBOX")
    answer = await client.fetch("2", "(BODY.PEEK[])")
    assert answer.result == "OK"
    assert bytes(answer.lines[1]) == DISPATCH
    idle = await client.idle_start(timeout=10)
    await world.file(notice("yeni"))
    assert await client.wait_server_push(timeout=10) == [b"4 EXISTS"]
    client.idle_done()
    await asyncio.wait_for(idle, 10)
    await client.logout()


@pytest.mark.tools
async def test_curl_reads_a_section(world: World, running: Running):
    command = ["curl", "-s", "--cacert", str(tls_files()[0]), "-u", f"{ADDRESS}:{PASSWORD}"]
    base = f"imaps://localhost:{running.port}"
    found = await asyncio.to_thread(
        subprocess.run, [*command, f"{base}/INBOX;UID=2;SECTION=TEXT"], capture_output=True, check=True
    )
    assert found.stdout == DISPATCH[DISPATCH.index(b"\r\n\r\n") + 4 :]
    listing = await asyncio.to_thread(subprocess.run, [*command, base + "/"], capture_output=True, check=True)
    assert b"Ar&AV8-iv" in listing.stdout
    assert world.reader.made == ["d2"]


@pytest.mark.tools
async def test_mbsync_pulls_every_folder(world: World, running: Running, tmp_path: Path):
    (tmp_path / "mail").mkdir()
    (tmp_path / "rc").write_text(
        f"""
IMAPAccount kep
Host localhost
Port {running.port}
User {ADDRESS}
Pass "{PASSWORD}"
SSLType IMAPS
SystemCertificates no
CertificateFile {tls_files()[0]}
AuthMechs PLAIN

IMAPStore far
Account kep

MaildirStore near
SubFolders Verbatim
Path {tmp_path}/mail/
Inbox {tmp_path}/mail/INBOX

Channel all
Far :far:
Near :near:
Patterns *
Create Near
Sync Pull
SyncState *
"""
    )
    command = ["mbsync", "-c", str(tmp_path / "rc"), "-a"]
    for _ in range(2):
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
    pulled = [path.read_bytes() for path in (tmp_path / "mail" / "INBOX").glob("*/*") if path.is_file()]
    assert len(pulled) == 3
    assert any(b"\nMIIC\n" in message.replace(b"\r\n", b"\n") for message in pulled)
    names = {path.name for path in (tmp_path / "mail").iterdir()}
    assert {"INBOX", "Giden", "Arşiv", "Çöp"} <= names or {"INBOX", "Giden", "Ar&AV8-iv"} <= names
    assert world.reader.made == ["d2"]


# --- behaviour of the server ----------------------------------------------------------------------------


async def test_pipelined_commands_are_answered_in_order(running: Running):
    raw = await Raw.connect(running.port)
    await raw.login()
    raw.writer.write(b"b SELECT INBOX\r\nc FETCH 1 BODY.PEEK[TEXT]\r\nd NOOP\r\ne UNSELECT\r\nf NOOP\r\n")
    lines = await raw.until(b"f ")
    assert [line[:4] for line in lines if line[:1] in b"bcdef"] == [
        b"b OK",
        b"c OK",
        b"d OK",
        b"e OK",
        b"f OK",
    ]
    await raw.close()


async def test_two_sessions_see_each_other_by_push(world: World, running: Running):
    one, two = await Raw.connect(running.port), await Raw.connect(running.port)
    for raw in (one, two):
        await raw.login()
        await raw.say(b"a SELECT INBOX\r\n")
    two.writer.write(b"b IDLE\r\n")
    assert await two.line() == b"+ idling\r\n"
    await one.say(b"a STORE 1 +FLAGS (\\Flagged \\Deleted)\r\n")
    assert await two.line() == b"* 1 FETCH (FLAGS (\\Deleted \\Flagged))\r\n"
    await one.say(b"a EXPUNGE\r\n")
    assert await two.line() == b"* 1 EXPUNGE\r\n"
    two.writer.write(b"DONE\r\n")
    assert await two.line() == b"b OK IDLE done\r\n"
    await one.close()
    await two.close()


async def test_draining_says_bye_to_idle_clients_and_ends(world: World):
    async with running_server(world.parts) as running:
        idle, quiet = await Raw.connect(running.port), await Raw.connect(running.port)
        await idle.login()
        idle.writer.write(b"b IDLE\r\n")
        await idle.line()
        running.server.drain()
        assert (await idle.rest()).startswith(b"* BYE")
        assert (await quiet.rest()).startswith(b"* BYE")
    assert running.server.connections == 0


async def test_who_does_not_sign_in_in_time_is_let_go(world: World):
    async with running_server(world.parts, ServerLimits(login=0.05)) as running:
        raw = await Raw.connect(running.port)
        assert await raw.rest() == b"* BYE Idle for too long\r\n"


async def test_who_makes_no_handshake_in_time_is_let_go(world: World):
    async with running_server(world.parts, ServerLimits(handshake=0.05)) as running:
        reader, writer = await asyncio.open_connection("localhost", running.port)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


async def test_plain_text_on_the_tls_port_ends_there(running: Running):
    reader, writer = await asyncio.open_connection("localhost", running.port)
    writer.write(b"a LOGIN x y\r\n")
    async with asyncio.timeout(10):
        assert b"OK" not in await reader.read()
    writer.close()


async def test_connections_are_capped(world: World):
    async with running_server(world.parts, ServerLimits(connections_per_host=1)) as running:
        raw = await Raw.connect(running.port)
        with pytest.raises((ConnectionError, ssl.SSLError, OSError)):
            await Raw.connect(running.port)
        await raw.close()


@pytest.mark.parametrize(
    "data",
    [
        b"a LOGIN {1000000+}\r\n",
        b"x" * 20_000,
        b"\0" * 20_000,
        b"junk\r\n" * 10,
        b"a LOGIN x wrong\r\n" * 5,
    ],
)
async def test_hostile_clients_get_a_bye_before_login(running: Running, data: bytes):
    raw = await Raw.connect(running.port)
    raw.writer.write(data)
    answer = await raw.rest()
    assert answer.splitlines()[-1].startswith(b"* BYE")
    assert b"Traceback" not in answer
    await raw.close()


async def test_a_client_that_goes_away_in_the_middle_harms_nobody(world: World, running: Running):
    for _ in range(5):
        raw = await Raw.connect(running.port)
        await raw.login()
        raw.writer.write(b"b SELECT INBOX\r\nc FETCH 3 BODY.PEEK[]\r\n")
        await raw.line()
        raw.writer.transport.abort()
    raw = await Raw.connect(running.port)
    await raw.login()
    await raw.close()


async def test_an_unexpected_failure_is_a_no_and_the_session_goes_on(world: World, running: Running):
    raw = await Raw.connect(running.port)
    await raw.login()

    async def broken(*_args):
        raise RuntimeError("secret detail")

    world.service.folders = broken  # type: ignore[method-assign]
    [line] = await raw.say(b'a LIST "" "*"\r\n')
    assert line == b"a NO [SERVERBUG] Internal error\r\n"
    assert (await raw.say(b"a NOOP\r\n"))[-1].startswith(b"a OK")
    await raw.close()


async def test_a_slow_reader_is_waited_for_and_others_are_served(world: World, running: Running):
    await world.file(notice("big", "y" * 3_000_000))
    slow, quick = await Raw.connect(running.port), await Raw.connect(running.port)
    for raw in (slow, quick):
        await raw.login()
        await raw.say(b"a SELECT INBOX\r\n")
    slow.writer.write(b"b FETCH 4 BODY.PEEK[]\r\n" * 4)
    for _ in range(20):
        assert (await quick.say(b"a NOOP\r\n"))[-1].startswith(b"a OK")
    total = b""
    while total.count(b"\r\nb OK") < 4:
        async with asyncio.timeout(10):
            total += await slow.reader.read(1 << 20)
    assert total.count(b"y" * 3_000_000) == 4
    await slow.close()
    await quick.close()
