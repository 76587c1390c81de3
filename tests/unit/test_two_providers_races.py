"""Two things at one moment, and the peer's receipts in any order: each recipient still ends exactly once."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.model.records import MessageFacts, Reason, ReasonCode
from kephs.domain.lifecycle import DECIDED, DeliveryState, MessageState, TransferState
from kephs.domain.mailboxes import FolderRole
from kephs.domain.relay import NotHanded, RelayTrouble
from kephs.domain.relay_times import RelayTimes
from kephs.usecases.submission.results import Accepted, Taken
from tests.support.pair import Pair, Seen, Wire, arrive_from, dispatch_of, new_pair, peer_of, receipt_of, seen
from tests.support.pki import ayse
from tests.support.world import AYSE, CAN, DOMAIN, FATMA, PEER, World, compose, signed

TEN: Seen = (10, (), None, "hs91")
TWENTY: Seen = (20, (), None, "hs92")
FORTY: Seen = (40, (), 1, "hs92")
FAILED = (Reason(ReasonCode.TECHNICAL_MALFUNCTION, "test"),)


@pytest.fixture
async def pair() -> Pair:
    return await new_pair()


# --------------------------------------------------------------------------- at one moment


class Meeting:
    """A barrier for the first so many, open to whoever comes later."""

    def __init__(self, parties: int) -> None:
        self.missing, self.met = parties, asyncio.Event()

    async def wait(self) -> None:
        self.missing -= 1
        if self.missing <= 0:
            self.met.set()
        await self.met.wait()


@pytest.mark.parametrize("times", [2, 5])
async def test_the_same_dispatch_at_one_moment_is_one_message_and_one_20(pair: Pair, times: int) -> None:
    content = await dispatch_of(pair.here, compose(to=(FATMA,)))
    pair.there.sealer.together = asyncio.Barrier(times)  # all have passed every check before one is stored
    answers = await asyncio.gather(*(pair.there_gets(content) for _ in range(times)))
    pair.there.sealer.together = None
    assert len(set(answers)) == 1
    assert isinstance(answers[0], Taken)
    await pair.there.work()
    assert await seen(pair.there) == [TEN, TWENTY, FORTY]
    assert await pair.there.count(FATMA, FolderRole.INBOX) == 1


async def test_the_same_infected_dispatch_at_one_moment_makes_one_21(pair: Pair) -> None:
    pair.there.scanner.found = "Eicar-Test"
    content = await dispatch_of(pair.here, compose(to=(FATMA,)))
    pair.there.sealer.together = asyncio.Barrier(2)
    answers = await asyncio.gather(*(pair.there_gets(content) for _ in range(2)))
    assert len(set(answers)) == 1
    assert await seen(pair.there) == [(21, (2,), None, "hs92")]


async def test_two_originals_under_one_id_at_one_moment_are_one_20_and_one_21(pair: Pair) -> None:
    originals = [compose(to=(FATMA,), subject=subject) for subject in ("bir", "iki")]
    contents = [
        await dispatch_of(
            pair.here, original, message=MessageFacts("x", None, f"1@{DOMAIN}", sha256(original).digest())
        )
        for original in originals
    ]
    pair.there.sealer.together = Meeting(2)  # type: ignore[assignment]
    answers = await asyncio.gather(*(pair.there_gets(content) for content in contents))
    await pair.there.work()
    assert await seen(pair.there) == [TEN, TWENTY, (21, (5,), None, "hs92"), FORTY]
    _, twenty, refused, _ = await pair.there.evidence()
    assert {answer.evidence_id for answer in answers} == {twenty.evidence_id, refused.evidence_id}
    assert await pair.there.count(FATMA, FolderRole.INBOX) == 1


async def test_the_same_receipt_at_one_moment_is_filed_once(pair: Pair) -> None:
    pair.out.swallow = True
    message_id = await pair.send()
    await pair.work()
    content = await receipt_of(pair.there, await pair.says(40, message_id, 1))
    status: Any = pair.here.ocsp.status
    both = asyncio.Barrier(2)

    async def together(certificate: Any, issuer: Any, at: Any) -> Any:
        await both.wait()
        return await status(certificate, issuer, at)

    pair.here.ocsp.status = together  # type: ignore[method-assign]
    answers = await asyncio.gather(*(pair.here_gets(content) for _ in range(2)))
    assert len(set(answers)) == 1
    assert await seen(pair.here) == [TEN, FORTY]
    assert await pair.here.count(AYSE, FolderRole.EVIDENCE) == 2


Ending = Callable[[Pair, str], Coroutine[Any, Any, None]]


async def give_up(pair: Pair, message_id: str) -> None:
    await pair.here.give_up.on_handing_over(await pair.transfer(message_id), RelayTrouble.NO_CONNECTION, "")


async def give_up_waiting(pair: Pair, message_id: str) -> None:
    await pair.here.give_up.on_delivery_info(await pair.transfer(message_id))


async def during_sealing(pair: Pair, ending: Ending, message_id: str, meanwhile: bytes) -> None:
    """Let hs91 end the wait; while its evidence is being stamped a receipt arrives."""
    stamp, arrived = pair.here.tsa.stamp, False

    async def slow(digest: bytes) -> bytes:
        nonlocal arrived
        if not arrived:
            arrived = True
            assert isinstance(await pair.here_gets(meanwhile), Taken)
        return await stamp(digest)

    pair.here.tsa.stamp = slow  # type: ignore[method-assign]
    await ending(pair, message_id)
    pair.here.tsa.stamp = stamp  # type: ignore[method-assign]
    assert arrived


async def test_20_that_comes_while_31_is_sealed_wins_and_31_is_never_stored(pair: Pair) -> None:
    pair.out.swallow = True
    message_id = await pair.send()
    await pair.work()
    twenty = await receipt_of(pair.there, await pair.says(20, message_id))
    await during_sealing(pair, give_up, message_id, twenty)
    assert await pair.states(message_id) == ["relayed"]
    assert await seen(pair.here) == [TEN, TWENTY]
    assert (await pair.transfer(message_id)).state is TransferState.ANSWERED


async def test_20_for_one_of_two_while_31_is_sealed_leaves_31_to_the_other_alone(pair: Pair) -> None:
    pair.out.swallow = True
    message_id = await pair.send(to=(FATMA, CAN))
    await pair.work()
    twenty = await receipt_of(pair.there, await pair.says(20, message_id, 1))
    await during_sealing(pair, give_up, message_id, twenty)
    assert await pair.states(message_id) == ["relayed", "unreached"]
    assert await seen(pair.here) == [TEN, (20, (), 1, "hs92"), (31, (8,), 2, "hs91")]


async def test_40_that_comes_while_41_is_sealed_wins_and_41_is_never_stored(pair: Pair) -> None:
    pair.out.swallow = True
    message_id = await pair.send()
    await pair.work()
    await pair.receive(await pair.says(20, message_id))
    forty = await receipt_of(pair.there, await pair.says(40, message_id, 1))
    await during_sealing(pair, give_up_waiting, message_id, forty)
    assert await pair.states(message_id) == ["delivered"]
    assert await seen(pair.here) == [TEN, TWENTY, FORTY]
    assert (await pair.message(message_id)).state is MessageState.COMPLETED


async def test_two_workers_that_give_up_at_one_moment_make_one_31(pair: Pair) -> None:
    pair.out.swallow = True
    message_id = await pair.send()
    await pair.work()
    pair.here.sealer.together = asyncio.Barrier(2)
    await asyncio.gather(*(give_up(pair, message_id) for _ in range(2)))
    pair.here.sealer.together = None
    assert await seen(pair.here) == [TEN, (31, (8,), None, "hs91")]
    assert await pair.states(message_id) == ["unreached"]
    await pair.here.work()
    assert await pair.here.count(AYSE, FolderRole.EVIDENCE) == 2


async def test_delivery_here_and_relay_at_one_moment_use_one_sealed_message(pair: Pair) -> None:
    message_id = await pair.send(to=(FATMA,), cc=())
    message = await pair.message(message_id)
    pair.here.sealer.together = asyncio.Barrier(2)
    blobs = await asyncio.gather(*(pair.here.dispatches.dispatch(message) for _ in range(2)))
    assert blobs[0].sha256 == blobs[1].sha256 == (await pair.message(message_id)).dispatch


# --------------------------------------------------------------------------- in any order


@dataclass(frozen=True)
class Script:
    """One notice and everything hs92 could say about it: bytes made once, for they are slow to sign."""

    message: bytes
    receipts: tuple[bytes, ...]
    evidence_ids: tuple[str, ...]


SAID = (
    (20, None), (20, 1), (21, 2), (21, None), (40, 1), (40, 1), (40, 2), (41, 1), (41, 2), (60, 1), (60, 2),
)  # fmt: skip


async def _write() -> Script:
    pair = await new_pair()
    pair.out.swallow = True
    message = await signed(compose(to=(FATMA, CAN)), ayse())
    answer = await pair.here.send(message, to=(FATMA, CAN))
    assert isinstance(answer, Accepted)
    records = [
        await pair.says(kind, answer.message_id, number, reasons=FAILED if kind in (21, 41) else ())
        for kind, number in SAID
    ]
    contents = tuple([await receipt_of(pair.there, record) for record in records])
    return Script(message, contents, tuple(record.evidence_id for record in records))


@cache
def script() -> Script:
    """Return the script; ids and times of a fresh hs91 are always the same, so that it fits each of them."""
    return asyncio.run(_write())


async def fresh() -> tuple[World, str]:
    """Return hs91 alone, with the script's notice accepted and handed over."""
    wire = Wire(swallow=True)
    times = RelayTimes(
        give_up=timedelta(hours=3), no_answer=timedelta(hours=3), no_delivery_info=timedelta(hours=3)
    )
    world = World(domain=DOMAIN, peers={PEER: peer_of(PEER)}, courier=wire, times=times)
    await world.open_accounts()
    answer = await world.send(script().message, to=(FATMA, CAN))
    assert isinstance(answer, Accepted)
    await world.work()
    return world, answer.message_id


