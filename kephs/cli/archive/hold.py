"""``kephs hold``: legal holds: content that nobody's deletion destroys while they stand."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import click

from config.settings import Settings
from kephs.bootstrap.opening import open_register
from kephs.cli.output import ExitError, guarded, instance_argument, json_option, print_json, run
from kephs.cli.trust.command import opened
from kephs.cli.trust.text import shown as printable
from kephs.domain.legal_hold import HoldKind, HoldState
from kephs.instances.databases import InstanceStore
from kephs.system import SystemClock
from kephs.usecases.ending.legal_hold import HoldFault, HoldRefusedError, LegalHolds, ShownHold

T = TypeVar("T")

_CURES: Final = MappingProxyType(
    {
        HoldFault.NO_SUCH_MESSAGE: "give the id in the reply to the submission, or the Message-ID",
        HoldFault.AMBIGUOUS: "name the message by its KEP id",
        HoldFault.NO_SUCH_ACCOUNT: "see kephs account list DIR",
        HoldFault.NO_SUCH_HOLD: "see kephs hold list DIR --all",
        HoldFault.CONTENT_GONE: "its evidence stays: kephs show DIR MESSAGE",
        HoldFault.STEP: "see kephs hold list DIR --all",
    }
)
_STATES: Final = MappingProxyType(
    {
        HoldState.STANDING: "duruyor / stands",
        HoldState.LIFT_ASKED: "duruyor, kaldırılması istendi / stands, lifting asked for",
        HoldState.LIFTED: "kaldırıldı / lifted",
    }
)
_by = click.option("--by", required=True, metavar="NAME", help="The person who does it; kept in the record.")
_reason = click.option("--reason", required=True, metavar="TEXT", help="Why, such as a court's file number.")


@click.group()
def command() -> None:
    """Legal holds (hukuki saklama): set, list, lift."""


@command.command("set")
@instance_argument
@click.option("--message", metavar="ID", help="Keep the content of this message (KEP id or Message-ID).")
@click.option("--account", metavar="ADDRESS", help="Keep all content of this account.")
@_by
@_reason
@json_option
@guarded
def set_(
    directory: Path,
    message: str | None,
    account: str | None,
    by: str,
    reason: str,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Keep content from now on, whoever deletes it.

    Its owner sees it deleted all the same. Nothing that is destroyed already comes back.
    """
    if (message is None) == (account is None):
        raise click.UsageError("give --message or --account")

    async def work(holds: LegalHolds) -> ShownHold:
        if message is not None:
            return await holds.hold_message(message, by, reason)
        return await holds.hold_account(account or "", by, reason)

    _tell(run(_with(directory, work)), as_json=as_json)


@command.command("list")
@instance_argument
@click.option("--all", "everything", is_flag=True, help="Lifted ones too.")
@json_option
@guarded
def list_(directory: Path, everything: bool, as_json: bool) -> None:  # noqa: FBT001
    """List what is held, since when, by whom and why."""
    found = [one for one in run(_with(directory, lambda holds: holds.all())) if everything or one.hold.keeps]
    if as_json:
        print_json({"holds": [_plain(one) for one in found]})
        return
    if not found:
        click.echo("nothing is held / saklanan bir şey yok")
    for one in found:
        _print(one)


@command.command()
@instance_argument
@click.argument("number", type=click.IntRange(1))
@_by
@_reason
@json_option
@guarded
def lift(directory: Path, number: int, by: str, reason: str, as_json: bool) -> None:  # noqa: FBT001
    """Ask that hold NUMBER be lifted; the second person's asking lifts it.

    Content that nothing else keeps is destroyed then.
    """
    _tell(run(_with(directory, lambda holds: holds.lift(number, by, reason))), as_json=as_json)


async def _with(directory: Path, work: Callable[[LegalHolds], Awaitable[T]]) -> T:
    async with opened(directory) as (settings, store):
        try:
            return await work(_holds(settings, store))
        except HoldRefusedError as error:
            raise ExitError(error.fault.value, str(error), _CURES[error.fault]) from None


def _holds(settings: Settings, store: InstanceStore) -> LegalHolds:
    return LegalHolds(store, SystemClock(), open_register(settings))


def _tell(one: ShownHold, *, as_json: bool) -> None:
    if as_json:
        print_json(_plain(one))
        return
    _print(one)
    if one.hold.state is HoldState.LIFT_ASKED:
        click.echo("one more person must ask for it / bir kişinin daha istemesi gerekiyor")


def _print(one: ShownHold) -> None:
    hold = one.hold
    word = "ileti / message" if hold.kind is HoldKind.MESSAGE else "hesap / account"
    click.echo(f"{hold.number:>6}  {word} {printable(one.subject)}: {_STATES[hold.state]}")
    click.echo(
        f"        {hold.set_at:%Y-%m-%dT%H:%M:%SZ}  {printable(hold.set_by)}: {printable(hold.reason)}"
    )
    for step in hold.lifting:
        click.echo(f"        - {step.at:%Y-%m-%dT%H:%M:%SZ}  {printable(step.by)}: {printable(step.reason)}")


def _plain(one: ShownHold) -> dict[str, Any]:
    hold = one.hold
    return {
        "number": hold.number,
        "kind": hold.kind.value,
        "subject": one.subject,
        "state": hold.state.value,
        "set_by": hold.set_by,
        "set_at": f"{hold.set_at:%Y-%m-%dT%H:%M:%SZ}",
        "reason": hold.reason,
        "lifting": [
            {"by": step.by, "at": f"{step.at:%Y-%m-%dT%H:%M:%SZ}", "reason": step.reason}
            for step in hold.lifting
        ],
    }
