"""Many digests under one token: natural batches, leaders and followers, and nobody lost."""

import asyncio
import selectors
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from evidence.adapters.batch_stamper import BatchStamper
from evidence.ers import HashTree, read_record, tree_root
from evidence.ports import Batcher, TimestampUnavailableError
from evidence.timestamps import TokenIssuer, build_request, read_request, read_token
from kephs.testpki.oids import TEST_TSA_POLICY
from tests.support.pki import NOW, shared_pki


class Clockwork(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while everybody waits, and then at once: no test sleeps."""

    def __init__(self):
        super().__init__(_Jump(self))
        self.now = 1000.0

    def time(self):
        return self.now


class _Jump(selectors.SelectSelector):
    def __init__(self, loop):
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        if timeout:
            self._loop.now += timeout
        assert timeout is not None, "everybody waits for ever"
        return super().select(0)


def run(main):
    with asyncio.Runner(loop_factory=Clockwork) as runner:
        return runner.run(main)


def leaf(number):
    return sha256(str(number).encode()).digest()


@dataclass
class Stamps:
    """A `Timestamper` under the test's thumb: every request waits until it is answered or refused."""

    answer_after: float | None = None  # seconds; None: the test answers
    asked: list[bytes] = field(default_factory=list)
    open: list[asyncio.Future[None]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    cancelled: int = 0

    async def stamp(self, digest):
        self.asked.append(digest)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.answer_after is not None:
                await asyncio.sleep(self.answer_after)
                return token(digest)
            future = asyncio.get_running_loop().create_future()
            self.open.append(future)
            await future
            return token(digest)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1

    def answer(self):
        self.open.pop(0).set_result(None)

    def refuse(self, error=None):
        self.open.pop(0).set_exception(error or TimestampUnavailableError("both silent"))


def token(digest):
    """A TEST token without its proper signature: nobody looks at that here."""
    return _TOKENS.setdefault(digest, _make_token(digest))


_TOKENS: dict[bytes, bytes] = {}


def _make_token(digest):
    tsa = shared_pki().tsa
    issuer = TokenIssuer(tsa.certificate, tsa.chain, TEST_TSA_POLICY)
    draft = issuer.to_be_signed(read_request(build_request(digest, 5)), NOW, 7)
    return issuer.assemble(draft, b"\x30\x06\x02\x01\x01\x02\x01\x01")


def proves(record, digest):
    """Say whether a record leads from a digest to the imprint of its token."""
    (stamp,) = read_record(record).chains[0]
    imprint = read_token(stamp.token).info.imprint
    return tree_root(stamp.reduced, digest, "sha256") == imprint


async def spin(turns=10):
    for _ in range(turns):
        await asyncio.sleep(0)


async def arrive(group, stamper, *leaves):
    """Start a caller and let it get as far as it can."""
    task = group.create_task(stamper.records(leaves))
    await spin()
    return task


# ------------------------------------------------------------------ batches


def test_a_lone_digest_goes_at_once_and_its_record_has_no_tree():
    async def main():
        stamps = Stamps(answer_after=0.0)
        stamper: Batcher = BatchStamper(stamps)
        (record,) = await stamper.records([leaf(1)])
        assert stamps.asked == [leaf(1)]
        assert proves(record, leaf(1))

    run(main())


def test_while_a_request_is_under_way_everything_else_collects_into_the_next():
    async def main():
        stamps = Stamps()
        stamper = BatchStamper(stamps)
        async with asyncio.TaskGroup() as group:
            tasks = [await arrive(group, stamper, leaf(n), leaf(-n)) for n in range(1, 8)]
            assert len(stamps.asked) == 1
            stamps.answer()
            await spin()
            assert tasks[0].done()
            assert not any(task.done() for task in tasks[1:])
            assert len(stamps.asked) == 2
            stamps.answer()
        for number, task in enumerate(tasks, start=1):
            assert all(map(proves, task.result(), (leaf(number), leaf(-number))))
        assert stamps.asked[1] == HashTree([leaf(n) for k in range(2, 8) for n in (k, -k)]).root
        counters = stamper.counters
        assert (counters.batches, counters.leaves, counters.longest, counters.failed) == (2, 14, 12, 0)

    run(main())


def test_nothing_to_stamp_asks_nobody():
    async def main():
        stamps = Stamps()
        assert await BatchStamper(stamps).records([]) == []
        assert stamps.asked == []

    run(main())


def test_a_batch_is_not_larger_than_allowed_and_splits_no_caller():
    async def main():
        stamps = Stamps(answer_after=1.0)
        stamper = BatchStamper(stamps, most=10)
        async with asyncio.TaskGroup() as group:
            sizes = (1, 4, 4, 4, 10, 1, 9)
            tasks = [
                group.create_task(stamper.records([leaf(f"{n} {k}") for k in range(size)]))
                for n, size in enumerate(sizes)
            ]
        assert [len(task.result()) for task in tasks] == list(sizes)
        assert stamps.asked == [
            HashTree([leaf(f"{n} {k}") for n in members for k in range(sizes[n])]).root
            for members in ((0,), (1, 2), (3,), (4,), (5, 6))
        ]
        assert stamper.counters.longest == 10

    run(main())


def test_a_caller_with_more_than_fits_gets_several_tokens():
    async def main():
        stamps = Stamps(answer_after=1.0)
        leaves = [leaf(n) for n in range(25)]
        records = await BatchStamper(stamps, most=10).records(leaves)
        assert len(stamps.asked) == 3
        assert all(map(proves, records, leaves))

    run(main())


def test_equal_digests_of_several_callers_all_get_their_record():
    async def main():
        stamps = Stamps()
        stamper = BatchStamper(stamps)
        async with asyncio.TaskGroup() as group:
            tasks = [await arrive(group, stamper, leaf(1), leaf(1)) for _ in range(3)]
            stamps.answer()
            await spin()
            stamps.answer()
        assert all(proves(record, leaf(1)) for task in tasks for record in task.result())

    run(main())


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(33), bytes(64)])
def test_a_digest_of_another_length_is_its_callers_fault_alone(wrong):
    async def main():
        stamps = Stamps()
        stamper = BatchStamper(stamps)
        async with asyncio.TaskGroup() as group:
            first = await arrive(group, stamper, leaf(1))
            with pytest.raises(ValueError, match="SHA-256"):
                await stamper.records([leaf(2), wrong])
            stamps.answer()
        assert proves(first.result()[0], leaf(1))

    run(main())


