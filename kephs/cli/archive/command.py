"""``kephs archive``: the archive of twenty years: status, seal, verify, rebuild, move, renew."""

import importlib
from collections.abc import Coroutine, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from config import settings as config_settings
from kephs.cli.output import (
    FAILED,
    OK,
    ExitError,
    guarded,
    instance_argument,
    json_option,
    print_facts,
    print_json,
    progress_to_terminal,
    run,
)

if TYPE_CHECKING:  # the archive's weight is loaded by the commands that need it
    from kephs.usecases.archive.fixity import ArchiveStatus, FixityResult
    from kephs.usecases.archive.rebuild import RebuildResult

T = TypeVar("T")

_MEGA: Final = 1_000_000
_ELSEWHERE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "evidence": "kephs.cli.archive.evidence:command",
        "simulate": "kephs.cli.archive.simulate:command",
    }
)


class _Group(click.Group):
    """Loads commands of other modules only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names."""
        return sorted({*super().list_commands(ctx), *_ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None."""
        place = _ELSEWHERE.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, name = place.partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found


@click.group(cls=_Group)
def command() -> None:
    """The archive of twenty years (yirmi yıllık arşiv): status, seal, verify, rebuild, move, renew."""


@command.command()
@instance_argument
@json_option
@guarded
def status(directory: Path, as_json: bool) -> None:  # noqa: FBT001  # click's way
    """Print the retention ledger: what lies in the archive, what waits, what is due, renewed, expiring.

    Exit status: 0 nobody needs to do anything, 1 an object is damaged or evidence waits for too long.
    """
    from kephs.cli.workbench import open_workbench
    from kephs.usecases.archive.fixity import read_status

    async def look() -> tuple["ArchiveStatus", datetime]:
        async with open_workbench(config_settings.load(directory)) as bench:
            parts = await bench.archive()
            now = parts.clock.now()
            return await parts.store.read(lambda tx: read_status(tx, now, parts.rules.alarm_after)), now

    found, now = _run(look())
    if as_json:
        print_json(_status_json(found, now))
    else:
        print_facts(_status_facts(found, now))
        for row in found.damaged:
            click.echo(f"DAMAGED / HASARLI  {row.name}")
    raise click.exceptions.Exit(OK if found.healthy else FAILED)


@command.command()
@instance_argument
@json_option
@guarded
def seal(directory: Path, as_json: bool) -> None:  # noqa: FBT001
    """Seal everything that waits into objects now; the server does so by itself as it goes."""
    from evidence.ports import SignerUnavailableError, TimestampUnavailableError
    from kephs.cli.workbench import open_workbench

    async def work() -> tuple[list[Any], str]:
        settings = config_settings.load(directory)
        async with open_workbench(settings) as bench:
            archive = await bench.sealing()
            where = settings.archive.folder if settings.archive.kind == "files" else settings.archive.bucket
            return await archive.seal.seal_all(), str(where)

    try:
        made, where = _run(work())
    except (TimestampUnavailableError, SignerUnavailableError) as error:
        raise ExitError(
            "sealing-unavailable", f"nothing can be sealed now: {error}", "try again later"
        ) from None
    facts = [
        {"name": one.name, "first": one.first, "last": one.last, "size": one.size, "sha256": one.sha256.hex()}
        for one in made
    ]
    if as_json:
        print_json({"where": where, "objects": facts})
        return
    for one in made:
        click.echo(f"{one.name}  {one.first}-{one.last}  {one.size:,} B")
    click.echo(f"{where}: {len(made)} nesne mühürlendi / objects sealed")


@command.command()
@instance_argument
@click.option(
    "--all", "everything", is_flag=True, help="Not only what is due: everything, but for a day's work."
)
@click.option("--again", is_flag=True, help="With --all: also what was compared within a day.")
@click.option("--deep", is_flag=True, help="Also decrypt and read each object and judge its seal.")
@click.option("--mbps", type=click.FloatRange(min=0, min_open=True), help="Pace, in megabytes a second.")
@json_option
@guarded
def verify(
    directory: Path, *, everything: bool, again: bool, deep: bool, mbps: float | None, as_json: bool
) -> None:
    """Compare objects with their digests (fixity, değişmezlik denetimi). Interrupted, it goes on next time.

    Exit status: 0 all that was looked at is sound, 1 an object is damaged, 2 the store gave some not now.
    """
    from kephs.cli.workbench import open_workbench

    show = progress_to_terminal()

    def progress(objects: int, octets: int, damaged: int) -> None:
        if show:
            text = f"\r\033[K{objects} objects, {octets / _MEGA:,.0f} MB, {damaged} damaged"
            click.echo(text, nl=False, err=True)

    async def work() -> "FixityResult":
        async with open_workbench(config_settings.load(directory)) as bench:
            parts = await bench.archive()
            pace = None if mbps is None else mbps * _MEGA
            return await parts.check().run(
                everything=everything, again=again, deep=deep, octets_per_second=pace, progress=progress
            )

    found = _run(work())
    if show:
        click.echo("\r\033[K", nl=False, err=True)
    if as_json:
        print_json(
            {
                "objects": found.objects, "octets": found.octets, "waiting": list(found.waiting),
                "damaged": [{"name": name, "cause": cause} for name, cause in found.damaged],
            }
        )  # fmt: skip
    else:
        for name, cause in found.damaged:
            click.echo(f"DAMAGED / HASARLI  {name}: {cause}")
            click.echo("      -> bring a copy back under the same name: docs/archive.md")
        for name in found.waiting:
            click.echo(f"not now / şimdi okunamadı  {name}")
        click.echo(f"{found.objects} nesne denetlendi / objects checked, {found.octets:,} B")
        if not found.objects and not found.waiting:
            left = "--all --again: the others too" if everything else "--all: also what is not due"
            click.echo(f"bugün denetlenecek bir şey yok / nothing to compare today; {left}")
    raise click.exceptions.Exit(FAILED if found.damaged else 2 if found.waiting else OK)


@command.command()
@instance_argument
@json_option
@guarded
def rebuild(directory: Path, as_json: bool) -> None:  # noqa: FBT001
    """Restore evidence, ledger, tree and process record of DIR from the archive's objects alone.

    The server must be stopped; the database must have its schema (kephs migrate). Accounts, messages,
    mailboxes and content lie in no object: they come back from a backup. Run it again at any time.

    Exit status: 0 everything that the objects hold is in the index, 1 something is missing or contradicts it.
    """
    from kephs.cli.archive.work import rebuilding

    show = progress_to_terminal()

    def progress(result: "RebuildResult") -> None:
        if show:
            text = f"\r\033[K{result.objects} objects, {result.evidence} evidence restored"
            click.echo(text, nl=False, err=True)

    async def work() -> "RebuildResult":
        async with rebuilding(config_settings.load(directory), directory) as index:
            return await index.run(progress)

    found = _run(work())
    if show:
        click.echo("\r\033[K", nl=False, err=True)
    if as_json:
        print_json(_rebuild_json(found))
    else:
        _print_rebuild(found)
    raise click.exceptions.Exit(OK if found.whole else FAILED)


@command.command()
@instance_argument
@click.option(
    "--now", "at_once", is_flag=True, help="Make a round whether one is due or not: it costs a token."
)
@json_option
@guarded
def renew(directory: Path, at_once: bool, as_json: bool) -> None:  # noqa: FBT001
    """Renew the proofs of all that is archived, where that is due (kanıt yenileme); the server does so too.

    One time stamp covers all. Old revocation data is collected first.
    """
    from evidence.ports import TimestampUnavailableError
    from kephs.cli.workbench import open_workbench
    from kephs.ports.preservation import RenewalReason
    from kephs.usecases.archive.preserve import MaterialMissingError

    async def work() -> Any:
        async with open_workbench(config_settings.load(directory)) as bench:
            preserve = await bench.preserving()
            return await (preserve.renew(RenewalReason.YEARLY, "sha256") if at_once else preserve.run())

    try:
        made = _run(work())
    except (TimestampUnavailableError, MaterialMissingError) as error:
        raise ExitError(
            "renewal-later", f"no round can be made now: {error}", "the server tries again by itself"
        ) from None
    facts = None if made is None else {
        "round": made.number, "at": made.at.isoformat(), "reason": made.reason.value, "hash": made.hash_name,
        "leaves": made.leaves, "last_entry": made.last, "object": made.head.name,
    }  # fmt: skip
    if as_json:
        print_json({"round": facts})
    elif facts is None:
        click.echo("hiçbir yenileme gerekmiyor / no round is due")
    else:
        print_facts((name, str(value)) for name, value in facts.items())


@command.command()
@instance_argument
@click.argument("target", type=click.Choice(["files", "s3"]), required=False)
@json_option
@guarded
def move(directory: Path, target: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Carry every object to the store that archive.kind names (or TARGET); goes on where it was interrupted.

    Each is read back from its new place before its row names it. The old copies stay: stores are write-once.
    """
    from kephs.cli.workbench import open_workbench
    from kephs.usecases.archive.move import MoveResult

    show = progress_to_terminal()

    def progress(objects: int, octets: int) -> None:
        if show:
            click.echo(f"\r\033[K{objects} objects, {octets / _MEGA:,.0f} MB", nl=False, err=True)

    async def work() -> tuple[MoveResult, str]:
        async with open_workbench(config_settings.load(directory)) as bench:
            parts = await bench.archive()
            to = target or parts.rules.place
            from kephs.bootstrap.objects import prove_objects

            await prove_objects(parts.reader.place(to))
            return await parts.move().run(to, progress=progress), to

    found, to = _run(work())
    if show:
        click.echo("\r\033[K", nl=False, err=True)
    if as_json:
        damaged = [{"name": name, "cause": cause} for name, cause in found.damaged]
        print_json({"to": to, "objects": found.objects, "octets": found.octets, "damaged": damaged})
    else:
        for name, cause in found.damaged:
            click.echo(f"DAMAGED / HASARLI  {name}: {cause}")
        click.echo(f"{to}: {found.objects} nesne taşındı / objects carried, {found.octets:,} B")
    raise click.exceptions.Exit(FAILED if found.damaged else OK)


# --------------------------------------------------------------------------- shared


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; what a store did becomes its end."""
    from kephs.cli.archive.work import told

    try:
        return run(work)
    except Exception as error:
        ending = told(error)
        if ending is None:
            raise
        raise ending from None


def _status_facts(found: "ArchiveStatus", now: datetime) -> list[tuple[str, str]]:
    totals = found.totals
    facts = [
        ("objects / nesne", f"{totals.objects:,}, {totals.octets:,} B, {totals.moved} carried / taşınmış"),
        ("archived / arşivlenen", f"{found.archived_entry:,} of {found.newest_entry:,} ledger entries"),
    ]
    for one in found.backlogs:
        seconds = int(one.age(now).total_seconds())
        facts.append((f"waiting / bekleyen {one.kind.value}", f"{one.entries:,}, oldest {seconds} s"))
    newest = found.rounds[-1] if found.rounds else None
    renewed = f"{found.renewed_entry:,} entries in {len(found.rounds)} rounds"
    facts += [
        ("alarm", "YES / EVET" if found.alarm else "no / yok"),
        (
            "checked / denetlenen",
            f"{totals.objects - totals.never_checked:,}, oldest {_day(totals.oldest_check)}",
        ),
        ("check due / denetimi gelen", f"{totals.check_overdue:,}"),
        ("damaged / hasarlı", f"{totals.damaged:,}"),
        (
            "renewed / yenilenen",
            renewed + ("" if newest is None else f", last {_day(newest.at)} {newest.hash_name}"),
        ),
        ("expiring within a year / süresi dolan", f"{totals.expiring:,}"),
        ("kept until at least / en erken bitiş", _day(totals.earliest_end)),
    ]
    return facts


def _status_json(found: "ArchiveStatus", now: datetime) -> dict[str, object]:
    totals = found.totals
    return {
        "healthy": found.healthy, "alarm": found.alarm, "objects": totals.objects, "octets": totals.octets,
        "archived_entry": found.archived_entry, "newest_entry": found.newest_entry,
        "backlog": {
            one.kind.value: {"entries": one.entries, "oldest_seconds": int(one.age(now).total_seconds())}
            for one in found.backlogs
        },
        "moved": totals.moved, "never_checked": totals.never_checked, "check_due": totals.check_overdue,
        "damaged": [row.name for row in found.damaged], "renewed_entry": found.renewed_entry,
        "rounds": [
            {"round": one.number, "at": one.at.isoformat(), "reason": one.reason.value, "hash": one.hash_name,
             "leaves": one.leaves}
            for one in found.rounds
        ],
        "expiring": totals.expiring, "earliest_end": _iso(totals.earliest_end),
        "oldest_check": _iso(totals.oldest_check),
    }  # fmt: skip


def _rebuild_json(found: "RebuildResult") -> dict[str, object]:
    return {
        "whole": found.whole, "objects": found.objects, "evidence": found.evidence, "known": found.known,
        "ledger_entries": found.entries, "last_entry": found.last_entry, "process_records": found.records,
        "contents": found.contents, "rounds": found.rounds, "checkpoints": found.checkpoints,
        "tiles": found.tiles,
        "signed_beyond": found.signed_beyond, "without_message": found.homeless,
        "damaged": [{"name": name, "cause": cause} for name, cause in found.damaged],
        "contradictions": found.contradictions,
        "gaps": [{"first": first, "last": last} for first, last in found.gaps],
    }  # fmt: skip


def _print_rebuild(found: "RebuildResult") -> None:
    click.echo(f"{found.objects} nesne okundu / objects read, up to ledger entry {found.last_entry}")
    click.echo(
        f"geri konan / restored: {found.evidence} evidence, {found.entries} ledger entries, "
        f"{found.checkpoints} checkpoints, {found.tiles} tiles, {found.records} process records, "
        f"{found.contents} contents, {found.rounds} rounds of renewal"
    )
    click.echo(f"zaten vardı / was there: {found.known} evidence")
    click.echo("not in any object / hiçbir nesnede yok: accounts, messages, mailboxes, content")
    for name in found.homeless:
        click.echo(
            f"NOT ENTERED  evidence {name}: its message is not known here; restore the messages, run again; "
            "until then: kephs archive evidence DIR ID FOLDER"
        )
    for name, cause in found.damaged:
        click.echo(f"DAMAGED      {name}: {cause}")
    for text in found.contradictions:
        click.echo(f"CONTRADICTED {text}")
    for first, last in found.gaps:
        click.echo(f"MISSING      ledger entries {first} to {last}: no sound object holds them")
    if found.signed_beyond:
        click.echo(
            f"WARNING      a checkpoint of {found.signed_beyond} entries was signed: later entries than the"
            " archive's were published; publish nothing before they are found"
        )


def _day(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%d}"


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
