"""``kephs audit``: the process record: who did what when, and whether all of it is still there.

`check` needs no instance: it is what an outsider runs who was given an export.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

import click

from config import settings as config_settings
from evidence.ledger.notes import NoteVerifier
from evidence.verify.files import exit_code
from kephs.cli.output import (
    FAILED,
    OK,
    ExitError,
    Usage64Command,
    guarded,
    instance_argument,
    json_option,
    print_json,
    run,
)
from kephs.cli.trust.command import opened
from kephs.cli.trust.text import shown
from kephs.domain.audit import GENESIS, AuditEntry
from kephs.domain.audit_anchor import Anchored, RecordCheck
from kephs.domain.audit_check import Expected
from kephs.ledger.keys import open_ledger_key
from kephs.ports import Tx
from kephs.system import SystemClock
from kephs.usecases.governance.anchor_audit import LATE, AnchorAudit, published_anchors, read_anchoring
from storage.files.survey import UnreadableRow
from storage.fsck.scope import CheckedTx

_MOST: Final = 10_000


@click.group()
def command() -> None:
    """The process record (işlem kayıtları, KEP-RT-01): list, verify, anchor, export, check.

    Nothing changes or deletes it.
    """


@command.command("list")
@instance_argument
@click.option("--after", default=0, type=click.IntRange(0), help="Entries behind this number.")
@click.option(
    "--limit", default=200, show_default=True, type=click.IntRange(1, _MOST), help="At most so many."
)
@click.option("--action", default="", metavar="PREFIX", help="Only actions that begin so, such as trust.")
@json_option
@guarded
def list_(directory: Path, after: int, limit: int, action: str, as_json: bool) -> None:  # noqa: FBT001  # click's way
    """List entries, oldest first."""
    entries = run(_page(directory, after, limit))
    found = [entry for entry in entries if entry.action.startswith(action)]
    if as_json:
        print_json({"entries": [_plain(entry) for entry in found]})
        return
    for entry in found:
        subject, detail = shown(entry.subject), shown(entry.detail)
        click.echo(f"{entry.number:>6}  {entry.at:%Y-%m-%dT%H:%M:%SZ}  {entry.action}  {shown(entry.actor)}")
        click.echo(f"        {subject}{': ' if detail else ''}{detail}")
    if len(entries) == limit:
        click.echo(f"more: --after {entries[-1].number}")


@command.command()
@instance_argument
@click.option(
    "--head", metavar="NUMBER:DIGEST", help="An entry noted earlier: it must still be there, as it was."
)
@click.option(
    "--archive", is_flag=True, help="Read the archive's copies of the entries and compare them too."
)
@json_option
@guarded
def verify(directory: Path, head: str | None, archive: bool, as_json: bool) -> None:  # noqa: FBT001
    """Follow the whole chain, and compare it with its anchors in the ledger and with what was published.

    What lies in the archive must be here too. Behind the last anchor and the last object the end could be cut
    off: kephs audit anchor closes that gap at once; or note the head elsewhere, --head shows that too.
    Exit status: 0 it holds, 1 it does not.
    """
    wanted = None if head is None else _read_head(head)
    found = run(_verify(directory, wanted))
    if archive and found.problem is None:
        found = replace(found, problem=_archived(directory))
    if as_json:
        print_json(found.plain())
    elif found.problem is None:
        click.echo(f"{found.count} entries, the chain holds / zincir sağlam; head {found.head or '-'}")
        for line in found.anchoring(SystemClock().now()):
            click.echo(line)
    else:
        click.echo(f"BROKEN / BOZUK: {shown(found.problem)}")
        click.echo("  -> keep a copy, then report it: this is a defect or tampering")
    raise click.exceptions.Exit(OK if found.problem is None else FAILED)


@command.command()
@instance_argument
@json_option
@guarded
def anchor(directory: Path, as_json: bool) -> None:  # noqa: FBT001
    """Enter the newest entry into the public ledger now. The server does so daily by itself."""
    entered = run(_anchor(directory))
    if as_json:
        print_json({"anchored": None if entered is None else entered.number})
    elif entered is None:
        click.echo("nothing new to anchor / defterde zaten kayıtlı")
    else:
        click.echo(
            f"entry {entered.number} of the record is entry {entered.ledger_number} of the ledger / "
            f"kaydın {entered.number}. satırı defterin {entered.ledger_number}. kaydı"
        )


@command.command()
@instance_argument
@click.argument("folder", metavar="OUT_FOLDER", type=click.Path(path_type=Path, file_okay=False))
@json_option
@guarded
def export(directory: Path, folder: Path, as_json: bool) -> None:  # noqa: FBT001
    """Write the whole record in clear, its anchors and their proofs, for an authority that checks it.

    The export is noted in the record, and that entry anchored, first: the export ends with it. It names
    persons: hand it over as such data are handed over. kephs audit check FOLDER needs no instance.
    Exit status: 0 written, 1 written, but anchored entries are gone: the record was cut.
    """
    from kephs.cli.beside import shell_user
    from kephs.cli.record.audit_files import export as write  # the ledger's weight
    from kephs.cli.record.ledger_work import open_ledger

    async def inside() -> tuple[int, int, list[int]]:
        async with open_ledger(config_settings.load(directory)) as ledger:
            return await write(ledger.store, ledger.prove, folder, SystemClock(), shell_user())

    entries, anchors, gone = run(inside())
    if as_json:
        print_json({"folder": str(folder), "entries": entries, "anchors": anchors, "gone": gone})
    else:
        click.echo(f"{folder}: {entries} entries / kayıt, {anchors} anchors / çapa")
        if gone:
            click.echo(f"BROKEN / BOZUK: anchored entries are gone: {', '.join(map(str, gone[:10]))}")
            click.echo("  -> keep a copy of the database, then restore it from a backup and report it")
    raise click.exceptions.Exit(FAILED if gone else OK)


@command.command(cls=Usage64Command)
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--log-key", required=True, metavar="VKEY", help="The ledger's public key, from elsewhere.")
@click.option("--old", type=click.Path(path_type=Path, dir_okay=False), help="A checkpoint you kept.")
@click.option("--old-at", metavar="TIME", help="When you got it (ISO 8601 with zone).")
@click.option(
    "--head", metavar="NUMBER:DIGEST", help="An entry of an earlier export: it must still be there."
)
@click.option("--asked", metavar="TIME", help="When you asked for the record: it may not end before.")
@json_option
@guarded
def check(
    folder: Path, log_key: str, old: Path | None, old_at: str | None, head: str | None, asked: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Check an exported record as a stranger: chain, anchors in the ledger, times, that its end is there.

    Without --asked a record cut back to an older export looks like that export: compare the time printed
    for its end with the time you asked.
    That its checkpoint is of the ledger that all see: kephs ledger audit --old YOURS --new FOLDER/checkpoint.
    Exit status: 0 everything holds, 1 the provider contradicts itself, 2 undecided, 64 wrong usage.
    """
    from kephs.cli.record.audit_files import check as look  # the verifier's weight
    from kephs.cli.record.ledger import log_key as read_key
    from kephs.cli.record.ledger import moment, print_report

    wanted = Expected(None if head is None else _read_head(head), moment("--asked", asked))
    report = look(
        folder, read_key("--log-key", log_key), old, moment("--old-at", old_at), SystemClock().now(), wanted
    )
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report)
    raise click.exceptions.Exit(exit_code([report]))


