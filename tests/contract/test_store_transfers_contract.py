"""The contract of `kephs.ports.Store`: transfers to peers."""

from dataclasses import replace
from typing import Any

import pytest

from kephs.domain.lifecycle import MessageState, TransferState
from kephs.domain.messages import TransferKind
from kephs.ports import Tx
from storage.errors import ConflictError
from tests.support.stores import (
    PEER,
    T0,
    after,
    blob,
    inbox,
    item,
    message,
    receipt,
    release,
    transfer,
    with_message,
)

QUEUED, HELD, HANDED = TransferState.QUEUED, TransferState.HELD, TransferState.HANDED
ANSWERED, DONE, FAILED = TransferState.ANSWERED, TransferState.DONE, TransferState.FAILED


def filled(tx: Tx) -> None:
    with_message(tx)
    for number in range(2, 6):
        tx.messages.add(message(f"m{number}"))


def names(transfers: Any) -> list[str]:
    return [t.transfer_id for t in transfers]


async def test_transfers_come_back_as_they_went_in(store: Any) -> None:
    full = receipt(
        "t3", state=HELD, attempts=4, cause="silent", handed_at=after(7), next_at=None, deadline=after(9)
    )
    rows = [transfer(), receipt(), full]
    await store.write(filled)
    rows[2] = full = replace(full, evidence_id="e2")
    assert await store.write(lambda tx: [tx.transfers.add(t) for t in rows]) == [True] * 3
    assert await store.read(lambda tx: tx.transfers.of_message("m1")) == rows
    assert await store.read(lambda tx: tx.transfers.get("t3")) == full
    assert await store.read(lambda tx: tx.transfers.get("t9")) is None
    assert await store.read(lambda tx: tx.transfers.of_message("m2")) == []


async def test_one_dispatch_goes_to_each_peer_and_one_receipt_for_each_evidence(store: Any) -> None:
    await store.write(filled)
    rows = {
        transfer("t1"): True,
        transfer("t2"): False,
        transfer("t3", peer="hs93.kep.tr"): True,
        receipt("t4"): True,
        receipt("t5"): False,
        receipt("t6", "e2"): True,
    }
    for row, expected in rows.items():
        assert await store.write(lambda tx, row=row: tx.transfers.add(row)) is expected
    assert names(await store.read(lambda tx: tx.transfers.of_message("m1"))) == ["t1", "t3", "t4", "t6"]
    for wrong in (transfer("t1", "m2"), transfer("t9", "none")):
        with pytest.raises(ConflictError):
            await store.write(lambda tx, wrong=wrong: tx.transfers.add(wrong))


async def test_a_transfer_is_saved_only_over_the_state_it_was_read_in(store: Any) -> None:
    await store.write(lambda tx: (filled(tx), tx.transfers.add(transfer())))
    handed = transfer(
        state=HANDED, deadline=after(9), next_at=after(9), attempts=1, cause="silent", handed_at=after(1)
    )
    assert await store.write(lambda tx: tx.transfers.save(handed, HELD)) is False
    assert await store.read(lambda tx: tx.transfers.get("t1")) == transfer()
    assert await store.write(lambda tx: tx.transfers.save(handed, QUEUED)) is True
    assert await store.write(lambda tx: tx.transfers.save(handed, QUEUED)) is False
    assert await store.read(lambda tx: tx.transfers.get("t1")) == handed
    assert await store.write(lambda tx: tx.transfers.save(transfer("t9"), QUEUED)) is False


