"""The time-stamp client over real HTTP: who asks, whom, in which order, and what it does about revocation."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import pbkdf2_hmac, sha256
from ipaddress import ip_address

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from evidence.adapters.batch_stamper import BatchStamper
from evidence.adapters.tsa_http import revocation_check
from evidence.adapters.tsa_identity import TsaEndpoint
from evidence.asn1.der import Cursor, parse, to_int, to_octets
from evidence.stamps.ers import read_record, tree_root
from evidence.stamps.timestamps import build_request, read_request, read_token, rejection, verify_token
from evidence.x509.chain import Chain, TrustStore
from evidence.x509.revocation import check_ocsp, ocsp_request
from kephs.testpki.oids import TEST_TSA_POLICY
from tests.support.pki import NOW, make_pki, shared_pki
from tests.support.tsa import (
    CUSTOMER,
    DIGEST,
    PASSWORD,
    REPLY,
    WAYS,
    Reach,
    Tsa,
    authorities,
    client,
    good,
    opened,
    proves,
    refused,
    status,
)


@pytest.fixture
async def tsas() -> AsyncIterator[list[Tsa]]:
    async with authorities() as running:
        yield running


@pytest.fixture
def tsa(tsas: list[Tsa]) -> Tsa:
    return tsas[0]


@pytest.fixture(params=WAYS)
async def reach(request: pytest.FixtureRequest) -> AsyncIterator[Reach]:
    async with opened(request.param) as found:
        yield found


# ------------------------------------------------------------------ the request


async def test_a_request_asks_for_certificates_with_a_nonce_of_its_own(tsa, reach):
    stamper = client(reach, tsa.url)
    assert proves(await stamper.stamp(DIGEST))
    assert proves(await stamper.stamp(DIGEST))
    one, two = map(read_request, tsa.bodies)
    assert one.certificates
    assert two.certificates
    assert one.nonce != two.nonce
    assert max(one.nonce, two.nonce) > 1 << 48
    assert (one.hash_name, one.imprint, one.policy) == ("sha256", DIGEST, None)
    headers = tsa.requests[0].headers
    assert headers["Content-Type"] == "application/timestamp-query"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"] == "kephs"
    assert "Authorization" not in headers
    assert "identity" not in headers


async def test_connections_are_kept(tsa, reach):
    stamper = client(reach, tsa.url)
    for _ in range(3):
        await stamper.stamp(DIGEST)
    assert len({request.transport for request in tsa.requests}) == 1


async def test_each_authority_may_have_a_policy_of_its_own(tsas, reach):
    first, second = tsas
    endpoints = (TsaEndpoint(first.url, policy="1.2.3"), TsaEndpoint(second.url, policy=TEST_TSA_POLICY))
    token = await client(reach, *endpoints, policy="1.2.4").stamp(DIGEST)
    assert [read_request(tsa.bodies[0]).policy for tsa in tsas] == ["1.2.3", TEST_TSA_POLICY]
    assert read_token(token).info.policy == TEST_TSA_POLICY


async def test_another_policy_than_asked_for_is_refused(tsa, reach):
    async def other(tsa, _request, body):
        asked = read_request(body)
        return web.Response(body=tsa.answer(build_request(asked.imprint, asked.nonce)), content_type=REPLY)

    tsa.spoil = other
    assert "was not asked for" in await refused(client(reach, tsa.url, policy="1.2.3"))


# ------------------------------------------------------------------ who asks


async def test_kamu_sm_can_read_who_asks_and_what_for(tsa, reach):
    async def kamu(tsa, request, body):
        text = request.headers["identity"]
        assert text == text.lower()
        cursor = Cursor(parse(bytes.fromhex(text), max_size=500), limit=5)
        customer, salt = to_int(cursor.take(0x02)), to_octets(cursor.take(0x04))
        rounds, iv = to_int(cursor.take(0x02)), to_octets(cursor.take(0x04))
        key = pbkdf2_hmac("sha256", PASSWORD.encode(), salt, rounds, 32)
        decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
        plain = decryptor.update(to_octets(cursor.take(0x04))) + decryptor.finalize()
        assert salt[:8] != salt[8:]
        assert bytes(8) not in {salt[:8], salt[8:]}
        if (customer, plain) != (CUSTOMER, read_request(body).imprint + b"\x10" * 16):
            return web.Response(body=rejection(2, "Account could not be authenticated"), content_type=REPLY)
        return await good(tsa, request, body)

    tsa.spoil = kamu
    stamper = client(reach, TsaEndpoint(tsa.url, CUSTOMER, PASSWORD, "kamusm"))
    assert proves(await stamper.stamp(DIGEST))
    assert proves(await stamper.stamp(DIGEST))
    assert len({request.headers["identity"] for request in tsa.requests}) == 2  # a new salt each time
    wrong = client(reach, TsaEndpoint(tsa.url, CUSTOMER + 1, PASSWORD, "kamusm"))
    assert "Account could not be authenticated" in await refused(wrong)


@pytest.mark.parametrize(
    ("answer", "content_type", "said"),
    [
        (rejection(2, "User 999 is not known"), REPLY, "User 999 is not known"),
        (bytes.fromhex("300f0201021a0a") + b"Kontor yok", REPLY, "Kontor yok"),
        (b"Kontor yok", "text/plain", "content type text/plain (it says: Kontor yok)"),
        (b"Kontor yok", REPLY, "Kontor yok"),
        (b"", REPLY, "no words of why"),
    ],
    ids=["status", "odd", "text", "text by another name", "nothing"],
)
async def test_an_error_that_comes_as_http_200_is_told_in_its_own_words(
    tsa, reach, answer, content_type, said
):
    async def error(_tsa, _request, _body):
        return web.Response(body=answer, content_type=content_type)

    tsa.spoil = error
    paid = []
    stamper = client(
        reach, TsaEndpoint(tsa.url, CUSTOMER, PASSWORD, "kamusm"), spent=lambda *a: paid.append(a)
    )
    text = await refused(stamper)
    assert said in text
    assert PASSWORD not in text
    assert paid == []


async def test_basic_authentication(tsa, reach):
    async def strict(tsa, request, body):
        if request.headers.get("Authorization") != "Basic YXnFn2U6YTrEnw==":
            return web.Response(status=401)
        return await good(tsa, request, body)

    tsa.spoil = strict
    assert proves(await client(reach, TsaEndpoint(tsa.url, "ayşe", "a:ğ", "basic")).stamp(DIGEST))
    assert "HTTP 401" in await refused(client(reach, tsa.url))


async def test_each_authority_gets_its_own_credentials_alone(tsas, reach):
    first, second = tsas
    first.spoil = status(503)
    endpoints = (TsaEndpoint(first.url, "u", "p", "basic"), TsaEndpoint(second.url, 7, "q", "kamusm"))
    assert proves(await client(reach, *endpoints).stamp(DIGEST))
    assert "identity" not in first.requests[0].headers
    assert "Authorization" not in second.requests[0].headers
    assert "identity" in second.requests[0].headers


# ------------------------------------------------------------------ https


def _server_certificate(tmp_path, name="localhost"):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "TEST TSA server")])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=3650))
        .not_valid_after(NOW + timedelta(days=3650))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.9"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / f"{name}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


@pytest.mark.parametrize(
    ("name", "known", "passes"),
    [("localhost", True, True), ("localhost", False, False), ("other.example", True, False)],
)
@pytest.mark.parametrize("way", WAYS)
async def test_https_is_verified_as_ever(tmp_path, name, known, passes, way):
    path = _server_certificate(tmp_path, name)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    tsa = await Tsa().start(server)
    ours = ssl.create_default_context(cafile=str(path) if known else None)
    try:
        async with opened(way, ours) as reach:
            stamper = client(reach, TsaEndpoint(tsa.url, "u", "p", "basic"))
            if passes:
                assert proves(await stamper.stamp(DIGEST))
            else:
                assert "certificate verify failed" in await refused(stamper)
                assert tsa.requests == []  # the password went nowhere
    finally:
        await tsa.runner.cleanup()


# ------------------------------------------------------------------ fail-over


async def test_when_both_are_down_the_text_says_what_each_did(tsas, reach):
    tsas[0].spoil = status(503)
    tsas[1].spoil = status(200, body=b"<html>", content_type="text/html")
    with capture_logs() as logs:
        text = await refused(client(reach, *(tsa.url for tsa in tsas)))
    assert text == f"{tsas[0].url}: HTTP 503; {tsas[1].url}: content type text/html (it says: <html>)"
    assert [(entry["event"], entry["url"]) for entry in logs] == [
        ("stamp.authority_failed", tsas[0].url),
        ("stamp.authority_failed", tsas[1].url),
    ]


async def test_an_authority_that_failed_is_asked_last_for_a_while(tsas, reach):
    now = [NOW]
    tsas[0].spoil = status(503)
    stamper = client(reach, *(tsa.url for tsa in tsas), clock=lambda: now[0])
    for _ in range(3):
        assert proves(await stamper.stamp(DIGEST))
    assert [len(tsa.requests) for tsa in tsas] == [1, 3]
    tsas[0].spoil = None
    for tsa in tsas:
        tsa.now = NOW + timedelta(seconds=31)
    now[0] += timedelta(seconds=31)
    await stamper.stamp(DIGEST)
    assert [len(tsa.requests) for tsa in tsas] == [2, 3]


# ------------------------------------------------------------------ revocation


async def test_the_chain_of_an_authority_is_asked_about_once_in_a_while(tsa, reach):
    asked: list[Chain] = []
    now = [NOW]

    async def check(chain):
        asked.append(chain)

    trust = TrustStore([shared_pki().root])
    stamper = client(reach, tsa.url, revocation=check, clock=lambda: now[0], trust=trust)
    for _ in range(3):
        assert proves(await stamper.stamp(DIGEST))
    assert len(asked) == 1
    assert asked[0].leaf.der == shared_pki().tsa.certificate
    assert trust.is_root(asked[0].root)
    tsa.now = now[0] = NOW + timedelta(minutes=5)
    await stamper.stamp(DIGEST)
    assert len(asked) == 2


async def test_a_revoked_authority_is_passed_over(tsas, reach):
    other = make_pki()
    tsas[1].pki = other

    async def check(chain):
        return "revoked 2026-11-01" if chain.leaf.der == shared_pki().tsa.certificate else None

    trust = TrustStore([shared_pki().root, other.root])
    stamper = client(reach, *(tsa.url for tsa in tsas), revocation=check, trust=trust)
    token = await stamper.stamp(DIGEST)
    assert other.tsa.certificate in read_token(token).signed.certificates
    assert "its certificate: revoked 2026-11-01" in await refused(
        client(reach, tsas[0].url, revocation=check)
    )


class Known:
    """Who knows of revocations, from the TEST PKI's own OCSP."""

    def __init__(self, pki):
        self.pki, self.asked, self.silent = pki, [], False

    async def status(self, certificate, issuer, at):
        self.asked.append(certificate.subject_text)
        if self.silent:
            return None
        (ca,) = [n for n in ("root", "p384") if self.pki.authorities[n].certificate == issuer.der]
        response = self.pki.ocsp_response(ocsp_request(certificate, issuer), at, ca=ca)
        return check_ocsp(response, certificate, issuer, at=at, trust=TrustStore([self.pki.root]))


