"""Who gets what of a dispatch: index rules of 20 and 21 (KEP-EV-02), unknown and blocked recipients, sizes, malware."""

import pytest

from directory.accounts import AccountState
from kephs.domain.mailboxes import FolderRole
from kephs.domain.policy import Limits
from kephs.domain.refusals import RefusalCode
from kephs.usecases.submission.results import Refused, Taken
from tests.support.pair import (
    DENIZ,
    MIB,
    Pair,
    Seen,
    dispatch_of,
    new_pair,
    open_account,
    seen,
    untouched,
)
from tests.support.world import AYSE, CAN, FATMA, MEHMET, PEER, compose

TEN: Seen = (10, (), None, "hs91")
TWENTY: Seen = (20, (), None, "hs92")
FORTY: Seen = (40, (), 1, "hs92")
ORIGINAL = compose(to=(FATMA,))
UNKNOWN = f"yok.kimse@{PEER}"


@pytest.fixture
async def pair() -> Pair:
    return await new_pair()


def code(answer: Taken | Refused) -> RefusalCode:
    assert isinstance(answer, Refused), answer
    assert answer.evidence_id is None
    return answer.refusal.code


async def inbox(pair: Pair, address: str = FATMA) -> int:
    return await pair.there.count(address, FolderRole.INBOX)


# --------------------------------------------------------------------------- recipients


async def test_an_unknown_recipient_among_known_ones_gets_21_and_the_others_20_each_with_its_number(
    pair: Pair,
) -> None:
    message_id = await pair.send(to=(FATMA, UNKNOWN), cc=(CAN,))
    await pair.work()
    assert await seen(pair.there) == [
        TEN, (20, (), 1, "hs92"), (21, (10,), 2, "hs92"), (20, (), 3, "hs92"), FORTY, (40, (), 3, "hs92"),
    ]  # fmt: skip
    assert sorted(await seen(pair.here)) == sorted(await seen(pair.there))
    assert await pair.states(message_id) == ["delivered", "rejected", "delivered"]
    assert await inbox(pair, FATMA) == await inbox(pair, CAN) == 1
    assert await pair.here.count(AYSE, FolderRole.EVIDENCE) == 6


async def test_recipients_who_are_all_unknown_share_one_21(pair: Pair) -> None:
    message_id = await pair.send(to=(UNKNOWN, f"o.da@{PEER}"))
    await pair.work()
    assert await seen(pair.there) == [(21, (10,), None, "hs92")]
    assert await pair.states(message_id) == ["rejected", "rejected"]


async def test_unknown_and_blocked_recipients_get_a_21_each_with_its_own_reason(pair: Pair) -> None:
    await pair.there.accounts.block(CAN)
    message_id = await pair.send(to=(UNKNOWN, CAN))
    await pair.work()
    assert await seen(pair.there) == [(21, (10,), 1, "hs92"), (21, (5,), 2, "hs92")]
    assert await pair.states(message_id) == ["rejected", "rejected"]


@pytest.mark.parametrize(
    ("state", "reason"),
    [(AccountState.CLOSED, 10), (AccountState.WAITING, 10), (AccountState.BLOCKED, 5)],
)
async def test_who_cannot_receive_gets_21_with_the_reason_of_the_state(
    pair: Pair, state: AccountState, reason: int
) -> None:
    account = await pair.there.accounts.find(FATMA)
    now = pair.clock.now()
    await pair.there.store.write(lambda tx: tx.accounts.set_state(account.account_id, state, now))
    message_id = await pair.send()
    await pair.work()
    assert await seen(pair.there) == [(21, (reason,), None, "hs92")]
    assert await pair.states(message_id) == ["rejected"]


async def test_a_message_for_none_of_ours_is_refused_and_not_passed_on(pair: Pair) -> None:
    content = await dispatch_of(pair.here, ORIGINAL, (DENIZ, MEHMET))
    assert code(await pair.there_gets(content, to=(DENIZ,))) is RefusalCode.NOT_SERVED_HERE
    assert await untouched(pair.there)


async def test_an_envelope_with_strangers_makes_21_and_delivers_to_nobody(pair: Pair) -> None:
    answer = await pair.there_gets(await dispatch_of(pair.here, ORIGINAL), to=(FATMA, CAN))
    assert isinstance(answer, Taken)
    await pair.there.work()
    assert await seen(pair.there) == [(21, (5,), None, "hs92")]
    assert await inbox(pair, FATMA) == await inbox(pair, CAN) == 0


