"""One key on one PKCS#11 token: finding it, logging in, signing, coming back after the token was away.

Everything here blocks and belongs to one thread (`evidence.adapters.pkcs11_signer` has it): a token is logged
in once per process, and some modules fail when two threads use them (spec: signing §6).

A PIN that the token refused is not tried again, for tokens lock themselves after a few wrong ones: not by
this process, and where a mark file is given not by the next one either, until the PIN's file was changed.
"""

import contextlib
import stat
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pkcs11
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, PKCS11Error
from pkcs11 import exceptions as codes

from evidence.adapters.soft_signer import KeyMaterialError
from evidence.ports import SignerUnavailableError

_PIN_REFUSED: Final = (
    codes.PinIncorrect, codes.PinInvalid, codes.PinLenRange, codes.PinExpired, codes.PinLocked,
    codes.UserPinNotInitialized,
)  # fmt: skip
_SHA256: Final = Prehashed(hashes.SHA256())
_DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")
"""DER of DigestInfo for SHA-256, before the digest (spec: RFC8017#9.2)."""
_BUFFER: Final = 1024  # octets: the largest RSA signature there is a use for, twice
_SELF_TEST: Final = sha256(b"self test of the key of a transaction certificate").digest()
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_PIN_MAX: Final = 255


class PinRefusedError(KeyMaterialError):
    """The token refused the PIN, now or earlier; nobody tries it again."""


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """Where the key lies.

    Attributes:
        module: the PKCS#11 library of the token's maker.
        token_label: names the token.
        pin_file: its first line is the user PIN; others may not read it.
        key_label: names the private key, or
        key_id: its CKA_ID, or both.
        refused_mark: file that remembers that the PIN was refused, across processes.
    """

    module: Path
    token_label: str
    pin_file: Path
    key_label: str | None = None
    key_id: bytes | None = None
    refused_mark: Path | None = None


