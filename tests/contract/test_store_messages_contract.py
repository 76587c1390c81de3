"""The contract of `kephs.ports.Store`: messages, deliveries, evidence."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from evidence.ledger.chain import GENESIS, entry_hash
from evidence.model.records import EvidenceKind
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.ports import DuplicateEvidenceError, Ending, Tx
from storage.errors import ConflictError
from tests.support.stores import (
    PEER,
    T0,
    account,
    after,
    blob,
    delivery,
    elsewhere,
    evidence,
    inbox,
    item,
    message,
    release,
    with_account,
    with_message,
)

# Messages and deliveries.


async def test_messages_come_back_as_they_went_in(store: Any) -> None:
    await store.write(with_account)
    full = message("m2", material=b"m" * 32, dispatch=b"d" * 32, next_at=after(3), attempts=2)
    bare = message("m3", user_message_id=None, recipients=(), subject="", state=MessageState.REFUSED)
    await store.write(lambda tx: [tx.messages.add(m) for m in (message(), full, bare)])
    assert await store.read(lambda tx: list(tx.messages.all())) == [message(), full, bare]
    assert await store.read(lambda tx: tx.messages.get("m2")) == full
    assert await store.read(lambda tx: tx.messages.get("m9")) is None
    await store.write(lambda tx: tx.messages.set_states(("m1",), MessageState.COMPLETED))
    await store.write(lambda tx: tx.messages.name_dispatches({"m1": b"x" * 32}))
    expected = message(state=MessageState.COMPLETED, dispatch=b"x" * 32)
    assert await store.read(lambda tx: tx.messages.get("m1")) == expected


async def test_a_completed_message_has_no_work_due(store: Any) -> None:
    await store.write(with_account)
    await store.write(lambda tx: tx.messages.add(message(next_at=after(3), attempts=2)))
    await store.write(lambda tx: tx.messages.claim(after(3), 1, after(9), "node"))
    assert await store.read(lambda tx: tx.messages.states(("m1",)).get("m1")) is MessageState.ACCEPTED
    await store.write(lambda tx: tx.messages.set_states(("m1",), MessageState.COMPLETED))
    assert await store.read(lambda tx: tx.messages.states(("m1",)).get("m1")) is MessageState.COMPLETED
    assert await store.read(lambda tx: tx.messages.states(("m9",)).get("m9")) is None
    done = await store.read(lambda tx: tx.messages.get("m1"))
    assert (done.next_at, done.attempts) == (None, 0)
    assert await store.read(lambda tx: tx.messages.next_due()) is None
    await store.write(lambda tx: tx.messages.take_over("node", after(1)))
    assert await store.read(lambda tx: tx.messages.next_due()) is None


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
        return lambda tx: [m.message_id for m in tx.messages.claim(after(now), limit, after(now + 60), "p")]

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
    claimed = await store.write(lambda tx: tx.messages.claim(T0, 5, after(60), "p"))
    assert claimed == [message(next_at=after(60))]


async def test_who_starts_anew_takes_over_what_it_had_leased_and_nothing_else(store: Any) -> None:
    def fill(tx: Tx) -> None:
        with_message(tx)
        for name, due in (("m2", T0), ("m3", after(50)), ("m4", T0), ("m5", after(0.5))):
            tx.messages.add(message(name, next_at=due))
        for name, number in (("e1", 1), ("e2", 2)):
            tx.evidence.add(evidence(name, EvidenceKind.DELIVERY, number=number, receipt_due=T0))

    def lease(tx: Tx) -> Any:
        mine = tx.messages.claim(T0, 1, after(300), "dead") + tx.messages.claim(after(1), 1, after(300), "b")
        tx.messages.claim(after(1), 1, after(300), "dead")
        tx.messages.due("m5", after(40), 1)  # postponed: nobody holds it any more
        receipts = tx.evidence.claim_receipts(T0, 1, after(300), "dead")
        return [m.message_id for m in mine], receipts + tx.evidence.claim_receipts(T0, 1, after(300), "b")

    def again(tx: Tx) -> Any:
        tx.messages.take_over("dead", after(2))
        tx.evidence.take_over("dead", after(2))
        tx.evidence.take_over("nobody", after(2))
        due = tx.messages.next_due(), tx.evidence.next_due()
        messages = tx.messages.claim(after(2), 9, after(302), "dead")
        receipts = tx.evidence.claim_receipts(after(2), 9, after(302), "dead")
        return due, [m.message_id for m in messages], [e.evidence_id for e in receipts]

    await store.write(fill)
    mine, receipts = await store.write(lease)
    assert mine == ["m2", "m4"]
    assert [e.evidence_id for e in receipts] == ["e1", "e2"]
    assert await store.write(again) == ((after(2), after(2)), ["m2"], ["e1"])


async def test_a_lease_that_ended_belongs_to_whom_claimed_next(store: Any) -> None:
    def work(tx: Tx) -> Any:
        with_account(tx)
        tx.messages.add(message(next_at=T0))
        tx.messages.claim(T0, 1, after(10), "slow")
        tx.messages.claim(after(11), 1, after(20), "quick")
        tx.messages.take_over("slow", after(12))
        return tx.messages.next_due()

    assert await store.write(work) == after(20)


async def test_the_first_kep_message_of_a_message_stands(store: Any) -> None:
    def work(tx: Tx) -> Any:
        with_account(tx)
        tx.messages.add(message())
        for name in (b"first", b"second"):
            tx.blobs.add(blob(name))
        return [
            tx.messages.name_dispatches({"m1": blob(name).sha256}) for name in (b"first", b"second", b"first")
        ]

    assert await store.write(work) == [{"m1"}, set(), {"m1"}]
    assert (await store.read(lambda tx: tx.messages.get("m1"))).dispatch == blob(b"first").sha256
    left = {b.sha256 for b in await store.write(release)}  # the loser's content goes
    assert left == {blob(b"content").sha256, blob(b"second").sha256}


async def test_a_message_that_a_peer_relayed_has_no_account_here(store: Any) -> None:
    relayed = message("m1", account_id=None, operator_id=None, origin=PEER, dispatch=b"d" * 32)
    other = message("m2", account_id=None, operator_id=None, origin=PEER, user_message_id="<m1@client>")
    await store.write(lambda tx: [tx.messages.add(m) for m in (relayed, other)])
    assert await store.read(lambda tx: tx.messages.get("m1")) == relayed
    assert await store.read(lambda tx: list(tx.messages.all())) == [relayed, other]
    with pytest.raises(ConflictError):
        await store.write(lambda tx: tx.messages.add(message("m1", account_id=None, origin=PEER)))


async def test_a_kep_message_that_no_mailbox_here_has_goes_when_its_message_is_completed(store: Any) -> None:
    def work(tx: Tx) -> None:
        with_account(tx)
        for name in ("kept", "gone"):
            tx.blobs.add(blob(name.encode()))
            tx.messages.add(message(name))
            tx.messages.name_dispatches({name: blob(name.encode()).sha256})
        tx.mailboxes.append(inbox(tx), item(b"kept"))

    await store.write(work)
    assert await store.write(release) == [blob()]
    await store.write(lambda tx: tx.messages.set_states(("kept", "gone"), MessageState.COMPLETED))
    assert [b.sha256 for b in await store.write(release)] == [blob(b"gone").sha256]


async def test_a_delivery_is_decided_once(store: Any) -> None:
    await store.write(with_message)
    await store.write(lambda tx: tx.deliveries.add(delivery("d2", number=2)))
    decide = DeliveryState.DELIVERED

    def ends(*given: Any) -> Any:
        return store.write(lambda tx: tx.deliveries.decide_all((Ending(*given),)))

    assert await ends("d1", decide, "e40", after(1)) == {"d1"}
    assert await ends("d1", DeliveryState.FAILED, "e41", after(2)) == set()
    assert await ends("d9", decide, "e40", after(1)) == set()
    decided = replace(delivery(), state=decide, evidence_id="e40", decided_at=after(1))
    assert await store.read(lambda tx: tx.deliveries.of_message("m1")) == [decided, delivery("d2", number=2)]
    assert await store.read(lambda tx: tx.deliveries.get("d1")) == decided
    assert await store.read(lambda tx: tx.deliveries.get("d9")) is None


async def test_the_first_reading_is_noted_once_and_only_of_what_was_delivered(store: Any) -> None:
    await store.write(with_message)
    assert await store.write(lambda tx: tx.deliveries.read("d1", "e60")) is False
    await store.write(
        lambda tx: tx.deliveries.decide_all((Ending("d1", DeliveryState.DELIVERED, "e40", T0),))
    )
    first, second = await asyncio.gather(
        store.write(lambda tx: tx.deliveries.read("d1", "e60")),
        store.write(lambda tx: tx.deliveries.read("d1", "e61")),
    )
    assert (first, second) == (True, False)
    row = await store.read(lambda tx: tx.deliveries.get("d1"))
    assert (row.state, row.read_evidence_id, row.gated) == (DeliveryState.READ, "e60", False)


async def test_a_peers_recipient_moves_only_from_the_state_it_has(store: Any) -> None:
    pending, relayed, delivered = DeliveryState.PENDING, DeliveryState.RELAYED, DeliveryState.DELIVERED
    read = DeliveryState.READ
    await store.write(lambda tx: (with_message(tx), tx.deliveries.add(elsewhere())))
    assert await store.read(lambda tx: tx.deliveries.get("d2")) == elsewhere()

    def moves(*steps: Any) -> Any:
        return store.write(lambda tx: [tx.deliveries.move("d2", *step) for step in steps])

    assert await moves((relayed, delivered, "e40", T0), (pending, relayed, None, after(1))) == [False, True]
    assert await store.read(lambda tx: tx.deliveries.get("d2")) == replace(elsewhere(), state=relayed)
    assert await moves((pending, relayed, None, T0), (relayed, delivered, "e40", after(2))) == [False, True]
    assert await moves(
        (relayed, DeliveryState.FAILED, "e41", after(3)), (delivered, read, None, after(4))
    ) == [
        False,
        True,
    ]
    row = await store.read(lambda tx: tx.deliveries.get("d2"))
    assert (row.state, row.evidence_id, row.decided_at) == (read, "e40", after(2))
    assert await moves((read, delivered, "e40", after(5))) == [True]  # what decided it keeps its time
    row = await store.read(lambda tx: tx.deliveries.get("d2"))
    assert (row.state, row.evidence_id, row.decided_at) == (delivered, "e40", after(2))
    assert await store.write(lambda tx: tx.deliveries.move("d9", pending, relayed, None, T0)) is False


async def test_a_recipient_of_ours_is_not_moved_by_a_peer(store: Any) -> None:
    await store.write(with_message)
    states = DeliveryState.PENDING, DeliveryState.DELIVERED
    assert await store.write(lambda tx: tx.deliveries.move("d1", *states, "e40", T0)) is False
    assert await store.read(lambda tx: tx.deliveries.get("d1")) == delivery()


async def test_a_peers_evidence_of_reading_is_noted_once_in_any_state(store: Any) -> None:
    await store.write(lambda tx: (with_message(tx), tx.deliveries.add(elsewhere())))
    noted = [
        await store.write(lambda tx, e=e: tx.deliveries.read_elsewhere("d2", e))
        for e in ("e60", "e60", "e61")
    ]
    assert noted == [True, False, False]
    assert await store.write(lambda tx: tx.deliveries.read_elsewhere("d9", "e60")) is False
    expected = replace(elsewhere(), read_evidence_id="e60")
    assert await store.read(lambda tx: tx.deliveries.get("d2")) == expected


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
        assert (entry.number, entry.evidence_id, entry.evidence_sha256) == (number, row.evidence_id, row.blob)
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


async def test_what_peers_say_of_one_event_is_all_kept_beside_ours(store: Any) -> None:
    kind = EvidenceKind.NON_DELIVERY
    rows = [
        evidence("e1", kind, number=1, account_id=None),
        evidence("e2", kind, number=1, origin=PEER),
        evidence("e3", kind, number=1, origin=PEER, receipt_due=after(1)),
    ]
    await store.write(with_message)
    entries = [await store.write(lambda tx, row=row: tx.evidence.add(row)) for row in reversed(rows)]
    assert await store.read(lambda tx: tx.evidence.of_message("m1")) == rows
    assert await store.read(lambda tx: tx.evidence.ledger(0, 9)) == entries  # received ones are entered too
    await store.write(lambda tx: tx.blobs.add(blob(b"e4")))
    for taken in (evidence("e4", kind, number=1), evidence("e3", kind, number=2, origin=PEER)):
        with pytest.raises(DuplicateEvidenceError):
            await store.write(lambda tx, taken=taken: tx.evidence.add(taken))
    assert len(await store.read(lambda tx: tx.evidence.ledger(0, 9))) == 3


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
    assert [e.number for e in await store.read(lambda tx: tx.evidence.ledger(0, 10))] == [1]


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
    claimed = await store.write(lambda tx: tx.evidence.claim_receipts(after(1), 5, after(60), "p"))
    assert claimed == [replace(first, receipt_due=after(60))]
    assert await store.write(lambda tx: tx.evidence.claim_receipts(after(1), 5, after(60), "p")) == []
    await store.write(lambda tx: tx.evidence.receipt_due("e1", None, 1))
    assert await store.read(lambda tx: tx.evidence.get("e1")) == replace(first, receipt_due=None, attempts=1)
    assert await store.read(lambda tx: tx.evidence.next_due()) == after(2)


async def test_the_entry_of_one_evidence_is_found(store: Any) -> None:
    entry = await store.write(lambda tx: (with_message(tx), tx.evidence.add(evidence("e1", 10)))[1])
    assert await store.read(lambda tx: tx.evidence.ledger_of("e1")) == entry
    assert await store.read(lambda tx: tx.evidence.ledger_of("e9")) is None
