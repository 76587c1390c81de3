"""Revocation over real HTTP: OCSP first, CRL when it is silent, nobody: None, and never an exception."""

import asyncio
from datetime import timedelta

import aiohttp
import pytest

from evidence.adapters.revocation_fetch import FetchLimits
from evidence.x509.certificates import certificate_facts
from evidence.x509.revocation import RevocationSource, RevocationStatus
from tests.support.pki import AYSE_TCKN, NOW
from tests.support.revocation_answers import response, revoked, single
from tests.support.revocation_servers import Issuers, client_of

SILENT = ["hanging", "slammed", "dripping"]
BROKEN = [
    "broken",
    "no_content",
    "garbage",
    "empty",
    "redirecting",
    "endless",
    "announced",
    "cut",
    "bomb",
    "zipped",
]


@pytest.fixture
async def issuers():
    made = Issuers()
    await made.start()
    yield made
    await made.server.close()


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
async def client(issuers, session):
    return client_of(issuers, session)


def holder(issuers, **options):
    return issuers.holder(**options)


@pytest.mark.parametrize("issuer", ["p384", "pss"])
async def test_ocsp_is_asked_first(issuers, client, issuer):
    answer = await client.status(*holder(issuers, issuer=issuer), NOW)
    assert (answer.status, answer.source) == (RevocationStatus.GOOD, RevocationSource.OCSP)
    assert issuers.asked == ["ocsp"]


async def test_the_authority_itself_is_answered_for(issuers, client):
    _, issuer = holder(issuers)
    answer = await client.status(issuer, certificate_facts(issuers.pki.root), NOW)
    assert answer.status is RevocationStatus.GOOD


@pytest.mark.parametrize("fault", [*SILENT, *BROKEN])
async def test_the_list_is_asked_when_ocsp_is_silent(issuers, client, fault):
    issuers.spoil(ocsp=fault)
    answer = await client.status(*holder(issuers), NOW)
    assert (answer.status, answer.source) == (RevocationStatus.GOOD, RevocationSource.CRL)
    assert issuers.asked == ["ocsp", "crl"]  # no redirect was followed


@pytest.mark.parametrize("fault", [*SILENT, *BROKEN])
async def test_nobody_answering_means_none_and_no_exception(issuers, client, fault):
    issuers.spoil(ocsp="broken", crl=fault)
    assert await client.status(*holder(issuers), NOW) is None


async def test_a_server_that_is_gone_means_none(issuers, client):
    who = holder(issuers)
    await issuers.server.close()
    assert await client.status(*who, NOW) is None


@pytest.mark.parametrize("fault", [None, "broken"])
async def test_revoked_is_told_by_either_service(issuers, client, fault):
    issued = issuers.pki.issue_user("Can", AYSE_TCKN)
    issuers.pki.revoke(issued.serial, NOW - timedelta(hours=1))
    issuers.spoil(ocsp=fault)
    answer = await client.status(
        certificate_facts(issued.certificate), certificate_facts(issued.chain[0]), NOW
    )
    assert answer.status is RevocationStatus.REVOKED


async def test_many_callers_share_one_request(issuers, client):
    who = holder(issuers)
    answers = await asyncio.gather(*(client.status(*who, NOW) for _ in range(20)))
    assert {answer.status for answer in answers} == {RevocationStatus.GOOD}
    assert issuers.asked == ["ocsp"]


async def test_a_cancelled_caller_does_not_take_the_others_down(issuers, client):
    who = holder(issuers)
    first = asyncio.ensure_future(client.status(*who, NOW))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(client.status(*who, NOW))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).status is RevocationStatus.GOOD
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_an_answer_is_kept_then_refreshed_and_survives_silence_while_fresh(issuers, client):
    who = holder(issuers)
    await client.status(*who, NOW)
    await client.status(*who, NOW)
    assert issuers.asked == ["ocsp"]
    issuers.now = NOW + timedelta(minutes=6)
    await client.status(*who, issuers.now)
    assert issuers.asked == ["ocsp", "ocsp"]
    issuers.spoil(ocsp="broken", crl="broken")
    issuers.now = NOW + timedelta(minutes=20)
    assert (await client.status(*who, issuers.now)).status is RevocationStatus.GOOD
    issuers.now = NOW + timedelta(hours=2)  # past nextUpdate of the last answer
    assert await client.status(*who, issuers.now) is None


async def test_a_revocation_is_seen_at_the_refresh_although_the_old_answer_is_fresh(issuers, client):
    issued = issuers.pki.issue_user("Can", AYSE_TCKN)
    who = certificate_facts(issued.certificate), certificate_facts(issued.chain[0])
    assert (await client.status(*who, NOW)).status is RevocationStatus.GOOD
    issuers.now = NOW + timedelta(minutes=6)
    issuers.pki.revoke(issued.serial, issuers.now)
    assert (await client.status(*who, issuers.now)).status is RevocationStatus.REVOKED


