"""Guessing passwords gets slower and slower, over all connections; owners are not locked out."""

import asyncio

import pytest

from kephs.imap.throttle import ENTRIES_MAX, FORGET_SECONDS, QUEUE_SECONDS, LoginThrottle

KEY = (("h", "a"), 0, 8.0)


def test_the_first_try_never_waits():
    assert LoginThrottle().reserve([KEY], 0.0) == 0


def test_every_failure_doubles_the_wait_up_to_a_cap():
    waits = []
    throttle = LoginThrottle(unit=0.5)
    now = 0.0
    for _ in range(8):
        throttle.note([KEY[0]], now)
        now += 100
        waits.append(throttle.reserve([KEY], now))
        now += 100
    assert waits == [0.5, 1, 2, 4, 8, 8, 8, 8]


def test_parallel_tries_queue_up_instead_of_sharing_one_wait():
    throttle = LoginThrottle(unit=1)
    throttle.note([KEY[0]], 0.0)
    assert [throttle.reserve([KEY], 10.0) for _ in range(3)] == [1, 1, 2]


def test_failures_are_forgotten_after_a_while():
    throttle = LoginThrottle()
    throttle.note([KEY[0]], 0.0)
    assert throttle.reserve([KEY], FORGET_SECONDS + 1) == 0


def test_the_table_is_bounded():
    throttle = LoginThrottle()
    for number in range(ENTRIES_MAX + 50):
        throttle.note([("h", str(number))], float(number))
    assert len(throttle._entries) == ENTRIES_MAX


async def test_a_success_forgets_only_its_own_failures():
    throttle = LoginThrottle(unit=0.0001)
    guard = throttle.guard("h")
    guard.failed("A@x")
    guard.failed("b@x")
    guard.succeeded("a@X ")
    assert set(throttle._entries) == {("h", ""), ("", "a@x"), ("h", "b@x"), ("", "b@x")}


async def test_who_would_wait_too_long_is_refused_at_once():
    throttle = LoginThrottle(unit=1)
    guard = throttle.guard("h")
    for _ in range(10):
        guard.failed("a@x")
    now = asyncio.get_running_loop().time()
    while throttle.reserve([(("h", "a@x"), 0, 8.0)], now) <= QUEUE_SECONDS:
        pass
    assert await guard.admit("a@x") is False


async def test_an_owner_elsewhere_waits_a_second_at_most_for_another_hosts_guessing():
    throttle = LoginThrottle(unit=1)
    for _ in range(30):
        throttle.guard("evil").failed("a@x")
    now = asyncio.get_running_loop().time()
    keys = ((("home", "a@x"), 0, 8.0), (("home", ""), 20, 8.0), (("", "a@x"), 10, 1.0))
    assert throttle.reserve(keys, now + 5) == pytest.approx(1.0)
