"""Large messages over blocking TLS connections, and a neighbour who asks for a sign of life meanwhile.

The transfer runs in a thread: encryption and socket calls release the interpreter lock, so that the
neighbour's clock is not held up by our own client.
"""

import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from kephs.bench.figures import BenchError, ticks
from kephs.bench.wire import SERVER_NAME, Login, Place

PIECE: Final = 256 * 1024
BEAT: Final = 0.010  # seconds between two questions of the neighbour
_PATIENCE: Final = 120.0


class Blocking:
    """A blocking TLS connection that reads lines."""

    def __init__(self, raw: ssl.SSLSocket) -> None:
        self._socket = raw
        self._rest = bytearray()

    @classmethod
    def connect(cls, place: Place, stack: ExitStack) -> Self:
        """Connect; the connection is closed when ``stack`` is left."""
        raw = socket.create_connection((place.host, place.port), _PATIENCE)
        stack.callback(raw.close)
        wrapped = place.tls().wrap_socket(raw, server_hostname=SERVER_NAME)
        stack.callback(wrapped.close)
        wrapped.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(wrapped)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(data)

    def line(self) -> bytes:
        """Return the next line with its end."""
        while (end := self._rest.find(b"\n")) < 0:
            data = self._socket.recv(PIECE)
            if not data:
                raise BenchError("the server hung up")
            self._rest += data
        found = bytes(self._rest[: end + 1])
        del self._rest[: end + 1]
        return found

    def take(self, count: int, sink: Callable[[bytes | memoryview], object] | None = None) -> None:
        """Read so many octets, into ``sink`` or into nothing."""
        ready = bytes(self._rest[:count])
        del self._rest[:count]
        if sink is not None:
            sink(ready)
        left, buffer = count - len(ready), memoryview(bytearray(PIECE))
        while left:
            got = self._socket.recv_into(buffer[: min(PIECE, left)])
            if not got:
                raise BenchError("the server hung up")
            if sink is not None:
                sink(buffer[:got])
            left -= got

    def reply(self, code: bytes) -> bytes:
        """Return the last line of an SMTP reply, which must have this code."""
        while (line := self.line())[3:4] == b"-":
            pass
        if not line.startswith(code):
            raise BenchError(f"the server said {line!r}")
        return line

    def tagged(self, tag: bytes) -> bytes:
        """Return the tagged line of an IMAP answer, which must be OK; small answers only."""
        while not (line := self.line()).startswith(tag + b" "):
            pass
        if not line.startswith(tag + b" OK"):
            raise BenchError(f"the server said {line!r}")
        return line


def smtp(place: Place, login: Login | None, stack: ExitStack) -> Blocking:
    """Return a greeted SMTP connection, signed in where there is a login."""
    client = Blocking.connect(place, stack)
    client.reply(b"220")
    client.send(b"EHLO bench.test\r\n")
    client.reply(b"250")
    if login is not None:
        client.send(b"AUTH PLAIN " + b64encode(f"\0{login.user}\0{login.password}".encode()) + b"\r\n")
        client.reply(b"235")
    return client


def imap(place: Place, login: Login, folder: str, stack: ExitStack) -> Blocking:
    """Return an IMAP connection with a folder selected."""
    client = Blocking.connect(place, stack)
    client.line()
    client.send(f'A LOGIN "{login.user}" "{login.password}"\r\nB SELECT {folder}\r\n'.encode("ascii"))
    client.tagged(b"A")
    client.tagged(b"B")
    return client


def submit_file(
    client: Blocking, sender: str, recipient: str, head: bytes, entity: Path, tail: bytes
) -> float:
    """Submit one message in three pieces, the middle one from a file; return the seconds it took.

    No line may begin with a dot.
    """
    started = ticks()
    for line, code in (
        (f"MAIL FROM:<{sender}>", b"250"), (f"RCPT TO:<{recipient}>", b"250"), ("DATA", b"354"),
    ):  # fmt: skip
        client.send(line.encode("ascii") + b"\r\n")
        client.reply(code)
    client.send(head)
    with entity.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            client.send(piece)
    client.send(tail + b".\r\n")
    client.reply(b"250")
    return ticks() - started


def fetch_message(
    client: Blocking, number: int, sink: Callable[[bytes | memoryview], object] | None = None
) -> tuple[int, float]:
    """Fetch one whole message; return its octets and the seconds it took."""
    started = ticks()
    client.send(b"F FETCH %d BODY.PEEK[]\r\n" % number)
    while not (line := client.line()).endswith(b"}\r\n"):
        if line.startswith(b"F "):
            raise BenchError(f"the server said {line!r}")
    size = int(line[line.rindex(b"{") + 1 : -3])
    client.take(size, sink)
    client.tagged(b"F")
    return size, ticks() - started


def append_file(client: Blocking, folder: str, path: Path) -> None:
    """Append a message from a file to a folder."""
    client.send(f"P APPEND {folder} {{{path.stat().st_size}}}\r\n".encode("ascii"))
    if not (line := client.line()).startswith(b"+"):
        raise BenchError(f"the server said {line!r}")
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            client.send(piece)
    client.send(b"\r\n")
    client.tagged(b"P")


class Neighbour:
    """Asks NOOP every 10 ms on a connection of its own and notes the longest wait."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="neighbour")
        self.waits: list[float] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.wait(BEAT):
                started = ticks()
                self._ask()
                self.waits.append(ticks() - started)
        except (OSError, BenchError) as error:
            self._error = error

    @property
    def longest_ms(self) -> float:
        """Return the longest wait so far, milliseconds."""
        if self._error is not None:
            raise BenchError(f"the neighbour was cut off: {self._error}")
        return 1000 * max(self.waits, default=0.0)


def noop_smtp(client: Blocking) -> Callable[[], None]:
    """Return the neighbour's question on an SMTP connection."""

    def ask() -> None:
        client.send(b"NOOP\r\n")
        client.reply(b"250")

    return ask


def noop_imap(client: Blocking) -> Callable[[], None]:
    """Return the neighbour's question on an IMAP connection."""

    def ask() -> None:
        client.send(b"N NOOP\r\n")
        client.tagged(b"N")

    return ask
