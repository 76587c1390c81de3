"""The queue to a peer: hold and release, a register out of date, receipts that wait, what a letter needs."""

from datetime import timedelta

import pytest

from evidence.ports import BytesSource
from evidence.verify.message import check_kep_message
from kephs.domain.lifecycle import TransferState
from kephs.domain.messages import TransferKind
from kephs.domain.refusals import RefusalCode
from kephs.domain.relay import NotHanded, RelayTrouble
from kephs.usecases.relay.queue import Chosen, QueueAction, QueueChange, QueueDenial, QueueWork
from kephs.usecases.submission.results import Accepted, Refused, Taken
from tests.support.pair import Pair, Seen, go_stale, new_pair, peer_of, seen, untouched
from tests.support.pki import ayse
from tests.support.world import AYSE, CAN, FATMA, PEER, signed

TEN: Seen = (10, (), None, "hs91")
TWENTY: Seen = (20, (), None, "hs92")
FORTY: Seen = (40, (), 1, "hs92")
DOWN = NotHanded(RelayTrouble.NO_CONNECTION)


@pytest.fixture
async def pair() -> Pair:
    return await new_pair()


# --------------------------------------------------------------------------- queue and register


async def ask(pair: Pair, action: QueueAction, message_id: str) -> QueueChange:
    """Do what an operator of hs91 does."""
    work = QueueWork(pair.here.store, pair.clock, pair.here.times)
    return await work.change(action, Chosen(message_id=message_id))


async def test_what_is_held_is_not_tried_and_goes_on_after_its_release(pair: Pair) -> None:
    message_id = await pair.send()
    await ask(pair, QueueAction.HOLD, message_id)
    await pair.later(hours=5)
    assert pair.out.tries == 0
    await ask(pair, QueueAction.RELEASE, message_id)
    await pair.work()
    assert await pair.states(message_id) == ["delivered"]
    assert await seen(pair.here) == [TEN, TWENTY, FORTY]


async def test_holding_does_not_stop_the_deadline(pair: Pair) -> None:
    message_id = await pair.send()
    await ask(pair, QueueAction.HOLD, message_id)
    await pair.later(hours=24)
    assert await pair.states(message_id) == ["unreached"]
    assert [kind for kind, *_ in await seen(pair.here)] == [10, 31]
    assert pair.out.tries == 0


async def test_a_stale_register_holds_the_message_and_makes_no_31(pair: Pair) -> None:
    message_id = await pair.send()
    go_stale(pair.here)
    for _ in range(25):
        await pair.later(hours=1)
    transfer = await pair.transfer(message_id)
    assert transfer.state is TransferState.QUEUED
    assert transfer.cause == "register-stale"
    assert pair.out.tries == 0
    assert await seen(pair.here) == [TEN]
    go_stale(pair.here, stale=False)
    await pair.later(minutes=5)
    assert await pair.states(message_id) == ["delivered"]
    assert await seen(pair.here) == [TEN, TWENTY, FORTY]


@pytest.mark.parametrize("phase", ["handed", "answered"])
async def test_a_stale_register_blames_no_silent_peer(pair: Pair, phase: str) -> None:
    pair.out.swallow = True
    message_id = await pair.send()
    await pair.work()
    if phase == "answered":
        await pair.receive(await pair.says(20, message_id))
    go_stale(pair.here)
    await pair.later(hours=24)
    await pair.later(hours=1)
    open_state = {"handed": "pending", "answered": "relayed"}[phase]
    assert await pair.states(message_id) == [open_state]
    assert (await pair.transfer(message_id)).state.value == phase
    go_stale(pair.here, stale=False)
    await pair.later(hours=1)
    assert await pair.states(message_id) == [{"handed": "unreached", "answered": "failed"}[phase]]


async def test_a_peer_that_left_the_register_makes_31_reason_7_at_the_deadline(pair: Pair) -> None:
    message_id = await pair.send()
    del pair.here.peers[PEER]
    await pair.later(hours=24)
    await pair.later(minutes=31)
    assert await pair.states(message_id) == ["unreached"]
    assert await seen(pair.here) == [TEN, (31, (7,), None, "hs91")]
    assert pair.out.tries == 0


@pytest.mark.parametrize("known", [True, False], ids=["known", "gone"])
async def test_what_was_never_tried_until_its_deadline_gets_a_try(pair: Pair, known: bool) -> None:
    message_id = await pair.send()
    if not known:
        del pair.here.peers[PEER]
    pair.clock.at += timedelta(hours=25)
    for _ in range(2):  # a peer that is gone is noted first, and given up then
        await pair.here.relay.send(await pair.transfer(message_id))
    await pair.work()
    assert await seen(pair.here) == [TEN, *([TWENTY, FORTY] if known else [(31, (7,), None, "hs91")])]


async def test_what_an_operator_held_to_the_end_is_not_blamed_on_the_peer(pair: Pair) -> None:
    message_id = await pair.send()
    await ask(pair, QueueAction.HOLD, message_id)
    await pair.later(hours=24)
    assert await seen(pair.here) == [TEN, (31, (12,), None, "hs91")]


