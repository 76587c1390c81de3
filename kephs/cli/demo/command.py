"""The command itself: make the provider, run it, tell the story, print what happened."""

import asyncio
import json
import signal
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from config.settings import SettingsError
from evidence.model.records import NAMES, EvidenceRecord
from kephs.cli.demo.clients import DemoError
from kephs.cli.demo.keeping import archive, dossier
from kephs.cli.demo.people import (
    DemoAccount,
    Stage,
    Wish,
    prepare_people,
    prepare_provider,
    write_private,
)
from kephs.cli.demo.register import pin_of, publish_register, register_operator
from kephs.cli.demo.servers import running
from kephs.cli.demo.story import Outcome, Scene, tell
from kephs.cli.demo.witnesses import introduced
from kephs.cli.instance import InstanceError, Ports
from kephs.ledger.keys import open_ledger_key
from kephs.system import SystemClock
from storage.errors import SchemaError

DOMAINS = ("hs91.kep.tr", "hs92.kep.tr")
ISTANBUL = ZoneInfo("Europe/Istanbul")


@click.command("demo")
@click.option("--once", is_flag=True, help="exit when everything is shown; not 0 if anything failed")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var/demo"),
    show_default=True,
    help="where the demo lives; an existing one is used again",
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of the story")
@click.option("--port-base", type=int, default=0, help="first of the ports to use; default: free ones")
@click.option(
    "--attach", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="a file to send along"
)
@click.option(
    "--database-url", "database_urls", multiple=True, metavar="URL",
    help="twice, for hs91 and hs92: run on these empty PostgreSQL databases instead of SQLite",
)  # fmt: skip
def command(
    directory: Path, *, once: bool, as_json: bool, port_base: int, attach: Path | None,
    database_urls: tuple[str, ...],
) -> None:  # fmt: skip
    """Send signed notices inside one provider and from one to another, and prove every step offline."""
    if len(database_urls) not in (0, len(DOMAINS)):
        raise click.UsageError("give --database-url twice: for hs91 and for hs92")
    options = _Options(directory.resolve(), once, as_json, port_base, attach, database_urls)
    try:
        passed = asyncio.run(_demo(options))
    except (DemoError, InstanceError, SettingsError, SchemaError, TimeoutError, OSError) as error:
        raise click.ClickException(f"the demo failed: {error or type(error).__name__}") from None
    if not passed:
        raise SystemExit(1)


@dataclass(frozen=True, slots=True)
class _Options:
    """What the command line asks."""

    directory: Path
    once: bool
    as_json: bool
    port_base: int
    attach: Path | None
    database_urls: tuple[str, ...]


async def _demo(options: _Options) -> bool:
    now, directory = SystemClock().now(), options.directory
    directory.mkdir(parents=True, exist_ok=True)
    stages = _prepare(options, now)
    pki = stages[0].settings.test_pki.directory
    people = [await prepare_people(directory, stage, pki) for stage in stages]
    trust = _publish_trust(directory, stages[0].home)
    (directory / "demo.json").unlink(missing_ok=True)  # written again once there is something to describe
    say = (lambda _what, _detail: None) if options.as_json else _say
    here, there = stages
    async with running(here), running(there):  # hs91 first: it runs the TEST PKI of both
        outcomes = []
        for n, scene in enumerate((
            Scene(people[0][0], people[0][1], here, here, trust),
            Scene(people[0][0], people[1][0], here, there, trust),
        ), 1):  # fmt: skip
            say(f"\n{n}. {scene.sender.address} →", scene.recipient.address)
            outcomes.append(
                await tell(scene, directory / "out" / str(n), at=now, attach=options.attach, say=say)
            )
        for outcome in outcomes:
            await dossier(outcome, say)
        say("\nYirmi yıl / twenty years", "")
        archives = [await archive(stage, say) for stage in stages]
        _write_description(directory, stages, [one for group in people for one in group], outcomes)
        if options.as_json:
            summary = _summary(directory, outcomes) | {"archives": archives}
            print(json.dumps(summary, ensure_ascii=False, indent=1))
        else:
            for outcome in outcomes:
                _print_timeline(outcome)
        if not options.once:
            await _stay_up(directory, as_json=options.as_json)
    return all(outcome.passed for outcome in outcomes)


