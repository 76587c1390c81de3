"""`kephs init`: make an instance."""

import json
from pathlib import Path
from typing import Final

import click

from config.settings import FILE_NAME, PORT_MAX, SettingsError
from kephs.cli.instance import InstanceError, Ports, make_instance
from kephs.instances.schema import make_database
from kephs.system import SystemClock
from storage.errors import SchemaError

_PORT: Final = click.IntRange(0, PORT_MAX)


@click.command("init")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--domain", required=True, help="provider domain, such as hs91.kep.tr")
@click.option(
    "--profile",
    type=click.Choice(["embedded", "cluster"]),
    default="embedded",
    show_default=True,
    help="embedded: SQLite in DIRECTORY; cluster: PostgreSQL",
)
@click.option(
    "--database-url",
    default="",
    metavar="URL",
    help="cluster: an empty database, such as postgresql://kephs@/kephs?host=/run/postgresql or "
    "postgresql://kephs@host/kephs?passfile=/path; a password in it is kept in kephs.toml, mode 0600",
)
@click.option(
    "--test-pki", is_flag=True, help="make TEST certificates and run a TEST PKI; never for production"
)
@click.option("--submission-port", type=_PORT, default=0, help="default: 465, or a free port with --test-pki")
@click.option(
    "--inbound-port",
    type=_PORT,
    default=0,
    help="where other providers hand over; default: 25, or a free port with --test-pki",
)
@click.option("--imap-port", type=_PORT, default=0, help="default: 993, or a free port with --test-pki")
@click.option("--test-pki-port", type=_PORT, default=0, help="default: a free port")
@click.option("--json", "as_json", is_flag=True)
def command(
    directory: Path, domain: str, *, profile: str, database_url: str, test_pki: bool,
    submission_port: int, inbound_port: int, imap_port: int, test_pki_port: int, as_json: bool,
) -> None:  # fmt: skip
    """Make an instance in DIRECTORY: settings, keys, empty store."""
    if (profile == "cluster") != bool(database_url):
        raise click.UsageError("--profile cluster and --database-url go together")
    ports = Ports(submission=submission_port, inbound=inbound_port, imap=imap_port, test_pki=test_pki_port)
    try:
        if database_url:
            _check_database(database_url)
        settings = make_instance(
            directory, domain, now=SystemClock().now(), test_pki=test_pki, ports=ports,
            values={"storage": {"database_url": database_url}} if database_url else None,
        )  # fmt: skip
        (directory / FILE_NAME).chmod(0o600)  # a database URL may hold a password
        make_database(settings, SystemClock().now())
    except (InstanceError, SettingsError, SchemaError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        network = settings.network
        print(json.dumps({
            "directory": str(directory.resolve()), "domain": settings.provider.domain, "profile": profile,
            "submission_port": network.submission_port, "inbound_port": network.inbound_port,
            "imap_port": network.imap_port,
        }))  # fmt: skip
        return
    network = settings.network
    ports_made = (
        f"submission {network.submission_port}, inbound {network.inbound_port}, imap {network.imap_port}"
    )
    print(f"made {directory}: {settings.provider.domain}, {ports_made}")
    if not test_pki:
        print(f"next: transaction and TLS certificates into {directory}/keys; trusted roots by")
        print(f"kephs trust import {directory} FILE... and two persons' kephs trust approve; seal.tsa into")
        print(f"{directory}/kephs.toml; then: kephs doctor {directory}")


def _check_database(url: str) -> None:
    """Look at the database before anything is made in the folder.

    Raises:
        SchemaError: it cannot be this instance's; the text names the cure.
    """
    from storage.postgres.schema import check_new

    check_new(url)
