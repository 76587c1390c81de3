"""The time-stamp client over real HTTP: who asks, what is paid, and everything an authority may do wrong."""

import asyncio
import gzip
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from hashlib import pbkdf2_hmac, sha256
from ipaddress import ip_address
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from evidence.adapters.batch_stamper import BatchStamper
from evidence.adapters.tsa_http import CreditFile, HttpTimestamper, read_credits, revocation_check
from evidence.adapters.tsa_identity import TsaEndpoint
from evidence.chain import Chain, TrustStore
from evidence.der import Cursor, parse, to_int, to_octets
from evidence.ers import read_record, tree_root
from evidence.ports import TimestampUnavailableError
from evidence.revocation import check_ocsp, ocsp_request
from evidence.timestamps import build_request, read_request, read_token, rejection, verify_token
from evidence.token_budget import CreditState
from kephs.testpki.oids import TEST_TSA_POLICY
from tests.support.pki import NOW, make_pki, shared_pki

DIGEST = sha256(b"x").digest()
REPLY = "application/timestamp-reply"
CUSTOMER, PASSWORD = 12345, "parola-ğ"


Handler = Callable[["Tsa", web.Request, bytes], Awaitable[web.StreamResponse]]


class Tsa:
    """An authority behind HTTP whose answers a test can spoil."""

    def __init__(self) -> None:
        self.pki = shared_pki()
        self.now = NOW
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.spoil: Handler | None = None
        self.url = ""

    async def start(self, context: ssl.SSLContext | None = None) -> "Tsa":
        app = web.Application()
        app.router.add_post("/tsa", self._stamp)
        app.router.add_route("*", "/elsewhere", self._stamp)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=context).start()
        scheme, host = ("https", "localhost") if context else ("http", "127.0.0.1")
        self.url = f"{scheme}://{host}:{self.runner.addresses[0][1]}/tsa"
        return self

    async def _stamp(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(request)
        self.bodies.append(body)
        return await (self.spoil or good)(self, request, body)

    def answer(self, body: bytes) -> bytes:
        return self.pki.timestamp_reply(body, self.now)


async def good(tsa: Tsa, _request: web.Request, body: bytes) -> web.StreamResponse:
    return web.Response(body=tsa.answer(body), content_type=REPLY)


@pytest.fixture
async def tsas() -> AsyncIterator[list[Tsa]]:
    both = [await Tsa().start(), await Tsa().start()]
    yield both
    for tsa in both:
        await tsa.runner.cleanup()


@pytest.fixture
def tsa(tsas: list[Tsa]) -> Tsa:
    return tsas[0]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as opened:
        yield opened


def client(session, *endpoints, **options) -> HttpTimestamper:
    return HttpTimestamper(
        endpoints,
        session=session,
        nonces=lambda: secrets.randbits(64),
        **{
            "clock": lambda: NOW,
            "trust": TrustStore([shared_pki().root]),
            "timeout": timedelta(seconds=1),
            **options,
        },
    )


async def refused(stamper) -> str:
    with pytest.raises(TimestampUnavailableError) as caught:
        await stamper.stamp(DIGEST)
    return str(caught.value)


def proves(token) -> bool:
    return verify_token(token, imprint=DIGEST, trust=TrustStore([shared_pki().root]), at=NOW).passed


# ------------------------------------------------------------------ the request


async def test_a_request_asks_for_certificates_with_a_nonce_of_its_own(tsa, session):
    stamper = client(session, tsa.url)
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


async def test_connections_are_kept(tsa, session):
    stamper = client(session, tsa.url)
    for _ in range(3):
        await stamper.stamp(DIGEST)
    assert len({request.transport for request in tsa.requests}) == 1


async def test_each_authority_may_have_a_policy_of_its_own(tsas, session):
    first, second = tsas
    endpoints = (TsaEndpoint(first.url, policy="1.2.3"), TsaEndpoint(second.url, policy=TEST_TSA_POLICY))
    token = await client(session, *endpoints, policy="1.2.4").stamp(DIGEST)
    assert [read_request(tsa.bodies[0]).policy for tsa in tsas] == ["1.2.3", TEST_TSA_POLICY]
    assert read_token(token).info.policy == TEST_TSA_POLICY


async def test_another_policy_than_asked_for_is_refused(tsa, session):
    async def other(tsa, _request, body):
        asked = read_request(body)
        return web.Response(body=tsa.answer(build_request(asked.imprint, asked.nonce)), content_type=REPLY)

    tsa.spoil = other
    assert "was not asked for" in await refused(client(session, tsa.url, policy="1.2.3"))


# ------------------------------------------------------------------ who asks


async def test_kamu_sm_can_read_who_asks_and_what_for(tsa, session):
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
    stamper = client(session, TsaEndpoint(tsa.url, CUSTOMER, PASSWORD, "kamusm"))
    assert proves(await stamper.stamp(DIGEST))
    assert proves(await stamper.stamp(DIGEST))
    assert len({request.headers["identity"] for request in tsa.requests}) == 2  # a new salt each time
    wrong = client(session, TsaEndpoint(tsa.url, CUSTOMER + 1, PASSWORD, "kamusm"))
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
    tsa, session, answer, content_type, said
):
    async def error(_tsa, _request, _body):
        return web.Response(body=answer, content_type=content_type)

    tsa.spoil = error
    paid = []
    stamper = client(
        session, TsaEndpoint(tsa.url, CUSTOMER, PASSWORD, "kamusm"), spent=lambda *a: paid.append(a)
    )
    text = await refused(stamper)
    assert said in text
    assert PASSWORD not in text
    assert paid == []


