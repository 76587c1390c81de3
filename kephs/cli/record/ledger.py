"""``kephs ledger``: the public side of the evidence ledger: key, checkpoints, proofs, audit, export.

`audit` needs no instance: it is what an outsider runs who kept a checkpoint.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

import click

from config import settings as config_settings
from evidence.ledger.audit import Witnesses, audit
from evidence.ledger.merkle import MissingNodeError
from evidence.ledger.notes import KeyKind, NoteError, NoteVerifier
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from evidence.verify.files import RECORD_ENDING, exit_code
from kephs.cli.output import (
    ExitError,
    Usage64Command,
    guarded,
    instance_argument,
    json_option,
    print_json,
    run,
    usage_error,
)
from kephs.ledger.reading import FolderLedger, HttpLedger, LedgerAddressError
from kephs.system import SystemClock

if TYPE_CHECKING:  # `audit` starts without the server's weight
    from kephs.cli.record.ledger_work import LedgerWork

T = TypeVar("T")

_FILE_MAX: Final = 1 << 20
_WORDS: Final = MappingProxyType(
    {
        Verdict.PASSED: "GEÇERLİ / valid",
        Verdict.FAILED: "GEÇERSİZ / not valid",
        Verdict.INDETERMINATE: "BELİRSİZ / undecided",
    }
)
_MARKS: Final = MappingProxyType({True: "ok  ", None: "note", False: "FAIL"})
_TURKISH: Final = MappingProxyType(
    {
        "older checkpoint": "eski kontrol noktası",
        "newer checkpoint": "yeni kontrol noktası",
        "checkpoint": "kontrol noktası",
        "sizes": "kayıt sayıları",
        "one root for one size": "bir büyüklüğe bir kök",
        "tiles of the newer checkpoint": "yeni kontrol noktasının ağacı",
        "tiles of the older checkpoint": "eski kontrol noktasının ağacı",
        "consistency": "tutarlılık",
        "leaves": "yapraklar",
        "witnesses": "tanıklar",
        "form": "biçim",
        "checkpoint held": "elde tutulan kontrol noktası",
        "inclusion": "deftere kayıtlı",
        "order": "kayıt sırası",
        "record": "işlem kaydı",
        "anchors": "defterdeki çapalar",
        "record and anchors": "kayıt ve çapalar",
        "times": "zamanlar",
        "end": "kaydın sonu",
    }
)
_file = click.Path(path_type=Path, dir_okay=False)


@click.group()
def command() -> None:
    """The evidence ledger in public (delil defteri): key, checkpoint, prove, audit, export."""


@command.command()
@instance_argument
@click.option("--make", is_flag=True, help="Make the key of an instance that never had one.")
@json_option
@guarded
def key(directory: Path, make: bool, as_json: bool) -> None:  # noqa: FBT001  # click hands options by name
    """Print the public keys that others check this ledger, and cosignatures made here, by."""
    from kephs.ledger.keys import open_ledger_key, open_witness_key, write_ledger_key

    settings = config_settings.load(directory)
    if make:
        try:
            write_ledger_key(settings.ledger.key)
        except FileExistsError:
            raise ExitError(
                "key-exists",
                f"{settings.ledger.key} exists and is never replaced",
                "use the key that is there",
            ) from None
    log, witness = open_ledger_key(settings).verifier, open_witness_key(settings).verifier
    if as_json:
        print_json(
            {"origin": log.name, "vkey": log.vkey, "witness": witness.name, "witness_vkey": witness.vkey}
        )
        return
    click.echo(log.vkey)
    click.echo(
        f"  bu defterin anahtarı, başka yoldan yayımlayın / this log's key, publish it elsewhere: {log.name}"
    )
    click.echo(witness.vkey)
    click.echo(f"  başkalarına tanıklık anahtarımız / our key as a witness for others: {witness.name}")


@command.command()
@instance_argument
@click.option("--publish", is_flag=True, help="Sign a checkpoint first, if anything is new.")
@json_option
@guarded
def checkpoint(directory: Path, publish: bool, as_json: bool) -> None:  # noqa: FBT001
    """Print the newest signed checkpoint. Keep it: with a later one it shows whether anything was changed."""
    newest = _with_ledger(directory, lambda one: one.newest(publish=publish))
    if newest is None:
        raise ExitError(
            "nothing-published",
            "no checkpoint was signed yet / henüz kontrol noktası imzalanmadı",
            "enter some evidence, then kephs ledger checkpoint DIR --publish",
        )
    if as_json:
        facts = {"size": newest.size, "root": newest.root.hex(), "at": _time(newest.at), "note": newest.note}
        print_json(facts)
        return
    click.echo(newest.note, nl=False)


@command.command()
@instance_argument
@click.argument("evidence_id", metavar="EVIDENCE_ID")
@click.argument("out", metavar="[OUT.proof]", required=False, type=_file)
@guarded
def prove(directory: Path, evidence_id: str, out: Path | None) -> None:
    """Write the proof that an evidence is in the ledger; what is not published yet is published first.

    Beside OUT.proof goes OUT.ers, the evidence's record as it stands today, with all renewals. It has none
    where its time stamp is inside it and no round of renewal was made since.
    """
    from kephs.usecases.proof.prove import NotInLedgerError

    if out is not None and out.suffix == RECORD_ENDING:
        raise ExitError("file-name", f"{out}: that is the name of a record", "name it OUT.proof")
    try:
        proof = _with_ledger(directory, lambda one: one.prove.one(evidence_id))
    except NotInLedgerError:
        raise ExitError(
            "not-in-ledger",
            f"the ledger has no evidence {evidence_id} / defterde böyle bir delil yok",
            "see kephs queue show and the evidence itself for its id",
        ) from None
    if out is None:
        click.echo(proof.encode(), nl=False)
        return
    _write_record(directory, evidence_id, out.with_suffix(RECORD_ENDING))
    out.write_bytes(proof.encode())
    click.echo(f"{out}: {proof.number}. kayıt / entry {proof.number} of {proof.size}")


@command.command()
@instance_argument
@click.argument("folder", metavar="OUT_FOLDER", type=click.Path(path_type=Path, file_okay=False))
@json_option
@guarded
def export(directory: Path, folder: Path, as_json: bool) -> None:  # noqa: FBT001
    """Write checkpoint, tiles and salted entries as static files that any web server can show."""
    from kephs.cli.record.ledger_export import export as write

    newest, count = _with_ledger(directory, lambda one: write(one.store, one.publish.verifier, folder))
    if as_json:
        print_json({"folder": str(folder), "size": newest.size, "files": count})
        return
    click.echo(f"{folder}: {newest.size} kayıt / entries, {count} yeni dosya / new files")


@command.command(name="audit", cls=Usage64Command)
@click.option("--old", required=True, type=_file, help="The checkpoint you kept.")
@click.option("--new", "new", type=_file, help="A later one. Default: the one the ledger shows now.")
@click.option("--url", help="Where the ledger is shown, such as https://ledger.hs91.kep.tr/")
@click.option(
    "--tiles",
    type=click.Path(path_type=Path, file_okay=False),
    help="Or a folder that kephs ledger export wrote.",
)
@click.option("--log-key", required=True, metavar="VKEY", help="The log's public key, got from elsewhere.")
@click.option(
    "--witness-key",
    "witness_keys",
    multiple=True,
    metavar="VKEY",
    help="A witness you know; may be repeated.",
)
@click.option("--quorum", type=click.IntRange(0), default=0, help="So many of them must have cosigned.")
@click.option("--proof", type=_file, help="The proof of an evidence.")
@click.option("--evidence", type=_file, metavar="X.xml", help="The evidence it is about.")
@click.option("--old-at", metavar="TIME", help="When you got the older checkpoint (ISO 8601 with zone).")
@click.option("--fast", is_flag=True, help="Do not read the whole tree, only what both checkpoints need.")
@json_option
@guarded
def audit_(
    old: Path, new: Path | None, url: str | None, tiles: Path | None, log_key: str,
    witness_keys: tuple[str, ...], quorum: int, proof: Path | None, evidence: Path | None,
    old_at: str | None, fast: bool, as_json: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Find out as a stranger whether a ledger only grew between two checkpoints, and holds an evidence.

    Exit status: 0 everything holds, 1 the provider contradicts itself, 2 undecided, 64 wrong usage.
    """
    if (url is None) == (tiles is None):
        raise usage_error("give --url or --tiles")
    if (proof is None) != (evidence is None):
        raise usage_error("--proof and --evidence go together")
    log = _key("--log-key", log_key, KeyKind.NOTE)
    known = tuple(_key("--witness-key", one, KeyKind.COSIGNATURE) for one in witness_keys)
    witnesses, now, got = Witnesses(known, quorum), SystemClock().now(), moment("--old-at", old_at)
    first = _bytes(old)
    with _reading(url, tiles) as ledger:
        try:
            second = ledger.checkpoint() if new is None else _bytes(new)
        except MissingNodeError as error:
            reports = [_missing(error, now)]
        else:
            reports = [audit(first, second, ledger.tile, log, now, witnesses=witnesses, walk=not fast)]
            if proof is not None and evidence is not None:
                from kephs.cli.record.ledger_entry import Shown, entry_reports

                shown = Shown(_bytes(proof), _bytes(evidence), first, second, got)
                reports += entry_reports(shown, ledger.tile, log, witnesses, now)
    code = exit_code(reports)
    if as_json:
        print_json({"exit": code, "reports": [one.to_json() for one in reports]})
    else:
        for report in reports:
            print_report(report)
    raise click.exceptions.Exit(code)


