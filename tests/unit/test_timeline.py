"""The timeline of a message: per recipient who, when, what it proves, and what is still awaited."""

import unicodedata
from dataclasses import replace
from datetime import timedelta

import pytest

from evidence.model.records import KEP_KINDS, EvidenceKind, Reason, ReasonCode
from kephs.cli.proof.show import WIDTH, _reason, _Speaker, render, to_json
from kephs.domain.evidence_meaning import MEANINGS
from kephs.domain.lifecycle import DeliveryState, MessageState, TransferEvent, advance_transfer
from kephs.domain.relay import NotHanded, RelayTrouble
from kephs.usecases.proof.timeline import (
    MessageAmbiguousError,
    MessageUnknownError,
    RecipientTimeline,
    ShowTimeline,
    Stamp,
    Timeline,
    find_message,
)
from kephs.usecases.submission.results import Accepted, Refused
from tests.support.pair import Pair, new_pair
from tests.support.pki import ayse, mehmet
from tests.support.world import AYSE, CAN, FATMA, MEHMET, Inline, World, compose, new_world, signed

DOWN = NotHanded(RelayTrouble.NO_CONNECTION)
K = EvidenceKind


@pytest.fixture
async def world() -> World:
    return await new_world()


@pytest.fixture
async def pair() -> Pair:
    return await new_pair()


async def shown(world: World, wanted: str, **options) -> Timeline:
    work = ShowTimeline(world.store, world.blobs, Inline(), world.clock, world.domain)
    return await work.show(wanted, **options)


async def only(world: World, message_id: str) -> RecipientTimeline:
    (recipient,) = (await shown(world, message_id)).recipients
    return recipient


def codes(recipient: RecipientTimeline) -> list[int]:
    return [event.kind.value for event in recipient.events]


def text(timeline: Timeline, languages=(0, 1)) -> str:
    return "\n".join(render(timeline, languages))


# ------------------------------------------------------------------- what it says


def test_every_kind_of_evidence_says_what_it_proves_and_what_not_in_both_languages():
    assert set(MEANINGS) == set(EvidenceKind)
    for meaning in MEANINGS.values():
        for sentence in (*meaning.proves, *meaning.does_not):
            assert sentence.endswith(".")
            assert sentence == unicodedata.normalize("NFC", sentence)
        assert meaning.proves[0] != meaning.proves[1]
    assert len({meaning.proves for meaning in MEANINGS.values()}) == len(EvidenceKind)
    assert set(MEANINGS) >= KEP_KINDS


async def test_a_message_inside_one_provider_is_told_from_acceptance_to_reading(world: World) -> None:
    outcome = await world.send(await signed(compose(), ayse()))
    assert isinstance(outcome, Accepted)
    before = await only(world, outcome.message_id)
    assert (before.state, codes(before)) == (DeliveryState.PENDING, [])
    assert before.awaited is not None
    assert before.awaited.kinds == (K.DELIVERY, K.NON_DELIVERY)
    await world.work()
    (delivery,) = await world.store.read(lambda tx: tx.deliveries.of_message(outcome.message_id))
    after = await only(world, outcome.message_id)
    assert (after.state, codes(after)) == (DeliveryState.DELIVERED, [40])
    assert after.awaited is not None
    assert (after.awaited.kinds, after.awaited.until) == ((K.RETRIEVAL,), None)
    world.clock.at += timedelta(hours=2)
    await world.reader.expose(await world.person(MEHMET), [delivery.delivery_id])
    read = await only(world, outcome.message_id)
    assert (read.state, codes(read), read.awaited) == (DeliveryState.READ, [40, 60], None)
    assert read.events[-1].person == "Mehmet Demir"
    assert read.events[-1].ledger_number == 3
    assert {event.stamp for event in read.events} == {Stamp.BESIDE}


async def test_each_recipient_has_their_own_line(pair: Pair) -> None:
    message_id = await pair.send(to=(FATMA,), cc=(MEHMET, CAN))
    await pair.work()
    timeline = await shown(pair.here, message_id)
    assert [(one.number, one.address, one.provider) for one in timeline.recipients] == [
        (1, FATMA, "hs92.kep.tr"), (2, MEHMET, "hs91.kep.tr"), (3, CAN, "hs92.kep.tr"),
    ]  # fmt: skip
    assert [codes(one) for one in timeline.recipients] == [[20, 40], [40], [20, 40]]
    assert [event.kind for event in timeline.events] == [K.SUBMISSION_ACCEPTANCE]
    assert {event.issuer_domain for event in timeline.recipients[0].events} == {"hs92.kep.tr"}
    assert not any(event.ours for event in timeline.recipients[0].events)


