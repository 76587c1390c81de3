"""Revocation over real HTTP: OCSP first, CRL when it is silent, nobody: None, and never an exception."""

import asyncio
from datetime import timedelta

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from evidence.adapters.revocation_http import HttpRevocation, HttpRevocationSettings
from evidence.x509.certificates import certificate_facts
from evidence.x509.chain import TrustStore
from evidence.x509.revocation import RevocationSource, RevocationStatus
from tests.support.pki import AYSE_TCKN, NOW, make_pki


class Issuers:
    """A TEST PKI behind a web server whose answers a test can spoil."""

    def __init__(self):
        self.asked = []
        self.now = NOW
        self.ocsp = self.good_ocsp
        self.crl = self.good_crl
        self.pki = None

    async def start(self):
        app = web.Application()
        app.router.add_post("/ocsp/{ca}", self._ocsp)
        app.router.add_get("/crl/{ca}.crl", self._crl)
        app.router.add_route("*", "/elsewhere", self._elsewhere)
        self.server = TestServer(app)
        await self.server.start_server()
        self.pki = make_pki(base_url=str(self.server.make_url("")).rstrip("/"))

    async def _ocsp(self, request):
        self.asked.append("ocsp")
        return await self.ocsp(request)

    async def _crl(self, request):
        self.asked.append("crl")
        return await self.crl(request)

    async def _elsewhere(self, _request):
        self.asked.append("elsewhere")
        return web.Response(status=200)

    async def good_ocsp(self, request):
        body = self.pki.ocsp_response(await request.read(), self.now, ca=request.match_info["ca"])
        return web.Response(body=body, content_type="application/ocsp-response")

    async def good_crl(self, request):
        return web.Response(body=self.pki.crl(request.match_info["ca"], self.now))

    async def broken(self, _request):
        return web.Response(status=503)

    async def garbage(self, _request):
        return web.Response(body=b"<html>")

    async def endless(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(200):
                await response.write(bytes(256 * 1024))
        except ConnectionError:
            pass
        return response

    async def redirecting(self, _request):
        raise web.HTTPFound("/elsewhere")

    async def hanging(self, _request):
        await asyncio.sleep(30)

    def spoil(self, ocsp=None, crl=None):
        self.ocsp = getattr(self, ocsp or "good_ocsp")
        self.crl = getattr(self, crl or "good_crl")


@pytest.fixture
async def issuers():
    made = Issuers()
    await made.start()
    yield made
    await made.server.close()


@pytest.fixture
async def client(issuers):
    async with aiohttp.ClientSession() as session:
        yield HttpRevocation(
            session,
            clock=lambda: issuers.now,
            trust=TrustStore([issuers.pki.root], intermediates=issuers.pki.intermediates),
            nonces=lambda: b"0123456789abcdef",
            settings=HttpRevocationSettings(timeout=0.3, crl_timeout=0.5),
        )


def holder(issuers, **options):
    issued = issuers.pki.issue_user("Can", AYSE_TCKN, **options)
    return certificate_facts(issued.certificate), certificate_facts(issued.chain[0])


@pytest.mark.parametrize("issuer", ["p384", "pss"])
async def test_ocsp_is_asked_first(issuers, client, issuer):
    answer = await client.status(*holder(issuers, issuer=issuer), NOW)
    assert (answer.status, answer.source) == (RevocationStatus.GOOD, RevocationSource.OCSP)
    assert issuers.asked == ["ocsp"]


async def test_the_authority_itself_is_answered_for(issuers, client):
    _, issuer = holder(issuers)
    answer = await client.status(issuer, certificate_facts(issuers.pki.root), NOW)
    assert answer.status is RevocationStatus.GOOD


@pytest.mark.parametrize("fault", ["broken", "garbage", "redirecting", "hanging", "endless"])
async def test_the_list_is_asked_when_ocsp_is_silent(issuers, client, fault):
    issuers.spoil(ocsp=fault)
    answer = await client.status(*holder(issuers), NOW)
    assert (answer.status, answer.source) == (RevocationStatus.GOOD, RevocationSource.CRL)
    assert issuers.asked == ["ocsp", "crl"]  # no redirect was followed


@pytest.mark.parametrize("fault", ["broken", "garbage", "redirecting", "hanging", "endless"])
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
