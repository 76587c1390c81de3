"""The relay's client dialogue: every stage, every refusal, and any split of the peer's bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.ports import BytesSource
from kephs.domain.relay import Handed, Letter, NotHanded, RelayTrouble
from smtp_gateway.relay_dialogue import GROUP, RULES, Dialogue, Finished, Stage, StartTls, Write, WriteContent
from smtp_gateway.relay_replies import (
    LINE_MAX,
    LINES_MAX,
)

EHLO = b"250-peer\r\n250-PIPELINING\r\n250-SIZE 5000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
PLAIN_EHLO = b"250 peer\r\n"
OPENING = [b"220 peer\r\n", b"250-peer\r\n250 STARTTLS\r\n", b"220 go\r\n"]
CONTENT = BytesSource(b"a: b\r\n\r\nx\r\n")


def letter(*recipients: str, size: int | None = None, **flags: bool) -> Letter:
    content = CONTENT if size is None else BytesSource(b"\r\n" * (size // 2))
    return Letter("s@hs91.kep.tr", recipients or ("r@hs92.kep.tr",), content, **flags)


class Driver:
    """A shell without sockets: gives turns of bytes, notes what would be sent; content takes until a turn's end."""

    def __init__(self, of: Letter, dialogue: Dialogue | None = None) -> None:
        self.dialogue = dialogue or Dialogue("us.test")
        self.sent: list[bytes] = []
        self.outcome: Finished | None = None
        self.act(self.dialogue.begin(of))

    def act(self, actions) -> None:
        for action in actions:
            match action:
                case Write(data):
                    self.sent.append(data)
                case StartTls():
                    self.sent.append(b"<tls>")
                case WriteContent():
                    self.sent.append(b"<content>")
                case Finished():
                    assert self.outcome is None
                    self.outcome = action

    def turn(self, *pieces: bytes) -> "Driver":
        for piece in pieces:
            self.act(self.dialogue.feed(piece))
        if self.outcome is None and self.dialogue.stage is Stage.HANDSHAKE:
            self.act(self.dialogue.secured())
        elif self.outcome is None and self.dialogue.stage is Stage.CONTENT:
            self.act(self.dialogue.content_sent())
        return self

    def opened(self, ehlo: bytes = EHLO) -> "Driver":
        for data in (*OPENING, ehlo):
            self.turn(data)
        return self

    @property
    def trouble(self) -> RelayTrouble:
        assert self.outcome is not None
        assert isinstance(self.outcome.outcome, NotHanded)
        return self.outcome.outcome.trouble


def at(stage: Stage, ehlo: bytes = EHLO) -> Driver:
    """Return a driver whose dialogue waits at a stage."""
    driver = Driver(letter())
    good = [*OPENING, ehlo, b"250 mail\r\n", b"250 rcpt\r\n", b"354 data\r\n"]
    for data in good:
        if driver.dialogue.stage is stage:
            break
        driver.turn(data)
    if stage is Stage.CONTENT:
        driver.dialogue.stage = Stage.CONTENT
    if stage is Stage.RESET:
        driver = at(Stage.DATA).turn(b"554 5.5.1 no\r\n")
    assert driver.dialogue.stage is stage
    return driver


# --- the good way ---------------------------------------------------------------------------------


def test_a_letter_goes_over_with_its_envelope_in_one_group_where_the_peer_pipelines():
    driver = Driver(letter("r@hs92.kep.tr", "t@hs92.kep.tr")).opened()
    driver.turn(b"250 1\r\n250 2\r\n250 3\r\n").turn(b"354 go\r\n").turn(b"250 2.0.0 queued\r\n")
    assert driver.sent == [
        b"EHLO us.test\r\n",
        b"STARTTLS\r\n",
        b"<tls>",
        b"EHLO us.test\r\n",
        b"MAIL FROM:<s@hs91.kep.tr> SIZE=11\r\nRCPT TO:<r@hs92.kep.tr>\r\nRCPT TO:<t@hs92.kep.tr>\r\n",
        b"DATA\r\n",
        b"<content>",
    ]
    assert driver.outcome == Finished(Handed("250 2.0.0 queued"))
    assert driver.dialogue.usable


