"""A TEST PKI made once per test session, and holders to try things with.

Use it so (``tests/unit/conftest.py`` is not needed)::

    from tests.support.pki import shared_pki, NOW

    def test_it():
        pki = shared_pki()
        user = pki.issue_user("Ayşe Yılmaz", make_tckn(1))
"""

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from evidence.stamps.timestamps import build_request, read_request
from evidence.x509.certificates import certificate_facts
from evidence.x509.chain import Chain, ChainFailure, TrustStore, build_chain
from kephs.testpki.authority import DEFAULT_PROVIDERS, TestPki
from kephs.testpki.issued import Issued
from kephs.testpki.keys import PrivateKey, make_key
from kephs.testpki.profiles import make_tckn
from kephs.testpki.server import Clock, Handler, handlers

NOW = datetime(2026, 11, 21, 9, 0, 0, tzinfo=UTC)
"""The time at which the shared PKI was made: pass it, or times near it, as ``at``."""
BASE_URL = "http://127.0.0.1:9"
"""Nobody answers there (discard port): unit tests ask `TestPki.ocsp_response` and `TestPki.crl` directly."""
P12_PASSWORD = "parola-1"

AYSE_TCKN = make_tckn(1)
MEHMET_TCKN = make_tckn(2)


@cache
def slow_keys() -> Mapping[str, PrivateKey]:
    """Return the RSA-4096 key of the PSS authority: made once, it costs seconds."""
    return {"pss": make_key("rsa4096")}


def make_pki(
    directory: Path | None = None,
    *,
    base_url: str = BASE_URL,
    now: datetime = NOW,
    providers=DEFAULT_PROVIDERS,
) -> TestPki:
    """Make a TEST PKI of one's own, fast: only the slow key is shared. Needed where one revokes authorities."""
    return TestPki.create(directory, base_url=base_url, now=now, providers=providers, keys=slow_keys())


@cache
def shared_pki() -> TestPki:
    """Return the session's TEST PKI, in memory. Revoke only certificates that you issued yourself."""
    return make_pki()


@cache
def ayse() -> Issued:
    """Return a good holder under the P-384 authority."""
    return shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN)


@cache
def mehmet() -> Issued:
    """Return a good holder under the RSA-PSS authority."""
    return shared_pki().issue_user("Mehmet Demir", MEHMET_TCKN, issuer="pss")


def p12_of(issued: Issued, directory: Path | None = None) -> Path:
    """Return a fresh PKCS#12 file of a holder, under `P12_PASSWORD`."""
    folder = Path(tempfile.mkdtemp()) if directory is None else directory
    path = folder / f"{issued.serial:x}.p12"
    shared_pki().write_p12(issued, path, P12_PASSWORD)
    return path


@dataclass
class Faults:
    """What goes wrong, by handler name ("ocsp", "crl", "tsa"); tests change the sets while the server runs."""

    silent: set[str] = field(default_factory=set)
    """Take the request and never answer."""
    failing: set[str] = field(default_factory=set)
    """Answer 503."""
    wrong_nonce: set[str] = field(default_factory=set)
    stale: set[str] = field(default_factory=set)
    """Answer as one would have ten days ago."""
    asked: list[str] = field(default_factory=list)
    """Who was asked, in order."""


def faulty_handlers(pki: TestPki, clock: Clock, faults: Faults) -> dict[str, Handler]:
    """Return handlers for `kephs.testpki.server.serve` that misbehave as told."""
    honest = handlers(pki, clock)
    stale = handlers(pki, lambda: clock() - timedelta(days=10))

    def wrap(name: str) -> Handler:
        fault = "ocsp" if name == "ocsp-get" else name

        async def handler(request: web.Request) -> web.StreamResponse:
            faults.asked.append(fault)
            if fault in faults.silent:
                await asyncio.Event().wait()
            if fault in faults.failing:
                raise web.HTTPServiceUnavailable
            if fault in faults.wrong_nonce:
                return await _with_wrong_nonce(pki, clock, fault, request)
            return await (stale if fault in faults.stale else honest)[name](request)

        return handler

    return {name: wrap(name) for name in honest}


async def _with_wrong_nonce(pki: TestPki, clock: Clock, fault: str, request: web.Request) -> web.Response:
    body = await request.read()
    if fault == "tsa":
        asked = read_request(body)
        answer = pki.timestamp_reply(build_request(asked.imprint, (asked.nonce or 0) ^ 1), clock())
        return web.Response(body=answer, content_type="application/timestamp-reply")
    asked = ocsp.load_der_ocsp_request(body)
    other = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        asked.issuer_name_hash, asked.issuer_key_hash, asked.serial_number, asked.hash_algorithm
    )
    other = other.add_extension(x509.OCSPNonce(b"another nonce...."), critical=False)
    answer = pki.ocsp_response(other.build().public_bytes(Encoding.DER), clock(), ca=request.match_info["ca"])
    return web.Response(body=answer, content_type="application/ocsp-response")


def request_for(
    issued: Issued, authority: str, *, nonce: bytes | None = None, pki: TestPki | None = None, algorithm=None
) -> bytes:
    issuer = (pki or shared_pki()).authorities[authority].issued.x509
    builder = ocsp.OCSPRequestBuilder().add_certificate(issued.x509, issuer, algorithm or hashes.SHA1())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def chain_of(issued: Issued, at: datetime = NOW, *, root: bytes | None = None) -> Chain | ChainFailure:
    trust = TrustStore([root or shared_pki().root])
    return build_chain(certificate_facts(issued.certificate), map(certificate_facts, issued.chain), trust, at)
