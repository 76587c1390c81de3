"""What ``rem-baseline`` peers refuse and what becomes of it; relay evidence that lists recipients; bundles; fsck."""

import asyncio
from dataclasses import replace

import pytest

from evidence.model.records import EvidenceKind, Profile, Reason, ReasonCode
from kephs.domain.lifecycle import MessageState
from kephs.domain.mailboxes import FolderRole
from kephs.domain.relay import NotHanded, RelayTrouble
from kephs.usecases.submission.results import Refused, Taken
from storage.fsck.check import FindingCode
from tests.support.baseline import (
    Meeting,
    baseline_receipt,
    dispatch_to,
    findings,
    new_baseline_pair,
    rows_of,
    said_by,
    sound,
)
from tests.support.pair import DENIZ, Pair, new_pair, seen, xml_of
from tests.support.world import AYSE, CAN, FATMA, MEHMET, PEER, World
from tests.unit.test_bundle_making import check as check_bundle
from tests.unit.test_bundle_making import made, names

UNKNOWN, NOBODY = f"yok.kimse@{PEER}", f"hic.kimse@{PEER}"
K = EvidenceKind


@pytest.fixture
async def pair() -> Pair:
    return await new_baseline_pair()


@pytest.fixture
async def silent(pair: Pair) -> Pair:
    """Return two providers of which hs92 takes what it gets and says nothing by itself."""
    pair.out.swallow = True
    return pair


# --------------------------------------------------------------------------- a peer refuses


async def test_FLOW_3_a_peers_21_makes_31_with_the_same_code_and_decides_the_recipient(pair: Pair) -> None:
    message_id = await pair.send(to=(UNKNOWN,))
    await pair.work()
    assert [one[:3] for one in await seen(pair.here)] == [
        (10, (), None), (10, (), None), (21, (10,), None), (31, (10,), None),
    ]  # fmt: skip
    assert await pair.states(message_id) == ["rejected"]
    *_, refusal, failure = await pair.here.evidence()
    assert refusal.issuer.address == pair.there.issuer.address
    assert failure.issuer.address == pair.here.issuer.address
    assert [reason.erds_code for reason in failure.reasons] == ["RB21"]
    assert failure.reasons[0].details == refusal.reasons[0].details
    assert b"RB21: " in (await xml_of(pair.here))[-1]
    (row,) = await rows_of(pair.here, 31)
    assert (row.profile, row.number) == (Profile.KEP, None)
    (delivery,) = await pair.deliveries(message_id)
    assert delivery.evidence_id == refusal.evidence_id
    assert await pair.here.count(AYSE, FolderRole.EVIDENCE) == 3  # 10, 21, 31
    assert (await pair.message(message_id)).state is MessageState.COMPLETED
    assert await sound(pair)


async def test_a_kep_peers_21_makes_no_31() -> None:
    pair = await new_pair()
    await pair.send(to=(UNKNOWN,))
    await pair.work()
    assert await rows_of(pair.here, 31) == []
    assert await sound(pair)


async def test_FLOW_7_one_20_and_one_21_list_their_recipients_and_each_refused_one_gets_a_31(
    pair: Pair,
) -> None:
    message_id = await pair.send(to=(FATMA, UNKNOWN, MEHMET), cc=(CAN, NOBODY))
    await pair.work()
    said = {one.kind: one for one in await pair.there.evidence() if one.kind in (20, 21)}
    assert {int(kind): one.covers for kind, one in said.items()} == {20: (1, 4), 21: (2, 5)}
    assert len(await rows_of(pair.there, 20)) == len(await rows_of(pair.there, 21)) == 1
    assert sorted(row.number for row in await rows_of(pair.here, 31)) == [2, 5]
    expected = ["delivered", "rejected", "delivered", "delivered", "rejected"]
    assert await pair.states(message_id) == expected
    assert await sound(pair)


async def test_those_refused_for_another_reason_get_a_21_of_their_own(pair: Pair) -> None:
    await pair.there.accounts.block(CAN)
    message_id = await pair.send(to=(UNKNOWN, CAN, NOBODY, FATMA))
    await pair.work()
    rejections = [one for one in await pair.there.evidence() if one.kind is K.RELAY_REJECTION]
    assert [(one.covers, one.refers_to, int(one.reasons[0].code)) for one in rejections] == [
        ((1, 3), None, 10), ((), 2, 5),
    ]  # fmt: skip
    assert await pair.states(message_id) == ["rejected", "rejected", "rejected", "delivered"]
    assert sorted(row.number for row in await rows_of(pair.here, 31)) == [1, 2, 3]
    assert await sound(pair)


