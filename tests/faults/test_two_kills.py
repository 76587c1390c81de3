"""Both providers are killed at 300 random moments under load, the wires are cut too, and every word holds."""

import asyncio
import os
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack

import pytest

from tests.faults.crowd import Crowd
from tests.faults.letters import Kind
from tests.faults.pair import PEER, Pair
from tests.support.crash import DOMAIN, PATIENCE, Provider, Server
from tests.support.proxy import Cut, Proxy, Side, When

KILLS = int(os.environ.get("KEPHS_PAIR_KILLS", "300"))  # of both together, in all parts together
SEED = int(os.environ.get("KEPHS_SEED", "20260101"))
PARTS = 4
LONGEST_LIFE = 0.7  # seconds
WORDS = 12  # so many times each is killed at its 250
UNDER_WAY = 4  # letters at the same time, about
LOOK_AGAIN = 0.1  # seconds

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(PARTS))
async def test_nothing_is_lost_doubled_or_untrue_when_both_providers_are_killed(pair: Pair, part: int):
    seed = SEED + part
    print(f"KEPHS_SEED={SEED} part {part}")  # noqa: T201  # shown where the test fails
    kills = max(1, KILLS // PARTS // 2)
    before = len(pair.told.accepted)
    async with pair.wires() as wires, pair.crowds(seed) as crowds, AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as group:
            lives = [
                group.create_task(
                    live_and_die(
                        pair, one, crowds[one.domain], wires, random.Random(f"{seed} {one.domain}"), kills
                    )
                )
                for one in pair.both
            ]
        servers = [await stack.enter_async_context(life.result()) for life in lives]
        await pair.agree(crowds, servers, deep=part == PARTS - 1)
    assert len(pair.told.accepted) - before > kills / 2, pair.told.summary()


@pytest.mark.timeout(180)
async def test_a_provider_killed_the_moment_its_250_leaves_stands_by_it(pair: Pair):
    async with pair.wires() as wires, pair.crowds("250") as crowds, AsyncExitStack() as stack:
        async with pair.up(crowds) as servers:
            crowds[PEER].submit(pair.letter(pair.there, Kind.PLAIN, random.Random(SEED), to=DOMAIN))
            await pair.quiet(crowds, servers)
            last = wires[DOMAIN].passages[0].passed[Side.SERVER]  # of one letter: the 250 to its content
        async with asyncio.TaskGroup() as group:
            lives = [
                group.create_task(_die_at_250(pair, one, crowds[one.domain], wires[one.domain], last))
                for one in pair.both
            ]
        servers = [await stack.enter_async_context(life.result()) for life in lives]
        await pair.agree(crowds, servers)


async def _die_at_250(pair: Pair, one: Provider, crowd: Crowd, wire: Proxy, last: int) -> Server:
    """Die again and again when the answer to a peer's content is on its way; return a server that lives."""
    for _ in range(WORDS):
        async with await one.start() as server, asyncio.timeout(PATIENCE):
            wire.at_cut = server.strike
            crowd.meet(server)
            while not server.died.is_set():
                if not wire.plans:  # a connection that took it may have ended with the other side's life
                    wire.plan([Cut(Side.SERVER, last, When.AFTER)])
                if pair.work_due() < UNDER_WAY:
                    crowd.allow(1, 0)
                await server.lives_for(LOOK_AGAIN)
        crowd.part()
        assert pair.broken_promises() == []
    wire.plans.clear()
    wire.at_cut = lambda: None
    server = await one.start()
    crowd.meet(server)
    return server


async def live_and_die(
    pair: Pair, one: Provider, crowd: Crowd, wires: Mapping[str, Proxy], choice: random.Random, kills: int
) -> Server:
    """Live and die so many times: some time after the start, or when something was said; return a server that lives."""
    for kill in range(kills):
        crowd.allow(choice.randint(1, 3), choice.randint(0, 2))
        # once the installed command instead of a fork
        server = await one.start(wait=choice.random() < 0.95, cold=kill == kills // 2)
        crowd.strike_after(
            **choice.choice(({}, {}, {"answers": choice.randint(1, 4)}, {"readings": choice.randint(1, 3)}))
        )
        crowd.meet(server)
        life = choice.uniform(0, LONGEST_LIFE)
        if choice.random() < 0.3:
            await server.lives_for(life / 2)
            wires[one.domain].hang_up()
        await server.lives_for(life)
        await server.kill()
        crowd.part()
        assert server.exit_code == -9, f"the server ended by itself: {server.exit_code}"
        assert pair.broken_promises() == []
    crowd.strike_after()
    server = await one.start()
    crowd.meet(server)
    return server
