"""The flow scenarios of TR 103 071 (rem-formats §8), store and forward; EVF ids: `test_two_providers_evidence`.

Where a rule of ours makes a case impossible, its test shows what happens instead and names the rule.
Every evidence is verified as its issuer's own (`tests.support.pair.seen`).
"""

from datetime import timedelta

import pytest

from directory.accounts import AccountState
from kephs.domain.lifecycle import MessageState
from kephs.domain.mailboxes import FolderRole
from kephs.domain.policy import Limits
from kephs.domain.refusals import RefusalCode
from kephs.domain.relay import NotHanded, RelayTrouble
from kephs.usecases.submission.results import Refused
from tests.support.pair import (
    DENIZ,
    Pair,
    Seen,
    Wire,
    arrive_from,
    dispatch_of,
    new_pair,
    peer_of,
    registered,
    seen,
    transaction_of,
    untouched,
    with_original,
)
from tests.support.pki import NOW, ayse
from tests.support.world import AYSE, CAN, DOMAIN, FATMA, MEHMET, PEER, World, compose, signed

TEN: Seen = (10, (), None, "hs91")
TWENTY: Seen = (20, (), None, "hs92")
FORTY: Seen = (40, (), 1, "hs92")
UNKNOWN = f"yok.kimse@{PEER}"


@pytest.fixture
async def pair() -> Pair:
    return await new_pair()


async def deliller(pair: Pair) -> int:
    return await pair.here.count(AYSE, FolderRole.EVIDENCE)


async def flip(content: bytes) -> bytes:
    return content.replace(b"bildiririz", b"bildirmeyi")


async def test_FLOW_1_four_recipients_at_three_providers_all_well() -> None:
    """The fourth of the public scenario is outside KEP: KEP-MS-01 refuses that; ours is at home."""
    pair = await new_pair(third=True)
    assert pair.third is not None
    message_id = await pair.send(to=(FATMA, DENIZ), cc=(CAN, MEHMET))
    await pair.work()
    assert await pair.states(message_id) == ["delivered"] * 4
    second = [(20, (), 1, "hs92"), (20, (), 3, "hs92"), (40, (), 1, "hs92"), (40, (), 3, "hs92")]
    third = [(20, (), 2, "hs93"), (40, (), 2, "hs93")]
    assert await seen(pair.there) == [TEN, *second]
    assert await seen(pair.third) == [TEN, *third]
    assert sorted(await seen(pair.here)) == sorted([TEN, (40, (), 4, "hs91"), *second, *third])
    assert await deliller(pair) == 8
    assert len(pair.out.sent) == 2
    assert (await pair.message(message_id)).state is MessageState.COMPLETED


async def test_FLOW_1_a_recipient_outside_KEP_refuses_the_whole_message_by_rule_KEP_MS_01(pair: Pair) -> None:
    to = (FATMA, "biri@example.org")
    answer = await pair.here.send(await signed(compose(to=to), ayse()), to=to)
    assert isinstance(answer, Refused)
    await pair.work()
    assert await seen(pair.here) == [(11, (5,), None, "hs91")]
    assert await untouched(pair.there)


@pytest.mark.parametrize(
    ("code", "reason"), [("RA02", 1), ("RA03", 2), ("RA05", 5)], ids=["RA02", "RA03", "RA05"]
)
async def test_FLOW_2_a_submission_that_is_refused_reaches_no_peer(
    pair: Pair, code: str, reason: int
) -> None:
    message = await signed(compose(to=(FATMA,)), ayse())
    if code == "RA02":
        message = b"From: x\r\n\r\n"
    elif code == "RA03":
        pair.here.scanner.found = "Eicar-Test"
    else:
        await pair.here.accounts.block(AYSE)
    assert isinstance(await pair.here.send(message, to=(FATMA,)), Refused)
    await pair.later(days=2)
    assert await seen(pair.here) == [(11, (reason,), None, "hs91")]
    assert await untouched(pair.there)
    assert pair.out.tries == 0
    assert await deliller(pair) == 1


