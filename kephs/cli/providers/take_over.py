"""``kephs take-over``: keep what another provider handed over, show and check it (KEP-TM-02, -03)."""

import os
import secrets
from pathlib import Path
from typing import Any

import click

from kephs.cli.output import (
    ExitError,
    guarded,
    instance_argument,
    json_option,
    print_facts,
    print_json,
    print_table,
    run,
)
from kephs.cli.providers.default_make import DefaultMake

_folder = click.Path(path_type=Path, file_okay=False)
_file = click.Path(path_type=Path, dir_okay=False)
_by = click.option("--by", required=True, metavar="NAME", help="The person who does it; kept in the record.")
_CURES = {
    "not-sound": "see kephs hand-over verify IN --trust DIR --key FILE; ask the other provider for it again",
    "own-provider": "a hand-over is taken by another instance",
    "other-hand-over": "look into foreign/ of the instance; a provider is taken over once",
}


@click.group(cls=DefaultMake, context_settings={"ignore_unknown_options": True})
def command() -> None:
    """Take a provider over (devralma): `kephs take-over DIR IN --trust ROOTS --key FILE --by NAME`."""


@command.command()
@instance_argument
@click.argument("folder", metavar="IN", type=_folder)
@click.option("--trust", required=True, type=_folder, help="Folder of trusted roots, not from IN.")
@click.option("--key", required=True, type=_file, help="The hand-over's key, which came apart from IN.")
@click.option("--transaction-policy", "policies", multiple=True, metavar="OID", help="As with kephs verify.")
@_by
@json_option
@guarded
def make(
    directory: Path, folder: Path, trust: Path, key: Path, policies: tuple[str, ...], by: str,
    as_json: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Check the hand-over IN whole, then keep it in DIR/foreign/; its addresses are closed or wait.

    Nothing is written unless everything holds. After a kill run it again: it goes on; done before, nothing
    changes.
    """
    from config import settings
    from kephs.cli.providers.hand_over_work import told
    from kephs.usecases.ending.take_over import TakeOverError

    try:
        taken = run(_take(settings.load(directory), directory, folder, (trust, key, policies), by))
    except TakeOverError as error:
        step = error.report.failing_step if error.report is not None else None
        detail = f": step {step.number} {step.name}: {step.detail}" if step is not None else ""
        raise ExitError(error.fault.value, f"{error}{detail}", _CURES[error.fault.value]) from None
    except Exception as error:
        end = told(error)
        if end is None:
            raise
        raise end from None
    facts = {
        "provider": taken.manifest.by.domain, "files": taken.files, "waiting": taken.waiting,
        "closed": taken.closed, "ledger_entries": taken.manifest.ledger.size, "again": taken.again,
    }  # fmt: skip
    if as_json:
        print_json(facts)
    else:
        print_facts((name, str(value)) for name, value in facts.items())


async def _take(
    loaded: Any, directory: Path, folder: Path, how: tuple[Path, Path, tuple[str, ...]], by: str
) -> Any:
    from kephs.bootstrap import open_register
    from kephs.cli.beside import open_beside
    from kephs.cli.providers.foreign import foreign_folder, seal_key
    from kephs.cli.providers.hand_over import OWN_FILES
    from kephs.cli.providers.hand_over_work import hand_over_key, person, progress, read_roots, seal_policy
    from kephs.instances.keys import read_key
    from kephs.usecases.ending.hand_over_check import CheckHandOver
    from kephs.usecases.ending.take_over import TakeOver
    from storage.hand_over_parts import READ_ONLY, FolderParts

    trust, key, policies = how
    cipher = hand_over_key(key)
    async with open_beside(loaded) as beside:
        source = FolderParts(folder, beside.offload.run, writable=False)
        check = CheckHandOver(
            source, beside.offload, beside.clock, trust=read_roots(trust), policy=seal_policy(policies),
            cipher=cipher, ignored=OWN_FILES, progress=progress(),
        )  # fmt: skip
        work = TakeOver(
            store=beside.store, register=open_register(loaded), source=source, check=check.run,
            target=lambda domain: FolderParts(
                foreign_folder(directory, domain), beside.offload.run, mode=READ_ONLY
            ),
            cipher=cipher, key_file=lambda domain: seal_key(loaded, domain, read_key(key)),
            offload=beside.offload, clock=beside.clock, progress=progress(),
        )  # fmt: skip
        return await work.run(person(by))


@command.command("list")
@instance_argument
@click.argument("domain", required=False)
@json_option
@guarded
def list_(directory: Path, domain: str | None, as_json: bool) -> None:  # noqa: FBT001
    """List providers taken over, or the addresses of one: closed for ever, waiting, consented."""
    from config import settings
    from kephs.cli.beside import open_beside

    async def look() -> list[dict[str, str]]:
        async with open_beside(settings.load(directory)) as beside:
            if domain is None:
                archives = await beside.store.read(lambda tx: list(tx.foreign.archives()))
                return [
                    {
                        "domain": one.domain, "taken_at": one.taken_at.isoformat(), "by": one.taken_by,
                        "manifest_sha256": one.manifest_sha256.hex(),
                    }
                    for one in archives
                ]  # fmt: skip
            rows: list[dict[str, str]] = []
            after = ""
            while page := await beside.store.read(
                lambda tx, after=after: list(tx.foreign.addresses(domain, after, 500))  # type: ignore[misc]
            ):
                rows += [
                    {"address": one.address, "state": one.state.value, "since": one.since.isoformat()}
                    for one in page
                ]
                after = page[-1].address
            return rows

    rows = run(look())
    if as_json:
        print_json(rows)
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])


@command.command()
@instance_argument
@click.argument("foreign", metavar="OLD_ADDRESS")
@click.argument("own", metavar="NEW_ADDRESS")
@_by
@json_option
@guarded
def consent(directory: Path, foreign: str, own: str, by: str, as_json: bool) -> None:  # noqa: FBT001
    """Note that the holder of OLD_ADDRESS agreed to be served here, under the account NEW_ADDRESS.

    Open that account first, with their identity checked: the old provider's identity hashes say nothing here.
    """
    from config import settings
    from kephs.bootstrap import open_register
    from kephs.cli.beside import open_beside
    from kephs.usecases.ending.take_over import consent as note

    async def work() -> Any:
        loaded = settings.load(directory)
        async with open_beside(loaded) as beside:
            return await note(
                beside.store, open_register(loaded), beside.clock, foreign=foreign, own=own, by=by
            )

    one = run(work())
    facts = {"address": one.address, "state": one.state.value, "account": own}
    if as_json:
        print_json(facts)
    else:
        print_facts(facts.items())


@command.command()
@instance_argument
@click.argument("message")
@click.argument("out", metavar="OUT.kepdelil", type=_file)
@json_option
@guarded
def bundle(directory: Path, message: str, out: Path, as_json: bool) -> None:  # noqa: FBT001
    """Write the bundle of a message of a provider taken over, as that provider sealed it.

    It verifies under the old provider's roots, and its proofs by the old log's key: both lie in acik/ of the
    hand-over, and in the bundle.
    """
    from config import settings
    from kephs.cli.beside import open_beside, shell_user
    from kephs.cli.providers.foreign import find_foreign, foreign_bundle, rounds_sealed
    from kephs.cli.providers.hand_over_work import told
    from kephs.usecases.governance.note_process import MESSAGE_BUNDLED, note_reading
    from kephs.usecases.proof.bundle import BundleUnavailableError

    async def work() -> Any:
        loaded = settings.load(directory)
        async with open_beside(loaded) as beside:
            shown = await find_foreign(loaded, beside, directory, message)
            if shown is None:
                raise ExitError(
                    "no-such-message", f"no provider taken over has a message {message}",
                    "see kephs take-over list DIR",
                )  # fmt: skip
            ready = await foreign_bundle(loaded, beside, shown)
            await note_reading(beside.store, beside.clock, MESSAGE_BUNDLED, ready.message_id, shell_user())
            await beside.offload.run(_write, ready, out)
            handed = len(await shown.reader.rounds.heads())
            return {
                "message_id": ready.message_id, "provider": shown.found.domain, "evidence": ready.evidences,
                "path": str(out), "log_key": shown.reader.manifest.ledger.vkey,
                "renewals": rounds_sealed(shown.found), "renewals_handed": handed,
            }  # fmt: skip

    try:
        facts = run(work())
    except BundleUnavailableError as error:
        raise ExitError(
            "not-bundled", f"its own provider sealed no bundle of this: {error}",
            "its evidence verifies one by one: kephs take-over evidence DIR MESSAGE OUT",
        ) from None  # fmt: skip
    except ExitError:
        raise
    except Exception as error:
        end = told(error)
        if end is None:
            raise
        raise end from None
    if as_json:
        print_json(facts)
    else:
        print_facts((name, str(value)) for name, value in facts.items())


def _write(ready: Any, out: Path) -> None:
    """Write beside the target and rename: a bundle is there whole, or not at all."""
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as file:
            ready.write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


@command.command()
@instance_argument
@click.argument("message")
@click.argument("out", metavar="OUT", type=_folder)
@json_option
@guarded
def evidence(directory: Path, message: str, out: Path, as_json: bool) -> None:  # noqa: FBT001
    """Write evidence, records and proofs of a message of a provider taken over to the folder OUT.

    `kephs verify OUT/*.xml --trust ROOTS` judges each by itself, under the old provider's certificates.
    """
    from config import settings
    from kephs.cli.beside import open_beside, shell_user
    from kephs.cli.providers.foreign import find_foreign
    from kephs.usecases.governance.note_process import EVIDENCE_EXPORTED, note_reading

    async def work() -> list[str]:
        loaded = settings.load(directory)
        async with open_beside(loaded) as beside:
            shown = await find_foreign(loaded, beside, directory, message)
            if shown is None:
                raise ExitError(
                    "no-such-message", f"no provider taken over has a message {message}",
                    "see kephs take-over list DIR",
                )  # fmt: skip
            message_id = shown.found.message.message_id
            await note_reading(beside.store, beside.clock, EVIDENCE_EXPORTED, message_id, shell_user())
            names: dict[str, bytes] = {}
            for one in shown.found.evidences:
                number, rounds = one.entry.number, shown.reader.rounds
                ers = await rounds.joined(number, one.xml, one.ers)
                for ending, content in {"xml": one.xml, "ers": ers, "proof": one.proof}.items():
                    if content is not None:
                        names[f"{number:012d}.{ending}"] = content
                names |= {**one.material, **await rounds.material_of(number)}
            for name, content in names.items():
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                (out / name).write_bytes(content)
            return sorted(names)

    names = run(work())
    if as_json:
        print_json({"folder": str(out), "files": names})
    else:
        for name in names:
            click.echo(name)


@command.command()
@instance_argument
@click.argument("domain")
@click.option("--trust", required=True, type=_folder, help="Folder of the old provider's roots.")
@click.option("--sample", type=click.IntRange(0), default=1_000, show_default=True, help="Verified in full.")
@click.option("--transaction-policy", "policies", multiple=True, metavar="OID", help="As with kephs verify.")
@json_option
@guarded
def verify(
    directory: Path, domain: str, trust: Path, sample: int, policies: tuple[str, ...],
    as_json: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Check what was taken over where it lies: fixity of every file, ledger, evidence, record, content.

    Exit status: 0 everything holds, 1 something does not, 2 something cannot be decided.
    """
    from config import settings
    from evidence.verify.files import exit_code
    from kephs.cli.beside import open_beside
    from kephs.cli.providers.foreign import check_foreign
    from kephs.cli.providers.hand_over_work import progress, read_roots, seal_policy
    from kephs.cli.record.ledger import print_report

    async def work() -> Any:
        loaded = settings.load(directory)
        async with open_beside(loaded) as beside:
            how = (read_roots(trust), seal_policy(policies), sample)
            return await check_foreign(loaded, beside, directory, domain, how, progress())

    report = run(work())
    code = exit_code([report])
    if as_json:
        print_json({"exit": code, "report": report.to_json()})
    else:
        print_report(report)
    raise click.exceptions.Exit(code)


@command.command()
@instance_argument
@click.argument("domain")
@click.argument("out", metavar="KEYFILE", type=_file)
@_by
@guarded
def key(directory: Path, domain: str, out: Path, by: str) -> None:
    """Write the key of a hand-over that was taken over, to hand its folder on to the next provider."""
    from config import settings
    from kephs.cli.beside import open_beside
    from kephs.cli.providers.foreign import foreign_folder, open_key
    from kephs.cli.providers.hand_over_work import person
    from kephs.usecases.ending.take_over import KEY_FILE

    async def work() -> None:
        loaded = settings.load(directory)
        async with open_beside(loaded) as beside:
            if await beside.store.read(lambda tx: tx.foreign.archive(domain)) is None:
                raise ExitError(
                    "no-such-provider", f"{domain} was not taken over", "see kephs take-over list DIR"
                )
            opened = open_key(loaded, domain, (foreign_folder(directory, domain) / KEY_FILE).read_bytes())
            now, who = beside.clock.now(), person(by)
            await beside.store.write(
                lambda tx: tx.audit.add(at=now, actor=who, action="provider.key-written", subject=domain)
            )
            descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(opened.hex() + "\n")

    run(work())
    click.echo(str(out))
