"""The inbound edge at its limits: cuts at every verb, drips, timers, caps, floods, the end; Postfix in front."""

import asyncio
import contextlib
import smtplib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kephs.domain.refusals import Refusal, RefusalCode
from kephs.usecases.submission.results import Refused
from smtp_gateway import protocol
from smtp_gateway.inbound_server import InboundServer
from smtp_gateway.settings import InboundSettings
from tests.support.edge import INBOUND, MESSAGE, TO_US, InboundEdge, Line, inbound_edge, until
from tests.support.postfix import careless_hop

TO_DATA = (*TO_US, (b"DATA", b"354"))


@pytest.fixture
def settings() -> InboundSettings:
    return INBOUND


@pytest.fixture
async def inbound(certificate: Path, settings: InboundSettings) -> AsyncIterator[InboundEdge]:
    async with inbound_edge(certificate, settings) as edge:
        yield edge


def empty(edge: InboundEdge) -> bool:
    return edge.server.open_sessions == 0 and edge.spools.empty and not edge.server._networks


# --- cuts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verbs", range(3))
async def test_a_cut_in_clear_leaves_nothing(inbound: InboundEdge, verbs: int):
    line = await inbound.plain(*((b"EHLO c", b"250"), (b"STARTTLS", b"220"))[:verbs])
    line.writer.transport.abort()
    await until(lambda: empty(inbound))


@pytest.mark.parametrize("unfinished", [b"", b"MAIL FR", b"."], ids=["between", "inside", "dot"])
@pytest.mark.parametrize("verbs", range(4))
async def test_a_cut_at_any_verb_leaves_nothing(inbound: InboundEdge, verbs: int, unfinished: bytes):
    line = await inbound.secured(*TO_DATA[:verbs])
    line.writer.write(unfinished)
    line.writer.transport.abort()
    await until(lambda: empty(inbound))
    assert inbound.twin.seen == []


async def test_a_cut_inside_content_leaves_nothing(inbound: InboundEdge):
    line = await inbound.secured(*TO_DATA)
    await line.send(b"x" * 600_000)
    await until(lambda: inbound.spools.made[0].source().size > 0)
    line.writer.transport.abort()
    await until(lambda: empty(inbound))
    assert inbound.twin.seen == []


async def test_stopping_as_a_peer_hangs_up_inside_content_leaves_nothing(certificate: Path, caplog):
    async with inbound_edge(certificate) as edge:  # on leaving, it looks at spools and sessions
        line = await edge.secured(*TO_DATA)
        await line.send(b"x" * 600_000)
        await until(lambda: edge.spools.made[0].source().size > 0)
        (session,) = edge.server._sessions
        session.abort()
    assert [record for record in caplog.records if record.name == "asyncio"] == []
    line.writer.transport.abort()


@pytest.mark.parametrize("politely", [True, False])
async def test_a_message_that_came_whole_is_decided_though_the_peer_is_gone(
    inbound: InboundEdge, politely: bool
):
    inbound.twin.hold = asyncio.Event()
    line = await inbound.secured(*TO_DATA)
    await line.send(b"x\r\n.")
    await inbound.twin.started.wait()
    line.writer.close() if politely else line.writer.transport.abort()
    await until(lambda: inbound.server.open_sessions == 0)
    inbound.twin.hold.set()
    await until(lambda: len(inbound.twin.seen) == 1)
    await until(lambda: inbound.server.counters.taken == 1)


