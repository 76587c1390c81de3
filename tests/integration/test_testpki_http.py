"""The TEST PKI over HTTP, and the time-stamp client against good and bad authorities."""

import asyncio
import base64
import hashlib
import secrets
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from yarl import URL

from evidence.adapters.tsa_http import HttpTimestamper
from evidence.ports import Timestamper, TimestampUnavailableError
from evidence.stamps.timestamps import read_token, verify_token
from evidence.x509.chain import TrustStore
from kephs.testpki.issued import to_pem
from kephs.testpki.oids import TEST_TSA_POLICY
from kephs.testpki.server import application, port_of, serve
from tests.support.pki import NOW, Faults, faulty_handlers, make_pki, mehmet, shared_pki

DIGEST = hashlib.sha256(b"x").digest()


def clock() -> datetime:
    return NOW


def nonce() -> int:
    return secrets.randbits(64)


@asynccontextmanager
async def running(faults: Faults | None = None, *, pki=None, at=clock):
    served = pki or shared_pki()
    runner = await serve(
        served, "127.0.0.1", 0, clock=at, by_name=faulty_handlers(served, at, faults or Faults())
    )
    try:
        yield f"http://127.0.0.1:{port_of(runner)}"
    finally:
        await runner.cleanup()


def timestamper(session, *bases: str, at=clock, **options) -> HttpTimestamper:
    return HttpTimestamper(
        [f"{base}/tsa" for base in bases],
        session=session,
        clock=at,
        trust=TrustStore([shared_pki().root]),
        nonces=nonce,
        **{"timeout": timedelta(seconds=0.5), **options},
    )


def ocsp_request(issued, authority: str) -> bytes:
    issuer = shared_pki().authorities[authority].issued.x509
    return (
        ocsp.OCSPRequestBuilder()
        .add_certificate(issued.x509, issuer, hashes.SHA1())
        .build()
        .public_bytes(Encoding.DER)
    )


# ------------------------------------------------------------------ the server


async def test_ocsp_answers_by_post_and_get():
    async with running() as base, aiohttp.ClientSession() as session:
        body = ocsp_request(mehmet(), "pss")
        headers = {"Content-Type": "application/ocsp-request"}
        async with session.post(f"{base}/ocsp/pss", data=body, headers=headers) as response:
            assert response.content_type == "application/ocsp-response"
            posted = await response.read()
        quoted = base64.b64encode(body).decode().replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
        async with session.get(URL(f"{base}/ocsp/pss/{quoted}", encoded=True)) as response:
            assert await response.read() == posted
        assert ocsp.load_der_ocsp_response(posted).certificate_status is ocsp.OCSPCertStatus.GOOD


async def test_crl_certificate_and_health_are_served():
    async with running() as base, aiohttp.ClientSession() as session:
        for authority in ("root", "p384", "pss"):
            async with session.get(f"{base}/crl/{authority}.crl") as response:
                assert response.content_type == "application/pkix-crl"
                crl = x509.load_der_x509_crl(await response.read())
            async with session.get(f"{base}/ca/{authority}.cer") as response:
                issuer = x509.load_der_x509_certificate(await response.read())
            assert crl.is_signature_valid(issuer.public_key())
        async with session.get(f"{base}/healthz") as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("method", "path", "content_type", "body", "status"),
    [
        ("POST", "/ocsp/tls", "application/ocsp-request", b"", 404),
        ("POST", "/ocsp/nobody", "application/ocsp-request", b"", 404),
        ("GET", "/crl/nobody.crl", "", b"", 404),
        ("GET", "/ca/..%2froot.cer", "", b"", 404),
        ("POST", "/ocsp/p384", "text/plain", b"", 415),
        ("POST", "/tsa", "text/plain", b"", 415),
        ("GET", "/ocsp/p384/!!", "", b"", 400),
        ("POST", "/tsa", "application/timestamp-query", bytes(17 * 1024), 413),
        ("GET", "/tsa", "", b"", 405),
    ],
)
async def test_wrong_requests_get_a_clear_status(method, path, content_type, body, status):
    async with running() as base, aiohttp.ClientSession() as session:
        headers = {"Content-Type": content_type} if content_type else {}
        async with session.request(method, base + path, data=body or None, headers=headers) as response:
            assert response.status == status


async def test_a_taken_port_is_reported_and_nothing_is_left_running():
    async with running() as base:
        with pytest.raises(OSError, match="address already in use"):
            await serve(shared_pki(), "127.0.0.1", int(base.rsplit(":", 1)[1]), clock=clock)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["SIGTERM", "parent gone"])
def test_a_child_process_serves_a_folder_until_told_to_stop(tmp_path, end):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    make_pki(tmp_path / "pki", base_url=f"http://127.0.0.1:{port}")
    code = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path\n"
        "from kephs.testpki.server import run_forever\n"
        f"run_forever(Path(sys.argv[1]), '127.0.0.1', {port}, clock=lambda: datetime.now(UTC), lifeline=0,\n"
        "            ready=lambda: print('up', flush=True))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "pki")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout.readline() == b"up\n"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                assert answer.read() == b"ok\n"
        finally:
            if end == "SIGTERM":
                child.send_signal(signal.SIGTERM)
            else:
                child.stdin.close()
        assert child.wait(10) == 0


