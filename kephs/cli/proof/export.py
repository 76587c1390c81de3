"""``kephs export``: one evidence as XAdES-B-LTA, for those whose tools know nothing of evidence records."""

import os
import secrets
from pathlib import Path

import click

from config import settings
from config.settings import Settings
from evidence.ports import TimestampUnavailableError
from evidence.verify.files import EVIDENCE_ENDING, RECORD_ENDING
from evidence.xml.reader import format_time
from kephs.bootstrap import open_seal_policy, open_timestamper
from kephs.cli.beside import shell_user
from kephs.cli.output import ExitError, guarded, instance_argument, json_option, print_facts, print_json, run
from kephs.cli.workbench import open_workbench
from kephs.usecases.governance.note_process import EVIDENCE_EXPORTED, note_reading
from kephs.usecases.proof.export_evidence import Export, ExportEvidence, ExportFault, ExportUnavailableError

_CURES = {
    ExportFault.NO_SUCH_EVIDENCE: "kephs show DIR MESSAGE names the evidence of a message",
    ExportFault.EVIDENCE_BROKEN: "run kephs fsck DIR and kephs doctor DIR",
    ExportFault.EVIDENCE_UNSTAMPED: "try again when a time-stamping authority answers",
    ExportFault.OTHER_WRITER: "kephs bundle DIR MESSAGE OUT.kepdelil holds it with all that proves it",
    ExportFault.REVOCATION_SILENT: "try again when OCSP or CRL answers",
    ExportFault.TOO_LATE: "give the evidence with its evidence record: kephs bundle DIR MESSAGE OUT.kepdelil",
    ExportFault.TOO_LARGE: "issuers gave long lists; kephs bundle DIR MESSAGE OUT.kepdelil takes them",
    ExportFault.ARCHIVE_SILENT: "see kephs archive status DIR and kephs doctor DIR; then run it again",
}


@click.command()
@instance_argument
@click.argument("evidence_id", metavar="EVIDENCE_ID")
@click.argument("out", metavar="OUT.xml", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@guarded
def command(directory: Path, evidence_id: str, out: Path, as_json: bool) -> None:  # noqa: FBT001
    """Write EVIDENCE_ID to OUT.xml as XAdES-B-LTA: certificates, revocation data and an archive stamp inside.

    Its evidence record, where it has one, goes beside it as OUT.ers, with all renewals: the earlier proof of
    time, for kephs verify OUT.xml --trust DIR. Each export takes one time stamp, or two where none is inside
    yet.
    """
    if out.suffix != EVIDENCE_ENDING:
        raise ExitError("file-name", f"{out}: the name of an export ends in .xml", "name it OUT.xml")
    try:
        made = run(_make(settings.load(directory), evidence_id, out))
    except ExportUnavailableError as error:
        raise ExitError(error.fault.value, str(error), _CURES[error.fault]) from None
    except TimestampUnavailableError as error:
        raise ExitError(
            "stamping-unavailable", f"the export cannot be stamped now: {error}", "try again later"
        ) from None
    facts = {
        "evidence_id": made.evidence_id,
        "path": str(out),
        "record": str(_beside(out)) if made.ers is not None else None,
        "size": len(made.xml),
        "signature_stamped_at": format_time(made.signature_stamped_at),
        "archived_at": format_time(made.archived_at),
    }
    if as_json:
        print_json(facts)
    else:
        print_facts((name, str(value)) for name, value in facts.items() if value is not None)


async def _make(loaded: Settings, evidence_id: str, out: Path) -> Export:
    async with open_workbench(loaded) as bench, open_timestamper(loaded, bench.trust) as timestamper:
        one = bench.beside
        work = ExportEvidence(
            store=one.store, blobs=one.blobs, timestamper=timestamper, revocation=await bench.revocation(),
            trust=bench.trust, policy=open_seal_policy(loaded), offload=one.offload, clock=one.clock,
            renewed=await bench.proofs(),
        )  # fmt: skip
        made = await work.export(evidence_id)
        await note_reading(one.store, one.clock, EVIDENCE_EXPORTED, made.evidence_id, shell_user())
        await one.offload.run(_write, made, out)
    return made


def _beside(out: Path) -> Path:
    return out.with_suffix(RECORD_ENDING)


def _write(made: Export, out: Path) -> None:
    """Write the record first: whoever sees the export finds beside it what belongs to it."""
    record = _beside(out)
    if made.ers is not None:
        _write_whole(record, made.ers)
    elif record.exists():
        raise ExitError(
            "other-record", f"{record} is the record of another evidence; this one has none",
            "remove it, or give the export another name",
        )  # fmt: skip
    _write_whole(out, made.xml)


def _write_whole(path: Path, content: bytes) -> None:
    """Write beside the target and rename: a file is there whole, or not at all."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
