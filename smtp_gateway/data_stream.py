"""DATA as a stream: end of data, transparency dots, strict line ends, limits. Memory stays flat.

`DataDecoder` is sans-IO: bytes in, content out. `receive` moves bytes from a reader into a spool.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from kephs.ports import Spool, StoreUnavailableError

LINE_MAX: Final = 998  # spec: RFC5322#2.1.1 (without CRLF)
READ_SIZE: Final = 256 * 1024
WRITE_SIZE: Final = 256 * 1024  # a write is one hop to a thread: rare, and short enough for the others
_DOTTED: Final = b"\r\n."
_END: Final = b"\r\n.\r\n"


class BareLineEndingError(Exception):
    """A CR or LF stood alone: two servers could disagree where the message ends, so the session ends."""


class DataEndedEarlyError(Exception):
    """The connection ended before the data did."""


class DataDecoder:
    """Takes DATA from the wire in any pieces and gives back the content as the client meant it.

    Attributes:
        size: bytes of content so far.
        nul: a NUL was seen.
        line_too_long: a line of more than 998 bytes was seen.
        finished: the final dot was seen; `rest` holds what came behind it.
    """

    __slots__ = ("_column", "_held", "_skip", "finished", "line_too_long", "nul", "rest", "size")

    def __init__(self) -> None:
        self.size = 0
        self.nul = False
        self.line_too_long = False
        self.finished = False
        self.rest = b""
        self._held = b"\r\n"  # data begins as if behind a line end, so a first dot is seen
        self._skip = 2
        self._column = 0  # bytes since the last line end

    def feed(self, data: bytes) -> bytes:
        """Return the content that is certain after ``data``.

        Raises:
            BareLineEndingError: a CR without LF or an LF without CR, before the end of data.
        """
        # spec: RFC5321#4.5.2 (transparency), RFC5321#2.3.8 (no bare CR or LF)
        if self.finished:
            self.rest += data
            return b""
        data = self._held + data
        dotted = data.find(_DOTTED)  # the only one, as a rule: then it is the end, and nothing is doubled
        end = dotted if dotted < 0 or data.startswith(_END, dotted) else data.find(_END, dotted)
        if end >= 0:
            self.finished = True
            self._held, self.rest = b"", data[end + len(_END) :]
            certain = data[: end + 2]
        else:
            held = _beginning_of_end(data)
            self._held = data[len(data) - held :]
            certain = data[: len(data) - held]
        # without a bare one, two bytes of each line end are all that goes when CR and LF are taken out
        if len(certain) - len(certain.translate(None, b"\r\n")) != 2 * certain.count(b"\r\n"):
            raise BareLineEndingError
        content = certain if dotted in (-1, end) else certain.replace(_DOTTED, b"\r\n")
        if self._skip and content:
            content, self._skip = content[self._skip :], 0
        self._examine(content)
        return content

    def _examine(self, content: bytes) -> None:
        self.size += len(content)
        self.nul = self.nul or b"\0" in content
        if self.line_too_long:
            return
        # from one line end to the last one that may follow it: a few hops per kilobyte
        last = -1 - self._column
        end = len(content)
        while end - last - 1 > LINE_MAX + 2:
            following = content.rfind(b"\n", max(last + 1, 0), last + LINE_MAX + 3)
            if following < 0:
                self.line_too_long = True
                return
            last = following
        self._column = end - (content.rfind(b"\n", max(last, 0)) + 1 or last + 1)


def _beginning_of_end(data: bytes) -> int:
    """Return how many of the last bytes may begin the end of data."""
    return next((n for n in range(4, 0, -1) if data.endswith(_END[:n])), 0)


@dataclass(frozen=True, slots=True)
class Received:
    """What came: size of the content, what is wrong with it, and the bytes behind the final dot.

    ``too_big`` and ``store_failed`` mean that the spool does not hold all of it.
    """

    size: int
    nul: bool
    line_too_long: bool
    too_big: bool
    store_failed: bool
    rest: bytes


async def receive(read: Callable[[int], Awaitable[bytes]], spool: Spool, *, max_size: int) -> Received:
    """Read DATA to its end into ``spool``.

    What exceeds ``max_size``, or what the store cannot take, is drained and dropped, so that the client
    hears the answer (RFC 5321 4.2.5); beyond twice the limit nobody listens any more.

    Args:
        read: returns at most so many bytes, none at the end of the connection. It times out by itself.
        spool: where content goes, in blocks of 256 KiB.
        max_size: most bytes of content that are kept.

    Raises:
        BareLineEndingError: the session must end with 521.
        DataEndedEarlyError: the connection ended, or far too much came.
    """
    decoder = DataDecoder()
    blocks: list[bytes] = []
    waiting = 0
    store_failed = False
    while not decoder.finished:
        data = await read(READ_SIZE)
        if not data or decoder.size > 2 * max_size:
            raise DataEndedEarlyError
        content = decoder.feed(data)
        if store_failed or decoder.size > max_size:
            blocks.clear()
            continue
        blocks.append(content)
        waiting += len(content)
        if waiting >= WRITE_SIZE or (waiting and decoder.finished):
            try:
                await spool.write(b"".join(blocks))
            except StoreUnavailableError:
                store_failed = True
            blocks.clear()
            waiting = 0
    too_big = decoder.size > max_size
    return Received(decoder.size, decoder.nul, decoder.line_too_long, too_big, store_failed, decoder.rest)