async def test_what_a_peer_owes_is_awaited_until_its_deadline_and_then_we_say_so(pair: Pair) -> None:
    pair.out.trouble = DOWN
    message_id = await pair.send()
    await pair.work()
    transfer = await pair.transfer(message_id)
    waiting = await only(pair.here, message_id)
    assert waiting.awaited is not None
    assert waiting.awaited.kinds == (K.RELAY_ACCEPTANCE, K.RELAY_REJECTION)
    assert waiting.awaited.until == transfer.deadline == pair.clock.at + timedelta(hours=24)
    assert waiting.awaited.then is K.RELAY_FAILURE
    assert waiting.awaited.trouble == "no-connection"
    told = text(await shown(pair.here, message_id))
    assert "Bekleniyor / Awaited: 20" in told
    assert "Alıcının KEPHS'sine bağlanılamadı." in told
    await pair.later(hours=25)
    failed = await only(pair.here, message_id)
    assert (failed.state, codes(failed), failed.awaited) == (DeliveryState.UNREACHED, [31], None)
    told = text(await shown(pair.here, message_id), (1,))
    assert "R_REMMD_Unreachable, no-connection]" in told


async def test_what_an_operator_holds_is_said(pair: Pair) -> None:
    pair.out.trouble = DOWN
    message_id = await pair.send()
    transfer = await pair.transfer(message_id)
    held = replace(transfer, state=advance_transfer(transfer.state, TransferEvent.HOLD))
    await pair.here.store.write(lambda tx: tx.transfers.save(held, transfer.state))
    waiting = await only(pair.here, message_id)
    assert waiting.awaited is not None
    assert waiting.awaited.held
    assert "held by the operator" in text(await shown(pair.here, message_id))


async def test_delivery_is_awaited_after_the_peer_took_the_message(pair: Pair) -> None:
    pair.out.swallow = True
    message_id = await pair.send()
    await pair.work()
    await pair.receive(await pair.says(20, message_id))
    await pair.here.work()
    one = await only(pair.here, message_id)
    assert one.state is DeliveryState.RELAYED
    assert one.awaited is not None
    assert (one.awaited.kinds, one.awaited.then) == ((K.DELIVERY, K.NON_DELIVERY), K.NON_DELIVERY)
    assert one.awaited.until == (await pair.transfer(message_id)).deadline


async def test_evidence_that_came_too_late_stands_beside_what_decided(pair: Pair) -> None:
    pair.out.swallow = True
    message_id = await pair.send()
    await pair.work()
    await pair.later(hours=25)
    await pair.receive(await pair.says(40, message_id, 1))
    one = await only(pair.here, message_id)
    assert one.state is DeliveryState.UNREACHED
    assert [(event.kind.value, event.standing) for event in one.events] == [(31, True), (40, False)]
    assert "both are kept" in text(await shown(pair.here, message_id))


async def test_a_message_relayed_to_us_is_told_from_our_side(pair: Pair) -> None:
    message_id = await pair.send(to=(FATMA,), cc=(MEHMET,))
    await pair.work()
    timeline = await shown(pair.there, message_id)
    assert timeline.origin == "hs91.kep.tr"
    assert timeline.sender_provider == "hs91.kep.tr"
    ours, theirs = timeline.recipients
    assert (ours.address, codes(ours)) == (FATMA, [20, 40])
    assert (theirs.address, theirs.state, codes(theirs), theirs.awaited) == (MEHMET, None, [], None)
    told = text(timeline)
    assert "the evidence about them is with the sender's provider" in told
    assert "Relayed to us by" in told


async def test_a_refused_message_shows_why_in_both_languages(world: World) -> None:
    outcome = await world.send(compose())
    assert isinstance(outcome, Refused)
    timeline = await shown(world, "<1@test>")
    assert timeline.state is MessageState.REFUSED
    (event,) = timeline.events
    assert event.kind is K.SUBMISSION_REJECTION
    assert event.reasons[0].code is ReasonCode.INVALID_USER_SIGNATURE
    told = text(timeline)
    assert "InvalidUserSignature, unsigned]" in told
    assert " / " in told


async def test_evidence_released_unstamped_says_that_its_stamp_is_awaited() -> None:
    world = await new_world(grace=True)
    world.tsa.down = True
    outcome = await world.send(await signed(compose(), ayse()))
    assert isinstance(outcome, Accepted)
    (event,) = (await shown(world, outcome.message_id)).events
    assert event.stamp is Stamp.AWAITED


# ------------------------------------------------------------------- how it looks


