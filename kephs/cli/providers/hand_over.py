"""``kephs hand-over``: give everything another provider needs, and check what was given (KEP-TM-01..04)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kephs.cli.output import (
    ExitError,
    Usage64Command,
    guarded,
    instance_argument,
    json_option,
    print_facts,
    print_json,
    run,
)
from kephs.cli.providers.default_make import DefaultMake

if TYPE_CHECKING:
    from evidence.bundle.hand_over import Manifest

_folder = click.Path(path_type=Path, file_okay=False)
_file = click.Path(path_type=Path, dir_okay=False)


@click.group(cls=DefaultMake, context_settings={"ignore_unknown_options": True})
def command() -> None:
    """Hand the whole provider over (devir): `kephs hand-over DIR OUT --key FILE --by NAME`; verify."""


@command.command()
@instance_argument
@click.argument("out", type=_folder)
@click.option(
    "--key", required=True, type=_file,
    help="File of the hand-over's key; made where it is missing. Carry it apart from OUT.",
)  # fmt: skip
@click.option("--by", required=True, metavar="NAME", help="The person who does it; kept in the record.")
@click.option(
    "--bundles/--no-bundles", default=True, show_default=True,
    help="Seal the bundle of every message first, while there is a key to seal it; each costs a time stamp.",
)  # fmt: skip
@json_option
@guarded
def make(directory: Path, out: Path, key: Path, by: str, bundles: bool, as_json: bool) -> None:  # noqa: FBT001
    """Write everything another provider needs to OUT under a signed manifest.

    Evidence, archive, ledger, process record, accounts, closed addresses, messages and mailboxes are sealed
    under the key; the published ledger, certificates and the register of providers lie open. Nothing may work
    on the instance meanwhile. After a kill run it again: what is written already is used.
    """
    from config import settings
    from evidence.ports import SignerUnavailableError, TimestampUnavailableError
    from kephs.cli.providers.hand_over_work import told

    try:
        manifest, waiting, sealed = run(_make(settings.load(directory), out, key, by, bundles=bundles))
    except (TimestampUnavailableError, SignerUnavailableError) as error:
        raise ExitError(
            "sealing-unavailable", f"the manifest cannot be signed or stamped now: {error}", "try again later"
        ) from None
    except Exception as error:
        end = told(error)
        if end is None:
            raise
        raise end from None
    facts: dict[str, Any] = {
        "provider": manifest.by.domain, "path": str(out), "key": str(key), "counts": dict(manifest.counts),
        "ledger_entries": manifest.ledger.size, "records": manifest.record.number, "outside_archive": waiting,
        "bundles": sealed,
    }  # fmt: skip
    if as_json:
        print_json(facts)
        return
    counts = facts.pop("counts")
    print_facts((name, str(value)) for name, value in {**facts, **counts}.items())


async def _make(loaded: Any, out: Path, key: Path, by: str, *, bundles: bool) -> tuple["Manifest", str, int]:
    from kephs.cli.providers.hand_over_work import open_hand_over
    from kephs.usecases.ending.hand_over_notes import note_handed, note_handing

    async with open_hand_over(loaded, out, key, by) as handing:
        store, clock = handing.beside.store, handing.beside.clock
        await store.write(lambda tx: note_handing(tx, clock.now(), handing.handing.by))
        await handing.publish.publish()
        waiting = await _seal(handing.archive)
        sealed = await _bundles(handing) if bundles else 0
        manifest = await handing.work.make(handing.handing)
        await store.write(lambda tx: note_handed(tx, clock.now(), manifest))
        return manifest, waiting, sealed


async def _bundles(handing: Any) -> int:
    """Seal the bundle of every message that can have one; return how many have theirs now."""
    from kephs.usecases.proof.bundle import BundleUnavailableError

    ids = await handing.beside.store.read(lambda tx: sorted(one.message_id for one in tx.messages.all()))
    made = 0
    for message_id in ids:
        try:
            await handing.bundles.make(message_id)
        except BundleUnavailableError:  # refused content is never kept; its evidence goes along all the same
            continue
        made += 1
    return made


async def _seal(archive: Any) -> str:
    """Seal what waits for the archive; return why not everything could be: it goes along unsealed then."""
    from evidence.ports import SignerUnavailableError, TimestampUnavailableError
    from kephs.ports.objects import ObjectError
    from kephs.usecases.archive.rows import EvidenceIncompleteError
    from kephs.usecases.archive.seal import MaterialSilentError

    try:
        await archive.seal.seal_all()
    except (
        MaterialSilentError, SignerUnavailableError, TimestampUnavailableError, ObjectError,
        EvidenceIncompleteError,
    ) as error:  # fmt: skip
        return f"{type(error).__name__}: {error}"
    return ""


@command.command(cls=Usage64Command)
@click.argument("folder", type=_folder)
@click.option(
    "--trust", type=_folder, help="Folder of trusted roots, PEM or DER. Without it nothing can pass."
)
@click.option(
    "--key", type=_file, help="The hand-over's key. Without it the sealed files' digests are compared."
)
@click.option(
    "--sample", type=click.IntRange(0), default=1_000, show_default=True, help="Evidences verified in full."
)
@click.option("--transaction-policy", "policies", multiple=True, metavar="OID", help="As with kephs verify.")
@json_option
@guarded
def verify(
    folder: Path, trust: Path | None, key: Path | None, sample: int, policies: tuple[str, ...],
    as_json: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Check a hand-over offline: manifest, every file, ledger, evidence, process record, content.

    Exit status: 0 everything holds, 1 something does not, 2 something cannot be decided, 64 wrong usage.
    """
    from evidence.verify.files import exit_code
    from kephs.cli.providers.hand_over_work import hand_over_key, progress, read_roots, seal_policy
    from kephs.cli.record.ledger import print_report
    from kephs.system import SystemClock, ThreadOffload
    from kephs.usecases.ending.hand_over_check import CheckHandOver
    from storage.hand_over_parts import FolderParts

    offload = ThreadOffload()
    try:
        check = CheckHandOver(
            FolderParts(folder, offload.run, writable=False), offload, SystemClock(),
            trust=read_roots(trust), policy=seal_policy(policies),
            cipher=None if key is None else hand_over_key(key), sample=sample,
            ignored=OWN_FILES, progress=progress(),
        )  # fmt: skip
        report = run(check.run()).report
    finally:
        offload.close()
    code = exit_code([report])
    if as_json:
        print_json({"exit": code, "report": report.to_json()})
    else:
        print_report(report)
    raise click.exceptions.Exit(code)


@command.command("destroy-key")
@instance_argument
@click.option("--by", required=True, metavar="NAME", help="The person who does it.")
@click.option("--witness", required=True, metavar="NAME", help="Another person who sees it.")
@click.option("--yes", is_flag=True, help="It cannot be undone: say that you mean it.")
@guarded
def destroy_key(directory: Path, by: str, witness: str, yes: bool) -> None:  # noqa: FBT001
    """Destroy the transaction key after a hand-over, with two persons on record (KEP-TM-04).

    Have the certificate revoked by its issuer first. A key in a file is overwritten and removed; one in a
    device is destroyed there, by its own tools, and this command records it. Copies in backups are yours.
    """
    from config import settings
    from kephs.cli.providers.hand_over_key import destroy
    from kephs.usecases.ending.hand_over_notes import KeyStillNeededError

    if not yes:
        raise ExitError("not-confirmed", "the key would be gone for ever", "add --yes if you mean it")
    try:
        click.echo(run(destroy(settings.load(directory), directory, by, witness)))
    except KeyStillNeededError as error:
        raise ExitError("key-still-needed", str(error), "see docs/hand-over.md") from None


OWN_FILES = frozenset({"anahtar.kepa"})
"""What a take-over puts beside the files of a hand-over."""
