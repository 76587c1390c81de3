"""The connection between two providers is cut at every line and every TLS record, and nothing is lost or doubled."""

import itertools
import random
from collections.abc import Mapping

import pytest

from tests.faults.crowd import Crowd
from tests.faults.letters import Kind
from tests.faults.pair import PEER, Pair
from tests.support.crash import DOMAIN, until
from tests.support.proxy import Cut, Proxy, Side, When

pytestmark = pytest.mark.slow
UNDER_WAY = 6  # letters at the same time, about
# EHLO STARTTLS, hello and finish of the handshake, EHLO MAIL RCPT DATA content dot
FEWEST_UNITS = 10


async def feed(pair: Pair, crowds: Mapping[str, Crowd], wires: Mapping[str, Proxy], cuts: int) -> None:
    """Write letters until every cut that was planned has happened."""

    def fired() -> bool:
        return all(len(wire.fired) >= cuts for wire in wires.values())

    for _ in range(cuts):
        for crowd in crowds.values():
            crowd.allow(UNDER_WAY // 2, 0)
        for crowd in crowds.values():
            await crowd.settled()
        await until(lambda: fired() or pair.work_due() < UNDER_WAY, "the cuts", again=0.05)
        if fired():
            return
    raise AssertionError([(len(wire.plans), len(wire.fired)) for wire in wires.values()])


@pytest.mark.timeout(300)
async def test_wherever_the_wire_is_cut_each_message_and_each_receipt_arrives_once(pair: Pair):
    choice = random.Random(3)
    async with pair.wires() as wires, pair.crowds("cut") as crowds, pair.up(crowds) as servers:
        crowds[DOMAIN].submit(pair.letter(pair.here, Kind.PLAIN, choice, to=PEER))
        await pair.quiet(crowds, servers)
        passed = wires[PEER].passages[0].passed  # one connection, one letter
        assert min(passed.values()) >= FEWEST_UNITS
        plans = [
            Cut(side, number, when, hard)
            for (side, when), hard in zip(itertools.product(Side, When), itertools.cycle((True, False)))
            for number in range(1, passed[side] + 1)
        ]
        choice.shuffle(plans)
        for wire in wires.values():
            wire.hang_up()  # what comes next needs new connections
            wire.plan(plans)
        await feed(pair, crowds, wires, len(plans))
        assert set(wires[PEER].fired) == set(wires[DOMAIN].fired) == set(plans)
        await pair.agree(crowds, servers)


@pytest.mark.timeout(300)
async def test_a_wire_cut_within_the_content_of_a_big_message_costs_nothing_but_another_try(pair: Pair):
    choice = random.Random(4)
    async with pair.wires() as wires, pair.crowds("cut big") as crowds, pair.up(crowds) as servers:
        wire = wires[PEER]
        crowds[DOMAIN].submit(pair.letter(pair.here, Kind.BIG, choice, to=PEER))
        await pair.quiet(crowds, servers)
        last = wire.passages[0].passed[Side.CLIENT]
        assert last > 2 * FEWEST_UNITS
        plans = [
            Cut(Side.CLIENT, last - back, choice.choice(list(When)), hard=bool(back % 2))
            for back in range(last - FEWEST_UNITS + 2)
        ]
        wire.hang_up()
        wire.plan(plans)
        for number in range(4):
            crowds[DOMAIN].submit(pair.letter(pair.here, Kind.BIG, choice, number, to=PEER))
        await until(lambda: len(wire.fired) == len(plans), "the cuts")
        await pair.agree(crowds, servers)
