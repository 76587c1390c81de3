"""Findings of `kephs doctor` and `kephs sign --diagnose`: one sentence each, with a cure."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

import click

from kephs.cli.output import print_json


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``code`` is stable; ``cure`` is empty where all is well."""

    level: Level
    code: str
    text: str
    cure: str = ""


_MARKS: Final[dict[Level, str]] = {Level.OK: "ok     ", Level.WARNING: "WARNING", Level.ERROR: "ERROR  "}


def ok(code: str, text: str) -> Finding:
    """Return a good finding."""
    return Finding(Level.OK, code, text)


def warning(code: str, text: str, cure: str) -> Finding:
    """Return a finding that should be looked after, but stops nothing now."""
    return Finding(Level.WARNING, code, text, cure)


def error(code: str, text: str, cure: str) -> Finding:
    """Return a finding that stops the work."""
    return Finding(Level.ERROR, code, text, cure)


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level there is."""
    levels = {finding.level for finding in findings}
    return next((level for level in (Level.ERROR, Level.WARNING) if level in levels), Level.OK)


def print_findings(findings: list[Finding], *, as_json: bool) -> None:
    """Print all findings, one a line with its cure below, or as JSON."""
    if as_json:
        listed = [{**asdict(finding), "level": finding.level.value} for finding in findings]
        print_json({"level": worst(findings).value, "findings": listed})
        return
    for finding in findings:
        click.echo(f"{_MARKS[finding.level]} {finding.code}: {finding.text}")
        if finding.cure:
            click.echo(f"        -> {finding.cure}")
