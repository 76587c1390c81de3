"""Every store keeps bound certificates: bound once at a time, withdrawn for the record, never deleted."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from directory.certificates import BindingState, BoundCertificate
from storage.errors import ConflictError
from tests.support.stores import T0, account, after, operator, with_account


def bound(name: str = "c1", account_id: str = "a1", **changes: Any) -> BoundCertificate:
    der = b"certificate of " + name.encode()
    made = BoundCertificate(sha256(der).digest(), account_id, "o1", der, "challenge", T0)
    return replace(made, **changes)


async def test_certificates_come_back_as_bound_oldest_first(store: Any) -> None:
    both = [bound("z", how="first-use"), bound("a", bound_at=after(1))]

    def fill(tx: Any) -> None:
        with_account(tx)
        for one in both:
            tx.accounts.add_certificate(one)

    await store.write(fill)
    assert await store.read(lambda tx: list(tx.accounts.certificates("a1"))) == both
    assert not await store.read(lambda tx: list(tx.accounts.certificates("nobody")))


async def test_a_certificate_is_bound_to_an_account_once(store: Any) -> None:
    await store.write(lambda tx: (with_account(tx), tx.accounts.add_certificate(bound())))
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.accounts.add_certificate(bound(bound_at=after(9))))
    assert await store.read(lambda tx: len(tx.accounts.certificates("a1"))) == 1


async def test_one_certificate_may_be_bound_to_two_accounts(store: Any) -> None:
    def fill(tx: Any) -> None:
        with_account(tx)
        tx.accounts.add(account("a2", "veli.demir@hs91.kep.tr"))
        tx.accounts.add_operator(operator("o2", "a2"))
        tx.accounts.add_certificate(bound())
        tx.accounts.add_certificate(bound(account_id="a2", operator_id="o2"))

    await store.write(fill)
    assert await store.read(lambda tx: [len(tx.accounts.certificates(a)) for a in ("a1", "a2")]) == [1, 1]


async def test_a_withdrawn_certificate_stays_on_record_and_is_withdrawn_once(store: Any) -> None:
    one = bound()
    await store.write(lambda tx: (with_account(tx), tx.accounts.add_certificate(one)))

    def withdraw(seconds: float) -> Any:
        return lambda tx: tx.accounts.withdraw_certificate("a1", one.sha256, after(seconds), "Çiğdem Şahin")

    assert await store.write(withdraw(5))
    assert not await store.write(withdraw(6))
    (kept,) = await store.read(lambda tx: tx.accounts.certificates("a1"))
    assert kept == replace(one, withdrawn_at=after(5), withdrawn_by="Çiğdem Şahin")
    assert (one.state, kept.state) == (BindingState.BOUND, BindingState.WITHDRAWN)


async def test_what_was_withdrawn_can_be_bound_anew_beside_its_record(store: Any) -> None:
    one = bound()

    def fill(tx: Any) -> None:
        with_account(tx)
        tx.accounts.add_certificate(one)
        tx.accounts.withdraw_certificate("a1", one.sha256, after(5), "o1")
        tx.accounts.add_certificate(replace(one, bound_at=after(9)))

    await store.write(fill)
    states = await store.read(lambda tx: [c.state for c in tx.accounts.certificates("a1")])
    assert states == [BindingState.WITHDRAWN, BindingState.BOUND]


@pytest.mark.parametrize("change", [{"account_id": "a9"}, {"operator_id": "o9"}], ids=["account", "operator"])
async def test_a_certificate_is_bound_only_where_account_and_operator_exist(
    store: Any, change: dict[str, Any]
) -> None:
    await store.write(with_account)
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.accounts.add_certificate(bound(**change)))


async def test_withdrawing_what_is_not_bound_says_so(store: Any) -> None:
    await store.write(with_account)
    assert not await store.write(lambda tx: tx.accounts.withdraw_certificate("a1", bytes(32), T0, "o1"))


async def test_seals_are_a_choice_of_the_account_and_off_by_default(store: Any) -> None:
    await store.write(with_account)
    seen = []
    for allowed in (None, True, False):
        if allowed is not None:
            await store.write(lambda tx, to=allowed: tx.accounts.set_seals_allowed("a1", to))
        seen.append((await store.read(lambda tx: tx.accounts.get("a1"))).seals_allowed)
    assert seen == [False, True, False]
    with pytest.raises(KeyError):
        await store.write(lambda tx: tx.accounts.set_seals_allowed("nobody", True))


async def test_an_account_is_added_with_its_choice_of_seals(store: Any) -> None:
    await store.write(lambda tx: tx.accounts.add(account(seals_allowed=True)))
    assert (await store.read(lambda tx: tx.accounts.get("a1"))).seals_allowed


async def test_work_that_fails_binds_nothing(store: Any) -> None:
    await store.write(with_account)

    def fails(tx: Any) -> None:
        tx.accounts.add_certificate(bound())
        raise LookupError

    with pytest.raises(LookupError):
        await store.write(fails)
    assert not await store.read(lambda tx: list(tx.accounts.certificates("a1")))
