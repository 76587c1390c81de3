"""A signer whose key lies on a PKCS#11 token: an HSM, a card, SoftHSM in tests."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from evidence.adapters.pkcs11_process import TokenProcess
from evidence.adapters.pkcs11_token import PinFile, TokenPlace, public_key
from evidence.adapters.pkcs11_wire import (
    BATCH_MAX,
    DIGEST_SIZE,
    Frame,
    Kind,
    TokenWireError,
    pack,
    pack_error,
    read_error,
    read_signatures,
)
from evidence.adapters.soft_signer import KeyMaterialError, der_of, issuing_path
from evidence.ports import SignerUnavailableError

_AHEAD: Final = 4
"""Frames under way: while the token signs one the next is there already, and the socket is never full."""
_OPEN_SECONDS: Final = 60.0
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0


@dataclass(eq=False, slots=True)
class _Job:
    """Digests of one call, how many of them were sent, and where their signatures go."""

    digests: Sequence[bytes]
    future: "asyncio.Future[list[bytes]]"
    sent: int = 0
    signatures: list[bytes] = field(default_factory=list)

    def take(self, signatures: list[bytes]) -> None:
        self.signatures += signatures
        if len(self.signatures) == len(self.digests) and not self.future.done():
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits there
                self.future.set_result(self.signatures)

    def fail(self, text: str) -> None:
        if not self.future.done():
            with contextlib.suppress(RuntimeError):
                self.future.set_exception(SignerUnavailableError(text))


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one frame asks for: so many digests of these jobs. Without any it asks for a login."""

    login: int
    parts: tuple[tuple[_Job, int], ...] = ()


