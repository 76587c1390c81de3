"""The inbound edge before real clients: smtplib, swaks, openssl, smtp-source; the use case is a twin."""

import asyncio
import smtplib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kephs.domain.refusals import Refusal, RefusalCode
from kephs.ports import StoreUnavailableError
from kephs.usecases.submission.results import Refused
from storage.memory.store import MemorySpool
from tests.support.edge import MESSAGE, NOW, PEER_ADDRESS, TO_US, InboundEdge, inbound_edge, until

TO_DATA = (*TO_US, (b"DATA", b"354"))
INJECTED = b"EHLO evil\r\nMAIL FROM:<evil@hs92.kep.tr>\r\nRCPT TO:<b@hs91.kep.tr>\r\nDATA\r\nx\r\n.\r\n"


@pytest.fixture
async def inbound(certificate: Path) -> AsyncIterator[InboundEdge]:
    async with inbound_edge(certificate) as edge:
        yield edge


# --- what goes well -------------------------------------------------------------------------------


async def test_smtplib_hands_over_and_hears_the_evidence_id(inbound: InboundEdge):
    def hand_over() -> tuple[int, bytes]:
        with smtplib.SMTP("localhost", inbound.server.port, timeout=20) as client:
            client.starttls(context=inbound.client_context)
            client.ehlo()
            client.mail(PEER_ADDRESS, ["BODY=8BITMIME", f"SIZE={len(MESSAGE)}"])
            client.rcpt("b@hs91.kep.tr")
            return client.data(MESSAGE)

    assert await asyncio.to_thread(hand_over) == (250, b"2.0.0 evidence=ev20 message=kep1")
    ((arriving, content),) = inbound.twin.seen
    assert content == MESSAGE
    assert (arriving.envelope_from, arriving.envelope_to) == (PEER_ADDRESS, ("b@hs91.kep.tr",))
    assert (arriving.received_at, arriving.nul, arriving.line_too_long) == (NOW, False, False)
    assert (inbound.server.counters.sessions, inbound.server.counters.taken) == (1, 1)


@pytest.mark.tools
async def test_swaks_hands_over_with_starttls_and_the_null_sender(inbound: InboundEdge, tmp_path: Path):
    path = tmp_path / "m.eml"
    path.write_bytes(MESSAGE.removesuffix(b"\r\n").replace(b"\r\n", b"\n"))  # swaks adds the last line end
    command = [
        "swaks", "--server", "127.0.0.1", "--port", str(inbound.server.port), "--tls", "--from", "<>",
        "--to", "b@hs91.kep.tr", "--data", f"@{path}", "--tls-verify", "--tls-ca-path", str(inbound.ca_file),
    ]  # fmt: skip
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "250 2.0.0 evidence=ev20 message=kep1" in done.stdout
    ((arriving, content),) = inbound.twin.seen
    assert (arriving.envelope_from, content) == ("", MESSAGE)


@pytest.mark.tools
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_openssl_reaches_the_dialogue_behind_starttls(inbound: InboundEdge, version: str):
    client = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{inbound.server.port}", version,
        "-CAfile", str(inbound.ca_file), "-verify_return_error", "-crlf", "-quiet",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert client.stdin is not None
    assert client.stdout is not None
    talk = ((b"NOOP", b"250"), (b"MAIL FROM:<>", b"503"), (b"EHLO c", b"250"), *TO_DATA, (b"x\n.", b"250"))
    async with asyncio.timeout(20):
        for sent, reply in (*talk, (b"quit", b"221")):
            client.stdin.write(sent + b"\n")
            line = await client.stdout.readline()
            while line[3:4] == b"-":
                line = await client.stdout.readline()
            assert line.startswith(reply), line
        await client.communicate()
    assert [content for _, content in inbound.twin.seen] == [b"x\r\n"]


@pytest.mark.tools
async def test_smtp_source_speaks_no_tls_and_gets_nowhere(inbound: InboundEdge):
    command = [
        "smtp-source", "-m", "1", "-f", "a@hs92.kep.tr", "-t", "b@hs91.kep.tr", f"127.0.0.1:{inbound.server.port}",
    ]  # fmt: skip
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert done.returncode
    assert "530" in done.stderr
    assert inbound.twin.seen == []
    assert inbound.server.counters.refused == {RefusalCode.TLS_REQUIRED: 1}


async def test_a_connection_takes_many_messages_and_pipelined_commands(inbound: InboundEdge):
    line = await inbound.secured()
    one = b"MAIL FROM:<>\r\nRCPT TO:<b@hs91.kep.tr>\r\nDATA\r\n"
    await line.send(one + b"one\r\n.\r\n" + one + b"two\r\n.\r\nQUIT")
    replies = [(await line.reply())[:9] for _ in range(9)]
    assert replies == [b"250 2.1.0", b"250 2.1.5", b"354 End d", b"250 2.0.0"] * 2 + [b"221 2.0.0"]
    assert [content for _, content in inbound.twin.seen] == [b"one\r\n", b"two\r\n"]
    assert await line.closed()


