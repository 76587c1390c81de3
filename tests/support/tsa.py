"""Time-stamping authorities over HTTP that a test can spoil, and clients for them."""

import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from hashlib import sha256
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from evidence.adapters.kept_connections import KeptConnections
from evidence.adapters.tsa_http import HttpTimestamper
from evidence.ports import TimestampUnavailableError
from evidence.stamps.timestamps import verify_token
from evidence.x509.chain import TrustStore
from tests.support.pki import NOW, shared_pki

DIGEST = sha256(b"x").digest()
REPLY = "application/timestamp-reply"
CUSTOMER, PASSWORD = 12345, "parola-ğ"


Reach = dict[str, Any]
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


WAYS = ("session", "kept")


@asynccontextmanager
async def opened(way: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Reach]:
    """Open one of the two ways to reach authorities for the block."""
    connector = aiohttp.TCPConnector(ssl=True if tls is None else tls)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        if way == "session":
            yield {"session": session}
            return
        with closing(KeptConnections(tls=tls)) as kept:
            yield {"session": session, "exchange": kept}


def client(reach: Reach, *endpoints, **options) -> HttpTimestamper:
    return HttpTimestamper(
        endpoints,
        **reach,
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


def status(status: int, **options: Any) -> Handler:
    async def respond(_tsa: Tsa, _request: web.Request, _body: bytes) -> web.StreamResponse:
        return web.Response(status=status, **options)

    return respond


@asynccontextmanager
async def authorities(count: int = 2) -> AsyncIterator[list[Tsa]]:
    """Run authorities for the block."""
    running = [await Tsa().start() for _ in range(count)]
    try:
        yield running
    finally:
        for tsa in running:
            await tsa.runner.cleanup()
