"""Each evidence with its causes, by the public ids of TR 103 071 (rem-formats §8): EVF, OF and COF.

Where a rule of ours makes a case impossible, its test shows what happens instead and names the rule.
Every evidence is verified as its issuer's own (`tests.support.pair.seen`).
"""

from datetime import timedelta
from typing import Any

import pytest

from kephs.domain.lifecycle import MessageState, TransferState
from kephs.domain.mailboxes import FolderRole
from kephs.domain.refusals import RefusalCode
from kephs.domain.relay import TROUBLES, NotHanded, RelayTrouble
from kephs.usecases.submission.results import Accepted, Refused
from tests.support.pair import (
    Pair,
    Seen,
    new_pair,
    peer_of,
    registered,
    seen,
    transaction_of,
    untouched,
    with_original,
)
from tests.support.pki import AYSE_TCKN, NOW, ayse, shared_pki
from tests.support.world import AYSE, CAN, DOMAIN, FATMA, MEHMET, PEER, World, compose, new_world, signed

TEN: Seen = (10, (), None, "hs91")
TWENTY: Seen = (20, (), None, "hs92")
FORTY: Seen = (40, (), 1, "hs92")
UNKNOWN = f"yok.kimse@{PEER}"


@pytest.fixture
async def pair() -> Pair:
    return await new_pair()


@pytest.fixture
async def world() -> World:
    return await new_world()


async def deliller(pair: Pair) -> int:
    return await pair.here.count(AYSE, FolderRole.EVIDENCE)


def with_attachment(to: str, name: str) -> bytes:
    """Return a message with an attachment of a kind that others refuse."""
    body = (
        f'Content-Type: application/octet-stream; name="{name}"\r\nContent-Transfer-Encoding: base64\r\n'
        f'Content-Disposition: attachment; filename="{name}"\r\n\r\nTVqQAAMAAAAEAAAA\r\n'
    )
    head = compose(to=(to,)).partition(b"Content-Type")[0].replace(b"MIME-Version: 1.0\r\n", b"")
    return head + b"MIME-Version: 1.0\r\n" + body.encode()


# --------------------------------------------------------------------------- EVF-SUBACC


async def test_EVF_SUBACC_001_accepted_makes_10_at_once(world: World) -> None:
    answer = await world.send(await signed(compose(), ayse()))
    assert isinstance(answer, Accepted)
    assert await seen(world) == [TEN]


