"""One TLS connection over memory BIOs: asyncio's own TLS holds 256 kB per connection, idle ones too.

Implicit TLS only. Writes are collected and leave with `flush`, so that an answer is one record and one call.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Final

_READ: Final = 64 * 1024
_INCOMING_MAX: Final = 256 * 1024  # encrypted bytes held before the socket is paused
_WRITE_HIGH: Final = 256 * 1024
_LINGER: Final = 30.0  # seconds for the last bytes to leave
_RECORDS: Final = 128 * 1024  # plain bytes encrypted before they are handed to the socket


class TlsLink(asyncio.Protocol):
    """A server-side TLS connection. ``opened`` is called once with the link itself."""

    def __init__(self, context: ssl.SSLContext, opened: Callable[["TlsLink"], None]) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._opened = opened
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._pending: list[bytes] = []
        self.pending_bytes = 0
        self._poked = False
        self._ended = False
        self._paused = False
        self.host = ""

    # --- asyncio.Protocol -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_WRITE_HIGH)
        peer = transport.get_extra_info("peername")
        self.host = str(peer[0]) if isinstance(peer, tuple) else "local"
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        """Take encrypted bytes."""
        self._incoming.write(data)
        if self._incoming.pending > _INCOMING_MAX and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Note the end; what is on its way out still goes."""
        self._ended = True
        self._wake()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """End, however it came."""
        self._ended = True
        self._transport = None
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Hold: the client reads slower than we write."""
        if self._writable is None:
            self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Go on."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # --- for the server -------------------------------------------------------------------------------

    def poke(self) -> None:
        """Make a waiting `read` return None."""
        self._poked = True
        self._wake()

    async def handshake(self) -> None:
        """Finish the TLS handshake.

        Raises:
            ssl.SSLError: the client speaks no TLS that we accept.
            ConnectionError: the client went away.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._push()
                if self._ended:
                    raise ConnectionResetError from None
                await self._wait()
            except ssl.SSLError:
                self._push()  # the alert
                raise
            else:
                self._push()
                return

    async def read(self) -> bytes | None:
        """Return what the client sent, ``b""`` at the end, or None where somebody poked."""
        while True:
            if self._poked:
                self._poked = False
                return None
            try:
                data = self._tls.read(_READ)
            except ssl.SSLWantReadError:
                self._push()
                if self._ended:
                    return b""
                if self._paused and self._transport is not None:
                    self._paused = False
                    self._transport.resume_reading()
                await self._wait()
            except ssl.SSLError:
                return b""
            else:
                return data

    def send(self, data: bytes) -> None:
        """Collect bytes for the client."""
        if data:
            self._pending.append(data)
            self.pending_bytes += len(data)

    async def flush(self) -> None:
        """Hand what was collected to the network and wait while the client is behind.

        Raises:
            ConnectionError: the client went away.
        """
        if self._pending:
            data = b"".join(self._pending) if len(self._pending) > 1 else self._pending[0]
            self._pending = []
            self.pending_bytes = 0
            view = memoryview(data)
            for start in range(0, len(view), _RECORDS):
                await self._encrypt(view[start : start + _RECORDS])
        if self._transport is None:
            raise ConnectionResetError

    async def _encrypt(self, view: memoryview) -> None:
        while view:
            try:
                view = view[self._tls.write(view) :]
            except ssl.SSLWantReadError:  # a key change under way
                self._push()
                if self._ended:
                    raise ConnectionResetError from None
                await self._wait()
        self._push()
        if self._writable is not None:
            await self._writable

    def close(self) -> None:
        """Say good-bye and close; bytes already handed over still leave."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        with contextlib.suppress(ssl.SSLError, ValueError):  # the client's own good-bye is not waited for
            self._tls.unwrap()
        self._push()
        if transport.get_write_buffer_size():  # a client that reads nothing does not keep the socket
            asyncio.get_running_loop().call_later(_LINGER, transport.abort)
        transport.close()

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _push(self) -> None:
        if self._outgoing.pending:
            data = self._outgoing.read()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.write(data)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
