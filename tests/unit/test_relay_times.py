"""When a transfer is tried again: later each time, spread, never past the deadline, and foreseeable."""

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kephs.domain.relay_times import RelayTimes
from tests.support.pki import NOW

FAR = NOW + timedelta(days=365)
TIMES = RelayTimes()
ids = st.text(alphabet="0123456789abcdefghjkmnpqrstvwxyz", min_size=26, max_size=26)
attempts = st.integers(min_value=0, max_value=10**9)


def nominal(attempt: int) -> timedelta:
    """Return the wait before jitter."""
    return min(TIMES.longest_retry, TIMES.first_retry * (1 << min(attempt, 16)))


@given(transfer_id=ids, attempt=attempts)
def test_the_wait_doubles_up_to_the_longest_give_or_take_a_quarter(transfer_id: str, attempt: int) -> None:
    wait = TIMES.next_try(transfer_id, attempt, NOW, FAR) - NOW
    assert nominal(attempt) * 0.75 <= wait <= nominal(attempt) * 1.25


@given(transfer_id=ids, attempt=attempts, left=st.timedeltas(timedelta(0), timedelta(days=2)))
def test_no_try_lies_beyond_the_deadline_or_in_the_past(
    transfer_id: str, attempt: int, left: timedelta
) -> None:
    at = TIMES.next_try(transfer_id, attempt, NOW, NOW + left)
    assert NOW <= at <= NOW + left


@given(transfer_id=ids, attempt=attempts)
def test_the_same_try_of_the_same_transfer_always_comes_at_the_same_time(
    transfer_id: str, attempt: int
) -> None:
    first, second = (TIMES.next_try(transfer_id, attempt, NOW, FAR) for _ in range(2))
    assert first == second


def test_transfers_that_failed_together_are_tried_at_different_times() -> None:
    at = {TIMES.next_try(f"transfer-{number}", 3, NOW, FAR) for number in range(200)}
    assert len(at) == 200
    assert max(at) - min(at) > nominal(3) * 0.4


def test_a_day_of_tries_is_many_at_first_and_then_two_an_hour() -> None:
    now, deadline, tried = NOW, NOW + TIMES.give_up, list[datetime]()
    while now < deadline:
        tried.append(now)
        now = TIMES.next_try("01transfer", len(tried) - 1, now, deadline)
    assert 48 <= len(tried) <= 80
    assert sum(at < NOW + timedelta(hours=1) for at in tried) >= 8
    assert max(b - a for a, b in pairwise(tried)) <= TIMES.longest_retry * 1.25


@pytest.mark.parametrize(
    ("name", "wait"),
    [
        ("give_up", timedelta(hours=24)),  # spec: KEP-MS-12
        ("no_answer", timedelta(hours=24)),
        ("no_delivery_info", timedelta(hours=24)),
        ("receipts", timedelta(days=7)),
    ],
)
def test_the_deadlines_are_those_of_the_rules_unless_set(name: str, wait: timedelta) -> None:
    assert getattr(TIMES, name) == wait