class Pkcs11Signer:
    """Signs SHA-256 digests on a token; an `evidence.ports.Signer`.

    A process of its own holds the token (`evidence.adapters.pkcs11_process`), so that it signs while this one
    works. Calls queue up for it, and what waits is signed without a pause in between: the token is busy as
    long as anybody wants something. ECDSA (DER SEQUENCE) for EC keys, PKCS #1 v1.5 for RSA keys.

    While token or process are away, calls fail; after a pause, which doubles up to 30 seconds, the next call
    has it tried again. A PIN that was refused is not (`evidence.adapters.pkcs11_token`).

    An object belongs to one event loop at a time.

    Args:
        place: where the key lies.
        certificate: its certificate, DER.
        chain: intermediates, DER, in any order; roots among them and strangers are left out.
        timer: seconds, of a clock that never jumps.

    Raises:
        KeyMaterialError: something is missing or wrong, or key and certificate are no pair; the key was
            tried once.
        PinRefusedError: the PIN is wrong (`evidence.adapters.pkcs11_token`).
    """

    def __init__(
        self,
        place: TokenPlace,
        certificate: bytes,
        chain: Iterable[bytes] = (),
        *,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            leaf = x509.load_der_x509_certificate(certificate)
            others = [x509.load_der_x509_certificate(der) for der in chain]
            public_key(leaf)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyMaterialError("a certificate cannot be read") from error
        self._certificate = certificate
        self._chain = tuple(der_of(found) for found in issuing_path(leaf, others))
        self._place, self._timer = place, timer
        self._name = f"token {place.token_label!r}"
        self._pins = PinFile(place.pin_file, place.refused_mark)
        self._waiting: deque[_Job] = deque()
        self._under_way: deque[_Batch] = deque()
        self._child: TokenProcess | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._login = 0  # how many there were: failures of an earlier one say nothing about this one
        self._open = self._pin_given = self._closed = False
        self._pause, self._not_before = _FIRST_PAUSE, float("-inf")
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    @classmethod
    def from_pem(cls, place: TokenPlace, certificate: Path, chain: Sequence[Path] = ()) -> "Pkcs11Signer":
        """Read the certificate and its chain from PEM files; chain files may hold several, or none.

        Raises:
            KeyMaterialError: a file cannot be read, or see the class.
        """
        try:
            (leaf,) = x509.load_pem_x509_certificates(certificate.read_bytes())
            texts = [path.read_bytes() for path in chain]
            others = [one for text in texts if text.strip() for one in x509.load_pem_x509_certificates(text)]
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise KeyMaterialError(f"a certificate cannot be read: {error}") from error
        return cls(place, der_of(leaf), map(der_of, others))

    @property
    def certificate(self) -> bytes:
        """Return the signer's certificate, DER."""
        return self._certificate

    @property
    def chain(self) -> tuple[bytes, ...]:
        """Return the intermediates, DER, issuer first, without the root."""
        return self._chain

    @property
    def pid(self) -> int | None:
        """Return the number of the token's process, None while there is none."""
        return None if self._child is None else self._child.pid

    async def sign_many(self, digests: Sequence[bytes]) -> list[bytes]:
        """Sign SHA-256 digests, in order.

        Raises:
            ValueError: a digest is not of 32 octets.
            SignerUnavailableError: the token does not sign now.
        """
        if any(len(digest) != DIGEST_SIZE for digest in digests):
            raise ValueError("a digest is not of 32 octets")
        if not digests:
            return []
        if self._closed:
            raise SignerUnavailableError("the token's signer is closed")
        loop = asyncio.get_running_loop()
        job = _Job(digests, loop.create_future())
        self._waiting.append(job)
        self._attach(loop)
        self._send_waiting()
        return await job.future

    def close(self) -> None:
        """Log out; what waits is not signed any more, and a token that hangs is left alone."""
        if self._closed:
            return
        self._closed = True
        self._fail_all("the token's signer was closed")
        child = self._detach()
        if child is not None:
            child.close()

    # ----------------------------------------------------------------- what is asked

    def _send_waiting(self) -> None:
        """Send what waits, as far as the child is not behind."""
        try:
            while self._waiting and len(self._under_way) < _AHEAD and self._is_ready():
                parts, digests = self._next_parts()
                if digests:
                    self._send(Kind.DIGESTS, b"".join(digests), parts)
        except OSError as error:
            self._lost(error)

    def _is_ready(self) -> bool:
        """Say whether the child may be sent digests; where it is time, have it log in first."""
        if self._open:
            return True
        if self._timer() < self._not_before:
            self._fail_all(f"{self._name} is away")
            return False
        if self._child is None:
            self._child = TokenProcess(self._place.key, self._certificate)
            self._child.socket.setblocking(False)  # noqa: FBT003  # socket has no keyword
            self._attach(asyncio.get_running_loop())
        self._login += 1
        self._send(Kind.OPEN)
        self._open = True  # until we hear otherwise
        return True

    def _next_parts(self) -> tuple[list[tuple[_Job, int]], list[bytes]]:
        parts: list[tuple[_Job, int]] = []
        digests: list[bytes] = []
        while self._waiting and len(digests) < BATCH_MAX:
            job = self._waiting[0]
            if not job.future.done():
                some = job.digests[job.sent : job.sent + BATCH_MAX - len(digests)]
                job.sent += len(some)
                digests += some
                parts.append((job, len(some)))
            if job.future.done() or job.sent == len(job.digests):
                self._waiting.popleft()
        return parts, digests

    def _send(self, kind: Kind, octets: bytes = b"", parts: Sequence[tuple[_Job, int]] = ()) -> None:
        assert self._child is not None
        self._under_way.append(_Batch(self._login, tuple(parts)))
        self._child.send(pack(kind, octets))

    # ----------------------------------------------------------------- what is answered

    def _readable(self) -> None:
        child = self._child
        assert child is not None
        try:
            for frame in child.receive():
                if not self._is_about_pin(child, frame):
                    self._answered(frame)
        except (OSError, TokenWireError) as error:
            self._lost(error)
        self._send_waiting()

    def _answered(self, frame: Frame) -> None:
        if not self._under_way:
            raise TokenWireError("its process answers what nobody asked")
        batch = self._under_way[0]
        if frame.kind is Kind.SIGNATURES:
            signatures = read_signatures(frame.octets, sum([count for _, count in batch.parts]))
            start = 0
            for job, count in batch.parts:
                job.take(signatures[start : start + count])
                start += count
            if not batch.parts:
                self._pause, self._not_before = _FIRST_PAUSE, float("-inf")
        elif frame.kind is not Kind.ERROR:
            raise TokenWireError("its process says what is no answer")
        elif self._open and batch.login == self._login:  # the child signs nothing until its next login
            self._away()
            self._fail_all(str(read_error(frame.octets)))
        self._under_way.popleft()
        self._pin_given = False

    def _is_about_pin(self, child: TokenProcess, frame: Frame) -> bool:
        """Answer what the child wants to know or tells about the PIN; say False to anything else."""
        match frame.kind:
            case Kind.PIN:
                try:
                    answer = pack(Kind.PIN, self._pins.read(self._name).encode())
                    self._pin_given = True
                except KeyMaterialError as error:
                    answer = pack_error(error, Kind.NO_PIN)
                child.send(answer)
            case Kind.ACCEPTED:
                self._pins.accepted()
                self._pin_given = False
            case Kind.REFUSED:
                self._pins.refused()
                self._pin_given = False
            case _:
                return False
        return True

    # ----------------------------------------------------------------- child and token come and go

    def _start(self) -> None:
        """Start the child, let it log in and wait for that."""
        try:
            child = self._child = TokenProcess(self._place.key, self._certificate)
            child.socket.settimeout(_OPEN_SECONDS)
            child.send(pack(Kind.OPEN))
            answers: list[Frame] = []
            while not answers:
                answers = [frame for frame in child.receive() if not self._is_about_pin(child, frame)]
            child.socket.setblocking(False)  # noqa: FBT003  # socket has no keyword
        except TimeoutError:
            raise KeyMaterialError(f"{self._name}: no answer in {_OPEN_SECONDS:.0f} seconds") from None
        except (OSError, TokenWireError) as error:
            raise KeyMaterialError(f"{self._name}: {_reason(error)}") from error
        if answers[0].kind is Kind.ERROR:
            told = read_error(answers[0].octets)
            raise told if isinstance(told, KeyMaterialError) else KeyMaterialError(str(told))
        self._open = True
        self._pin_given = False

    def _away(self) -> None:
        self._open = False
        self._not_before = self._timer() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _lost(self, error: Exception) -> None:
        """Note that the child is gone, or of no use."""
        child = self._detach()
        if child is not None:
            child.kill()
        if self._pin_given:
            self._pins.unknown()
            self._pin_given = False
        self._away()
        self._fail_all(f"{self._name}: {_reason(error)}")
        self._under_way.clear()

    def _fail_all(self, text: str) -> None:
        for batch in self._under_way:
            for job, _ in batch.parts:
                job.fail(text)
        for job in self._waiting:
            job.fail(text)
        self._waiting.clear()

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let this loop read what the child says."""
        if self._child is None or self._loop is loop:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._child.socket)
        loop.add_reader(self._child.socket, self._readable)
        self._loop = loop

    def _detach(self) -> TokenProcess | None:
        child, self._child = self._child, None
        if child is not None and self._loop is not None:
            self._loop.remove_reader(child.socket)
        self._loop = None
        return child


def _reason(error: Exception) -> str:
    return "its process ended" if isinstance(error, ConnectionError) else str(error)