@pytest.mark.parametrize("bad", [{"most": 0}, {"window": timedelta(microseconds=-1)}])
def test_limits_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError, match="window"):
        BatchStamper(Stamps(), **bad)


# ------------------------------------------------------------------ the window


def test_with_a_window_the_first_digest_waits_so_long_and_no_longer():
    async def main():
        loop = asyncio.get_running_loop()
        stamps = Stamps(answer_after=0.5)
        stamper = BatchStamper(stamps, window=timedelta(seconds=1))
        began = loop.time()

        async def later(seconds, number):
            await asyncio.sleep(seconds)
            (record,) = await stamper.records([leaf(number)])
            assert proves(record, leaf(number))
            return loop.time() - began

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(later(s, n)) for n, s in enumerate((0.0, 0.3, 0.9, 1.2, 1.3))]
        # 0, 0.3, 0.9 go at 1.0; 1.2 and 1.3 at 2.2
        assert [task.result() for task in tasks] == pytest.approx([1.5, 1.5, 1.5, 2.7, 2.7])
        assert len(stamps.asked) == 2

    run(main())


def test_a_window_that_closed_during_a_request_is_not_waited_for_again():
    async def main():
        loop = asyncio.get_running_loop()
        stamper = BatchStamper(Stamps(answer_after=5.0), window=timedelta(seconds=1))
        began = loop.time()

        async def later(seconds):
            await asyncio.sleep(seconds)
            await stamper.records([leaf(seconds)])
            return loop.time() - began

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(later(s)) for s in (0.0, 2.0, 5.5)]
        assert [task.result() for task in tasks] == pytest.approx([6.0, 11.0, 11.0])

    run(main())


def test_a_full_batch_does_not_wait_for_its_window():
    async def main():
        loop = asyncio.get_running_loop()
        stamps = Stamps(answer_after=1.0)
        stamper = BatchStamper(stamps, window=timedelta(seconds=60), most=4)
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for n in range(4):
                group.create_task(stamper.records([leaf(n)]))
        assert loop.time() - began == pytest.approx(1.0)
        assert len(stamps.asked) == 1

    run(main())


def test_whether_a_batch_is_full_goes_by_those_who_still_wait():
    async def main():
        loop = asyncio.get_running_loop()
        stamps = Stamps(answer_after=1.0)
        stamper = BatchStamper(stamps, window=timedelta(seconds=60), most=4)
        async with asyncio.TaskGroup() as group:
            for n in range(4):  # full: goes at once
                await arrive(group, stamper, leaf(n))
            assert len(stamps.asked) == 1
            for n in range(4, 8):  # full when its turn comes: goes at once
                await arrive(group, stamper, leaf(n))
            await asyncio.sleep(1.5)
            assert len(stamps.asked) == 2
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            gone = [await arrive(group, stamper, leaf(n)) for n in (8, 9, 10)]
            for task in gone[1:]:
                task.cancel()
            await arrive(group, stamper, leaf(11))  # one and one: the window stays open
        assert loop.time() - began == pytest.approx(61.0)
        assert stamps.asked[2:] == [HashTree([leaf(8), leaf(11)]).root]

    run(main())


def test_who_leaves_during_the_window_is_not_stamped_and_the_next_one_leads():
    async def main():
        stamps = Stamps(answer_after=0.5)
        stamper = BatchStamper(stamps, window=timedelta(seconds=1))
        async with asyncio.TaskGroup() as group:
            tasks = [await arrive(group, stamper, leaf(n)) for n in range(4)]
            tasks[0].cancel()  # the leader
            tasks[2].cancel()
        assert stamps.asked == [HashTree([leaf(1), leaf(3)]).root]
        assert proves(tasks[1].result()[0], leaf(1))
        assert proves(tasks[3].result()[0], leaf(3))

    run(main())


@given(st.lists(st.floats(0, 20), min_size=1, max_size=25), st.floats(0, 5), st.floats(0, 5))
@settings(max_examples=60)
def test_batching_adds_at_most_the_window_and_one_round_trip(arrivals, window, trip):
    async def main():
        loop = asyncio.get_running_loop()
        stamper = BatchStamper(Stamps(answer_after=trip), window=timedelta(seconds=window))

        async def caller(number, at):
            await asyncio.sleep(at)
            began = loop.time()
            await stamper.records([leaf(number)])
            assert loop.time() - began <= window + 2 * trip + 1e-3  # its own trip, and one already under way

        async with asyncio.TaskGroup() as group:
            for number, at in enumerate(arrivals):
                group.create_task(caller(number, at))

    run(main())


# ------------------------------------------------------------------ failures and cancellation


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