@pytest.mark.parametrize(
    ("case", "reason", "code"),
    [
        ("002_format", 1, RefusalCode.NOT_MIME),
        ("003_malware", 2, RefusalCode.MALWARE),
        ("005_signature", 3, RefusalCode.SIGNATURE_BROKEN),
        ("006_certificate", 4, RefusalCode.CERTIFICATE_EXPIRED),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_EVF_SUBACC_refused_makes_11_with_the_reason(
    world: World, case: str, reason: int, code: RefusalCode
) -> None:
    message = await signed(compose(), ayse())
    if case == "002_format":
        message = b"hello\r\n"
    elif case == "003_malware":
        world.scanner.found = "Eicar-Test"
    elif case == "005_signature":
        message = message.replace(b"bildiririz", b"bildirmeyi")
    else:
        ended: dict[str, Any] = {"not_before": NOW - timedelta(days=9), "not_after": NOW - timedelta(days=1)}
        message = await signed(compose(), shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN, **ended))
    answer = await world.send(message)
    assert isinstance(answer, Refused)
    assert answer.refusal.code is code
    assert await seen(world) == [(11, (reason,), None, "hs91")]
    await world.work()
    assert await world.count(AYSE, FolderRole.EVIDENCE) == 1


async def test_EVF_SUBACC_004_any_attachment_is_accepted_by_rule_KEP_MS_05(world: World) -> None:
    answer = await world.send(await signed(with_attachment(MEHMET, "kur.exe"), ayse()))
    assert isinstance(answer, Accepted)
    await world.work()
    assert await seen(world) == [TEN, (40, (), 1, "hs91")]


# --------------------------------------------------------------------------- EVF-RELACC


async def test_EVF_RELACC_001_taken_over_makes_20(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.here.worker.round()
    assert await seen(pair.there) == [TEN, TWENTY]
    await pair.work()
    assert await seen(pair.here) == [TEN, TWENTY, FORTY]
    assert await pair.states(message_id) == ["delivered"]


async def assert_21(pair: Pair, message_id: str, reason: int, code: RefusalCode) -> None:
    """Assert that hs92 refused with 21, that hs91 passes it on, and that neither says more (no 31)."""
    rejected: Seen = (21, (reason,), None, "hs92")
    assert await seen(pair.there) == [rejected]
    assert await seen(pair.here) == [TEN, rejected]
    assert (await pair.there.evidence())[0].reasons[0].details.startswith(f"{code.value}: ")
    assert await pair.states(message_id) == ["rejected"]
    assert await pair.there.count(FATMA, FolderRole.INBOX) == 0
    assert await deliller(pair) == 2
    await pair.later(days=2)
    assert len(await pair.here.evidence()) == 2
    assert (await pair.message(message_id)).state is MessageState.COMPLETED
    assert (await pair.message(message_id, pair.there)).state is MessageState.REFUSED
    assert (await pair.transfer(message_id)).state is TransferState.DONE


async def test_EVF_RELACC_002_another_original_makes_21_reason_1(pair: Pair) -> None:
    async def exchange(content: bytes) -> bytes:
        return await with_original(pair.here, content, compose(to=(FATMA,), subject="başka"))

    pair.out.tamper = exchange
    message_id = await pair.send()
    await pair.work()
    await assert_21(pair, message_id, 1, RefusalCode.ORIGINAL_DIFFERS)


async def test_EVF_RELACC_003_malware_at_relay_makes_21_reason_2(pair: Pair) -> None:
    pair.there.scanner.found = "Eicar-Test"
    message_id = await pair.send()
    await pair.work()
    await assert_21(pair, message_id, 2, RefusalCode.MALWARE)


async def test_EVF_RELACC_004_any_attachment_is_taken_over_by_rule_KEP_MS_05(pair: Pair) -> None:
    message = await signed(with_attachment(FATMA, "kur.exe"), ayse())
    assert isinstance(await pair.here.send(message, to=(FATMA,)), Accepted)
    await pair.work()
    assert await seen(pair.here) == [TEN, TWENTY, FORTY]


async def flip(content: bytes) -> bytes:
    return content.replace(b"bildiririz", b"bildirmeyi")


async def test_EVF_RELACC_005_a_broken_seal_is_nobodys_statement_550_and_the_sender_makes_31(
    pair: Pair,
) -> None:
    pair.out.tamper = flip  # ADR 0021: what no provider sealed gets no evidence; the sender's own speaks
    message_id = await pair.send()
    await pair.work()
    assert await untouched(pair.there)
    assert await seen(pair.here) == [TEN, (31, (6,), None, "hs91")]
    assert await pair.states(message_id) == ["unreached"]
    assert await deliller(pair) == 2
    assert pair.out.tries == 1


async def test_EVF_RELACC_006_a_certificate_that_the_register_ended_makes_21_reason_22(pair: Pair) -> None:
    ended = registered(transaction_of(DOMAIN), end=NOW - timedelta(hours=1))
    pair.there.peers[DOMAIN] = peer_of(DOMAIN, certificates=(ended,))
    message_id = await pair.send()
    await pair.work()
    await assert_21(pair, message_id, 22, RefusalCode.SEAL_EXPIRED)


# --------------------------------------------------------------------------- EVF-RELFAL


HANDING_OVER = sorted(
    set(RelayTrouble)
    - {RelayTrouble.NO_ANSWER, RelayTrouble.NO_DELIVERY_INFO, RelayTrouble.UNKNOWN_PEER}
    - {RelayTrouble.REGISTER_STALE}  # holds, and makes no 31
)


@pytest.mark.parametrize("trouble", HANDING_OVER)
async def test_EVF_RELFAL_001_002_003_not_handed_over_makes_31_with_the_reason_once(
    pair: Pair, trouble: RelayTrouble
) -> None:
    pair.out.trouble = NotHanded(trouble, "test")
    message_id = await pair.send()
    await pair.work()
    facts = TROUBLES[trouble]
    failed: Seen = (31, (int(facts.reason),), None, "hs91")
    if facts.final:
        assert pair.out.tries == 1
    else:
        assert await seen(pair.here) == [TEN]
        for _ in range(25):
            await pair.later(hours=1)
    assert await seen(pair.here) == [TEN, failed]
    assert await pair.states(message_id) == ["unreached"]
    assert (await pair.transfer(message_id)).state is TransferState.FAILED
    assert (await pair.here.evidence())[1].reasons[0].details.startswith(f"{trouble.value}: ")
    assert await deliller(pair) == 2
    assert await untouched(pair.there)


async def test_EVF_RELFAL_004_an_unknown_recipient_is_the_peers_21_and_no_31(pair: Pair) -> None:
    message_id = await pair.send(to=(UNKNOWN,))
    await pair.work()
    await assert_21(pair, message_id, 10, RefusalCode.RECIPIENT_UNKNOWN)


# --------------------------------------------------------------------------- EVF-DELREC


async def test_EVF_DELREC_001_put_into_the_mailbox_makes_40_for_each_recipient(pair: Pair) -> None:
    message_id = await pair.send(to=(FATMA,), cc=(CAN,))
    await pair.work()
    assert await seen(pair.there) == [TEN, TWENTY, FORTY, (40, (), 2, "hs92")]
    assert await pair.states(message_id) == ["delivered", "delivered"]
    assert await deliller(pair) == 4


async def test_EVF_DELREC_002_silence_after_20_makes_41_reason_9_by_the_senders_provider(pair: Pair) -> None:
    pair.out.swallow = True
    message_id = await pair.send()
    await pair.work()
    await pair.receive(await pair.says(20, message_id))
    await pair.later(hours=24)
    assert await seen(pair.here) == [TEN, TWENTY, (41, (9,), 1, "hs91")]
    assert await pair.states(message_id) == ["failed"]


async def test_EVF_DELREC_003_a_bad_format_is_found_at_relay_and_never_makes_41(pair: Pair) -> None:
    async def exchange(content: bytes) -> bytes:
        return await with_original(pair.here, content, b"no mail at all\r\n")

    pair.out.tamper = exchange
    message_id = await pair.send()
    await pair.work()
    await assert_21(pair, message_id, 1, RefusalCode.ORIGINAL_DIFFERS)


async def test_EVF_DELREC_004_a_full_mailbox_receives_by_rule_KEP_QU_02(pair: Pair) -> None:
    account = await pair.there.accounts.find(FATMA)
    await pair.there.store.write(lambda tx: tx.accounts.add_usage(account.account_id, account.quota_bytes))
    message_id = await pair.send()
    await pair.work()
    assert await seen(pair.here) == [TEN, TWENTY, FORTY]
    assert await pair.states(message_id) == ["delivered"]


async def test_EVF_DELREC_005_a_malfunction_delays_40_and_makes_no_41(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.here.worker.round()  # taken over: 20 is durable
    pair.there.tsa.down = True
    await pair.later(hours=20)
    assert await seen(pair.there) == [TEN, TWENTY]
    assert await pair.there.count(FATMA, FolderRole.INBOX) == 0
    pair.there.tsa.down = False
    await pair.later(minutes=6)
    assert await seen(pair.here) == [TEN, TWENTY, FORTY]
    assert await pair.states(message_id) == ["delivered"]


# --------------------------------------------------------------------------- OF, COF


async def test_OF_intra_provider_all_evidence_is_the_one_providers_and_there_is_no_20(world: World) -> None:
    nobody = f"yok.kimse@{DOMAIN}"
    to = (MEHMET, nobody)
    assert isinstance(await world.send(await signed(compose(to=to), ayse()), to=to), Accepted)
    await world.work()
    (message,) = await world.store.read(lambda tx: list(tx.messages.all()))
    deliveries = await world.store.read(lambda tx: tx.deliveries.of_message(message.message_id))
    await world.reader.expose(await world.person(MEHMET), [deliveries[0].delivery_id])
    await world.work()
    assert await seen(world) == [
        TEN, (40, (), 1, "hs91"), (41, (10,), 2, "hs91"), (60, (), 1, "hs91"),
    ]  # fmt: skip
    assert await world.count(AYSE, FolderRole.EVIDENCE) == 4


async def test_COF_cross_provider_each_evidence_is_made_by_the_provider_that_acted(pair: Pair) -> None:
    message_id = await pair.send(to=(FATMA, UNKNOWN, MEHMET))
    await pair.work()
    await pair.read(FATMA, message_id)
    await pair.work()
    theirs = [(20, (), 1, "hs92"), (21, (10,), 2, "hs92"), (40, (), 1, "hs92"), (60, (), 1, "hs92")]
    assert sorted(await seen(pair.there)) == [TEN, *theirs]
    assert sorted(await seen(pair.here)) == sorted([TEN, *theirs, (40, (), 3, "hs91")])
    assert await pair.states(message_id) == ["read", "rejected", "delivered"]
    assert await deliller(pair) == 6


async def test_COF_evidence_of_both_speaks_of_one_message_with_one_digest(pair: Pair) -> None:
    message_id = await pair.send(to=(FATMA, CAN))
    await pair.work()
    records = [*await pair.here.evidence(), *await pair.there.evidence()]
    (facts,) = {record.message for record in records}
    assert facts.kep_message_id == message_id
    assert facts.digest_sha256 == (await pair.message(message_id)).digest_sha256
    assert {record.submission_time for record in records} == {records[0].event_time}
    assert {tuple(p.address for p in record.recipients) for record in records} == {(FATMA, CAN)}
    assert {record.sender_authentication for record in records} == {records[0].sender_authentication}