async def receives(pair: Pair, kind: int, message_id: str, *args, **changes) -> Taken | Refused:
    record = await said_by(pair, kind, message_id, *args, **changes)
    content = await baseline_receipt(pair.there, record, pair.here.issuer.address)
    return await pair.here_gets(content)


FULL = Reason(ReasonCode.POLICY_VIOLATION, "metin")


async def test_a_21_after_a_20_moves_nothing_and_makes_no_31(silent: Pair) -> None:
    message_id = await silent.send()
    await silent.work()
    assert isinstance(await receives(silent, 20, message_id), Taken)
    assert isinstance(await receives(silent, 21, message_id, None, FULL), Taken)
    assert await rows_of(silent.here, 31) == []
    assert await silent.states(message_id) == ["relayed"]
    assert await findings(silent.here) == []


async def test_a_repeated_21_and_a_second_one_make_no_second_31(silent: Pair) -> None:
    message_id = await silent.send()
    await silent.work()
    record = await said_by(silent, 21, message_id, None, FULL)
    content = await baseline_receipt(silent.there, record, silent.here.issuer.address)
    first = await silent.here_gets(content)
    assert await silent.here_gets(content) == first
    assert isinstance(await receives(silent, 21, message_id, None, FULL), Taken)
    assert len(await rows_of(silent.here, 31)) == 1
    assert len(await rows_of(silent.here, 21)) == 2
    assert await silent.states(message_id) == ["rejected"]
    assert await findings(silent.here) == []


async def test_two_21_at_one_moment_make_one_31(silent: Pair) -> None:
    message_id = await silent.send()
    await silent.work()
    records = [await said_by(silent, 21, message_id, None, FULL) for _ in range(2)]
    contents = [await baseline_receipt(silent.there, one, silent.here.issuer.address) for one in records]
    silent.here.sealer.together = Meeting(2)  # both have sealed a 31 before either is stored
    answers = await asyncio.gather(*(silent.here_gets(content) for content in contents))
    silent.here.sealer.together = None
    assert all(isinstance(answer, Taken) for answer in answers)
    assert len(await rows_of(silent.here, 31)) == 1
    assert len(await rows_of(silent.here, 21)) == 2
    assert await silent.here.count(AYSE, FolderRole.EVIDENCE) == 3  # 10, and both 21; 31 is due
    await silent.work()
    assert await silent.here.count(AYSE, FolderRole.EVIDENCE) == 4
    assert await findings(silent.here) == []


async def test_a_21_that_comes_after_our_31_makes_no_other(silent: Pair) -> None:
    message_id = await silent.send()
    for _ in range(25):
        await silent.later(hours=1)
    assert await silent.states(message_id) == ["unreached"]
    assert isinstance(await receives(silent, 21, message_id, None, FULL), Taken)
    assert len(await rows_of(silent.here, 31)) == 1
    assert await silent.states(message_id) == ["unreached"]
    assert await findings(silent.here) == []


async def test_while_nothing_can_be_sealed_a_21_is_not_taken_and_the_peer_tries_again(silent: Pair) -> None:
    message_id = await silent.send()
    await silent.work()
    record = await said_by(silent, 21, message_id, None, FULL)
    content = await baseline_receipt(silent.there, record, silent.here.issuer.address)
    silent.here.tsa.down = True
    answer = await silent.here_gets(content)
    assert isinstance(answer, Refused)
    assert answer.refusal.text.temporary
    assert await rows_of(silent.here, 21) == []
    assert await silent.states(message_id) == ["pending"]
    silent.here.tsa.down = False
    assert isinstance(await silent.here_gets(content), Taken)
    assert len(await rows_of(silent.here, 31)) == 1


async def test_a_reason_the_peer_calls_otherwise_keeps_its_name_in_31(silent: Pair) -> None:
    message_id = await silent.send()
    await silent.work()
    reason = Reason(ReasonCode.OTHER, "mühür geçersiz", "RB04")
    assert isinstance(await receives(silent, 21, message_id, None, reason), Taken)
    (failure,) = [one for one in await silent.here.evidence() if one.kind is K.RELAY_FAILURE]
    assert failure.reasons == (reason,)


