"""Changes across processes: who listens elsewhere hears, and nobody is forgotten after an outage."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kephs.instances.postgres_changes import PostgresChanges, payloads
from kephs.system import LocalChanges, LocalSubscription
from tests.support.postgres import FaultyConnector, running

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    made = running().empty()
    yield made
    running().drop(made)


@asynccontextmanager
async def opened(url: str, connector: FaultyConnector | None = None) -> AsyncIterator[PostgresChanges]:
    changes = PostgresChanges(url, connector=connector or FaultyConnector())
    await changes.start()
    try:
        yield changes
    finally:
        await changes.close()
        await changes.close()


async def heard(subscription: LocalSubscription) -> None:
    async with asyncio.timeout(20):
        await subscription.wait()


def silent(*subscriptions: LocalSubscription) -> bool:
    return not any(subscription._event.is_set() for subscription in subscriptions)


async def test_listeners_here_and_elsewhere_hear_of_their_accounts_alone(url: str) -> None:
    async with opened(url) as here, opened(url) as there:
        mine, theirs, other = here.subscribe("a1"), there.subscribe("a1"), there.subscribe("a2")
        everything = there.subscribe(LocalChanges.EVERYTHING)
        here.publish(["a1"])
        assert not silent(mine), "without a round trip"
        await asyncio.gather(heard(theirs), heard(everything))
        assert silent(other)
        there.publish(["a2"])
        await heard(other)
        here.publish([])
        await heard(everything)


async def test_what_one_publishes_comes_back_to_nobody(url: str) -> None:
    async with opened(url) as here, opened(url) as there:
        mine, marker = here.subscribe("a1"), here.subscribe("marker")
        here.publish(["a1"])
        await heard(mine)
        theirs = there.subscribe("a1")
        await heard(theirs) if not silent(theirs) else None
        there.publish(["marker"])  # comes after whatever there was to come
        await heard(marker)
        assert silent(mine)


async def test_many_changes_at_once_travel_together_and_all_arrive(url: str) -> None:
    async with opened(url) as here, opened(url) as there:
        names = [f"{n:026}" for n in range(2000)]
        listeners = [there.subscribe(name) for name in names]
        for name in names:
            here.publish([name])
        await asyncio.gather(*map(heard, listeners))


async def test_a_lost_connection_is_made_anew_and_everybody_is_woken_once(url: str) -> None:
    async with opened(url) as here, opened(url) as there:
        mine, theirs = here.subscribe("a1"), there.subscribe("a2")
        running().cut(url)
        await asyncio.gather(heard(mine), heard(theirs))
        here.publish(["a2"])
        await heard(theirs)


async def test_what_changes_during_an_outage_is_told_after_it(url: str) -> None:
    connector = FaultyConnector()
    async with opened(url, connector) as here, opened(url) as there:
        theirs = there.subscribe("a1")
        connector.refusing = True
        running().cut(url)
        await heard(theirs)  # there is back
        here.publish(["a1"])
        connector.refusing = False
        await heard(theirs)


async def test_without_a_database_this_process_goes_on_and_stops_at_once(url: str) -> None:
    connector = FaultyConnector()
    connector.refusing = True
    changes = PostgresChanges(url, connector=connector)
    changes._listening.set()  # do not wait for it in the test
    await changes.start()
    mine = changes.subscribe("a1")
    changes.publish(["a1"])
    await heard(mine)
    async with asyncio.timeout(5):
        await changes.close()


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=1900),
        max_size=20,
    )
)
def test_any_ids_fit_into_notices_and_come_out_again(ids: list[str]) -> None:
    texts = list(payloads(ids))
    assert all(len(text.encode()) < 8_000 for text in texts)
    assert [account_id for text in texts for account_id in text.split()] == ids
    assert texts
