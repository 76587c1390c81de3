"""Peers that read ``rem-baseline``: what they get, what they say, and what our own people see of it."""

import asyncio
from hashlib import sha256

import pytest
from lxml import etree

from directory.providers import Profile as PeerProfile
from evidence.forms.serialise import profile_of_root
from evidence.mail.kep_message import parse_kep_message
from evidence.model.records import EvidenceKind, Profile
from evidence.ports import BytesSource
from evidence.verify.message import check_kep_message
from evidence.xml.reader import parse_xml
from kephs.domain.lifecycle import MessageState, TransferState
from kephs.domain.mailboxes import FolderRole
from kephs.domain.relay import NotHanded, RelayTrouble
from kephs.ports import StoreUnavailableError
from kephs.usecases.delivery.face import LATE, FaceMaker
from tests.support.baseline import (
    Meeting,
    dispatch_to,
    findings,
    inbox,
    mail,
    new_baseline_pair,
    rows_of,
    sent_to,
    sound,
)
from tests.support.erds_samples import schemas
from tests.support.pair import DENIZ, THIRD, Pair, Seen, new_pair, peer_of, xml_of
from tests.support.world import AYSE, CAN, DOMAIN, FATMA, MEHMET, PEER

TEN: Seen = (10, (), None, "hs91")
UNKNOWN, NOBODY = f"yok.kimse@{PEER}", f"hic.kimse@{PEER}"
K = EvidenceKind


@pytest.fixture
async def pair() -> Pair:
    return await new_baseline_pair()


# --------------------------------------------------------------------------- a message's life


