"""The page that Prometheus reads: ``GET /metrics`` on this machine's own address, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from aiohttp.web_request import BaseRequest

from kephs.observability.metrics import CONTENT_TYPE, Metrics
from kephs.ports import Clock

HOST: Final = "127.0.0.1"
PATH: Final = "/metrics"
_KEEP_ALIVE: Final = 75.0


@asynccontextmanager
async def serve_metrics(metrics: Metrics, *, port: int, clock: Clock) -> AsyncIterator[int]:
    """Serve the figures while the block runs; yield the port (0 lets the system choose).

    Raises:
        OSError: the port cannot be had.
    """
    loop = asyncio.get_running_loop()

    async def answer(request: BaseRequest) -> web.StreamResponse:
        if request.path != PATH:
            return web.Response(status=404)
        if request.method != "GET":
            return web.Response(status=405, headers={"Allow": "GET"})
        page = await metrics.page(clock, loop.time())
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})

    runner = web.ServerRunner(
        web.Server(answer, access_log=None, keepalive_timeout=_KEEP_ALIVE), shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
