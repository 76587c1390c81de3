"""The ledger for anyone: checkpoint, tiles and salted entries over HTTP, read only (C2SP tlog-tiles).

::

    GET  /checkpoint                      the newest signed checkpoint
    GET  /tile/<L>/<N>[.p/<W>]            hashes of the tree
    GET  /tile/entries/<N>[.p/<W>]        leaf data: salted digests, which tell nothing about the evidence
    GET  /log.vkey                        the log's public key (a reader should have it from elsewhere)
    GET  /witness.vkey                    our key as a witness, where we are one
    POST /add-checkpoint                  where we are a witness for others (C2SP tlog-witness)

Tiles never change, so they may be kept for ever by whoever fetched them. Nothing is served that no
checkpoint covers. Strangers cost little: connections, requests of one address, bodies and reads of the store
at the same time are bounded, and full tiles come from memory.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from evidence.ledger.merkle import HASH_SIZE, leaf_data
from evidence.ledger.notes import NoteVerifier
from evidence.ledger.tiles import ENTRIES, WIDTH, TileName, encode_entries, width_at
from evidence.ledger.witness_rules import MAX_REQUEST
from kephs.ledger.witness import PATH as ADD_CHECKPOINT
from kephs.ledger.witness import OwnWitness
from kephs.ports import Store, StoreUnavailableError, Tx

log = structlog.get_logger()

TEXT: Final = "text/plain; charset=utf-8"
_IMMUTABLE: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
_FRESH: Final = {"Cache-Control": "public, max-age=1"}
_NO_STORE: Final = {"Cache-Control": "no-store"}
_KEPT_TILES: Final = 512  # full ones, 8 KiB each
_ADDRESSES: Final = 4096  # whose requests are counted at the same time


@dataclass(frozen=True, slots=True)
class LedgerLimits:
    """What strangers may cost."""

    connections: int = 128  # more are closed at once
    lifetime: float = 120.0  # seconds a connection may live, however slow it is
    grace: float = 10.0  # seconds its last answer may take after that
    reads: int = 2  # of the store at the same time: the mail server reads there too
    body_seconds: float = 10.0  # longest time for a request's body
    per_second: float = 200.0  # requests of one address, in the long run
    burst: float = 1000.0  # and at once


class _Buckets:
    """Counts the requests of each address; the addresses seen longest ago are forgotten first."""

    def __init__(self, limits: LedgerLimits) -> None:
        self._limits = limits
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # requests left, as of a moment

    def take(self, address: str, now: float) -> bool:
        """Say whether an address may have one more; ``now`` in seconds of any clock."""
        left, since = self._left.pop(address, (self._limits.burst, now))
        left = min(self._limits.burst, left + (now - since) * self._limits.per_second)
        self._left[address] = (max(0.0, left - 1), now)
        if len(self._left) > _ADDRESSES:
            self._left.popitem(last=False)
        return left >= 1


class _BoundedServer(web.Server):
    """A server that ends connections that are too many or too old."""

    def __init__(
        self, handler: Callable[[BaseRequest], Awaitable[web.StreamResponse]], limits: LedgerLimits
    ) -> None:
        super().__init__(
            handler, access_log=None, keepalive_timeout=30.0, lingering_time=1.0, auto_decompress=False
        )
        self._limits = limits
        self._ends: dict[RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection, or close it at once."""
        super().connection_made(handler, transport)
        if len(self.connections) > self._limits.connections:
            transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._ends[handler] = loop.call_later(self._limits.lifetime, self._end, handler)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        timer = self._ends.pop(handler, None)
        if timer is not None:
            timer.cancel()
        super().connection_lost(handler, exc)

    def _end(self, handler: RequestHandler) -> None:
        handler.close()
        loop = asyncio.get_running_loop()
        self._ends[handler] = loop.call_later(self._limits.grace, handler.force_close)


