"""The idle client's timer: one for many commands, and as exact as one for each."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from smtp_gateway.connection import SubmissionProtocol
from smtp_gateway.protocol import TIMED_OUT
from smtp_gateway.replies import Reply
from smtp_gateway.settings import EdgeSettings

SETTINGS = EdgeSettings("mail.hs91.kep.tr", max_wire=1000, idle_timeout=300.0)


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.timers: list[asyncio.TimerHandle] = []
        super().__init__()

    def time(self) -> float:
        return self.seconds

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        timer = super().call_at(when, callback, *args, context=context)
        self.timers.append(timer)
        return timer

    def move_to(self, seconds: float) -> None:
        """Let time pass and ring what is due, in order."""
        while due := [t for t in self.timers if not t.cancelled() and t.when() <= seconds]:
            first = min(due, key=lambda timer: timer.when())
            self.timers.remove(first)
            self.seconds = max(self.seconds, first.when())
            first._run()
        self.seconds = seconds


@dataclass
class Hub:
    settings: EdgeSettings = SETTINGS
    draining: bool = False


class Watched(SubmissionProtocol):
    """A connection that only tells when it would hang up."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(Hub(), loop)  # type: ignore[arg-type]
        self.ended: list[float] = []

    def _close(self, last: Reply | None = None) -> None:
        assert last is TIMED_OUT
        self.ended.append(self.loop.time())


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def test_who_says_nothing_is_sent_away_when_the_time_is_up(loop: Loop):
    line = Watched(loop)
    line._reset_timeout()
    loop.move_to(299.9)
    assert line.ended == []
    loop.move_to(301)
    assert line.ended == [300.0]


def test_every_command_gives_the_whole_time_again_and_needs_no_new_timer(loop: Loop):
    line = Watched(loop)
    for second in range(0, 290, 10):
        loop.move_to(second)
        line._reset_timeout()
    assert len(loop.timers) == 1
    loop.move_to(579.9)
    assert line.ended == []
    loop.move_to(1000)
    assert line.ended == [580.0]


def test_a_shorter_time_counts_at_once(loop: Loop):
    line = Watched(loop)
    line._reset_timeout()
    line._reset_timeout(2)
    loop.move_to(1000)
    assert line.ended == [2.0]


def test_nobody_is_sent_away_while_we_decide_and_the_next_command_counts_again(loop: Loop):
    line = Watched(loop)
    line._reset_timeout()
    line._bear_with()
    loop.move_to(5000)
    assert line.ended == []
    line._reset_timeout()
    loop.move_to(9000)
    assert line.ended == [5300.0]
