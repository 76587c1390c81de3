"""The contract of `kephs.ports.Store`: messages, deliveries, evidence."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from evidence.ledger import GENESIS, entry_hash
from evidence.records import EvidenceKind
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.ports import DuplicateEvidenceError, Tx
from storage.errors import ConflictError
from tests.support.stores import (
    T0,
    account,
    after,
    delivery,
    evidence,
    message,
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


async def test_work_leased_by_a_process_that_died_can_be_hastened(store: Any) -> None:
    await store.write(
        lambda tx: (
            with_account(tx),
            tx.messages.add(message(next_at=after(0))),
            tx.messages.claim(after(0), 9, after(300)),
        )
    )
    assert await store.write(lambda tx: tx.messages.claim(after(1), 9, after(301))) == []
    await store.write(lambda tx: (tx.messages.hasten(after(2)), tx.evidence.hasten(after(2))))
    (claimed,) = await store.write(lambda tx: tx.messages.claim(after(2), 9, after(302)))
    assert claimed.message_id == "m1"


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
    claimed = await store.write(lambda tx: tx.evidence.claim_receipts(after(1), 5, after(60)))
    assert claimed == [replace(first, receipt_due=after(60))]
    assert await store.write(lambda tx: tx.evidence.claim_receipts(after(1), 5, after(60))) == []
    await store.write(lambda tx: tx.evidence.receipt_due("e1", None, 1))
    assert await store.read(lambda tx: tx.evidence.get("e1")) == replace(first, receipt_due=None, attempts=1)
    assert await store.read(lambda tx: tx.evidence.next_due()) == after(2)


async def test_the_entry_of_one_evidence_is_found(store: Any) -> None:
    entry = await store.write(lambda tx: (with_message(tx), tx.evidence.add(evidence("e1", 10)))[1])
    assert await store.read(lambda tx: tx.evidence.ledger_of("e1")) == entry
    assert await store.read(lambda tx: tx.evidence.ledger_of("e9")) is None
