"""The card behind ``kephs sign --pkcs11``: which token, which certificate, and its PIN, entered once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from evidence.adapters.card_signer import CardSigner
from evidence.adapters.pkcs11_card import (
    CardCertificate,
    CardError,
    CardFault,
    PinState,
    certificates_of,
    chain_for,
    find_token,
    load_module,
    pin_state,
)
from evidence.adapters.pkcs11_token import PinFile, PinRefusedError
from evidence.adapters.soft_signer import KeyMaterialError
from evidence.nes.policy import DEFAULT_NES_POLICY
from evidence.nes.qualified import qualified_steps
from evidence.x509.certificates import CertificateFacts
from kephs.cli.output import ExitError
from kephs.cli.sign.chain import read_chain
from kephs.cli.sign.turkish import CARD_CURES, both

_FINGERPRINT_LEAST: Final = 8  # hexadecimal digits that name a certificate


@dataclass(frozen=True, slots=True)
class CardOptions:
    """What the command line says of the card; see ``kephs sign --help``."""

    module: Path
    token: str | None = None
    slot: int | None = None
    certificate: str | None = None
    pin_file: Path | None = None
    use_last_try: bool = False
    chain: tuple[Path, ...] = ()


@contextmanager
def card_signer(options: CardOptions, at: datetime) -> Iterator[CardSigner]:
    """Give a signer that is logged in; log out at the end.

    The PIN is asked for once, after everything that can fail without it; a wrong one ends the command.

    Args:
        options: which card and certificate.
        at: the current time: certificates that are not valid now are not chosen.

    Raises:
        ExitError: with the cure in both languages.
    """
    with told():
        token = find_token(load_module(options.module), label=options.token, slot=options.slot)
        certificates = certificates_of(token)
        one = choose(certificates, options.certificate, at)
        chain = chain_for(one.facts, [*(other.facts for other in certificates), *read_chain(options.chain)])
        signer = with_pin(
            token, options, lambda pin: CardSigner(token, one, chain, pin, use_last_try=options.use_last_try)
        )
    try:
        yield signer
    finally:
        signer.close()


@contextmanager
def told() -> Iterator[None]:
    """Turn what is wrong with a card into the end of the command, with its cure."""
    try:
        yield
    except CardError as error:
        raise ExitError(
            error.fault.value, str(error), both(error.fault.value, CARD_CURES[error.fault])
        ) from None


def choose(certificates: Sequence[CardCertificate], wanted: str | None, at: datetime) -> CardCertificate:
    """Return the certificate to sign with: the one named, else the only qualified one that is valid.

    A person's comes before a seal, which only some accounts may use.

    Args:
        certificates: on the card.
        wanted: beginning of a SHA-256 fingerprint, or a part of the subject or label.
        at: the current time.

    Raises:
        CardError: none, or several: the text lists them.
    """
    own = [one for one in certificates if not one.facts.extensions.is_ca]
    if not own:
        raise CardError(CardFault.NO_CERTIFICATE, "the card holds no certificate of a person")
    if wanted is not None:
        found = [one for one in own if _named(one, wanted)]
        if not found:
            raise CardError(
                CardFault.CERTIFICATE_UNKNOWN, f"no certificate is called so; there is {listed(own)}"
            )
        return _single(found)
    qualified = [one for one in own if is_qualified(one.facts)]
    qualified = qualified or [one for one in own if is_qualified(one.facts, seals=True)]
    if not qualified:
        raise CardError(
            CardFault.NONE_QUALIFIED, f"no certificate on the card is a qualified one; there is {listed(own)}"
        )
    valid = [one for one in qualified if one.facts.valid_at(at)]
    if not valid:
        raise CardError(CardFault.CERTIFICATE_EXPIRED, f"no certificate is valid now: {listed(qualified)}")
    return _single(valid)


def _single(found: Sequence[CardCertificate]) -> CardCertificate:
    if len(found) > 1:
        raise CardError(CardFault.CERTIFICATES_SEVERAL, f"{len(found)} certificates fit: {listed(found)}")
    return found[0]


def _named(one: CardCertificate, wanted: str) -> bool:
    digits = wanted.replace(":", "").replace(" ", "").lower()
    if len(digits) >= _FINGERPRINT_LEAST and one.facts.sha256.hex().startswith(digits):
        return True
    text = wanted.casefold()
    return bool(text) and (text in one.facts.subject_text.casefold() or text in one.label.casefold())


def listed(certificates: Sequence[CardCertificate]) -> str:
    """Return certificates for people to choose from, without identity numbers."""
    return "; ".join(
        f"{one.facts.label} (until {one.facts.not_after:%Y-%m-%d}, fingerprint {one.facts.sha256.hex()[:16]})"
        for one in certificates
    )


def is_qualified(facts: CertificateFacts, *, seals: bool = False) -> bool:
    """Say whether a certificate looks like a qualified one (NES); ``seals``: a qualified seal counts too."""
    policy = replace(DEFAULT_NES_POLICY, allow_seals=seals)
    return all(step.ok for step in qualified_steps(facts, policy, number="1", first=1))


def with_pin(token: Any, options: CardOptions, use: Callable[[str | None], CardSigner]) -> CardSigner:
    """Call ``use`` once with the PIN, wherever that comes from.

    A PIN from a file that the card refuses is remembered beside the file: the next run does not try it again.

    Raises:
        CardError: what ``use`` raises, and what makes the PIN useless before it is asked for.
        ExitError: the PIN's file cannot be used.
    """
    state = pin_state(token)
    _not_in_vain(state, use_last_try=options.use_last_try)
    if options.pin_file is None:
        return use(None if state.pad else _asked(token, state))
    file = pin_file_of(options.pin_file)
    pin = read_pin(file, token)
    try:
        signer = use(pin)
    except CardError as error:
        if error.fault is CardFault.PIN_WRONG:
            file.refused()
        raise
    file.accepted()
    return signer


def pin_file_of(path: Path) -> PinFile:
    """Return a PIN's file, with the mark beside it that remembers a refusal."""
    return PinFile(path, path.with_name(f"{path.name}.refused"))


