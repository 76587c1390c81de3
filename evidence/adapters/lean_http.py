"""A small HTTP/1.1 client for one kind of exchange: a short POST, a short reply, kept connections.

Time stamps are asked for at every submission, and a general client costs twice as much. No proxies, cookies,
redirects, compression. (spec: RFC9112)
"""

import asyncio
import base64
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import unquote, urlsplit

from evidence.adapters.http_reply import HttpReply, HttpReplyError, ReplyReader

_IDLE_SECONDS: Final = 15.0
"""A connection idle for longer is not used again: what stands between may have forgotten it silently."""
_EYEBALLS_SECONDS: Final = 0.25  # spec: RFC8305#8


class ConnectionLostError(OSError):
    """The peer closed the connection before the first octet of a reply."""


class _Connection(asyncio.Protocol):
    """One connection, with at most one exchange at a time."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self.idle_since = 0.0
        self._waiter: asyncio.Future[HttpReply] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            self.transport.abort()  # nobody asked: whatever this is, it must not answer the next request
            return
        try:
            reply = self._reader.feed(data)
        except HttpReplyError as error:
            self._waiter.set_exception(error)
        else:
            if reply is not None:
                self._waiter.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            kind = HttpReplyError if self._reader.started else ConnectionLostError
            self._waiter.set_exception(kind("closed before the reply was complete"))
        self.lost.set_result(exc)

    async def exchange(self, request: bytes, max_body: int) -> HttpReply:
        """Send a request and return its reply; unless that is reusable, the connection is closed."""
        if self.transport.is_closing():
            raise ConnectionLostError("closed before the request was sent")
        self._reader = ReplyReader(max_body)
        self._waiter = asyncio.get_running_loop().create_future()
        reply = None
        try:
            self.transport.write(request)
            reply = await self._waiter
        finally:
            self._waiter = None
            if reply is None or not reply.reusable:
                self.transport.abort()
        return reply


@dataclass(frozen=True, slots=True)
class _Target:
    """One address: how to reach it, how every request to it begins, and its idle connections."""

    host: str
    port: int
    tls: bool
    head: bytes
    slots: asyncio.Semaphore
    idle: list[_Connection] = field(default_factory=list)


class LeanHttp:
    """Posts to a few configured addresses over kept connections; end it with `aclose`.

    Args:
        headers: sent with every request, beside Host and Content-Length.
        max_body: octets of a reply's body at most; its head has 16 KiB.
        connections: at once to one address; further requests wait for one, within their time-out.
        tls: for https; None makes the default context, which verifies certificate and name.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        *,
        max_body: int,
        connections: int = 32,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._max_body, self._connections, self._tls = max_body, connections, tls
        self._targets: dict[str, _Target] = {}
        self._open: set[_Connection] = set()

    async def aclose(self) -> None:
        """Close every connection and wait until they are; exchanges under way fail."""
        gone = tuple(self._open)
        for connection in gone:
            connection.transport.abort()
        for connection in gone:
            await asyncio.shield(connection.lost)

    async def post(self, url: str, body: bytes, *, timeout: float) -> HttpReply:
        """Post a body (sent in one piece) and return the reply.

        A kept connection that turns out to be closed costs one repetition on a fresh one, so the request
        must be one that may be repeated.

        Args:
            url: http or https, from the configuration; ``user:password@`` goes as Basic credentials.
            body: the octets, some kilobytes at most.
            timeout: seconds for everything, waiting and connecting included.

        Raises:
            OSError: no connection, `ConnectionLostError` or `HttpReplyError`.
            TimeoutError: no complete reply in time.
            ValueError: not an address that this client can use.
        """
        target = self._targets.get(url) or self._target(url)
        request = b"%b%d\r\n\r\n%b" % (target.head, len(body), body)
        async with asyncio.timeout(timeout), target.slots:
            kept = self._kept(target)
            if kept is not None:
                with suppress(ConnectionLostError):  # it had been closed while nobody looked
                    return await self._exchange(target, kept, request)
            return await self._exchange(target, await self._connect(target), request)

    async def _exchange(self, target: _Target, connection: _Connection, request: bytes) -> HttpReply:
        reply = await connection.exchange(request, self._max_body)
        if reply.reusable:
            connection.idle_since = asyncio.get_running_loop().time()
            target.idle.append(connection)
        return reply

    def _kept(self, target: _Target) -> _Connection | None:
        oldest = asyncio.get_running_loop().time() - _IDLE_SECONDS
        while target.idle:
            connection = target.idle.pop()
            if connection.idle_since >= oldest and not connection.transport.is_closing():
                return connection
            connection.transport.abort()
        return None

    async def _connect(self, target: _Target) -> _Connection:
        if target.tls and self._tls is None:
            self._tls = ssl.create_default_context()
        _, connection = await asyncio.get_running_loop().create_connection(
            _Connection, target.host, target.port, ssl=self._tls if target.tls else None,
            happy_eyeballs_delay=_EYEBALLS_SECONDS,
        )  # fmt: skip
        self._open.add(connection)
        connection.lost.add_done_callback(lambda _: self._open.discard(connection))
        return connection

    def _target(self, url: str) -> _Target:
        parts = urlsplit(url)
        tls, user = parts.scheme == "https", ""
        usable = url.isascii() and url.isprintable() and " " not in url
        if not usable or not parts.hostname or not (tls or parts.scheme == "http"):
            raise ValueError("an address is http:// or https:// and a host, in printable ASCII")
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            user = f"Authorization: Basic {base64.b64encode(pair).decode()}\r\n"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{user}{self._headers}Content-Length: ".encode()
        slots = asyncio.Semaphore(self._connections)
        port = parts.port or (443 if tls else 80)
        target = self._targets[url] = _Target(parts.hostname, port, tls, head, slots)
        return target
