"""Accounts, operators and app passwords in SQL."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

from sqlalchemy import bindparam, insert, select, update

from directory.accounts import (
    Account,
    AccountKind,
    AccountState,
    AppPassword,
    Operator,
    Right,
    ServiceType,
)
from directory.addresses import KepAddress
from directory.certificates import HOWS, BoundCertificate
from storage.errors import ConflictError
from storage.files.survey import UnreadableRow, survey
from storage.rows.statements import Database, ListStatement, Row
from storage.rows.tables import accounts, app_passwords, bound_certificates, operators
from storage.rows.values import from_micros, from_micros_or_none, to_micros, to_micros_or_none

_REMEMBERED: Final = 2048
"""Names, labels and certificates kept open; some 2 kB each at most."""
_ADD: Final = insert(accounts)
_GET: Final = select(accounts).where(accounts.c.account_id == bindparam("account_id"))
_BY_ADDRESS: Final = ListStatement(lambda values: select(accounts).where(accounts.c.address.in_(values)))
_ALL: Final = select(accounts).order_by(accounts.c.account_id)
_SET_STATE: Final = (
    update(accounts)
    .where(accounts.c.account_id == bindparam("of_account"))
    .values(state=bindparam("new_state"), state_since=bindparam("at"))
)
ADD_USAGE: Final = (
    update(accounts)
    .where(accounts.c.account_id == bindparam("of_account"))
    .values(used_bytes=accounts.c.used_bytes + bindparam("delta"))
)
_ADD_OPERATOR: Final = insert(operators)
_OPERATORS: Final = (
    select(operators)
    .where(operators.c.account_id == bindparam("account_id"))
    .order_by(operators.c.operator_id)
)
_ALL_OPERATORS: Final = select(operators).order_by(operators.c.operator_id)
_ALL_PASSWORDS: Final = select(app_passwords).order_by(
    app_passwords.c.account_id, app_passwords.c.password_id
)
_OPERATOR: Final = select(operators).where(operators.c.operator_id == bindparam("operator_id"))
_ADD_PASSWORD: Final = insert(app_passwords)
_PASSWORDS: Final = (
    select(app_passwords)
    .where(app_passwords.c.account_id == bindparam("account_id"), app_passwords.c.revoked_at.is_(None))
    .order_by(app_passwords.c.password_id)
)
_REVOKE: Final = (
    update(app_passwords)
    .where(
        app_passwords.c.account_id == bindparam("of_account"),
        app_passwords.c.password_id == bindparam("of_password"),
        app_passwords.c.revoked_at.is_(None),
    )
    .values(revoked_at=bindparam("at"))
)
_SET_SEALS: Final = (
    update(accounts)
    .where(accounts.c.account_id == bindparam("of_account"))
    .values(seals_allowed=bindparam("allowed"))
)
_ADD_CERTIFICATE: Final = insert(bound_certificates).values(
    {column.name: bindparam(column.name) for column in bound_certificates.c if column.name != "number"}
)
_CERTIFICATES: Final = (
    select(bound_certificates)
    .where(bound_certificates.c.account_id == bindparam("account_id"))
    .order_by(bound_certificates.c.number)
)
_ALL_CERTIFICATES: Final = select(bound_certificates).order_by(bound_certificates.c.number)
_WITHDRAW: Final = (
    update(bound_certificates)
    .where(
        bound_certificates.c.account_id == bindparam("of_account"),
        bound_certificates.c.sha256 == bindparam("of_certificate"),
        bound_certificates.c.withdrawn_at.is_(None),
    )
    .values(withdrawn_at=bindparam("at"), withdrawn_by=bindparam("by"))
)


class SqlAccounts:
    """`kephs.ports.Accounts` in SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database
        # The same few people act again and again; what is remembered is found by the exact sealed octets.
        self._open = lru_cache(_REMEMBERED)(database.vault.unseal)

    def add(self, account: Account) -> None:
        """Open an account; addresses are never given twice (KEP-CL-05).

        Raises:
            ConflictError: the id or address is taken.
        """
        added = self._db.run_quiet(
            _ADD,
            {
                "account_id": account.account_id,
                "address": str(account.address),
                "provider": account.address.provider,
                "kind": account.kind.value,
                "service": account.service.value,
                "state": account.state.value,
                "personal": self._seal(account.holder_name, "accounts", account.account_id),
                "quota_bytes": account.quota_bytes,
                "used_bytes": account.used_bytes,
                "opened_at": to_micros(account.opened_at),
                "state_since": to_micros(account.state_since),
                "seals_allowed": account.seals_allowed,
            },
        )
        if not added:
            raise ConflictError("the account's id or address is taken")

    def get(self, account_id: str) -> Account | None:
        """Return an account."""
        row = self._db.row(_GET, {"account_id": account_id})
        return None if row is None else self._account(row)

    def by_address(self, address: str) -> Account | None:
        """Return the account that has or had this address."""
        return self.by_addresses((address,)).get(address)

    def by_addresses(self, addresses: Sequence[str]) -> dict[str, Account]:
        """Return the accounts of those addresses that somebody has."""
        rows = self._db.rows_of(_BY_ADDRESS, list(dict.fromkeys(addresses)), {})
        return {row[1]: self._account(row) for row in rows}

    def all(self) -> list[Account]:
        """Return every account, by id."""
        return [self._account(row) for row in self._db.rows(_ALL, {})]

    def set_state(self, account_id: str, state: AccountState, at: datetime) -> None:
        """Change an account's state; `KeyError` where nobody has the id."""
        params = {"of_account": account_id, "new_state": state.value, "at": to_micros(at)}
        if not self._db.run(_SET_STATE, params):
            raise KeyError(account_id)

    def add_usage(self, account_id: str, delta: int) -> None:
        """Change an account's usage by so many bytes; `KeyError` where nobody has the id."""
        if not self._db.run(ADD_USAGE, {"of_account": account_id, "delta": delta}):
            raise KeyError(account_id)

    def add_operator(self, operator: Operator) -> None:
        """Add a person who acts for an account.

        Raises:
            ConflictError: the id is taken or the account does not exist.
        """
        added = self._db.run_quiet(
            _ADD_OPERATOR,
            {
                "operator_id": operator.operator_id,
                "account_id": operator.account_id,
                "personal": self._seal(operator.name, "operators", operator.operator_id),
                "identity_mac": operator.identity_mac,
                "rights": int(operator.rights),
                "is_holder": operator.is_holder,
                "valid_from": to_micros(operator.valid_from),
                "valid_until": to_micros_or_none(operator.valid_until),
            },
        )
        if not added:
            raise ConflictError("the operator's id is taken")

    def operators(self, account_id: str) -> list[Operator]:
        """Return the persons who act for an account, by id."""
        return [self._operator(row) for row in self._db.rows(_OPERATORS, {"account_id": account_id})]

    def operator(self, operator_id: str) -> Operator | None:
        """Return one person."""
        row = self._db.row(_OPERATOR, {"operator_id": operator_id})
        return None if row is None else self._operator(row)

    def add_password(self, password: AppPassword) -> None:
        """Add an app password.

        Raises:
            ConflictError: the id is taken or the operator does not exist.
        """
        added = self._db.run_quiet(
            _ADD_PASSWORD,
            {
                "password_id": password.password_id,
                "account_id": password.account_id,
                "operator_id": password.operator_id,
                "label": self._seal(
                    password.label, "app_passwords", f"{password.account_id}:{password.password_id}"
                ),
                "hash": password.hash,
                "created_at": to_micros(password.created_at),
                "revoked_at": to_micros_or_none(password.revoked_at),
            },
        )
        if not added:
            raise ConflictError("the password's id is taken")

    def passwords(self, account_id: str) -> list[AppPassword]:
        """Return the app passwords of an account that are not revoked, by id."""
        return [self._password(row) for row in self._db.rows(_PASSWORDS, {"account_id": account_id})]

    def revoke_password(self, account_id: str, password_id: str, at: datetime) -> bool:
        """Revoke an app password; False where it is unknown or was revoked before."""
        return (
            self._db.run(_REVOKE, {"of_account": account_id, "of_password": password_id, "at": to_micros(at)})
            == 1
        )

    def certificates(self, account_id: str) -> list[BoundCertificate]:
        """Return an account's certificates, also withdrawn ones, oldest binding first."""
        return [self._certificate(row) for row in self._db.rows(_CERTIFICATES, {"account_id": account_id})]

    def add_certificate(self, one: BoundCertificate) -> None:
        """Bind a certificate.

        Raises:
            ConflictError: it is bound to the account, or account or operator do not exist.
        """
        place = _binding(one.account_id, one.sha256)
        by = None if one.withdrawn_by is None else self._seal(one.withdrawn_by, "withdrawn_by", place)
        added = self._db.run_quiet(
            _ADD_CERTIFICATE,
            {
                "account_id": one.account_id,
                "operator_id": one.operator_id,
                "sha256": one.sha256,
                "personal": self._db.vault.seal(one.der, f"bound_certificates:{place}"),
                "how": one.how,
                "bound_at": to_micros(one.bound_at),
                "withdrawn_at": to_micros_or_none(one.withdrawn_at),
                "withdrawn_by": by,
            },
        )
        if not added:
            raise ConflictError("the certificate is bound to the account")

    def withdraw_certificate(self, account_id: str, sha256: bytes, at: datetime, by: str) -> bool:
        """Withdraw a bound certificate; False where it is not bound."""
        sealed = self._seal(by, "withdrawn_by", _binding(account_id, sha256))
        params = {"of_account": account_id, "of_certificate": sha256, "at": to_micros(at), "by": sealed}
        return self._db.run(_WITHDRAW, params) == 1

    def set_seals_allowed(self, account_id: str, allowed: bool) -> None:  # noqa: FBT001  # the port's
        """Say whether qualified seals may sign; `KeyError` where nobody has the id."""
        if not self._db.run(_SET_SEALS, {"of_account": account_id, "allowed": allowed}):
            raise KeyError(account_id)

    def survey(self) -> Iterator[Account | UnreadableRow]:
        """Yield every account, by id, readable or not (asked by fsck)."""
        yield from survey("accounts", self._db.rows(_ALL, {}), self._account)

    def survey_persons(self) -> Iterator[Operator | AppPassword | UnreadableRow]:
        """Yield every operator, then every app password, readable or not (asked by fsck)."""
        yield from survey("operators", self._db.rows(_ALL_OPERATORS, {}), self._operator)
        yield from survey("app_passwords", self._db.rows(_ALL_PASSWORDS, {}), self._password)

    def survey_certificates(self) -> Iterator[BoundCertificate | UnreadableRow]:
        """Yield every bound certificate, oldest first, readable or not (asked by fsck)."""
        yield from survey("bound_certificates", self._db.rows(_ALL_CERTIFICATES, {}), self._certificate)

    def _account(self, row: Row) -> Account:
        account_id, address, provider, kind, service, state, personal, quota, used, opened, since = row[:11]
        local, _, domain = address.rpartition("@")
        return Account(
            account_id,
            KepAddress(local, domain, provider),
            AccountKind(kind),
            ServiceType(service),
            AccountState(state),
            self._unseal(personal, "accounts", account_id),
            quota,
            used,
            from_micros(opened),
            from_micros(since),
            seals_allowed=bool(row[11]),
        )

    def _operator(self, row: Row) -> Operator:
        operator_id, account_id, personal, mac, rights, is_holder, valid_from, valid_until = row
        return Operator(
            operator_id,
            account_id,
            self._unseal(personal, "operators", operator_id),
            mac,
            Right(rights),
            bool(is_holder),
            from_micros(valid_from),
            from_micros_or_none(valid_until),
        )

    def _password(self, row: Row) -> AppPassword:
        account_id, password_id, operator_id, label, hashed, created_at, revoked_at = row
        return AppPassword(
            password_id,
            account_id,
            operator_id,
            self._unseal(label, "app_passwords", f"{account_id}:{password_id}"),
            hashed,
            from_micros(created_at),
            from_micros_or_none(revoked_at),
        )

    def _certificate(self, row: Row) -> BoundCertificate:
        _, account_id, operator_id, digest, der, how, bound_at, withdrawn_at, by = row
        place = _binding(account_id, digest)
        if how not in HOWS:
            raise ValueError(how)
        return BoundCertificate(
            digest,
            account_id,
            operator_id,
            self._open(der, f"bound_certificates:{place}"),
            how,
            from_micros(bound_at),
            from_micros_or_none(withdrawn_at),
            None if by is None else self._unseal(by, "withdrawn_by", place),
        )

    def _seal(self, text: str, table: str, row_id: str) -> bytes:
        return self._db.vault.seal(text.encode(), f"{table}:{row_id}")

    def _unseal(self, sealed: bytes, table: str, row_id: str) -> str:
        return self._open(sealed, f"{table}:{row_id}").decode()


def _binding(account_id: str, sha256: bytes) -> str:
    return f"{account_id}:{sha256.hex()}"