async def test_silence_is_remembered_for_a_moment_only(issuers, client):
    who = holder(issuers)
    issuers.spoil(ocsp="broken", crl="broken")
    await client.status(*who, NOW)
    await client.status(*who, NOW)
    assert issuers.asked == ["ocsp", "crl"]
    issuers.spoil()
    issuers.now = NOW + timedelta(seconds=3)
    assert (await client.status(*who, issuers.now)).status is RevocationStatus.GOOD


async def test_one_list_serves_many_certificates(issuers, client):
    issuers.spoil(ocsp="broken")
    people = [holder(issuers) for _ in range(5)]
    answers = await asyncio.gather(*(client.status(*who, NOW) for who in people))
    assert {answer.source for answer in answers} == {RevocationSource.CRL}
    assert issuers.asked.count("crl") == 1


async def test_a_stale_answer_is_no_answer(issuers, client):
    who = holder(issuers)
    issuers.now = NOW - timedelta(days=3)  # both services answer with old dates
    assert await client.status(*who, NOW) is None


# --------------------------------------------------------------------- many callers


async def test_a_stampede_of_a_thousand_callers_makes_one_request(issuers, client):
    who = holder(issuers)
    answers = await asyncio.gather(*(client.status(*who, NOW) for _ in range(1000)))
    assert len({id(answer) for answer in answers}) == 1
    assert issuers.asked == ["ocsp"]


async def test_a_thousand_callers_share_one_silence_too(issuers, client):
    issuers.spoil(ocsp="broken", crl="broken")
    who = holder(issuers)
    answers = await asyncio.gather(*(client.status(*who, NOW) for _ in range(1000)))
    assert set(answers) == {None}
    assert issuers.asked == ["ocsp", "crl"]


async def test_when_the_leader_and_more_are_cancelled_the_others_still_get_their_answer(issuers, client):
    who = holder(issuers)
    callers = [asyncio.ensure_future(client.status(*who, NOW)) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for caller in callers[:10]:
        caller.cancel()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[:10])
    assert {answer.status for answer in answers[10:]} == {RevocationStatus.GOOD}


async def test_a_hold_is_asked_again_at_the_refresh_a_final_revocation_is_not(issuers, client):
    issued = issuers.pki.issue_user("Can", AYSE_TCKN)
    who = certificate_facts(issued.certificate), certificate_facts(issued.chain[0])
    by = issuers.pki.responders["p384"]
    issuers.ocsp = issuers.says(response(single(issued, revoked(NOW, 6)), by=by))
    await client.status(*who, NOW)
    issuers.now = NOW + timedelta(minutes=6)
    issuers.ocsp = issuers.says(response(single(issued, revoked(NOW, 1), this=issuers.now), by=by))
    assert not (await client.status(*who, issuers.now)).on_hold
    issuers.now = NOW + timedelta(minutes=30)
    await client.status(*who, issuers.now)
    assert issuers.asked == ["ocsp", "ocsp"]


@pytest.mark.parametrize("fault", ["broken", "garbage", "hanging"])
async def test_a_list_that_fails_is_not_fetched_by_everybody_who_waits_for_it(issuers, client, fault):
    issuers.spoil(ocsp="broken", crl=fault)
    people = [holder(issuers) for _ in range(5)]
    assert set(await asyncio.gather(*(client.status(*who, NOW) for who in people))) == {None}
    assert issuers.asked.count("crl") == 1
    issuers.spoil(ocsp="broken")
    issuers.now = NOW + timedelta(seconds=3)
    assert (await client.status(*people[0], issuers.now)).source is RevocationSource.CRL


async def test_answers_from_a_list_go_when_its_successor_comes(issuers, client):
    """Each would keep the whole old list in memory."""
    issuers.spoil(ocsp="broken")
    people = [holder(issuers) for _ in range(2)]
    first = await client.status(*people[0], NOW)
    issuers.now = NOW + timedelta(minutes=6)
    second = await client.status(*people[1], issuers.now)
    assert first.der is not second.der
    assert all(kept.answer.der is second.der for kept in client._kept.values())


async def test_only_a_few_answers_and_lists_are_kept(issuers, session):
    client = client_of(issuers, session, limits={"answers": 2})
    people = [holder(issuers) for _ in range(3)]
    for who in (*people, people[2], people[0]):
        await client.status(*who, NOW)
    assert issuers.asked == ["ocsp"] * 4  # the third was kept, the first had to go


def test_the_usual_limits_leave_an_ocsp_answer_time_within_its_request():
    limits = FetchLimits()
    assert limits.connect < limits.read < 5.0
