"""Revocation over real HTTP: hostile responders, slow wires, forbidden addresses, proxies."""

from dataclasses import replace
from datetime import timedelta
from time import perf_counter

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from evidence.adapters.revocation_fetch import FetchLimits, RevocationFetcher
from evidence.adapters.revocation_http import TEST_MARKER
from evidence.x509.certificates import certificate_facts
from evidence.x509.revocation import FreshnessRules, RevocationError, RevocationSource, RevocationStatus
from kephs.testpki import oids, profiles
from tests.support.pki import AYSE_TCKN, NOW, make_pki
from tests.support.revocation_answers import GOOD, HOUR, Listed, crl, response, revoked, single
from tests.support.revocation_servers import Issuers, client_of


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


# --------------------------------------------------------------------- what the wire does


async def test_a_plain_answer_is_asked_for_and_the_content_type_is_not_looked_at(issuers, client):
    """The signature protects the answer; responders that say text/html exist."""
    issuers.spoil(ocsp="wrong_type", crl="wrong_type")
    assert (await client.status(*holder(issuers), NOW)).source is RevocationSource.OCSP
    issuers.spoil(ocsp="broken", crl="wrong_type")
    assert (await client.status(*holder(issuers), NOW)).source is RevocationSource.CRL
    assert {asked["Accept-Encoding"] for asked in issuers.headers} == {"identity"}


@pytest.mark.parametrize("fault", ["dripping", "hanging", "announced", "endless"])
async def test_a_slow_or_endless_responder_costs_no_more_than_the_time_limits(issuers, client, fault):
    issuers.spoil(ocsp=fault, crl=fault)
    start = perf_counter()
    assert await client.status(*holder(issuers), NOW) is None
    assert perf_counter() - start < 2.5  # 0.4 for OCSP, 0.6 for the list, and room for a busy machine


@pytest.mark.parametrize("fault", ["announced", "endless"])
async def test_a_body_above_the_cap_is_left_at_once(issuers, session, fault):
    limits = FetchLimits(connect=20.0, read=20.0)
    fetcher = RevocationFetcher(session, clock=lambda: NOW, proxy=None, private=True, limits=limits)
    issuers.spoil(crl=fault)
    url = holder(issuers)[0].extensions.crl_urls[0]
    with pytest.raises(RevocationError, match="larger than 1000 octets"):
        await fetcher.fetch("GET", url, 20.0, 1000)


async def test_one_question_has_a_limit_of_its_own(issuers, session):
    client = client_of(
        issuers, session, limits={"question_timeout": 0.2, "timeout": 20.0, "crl_timeout": 20.0}
    )
    issuers.spoil(ocsp="dripping", crl="dripping")
    assert await client.status(*holder(issuers), NOW) is None
    assert issuers.asked == ["ocsp"]


async def test_a_silent_address_is_not_asked_for_the_next_certificate_for_a_moment(issuers, client):
    issuers.spoil(ocsp="hanging")
    await client.status(*holder(issuers), NOW)
    assert (await client.status(*holder(issuers), NOW)).source is RevocationSource.CRL
    assert issuers.asked == ["ocsp", "crl"]
    issuers.spoil()
    issuers.now = NOW + timedelta(seconds=3)
    assert (await client.status(*holder(issuers), issuers.now)).source is RevocationSource.OCSP


def with_urls(facts, **urls):
    """Return the facts of a certificate as if it named other addresses."""
    return replace(facts, extensions=replace(facts.extensions, **urls))


async def test_the_next_address_is_asked_when_one_fails_and_others_than_web_ones_are_passed_over(
    issuers, client
):
    certificate, issuer = holder(issuers)
    good = certificate.extensions.ocsp_urls[0]
    bad = good.replace("/ocsp/p384", "/elsewhere")
    many = with_urls(certificate, ocsp_urls=("ldap://x/y", "ftp://x/y", "http://[", bad, good))
    assert (await client.status(many, issuer, NOW)).source is RevocationSource.OCSP
    assert issuers.asked == ["elsewhere", "ocsp"]


async def test_three_addresses_are_asked_at_most(issuers, client):
    certificate, issuer = holder(issuers)
    bad = certificate.extensions.ocsp_urls[0].replace("/ocsp/p384", "/elsewhere")
    many = with_urls(certificate, ocsp_urls=tuple(f"{bad}?{n}" for n in range(9)), crl_urls=())
    assert await client.status(many, issuer, NOW) is None
    assert issuers.asked == ["elsewhere"] * 3


# --------------------------------------------------------------------- where requests go


def test_the_marker_of_test_certificates_is_the_one_the_test_pki_writes():
    assert TEST_MARKER == oids.TEST_MARKER


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "10.1.2.3", "169.254.169.254", "[::ffff:127.0.0.1]", "[fe80::1]",
     "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0.0.0.0", "100.64.0.1", "224.0.0.1"],
)  # fmt: skip
async def test_private_addresses_are_asked_in_test_instances_only(issuers, session, host):
    client = client_of(issuers, session, limits={"private_addresses": False})
    certificate, issuer = holder(issuers)
    url = f"http://{host}:{issuers.server.port}/ocsp/p384"
    assert await client.status(with_urls(certificate, ocsp_urls=(url,), crl_urls=(url,)), issuer, NOW) is None
    assert issuers.asked == []