def test_commands_go_one_by_one_where_the_peer_does_not_pipeline():
    driver = Driver(letter("r@hs92.kep.tr", "t@hs92.kep.tr")).opened(PLAIN_EHLO)
    for reply in (b"250 1\r\n", b"250 2\r\n", b"251 3\r\n", b"354 go\r\n", b"250 ok\r\n"):
        driver.turn(reply)
    assert driver.sent[4:] == [
        b"MAIL FROM:<s@hs91.kep.tr>\r\n",
        b"RCPT TO:<r@hs92.kep.tr>\r\n",
        b"RCPT TO:<t@hs92.kep.tr>\r\n",
        b"DATA\r\n",
        b"<content>",
    ]
    assert driver.outcome == Finished(Handed("250 ok"))


def test_many_recipients_go_in_groups_that_fit_any_send_buffer():
    driver = Driver(letter(*(f"r{n}@hs92.kep.tr" for n in range(500)))).opened()
    while driver.dialogue.stage in {Stage.MAIL, Stage.RCPT}:
        group = driver.sent[-1]
        assert group.count(b"\r\n") <= GROUP
        driver.turn(b"250 ok\r\n" * group.count(b"\r\n"))
    assert b"".join(driver.sent).count(b"RCPT TO:") == 500
    assert driver.sent[-1] == b"DATA\r\n"


def test_the_null_sender_of_receipts_goes_over():
    driver = Driver(Letter("", ("r@hs92.kep.tr",), CONTENT)).opened(PLAIN_EHLO)
    assert driver.sent[-1] == b"MAIL FROM:<>\r\n"


@pytest.mark.parametrize(
    ("flags", "parameters"),
    [
        ({}, b" SIZE=11"),
        ({"needs_8bit": True}, b" SIZE=11 BODY=8BITMIME"),
        ({"needs_8bit": True, "needs_utf8": True}, b" SIZE=11 BODY=8BITMIME SMTPUTF8"),
        ({"needs_utf8": True}, b" SIZE=11 BODY=8BITMIME SMTPUTF8"),
    ],
    ids=["plain", "8bit", "utf8", "utf8-is-8bit"],
)
def test_mail_says_what_the_content_needs(flags, parameters):
    driver = Driver(letter(**flags)).opened()
    assert driver.sent[-1].split(b"\r\n")[0] == b"MAIL FROM:<s@hs91.kep.tr>" + parameters


def test_the_next_letter_takes_the_same_connection():
    first = at(Stage.FINAL).turn(b"250 ok\r\n")
    second = Driver(letter(), first.dialogue)
    second.turn(b"250 1\r\n250 2\r\n").turn(b"354\r\n").turn(b"250 again\r\n")
    assert second.sent[0].startswith(b"MAIL FROM:")
    assert second.outcome == Finished(Handed("250 again"))


# --- what the peer cannot take ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ehlo", "of", "trouble"),
    [
        (b"250-p\r\n250 SMTPUTF8\r\n", letter(needs_8bit=True), RelayTrouble.NEEDS_8BITMIME),
        (b"250-p\r\n250 SMTPUTF8\r\n", letter(needs_utf8=True), RelayTrouble.NEEDS_8BITMIME),
        (b"250-p\r\n250 8BITMIME\r\n", letter(needs_utf8=True), RelayTrouble.NEEDS_SMTPUTF8),
        (b"250-p\r\n250 SIZE 10\r\n", letter(), RelayTrouble.TOO_BIG),
    ],
    ids=["8bit", "utf8-without-8bit", "utf8", "size"],
)
def test_a_letter_that_the_peer_cannot_take_is_not_begun_and_never_converted(ehlo, of, trouble):
    driver = Driver(of).opened(ehlo)
    assert driver.trouble is trouble
    assert not any(data.startswith(b"MAIL") for data in driver.sent)
    assert driver.dialogue.usable


