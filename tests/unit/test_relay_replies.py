"""Peers' replies are cut under caps, and what is written down of them names nobody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_gateway.relay_replies import (
    LINE_MAX,
    LINES_MAX,
    NotSmtpError,
    Offers,
    PeerReply,
    ReplyReader,
    detail,
    plain,
    shown,
)


@given(data=st.binary(max_size=3000))
def test_any_octets_give_replies_or_are_refused(data):
    reader = ReplyReader()
    reader.feed(data)
    try:
        while (reply := reader.next()) is not None:
            assert 200 <= reply.code <= 559
            assert len(reply.lines) <= LINES_MAX
    except NotSmtpError:
        pass


def test_a_reply_at_the_caps_is_read_and_one_beyond_is_not():
    longest = b"250-" + b"x" * (LINE_MAX - 6) + b"\r\n"
    reader = ReplyReader()
    reader.feed(longest * (LINES_MAX - 1) + b"250 end\r\n")
    assert len(reader.next().lines) == LINES_MAX
    reader.feed(b"x" + longest)
    with pytest.raises(NotSmtpError, match="line too long"):
        reader.next()


# --- what is written down -----------------------------------------------------------------------------


def test_a_detail_has_stage_code_and_text_but_no_address():
    reply = PeerReply(
        550,
        (b"5.1.1 [unknown] <a@hs92.kep.tr> b@c, no such user", b"5.1.1 Al\xc4\xb1c\xc4\xb1 \x07bulunamadi"),
    )
    assert detail("rcpt", reply) == "rcpt 550 5.1.1 [unknown] no such user"


@given(lines=st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_details_are_short_printable_ascii_without_addresses_and_replies_are_printable(lines):
    reply = PeerReply(550, tuple(lines))
    text = detail("rcpt", reply)
    assert text.startswith("rcpt 550")
    assert len(text) <= 200
    assert text.isascii()
    assert text.isprintable()
    assert "@" not in text
    assert len(shown(reply)) <= 512
    assert shown(reply).isprintable()


def test_a_text_of_one_long_word_is_cut():
    assert len(plain("x" * 5000)) == 200


def test_offers_are_read_whatever_their_case_and_order():
    reply = PeerReply(250, (b"STARTTLS greets", b"size 10", b"8bitmime", b"", b"PIPELINING x", b"AUTH=LOGIN"))
    assert Offers.parse(reply) == Offers(pipelining=True, eight_bit=True, sizes=True, size=10)
