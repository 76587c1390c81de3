"""How ``kephs verify`` tells what it found: as text in Turkish and English, and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from evidence.report import Report, Step, Verdict
from evidence.verify.telling import described, sentences_of

_WORDS: Final[dict[Verdict, str]] = {
    Verdict.PASSED: "GEÇERLİ / valid",
    Verdict.FAILED: "GEÇERSİZ / not valid",
    Verdict.INDETERMINATE: "BELİRSİZ / undecided",
}
_MARKS: Final[dict[bool | None, str]] = {True: "ok  ", None: "note", False: "FAIL"}
_INDENT: Final = "  "
_DIGEST: Final = 64  # hexadecimal digits of a SHA-256: shown whole in JSON


@dataclass(frozen=True, slots=True)
class Shown:
    """A report on a file; ``sender``: on a person's signature."""

    path: Path
    report: Report
    sender: bool = False


def plain(shown: Sequence[Shown], code: int) -> dict[str, Any]:
    """Return all reports as plain data; keys are stable."""
    listed = [{"path": str(one.path), **described(one.report, all_steps=True)} for one in shown]
    verdict = {0: Verdict.PASSED, 1: Verdict.FAILED, 2: Verdict.INDETERMINATE}[code]
    return {"exit": code, "verdict": verdict.value, "reports": listed}


def print_reports(shown: Sequence[Shown]) -> None:
    """Print all reports."""
    for one in shown:
        report = one.report
        sub = f" ({report.sub_indication.value})" if report.sub_indication else ""
        click.echo(f"{clean(str(one.path))}: {report.verdict.value}{sub}: {_WORDS[report.verdict]}")
        for line in _facts(report.facts, _INDENT):
            click.echo(line)
        _print_steps(report, _INDENT)


def _facts(facts: Mapping[str, object], indent: str) -> Iterator[str]:
    """Yield the facts that are texts, and lists of such facts, a fact a line."""
    for name, value in facts.items():
        if isinstance(value, str) and value:
            yield f"{indent}{name}: {clean(value)}"
        elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
            for item in value:
                texts = (f"{key} {clean(_short(told))}" for key, told in item.items() if told)
                yield f"{indent}{name}: {', '.join(texts)}"


def _short(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    text = str(value)
    return f"{text[:16]}..." if len(text) == _DIGEST and text.isalnum() else text


def _print_steps(report: Report, indent: str) -> None:
    told: set[str] = set()  # the same finding on several certificates has one cure
    for step in report.steps:
        detail = f": {clean(step.detail)}" if step.detail else ""
        mark = "??  " if step.verdict is Verdict.INDETERMINATE and step.ok is False else _MARKS[step.ok]
        click.echo(f"{indent}{mark} {step.number:<7} {clean(step.name)}{detail}")
        for sentence in () if step.code in told else _sentences(step):
            click.echo(f"{indent}             {sentence}")
        told.add(step.code)
    for part in report.parts:
        sub = f" ({part.sub_indication.value})" if part.sub_indication else ""
        click.echo(f"{indent}- {clean(part.subject)}: {part.verdict.value}{sub}")
        _print_steps(part, indent + "    ")


def _sentences(step: Step) -> Iterator[str]:
    """Yield the Turkish and the English sentence for what does not hold or could not be checked."""
    if step.ok is not True:
        yield from (clean(one) for one in sentences_of(step) if one)


def clean(text: str) -> str:
    """Return text from a verified file so that it cannot steer the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
