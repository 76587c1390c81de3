"""A signer whose key lies on a PKCS#11 token: an HSM, a card, SoftHSM in tests."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from evidence.adapters.pkcs11_token import TokenKey, TokenPlace
from evidence.adapters.soft_signer import KeyMaterialError, der_of, issuing_path
from evidence.ports import SignerUnavailableError

_ROUND: Final = 64
"""About so many signatures are handed back to the event loop with one call."""
_CLOSE_SECONDS: Final = 2.0

_Outcome: TypeAlias = "list[bytes] | SignerUnavailableError"


@dataclass(eq=False, slots=True)
class _Job:
    """Digests of one call, and where their signatures go."""

    digests: Sequence[bytes]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[_Outcome]"


class Pkcs11Signer:
    """Signs SHA-256 digests on a token; an `evidence.ports.Signer`.

    One thread talks to the token. Calls queue up for it, and what waits is signed without a pause in between:
    the token is busy as long as anybody wants something. ECDSA (DER SEQUENCE) for EC keys, PKCS #1 v1.5 for
    RSA keys.

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
            self._token = TokenKey(place, leaf, timer)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyMaterialError("a certificate cannot be read") from error
        self._certificate = certificate
        self._chain = tuple(der_of(found) for found in issuing_path(leaf, others))
        self._waiting: deque[_Job] = deque()
        self._lock = Lock()
        self._busy = self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pkcs11")
        try:
            self._thread.submit(self._token.open).result()
        except BaseException:
            self._thread.shutdown(wait=False)
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

    async def sign_many(self, digests: Sequence[bytes]) -> list[bytes]:
        """Sign SHA-256 digests, in order.

        Raises:
            ValueError: a digest is not of 32 octets.
            SignerUnavailableError: the token does not sign now.
        """
        if any(len(digest) != 32 for digest in digests):
            raise ValueError("a digest is not of 32 octets")
        if not digests:
            return []
        loop = asyncio.get_running_loop()
        job = _Job(digests, loop, loop.create_future())
        with self._lock:
            if self._closed:
                raise SignerUnavailableError("the token's signer is closed")
            self._waiting.append(job)
            if not self._busy:
                self._busy = True
                self._thread.submit(self._work)
        outcome = await job.future
        if isinstance(outcome, SignerUnavailableError):
            raise SignerUnavailableError(*outcome.args) from outcome
        return outcome

    def close(self) -> None:
        """Log out; what waits is not signed any more, and a token that hangs is left alone."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
            leaving = self._thread.submit(self._token.close)
        self._deliver([(job, SignerUnavailableError("the token's signer was closed")) for job in left])
        with contextlib.suppress(TimeoutError):
            leaving.result(timeout=_CLOSE_SECONDS)
        self._thread.shutdown(wait=False)

    # ----------------------------------------------------------------- in the token's thread

    def _work(self) -> None:
        while jobs := self._take():
            self._deliver([(job, self._signed(job)) for job in jobs])

    @staticmethod
    def _deliver(done: Sequence[tuple[_Job, _Outcome]]) -> None:
        for loop in {job.loop for job, _ in done}:
            with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits there
                loop.call_soon_threadsafe(_hand_over, [one for one in done if one[0].loop is loop])

    def _take(self) -> list[_Job]:
        """Take about `_ROUND` digests of what waits; with nothing left, the work is over."""
        jobs, count = [], 0
        with self._lock:
            while self._waiting and count < _ROUND:
                jobs.append(self._waiting.popleft())
                count += len(jobs[-1].digests)
            self._busy = bool(jobs)
        return jobs

    def _signed(self, job: _Job) -> _Outcome:
        if job.future.cancelled():
            return []
        try:
            return [self._token.sign(digest) for digest in job.digests]
        except SignerUnavailableError as error:
            return error
        except Exception as error:  # noqa: BLE001  # whatever a module does: nobody may wait for ever
            return SignerUnavailableError(f"the token's module failed: {error}")


def _hand_over(done: Sequence[tuple[_Job, _Outcome]]) -> None:
    for job, outcome in done:
        if not job.future.done():
            job.future.set_result(outcome)
