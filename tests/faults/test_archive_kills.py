"""The server is killed around every step of sealing: nothing is lost, nothing lies in two objects."""

import random

import pytest

from tests.faults.crowd import Crowd
from tests.faults.letters import Kind, write_letter
from tests.faults.told import Told
from tests.support.crash import Provider, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LIVES = 4


def archived(provider: Provider) -> tuple[int, int]:
    """Return the number of the last archived entry, and of the newest of the ledger."""
    (mark,) = provider.rows("SELECT coalesce(max(last_no), 0) FROM archive_objects WHERE kind = 'delil'")
    (newest,) = provider.rows("SELECT coalesce(max(seq), 0) FROM ledger")
    return int(mark[0]), int(newest[0])


def entries_in_objects(provider: Provider) -> list[tuple[int, int]]:
    query = "SELECT first_no, last_no FROM archive_objects WHERE kind = 'delil' ORDER BY first_no"
    return [(int(first), int(last)) for first, last in provider.rows(query)]


def each_entry_once(provider: Provider) -> bool:
    end = 0
    for first, last in entries_in_objects(provider):
        if first != end + 1:
            return False
        end = last
    return end == archived(provider)[1]


@pytest.mark.parametrize("point", ["objects.put.before", "objects.put.after"])
async def test_evidence_reaches_the_archive_once_whatever_dies_when(
    provider: Provider, told: Told, point: str
) -> None:
    """The archive seals at once; the first or the second object is the death of the server."""
    provider.configure("archive", seal_after_seconds=0.2, objects_of=3)
    provider.configure("ledger", checkpoint_seconds=0.2)
    people = list(provider.people.values())
    choice = random.Random(point)
    async with Crowd(provider, iter(()), told, 1, always=True) as crowd:
        for life in range(1, LIVES + 1):
            letter = write_letter(life, Kind.PLAIN, people[0], [people[1].address], choice)
            crowd.submit(letter)
            async with await provider.start(f"{point}:{1 + life % 2}") as server:
                crowd.meet(server)
                await until(server.died.is_set, "the failpoint")
                assert server.exit_code == -9
            crowd.part()
            assert await provider.fsck() == ""
            provider.let_leases_run_out()
        async with await provider.start() as server:
            crowd.meet(server)
            await until(lambda: not provider.work_due(), "all work")
            await until(lambda: each_entry_once(provider), "every entry in one object")
            crowd.part()
    assert archived(provider)[0] > LIVES
    assert await provider.fsck(deep=True) == ""
