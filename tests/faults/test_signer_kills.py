"""The processes beside the server die under load: nobody is lost, doubled or left without proof of time.

The signer holds the key, the TEST PKI is the time-stamping authority. While one of them is away clients hear
4xx, and content is not shown; both are started again by the server. And none of them outlives it.
"""

import os
import random
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.faults.crowd import Crowd
from tests.faults.letters import write_letters
from tests.faults.test_random_kills import compare, told_but_not_on_disk
from tests.faults.told import Told
from tests.support.crash import Provider, Server, until

KILLS = int(os.environ.get("KEPHS_SIGNER_KILLS", "12"))  # of each
SEED = int(os.environ.get("KEPHS_SEED", "20260101"))
LONGEST_LIFE = 0.6  # seconds
SIGNER, PKI = "kephs.cli.run.signer", "test-pki"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """A provider whose servers run the TEST PKI themselves, as those of users do."""
    made = Provider(tmp_path_factory.mktemp("faults") / "provider", ("ayse", "mehmet", "fatma", "zeynep"))
    try:
        made.adopt_pki()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.mark.parametrize(("program", "event"), [(SIGNER, "signer"), (PKI, "test_pki")], ids=["signer", "tsa"])
async def test_nothing_is_lost_doubled_or_unstamped_when_a_process_beside_the_server_is_killed(
    provider: Provider, told: Told, program: str, event: str
):
    choice = random.Random(f"{SEED} {event}")
    print(f"KEPHS_SEED={SEED}")  # noqa: T201  # shown where the test fails
    letters = write_letters(provider.people, choice)
    before, later = len(told.accepted), told.later
    async with Crowd(provider, letters, told, choice.randrange(1 << 32), patient=True) as crowd:
        async with await provider.start() as server:
            crowd.meet(server)
            for kill in range(KILLS):
                crowd.allow(choice.randint(2, 5), choice.randint(0, 2))
                with silent_tsa(provider, really=program == SIGNER and kill % 3 == 2):
                    assert await server.lives_for(choice.uniform(0, LONGEST_LIFE))
                    os.kill(running(provider, program), signal.SIGKILL)
                crowd.allow(2, 0)
                await until(partial(again, provider, event, kill), "the next one")
            assert await server.lives_for(0), "the server outlives what runs beside it"
        crowd.part()
        assert logged(provider, f"{event}.died") == KILLS
        assert told_but_not_on_disk(provider, told) == set()
        await compare(provider, told, crowd)
    assert await provider.fsck(deep=True) == ""
    assert without_proof(provider) == []
    assert told.later > later, "nobody was ever told to come later"
    assert len(told.accepted) - before > KILLS, told.summary()


async def test_a_real_signer_of_the_installed_command_is_replaced_too(provider: Provider, told: Told):
    choice = random.Random(SEED)
    async with Crowd(provider, write_letters(provider.people, choice), told, SEED, patient=True) as crowd:
        async with await provider.start(cold=True) as server:
            crowd.meet(server)
            (first,) = processes(provider, SIGNER)
            crowd.allow(4, 0)
            os.kill(first, signal.SIGKILL)
            await crowd.settled()
            (second,) = processes(provider, SIGNER)
            assert second != first
        crowd.part()
        await until(lambda: processes(provider) == {}, "the end of what ran beside the server")
        await compare(provider, told, crowd)
    assert await provider.fsck() == ""


# --------------------------------------------------------------------------- nothing outlives its server


async def _idle(provider: Provider, server: Server, crowd: Crowd) -> None:
    del server, crowd
    assert {kind(words) for words in processes(provider).values()} == {SIGNER, PKI}


async def _under_load(provider: Provider, server: Server, crowd: Crowd) -> None:
    crowd.meet(server)
    crowd.allow(12, 0)
    known = len(crowd.told.accepted)
    await until(lambda: len(crowd.told.accepted) > known, "an answer")