def read_pin(file: PinFile, token: Any) -> str:
    """Read a PIN from its file.

    Raises:
        ExitError: it cannot be read, or the card refused it before.
    """
    try:
        return file.read(f"card {token.label!r}")
    except PinRefusedError as error:
        raise ExitError(
            "pin-refused-before", str(error), both("pin-refused-before", "correct the file")
        ) from None
    except KeyMaterialError as error:
        cure = "its first line is the PIN, and only its owner may read it"
        raise ExitError("pin-file", str(error), both("pin-file", cure)) from None


def _not_in_vain(state: PinState, *, use_last_try: bool) -> None:
    """Refuse before anybody types a PIN that would not be used."""
    if state.locked:
        raise CardError(CardFault.PIN_LOCKED, "the card's PIN is locked")
    if state.final and not use_last_try:
        raise CardError(
            CardFault.PIN_LAST_TRY, "one try is left before the card's PIN locks; it is not used up unasked"
        )


def _asked(token: Any, state: PinState) -> str:
    """Ask for the PIN on the terminal, once, without echo."""
    if state.final:
        click.echo("Last try: a wrong PIN locks the card. / Son deneme: yanlış PIN kartı kilitler.", err=True)
    elif state.low:
        click.echo(
            "A wrong PIN was entered before; be sure of it. / Daha önce yanlış PIN girilmiş; emin olun.",
            err=True,
        )
    try:
        pin: str = click.prompt(f"PIN ({token.label})", hide_input=True, err=True)
    except click.Abort:  # end of input: there is no terminal, or the person gave up
        raise ExitError(
            "pin-needed",
            "no PIN was given; nothing was tried",
            both("pin-needed", "type it, or give --pin-file"),
        ) from None
    return pin
