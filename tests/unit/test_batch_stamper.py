"""Many digests under one token: natural batches and their windows."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.adapters.batch_stamper import BatchStamper
from evidence.ports import Batcher
from evidence.stamps.ers import HashTree
from tests.support.clockwork import Stamps, arrive, leaf, proves, run, spin


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
            for members in ((0, 1, 2), (3,), (4,), (5, 6))
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


def test_a_batch_waits_for_company_that_was_announced_and_for_nobody_who_comes_later():
    async def main():
        stamps = Stamps(answer_after=0.0)
        stamper = BatchStamper(stamps)

        async def announced(turns: int) -> list[bytes]:
            with stamper.company():
                for _ in range(turns):
                    await asyncio.sleep(0)
            return await stamper.records([leaf(turns)])

        second = asyncio.ensure_future(announced(10))
        await asyncio.sleep(0)
        first = asyncio.ensure_future(stamper.records([leaf(1)]))
        await spin(3)
        third = asyncio.ensure_future(announced(50))
        records = [*await first, *await second]
        assert all(map(proves, records, (leaf(1), leaf(10))))
        assert len(stamps.asked) == 1
        assert not third.done()
        await third
        assert len(stamps.asked) == 2

    run(main())


def test_company_that_never_comes_holds_a_batch_up_for_a_moment_only():
    async def main():
        stamps = Stamps(answer_after=0.0)
        stamper = BatchStamper(stamps)
        with stamper.company():
            (record,) = await stamper.records([leaf(1)])
        assert proves(record, leaf(1))

    run(main())


def test_a_leader_cancelled_while_it_waits_for_company_hands_the_lead_on():
    async def main():
        stamps = Stamps(answer_after=0.0)
        stamper = BatchStamper(stamps)
        with stamper.company():
            first = asyncio.ensure_future(stamper.records([leaf(1)]))
            second = asyncio.ensure_future(stamper.records([leaf(2)]))
            await spin()
            first.cancel()
            await spin()
        (record,) = await second
        assert proves(record, leaf(2))
        assert first.cancelled()

    run(main())