@pytest.mark.parametrize("covers", [(1, 2), (2, 3)], ids=str)
async def test_evidence_that_lists_recipients_is_about_those_the_peer_serves_alone(covers) -> None:
    pair = await new_baseline_pair(third=True)
    pair.out.swallow = True
    message_id = await pair.send(to=(FATMA, DENIZ, CAN))
    await pair.work()
    assert isinstance(await receives(pair, 20, message_id, covers=covers), Taken)
    served = [number for number in covers if number != 2]
    states = await pair.states(message_id)
    assert [n for n, state in enumerate(states, 1) if state == "relayed"] == served
    assert await findings(pair.here) == []


async def test_evidence_that_lists_only_others_recipients_is_refused() -> None:
    pair = await new_baseline_pair(third=True)
    pair.out.swallow = True
    message_id = await pair.send(to=(FATMA, DENIZ, MEHMET))
    await pair.work()
    answer = await receives(pair, 20, message_id, covers=(2, 3))
    assert isinstance(answer, Refused)
    assert await pair.states(message_id) == ["pending", "pending", "delivered"]


# --------------------------------------------------------------------------- bundles


@pytest.mark.parametrize("to", [(FATMA,), (FATMA, MEHMET, UNKNOWN)], ids=["peer-alone", "mixed"])
async def test_a_bundle_of_such_a_message_holds_both_forms_and_verifies(
    pair: Pair, to: tuple[str, ...]
) -> None:
    message_id = await pair.send(to=to)
    await pair.work()
    for world, tens in ((pair.here, 2), (pair.there, 1)):
        data = await made(world, message_id)
        report = check_bundle(world, data)
        assert report.passed, report.failing_step
        assert sum(name.startswith("delil/10-") and name.endswith(".xml") for name in names(data)) == tens
    # kept for our own recipients, where there are any
    assert ("ileti/dispatch.eml" in names(await made(pair.here, message_id))) is (MEHMET in to)


# --------------------------------------------------------------------------- fsck sees what is missing


async def refused(pair: Pair) -> str:
    message_id = await pair.send(to=(FATMA, UNKNOWN))
    await pair.work()
    assert await sound(pair)
    return message_id


async def codes(world: World) -> set[FindingCode]:
    return {finding.code for finding in await findings(world)}


async def test_fsck_misses_the_31_beside_a_peers_21(pair: Pair) -> None:
    await refused(pair)
    (row,) = await rows_of(pair.here, 31)
    pair.here.store._tables.evidence.drop(row.evidence_id)
    assert FindingCode.DELIVERY_WITHOUT_EVIDENCE in await codes(pair.here)


async def test_fsck_sees_a_31_beside_a_21_in_kep_form_and_a_profile_that_is_not_the_xmls(pair: Pair) -> None:
    await refused(pair)
    (row,) = await rows_of(pair.here, 21)
    pair.here.store._tables.evidence.put(row.evidence_id, replace(row, profile=Profile.KEP))
    assert await codes(pair.here) == {FindingCode.DELIVERY_CONTRADICTED, FindingCode.EVIDENCE_OTHER_FACTS}


async def test_fsck_misses_evidence_10_in_kep_form_though_there_is_another(pair: Pair) -> None:
    await pair.send()
    await pair.work()
    (row,) = [row for row in await rows_of(pair.here, 10) if row.profile is Profile.KEP]
    pair.here.store._tables.evidence.drop(row.evidence_id)
    assert FindingCode.MESSAGE_WITHOUT_EVIDENCE in await codes(pair.here)


async def test_fsck_misses_the_content_of_a_dispatch_that_waits_and_sees_one_that_is_kept_too_long(
    pair: Pair,
) -> None:
    pair.out.trouble = NotHanded(RelayTrouble.NO_CONNECTION, "test")
    await pair.send()
    await pair.work()
    transfer = await dispatch_to(pair, PEER)
    assert await findings(pair.here) == []
    tables = pair.here.store._tables
    tables.blobs.drop(transfer.blob)
    assert await codes(pair.here) == {FindingCode.TRANSFER_CONTENT_MISSING}
    pair.out.trouble = None
    tables.transfers.put(transfer.transfer_id, replace(transfer, blob=None))
    await pair.later(hours=1)
    assert await findings(pair.here) == []
    done = await dispatch_to(pair, PEER)
    tables.transfers.put(done.transfer_id, replace(done, blob=transfer.blob))
    assert await codes(pair.here) == {FindingCode.TRANSFER_OTHER_STATE}