async def _a_stamp_under_way(provider: Provider, server: Server, crowd: Crowd) -> None:
    (pki,) = processes(provider, PKI)
    os.kill(pki, signal.SIGSTOP)
    try:
        crowd.meet(server)
        crowd.allow(4, 0)
        await server.lives_for(LONGEST_LIFE)
    finally:
        os.kill(pki, signal.SIGCONT)


async def _the_signer_away(provider: Provider, server: Server, crowd: Crowd) -> None:
    (signer,) = processes(provider, SIGNER)
    os.kill(signer, signal.SIGKILL)
    await until(lambda: signer not in processes(provider, SIGNER), "its end")
    await until(lambda: processes(provider, SIGNER), "the next one, which is not ready yet")


@pytest.mark.parametrize(
    "moment", [_idle, _under_load, _a_stamp_under_way, _the_signer_away], ids=lambda one: one.__name__[1:]
)
async def test_no_process_outlives_a_server_that_is_killed(
    provider: Provider, told: Told, moment: Callable[[Provider, Server, Crowd], Awaitable[None]]
):
    choice = random.Random(moment.__name__)
    async with Crowd(provider, write_letters(provider.people, choice), told, SEED, patient=True) as crowd:
        async with await provider.start(cold=True) as server:
            await moment(provider, server, crowd)
            await server.kill()
        crowd.part()
        await until(lambda: processes(provider) == {}, "the end of what ran beside the server")
    assert told_but_not_on_disk(provider, told) == set()


async def test_no_process_outlives_a_server_that_is_killed_while_it_starts(provider: Provider):
    for word in (PKI, SIGNER):
        async with await provider.start(cold=True, wait=False) as server:
            await until(
                lambda word=word: processes(provider, word) or server.died.is_set(), f"a {word} process"
            )
            assert not server.died.is_set()
            await server.kill()
        await until(lambda: processes(provider) == {}, "the end of what ran beside the server")
    assert await provider.fsck() == ""


async def test_a_server_that_is_stopped_ends_both(provider: Provider):
    async with await provider.start(cold=True) as server:
        assert len(processes(provider)) == 2
        os.kill(server.pid, signal.SIGTERM)
        assert await server.dead() == 0
        assert processes(provider) == {}


# --------------------------------------------------------------------------- what is seen from outside


def running(provider: Provider, program: str) -> int:
    """Return the process that a fork of the warm process became for the server."""
    (found,) = (pid for pid, words in provider.warm.programs().items() if kind(words) == program)
    return found


@contextmanager
def silent_tsa(provider: Provider, *, really: bool) -> Iterator[None]:
    """Stop the time-stamping authority in its tracks, so that what is asked of the signer stays under way."""
    if not really:
        yield
        return
    pki = running(provider, PKI)
    os.kill(pki, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pki, signal.SIGCONT)


def processes(provider: Provider, program: str = "") -> dict[int, list[str]]:
    """Return the processes beside the installed command, by what /proc says: those that name the instance."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # gone meanwhile
        if str(provider.home) in words and kind(words) and (not program or kind(words) == program):
            found[int(path.parent.name)] = words
    return found


def kind(words: list[str]) -> str:
    """Return what a command line runs, empty for the server itself."""
    return next((name for name in (SIGNER, PKI) if any(name in word for word in words)), "")


def again(provider: Provider, event: str, kill: int) -> bool:
    """Say whether the server has noted that what was killed runs again."""
    return logged(provider, f"{event}.restarted") > kill


def logged(provider: Provider, event: str) -> int:
    """Return how often the last server has logged an event since it was ready."""
    _, _, text = provider.log.read_text("utf-8").rpartition('"event": "serve.ready"')
    return text.count(f'"event": "{event}"')


def without_proof(provider: Provider) -> list[tuple[str]]:
    """Return our own evidence in which and beside which there is no time stamp."""
    return provider.rows(
        "SELECT evidence_id FROM evidence WHERE unstamped OR stamp IS NULL AND origin IS NULL"
    )