async def delivery_states(world: World, message_id: str) -> list[DeliveryState]:
    deliveries = await world.store.read(lambda tx: tx.deliveries.of_message(message_id))
    return [delivery.state for delivery in deliveries]


steps = st.lists(st.one_of(st.integers(0, len(SAID) - 1), st.just("later")), max_size=16)


@pytest.mark.slow
@settings(max_examples=60)
@given(order=steps)
def test_any_order_repetition_and_loss_of_receipts_ends_each_recipient_exactly_once(
    order: list[int | str],
) -> None:
    script()  # made outside of the loop below
    asyncio.run(_in_any_order(order))


async def _in_any_order(order: list[int | str]) -> None:
    world, message_id = await fresh()
    came: list[int] = []
    ended: list[DeliveryState | None] = [None, None]
    for step in (*order, *["later"] * 7):  # 20 may come at the last moment before 31: three hours more
        if isinstance(step, int):
            came.append(step)
            answer = await arrive_from(world, "", (AYSE,), script().receipts[step])
            assert answer == Taken(script().evidence_ids[step], message_id)
        else:
            world.clock.at += timedelta(hours=1)
            await world.work()
        for number, state in enumerate(await delivery_states(world, message_id)):
            before = ended[number]
            if before is not None and before is not state:  # an end state stays; reading follows delivery
                assert (before, state) == (DeliveryState.DELIVERED, DeliveryState.READ)
            ended[number] = state if state in DECIDED else None
            assert before is None or ended[number] is not None
    await world.work()
    await _assert_one_end(world, message_id, came)


