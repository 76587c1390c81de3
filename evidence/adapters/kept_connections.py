"""Exchanges with time-stamping authorities over kept connections: HTTP/1.1, one small POST at a time.

The parser is llhttp (`httptools`); what is here is its use: a request is one write, an answer is one future.
Every octet of an answer is counted before it is parsed, so neither heads nor bodies grow without bound. The
rules are those of `evidence.adapters.tsa_exchange`. Proxies are not known here.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from httptools import HttpParserError, HttpResponseParser
from yarl import URL

from evidence.adapters.tsa_exchange import (
    REQUEST_HEADERS,
    TOO_LARGE,
    ExchangeError,
    check_head,
    check_type,
)
from evidence.adapters.tsa_identity import shown
from evidence.stamps.messages import MAX_RESPONSE, TimestampRefusedError

HEAD_MAX: Final = 16 * 1024
"""Octets of an answer beside its body: status line, headers, the frames of chunks."""
IDLE_SECONDS: Final = 15.0
"""So long an unused connection is trusted; whatever stands between may have forgotten it later."""
KEPT_MAX: Final = 16
"""Unused connections kept for one authority: as many as a group of messages asks at the same time."""
_NEXT_ADDRESS: Final = 0.25  # seconds after which a host's next address is tried too


class _CutError(ExchangeError):
    """A connection ended before the first octet of an answer."""


class KeptConnections:
    """Exchanges over connections of its own; an `evidence.adapters.tsa_exchange.Exchange`.

    One event loop, one instance.

    Args:
        tls: how servers are verified; None takes what the system trusts.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._routes: dict[URL, _Route] = {}
        self._closed = False

    async def post(
        self, url: URL, body: bytes, credentials: Mapping[str, str], *, seconds: float | None = None
    ) -> bytes:
        """Post a request and return the answer; see `evidence.adapters.tsa_exchange.Exchange.post`."""
        route = self._routes.get(url)
        if route is None:
            route = self._routes[url] = _route(url)
        who = "".join([f"{name}: {value}\r\n" for name, value in credentials.items()]).encode("ascii")
        request = b"%b%bContent-Length: %d\r\n\r\n%b" % (route.head, who, len(body), body)
        now = asyncio.get_running_loop().time()
        deadline = None if seconds is None else now + seconds
        kept = route.take(now)
        if kept is not None:
            try:
                return await self._ask(route, kept, request, deadline)
            except _CutError:
                pass  # it was closed while nobody used it
        async with asyncio.timeout_at(deadline):
            fresh = await self._connect(route)
        return await self._ask(route, fresh, request, deadline)

    def close(self) -> None:
        """End the connections that nobody uses; those in use end with their answer."""
        self._closed = True
        for route in self._routes.values():
            for connection in route.idle:
                connection.end()
            route.idle.clear()

    async def _ask(
        self, route: "_Route", connection: "PostConnection", request: bytes, deadline: float | None
    ) -> bytes:
        try:
            return await connection.ask(request, deadline)
        finally:
            if self._closed or not connection.reusable or len(route.idle) >= KEPT_MAX:
                connection.end()
            else:
                connection.idle_since = asyncio.get_running_loop().time()
                route.idle.append(connection)

    async def _connect(self, route: "_Route") -> "PostConnection":
        loop = asyncio.get_running_loop()
        if route.tls and self._tls is None:
            self._tls = ssl.create_default_context()
        try:
            _, connection = await loop.create_connection(
                PostConnection, route.host, route.port,
                ssl=self._tls if route.tls else None, happy_eyeballs_delay=_NEXT_ADDRESS,
            )  # fmt: skip
        except OSError as error:
            raise ExchangeError(f"cannot connect: {error}") from error
        return connection


@dataclass(slots=True)
class _Route:
    """How one address is reached, and the unused connections to it, the latest last."""

    host: str
    port: int
    tls: bool
    head: bytes
    idle: "list[PostConnection]" = field(default_factory=list)

    def take(self, now: float) -> "PostConnection | None":
        """Return a connection that may still be used."""
        while self.idle:
            connection = self.idle.pop()
            if connection.reusable and now - connection.idle_since < IDLE_SECONDS:
                return connection
            connection.end()
        return None


