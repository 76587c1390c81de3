"""The demo's providers cosign each other's ledger: neither can show two people two histories."""

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from config.settings import FILE_NAME, load, save
from kephs.cli.demo.people import Stage
from kephs.ledger.keys import open_ledger_key, open_witness_key


def introduced(stages: Sequence[Stage]) -> list[Stage]:
    """Return the providers, each with all others as witnesses; written into their settings once."""
    return [_introduced(stage, [one for one in stages if one is not stage]) for stage in stages]


def _introduced(stage: Stage, others: Sequence[Stage]) -> Stage:
    if stage.settings.ledger.witnesses:
        return stage
    path = stage.home / FILE_NAME
    values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    values.setdefault("ledger", {}).update(
        witnesses=[
            {"vkey": open_witness_key(one.settings).verifier.vkey, "url": _url(one)} for one in others
        ],
        witnessed=[{"vkey": open_ledger_key(one.settings).verifier.vkey} for one in others],
    )
    save(stage.home, values)
    return replace(stage, settings=load(stage.home))


def _url(stage: Stage) -> str:
    return f"http://{stage.settings.ledger.host}:{stage.settings.ledger.port}"