@pytest.mark.tools
async def test_openssl_asks_our_ocsp_and_curl_our_tsa(tmp_path):
    now = datetime.now(UTC)
    pki = make_pki(now=now)
    issued = pki.issue_user("Ali", "10000000146", issuer="pss")
    for name, certificates in (("root", [pki.root]), ("ca", issued.chain), ("leaf", [issued.certificate])):
        (tmp_path / f"{name}.pem").write_bytes(to_pem(certificates))
    (tmp_path / "data").write_bytes(b"x")

    async def run(*command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output
        return output.decode()

    async with running(pki=pki, at=lambda: datetime.now(UTC)) as base:
        output = await run(
            "openssl",
            "ocsp",
            "-issuer",
            "ca.pem",
            "-cert",
            "leaf.pem",
            "-CAfile",
            "root.pem",
            "-verify_other",
            "ca.pem",
            "-url",
            f"{base}/ocsp/pss",
        )
        assert "Response verify OK" in output
        assert "leaf.pem: good" in output
        assert "WARNING" not in output
        await run("openssl", "ts", "-query", "-data", "data", "-cert", "-out", "q")
        await run(
            "curl",
            "-sf",
            "-H",
            "Content-Type: application/timestamp-query",
            "--data-binary",
            "@q",
            "-o",
            "r",
            f"{base}/tsa",
        )
        assert "OK" in await run(
            "openssl", "ts", "-verify", "-in", "r", "-queryfile", "q", "-CAfile", "root.pem"
        )


# ------------------------------------------------------------------ the time-stamp client


async def test_a_stamp_is_a_verified_token_over_the_digest():
    async with running() as base, aiohttp.ClientSession() as session:
        client: Timestamper = timestamper(session, base, policy=TEST_TSA_POLICY)
        token = await client.stamp(DIGEST)
        assert verify_token(token, imprint=DIGEST, trust=TrustStore([shared_pki().root]), at=NOW).passed
        assert read_token(token).signed.certificates


@pytest.mark.parametrize("fault", ["silent", "failing", "wrong_nonce", "stale"])
async def test_a_bad_authority_is_passed_over_for_the_next(fault):
    faults, good = Faults(), Faults()
    getattr(faults, fault).add("tsa")
    async with running(faults) as first, running(good) as second, aiohttp.ClientSession() as session:
        client = timestamper(session, first, second)
        assert await client.stamp(DIGEST)
        assert (faults.asked, good.asked) == (["tsa"], ["tsa"])
        assert await client.stamp(DIGEST)  # the first is left alone for a while
        assert (faults.asked, good.asked) == (["tsa"], ["tsa", "tsa"])


async def test_an_authority_that_recovered_is_asked_again_after_a_while():
    now = [NOW]
    faults, good = Faults(failing={"tsa"}), Faults()
    async with (
        running(faults, at=lambda: now[0]) as first,
        running(good, at=lambda: now[0]) as second,
        aiohttp.ClientSession() as session,
    ):
        client = timestamper(session, first, second, at=lambda: now[0])
        await client.stamp(DIGEST)
        faults.failing.clear()
        now[0] += timedelta(seconds=31)
        await client.stamp(DIGEST)
        assert (faults.asked, good.asked) == (["tsa", "tsa"], ["tsa"])


@pytest.mark.parametrize("fault", ["silent", "failing", "wrong_nonce", "stale"])
async def test_without_a_good_authority_there_is_no_stamp(fault):
    faults = Faults()
    getattr(faults, fault).add("tsa")
    async with running(faults) as base, aiohttp.ClientSession() as session:
        with pytest.raises(TimestampUnavailableError):
            await timestamper(session, base, base).stamp(DIGEST)


async def test_nobody_listening_or_configured_is_unavailable():
    async with aiohttp.ClientSession() as session:
        with pytest.raises(TimestampUnavailableError, match="Connect"):
            await timestamper(session, "http://127.0.0.1:9").stamp(DIGEST)
        with pytest.raises(TimestampUnavailableError, match="no authority"):
            await timestamper(session).stamp(DIGEST)


@pytest.mark.parametrize("offset", [-61, 61])
async def test_a_clock_that_disagrees_is_refused(offset):
    async with running() as base, aiohttp.ClientSession() as session:
        with pytest.raises(TimestampUnavailableError, match="far from our clock"):
            await timestamper(session, base, at=lambda: NOW + timedelta(seconds=offset)).stamp(DIGEST)
        assert await timestamper(
            session, base, at=lambda: NOW - timedelta(seconds=offset), max_skew=timedelta(seconds=90)
        ).stamp(DIGEST)


async def test_an_authority_of_another_root_is_refused():
    async with running(pki=make_pki()) as base, aiohttp.ClientSession() as session:
        with pytest.raises(TimestampUnavailableError, match="chain"):
            await timestamper(session, base).stamp(DIGEST)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: web.Response(body=b"x" * 70_000, content_type="application/timestamp-reply"), "larger"),
        (lambda: web.Response(body=b"x", content_type="text/html"), "content type"),
        (
            lambda: web.Response(body=b"x", content_type="application/timestamp-reply"),
            "not a time-stamp response",
        ),
        (lambda: web.Response(status=302, headers={"Location": "/elsewhere"}), "HTTP 302"),
        (
            lambda: web.Response(body=b"", content_type="application/timestamp-reply"),
            "not a time-stamp response",
        ),
    ],
)
async def test_strange_answers_are_refused(answer, reason):
    async def strange(_request):
        return answer()

    by_name = {**faulty_handlers(shared_pki(), clock, Faults()), "tsa": strange}
    runner = web.AppRunner(application(by_name), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(TimestampUnavailableError, match=reason):
                await timestamper(session, f"http://127.0.0.1:{port_of(runner)}").stamp(DIGEST)
    finally:
        await runner.cleanup()


async def test_a_stamp_that_is_cancelled_leaves_no_mark_on_the_authority():
    faults = Faults(silent={"tsa"})
    async with running(faults) as base, aiohttp.ClientSession() as session:
        client = timestamper(session, base, timeout=timedelta(seconds=30))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.stamp(DIGEST)
        faults.silent.clear()
        assert await client.stamp(DIGEST)
