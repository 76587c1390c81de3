"""The submission dialogue: order, syntax, sizes and numbers; recipients are remembered as attempted."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.model.records import Authentication
from kephs.domain.messages import Person
from smtp_gateway.data_stream import Received
from smtp_gateway.replies import Reply
from smtp_gateway.submission import OK, Dialogue, DialogueSettings
from storage.memory.store import MemorySpool

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
PERSON = Person("a1", "o1", "Ayşe", Authentication(NOW, "urn:x"))
SETTINGS = DialogueSettings("mail.hs91.kep.tr", max_wire=1000, max_recipients=3)


def dialogue(*, signed_in: bool = True, secure: bool = True) -> Dialogue:
    made = Dialogue(SETTINGS, secure=secure)
    made.hello("client", extended=True)
    if signed_in:
        made.person = PERSON
    return made


def code(reply: Reply) -> bytes:
    return reply.text[:9].replace(b"-", b" ")


def test_ehlo_announces_what_exists_and_auth_only_under_tls():
    assert Dialogue(SETTINGS, secure=True).hello("c", extended=True).text.split(b"\r\n") == [
        b"250-mail.hs91.kep.tr", b"250-SIZE 1000", b"250-8BITMIME", b"250-SMTPUTF8", b"250-PIPELINING",
        b"250-ENHANCEDSTATUSCODES", b"250 AUTH PLAIN LOGIN",
    ]  # fmt: skip
    assert b"AUTH" not in Dialogue(SETTINGS, secure=False).hello("c", extended=True).text
    assert Dialogue(SETTINGS, secure=True).hello("c", extended=False).text == b"250 mail.hs91.kep.tr"
    assert code(Dialogue(SETTINGS, secure=True).hello(None, extended=True)) == b"501 5.5.4"


def test_nothing_before_hello_and_nothing_before_auth():
    fresh = Dialogue(SETTINGS, secure=True)
    assert code(fresh.mail("FROM:<a@b>")) == b"503 5.5.1"
    fresh.hello("c", extended=True)
    assert code(fresh.mail("FROM:<a@b>")) == b"530 5.7.0"
    assert code(fresh.rcpt("TO:<a@b>")) == b"530 5.7.0"
    assert code(fresh.data(None)[0]) == b"530 5.7.0"


@pytest.mark.parametrize(
    ("made", "arguments", "expected"),
    [
        (Dialogue(SETTINGS, secure=True), ["PLAIN"], b"503 5.5.1"),
        (dialogue(signed_in=False, secure=False), ["PLAIN"], b"538 5.7.1"),
        (dialogue(), ["PLAIN"], b"503 5.5.1"),
        (dialogue(signed_in=False), [], b"501 5.5.4"),
        (dialogue(signed_in=False), ["PLAIN", "a", "b"], b"501 5.5.4"),
        (dialogue(signed_in=False), ["CRAM-MD5"], b"504 5.5.4"),
    ],
)
def test_auth_is_refused_out_of_turn(made, arguments, expected):
    assert code(made.auth_refusal(arguments) or OK) == expected
    assert dialogue(signed_in=False).auth_refusal(["plain"]) is None


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<a@hs91.kep.tr>", b"250 2.1.0"),
        ("from: <a@hs91.kep.tr> SIZE=1000 BODY=8BITMIME", b"250 2.1.0"),
        ("FROM:<a@hs91.kep.tr> SIZE=1001", b"552 5.3.4"),
        ("FROM:<a@hs91.kep.tr> SIZE=99999999999999999999999", b"555 5.5.4"),
        ("FROM:<a@hs91.kep.tr> SIZE=x", b"555 5.5.4"),
        ("FROM:<a@hs91.kep.tr> BODY=BINARYMIME", b"555 5.5.4"),
        ("FROM:<a@hs91.kep.tr> RET=FULL", b"555 5.5.4"),
        ("FROM:<ş@hs91.kep.tr>", b"553 5.6.7"),
        ("FROM:<ş@hs91.kep.tr> SMTPUTF8", b"250 2.1.0"),
        ("FROM:<@r:a@hs91.kep.tr> AUTH=<>", b"250 2.1.0"),
        ("FROM:<>", b"550 5.7.1"),
        ("FROM:<a>", b"501 5.1.7"),
        ("FROM:a@b", b"501 5.5.4"),
        ("TO:<a@b>", b"501 5.5.4"),
        ("FROM:<a@b", b"501 5.5.4"),
        ("FROM:<a@b> X\udcff=1", b"501 5.5.4"),
        (None, b"501 5.5.4"),
    ],
)
def test_mail_is_judged_by_syntax_and_announced_size(argument, expected):
    made = dialogue()
    assert code(made.mail(argument)) == expected
    assert code(made.rcpt("TO:<b@c>")) == (b"250 2.1.5" if expected.startswith(b"250") else b"503 5.5.1")


def test_a_second_mail_is_refused_until_reset():
    made = dialogue()
    made.mail("FROM:<a@b>")
    assert code(made.mail("FROM:<a@b>")) == b"503 5.5.1"
    assert code(made.auth_refusal(["PLAIN"]) or OK) == b"503 5.5.1"
    made.reset()
    assert code(made.mail("FROM:<a@b>")) == b"250 2.1.0"


def finish(made: Dialogue):
    return made.incoming(MemorySpool(), Received(5, True, False, False, False, b""), NOW)


def test_refused_recipients_are_remembered_as_attempted():
    made = dialogue()
    made.mail("FROM:<a@b>")
    assert code(made.rcpt("TO:<x@y>")) == b"250 2.1.5"
    assert code(made.rcpt("TO:<nonsense>")) == b"501 5.1.3"
    incoming = finish(made)
    assert made.data(None) == (made.data(None)[0], True)
    assert incoming.attempted == ("x@y", "nonsense")
    assert incoming.any_refused
    assert incoming.nul
    assert (incoming.envelope_from, incoming.person, incoming.received_at) == ("a@b", PERSON, NOW)


@pytest.mark.parametrize("argument", ["TO:<>", "TO:x@y", None, "TO:<x@y> NOTIFY=NEVER", "TO:<ş@y>"])
def test_an_unreadable_recipient_counts_as_refused(argument):
    made = dialogue()
    made.mail("FROM:<a@b>")
    assert code(made.rcpt(argument))[:1] == b"5"
    assert finish(made).any_refused


def test_too_many_recipients_are_refused_for_good():
    made = dialogue()
    made.mail("FROM:<a@b>")
    assert [code(made.rcpt(f"TO:<r{n}@y>")) for n in range(6)] == [b"250 2.1.5"] * 3 + [b"550 5.5.3"] * 3
    incoming = finish(made)
    assert incoming.any_refused
    assert len(incoming.attempted) == 4  # enough to know that there were too many, and no more


def test_data_needs_an_accepted_recipient():
    made = dialogue()
    assert code(made.data(None)[0]) == b"503 5.5.1"
    made.mail("FROM:<a@b>")
    assert code(made.data(None)[0]) == b"503 5.5.1"
    made.rcpt("TO:<bad>")
    assert code(made.data(None)[0]) == b"554 5.5.1"
    made.rcpt("TO:<x@y>")
    assert code(made.data("now")[0]) == b"501 5.5.4"
    assert made.data(None)[1]


@given(argument=st.text(max_size=40) | st.from_regex(r"(FROM|TO): ?<[^>]{0,20}> ?[A-Z=0-9 ]{0,20}"))
def test_any_argument_gets_one_reply(argument):
    made = dialogue()
    for reply in (made.mail(argument), made.mail("FROM:<a@b>"), made.rcpt(argument), made.data(argument)[0]):
        assert reply.text[:3].isdigit()
        assert reply.text[3:4] in b" -"
