"""`kephs test-pki`: the TEST PKI of an instance, as a child of `kephs serve`."""

import os
import signal
import sys
import threading
from pathlib import Path

import click

from config.settings import SettingsError, load
from kephs.system import SystemClock
from kephs.testpki.server import run_forever


def _stop_with_parent() -> None:
    """Stop when standard input closes: a killed parent must not leave its child behind."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


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
    if with_parent:
        threading.Thread(target=_stop_with_parent, daemon=True).start()
    run_forever(
        settings.directory, settings.host, settings.port,
        clock=SystemClock().now, ready=lambda: print("ready", flush=True),
    )  # fmt: skip
