"""One key on one PKCS#11 token: finding it, logging in, signing, coming back after the token was away.

Everything here blocks and belongs to one thread, in a process of its own (`evidence.adapters.pkcs11_child`):
a token is logged in once per process, and some modules fail when two threads use them (spec: signing §6).

A PIN that the token refused is not tried again, for tokens lock themselves after a few wrong ones: not by
this process, and where a mark file is given not by the next one either, until the PIN's file was changed.
"""

import contextlib
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol

import pkcs11
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from pkcs11 import MGF, Attribute, KeyType, Mechanism, ObjectClass, PKCS11Error
from pkcs11 import exceptions as codes

from evidence.adapters.soft_signer import KeyMaterialError
from evidence.ports import SignerUnavailableError

PIN_REFUSED: Final = (
    codes.PinIncorrect, codes.PinInvalid, codes.PinLenRange, codes.PinExpired, codes.PinLocked,
    codes.UserPinNotInitialized,
)  # fmt: skip
_SHA256: Final = Prehashed(hashes.SHA256())
_ECDSA: Final = ec.ECDSA(_SHA256)
_DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")
"""DER of DigestInfo for SHA-256, before the digest (spec: RFC8017#9.2)."""
_BUFFER: Final = 1024  # octets: the largest RSA signature there is a use for, twice
_SELF_TEST: Final = sha256(b"self test of the key of a transaction certificate").digest()
_PIN_MAX: Final = 255
_SALT: Final = 32  # octets: PSS with a salt as long as the hash, as `evidence.cms.emission` writes it


class PinRefusedError(KeyMaterialError):
    """The token refused the PIN, now or earlier; nobody tries it again."""


class PinSource(Protocol):
    """Where the PIN comes from, and who remembers what the token said to it."""

    def read(self, name: str) -> str:
        """Return the PIN of the token of this name; see `PinFile.read`."""
        ...

    def refused(self) -> None:
        """Remember that the token refused the PIN read last."""
        ...

    def accepted(self) -> None:
        """Remember that the token took the PIN read last."""
        ...


class PinFile:
    """A file whose first line is a PIN, and what is known of that PIN; a `PinSource`.

    Args:
        path: the file; others may not read it.
        mark: file that remembers that the PIN was refused, across processes; None: this object alone does.
    """

    __slots__ = ("_accepted", "_mark", "_path", "_refused", "_state")

    def __init__(self, path: Path, mark: Path | None = None) -> None:
        self._path, self._mark = path, mark
        self._state = ""  # of the file whose PIN was read last
        self._refused: str | None = None  # the file's state when its PIN was refused
        self._accepted: str | None = None  # the same of a PIN that was right

    def read(self, name: str) -> str:
        """Return the PIN.

        Args:
            name: of the token, for the error's text.

        Raises:
            KeyMaterialError: the file cannot be used.
            PinRefusedError: the token refused this PIN before, and the file was not changed since.
        """
        path = self._path
        try:
            found = path.stat()
            pin = path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise KeyMaterialError(f"the PIN's file cannot be read: {error}") from None
        if found.st_mode & stat.S_IRWXO:
            raise KeyMaterialError(f"{path} is open to everybody: chmod 600")
        if not 0 < len(pin) <= _PIN_MAX:
            raise KeyMaterialError(f"{path} holds no PIN")
        self._state = f"{found.st_ino}:{found.st_mtime_ns}:{found.st_size}"
        if self._state in (self._refused, self._read_mark()):
            raise PinRefusedError(f"{name} refused this PIN before; write the right one into {path}")
        return pin

    def refused(self) -> None:
        """Remember that the token refused the PIN read last."""
        self._refused = self._state
        with contextlib.suppress(OSError):  # then this process alone remembers
            if self._mark is not None:
                self._mark.write_text(f"{self._state}\n", encoding="ascii")

    def accepted(self) -> None:
        """Forget an earlier refusal: the token took the PIN read last."""
        self._accepted = self._state
        with contextlib.suppress(OSError):
            if self._mark is not None:
                self._mark.unlink(missing_ok=True)

    def unknown(self) -> None:
        """Note that nobody knows what the token said to the PIN read last: its process died meanwhile.

        A PIN that was right before may be tried again; another counts as refused, for as long as this object
        lives: a module that dies of a wrong PIN must not lock the token.
        """
        if self._state != self._accepted:
            self._refused = self._state

    def _read_mark(self) -> str | None:
        try:
            return None if self._mark is None else self._mark.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None


