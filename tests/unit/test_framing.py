"""Indefinite lengths of a frame made definite."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.asn1.build import integer, octets, seq, tlv
from evidence.asn1.der import DerError
from evidence.asn1.framing import MAX_DEPTH, MAX_MEMBERS, definite, is_indefinite

END = b"\x00\x00"


def open_value(tag: int, *members: bytes) -> bytes:
    return bytes((tag, 0x80)) + b"".join(members) + END


def made(data: bytes) -> bytes:
    return definite(data, max_size=1 << 20)


def test_a_frame_of_indefinite_lengths_becomes_der():
    inner = seq(integer(1), octets(b"abc"))
    assert made(open_value(0x30, integer(7), open_value(0xA0, inner))) == seq(integer(7), tlv(0xA0, inner))


def test_pieces_of_an_octet_string_are_joined():
    pieces = open_value(0x24, octets(b"ab"), octets(b""), octets(b"c" * 300))
    assert made(open_value(0xA0, pieces)) == tlv(0xA0, octets(b"ab" + b"c" * 300))


def test_an_octet_string_in_pieces_of_pieces_is_joined():
    assert made(open_value(0x24, open_value(0x24, octets(b"a")), octets(b"b"))) == octets(b"ab")


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_what_is_definite_inside_is_copied_as_it_stands(contents):
    members = [seq(octets(content)) for content in contents]
    assert made(open_value(0x30, *members)) == seq(*members)


def test_der_stays_as_it_is():
    value = seq(integer(1), octets(b"x" * 1000))
    assert made(value) == value
    assert not is_indefinite(value)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x30\x80" + integer(1), "cut"),
        (b"\x30\x80\x00", "cut"),
        (open_value(0x30, integer(1)) + b"\x00", "trailing"),
        (open_value(0x04, b"abc"), "primitive"),
        (open_value(0x24, integer(1)), "no octets"),
        (open_value(0x3F, integer(1)), "high tag"),
        (open_value(0x30, b"\x02\x81\x01\x01"), "padded length"),
        (b"", "nothing"),
    ],
    ids=["open", "half-end", "trailing", "primitive", "piece", "high-tag", "padded", "empty"],
)
def test_what_is_neither_der_nor_such_a_frame_is_refused(data, why):
    with pytest.raises(DerError):
        made(data)


def test_a_definite_length_padded_in_the_frame_stays_refused():
    with pytest.raises(DerError):
        made(b"\x30\x83\x00\x00\x03" + integer(1))


def test_deep_frames_are_refused():
    data = integer(1)
    for _ in range(MAX_DEPTH + 1):
        data = open_value(0x30, data)
    with pytest.raises(DerError):
        made(data)


def test_a_million_empty_pieces_are_refused():
    with pytest.raises(DerError):
        made(open_value(0x24, octets(b"") * (MAX_MEMBERS + 1)))


def test_the_cap_is_checked_first():
    with pytest.raises(DerError):
        definite(open_value(0x30, integer(1)), max_size=4)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_a_value_or_an_error(data):
    try:
        found = made(b"\x30\x80" + data)
    except DerError:
        return
    assert made(found) == found
