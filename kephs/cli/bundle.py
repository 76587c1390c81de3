"""``kephs bundle``: the stand-alone bundle of one message."""

import os
import secrets
from pathlib import Path

import aiohttp
import click

from config import settings
from config.settings import Settings
from evidence.adapters.revocation_http import HttpRevocation, HttpRevocationSettings
from evidence.adapters.tsa_http import HttpTimestamper
from evidence.ports import SignerUnavailableError, TimestampUnavailableError
from evidence.role import SealPolicy
from evidence.sealing import Sealer
from kephs.bootstrap import open_signer, open_trust, transaction_policies
from kephs.cli.beside import open_beside
from kephs.cli.output import ExitError, guarded, instance_argument, json_option, print_facts, print_json, run
from kephs.usecases.bundle import BundleFault, BundleUnavailableError, MakeBundle, ReadyBundle

_CURES = {
    BundleFault.NO_SUCH_MESSAGE: "give the id in the reply to the submission, or the Message-ID",
    BundleFault.AMBIGUOUS: "name the message by its KEP id",
    BundleFault.CONTENT_GONE: "its evidence is in the sender's Deliller; refused content is never kept",
    BundleFault.EVIDENCE_BROKEN: "run kephs fsck DIR and kephs doctor DIR",
    BundleFault.REVOCATION_SILENT: "try again when OCSP or CRL answers",
}


@click.command()
@instance_argument
@click.argument("message")
@click.argument("out", metavar="OUT.kepdelil", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@guarded
def command(directory: Path, message: str, out: Path, as_json: bool) -> None:  # noqa: FBT001
    """Write everything about MESSAGE (KEP id or Message-ID) to OUT.kepdelil, ready for a court.

    It holds the original, the KEP message, every evidence, revocation data and the ledger's entries, and
    verifies offline: kephs verify OUT.kepdelil --trust DIR.
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
    async with open_beside(loaded) as beside, aiohttp.ClientSession(auto_decompress=False) as session:
        clock = beside.clock
        timestamper = HttpTimestamper(
            loaded.seal.tsa, session=session, clock=clock.now, trust=trust,
            nonces=lambda: secrets.randbits(64),
        )  # fmt: skip
        revocation = HttpRevocation(
            session, clock=clock.now, trust=trust, nonces=lambda: secrets.token_bytes(16),
            settings=HttpRevocationSettings(timeout=loaded.trust.revocation_seconds),
        )  # fmt: skip
        work = MakeBundle(
            store=beside.store, blobs=beside.blobs, sealer=Sealer(open_signer(loaded), timestamper),
            revocation=revocation, trust=trust, offload=beside.offload, clock=clock,
            policy=SealPolicy(transaction_policies=frozenset(transaction_policies(loaded))),
        )  # fmt: skip
        made = await work.make(message)
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
