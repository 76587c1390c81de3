"""``kephs doctor``: is everything there that a provider needs, and will it still be there next month?"""

import asyncio
from dataclasses import replace
from pathlib import Path

import click

from config.settings import Settings, SettingsError, load
from kephs.bootstrap import open_trust
from kephs.cli.findings import Finding, Level, error, print_findings, worst
from kephs.cli.health.archive import check_archive
from kephs.cli.health.backlog import check_backlog, check_foreign
from kephs.cli.health.files import (
    check_database,
    check_disk,
    check_domain,
    check_folders,
    check_keys,
    check_scanner_setting,
    check_tls,
    check_transaction,
    check_year,
)
from kephs.cli.health.network import check_network
from kephs.cli.health.peers import check_peers, check_register
from kephs.cli.health.queue import check_queue
from kephs.cli.health.sealing import check_credits, check_device, check_ledger
from kephs.cli.health.trust import check_trust
from kephs.cli.health.turkish import turkish_of
from kephs.cli.output import FAILED, OK, guarded, instance_argument, json_option
from kephs.system import SystemClock
from storage.errors import SchemaError


@click.command()
@instance_argument
@click.option(
    "--no-network", is_flag=True, help="Ask nobody outside: no time stamps, OCSP, scanner, peers, ports."
)
@click.option("--deep", is_flag=True, help="Look at all 37 points of the archive's store, with 100 MB.")
@json_option
@guarded
def command(directory: Path, no_network: bool, deep: bool, as_json: bool) -> None:  # noqa: FBT001  # click hands options over by name
    """Check environment, keys, certificates, queue, peers and outside services of the instance in DIR.

    Each finding has a stable code; cures are in English and Turkish (Türkçe). Exit code 1: some finding is
    an error.
    """
    try:
        findings = examine(load(directory), directory, SystemClock(), network=not no_network, deep=deep)
    except SettingsError as failure:
        findings = [
            error("settings", str(failure), "correct kephs.toml; docs/settings.md explains each value")
        ]
    print_findings([_in_both_languages(finding) for finding in findings], as_json=as_json)
    raise click.exceptions.Exit(FAILED if worst(findings) is Level.ERROR else OK)


def _in_both_languages(finding: Finding) -> Finding:
    if finding.level is Level.OK:
        return finding
    return replace(finding, cure=f"{finding.cure} / {turkish_of(finding.code)}")


def examine(
    settings: Settings, directory: Path, clock: SystemClock, *, network: bool = True, deep: bool = False
) -> list[Finding]:
    """Return all findings about an instance; but for the archive's probe nothing in it is changed.

    Args:
        settings: of the instance.
        directory: where it lies.
        clock: the time.
        network: ask outside services, peers and ports too, and an archive on S3.
        deep: look at all points of the archive's store.
    """
    now = clock.now()
    registered, peers = check_register(settings, now)
    findings = [
        Finding(Level.OK, "settings", f"provider {settings.provider.domain}"),
        check_year(now),
        *check_domain(settings),
        *check_disk(settings),
        *check_folders(settings, directory),
        *check_keys(settings),
        *check_database(settings),
        *asyncio.run(check_queue(settings, now)),
        *asyncio.run(check_backlog(settings, now)),
        *asyncio.run(check_foreign(settings, directory)),
        *registered,
        *check_trust(settings, now),
    ]
    try:
        trust = open_trust(settings)
    except (SettingsError, SchemaError):
        trust = None  # check_database and check_trust have said why
    if trust is not None:
        findings += [*check_transaction(settings, trust, now), *check_device(settings, trust)]
    findings += [
        *check_credits(settings),
        *check_ledger(settings),
        *check_tls(settings, now),
        *check_scanner_setting(settings),
    ]
    if network or settings.archive.kind == "files":
        findings += asyncio.run(check_archive(settings, clock, deep=deep))
    if network and trust is not None:
        findings += asyncio.run(check_network(settings, trust, clock))
        findings += asyncio.run(check_peers(settings, peers))
    return findings
