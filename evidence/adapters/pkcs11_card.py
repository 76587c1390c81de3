"""A holder's card, without its PIN: loading its driver, finding the token and the certificates on it.

For a person at a command (a server's token: `evidence.adapters.pkcs11_signer`). Everything blocks and belongs
to one thread; who logs in and signs is `evidence.adapters.card_signer`.
(spec: PKCS #11 v2.40, sections 5.4 and 5.5)
"""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import pkcs11
from pkcs11 import Attribute, ObjectClass, PKCS11Error, TokenFlag
from pkcs11 import exceptions as codes

from evidence.adapters.card_platform import foreign_platform
from evidence.adapters.pkcs11_token import said
from evidence.adapters.soft_signer import KeyMaterialError
from evidence.x509.certificates import (
    MAX_CERTIFICATE,
    CertificateError,
    CertificateFacts,
    certificate_facts,
)

_CERTIFICATES_MAX: Final = 64
"""More certificates than that are on no card; the rest is not looked at."""
_CHAIN_MAX: Final = 8


class CardFault(StrEnum):
    """What can be wrong with a card, as a stable code."""

    MODULE_MISSING = "module-missing"
    MODULE_FOREIGN = "module-foreign"
    MODULE_INVALID = "module-invalid"
    NO_READER = "no-reader"
    NO_CARD = "no-card"
    CARD_UNREADABLE = "card-unreadable"
    CARD_UNINITIALISED = "card-uninitialised"
    CARD_UNKNOWN = "card-unknown"
    CARDS_SEVERAL = "cards-several"
    CARD_FAILED = "card-failed"
    NO_CERTIFICATE = "no-certificate"
    NONE_QUALIFIED = "none-qualified"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_UNKNOWN = "certificate-unknown"
    CERTIFICATES_SEVERAL = "certificates-several"
    KEY_MISSING = "key-missing"
    KEY_UNUSABLE = "key-unusable"
    PIN_WRONG = "pin-wrong"
    PIN_LOCKED = "pin-locked"
    PIN_LAST_TRY = "pin-last-try"
    PIN_UNSET = "pin-unset"
    PIN_EXPIRED = "pin-expired"