async def test_basic_authentication(tsa, session):
    async def strict(tsa, request, body):
        if request.headers.get("Authorization") != "Basic YXnFn2U6YTrEnw==":
            return web.Response(status=401)
        return await good(tsa, request, body)

    tsa.spoil = strict
    assert proves(await client(session, TsaEndpoint(tsa.url, "ayşe", "a:ğ", "basic")).stamp(DIGEST))
    assert "HTTP 401" in await refused(client(session, tsa.url))


async def test_each_authority_gets_its_own_credentials_alone(tsas, session):
    first, second = tsas
    first.spoil = _status(503)
    endpoints = (TsaEndpoint(first.url, "u", "p", "basic"), TsaEndpoint(second.url, 7, "q", "kamusm"))
    assert proves(await client(session, *endpoints).stamp(DIGEST))
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
async def test_https_is_verified_as_ever(tmp_path, name, known, passes):
    path = _server_certificate(tmp_path, name)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    tsa = await Tsa().start(server)
    ours = ssl.create_default_context(cafile=str(path) if known else None)
    try:
        connector = aiohttp.TCPConnector(ssl=ours)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            stamper = client(session, TsaEndpoint(tsa.url, "u", "p", "basic"))
            if passes:
                assert proves(await stamper.stamp(DIGEST))
            else:
                assert "certificate verify failed" in await refused(stamper)
                assert tsa.requests == []  # the password went nowhere
    finally:
        await tsa.runner.cleanup()


# ------------------------------------------------------------------ answers


@pytest.mark.parametrize(
    "content_type",
    [REPLY, "application/timestamp-response", "application/octet-stream", "Application/Timestamp-Reply; q=1"],
)
async def test_a_good_token_counts_under_any_of_the_usual_names(tsa, session, content_type):
    async def named(tsa, _request, body):
        return web.Response(body=tsa.answer(body), headers={"Content-Type": content_type})

    tsa.spoil = named
    assert proves(await client(session, tsa.url).stamp(DIGEST))