async def _assert_one_end(world: World, message_id: str, came: list[int]) -> None:
    states = await delivery_states(world, message_id)
    assert set(states) <= DECIDED
    rows = await world.store.read(lambda tx: tx.evidence.of_message(message_id))
    theirs = sorted(row.evidence_id for row in rows if row.origin == PEER)
    assert theirs == sorted({script().evidence_ids[step] for step in came})  # all of it, each once
    ours = [(int(row.kind), row.number) for row in rows if row.origin is None]
    assert len(ours) == len(set(ours))
    deliveries = await world.store.read(lambda tx: tx.deliveries.of_message(message_id))
    kinds = {row.evidence_id: (int(row.kind), row.number) for row in rows}
    wanted = {
        DeliveryState.DELIVERED: {40}, DeliveryState.READ: {40}, DeliveryState.FAILED: {41},
        DeliveryState.REJECTED: {21}, DeliveryState.UNREACHED: {31},
    }  # fmt: skip
    for delivery in deliveries:
        assert delivery.evidence_id is not None
        kind, number = kinds[delivery.evidence_id]
        assert kind in wanted[delivery.state]
        assert number in (None, delivery.number)
    # what we say ourselves decided somebody: no 31 or 41 of ours that contradicts an end before it
    decided = {delivery.evidence_id for delivery in deliveries}
    made = {row.evidence_id for row in rows if row.origin is None and row.kind != 10}
    assert made <= decided
    message = await world.store.read(lambda tx: tx.messages.get(message_id))
    (transfer,) = await world.store.read(lambda tx: tx.transfers.of_message(message_id))
    assert message is not None
    assert message.state is MessageState.COMPLETED
    assert transfer.state in (TransferState.DONE, TransferState.FAILED)
    assert transfer.next_at is None
    assert await world.count(AYSE, FolderRole.EVIDENCE) == 1 + len(theirs) + len(made)


