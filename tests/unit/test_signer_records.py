"""Evidence records on the way to the signer: the same comes out, and nothing else goes in."""

import json
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from types import NoneType
from typing import get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence import serialise
from evidence.record_wire import ITEMS_MAX, RECORD_MAX, RecordWireError, decode, encode, fingerprint
from evidence.records import EvidenceKind, EvidenceRecord, Party, Profile
from tests.support.evidence_samples import record


def values(hint):
    """Anything a field of this annotation may hold."""
    simple = {
        str: st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        int: st.integers(-(1 << 31), 1 << 31),
        bool: st.booleans(),
        bytes: st.binary(max_size=40),
        datetime: st.datetimes(timezones=st.just(UTC)),
    }
    if hint in simple:
        return simple[hint]
    if get_origin(hint) is tuple:
        return st.lists(values(get_args(hint)[0]), max_size=3).map(tuple)
    if get_args(hint):
        return st.one_of(st.none() if one is NoneType else values(one) for one in get_args(hint))
    if issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    assert is_dataclass(hint)
    hints = get_type_hints(hint)
    return st.builds(hint, **{field.name: values(hints[field.name]) for field in fields(hint)})


RECORDS = values(EvidenceRecord)


@given(RECORDS)
def test_what_is_written_is_read_back(made):
    assert decode(encode(made)) == made


@pytest.mark.parametrize("kind", list(EvidenceKind), ids=lambda kind: kind.name)
def test_records_of_every_kind_cross(kind):
    made = record(kind)
    assert decode(encode(made)) == made


@given(st.text(max_size=30))
def test_a_text_that_evidence_cannot_carry_gives_the_same_evidence_on_both_sides(text):
    made = record(sender=Party("ayse@hs91.kep.tr", text))
    assert serialise.write(decode(encode(made)), Profile.KEP) == serialise.write(made, Profile.KEP)


def test_a_time_that_is_not_utc_does_not_cross():
    for zone in (None, timezone(timedelta(hours=3))):
        with pytest.raises(RecordWireError, match="UTC"):
            encode(record(event_time=datetime(2026, 11, 21, 12, tzinfo=zone)))


def test_five_hundred_recipients_with_long_names_cross():
    many = tuple(Party(f"{'x' * 64}{n}@hs91.kep.tr", "Ş" * 100) for n in range(500))
    made = record(recipients=many)
    assert decode(encode(made)) == made


def test_a_record_beyond_the_cap_is_refused_by_both_sides():
    with pytest.raises(RecordWireError):
        encode(record(sender=Party("x" * RECORD_MAX)))
    with pytest.raises(RecordWireError):
        decode(b" " * RECORD_MAX + encode(record()))


def changed(**changes):
    tree = json.loads(encode(record(EvidenceKind.RETRIEVAL))) | changes
    return json.dumps({name: value for name, value in tree.items() if value != "gone"}).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": 12}, {"kind": "40"}, {"kind": 40.0}, {"kind": True}, {"kind": None}, {"kind": "gone"},
        {"evidence_id": 5}, {"evidence_id": None}, {"evidence_id": "gone"}, {"evidence_id": "\ud800"},
        {"event_time": "2026-11-21T09:06:00"}, {"event_time": "2026-11-21T09:06:00Z"},
        {"event_time": "2026-11-21T12:06:00+03:00"}, {"event_time": "2026-11-21 09:06:00+00:00"},
        {"event_time": "now"}, {"event_time": 1}, {"event_time": "gone"},
        {"issuer": {}}, {"issuer": []}, {"issuer": None}, {"sender": {"address": "a@b", "more": 1}},
        {"recipients": {}}, {"recipients": [1]}, {"recipients": [{}] * 3}, {"recipients": "a@b"},
        {"recipients": [{"address": "a"}] * (ITEMS_MAX + 1)},
        {"message": {"subject": "x", "kep_message_id": "y", "digest_sha256": "ABCD"}},
        {"message": {"subject": "x", "kep_message_id": "y", "digest_sha256": "ab cd"}},
        {"message": {"subject": "x", "kep_message_id": "y", "user_message_id": None, "digest_sha256": "a"}},
        {"refers_to": "1"}, {"refers_to": 1.0}, {"refers_to": 1 << 40}, {"refers_to": False},
        {"unknown": None},
    ],
    ids=lambda changes: "-".join(f"{name} {str(value)[:24]}" for name, value in changes.items()),
)  # fmt: skip
def test_whatever_is_not_written_so_is_refused(changes):
    with pytest.raises(RecordWireError):
        decode(changed(**changes))


GOOD = encode(record())


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"[]", b"{}", b'"x"', b"5", b"{", b"\xff", "{ş}".encode(), GOOD + b"x", GOOD[:-1],
        GOOD.decode().encode("utf-16"), b"[" * 100_000, b'{"a":' * 100_000, b"[" * 500_000 + b"]" * 500_000,
        GOOD.replace(b'"kind":40', b'"kind":40,"kind":40'), GOOD.replace(b'"kind":40', b'"kind":NaN'),
        GOOD.replace(b'"kind":40', b'"kind":' + b"9" * 10_000), GOOD.replace(b'"kind":40', b'"kind":4e1'),
    ],
    ids=lambda data: f"{len(data)} {data[:12].hex()} {data[-4:].hex()}",
)  # fmt: skip
def test_what_is_no_strict_json_is_refused(data):
    with pytest.raises(RecordWireError):
        decode(data)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data):
    with pytest.raises(RecordWireError):
        decode(data)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_gives_another_record_that_crosses(place, value):
    data = bytearray(GOOD)
    data[place] = value
    try:
        found = decode(bytes(data))
    except RecordWireError:
        return
    assert decode(encode(found)) == found


def test_the_fingerprint_tells_forms_apart():
    assert len(fingerprint()) == 32
    assert fingerprint() == fingerprint()


def test_an_equal_value_that_is_not_the_default_itself_crosses_too():
    made = record()
    other = replace(made, issuer=replace(made.issuer, country="RT"[::-1]))
    assert decode(encode(other)) == made
