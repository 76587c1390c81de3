"""A connection to a peer as asyncio sees it: bytes in and out, STARTTLS, and an end that cannot hang or leak.

Not asyncio's streams: their buffer would keep what came in clear and show it as if it had come encrypted.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

_INCOMING_MAX: Final = 64 * 1024  # reading pauses above; replies are short
_OUTGOING_MAX: Final = 64 * 1024


def relay_context() -> ssl.SSLContext:
    """Return the TLS settings towards peers: TLS 1.2 at least; who the peer is, its pin decides."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_NONE  # the pinned certificate itself is compared (rem-formats §5)
    return context


class Wire(asyncio.Protocol):
    """One connection. One task at a time waits on it.

    Attributes:
        lost: it ended; what was read before is still there.
        behind: much of what was sent waits for the peer to take it.
    """

    def __init__(self) -> None:
        self.lost = False
        self.behind = False
        self._incoming = bytearray()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._when_stirred: Callable[[], None] | None = None
        self._when_gone: Callable[[], None] | None = None
        self._farewell: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()

    @classmethod
    async def connect(cls, host: str, port: int) -> "Wire":
        """Connect.

        Raises:
            OSError: nobody there, or no such name.
        """
        _, wire = await asyncio.get_running_loop().create_connection(cls, host, port)
        return wire

    # --- called by asyncio --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_OUTGOING_MAX)

    def data_received(self, data: bytes) -> None:
        """Keep data for the reader; pause where the peer floods."""
        if self._farewell is not None:
            self.abort()
            return
        self._incoming += data
        if len(self._incoming) > _INCOMING_MAX and not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()
        self._stir()

    def eof_received(self) -> None:
        """Note the end; asyncio closes the transport."""
        self.lost = True
        self._stir()

    def connection_lost(self, _: Exception | None) -> None:
        """Note the end."""
        self.lost = True
        self._closed.set()
        if self._farewell is not None:
            self._farewell.cancel()
        if self._when_gone is not None:
            self._when_gone()
        self._stir()

    def pause_writing(self) -> None:
        """Note that the peer is behind."""
        self.behind = True

    def resume_writing(self) -> None:
        """Note that the peer has caught up."""
        self.behind = False
        self._stir()

    def _stir(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._when_stirred is not None and (self.lost or self._incoming):
            self._when_stirred()

    # --- called by the courier ----------------------------------------------------------------

    @property
    def ending(self) -> bool:
        """Say whether the connection has ended or something waits that nobody asked for."""
        return self.lost or bool(self._incoming)

    def watch(self, when_stirred: Callable[[], None] | None) -> None:
        """Call this when something comes or the connection ends, while nobody waits; None ends that."""
        self._when_stirred = when_stirred

    def write(self, data: bytes) -> None:
        """Send; nothing happens where the connection has ended."""
        if self._transport is not None and not self.lost:
            self._transport.write(data)

    def take(self) -> bytes:
        """Return what came so far."""
        data = bytes(self._incoming)
        self._incoming.clear()
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()
        return data

    async def read(self) -> bytes:
        """Return what came, at least one byte; nothing at the end of the connection."""
        while not self._incoming and not self.lost:
            await self._wait()
        return self.take()

    async def stirred(self) -> None:
        """Wait until the peer is no longer behind, it says something, or it is gone."""
        while self.behind and not self._incoming and not self.lost:
            await self._wait()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def start_tls(self, context: ssl.SSLContext, host: str) -> bytes:
        """Shake hands and return the peer's certificate, DER (empty if it showed none).

        Raises:
            OSError: no TLS connection came about; `ssl.SSLError` is one.
        """
        if self._transport is None or self.lost:
            raise ConnectionResetError("connection ended")
        self.take()  # nothing of what came in clear counts; asyncio hands over to TLS without a gap
        loop = asyncio.get_running_loop()
        made = await loop.start_tls(self._transport, self, context, server_hostname=host)
        if made is None:
            raise ConnectionResetError("connection ended")
        self._transport = made
        made.set_write_buffer_limits(high=_OUTGOING_MAX)
        encrypted = made.get_extra_info("ssl_object")
        assert isinstance(encrypted, ssl.SSLObject)
        return encrypted.getpeercert(binary_form=True) or b""

    def leave(self, timeout: float, when_gone: Callable[[], None]) -> None:
        """Say QUIT; end when the peer answers or has ended it, at the latest after ``timeout`` seconds."""
        self._when_stirred, self._when_gone = None, when_gone
        if self._closed.is_set():
            when_gone()
        elif self.lost or self._incoming or self._transport is None:
            self.abort()
        else:
            self._farewell = asyncio.get_running_loop().call_later(timeout, self.abort)
            self._transport.write(b"QUIT\r\n")

    def abort(self) -> None:
        """End at once."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()
        self._stir()

    async def closed(self) -> None:
        """Wait until the socket is gone."""
        await self._closed.wait()