@dataclass(frozen=True, slots=True)
class _Found:
    """What became of following the record."""

    count: int
    head: str
    problem: str | None
    anchors: int = 0
    published: int = 0  # anchors under a signed checkpoint
    anchored: int = 0  # the number of the newest anchored entry
    open_since: datetime | None = None  # of the oldest entry behind the last anchor

    def plain(self) -> dict[str, Any]:
        """Return it for programs."""
        since = self.open_since
        return {
            "holds": self.problem is None,
            "entries": self.count,
            "head": self.head,
            "problem": self.problem,
            "anchors": self.anchors,
            "anchors_published": self.published,
            "anchored_to": self.anchored,
            "open_since": None if since is None else f"{since:%Y-%m-%dT%H:%M:%SZ}",
        }

    def anchoring(self, now: datetime) -> Iterator[str]:
        """Say for people how far the ledger holds the record."""
        behind = self.count - self.anchored
        yield (
            f"{self.anchors} anchors in the ledger / defterde çapa, {self.published} published; "
            f"{behind} entries behind the last / son çapadan sonra {behind} kayıt"
        )
        if self.open_since is not None and now - self.open_since > LATE:
            yield "  ! not anchored for days: does the server's worker run? kephs audit anchor DIR"


async def _page(directory: Path, after: int, limit: int) -> list[AuditEntry]:
    async with opened(directory) as (_, store):
        return await store.read(lambda tx: list(tx.audit.page(after, limit)))


