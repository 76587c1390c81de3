"""``kephs probe``: a real signed message through the public ports and back, with the time of each step.

For monitoring and after every change: exit code 0 only if the message was accepted, delivered, read where its
mailbox is known, proved by evidence that verifies, and every step kept its limit.
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from config.settings import Settings, load
from directory.addresses import AddressError, KepAddress
from kephs.cli.output import (
    FAILED,
    ExitError,
    guarded,
    instance_argument,
    json_option,
    print_facts,
    print_json,
    read_secret,
    run,
)

if TYPE_CHECKING:
    from kephs.cli.health.probe_run import Probed, Server, Trip

_ANYWHERE: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  # recognised, not bound
_STEP_SECONDS: Final = 30.0
_file = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class _Given:
    """What the command line says of the account; all, or a demo."""

    account: str | None
    p12: Path | None
    p12_password_file: Path | None
    password_file: Path | None
    to: str | None
    host: str | None
    ca_file: Path | None
    demo: Path | None


@click.command()
@instance_argument
@click.option("--account", metavar="ADDRESS", help="Who sends: an account of this instance.")
@click.option("--p12", type=_file, help="PKCS#12 file with the sender's key, certificate and chain.")
@click.option("--p12-password-file", type=_file, help="Its first line is the password of --p12.")
@click.option("--password-file", type=_file, help="Its first line is the sender's app password.")
@click.option("--to", metavar="ADDRESS", help="To whom. Default: back to the sender.")
@click.option("--host", help="Where the ports answer. Default: network.host, unless it is a wildcard.")
@click.option(
    "--ca-file", type=_file, help="Root of the TLS certificate. Default: DIR/tls-ca.pem, or the system's."
)
@click.option("--demo", type=_file, help="A demo.json: accounts and mailboxes are taken from it.")
@click.option(
    "--limit", type=click.FloatRange(min=0.1), default=_STEP_SECONDS, show_default=True,
    help="Longest time, in seconds, that a step may take.",
)  # fmt: skip
@json_option
@guarded
def command(
    directory: Path, account: str | None, p12: Path | None, p12_password_file: Path | None,
    password_file: Path | None, to: str | None, host: str | None, ca_file: Path | None, demo: Path | None,
    limit: float, as_json: bool,  # noqa: FBT001  # click hands options over by name
) -> None:  # fmt: skip
    """Send a signed message through the instance in DIR and read it back; print the time of each step.

    The message stays in the mailboxes and its evidence in the books, as of every other. Where it goes to
    another account whose mailbox is not known, its evidence 40 must come; it is not read then.
    """
    if importlib.util.find_spec("aioimaplib") is None:
        raise ExitError(
            "probe-extra", "the probe's mail client is not installed", "pip install 'kephs[demo]'"
        )
    from kephs.cli.health.probe_run import probe

    settings = load(directory)
    given = _Given(account, p12, p12_password_file, password_file, to, host, ca_file, demo)
    trip = _from_demo(settings, given) if demo else _from_options(settings, directory, given)
    done = run(probe(settings, trip, limit))
    _print(done, as_json=as_json)
    if not done.passed:
        raise click.exceptions.Exit(FAILED)


# --------------------------------------------------------------------------- who sends to whom


def _from_options(settings: Settings, directory: Path, given: _Given) -> "Trip":
    from kephs.cli.demo.people import DemoAccount
    from kephs.cli.health.probe_run import Trip

    if not (given.account and given.p12 and given.p12_password_file and given.password_file):
        raise click.UsageError(
            "give --account, --p12, --p12-password-file and --password-file, or --demo DIR/demo.json"
        )
    address = _address(given.account, settings)
    sender = DemoAccount(
        address=address, provider=settings.provider.domain, tckn="", kind="", password=None, sifre=None,
        app_password=read_secret(given.password_file), p12=str(given.p12),
        p12_password=read_secret(given.p12_password_file), name=address.partition("@")[0],
    )  # fmt: skip
    to = _address(given.to, settings) if given.to else address
    here = _server(settings, directory, given)
    return Trip(sender, to, here, here if to == address else None, sender if to == address else None)


def _server(settings: Settings, directory: Path, given: _Given) -> "Server":
    from kephs.cli.health.probe_run import Server

    network = settings.network
    host = given.host or network.host
    if host in _ANYWHERE:
        raise ExitError("no-host", f"network.host is {host}, which is no address to call", "give --host")
    own = directory / "tls-ca.pem"
    ca_file = given.ca_file or (own if own.exists() else None)
    return Server(host, network.submission_port, network.imap_port, ca_file)


def _from_demo(settings: Settings, given: _Given) -> "Trip":
    from kephs.cli.demo.people import DemoAccount
    from kephs.cli.health.probe_run import Trip

    assert given.demo is not None
    try:
        described: dict[str, Any] = json.loads(given.demo.read_text(encoding="utf-8"))
        people = {one["address"]: DemoAccount(**one) for one in described["accounts"]}
        servers = {one["domain"]: _demo_server(one) for one in described["providers"]}
        domain = settings.provider.domain
        own = [one for one in people.values() if one.provider == domain]
        sender = people[given.account] if given.account else own[0]
        others = [one.address for one in own if one.address != sender.address]
        to = _address(given.to, settings) if given.to else (others or [sender.address])[0]
        reader = people.get(to)
        reading = servers[reader.provider] if reader is not None else None
        return Trip(sender, to, servers[domain], reading, reader)
    except (UnicodeDecodeError, ValueError, KeyError, TypeError, IndexError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ExitError(
            "demo-unreadable", f"{given.demo} does not describe this instance ({why})",
            "give the demo.json of a running kephs demo, and the folder of one of its providers",
        ) from None  # fmt: skip


def _demo_server(described: dict[str, Any]) -> "Server":
    from kephs.cli.health.probe_run import Server

    submission, imap = described["submission"], described["imap"]
    return Server(submission["host"], submission["port"], imap["port"], Path(described["ca_file"]))


def _address(text: str, settings: Settings) -> str:
    try:
        return str(KepAddress.parse(text, suffix=settings.provider.suffix))
    except AddressError as error:
        raise ExitError("address-invalid", f"{text}: {error}", "write it as name@hsNN.kep.tr") from None


# --------------------------------------------------------------------------- what came of it


def _print(done: "Probed", *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "passed": done.passed,
                "message_id": done.message_id,
                "seconds": round(sum(step.seconds for step in done.steps), 3),
                "steps": [
                    {
                        "name": step.name,
                        "seconds": round(step.seconds, 3),
                        "ok": step.ok,
                        "detail": step.detail,
                    }
                    for step in done.steps
                ],
            }
        )
        return
    print_facts((step.name, f"{step.seconds:8.3f} s  {step.detail}") for step in done.steps)
    last = done.steps[-1]
    if done.passed:
        click.echo(f"passed / başarılı: {done.message_id}")
    else:
        click.echo(f"kephs: the step {last.name} failed / adım başarısız: {last.detail}", err=True)
