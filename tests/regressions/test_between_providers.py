"""Defects between two providers that an acceptance audit found."""

from datetime import timedelta

import pytest

from evidence.model.records import EvidenceKind
from kephs.domain.lifecycle import TransferState
from kephs.domain.refusals import RefusalCode
from kephs.domain.relay import NotHanded, RelayTrouble
from kephs.system import LocalChanges
from kephs.usecases.submission.results import Refused, Taken
from tests.support.pair import (
    Pair,
    dispatch_of,
    new_pair,
    peer_of,
    registered,
    sealer_of,
    seen,
    transaction_of,
    untouched,
)
from tests.support.pki import NOW, shared_pki
from tests.support.world import DOMAIN, FATMA, PEER

ORIGINAL = b"Subject: x\r\n\r\nHi\r\n"


@pytest.fixture
async def pair() -> Pair:
    return await new_pair()


async def test_a_seal_that_a_doubtful_register_does_not_know_is_asked_to_come_back(pair: Pair) -> None:
    """A peer's new certificate may stand in a register we have not seen, or our clock may be behind."""
    content = await dispatch_of(pair.here, ORIGINAL)
    pair.there.peers[DOMAIN] = peer_of(DOMAIN, certificates=())
    for doubtful, code in (
        (True, RefusalCode.REGISTER_NOT_CURRENT),
        (False, RefusalCode.SEAL_NOT_REGISTERED),
    ):
        object.__setattr__(pair.there.register, "doubtful", lambda doubtful=doubtful: doubtful)
        answer = await pair.there_gets(content)
        assert isinstance(answer, Refused)
        assert answer.refusal.code is code
        assert answer.refusal.text.temporary is doubtful
    assert await untouched(pair.there)


async def test_an_ended_seal_over_evidence_of_a_valid_certificate_makes_21_reason_22(pair: Pair) -> None:
    old = shared_pki().issue_transaction(DOMAIN, "TEST hs91")
    both = (registered(transaction_of(DOMAIN)), registered(old, end=NOW - timedelta(hours=1)))
    pair.there.peers[DOMAIN] = peer_of(DOMAIN, certificates=both)
    content = await dispatch_of(pair.here, ORIGINAL, sealed_by=sealer_of(pair.here, old))
    assert isinstance(await pair.there_gets(content), Taken)
    assert await seen(pair.there) == [(21, (22,), None, "hs92")]


async def test_a_refusal_of_a_peers_message_wakes_the_worker_that_sends_its_receipt(pair: Pair) -> None:
    changes = pair.there.changes.subscribe(LocalChanges.EVERYTHING)
    await pair.there_gets(
        await dispatch_of(pair.here, ORIGINAL, to=(f"yok.yok@{PEER}",)), to=(f"yok.yok@{PEER}",)
    )
    assert [kind for kind, *_ in await seen(pair.there)] == [21]
    await changes.wait()  # would wait for ever
    changes.close()


async def test_a_message_refused_at_the_first_try_says_why_in_the_queue(pair: Pair) -> None:
    message_id = await pair.send()
    pair.out.trouble = NotHanded(RelayTrouble.REFUSED, "content 550 5.7.1")
    await pair.work()
    transfer = await pair.transfer(message_id)
    assert (transfer.state, transfer.cause, transfer.attempts) == (TransferState.FAILED, "refused", 1)


async def test_a_recipient_named_twice_by_a_peer_gets_no_two_copies(pair: Pair) -> None:
    answer = await pair.there_gets(await dispatch_of(pair.here, ORIGINAL, to=(FATMA, FATMA)))
    assert isinstance(answer, Taken)
    await pair.there.work()
    assert {(kind, reasons) for kind, reasons, _, _ in await seen(pair.there)} == {(21, (5,))}


async def test_evidence_of_an_event_before_the_submission_is_refused(pair: Pair) -> None:
    message_id = await pair.send()
    long_ago = pair.clock.now() - timedelta(hours=3)
    answer = await pair.receive(await pair.says(40, message_id, 1, event_time=long_ago))
    assert isinstance(answer, Refused)
    assert answer.refusal.code is RefusalCode.RECEIPT_UNMATCHED
    assert isinstance(await pair.receive(await pair.says(40, message_id, 1)), Taken)


async def test_EVF_RETRREC_001_reading_at_the_peer_makes_its_60_and_the_sender_gets_it_once(
    pair: Pair,
) -> None:
    message_id = await pair.send()
    await pair.work()
    await pair.read(FATMA, message_id)
    await pair.work()
    assert await pair.states(message_id) == ["read"]
    assert [one for one in await seen(pair.here) if one[0] == 60] == [(60, (), 1, "hs92")]


async def test_EVF_AUT_001_evidence_10_names_how_the_sender_signed_in_and_60_how_the_reader_did(
    pair: Pair,
) -> None:
    message_id = await pair.send()
    await pair.work()
    await pair.read(FATMA, message_id)
    await pair.work()
    records = {record.kind: record for record in await pair.here.evidence()}
    sender = records[EvidenceKind.SUBMISSION_ACCEPTANCE].sender_authentication
    reader = records[EvidenceKind.RETRIEVAL].recipient_authentication
    assert sender is not None
    assert reader is not None
    assert reader.person == "Fatma Kaya"
    assert (
        records[EvidenceKind.DELIVERY].recipient_authentication is None
    )  # she did not act (rem-formats §1.2)