@pytest.mark.parametrize("behind", ["close_notify", "mail and close_notify", "reset"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_a_peer_gone_as_its_handshake_ends_leaves_no_session(
    inbound: InboundEdge, behind: str, version: ssl.TLSVersion, caplog
):
    line = await inbound.plain((b"EHLO c", b"250"), (b"STARTTLS", b"220"))
    inbound.client_context.maximum_version = version
    to_us, from_us = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = inbound.client_context.wrap_bio(to_us, from_us, server_hostname="localhost")
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            line.writer.write(from_us.read())
            to_us.write(await line.reader.read(2**16))
    if behind.startswith("mail"):
        tls.write(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@hs91.kep.tr>\r\nDATA\r\nx\r\n.\r\n")
    if behind.endswith("close_notify"):
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
    line.writer.write(from_us.read())  # in one piece with the last bytes of the handshake
    if behind == "reset":
        line.writer.transport.abort()
    await until(lambda: empty(inbound))
    line.writer.close()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


# --- timers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [replace(INBOUND, idle_timeout=0.3)])
async def test_who_falls_silent_is_sent_away(inbound: InboundEdge, settings: InboundSettings):
    in_clear = await inbound.plain((b"EHLO c", b"250"))
    under_tls = await inbound.secured(*TO_US)
    for line in (in_clear, under_tls):
        await line.expect(b"421 4.4.2")
        assert await line.closed()


@pytest.mark.parametrize("settings", [replace(INBOUND, idle_timeout=0.3)])
async def test_half_a_command_does_not_hold_the_session(inbound: InboundEdge, settings: InboundSettings):
    line = await inbound.secured()

    async def drip() -> None:
        while True:
            line.writer.write(b"N")
            await asyncio.sleep(0.02)

    dripping = asyncio.ensure_future(drip())
    await line.expect(b"421 4.4.2")
    dripping.cancel()
    line.writer.transport.abort()


@pytest.mark.parametrize("settings", [replace(INBOUND, first_mail_timeout=0.4)])
async def test_who_sends_no_mail_is_sent_away_however_busy(inbound: InboundEdge, settings: InboundSettings):
    mailing = await inbound.secured(TO_US[0])
    line = await inbound.secured((b"MAIL FROM:<nonsense>", b"501"))

    async def chat() -> None:
        while True:
            line.writer.write(b"NOOP\r\n")
            await asyncio.sleep(0.02)

    chatting = asyncio.ensure_future(chat())
    while (reply := await line.reply()).startswith(b"250"):
        pass
    assert reply.startswith(b"421 4.4.2")
    chatting.cancel()
    await inbound.say(mailing, TO_US[1], (b"DATA", b"354"), (b"x\r\n.", b"250"), (b"NOOP", b"250"))
    mailing.writer.close()
    line.writer.transport.abort()


@pytest.mark.parametrize("settings", [replace(INBOUND, session_timeout=0.6)])
async def test_a_drip_feeder_cannot_hold_a_session_for_ever(inbound: InboundEdge, settings: InboundSettings):
    line = await inbound.secured(*TO_DATA)

    async def drip() -> None:
        while True:
            await line.send(b"x")
            await asyncio.sleep(0.02)

    dripping = asyncio.ensure_future(drip())
    await line.expect(b"421 4.4.2")
    dripping.cancel()
    line.writer.transport.abort()
    await until(lambda: empty(inbound))
    assert inbound.twin.seen == []


@pytest.mark.parametrize("settings", [replace(INBOUND, session_timeout=0.6)])
async def test_a_message_being_decided_gets_its_answer_when_the_session_is_over(
    inbound: InboundEdge, settings: InboundSettings
):
    inbound.twin.hold = asyncio.Event()
    line = await inbound.secured(*TO_DATA)
    await line.send(b"x\r\n.")
    await inbound.twin.started.wait()
    (session,) = inbound.server._sessions
    await until(lambda: not session._may_stay())
    inbound.twin.hold.set()
    await line.expect(b"250 2.0.0")
    await line.expect(b"421")
    assert await line.closed()


@pytest.mark.parametrize("settings", [replace(INBOUND, data_idle_timeout=0.3)])
async def test_who_falls_silent_inside_data_is_sent_away(inbound: InboundEdge, settings: InboundSettings):
    line = await inbound.secured(*TO_DATA, (b"some", b"421 4.4.2"))
    assert await line.closed()
    await until(lambda: empty(inbound))


@pytest.mark.parametrize("settings", [replace(INBOUND, data_grace=0.3, data_min_rate=10_000)])
async def test_who_is_slower_than_the_minimum_rate_is_sent_away(
    inbound: InboundEdge, settings: InboundSettings
):
    line = await inbound.secured(*TO_DATA)

    async def drip() -> None:
        while True:
            await line.send(b"x")
            await asyncio.sleep(0.02)

    dripping = asyncio.ensure_future(drip())
    await line.expect(b"421 4.4.2")
    dripping.cancel()
    line.writer.transport.abort()


@pytest.mark.parametrize("settings", [replace(INBOUND, handshake_timeout=0.3)])
async def test_a_handshake_that_does_not_end_is_cut(inbound: InboundEdge, settings: InboundSettings):
    line = await inbound.plain((b"EHLO c", b"250"), (b"STARTTLS", b"220"))
    assert await line.closed()
    await until(lambda: empty(inbound))


@pytest.mark.parametrize("settings", [replace(INBOUND, idle_timeout=0.3)])
async def test_who_does_not_read_holds_no_session(
    inbound: InboundEdge, settings: InboundSettings, monkeypatch
):
    monkeypatch.setattr(protocol, "_LAST_WORDS", 0.2)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", inbound.server.port))
    deaf.setblocking(False)
    loop = asyncio.get_running_loop()

    async def shout() -> None:
        with contextlib.suppress(OSError):
            while True:
                await loop.sock_sendall(deaf, b"HELP\r\n" * 1000)

    shouting = asyncio.ensure_future(shout())
    await until(lambda: inbound.server.counters.sessions == 1)
    await until(lambda: empty(inbound))
    await shouting
    deaf.close()


# --- caps and floods ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [replace(INBOUND, max_sessions=2), replace(INBOUND, max_sessions_per_network=2)]
)
async def test_sessions_beyond_the_cap_hear_busy(inbound: InboundEdge, settings: InboundSettings):
    first, second = await inbound.plain((b"NOOP", b"250")), await inbound.secured()
    reader, writer = await asyncio.open_connection("127.0.0.1", inbound.server.port)
    await Line(reader, writer).expect(b"421-4.3.2 [busy]")
    writer.close()
    assert inbound.server.counters.refused == {RefusalCode.BUSY: 1}
    await second.send(b"QUIT")
    await until(lambda: inbound.server.open_sessions == 1)
    third = await inbound.secured()
    for line in (first, second, third):
        line.writer.close()


@pytest.mark.parametrize(
    "flood", [b"\r\n" * 30_000, b"NOOP\r\n" * 10_000, b"EHLO c\r\nMAIL FROM:<a@b>\r\n" * 2500]
)
async def test_a_flood_of_commands_lets_others_have_their_turn(inbound: InboundEdge, flood: bytes):
    line = await inbound.plain()

    async def listen() -> None:
        with contextlib.suppress(ConnectionError):
            while await line.reader.read(2**16):
                pass

    listening = asyncio.ensure_future(listen())
    turns = 0
    line.writer.write(flood + b"QUIT\r\n")
    while not listening.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 300  # at least 5000 replies, sixteen to a turn
    line.writer.close()


# --- the end --------------------------------------------------------------------------------------


async def test_stopping_lets_a_message_under_way_have_its_answer(inbound: InboundEdge):
    inbound.twin.hold = asyncio.Event()
    port = inbound.server.port
    in_clear = await inbound.plain((b"EHLO c", b"250"))
    half = await inbound.plain((b"EHLO c", b"250"), (b"STARTTLS", b"220"))
    idle = await inbound.secured()
    line = await inbound.secured(*TO_DATA)
    await line.send(b"x\r\n.")
    await inbound.twin.started.wait()
    drained = asyncio.ensure_future(inbound.server._drain())
    for other in (in_clear, idle):
        await other.expect(b"421-4.3.2 [busy]")
        assert await other.closed()
    assert await half.closed()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    inbound.twin.hold.set()
    await line.expect(b"250 2.0.0 evidence=ev20")
    await line.expect(b"421-4.3.2 [busy]")
    assert await line.closed()
    await drained


async def test_two_listeners_share_a_port_where_told_to(inbound: InboundEdge):
    def server(port: int, *, shared: bool) -> InboundServer:
        return InboundServer(
            host="127.0.0.1", port=port, ssl_context=inbound.server.tls, receive=inbound.twin,
            spools=inbound.spools, clock=inbound.server._clock, settings=INBOUND,
            register_serves=inbound.server.serves, reuse_port=shared,
        )  # fmt: skip

    async with server(0, shared=True) as one, server(one.port, shared=True) as two:
        assert one.port == two.port
        lonely = server(one.port, shared=False)
        with pytest.raises(OSError):
            await lonely.__aenter__()


# --- a hop in between -----------------------------------------------------------------------------


@pytest.mark.tools
@pytest.mark.slow
async def test_a_careless_hop_with_plain_mail_is_refused_and_bounces(inbound: InboundEdge):
    inbound.twin.answer = Refused(Refusal(RefusalCode.NOT_A_KEP_MESSAGE))

    def post(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.sendmail("someone@outside.test", ["b@hs91.kep.tr"], MESSAGE)

    async with careless_hop(inbound.server.port) as hop:
        await asyncio.to_thread(post, hop.port)
        bounced = await hop.logged("status=bounced")
        notice = await hop.logged("sender non-delivery notification")
    assert "550-5.7.1 [not-a-kep-message]" in bounced
    assert "dsn=5.7.1" in bounced
    assert notice
    ((arriving, content),) = inbound.twin.seen
    assert (arriving.envelope_from, arriving.envelope_to) == ("someone@outside.test", ("b@hs91.kep.tr",))
    assert content.endswith(MESSAGE.partition(b"\r\n\r\n")[2])
    assert b"Received: from" in content
    assert inbound.server.counters.refused == {RefusalCode.NOT_A_KEP_MESSAGE: 1}
    assert inbound.server.counters.taken == 0