def _prepare(options: _Options, now: datetime) -> list[Stage]:
    """Make both providers, where they are not there, and the register that lets them know each other."""
    register = options.directory / "register"
    operator = register_operator(register, now)
    bases = [options.port_base + 10 * n if options.port_base else 0 for n in range(len(DOMAINS))]
    urls = options.database_urls or ("",) * len(DOMAINS)
    stages: list[Stage] = []
    for domain, base, url in zip(DOMAINS, bases, urls, strict=True):
        ports = Ports(base, base + 1, base + 2, base + 3, base + 4) if base else Ports()
        pki_of = stages[0].home if stages else None
        wish = Wish(domain, ports, pki_of, pin_of(operator), url)
        stages.append(prepare_provider(options.directory, wish, now))
    publish_register(register, operator, stages, now)
    return introduced(stages)


def _publish_trust(directory: Path, home: Path) -> Path:
    """Copy the roots a verifier needs, and nothing else, to ``DIR/trust``."""
    trust = directory / "trust"
    trust.mkdir(exist_ok=True)
    for root in (home / "trust").glob("*.pem"):
        (trust / root.name).write_bytes(root.read_bytes())
    return trust


def _provider(stage: Stage) -> dict[str, object]:
    network = stage.settings.network
    return {
        "domain": stage.settings.provider.domain,
        "dir": str(stage.home),
        "submission": {"host": network.host, "port": network.submission_port},
        "inbound": {"host": network.host, "port": network.inbound_port},
        "imap": {"host": network.host, "port": network.imap_port},
        "ledger": {
            "url": f"http://{stage.settings.ledger.host}:{stage.settings.ledger.port}",
            "key": open_ledger_key(stage.settings).verifier.vkey,
        },
        "web": None,
        "soap": None,
        "ca_file": str(stage.home / "tls-ca.pem"),
    }


def _write_description(
    directory: Path, stages: list[Stage], people: list[DemoAccount], outcomes: list[Outcome]
) -> None:
    description = {
        "providers": [_provider(stage) for stage in stages],
        "accounts": [asdict(account) for account in people],
        "messages": _messages(outcomes),
    }  # fmt: skip
    partial = directory / "demo.json.part"
    write_private(partial, json.dumps(description, ensure_ascii=False, indent=1))
    partial.replace(directory / "demo.json")


def _messages(outcomes: list[Outcome]) -> list[dict[str, object]]:
    return [
        {
            "n": n,
            "id": outcome.message_id,
            "sender": outcome.scene.sender.address,
            "recipients": [outcome.scene.recipient.address],
        }
        for n, outcome in enumerate(outcomes, 1)
    ]


def _summary(directory: Path, outcomes: list[Outcome]) -> dict[str, object]:
    return {
        "passed": all(outcome.passed for outcome in outcomes),
        "dir": str(directory),
        "messages": [
            described | {
                "evidence": [
                    {"code": r.kind.value, "event": NAMES[r.kind].event, "id": r.evidence_id,
                     "time": r.event_time.isoformat()} for r in outcome.records
                ],
                "verified": outcome.verified,
                "seconds": outcome.seconds,
            }
            for described, outcome in zip(_messages(outcomes), outcomes, strict=True)
        ],
    }  # fmt: skip


def _say(what: str, detail: str) -> None:
    print(f"  {what:<34} {detail}")


def _print_timeline(outcome: Outcome) -> None:
    print(f"\nDelil zaman çizelgesi / evidence timeline: {outcome.message_id}")
    for record in outcome.records:
        print(f"  {_local(record.event_time)}  {record.kind.value}  {_words(record)}")
        print(f"      {record.evidence_id}")
    print("\nÇevrimdışı doğrulama / verified offline, trusting only the root in trust/")
    for name, passed in outcome.verified.items():
        print(f"  {'TOTAL-PASSED' if passed else 'NOT PASSED  '}  {outcome.folder.name}/{name}")
    print(f"\nSüre / seconds: {', '.join(f'{name} {value:.2f}' for name, value in outcome.seconds.items())}")


def _words(record: EvidenceRecord) -> str:
    names = NAMES[record.kind]
    whom = f" — {record.recipients[record.refers_to - 1].address}" if record.refers_to else ""
    return f"{names.turkish} / {names.english}{whom}"


def _local(at: datetime) -> str:
    return at.astimezone(ISTANBUL).strftime("%d.%m.%Y %H:%M:%S")


async def _stay_up(directory: Path, *, as_json: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if not as_json:
        print(
            f"\nÇalışıyor / running: ports, accounts and passwords in {directory}/demo.json; Ctrl-C stops it."
        )
    await stop.wait()