# --------------------------------------------------------------------------- shared


def _write_record(directory: Path, evidence_id: str, path: Path) -> None:
    """Write the record of an evidence as it stands today; a proof is good without one that cannot be had."""
    from kephs.ports import BlobMissingError

    try:
        record = _with_ledger(directory, lambda one: one.record(evidence_id))
    except BlobMissingError:
        text = "delil okunamıyor, kaydı yazılmadı / the evidence cannot be read, its record was not written"
        click.echo(f"{text}: kephs fsck DIR", err=True)
        return
    if record is not None:
        path.write_bytes(record)
    elif path.exists():
        raise ExitError(
            "other-record", f"{path} is the record of another evidence; this one has none",
            "remove it, or give the proof another name",
        )  # fmt: skip


def _with_ledger(directory: Path, work: Callable[["LedgerWork"], Awaitable[T]]) -> T:
    from evidence.stamps.renewal import RenewalError
    from kephs.cli.archive.work import told
    from kephs.cli.record.ledger_work import open_ledger
    from kephs.ports.objects import ObjectError
    from kephs.usecases.archive.preserve_object import RenewalObjectError
    from kephs.usecases.proof.publish_ledger import LedgerContradictionError

    async def inside() -> T:
        async with open_ledger(config_settings.load(directory)) as ledger:
            return await work(ledger)

    try:
        return run(inside())
    except LedgerContradictionError as error:
        raise ExitError(
            "ledger-contradiction",
            f"{error} / defter yayımlanandan farklı",
            "nothing is signed about it; keep a copy of everything, run kephs fsck DIR, then report it",
        ) from None
    except (ObjectError, RenewalError, RenewalObjectError) as error:
        raise (told(error) or error) from None