losses = st.lists(
    st.tuples(st.sampled_from(["down", "lost", "swallow", "fine"]), st.integers(1, 80)), max_size=8
)


@pytest.mark.slow
@settings(max_examples=40)
@given(out=losses, back=losses)
def test_whatever_the_wires_lose_both_sides_agree_or_the_sender_gave_up_in_time(
    out: list[tuple[str, int]], back: list[tuple[str, int]]
) -> None:
    asyncio.run(_over_bad_wires(out, back))


def _spoil(wire: Wire, how: str) -> None:
    wire.trouble = NotHanded(RelayTrouble.NO_CONNECTION) if how == "down" else None
    wire.lose_replies = 1 if how == "lost" else 0
    wire.swallow = how == "swallow" and wire.others[PEER].courier is not wire  # a dispatch, never a receipt


async def _over_bad_wires(out: list[tuple[str, int]], back: list[tuple[str, int]]) -> None:
    pair = await new_pair(RelayTimes(first_retry=timedelta(minutes=1)))
    message_id = await pair.send(to=(FATMA, CAN))
    for number in range(max(len(out), len(back))):
        for wire, plan in ((pair.out, out), (pair.back, back)):
            _spoil(wire, plan[number][0] if number < len(plan) else "fine")
        minutes = (out[number][1] if number < len(out) else 0) + (
            back[number][1] if number < len(back) else 0
        )
        await pair.later(minutes=minutes)
    for wire in (pair.out, pair.back):
        _spoil(wire, "fine")
    await pair.later(minutes=40)  # well before the deadline every retry is due once more
    for _ in range(9):
        await pair.later(hours=6)
    states = await pair.states(message_id)
    there = await seen(pair.there)
    assert sorted(kind for kind, *_ in there) in ([], [10, 20, 40, 40])
    inboxes = [await pair.there.count(address, FolderRole.INBOX) for address in (FATMA, CAN)]
    if there:
        assert inboxes == [1, 1]
        assert states == ["delivered", "delivered"]
        assert sorted(await seen(pair.here)) == sorted(there)
    else:
        assert inboxes == [0, 0]
        assert states == ["unreached", "unreached"]
        assert [kind for kind, *_ in await seen(pair.here)] == [10, 31]