async def test_no_line_is_wider_than_a_hundred_columns_in_any_language(pair: Pair) -> None:
    pair.out.trouble = DOWN
    await pair.send(message_id="<wide@test>", subject="ğ" * 300)
    await pair.work()
    timeline = await shown(pair.here, "<wide@test>")
    for languages in ((0,), (1,), (0, 1)):
        assert max(len(line) for line in render(timeline, languages)) <= WIDTH


async def test_times_are_those_of_turkiye_and_utc_for_programs(world: World) -> None:
    await world.send(await signed(compose(), ayse()))
    timeline = await shown(world, "1@test")
    assert timeline.submitted_at.isoformat() == "2026-11-21T09:01:00+00:00"
    assert "21.11.2026 12:01:00" in text(timeline)
    assert to_json(timeline)["submitted_at"] == "2026-11-21T09:01:00Z"


async def test_one_language_is_only_that_language(world: World) -> None:
    await world.send(await signed(compose(), ayse()))
    timeline = await shown(world, "1@test")
    turkish, english = text(timeline, (0,)), text(timeline, (1,))
    assert "Kanıtlamaz:" in turkish
    assert "Does not prove:" not in turkish
    assert "Does not prove:" in english
    assert "Kanıtlamaz" not in english


async def test_control_characters_in_a_subject_do_not_reach_the_terminal(world: World) -> None:
    await world.send(await signed(compose(), ayse()))
    spoiled = replace(await shown(world, "1@test"), subject="a\x1b[31mb\u202ec")
    assert "\x1b" not in text(spoiled)
    assert "\u202e" not in text(spoiled)


async def test_json_has_stable_keys(pair: Pair) -> None:
    message_id = await pair.send()
    await pair.work()
    plain = to_json(await shown(pair.here, message_id))
    assert set(plain) == {
        "message_id", "user_message_id", "subject", "sender", "submitted_at", "size", "digest_sha256",
        "relayed_by", "state", "as_of", "evidence", "recipients", "content_kept", "destroyed",
    }  # fmt: skip
    (recipient,) = plain["recipients"]
    assert set(recipient) == {
        "number", "address", "name", "provider", "state", "evidence", "awaited",
    }  # fmt: skip
    assert set(recipient["evidence"][0]) == {
        "id", "code", "event", "at", "provider", "provider_name", "ours", "person", "reasons", "stamp",
        "ledger_number", "standing", "name", "proves", "does_not_prove",
    }  # fmt: skip
    assert set(recipient["awaited"]) == {
        "codes", "events", "provider", "until", "then_code", "held", "trouble",
    }  # fmt: skip


def test_a_peers_own_reason_is_shown_as_it_came():
    say = _Speaker((0, 1))
    assert _reason(Reason(ReasonCode.OTHER, "RB04: bad seal"), say) == "RB04: bad seal [Other]"
    assert _reason(Reason(ReasonCode.OTHER, "x", foreign="urn:x"), say) == "x [urn:x]"
    assert _reason(Reason(ReasonCode.MAILBOX_FULL), say) == "MailboxFull"


# ------------------------------------------------------------------- which message


async def test_a_message_is_found_by_either_id_with_or_without_brackets(world: World) -> None:
    outcome = await world.send(await signed(compose(), ayse()))
    assert isinstance(outcome, Accepted)
    for wanted in (outcome.message_id, f"<{outcome.message_id}>", "1@test", "<1@test>"):
        assert (await shown(world, wanted)).message_id == outcome.message_id
    assert (await shown(world, "1@test", account=AYSE)).message_id == outcome.message_id
    with pytest.raises(MessageUnknownError):
        await shown(world, "2@test")
    with pytest.raises(MessageUnknownError):
        await shown(world, "1@test", account=MEHMET)


async def test_two_senders_may_use_one_message_id(world: World) -> None:
    await world.send(await signed(compose(), ayse()))
    await world.send(await signed(compose(sender=MEHMET, to=(AYSE,)), mehmet()), sender=MEHMET, to=(AYSE,))
    with pytest.raises(MessageAmbiguousError) as caught:
        await shown(world, "<1@test>")
    assert len(caught.value.ids) == 2
    assert (await shown(world, "<1@test>", account=MEHMET)).sender.address == MEHMET


async def test_a_refused_one_does_not_hide_the_one_that_was_accepted(world: World) -> None:
    assert isinstance(await world.send(compose()), Refused)
    outcome = await world.send(await signed(compose(), ayse()))
    assert isinstance(outcome, Accepted)
    found = await world.store.read(lambda tx: find_message(tx, "<1@test>"))
    assert found.message_id == outcome.message_id
