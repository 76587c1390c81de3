"""Signing in with an address and an app password (mail clients)."""

from typing import Final

from directory.accounts import Account, AccountState, AppPassword, Operator
from directory.addresses import AddressError
from directory.providers import ProviderRegister
from evidence.model.records import Authentication
from kephs.domain.messages import Person
from kephs.ports import Clock, Passwords, Store, Tx

PASSWORD_METHOD: Final = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"  # noqa: S105  # a URI
SELECTOR_LENGTH: Final = 6  # an app password begins with the id that selects its hash
_PASSWORD_MAX: Final = 128
_NO_HASH: Final = (
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$3tHkJ7oX6Hr0Zb1m1w5Cj0xq0XoHcXWw1l0lK2v0y8A"
)


class SignIn:
    """Checks credentials; the answer takes as long for addresses that do not exist."""

    def __init__(
        self, *, store: Store, passwords: Passwords, clock: Clock, register: ProviderRegister
    ) -> None:
        self._store, self._passwords, self._clock, self._register = store, passwords, clock, register

    async def sign_in(self, address: str, password: str) -> Person | None:
        """Return the person whose app password this is, or None. Closed accounts do not sign in."""
        if not password or len(password) > _PASSWORD_MAX:
            return None
        try:
            folded = str(self._register.parse(address))
        except AddressError:
            folded = ""
        found = await self._store.read(lambda tx: _find(tx, folded, password[:SELECTOR_LENGTH]))
        matches = await self._passwords.verify(found[2].hash if found else _NO_HASH, password)
        if found is None or not matches:
            return None
        account, operator, _ = found
        now = self._clock.now()
        if account.state is AccountState.CLOSED or not operator.may(operator.rights, now):
            return None
        return Person(
            account.account_id,
            operator.operator_id,
            operator.name,
            Authentication(now, PASSWORD_METHOD),
            found[2].password_id,
        )


def still_signed_in(tx: Tx, person: Person) -> bool:
    """Say whether what the person signed in with still counts: a revoked app password ends its sessions."""
    if person.password_id is None:
        return True
    valid = tx.accounts.passwords(person.account_id)
    return any(password.password_id == person.password_id for password in valid)


def _find(tx: Tx, address: str, selector: str) -> tuple[Account, Operator, AppPassword] | None:
    account = tx.accounts.by_address(address) if address else None
    if account is None:
        return None
    for password in tx.accounts.passwords(account.account_id):
        if password.password_id == selector and password.revoked_at is None:
            operator = tx.accounts.operator(password.operator_id)
            return (account, operator, password) if operator is not None else None
    return None
