"""clamd as the malware scanner: content is streamed to it (INSTREAM), nothing touches a shared disk."""

import asyncio
import struct
from dataclasses import dataclass
from typing import Final

from evidence.ports import ByteSource
from kephs.ports import ScannerUnavailableError, ScanVerdict

_PIECE: Final = 256 * 1024
_SMALL: Final = 64 * 1024  # reads up to this size are not worth a thread
_ANSWER_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class ClamdAddress:
    """Where clamd listens: a UNIX socket's path, or a host with a port."""

    path: str | None = None
    host: str = "127.0.0.1"
    port: int = 3310


class ClamdScanner:
    """Implements the `Scanner` port. clamd's StreamMaxLength must hold the largest message on the wire."""

    def __init__(
        self, address: ClamdAddress, *, connect_timeout: float = 5.0, scan_timeout: float = 120.0
    ) -> None:
        """Prepare; a connection is made for each scan. Timeouts in seconds."""
        self._address = address
        self._connect_timeout = connect_timeout
        self._scan_timeout = scan_timeout

    async def scan(self, content: ByteSource) -> ScanVerdict:
        """Scan content.

        Raises:
            ScannerUnavailableError: clamd does not answer, or answers with an error.
        """
        try:
            async with asyncio.timeout(self._connect_timeout):
                reader, writer = await self._connect()
        except OSError as error:  # TimeoutError too
            raise ScannerUnavailableError("no connection") from error
        try:
            async with asyncio.timeout(self._scan_timeout):
                answer = await self._exchange(reader, writer, content)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ScannerUnavailableError(type(error).__name__) from error
        finally:
            writer.transport.abort()
        return _verdict(answer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = self._address
        if address.path is not None:
            return await asyncio.open_unix_connection(address.path, limit=_ANSWER_MAX)
        return await asyncio.open_connection(address.host, address.port, limit=_ANSWER_MAX)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: ByteSource
    ) -> bytes:
        writer.write(b"zINSTREAM\0")
        size = content.size
        for at in range(0, size, _PIECE):
            length = min(_PIECE, size - at)
            if length > _SMALL:
                piece = await asyncio.to_thread(content.read, at, length)
            else:
                piece = content.read(at, length)
            writer.write(struct.pack(">I", len(piece)) + piece)
            await writer.drain()
        writer.write(struct.pack(">I", 0))
        await writer.drain()
        return await reader.readuntil(b"\0")


def _verdict(answer: bytes) -> ScanVerdict:
    text = answer.rstrip(b"\0\n").decode("utf-8", "replace")
    _, _, said = text.partition(": ")
    if said == "OK":
        return ScanVerdict(clean=True)
    if said.endswith(" FOUND"):
        return ScanVerdict(clean=False, name=said.removesuffix(" FOUND"))
    raise ScannerUnavailableError(text[:200])
