"""``kephs account``: accounts, operators and app passwords from the shell. Works while the server runs."""

import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import click

from config import settings
from directory.accounts import Account, AccountKind, AccountState, AppPassword, Operator, Right, ServiceType
from directory.identity import is_identity_number
from kephs.cli.beside import Beside, open_beside
from kephs.cli.output import (
    ExitError,
    guarded,
    instance_argument,
    json_option,
    print_facts,
    print_json,
    print_table,
    run,
)
from kephs.cli.people.certificates import certificate_commands
from kephs.domain.policy import MIB
from kephs.ports import Tx
from kephs.usecases.people.accounts import (
    BLOCK_MIN,
    FREE_QUOTA,
    SHELL,
    ApplicationError,
    ApplicationFault,
    Opening,
)
from kephs.usecases.people.sign_in import SELECTOR_LENGTH
from storage.errors import ConflictError

T = TypeVar("T")

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"  # spec: RFC4648#6, in lower case
_GROUPS: Final = (SELECTOR_LENGTH, 5, 5, 5, 5)  # the first selects the hash, the rest has 100 random bits
_SELECTOR_TRIES: Final = 5
_TURKISH: Final[dict[AccountState, str]] = {
    AccountState.WAITING: "Etkinleştirme Bekleniyor",
    AccountState.ACTIVE: "Aktif",
    AccountState.BLOCKED: "Bloke",
    AccountState.CLOSED: "Kapalı",
}

APPLICATION_CURES: Final[Mapping[ApplicationFault, str]] = MappingProxyType(
    {
        ApplicationFault.ADDRESS_FORM: "choose an address of that form, or another --kind",
        ApplicationFault.PERSON_MISSING: "name the main operator with --person and give that person's --tckn",
        ApplicationFault.OPERATOR_EXISTS: "see who acts for it: kephs account show DIR ADDRESS",
    }
)

address_argument = click.argument("address", metavar="ADDRESS")
tckn_option = click.option(
    "--tckn",
    required=True,
    help="T.C. identity number; - reads it from standard input, off the process list.",
)


by_option = click.option(
    "--by", default=SHELL, show_default=True, help="Who does it, for the process record."
)


def new_app_password(choice: Callable[[str], str] = secrets.choice) -> str:
    """Return a fresh app password such as ``k3jx7a-7pqwe-m2zrt-abcde-fghij``.

    Args:
        choice: picks one character of a text, unpredictably.
    """
    return "-".join("".join(choice(_ALPHABET) for _ in range(length)) for length in _GROUPS)


@click.group()
def command() -> None:
    """Open, block, close and show accounts; operators; app passwords; certificates that may sign."""


