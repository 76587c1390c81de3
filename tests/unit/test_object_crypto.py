"""Sealed objects: the master key and the name open them, nothing else does; a flipped byte anywhere is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.crypto import CHUNK, TAG, KeyMismatchError
from storage.objects.crypto import HEAD, open_object, seal_object

KEY = bytes(range(32))
NAME = "delil/2026/11/22/000000000001-000000001000.kepa"


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_what_is_sealed_opens_again(size: int) -> None:
    plain = bytes(size)
    sealed = seal_object(KEY, NAME, plain)
    assert open_object(KEY, NAME, sealed) == plain
    assert len(sealed) == HEAD + size + TAG * max(1, -(-size // CHUNK))


@given(plain=st.binary(max_size=300))
def test_the_same_object_seals_to_the_same_octets_and_another_to_others(plain: bytes) -> None:
    sealed = seal_object(KEY, NAME, plain)
    assert seal_object(KEY, NAME, plain) == sealed
    assert (
        seal_object(KEY, NAME, plain + b"x")[HEAD:][: len(plain)] != sealed[HEAD:][: len(plain)] or not plain
    )
    assert seal_object(KEY, "another", plain)[8:48] != sealed[8:48]  # the data key is another, too


@given(plain=st.binary(max_size=300), place=st.integers(0), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_refused(plain: bytes, place: int, bit: int) -> None:
    sealed = bytearray(seal_object(KEY, NAME, plain))
    sealed[place % len(sealed)] ^= 1 << bit
    with pytest.raises(KeyMismatchError):
        open_object(KEY, NAME, bytes(sealed))


@given(data=st.binary(max_size=200))
def test_what_is_no_sealed_object_is_refused(data: bytes) -> None:
    with pytest.raises(KeyMismatchError):
        open_object(KEY, NAME, data)


def test_another_name_another_key_a_cut_and_chunks_that_changed_places_are_refused() -> None:
    sealed = seal_object(KEY, NAME, bytes(CHUNK) + b"\1" * CHUNK + b"\2")
    step = CHUNK + TAG
    first, second, rest = (
        sealed[HEAD : HEAD + step],
        sealed[HEAD + step : HEAD + 2 * step],
        sealed[HEAD + 2 * step :],
    )
    for key, name, octets in (
        (bytes(32), NAME, sealed),
        (KEY, NAME + "x", sealed),
        (KEY, NAME, sealed[:-1]),
        (KEY, NAME, sealed[: HEAD + 2 * step]),
        (KEY, NAME, sealed + b"\0"),
        (KEY, NAME, sealed[:HEAD] + second + first + rest),
        (KEY, NAME, b""),
    ):
        with pytest.raises(KeyMismatchError):
            open_object(key, name, octets)
    with pytest.raises(ValueError, match="32 octets"):
        seal_object(b"short", NAME, b"")
