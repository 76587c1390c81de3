"""What hs91 does with receipts: filed once, kept beside each other, or refused as nobody's statement."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from cryptography.x509 import ReasonFlags

from evidence.model.records import Party, Reason, ReasonCode
from kephs.domain.lifecycle import MessageState, TransferState
from kephs.domain.mailboxes import FolderRole
from kephs.domain.refusals import RefusalCode
from kephs.testpki.issued import Issued
from kephs.usecases.relay.take_receipt import KEPT_PER_RECIPIENT
from kephs.usecases.submission.results import Accepted, Refused, Taken
from tests.support.pair import (
    DENIZ,
    Pair,
    Seen,
    arrive_from,
    new_pair,
    peer_of,
    receipt_of,
    registered,
    sealer_of,
    seen,
    transaction_of,
)
from tests.support.pki import NOW, ayse, make_pki, mehmet, shared_pki
from tests.support.world import AYSE, CAN, DOMAIN, FATMA, MEHMET, PEER, compose, signed

TEN: Seen = (10, (), None, "hs91")
TWENTY: Seen = (20, (), None, "hs92")
FORTY: Seen = (40, (), 1, "hs92")
FAILED = (Reason(ReasonCode.TECHNICAL_MALFUNCTION, "test"),)


@pytest.fixture
async def pair() -> Pair:
    """Return two providers; hs92 takes what it gets and says nothing by itself."""
    pair = await new_pair()
    pair.out.swallow = True
    return pair


@pytest.fixture
async def notice(pair: Pair) -> str:
    """Return the id of a notice for Fatma that hs92 has taken."""
    message_id = await pair.send()
    await pair.work()
    return message_id


async def deliller(pair: Pair) -> int:
    return await pair.here.count(AYSE, FolderRole.EVIDENCE)


async def assert_refused(pair: Pair, answer: Taken | Refused, *codes: RefusalCode) -> None:
    """Assert that an answer refuses without evidence and that nothing of it was kept."""
    assert isinstance(answer, Refused), answer
    assert answer.refusal.code in codes
    assert answer.evidence_id is None
    assert await seen(pair.here) == [TEN]
    assert await deliller(pair) == 1


# --------------------------------------------------------------------------- order and repetition


async def test_20_then_40_then_60_move_the_state_step_by_step(pair: Pair, notice: str) -> None:
    decided: list[tuple[str | None, datetime | None]] = []
    for kind, number, state in ((20, None, "relayed"), (40, 1, "delivered"), (60, 1, "read")):
        pair.clock.at += timedelta(minutes=1)
        assert isinstance(await pair.receive(await pair.says(kind, notice, number)), Taken)
        assert await pair.states(notice) == [state]
        (delivery,) = await pair.deliveries(notice)
        decided.append((delivery.evidence_id, delivery.decided_at))
    assert await seen(pair.here) == [TEN, TWENTY, FORTY, (60, (), 1, "hs92")]
    assert await deliller(pair) == 4
    _, _, forty, _ = await pair.here.evidence()
    # 20 decides nothing, and reading takes nothing from what 40 decided
    assert decided == [(None, None), *[(forty.evidence_id, forty.event_time)] * 2]


async def test_60_before_40_reads_once_both_are_there(pair: Pair, notice: str) -> None:
    await pair.receive(await pair.says(60, notice, 1))
    assert await pair.states(notice) == ["pending"]
    await pair.receive(await pair.says(40, notice, 1))
    assert await pair.states(notice) == ["read"]
    (delivery,) = await pair.deliveries(notice)
    by_kind = {int(r.kind): r.evidence_id for r in await pair.here.evidence()}
    assert (delivery.evidence_id, delivery.read_evidence_id) == (by_kind[40], by_kind[60])
    assert await seen(pair.here) == [TEN, (60, (), 1, "hs92"), FORTY]


async def test_40_without_20_ends_the_wait(pair: Pair, notice: str) -> None:
    await pair.receive(await pair.says(40, notice, 1))
    assert await pair.states(notice) == ["delivered"]
    assert (await pair.transfer(notice)).state is TransferState.DONE
    await pair.later(days=3)
    assert await seen(pair.here) == [TEN, FORTY]


async def test_20_after_40_is_kept_and_takes_nothing_back(pair: Pair, notice: str) -> None:
    await pair.receive(await pair.says(40, notice, 1))
    await pair.receive(await pair.says(20, notice))
    assert await pair.states(notice) == ["delivered"]
    assert await seen(pair.here) == [TEN, FORTY, TWENTY]
    assert await deliller(pair) == 3


async def test_a_repeated_receipt_is_filed_once_and_gets_the_same_answer(pair: Pair, notice: str) -> None:
    content = await receipt_of(pair.there, await pair.says(40, notice, 1))
    answers = {await pair.here_gets(content) for _ in range(3)}
    assert len(answers) == 1
    assert await seen(pair.here) == [TEN, FORTY]
    assert await deliller(pair) == 2


async def test_the_same_evidence_in_a_newly_sealed_receipt_is_filed_once(pair: Pair, notice: str) -> None:
    record = await pair.says(40, notice, 1)
    evidence = await pair.there.sealer.seal(record)
    for _ in range(2):
        answer = await pair.here_gets(await receipt_of(pair.there, record, xml=evidence.xml))
        assert answer == Taken(record.evidence_id, notice)
    assert await seen(pair.here) == [TEN, FORTY]
    assert await deliller(pair) == 2


async def test_the_same_evidence_id_with_other_bytes_is_refused(pair: Pair, notice: str) -> None:
    record = await pair.says(40, notice, 1)
    await pair.receive(record)
    answer = await pair.receive(replace(record, event_time=record.event_time - timedelta(minutes=1)))
    assert isinstance(answer, Refused)
    assert answer.refusal.code is RefusalCode.RECEIPT_UNMATCHED
    assert await seen(pair.here) == [TEN, FORTY]
    assert await deliller(pair) == 2


# --------------------------------------------------------------------------- contradictions


async def test_two_40_with_different_ids_are_both_kept_and_the_first_stands(pair: Pair, notice: str) -> None:
    first, second = await pair.says(40, notice, 1), await pair.says(40, notice, 1)
    for record in (first, second):
        assert isinstance(await pair.receive(record), Taken)
    assert await seen(pair.here) == [TEN, FORTY, FORTY]
    (delivery,) = await pair.deliveries(notice)
    assert delivery.evidence_id == first.evidence_id
    assert await deliller(pair) == 3


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        ((40, 1), (41, 1), "delivered"),
        ((41, 1), (40, 1), "failed"),
        ((21, None), (20, None), "rejected"),
        ((20, None), (21, None), "relayed"),
        ((21, None), (40, 1), "rejected"),
        ((40, 1), (21, None), "delivered"),
        ((41, 1), (60, 1), "failed"),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
async def test_contradicting_evidence_is_kept_beside_what_stands(
    pair: Pair, notice: str, first: tuple[int, int | None], second: tuple[int, int | None], state: str
) -> None:
    expected = [TEN]
    for kind, number in (first, second):
        reasons = FAILED if kind in (21, 41) else ()
        record = await pair.says(kind, notice, number, reasons=reasons)
        assert isinstance(await pair.receive(record), Taken)
        expected.append((kind, tuple(int(r.code) for r in reasons), number, "hs92"))
    assert await pair.states(notice) == [state]
    assert await seen(pair.here) == expected
    assert await deliller(pair) == 3


async def test_a_peer_cannot_fill_the_store_with_evidence_about_one_message(pair: Pair, notice: str) -> None:
    for _ in range(KEPT_PER_RECIPIENT):
        assert isinstance(await pair.receive(await pair.says(40, notice, 1)), Taken)
    answer = await pair.receive(await pair.says(40, notice, 1))
    assert isinstance(answer, Refused)
    assert await deliller(pair) == 1 + KEPT_PER_RECIPIENT


# --------------------------------------------------------------------------- silence after 20


async def test_silence_after_20_makes_41_reason_9_for_each_recipient_once(pair: Pair) -> None:
    message_id = await pair.send(to=(FATMA, CAN))
    await pair.work()
    await pair.receive(await pair.says(20, message_id))
    await pair.receive(await pair.says(40, message_id, 2))
    await pair.later(hours=23, minutes=59)
    assert await pair.states(message_id) == ["relayed", "delivered"]
    await pair.later(minutes=1)
    assert await pair.states(message_id) == ["failed", "delivered"]
    assert await seen(pair.here) == [TEN, TWENTY, (40, (), 2, "hs92"), (41, (9,), 1, "hs91")]
    await pair.later(days=3)
    assert len(await pair.here.evidence()) == 4
    assert (await pair.transfer(message_id)).state is TransferState.DONE
    assert (await pair.message(message_id)).state is MessageState.COMPLETED
    assert await deliller(pair) == 4


async def test_40_after_our_41_is_kept_beside_it(pair: Pair, notice: str) -> None:
    await pair.receive(await pair.says(20, notice))
    await pair.later(hours=24)
    assert await pair.states(notice) == ["failed"]
    late = await pair.says(40, notice, 1)
    assert isinstance(await pair.receive(late), Taken)
    assert await pair.states(notice) == ["failed"]
    assert await seen(pair.here) == [TEN, TWENTY, (41, (9,), 1, "hs91"), FORTY]


async def test_no_20_for_one_of_two_recipients_makes_31_for_that_one_alone(pair: Pair) -> None:
    message_id = await pair.send(to=(FATMA, CAN))
    await pair.work()
    await pair.later(hours=20)
    await pair.receive(await pair.says(20, message_id, 2))
    await pair.later(hours=4)
    assert await pair.states(message_id) == ["unreached", "relayed"]
    assert (await seen(pair.here))[1:] == [(20, (), 2, "hs92"), (31, (9,), 1, "hs91")]
    await pair.later(hours=19, minutes=59)
    assert await pair.states(message_id) == ["unreached", "relayed"]
    await pair.later(minutes=1)  # 24 hours after the 20 of the second
    assert await pair.states(message_id) == ["unreached", "failed"]
    assert (await seen(pair.here))[3:] == [(41, (9,), 2, "hs91")]
    assert (await pair.message(message_id)).state is MessageState.COMPLETED


async def test_the_wait_for_40_ends_24_hours_after_20_whatever_else_is_awaited(pair: Pair) -> None:
    message_id = await pair.send(to=(FATMA, CAN))
    await pair.work()
    await pair.receive(await pair.says(20, message_id, 2))
    await pair.later(hours=24)
    assert await pair.states(message_id) == ["unreached", "failed"]
    made = [(31, (9,), 1, "hs91"), (41, (9,), 2, "hs91")]
    assert await seen(pair.here) == [TEN, (20, (), 2, "hs92"), *made]


# --------------------------------------------------------------------------- forged


async def test_a_receipt_changed_on_its_way_is_refused(pair: Pair, notice: str) -> None:
    content = await receipt_of(pair.there, await pair.says(40, notice, 1))
    changed = content.replace(b"multipart/alternative", b"multipart/alternativf")
    assert changed != content
    await assert_refused(pair, await pair.here_gets(changed), RefusalCode.SEAL_BROKEN)


@pytest.mark.parametrize("issued", ["foreign-root", "unregistered", "holder", "ours"])
async def test_a_receipt_under_any_other_certificate_is_refused(pair: Pair, notice: str, issued: str) -> None:
    makers: dict[str, Callable[[], Issued]] = {
        "foreign-root": lambda: make_pki().transactions[PEER],
        "unregistered": lambda: shared_pki().issue_transaction(PEER, "TEST hs92", "pss"),
        "holder": ayse,
        "ours": lambda: transaction_of(DOMAIN),
    }
    certificate = makers[issued]()
    sealer = sealer_of(pair.there, certificate)
    content = await receipt_of(
        pair.there, await pair.says(40, notice, 1), sealed_by=sealer, evidence_by=sealer
    )
    await assert_refused(pair, await pair.here_gets(content), RefusalCode.SEAL_NOT_REGISTERED)


async def test_evidence_signed_with_our_own_key_in_a_peers_receipt_is_refused(
    pair: Pair, notice: str
) -> None:
    content = await receipt_of(pair.there, await pair.says(40, notice, 1), evidence_by=pair.here.sealer)
    await assert_refused(pair, await pair.here_gets(content), RefusalCode.EVIDENCE_NOT_THE_PEERS)


async def test_evidence_in_our_own_name_from_a_peer_is_refused(pair: Pair, notice: str) -> None:
    record = await pair.says(31, notice, by=pair.here, reasons=FAILED)
    for signer in (pair.here.sealer, pair.there.sealer):
        content = await receipt_of(pair.there, record, evidence_by=signer)
        await assert_refused(pair, await pair.here_gets(content), RefusalCode.EVIDENCE_NOT_THE_PEERS)


async def test_evidence_whose_id_is_not_the_peers_is_refused(pair: Pair, notice: str) -> None:
    record = await pair.says(40, notice, 1, evidence_id=f"1@{DOMAIN}")
    await assert_refused(pair, await pair.receive(record), RefusalCode.EVIDENCE_NOT_THE_PEERS)


async def test_a_revoked_certificate_makes_no_receipts(pair: Pair, notice: str) -> None:
    revoked = shared_pki().issue_transaction(PEER, "TEST hs92")
    shared_pki().revoke(revoked.serial, NOW - timedelta(hours=1), ReasonFlags.key_compromise)
    pair.here.peers[PEER] = peer_of(PEER, certificates=(registered(revoked),))
    sealer = sealer_of(pair.there, revoked)
    content = await receipt_of(
        pair.there, await pair.says(40, notice, 1), sealed_by=sealer, evidence_by=sealer
    )
    await assert_refused(pair, await pair.here_gets(content), RefusalCode.SEAL_REVOKED)


async def test_a_certificate_that_the_register_ended_makes_no_receipts(pair: Pair, notice: str) -> None:
    ended = registered(transaction_of(PEER), end=NOW - timedelta(hours=1))
    pair.here.peers[PEER] = peer_of(PEER, certificates=(ended,))
    answer = await pair.receive(await pair.says(40, notice, 1))
    await assert_refused(pair, answer, RefusalCode.SEAL_EXPIRED)


async def test_a_receipt_sealed_before_the_certificates_end_counts_after_it(pair: Pair, notice: str) -> None:
    content = await receipt_of(pair.there, await pair.says(40, notice, 1))
    ended = registered(transaction_of(PEER), end=pair.clock.now() + timedelta(minutes=1))
    pair.here.peers[PEER] = peer_of(PEER, certificates=(ended,))
    pair.clock.at += timedelta(hours=1)
    assert isinstance(await pair.here_gets(content), Taken)
    assert await seen(pair.here) == [TEN, FORTY]


async def test_silent_ocsp_makes_a_receipt_wait(pair: Pair, notice: str) -> None:
    content = await receipt_of(pair.there, await pair.says(40, notice, 1))
    pair.here.ocsp.down = True
    await assert_refused(pair, await pair.here_gets(content), RefusalCode.REVOCATION_UNKNOWN)
    pair.here.ocsp.down = False
    assert isinstance(await pair.here_gets(content), Taken)


# --------------------------------------------------------------------------- matched to nothing


async def test_a_receipt_for_an_unknown_message_is_refused(pair: Pair, notice: str) -> None:
    record = await pair.says(40, notice, 1)
    unknown = replace(record, message=replace(record.message, kep_message_id=f"unknown@{DOMAIN}"))
    await assert_refused(pair, await pair.receive(unknown), RefusalCode.RECEIPT_UNMATCHED)


async def test_a_receipt_about_another_digest_is_refused(pair: Pair, notice: str) -> None:
    record = await pair.says(40, notice, 1)
    other = replace(record, message=replace(record.message, digest_sha256=sha256(b"x").digest()))
    await assert_refused(pair, await pair.receive(other), RefusalCode.RECEIPT_UNMATCHED)


async def test_a_peer_may_rewrite_the_domain_of_the_message_id(pair: Pair, notice: str) -> None:
    record = await pair.says(40, notice, 1)
    rewritten = f"{notice.partition('@')[0]}@relay.{PEER}"
    record = replace(record, message=replace(record.message, kep_message_id=rewritten))
    assert await pair.receive(record) == Taken(record.evidence_id, notice)
    assert await pair.states(notice) == ["delivered"]


@pytest.mark.parametrize(
    "changes",
    [
        {"recipients": (Party(CAN),)},
        {"recipients": (Party(FATMA), Party(CAN))},
        {"recipients": (Party(CAN), Party(FATMA)), "refers_to": 2},
        {"sender": Party(MEHMET, "Mehmet Demir")},
    ],
    ids=["another", "one-more", "shifted", "another-sender"],
)
async def test_a_receipt_that_names_other_people_than_the_message_is_refused(
    pair: Pair, notice: str, changes: dict[str, Any]
) -> None:
    record = replace(await pair.says(40, notice, 1), **changes)
    await assert_refused(pair, await pair.receive(record), RefusalCode.RECEIPT_UNMATCHED)


@pytest.mark.parametrize("kind", [10, 11, 31])
async def test_a_peer_cannot_say_what_only_we_can_say(pair: Pair, notice: str, kind: int) -> None:
    record = await pair.says(kind, notice, reasons=FAILED if kind != 10 else ())
    await assert_refused(pair, await pair.receive(record), RefusalCode.RECEIPT_UNMATCHED)


@pytest.mark.parametrize("kind", [40, 41, 60, 61])
async def test_evidence_of_one_recipient_without_its_number_is_refused(
    pair: Pair, notice: str, kind: int
) -> None:
    record = await pair.says(kind, notice, None, reasons=FAILED if kind in (41, 61) else ())
    answer = await pair.receive(record)
    await assert_refused(pair, answer, RefusalCode.RECEIPT_UNMATCHED, RefusalCode.EVIDENCE_NOT_THE_PEERS)


async def test_a_peer_says_nothing_about_recipients_it_does_not_serve() -> None:
    pair = await new_pair(third=True)
    pair.out.swallow = True
    message_id = await pair.send(to=(FATMA, MEHMET))
    await pair.work()
    assert pair.third is not None
    before = await seen(pair.here)
    for number in (1, 2):
        record = await pair.says(40, message_id, number, by=pair.third)
        answer = await pair.here_gets(await receipt_of(pair.third, record))
        assert isinstance(answer, Refused)
        assert answer.refusal.code is RefusalCode.RECEIPT_UNMATCHED
    answer = await pair.receive(await pair.says(40, message_id, 2))  # Mehmet is ours, not hs92's
    assert isinstance(answer, Refused)
    assert await seen(pair.here) == before
    assert await pair.states(message_id) == ["pending", "delivered"]


async def test_20_without_a_number_speaks_for_the_peers_own_recipients_alone() -> None:
    pair = await new_pair(third=True)
    pair.out.swallow = True
    message_id = await pair.send(to=(FATMA, DENIZ))
    await pair.work()
    assert isinstance(await pair.receive(await pair.says(20, message_id)), Taken)
    assert await pair.states(message_id) == ["relayed", "pending"]


async def test_a_message_we_refused_has_no_receipts(pair: Pair) -> None:
    answer = await pair.here.send(compose(to=(FATMA,)), to=(FATMA,))
    assert isinstance(answer, Refused)
    (message,) = await pair.here.store.read(lambda tx: list(tx.messages.all()))
    outcome = await pair.receive(await pair.says(40, message.message_id, 1))
    assert isinstance(outcome, Refused)
    assert outcome.refusal.code is RefusalCode.RECEIPT_UNMATCHED
    assert await seen(pair.here) == [(11, (3,), None, "hs91")]


async def test_a_receipt_for_what_we_received_ourselves_is_refused() -> None:
    pair = await new_pair()
    back = await signed(compose(sender=CAN, to=(AYSE,), message_id="<2@test>"), mehmet())
    answer = await pair.there.send(back, sender=CAN, to=(AYSE,))
    assert isinstance(answer, Accepted)
    await pair.work()
    before = await seen(pair.here)
    outcome = await pair.receive(await pair.says(40, answer.message_id, 1))
    assert isinstance(outcome, Refused)
    assert outcome.refusal.code is RefusalCode.RECEIPT_UNMATCHED
    assert await seen(pair.here) == before


async def test_receipts_come_in_although_the_sender_deleted_everything(pair: Pair, notice: str) -> None:
    def empty(tx) -> None:
        account = tx.accounts.by_address(AYSE)
        for folder in tx.mailboxes.folders(account.account_id):
            uids = [item.uid for item in tx.mailboxes.summaries(folder.folder_id)]
            tx.mailboxes.remove(folder.folder_id, uids)

    await pair.receive(await pair.says(20, notice))
    await pair.here.store.write(empty)
    await pair.later(hours=1)
    assert isinstance(await pair.receive(await pair.says(40, notice, 1)), Taken)
    await pair.later(hours=1)  # complete now: the content loses its key
    message = await pair.message(notice)
    assert message.state is MessageState.COMPLETED
    assert await pair.here.store.read(lambda tx: tx.blobs.get(message.digest_sha256)) is None
    assert isinstance(await pair.receive(await pair.says(60, notice, 1)), Taken)
    assert await pair.states(notice) == ["read"]
    assert await seen(pair.here) == [TEN, TWENTY, FORTY, (60, (), 1, "hs92")]
    assert await deliller(pair) == 2


async def test_receipts_come_to_a_full_a_blocked_and_a_closed_account(pair: Pair, notice: str) -> None:
    account = await pair.here.accounts.find(AYSE)
    await pair.here.store.write(lambda tx: tx.accounts.add_usage(account.account_id, account.quota_bytes))
    await pair.here.accounts.block(AYSE)
    used = (await pair.here.accounts.find(AYSE)).used_bytes
    assert isinstance(await pair.receive(await pair.says(40, notice, 1)), Taken)
    assert await deliller(pair) == 2
    assert (await pair.here.accounts.find(AYSE)).used_bytes == used  # evidence never counts


async def test_a_receipt_from_a_stranger_in_the_middle_is_the_same_receipt(pair: Pair, notice: str) -> None:
    content = await receipt_of(pair.there, await pair.says(40, notice, 1))
    answer = await arrive_from(pair.here, "biri@example.org", (MEHMET,), content)
    assert isinstance(answer, Taken)  # the envelope only carries: it is filed for whom the evidence names
    assert await deliller(pair) == 2
    assert await pair.here.count(MEHMET, FolderRole.EVIDENCE) == 0


async def test_a_receipt_kept_is_the_receipt_received_byte_for_byte(pair: Pair, notice: str) -> None:
    content = await receipt_of(pair.there, await pair.says(40, notice, 1))
    await pair.here_gets(content)
    blob = await pair.here.store.read(lambda tx: tx.blobs.get(sha256(content).digest()))
    assert blob is not None
    source = pair.here.blobs.open(blob)
    assert source.read(0, source.size) == content
