"""The main job between two providers, in memory: evidence of both, states, late and lost things."""

from datetime import timedelta

import pytest

from evidence.model.records import EvidenceKind
from kephs.domain.lifecycle import MessageState, TransferState
from kephs.domain.mailboxes import FolderRole
from kephs.domain.relay import NotHanded, RelayTrouble
from kephs.domain.relay_times import RelayTimes
from kephs.usecases.submission.results import Taken
from tests.support.pair import Pair, Seen, new_pair, seen
from tests.support.pki import mehmet
from tests.support.world import AYSE, CAN, FATMA, MEHMET, World, compose, signed

TEN: Seen = (10, (), None, "hs91")
TWENTY: Seen = (20, (), None, "hs92")
FORTY: Seen = (40, (), 1, "hs92")
DOWN = NotHanded(RelayTrouble.NO_CONNECTION)


@pytest.fixture
async def pair() -> Pair:
    return await new_pair()


async def deliller(pair: Pair) -> int:
    """Return how many receipts Ayşe has."""
    return await pair.here.count(AYSE, FolderRole.EVIDENCE)


async def inbox(world: World, address: str) -> int:
    return await world.count(address, FolderRole.INBOX)


# --------------------------------------------------------------------------- all goes well


async def test_a_notice_crosses_and_both_providers_prove_it(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.work()
    assert await pair.states(message_id) == ["delivered"]
    assert await seen(pair.here) == [TEN, TWENTY, FORTY]
    assert await seen(pair.there) == [TEN, TWENTY, FORTY]
    assert await inbox(pair.there, FATMA) == 1
    assert await deliller(pair) == 3
    for world in (pair.here, pair.there):
        assert (await pair.message(message_id, world)).state is MessageState.COMPLETED


async def test_what_lies_in_the_recipients_mailbox_is_what_the_sender_sealed_byte_for_byte(
    pair: Pair,
) -> None:
    message_id = await pair.send()
    await pair.work()
    ((letter, content),) = pair.out.sent
    assert letter.sender == pair.here.issuer.address
    assert letter.recipients == (FATMA,)

    def look(tx):
        account = tx.accounts.by_address(FATMA)
        folder = tx.mailboxes.by_role(account.account_id, FolderRole.INBOX).folder_id
        (item,) = tx.mailboxes.items(folder, [s.uid for s in tx.mailboxes.summaries(folder)])
        return tx.blobs.get(item.sha256)

    source = pair.there.blobs.open(await pair.there.store.read(look))
    assert source.read(0, source.size) == content
    assert (await pair.message(message_id, pair.there)).dispatch is not None


async def test_reading_at_the_peer_brings_60_to_the_sender(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.work()
    await pair.read(FATMA, message_id)
    await pair.work()
    assert await pair.states(message_id) == ["read"]
    assert (await seen(pair.here))[-1] == (60, (), 1, "hs92")
    last = (await pair.here.evidence())[-1]
    assert last.recipient_authentication is not None
    assert last.recipient_authentication.person == "Fatma Kaya"
    assert await deliller(pair) == 4


async def test_receipts_never_cause_receipts(pair: Pair) -> None:
    message_id = await pair.send(to=(FATMA, CAN))
    await pair.work()
    await pair.read(FATMA, message_id)
    await pair.read(CAN, message_id)
    await pair.later(days=9)
    assert len(pair.out.sent) == 1  # the dispatch
    assert len(pair.back.sent) == 5  # 20, two 40, two 60
    assert {letter.sender for letter, _ in pair.back.sent} == {""}
    kinds = [int(record.kind) for record in await pair.here.evidence()]
    assert kinds == [10, 20, 40, 40, 60, 60]
    assert await deliller(pair) == 6


async def test_relay_receipts_go_to_the_service_address_and_the_others_to_the_sender(pair: Pair) -> None:
    await pair.send()
    await pair.work()
    assert [letter.recipients for letter, _ in pair.back.sent] == [(pair.here.issuer.address,), (AYSE,)]


async def test_our_own_recipients_do_not_wait_for_the_peers(pair: Pair) -> None:
    pair.out.trouble = DOWN
    message_id = await pair.send(to=(MEHMET, FATMA))
    await pair.work()
    assert await pair.states(message_id) == ["delivered", "pending"]
    assert await seen(pair.here) == [TEN, (40, (), 1, "hs91")]
    assert (await pair.message(message_id)).state is MessageState.ACCEPTED
    pair.out.trouble = None
    await pair.later(minutes=1)
    assert await pair.states(message_id) == ["delivered", "delivered"]
    # hs92 serves one of two recipients only: its 20 names her
    assert (await seen(pair.here))[2:] == [(20, (), 2, "hs92"), (40, (), 2, "hs92")]
    assert (await pair.message(message_id)).state is MessageState.COMPLETED


async def test_both_recipients_of_one_peer_share_one_20_and_one_hand_over(pair: Pair) -> None:
    message_id = await pair.send(to=(FATMA, CAN))
    await pair.work()
    assert await pair.states(message_id) == ["delivered", "delivered"]
    assert await seen(pair.there) == [TEN, TWENTY, FORTY, (40, (), 2, "hs92")]
    assert len(pair.out.sent) == 1
    assert await inbox(pair.there, FATMA) == await inbox(pair.there, CAN) == 1


async def test_both_directions_work_at_once(pair: Pair) -> None:
    first = await pair.send()
    back = await signed(compose(sender=CAN, to=(AYSE,), message_id="<2@test>"), mehmet())
    answer = await pair.there.send(back, sender=CAN, to=(AYSE,))
    await pair.work()
    assert await pair.states(first) == ["delivered"]
    (delivery,) = await pair.deliveries(answer.message_id, pair.there)
    assert delivery.state.value == "delivered"
    assert await inbox(pair.here, AYSE) == 1
    assert await pair.there.count(CAN, FolderRole.EVIDENCE) == 3
    assert sorted(await seen(pair.here)) == sorted(
        [TEN, TWENTY, FORTY, (10, (), None, "hs92"), (20, (), None, "hs91"), (40, (), 1, "hs91")]
    )


# --------------------------------------------------------------------------- lost and repeated


@pytest.mark.parametrize("lost", [1, 3])
async def test_a_lost_250_to_a_dispatch_makes_no_second_copy_and_no_second_20(pair: Pair, lost: int) -> None:
    pair.out.lose_replies = lost
    pair.back.trouble = DOWN  # the peer's evidence cannot tell us either
    message_id = await pair.send()
    for _ in range(lost + 1):
        await pair.later(minutes=2)
    assert len(pair.out.sent) == lost + 1
    assert len({content for _, content in pair.out.sent}) == 1
    answers = set(pair.out.answers)
    assert len(answers) == 1  # the first answer again, with its evidence id
    assert await seen(pair.there) == [TEN, TWENTY, FORTY]
    assert await inbox(pair.there, FATMA) == 1
    (_, twenty, _) = await pair.there.evidence()
    assert answers == {Taken(twenty.evidence_id, message_id)}


async def test_a_lost_250_to_a_receipt_files_it_once(pair: Pair) -> None:
    pair.back.lose_replies = 2
    message_id = await pair.send()
    await pair.work()
    await pair.later(minutes=5)
    assert len(pair.back.sent) == 4
    assert await seen(pair.here) == [TEN, TWENTY, FORTY]
    assert await deliller(pair) == 3
    assert await pair.states(message_id) == ["delivered"]


async def test_the_peers_evidence_may_overtake_its_own_250(pair: Pair) -> None:
    async def peer_works() -> None:
        pair.out.before_reply = None
        while await pair.there.worker.round():
            pass

    pair.out.before_reply = peer_works
    message_id = await pair.send()
    await pair.here.worker.round()
    assert await seen(pair.here) == [TEN, TWENTY, FORTY]
    assert (await pair.transfer(message_id)).state is TransferState.DONE
    await pair.later(days=3)
    assert await pair.states(message_id) == ["delivered"]
    assert len(pair.out.sent) == 1


async def test_evidence_instead_of_a_lost_250_stops_the_tries(pair: Pair) -> None:
    pair.out.lose_replies = 100
    message_id = await pair.send()
    await pair.work()
    assert (await pair.transfer(message_id)).state is TransferState.DONE
    await pair.later(days=3)
    assert len(pair.out.sent) == 1
    assert await pair.states(message_id) == ["delivered"]


async def test_20_alone_moves_the_wait_on_to_40(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.here.worker.round()  # handed over; the peer has sealed 20
    await pair.receive(await pair.says(20, message_id))
    transfer = await pair.transfer(message_id)
    assert transfer.state is TransferState.ANSWERED
    assert transfer.deadline == pair.clock.now() + timedelta(hours=24)
    assert await pair.states(message_id) == ["relayed"]


# --------------------------------------------------------------------------- deadlines


async def test_tries_end_at_the_deadline_with_31_exactly_once(pair: Pair) -> None:
    pair.out.trouble = DOWN
    message_id = await pair.send()
    await pair.work()
    for _ in range(25 * 6):
        await pair.later(minutes=10)
    assert pair.out.tries > 40
    assert await pair.states(message_id) == ["unreached"]
    assert await seen(pair.here) == [TEN, (31, (8,), None, "hs91")]
    assert await deliller(pair) == 2
    transfer = await pair.transfer(message_id)
    assert transfer.state is TransferState.FAILED
    assert (await pair.message(message_id)).state is MessageState.COMPLETED
    tries, pair.out.trouble = pair.out.tries, None
    await pair.later(days=2)
    assert pair.out.tries == tries
    assert await seen(pair.there) == []


async def test_before_the_deadline_nothing_is_given_up(pair: Pair) -> None:
    pair.out.trouble = DOWN
    message_id = await pair.send()
    await pair.work()
    await pair.later(hours=23, minutes=59)
    assert await pair.states(message_id) == ["pending"]
    assert await seen(pair.here) == [TEN]
    pair.out.trouble = None
    await pair.later(seconds=59)
    await pair.later(seconds=2)
    assert await seen(pair.here) in ([TEN, TWENTY, FORTY], [TEN, (31, (8,), None, "hs91")])


async def test_nobody_is_called_unreachable_who_was_never_tried(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.later(hours=30)  # we were down
    assert pair.out.tries == 1
    assert await pair.states(message_id) == ["delivered"]
    assert await seen(pair.here) == [TEN, TWENTY, FORTY]


async def test_after_a_long_stand_still_one_try_decides(pair: Pair) -> None:
    pair.out.trouble = DOWN
    message_id = await pair.send()
    await pair.later(hours=30)
    await pair.later(hours=1)
    assert pair.out.tries >= 1
    assert await pair.states(message_id) == ["unreached"]
    assert await seen(pair.here) == [TEN, (31, (8,), None, "hs91")]


async def test_the_deadline_is_a_setting() -> None:
    pair = await new_pair(RelayTimes(give_up=timedelta(seconds=30), first_retry=timedelta(seconds=1)))
    pair.out.trouble = DOWN
    message_id = await pair.send()
    await pair.work()
    for _ in range(31):
        await pair.later(seconds=1)
    assert await pair.states(message_id) == ["unreached"]
    assert 4 <= pair.out.tries <= 8


async def test_a_peer_that_takes_the_message_and_never_speaks_makes_31_reason_9(pair: Pair) -> None:
    pair.out.swallow = True
    message_id = await pair.send()
    await pair.work()
    await pair.later(hours=23)
    assert await pair.states(message_id) == ["pending"]
    await pair.later(hours=1)
    assert await pair.states(message_id) == ["unreached"]
    assert await seen(pair.here) == [TEN, (31, (9,), None, "hs91")]
    await pair.later(days=2)
    assert len(await pair.here.evidence()) == 2
    assert len(pair.out.sent) == 1


async def test_40_after_31_is_kept_beside_it_and_changes_no_state(pair: Pair) -> None:
    pair.back.trouble = DOWN
    message_id = await pair.send()
    await pair.work()
    await pair.later(hours=24)
    assert await pair.states(message_id) == ["unreached"]
    pair.back.trouble = None
    await pair.later(hours=1)
    assert await pair.states(message_id) == ["unreached"]
    assert await seen(pair.here) == [TEN, (31, (9,), None, "hs91"), TWENTY, FORTY]
    assert await deliller(pair) == 4
    (delivery,) = await pair.deliveries(message_id)
    decided = (await pair.here.evidence())[1]
    assert delivery.evidence_id == decided.evidence_id
    assert decided.kind is EvidenceKind.RELAY_FAILURE