async def test_a_hop_that_splits_the_envelope_changes_nothing(pair: Pair) -> None:
    content = await dispatch_of(pair.here, ORIGINAL, (FATMA, CAN))
    answers = {await pair.there_gets(content, to=(one,)) for one in (FATMA, CAN)}
    await pair.there.work()
    assert len(answers) == 1
    assert await seen(pair.there) == [TEN, TWENTY, FORTY, (40, (), 2, "hs92")]
    assert await inbox(pair, FATMA) == await inbox(pair, CAN) == 1


async def test_evidence_about_a_recipient_keeps_its_number_beside_addresses_that_are_none(pair: Pair) -> None:
    content = await dispatch_of(pair.here, ORIGINAL, ("biri@example.org", FATMA, DENIZ))
    assert isinstance(await pair.there_gets(content), Taken)
    (record,) = await pair.there.evidence()
    assert await seen(pair.there) == [(21, (5,), 2, "hs92")]
    assert [party.address for party in record.recipients] == ["biri@example.org", FATMA, DENIZ]


async def test_more_recipients_than_the_limit_make_21(pair: Pair) -> None:
    many = (FATMA, *(f"kisi.no.{number}@{PEER}" for number in range(500)))
    answer = await pair.there_gets(await dispatch_of(pair.here, ORIGINAL, many))
    assert isinstance(answer, Taken)
    assert await seen(pair.there) == [(21, (5,), None, "hs92")]
    assert (await pair.there.evidence())[0].reasons[0].details.startswith("too-many-recipients")


async def test_500_unknown_recipients_get_one_21_and_each_ends_rejected(pair: Pair) -> None:
    many = tuple(f"kisi.no.{number}@{PEER}" for number in range(500))
    message_id = await pair.send(to=many)
    await pair.work()
    assert await seen(pair.there) == [(21, (10,), None, "hs92")]
    assert await pair.states(message_id) == ["rejected"] * 500
    assert len(pair.back.sent) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_500_recipients_get_one_20_and_500_times_40(pair: Pair) -> None:
    many = tuple(f"kisi.no.{number}@{PEER}" for number in range(500))
    for address in many:
        await open_account(pair.there, address)
    message_id = await pair.send(to=many)
    await pair.work()
    rows = await pair.here.store.read(lambda tx: list(tx.evidence.all()))
    kept = sorted((int(row.kind), row.number or 0, row.origin) for row in rows)
    assert kept == [(10, 0, None), (20, 0, PEER), *((40, number, PEER) for number in range(1, 501))]
    assert await pair.states(message_id) == ["delivered"] * 500
    assert len(pair.back.sent) == 501
    assert await pair.here.count(AYSE, FolderRole.EVIDENCE) == 502


# --------------------------------------------------------------------------- content


async def test_malware_at_the_recipients_provider_makes_21_reason_2_and_keeps_no_copy(pair: Pair) -> None:
    pair.there.scanner.found = "Eicar-Test"
    message_id = await pair.send()
    await pair.work()
    assert await seen(pair.there) == [(21, (2,), None, "hs92")]
    assert await pair.states(message_id) == ["rejected"]
    assert await inbox(pair) == 0
    content = [blob.sha256 for blob in await pair.there.store.read(lambda tx: list(tx.blobs.all()))]
    evidence = await pair.there.store.read(lambda tx: [e.blob for e in tx.evidence.all()])
    assert set(content) <= {*evidence, *(t.blob for t in await pair.transfers(pair.there))}


async def test_26_mib_make_21_reason_5(pair: Pair) -> None:
    line = b"x" * 76 + b"\r\n"
    content = await dispatch_of(pair.here, ORIGINAL + line * (26 * MIB // len(line)))
    answer = await pair.there_gets(content)
    assert isinstance(answer, Taken)
    assert await seen(pair.there) == [(21, (5,), None, "hs92")]
    assert (await pair.there.evidence())[0].reasons[0].details.startswith("too-big")


@pytest.mark.parametrize(("spare", "evidence"), [(0, [TEN, TWENTY]), (-1, [(21, (5,), None, "hs92")])])
async def test_the_limit_between_providers_counts_the_decoded_content_to_the_byte(
    spare: int, evidence: list[Seen]
) -> None:
    body = ORIGINAL.partition(b"\r\n\r\n")[2]
    decoded = len(body.replace(b"=C4=B1", b".."))
    pair = await new_pair(there_limits=Limits(max_elsewhere=decoded + spare))
    await pair.there_gets(await dispatch_of(pair.here, ORIGINAL))
    assert await seen(pair.there) == evidence