@command.command("open")
@instance_argument
@address_argument
@click.option("--name", required=True, help="Holder: the person, or the organisation.")
@click.option(
    "--person",
    help="Who acts first: the main operator; required for organisations. Default for real persons: --name.",
)
@tckn_option
@click.option(
    "--kind", type=click.Choice([k.value for k in AccountKind]), default=AccountKind.REAL_PERSON.value
)
@click.option(
    "--service", type=click.Choice([s.value for s in ServiceType]), default=ServiceType.SEND_AND_RECEIVE.value
)
@click.option("--quota-mib", type=click.IntRange(min=1), default=FREE_QUOTA // MIB, show_default=True)
@by_option
@json_option
@guarded
def open_(
    directory: Path, address: str, name: str, person: str | None, tckn: str, kind: str, service: str,
    quota_mib: int, by: str, as_json: bool,  # noqa: FBT001  # click hands options over by name
) -> None:  # fmt: skip
    """Open an active account with its folders.

    A real person's address is ad.soyad[.number]; organisations name with --person who acts for them.
    """
    opening = Opening(
        address=address,
        kind=AccountKind(kind),
        service=ServiceType(service),
        holder_name=_text(name, "--name"),
        person_name=_text(person or name, "--person"),
        identity_number=_identity(tckn),
        quota_bytes=quota_mib * MIB,
    )
    actor = _text(by, "--by")
    account = _with_core(directory, lambda core: core.accounts.apply(opening, actor=actor))
    _show_account(account, as_json=as_json)


@command.command()
@instance_argument
@address_argument
@by_option
@json_option
@guarded
def block(directory: Path, address: str, by: str, as_json: bool) -> None:  # noqa: FBT001
    """Block an account: it neither sends nor receives; its holder may go on reading."""
    actor = _text(by, "--by")
    account = _with_core(directory, lambda core: core.accounts.block(address, actor=actor))
    _show_account(account, as_json=as_json)


@command.command()
@instance_argument
@address_argument
@by_option
@json_option
@guarded
def unblock(directory: Path, address: str, by: str, as_json: bool) -> None:  # noqa: FBT001
    """Make a blocked account active again."""
    actor = _text(by, "--by")
    account = _with_core(directory, lambda core: core.accounts.unblock(address, actor=actor))
    _show_account(account, as_json=as_json)


@command.command()
@instance_argument
@address_argument
@by_option
@json_option
@guarded
def close(directory: Path, address: str, by: str, as_json: bool) -> None:  # noqa: FBT001
    """Close an account that has been blocked for three months. Its address is never given again."""
    actor = _text(by, "--by")
    account = _with_core(directory, lambda core: core.accounts.close(address, actor=actor))
    _show_account(account, as_json=as_json)


@command.command()
@instance_argument
@address_argument
@json_option
@guarded
def show(directory: Path, address: str, as_json: bool) -> None:  # noqa: FBT001
    """Show one account, who may act for it, its passwords (never their text) and its folders."""

    async def look(core: Beside) -> dict[str, Any]:
        account = await core.accounts.find(address)
        return await core.store.read(lambda tx: _whole(tx, account))

    found = _with_core(directory, look)
    if as_json:
        print_json(found)
        return
    print_facts((name, str(value)) for name, value in found.items() if not isinstance(value, list))
    for name in ("operators", "passwords", "folders"):
        rows = found[name]
        click.echo(f"\n{name}" if rows else f"\n{name}: none")
        if rows:
            print_table(list(rows[0]), [[_cell(value) for value in row.values()] for row in rows])


@command.command("list")
@instance_argument
@json_option
@guarded
def list_(directory: Path, as_json: bool) -> None:  # noqa: FBT001
    """List all accounts."""
    accounts = _with_core(directory, lambda core: core.store.read(lambda tx: tx.accounts.all()))
    listed = [_facts(account) for account in sorted(accounts, key=lambda one: str(one.address))]
    if as_json:
        print_json({"accounts": listed})
        return
    columns = ("address", "state", "kind", "service", "name", "used_bytes", "quota_bytes")
    print_table(columns, [[_cell(one[column]) for column in columns] for one in listed])


@command.command("add-operator")
@instance_argument
@address_argument
@click.option("--name", required=True, help="The person's name.")
@tckn_option
@click.option(
    "--right", "rights", multiple=True, required=True,
    type=click.Choice([str(right.name).lower() for right in Right]), help="What the person may do.",
)  # fmt: skip
@by_option
@json_option
@guarded
def add_operator(
    directory: Path, address: str, name: str, tckn: str, rights: tuple[str, ...], by: str,
    as_json: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Add a person who may act for an account (işlem yetkilisi)."""
    granted = Right(0)
    for right in rights:
        granted |= Right[right.upper()]
    number, shown, actor = _identity(tckn), _text(name, "--name"), _text(by, "--by")
    operator = _with_core(
        directory, lambda core: core.accounts.add_operator(address, shown, number, granted, actor=actor)
    )
    _print(_operator(operator), as_json=as_json)


@command.command("add-password")
@instance_argument
@address_argument
@click.option("--label", default="mail client", show_default=True, help="Which device or program it is for.")
@click.option("--operator", "operator_id", help="Id of the operator it is for. Default: the holder.")
@by_option
@json_option
@guarded
def add_password(
    directory: Path, address: str, label: str, operator_id: str | None, by: str, as_json: bool  # noqa: FBT001
) -> None:  # fmt: skip
    """Make an app password for mail clients and print it: it is shown this once only."""
    shown, actor = _text(label, "--label"), _text(by, "--by")

    async def add(core: Beside) -> str:
        for _ in range(_SELECTOR_TRIES):
            secret = new_app_password()
            try:
                await core.accounts.add_password(
                    address, secret, label=shown, operator_id=operator_id, actor=actor
                )
            except ConflictError:
                continue  # the selector is taken: 30 bits can meet
            return secret
        raise ExitError("selector-taken", "no free selector was found", "try again")

    secret = _with_core(directory, add)
    _print({"id": secret[:SELECTOR_LENGTH], "label": shown, "password": secret}, as_json=as_json)


@command.command("revoke-password")
@instance_argument
@address_argument
@click.argument("password_id", metavar="ID")
@by_option
@json_option
@guarded
def revoke_password(directory: Path, address: str, password_id: str, by: str, as_json: bool) -> None:  # noqa: FBT001
    """Revoke the app password with this id, as `kephs account show` lists it."""
    actor = _text(by, "--by")
    revoked = _with_core(
        directory, lambda core: core.accounts.revoke_password(address, password_id, actor=actor)
    )
    if not revoked:
        raise ExitError(
            "no-such-password",
            "this account has no valid app password with that id",
            "see the ids: kephs account show DIR ADDRESS",
        )
    _print({"id": password_id, "revoked": True}, as_json=as_json)


for one in certificate_commands:
    command.add_command(one)


# --------------------------------------------------------------------------- shared


def _with_core(directory: Path, work: Callable[[Beside], Awaitable[T]]) -> T:
    async def inside() -> T:
        async with open_beside(settings.load(directory)) as core:
            try:
                return await work(core)
            except ApplicationError as error:
                raise ExitError(error.fault.value, str(error), APPLICATION_CURES[error.fault]) from None

    return run(inside())


def _identity(given: str) -> str:
    number = sys.stdin.readline().strip() if given == "-" else given.strip()
    if not is_identity_number(number):
        raise ExitError(
            "identity-invalid",
            "this is not a T.C. Kimlik No: its check digits are wrong",
            "check the eleven digits on the identity card",
        )
    return number


def _text(value: str, option: str) -> str:
    shown = " ".join(value.split())
    if not shown or not shown.isprintable():
        raise click.UsageError(f"{option} must be readable text")
    return shown


def _facts(account: Account) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "address": str(account.address),
        "account_id": account.account_id,
        "name": account.holder_name,
        "kind": account.kind.value,
        "service": account.service.value,
        "state": account.state.value,
        "durum": _TURKISH[account.state],
        "state_since": account.state_since.isoformat(),
        "opened_at": account.opened_at.isoformat(),
        "quota_bytes": account.quota_bytes,
        "used_bytes": account.used_bytes,
        "seals_allowed": account.seals_allowed,
    }
    if account.state is AccountState.BLOCKED:
        facts["may_close_from"] = (account.state_since + BLOCK_MIN).isoformat()
    return facts


def _whole(tx: Tx, account: Account) -> dict[str, Any]:
    folders = tx.mailboxes.folders(account.account_id)
    return _facts(account) | {
        "operators": [_operator(one) for one in tx.accounts.operators(account.account_id)],
        "passwords": [_password(one) for one in tx.accounts.passwords(account.account_id)],
        "folders": [{"name": f.name, "messages": f.messages, "unseen": f.unseen} for f in folders],
    }


def _operator(operator: Operator) -> dict[str, Any]:
    return {
        "operator_id": operator.operator_id,
        "name": operator.name,
        "holder": operator.is_holder,
        "rights": [str(right.name).lower() for right in Right if right in operator.rights],
        "valid_from": operator.valid_from.isoformat(),
        "valid_until": operator.valid_until.isoformat() if operator.valid_until else None,
    }


def _password(password: AppPassword) -> dict[str, Any]:
    return {
        "id": password.password_id,
        "operator_id": password.operator_id,
        "label": password.label,
        "created_at": password.created_at.isoformat(),
        "revoked_at": password.revoked_at.isoformat() if password.revoked_at else None,
    }


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ",".join(str(one) for one in value)
    return "-" if value is None else str(value)


def _show_account(account: Account, *, as_json: bool) -> None:
    _print(_facts(account), as_json=as_json)


def _print(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        print_facts((name, _cell(value)) for name, value in facts.items())
