"""The parent's end of a token's process (`evidence.adapters.pkcs11_child`): start, end, socket."""

import contextlib
import json
import socket
import subprocess
import sys
from threading import Thread
from typing import Final

from evidence.adapters.pkcs11_token import KeyPlace
from evidence.adapters.pkcs11_wire import Frame, FrameReader, Kind, pack

_PROGRAM: Final = "from evidence.adapters.pkcs11_child import main; main()"
_READ: Final = 1 << 16
_CLOSE_SECONDS: Final = 2.5  # a little more than the child gives itself
_KILL_SECONDS: Final = 1.0


class TokenProcess:
    """A child that alone loads a token's module, and the socket that is its standard input and its lifeline.

    A thread that does nothing else waits for its end: no zombie is left, and nobody else has to wait for a
    child that hangs in its module.

    Args:
        place: where the key lies.
        certificate: whose key it is, DER.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, place: KeyPlace, certificate: bytes) -> None:
        self._reader = FrameReader()
        self.socket, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as stack:
            stack.callback(self.socket.close)
            # what a module prints must not become part of a command's output; its complaints may
            self._process = subprocess.Popen(  # noqa: S603  # our own program
                [sys.executable, "-P", "-c", _PROGRAM],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            stack.pop_all()
        self._waiter = Thread(target=self._process.wait, name=f"token process {self.pid}", daemon=True)
        self._waiter.start()
        self.socket.sendall(pack(Kind.PLACE, _packed(place, certificate)))

    @property
    def pid(self) -> int:
        """Return its number."""
        return self._process.pid

    def send(self, frame: bytes) -> None:
        """Send a frame.

        Raises:
            OSError: the child is gone, or reads nothing.
        """
        self.socket.sendall(frame)

    def receive(self) -> list[Frame]:
        """Return what has arrived, in whole frames; none where there is none of them yet.

        Raises:
            OSError: the child is gone.
            TokenWireError: it does not keep to the form.
        """
        try:
            data = self.socket.recv(_READ)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError("its process ended")
        return self._reader.feed(data)

    def close(self) -> None:
        """Let it log out and end; one that hangs is killed."""
        self.socket.close()
        self._waiter.join(_CLOSE_SECONDS)
        if self._waiter.is_alive():
            self.kill()
            self._waiter.join(_KILL_SECONDS)

    def kill(self) -> None:
        """End it now."""
        self.socket.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


def _packed(place: KeyPlace, certificate: bytes) -> bytes:
    told = {
        "module": str(place.module),
        "token_label": place.token_label,
        "key_label": place.key_label,
        "key_id": None if place.key_id is None else place.key_id.hex(),
        "certificate": certificate.hex(),
    }
    return json.dumps(told).encode()