async def test_addresses_with_user_names_are_not_asked(issuers, client):
    certificate, issuer = holder(issuers)
    url = certificate.extensions.ocsp_urls[0].replace("http://", "http://user:secret@")
    assert await client.status(with_urls(certificate, ocsp_urls=(url,), crl_urls=()), issuer, NOW) is None
    assert issuers.asked == []


async def test_everything_goes_through_the_proxy_where_there_is_one(issuers, session):
    seen = []

    async def forward(request):
        seen.append((str(request.url), request.headers.get("Proxy-Authorization")))
        data = await request.read()
        async with session.request(request.method, str(request.url), data=data) as answer:
            return web.Response(body=await answer.read(), status=answer.status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    async with TestServer(app) as proxy:
        address = f"http://kep:gizli@127.0.0.1:{proxy.port}"
        client = client_of(issuers, session, proxy=address)
        assert (await client.status(*holder(issuers), NOW)).source is RevocationSource.OCSP
        issuers.spoil(ocsp="broken")
        assert (await client.status(*holder(issuers), NOW)).source is RevocationSource.CRL
    assert [url.rpartition("/")[2] for url, _ in seen] == ["p384", "p384", "p384.crl"]
    assert {authorization for _, authorization in seen} == {aiohttp.encode_basic_auth("kep", "gizli")}


async def test_a_proxy_that_is_gone_means_none_and_nobody_is_asked_directly(issuers, session):
    client = client_of(issuers, session, proxy="http://127.0.0.1:9")
    assert await client.status(*holder(issuers), NOW) is None
    assert issuers.asked == []


async def test_behind_a_proxy_literal_private_addresses_are_still_refused(issuers, session):
    client = client_of(
        issuers, session, proxy=f"http://127.0.0.1:{issuers.server.port}", limits={"private_addresses": False}
    )
    assert await client.status(*holder(issuers), NOW) is None
    assert issuers.asked == []


# --------------------------------------------------------------------- hostile responders


def hostile_answers(issuers, issued):
    """Return responses that must not be believed, by what is wrong with them."""
    pki, other = issuers.pki, make_pki()
    own = pki.responders["p384"]
    another = pki.issue_user("Can", AYSE_TCKN)
    good = response(single(issued), by=own)
    return {
        "another-certificate": response(single(another), by=own),
        "stale": response(single(issued, this=NOW - 3 * HOUR, until=NOW - HOUR), by=own, at=NOW - 3 * HOUR),
        "future": response(single(issued, this=NOW + HOUR, until=NOW + 2 * HOUR), by=own, at=NOW + HOUR),
        "responder-of-another-authority": response(single(issued), by=pki.responders["root"]),
        "responder-of-an-impostor": response(single(issued), by=other.responders["p384"]),
        "no-mandate": response(single(issued), by=pki.issue_responder("p384", eku=False)),
        "holder-as-responder": response(single(issued), by=issued),
        "no-certificate": response(single(issued), by=own, enclosed=()),
        "unsigned": good[:-2000] if len(good) > 4000 else good[:200],
        "trailing": good + b"\x00",
        "changed": good[:-5] + bytes([good[-5] ^ 1]) + good[-4:],
        "no-answers": response(by=own),
        "too-many": response(*[single(issued)] * 65, by=own),
    }


HOSTILE = [
    "another-certificate", "stale", "future", "responder-of-another-authority", "responder-of-an-impostor",
    "no-mandate", "holder-as-responder", "no-certificate", "unsigned", "trailing", "changed", "no-answers",
    "too-many",
]  # fmt: skip


@pytest.mark.parametrize("fault", HOSTILE)
async def test_a_hostile_responder_gets_no_good_through(issuers, client, fault):
    issued = issuers.pki.issue_user("Can", AYSE_TCKN)
    answers = hostile_answers(issuers, issued)
    assert sorted(answers) == sorted(HOSTILE)
    who = certificate_facts(issued.certificate), certificate_facts(issued.chain[0])
    issuers.ocsp = issuers.says(answers[fault])
    issuers.crl = issuers.broken
    assert await client.status(*who, NOW) is None
    issuers.ocsp = issuers.says(response(single(issued), by=issuers.pki.responders["p384"]))
    issuers.now = NOW + timedelta(seconds=3)
    assert (await client.status(*who, NOW)).status is RevocationStatus.GOOD  # its twin passes


async def test_an_answer_with_another_nonce_is_a_replay_and_one_without_is_refused_on_demand(
    issuers, session
):
    certificate, issuer = holder(issuers)
    issued = issuers.pki.issue_user("Can", AYSE_TCKN)
    who = certificate_facts(issued.certificate), certificate_facts(issued.chain[0])
    issuers.ocsp = issuers.says(response(single(issued), by=issuers.pki.responders["p384"]))
    issuers.crl = issuers.broken
    strict = client_of(issuers, session, limits={"freshness": FreshnessRules(require_nonce=True)})
    assert await strict.status(*who, NOW) is None
    assert (await client_of(issuers, session).status(*who, NOW)).status is RevocationStatus.GOOD
    issuers.spoil()
    assert (await strict.status(certificate, issuer, NOW)).status is RevocationStatus.GOOD


@pytest.mark.parametrize(
    ("listed", "told"), [([], RevocationStatus.GOOD), (["responder"], None)], ids=["vouched-for", "revoked"]
)
async def test_a_responder_without_nocheck_is_looked_up_in_the_issuers_list(issuers, client, listed, told):
    pki = issuers.pki
    own = pki.issue(
        profiles.name(common_name="TEST kephs OCSP own"), profiles.responder_extensions(nocheck=False),
        authority=pki.authorities["p384"],
    )  # fmt: skip
    if listed:
        pki.revoke(own.serial, NOW - HOUR)
    issued = pki.issue_user("Can", AYSE_TCKN)
    who = certificate_facts(issued.certificate), certificate_facts(issued.chain[0])
    issuers.ocsp = issuers.says(response(single(issued), by=own))
    found = await client.status(*who, NOW)
    if told is None:
        assert found.source is RevocationSource.CRL  # the responder is not believed, the list is
    else:
        assert (found.status, found.source) == (told, RevocationSource.OCSP)
    assert issuers.asked == ["ocsp", "crl"]


async def test_an_older_good_answer_does_not_replace_a_newer_one_but_a_revocation_does(issuers, client):
    issued = issuers.pki.issue_user("Can", AYSE_TCKN)
    who = certificate_facts(issued.certificate), certificate_facts(issued.chain[0])
    by = issuers.pki.responders["p384"]

    def said(status, minutes):
        this = NOW + timedelta(minutes=minutes)
        return issuers.says(response(single(issued, status, this=this, until=this + HOUR), by=by, at=this))

    issuers.ocsp, issuers.now = said(revoked(NOW, 6), 10), NOW + timedelta(minutes=10)
    assert (await client.status(*who, issuers.now)).on_hold
    issuers.ocsp, issuers.now = said(GOOD, 0), NOW + timedelta(minutes=16)
    assert (await client.status(*who, issuers.now)).on_hold  # a replay does not take the hold away
    issuers.ocsp, issuers.now = said(GOOD, 22), NOW + timedelta(minutes=22)
    assert (await client.status(*who, issuers.now)).status is RevocationStatus.GOOD
    issuers.ocsp, issuers.now = said(revoked(NOW, 1), 21), NOW + timedelta(minutes=28)
    assert (await client.status(*who, issuers.now)).status is RevocationStatus.REVOKED


async def test_a_smaller_number_is_not_believed_for_its_later_date(issuers, client):
    issued = issuers.pki.issue_user("Can", AYSE_TCKN)
    who = certificate_facts(issued.certificate), certificate_facts(issued.chain[0])
    by = issuers.pki.authorities["p384"].issued
    issuers.ocsp = issuers.broken
    issuers.crl = issuers.says(crl(Listed(issued.serial, NOW, 6), by=by, number=5))
    assert (await client.status(*who, NOW)).on_hold
    issuers.now = NOW + timedelta(minutes=6)
    issuers.crl = issuers.says(crl(by=by, number=4, this=issuers.now))
    assert (await client.status(*who, issuers.now)).on_hold


async def test_a_list_older_than_one_seen_before_is_not_taken(issuers, client):
    issued = issuers.pki.issue_user("Can", AYSE_TCKN)
    who = certificate_facts(issued.certificate), certificate_facts(issued.chain[0])
    by = issuers.pki.authorities["p384"].issued
    issuers.ocsp = issuers.broken
    issuers.crl = issuers.says(crl(Listed(issued.serial, NOW, 6), by=by, number=5))
    assert (await client.status(*who, NOW)).on_hold
    issuers.crl = issuers.says(crl(by=by, number=4, this=NOW - HOUR))
    issuers.now = NOW + timedelta(minutes=6)
    assert (await client.status(*who, issuers.now)).on_hold
    issuers.crl = issuers.says(crl(by=by, number=6))
    issuers.now = NOW + timedelta(minutes=12)
    assert (await client.status(*who, issuers.now)).status is RevocationStatus.GOOD


async def test_once_the_last_list_has_ended_an_issuer_may_count_anew(issuers, client):
    who = holder(issuers)
    by = issuers.pki.authorities["p384"].issued
    issuers.ocsp = issuers.broken
    issuers.crl = issuers.says(crl(by=by, number=500))
    assert await client.status(*who, NOW) is not None
    late = issuers.now = NOW + timedelta(days=2)
    issuers.crl = issuers.says(crl(by=by, number=1, this=NOW - HOUR, until=late + HOUR))
    assert await client.status(*who, late) is None  # older by date: a replay
    issuers.now = late + timedelta(seconds=3)
    issuers.crl = issuers.says(crl(by=by, number=1, this=late, until=late + HOUR))
    assert (await client.status(*who, late)).status is RevocationStatus.GOOD