def _status(status: int, **options: Any) -> Handler:
    async def respond(_tsa: Tsa, _request: web.Request, _body: bytes) -> web.StreamResponse:
        return web.Response(status=status, **options)

    return respond


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_status(302, headers={"Location": "/elsewhere"}), "HTTP 302 (redirects are not followed)"),
        (_status(307, headers={"Location": "/elsewhere"}), "HTTP 307 (redirects are not followed)"),
        (_status(503, text="x" * 1000), "HTTP 503"),
        (_status(204), "HTTP 204"),
        (_status(200, body=bytes(70_000), content_type=REPLY), "larger than 65536"),
        (
            _status(200, body=b"<html>captive</html>", content_type="text/html"),
            "text/html (it says: <html>captive",
        ),
        (
            _status(200, body=b"x", headers={"Content-Encoding": "gzip", "Content-Type": REPLY}),
            "encoding gzip",
        ),
    ],
    ids=["302", "307", "503", "204", "huge", "portal", "gzip"],
)
async def test_what_is_no_answer_is_refused_with_its_reason(tsa, session, spoil, reason):
    tsa.spoil = spoil
    assert reason in await refused(client(session, tsa.url))
    assert len(tsa.requests) == 1


async def test_a_gzip_bomb_is_not_even_opened():
    async def bomb(_tsa, _request, _body):
        body = gzip.compress(bytes(50_000_000))
        return web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": REPLY})

    tsa = await Tsa().start()
    tsa.spoil = bomb
    try:
        async with aiohttp.ClientSession() as session:  # one that would open it
            assert "content encoding gzip" in await refused(client(session, tsa.url))
    finally:
        await tsa.runner.cleanup()


async def test_an_endless_answer_is_cut_off(tsa, session):
    async def endless(_tsa, request, _body):
        response = web.StreamResponse(headers={"Content-Type": REPLY})
        await response.prepare(request)
        while True:
            await response.write(bytes(16_384))

    tsa.spoil = endless
    stamper = client(session, tsa.url, timeout=timedelta(seconds=30))
    assert "larger than 65536" in await refused(stamper)


async def test_an_answer_that_drips_does_not_stretch_the_time_out(tsa, session):
    dripped = asyncio.Event()

    async def drip(tsa, request, body):
        answer = tsa.answer(body)
        response = web.StreamResponse(headers={"Content-Type": REPLY, "Content-Length": str(len(answer))})
        await response.prepare(request)
        for octet in answer:
            await response.write(bytes((octet,)))
            dripped.set()
            await asyncio.sleep(0.02)
        return response

    tsa.spoil = drip
    began = asyncio.get_running_loop().time()
    text = await refused(client(session, tsa.url, timeout=timedelta(seconds=0.2)))
    assert asyncio.get_running_loop().time() - began < 4
    assert "no answer within 0.2 s" in text
    assert dripped.is_set()


@pytest.mark.parametrize(
    "spoken",
    [
        b"",
        b"\x00" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Type: application/timestamp-reply\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(50_000)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    ],
    ids=[
        "silence",
        "nuls",
        "ssh",
        "length",
        "minus",
        "short",
        "chunks",
        "line",
        "headers",
        "type",
        "continue",
    ],
)
async def test_a_server_that_speaks_no_http_is_passed_over(tsas, session, spoken):
    async def speak(reader, writer):
        with_request = await reader.readuntil(b"\r\n\r\n")
        assert with_request.startswith(b"POST")
        writer.write(spoken)
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        odd = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/tsa"
        assert odd in await refused(client(session, odd, timeout=timedelta(seconds=2)))
        assert proves(await client(session, odd, tsas[1].url, timeout=timedelta(seconds=2)).stamp(DIGEST))


