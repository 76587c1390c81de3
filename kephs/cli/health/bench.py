"""`kephs bench`: benchmarks, each beside a baseline measured in the same minutes."""

import asyncio

import click

from kephs.bench.catalogue import BENCHES
from kephs.bench.figures import BenchError, Figure, machine
from kephs.bench.site import open_site
from kephs.cli.output import ExitError, guarded
from kephs.system import SystemClock

SECONDS = 15.0


@click.command("bench")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="JSON lines only, nothing for people.")
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=SECONDS, show_default=True,
    help="how long each benchmark measures; making instances and starting servers comes on top",
)  # fmt: skip
@guarded
def command(names: tuple[str, ...], *, as_json: bool, seconds: float) -> None:
    """Measure NAMEs (all without): one JSON line each on standard output, figure and baseline.

    Names: submit life inbound fetch first-read idle big-in big-out; seal seal-memory pkcs11 verify ers nes
    proof bundle. The mail servers are real children in a temporary folder; the peers are Debian's Postfix
    and Dovecot where installed (they need root).
    """
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        raise click.UsageError(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    if not as_json:
        click.echo(machine(), err=True)
    try:
        for name in names or BENCHES:
            asyncio.run(_run(name, seconds, as_json=as_json))
    except BenchError as error:
        raise ExitError(
            "bench-failed", str(error), "try again; the servers need free ports and disk"
        ) from None
    except KeyboardInterrupt:
        raise click.Abort from None


async def _run(name: str, seconds: float, *, as_json: bool) -> None:
    with open_site(seconds, SystemClock().now) as site:
        for figure in await BENCHES[name](site):
            click.echo(figure.line())
            if not as_json:
                click.echo(_for_people(figure), err=True)


def _for_people(figure: Figure) -> str:
    ours = f"  {figure.name}: {figure.value:,.0f} {figure.unit}"
    if figure.ratio is None:
        return f"{ours} (no baseline: {figure.baseline_name})"
    return f"{ours}, {figure.ratio:.2f} x {figure.baseline_name} ({figure.baseline:,.0f})"
