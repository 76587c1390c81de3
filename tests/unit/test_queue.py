"""The operator's hand on the queue: what may be held, released, tried now, sent again; and what never is."""

from dataclasses import replace
from datetime import timedelta

import pytest

from kephs.domain.lifecycle import TransferState
from kephs.domain.messages import Transfer, TransferKind
from kephs.domain.relay import NotHanded, RelayTrouble
from kephs.usecases.relay import queue as queue_module
from kephs.usecases.relay.queue import Chosen, NoSuchTransferError, QueueAction, QueueDenial, QueueWork
from tests.support.pair import Pair, new_pair
from tests.support.world import CAN, FATMA, PEER

HOLD, RELEASE, RETRY = QueueAction.HOLD, QueueAction.RELEASE, QueueAction.RETRY
DOWN = NotHanded(RelayTrouble.NO_CONNECTION)


@pytest.fixture
async def pair() -> Pair:
    return await new_pair()


def queue_of(pair: Pair) -> QueueWork:
    return QueueWork(pair.here.store, pair.here.clock, pair.here.relay.times)


def receipts_of(pair: Pair) -> QueueWork:
    return QueueWork(pair.there.store, pair.there.clock, pair.there.relay.times)


async def stuck(pair: Pair, **settings) -> Transfer:
    """Return a transfer of hs91's that was tried once in vain."""
    pair.out.trouble = DOWN
    message_id = await pair.send(**settings)
    await pair.work()
    return await pair.transfer(message_id)


async def test_what_waits_is_listed_with_counts_oldest_first_and_what_is_done_is_not(pair: Pair):
    first = await stuck(pair)
    second = await stuck(pair, message_id="<second@test>")
    view = await queue_of(pair).view(peer=None, state=None, limit=10)
    assert view.counts == {(PEER, TransferState.QUEUED): 2}
    assert [one.transfer_id for one in view.transfers] == [first.transfer_id, second.transfer_id]
    assert view.transfers[0].cause == RelayTrouble.NO_CONNECTION
    assert len((await queue_of(pair).view(peer=None, state=None, limit=1)).transfers) == 1
    nobody = await queue_of(pair).view(peer="hs77.kep.tr", state=None, limit=10)
    assert (nobody.counts, nobody.transfers) == ({}, ())
    pair.out.trouble = None
    await pair.later(hours=1)
    done = await queue_of(pair).view(peer=PEER, state=None, limit=10)
    assert done.transfers == ()
    assert done.counts == {(PEER, TransferState.DONE): 2}
    assert len((await queue_of(pair).view(peer=PEER, state=TransferState.DONE, limit=10)).transfers) == 2


async def test_a_transfer_is_shown_with_its_recipients_and_evidence(pair: Pair):
    pair.out.trouble = DOWN
    message_id = await pair.send(to=(FATMA, CAN))
    transfer = await pair.transfer(message_id)
    view = await queue_of(pair).show(transfer.transfer_id)
    assert [one.address for one in view.deliveries] == [FATMA, CAN]
    assert [one.kind.value for one in view.evidence] == [10]
    with pytest.raises(NoSuchTransferError):
        await queue_of(pair).show("nobody")


async def test_what_is_held_is_not_tried_until_it_is_released(pair: Pair):
    transfer = await stuck(pair)
    done = await queue_of(pair).change(HOLD, Chosen(ids=(transfer.transfer_id,)))
    assert [(one.state, one.next_at) for one in done.changed] == [(TransferState.HELD, transfer.deadline)]
    pair.out.trouble = None
    tries = pair.out.tries
    await pair.later(hours=20)
    assert pair.out.tries == tries
    released = await queue_of(pair).change(RELEASE, Chosen(peer=PEER))
    assert [one.next_at for one in released.changed] == [pair.clock.at]
    await pair.work()
    assert await pair.states(transfer.message_id) == ["delivered"]


async def test_the_deadline_of_what_is_held_runs_on_and_ends_in_31(pair: Pair):
    transfer = await stuck(pair)
    await queue_of(pair).change(HOLD, Chosen())
    await pair.later(hours=25)
    assert await pair.states(transfer.message_id) == ["unreached"]
    assert (await pair.transfer(transfer.message_id)).state is TransferState.FAILED


