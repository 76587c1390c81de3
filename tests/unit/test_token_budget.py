"""Paid time stamps: how many are left, when to warn, and the form the counts are kept in."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.stamps.token_budget import (
    MAX_FILE,
    Counter,
    CreditFileError,
    CreditLine,
    CreditState,
    Spending,
    added,
    decode_counts,
    encode_counts,
)

NOW = datetime(2026, 11, 21, 9, 0, 0, tzinfo=UTC)
A, B = "https://a.example/tsa", "https://b.example/tsa"
MOMENTS = st.integers(0, 10**9).map(lambda seconds: NOW + timedelta(seconds=seconds))
SPENDINGS = st.builds(
    lambda used, one, two: Spending(used, min(one, two), max(one, two)),
    st.integers(1, 10**9),
    MOMENTS,
    MOMENTS,
)
COUNTS = st.dictionaries(st.text(min_size=1, max_size=20), SPENDINGS, max_size=5)


def line(bought, used):
    return CreditLine(A, Spending(used, NOW, NOW), bought)


@pytest.mark.parametrize(
    ("bought", "used", "state"),
    [
        (None, 10**9, CreditState.UNLIMITED),
        (1000, 0, CreditState.PLENTY),
        (1000, 799, CreditState.PLENTY),
        (1000, 800, CreditState.LOW),
        (1000, 949, CreditState.LOW),
        (1000, 950, CreditState.CRITICAL),
        (1000, 999, CreditState.CRITICAL),
        (1000, 1000, CreditState.EXHAUSTED),
        (1000, 5000, CreditState.EXHAUSTED),
        (0, 0, CreditState.EXHAUSTED),
        (3, 2, CreditState.PLENTY),
    ],
)
def test_the_state_follows_what_is_left(bought, used, state):
    found = line(bought, used)
    assert found.state is state
    assert found.left == (None if bought is None else max(0, bought - used))
    assert state.worries == (state not in {CreditState.UNLIMITED, CreditState.PLENTY})


def test_each_threshold_is_told_once():
    counter = Counter({A: 100})
    told = [(n, found.state) for n in range(1, 121) if (found := counter.spend(A, NOW)) is not None]
    assert told == [(80, CreditState.LOW), (95, CreditState.CRITICAL), (100, CreditState.EXHAUSTED)]


def test_the_pace_so_far_says_for_how_many_days_the_rest_lasts():
    counter = Counter({A: 1000})
    for day in range(101):
        counter.spend(A, NOW + timedelta(days=day))
    assert counter.line(A).days_left == pytest.approx(899)
    assert Counter({A: 1000}).line(A).days_left is None
    assert line(None, 5).days_left is None
    assert line(1000, 5).days_left is None  # all in one moment


def test_the_report_names_configured_authorities_first_and_former_ones_too():
    counter = Counter({B: 10, A: None}, {"former": Spending(3, NOW, NOW)})
    counter.spend("stranger", NOW)
    assert [one.endpoint for one in counter.report()] == [B, A, "former", "stranger"]
    assert [one.used for one in counter.report()] == [0, 0, 3, 1]


def test_what_is_settled_counts_as_kept_and_what_others_wrote_is_learned():
    counter = Counter({A: 100})
    for _ in range(3):
        counter.spend(A, NOW)
    taken = counter.pending
    counter.spend(A, NOW + timedelta(seconds=1))  # while the others are being written
    counter.settle(taken, {A: Spending(50, NOW, NOW), B: Spending(1, NOW, NOW)})
    assert counter.pending_tokens == 1
    assert counter.line(A).used == 51
    assert counter.line(B).used == 1
    counter.settle(counter.pending, {A: Spending(51, NOW, NOW)})
    assert counter.pending == {}
    assert counter.line(A).used == 51


@given(COUNTS)
def test_counts_survive_being_written(counts):
    assert decode_counts(encode_counts(counts)) == counts


@given(COUNTS, COUNTS)
def test_adding_counts_loses_none(one, two):
    both = added(one, two)
    assert both == added(two, one)
    assert sum(s.used for s in both.values()) == sum(s.used for s in (*one.values(), *two.values()))


def test_times_are_kept_in_utc():
    at = NOW.astimezone(timezone(timedelta(hours=3)))
    assert b"09:00:00+00:00" in encode_counts({A: Spending(1, at, at)})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b'{"format": 2, "spent": {}}',
        b'{"format": 1, "spent": []}',
        b'{"format": 1, "spent": {"a": 1}}',
        b'{"format": 1, "spent": {"a": {"used": -1}}}',
        b'{"format": 1, "spent": {"a": {"used": true}}}',
        b'{"format": 1, "spent": {"a": {"used": 1.5}}}',
        b'{"format": 1, "spent": {"a": {"used": 1, "first": 5}}}',
        b'{"format": 1, "spent": {"a": {"used": 1, "first": "2026-01-01T00:00:00"}}}',
        b'{"format": 1, "spent": {"a": {"used": 1, "first": "0001-01-01T00:00:00+23:59"}}}',
        b'{"format": 1, "spent": {"a": {"used": 1, "first": "yesterday"}}}',
        b"[" * 40_000,
        b" " * (MAX_FILE + 1),
        encode_counts({str(n): Spending(1) for n in range(65)}),
    ],
    ids=range(17),
)
def test_a_damaged_file_is_told_apart(data):
    with pytest.raises(CreditFileError):
        decode_counts(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_counts_or_refused(data):
    with suppress(CreditFileError):
        assert isinstance(decode_counts(data), dict)
