"""The contract of `kephs.ports.Store`: work, accounts, content."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from directory.accounts import AccountState
from kephs.domain.lifecycle import MessageState
from kephs.domain.mailboxes import FolderRole
from kephs.ports import Store, StoreUnavailableError, Tx
from storage.errors import ConflictError, ReadOnlyError
from tests.support.stores import (
    T0,
    account,
    after,
    blob,
    evidence,
    inbox,
    item,
    message,
    operator,
    password,
    release,
    with_account,
)

# Work and its failure.


async def test_what_work_returns_comes_back_and_its_rows_stay(store: Any) -> None:
    assert await store.write(lambda tx: tx.accounts.add(account()) or "done") == "done"
    assert await store.read(lambda tx: tx.accounts.get("a1")) == account()


async def test_work_that_raises_is_undone_alone_and_hears_its_own_error(store: Any) -> None:
    def fails(tx: Tx) -> None:
        tx.accounts.add(account("a2", "b@hs91.kep.tr"))
        tx.accounts.add(account("a3", "c@hs91.kep.tr"))
        raise LookupError("mine")

    def adds(number: int) -> Any:
        return lambda tx: tx.accounts.add(account(f"x{number}", f"x{number}@hs91.kep.tr"))

    results = await asyncio.gather(
        *(store.write(fails if n == 5 else adds(n)) for n in range(10)), return_exceptions=True
    )
    assert [type(r) for r in results] == [LookupError if n == 5 else type(None) for n in range(10)]
    ids = {a.account_id for a in await store.read(lambda tx: tx.accounts.all())}
    assert ids == {f"x{n}" for n in range(10) if n != 5}


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        StopIteration(),
        StopAsyncIteration(),
        KeyboardInterrupt(),
        SystemExit(1),
        GeneratorExit(),
        asyncio.CancelledError(),
        MemoryError(),
        RecursionError(),
        BaseExceptionGroup("several", [KeyboardInterrupt()]),
    ],
    ids=lambda e: type(e).__name__,
)
async def test_no_error_of_any_kind_kills_the_writer_or_a_neighbour(
    store: Store, error: BaseException
) -> None:
    def fails(tx: Tx) -> None:
        tx.accounts.add(account("bad", "bad@hs91.kep.tr"))
        raise error

    first, bad, last = await asyncio.gather(
        store.write(lambda tx: tx.accounts.add(account("first", "first@hs91.kep.tr"))),
        store.write(fails),
        store.write(lambda tx: tx.accounts.add(account("last", "last@hs91.kep.tr"))),
        return_exceptions=True,
    )
    assert first is None
    assert last is None
    assert isinstance(bad, Exception)  # in a form that stops no event loop
    assert bad is error or bad.__cause__ is error
    assert [a.account_id for a in await store.read(lambda tx: tx.accounts.all())] == ["first", "last"]


async def test_a_caller_that_gives_up_never_hurts_the_batch(store: Any) -> None:
    def adding(name: str) -> Any:
        row = account(name, f"{name}@hs91.kep.tr")
        return asyncio.ensure_future(store.write(lambda tx: tx.accounts.add(row)))

    leaving, others = adding("gone"), [adding(f"x{n}") for n in range(5)]
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, *others, return_exceptions=True)
    assert [other.exception() for other in others] == [None] * 5
    ids = {a.account_id for a in await store.read(lambda tx: tx.accounts.all())}
    assert ids - {"gone"} == {f"x{n}" for n in range(5)}


async def test_two_works_with_the_same_unique_key_one_wins_and_both_hear(store: Any) -> None:
    results = await asyncio.gather(
        store.write(lambda tx: tx.accounts.add(account("a1"))),
        store.write(lambda tx: tx.accounts.add(account("a2"))),  # the same address
        store.write(lambda tx: tx.accounts.add(account("a3", "other@hs91.kep.tr"))),
        return_exceptions=True,
    )
    assert results[0] is None
    assert isinstance(results[1], ConflictError)
    assert results[2] is None


async def test_work_may_catch_a_conflict_and_go_on(store: Any) -> None:
    def work(tx: Tx) -> str:
        tx.accounts.add(account("a1"))
        with pytest.raises(ConflictError):
            tx.accounts.add(account("a2"))
        tx.accounts.add(account("a3", "other@hs91.kep.tr"))
        return "went on"

    assert await store.write(work) == "went on"
    assert len(await store.read(lambda tx: tx.accounts.all())) == 2


async def test_read_cannot_write(store: Any) -> None:
    with pytest.raises(ReadOnlyError):
        await store.read(lambda tx: tx.accounts.add(account()))
    assert await store.read(lambda tx: tx.accounts.all()) == []


async def test_what_a_read_raises_comes_back(store: Any) -> None:
    def fails(_tx: Tx) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await store.read(fails)
    assert await store.read(lambda tx: tx.accounts.all()) == []


async def test_a_closed_store_takes_no_work(store: Any) -> None:
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await store.write(lambda tx: tx.accounts.add(account()))
    with pytest.raises(StoreUnavailableError):
        await store.read(lambda tx: tx.accounts.all())
    await store.close()


# Accounts.


async def test_accounts_come_back_as_they_went_in(store: Any) -> None:
    other = account("a2", "info@acme.hs91.kep.tr", holder_name="Acme A.Ş.", state=AccountState.WAITING)
    await store.write(lambda tx: (tx.accounts.add(account()), tx.accounts.add(other)))
    assert await store.read(lambda tx: tx.accounts.by_address("info@acme.hs91.kep.tr")) == other
    assert await store.read(lambda tx: tx.accounts.by_address("nobody@hs91.kep.tr")) is None
    assert await store.read(lambda tx: tx.accounts.get("nobody")) is None
    assert await store.read(lambda tx: tx.accounts.all()) == [account(), other]


async def test_many_addresses_are_found_at_once(store: Any) -> None:
    rows = [account(f"a{n:03}", f"u{n}@hs91.kep.tr") for n in range(300)]
    await store.write(lambda tx: [tx.accounts.add(row) for row in rows])
    asked = [f"u{n}@hs91.kep.tr" for n in range(0, 330, 3)] * 2 + ["x@hs92.kep.tr"]
    found = await store.read(lambda tx: tx.accounts.by_addresses(asked))
    assert found == {str(row.address): row for row in rows[::3]}
    assert await store.read(lambda tx: tx.accounts.by_addresses([])) == {}
    everyone = [str(row.address) for row in rows]
    assert len(await store.read(lambda tx: tx.accounts.by_addresses(everyone))) == 300


async def test_a_closed_account_keeps_its_address_for_ever(store: Any) -> None:
    await store.write(lambda tx: tx.accounts.add(account()))
    await store.write(lambda tx: tx.accounts.set_state("a1", AccountState.CLOSED, after(5)))
    closed = await store.read(lambda tx: tx.accounts.get("a1"))
    assert closed == account(state=AccountState.CLOSED, state_since=after(5))
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.accounts.add(account("a2")))


async def test_changes_of_unknown_rows_are_defects(store: Any) -> None:
    for work in (
        lambda tx: tx.accounts.set_state("none", AccountState.CLOSED, T0),
        lambda tx: tx.accounts.add_usage("none", 1),
        lambda tx: tx.messages.set_states(("none",), MessageState.COMPLETED),
        lambda tx: tx.messages.name_dispatches({"none": b"x" * 32}),
        lambda tx: tx.messages.due("none", None, 0),
        lambda tx: tx.evidence.receipt_due("none", None, 0),
        lambda tx: tx.mailboxes.append(99, item()),
        lambda tx: tx.mailboxes.remove(99, [1]),
        lambda tx: tx.mailboxes.by_role("none", FolderRole.INBOX),
    ):
        with pytest.raises(KeyError):
            await store.write(work)


async def test_operators_and_passwords_belong_to_their_account(store: Any) -> None:
    await store.write(with_account)
    second = replace(operator("o2"), valid_until=after(9), is_holder=False)
    await store.write(lambda tx: tx.accounts.add_operator(second))
    await store.write(lambda tx: tx.accounts.add_password(password()))
    assert await store.read(lambda tx: tx.accounts.operators("a1")) == [operator(), second]
    assert await store.read(lambda tx: tx.accounts.operator("o2")) == second
    assert await store.read(lambda tx: tx.accounts.operator("o9")) is None
    assert await store.read(lambda tx: tx.accounts.operators("a2")) == []
    assert await store.read(lambda tx: tx.accounts.passwords("a1")) == [password()]
    for work in (
        lambda tx: tx.accounts.add_operator(operator()),
        lambda tx: tx.accounts.add_operator(operator("o3", "none")),
        lambda tx: tx.accounts.add_password(password()),
        lambda tx: tx.accounts.add_password(password("p2", operator_id="none")),
    ):
        with pytest.raises(ConflictError):
            await store.write(work)


async def test_a_revoked_password_is_no_longer_among_the_passwords(store: Any) -> None:
    await store.write(lambda tx: (with_account(tx), tx.accounts.add_password(password())))
    assert await store.write(lambda tx: tx.accounts.revoke_password("a1", "p1", after(1))) is True
    assert await store.write(lambda tx: tx.accounts.revoke_password("a1", "p1", after(2))) is False
    assert await store.write(lambda tx: tx.accounts.revoke_password("a1", "p9", after(2))) is False
    assert await store.read(lambda tx: tx.accounts.passwords("a1")) == []


# Content rows.


async def test_a_digest_keeps_its_first_place(store: Any) -> None:
    first, second = blob(b"x", "m:1"), blob(b"x", "m:2")
    await store.write(lambda tx: (tx.blobs.add(first), tx.blobs.add(second)))
    assert await store.read(lambda tx: tx.blobs.get(first.sha256)) == first
    assert await store.read(lambda tx: tx.blobs.get(b"?" * 32)) is None
    assert list(await store.read(lambda tx: list(tx.blobs.all()))) == [first]


async def test_an_index_is_kept_once(store: Any) -> None:
    row = blob(b"x")
    await store.write(lambda tx: tx.blobs.add(row))
    assert await store.read(lambda tx: tx.blobs.index(row.sha256)) is None
    await store.write(lambda tx: tx.blobs.set_index(row.sha256, b"first"))
    await store.write(lambda tx: tx.blobs.set_index(row.sha256, b"second"))
    await store.write(lambda tx: tx.blobs.set_index(b"?" * 32, b"nowhere"))
    assert await store.read(lambda tx: tx.blobs.index(row.sha256)) == b"first"
    assert await store.read(lambda tx: tx.blobs.index(b"?" * 32)) is None


async def test_an_index_that_comes_with_its_content_is_kept_once_too(store: Any) -> None:
    fresh, known = blob(b"x"), blob(b"y")
    await store.write(lambda tx: tx.blobs.add(known))
    await store.write(lambda tx: [tx.blobs.add(one, b"first") for one in (fresh, known)])
    await store.write(lambda tx: [tx.blobs.add(one, b"second") for one in (fresh, known)])
    for one in (fresh, known):
        assert await store.read(lambda tx, sha256=one.sha256: tx.blobs.get(sha256)) == one
        assert await store.read(lambda tx, sha256=one.sha256: tx.blobs.index(sha256)) == b"first"


async def test_content_is_released_with_its_last_reference_only(store: Any) -> None:
    await store.write(with_account)
    uids = await store.write(lambda tx: [tx.mailboxes.append(inbox(tx), item()) for _ in range(2)])
    await store.write(lambda tx: tx.mailboxes.remove(inbox(tx), uids[:1]))
    assert await store.write(release) == []
    await store.write(lambda tx: tx.mailboxes.remove(inbox(tx), uids[1:]))
    assert await store.write(release) == [blob()]
    assert await store.read(lambda tx: tx.blobs.get(blob().sha256)) is None
    assert await store.write(release) == []


async def test_content_that_was_named_and_never_used_is_released(store: Any) -> None:
    await store.write(lambda tx: [tx.blobs.add(blob(bytes([n]))) for n in range(5)])
    first = await store.write(lambda tx: tx.blobs.release_unused(3))
    rest = await store.write(release)
    assert sorted(b.sha256 for b in first + rest) == sorted(blob(bytes([n])).sha256 for n in range(5))
    assert len(first) == 3


async def test_evidence_and_verification_material_are_never_released(store: Any) -> None:
    material = blob(b"material")

    def work(tx: Tx) -> None:
        with_account(tx)
        tx.blobs.add(material)
        tx.messages.add(message(material=material.sha256, state=MessageState.COMPLETED))
        tx.blobs.add(blob(b"e1"))
        tx.evidence.add(evidence())
        uid = [tx.mailboxes.append(inbox(tx), item(x)) for x in (b"content", b"e1", b"material")]
        tx.mailboxes.remove(inbox(tx), uid)

    await store.write(work)
    assert await store.write(release) == [blob()]
    kept = {b.sha256 for b in await store.read(lambda tx: list(tx.blobs.all()))}
    assert kept == {material.sha256, blob(b"e1").sha256}


async def test_an_accepted_message_holds_its_content_until_everybody_has_it(store: Any) -> None:
    original, dispatch = blob(b"original"), blob(b"dispatch")

    def accept(tx: Tx) -> None:
        with_account(tx)
        tx.blobs.add(original)
        tx.messages.add(message(digest_sha256=original.sha256))
        tx.blobs.add(dispatch)
        tx.messages.name_dispatches({"m1": dispatch.sha256})
        for content in (b"content", b"original", b"dispatch"):
            tx.mailboxes.remove(inbox(tx), [tx.mailboxes.append(inbox(tx), item(content))])

    await store.write(accept)
    assert await store.write(release) == [blob()]
    await store.write(lambda tx: tx.messages.set_states(("m1",), MessageState.COMPLETED))
    released = await store.write(release)
    assert sorted(b.sha256 for b in released) == sorted((original.sha256, dispatch.sha256))
