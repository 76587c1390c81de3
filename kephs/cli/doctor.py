"""``kephs doctor``: is everything there that a provider needs, and will it still be there next month?"""

import asyncio
from pathlib import Path

import click

from config.settings import Settings, SettingsError, load
from kephs.bootstrap import open_trust
from kephs.cli.doctor_files import (
    check_database,
    check_disk,
    check_domain,
    check_folders,
    check_keys,
    check_scanner_setting,
    check_tls,
    check_transaction,
    check_trust,
    check_year,
)
from kephs.cli.doctor_network import check_network
from kephs.cli.findings import Finding, Level, error, print_findings, worst
from kephs.cli.output import FAILED, OK, guarded, instance_argument, json_option
from kephs.system import SystemClock


@click.command()
@instance_argument
@json_option
@guarded
def command(directory: Path, as_json: bool) -> None:  # noqa: FBT001  # click hands options over by name
    """Check environment, keys, certificates and outside services of the instance in DIR."""
    try:
        findings = examine(load(directory), directory, SystemClock())
    except SettingsError as failure:
        findings = [
            error("settings", str(failure), "correct kephs.toml; docs/settings.md explains each value")
        ]
    print_findings(findings, as_json=as_json)
    raise click.exceptions.Exit(FAILED if worst(findings) is Level.ERROR else OK)


def examine(settings: Settings, directory: Path, clock: SystemClock) -> list[Finding]:
    """Return all findings about an instance; nothing in it is changed."""
    now = clock.now()
    findings = [
        Finding(Level.OK, "settings", f"provider {settings.provider.domain}"),
        check_year(now),
        *check_domain(settings),
        *check_disk(settings),
        *check_folders(settings, directory),
        *check_keys(settings),
        *check_database(settings),
        *check_trust(settings),
    ]
    try:
        trust = open_trust(settings)
    except SettingsError:
        return findings  # check_trust has said why
    return [
        *findings,
        *check_transaction(settings, trust, now),
        *check_tls(settings, now),
        *check_scanner_setting(settings),
        *asyncio.run(check_network(settings, trust, clock)),
    ]
