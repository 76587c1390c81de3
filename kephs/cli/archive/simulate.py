"""``kephs archive simulate``: twenty years of an archive on a moving clock."""

import asyncio
from typing import Final

import click

from kephs.cli.output import FAILED, OK, guarded, json_option, print_json, quiet

EVIDENCES: Final = 2000


@click.command("simulate")
@click.option("--years", type=click.IntRange(1, 20), default=20, show_default=True, help="How many pass.")
@click.option(
    "--evidences", type=click.IntRange(12, 1_000_000), default=EVIDENCES, show_default=True,
    help="How many are entered in all; each is really signed, stamped, sealed.",
)  # fmt: skip
@click.option(
    "--samples", type=click.IntRange(1), default=200, show_default=True,
    help="How many are verified offline at the end.",
)  # fmt: skip
@json_option
@guarded
def command(years: int, evidences: int, samples: int, *, as_json: bool) -> None:
    """Let an archive live for YEARS and verify it at the end (arşivin yirmi yılı, saat ileri alınarak).

    TEST authorities expire and one is revoked, SHA-256 is retired in year 12, the object store is lost in
    year 15, an object rots: proofs are renewed as `kephs serve` renews them. Works in a temporary folder,
    asks no network and no instance. Exit status: 0 everything sampled holds and every broken twin fails,
    1 otherwise.
    """
    from kephs.simulation.report import simulate

    with quiet():
        report = asyncio.run(simulate(years, evidences, samples=samples, bundles=min(20, samples)))
    if as_json:
        print_json(report.to_json())
    else:
        for line in report.lines():
            click.echo(line)
    raise click.exceptions.Exit(OK if report.passed else FAILED)