async def test_retry_tries_at_once_what_waits_for_its_next_try(pair: Pair):
    transfer = await stuck(pair)
    assert transfer.next_at is not None
    assert transfer.next_at > pair.clock.at
    pair.out.trouble = None
    done = await queue_of(pair).change(RETRY, Chosen(message_id=transfer.message_id))
    assert [(one.next_at, one.attempts, one.deadline) for one in done.changed] == [
        (pair.clock.at, transfer.attempts, transfer.deadline)
    ]
    await pair.work()
    assert await pair.states(transfer.message_id) == ["delivered"]


async def test_a_failed_dispatch_is_never_sent_again_for_evidence_31_stands(pair: Pair):
    transfer = await stuck(pair)
    await pair.later(hours=25)
    pair.out.trouble = None
    done = await queue_of(pair).change(RETRY, Chosen(ids=(transfer.transfer_id,)))
    assert done.denied == ((transfer.transfer_id, QueueDenial.EVIDENCE_STANDS),)
    assert (await queue_of(pair).change(RETRY, Chosen())).changed == ()
    tries = pair.out.tries
    await pair.later(days=1)
    assert pair.out.tries == tries
    assert await pair.states(transfer.message_id) == ["unreached"]


async def test_a_failed_receipt_is_sent_again_with_a_new_deadline(pair: Pair):
    pair.back.trouble = DOWN
    message_id = await pair.send()
    await pair.work()
    await pair.later(days=8)
    failed = await pair.transfers(pair.there)
    assert {(one.kind, one.state) for one in failed} == {(TransferKind.RECEIPT, TransferState.FAILED)}
    pair.back.trouble = None
    done = await receipts_of(pair).change(RETRY, Chosen())
    assert {one.transfer_id for one in done.changed} == {one.transfer_id for one in failed}
    assert {one.deadline for one in done.changed} == {pair.clock.at + timedelta(days=7)}
    assert {one.attempts for one in done.changed} == {0}
    await pair.work()
    assert {one.state for one in await pair.transfers(pair.there)} == {TransferState.DONE}
    assert {entry.kind.value for entry in await pair.here.evidence()} >= {20, 40}, message_id


@pytest.mark.parametrize(
    ("action", "prepare", "denial"),
    [
        (RELEASE, None, QueueDenial.NOT_HELD),
        (HOLD, HOLD, QueueDenial.NOT_QUEUED),
        (RETRY, HOLD, QueueDenial.HELD),
    ],
    ids=["release-queued", "hold-held", "retry-held"],
)
async def test_what_a_state_does_not_allow_is_denied_with_its_reason(pair: Pair, action, prepare, denial):
    transfer = await stuck(pair)
    if prepare is not None:
        await queue_of(pair).change(prepare, Chosen())
    before = await pair.transfer(transfer.message_id)
    done = await queue_of(pair).change(action, Chosen(ids=(transfer.transfer_id, "nobody")))
    assert done.changed == ()
    assert done.denied == ((transfer.transfer_id, denial), ("nobody", QueueDenial.NO_SUCH_TRANSFER))
    assert await pair.transfer(transfer.message_id) == before


async def test_what_is_handed_over_has_nothing_to_send(pair: Pair):
    pair.out.swallow = True
    message_id = await pair.send()
    await pair.work()
    transfer = await pair.transfer(message_id)
    assert transfer.state is TransferState.HANDED
    done = await queue_of(pair).change(RETRY, Chosen(ids=(transfer.transfer_id,)))
    assert done.denied == ((transfer.transfer_id, QueueDenial.NOTHING_TO_SEND),)


async def test_a_message_with_nothing_on_its_way_is_named(pair: Pair):
    with pytest.raises(NoSuchTransferError):
        await queue_of(pair).change(HOLD, Chosen(message_id="nobody"))


async def test_all_means_every_page(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queue_module, "_PAGE", 2)
    first = await stuck(pair)

    def more(tx):
        for number in range(5):
            copy = replace(first, transfer_id=f"zz{number}", peer=f"hs8{number}.kep.tr")
            assert tx.transfers.add(copy)

    await pair.here.store.write(more)
    done = await queue_of(pair).change(HOLD, Chosen())
    assert len(done.changed) == 6
    assert len((await queue_of(pair).change(RELEASE, Chosen(peer="hs83.kep.tr"))).changed) == 1
