"""``kephs sign --diagnose`` for a card: driver, reader, card, PIN, certificate, key; the PIN at most once.

Without ``--pin-file`` only public objects are read and no PIN is used.
"""

from typing import Any

from evidence.adapters.card_signer import find_key, has_public_key, login
from evidence.adapters.pkcs11_card import (
    CardCertificate,
    CardError,
    CardFault,
    certificates_of,
    chain_for,
    find_token,
    load_module,
    pin_state,
)
from kephs.cli.findings import Finding, error, ok, warning
from kephs.cli.output import ExitError
from kephs.cli.sign.card import CardOptions, choose, pin_file_of, read_pin
from kephs.cli.sign.certificate import certificate_findings
from kephs.cli.sign.chain import read_chain
from kephs.cli.sign.turkish import CARD_CURES, told, told_by_code
from kephs.system import SystemClock


async def diagnose_card(options: CardOptions, clock: SystemClock) -> list[Finding]:
    """Look at everything between the reader and the certificate's issuer.

    Args:
        options: which card and certificate; with a PIN file its PIN is tried once, never as the last try
            without leave.
        clock: this machine's time.
    """
    try:
        module = load_module(options.module)
    except CardError as fault:
        return [_error(fault)]
    said = f"{options.module.name}: {module.library_description} ({module.manufacturer_id})"
    driver = ok("driver", told(f"the driver is {said}", f"sürücü {said}"))
    try:
        token = find_token(module, label=options.token, slot=options.slot)
        place = token.slot.slot_id
        card = told(f"{token.label!r} in slot {place}", f"{place} numaralı yuvada {token.label!r}")
        found = [driver, ok("card", card), _pin(token)]
    except CardError as fault:
        return [driver, _error(fault)]
    try:
        certificates = certificates_of(token)
        one = choose(certificates, options.certificate, clock.now())
    except CardError as fault:
        return [*found, _error(fault), *_try_pin(token, options, None)]
    digits = one.facts.sha256.hex()[:16]
    found.append(ok("certificate", told(f"{one.facts.label}, fingerprint {digits}", f"parmak izi {digits}")))
    found += _try_pin(token, options, one)
    chain = chain_for(one.facts, [*(other.facts for other in certificates), *read_chain(options.chain)])
    return [*found, *await certificate_findings(one.facts, chain, clock)]


def _error(fault: CardError) -> Finding:
    code = fault.fault.value
    return error(code, told_by_code(code, str(fault)), CARD_CURES[fault.fault])


def _fault(fault: CardFault, english: str) -> Finding:
    return _error(CardError(fault, english))


def _pin(token: Any) -> Finding:
    """Tell what the card tells of its PIN, without using it."""
    state = pin_state(token)
    if state.locked:
        return _fault(CardFault.PIN_LOCKED, "the card's PIN is locked")
    if not state.present:
        return _fault(CardFault.PIN_UNSET, "the card has no PIN yet")
    if state.final:
        return warning(
            CardFault.PIN_LAST_TRY.value, told_by_code(CardFault.PIN_LAST_TRY.value, state.tries),
            "be sure of the PIN; else unlock the card with its PUK",
        )  # fmt: skip
    if state.low:
        return warning(
            "pin-low",
            told(
                f"a wrong PIN was entered since the last right one; {state.tries}",
                "son doğru girişten beri yanlış PIN girilmiş; kartın bildirdiğine göre en az iki hak var",
            ),
            "be sure of the PIN",
        )
    if state.to_be_changed:
        found = told_by_code("pin-to-be-changed", "the PIN still is the one the maker gave")
        return warning("pin-to-be-changed", found, "change it in the maker's program")
    english = "no wrong PIN since the last right one, as far as the card tells"
    turkish = "kartın bildirdiğine göre son doğru girişten beri yanlış PIN yok"
    if state.pad:
        english += "; it is entered at the reader's own pad"
        turkish += "; PIN okuyucunun tuşlarından girilir"
    return ok("pin", told(english, turkish))


def _try_pin(token: Any, options: CardOptions, one: CardCertificate | None) -> list[Finding]:
    """Log in once with the PIN's file, where one is given, and look for the key."""
    if options.pin_file is None:
        return [] if one is None else [_public_key(token, one)]
    file = pin_file_of(options.pin_file)
    try:
        pin = read_pin(file, token)
        session = login(token, pin, use_last_try=options.use_last_try)
    except ExitError as failure:
        found = told_by_code(failure.code, failure.message)
        return [error(failure.code, found, failure.cure.partition(" / ")[0])]
    except CardError as fault:
        if fault.fault is CardFault.PIN_WRONG:
            file.refused()
        return [_error(fault)]
    file.accepted()
    with session:
        tried = ok("pin-tried", told("the card took the PIN", "kart PIN'i kabul etti"))
        if one is None:
            return [tried]
        try:
            find_key(session, one)
        except CardError as fault:
            return [tried, _error(fault)]
        return [tried, _key()]


def _key() -> Finding:
    return ok("key", told("the card holds the certificate's key", "sertifikanın anahtarı kartta"))


def _public_key(token: Any, one: CardCertificate) -> Finding:
    if has_public_key(token, one):
        return _key()
    found = told_by_code("key-hidden", "whether the card holds the key shows only after the PIN")
    return warning("key-hidden", found, "--pin-file tries it once")
