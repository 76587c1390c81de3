"""The server is killed at 200 random moments under load, and stands by everything it said."""

import os
import random

import pytest

from tests.faults.crowd import Crowd
from tests.faults.letters import write_letters
from tests.faults.told import Books, Told, differences
from tests.support.crash import Provider, until

KILLS = int(os.environ.get("KEPHS_KILLS", "200"))
SEED = int(os.environ.get("KEPHS_SEED", "20260101"))
BETWEEN_CHECKS = 20
BETWEEN_COLD_STARTS = 100  # the installed command instead of a fork
LONGEST_LIFE = 0.7  # seconds


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_nothing_is_lost_doubled_or_shown_without_evidence_when_the_server_is_killed(
    provider: Provider, told: Told
):
    choice = random.Random(SEED)
    async with Crowd(provider, write_letters(provider.people, choice), told, SEED) as crowd:
        for kill in range(1, KILLS + 1):
            await live_and_die(provider, crowd, choice, cold=kill % BETWEEN_COLD_STARTS == 1)
            lost = told_but_not_on_disk(provider, told)
            assert not lost, f"after kill {kill}: {lost}"
            check = kill % BETWEEN_CHECKS == 0 or kill == KILLS
            if check:
                assert await provider.fsck(deep=kill == KILLS) == ""
            if choice.random() < 0.5:
                provider.let_leases_run_out()
            if check:
                await compare(provider, told, crowd)
    happened = told.summary()
    assert len(told.accepted) > KILLS, happened
    assert len(told.shown) > KILLS / 2, happened
    assert told.unknown.total() > KILLS / 10, happened


async def live_and_die(provider: Provider, crowd: Crowd, choice: random.Random, *, cold: bool) -> None:
    """Start a server, give the crowd work, kill the server: some time later, or when something was said."""
    crowd.allow(choice.randint(2, 6), choice.randint(0, 4))
    server = await provider.start(cold=cold, wait=choice.random() < 0.95)
    crowd.strike_after(
        **choice.choice(({}, {}, {"answers": choice.randint(1, 6)}, {"readings": choice.randint(1, 3)}))
    )
    crowd.meet(server)
    await server.lives_for(choice.uniform(0, LONGEST_LIFE))
    await server.kill()
    crowd.part()
    assert server.exit_code == -9, f"the server ended by itself: {server.exit_code}"


def told_but_not_on_disk(provider: Provider, told: Told) -> set[tuple[str, str]]:
    """Return what was answered with 250 and has no row, as the dead server left them."""
    rows = provider.rows("SELECT evidence_id, message_id FROM evidence WHERE kind = 10")
    return set(told.accepted.values()) - set(rows)


async def compare(provider: Provider, told: Told, crowd: Crowd) -> None:
    """Let a server do all that is due, and compare its books with what clients know."""
    provider.let_leases_run_out()
    crowd.strike_after()
    async with await provider.start() as server:
        crowd.meet(server)
        await crowd.settled()
        # a late reading makes evidence and a receipt while the books are read: all have to have read
        await until(lambda: _quiet(provider, crowd) or server.died.is_set(), "the work due")
        assert not server.died.is_set()
        found = differences(told, Books.of(provider))
        assert not found, "\n".join(found[:50])
    crowd.part()


def _quiet(provider: Provider, crowd: Crowd) -> bool:
    """Say whether nothing is due and everybody has read what they will ever read."""
    query = (
        "SELECT address, (SELECT count(*) FROM items WHERE items.folder_id = folders.folder_id)"
        " FROM folders JOIN accounts USING (account_id) WHERE role = 'inbox'"
    )
    if provider.work_due():
        return False
    return crowd.caught_up(dict(provider.rows(query))) and not provider.work_due()
