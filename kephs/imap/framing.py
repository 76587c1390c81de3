"""Bytes in, whole commands out: lines, literals and their caps. Where the network cuts does not matter.

Nothing beyond the caps is ever held: a literal is refused or skipped before it is buffered, and the message
of an APPEND is handed on piece by piece, once `Framer.accept` said that it may come.

spec: RFC3501#4.3, RFC3501#6.3.11, RFC7888
"""

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

_LITERAL: Final = re.compile(rb"\{([0-9]+)(\+?)\}\Z")
_TAG: Final = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,64}(?= )")
_APPEND: Final = re.compile(rb"[^ ]{1,64} APPEND ", re.IGNORECASE)
NON_SYNC_MAX: Final = 4096  # spec: RFC7888#5 (LITERAL-)
_DIGITS_MAX: Final = 10  # spec: RFC3501#9 (number: 32 bits)


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """Caps of one command, in bytes: its lines together, its literals together, and what may be skipped."""

    line: int
    literal: int
    skip: int


BEFORE_LOGIN: Final = FrameLimits(line=8 * 1024, literal=8 * 1024, skip=0)
AFTER_LOGIN: Final = FrameLimits(line=64 * 1024, literal=1024 * 1024, skip=1024 * 1024)


@dataclass(frozen=True, slots=True)
class Received:
    """One whole command with its literals, without the final CRLF."""

    data: bytes


@dataclass(frozen=True, slots=True)
class WantsLiteral:
    """The client waits to be told to send a literal."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A command that was refused before it was read. After a fatal one nothing more can be read."""

    tag: bytes  # b"*" where none was recognised
    code: bytes
    text: bytes
    fatal: bool


@dataclass(frozen=True, slots=True)
class AppendBegins:
    """An APPEND up to the announcement of its message; answer with `Framer.accept` or `Framer.decline`."""

    data: bytes
    sync: bool  # the client waits to be told to send


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of an accepted message."""

    data: bytes


@dataclass(frozen=True, slots=True)
class AppendEnds:
    """The accepted message has come whole; ``rest`` is what followed it on its last line."""

    rest: bytes


Event: TypeAlias = Received | WantsLiteral | Broken | AppendBegins | Piece | AppendEnds


class Framer:
    """Cuts the client's bytes into commands. Ask `next_command` until it gives None, then feed more."""

    def __init__(self, limits: FrameLimits) -> None:
        self.limits = limits
        self._buffer = bytearray()
        self._scanned = 0  # no CRLF begins before this place
        self._command = bytearray()
        self._line_bytes = 0
        self._literal_bytes = 0
        self._missing = 0  # of the literal being read, or -1 outside one
        self._skip = 0
        self._discarding = False
        self._dead = False
        self._asked: tuple[int, bool] | None = (
            None  # size of a message that may be accepted, and whether sync
        )
        self._coming = 0  # bytes of an accepted message that are still to come
        self._ending = False  # the next line ends an accepted message

    def feed(self, data: bytes) -> None:
        """Take bytes from the network."""
        self._buffer += data

    def next_command(self) -> Event | None:
        """Return what comes next, or None where more bytes are needed."""
        while not self._dead and self._asked is None:
            if self._coming:
                return self._piece()
            if self._skip:
                dropped = min(self._skip, len(self._buffer))
                del self._buffer[:dropped]
                self._skip -= dropped
                if self._skip:
                    return None
            if self._missing:
                if len(self._buffer) < self._missing:
                    return None
                self._command += self._buffer[: self._missing]
                del self._buffer[: self._missing]
                self._missing = 0
            line = self._line(self.limits.line - self._line_bytes)
            if line is None or isinstance(line, Broken):
                return line
            event = self._end_append(line) if self._ending else self._take(line)
            if event is not None:
                return event
        return None

    def accept(self) -> None:
        """Let the message of the APPEND come."""
        assert self._asked is not None  # the caller answers `AppendBegins` once
        self._coming, self._asked, self._ending = self._asked[0], None, True

    def decline(self) -> None:
        """Let the message not come; where it comes all the same, pass over it."""
        assert self._asked is not None  # the caller answers `AppendBegins` once
        size, sync = self._asked
        self._asked = None
        self._reset()
        if not sync:
            self._skip = size
            self._discarding = True

    def _piece(self) -> Piece | None:
        data = bytes(self._buffer[: self._coming])
        del self._buffer[: len(data)]
        self._coming -= len(data)
        return Piece(data) if data else None

    def _end_append(self, line: bytes) -> Event:
        self._ending = False
        self._reset()
        match = _LITERAL.search(line)
        dropped = self._drop(match) if match is not None and match[2] else None
        return dropped or AppendEnds(line)

    def next_line(self) -> bytes | Broken | None:
        """Return one line as it is, for the answers to ``+`` (AUTHENTICATE, IDLE)."""
        return None if self._dead else self._line(self.limits.line)

    def _line(self, allowed: int) -> bytes | Broken | None:
        end = self._buffer.find(b"\r\n", self._scanned)
        length = end if end >= 0 else len(self._buffer)
        # without its end a line is too long only when no CR at its edge can save it
        if length > allowed and (end >= 0 or length > allowed + 1 or self._buffer[-1:] != b"\r"):
            self._dead = True
            return Broken(b"*", b"", b"Line too long", fatal=True)
        if end < 0:
            self._scanned = max(len(self._buffer) - 1, 0)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        self._scanned = 0
        return line

    def _take(self, line: bytes) -> Event | None:
        match = _LITERAL.search(line)
        if self._discarding:
            self._discarding = False
            return self._drop(match) if match is not None and match[2] else None
        self._line_bytes += len(line) + 2
        self._command += line
        if match is None:
            return self._finish()
        size = int(match[1]) if len(match[1]) <= _DIGITS_MAX else -1
        sync = not match[2]
        append = _APPEND.match(self._command)
        # spec: RFC3501#6.3.11 (the name may be a literal too; any other is the message)
        is_message = append is not None and len(self._command) - len(match[0]) > append.end()
        if is_message and size >= 0 and (sync or size <= NON_SYNC_MAX):
            self._asked = (size, sync)
            return AppendBegins(bytes(self._command), sync)
        fits = 0 <= size <= self.limits.literal - self._literal_bytes
        if fits and (sync or size <= NON_SYNC_MAX):
            self._command += b"\r\n"
            self._literal_bytes += size
            self._missing = size
            return WantsLiteral() if sync else None
        refused = Broken(self._tag(), b"[TOOBIG] ", b"Literal too big", fatal=False)
        self._reset()
        return refused if sync else self._drop(match) or refused

    def _drop(self, match: re.Match[bytes]) -> Broken | None:
        """Skip a literal that comes without being asked for; a hopeless one ends the connection."""
        # spec: RFC7888#4
        size = int(match[1]) if len(match[1]) <= _DIGITS_MAX else self.limits.skip + 1
        if size > self.limits.skip:
            self._dead = True
            return Broken(b"*", b"[TOOBIG] ", b"Literal too big", fatal=True)
        self._skip = size
        self._discarding = True
        return None

    def _finish(self) -> Received:
        data = bytes(self._command)
        self._reset()
        return Received(data)

    def _reset(self) -> None:
        self._command.clear()
        self._line_bytes = self._literal_bytes = self._missing = 0

    def _tag(self) -> bytes:
        match = _TAG.match(self._command)
        return match[0] if match else b"*"
