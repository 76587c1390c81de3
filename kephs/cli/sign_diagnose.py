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
from kephs.cli.sign_card import CardOptions, choose, pin_file_of, read_pin
from kephs.cli.sign_chain import read_chain
from kephs.cli.sign_turkish import CARD_CURES
from kephs.cli.signature_help import certificate_findings
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
    driver = ok("driver", f"{options.module.name}: {module.library_description} ({module.manufacturer_id})")
    try:
        token = find_token(module, label=options.token, slot=options.slot)
        found = [driver, ok("card", f"{token.label!r} in slot {token.slot.slot_id}"), _pin(token)]
    except CardError as fault:
        return [driver, _error(fault)]
    try:
        certificates = certificates_of(token)
        one = choose(certificates, options.certificate, clock.now())
    except CardError as fault:
        return [*found, _error(fault), *_try_pin(token, options, None)]
    found.append(ok("certificate", f"{one.facts.label}, fingerprint {one.facts.sha256.hex()[:16]}"))
    found += _try_pin(token, options, one)
    chain = chain_for(one.facts, [*(other.facts for other in certificates), *read_chain(options.chain)])
    return [*found, *await certificate_findings(one.facts, chain, clock)]


def _error(fault: CardError) -> Finding:
    return error(fault.fault.value, str(fault), CARD_CURES[fault.fault])


def _pin(token: Any) -> Finding:
    """Tell what the card tells of its PIN, without using it."""
    state = pin_state(token)
    if state.locked:
        return error(CardFault.PIN_LOCKED.value, "the card's PIN is locked", CARD_CURES[CardFault.PIN_LOCKED])
    if not state.present:
        return error(CardFault.PIN_UNSET.value, "the card has no PIN yet", CARD_CURES[CardFault.PIN_UNSET])
    if state.final:
        return warning(
            CardFault.PIN_LAST_TRY.value, state.tries, "be sure of the PIN; else unlock the card with its PUK"
        )
    if state.low:
        return warning(
            "pin-low",
            f"a wrong PIN was entered since the last right one; {state.tries}",
            "be sure of the PIN",
        )
    if state.to_be_changed:
        return warning(
            "pin-to-be-changed", "the PIN still is the one the maker gave", "change it in the maker's program"
        )
    where = "; it is entered at the reader's own pad" if state.pad else ""
    return ok("pin", f"no wrong PIN since the last right one, as far as the card tells{where}")


def _try_pin(token: Any, options: CardOptions, one: CardCertificate | None) -> list[Finding]:
    """Log in once with the PIN's file, where one is given, and look for the key."""
    if options.pin_file is None:
        return [] if one is None else [_public_key(token, one)]
    file = pin_file_of(options.pin_file)
    try:
        pin = read_pin(file, token)
        session = login(token, pin, use_last_try=options.use_last_try)
    except ExitError as failure:
        return [error(failure.code, failure.message, failure.cure.partition(" / ")[0])]
    except CardError as fault:
        if fault.fault is CardFault.PIN_WRONG:
            file.refused()
        return [_error(fault)]
    file.accepted()
    with session:
        tried = ok("pin-tried", "the card took the PIN")
        if one is None:
            return [tried]
        try:
            find_key(session, one)
        except CardError as fault:
            return [tried, _error(fault)]
        return [tried, ok("key", "the card holds the certificate's key")]


def _public_key(token: Any, one: CardCertificate) -> Finding:
    if has_public_key(token, one):
        return ok("key", "the card holds the certificate's key")
    return warning(
        "key-hidden", "whether the card holds the key shows only after the PIN", "--pin-file tries it once"
    )
