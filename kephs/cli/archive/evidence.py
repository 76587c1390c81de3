"""``kephs archive evidence``: evidence out of the archive's objects, also what the index does not know."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from config import settings as config_settings
from kephs.cli.output import ExitError, guarded, instance_argument, json_option, print_json, run

if TYPE_CHECKING:  # the archive's weight is loaded by the commands that need it
    from kephs.usecases.archive.take_out import TakenOut

_MATERIAL = "dogrulama"


@click.command()
@instance_argument
@click.argument("wanted", metavar="ID")
@click.argument("folder", metavar="OUT_FOLDER", type=click.Path(path_type=Path, file_okay=False))
@json_option
@guarded
def command(directory: Path, wanted: str, folder: Path, as_json: bool) -> None:  # noqa: FBT001  # click's way
    """Write evidence out of the archive (arşivden delil çıkar): by its ID, or all of a message.

    For evidence whose message the database does not know any more, after a rebuild. Each comes with its
    record as rounds renewed it, its proof and revocation data: kephs verify OUT_FOLDER/*.xml. It is noted in
    the process record.
    """
    from kephs.cli.archive.work import told

    try:
        found = run(_taken(directory, wanted))
    except Exception as error:
        ending = told(error)
        if ending is None:
            raise
        raise ending from None
    if not found:
        raise ExitError(
            "no-such-evidence", f"no object holds evidence {wanted}, nor evidence of such a message",
            "see kephs archive status DIR: what waits is not in the archive yet",
        )  # fmt: skip
    names = _write(folder, found)
    if as_json:
        told_of = [
            {"number": one.number, "evidence": one.evidence_id, "message": one.message_id} for one in found
        ]
        print_json({"folder": str(folder), "evidence": told_of, "files": names})
    else:
        for name in names:
            click.echo(name)


async def _taken(directory: Path, wanted: str) -> "list[TakenOut]":
    from kephs.cli.beside import shell_user
    from kephs.cli.workbench import open_workbench
    from kephs.usecases.archive.take_out import TakeOut
    from kephs.usecases.governance.note_process import EVIDENCE_EXPORTED, note_reading

    settings = await asyncio.to_thread(config_settings.load, directory)
    async with open_workbench(settings) as bench:
        parts = await bench.archive()
        found = await TakeOut(parts.store, parts.reader, await bench.proofs()).find(wanted)
        if found:
            await note_reading(parts.store, parts.clock, EVIDENCE_EXPORTED, wanted, shell_user())
        return found


def _write(folder: Path, found: "list[TakenOut]") -> list[str]:
    files: dict[str, bytes] = {}
    for one in found:
        for ending, content in (("xml", one.xml), ("ers", one.ers), ("proof", one.proof)):
            if content is not None:
                files[f"{one.number:012d}.{ending}"] = content
        files |= {f"{_MATERIAL}/{name}": content for name, content in one.revocation.items()}
    for name, content in files.items():
        (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return sorted(files)