def log_key(option: str, text: str) -> NoteVerifier:
    """Read a log's public key from its text, or from a file that holds it."""
    return _key(option, text, KeyKind.NOTE)


def _key(option: str, text: str, kind: KeyKind) -> NoteVerifier:
    """Read a key from its text, or from a file that holds it."""
    try:
        path = Path(text)
        if "+" not in text or path.is_file():
            text = path.read_text(encoding="utf-8").strip()
        found = NoteVerifier.parse(text)
    except (OSError, ValueError, NoteError) as error:
        raise usage_error(f"{option}: {error}; write name+id+base64, or a file that holds it") from None
    if found.kind is not kind:
        wanted = "a log's" if kind is KeyKind.NOTE else "a witness's"
        raise usage_error(f"{option}: {found.name} is not {wanted} key")
    return found


def moment(option: str, text: str | None) -> datetime | None:
    """Read a time with its zone; None where none was given."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise usage_error(f"{option} {text}: write it as 2026-11-21T09:00:00Z")
    return found


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_FILE_MAX + 1)
    if len(content) > _FILE_MAX:
        raise ExitError("file-too-large", f"{path} is longer than {_FILE_MAX} octets", "give the right file")
    return content


@contextmanager
def _reading(url: str | None, tiles: Path | None) -> Iterator[HttpLedger | FolderLedger]:
    if tiles is not None:
        yield FolderLedger(tiles)
        return
    try:
        ledger = HttpLedger(url or "")
    except LedgerAddressError as error:
        raise usage_error(f"--url {error}") from None
    with ledger:
        yield ledger


def _missing(error: MissingNodeError, at: datetime) -> Report:
    """Return the report where the newer checkpoint cannot be had."""
    step = Step(
        "2", "newer checkpoint", ok=False, detail=str(error),
        sub_indication=SubIndication.SIGNED_DATA_NOT_FOUND, verdict=Verdict.INDETERMINATE,
    )  # fmt: skip
    return conclude("ledger", [step], at)


def print_report(report: Report) -> None:
    """Print a report for people."""
    sub = f" ({report.sub_indication.value})" if report.sub_indication else ""
    click.echo(f"{_shown(report.subject)}: {report.verdict.value}{sub}: {_WORDS[report.verdict]}")
    for step in report.steps:
        undecided = step.ok is False and step.verdict is Verdict.INDETERMINATE
        mark = "??  " if undecided else _MARKS[step.ok]
        turkish = f" / {_TURKISH[step.name]}" if step.name in _TURKISH else ""
        detail = f": {_shown(step.detail)}" if step.detail else ""
        click.echo(f"  {mark} {step.number:<3} {_shown(step.name)}{turkish}{detail}")


def _shown(text: str) -> str:
    """Return text from elsewhere so that it cannot steer the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