def token_signature(
    key: Any,
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    digest: bytes,
    *,
    pss: bool = False,
    pin: str | None = None,
) -> bytes:
    """Let a key on a token sign a SHA-256 digest.

    Args:
        key: the private key's object.
        public: its public key: the kind decides what the token is asked for.
        digest: 32 octets.
        pss: for RSA keys, RSA-PSS (SHA-256, salt 32) instead of PKCS #1 v1.5.
        pin: for keys that want it at each signature (CKA_ALWAYS_AUTHENTICATE).

    Returns:
        ECDSA as DER SEQUENCE, RSA raw.

    Raises:
        PKCS11Error: what the token says.
    """
    if not isinstance(public, rsa.RSAPublicKey):
        raw: bytes = key.sign(digest, mechanism=Mechanism.ECDSA, pin=pin, buffer_size=_BUFFER)
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))
    if pss:
        parameters = (Mechanism.SHA256, MGF.SHA256, _SALT)
        signature: bytes = key.sign(
            digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=parameters, pin=pin, buffer_size=_BUFFER
        )
        return signature
    plain: bytes = key.sign(_DIGEST_INFO + digest, mechanism=Mechanism.RSA_PKCS, pin=pin, buffer_size=_BUFFER)
    return plain


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where the key lies; the names are those of `TokenPlace`."""

    module: Path
    token_label: str
    key_label: str | None
    key_id: bytes | None


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """Where the key lies, and where its PIN.

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

    @property
    def key(self) -> KeyPlace:
        """Return where the key lies: nothing about its PIN."""
        return KeyPlace(self.module, self.token_label, self.key_label, self.key_id)


class TokenKey:
    """A private key on a token; logged in from `open` on, and again after the token was lost.

    Args:
        place: where it lies.
        certificate: whose key it must be.
        pins: where the PIN comes from.

    Raises:
        KeyMaterialError: the certificate's key is of no kind that is used.
    """

    def __init__(self, place: KeyPlace, certificate: x509.Certificate, pins: PinSource) -> None:
        self._place = place
        self._public = public_key(certificate)
        self._session: Any = None
        self._key: Any = None
        self._pins = pins

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
            raise KeyMaterialError(f"{self._name}: {said(error)}") from error

    def reopen(self) -> None:
        """Log in again after the token was away.

        Raises:
            SignerUnavailableError: it still is, or something else is wrong now.
        """
        self._forget()
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

    def sign_many(self, digests: Sequence[bytes]) -> list[bytes]:
        """Sign SHA-256 digests, in order; log in again once where the token was away.

        The last signature is verified: with little to do that is each, under load one of a batch.

        Raises:
            SignerUnavailableError: the token does not sign now, or wrongly; it is closed then.
        """
        if self._key is None:
            raise SignerUnavailableError(f"{self._name} is away")
        try:
            signatures = self._sign_all(digests)
        except PKCS11Error:  # away, restarted, logged out: one new login, one more try
            self.reopen()
            try:
                signatures = self._sign_all(digests)
            except PKCS11Error as error:
                self._forget()
                raise self._away(error) from error
        if digests and not self._verifies(signatures[-1], digests[-1]):
            self._forget()
            raise SignerUnavailableError(f"{self._name}: a signature of its does not verify")
        return signatures

    def close(self) -> None:
        """Log out."""
        self._forget()

    @property
    def _name(self) -> str:
        return f"token {self._place.token_label!r}"

    def _sign_all(self, digests: Sequence[bytes]) -> list[bytes]:
        key, public = self._key, self._public
        return [token_signature(key, public, digest) for digest in digests]

    def _away(self, error: Exception) -> SignerUnavailableError:
        return SignerUnavailableError(f"{self._name}: {said(error)}")

    # ----------------------------------------------------------------- logging in

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
        (signature,) = self._sign_all((_SELF_TEST,))
        return self._verifies(signature, _SELF_TEST)

    def _verifies(self, signature: bytes, digest: bytes) -> bool:
        try:
            if isinstance(self._public, rsa.RSAPublicKey):
                self._public.verify(signature, digest, padding.PKCS1v15(), _SHA256)
            else:
                self._public.verify(signature, digest, _ECDSA)
        except InvalidSignature:
            return False
        return True

    def _login(self, token: Any) -> Any:
        pin = self._pins.read(self._name)
        try:
            session = token.open(user_pin=pin)
        except codes.UserAlreadyLoggedIn:  # a login of this process outlived its session
            return token.open()
        except PIN_REFUSED as error:
            self._pins.refused()
            raise PinRefusedError(f"{self._name} refuses the PIN: {said(error)}") from error
        self._pins.accepted()
        return session

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


def said(error: Exception) -> str:
    """Return what a PKCS#11 return code means: most have a name and no text."""
    return str(error) or type(error).__name__


def public_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """Return a certificate's public key.

    Raises:
        KeyMaterialError: of a kind that signs nothing here.
    """
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return key
    raise KeyMaterialError("neither an EC nor an RSA key")
