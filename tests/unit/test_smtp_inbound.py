"""The inbound dialogue: TLS first, our own domain alone, and the same answers wherever the network cuts."""

import asyncio
import itertools
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kephs.domain.refusals import Refusal, RefusalCode
from kephs.usecases.submission.results import Refused, Taken
from smtp_gateway.data_stream import Received
from smtp_gateway.dialogue import DialogueSettings
from smtp_gateway.inbound import InboundDialogue
from smtp_gateway.inbound_connection import InboundProtocol
from smtp_gateway.inbound_server import InboundServer
from smtp_gateway.replies import Reply, taken
from smtp_gateway.settings import InboundSettings
from storage.memory.store import MemorySpool
from tests.support.edge import FixedClock, ReceivingTwin

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
SETTINGS = DialogueSettings("mail.hs91.kep.tr", max_wire=1000, max_recipients=3)


def serves(domain: str) -> bool:
    return domain == "hs91.kep.tr"


def dialogue(*, secure: bool = True, greeted: bool = True) -> InboundDialogue:
    made = InboundDialogue(SETTINGS, secure=secure, serves=serves)
    if greeted:
        made.hello("peer", extended=True)
    return made


def code(reply: Reply) -> bytes:
    return reply.text[:9].replace(b"-", b" ")


def finish(made: InboundDialogue):
    return made.arriving(MemorySpool(), Received(5, True, False, False, False, b""), NOW)


# --- TLS ------------------------------------------------------------------------------------------


def test_starttls_is_announced_in_clear_and_not_under_tls():
    common = [
        b"250-mail.hs91.kep.tr", b"250-SIZE 1000", b"250-8BITMIME", b"250-SMTPUTF8", b"250-PIPELINING",
    ]  # fmt: skip
    in_clear = dialogue(secure=False, greeted=False).hello("c", extended=True).text.split(b"\r\n")
    assert in_clear == [*common, b"250-ENHANCEDSTATUSCODES", b"250 STARTTLS"]
    under_tls = dialogue(greeted=False).hello("c", extended=True).text.split(b"\r\n")
    assert under_tls == [*common, b"250 ENHANCEDSTATUSCODES"]


def test_no_mail_goes_in_clear():
    made = dialogue(secure=False)
    for reply in (made.mail("FROM:<a@b>"), made.rcpt("TO:<b@hs91.kep.tr>"), made.data(None)[0]):
        assert code(reply) == b"530 5.7.0"
        assert reply.refusal is RefusalCode.TLS_REQUIRED


@pytest.mark.parametrize(
    ("made", "argument", "expected", "begins"),
    [
        (dialogue(secure=False, greeted=False), None, b"503 5.5.1", False),
        (dialogue(secure=False), "now", b"501 5.5.4", False),
        (dialogue(), None, b"503 5.5.1", False),
        (dialogue(secure=False), None, b"220 2.0.0", True),
    ],
    ids=["before-ehlo", "argument", "twice", "right"],
)
def test_starttls_has_its_place(made, argument, expected, begins):
    reply, begun = made.starttls(argument)
    assert (code(reply), begun) == (expected, begins)


def test_starttls_needs_ehlo_not_helo():
    made = dialogue(secure=False, greeted=False)
    made.hello("c", extended=False)
    assert code(made.starttls(None)[0]) == b"503 5.5.1"


# --- MAIL and RCPT --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<rem@hs92.kep.tr> SIZE=1000 BODY=8BITMIME", b"250 2.1.0"),
        ("FROM:<>", b"250 2.1.0"),
        ("FROM:<> SIZE=5", b"250 2.1.0"),
        ("FROM:<ş@hs92.kep.tr> SMTPUTF8", b"250 2.1.0"),
        ("FROM:<ş@hs92.kep.tr>", b"553 5.6.7"),
        ("FROM:<a@b> SIZE=1001", b"552 5.3.4"),
        ("FROM:<a@b> SIZE=1073741824", b"552 5.3.4"),
        ("FROM:<> SIZE=1001", b"552 5.3.4"),
        ("FROM:<a@b> BODY=BINARYMIME", b"555 5.5.4"),
        ("FROM:<a@b> RET=HDRS", b"555 5.5.4"),
        ("FROM:<a>", b"501 5.1.7"),
        ("FROM:a@b", b"501 5.5.4"),
        (None, b"501 5.5.4"),
    ],
)
def test_mail_is_judged_by_syntax_and_announced_size(argument, expected):
    made = dialogue()
    assert code(made.mail(argument)) == expected
    assert made.in_transaction is expected.startswith(b"250")


