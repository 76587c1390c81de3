"""The submission edge before real clients: smtplib, swaks, raw sockets; the use case is a twin."""

import asyncio
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from kephs.domain.refusals import Refusal, RefusalCode
from kephs.ports import StoreUnavailableError
from kephs.usecases.submission.results import Refused
from smtp_gateway.server import SubmissionServer
from storage.memory.store import MemorySpool
from tests.support.edge import (
    ADDRESS,
    BEGIN,
    MESSAGE,
    NOW,
    PERSON,
    SETTINGS,
    SIGN_IN,
    Edge,
    FixedClock,
    Line,
)

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