async def test_what_is_queued_for_a_peer_is_claimed_once_earliest_first(store: Any) -> None:
    def fill(tx: Tx) -> None:
        filled(tx)
        for row in (
            transfer("t1", next_at=after(2)),
            transfer("t2", "m2", next_at=after(1)),
            transfer("t3", "m3", next_at=after(9)),
            transfer("t4", "m4", peer="hs93.kep.tr"),
            transfer("t5", "m5", state=HANDED),
            receipt("t6", next_at=after(3)),
        ):
            tx.transfers.add(row)

    def claim(now: float, limit: int = 9) -> Any:
        return store.write(lambda tx: tx.transfers.claim(PEER, after(now), limit, after(now + 60), "p"))

    await store.write(fill)
    assert await store.read(lambda tx: tx.transfers.next_due(PEER)) == after(1)
    assert await store.read(lambda tx: tx.transfers.next_due("hs99.kep.tr")) is None
    assert await claim(0) == []
    assert names(await claim(3, limit=2)) == ["t2", "t1"]
    assert await claim(3) == [replace(receipt("t6"), next_at=after(63))]
    assert await claim(3) == []
    assert await store.read(lambda tx: tx.transfers.next_due(PEER)) == after(9)
    back = transfer("t2", "m2", next_at=after(5), attempts=1, cause="silent")
    assert await store.write(lambda tx: tx.transfers.save(back, QUEUED))
    assert names(await claim(6)) == ["t2"]
    assert names(await claim(100)) == ["t3", "t1", "t6", "t2"]


async def test_what_waits_is_claimed_when_its_deadline_has_come(store: Any) -> None:
    def fill(tx: Tx) -> None:
        filled(tx)
        for number, state in enumerate((HELD, HANDED, ANSWERED), 1):
            at = after(10 - number)
            tx.transfers.add(transfer(f"t{number}", f"m{number}", state=state, deadline=at, next_at=at))
        tx.transfers.add(transfer("t4", "m4", deadline=T0))
        tx.transfers.add(transfer("t5", "m5", state=DONE, deadline=T0))
        tx.transfers.add(receipt("t6", state=FAILED, deadline=T0))

    def claim(now: float, limit: int = 9) -> Any:
        return store.write(lambda tx: tx.transfers.claim_waiting(after(now), limit, after(now + 60), "p"))

    await store.write(fill)
    assert await store.read(lambda tx: tx.transfers.next_due(None)) == after(7)
    assert await claim(6.9) == []
    assert names(await claim(7)) == ["t3"]
    assert await store.read(lambda tx: tx.transfers.next_due(None)) == after(8)
    assert names(await claim(50, limit=1)) == ["t2"]
    assert names(await claim(50)) == ["t1"]
    assert names(await claim(67)) == ["t3"]


async def test_what_waits_is_never_given_up_before_its_deadline(store: Any) -> None:
    def fill(tx: Tx) -> None:
        filled(tx)
        tx.transfers.add(transfer("t1", state=HELD, deadline=after(20), next_at=T0))
        tx.transfers.add(transfer("t2", "m2", state=HANDED, deadline=after(30), next_at=after(30)))

    await store.write(fill)
    assert await store.write(lambda tx: tx.transfers.claim_waiting(after(19), 9, after(60), "p")) == []
    assert await store.read(lambda tx: tx.transfers.next_due(None)) == after(20)
    claimed = await store.write(lambda tx: tx.transfers.claim_waiting(after(20), 9, after(60), "p"))
    assert names(claimed) == ["t1"]
    assert await store.read(lambda tx: tx.transfers.next_due(None)) == after(30)
    failed = replace(claimed[0], state=FAILED, next_at=None)
    await store.write(lambda tx: tx.transfers.save(failed, HELD))
    done = transfer("t2", "m2", state=DONE, next_at=None)
    await store.write(lambda tx: tx.transfers.save(done, HANDED))
    assert await store.read(lambda tx: tx.transfers.next_due(None)) is None


async def test_only_its_holder_renews_a_lease_and_only_while_it_is_queued(store: Any) -> None:
    def fill(tx: Tx) -> None:
        filled(tx)
        tx.transfers.add(transfer("t1"))
        tx.transfers.claim(PEER, T0, 9, after(60), "a")

    def renew(by: str, until: float, name: str = "t1") -> Any:
        return store.write(lambda tx: tx.transfers.renew(name, after(until), by))

    await store.write(fill)
    assert await renew("b", 500) is False
    assert await renew("a", 500, "t9") is False
    assert await renew("a", 120) is True
    assert await store.read(lambda tx: tx.transfers.next_due(PEER)) == after(120)
    moved = transfer("t1", state=HANDED, next_at=after(7))
    assert await store.write(lambda tx: tx.transfers.save(moved, TransferState.QUEUED)) is True
    assert await renew("a", 900) is False


