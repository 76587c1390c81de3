"""Reports on senders' signatures as people and programs read them: each finding in two languages."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from evidence.nes.sentences import sentence
from evidence.report import Report, Step

_SENTENCES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "proof-of-time": (
            "İmzanın bu zamanda var olduğunu, imzayla birlikte saklanan zaman damgası kanıtlıyor.",
            "A time stamp that was kept with the signature proves that the signature existed then.",
        ),
        "proof-of-time-unusable": (
            "İmzayla saklanan zaman damgası doğrulanamadı; makamının kökünü --trust klasörüne koyun.",
            "A time stamp kept with the signature does not verify; put its authority's root into --trust.",
        ),
        "not-readable": (
            "Dosya okunamadı: ne ileti ne de imza; indirilen dosyanın aslını verin.",
            "The file cannot be read as a message or a signature; give it as it was received.",
        ),
    }
)
"""Of the findings that are not the verifier's own, by code."""


def sentences_of(step: Step) -> tuple[str, str]:
    """Return the Turkish and the English sentence for a step's finding, empty where it has no code."""
    if not step.code:
        return "", ""
    return _SENTENCES.get(step.code) or sentence(step)


def described(report: Report, *, all_steps: bool = False) -> dict[str, object]:
    """Return a report as plain data, with a Turkish and an English sentence for each finding.

    Args:
        report: of a sender's signature.
        all_steps: tell of what holds too; else only of what does not, or could not be checked.
    """
    return report.to_json() | {
        "steps": [described_step(step, all_steps=all_steps) for step in report.steps],
        "parts": [described(part, all_steps=all_steps) for part in report.parts],
    }


def described_step(step: Step, *, all_steps: bool = False) -> dict[str, object]:
    """Return one of a report's steps as `described` does."""
    plain = step.to_json()
    if step.code and (all_steps or step.ok is not True):
        plain["turkish"], plain["english"] = sentences_of(step)
    return plain
