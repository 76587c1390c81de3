"""Signing with a holder's card: one login, any number of signatures, nothing tried twice.

No PIN is asked for here, stored, logged or tried again (KEP-NE-08; spec: PKCS #11 v2.40, sections 5.6 and
5.11). What a token tells of its PIN are flags, never a number.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, Final

import pkcs11
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, PKCS11Error
from pkcs11 import exceptions as codes

from evidence.adapters.pkcs11_card import (
    CardCertificate,
    CardError,
    CardFault,
    attribute,
    failed,
    pin_state,
)
from evidence.adapters.pkcs11_token import PIN_REFUSED, said, token_signature
from evidence.ports import SignerUnavailableError
from evidence.x509.certificates import CertificateFacts

_SHA256: Final = Prehashed(hashes.SHA256())
_PIN_MAX: Final = 255


def login(token: Any, pin: str | None, *, use_last_try: bool = False) -> Any:
    """Log in with one try and return the session.

    Args:
        token: as `find_token` gave it.
        pin: the user PIN; None: it is entered at the reader's own pad.
        use_last_try: try even where the next wrong PIN locks the card.

    Raises:
        CardError: locked, the last try without leave, a wrong PIN; the text says what is left.
    """
    state = pin_state(token)
    if state.locked:
        raise CardError(CardFault.PIN_LOCKED, "the card's PIN is locked")
    if state.final and not use_last_try:
        raise CardError(
            CardFault.PIN_LAST_TRY, "one try is left before the card's PIN locks; it is not used up unasked"
        )
    if pin is not None and not 0 < len(pin.encode()) <= _PIN_MAX:
        raise CardError(CardFault.PIN_WRONG, "no PIN was given; nothing was tried")
    try:
        return token.open(user_pin=pkcs11.PROTECTED_AUTH if pin is None else pin)
    except codes.UserAlreadyLoggedIn:  # another session of this process is logged in
        return token.open()
    except PIN_REFUSED as error:
        raise _refused(token, error) from error
    except PKCS11Error as error:
        raise failed(error) from error


def _refused(token: Any, error: PKCS11Error) -> CardError:
    if isinstance(error, codes.PinLocked):
        return CardError(CardFault.PIN_LOCKED, "the card's PIN is locked")
    if isinstance(error, codes.UserPinNotInitialized):
        return CardError(CardFault.PIN_UNSET, "the card has no PIN yet")
    if isinstance(error, codes.PinExpired):
        return CardError(CardFault.PIN_EXPIRED, "the card's PIN has expired")
    try:
        left = pin_state(token).tries
    except CardError:
        left = "the card does not tell how many tries are left"
    return CardError(CardFault.PIN_WRONG, f"the PIN is wrong; {left}")


def find_key(session: Any, one: CardCertificate) -> Any:
    """Return the private key of a certificate, by its CKA_ID (by label where the card gives no id).

    Raises:
        CardError: there is none, several, or one that may not sign.
    """
    kind = KeyType.RSA if isinstance(one.facts.public_key, rsa.RSAPublicKey) else KeyType.EC
    wanted: dict[Attribute, Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.KEY_TYPE: kind}
    if one.object_id:
        wanted[Attribute.ID] = one.object_id
    elif one.label:
        wanted[Attribute.LABEL] = one.label
    try:
        found = list(session.get_objects(wanted))
    except PKCS11Error as error:
        raise failed(error) from error
    if len(found) != 1:
        count = f"{len(found)} keys" if found else "no key"
        raise CardError(
            CardFault.KEY_MISSING, f"the card holds {count} for the certificate of {one.facts.label}"
        )
    if not hasattr(found[0], "sign"):
        raise CardError(CardFault.KEY_UNUSABLE, "the card does not let this key sign")
    return found[0]


def has_public_key(token: Any, one: CardCertificate) -> bool:
    """Say whether the card shows a key for the certificate to those who did not log in."""
    if not one.object_id:
        return False
    try:
        with token.open() as session:
            wanted = {Attribute.ID: one.object_id}
            kinds = (ObjectClass.PUBLIC_KEY, ObjectClass.PRIVATE_KEY)
            return any(list(session.get_objects({**wanted, Attribute.CLASS: kind})) for kind in kinds)
    except PKCS11Error:
        return False


class CardSigner:
    """Signs with a holder's card after one login; an `evidence.ports.Signer` for a command.

    Each signature is checked with the certificate's key before it leaves. After the first failure nothing is
    asked of the card any more: what failed once, a PIN above all, is not tried again unasked.

    Args:
        token: as `find_token` gave it.
        one: whose key signs.
        chain: intermediates, DER, issuer first.
        pin: the user PIN; None: the reader has a pad of its own.
        use_last_try: see `login`.

    Raises:
        CardError: the login fails, or there is no usable key.
    """

    def __init__(
        self, token: Any, one: CardCertificate, chain: tuple[bytes, ...], pin: str | None,
        *, use_last_try: bool = False,
    ) -> None:  # fmt: skip
        self._facts, self._chain = one.facts, chain
        self._public = _usable(one.facts)
        self._failure: str | None = None
        _check_mechanism(token, one.facts)
        self._session = login(token, pin, use_last_try=use_last_try)
        try:
            self._key = find_key(self._session, one)
            always = bool(attribute(self._key, Attribute.ALWAYS_AUTHENTICATE, missing=False))
        except PKCS11Error as error:
            self.close()
            raise failed(error) from error
        except CardError:
            self.close()
            raise
        self._pin = pin if always else None  # kept only for keys that want it at every signature

    @property
    def certificate(self) -> bytes:
        """Return the signer's certificate, DER."""
        return self._facts.der

    @property
    def chain(self) -> tuple[bytes, ...]:
        """Return the intermediates, DER, issuer first, without the root."""
        return self._chain

    async def sign_many(self, digests: Sequence[bytes]) -> list[bytes]:
        """Sign SHA-256 digests, in order; blocks meanwhile.

        Raises:
            ValueError: a digest is not of 32 octets.
            SignerUnavailableError: the card does not sign, now or since an earlier failure.
        """
        if any(len(digest) != 32 for digest in digests):
            raise ValueError("a digest is not of 32 octets")
        return [self._sign(digest) for digest in digests]

    def close(self) -> None:
        """Log out and forget the PIN."""
        self._pin = None
        self._failure = self._failure or "the card was logged out"
        with contextlib.suppress(PKCS11Error):
            self._session.close()

    def _sign(self, digest: bytes) -> bytes:
        if self._failure is not None:
            raise SignerUnavailableError(self._failure)
        try:
            signature = token_signature(
                self._key, self._public, digest, pss=self._facts.key.pss_only, pin=self._pin
            )
        except PKCS11Error as error:
            self._failure = f"the card does not sign: {said(error)}"
            raise SignerUnavailableError(self._failure) from error
        if not _holds(self._public, signature, digest, pss=self._facts.key.pss_only):
            self._failure = "the card's key is not that of the certificate"
            raise SignerUnavailableError(self._failure)
        return signature