@pytest.mark.parametrize(("code", "reason"), [("RB02", 1), ("RB03", 2), ("RB05", 22), ("RB06", 5)], ids=str)
async def test_FLOW_3_a_rejected_relay_is_the_peers_21_and_the_sender_adds_no_31(
    code: str, reason: int
) -> None:
    pair = await new_pair(there_limits=Limits(max_elsewhere=10) if code == "RB06" else None)
    if code == "RB02":

        async def exchange(content: bytes) -> bytes:
            return await with_original(pair.here, content, compose(subject="x"))

        pair.out.tamper = exchange
    elif code == "RB03":
        pair.there.scanner.found = "Eicar-Test"
    elif code == "RB05":
        ended = registered(transaction_of(DOMAIN), end=NOW - timedelta(hours=1))
        pair.there.peers[DOMAIN] = peer_of(DOMAIN, certificates=(ended,))
    message_id = await pair.send(to=(FATMA, CAN))
    await pair.later(seconds=1)
    await pair.later(days=2)
    assert await seen(pair.here) == [TEN, (21, (reason,), None, "hs92")]
    assert await pair.states(message_id) == ["rejected", "rejected"]
    assert await deliller(pair) == 2


async def test_FLOW_3_RB04_a_broken_seal_is_refused_without_evidence_and_makes_31(pair: Pair) -> None:
    pair.out.tamper = flip
    message_id = await pair.send(to=(FATMA, CAN))
    await pair.later(seconds=1)
    assert await untouched(pair.there)
    assert await seen(pair.here) == [TEN, (31, (6,), None, "hs91")]
    assert await pair.states(message_id) == ["unreached", "unreached"]


async def test_FLOW_4_RB07_a_peer_that_puts_off_for_a_day_makes_31_reason_6(pair: Pair) -> None:
    pair.there.tsa.down = True
    message_id = await pair.send()
    for _ in range(25):
        await pair.later(hours=1)
    assert await seen(pair.here) == [TEN, (31, (6,), None, "hs91")]
    assert await pair.states(message_id) == ["unreached"]
    assert await untouched(pair.there)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [(RelayTrouble.WRONG_CERTIFICATE, 7), (RelayTrouble.NO_CONNECTION, 8)],
    ids=["RB08", "RB09"],
)
async def test_FLOW_4_one_peer_out_of_reach_holds_up_nobody_else(trouble: RelayTrouble, reason: int) -> None:
    pair = await new_pair(third=True)
    assert pair.third is not None
    hand_over = pair.out.hand_over

    async def only_third(peer, letter):
        return NotHanded(trouble) if peer.domain == PEER else await hand_over(peer, letter)

    pair.out.hand_over = only_third  # type: ignore[method-assign]
    message_id = await pair.send(to=(FATMA, DENIZ, CAN))
    await pair.work()
    assert await pair.states(message_id) == ["pending", "delivered", "pending"]
    for _ in range(25):
        await pair.later(hours=1)
    assert await pair.states(message_id) == ["unreached", "delivered", "unreached"]
    # hs92 serves two of three: each of them gets a 31 with their number (KEP-EV-02)
    assert [e for e in await seen(pair.here) if e[0] == 31] == [
        (31, (reason,), 1, "hs91"), (31, (reason,), 3, "hs91"),
    ]  # fmt: skip
    assert (await pair.message(message_id)).state is MessageState.COMPLETED
    assert await deliller(pair) == 5


async def test_FLOW_5_an_unregistered_recipient_and_a_silent_peer() -> None:
    pair = await new_pair(third=True)
    assert pair.third is not None
    pair.out.others = pair.out.others | {DENIZ.partition("@")[2]: _deaf(pair.third)}
    message_id = await pair.send(to=(UNKNOWN, DENIZ))
    await pair.work()
    assert await pair.states(message_id) == ["rejected", "pending"]
    await pair.later(hours=24)
    assert await pair.states(message_id) == ["rejected", "unreached"]
    assert await seen(pair.here) == [TEN, (21, (10,), 1, "hs92"), (31, (9,), 2, "hs91")]
    assert await deliller(pair) == 3


def _deaf(world: World) -> World:
    """Let a provider take what it gets and never send a receipt."""
    world.courier.trouble = NotHanded(RelayTrouble.NO_CONNECTION)  # type: ignore[attr-defined]
    assert isinstance(world.courier, Wire)
    return world