async def _anchor(directory: Path) -> Anchored | None:
    async with opened(directory) as (_, store):
        entered = await AnchorAudit(store, SystemClock()).anchor()
        return None if entered is None else await store.read(lambda tx: tx.audit.last_anchor())


async def _verify(directory: Path, wanted: tuple[int, bytes] | None) -> _Found:
    async with opened(directory) as (settings, store):
        log = open_ledger_key(settings).verifier
        return await store.read(lambda tx: _follow(tx, wanted, log))


def _archived(directory: Path) -> str | None:
    from kephs.cli.archive.work import told  # the archive's weight
    from kephs.cli.workbench import open_workbench
    from kephs.usecases.archive.compare_record import archived_problem

    async def inside() -> str | None:
        async with open_workbench(config_settings.load(directory)) as bench:
            parts = await bench.archive()
            return await archived_problem(parts.store, parts.reader)

    try:
        return run(inside())
    except Exception as error:
        ending = told(error)
        if ending is None:
            raise
        raise ending from None


def _follow(tx: Tx, wanted: tuple[int, bytes] | None, log: NoteVerifier) -> _Found:
    anchors = _all_anchors(tx)
    check = RecordCheck(anchors)
    for entry in cast("CheckedTx", tx).audit.survey():  # the stores of this program have more
        if isinstance(entry, UnreadableRow):
            return _Found(check.number, "", f"entry {check.number + 1} cannot be read ({entry.cause})")
        before = check.number
        for problem in check.take(entry):
            return _Found(before, "", f"entry {problem.number}: {problem.cause}")
        if wanted is not None and wanted[0] == entry.number and wanted[1] != entry.digest:
            return _Found(entry.number, "", f"entry {entry.number} is not the one that was noted")
    number = check.number
    head = f"{number}:{check.digest.hex()}" if number else ""
    if wanted is not None and wanted[0] > number:
        return _Found(number, head, f"entry {wanted[0]} was noted, and the record ends with {number}")
    gone = [f"entry {problem.number}: {problem.cause}" for problem in check.finish()]
    missing = read_anchoring(tx).missing
    if missing:
        gone.append(f"the archive holds {missing} entries more: the end was cut off")
    if gone:
        return _Found(number, head, gone[0])
    published, cause = published_anchors(tx, anchors, log)
    since = check.first_open.at if check.first_open is not None else None
    anchored = max((one.number for one in anchors), default=0)
    return _Found(number, head, cause, len(anchors), published, anchored, since)


def _all_anchors(tx: Tx) -> list[Anchored]:
    found: list[Anchored] = []
    while page := tx.audit.anchors(found[-1].number if found else 0, 1_000):
        found += page
    return found


def _read_head(text: str) -> tuple[int, bytes]:
    number, _, digest = text.partition(":")
    try:
        read = int(number), bytes.fromhex(digest)
    except ValueError:
        read = 0, b""
    if read[0] < 1 or len(read[1]) != len(GENESIS):
        raise ExitError(
            "head-invalid", f"{text} is no head", "give NUMBER:DIGEST as kephs audit verify printed it"
        )
    return read


def _plain(entry: AuditEntry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "at": f"{entry.at:%Y-%m-%dT%H:%M:%S.%fZ}",
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "detail": entry.detail,
        "previous": entry.previous.hex(),
        "digest": entry.digest.hex(),
    }