class CardError(KeyMaterialError):
    """The card cannot be used as asked.

    Args:
        fault: stable code.
        text: what is the matter, without secrets and identity numbers.
    """

    def __init__(self, fault: CardFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class PinState:
    """What a token's flags tell about its user PIN; a token need not tell anything.

    Attributes:
        present: a PIN was set at all.
        low: a wrong PIN was entered since the last right one.
        final: the next wrong PIN locks the token.
        locked: the PIN is locked; only the PUK helps.
        to_be_changed: it still is the maker's PIN, or has expired.
        pad: the PIN is entered at the reader, never through this program.
    """

    present: bool
    low: bool
    final: bool
    locked: bool
    to_be_changed: bool
    pad: bool

    @property
    def tries(self) -> str:
        """Return how many tries are left, as far as the token tells."""
        if self.locked:
            return "no try is left"
        if self.final:
            return "one try is left, the last one"
        if self.low:
            return "at least two tries are left, as far as the card tells"
        return "the card does not tell how many tries are left"


@dataclass(frozen=True, slots=True)
class CardCertificate:
    """A certificate on a token, and what its key is found by."""

    facts: CertificateFacts
    object_id: bytes
    label: str


def load_module(path: Path) -> Any:
    """Load a PKCS#11 driver.

    Raises:
        CardError: no file, made for another kind of machine, or no PKCS#11 driver.
    """
    if not path.is_file():  # the loader would search elsewhere for a bare name
        raise CardError(CardFault.MODULE_MISSING, f"there is no PKCS#11 module {path}")
    foreign = foreign_platform(path, Path(sys.executable))
    if foreign is not None:
        raise CardError(CardFault.MODULE_FOREIGN, f"{path.name} {foreign}")
    try:
        return pkcs11.lib(str(path))
    except PKCS11Error as error:
        text = said(error).rpartition(f"{path}: ")[2]
        raise CardError(
            CardFault.MODULE_INVALID, f"{path.name} cannot be used as a PKCS#11 module: {text}"
        ) from None


def find_token(module: Any, *, label: str | None = None, slot: int | None = None) -> Any:
    """Return the token that is meant: the one with this label, in this slot, or the only one.

    Raises:
        CardError: no reader, no card, none such, several, or one that was never initialised.
    """
    try:
        slots = module.get_slots()
        tokens, unreadable = _tokens(slots)  # not by the slots' flags: some drivers do not set them
    except PKCS11Error as error:
        raise failed(error) from error
    if not slots:
        raise CardError(CardFault.NO_READER, "the driver sees no card reader")
    if slot is not None:
        tokens = [one for one in tokens if one.slot.slot_id == slot]
        if not tokens and all(one.slot_id != slot for one in slots):
            numbers = ", ".join(str(one.slot_id) for one in slots)
            raise CardError(CardFault.CARD_UNKNOWN, f"there is no slot {slot}; there are {numbers}")
    if not tokens:
        if unreadable:
            raise CardError(CardFault.CARD_UNREADABLE, "the driver does not recognise the card in the reader")
        raise CardError(CardFault.NO_CARD, "there is no card in the reader")
    ready = [one for one in tokens if one.flags & TokenFlag.TOKEN_INITIALIZED]
    if not ready:
        raise CardError(CardFault.CARD_UNINITIALISED, "the card holds nothing yet: it was never initialised")
    return _only(ready, label)


def _tokens(slots: Sequence[Any]) -> tuple[list[Any], bool]:
    """Return the tokens that can be read, and whether there are others."""
    tokens, unreadable = [], False
    for slot in slots:
        try:
            tokens.append(slot.get_token())
        except (codes.TokenNotPresent, codes.DeviceRemoved, codes.SlotIDInvalid):
            continue
        except (codes.TokenNotRecognised, codes.DeviceError, codes.FunctionFailed):
            unreadable = True
    return tokens, unreadable


def _only(tokens: Sequence[Any], label: str | None) -> Any:
    found = [one for one in tokens if label is None or one.label == label]
    listed = ", ".join(f"{one.label!r} in slot {one.slot.slot_id}" for one in tokens)
    if not found:
        raise CardError(CardFault.CARD_UNKNOWN, f"there is no card {label!r}; there is {listed}")
    if len(found) > 1:
        raise CardError(CardFault.CARDS_SEVERAL, f"there are {len(found)} cards: {listed}")
    return found[0]


def pin_state(token: Any) -> PinState:
    """Ask the token for its flags as they are now.

    Raises:
        CardError: the card is gone.
    """
    try:
        flags = token.slot.get_token().flags
    except PKCS11Error as error:
        raise failed(error) from error
    return PinState(
        present=bool(flags & TokenFlag.USER_PIN_INITIALIZED),
        low=bool(flags & TokenFlag.USER_PIN_COUNT_LOW),
        final=bool(flags & TokenFlag.USER_PIN_FINAL_TRY),
        locked=bool(flags & TokenFlag.USER_PIN_LOCKED),
        to_be_changed=bool(flags & TokenFlag.USER_PIN_TO_BE_CHANGED),
        pad=bool(flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH),
    )


def certificates_of(token: Any) -> list[CardCertificate]:
    """Return the certificates that can be read without a PIN; unreadable ones are left out.

    Raises:
        CardError: the card does not answer.
    """
    try:
        with token.open() as session:
            return _read_certificates(session)
    except PKCS11Error as error:
        raise failed(error) from error


def _read_certificates(session: Any) -> list[CardCertificate]:
    listed = list(session.get_objects({Attribute.CLASS: ObjectClass.CERTIFICATE}))
    found: dict[bytes, CardCertificate] = {}
    for one in listed[:_CERTIFICATES_MAX]:
        value = attribute(one, Attribute.VALUE, b"")
        if not 0 < len(value) <= MAX_CERTIFICATE:
            continue
        with contextlib.suppress(CertificateError):
            facts = certificate_facts(value)
            label = attribute(one, Attribute.LABEL, "")
            found.setdefault(facts.sha256, CardCertificate(facts, attribute(one, Attribute.ID, b""), label))
    return list(found.values())


def attribute(one: Any, kind: Attribute, missing: Any) -> Any:
    """Return an object's attribute, ``missing`` where the token does not give it."""
    try:
        value = one[kind]
    except (codes.AttributeTypeInvalid, codes.AttributeSensitive):
        return missing
    return missing if value is None else value


def chain_for(leaf: CertificateFacts, others: Sequence[CertificateFacts]) -> tuple[bytes, ...]:
    """Return the intermediates from the leaf's issuer upwards, DER; roots and strangers stay out."""
    by_subject = {one.subject: one for one in others if not one.self_issued}
    found: list[bytes] = []
    current = leaf
    while len(found) < _CHAIN_MAX and (issuer := by_subject.pop(current.issuer, None)) is not None:
        found.append(issuer.der)
        current = issuer
    return tuple(found)


def failed(error: PKCS11Error) -> CardError:
    """Return what an error of the driver means that nobody expected."""
    if isinstance(error, codes.TokenNotPresent | codes.DeviceRemoved):
        return CardError(CardFault.NO_CARD, "there is no card in the reader")
    return CardError(CardFault.CARD_FAILED, f"the card or its driver failed: {said(error)}")