@pytest.mark.parametrize(
    "size", [b"SIZE", b"SIZE 0", b"SIZE x", b"SIZE 11", b"SIZE 1 1", b"SIZE " + b"9" * 21]
)
def test_no_or_a_sufficient_limit_stops_nothing(size):
    driver = Driver(letter()).opened(b"250-p\r\n250 " + size + b"\r\n")
    assert driver.sent[-1] == b"MAIL FROM:<s@hs91.kep.tr> SIZE=11\r\n"


def test_a_peer_without_starttls_hears_nothing_more():
    driver = Driver(letter()).turn(OPENING[0]).turn(b"250-peer\r\n250 8BITMIME\r\n")
    assert driver.trouble is RelayTrouble.NO_STARTTLS
    assert driver.sent == [b"EHLO us.test\r\n"]
    assert not driver.dialogue.usable


def test_starttls_response_injection_is_dropped():
    driver = Driver(letter()).turn(OPENING[0]).turn(OPENING[1])
    injected = b"250-evil\r\n250 SIZE 1\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n"
    driver.turn(b"220 go\r\n" + injected[:20], injected[20:])
    assert driver.sent[-2:] == [b"<tls>", b"EHLO us.test\r\n"]
    assert driver.outcome is None
    driver.turn(EHLO)
    assert driver.sent[-1].startswith(b"MAIL FROM:<s@hs91.kep.tr> SIZE=11\r\n")


def test_what_was_offered_in_clear_is_forgotten():
    driver = Driver(letter(needs_8bit=True))
    driver.turn(OPENING[0]).turn(b"250-p\r\n250-STARTTLS\r\n250 8BITMIME\r\n").turn(OPENING[2]).turn(
        PLAIN_EHLO
    )
    assert driver.trouble is RelayTrouble.NEEDS_8BITMIME


# --- refusals ---------------------------------------------------------------------------------------

OPENING_STAGES = (Stage.GREETING, Stage.HELLO, Stage.STARTTLS, Stage.SECURE_HELLO)
LETTER_STAGES = (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.CONTENT, Stage.FINAL)
WAITING = (*OPENING_STAGES, *LETTER_STAGES)


def refused(stage: Stage, reply: bytes, ehlo: bytes = PLAIN_EHLO) -> Driver:
    driver = at(stage, ehlo)
    driver.act(driver.dialogue.feed(reply))
    if driver.dialogue.stage is Stage.RESET:
        assert driver.sent[-1] == b"RSET\r\n"
        driver.turn(b"250 reset\r\n")
    return driver


@pytest.mark.parametrize("stage", WAITING)
@pytest.mark.parametrize("code", [b"421", b"450", b"451", b"452"])
def test_a_4yz_puts_off_wherever_it_comes(stage, code):
    assert refused(stage, code + b" 4.3.2 later\r\n").trouble is RelayTrouble.REFUSED_FOR_NOW


@pytest.mark.parametrize("stage", OPENING_STAGES)
@pytest.mark.parametrize("code", [b"500", b"502", b"530", b"554"])
def test_a_5yz_before_mail_is_about_the_connection_and_not_final(stage, code):
    driver = refused(stage, code + b" no\r\n")
    assert driver.trouble is RelayTrouble.REFUSED_FOR_NOW
    assert not driver.dialogue.usable


@pytest.mark.parametrize("stage", LETTER_STAGES)
@pytest.mark.parametrize("code", [b"500", b"550", b"552", b"554"])
def test_a_5yz_to_the_message_is_final(stage, code):
    assert refused(stage, code + b" no\r\n").trouble is RelayTrouble.REFUSED


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA])
@pytest.mark.parametrize("code", [b"450", b"550"])
def test_a_refused_envelope_is_taken_back_with_rset_and_the_connection_stays(stage, code):
    driver = refused(stage, code + b" no\r\n")
    assert driver.sent[-1] == b"RSET\r\n"
    assert driver.dialogue.usable


@pytest.mark.parametrize(
    ("stage", "usable"), [(Stage.FINAL, True), (Stage.CONTENT, False)], ids=["final", "early"]
)
def test_refused_content_leaves_the_connection_usable_only_if_all_of_it_was_sent(stage, usable):
    assert refused(stage, b"554 5.7.1 malware\r\n").dialogue.usable is usable