def test_the_null_sender_arrives_as_the_empty_one():
    made = dialogue()
    made.mail("FROM:<>")
    made.rcpt("TO:<rem@hs91.kep.tr>")
    assert finish(made).envelope_from == ""


@pytest.mark.parametrize(
    "recipient",
    [
        "victim@example.com", "victim@hs92.kep.tr", "victim@hs91.kep.tr.example.com", "victim@xhs91.kep.tr",
        "victim@[127.0.0.1]", "@hs91.kep.tr:victim@example.com", "victim@hs91.kep.tr.", "victim@HS91.KEP.TR.x",
        "b@hs91.kep.tr@example.com", "b%hs91.kep.tr@example.com", "hs91.kep.tr!victim@example.com", "postmaster",
    ],
)  # fmt: skip
def test_never_an_open_relay(recipient):
    made = dialogue()
    made.mail("FROM:<rem@hs92.kep.tr>")
    reply = made.rcpt(f"TO:<{recipient}>")
    assert reply.text.startswith(b"5")
    assert reply.refusal is RefusalCode.NOT_SERVED_HERE or code(reply) == b"501 5.1.3"
    assert code(made.data(None)[0]) == b"554 5.5.1"
    assert finish(made).envelope_to == ()


def test_a_domain_is_never_folded_into_ours():
    made = dialogue()
    made.mail("FROM:<rem@hs92.kep.tr> SMTPUTF8")
    assert made.rcpt("TO:<b@hs91.\u212aep.tr>").refusal is RefusalCode.NOT_SERVED_HERE  # the Kelvin sign
    assert code(made.rcpt("TO:<b@HS91.KEP.TR>")) == b"250 2.1.5"


@pytest.mark.parametrize("recipient", ["nobody@hs91.kep.tr", "a%b@hs91.kep.tr", "a!b@hs91.kep.tr"])
def test_addresses_cannot_be_harvested_at_rcpt(recipient):
    made = dialogue()
    made.mail("FROM:<rem@hs92.kep.tr>")
    assert made.rcpt(f"TO:<{recipient}>").text == b"250 2.1.5 OK"


def test_refused_recipients_are_not_in_the_envelope():
    made = dialogue()
    made.mail("FROM:<rem@hs92.kep.tr>")
    for recipient in ("b@hs91.kep.tr", "x@example.com", "c@hs91.kep.tr", "b@hs91.kep.tr"):
        made.rcpt(f"TO:<{recipient}>")
    arriving = finish(made)
    assert arriving.envelope_to == ("b@hs91.kep.tr", "c@hs91.kep.tr")
    assert (arriving.envelope_from, arriving.nul, arriving.received_at) == ("rem@hs92.kep.tr", True, NOW)


def test_recipients_beyond_the_cap_may_come_in_another_transaction():
    made = dialogue()
    made.mail("FROM:<rem@hs92.kep.tr>")
    replies = [code(made.rcpt(f"TO:<r{n}@hs91.kep.tr>")) for n in range(5)]
    assert replies == [b"250 2.1.5"] * 3 + [b"452 4.5.3"] * 2
    assert made.data(None)[1]
    assert len(finish(made).envelope_to) == 3
    made.reset()
    made.mail("FROM:<rem@hs92.kep.tr>")
    assert code(made.rcpt("TO:<r4@hs91.kep.tr>")) == b"250 2.1.5"


def test_taken_names_evidence_and_message():
    assert taken(Taken("e1", "m1")).text == b"250 2.0.0 evidence=e1 message=m1"


