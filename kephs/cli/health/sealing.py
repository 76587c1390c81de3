"""What `kephs doctor` says of sealing: the key's device, the ledger's key, time stamps that were bought."""

from collections.abc import Iterable

from config.settings import Settings, SettingsError
from evidence.adapters.tsa_credits import read_credits
from evidence.stamps.token_budget import CreditLine, CreditState
from evidence.x509.chain import TrustStore
from kephs.bootstrap import credits_file, open_key, open_tsa_endpoints, read_signer
from kephs.cli.findings import Finding, error, ok, warning
from kephs.ledger.keys import known_witnesses, open_ledger_key, origin_of, witnessed_logs

_BUY = "buy time stamps and raise credits in seal.tsa_accounts"


def check_device(settings: Settings, trust: TrustStore) -> Iterable[Finding]:
    """Sign in to the token and sign once, where the key lies on one. A PIN that was refused is not tried."""
    if not settings.seal.pkcs11_module:
        yield from _key_in_file(settings)
        return
    try:
        with open_key(settings, trust):
            yield ok("key-device", f"the key on token {settings.seal.pkcs11_token} signs")
    except SettingsError as failure:
        yield error("key-device", str(failure), "see pkcs11_* and pin_file in [seal]; docs/operations.md")


def _key_in_file(settings: Settings) -> Iterable[Finding]:
    try:
        read_signer(settings)
    except SettingsError as failure:
        yield error("transaction-certificate", str(failure), "put certificate, key and chain into keys/")
    if not settings.test_pki.enabled:
        yield warning(
            "key-file",
            "the transaction key lies in a file",
            "keep it in an HSM: seal.pkcs11_module (KEP-SG-07)",
        )


def check_ledger(settings: Settings) -> Iterable[Finding]:
    """Look at the ledger's key and at who watches it."""
    try:
        open_ledger_key(settings)
        witnesses, watched = known_witnesses(settings), witnessed_logs(settings)
    except SettingsError as failure:
        yield error("ledger-key", str(failure), "kephs ledger key DIR --make, or restore it from its backup")
        return
    yield ok("ledger-key", f"{origin_of(settings)}; cosigns for {len(watched)}")
    if not settings.ledger.port:
        yield warning(
            "ledger-hidden", "nobody outside can read the ledger", "set ledger.port and let others reach it"
        )
    if not witnesses:
        yield warning(
            "ledger-unwitnessed", "nobody cosigns the ledger's checkpoints",
            "name witnesses in ledger.witnesses, other providers for instance",
        )  # fmt: skip
    else:
        yield ok("ledger-witnesses", f"{len(witnesses)} cosign")


def check_credits(settings: Settings) -> Iterable[Finding]:
    """Say how many time stamps are left at each authority, by our own count."""
    try:
        endpoints = open_tsa_endpoints(settings)
    except SettingsError as failure:
        yield error("tsa-account", str(failure), "correct seal.tsa_accounts in kephs.toml")
        return
    for line in read_credits(credits_file(settings), endpoints):
        yield _of_credits(line)


def _of_credits(line: CreditLine) -> Finding:
    left = "no limit is set" if line.left is None else f"{line.left} left"
    text = f"{line.endpoint}: {line.used} time stamps used, {left}"
    if line.state is CreditState.EXHAUSTED:
        return error("tsa-credits", text, _BUY)
    return warning("tsa-credits", text, _BUY) if line.state.worries else ok("tsa-credits", text)
