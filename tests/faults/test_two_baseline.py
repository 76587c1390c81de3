"""Both providers read ``rem-baseline`` messages and are killed again and again: each gets its message once.

What is special here is made at the first hand-over: evidence 10 in the peer's form and the message around it.
Whatever dies between sealing, storing and handing over, there is one such evidence, and one 31 beside each 21.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from directory.providers import Profile
from tests.faults.pair import Pair
from tests.faults.test_two_failpoints import _die
from tests.faults.two_books import TwoBooks, TwoComparison
from tests.support.crash import Provider

pytestmark = pytest.mark.slow
POINTS = ("store.write.before", "blobs.keep.after", "relay.after")


class BaselinePair(Pair):
    """Two providers that the register gives the other profile."""

    def entry(self, one: Provider, port: int) -> dict[str, object]:
        return super().entry(one, port) | {"profile": Profile.REM_BASELINE.value}


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaselinePair]:
    made = BaselinePair(tmp_path_factory.mktemp("faults") / "baseline")
    yield made
    made.close()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", POINTS)
async def test_what_crosses_in_the_peers_form_survives_every_death_at(baseline: BaselinePair, point: str):
    pair = baseline
    async with pair.wires(), pair.crowds(f"baseline {point}") as crowds, AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(_die(pair, one, crowds[one.domain], point)) for one in pair.both]
        assert pair.broken_promises() == []
        servers = [await stack.enter_async_context(life.result()) for life in lives]
        await pair.quiet(crowds, servers)
        assert crossing(pair) == []
        assert [wrong for one in pair.both for wrong in forms(one)] == []
        assert pair.failed(strict=True) == []
        await pair.fsck(deep=True)


def crossing(pair: Pair) -> list[str]:
    """Return what one of them has, and the other did not make or did not get."""
    comparison = TwoComparison(pair.told, TwoBooks.read(*pair.both), strict=True)
    before = len(comparison.found)
    comparison.crossing()
    return comparison.found[before:]


def forms(one: Provider) -> list[str]:
    """Return messages that crossed without exactly one evidence 10 of each form, and contents kept too long."""
    tens = (
        "SELECT count(*) FROM evidence e WHERE e.message_id = t.message_id AND e.kind = 10 AND origin IS NULL"
    )
    query = (
        f"SELECT t.message_id, ({tens} AND e.profile = 'kep-ts102640'),"
        f" ({tens} AND e.profile = 'rem-baseline'), t.state, t.blob IS NULL"
        " FROM transfers t WHERE t.kind = 'dispatch'"
    )
    refused = (
        "SELECT (SELECT count(*) FROM evidence WHERE kind = 21 AND origin IS NOT NULL),"
        " (SELECT count(*) FROM evidence WHERE kind = 31 AND origin IS NULL)"
    )
    rows = one.rows(query)
    assert rows
    wrong = [f"{one.domain}: {row}" for row in rows if tuple(row[1:]) != (1, 1, "done", 1)]
    wrong += [f"{one.domain}: 21 and 31: {row}" for row in one.rows(refused) if row[0] > row[1]]
    return wrong
