"""`kephs init`: make an instance."""

import json
from pathlib import Path
from typing import Final

import click

from config.settings import PORT_MAX, SettingsError
from kephs.cli.instance import InstanceError, Ports, make_instance
from kephs.system import SystemClock
from storage.errors import SchemaError
from storage.migrate import upgrade_sqlite

_PORT: Final = click.IntRange(0, PORT_MAX)


@click.command("init")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--domain", required=True, help="provider domain, such as hs91.kep.tr")
@click.option("--profile", type=click.Choice(["embedded"]), default="embedded", show_default=True)
@click.option(
    "--test-pki", is_flag=True, help="make TEST certificates and run a TEST PKI; never for production"
)
@click.option("--submission-port", type=_PORT, default=0, help="default: 465, or a free port with --test-pki")
@click.option("--imap-port", type=_PORT, default=0, help="default: 993, or a free port with --test-pki")
@click.option("--test-pki-port", type=_PORT, default=0, help="default: a free port")
@click.option("--json", "as_json", is_flag=True)
def command(
    directory: Path, domain: str, *, profile: str, test_pki: bool,
    submission_port: int, imap_port: int, test_pki_port: int, as_json: bool,
) -> None:  # fmt: skip
    """Make an instance in DIRECTORY: settings, keys, empty store."""
    ports = Ports(submission_port, imap_port, test_pki_port)
    try:
        settings = make_instance(directory, domain, now=SystemClock().now(), test_pki=test_pki, ports=ports)
        upgrade_sqlite(settings.storage.database)
    except (InstanceError, SettingsError, SchemaError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        network = settings.network
        print(json.dumps({
            "directory": str(directory.resolve()), "domain": settings.provider.domain, "profile": profile,
            "submission_port": network.submission_port, "imap_port": network.imap_port,
        }))  # fmt: skip
        return
    network = settings.network
    ports_made = f"submission {network.submission_port}, imap {network.imap_port}"
    print(f"made {directory}: {settings.provider.domain}, {ports_made}")
    if not test_pki:
        print(f"next: transaction and TLS certificates into {directory}/keys, trusted roots into")
        print(f"{directory}/trust, seal.tsa into {directory}/kephs.toml; then: kephs doctor {directory}")