class _Pages:
    """Answers requests."""

    def __init__(
        self, store: Store, verifier: NoteVerifier, witness: OwnWitness | None, limits: LedgerLimits
    ) -> None:
        self._store, self._verifier, self._witness, self._limits = store, verifier, witness, limits
        self._reading = asyncio.Semaphore(limits.reads)
        self._buckets = _Buckets(limits)
        self._kept: OrderedDict[TileName, bytes] = OrderedDict()

    async def answer(self, request: BaseRequest) -> web.StreamResponse:
        """Answer one request; what went wrong inside is told to nobody but the log."""
        if not self._buckets.take(request.remote or "", asyncio.get_running_loop().time()):
            return _plain(429, "too many requests", {"Retry-After": "1", **_NO_STORE})
        try:
            if request.path == ADD_CHECKPOINT and self._witness is not None:
                return await self._add_checkpoint(request, self._witness)
            if request.method not in {"GET", "HEAD"}:
                return _plain(405, "only GET", {"Allow": "GET, HEAD"})
            return await self._page(request.rel_url.raw_path)
        except StoreUnavailableError:
            return _plain(503, "the store does not answer", {"Retry-After": "5", **_NO_STORE})

    async def _page(self, path: str) -> web.Response:
        if path == "/checkpoint":
            async with self._reading:
                newest = await self._store.read(lambda tx: tx.tree.checkpoint())
            if newest is None:
                return _plain(404, "nothing was published yet", _NO_STORE)
            return _plain(200, newest.note, _FRESH)
        if path == "/log.vkey":
            return _plain(200, self._verifier.vkey, _FRESH)
        if path == "/witness.vkey" and self._witness is not None:
            return _plain(200, self._witness.verifier.vkey, _FRESH)
        name = TileName.parse(path.removeprefix("/")) if path.startswith("/tile/") else None
        body = None if name is None else await self._tile(name)
        if body is None:
            return _plain(404, "no such page", _NO_STORE)
        return web.Response(body=body, headers={"Content-Type": "application/octet-stream", **_IMMUTABLE})

    async def _tile(self, name: TileName) -> bytes | None:
        found = self._kept.get(name)
        if found is not None:
            self._kept.move_to_end(name)
            return found
        async with self._reading:
            found = await self._store.read(lambda tx: published(tx, name))
        if found is not None and name.full:
            self._kept[name] = found
            if len(self._kept) > _KEPT_TILES:
                self._kept.popitem(last=False)
        return found

    async def _add_checkpoint(self, request: BaseRequest, witness: OwnWitness) -> web.Response:
        if request.method != "POST":
            return _plain(405, "only POST", {"Allow": "POST"})
        body = b""
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for piece in request.content.iter_chunked(16_384):
                    body += piece
                    if len(body) > MAX_REQUEST:
                        return _plain(413, "too long", {"Connection": "close", **_NO_STORE})
        except TimeoutError:
            return _plain(408, "too slow", {"Connection": "close", **_NO_STORE})
        async with self._reading:
            done = await witness.add_checkpoint(body)
        log.info("witness.answered", status=done.status)
        headers = {"Content-Type": done.content_type, **_NO_STORE}
        return web.Response(status=done.status, body=done.body, headers=headers)


def published(tx: Tx, name: TileName) -> bytes | None:
    """Return what a name stands for, as far as a checkpoint covers it."""
    newest = tx.tree.checkpoint()
    if newest is None or width_at(name.level, name.number, newest.size) < name.width:
        return None
    if name.level != ENTRIES:
        tile = tx.tree.tile(name.level, name.number) or b""
        whole = name.width * HASH_SIZE
        return tile[:whole] if len(tile) >= whole else None
    first = name.number * WIDTH
    entries = tx.evidence.ledger(first, name.width)
    if [entry.number for entry in entries] != list(range(first + 1, first + 1 + name.width)):
        return None  # somebody took entries out
    try:
        return encode_entries(leaf_data(entry.salt, entry.evidence_sha256) for entry in entries)
    except ValueError:  # or altered them
        return None


def _plain(status: int, text: str, headers: dict[str, str]) -> web.Response:
    line = text if text.endswith("\n") else text + "\n"
    return web.Response(status=status, body=line.encode(), headers={"Content-Type": TEXT, **headers})


@asynccontextmanager
async def serve_ledger(
    store: Store, verifier: NoteVerifier, *, port: int, host: str = "127.0.0.1",
    witness: OwnWitness | None = None, limits: LedgerLimits | None = None, reuse_port: bool = False,
) -> AsyncIterator[int]:  # fmt: skip
    """Serve the ledger while the block runs; yield the port.

    Args:
        store: the rows.
        verifier: the log's public key.
        port: to listen on; 0 lets the system choose.
        host: to listen on.
        witness: answers for other logs.
        limits: what strangers may cost.
        reuse_port: other processes of the instance listen there too.

    Raises:
        OSError: the port cannot be had.
    """
    bounds = limits or LedgerLimits()
    pages = _Pages(store, verifier, witness, bounds)
    runner = web.ServerRunner(_BoundedServer(pages.answer, bounds), shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, reuse_port=reuse_port or None)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
