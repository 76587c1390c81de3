"""Every store keeps the addresses of providers taken over for their holders, and closed ones for nobody."""

from typing import Any

import pytest

from kephs.ports.hand_over import ForeignAddress, ForeignArchive, ForeignState
from storage.errors import ConflictError
from tests.support.stores import T0, account, after

OLD = "hs91.kep.tr"
ARCHIVE = ForeignArchive(OLD, bytes(32), T0, after(1), "Yeni Yetkili")


def address(local: str, state: ForeignState = ForeignState.WAITING) -> ForeignAddress:
    return ForeignAddress(f"{local}@{OLD}", OLD, state, T0)


async def test_a_provider_is_taken_over_once_and_its_row_stays(store: Any) -> None:
    assert await store.write(lambda tx: tx.foreign.add_archive(ARCHIVE))
    other = ForeignArchive(OLD, bytes(31) + b"1", T0, after(2), "Başkası")
    assert not await store.write(lambda tx: tx.foreign.add_archive(other))
    assert await store.read(lambda tx: tx.foreign.archive(OLD)) == ARCHIVE
    assert await store.read(lambda tx: tx.foreign.archive("hs92.kep.tr")) is None
    assert await store.read(lambda tx: list(tx.foreign.archives())) == [ARCHIVE]


async def test_an_address_that_is_kept_stays_as_it_is(store: Any) -> None:
    closed = address("kapali", ForeignState.CLOSED)
    assert await store.write(lambda tx: tx.foreign.add_address(closed))
    assert not await store.write(lambda tx: tx.foreign.add_address(address("kapali")))
    assert await store.read(lambda tx: tx.foreign.address(closed.address)) == closed
    assert await store.read(lambda tx: tx.foreign.address("yok@hs91.kep.tr")) is None


async def test_addresses_come_page_by_page_in_order(store: Any) -> None:
    rows = [address(name) for name in ("c", "a", "b")]
    await store.write(lambda tx: [tx.foreign.add_address(one) for one in rows])
    first = await store.read(lambda tx: list(tx.foreign.addresses(OLD, "", 2)))
    rest = await store.read(lambda tx: list(tx.foreign.addresses(OLD, first[-1].address, 2)))
    assert [one.address[0] for one in first + rest] == ["a", "b", "c"]
    assert await store.read(lambda tx: list(tx.foreign.addresses("hs92.kep.tr", "", 2))) == []


async def test_only_a_waiting_address_gets_its_holders_consent_once(store: Any) -> None:
    def fill(tx: Any) -> None:
        tx.accounts.add(account("a1", "ayse.yilmaz@hs93.kep.tr"))
        tx.foreign.add_address(address("ayse"))
        tx.foreign.add_address(address("kapali", ForeignState.CLOSED))

    await store.write(fill)
    assert await store.write(lambda tx: tx.foreign.consent(f"ayse@{OLD}", "a1", after(3)))
    found = await store.read(lambda tx: tx.foreign.address(f"ayse@{OLD}"))
    assert (found.state, found.account_id, found.since) == (ForeignState.CONSENTED, "a1", after(3))
    assert not await store.write(lambda tx: tx.foreign.consent(f"ayse@{OLD}", "a1", after(4)))
    assert not await store.write(lambda tx: tx.foreign.consent(f"kapali@{OLD}", "a1", after(4)))


async def test_consent_names_an_account_that_there_is(store: Any) -> None:
    await store.write(lambda tx: tx.foreign.add_address(address("ayse")))
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.foreign.consent(f"ayse@{OLD}", "nobody", after(3)))


async def test_work_that_fails_keeps_nothing(store: Any) -> None:
    def fails(tx: Any) -> None:
        tx.foreign.add_archive(ARCHIVE)
        tx.foreign.add_address(address("ayse"))
        raise LookupError

    with pytest.raises(LookupError):
        await store.write(fails)
    assert await store.read(lambda tx: tx.foreign.archive(OLD)) is None
    assert await store.read(lambda tx: tx.foreign.address(f"ayse@{OLD}")) is None
