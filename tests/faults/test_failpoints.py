"""The server is killed at every named moment in the life of a message, and at the next one, and the next."""

import random
from functools import partial

import pytest

from kephs.failpoints import POINTS
from tests.faults.crowd import Crowd
from tests.faults.letters import Kind, Letter, write_letter
from tests.faults.told import Books, Told, differences
from tests.support.crash import Provider, Server, until

# Those of relaying need a peer, those of objects an archive that seals at once (`test_archive_kills`).
HERE = [point for point in POINTS if not point.startswith(("relay.", "receive.", "objects."))]
KINDS = (Kind.PLAIN, Kind.BIG, Kind.TO_MANY, Kind.TO_NOBODY)  # only large content is kept by itself
MOST = 80  # a life that reaches a point more often than this is not what we think it is


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", HERE)
async def test_a_message_survives_every_death_at(provider: Provider, told: Told, point: str):
    """The n-th time the point is reached the server dies; n grows until a whole life passes without."""
    people = list(provider.people.values())
    choice = random.Random(point)
    died = 0
    async with Crowd(provider, iter(()), told, 1, always=True) as crowd:
        while died < MOST:
            others = [holder.address for holder in people[1:]]
            kind = Kind.BIG if point.startswith("blobs.keep.") else choice.choice(KINDS)
            letter = write_letter(died, kind, people[0], others, choice)
            crowd.submit(letter)
            server = await provider.start(f"{point}:{died + 1}")
            if await _lives(provider, server, crowd, letter):
                await server.kill()
                crowd.part()
                break
            assert server.exit_code == -9, "not the failpoint"
            died += 1
            assert await provider.fsck() == ""
            provider.let_leases_run_out()
            async with await provider.start() as second:
                assert await _lives(provider, second, crowd, letter)
            crowd.part()
        assert 0 < died < MOST, died
        async with await provider.start():
            assert differences(told, Books.of(provider)) == []
    assert await provider.fsck() == ""


async def _lives(provider: Provider, server: Server, crowd: Crowd, letter: Letter) -> bool:
    """Let a letter live its life: accepted, delivered, read, all receipts filed. False where the server dies."""
    crowd.meet(server)

    for what in ("an answer", "delivery and receipts", "a reading", "the receipts of the reading"):
        has = partial(_has, what, provider, crowd.told, letter)
        await until(lambda has=has: server.died.is_set() or has(), what)
    if server.died.is_set():
        crowd.part()
    return not server.died.is_set()


def _has(what: str, provider: Provider, told: Told, letter: Letter) -> bool:
    if what == "an answer":
        return letter.user_id in told.accepted
    if what != "a reading":
        return not provider.work_due()
    _, message_id = told.accepted[letter.user_id]
    read = [item for item in told.contents if told.names[item] == message_id]
    return len(read) == len(provider.addresses.intersection(letter.recipients))
