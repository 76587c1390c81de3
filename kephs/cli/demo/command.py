"""The command itself: make the provider, run it, tell the story, print what happened."""

import asyncio
import json
import signal
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from config.settings import Settings, SettingsError
from evidence.records import NAMES, EvidenceRecord
from kephs.cli.demo.clients import DemoError
from kephs.cli.demo.people import DemoAccount, prepare_people, prepare_provider, write_private
from kephs.cli.demo.servers import imap_of, running, submission_of
from kephs.cli.demo.story import Outcome, Stage, tell
from kephs.cli.instance import InstanceError, Ports
from kephs.system import SystemClock

DOMAIN = "hs91.kep.tr"
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
def command(directory: Path, *, once: bool, as_json: bool, port_base: int, attach: Path | None) -> None:
    """Send one signed notice, read it, and prove every step offline, with TEST certificates."""
    try:
        passed = asyncio.run(
            _demo(directory.resolve(), once=once, as_json=as_json, port_base=port_base, attach=attach)
        )
    except (DemoError, InstanceError, SettingsError, TimeoutError, OSError) as error:
        raise click.ClickException(f"the demo failed: {error or type(error).__name__}") from None
    if not passed:
        raise SystemExit(1)


async def _demo(directory: Path, *, once: bool, as_json: bool, port_base: int, attach: Path | None) -> bool:
    now = SystemClock().now()
    directory.mkdir(parents=True, exist_ok=True)
    ports = Ports(port_base, port_base + 1, port_base + 2) if port_base else Ports()
    settings, home = prepare_provider(directory, DOMAIN, now, ports)
    people = await prepare_people(directory, DOMAIN, settings)
    trust = _publish_trust(directory, home)
    (directory / "demo.json").unlink(missing_ok=True)  # written again once there is something to describe
    say = (lambda _what, _detail: None) if as_json else _say
    async with running(home, submission_of(settings, home), imap_of(settings, home)):
        sender, recipient = people[0], people[1]
        stage = Stage(settings, home, trust)
        outcome = await tell(
            stage, sender, recipient, directory / "out" / "1", at=now, attach=attach, say=say
        )
        _write_description(directory, settings, home, people, [outcome])
        if as_json:
            print(json.dumps(_summary(directory, [outcome]), ensure_ascii=False, indent=1))
        else:
            _print_timeline(outcome)
        if not once:
            await _stay_up(directory, as_json=as_json)
    return outcome.passed


def _publish_trust(directory: Path, home: Path) -> Path:
    """Copy the roots a verifier needs, and nothing else, to ``DIR/trust``."""
    trust = directory / "trust"
    trust.mkdir(exist_ok=True)
    for root in (home / "trust").glob("*.pem"):
        (trust / root.name).write_bytes(root.read_bytes())
    return trust


def _write_description(
    directory: Path, settings: Settings, home: Path, people: list[DemoAccount], outcomes: list[Outcome]
) -> None:
    network = settings.network
    description = {
        "providers": [{
            "domain": settings.provider.domain,
            "dir": str(home),
            "submission": {"host": network.host, "port": network.submission_port},
            "inbound": None,
            "imap": {"host": network.host, "port": network.imap_port},
            "web": None,
            "soap": None,
            "ca_file": str(home / "tls-ca.pem"),
        }],
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
            "sender": outcome.sender.address,
            "recipients": [outcome.recipient.address],
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