async def test_a_peer_that_comes_back_before_the_deadline_gets_the_message(pair: Pair) -> None:
    message_id = await pair.send()
    del pair.here.peers[PEER]
    await pair.later(hours=2)
    pair.here.peers[PEER] = peer_of(PEER)
    await pair.later(hours=1)
    assert await pair.states(message_id) == ["delivered"]


# --------------------------------------------------------------------------- receipts on their way


async def test_receipts_are_tried_for_a_week_and_then_wait_for_an_operator(pair: Pair) -> None:
    pair.back.trouble = DOWN
    await pair.send()
    for _ in range(8 * 24):
        await pair.later(hours=1)
    receipts = await pair.transfers(pair.there)
    assert {t.kind for t in receipts} == {TransferKind.RECEIPT}
    assert {t.state for t in receipts} == {TransferState.FAILED}
    assert await seen(pair.there) == [TEN, TWENTY, FORTY]  # giving up on a receipt is no event of the message
    assert await seen(pair.here) == [TEN, (31, (9,), None, "hs91")]


async def test_every_receipt_on_the_wire_verifies_as_the_receiving_providers(pair: Pair) -> None:
    await pair.send(to=(FATMA, CAN))
    await pair.work()
    for _, content in pair.back.sent:
        check = check_kep_message(BytesSource(content), pair.here.trust, pair.clock.now())
        assert check.passed, check.report.failing_step
        assert check.certificate is not None
        assert check.message is not None
        assert not check.message.is_dispatch


async def test_a_receipt_that_was_given_up_can_be_sent_again_and_is_kept_beside_31(pair: Pair) -> None:
    pair.back.trouble = DOWN
    message_id = await pair.send()
    for _ in range(8 * 24):
        await pair.later(hours=1)
    pair.back.trouble = None
    work = QueueWork(pair.there.store, pair.clock, pair.there.times)
    assert len((await work.change(QueueAction.RETRY, Chosen(message_id=message_id))).changed) == 2
    await pair.work()
    assert await seen(pair.here) == [TEN, (31, (9,), None, "hs91"), TWENTY, FORTY]
    assert await pair.states(message_id) == ["unreached"]


async def test_a_dispatch_that_31_speaks_of_is_never_sent_again(pair: Pair) -> None:
    pair.out.trouble = NotHanded(RelayTrouble.REFUSED)
    message_id = await pair.send()
    await pair.work()
    pair.out.trouble = None
    answer = await ask(pair, QueueAction.RETRY, message_id)
    assert [denial for _, denial in answer.denied] == [QueueDenial.EVIDENCE_STANDS]
    await pair.later(days=1)
    assert pair.out.tries == 1
    assert await untouched(pair.there)


async def test_a_receipt_that_is_refused_fails_at_once_and_says_nothing_of_the_message(pair: Pair) -> None:
    pair.back.trouble = NotHanded(RelayTrouble.REFUSED, "550")
    await pair.send()
    await pair.later(minutes=1)
    receipts = await pair.transfers(pair.there)
    assert [(t.state, t.cause) for t in receipts] == [(TransferState.FAILED, "refused")] * 2
    assert pair.back.tries == 2
    assert await seen(pair.there) == [TEN, TWENTY, FORTY]


async def test_a_receipt_waits_while_the_senders_provider_cannot_store_it(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.here.worker.round()
    pair.here.store._open = False
    await pair.there.work()
    assert {code(answer) for answer in pair.back.answers} == {RefusalCode.STORE_UNAVAILABLE}
    pair.here.store._open = True
    await pair.later(minutes=1)
    assert await seen(pair.here) == [TEN, TWENTY, FORTY]
    assert await pair.states(message_id) == ["delivered"]


def code(answer: Taken | Refused) -> RefusalCode:
    assert isinstance(answer, Refused)
    return answer.refusal.code


# --------------------------------------------------------------------------- what a letter needs


RAW = "From: {}\r\nTo: {}\r\nSubject: {}\r\nMessage-ID: <8@test>\r\nMIME-Version: 1.0\r\n"
TEXT = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {}\r\n\r\n{}\r\n"


@pytest.mark.parametrize(
    ("subject", "encoding", "body", "needs"),
    [
        ("Ihtar", "7bit", "Sayin", (False, False)),
        ("Ihtar", "8bit", "Sayın", (True, False)),
        ("İhtar", "8bit", "Sayın", (True, True)),
    ],
    ids=["7bit", "8bit", "utf8-header"],
)
async def test_a_letter_says_which_extensions_it_needs_and_goes_unconverted(
    pair: Pair, subject: str, encoding: str, body: str, needs: tuple[bool, bool]
) -> None:
    unsigned = (RAW.format(AYSE, FATMA, subject) + TEXT.format(encoding, body)).encode()
    message = await signed(unsigned, ayse())
    assert isinstance(await pair.here.send(message, to=(FATMA,)), Accepted)
    await pair.work()
    ((letter, content),) = pair.out.sent
    assert (letter.needs_8bit, letter.needs_utf8) == needs
    assert message in content
    assert await seen(pair.here) == [TEN, TWENTY, FORTY]
    assert not any(receipt.needs_8bit or receipt.needs_utf8 for receipt, _ in pair.back.sent)
