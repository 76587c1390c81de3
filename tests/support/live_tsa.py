"""A time-stamping authority in a thread of the test: other processes ask it, the test counts and spoils it."""

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from evidence.stamps.timestamps import build_request, read_request
from kephs.testpki.authority import TestPki

REPLY = "application/timestamp-reply"
Manner = Callable[["LiveTsa", "_Handler", bytes], None]
"""How a request is answered: given the authority, who answers, and what was asked."""


class _Handler(BaseHTTPRequestHandler):  # HTTP/1.0: each connection carries one request
    server: "_Server"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        tsa = self.server.tsa
        with tsa.lock:
            tsa.asked += 1
        tsa.manner(tsa, self, body)

    def reply(self, body: bytes, content_type: str = REPLY, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    tsa: "LiveTsa"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up on whom they give up."""


class LiveTsa:
    """An authority of a TEST PKI at an address of its own; ``user`` and ``password``: who may ask.

    Attributes:
        asked: requests that came.
        given: good tokens that were sent.
        over: the imprints of those, in order.
    """

    def __init__(self, pki: TestPki, *, user: str = "", password: str = "") -> None:
        self.pki = pki
        self.manner: Manner = good
        self.wanted = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user else ""
        self.asked = self.given = 0
        self.over: list[bytes] = []
        self.lock = threading.Lock()
        self.gone = threading.Event()
        self._port = 0
        self._server: _Server | None = None
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/tsa"

    def up(self) -> None:
        """Listen (again, at the same port)."""
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.tsa = self
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Listen no more: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def close(self) -> None:
        """End it, and whoever waits for it."""
        self.gone.set()
        self.down()

    def token_for(self, request: bytes) -> bytes:
        with self.lock:
            self.given += 1
            self.over.append(read_request(request).imprint)
            return self.pki.timestamp_reply(request, datetime.now(UTC))

    @contextmanager
    def behaving(self, manner: Manner) -> Iterator[None]:
        """Answer otherwise for the block; `closed` is more than a manner of answering."""
        if manner is closed:
            self.down()
        self.manner = manner
        try:
            yield
        finally:
            self.manner = good
            if manner is closed:
                self.up()


def good(tsa: LiveTsa, to: _Handler, body: bytes) -> None:
    """Answer as an authority does."""
    if tsa.wanted and to.headers["Authorization"] != tsa.wanted:
        to.reply(b"", "text/plain", 401)
        return
    to.reply(tsa.token_for(body))


def closed(tsa: LiveTsa, to: _Handler, body: bytes) -> None:
    """Nobody listens."""


def broken(tsa: LiveTsa, to: _Handler, body: bytes) -> None:
    """Be out of order."""
    to.reply(b"", "text/plain", 503)


def garbage(tsa: LiveTsa, to: _Handler, body: bytes) -> None:
    """Answer with something else, by the right name."""
    to.reply(b"<html>Bakim calismasi</html>")


def another_imprint(tsa: LiveTsa, to: _Handler, body: bytes) -> None:
    """Stamp something else."""
    asked = read_request(body)
    other = build_request(sha256(asked.imprint).digest(), asked.nonce or 0)
    to.reply(tsa.pki.timestamp_reply(other, datetime.now(UTC)))


def dripping(tsa: LiveTsa, to: _Handler, body: bytes) -> None:
    """Send a good answer, an octet at a time, for ever too slowly."""
    answer = tsa.pki.timestamp_reply(body, datetime.now(UTC))
    to.send_response(200)
    to.send_header("Content-Type", REPLY)
    to.send_header("Content-Length", str(len(answer)))
    to.end_headers()
    for place in range(len(answer)):
        to.wfile.write(answer[place : place + 1])
        to.wfile.flush()
        if tsa.gone.wait(0.2) or tsa.manner is not dripping:
            return


def silent(tsa: LiveTsa, to: _Handler, body: bytes) -> None:
    """Take the request and say nothing."""
    while tsa.manner is silent and not tsa.gone.wait(0.05):
        pass
