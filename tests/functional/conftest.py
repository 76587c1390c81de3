"""One running instance with its people for all functional tests of a session."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from directory.accounts import ALL_RIGHTS, AccountState, Right, ServiceType
from kephs.bootstrap.core import Core
from tests.functional.site import Site, compose, sign


async def _people(site: Site, core: Core) -> SimpleNamespace:
    people = SimpleNamespace()
    people.ayse = await site.open(core, "ayse", "Ayşe Yılmaz")
    people.mehmet = await site.open(core, "mehmet", "Mehmet Demir", issuer="pss")
    people.fatma = await site.open(core, "fatma", "Fatma Kaya")
    people.blocked = await site.open(core, "bloke", "Bloke Hesap")
    people.closed = await site.open(core, "kapali", "Kapalı Hesap")
    people.full = await site.open(core, "dolu", "Dolu Kutu", quota_bytes=1)
    people.receiver = await site.open(core, "alici", "Sadece Alıcı", service=ServiceType.RECEIVE_ONLY)
    people.deputy = await site.add_operator(core, people.ayse, "Vekil Gönderici", ALL_RIGHTS)
    people.clerk = await site.add_operator(core, people.ayse, "Okuyan Memur", Right.READ)
    await core.accounts.block(people.blocked.address)
    await site.force_state(core, people.closed, AccountState.CLOSED)
    return people


def _fill(site: Site) -> None:
    """Put one message into the mailbox whose quota is one byte."""
    ayse, full = site.who.ayse, site.who.full
    answer = site.submit(ayse, sign(compose(ayse.address, full.address), ayse.issued), [full.address])
    site.wait_evidence(answer.message_id, 40)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site") / "hs91")
    try:
        made.who = made.with_core(lambda core: _people(made, core))
        made.start()
        _fill(made)
        yield made
        made.stop()
    finally:
        made.close()


@pytest.fixture(scope="session")
def who(site: Site) -> SimpleNamespace:
    return site.who
