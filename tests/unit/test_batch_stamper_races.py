"""Failures and cancellations of batches: nobody lost, nobody answered twice."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from evidence.adapters.batch_stamper import BatchStamper
from evidence.ports import TimestampUnavailableError
from evidence.stamps.ers import HashTree
from tests.support.clockwork import Stamps, arrive, leaf, proves, run, spin


def test_a_failure_reaches_the_callers_of_that_batch_and_no_others():
    async def main():
        stamps = Stamps()
        stamper = BatchStamper(stamps)
        async with asyncio.TaskGroup() as group:
            tasks = [await arrive(group, stamper, leaf(0))]
            failing = [group.create_task(_outcome(stamper, n)) for n in (1, 2, 3)]
            await spin()
            stamps.answer()
            await spin()
            tasks.append(await arrive(group, stamper, leaf(4)))
            stamps.refuse()
            await spin()
            stamps.answer()
        assert [task.result() for task in failing] == ["both silent"] * 3
        assert [proves(task.result()[0], leaf(n)) for task, n in zip(tasks, (0, 4), strict=True)] == [
            True,
            True,
        ]
        assert (stamper.counters.batches, stamper.counters.failed) == (2, 1)

    run(main())


def test_an_error_nobody_foresaw_is_no_endless_wait():
    async def main():
        stamps = Stamps()
        stamper = BatchStamper(stamps)
        async with asyncio.TaskGroup() as group:
            await arrive(group, stamper, leaf(0))
            leader = group.create_task(_outcome(stamper, 1, ZeroDivisionError))
            follower = group.create_task(_outcome(stamper, 2))
            await spin()
            stamps.answer()
            await spin()
            stamps.refuse(ZeroDivisionError("defect"))
            await spin()
            last = await arrive(group, stamper, leaf(3))
            stamps.answer()
        assert leader.result() == "defect"
        assert "ZeroDivisionError" in follower.result()
        assert proves(last.result()[0], leaf(3))

    run(main())


async def _outcome(stamper, number, kind=TimestampUnavailableError):
    with pytest.raises(kind) as caught:
        await stamper.records([leaf(number)])
    return str(caught.value)


@pytest.mark.parametrize("others", [1, 3, 4])
def test_a_cancelled_leader_loses_nobody_and_doubles_nobody(others):
    async def main():
        stamps = Stamps()
        stamper = BatchStamper(stamps)
        rest = range(2, 2 + others)
        late = 2 + others
        async with asyncio.TaskGroup() as group:
            first = await arrive(group, stamper, leaf(0))
            leader = await arrive(group, stamper, leaf(1))
            tasks = [await arrive(group, stamper, leaf(n)) for n in rest]
            stamps.answer()
            await spin()
            tasks.append(await arrive(group, stamper, leaf(late)))
            leader.cancel()  # its request is under way
            await spin()
            assert stamps.cancelled == 1
            assert stamps.asked[-1] == HashTree([leaf(n) for n in (*rest, late)]).root  # in their order
            stamps.open.pop(0)
            stamps.answer()
        assert leader.cancelled()
        assert proves(first.result()[0], leaf(0))
        assert all(proves(task.result()[0], leaf(n)) for task, n in zip(tasks, (*rest, late), strict=True))
        assert stamps.most_at_once == 1
        assert stamper.counters.abandoned == 1

    run(main())


def test_who_is_cancelled_in_the_moment_the_next_batch_is_made_is_not_in_it():
    async def main():
        stamps = Stamps()
        stamper = BatchStamper(stamps)
        async with asyncio.TaskGroup() as group:
            await arrive(group, stamper, leaf(0))
            batch = [await arrive(group, stamper, leaf(n)) for n in (1, 2, 3)]
            stamps.answer()  # the leader runs first, then those who are cancelled
            batch[0].cancel()
            batch[1].cancel()
            await spin()
            assert stamps.asked[1:] == [leaf(3)]
            stamps.answer()
        assert proves(batch[2].result()[0], leaf(3))

    run(main())


def test_who_is_cancelled_between_two_leaders_is_not_in_the_batch_of_the_second():
    async def main():
        stamps = Stamps()
        stamper = BatchStamper(stamps)
        async with asyncio.TaskGroup() as group:
            first = await arrive(group, stamper, leaf(0))
            batch = [await arrive(group, stamper, leaf(n)) for n in (1, 2, 3)]
            stamps.answer()
            while not first.done():
                await asyncio.sleep(0)
            assert len(stamps.asked) == 1  # the second has the lead, but had no turn yet
            batch[1].cancel()
            await spin()
            assert stamps.asked[1:] == [HashTree([leaf(1), leaf(3)]).root]
            stamps.answer()
        assert [proves(batch[n].result()[0], leaf(n + 1)) for n in (0, 2)] == [True, True]

    run(main())


def test_a_cancelled_follower_whose_batch_is_under_way_disturbs_nobody():
    async def main():
        stamps = Stamps()
        stamper = BatchStamper(stamps)
        async with asyncio.TaskGroup() as group:
            await arrive(group, stamper, leaf(0))
            batch = [await arrive(group, stamper, leaf(n)) for n in (1, 2, 3)]
            stamps.answer()
            await spin()
            batch[1].cancel()
            await spin()
            assert batch[1].cancelled()
            stamps.answer()
        assert [proves(batch[n].result()[0], leaf(n + 1)) for n in (0, 2)] == [True, True]
        assert len(stamps.asked) == 2

    run(main())


def test_who_is_made_leader_and_cancelled_in_the_same_moment_hands_the_lead_on():
    async def main():
        stamps = Stamps()
        stamper = BatchStamper(stamps)
        async with asyncio.TaskGroup() as group:
            first, heir, other = [await arrive(group, stamper, leaf(n)) for n in range(3)]
            stamps.answer()
            while not first.done():
                await asyncio.sleep(0)
            heir.cancel()
            await spin()
            assert stamps.asked[1:] == [leaf(2)]
            stamps.answer()
        assert heir.cancelled()
        assert proves(other.result()[0], leaf(2))

    run(main())


def test_a_time_out_around_a_caller_works_as_ever():
    async def main():
        stamps = Stamps(answer_after=10.0)
        stamper = BatchStamper(stamps)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await stamper.records([leaf(1)])
        (record,) = await stamper.records([leaf(1)])
        assert proves(record, leaf(1))

    run(main())


# ------------------------------------------------------------------ anything at any time


KINDS = {"arrive": 6, "cancel": 4, "answer": 3, "spin": 3, "wait": 2, "refuse": 1, "defect": 1}
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from([kind for kind, weight in KINDS.items() for _ in range(weight)]), st.integers(0, 6)
    ),
    min_size=4,
    max_size=70,
)


@given(ACTIONS, st.sampled_from([0, 0, 1]), st.integers(1, 20))
@settings(max_examples=400)
def test_whatever_happens_everybody_is_answered_once_and_only_for_their_own(actions, window, most):
    """Actions follow each other without a turn of the loop between them, unless they say so: races happen."""
    run(_World(window, most).play(actions))


class _World:
    """Callers, cancellations and failures in any order; at the end all that holds is looked at."""

    def __init__(self, window: int, most: int):
        self.stamps = Stamps()
        self.stamper = BatchStamper(self.stamps, window=timedelta(seconds=window), most=most)
        self.most = most
        self.callers: list[tuple[list[bytes], asyncio.Task[Any]]] = []
        self.meant: set[asyncio.Task[Any]] = set()
        self.failed = 0

    async def play(self, actions):
        async with asyncio.TaskGroup() as group:
            for action, number in actions:
                await getattr(self, action)(group, number)
                assert self.stamps.most_at_once <= 1
            await self.finish()
        self.judge()

    async def arrive(self, group, size):
        leaves = [leaf(f"{len(self.callers)} {k}") for k in range(size + 1)]
        self.callers.append((leaves, group.create_task(self.call(leaves))))

    async def call(self, leaves):
        try:
            return await self.stamper.records(leaves)
        except (TimestampUnavailableError, ZeroDivisionError) as error:
            return error

    async def cancel(self, _group, number):
        waiting = [task for _, task in self.callers if not task.done()]
        if waiting:
            task = waiting[number % len(waiting)]
            task.cancel()
            self.meant.add(task)

    async def answer(self, _group, _number):
        self.forget_ended()
        if self.stamps.open:
            self.stamps.answer()

    async def refuse(self, _group, _number):
        self.forget_ended()
        if self.stamps.open:
            self.failed += 1
            self.stamps.refuse()

    async def defect(self, _group, _number):
        self.forget_ended()
        if self.stamps.open:
            self.failed += 1
            self.stamps.refuse(ZeroDivisionError("defect"))

    def forget_ended(self):
        self.stamps.open = [future for future in self.stamps.open if not future.done()]

    async def spin(self, _group, turns):
        await spin(turns + 1)

    async def wait(self, _group, seconds):
        await asyncio.sleep(seconds)

    async def finish(self):
        """Answer every request from now on: then everybody must get through."""
        for _ in range(1000):
            if all(task.done() for _, task in self.callers):
                return
            await spin(3)
            await self.answer(None, 0)
            await asyncio.sleep(1)
        raise AssertionError("somebody waits for ever")

    def judge(self):
        kinds = Counter()
        for leaves, task in self.callers:
            if task.cancelled():
                assert task in self.meant
                kinds["cancelled"] += 1
            elif isinstance(task.result(), Exception):
                kinds["failed"] += 1
                assert self.failed
            else:
                kinds["stamped"] += 1
                assert len(task.result()) == len(leaves)
                assert all(map(proves, task.result(), leaves))
        event(f"outcomes: {sorted(kinds)}")
        counters = self.stamper.counters
        assert counters.longest <= self.most
        assert counters.batches + counters.failed + counters.abandoned == len(self.stamps.asked)
        # at rest: the next caller is not kept waiting by anything left behind
        assert not self.stamper._waiting
        assert self.stamper._leaves == 0
        assert not self.stamper._led


def test_a_thousand_callers_under_one_token_cost_little():
    async def main():
        stamps = Stamps(answer_after=0.02)
        stamper = BatchStamper(stamps)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(stamper.records([leaf(n)])) for n in range(1001)]
        assert len(stamps.asked) == 2
        assert all(proves(task.result()[0], leaf(n)) for n, task in list(enumerate(tasks))[::100])

    run(main())
