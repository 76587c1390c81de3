"""A server's own processor: claimed once, given back, and left by its children."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from kephs.own_processor import own_processor, stay

ALL = os.sched_getaffinity(0)
pytestmark = pytest.mark.skipif(len(ALL) < 2, reason="with one processor there is nothing to choose")


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """Return a name nobody else claims under."""
    return f"kephs-test-{os.getpid()}-{request.node.name}"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that waits for the end of its input."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process


def test_threads_started_inside_keep_to_the_claimed_processor(kind: str) -> None:
    with own_processor(kind) as own, ThreadPoolExecutor(1) as pool:
        assert own is not None
        assert pool.submit(os.sched_getaffinity, 0).result() == {own.number} == os.sched_getaffinity(0)


def test_the_processor_is_given_back_also_after_a_failure(kind: str) -> None:
    with pytest.raises(ZeroDivisionError), own_processor(kind) as own:
        1 / 0  # noqa: B018  # the failure
    assert own is not None
    assert os.sched_getaffinity(0) == ALL
    with own_processor(kind) as again:
        assert again == own


def test_two_servers_never_share_and_those_too_many_are_left_alone(kind: str) -> None:
    found = []
    with ExitStack() as stack:
        for _ in range(len(ALL) + 1):
            found.append(stack.enter_context(own_processor(kind)))
            os.sched_setaffinity(0, ALL)  # the next one begins anywhere, as another process does
    assert sorted(own.number for own in found if own is not None) == sorted(ALL)
    assert found[-1] is None


def test_one_processor_is_no_choice(kind: str) -> None:
    os.sched_setaffinity(0, {min(ALL)})
    try:
        with own_processor(kind) as own:
            assert own is None
    finally:
        os.sched_setaffinity(0, ALL)


def test_a_child_is_sent_to_the_other_processors(kind: str, child: subprocess.Popen[bytes]) -> None:
    with own_processor(kind) as own:
        assert own is not None
        own.send_away(child.pid)
    assert os.sched_getaffinity(child.pid) == ALL - {own.number}


def test_a_child_that_is_gone_is_no_matter(kind: str, child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    with own_processor(kind) as own:
        assert own is not None
        own.send_away(child.pid)


def test_without_a_claim_a_child_stays_where_it_is(child: subprocess.Popen[bytes]) -> None:
    before = os.sched_getaffinity(child.pid)
    stay(child.pid)
    assert os.sched_getaffinity(child.pid) == before