async def test_transfers_leased_by_whom_starts_anew_are_due_at_once(store: Any) -> None:
    def lease(tx: Tx) -> None:
        filled(tx)
        for row in (
            transfer("t1"),
            transfer("t2", "m2"),
            transfer("t3", "m3", next_at=after(5)),
            transfer("t4", "m4", state=HANDED, deadline=T0),
        ):
            tx.transfers.add(row)
        tx.transfers.claim(PEER, T0, 1, after(300), "dead")
        tx.transfers.claim(PEER, T0, 1, after(300), "alive")
        tx.transfers.claim_waiting(T0, 1, after(300), "dead")

    def again(tx: Tx) -> Any:
        tx.transfers.take_over("dead", after(2))
        queued = tx.transfers.claim(PEER, after(2), 9, after(302), "dead")
        return names(queued), names(tx.transfers.claim_waiting(after(2), 9, after(302), "dead"))

    await store.write(lease)
    assert await store.write(again) == (["t1"], ["t4"])


async def test_saving_ends_the_lease(store: Any) -> None:
    def work(tx: Tx) -> Any:
        filled(tx)
        tx.transfers.add(transfer())
        (claimed,) = tx.transfers.claim(PEER, T0, 1, after(300), "p")
        tx.transfers.save(replace(claimed, next_at=after(40)), QUEUED)
        tx.transfers.take_over("p", after(2))
        return tx.transfers.next_due(PEER)

    assert await store.write(work) == after(40)


async def test_transfers_are_listed_by_id_and_counted_by_peer_and_state(store: Any) -> None:
    other = "hs93.kep.tr"
    rows = [
        transfer("t1"),
        transfer("t2", peer=other, state=FAILED),
        transfer("t3", "m2", state=FAILED),
        transfer("t4", "m3"),
        transfer("t5", "m3", peer=other),
    ]
    await store.write(lambda tx: (filled(tx), [tx.transfers.add(row) for row in rows]))

    async def listed(peer: Any = None, state: Any = None, after: str = "", limit: int = 9) -> list[str]:
        wanted = {"peer": peer, "state": state, "after": after, "limit": limit}
        return names(await store.read(lambda tx: tx.transfers.list(**wanted)))

    assert await listed() == ["t1", "t2", "t3", "t4", "t5"]
    assert await listed(after="t2", limit=2) == ["t3", "t4"]
    assert await listed(PEER) == ["t1", "t3", "t4"]
    assert await listed(PEER, after="t1", limit=1) == ["t3"]
    assert await listed(state=QUEUED) == ["t1", "t4", "t5"]
    assert await listed(state=QUEUED, after="t1", limit=1) == ["t4"]
    assert await listed(other, FAILED) == ["t2"]
    assert await listed(other, HELD) == []
    assert await listed("hs99.kep.tr") == []
    assert await store.read(lambda tx: tx.transfers.counts()) == {
        (PEER, QUEUED): 2,
        (PEER, FAILED): 1,
        (other, QUEUED): 1,
        (other, FAILED): 1,
    }


@pytest.mark.parametrize("state", [QUEUED, HELD, FAILED])
async def test_a_receipt_holds_its_content_until_it_is_handed_over(store: Any, state: TransferState) -> None:
    def work(tx: Tx) -> None:
        with_message(tx)
        tx.blobs.add(blob(b"t2"))
        tx.transfers.add(receipt())
        tx.mailboxes.remove(inbox(tx), [tx.mailboxes.append(inbox(tx), item(b"t2"))])

    await store.write(work)
    await store.write(lambda tx: tx.transfers.save(receipt(state=state), QUEUED))
    kept = {b.sha256 for b in await store.write(release)}
    assert blob(b"t2").sha256 not in kept
    assert await store.write(lambda tx: tx.transfers.save(receipt(state=DONE, next_at=None), state))
    assert [b.sha256 for b in await store.write(release)] == [blob(b"t2").sha256]
    assert (await store.read(lambda tx: tx.transfers.get("t2"))).kind is TransferKind.RECEIPT