def _usable(facts: CertificateFacts) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    key = facts.public_key
    if isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return key
    raise CardError(CardFault.KEY_UNUSABLE, "the certificate's key is neither EC nor RSA")


def _check_mechanism(token: Any, facts: CertificateFacts) -> None:
    """Refuse a card that cannot sign ready digests with this kind of key, before the PIN is used."""
    if isinstance(facts.public_key, rsa.RSAPublicKey):
        wanted = Mechanism.RSA_PKCS_PSS if facts.key.pss_only else Mechanism.RSA_PKCS
    else:
        wanted = Mechanism.ECDSA
    try:
        offered = token.slot.get_mechanisms()
    except PKCS11Error as error:
        raise failed(error) from error
    if wanted not in offered:
        raise CardError(CardFault.KEY_UNUSABLE, f"the card's driver does not offer CKM_{wanted.name}")


def _holds(
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, signature: bytes, digest: bytes, *, pss: bool
) -> bool:
    try:
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, digest, ec.ECDSA(_SHA256))
        elif pss:
            public.verify(signature, digest, padding.PSS(padding.MGF1(hashes.SHA256()), 32), _SHA256)
        else:
            public.verify(signature, digest, padding.PKCS1v15(), _SHA256)
    except InvalidSignature:
        return False
    return True
