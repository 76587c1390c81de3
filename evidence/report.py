"""Verification reports: what was checked, in which order, and what it means.

Names follow ETSI EN 319 102-1; the mapping of causes is ours (spec: EN319102-1#5.1).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple


class Verdict(StrEnum):
    """The three outcomes of a signature validation."""

    PASSED = "TOTAL-PASSED"
    FAILED = "TOTAL-FAILED"
    INDETERMINATE = "INDETERMINATE"


class SubIndication(StrEnum):
    """Why a validation did not pass. TRY_LATER is the only one that asks to wait."""

    FORMAT_FAILURE = "FORMAT_FAILURE"
    HASH_FAILURE = "HASH_FAILURE"
    SIG_CRYPTO_FAILURE = "SIG_CRYPTO_FAILURE"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"
    NOT_YET_VALID = "NOT_YET_VALID"
    NO_SIGNING_CERTIFICATE_FOUND = "NO_SIGNING_CERTIFICATE_FOUND"
    NO_CERTIFICATE_CHAIN_FOUND = "NO_CERTIFICATE_CHAIN_FOUND"
    CHAIN_CONSTRAINTS_FAILURE = "CHAIN_CONSTRAINTS_FAILURE"
    SIG_CONSTRAINTS_FAILURE = "SIG_CONSTRAINTS_FAILURE"
    CRYPTO_CONSTRAINTS_FAILURE = "CRYPTO_CONSTRAINTS_FAILURE"
    CERTIFICATE_CHAIN_GENERAL_FAILURE = "CERTIFICATE_CHAIN_GENERAL_FAILURE"
    REVOKED_NO_POE = "REVOKED_NO_POE"
    OUT_OF_BOUNDS_NO_POE = "OUT_OF_BOUNDS_NO_POE"
    TIMESTAMP_ORDER_FAILURE = "TIMESTAMP_ORDER_FAILURE"
    SIGNATURE_POLICY_NOT_AVAILABLE = "SIGNATURE_POLICY_NOT_AVAILABLE"
    POLICY_PROCESSING_ERROR = "POLICY_PROCESSING_ERROR"
    REVOKED_CA_NO_POE = "REVOKED_CA_NO_POE"
    OUT_OF_BOUNDS_NOT_REVOKED = "OUT_OF_BOUNDS_NOT_REVOKED"
    REVOCATION_OUT_OF_BOUNDS_NO_POE = "REVOCATION_OUT_OF_BOUNDS_NO_POE"
    CRYPTO_CONSTRAINTS_FAILURE_NO_POE = "CRYPTO_CONSTRAINTS_FAILURE_NO_POE"
    SIGNED_DATA_NOT_FOUND = "SIGNED_DATA_NOT_FOUND"
    NO_POE = "NO_POE"
    TRY_LATER = "TRY_LATER"
    GENERIC = "GENERIC"


class Step(NamedTuple):  # a tuple: a verification makes thirty, and frozen dataclasses are slow to make
    """One numbered check: ``ok`` is None where it could not be made (a warning, not a failure).

    ``code`` is the stable name of the finding (kebab case), "" where a report gives none.
    """

    number: str
    name: str
    ok: bool | None
    detail: str = ""
    sub_indication: SubIndication | None = None
    verdict: Verdict | None = None  # the verdict this step leads to when it fails
    code: str = ""

    def to_json(self) -> dict[str, object]:
        """Return plain data for ``--json``; keys are stable."""
        return {
            "number": self.number,
            "name": self.name,
            "ok": self.ok,
            "detail": self.detail,
            "sub_indication": self.sub_indication.value if self.sub_indication else None,
            "code": self.code,
        }


@lru_cache(maxsize=4096)  # a pure memo: the same steps hold for message after message
def held(number: str, name: str, detail: str = "", code: str = "") -> Step:
    """Return a step that passed."""
    return Step(number, name, True, detail, None, None, code)  # noqa: FBT003 - `ok` by place: this is hot


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found. The earliest failing step decides the verdict; all are kept."""

    subject: str
    verdict: Verdict
    sub_indication: SubIndication | None
    steps: tuple[Step, ...]
    at: datetime
    facts: dict[str, object] = field(default_factory=dict)
    parts: tuple["Report", ...] = ()

    @property
    def passed(self) -> bool:
        """Say whether the verdict is TOTAL-PASSED."""
        return self.verdict is Verdict.PASSED

    @property
    def failing_step(self) -> Step | None:
        """Return the step that decided a verdict other than TOTAL-PASSED."""
        return next((step for step in self.steps if step.ok is False), None)

    def to_json(self) -> dict[str, object]:
        """Return plain data for ``--json``; keys are stable."""
        return {
            "subject": self.subject,
            "verdict": self.verdict.value,
            "sub_indication": self.sub_indication.value if self.sub_indication else None,
            "at": self.at.isoformat(),
            "facts": dict(self.facts),
            "steps": [step.to_json() for step in self.steps],
            "parts": [part.to_json() for part in self.parts],
        }


def conclude(
    subject: str,
    steps: Iterable[Step],
    at: datetime,
    *,
    facts: dict[str, object] | None = None,
    parts: tuple[Report, ...] = (),
) -> Report:
    """Make a report: the earliest failing step decides; without one the parts decide, worst first."""
    listed = tuple(steps)
    failed = next((step for step in listed if step.ok is False), None)
    if failed is not None:
        verdict, sub = failed.verdict or Verdict.FAILED, failed.sub_indication or SubIndication.GENERIC
    else:
        verdict, sub = Verdict.PASSED, None
        for wanted in (Verdict.FAILED, Verdict.INDETERMINATE):
            worst = next((part for part in parts if part.verdict is wanted), None)
            if worst is not None:
                verdict, sub = wanted, worst.sub_indication
                break
    return Report(subject, verdict, sub, listed, at, facts or {}, parts)
