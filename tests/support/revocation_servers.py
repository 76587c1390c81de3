"""Web servers that answer for a TEST PKI, well or badly, and proxies in front of them."""

import asyncio
import gzip
from collections.abc import Callable

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from evidence.adapters.revocation_fetch import FetchLimits
from evidence.adapters.revocation_http import HttpRevocation, HttpRevocationSettings
from evidence.x509.certificates import CertificateFacts, certificate_facts
from evidence.x509.chain import TrustStore
from tests.support.pki import AYSE_TCKN, NOW, make_pki

OCSP_TYPE = "application/ocsp-response"


class Issuers:
    """A TEST PKI behind a web server whose answers a test can spoil."""

    def __init__(self):
        self.asked = []
        self.now = NOW
        self.ocsp = self.good_ocsp
        self.crl = self.good_crl
        self.pki = None
        self.headers = []

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
        self.headers.append(dict(request.headers))
        return await self.ocsp(request)

    async def _crl(self, request):
        self.asked.append("crl")
        self.headers.append(dict(request.headers))
        return await self.crl(request)

    async def _elsewhere(self, _request):
        self.asked.append("elsewhere")
        return web.Response(status=200)

    def holder(self, **options) -> tuple[CertificateFacts, CertificateFacts]:
        issued = self.pki.issue_user("Can", AYSE_TCKN, **options)
        return certificate_facts(issued.certificate), certificate_facts(issued.chain[0])

    def spoil(self, ocsp=None, crl=None):
        self.ocsp = getattr(self, ocsp or "good_ocsp")
        self.crl = getattr(self, crl or "good_crl")

    def says(self, make: Callable[[bytes], bytes] | bytes):
        """Return a handler that answers with these octets, made from the request where it is a function."""

        async def handler(request):
            body = make(await request.read()) if callable(make) else make
            return web.Response(body=body, content_type=OCSP_TYPE)

        return handler

    async def good_ocsp(self, request):
        return web.Response(body=await self._ocsp_body(request), content_type=OCSP_TYPE)

    async def good_crl(self, request):
        return web.Response(body=self._crl_body(request))

    async def _ocsp_body(self, request):
        return self.pki.ocsp_response(await request.read(), self.now, ca=request.match_info["ca"])

    def _crl_body(self, request):
        return self.pki.crl(request.match_info["ca"], self.now)

    async def _body(self, request):
        return self._crl_body(request) if "crl" in request.path else await self._ocsp_body(request)

    async def wrong_type(self, request):
        return web.Response(body=await self._body(request), content_type="text/html")

    async def broken(self, _request):
        return web.Response(status=503)

    async def no_content(self, _request):
        return web.Response(status=204)

    async def garbage(self, _request):
        return web.Response(body=b"<html>")

    async def empty(self, _request):
        return web.Response(body=b"")

    async def zipped(self, request):
        body = gzip.compress(await self._body(request))
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    async def bomb(self, _request):
        body = gzip.compress(bytes(64 * 1024 * 1024))
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    async def announced(self, request):
        """Announce 4 GB and send a little."""
        response = web.StreamResponse(headers={"Content-Length": str(2**32)})
        await response.prepare(request)
        await response.write(b"\x30\x84")
        await asyncio.sleep(30)
        return response

    async def endless(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(200):
                await response.write(bytes(256 * 1024))
        except ConnectionError:
            pass
        return response

    async def dripping(self, request):
        """Send an octet now and then: never silent for long, never done."""
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(600):
                await response.write(b"\x30")
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        return response

    async def cut(self, request):
        """Announce the whole answer, send half of it and close."""
        body = await self._body(request)
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        request.transport.close()
        return response

    async def slammed(self, request):
        request.transport.close()
        return web.Response()

    async def redirecting(self, _request):
        raise web.HTTPFound("/elsewhere")

    async def hanging(self, _request):
        await asyncio.sleep(30)


def client_of(issuers: Issuers, session: aiohttp.ClientSession, **options) -> HttpRevocation:
    """Return a client with short waits; options go to it, ``limits`` and ``trust`` aside."""
    limits = {
        "timeout": 0.4,
        "crl_timeout": 0.6,
        "fetch": FetchLimits(connect=0.3, read=0.3),
        **options.pop("limits", {}),
    }
    trust = options.pop("trust", None) or TrustStore(
        [issuers.pki.root], intermediates=issuers.pki.intermediates
    )
    return HttpRevocation(
        session,
        clock=lambda: issuers.now,
        trust=trust,
        nonces=lambda: b"0123456789abcdef",
        settings=HttpRevocationSettings(**limits),
        **options,
    )
