"""`kephs test-pki`: the TEST PKI of an instance, as a child of `kephs serve`."""

import sys
from pathlib import Path

import click

from config.settings import SettingsError, TestPkiSettings, load
from kephs.system import SystemClock
from kephs.testpki.server import run_forever


@click.command("test-pki", hidden=True)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--with-parent", is_flag=True, help="stop when standard input closes")
def command(directory: Path, *, with_parent: bool) -> None:
    """Answer OCSP, CRL and time-stamp requests of an instance made with --test-pki."""
    try:
        settings = load(directory).test_pki
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    if not settings.enabled or not settings.port:
        raise click.ClickException("this instance runs no TEST PKI")
    try:
        _run(settings, sys.stdin.fileno() if with_parent else None)
    except OSError as error:
        where = f"{settings.host}:{settings.port}, {settings.directory}"
        raise click.ClickException(f"the TEST PKI cannot start ({where}): {error}") from None
    except (ValueError, KeyError) as error:
        raise click.ClickException(f"{settings.directory} holds no usable TEST PKI: {error}") from None


def _run(settings: TestPkiSettings, lifeline: int | None) -> None:
    run_forever(
        settings.directory, settings.host, settings.port, clock=SystemClock().now,
        ready=lambda: print("ready", flush=True), lifeline=lifeline,
    )  # fmt: skip