async def test_a_message_and_its_receipts_cross_in_the_peers_form_and_reach_everybody(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.work()
    await pair.read(FATMA, message_id)
    await pair.work()
    assert await pair.states(message_id) == ["read"]
    ((letter, dispatch),) = pair.out.sent
    assert (letter.sender, letter.recipients) == (pair.here.issuer.address, (FATMA,))
    messages = [dispatch, *(content for _, content in pair.back.sent)]
    assert [mail(content)["REM-EventIdentifier"].rpartition("/")[2] for content in messages] == [
        "SubmissionAcceptance", "RelayAcceptance", "ContentConsignment", "ContentHandover",
    ]  # fmt: skip
    for content in messages:
        assert b"X-REM-" not in content
        message = parse_kep_message(BytesSource(content))
        assert profile_of_root(parse_xml(message.evidences[0].content)) is Profile.REM_BASELINE
        assert b"EncapsulatedTimeStamp" in message.evidences[0].content
        assert message.extensions == ()
        assert check_kep_message(BytesSource(content), pair.here.trust, pair.clock.now()).passed
    assert await inbox(pair.there, FATMA) == [dispatch]
    assert await pair.here.count(AYSE, FolderRole.EVIDENCE) == 4  # 10 once, 20, 40, 60
    assert (await pair.message(message_id)).state is MessageState.COMPLETED
    assert await sound(pair)


async def test_relay_receipts_go_to_the_service_address_and_others_to_the_sender(pair: Pair) -> None:
    await pair.send(to=(FATMA, UNKNOWN))
    await pair.work()
    whom = {mail(content)["Subject"].split(":")[0]: letter for letter, content in pair.back.sent}
    assert {event: letter.recipients for event, letter in whom.items()} == {
        "REM RelayAcceptance": (pair.here.issuer.address,),
        "REM RelayRejection": (pair.here.issuer.address,),
        "REM ContentConsignment": (AYSE,),
    }
    assert {letter.sender for letter in whom.values()} == {""}


async def test_each_reads_the_form_it_reads_and_all_get_the_same_message() -> None:
    pair = await new_baseline_pair(third=True)
    message_id = await pair.send(to=(FATMA, MEHMET), cc=(DENIZ,))
    await pair.work()
    assert await pair.states(message_id) == ["delivered"] * 3
    (baseline,), (kep,), (local,) = sent_to(pair, PEER), sent_to(pair, THIRD), await inbox(pair.here, MEHMET)
    assert local == kep != baseline
    assert b"X-REM-Msg-Type" in kep
    assert b"REM-MessageType" in baseline
    assert mail(baseline)["Message-ID"] == mail(kep)["Message-ID"] == f"<{message_id}>"
    assert mail(baseline)["To"] == mail(kep)["To"]
    assert mail(baseline)["Cc"] == mail(kep)["Cc"]
    originals = [parse_kep_message(BytesSource(content)).original for content in (baseline, kep)]
    cut = [
        content[one.start : one.end] for content, one in zip((baseline, kep), originals, strict=True) if one
    ]
    assert cut[0] == cut[1]
    assert sha256(cut[0]).digest() == (await pair.message(message_id)).digest_sha256
    assert await sound(pair)


async def test_what_a_peer_sends_in_kep_form_is_taken_from_a_baseline_peer_too(pair: Pair) -> None:
    pair.there.peers[DOMAIN] = peer_of(DOMAIN)  # hs92 does not know yet what hs91 reads
    message_id = await pair.send()
    await pair.work()
    assert await pair.states(message_id) == ["delivered"]
    assert {row.profile for row in await rows_of(pair.there, 20)} == {Profile.KEP}
    assert {row.profile for row in await rows_of(pair.here, 20)} == {Profile.KEP}
    assert await sound(pair)


@pytest.mark.shared
async def test_every_evidence_that_crosses_is_valid_by_its_schema() -> None:
    schema = schemas().load("EVIDENCE19352v117-202201.xsd")
    pair = await new_baseline_pair()
    message_id = await pair.send(to=(FATMA, UNKNOWN), cc=(CAN, NOBODY))
    await pair.work()
    await pair.read(FATMA, message_id)
    await pair.work()
    crossed = await xml_of(pair.there)
    assert crossed[0] == parse_kep_message(BytesSource(sent_to(pair, PEER)[0])).evidences[0].content
    assert len(crossed) == 6
    for xml in crossed:
        assert schema.validate(etree.fromstring(xml)), schema.error_log
        spoiled = xml.replace(b"</tns:EventReasons>", b"</tns:EventReasons><EventTime>x</EventTime>")
        assert not schema.validate(etree.fromstring(spoiled))


# --------------------------------------------------------------------------- evidence 10 in two forms


async def test_evidence_10_in_the_peers_form_says_the_same_and_is_an_evidence_of_its_own(pair: Pair) -> None:
    message_id = await pair.send(to=(FATMA, MEHMET))
    await pair.work()
    kep, baseline = [one for one in await pair.here.evidence() if one.kind is K.SUBMISSION_ACCEPTANCE]
    for field in (
        "event_time", "submission_time", "issuer", "sender", "recipients", "message", "reasons", "refers_to",
    ):  # fmt: skip
        assert getattr(kep, field) == getattr(baseline, field), field
    first, second = await rows_of(pair.here, 10)
    assert first.evidence_id != second.evidence_id
    assert {first.profile, second.profile} == set(Profile)
    assert [first.receipt_due, second.receipt_due] == [None, None]
    entered = await pair.here.store.read(lambda tx: [e.evidence_id for e in tx.evidence.ledger(0, 99)])
    assert {first.evidence_id, second.evidence_id} < set(entered)
    receipts = [mail(content) for content in await inbox(pair.here, AYSE, FolderRole.EVIDENCE)]
    assert [one["X-REM-Event"] for one in receipts if "SubmissionAcceptance" in one["Subject"]] == [
        "http:uri.etsi.org/02640/Event#Acceptance"
    ]
    assert (await pair.message(message_id)).state is MessageState.COMPLETED


@pytest.mark.parametrize(("minutes", "late"), [(3, False), (30, True)])
async def test_a_form_made_late_says_when_it_was_made_and_when_the_message_was_submitted(
    pair: Pair, minutes: int, late: bool
) -> None:
    submitted = pair.clock.now()
    await pair.send()
    pair.here.tsa.down = True
    await pair.work()
    assert pair.out.tries == 0  # nothing leaves without a stamp
    pair.here.tsa.down = False
    await pair.later(minutes=minutes)
    (dispatch,) = sent_to(pair, PEER)
    record = check_kep_message(BytesSource(dispatch), pair.here.trust, pair.clock.now()).records[0]
    assert record.submission_time == submitted
    assert record.event_time == (pair.clock.now() if late else submitted)
    assert (record.event_time - submitted > LATE) is late
    assert await sound(pair)


async def test_messages_to_peers_of_the_other_form_have_one_evidence_10() -> None:
    pair = await new_pair()
    await pair.send()
    await pair.work()
    assert len(await rows_of(pair.here, 10)) == 1


# --------------------------------------------------------------------------- once, whatever happens


async def test_a_lost_250_makes_the_same_bytes_go_again_and_the_peer_answers_alike(pair: Pair) -> None:
    pair.back.trouble = NotHanded(RelayTrouble.NO_CONNECTION, "test")  # what hs92 says comes later
    pair.out.lose_replies = 3
    message_id = await pair.send()
    await pair.work()
    for _ in range(4):
        await pair.later(minutes=40)
    assert pair.out.tries == 4
    assert len({content for _, content in pair.out.sent}) == len(set(pair.out.answers)) == 1
    assert await rows_of(pair.here, 20) == []
    pair.back.trouble = None
    await pair.later(hours=1)
    assert await pair.states(message_id) == ["delivered"]
    assert len(await rows_of(pair.here, 10)) == 2
    assert len(await inbox(pair.there, FATMA)) == 1
    assert await sound(pair)


async def test_every_try_sends_the_same_bytes_until_the_peer_has_them(pair: Pair) -> None:
    pair.out.trouble = NotHanded(RelayTrouble.CONNECTION_LOST, "test")
    await pair.send()
    await pair.work()
    named = (await dispatch_to(pair, PEER)).blob
    assert named is not None
    for _ in range(3):
        await pair.later(minutes=40)
    assert pair.out.tries >= 4
    pair.out.trouble = None
    await pair.later(hours=1)
    (content,) = sent_to(pair, PEER)
    assert sha256(content).digest() == named
    assert len(await rows_of(pair.here, 10)) == 2
    assert (await dispatch_to(pair, PEER)).blob is None
    assert await sound(pair)


@pytest.mark.parametrize("ends", ["handed", "given-up"])
async def test_the_content_is_let_go_once_it_is_not_to_be_handed_over_any_more(pair: Pair, ends: str) -> None:
    pair.out.trouble = NotHanded(RelayTrouble.NO_CONNECTION, "test")
    await pair.send()
    await pair.work()
    named = (await dispatch_to(pair, PEER)).blob
    assert named is not None
    assert await pair.here.store.read(lambda tx: tx.blobs.get(named)) is not None
    if ends == "handed":
        pair.out.trouble, pair.out.swallow = None, True
        await pair.later(hours=1)
    else:
        for _ in range(25):
            await pair.later(hours=1)
    after = await dispatch_to(pair, PEER)
    assert (after.state, after.blob) == (
        TransferState.HANDED if ends == "handed" else TransferState.FAILED, None,
    )  # fmt: skip
    assert await pair.here.store.read(lambda tx: tx.blobs.get(named)) is None
    assert await findings(pair.here) == []


@pytest.mark.parametrize("parties", [2, 3])
async def test_two_workers_at_one_moment_make_one_form_and_one_evidence(pair: Pair, parties: int) -> None:
    message = await pair.message(await pair.send())
    transfer = await dispatch_to(pair, PEER)
    pair.here.sealer.together = asyncio.Barrier(parties)  # both have looked before either has stored
    faces = FaceMaker(pair.here.dispatches)
    made = await asyncio.gather(*(faces.face(message, transfer) for _ in range(parties)))
    pair.here.sealer.together = None
    assert len({one.sha256 for one in made if one}) == 1
    assert len(await rows_of(pair.here, 10)) == 2
    assert (await dispatch_to(pair, PEER)).blob == made[0].sha256
    await pair.work()
    (content,) = sent_to(pair, PEER)
    assert sha256(content).digest() == made[0].sha256
    assert await sound(pair)


async def test_two_peers_at_one_moment_share_evidence_10() -> None:
    pair = await new_baseline_pair(THIRD, third=True)
    message_id = await pair.send(to=(FATMA, DENIZ))
    message, faces = await pair.message(message_id), FaceMaker(pair.here.dispatches)
    transfers = [await dispatch_to(pair, peer) for peer in (PEER, THIRD)]
    pair.here.sealer.together = Meeting(2)  # each has sealed an evidence 10 before one is stored
    made = await asyncio.gather(*(faces.face(message, transfer) for transfer in transfers))
    pair.here.sealer.together = None
    assert len({one.sha256 for one in made if one}) == 2
    await pair.work()
    assert await pair.states(message_id) == ["delivered", "delivered"]
    assert len(await rows_of(pair.here, 10)) == 2
    assert len({mail(sent_to(pair, peer)[0])["REM-Evidence-ID"] for peer in (PEER, THIRD)}) == 1
    assert await sound(pair)


async def test_a_store_that_fails_leaves_nothing_named_and_the_next_try_makes_it(pair: Pair) -> None:
    message = await pair.message(await pair.send())
    transfer = await dispatch_to(pair, PEER)
    write = pair.here.store.write

    async def down(_work):
        raise StoreUnavailableError("test")

    pair.here.store.write = down
    with pytest.raises(StoreUnavailableError):
        await FaceMaker(pair.here.dispatches).face(message, transfer)
    pair.here.store.write = write
    assert (await dispatch_to(pair, PEER)).blob is None
    assert len(await rows_of(pair.here, 10)) == 1
    await pair.work()
    assert await pair.states(message.message_id) == ["delivered"]
    assert await sound(pair)


async def test_what_is_not_to_be_handed_over_any_more_is_not_made(pair: Pair) -> None:
    message = await pair.message(await pair.send())
    transfer = await dispatch_to(pair, PEER)
    await pair.work()
    assert await FaceMaker(pair.here.dispatches).face(message, transfer) is None


async def test_a_peer_that_changes_its_profile_gets_what_it_was_sent_before(pair: Pair) -> None:
    pair.out.trouble = NotHanded(RelayTrouble.CONNECTION_LOST, "test")
    message_id = await pair.send()
    await pair.work()
    pair.out.trouble = None
    pair.here.peers[PEER] = peer_of(PEER, profile=PeerProfile.KEP_TS102640)
    await pair.later(hours=1)
    (content,) = sent_to(pair, PEER)
    assert b"REM-MessageType" in content
    assert await pair.states(message_id) == ["delivered"]
