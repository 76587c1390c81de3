"""What a token's process and its parent say to each other."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.adapters.pkcs11_token import PinRefusedError
from evidence.adapters.pkcs11_wire import (
    BATCH_MAX,
    FRAME_MAX,
    Frame,
    FrameReader,
    Kind,
    TokenWireError,
    pack,
    pack_error,
    pack_signatures,
    read_digests,
    read_error,
    read_signatures,
)
from evidence.adapters.soft_signer import KeyMaterialError
from evidence.ports import SignerUnavailableError

frames = st.lists(st.builds(Frame, st.sampled_from(Kind), st.binary(max_size=40)), max_size=5)


def arrived(reader, data, cuts):
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [frame for start, end in pairwise(places) for frame in reader.feed(data[start:end])]


@given(frames, st.lists(st.integers(0, 1000), max_size=6))
def test_where_the_bytes_are_cut_does_not_matter(sent, cuts):
    assert arrived(FrameReader(), b"".join([pack(*frame) for frame in sent]), cuts) == sent


@given(st.binary(max_size=60))
def test_anything_is_read_or_refused_as_a_frame(data):
    try:
        found = FrameReader().feed(data)
    except TokenWireError:
        return
    assert data.startswith(b"".join([pack(*frame) for frame in found]))


@pytest.mark.parametrize(
    "head",
    [b"\0\0\0\0\0", b"\x0a\0\0\0\0", b"\x08" + (FRAME_MAX + 1).to_bytes(4)],
    ids=["kind 0", "kind 10", "too long"],
)
def test_a_length_is_compared_before_anything_is_buffered(head):
    with pytest.raises(TokenWireError):
        FrameReader().feed(head)


def test_the_longest_frame_is_read():
    (frame,) = FrameReader().feed(pack(Kind.SIGNATURES, bytes(FRAME_MAX)))
    assert len(frame.octets) == FRAME_MAX


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=BATCH_MAX))
def test_digests_come_back(digests):
    assert read_digests(b"".join(digests)) == digests


@pytest.mark.parametrize("size", [31, 33, 32 * (BATCH_MAX + 1)])
def test_digests_that_are_cut_or_too_many_are_refused(size):
    with pytest.raises(TokenWireError):
        read_digests(bytes(size))


@given(st.lists(st.binary(min_size=1, max_size=80), max_size=BATCH_MAX))
def test_signatures_come_back_and_no_other_number_of_them(signatures):
    (frame,) = FrameReader().feed(pack_signatures(signatures))
    assert read_signatures(frame.octets, len(signatures)) == signatures
    for count in (len(signatures) - 1, len(signatures) + 1):
        with pytest.raises(TokenWireError):
            read_signatures(frame.octets, count)


@given(st.binary(max_size=60), st.integers(0, 4))
def test_anything_is_read_or_refused_as_signatures(octets, count):
    try:
        found = read_signatures(octets, count)
    except TokenWireError:
        return
    assert FrameReader().feed(pack_signatures(found)) == [Frame(Kind.SIGNATURES, octets)]


def test_an_empty_signature_is_none():
    with pytest.raises(TokenWireError):
        read_signatures(b"\0\0", 1)


@pytest.mark.parametrize("kind", [KeyMaterialError, PinRefusedError, SignerUnavailableError])
@given(text=st.text(max_size=100))
def test_an_error_comes_back_as_it_was(kind, text):
    (frame,) = FrameReader().feed(pack_error(kind(text)))
    found = read_error(frame.octets)
    assert type(found) is kind
    assert str(found) == text.encode("utf-8", "replace").decode()


def test_another_error_and_an_unknown_one_mean_that_nothing_is_signed_now():
    (frame,) = FrameReader().feed(pack_error(RuntimeError("x" * 2000)))
    assert type(read_error(frame.octets)) is SignerUnavailableError
    assert len(frame.octets) < 600
    for octets in (b"", b"\x09", b"\x01\xff"):
        assert type(read_error(octets)) is SignerUnavailableError