async def test_the_ready_made_check_refuses_what_is_revoked_and_takes_silence_for_good(tsa, reach):
    tsa.pki = make_pki()
    known = Known(tsa.pki)
    trust = TrustStore([tsa.pki.root])
    check = revocation_check(known, lambda: NOW)
    options = {"revocation": check, "trust": trust, "revocation_for": timedelta(0)}
    stamper = client(reach, tsa.url, **options)
    assert await stamper.stamp(DIGEST)
    tsa.pki.revoke(tsa.pki.tsa.serial, NOW)
    assert "is revoked" in await refused(stamper)
    known.silent = True
    assert await stamper.stamp(DIGEST)


async def test_silence_about_revocation_holds_up_no_stamp_for_long(tsa, reach, monkeypatch):
    monkeypatch.setattr("evidence.adapters.tsa_http._REVOCATION_SECONDS", 0.05)
    asked = []

    async def silent(chain):
        asked.append(chain)
        await asyncio.Event().wait()

    stamper = client(reach, tsa.url, revocation=silent)
    with capture_logs() as logs:
        assert proves(await stamper.stamp(DIGEST))
        assert proves(await stamper.stamp(DIGEST))
    assert len(asked) == 1
    assert [entry["event"] for entry in logs] == ["stamp.revocation_silent"]


# ------------------------------------------------------------------ batches, whole


async def test_many_callers_share_tokens_of_a_real_authority(tsa, reach):
    async def slow(tsa, request, body):
        await asyncio.sleep(0.02)
        return await good(tsa, request, body)

    tsa.spoil = slow
    stamper = BatchStamper(client(reach, tsa.url))
    digests = [sha256(bytes((n,))).digest() for n in range(50)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stamper.records([digest])) for digest in digests]
    assert len(tsa.requests) == 1  # whoever is ready in one turn of the loop goes together
    trust = TrustStore([shared_pki().root])
    for digest, task in zip(digests, tasks, strict=True):
        ((stamp,),) = read_record(task.result()[0]).chains
        root = tree_root(stamp.reduced, digest, "sha256")
        assert verify_token(stamp.token, imprint=root, trust=trust, at=NOW).passed
