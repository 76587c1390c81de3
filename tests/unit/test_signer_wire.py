"""Frames between client and signer: strict, capped, and wherever the bytes are cut."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.model.records import Profile
from evidence.ports import Stamping
from kephs.signer import wire
from kephs.signer.wire import (
    Answer,
    Failure,
    FrameReader,
    Hello,
    Seal,
    Sign,
    Stamp,
    Trouble,
    Unknown,
    WireError,
    pack,
    pack_answer,
    pack_request,
    read_answer,
    read_request,
)

AT = datetime(2026, 11, 22, 9, 0, 0, 250_000, tzinfo=UTC)
NUMBERS = st.integers(0, wire.NUMBER_MAX)
DIGESTS = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=9).map(tuple)
REQUESTS = st.one_of(
    st.builds(
        Seal,
        NUMBERS,
        st.lists(st.binary(max_size=50), min_size=1, max_size=wire.RECORDS_MAX).map(tuple),
        st.sampled_from(list(Profile)),
        st.none() | st.sampled_from(list(Stamping)),
    ),
    st.builds(Sign, NUMBERS, DIGESTS, st.datetimes(timezones=st.just(UTC))),
    st.builds(Stamp, NUMBERS, DIGESTS),
)
ANSWERS = st.one_of(
    st.builds(Hello, st.text(st.characters(codec="ascii"), max_size=40)),
    st.builds(Answer, NUMBERS, st.lists(st.none() | st.binary(max_size=50), max_size=9).map(tuple)),
    st.builds(Failure, NUMBERS, st.sampled_from(list(Trouble)), st.text(st.characters(codec="ascii"))),
)


def one(data: bytes, most: int = wire.REQUEST_MAX) -> wire.Frame:
    (frame,) = FrameReader(most).feed(data)
    return frame


@given(REQUESTS)
def test_requests_cross(request):
    assert read_request(one(pack_request(request))) == request


@given(ANSWERS)
def test_answers_cross(answer):
    assert read_answer(one(pack_answer(answer))) == answer


@given(st.lists(REQUESTS, max_size=4), st.lists(st.integers(0, 2000), max_size=6))
def test_where_the_bytes_are_cut_does_not_matter(requests, cuts):
    data = b"".join(pack_request(request) for request in requests)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader = FrameReader(wire.REQUEST_MAX)
    frames = [frame for a, b in pairwise(places) for frame in reader.feed(data[a:b])]
    assert [read_request(frame) for frame in frames] == requests


def test_a_frame_beyond_its_cap_is_refused_before_its_content_is_there():
    FrameReader(1000).feed((1000).to_bytes(4))
    for length in (1001, 1 << 31, (1 << 32) - 1):
        with pytest.raises(WireError, match="are the most"):
            FrameReader(1000).feed(length.to_bytes(4))


def framed(head: bytes, body: bytes = b"") -> bytes:
    inside = len(head).to_bytes(2) + head + body
    return len(inside).to_bytes(4) + inside


@pytest.mark.parametrize(
    "data",
    [
        (0).to_bytes(4), (2).to_bytes(4) + b"\0\0", framed(b""), framed(b"[]"), framed(b"5"), framed(b"{}"),
        framed(b"{"), framed(b'{"parts":5}'), framed(b'{"parts":[1]}'), framed(b'{"parts":[]}', b"x"),
        framed(b'{"parts":[-1]}', b""), framed(b'{"parts":[true]}', b"x"), framed(b'{"parts":[1.0]}', b"x"),
        framed(b'{"parts":["1"]}', b"x"), framed(b'{"parts":[2,-1]}', b"x"), framed(b'{"parts":[],"parts":[]}'),
        framed(b"[" * 16_000), framed(b'{"parts":[' + b"[" * 16_000), framed("{ş}".encode()),
        framed(b'{"parts":[' + b"9" * 5000 + b"]}"), framed(b'{"x":"' + b"x" * 20_000 + b'","parts":[]}'),
        (100).to_bytes(4) + (200).to_bytes(2) + b"{" * 98, b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=lambda data: f"{len(data)} {data[:24].hex()}",
)  # fmt: skip
def test_garbage_ends_the_connection(data):
    with pytest.raises(WireError):
        FrameReader(1 << 20).feed(data)


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        ({}, ()), ({"op": "stamp"}, (b"x" * 32,)), ({"id": -1, "op": "stamp"}, (b"x" * 32,)),
        ({"id": "1", "op": "stamp"}, (b"x" * 32,)), ({"id": True}, ()), ({"id": 1 << 60}, ()),
    ],
    ids=["nothing", "no number", "negative", "text", "bool", "too large"],
)  # fmt: skip
def test_a_request_without_number_ends_the_connection(head, parts):
    with pytest.raises(WireError):
        read_request(one(pack(dict(head), parts)))


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        ({}, ()), ({"op": "export-key"}, (b"x",)), ({"op": 5}, (b"x",)), ({"op": "seal"}, (b"x",)),
        ({"op": "seal", "profile": "kep-ts102640"}, (b"x",)),
        ({"op": "seal", "profile": "kep-ts102640", "stamping": None}, ()),
        ({"op": "seal", "profile": "kep-ts102640", "stamping": None}, (b"x", None)),
        ({"op": "seal", "profile": "other", "stamping": None}, (b"x",)),
        ({"op": "seal", "profile": "kep-ts102640", "stamping": "none"}, (b"x",)),
        ({"op": "seal", "profile": "kep-ts102640", "stamping": None, "more": 1}, (b"x",)),
        ({"op": "seal", "profile": "kep-ts102640", "stamping": None}, (b"x",) * (wire.RECORDS_MAX + 1)),
        ({"op": "sign", "at": "2026-11-22T09:00:00+00:00"}, (b"x" * 31,)),
        ({"op": "sign", "at": "2026-11-22T09:00:00+00:00"}, (b"x" * 33,)),
        ({"op": "sign", "at": "2026-11-22T09:00:00+00:00"}, (b"x" * 32,) * (wire.RECORDS_MAX + 1)),
        ({"op": "sign", "at": "2026-11-22T09:00:00"}, (b"x" * 32,)), ({"op": "sign"}, (b"x" * 32,)),
        ({"op": "sign", "at": "later"}, (b"x" * 32,)), ({"op": "stamp"}, (b"x" * 20,)),
        ({"op": "stamp"}, (b"x" * 32,) * (wire.LEAVES_MAX + 1)), ({"op": "stamp", "at": "x"}, (b"x" * 32,)),
    ],
    ids=lambda value: str(value)[:70],
)  # fmt: skip
def test_a_request_for_what_there_is_not_can_be_answered(head, parts):
    assert isinstance(read_request(one(pack({"id": 7, **head}, parts))), Unknown)


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        ({}, ()), ({"hello": 1}, ()), ({"hello": "x"}, (b"x",)), ({"hello": "x", "id": 1}, ()),
        ({"id": "1"}, ()), ({"id": 1, "error": "other", "text": ""}, ()), ({"id": 1, "error": "refused"}, ()),
        ({"id": 1, "error": "refused", "text": ""}, (b"x",)), ({"id": 1, "more": 1}, ()),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_an_answer_that_is_none_ends_the_connection(head, parts):
    with pytest.raises(WireError):
        read_answer(one(pack(dict(head), parts)))


def test_what_is_too_large_is_not_packed():
    with pytest.raises(WireError):
        pack_request(Seal(1, (b"x" * wire.REQUEST_MAX,), Profile.KEP, None))
    with pytest.raises(WireError):
        pack_answer(Answer(1, (b"x" * wire.ANSWER_MAX,)))
    with pytest.raises(WireError):
        pack_answer(Answer(1, (b"",) * 9000))


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data):
    reader = FrameReader(200)
    try:
        for frame in reader.feed(data):
            read_request(frame)
    except WireError:
        pass


@given(st.binary(max_size=120))
def test_no_head_raises_anything_else(head):
    try:
        for frame in FrameReader(1000).feed(framed(head)):
            read_answer(frame)
    except WireError:
        pass