@pytest.mark.parametrize("stage", [*WAITING, Stage.RESET])
def test_421_ends_the_connection(stage):
    driver = at(stage)
    driver.act(driver.dialogue.feed(b"421 4.3.2 closing\r\n"))
    assert not driver.dialogue.usable
    assert driver.outcome is not None


@pytest.mark.parametrize(
    ("replies", "trouble"),
    [
        (b"250 a\r\n250 b\r\n550 5.1.1 c\r\n", RelayTrouble.REFUSED),
        (b"250 a\r\n450 4.2.0 b\r\n250 c\r\n", RelayTrouble.REFUSED_FOR_NOW),
        (b"250 a\r\n450 4.2.0 b\r\n550 5.1.1 c\r\n", RelayTrouble.REFUSED),
        (b"250 a\r\n550 5.1.1 b\r\n450 4.2.0 c\r\n", RelayTrouble.REFUSED),
        (b"550 a\r\n503 b\r\n503 c\r\n", RelayTrouble.REFUSED),
        (b"451 a\r\n250 b\r\n250 c\r\n", RelayTrouble.REFUSED_FOR_NOW),
        (b"451 a\r\n503 b\r\n503 c\r\n", RelayTrouble.REFUSED_FOR_NOW),
    ],
    ids=["second-5", "first-4", "4-then-5", "5-then-4", "mail-5", "mail-4", "mail-4-then-503"],
)
def test_one_refused_recipient_refuses_the_whole_letter_and_the_worst_reply_of_a_group_counts(
    replies, trouble
):
    driver = Driver(letter("r@hs92.kep.tr", "t@hs92.kep.tr")).opened()
    driver.turn(replies)
    assert driver.outcome is None  # RSET is answered first
    driver.turn(b"250 reset\r\n")
    assert driver.trouble is trouble
    assert b"DATA\r\n" not in driver.sent


def test_a_refusal_in_one_group_spares_the_peer_the_next():
    driver = Driver(letter(*(f"r{n}@hs92.kep.tr" for n in range(500)))).opened()
    driver.turn(b"250 ok\r\n" * (GROUP - 1) + b"550 5.1.1 no\r\n")
    assert driver.sent[-1] == b"RSET\r\n"


@pytest.mark.parametrize("end", ["lost", "silent", "garbage", "refused", "put-off"])
def test_what_was_refused_stays_refused_whatever_becomes_of_rset(end):
    driver = at(Stage.RESET)
    match end:
        case "lost":
            driver.act([driver.dialogue.lost()])
        case "silent":
            driver.act([driver.dialogue.silent()])
        case "garbage":
            driver.turn(b"\0\r\n")
        case "refused":
            driver.turn(b"500 what\r\n")
        case "put-off":
            driver.turn(b"421 bye\r\n")
    assert driver.trouble is RelayTrouble.REFUSED
    assert not driver.dialogue.usable


# --- no answer, no SMTP -----------------------------------------------------------------------------


@pytest.mark.parametrize("stage", WAITING)
def test_a_connection_that_ends_is_lost_wherever_that_happens(stage):
    driver = at(stage)
    driver.act([driver.dialogue.lost()])
    assert driver.trouble is RelayTrouble.CONNECTION_LOST
    assert driver.outcome.outcome.detail == stage.value
    assert driver.outcome.stale is (stage is Stage.MAIL)
    assert not driver.dialogue.usable


@pytest.mark.parametrize("stage", WAITING)
def test_silence_is_silence_wherever_it_happens(stage):
    driver = at(stage)
    driver.act([driver.dialogue.silent()])
    assert driver.trouble is RelayTrouble.SILENT
    assert not driver.outcome.stale


