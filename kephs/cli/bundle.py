"""``kephs bundle``: the stand-alone bundle of one message."""

import os
import secrets
from datetime import timedelta
from pathlib import Path

import aiohttp
import click

from config import settings
from config.settings import Settings
from evidence.ports import SignerUnavailableError, TimestampUnavailableError
from kephs.bootstrap import open_seal_policy, open_sealing, open_trust
from kephs.bootstrap.sealing import open_revocation
from kephs.cli.beside import open_beside, shell_user
from kephs.cli.output import ExitError, guarded, instance_argument, json_option, print_facts, print_json, run
from kephs.ledger.keys import open_ledger_key
from kephs.usecases.governance.note_process import MESSAGE_BUNDLED, note_reading
from kephs.usecases.proof.bundle import BundleFault, BundleUnavailableError, MakeBundle, ReadyBundle
from kephs.usecases.proof.prove import Prove
from kephs.usecases.proof.publish_ledger import PublishLedger

_CURES = {
    BundleFault.NO_SUCH_MESSAGE: "give the id in the reply to the submission, or the Message-ID",
    BundleFault.AMBIGUOUS: "name the message by its KEP id",
    BundleFault.CONTENT_GONE: "its evidence is in the sender's Deliller; refused content is never kept",
    BundleFault.EVIDENCE_BROKEN: "run kephs fsck DIR and kephs doctor DIR",
    BundleFault.EVIDENCE_UNSTAMPED: "try again when a time-stamping authority answers",
    BundleFault.LEDGER_BROKEN: "run kephs fsck DIR",
    BundleFault.REVOCATION_SILENT: "try again when OCSP or CRL answers",
    BundleFault.ARCHIVE_SILENT: "see kephs archive status DIR and kephs doctor DIR",
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
    trust = open_trust(loaded)
    async with (
        open_beside(loaded) as beside,
        open_sealing(loaded) as sealer,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        clock = beside.clock
        revocation = open_revocation(loaded, session, trust)
        publishing = PublishLedger(
            beside.store, open_ledger_key(loaded), clock, alarm=lambda _cause: None,
            every=timedelta(seconds=loaded.ledger.checkpoint_seconds),
        )  # fmt: skip
        work = MakeBundle(
            store=beside.store, blobs=beside.blobs, sealer=sealer, revocation=revocation, trust=trust,
            policy=open_seal_policy(loaded), offload=beside.offload, clock=clock,
            ledger=Prove(beside.store, publishing),
        )  # fmt: skip
        made = await work.make(message)
        await note_reading(beside.store, clock, MESSAGE_BUNDLED, made.message_id, shell_user())
        await beside.offload.run(_write, made, out)
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
