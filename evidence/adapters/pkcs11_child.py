"""The program of a token's process: it alone loads the module, logs in and signs what its parent sends.

Its standard input is a Unix socket to the parent (`evidence.adapters.pkcs11_process`) and its lifeline: when
the other end closes, however that happens, it logs out and ends. No signal that asks it to end is heeded:
whoever stops a service signals all of its processes at once, and the parent then still answers what it was
asked.
"""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Final

from cryptography import x509

from evidence.adapters.pkcs11_token import KeyPlace, TokenKey
from evidence.adapters.pkcs11_wire import (
    Frame,
    FrameReader,
    Kind,
    TokenWireError,
    pack,
    pack_error,
    pack_signatures,
    read_digests,
    read_error,
)
from evidence.adapters.soft_signer import KeyMaterialError
from evidence.ports import SignerUnavailableError

_READ: Final = 1 << 16
_LEAVE_SECONDS: Final = 2


class ParentGoneError(Exception):
    """The other end of the lifeline is closed."""


def main() -> None:
    """Serve the socket that is standard input."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the PIN
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        connected = _lifeline()
    except OSError:
        sys.exit("standard input is no socket: a signer starts this program")
    Thread(target=_leave_with_parent, args=(connected,), daemon=True).start()
    with contextlib.suppress(TokenWireError):
        serve(connected)


def _lifeline() -> socket.socket:
    connected = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return connected


def _leave_with_parent(connected: socket.socket) -> None:
    """End this process soon after the parent, also while the module hangs."""
    hung_up = select.poll()
    hung_up.register(connected, 0)
    hung_up.poll()
    signal.alarm(_LEAVE_SECONDS)  # ends the process whatever it waits for


def serve(connected: socket.socket) -> None:
    """Sign what the other end sends, until it is closed.

    Raises:
        TokenWireError: it does not keep to the form.
    """
    parent = _Parent(connected)
    with contextlib.suppress(ParentGoneError):
        key = _key(parent)
        login = key.open
        try:
            while True:
                frame = parent.next()
                if frame.kind is Kind.OPEN:
                    parent.send(_answer(key, [], login))
                    login = key.reopen
                elif frame.kind is Kind.DIGESTS:
                    parent.send(_answer(key, read_digests(frame.octets)))
                else:
                    raise TokenWireError("a frame that asks for nothing")
        finally:
            key.close()


def _answer(key: TokenKey, digests: list[bytes], login: Callable[[], None] | None = None) -> bytes:
    try:
        if login is not None:
            login()
        return pack_signatures(key.sign_many(digests))
    except (ParentGoneError, TokenWireError):
        raise
    except (KeyMaterialError, SignerUnavailableError) as error:
        key.close()
        return pack_error(error)
    except Exception as error:  # noqa: BLE001  # whatever a module does: nobody may wait for ever
        key.close()
        return pack_error(SignerUnavailableError(f"the token's module failed: {error}"))


class _Parent:
    """The other side of the socket; as a `PinSource`, it has the PIN and remembers what became of it."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._reader = FrameReader()
        self._arrived: deque[Frame] = deque()

    def next(self) -> Frame:
        """Wait for the next frame."""
        while not self._arrived:
            try:
                data = self._socket.recv(_READ)
            except OSError:
                raise ParentGoneError from None
            if not data:
                raise ParentGoneError
            self._arrived.extend(self._reader.feed(data))
        return self._arrived.popleft()

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        try:
            self._socket.sendall(frame)
        except OSError:
            raise ParentGoneError from None

    def read(self, name: str) -> str:  # noqa: ARG002  # the parent knows of which token
        """Ask for the PIN; digests that were sent before it wait."""
        self.send(pack(Kind.PIN))
        passed: deque[Frame] = deque()
        while (frame := self.next()).kind not in (Kind.PIN, Kind.NO_PIN):
            passed.append(frame)
        self._arrived.extendleft(reversed(passed))
        if frame.kind is Kind.NO_PIN:
            raise read_error(frame.octets)
        return frame.octets.decode()

    def accepted(self) -> None:
        """Say that the token took the PIN."""
        self.send(pack(Kind.ACCEPTED))

    def refused(self) -> None:
        """Say that the token refused the PIN."""
        self.send(pack(Kind.REFUSED))


def _key(parent: _Parent) -> TokenKey:
    frame = parent.next()
    if frame.kind is not Kind.PLACE:
        raise TokenWireError("no place")
    told = json.loads(frame.octets)
    certificate = x509.load_der_x509_certificate(bytes.fromhex(told["certificate"]))
    key_id = None if told["key_id"] is None else bytes.fromhex(told["key_id"])
    place = KeyPlace(Path(told["module"]), told["token_label"], told["key_label"], key_id)
    return TokenKey(place, certificate, parent)