async def test_a_dispatch_is_held_by_its_message(store: Any) -> None:
    def work(tx: Tx) -> None:
        with_message(tx)
        tx.blobs.add(blob(b"dispatch"))
        tx.messages.name_dispatches({"m1": blob(b"dispatch").sha256})
        tx.transfers.add(transfer())

    await store.write(work)
    assert blob(b"dispatch").sha256 not in {b.sha256 for b in await store.write(release)}
    await store.write(lambda tx: tx.messages.set_states(("m1",), MessageState.COMPLETED))
    assert [b.sha256 for b in await store.write(release)] == [blob(b"dispatch").sha256]


FACE = blob(b"face").sha256


async def lets_go(store: Any, sha256: bytes = FACE) -> bool:
    """Say whether content is released now."""
    return sha256 in {b.sha256 for b in await store.write(release)}


def with_face(tx: Tx) -> None:
    filled(tx)
    tx.transfers.add(transfer())
    tx.blobs.add(blob(b"face"))
    assert tx.transfers.name_blob("t1", FACE) is True


async def test_a_dispatch_of_one_peer_is_named_once_and_the_lease_goes_on(store: Any) -> None:
    def work(tx: Tx) -> None:
        filled(tx)
        tx.transfers.add(transfer())
        tx.transfers.claim(PEER, T0, 1, after(300), "p")
        tx.blobs.add(blob(b"face"))
        tx.blobs.add(blob(b"other"))
        assert tx.transfers.name_blob("t1", FACE) is True

    await store.write(work)
    assert await store.write(lambda tx: tx.transfers.name_blob("t1", blob(b"other").sha256)) is False
    assert await store.write(lambda tx: tx.transfers.name_blob("t9", FACE)) is False
    assert (await store.read(lambda tx: tx.transfers.get("t1"))).blob == FACE
    assert await store.write(lambda tx: tx.transfers.renew("t1", after(600), "p")) is True
    assert await store.read(lambda tx: tx.blobs.get(blob(b"other").sha256)) is not None
    gone = {b.sha256 for b in await store.write(release)}
    assert blob(b"other").sha256 in gone
    assert FACE not in gone


@pytest.mark.parametrize("state", [HANDED, ANSWERED, DONE, FAILED])
async def test_a_dispatch_that_is_not_to_be_handed_over_lets_its_content_go(
    store: Any, state: TransferState
) -> None:
    await store.write(with_face)
    assert not await lets_go(store)
    before = replace(transfer(), blob=FACE)
    for waiting in (replace(before, attempts=1), replace(before, state=HELD)):
        assert await store.write(lambda tx, row=waiting: tx.transfers.save(row, QUEUED)) is True
        assert not await lets_go(store)
        assert (await store.read(lambda tx: tx.transfers.get("t1"))).blob == FACE
    left = replace(before, state=state)
    assert await store.write(lambda tx: tx.transfers.save(left, HELD)) is True
    assert (await store.read(lambda tx: tx.transfers.get("t1"))).blob is None
    assert await lets_go(store)
    assert await store.write(lambda tx: tx.transfers.name_blob("t1", FACE)) is False


async def test_saving_over_another_state_lets_no_content_go(store: Any) -> None:
    await store.write(with_face)
    left = replace(transfer(), blob=FACE, state=HANDED)
    assert await store.write(lambda tx: tx.transfers.save(left, HELD)) is False
    assert (await store.read(lambda tx: tx.transfers.get("t1"))).blob == FACE
    assert not await lets_go(store)
