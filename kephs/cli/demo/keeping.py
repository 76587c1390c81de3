"""The demo's last steps: evidence goes into the archive of twenty years, messages become court dossiers."""

import json
from pathlib import Path
from typing import Final

from kephs.cli.demo.clients import DemoError
from kephs.cli.demo.people import Stage
from kephs.cli.demo.story import Outcome, Say, run_kephs

DOSSIER: Final = "dosya.pdf"
_NOT_HERE: Final = frozenset({"fonts-missing", "printer-missing"})
"""Codes of a machine without the libraries of a PDF: the demo says so and goes on."""


async def archive(stage: Stage, say: Say) -> dict[str, object]:
    """Seal everything a provider has into its archive; return where and how many objects lie there.

    Raises:
        DemoError: it cannot be sealed.
    """
    code, output = await run_kephs("archive", "seal", str(stage.home), "--json")
    if code:
        raise DemoError(f"kephs archive seal failed: {output}")
    _, told = await run_kephs("archive", "status", str(stage.home), "--json")
    where, status = json.loads(output)["where"], json.loads(told)
    facts: dict[str, object] = {
        "provider": stage.settings.provider.domain, "where": where, "objects": status["objects"],
        "entries": status["archived_entry"], "kept_until": status["earliest_end"],
    }  # fmt: skip
    until = str(status["earliest_end"])[:10]
    detail = (
        f"{status['archived_entry']} kayıt / entries, {status['objects']} nesne / objects, {until}: {where}"
    )
    say("arşivlendi / archived", detail)
    return facts


async def dossier(outcome: Outcome, say: Say) -> Path | None:
    """Write the court dossier of a message; None on a machine that cannot print one.

    Raises:
        DemoError: it should be possible and is not.
    """
    path = outcome.folder / DOSSIER
    home = str(outcome.scene.sending.home)
    code, output = await run_kephs("dossier", home, outcome.message_id, str(path), "--json")
    if code:
        fault = _code_of(output)
        if fault in _NOT_HERE:
            say("dosya yok / no dossier", f"{fault}: docs/dossier.md")
            return None
        raise DemoError(f"kephs dossier failed: {output}")
    pages = json.loads(output)["pages"]
    say("dava dosyası / court dossier", f"{pages} sayfa / pages: {outcome.folder.name}/{DOSSIER}")
    return path


def _code_of(output: str) -> str:
    try:
        return str(json.loads(output)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""