class TokenKey:
    """A private key on a token; logged in from the first signature on, and again after the token was lost.

    Args:
        place: where it lies.
        certificate: whose key it must be.
        timer: seconds, of a clock that never jumps.
    """

    def __init__(self, place: TokenPlace, certificate: x509.Certificate, timer: Callable[[], float]) -> None:
        self._place = place
        self._public = _public_key(certificate)
        self._timer = timer
        self._session: Any = None
        self._key: Any = None
        self._refused: str | None = None  # the PIN file's state when its PIN was refused
        self._pause = _FIRST_PAUSE
        self._not_before = float("-inf")

    def open(self) -> None:
        """Log in, find the key and try it.

        Raises:
            KeyMaterialError: something configured is missing or wrong, or the key is another certificate's.
            PinRefusedError: the PIN is wrong.
        """
        try:
            self._open()
        except KeyMaterialError:
            self._forget()
            raise
        except PKCS11Error as error:
            self._forget()
            raise KeyMaterialError(f"{self._name}: {_said(error)}") from error

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest; log in again where the token was away.

        Raises:
            SignerUnavailableError: the token does not sign now.
        """
        if self._key is not None:
            try:
                return self._sign(digest)
            except PKCS11Error:  # away, restarted, logged out: one new login, one more try
                self._forget()
        self._reopen()
        try:
            return self._sign(digest)
        except PKCS11Error as error:
            self._forget()
            raise self._away(error) from error

    def close(self) -> None:
        """Log out."""
        self._forget()

    @property
    def _name(self) -> str:
        return f"token {self._place.token_label!r}"

    def _sign(self, digest: bytes) -> bytes:
        if isinstance(self._public, rsa.RSAPublicKey):
            signature: bytes = self._key.sign(
                _DIGEST_INFO + digest, mechanism=Mechanism.RSA_PKCS, buffer_size=_BUFFER
            )
            return signature
        raw: bytes = self._key.sign(digest, mechanism=Mechanism.ECDSA, buffer_size=_BUFFER)
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))

    # ----------------------------------------------------------------- logging in

    def _reopen(self) -> None:
        now = self._timer()
        if now < self._not_before:
            raise SignerUnavailableError(f"{self._name} is away")
        try:
            try:
                self._open()
            except PKCS11Error:  # some modules see a returned token only when they begin anew
                self._forget()
                self._restart_module()
                self._open()
        except (PKCS11Error, KeyMaterialError) as error:
            self._forget()
            raise self._away(error) from error
        self._pause, self._not_before = _FIRST_PAUSE, float("-inf")

    def _away(self, error: Exception) -> SignerUnavailableError:
        self._not_before = self._timer() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return SignerUnavailableError(f"{self._name}: {_said(error)}")

    def _open(self) -> None:
        place = self._place
        if not place.module.is_file():  # the loader would search elsewhere for a bare name
            raise KeyMaterialError(f"no PKCS#11 module {place.module}")
        token = pkcs11.lib(str(place.module)).get_token(token_label=place.token_label)
        self._session = self._login(token)
        self._key = self._find()
        wanted = KeyType.RSA if isinstance(self._public, rsa.RSAPublicKey) else KeyType.EC
        if self._key.key_type != wanted or not self._works():
            raise KeyMaterialError(f"the certificate is not that of the key on {self._name}")

    def _find(self) -> Any:
        place = self._place
        wanted: dict[Attribute, Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
        if place.key_label is not None:
            wanted[Attribute.LABEL] = place.key_label
        if place.key_id is not None:
            wanted[Attribute.ID] = place.key_id
        if len(wanted) == 1:
            raise KeyMaterialError("name the key by its label or id")
        found = list(self._session.get_objects(wanted))  # to its end: a search left open spoils the session
        if len(found) != 1:
            raise KeyMaterialError(f"{len(found) or 'no'} such keys on {self._name}")
        return found[0]

    def _works(self) -> bool:
        """Sign once and verify: the key is the certificate's, and the module does as we expect."""
        signature = self._sign(_SELF_TEST)
        try:
            if isinstance(self._public, rsa.RSAPublicKey):
                self._public.verify(signature, _SELF_TEST, padding.PKCS1v15(), _SHA256)
            else:
                self._public.verify(signature, _SELF_TEST, ec.ECDSA(_SHA256))
        except InvalidSignature:
            return False
        return True

    def _login(self, token: Any) -> Any:
        pin, state = self._pin()
        try:
            session = token.open(user_pin=pin)
        except codes.UserAlreadyLoggedIn:  # a login of this process outlived its session
            return token.open()
        except _PIN_REFUSED as error:
            self._refused = state
            self._write_mark(state)
            raise PinRefusedError(f"{self._name} refuses the PIN: {_said(error)}") from error
        self._write_mark(None)
        return session

    def _pin(self) -> tuple[str, str]:
        """Return the PIN and the state of its file."""
        path = self._place.pin_file
        try:
            found = path.stat()
            pin = path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise KeyMaterialError(f"the PIN's file cannot be read: {error}") from None
        if found.st_mode & stat.S_IRWXO:
            raise KeyMaterialError(f"{path} is open to everybody: chmod 600")
        if not 0 < len(pin) <= _PIN_MAX:
            raise KeyMaterialError(f"{path} holds no PIN")
        state = f"{found.st_ino}:{found.st_mtime_ns}:{found.st_size}"
        if state in (self._refused, self._read_mark()):
            raise PinRefusedError(f"{self._name} refused this PIN before; write the right one into {path}")
        return pin, state

    def _read_mark(self) -> str | None:
        mark = self._place.refused_mark
        try:
            return None if mark is None else mark.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None

    def _write_mark(self, state: str | None) -> None:
        mark = self._place.refused_mark
        with contextlib.suppress(OSError):  # then this process alone remembers
            if mark is not None and state is not None:
                mark.write_text(f"{state}\n", encoding="ascii")
            elif mark is not None:
                mark.unlink(missing_ok=True)

    # ----------------------------------------------------------------- logging out

    def _forget(self) -> None:
        session, self._session, self._key = self._session, None, None
        if session is not None:
            with contextlib.suppress(PKCS11Error):
                session.close()

    def _restart_module(self) -> None:
        module = pkcs11.lib(str(self._place.module))
        with contextlib.suppress(PKCS11Error):
            module.finalize()
        module.initialize()


def _said(error: Exception) -> str:
    """Return what a PKCS#11 return code means: most have a name and no text."""
    return str(error) or type(error).__name__


def _public_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return key
    raise KeyMaterialError("neither an EC nor an RSA key")