async def test_a_refusal_is_told_in_two_languages_and_counted(inbound: InboundEdge):
    inbound.twin.answer = Refused(Refusal(RefusalCode.NOT_A_KEP_MESSAGE, "no seal"))
    line = await inbound.secured(*TO_DATA)
    await line.send(b"x\r\n.")
    reply = await line.expect(b"550-5.7.1 [not-a-kep-message] Only sealed")
    assert b"\r\n550 5.7.1 [not-a-kep-message] Burada yalniz kayitli" in reply
    await inbound.say(line, *TO_US[:1])  # the peer may go on
    line.writer.close()
    assert inbound.server.counters.refused == {RefusalCode.NOT_A_KEP_MESSAGE: 1}


# --- STARTTLS ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "injected", [INJECTED, INJECTED * 3000, b"EHLO evil\r\nMAIL FROM:<evil@hs92", b"x" * 9]
)
async def test_commands_injected_in_clear_behind_starttls_never_run_under_tls(
    inbound: InboundEdge, injected: bytes
):
    line = await inbound.plain((b"EHLO c", b"250"))
    line.writer.write(b"STARTTLS\r\n" + injected[:10_000])
    await line.expect(b"220 2.0.0")
    await inbound.shake_hands(line)
    # had anything been kept, a reply to it would come first, or MAIL would be taken without EHLO
    await inbound.say(line, (b"MAIL FROM:<a@hs92.kep.tr>", b"503 5.5.1"), (b"EHLO c", b"250"), *TO_DATA)
    await inbound.say(line, (b"mine\r\n.", b"250 2.0.0"))
    line.writer.close()
    assert [content for _, content in inbound.twin.seen] == [b"mine\r\n"]
    assert [arriving.envelope_from for arriving, _ in inbound.twin.seen] == ["rem@hs92.kep.tr"]


async def test_starttls_forgets_what_was_said_before(inbound: InboundEdge):
    line = await inbound.plain((b"EHLO c", b"250"), (b"STARTTLS", b"220 2.0.0"))
    await inbound.shake_hands(line)
    await inbound.say(line, (b"MAIL FROM:<>", b"503 5.5.1"), (b"STARTTLS", b"503 5.5.1"), (b"EHLO c", b"250"))
    await inbound.say(line, (b"STARTTLS", b"503 5.5.1 TLS is active"), (b"NOOP", b"250"))
    line.writer.close()


@pytest.mark.parametrize("junk", [b"EHLO c\r\nMAIL FROM:<>\r\n", b"\x16\x03\x01\x00\x05hello", b"\0" * 200])
async def test_who_answers_starttls_with_no_handshake_is_cut(inbound: InboundEdge, junk: bytes):
    line = await inbound.plain((b"EHLO c", b"250"), (b"STARTTLS", b"220 2.0.0"))
    await line.send(junk)
    try:
        rest = await line.reader.read()
    except ConnectionError:
        rest = b""
    assert not rest.startswith((b"2", b"4", b"5"))  # an alert at most, never a reply
    line.writer.transport.abort()
    await until(lambda: inbound.server.open_sessions == 0)


async def test_upgrades_that_end_anyhow_leave_no_session_behind(inbound: InboundEdge):
    for _ in range(20):
        lines = await asyncio.gather(*(inbound.secured() for _ in range(5)))
        for number, line in enumerate(lines):
            line.writer.transport.abort() if number % 2 else line.writer.close()
    await until(lambda: inbound.server.open_sessions == 0)
    assert inbound.server.counters.sessions == 100
    assert not inbound.server._networks


# --- what must not happen -------------------------------------------------------------------------


async def test_nothing_goes_in_clear(inbound: InboundEdge):
    line = await inbound.plain(
        (b"STARTTLS", b"503 5.5.1"), (b"MAIL FROM:<a@b>", b"503 5.5.1"), (b"EHLO c", b"250"),
        (b"MAIL FROM:<a@b>", b"530-5.7.0 [tls-required]"), (b"RCPT TO:<b@hs91.kep.tr>", b"530-5.7.0"),
        (b"DATA", b"530-5.7.0"), (b"AUTH PLAIN AGEAYg==", b"502 5.5.1"), (b"STARTTLS now", b"501 5.5.4"),
        (b"HELP", b"214 2.0.0 EHLO STARTTLS"), (b"QUIT", b"221"),
    )  # fmt: skip
    assert await line.closed()
    assert inbound.server.counters.refused == {RefusalCode.TLS_REQUIRED: 3}


async def test_never_an_open_relay(inbound: InboundEdge):
    line = await inbound.secured(
        TO_US[0], (b"RCPT TO:<victim@example.com>", b"550-5.7.1 [not-served-here]"),
        (b"RCPT TO:<@hs91.kep.tr:victim@example.com>", b"550-5.7.1"), (b"DATA", b"554 5.5.1"), TO_US[1],
        (b"RCPT TO:<victim@hs92.kep.tr>", b"550-5.7.1"), (b"DATA", b"354"), (b"x\r\n.", b"250"),
    )  # fmt: skip
    line.writer.close()
    assert [arriving.envelope_to for arriving, _ in inbound.twin.seen] == [("b@hs91.kep.tr",)]
    assert inbound.server.counters.refused == {RefusalCode.NOT_SERVED_HERE: 3}