async def test_a_kept_connection_that_the_server_closed_meanwhile_costs_nothing(tsa, session):
    """The server closes after its answer without having said so: our next request meets a dead connection."""
    served = []

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        answer = tsa.answer(await reader.readexactly(length))
        served.append(len(answer))
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
            % (REPLY.encode(), len(answer))
        )
        writer.write(answer)
        await reader.read(1)  # the next request arrives: close without an answer
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        stamper = client(session, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/tsa")
        for _ in range(3):
            assert proves(await stamper.stamp(DIGEST))
        assert len(served) == 3


async def test_a_token_without_certificates_is_refused(tsa, session):
    async def bare(tsa, _request, body):
        asked = read_request(body)
        short = build_request(asked.imprint, asked.nonce).removesuffix(b"\x01\x01\xff")
        short = bytes((0x30, len(short) - 2)) + short[2:]
        return web.Response(body=tsa.answer(short), content_type=REPLY)

    tsa.spoil = bare
    assert "certificate" in await refused(client(session, tsa.url))


async def test_a_token_over_other_bytes_is_refused_and_counted(tsa, session):
    async def other(tsa, _request, body):
        asked = read_request(body)
        return web.Response(body=tsa.answer(build_request(bytes(32), asked.nonce)), content_type=REPLY)

    tsa.spoil = other
    paid = []
    text = await refused(client(session, tsa.url, spent=lambda *told: paid.append(told)))
    assert "the imprint is not the request's" in text
    assert paid == [(tsa.url, NOW)]


async def test_a_flipped_octet_anywhere_is_no_time_stamp(tsa, session):
    flip = {"at": 0}

    async def flipped(tsa, _request, body):
        answer = bytearray(tsa.answer(body))
        answer[flip["at"] % len(answer)] ^= 1
        return web.Response(body=bytes(answer), content_type=REPLY)

    tsa.spoil = flipped
    stamper = client(session, tsa.url)
    passed = []
    for at in range(0, 1700, 13):
        flip["at"] = at
        try:
            passed.append((at, await stamper.stamp(DIGEST)))
        except TimestampUnavailableError:
            continue
    assert passed == []


@pytest.mark.parametrize("offset", [-7, 7])
async def test_the_authoritys_time_is_compared_with_the_time_it_had(tsa, session, offset):
    """An answer that took long is not refused for it: genTime lies between question and answer."""
    times = iter([NOW, NOW + timedelta(minutes=5)])
    stamper = client(session, tsa.url, clock=lambda: next(times), max_skew=timedelta(seconds=5))
    tsa.now = NOW + timedelta(minutes=2)
    assert await stamper.stamp(DIGEST)
    tsa.now = NOW + timedelta(seconds=offset)
    assert "far from our clock" in await refused(client(session, tsa.url, max_skew=timedelta(seconds=5)))


# ------------------------------------------------------------------ fail-over


async def test_when_both_are_down_the_text_says_what_each_did(tsas, session):
    tsas[0].spoil = _status(503)
    tsas[1].spoil = _status(200, body=b"<html>", content_type="text/html")
    with capture_logs() as logs:
        text = await refused(client(session, *(tsa.url for tsa in tsas)))
    assert text == f"{tsas[0].url}: HTTP 503; {tsas[1].url}: content type text/html (it says: <html>)"
    assert [(entry["event"], entry["url"]) for entry in logs] == [
        ("stamp.authority_failed", tsas[0].url),
        ("stamp.authority_failed", tsas[1].url),
    ]


async def test_an_authority_that_failed_is_asked_last_for_a_while(tsas, session):
    now = [NOW]
    tsas[0].spoil = _status(503)
    stamper = client(session, *(tsa.url for tsa in tsas), clock=lambda: now[0])
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


async def test_the_chain_of_an_authority_is_asked_about_once_in_a_while(tsa, session):
    asked: list[Chain] = []
    now = [NOW]

    async def check(chain):
        asked.append(chain)

    trust = TrustStore([shared_pki().root])
    stamper = client(session, tsa.url, revocation=check, clock=lambda: now[0], trust=trust)
    for _ in range(3):
        assert proves(await stamper.stamp(DIGEST))
    assert len(asked) == 1
    assert asked[0].leaf.der == shared_pki().tsa.certificate
    assert trust.is_root(asked[0].root)
    tsa.now = now[0] = NOW + timedelta(minutes=5)
    await stamper.stamp(DIGEST)
    assert len(asked) == 2


async def test_a_revoked_authority_is_passed_over(tsas, session):
    other = make_pki()
    tsas[1].pki = other

    async def check(chain):
        return "revoked 2026-11-01" if chain.leaf.der == shared_pki().tsa.certificate else None

    trust = TrustStore([shared_pki().root, other.root])
    stamper = client(session, *(tsa.url for tsa in tsas), revocation=check, trust=trust)
    token = await stamper.stamp(DIGEST)
    assert other.tsa.certificate in read_token(token).signed.certificates
    assert "its certificate: revoked 2026-11-01" in await refused(
        client(session, tsas[0].url, revocation=check)
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


async def test_the_ready_made_check_refuses_what_is_revoked_and_takes_silence_for_good(tsa, session):
    tsa.pki = make_pki()
    known = Known(tsa.pki)
    trust = TrustStore([tsa.pki.root])
    check = revocation_check(known, lambda: NOW)
    options = {"revocation": check, "trust": trust, "revocation_for": timedelta(0)}
    stamper = client(session, tsa.url, **options)
    assert await stamper.stamp(DIGEST)
    tsa.pki.revoke(tsa.pki.tsa.serial, NOW)
    assert "is revoked" in await refused(stamper)
    known.silent = True
    assert await stamper.stamp(DIGEST)


async def test_silence_about_revocation_holds_up_no_stamp_for_long(tsa, session, monkeypatch):
    monkeypatch.setattr("evidence.adapters.tsa_http._REVOCATION_SECONDS", 0.05)
    asked = []

    async def silent(chain):
        asked.append(chain)
        await asyncio.Event().wait()

    stamper = client(session, tsa.url, revocation=silent)
    with capture_logs() as logs:
        assert proves(await stamper.stamp(DIGEST))
        assert proves(await stamper.stamp(DIGEST))
    assert len(asked) == 1
    assert [entry["event"] for entry in logs] == ["stamp.revocation_silent"]


# ------------------------------------------------------------------ what is paid for


async def test_a_failing_count_fails_no_stamp(tsa, session):
    def broken(_endpoint, _at):
        raise RuntimeError("disk")

    with capture_logs() as logs:
        assert proves(await client(session, tsa.url, spent=broken).stamp(DIGEST))
    assert [entry["event"] for entry in logs] == ["stamp.count_failed"]


async def test_tokens_are_counted_across_restarts_and_processes(tsa, session, tmp_path):
    path = tmp_path / "tsa-credits.json"
    endpoint = TsaEndpoint(tsa.url, credits=10)
    one, two = (CreditFile(path, [endpoint], every=1000) for _ in range(2))
    for counter in (one, two):
        stamper = client(session, endpoint, spent=counter.spent)
        for _ in range(2):
            await stamper.stamp(DIGEST)
    assert not path.exists()
    await one.close()
    await two.close()
    await two.close()
    (line,) = read_credits(path, [endpoint])
    assert (line.used, line.left, line.state) == (4, 6, CreditState.PLENTY)
    assert (line.spending.first, line.spending.last) == (NOW, NOW)
    assert CreditFile(path, [endpoint]).report() == (line,)
    assert two.report() == (line,)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tsa-credits.json", "tsa-credits.json.lock"]


async def test_the_file_is_written_every_so_many_tokens(tmp_path):
    path = tmp_path / "tsa-credits.json"
    counter = CreditFile(path, ["http://tsa.example/"], every=5)
    for _ in range(4):
        counter.spent("http://tsa.example/", NOW)
    assert counter._writing is None
    counter.spent("http://tsa.example/", NOW)
    counter.spent("http://tsa.example/", NOW)  # while it is written
    await counter._writing
    assert json.loads(path.read_text())["spent"]["http://tsa.example/"]["used"] == 5
    for _ in range(4):
        counter.spent("http://tsa.example/", NOW)
    await counter._writing
    assert json.loads(path.read_text())["spent"]["http://tsa.example/"]["used"] == 10
    counter.spent("http://tsa.example/", NOW)
    await counter.close()
    assert json.loads(path.read_text())["spent"]["http://tsa.example/"]["used"] == 11


async def test_what_is_spent_while_the_file_is_written_is_written_once(tmp_path):
    counter = CreditFile(tmp_path / "tsa-credits.json", ["http://tsa.example/"], every=1)
    for _ in range(5):
        counter.spent("http://tsa.example/", NOW)
    await counter.close()
    assert read_credits(tmp_path / "tsa-credits.json", ["http://tsa.example/"])[0].used == 5


async def test_many_who_count_in_one_file_lose_nothing(tmp_path):
    path = tmp_path / "tsa-credits.json"

    async def one():
        counter = CreditFile(path, [], every=1)
        for _ in range(10):
            counter.spent("http://tsa.example/", NOW)
            await asyncio.sleep(0)
        await counter.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(one())
    assert read_credits(path, [])[0].used == 80


async def test_running_out_is_told_at_each_step_and_at_the_start(tmp_path):
    path = tmp_path / "tsa-credits.json"
    endpoint = TsaEndpoint("http://tsa.example/", credits=20)
    counter = CreditFile(path, [endpoint])
    with capture_logs() as logs:
        for _ in range(25):
            counter.spent(endpoint.url, NOW)
    assert [(e["log_level"], e["state"], e["left"]) for e in logs] == [
        ("warning", "low", 4),
        ("error", "critical", 1),
        ("error", "exhausted", 0),
    ]
    await counter.close()
    with capture_logs() as logs:
        CreditFile(path, [endpoint])
    assert [entry["state"] for entry in logs] == ["exhausted"]


async def test_a_file_that_cannot_be_written_or_read_stops_nothing(tmp_path):
    path = tmp_path / "gone" / "tsa-credits.json"
    counter = CreditFile(path, ["http://tsa.example/"], every=2)
    with capture_logs() as logs:
        for _ in range(3):
            counter.spent("http://tsa.example/", NOW)
        await counter.close()
    assert {entry["event"] for entry in logs} == {"stamp.credits_not_kept"}
    assert counter.report()[0].used == 3
    path.parent.mkdir()
    await counter.close()  # nothing was lost
    assert read_credits(path, ["http://tsa.example/"])[0].used == 3

    path.write_bytes(b"damaged")
    with capture_logs() as logs:
        counter = CreditFile(path, ["http://tsa.example/"])
        counter.spent("http://tsa.example/", NOW)
        await counter.close()
    assert [entry["event"] for entry in logs] == ["stamp.credits_unreadable"]
    assert path.with_name("tsa-credits.json.damaged").read_bytes() == b"damaged"
    assert read_credits(path, ["http://tsa.example/"])[0].used == 1


# ------------------------------------------------------------------ batches, whole


async def test_many_callers_share_tokens_of_a_real_authority(tsa, session):
    async def slow(tsa, request, body):
        await asyncio.sleep(0.02)
        return await good(tsa, request, body)

    tsa.spoil = slow
    stamper = BatchStamper(client(session, tsa.url))
    digests = [sha256(bytes((n,))).digest() for n in range(50)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stamper.records([digest])) for digest in digests]
    assert len(tsa.requests) == 2
    trust = TrustStore([shared_pki().root])
    for digest, task in zip(digests, tasks, strict=True):
        ((stamp,),) = read_record(task.result()[0]).chains
        root = tree_root(stamp.reduced, digest, "sha256")
        assert verify_token(stamp.token, imprint=root, trust=trust, at=NOW).passed
