"""The DER reader takes nothing but strict DER; the builders emit it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.asn1 import der
from evidence.asn1.der import DerError


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut short"),
        (b"\x30", "cut short"),
        (b"\x30\x80\x00\x00", "indefinite"),
        (b"\x04\x81\x05hello", "not minimal"),
        (b"\x04\x82\x00\x85" + bytes(0x85), "not minimal"),
        (b"\x04\x85\x01\x00\x00\x00\x00", "oversized"),
        (b"\x04\x05hell", "past its container"),
        (b"\x04\x82\x01", "length is cut"),
        (b"\x1f\x81\x01\x00", "high tag"),
        (b"\x05\x00\x00", "trailing"),
    ],
)
def test_anything_but_minimal_definite_der_is_refused(data, why):
    with pytest.raises(DerError, match=why):
        der.parse(data, max_size=1000)


def test_a_value_over_the_cap_is_refused():
    with pytest.raises(DerError, match="larger"):
        der.parse(der.octets(bytes(100)), max_size=100)


def test_a_member_that_runs_past_its_container_is_refused():
    with pytest.raises(DerError, match="past"):
        der.children(der.parse(b"\x30\x03\x04\x02a", max_size=10))


def test_more_members_than_the_limit_are_refused():
    with pytest.raises(DerError, match="more than 3"):
        der.children(der.parse(der.seq(*[der.NULL_DER] * 4), max_size=100), limit=3)


def test_nesting_deeper_than_the_cap_is_refused_without_recursion():
    data = der.NULL_DER
    for _ in range(5000):
        data = der.seq(data)
    with pytest.raises(DerError, match="deeply"):
        list(der.walk(der.parse(data, max_size=100_000)))


@pytest.mark.parametrize("content", [b"", b"\x80\x01", b"\x2a\x80\x01", b"\x2a\x86", b"\x2a" * 65])
def test_malformed_object_identifiers_are_refused(content):
    with pytest.raises(DerError):
        der.oid_text(content)


@given(
    first=st.integers(0, 2),
    second=st.integers(0, 39),
    rest=st.lists(st.integers(0, 2**128), max_size=3),
)
def test_an_object_identifier_reads_as_it_was_written(first, second, rest):
    text = ".".join(map(str, (first, second, *rest)))
    assert der.to_oid(der.parse(der.oid(text), max_size=200)) == text


def test_the_test_policy_arc_survives():
    text = "2.25.309561238127362817263817263545312839"
    assert der.to_oid(der.parse(der.oid(text), max_size=64)) == text


@given(st.integers(-(2**200), 2**200))
def test_an_integer_reads_as_it_was_written(value):
    assert der.to_int(der.parse(der.integer(value), max_size=100)) == value


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b"\xff\xff"])
def test_padded_integers_are_refused(content):
    with pytest.raises(DerError):
        der.to_int(der.parse(der.tlv(der.INTEGER, content), max_size=100))


@pytest.mark.parametrize(
    ("tag", "text", "expected"),
    [
        (der.UTC_TIME, b"261121090000Z", datetime(2026, 11, 21, 9, tzinfo=UTC)),
        (der.UTC_TIME, b"500101000000Z", datetime(1950, 1, 1, tzinfo=UTC)),
        (der.GENERALIZED_TIME, b"20510101000000Z", datetime(2051, 1, 1, tzinfo=UTC)),
        (der.GENERALIZED_TIME, b"20261121090000.25Z", datetime(2026, 11, 21, 9, 0, 0, 250_000, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_utc(tag, text, expected):
    assert der.to_time(der.parse(der.tlv(tag, text), max_size=40)) == expected


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (der.UTC_TIME, b"2611210900Z"),
        (der.UTC_TIME, b"261121090000+0300"),
        (der.UTC_TIME, b"261321090000Z"),
        (der.GENERALIZED_TIME, b"20261121090000"),
        (der.GENERALIZED_TIME, b"20261121090000.Z"),
        (der.GENERALIZED_TIME, b"20261121090000.10Z"),
        (der.GENERALIZED_TIME, b"20261121090060Z"),
        (der.OCTET_STRING, b"20261121090000Z"),
    ],
)
def test_other_forms_of_time_are_refused(tag, text):
    with pytest.raises(DerError):
        der.to_time(der.parse(der.tlv(tag, text), max_size=40))


def test_a_time_is_written_in_utc_whatever_its_zone():
    istanbul = timezone(timedelta(hours=3))
    assert der.utctime(datetime(2026, 11, 21, 12, tzinfo=istanbul)) == b"\x17\x0d261121090000Z"
    assert der.utctime(datetime(2050, 1, 1, tzinfo=UTC)) == b"\x18\x0f20500101000000Z"
    with pytest.raises(ValueError, match="aware"):
        der.utctime(datetime(2026, 1, 1))  # noqa: DTZ001 - naive on purpose


@given(st.binary(max_size=70_000))
def test_what_is_built_reads_back(content):
    node = der.parse(der.octets(content), max_size=80_000)
    assert der.to_octets(node) == content


def test_set_of_is_sorted_and_order_is_seen():
    encoded = der.set_of((b"\x04\x01b", b"\x04\x01a"))
    assert encoded == b"\x31\x06\x04\x01a\x04\x01b"
    assert der.is_sorted_set(der.children(der.parse(encoded, max_size=20)))
    assert not der.is_sorted_set(der.children(der.parse(b"\x31\x06\x04\x01b\x04\x01a", max_size=20)))


def test_a_cursor_refuses_what_the_schema_does_not_know():
    cursor = der.Cursor(der.parse(der.seq(der.NULL_DER, der.NULL_DER), max_size=20))
    cursor.take(der.NULL)
    assert cursor.optional(der.INTEGER) is None
    with pytest.raises(DerError, match="unexpected member"):
        cursor.finish()
    cursor.take()
    with pytest.raises(DerError, match="missing"):
        cursor.take()


@pytest.mark.parametrize("content", [b"\x01", b"\x00\xff"])
def test_booleans_know_two_values(content):
    with pytest.raises(DerError):
        der.to_bool(der.parse(der.tlv(der.BOOLEAN, content), max_size=20))


def test_named_bits_are_read_and_set_padding_refused():
    node = der.parse(der.tlv(der.BIT_STRING, b"\x06\xc0"), max_size=20)
    assert der.to_named_bits(node) == {0, 1}
    with pytest.raises(DerError, match="unused"):
        der.to_named_bits(der.parse(der.tlv(der.BIT_STRING, b"\x07\xc0"), max_size=20))
