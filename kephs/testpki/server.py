"""The HTTP face of the TEST PKI: OCSP, CRL, certificates of authorities, time stamps.

::

    POST /ocsp/{ca}              application/ocsp-request      (spec: RFC6960#A.1)
    GET  /ocsp/{ca}/{base64}
    GET  /crl/{ca}.crl           application/pkix-crl          (spec: RFC5280#4.2.1.13)
    GET  /ca/{ca}.cer            application/pkix-cert
    POST /tsa                    application/timestamp-query   (spec: RFC3161#3.4)
    GET  /healthz
"""

import asyncio
import base64
import binascii
import signal
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

from aiohttp import web

from kephs.testpki.authority import TestPki
from kephs.testpki.hierarchy import RESPONDERS

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Clock: TypeAlias = Callable[[], datetime]

REQUEST_MAX: Final = 16 * 1024
_SHUTDOWN_SECONDS: Final = 1.0


def handlers(pki: TestPki, clock: Clock) -> dict[str, Handler]:
    """Return the handlers by name: ocsp, ocsp-get, crl, ca, tsa, health.

    Tests wrap single ones to play a silent or lying authority; the server itself has no such switch.
    """

    def authority(request: web.Request) -> str:
        name = request.match_info["ca"]
        if name not in RESPONDERS:
            raise web.HTTPNotFound
        return name

    async def ocsp(request: web.Request) -> web.StreamResponse:
        name = authority(request)
        _expect(request, "application/ocsp-request")
        return _ocsp_reply(pki.ocsp_response(await request.read(), clock(), ca=name))

    async def ocsp_get(request: web.Request) -> web.StreamResponse:
        try:
            body = base64.b64decode(request.match_info["request"], validate=True)
        except binascii.Error as error:
            raise web.HTTPBadRequest from error
        return _ocsp_reply(pki.ocsp_response(body, clock(), ca=authority(request)))

    async def crl(request: web.Request) -> web.StreamResponse:
        return web.Response(body=pki.crl(authority(request), clock()), content_type="application/pkix-crl")

    async def certificate(request: web.Request) -> web.StreamResponse:
        der = pki.authorities[authority(request)].certificate
        return web.Response(body=der, content_type="application/pkix-cert")

    async def tsa(request: web.Request) -> web.StreamResponse:
        _expect(request, "application/timestamp-query")
        body = pki.timestamp_reply(await request.read(), clock())
        return web.Response(body=body, content_type="application/timestamp-reply")

    async def health(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    return {"ocsp": ocsp, "ocsp-get": ocsp_get, "crl": crl, "ca": certificate, "tsa": tsa, "health": health}


def application(by_name: Mapping[str, Handler]) -> web.Application:
    """Return the application for a full set of `handlers`."""
    app = web.Application(client_max_size=REQUEST_MAX)
    app.router.add_post("/ocsp/{ca}", by_name["ocsp"])
    app.router.add_get("/ocsp/{ca}/{request:.+}", by_name["ocsp-get"])
    app.router.add_get("/crl/{ca}.crl", by_name["crl"])
    app.router.add_get("/ca/{ca}.cer", by_name["ca"])
    app.router.add_post("/tsa", by_name["tsa"])
    app.router.add_get("/healthz", by_name["health"])
    return app


async def serve(
    pki: TestPki, host: str, port: int, *, clock: Clock, by_name: Mapping[str, Handler] | None = None
) -> web.AppRunner:
    """Serve a TEST PKI and return the running server; stop it with ``await runner.cleanup()``.

    Args:
        pki: what answers. Its ``base_url`` must lead here, it stands in every certificate.
        host: address to listen on.
        port: 0 takes a free one; `port_of` tells which.
        clock: the current time, aware.
        by_name: other handlers than those of the PKI, a full set.

    Raises:
        OSError: the port is taken.
    """
    chosen = handlers(pki, clock) if by_name is None else by_name
    runner = web.AppRunner(application(chosen), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner


def port_of(runner: web.AppRunner) -> int:
    """Return the port a server listens on."""
    return int(runner.addresses[0][1])


def run_forever(
    directory: Path,
    host: str,
    port: int,
    *,
    clock: Clock,
    ready: Callable[[], None],
    lifeline: int | None = None,
) -> None:
    """Serve the TEST PKI of a folder until SIGTERM or SIGINT: the main function of a child process.

    Args:
        directory: the folder that `TestPki.create` made.
        host: address to listen on.
        port: the one in the PKI's ``base_url``.
        clock: the current time, aware.
        ready: called once the port answers.
        lifeline: descriptor of a pipe that the parent holds open and never writes to: when the parent
            dies, however, the server stops too.
    """
    asyncio.run(_run(directory, host, port, clock, ready, lifeline))


async def _run(
    directory: Path, host: str, port: int, clock: Clock, ready: Callable[[], None], lifeline: int | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if lifeline is not None:
        loop.add_reader(lifeline, stop.set)
    runner = await serve(TestPki.load(directory), host, port, clock=clock)
    try:
        ready()
        await stop.wait()
    finally:
        if lifeline is not None:
            loop.remove_reader(lifeline)
        await runner.cleanup()


def _expect(request: web.Request, content_type: str) -> None:
    if request.content_type != content_type:
        raise web.HTTPUnsupportedMediaType


def _ocsp_reply(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/ocsp-response")