@given(argument=st.text(max_size=40) | st.from_regex(r"(FROM|TO): ?<[^>]{0,20}> ?[A-Z=0-9 ]{0,20}"))
def test_any_argument_gets_one_reply(argument):
    made = dialogue()
    replies = (made.mail(argument), made.mail("FROM:<>"), made.rcpt(argument), made.data(argument)[0])
    for reply in (*replies, made.starttls(argument)[0]):
        assert reply.text[:3].isdigit()
        assert reply.text[3:4] in b" -"


# --- where the network cuts -----------------------------------------------------------------------


class Wire(asyncio.Transport):
    """A transport under TLS that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 9), "ssl_object": object()})
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None: ...


async def converse(pieces: Sequence[bytes]) -> tuple[bytes, list[object]]:
    """Let a protocol hear pieces; return what it said and what arrived."""
    twin = ReceivingTwin()
    server = InboundServer(
        host="", port=0, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), receive=twin, spools=MemorySpool,
        clock=FixedClock(), settings=InboundSettings("mail.hs91.kep.tr", 2000, 2), register_serves=serves,
    )  # fmt: skip
    wire = Wire()
    async with server._tasks:
        protocol = InboundProtocol(server, asyncio.get_running_loop())
        protocol.connection_made(wire)
        for piece in pieces:
            if wire.closed:
                break
            protocol.data_received(piece)
            for _ in range(20):
                await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0)
        protocol.connection_lost(None)
    seen: list[object] = [(a.envelope_from, a.envelope_to, a.nul, content) for a, content in twin.seen]
    return bytes(wire.written), seen


LINES = st.sampled_from(
    [
        b"EHLO peer", b"MAIL FROM:<>", b"MAIL FROM:<rem@hs92.kep.tr> SMTPUTF8", b"RCPT TO:<b@hs91.kep.tr>",
        b"RCPT TO:<x@example.com>", b"RSET", b"NOOP", b"STARTTLS", b"VRFY b", b"WHAT \xff", b"",
        b"EHLO peer\r\nMAIL FROM:<>\r\nRCPT TO:<b@hs91.kep.tr>\r\nDATA\r\nx\r\n..y\r\n.",
        b"EHLO peer\r\nMAIL FROM:<>\r\nRCPT TO:<c@hs91.kep.tr>\r\nDATA\r\n" + b"z" * 2001 + b"\r\n.",
    ]
)  # fmt: skip


@settings(max_examples=60)
@given(lines=st.lists(LINES, max_size=8), cuts=st.lists(st.integers(0, 3000), max_size=8))
def test_where_the_network_cuts_does_not_matter(lines, cuts):
    wire = b"".join(line + b"\r\n" for line in lines) + b"QUIT\r\n"
    places = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    pieces = [wire[a:b] for a, b in itertools.pairwise(places)]
    assert asyncio.run(converse(pieces)) == asyncio.run(converse([wire]))


def test_a_session_byte_by_byte_is_the_session_at_once():
    wire = b"EHLO p\r\nMAIL FROM:<>\r\nRCPT TO:<b@hs91.kep.tr>\r\nDATA\r\n..a\r\n\0\r\n.\r\nQUIT\r\n"
    said, seen = asyncio.run(converse([bytes([byte]) for byte in wire]))
    assert seen == [("", ("b@hs91.kep.tr",), True, b".a\r\n\0\r\n")]
    assert b"250 2.0.0 evidence=ev20 message=kep1\r\n221 2.0.0 Bye\r\n" in said
    assert (said, seen) == asyncio.run(converse([wire]))


async def test_refusals_are_counted_by_code():
    twin = ReceivingTwin(answer=Refused(Refusal(RefusalCode.SEAL_BROKEN)))
    server = InboundServer(
        host="", port=0, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), receive=twin, spools=MemorySpool,
        clock=FixedClock(), settings=InboundSettings("mail.hs91.kep.tr", 2000), register_serves=serves,
    )  # fmt: skip
    reply = await server.decision(dialogue(), MemorySpool(), Received(5, False, False, False, False, b""))
    assert code(reply) == b"550 5.7.7"
    twin.answer = Taken("e", "m")
    await server.decision(dialogue(), MemorySpool(), Received(5, False, False, False, False, b""))
    assert server.counters.refused == {RefusalCode.SEAL_BROKEN: 1}
    assert server.counters.taken == 1