@pytest.mark.parametrize(("state", "reason"), [(AccountState.CLOSED, 10), (AccountState.BLOCKED, 5)])
async def test_FLOW_6_an_account_that_closes_between_20_and_40_makes_41(
    pair: Pair, state: AccountState, reason: int
) -> None:
    message_id = await pair.send()
    await pair.here.worker.round()
    account, now = await pair.there.accounts.find(FATMA), pair.clock.now()
    await pair.there.store.write(lambda tx: tx.accounts.set_state(account.account_id, state, now))
    await pair.work()
    assert await seen(pair.here) == [TEN, TWENTY, (41, (reason,), 1, "hs92")]
    assert await pair.states(message_id) == ["failed"]
    assert await pair.there.count(FATMA, FolderRole.INBOX) == 0
    assert await deliller(pair) == 3


async def test_FLOW_6_silence_after_20_makes_41_reason_9_by_the_senders_provider(pair: Pair) -> None:
    hand_over = pair.back.hand_over

    async def relay_receipts_alone(peer, letter):
        if letter.recipients == (pair.here.issuer.address,):
            return await hand_over(peer, letter)
        return NotHanded(RelayTrouble.NO_CONNECTION)

    pair.back.hand_over = relay_receipts_alone  # type: ignore[method-assign]
    message_id = await pair.send()
    await pair.work()
    assert await pair.states(message_id) == ["relayed"]
    await pair.later(hours=24)
    silence: Seen = (41, (9,), 1, "hs91")
    assert await seen(pair.here) == [TEN, TWENTY, silence]
    assert await pair.states(message_id) == ["failed"]
    pair.back.hand_over = hand_over  # type: ignore[method-assign]
    await pair.later(hours=1)
    assert await seen(pair.here) == [TEN, TWENTY, silence, FORTY]  # late: beside it, and both are shown
    assert await pair.states(message_id) == ["failed"]
    assert await deliller(pair) == 4


async def test_FLOW_7_21_beside_a_success(pair: Pair) -> None:
    message_id = await pair.send(to=(UNKNOWN, FATMA))
    await pair.work()
    assert await seen(pair.there) == [TEN, (21, (10,), 1, "hs92"), (20, (), 2, "hs92"), (40, (), 2, "hs92")]
    assert sorted(await seen(pair.here)) == sorted(
        [TEN, (21, (10,), 1, "hs92"), (20, (), 2, "hs92"), (40, (), 2, "hs92")]
    )
    assert await pair.states(message_id) == ["rejected", "delivered"]
    assert await deliller(pair) == 4


DSN = b"\r\n".join((
    b"From: MAILER-DAEMON@example.org", b"To: " + AYSE.encode(), b"Auto-Submitted: auto-replied",
    b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"', b"MIME-Version: 1.0", b"",
    b"--b", b"Content-Type: message/delivery-status", b"", b"Final-Recipient: rfc822; " + FATMA.encode(),
    b"Action: failed", b"Status: 5.1.1", b"", b"--b--", b"",
))  # fmt: skip


async def test_FLOW_8_a_DSN_makes_no_evidence_and_moves_nothing(pair: Pair) -> None:
    pair.out.swallow = True
    message_id = await pair.send()
    await pair.work()
    for sender in ("", "MAILER-DAEMON@example.org"):
        answer = await arrive_from(pair.here, sender, (AYSE,), DSN)
        assert isinstance(answer, Refused)
        assert answer.refusal.code is RefusalCode.NOT_A_KEP_MESSAGE
    assert await seen(pair.here) == [TEN]
    assert await pair.states(message_id) == ["pending"]
    assert await deliller(pair) == 1


async def test_FLOW_8_null_sender_and_automatic_dispatches_make_no_evidence(pair: Pair) -> None:
    content = await dispatch_of(pair.here, compose(to=(FATMA,)))
    for sender, spoiled in (("", content), (AYSE, b"Auto-Submitted: auto-replied\r\n" + content)):
        answer = await pair.there_gets(spoiled, sender=sender)
        assert isinstance(answer, Refused)
        assert answer.refusal.code is RefusalCode.MAIL_LOOP
    assert await untouched(pair.there)
