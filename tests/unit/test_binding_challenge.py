"""The text that binds a certificate: made here, unchanged, and good for ten minutes."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kephs.system import HmacIdentity
from kephs.usecases.people.binding_challenge import (
    CHALLENGE_LIFE,
    CHALLENGE_MAX,
    Challenge,
    ChallengeError,
    read_challenge,
    write_challenge,
)

MAC = HmacIdentity(bytes(32)).mac
ONE = Challenge("01acc", "01op", datetime(2026, 11, 22, 9, 10, tzinfo=UTC), "0" * 32)
TEXT = write_challenge(ONE, address="ayse.yilmaz@hs91.kep.tr", person="Ayşe  Yılmaz", mac=MAC)


def test_what_was_written_reads_back() -> None:
    assert read_challenge(TEXT, mac=MAC) == ONE
    assert len(TEXT) <= CHALLENGE_MAX
    assert CHALLENGE_LIFE.total_seconds() == 600


def test_the_text_says_in_turkish_and_english_what_is_bound_to_what() -> None:
    words = TEXT.decode()
    assert words.count("ayse.yilmaz@hs91.kep.tr") == 2
    assert words.count("Ayşe Yılmaz") == 2
    assert "bağlanır" in words
    assert "is bound" in words


def test_every_line_ends_in_crlf_so_that_signing_as_text_signs_the_same_octets() -> None:
    assert TEXT.endswith(b"\r\n")
    assert TEXT.replace(b"\r\n", b"").count(b"\n") == TEXT.replace(b"\r\n", b"").count(b"\r") == 0


@given(place=st.integers(0, len(TEXT) - 1), bit=st.integers(0, 7))
def test_one_flipped_bit_makes_it_nobodys_text(place: int, bit: int) -> None:
    changed = bytearray(TEXT)
    changed[place] ^= 1 << bit
    with pytest.raises(ChallengeError):
        read_challenge(bytes(changed), mac=MAC)


@given(cut=st.integers(0, len(TEXT) - 1), more=st.binary(min_size=1, max_size=9))
def test_a_text_cut_or_longer_is_refused(cut: int, more: bytes) -> None:
    for data in (TEXT[:cut], TEXT[cut:] if cut else b"", more + TEXT, TEXT + more):
        with pytest.raises(ChallengeError):
            read_challenge(data, mac=MAC)


@given(data=st.binary(max_size=300))
def test_no_other_bytes_are_a_text(data: bytes) -> None:
    with pytest.raises(ChallengeError):
        read_challenge(data, mac=MAC)


def test_another_instances_text_is_refused() -> None:
    with pytest.raises(ChallengeError, match="another instance"):
        read_challenge(TEXT, mac=HmacIdentity(bytes(31) + b"\1").mac)


def test_a_text_of_impossible_time_or_size_is_refused() -> None:
    for bad in (TEXT.replace(b"2026-11-22T", b"2026-13-22T"), b"x" * CHALLENGE_MAX + TEXT):
        with pytest.raises(ChallengeError):
            read_challenge(bad, mac=MAC)


def test_what_is_too_long_is_refused_before_any_work() -> None:
    def never(text: str) -> bytes:
        raise AssertionError(text)

    for data in (b"x" * CHALLENGE_MAX + TEXT, TEXT[:-1] + b"x" * CHALLENGE_MAX + b"\r\n" + TEXT):
        with pytest.raises(ChallengeError):
            read_challenge(data, mac=never)


def test_the_proof_is_under_a_prefix_that_no_identity_number_has() -> None:
    asked: list[str] = []

    def spy(text: str) -> bytes:
        asked.append(text)
        return MAC(text)

    write_challenge(replace(ONE, nonce="1" * 16), address="a@b", person="x", mac=spy)
    assert not any(text.isdigit() for text in asked)
    assert all(text.startswith("kephs certificate challenge 1\n") for text in asked)
