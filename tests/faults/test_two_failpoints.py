"""Both providers are killed at every named moment, again and again, while messages cross both ways."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from kephs.failpoints import POINTS
from tests.faults.crowd import Crowd
from tests.faults.pair import Pair
from tests.support.crash import PATIENCE, Provider, Server

pytestmark = pytest.mark.slow
HERE = [point for point in POINTS if not point.startswith("objects.")]  # see `test_archive_kills`
# The how-manieth time a point is reached is deadly, one life after the other. Every step of a message ends
# in a write: there are more of those.
TIMES = {point: range(1, 13) if point.startswith("store.") else (2, 1, 4) for point in HERE}
UNDER_WAY = 4  # letters at the same time, about
LOOK_AGAIN = 0.1  # seconds


@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", HERE)
async def test_what_crosses_survives_every_death_of_both_providers_at(pair: Pair, point: str):
    async with pair.wires(), pair.crowds(point) as crowds, AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(_die(pair, one, crowds[one.domain], point)) for one in pair.both]
        assert pair.broken_promises() == []
        servers = [await stack.enter_async_context(life.result()) for life in lives]
        await pair.agree(crowds, servers)


async def _die(pair: Pair, one: Provider, crowd: Crowd, point: str) -> Server:
    """Die at the point, time after time; return the server that lives in the end."""
    for times in TIMES[point]:
        async with await one.start(f"{point}:{times}") as server, asyncio.timeout(PATIENCE):
            crowd.meet(server)
            while not server.died.is_set():
                if pair.work_due() < UNDER_WAY:
                    crowd.allow(1, 0)
                await server.lives_for(LOOK_AGAIN)
            assert server.exit_code == -9, "not the failpoint"
        crowd.part()
    server = await one.start()
    crowd.meet(server)
    return server
