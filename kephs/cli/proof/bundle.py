"""``kephs bundle``: the stand-alone bundle of one message."""

import os
import secrets
from pathlib import Path

import click

from config import settings
from config.settings import Settings
from evidence.ports import SignerUnavailableError, TimestampUnavailableError
from kephs.cli.beside import shell_user
from kephs.cli.output import ExitError, guarded, instance_argument, json_option, print_facts, print_json, run
from kephs.cli.workbench import open_workbench
from kephs.usecases.governance.note_process import MESSAGE_BUNDLED, note_reading
from kephs.usecases.proof.bundle import BundleFault, BundleUnavailableError, ReadyBundle

_CURES = {
    BundleFault.NO_SUCH_MESSAGE: "give the id in the reply to the submission, or the Message-ID",
    BundleFault.AMBIGUOUS: "name the message by its KEP id",
    BundleFault.CONTENT_GONE: "its evidence is in the sender's Deliller; refused content is never kept",
    BundleFault.EVIDENCE_BROKEN: "run kephs fsck DIR and kephs doctor DIR",
    BundleFault.EVIDENCE_UNSTAMPED: "try again when a time-stamping authority answers",
    BundleFault.LEDGER_BROKEN: "run kephs fsck DIR",
    BundleFault.REVOCATION_SILENT: "try again when OCSP or CRL answers",
    BundleFault.ARCHIVE_SILENT: "see kephs archive status DIR and kephs doctor DIR; then run it again",
}


@click.command()
@instance_argument
@click.argument("message")
@click.argument("out", metavar="OUT.kepdelil", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@guarded
def command(directory: Path, message: str, out: Path, as_json: bool) -> None:  # noqa: FBT001
    """Write everything about MESSAGE (KEP id or Message-ID) to OUT.kepdelil, ready for a court.

    It holds the original, the KEP message, every evidence, revocation data and the ledger's proofs, and
    verifies offline: kephs verify OUT.kepdelil --trust DIR. The same contents give the same bytes again.
    """
    try:
        made = run(_make(settings.load(directory), message, out))
    except BundleUnavailableError as error:
        raise ExitError(error.fault.value, str(error), _CURES[error.fault]) from None
    except (TimestampUnavailableError, SignerUnavailableError) as error:
        raise ExitError(
            "sealing-unavailable", f"the bundle cannot be signed or stamped now: {error}", "try again later"
        ) from None
    facts = {
        "message_id": made.message_id, "evidence": made.evidences, "path": str(out),
        "size": out.stat().st_size,
    }  # fmt: skip
    if as_json:
        print_json(facts)
    else:
        print_facts((name, str(value)) for name, value in facts.items())


async def _make(loaded: Settings, message: str, out: Path) -> ReadyBundle:
    async with open_workbench(loaded) as bench:
        one = bench.beside
        made = await (await bench.bundles()).make(message)
        await note_reading(one.store, one.clock, MESSAGE_BUNDLED, made.message_id, shell_user())
        await one.offload.run(_write, made, out)
    return made


def _write(made: ReadyBundle, out: Path) -> None:
    """Write beside the target and rename: a bundle is there whole, or not at all."""
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as file:
            made.write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