async def test_what_is_not_offered_is_refused_politely(inbound: InboundEdge):
    line = await inbound.secured(
        (b"VRFY b@hs91.kep.tr", b"502 5.5.1"), (b"EXPN all", b"502 5.5.1"), (b"ETRN hs91.kep.tr", b"502 5.5.1"),
        (b"AUTH PLAIN AGEAYg==", b"502 5.5.1"), (b"XCLIENT ADDR=10.0.0.1", b"500 5.5.2"), (b"NOOP", b"250"),
    )  # fmt: skip
    line.writer.close()


async def test_chunks_of_bdat_are_never_read_as_commands(inbound: InboundEdge):
    line = await inbound.secured(*TO_US)
    await line.send(
        b"BDAT 90 LAST\r\nRSET\r\nMAIL FROM:<evil@hs92.kep.tr>\r\nRCPT TO:<b@hs91.kep.tr>\r\nDATA\r\nx\r\n."
    )
    await line.expect(b"502 5.5.1")
    assert await line.closed()
    assert inbound.twin.seen == []


@pytest.mark.parametrize("ending", [b"a\nb\r\n.", b"a\rb\r\n.", b"a\n.\n", b"a\r\n.\nMAIL FROM:<x@y>\r\n."])
async def test_a_bare_line_ending_is_told_and_ends_the_session(inbound: InboundEdge, ending: bytes):
    line = await inbound.secured(*TO_DATA, (ending, b"521-5.5.2 [bare-line-ending]"))
    line.writer.close()
    assert await line.closed()
    assert inbound.twin.seen == []
    assert inbound.server.counters.refused == {RefusalCode.BARE_LINE_ENDING: 1}


async def test_nul_and_long_lines_are_handed_on(inbound: InboundEdge):
    line = await inbound.secured(*TO_DATA, (b"a\0b\r\n" + b"x" * 5000 + b"\r\n.", b"250"))
    ((arriving, content),) = inbound.twin.seen
    assert (arriving.nul, arriving.line_too_long) == (True, True)
    assert content == b"a\0b\r\n" + b"x" * 5000 + b"\r\n"
    line.writer.close()


async def test_what_exceeds_the_wire_limit_is_drained_and_refused(inbound: InboundEdge):
    content = (b"x" * 98 + b"\r\n") * 40_000
    line = await inbound.secured(
        *TO_DATA, (content + b".", b"552-5.3.4 [too-big-for-provider]"), (b"NOOP", b"250")
    )
    assert inbound.twin.seen == []
    line.writer.close()


async def test_a_gigabyte_that_is_announced_is_refused_at_mail(inbound: InboundEdge):
    line = await inbound.secured(
        (b"MAIL FROM:<rem@hs92.kep.tr> SIZE=1073741824", b"552-5.3.4"),
        (b"DATA", b"503 5.5.1"),
        (b"QUIT", b"221"),
    )
    assert inbound.spools.made == []
    line.writer.close()


async def test_recipients_beyond_the_cap_hear_452_and_the_rest_goes(inbound: InboundEdge):
    more = tuple((b"RCPT TO:<r%d@hs91.kep.tr>" % n, b"250") for n in range(4))
    line = await inbound.secured(
        *TO_US, *more, (b"RCPT TO:<r9@hs91.kep.tr>", b"452 4.5.3"), (b"DATA", b"354")
    )
    await inbound.say(line, (b"x\r\n.", b"250"))
    assert len(inbound.twin.seen[0][0].envelope_to) == 5
    line.writer.close()


async def test_a_defect_is_answered_without_its_cause(inbound: InboundEdge):
    inbound.twin.error = ValueError("secret cause")
    line = await inbound.secured(*TO_DATA)
    await line.send(b"x\r\n.")
    assert await line.reply() == b"451 4.3.0 Internal error, try again\r\n"
    line.writer.close()


async def test_a_full_store_is_a_temporary_refusal(inbound: InboundEdge):
    class Full(MemorySpool):
        async def write(self, data: bytes) -> None:
            raise StoreUnavailableError

    inbound.spools.factory = Full
    line = await inbound.secured(*TO_DATA, (b"x\r\n.", b"451-4.3.0 [store-unavailable]"), (b"NOOP", b"250"))
    assert inbound.twin.seen == []
    line.writer.close()


async def test_the_log_names_no_address_and_no_content(inbound: InboundEdge, capsys, caplog):
    inbound.twin.answer = Refused(Refusal(RefusalCode.SEAL_BROKEN, "digest"))
    line = await inbound.secured(*TO_US, (b"RCPT TO:<victim@example.com>", b"550"), (b"DATA", b"354"))
    await inbound.say(line, (b"Subject: gizli\r\n.", b"550-5.7.7"), (b"WHAT gizli", b"500"))
    line.writer.close()
    out = capsys.readouterr()
    logged = out.out + out.err + caplog.text
    assert "inbound.refused" in logged
    for word in ("hs92", "hs91", "victim", "gizli", "127.0.0.1"):
        assert word not in logged
