"""One end of the connection between the main process and the signer: a socket that carries frames."""

import asyncio
from typing import cast

from kephs.signer.wire import Frame, FrameReader, WireError


class FrameLink(asyncio.Protocol):
    """Reads frames and writes them; what is sent within one turn of the loop leaves with one call.

    Subclasses say in `take` what a frame means. It must not raise anything but `WireError`, which ends the
    connection.

    Args:
        most: octets of one frame that is read.
    """

    def __init__(self, most: int) -> None:
        self.lost = asyncio.Event()
        """Set once the connection is over."""
        self.reason = "the connection was closed"
        self.writable = asyncio.Event()
        """Cleared while the other side does not keep up with what it is sent."""
        self.writable.set()
        self._reader = FrameReader(most)
        self._waiting: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def take(self, frame: Frame) -> None:
        """Do what a frame asks for."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Send a frame with others of this turn; nothing happens once the connection is over."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """Send what waits, then end the connection."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """End the connection now."""
        if not self.lost.is_set():
            self.reason = reason
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Read no more for now: the kernel makes the other side wait."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(waiting))

    # ----------------------------------------------------------------- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take the frames that this completes."""
        try:
            for frame in self._reader.feed(data):
                self.take(frame)
        except WireError as error:
            self.abort(str(error))

    def pause_writing(self) -> None:
        """Note that the other side is slow."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Note that it has caught up."""
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake all who wait for the connection."""
        if exc is not None:
            self.reason = f"the connection broke: {exc}"
        self.lost.set()
        self.writable.set()
