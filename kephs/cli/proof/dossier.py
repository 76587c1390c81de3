"""``kephs dossier``: the court dossier of one message as PDF/A-3, with everything attached."""

import mmap
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import Final

import click

from config import settings
from config.settings import Settings
from evidence.ports import ByteSource, BytesSource, SignerUnavailableError, TimestampUnavailableError
from kephs.cli.beside import shell_user
from kephs.cli.output import ExitError, guarded, instance_argument, json_option, print_facts, print_json, run
from kephs.cli.proof.bundle import _CURES as BUNDLE_CURES
from kephs.cli.workbench import open_workbench
from kephs.dossier.facts import DossierFacts, DossierTooLargeError, Language
from kephs.dossier.pdf import FONT_FOLDER, FontsMissingError, Printer, PrinterMissingError
from kephs.usecases.governance.note_process import MESSAGE_PRINTED, note_reading
from kephs.usecases.proof.bundle import BundleUnavailableError
from kephs.usecases.proof.dossier import (
    DossierContentGoneError,
    DossierMovingError,
    MakeDossier,
    ReadyDossier,
)
from kephs.usecases.proof.timeline import ShowTimeline

LANGUAGES: Final = {
    "tr": (Language.TURKISH,),
    "en": (Language.ENGLISH,),
    "both": (Language.TURKISH, Language.ENGLISH),
}


@click.command()
@instance_argument
@click.argument("message")
@click.argument("out", metavar="OUT.pdf", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--lang", type=click.Choice(list(LANGUAGES)), default="both", show_default=True,
    help="Turkish, English, or both: Turkish first.",
)  # fmt: skip
@click.option(
    "--fonts", type=click.Path(path_type=Path, file_okay=False), default=FONT_FOLDER, show_default=True,
    help="Folder of the DejaVu fonts, which the PDF embeds.",
)  # fmt: skip
@json_option
@guarded
def command(directory: Path, message: str, out: Path, lang: str, fonts: Path, as_json: bool) -> None:  # noqa: FBT001
    """Write the court dossier (Dava dosyası) of MESSAGE (KEP id or Message-ID) to OUT.pdf.

    A PDF/A-3 for people: parties, timeline per recipient, content, signature, how to check. The original and
    the evidence bundle are inside it as attachments. The same contents give the same bytes again.
    """
    printer = _printer(fonts)
    try:
        facts, pages = run(_make(settings.load(directory), message, out, printer, LANGUAGES[lang]))
    except BundleUnavailableError as error:
        raise ExitError(error.fault.value, str(error), BUNDLE_CURES[error.fault]) from None
    except DossierMovingError:
        raise ExitError(
            "evidence-arriving", "evidence about this message keeps coming in", "try again in a minute"
        ) from None
    except DossierContentGoneError:
        raise ExitError(
            "content-destroyed", "the message's content was destroyed, so there is nothing to print",
            "hand over the bundle of its evidence: kephs bundle DIR MESSAGE OUT.kepdelil",
        ) from None  # fmt: skip
    except DossierTooLargeError as error:
        raise ExitError(
            "dossier-too-large",
            str(error),
            "hand over the bundle instead: kephs bundle DIR MESSAGE OUT.kepdelil",
        ) from None
    except (TimestampUnavailableError, SignerUnavailableError) as error:
        raise ExitError(
            "sealing-unavailable", f"the bundle cannot be signed or stamped now: {error}", "try again later"
        ) from None
    told = {
        "message_id": facts.timeline.message_id, "evidence": len(facts.evidence_files), "pages": pages,
        "path": str(out), "size": out.stat().st_size,
        "attached": [{"name": one.name, "sha256": one.sha256.hex()} for one in facts.embedded],
    }  # fmt: skip
    if as_json:
        print_json(told)
    else:
        told["attached"] = ", ".join(one.name for one in facts.embedded)
        print_facts((name, str(value)) for name, value in told.items())


def _printer(fonts: Path) -> Printer:
    try:
        return Printer(fonts)
    except FontsMissingError as error:
        raise ExitError(
            "fonts-missing", f"a font of the dossier is missing: {error}",
            "install Debian's fonts-dejavu-core, or name the folder by --fonts",
        ) from None  # fmt: skip
    except PrinterMissingError as error:
        raise ExitError(
            "printer-missing", f"WeasyPrint cannot be loaded: {error}",
            "install Debian's libpango-1.0-0, libpangoft2-1.0-0 and libharfbuzz-subset0",
        ) from None  # fmt: skip


async def _make(
    loaded: Settings, message: str, out: Path, printer: Printer, languages: tuple[Language, ...]
) -> tuple[DossierFacts, int]:
    async with open_workbench(loaded) as bench:
        one = bench.beside
        timelines = ShowTimeline(one.store, one.blobs, one.offload, one.clock, loaded.provider.domain)
        work = MakeDossier(
            await bench.bundles(), timelines, one.offload, loaded.provider.legal_name, loaded.provider.domain,
            test=loaded.test_pki.enabled,
        )  # fmt: skip
        ready = await work.make(message)
        message_id = ready.facts.timeline.message_id
        await note_reading(one.store, one.clock, MESSAGE_PRINTED, message_id, shell_user())
        return await one.offload.run(write_dossier, ready, out, printer, languages)


def write_dossier(
    ready: ReadyDossier, out: Path, printer: Printer, languages: tuple[Language, ...]
) -> tuple[DossierFacts, int]:
    """Write the bundle beside the target, then the PDF with it; return what was printed, and its pages.

    The target is there whole, or not at all.
    """
    mark = secrets.token_hex(4)
    bundle, partial = (out.with_name(f".{out.name}.{mark}.{kind}") for kind in ("bundle", "pdf"))
    try:
        with bundle.open("xb") as made:
            ready.bundle.write(made)
        with bundle.open("rb") as file, _mapped(file.fileno()) as source, partial.open("xb") as target:
            facts = ready.attached(source, file_digest(file, "sha256").digest())
            pages = printer.print_to(target, facts, languages)
            target.flush()
            os.fsync(target.fileno())
        partial.replace(out)
    finally:
        bundle.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
    return facts, pages


@contextmanager
def _mapped(file: int) -> Iterator[ByteSource]:
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as mapped:
        yield BytesSource(mapped)
