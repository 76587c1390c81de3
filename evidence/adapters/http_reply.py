"""One HTTP/1.1 reply, read without I/O: bytes in, a reply out, as soon as it is complete.

Strict where leniency helps only an attacker: one way to frame a body, no folded lines, no bare line ends.
(spec: RFC9112#4, RFC9112#6.3, RFC9112#7.1)
"""

import re
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Final

MAX_HEAD: Final = 16 * 1024
_MAX_SIZE_LINE: Final = 256
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_LENGTH: Final = re.compile(rb"[0-9]{1,9}")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?")  # extensions are ignored
_ONCE: Final = frozenset({b"content-length", b"transfer-encoding", b"content-type"})
_SWITCHING, _OK = 101, 200


class HttpReplyError(OSError):
    """What came is no HTTP reply that this client reads, or it is larger than it may be."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A final reply; only that of status 200 is read with its body.

    ``content_type`` is in lower case and without parameters, empty where the reply names none.
    ``reusable``: the connection may carry another request.
    """

    status: int
    content_type: str
    body: bytes
    reusable: bool


class ReplyReader:
    """Reads one reply from any pieces; work and memory are linear in what arrives, and capped.

    Args:
        max_body: octets of the body at most; one that announces more is refused before it arrives.
    """

    __slots__ = ("_buffer", "_limit", "_max_body", "_steps", "_total")

    def __init__(self, max_body: int) -> None:
        self._max_body, self._limit = max_body, MAX_HEAD + 2 * max_body  # chunks may double a body
        self._total, self._buffer = 0, bytearray()
        self._steps = self._read()

    @property
    def started(self) -> bool:
        """Say whether anything has arrived."""
        return self._total > 0

    def feed(self, data: bytes) -> HttpReply | None:
        """Take octets and return the reply once it is complete; nothing may be fed after that.

        Raises:
            HttpReplyError: not HTTP as we read it, or too large.
        """
        self._total += len(data)
        if self._total > self._limit:
            raise HttpReplyError(f"answer larger than {self._limit} octets")
        self._buffer += data
        try:
            next(self._steps)
        except StopIteration as done:
            reply: HttpReply = done.value
            return reply
        return None

    def _read(self) -> Generator[None, None, HttpReply]:
        status = 0
        while status < _OK:  # interim replies come before the final one, spec: RFC9110#15.2
            first, *lines = (yield from self._until(b"\r\n\r\n", MAX_HEAD)).split(b"\r\n")
            line = _STATUS_LINE.fullmatch(first)
            if line is None or (status := int(line[2])) == _SWITCHING:
                raise HttpReplyError("not an HTTP/1 status line that was asked for")
        fields = _fields(lines)
        content_type = fields.get(b"content-type", b"").split(b";", 1)[0].strip().lower().decode("latin-1")
        if status != _OK:
            return HttpReply(status, content_type, b"", reusable=False)
        body = yield from self._body(fields.get(b"content-length"), fields.get(b"transfer-encoding"))
        keep = line[1] == b"1" and b"close" not in fields.get(b"connection", b"").lower()
        return HttpReply(status, content_type, body, keep and not self._buffer)

    def _body(self, length: bytes | None, coding: bytes | None) -> Generator[None, None, bytes]:
        """Read the body in the one way its head names; two ways at once are an attack."""
        if coding is None and length is not None and _LENGTH.fullmatch(length):
            return (yield from self._octets(int(length), 0))
        if coding is None or length is not None or coding.lower() != b"chunked":
            raise HttpReplyError("no usable Content-Length, nor chunks alone")
        body = bytearray()
        while True:
            size = _CHUNK_SIZE.fullmatch((yield from self._until(b"\r\n", _MAX_SIZE_LINE)))
            if size is None:
                raise HttpReplyError("chunk size")
            count = int(size[1], 16)
            if not count:
                break
            body += yield from self._octets(count, len(body))
            if (yield from self._until(b"\r\n", 0)):
                raise HttpReplyError("chunk without its end")
        while (yield from self._until(b"\r\n", MAX_HEAD)):
            pass  # trailers: nothing in them can matter here
        return bytes(body)

    def _until(self, end: bytes, limit: int) -> Generator[None, None, bytes]:
        """Take what stands before ``end``, at most ``limit`` octets; none is searched twice."""
        buffer, most, seen = self._buffer, limit + len(end), 0
        while (found := buffer.find(end, seen, most)) < 0:
            if len(buffer) >= most:
                raise HttpReplyError(f"header or line larger than {limit} octets")
            seen = max(len(buffer) - len(end) + 1, 0)
            yield
        taken = bytes(buffer[:found])
        del buffer[: found + len(end)]
        return taken

    def _octets(self, count: int, before: int) -> Generator[None, None, bytes]:
        if before + count > self._max_body:
            raise HttpReplyError(f"answer larger than {self._max_body} octets")
        while len(self._buffer) < count:
            yield
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def _fields(lines: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return the header fields by lower-case name; those that frame the body stand once."""
    found: dict[bytes, bytes] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise HttpReplyError("not a header field")
        name, value = field[1].lower(), field[2].rstrip(b" \t")
        if name in found and name in _ONCE:
            raise HttpReplyError(f"{name.decode()} stands twice")
        found[name] = found[name] + b"," + value if name in found else value
    return found