def _route(url: URL) -> _Route:
    tls = url.scheme == "https"
    headers = "".join([f"{name}: {value}\r\n" for name, value in REQUEST_HEADERS.items()])
    head = f"POST {url.raw_path_qs} HTTP/1.1\r\nHost: {url.raw_authority}\r\n{headers}"
    return _Route(url.raw_host or "", url.port or (443 if tls else 80), tls, head.encode("ascii"))


class PostConnection(asyncio.Protocol):
    """One connection with at most one request under way.

    Once a request was answered ``reusable`` says whether another may follow; ``idle_since`` is the caller's.
    """

    def __init__(self) -> None:
        self.reusable = False
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._answer: asyncio.Future[bytes] | None = None
        self._head: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._octets = self._body_octets = 0
        self._until_end = False  # the answer ends with the connection

    async def ask(self, request: bytes, deadline: float | None = None) -> bytes:
        """Send a request and return what the answer holds.

        Args:
            request: head and body.
            deadline: until when the answer must be there, in the loop's time; None: whoever calls limits it.

        Raises:
            TimestampRefusedError: it is no answer of a time-stamping authority.
            ExchangeError: the connection ended.
            TimeoutError: no answer until then.
        """
        if self._transport is None or self._transport.is_closing():
            raise _CutError("the connection was closed")
        self.reusable, self._octets = False, 0
        self._forget()
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        self._transport.write(request)
        if deadline is None:
            return await self._answer
        timer = loop.call_at(deadline, self._fail, TimeoutError())
        try:
            return await self._answer
        finally:
            timer.cancel()

    def end(self) -> None:
        """End the connection now."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    def _forget(self) -> None:
        self._head, self._body, self._body_octets, self._until_end = {}, [], 0, False

    def _waits(self) -> bool:
        return self._answer is not None and not self._answer.done()

    def _fail(self, error: Exception) -> None:
        self.reusable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _finish(self) -> None:
        answer = b"".join(self._body)
        try:
            check_type(_text(self._head.get(b"content-type")), answer)
        except TimestampRefusedError as error:
            self._fail(error)
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    # ----------------------------------------------------------------- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse a piece of the answer."""
        self._octets += len(data)
        if not self._waits():
            self.end()  # nobody asked
        elif self._octets > MAX_RESPONSE + HEAD_MAX:
            self._fail(TimestampRefusedError(TOO_LARGE))
        else:
            try:
                self._parser.feed_data(data)
            except HttpParserError as error:
                self._fail(ExchangeError(f"no HTTP: {shown(str(error))}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer, for better or worse."""
        if self._until_end and self._waits():
            self._finish()
        why = f": {exc}" if exc is not None else ""
        kind = _CutError if not self._octets else ExchangeError
        self._fail(kind(f"the connection ended before the answer{why}"))

    # ----------------------------------------------------------------- called by the parser; may not raise

    def on_message_begin(self) -> None:
        """Note an answer too many."""
        if not self._waits():
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; of several the first counts."""
        self._head.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        """Refuse by the head."""
        status = self._parser.get_status_code()
        if status < 200:
            return
        self._until_end = self._head.keys().isdisjoint(_ENDS)
        try:
            check_head(status, _text(self._head.get(b"content-encoding")))
        except TimestampRefusedError as error:
            self._fail(error)

    def on_body(self, piece: bytes) -> None:
        """Gather a piece of the body."""
        self._body.append(piece)
        self._body_octets += len(piece)
        if self._body_octets > MAX_RESPONSE:
            self._fail(TimestampRefusedError(TOO_LARGE))

    def on_message_complete(self) -> None:
        """Hand the answer over; what only promises one is passed over."""
        if self._parser.get_status_code() < 200:
            self._forget()
        elif self._waits():
            self.reusable = self._parser.should_keep_alive()
            self._finish()


_ENDS: Final = frozenset({b"content-length", b"transfer-encoding"})


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
