"""What every store promises: the twin in memory and SQLite pass the same tests."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from directory.accounts import AccountState
from evidence.ledger import GENESIS, entry_hash
from evidence.records import EvidenceKind
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.domain.mailboxes import STANDARD_FOLDERS, FolderRole
from kephs.ports import Blob, DuplicateEvidenceError, Store, StoreUnavailableError, Tx
from storage.errors import ConflictError, ReadOnlyError
from tests.support.stores import (
    STORES,
    T0,
    account,
    after,
    blob,
    delivery,
    evidence,
    item,
    message,
    new_database,
    open_store,
    operator,
    password,
)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_database(tmp_path_factory.mktemp("template"))


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path, template: Path) -> AsyncIterator[Store]:
    async with open_store(request.param, tmp_path, template) as opened:
        yield opened


def with_account(tx: Tx) -> Any:
    tx.accounts.add(account())
    tx.accounts.add_operator(operator())
    tx.mailboxes.create_standard("a1", 7)
    tx.blobs.add(blob(b"content"))


def with_message(tx: Tx) -> None:
    with_account(tx)
    tx.messages.add(message())
    tx.deliveries.add(delivery())
    for name in ("e1", "e2", "e3"):
        tx.blobs.add(blob(name.encode()))


def inbox(tx: Tx) -> int:
    return tx.mailboxes.by_role("a1", FolderRole.INBOX).folder_id


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
        lambda tx: tx.messages.set_state("none", MessageState.COMPLETED),
        lambda tx: tx.messages.set_dispatch("none", b"x" * 32),
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


def release(tx: Tx) -> list[Blob]:
    return tx.blobs.release_unused(100)


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
        tx.messages.set_dispatch("m1", dispatch.sha256)
        for content in (b"content", b"original", b"dispatch"):
            tx.mailboxes.remove(inbox(tx), [tx.mailboxes.append(inbox(tx), item(content))])

    await store.write(accept)
    assert await store.write(release) == [blob()]
    await store.write(lambda tx: tx.messages.set_state("m1", MessageState.COMPLETED))
    released = await store.write(release)
    assert sorted(b.sha256 for b in released) == sorted((original.sha256, dispatch.sha256))


# Messages and deliveries.


async def test_messages_come_back_as_they_went_in(store: Any) -> None:
    await store.write(with_account)
    full = message("m2", material=b"m" * 32, dispatch=b"d" * 32, next_at=after(3), attempts=2)
    bare = message("m3", user_message_id=None, recipients=(), subject="", state=MessageState.REFUSED)
    await store.write(lambda tx: [tx.messages.add(m) for m in (message(), full, bare)])
    assert await store.read(lambda tx: list(tx.messages.all())) == [message(), full, bare]
    assert await store.read(lambda tx: tx.messages.get("m2")) == full
    assert await store.read(lambda tx: tx.messages.get("m9")) is None
    await store.write(lambda tx: tx.messages.set_state("m1", MessageState.COMPLETED))
    await store.write(lambda tx: tx.messages.set_dispatch("m1", b"x" * 32))
    expected = message(state=MessageState.COMPLETED, dispatch=b"x" * 32)
    assert await store.read(lambda tx: tx.messages.get("m1")) == expected


async def test_a_message_id_is_remembered_once_accepted_and_not_when_refused(store: Any) -> None:
    await store.write(with_account)
    await store.write(lambda tx: tx.accounts.add(account("a2", "other@hs91.kep.tr")))

    def named(message_id: str, **changes: Any) -> Any:
        return message(message_id, user_message_id="<same@client>", **changes)

    await store.write(lambda tx: tx.messages.add(named("m1", state=MessageState.REFUSED)))
    assert await store.read(lambda tx: tx.messages.accepted_with("a1", "<same@client>")) is None
    await store.write(lambda tx: tx.messages.add(named("m2")))
    await store.write(lambda tx: tx.messages.add(named("m3", state=MessageState.REFUSED)))
    await store.write(lambda tx: tx.messages.add(named("m4", account_id="a2")))
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.messages.add(named("m5")))
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.messages.add(message("m2")))
    assert await store.read(lambda tx: tx.messages.accepted_with("a1", "<same@client>")) == named("m2")


async def test_work_due_is_claimed_once_and_comes_back_when_its_lease_ends(store: Any) -> None:
    await store.write(with_account)
    rows = [message("m1", next_at=after(2)), message("m2", next_at=after(1)), message("m3", next_at=after(9))]
    await store.write(lambda tx: [tx.messages.add(m) for m in (*rows, message("m4"))])
    assert await store.read(lambda tx: tx.messages.next_due()) == after(1)

    def claim(now: float, limit: int = 10) -> Any:
        return lambda tx: [m.message_id for m in tx.messages.claim(after(now), limit, after(now + 60))]

    assert await store.write(claim(0)) == []
    assert await store.write(claim(3, limit=1)) == ["m2"]
    assert await store.write(claim(3)) == ["m1"]
    assert await store.write(claim(3)) == []
    await store.write(lambda tx: tx.messages.due("m2", None, 1))
    assert (await store.read(lambda tx: tx.messages.get("m2"))).attempts == 1
    assert await store.write(claim(100)) == ["m3", "m1"]
    for key in ("m1", "m3"):
        await store.write(lambda tx, key=key: tx.messages.due(key, None, 0))
    assert await store.read(lambda tx: tx.messages.next_due()) is None


async def test_a_claimed_message_says_until_when_it_is_leased(store: Any) -> None:
    await store.write(lambda tx: (with_account(tx), tx.messages.add(message(next_at=T0))))
    claimed = await store.write(lambda tx: tx.messages.claim(T0, 5, after(60)))
    assert claimed == [message(next_at=after(60))]


async def test_a_delivery_is_decided_once(store: Any) -> None:
    await store.write(with_message)
    await store.write(lambda tx: tx.deliveries.add(delivery("d2", number=2)))
    decide = DeliveryState.DELIVERED
    assert await store.write(lambda tx: tx.deliveries.decide("d1", decide, "e40", after(1))) is True
    assert (
        await store.write(lambda tx: tx.deliveries.decide("d1", DeliveryState.FAILED, "e41", after(2)))
        is False
    )
    assert await store.write(lambda tx: tx.deliveries.decide("d9", decide, "e40", after(1))) is False
    decided = replace(delivery(), state=decide, evidence_id="e40", decided_at=after(1))
    assert await store.read(lambda tx: tx.deliveries.of_message("m1")) == [decided, delivery("d2", number=2)]
    assert await store.read(lambda tx: tx.deliveries.get("d1")) == decided
    assert await store.read(lambda tx: tx.deliveries.get("d9")) is None


async def test_the_first_reading_is_noted_once_and_only_of_what_was_delivered(store: Any) -> None:
    await store.write(with_message)
    assert await store.write(lambda tx: tx.deliveries.read("d1", "e60")) is False
    await store.write(lambda tx: tx.deliveries.decide("d1", DeliveryState.DELIVERED, "e40", T0))
    first, second = await asyncio.gather(
        store.write(lambda tx: tx.deliveries.read("d1", "e60")),
        store.write(lambda tx: tx.deliveries.read("d1", "e61")),
    )
    assert (first, second) == (True, False)
    row = await store.read(lambda tx: tx.deliveries.get("d1"))
    assert (row.state, row.read_evidence_id, row.gated) == (DeliveryState.READ, "e60", False)


async def test_deliveries_are_numbered_once_and_have_their_message(store: Any) -> None:
    await store.write(with_message)
    for wrong in (delivery("d2"), delivery("d1", number=2), delivery("d3", "none", 3)):
        with pytest.raises(ConflictError):
            await store.write(lambda tx, wrong=wrong: tx.deliveries.add(wrong))


# Evidence.


async def test_each_evidence_gets_the_next_link_of_the_chain(store: Any) -> None:
    await store.write(with_message)
    rows = [
        evidence("e1"),
        evidence("e2", EvidenceKind.DELIVERY, number=1, event_time=after(1)),
        evidence("e3", EvidenceKind.RETRIEVAL, number=1, event_time=after(2), receipt_due=after(3)),
    ]
    entries = [await store.write(lambda tx, row=row: tx.evidence.add(row)) for row in rows]
    assert await store.read(lambda tx: tx.evidence.ledger(0, 10)) == entries
    assert await store.read(lambda tx: tx.evidence.ledger(1, 1)) == entries[1:2]
    previous = GENESIS
    for number, (row, entry) in enumerate(zip(rows, entries, strict=True), 1):
        assert (entry.seq, entry.evidence_id, entry.digest) == (number, row.evidence_id, row.blob)
        assert entry.previous == previous
        assert entry.hash == entry_hash(number, previous, row.evidence_id, row.blob, row.event_time)
        previous = entry.hash
    assert await store.read(lambda tx: tx.evidence.of_message("m1")) == rows
    assert await store.read(lambda tx: tx.evidence.get("e3")) == rows[2]
    assert await store.read(lambda tx: tx.evidence.get("e9")) is None
    assert await store.read(lambda tx: list(tx.evidence.all())) == rows


@pytest.mark.parametrize("number", [None, 1])
async def test_an_event_has_its_evidence_once(store: Any, number: int | None) -> None:
    await store.write(with_message)
    await store.write(lambda tx: tx.evidence.add(evidence("e1", number=number)))
    with pytest.raises(DuplicateEvidenceError):
        await store.write(lambda tx: tx.evidence.add(evidence("e2", number=number)))
    with pytest.raises(DuplicateEvidenceError):
        await store.write(lambda tx: tx.evidence.add(evidence("e1", EvidenceKind.DELIVERY, number=2)))
    assert len(await store.read(lambda tx: tx.evidence.ledger(0, 10))) == 1


async def test_evidence_that_failed_leaves_no_hole_in_the_chain(store: Any) -> None:
    await store.write(with_message)

    def fails(tx: Tx) -> None:
        tx.evidence.add(evidence("e1"))
        raise LookupError

    results = await asyncio.gather(
        store.write(fails),
        store.write(lambda tx: tx.evidence.add(evidence("e2"))),
        return_exceptions=True,
    )
    assert isinstance(results[0], LookupError)
    assert [e.seq for e in await store.read(lambda tx: tx.evidence.ledger(0, 10))] == [1]


async def test_evidence_needs_its_message_and_its_bytes(store: Any) -> None:
    await store.write(with_message)
    for wrong in (evidence("e1", message_id="none"), evidence("e1", blob=b"?" * 32)):
        with pytest.raises(ConflictError):
            await store.write(lambda tx, wrong=wrong: tx.evidence.add(wrong))
    assert await store.read(lambda tx: tx.evidence.ledger(0, 10)) == []


async def test_receipts_due_are_claimed_once(store: Any) -> None:
    await store.write(with_message)
    first = evidence("e1", receipt_due=after(1))
    second = evidence("e2", EvidenceKind.DELIVERY, number=1, receipt_due=after(2))
    await store.write(lambda tx: [tx.evidence.add(e) for e in (first, second)])
    assert await store.read(lambda tx: tx.evidence.next_due()) == after(1)
    claimed = await store.write(lambda tx: tx.evidence.claim_receipts(after(1), 5, after(60)))
    assert claimed == [replace(first, receipt_due=after(60))]
    assert await store.write(lambda tx: tx.evidence.claim_receipts(after(1), 5, after(60))) == []
    await store.write(lambda tx: tx.evidence.receipt_due("e1", None, 1))
    assert await store.read(lambda tx: tx.evidence.get("e1")) == replace(first, receipt_due=None, attempts=1)
    assert await store.read(lambda tx: tx.evidence.next_due()) == after(2)


# Mailboxes.


async def test_a_new_account_has_the_standard_folders(store: Any) -> None:
    await store.write(with_account)
    folders = await store.read(lambda tx: tx.mailboxes.folders("a1"))
    assert [(f.name, f.role) for f in folders] == list(STANDARD_FOLDERS)
    assert {(f.uid_validity, f.uid_next, f.messages, f.unseen) for f in folders} == {(7, 1, 0, 0)}
    assert await store.read(lambda tx: tx.mailboxes.folder("a1", "inbox")) == folders[0]
    assert await store.read(lambda tx: tx.mailboxes.folder("a1", "Çöp")) == folders[5]
    assert await store.read(lambda tx: tx.mailboxes.folder("a1", "çöp")) is None
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.mailboxes.create_standard("a1", 8))
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.mailboxes.create_standard("nobody", 8))


async def test_uids_ascend_and_are_never_reused(store: Any) -> None:
    await store.write(with_account)
    assert await store.write(lambda tx: [tx.mailboxes.append(inbox(tx), item()) for _ in range(3)]) == [
        1,
        2,
        3,
    ]
    await store.write(lambda tx: tx.mailboxes.remove(inbox(tx), [3, 2, 99]))
    assert await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item())) == 4
    folder = await store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX"))
    assert (folder.uid_next, folder.messages, folder.unseen) == (5, 2, 2)


async def test_a_failed_append_gives_its_uid_to_the_next(store: Any) -> None:
    await store.write(with_account)

    def fails(tx: Tx) -> None:
        tx.mailboxes.append(inbox(tx), item())
        raise LookupError

    with pytest.raises(LookupError):
        await store.write(fails)
    assert await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item())) == 1
    assert (await store.read(lambda tx: tx.accounts.get("a1"))).used_bytes == len(b"content")


async def test_items_come_back_with_their_index_and_place(store: Any) -> None:
    await store.write(with_account)
    sha256 = blob().sha256
    filed = item(flags=frozenset({"\\Seen", "$Önemli"}), received_at=after(3))
    await store.write(lambda tx: tx.blobs.set_index(sha256, b"index"))
    await store.write(
        lambda tx: (tx.mailboxes.append(inbox(tx), filed), tx.mailboxes.append(inbox(tx), item()))
    )
    items = await store.read(lambda tx: tx.mailboxes.items(inbox(tx), [2, 1, 7, 2]))
    assert [i.summary.uid for i in items] == [1, 2]
    assert (items[0].sha256, items[0].index) == (sha256, b"index")
    assert (items[0].summary.flags, items[0].summary.received_at) == (filed.flags, filed.received_at)
    assert [i.summary for i in items] == await store.read(lambda tx: tx.mailboxes.summaries(inbox(tx)))
    assert await store.read(lambda tx: tx.mailboxes.items(inbox(tx), [])) == []
    assert await store.read(lambda tx: tx.mailboxes.with_content(inbox(tx), sha256)) == 1
    assert await store.read(lambda tx: tx.mailboxes.with_content(inbox(tx), b"?" * 32)) is None
    sent = await store.read(lambda tx: tx.mailboxes.by_role("a1", FolderRole.SENT))
    assert await store.read(lambda tx: tx.mailboxes.with_content(sent.folder_id, sha256)) is None


async def test_many_items_are_fetched_at_once(store: Any) -> None:
    await store.write(with_account)
    await store.write(lambda tx: [tx.mailboxes.append(inbox(tx), item()) for _ in range(400)])
    found = await store.read(lambda tx: tx.mailboxes.items(inbox(tx), range(1, 500)))
    assert [i.summary.uid for i in found] == list(range(1, 401))


async def test_an_item_without_content_or_delivery_is_refused(store: Any) -> None:
    await store.write(with_account)
    for wrong in (item(b"unknown"), item(delivery_id="none")):
        with pytest.raises(ConflictError):
            await store.write(lambda tx, wrong=wrong: tx.mailboxes.append(inbox(tx), wrong))


async def test_every_change_raises_the_modification_number(store: Any) -> None:
    await store.write(with_account)

    def modseq() -> Any:
        return store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX").modseq)

    start = await modseq()
    await store.write(lambda tx: [tx.mailboxes.append(inbox(tx), item()) for _ in range(3)])
    filed = await modseq()
    assert filed > start
    await store.write(lambda tx: tx.mailboxes.set_flags(inbox(tx), 2, frozenset({"\\Seen"})))
    flagged = await modseq()
    changed = await store.read(lambda tx: tx.mailboxes.since(inbox(tx), filed))
    assert [(s.uid, s.flags, s.modseq) for s in changed] == [(2, frozenset({"\\Seen"}), flagged)]
    await store.write(lambda tx: tx.mailboxes.remove(inbox(tx), [1, 3]))
    assert await store.read(lambda tx: tx.mailboxes.expunged_since(inbox(tx), flagged)) == [1, 3]
    assert await store.read(lambda tx: tx.mailboxes.since(inbox(tx), flagged)) == []
    assert await store.read(lambda tx: tx.mailboxes.expunged_since(inbox(tx), modseq_now(tx))) == []


def modseq_now(tx: Tx) -> int:
    folder = tx.mailboxes.folder("a1", "INBOX")
    assert folder is not None
    return folder.modseq


async def test_what_changes_nothing_raises_no_modification_number(store: Any) -> None:
    await store.write(with_account)
    await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item()))
    before = await store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX"))
    await store.write(lambda tx: tx.mailboxes.set_flags(inbox(tx), 1, frozenset()))
    await store.write(lambda tx: tx.mailboxes.set_flags(inbox(tx), 9, frozenset({"\\Seen"})))
    await store.write(lambda tx: tx.mailboxes.remove(inbox(tx), [9]))
    assert await store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX")) == before


async def test_unseen_follows_the_flags(store: Any) -> None:
    await store.write(with_account)
    seen = frozenset({"\\Seen"})

    def unseen() -> Any:
        return store.read(lambda tx: tx.mailboxes.folder("a1", "INBOX").unseen)

    await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item(flags=seen)))
    await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item()))
    assert await unseen() == 1
    await store.write(lambda tx: tx.mailboxes.set_flags(inbox(tx), 2, seen | {"\\Flagged"}))
    assert await unseen() == 0
    await store.write(lambda tx: tx.mailboxes.set_flags(inbox(tx), 1, frozenset()))
    await store.write(lambda tx: tx.mailboxes.remove(inbox(tx), [1, 2]))
    assert await unseen() == 0


async def test_usage_counts_content_and_never_evidence(store: Any) -> None:
    await store.write(with_account)

    def used() -> Any:
        return store.read(lambda tx: tx.accounts.get("a1").used_bytes)

    await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item()))
    await store.write(lambda tx: tx.mailboxes.append(inbox(tx), item(counts_for_quota=False)))
    assert await used() == 7
    await store.write(lambda tx: tx.accounts.add_usage("a1", 100))
    await store.write(lambda tx: tx.mailboxes.remove(inbox(tx), [2]))
    assert await used() == 107
    await store.write(lambda tx: tx.mailboxes.remove(inbox(tx), [1]))
    assert await used() == 100


async def test_the_gate_hangs_on_the_delivery_and_opens_everywhere_at_once(store: Any) -> None:
    await store.write(with_message)
    archive = await store.read(lambda tx: tx.mailboxes.by_role("a1", FolderRole.ARCHIVE).folder_id)

    def file(tx: Tx) -> None:
        tx.deliveries.decide("d1", DeliveryState.DELIVERED, "e1", T0)
        tx.mailboxes.append(inbox(tx), item(delivery_id="d1"))
        tx.mailboxes.append(archive, item(delivery_id="d1"))
        tx.mailboxes.append(inbox(tx), item())

    def gates(tx: Tx) -> list[bool]:
        return [s.gated for f in (inbox(tx), archive) for s in tx.mailboxes.summaries(f)]

    await store.write(file)
    assert await store.read(gates) == [True, False, True]
    await store.write(lambda tx: tx.deliveries.read("d1", "e60"))
    assert await store.read(gates) == [False, False, False]
    assert [i.summary.gated for i in await store.read(lambda tx: tx.mailboxes.items(archive, [1]))] == [False]


async def test_the_store_knows_where_a_delivery_was_filed(store: Any) -> None:
    await store.write(with_message)

    def work(tx: Any) -> Any:
        archive = tx.mailboxes.by_role("a1", FolderRole.ARCHIVE).folder_id
        uid = tx.mailboxes.append(inbox(tx), item(delivery_id="d1"))
        tx.mailboxes.append(inbox(tx), item(delivery_id="d1"))
        tx.mailboxes.append(inbox(tx), item(delivery_id="d1", received_at=after(1)))
        tx.mailboxes.append(archive, item(delivery_id="d1"))
        tx.mailboxes.remove(inbox(tx), [uid])
        return tx.mailboxes.filed("d1"), tx.mailboxes.filed("d2")

    here, nowhere = await store.write(work)
    assert (here.inbox, here.elsewhere, here.removed, here.inbox_times) == (2, 1, 1, 2)
    assert (nowhere.inbox, nowhere.elsewhere, nowhere.removed) == (0, 0, 0)


async def test_digests_of_a_blob_row_are_as_given(store: Any) -> None:
    row = Blob(hashlib.sha256(b"x").digest(), hashlib.sha512(b"x").digest(), 1, "f:" + "0" * 32, b"k" * 40)
    await store.write(lambda tx: tx.blobs.add(row))
    assert await store.read(lambda tx: tx.blobs.get(row.sha256)) == row