@pytest.mark.parametrize("stage", WAITING)
@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n",
        b"hello\r\n",
        b"25\r\n",
        b"2500 ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"250_ok\r\n",
        b"250 ok\n",
        b"250 o\rk\r\n",
        b"250 o\0k\r\n",
        b"250-a\r\n251 b\r\n",
        b"\x16\x03\x01\x02\x00\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"2" * LINE_MAX,
        b"250-x\r\n" * (LINES_MAX + 1),
        b"\xd9\xa2\xd9\xa5\xd9\xa0 ok\r\n",
    ],
    ids=["empty", "word", "two-digits", "four-digits", "1yz", "6yz", "no-space", "bare-lf", "bare-cr", "nul",
         "codes-differ", "tls", "http", "long-line", "many-lines", "arabic-digits"],
)  # fmt: skip
def test_what_is_no_smtp_ends_the_connection(stage, garbage):
    driver = at(stage)
    driver.act(driver.dialogue.feed(garbage))
    assert driver.trouble is RelayTrouble.PROTOCOL
    assert not driver.dialogue.usable


@pytest.mark.parametrize("stage", [s for s in WAITING if s is not Stage.CONTENT])
def test_a_reply_that_does_not_fit_its_command_is_no_smtp(stage):
    driver = at(stage)
    driver.act(driver.dialogue.feed(b"250 ok\r\n" if RULES[stage].good == 3 else b"354 go\r\n"))
    assert driver.trouble is RelayTrouble.PROTOCOL


def test_a_250_before_the_content_was_sent_is_not_taken_for_the_peers_word():
    driver = at(Stage.DATA)
    driver.act(driver.dialogue.feed(b"354 go\r\n250 taken\r\n"))
    assert driver.sent[-1] == b"<content>"
    assert driver.trouble is RelayTrouble.PROTOCOL


def test_a_reply_nobody_asked_for_does_not_count_for_the_next_letter():
    driver = at(Stage.FINAL).turn(b"250 ok\r\n250 one more\r\n")
    assert driver.outcome == Finished(Handed("250 ok"))
    assert not driver.dialogue.usable
    idle = at(Stage.FINAL).turn(b"250 ok\r\n")
    idle.turn(b"2")
    assert not idle.dialogue.usable


def test_a_kept_connection_that_says_421_to_the_next_letter_was_stale():
    second = Driver(letter(), at(Stage.FINAL).turn(b"250 ok\r\n").dialogue)
    second.turn(b"421 4.4.2 timeout\r\n")
    assert second.trouble is RelayTrouble.REFUSED_FOR_NOW
    assert second.outcome.stale


# --- any split of the bytes ---------------------------------------------------------------------------

REPLY = st.sampled_from(
    [b"250 ok\r\n", b"250-a\r\n250 b\r\n", b"354 go\r\n", b"220 x\r\n", b"250-p\r\n250-PIPELINING\r\n250 SIZE 9\r\n",
     b"250-p\r\n250 STARTTLS\r\n", b"421 bye\r\n", b"450 4.2.0 x\r\n", b"550 5.1.1 x\r\n", b"junk\r\n", b"250-a\r\n", EHLO]
)  # fmt: skip
NOISE = st.one_of(REPLY, st.binary(max_size=12))


def told(turns: list[bytes], cut) -> tuple[object, ...]:
    driver = Driver(letter("r@hs92.kep.tr", "t@hs92.kep.tr"))
    for data in turns:
        driver.turn(*cut(data))
    return driver.outcome, driver.sent, driver.dialogue.stage, driver.dialogue.usable


@given(
    turns=st.lists(st.lists(NOISE, max_size=3).map(b"".join), max_size=9), data=st.data(), good=st.booleans()
)
def test_where_the_network_cuts_does_not_matter(turns, data, good):
    opening = [*OPENING, EHLO, b"250 1\r\n250 2\r\n250 3\r\n"] if good else []

    def anywhere(octets: bytes) -> list[bytes]:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=4)))
        return [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]

    whole = told([*opening, *turns], lambda octets: [octets])
    assert told([*opening, *turns], anywhere) == whole
    assert told([*opening, *turns], lambda octets: [octets[n : n + 1] for n in range(len(octets))]) == whole


def test_every_stage_that_waits_for_a_reply_has_its_rule():
    assert set(RULES) == set(Stage) - {Stage.HANDSHAKE, Stage.READY, Stage.ENDED}
