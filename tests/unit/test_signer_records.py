"""Evidence records on the way to the signer: the same comes out, and nothing else goes in."""

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.forms import serialise
from evidence.forms.record_wire import ITEMS_MAX, RECORD_MAX, RecordWireError, decode, encode, fingerprint
from evidence.model.records import EvidenceKind, EvidenceRecord, Party, Profile
from tests.support.evidence_samples import record


def values(hint: Any) -> Any:
    """Anything a field of this annotation may hold."""
    simple: dict[Any, Any] = {
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
        return st.one_of(*[st.none() if one is NoneType else values(one) for one in get_args(hint)])
    if issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    hints = get_type_hints(hint)
    return st.builds(hint, **{field.name: values(hints[field.name]) for field in fields(hint)})


@given(values(EvidenceRecord))
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


def test_characters_outside_the_first_plane_cross():
    made = record(sender=Party("ayse@hs91.kep.tr", "Ayşe \U0001f600"))
    assert decode(encode(made)) == made


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


NAMES = [field.name for field in fields(EvidenceRecord)]


def changed(**changes):
    tree = json.loads(encode(record(EvidenceKind.RETRIEVAL)))
    for name, value in changes.items():
        tree[NAMES.index(name)] = value
    return json.dumps(tree).encode()


def test_what_the_next_test_changes_is_read_otherwise():
    assert decode(changed()) == record(EvidenceKind.RETRIEVAL)


PARTY = ["a@b", None]
FACTS = ["x", None, "y", "00"]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": 12}, {"kind": "40"}, {"kind": 40.0}, {"kind": True}, {"kind": None},
        {"evidence_id": 5}, {"evidence_id": None}, {"evidence_id": "\ud800"}, {"evidence_id": []},
        {"event_time": "2026-11-21T09:06:00"}, {"event_time": "2026-11-21T09:06:00Z"},
        {"event_time": "2026-11-21T12:06:00+03:00"}, {"event_time": "2026-11-21 09:06:00+00:00"},
        {"event_time": "2026-11-21T09:06:00.000000+00:00"}, {"event_time": "2026-11-21T09:06:00.25+00:00"},
        {"event_time": "2026-13-21T09:06:00+00:00"}, {"event_time": "2026-11-2١T09:06:00+00:00"},
        {"event_time": "now"}, {"event_time": 1}, {"event_time": None},
        {"issuer": {}}, {"issuer": []}, {"issuer": None}, {"sender": [*PARTY, 1]}, {"sender": PARTY[:1]},
        {"recipients": {}}, {"recipients": [1]}, {"recipients": [[]] * 3}, {"recipients": "a@b"},
        {"recipients": [PARTY] * (ITEMS_MAX + 1)},
        {"message": [*FACTS[:3], "ABCD"]}, {"message": [*FACTS[:3], "ab cd"]}, {"message": [*FACTS[:3], "a"]},
        {"message": [*FACTS[:3], "٠٠"]}, {"message": [*FACTS[:3], None]}, {"message": FACTS[:3]},
        {"refers_to": "1"}, {"refers_to": 1.0}, {"refers_to": 1 << 40}, {"refers_to": False},
        {"other_party": PARTY}, {"other_party": ["Authentication", *PARTY]}, {"other_party": ["Issuer", *PARTY]},
        {"other_party": []}, {"other_party": [["Party"], *PARTY]}, {"other_party": "Party"},
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
        b"", b"null", b"{}", b'"x"', b"5", b"{", b"\xff", "{ş}".encode(), GOOD + b"x", GOOD[:-1],
        GOOD.decode().encode("utf-16"), b"[" * 100_000, b'{"a":' * 100_000, b"[" * 500_000 + b"]" * 500_000,
        b"[40.0" + GOOD[3:], b"[NaN" + GOOD[3:], b"[4e1" + GOOD[3:], b"[" + b"9" * 10_000 + GOOD[3:],
        b"[]", GOOD[:-1] + b",null]", b'{"kind":40}', b"[" * 900 + b'"\\ud800"' + b"]" * 900,
        b'["\\uD83D"]', b'{"kind":40,"kind":40}', b"[" + GOOD + b"]",
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


def test_the_issuer_that_stands_in_all_records_is_made_once():
    one, two = (decode(encode(record(EvidenceKind.DELIVERY, evidence_id=f"{n}@x"))) for n in range(2))
    assert one.issuer is two.issuer
    assert decode(encode(replace(one, issuer=replace(one.issuer, locality="x")))).issuer.locality == "x"
