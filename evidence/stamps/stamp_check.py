"""Time stamps and chains as evidence, seals and evidence records need them: steps of a report.

A stamp is verified over given bytes; a chain is built at the proven time or, without one, at the
verification time.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import new as new_hash
from typing import Final

from evidence.cms.frame import frame_problem
from evidence.report import Report, Step, SubIndication, Verdict
from evidence.stamps.timestamps import TokenReport, verify_token
from evidence.x509.certificates import CertificateError, CertificateFacts, certificate_facts
from evidence.x509.chain import Chain, ChainFailure, TrustStore, build_chain
from evidence.xml.reader import format_time

NO_PROOF: Final = "no proof of time"
"""Detail of the note on evidence without any stamp."""


@dataclass(frozen=True, slots=True)
class StampCheck:
    """The outcome of looking at the time stamps: a step, their reports, and the earliest good one."""

    step: Step
    reports: tuple[Report, ...]
    best: TokenReport | None

    @property
    def stamped_at(self) -> datetime | None:
        """Return the proven time, None without one."""
        return None if self.best is None else self.best.gen_time


def failed(
    number: str,
    name: str,
    detail: str,
    sub: SubIndication = SubIndication.FORMAT_FAILURE,
    verdict: Verdict = Verdict.FAILED,
) -> Step:
    """Return a failing step."""
    return Step(number, name, ok=False, detail=detail, sub_indication=sub, verdict=verdict)


def check_stamps(
    tokens: tuple[bytes, ...], stamped: bytes, trust: TrustStore, at: datetime, *, number: str
) -> StampCheck:
    """Verify signature time stamps: none is a warning, a broken one fails, the earliest counts."""
    if not tokens:
        return StampCheck(Step(number, "time stamp", ok=None, detail=NO_PROOF), (), None)
    checks = [
        verify_token(token, imprint=lambda name: new_hash(name, stamped).digest(), trust=trust, at=at)
        for token in tokens
    ]
    reports = tuple(check.report for check in checks)
    bad = next((report for report in reports if not report.passed), None)
    if bad is not None:
        step = bad.failing_step
        sub = bad.sub_indication or SubIndication.GENERIC
        detail = f"{step.name}: {step.detail}" if step else "not valid"
        return StampCheck(failed(number, "time stamp", detail, sub, bad.verdict), reports, None)
    best = min(checks, key=lambda check: (check.gen_time is None, check.gen_time))
    detail = format_time(best.gen_time) if best.gen_time else ""
    return StampCheck(Step(number, "time stamp", ok=True, detail=detail), reports, best)


def chain_step(
    certificate: CertificateFacts,
    offered: tuple[bytes, ...],
    trust: TrustStore,
    at: datetime,
    stamped_at: datetime | None,
    *,
    number: str,
) -> tuple[Chain | None, Step]:
    """Build the chain at the proven time, or at ``at``; expired without proof of time is no failure."""
    candidates = []
    for der in offered:
        try:
            candidates.append(certificate_facts(der))
        except CertificateError:
            continue
    found = build_chain(certificate, candidates, trust, stamped_at or at)
    if isinstance(found, Chain):
        return found, Step(number, "chain", ok=True, detail=found.root.subject_text)
    return None, _chain_failure(found, number, proven=stamped_at is not None)


def _chain_failure(found: ChainFailure, number: str, *, proven: bool) -> Step:
    if found.sub_indication is SubIndication.EXPIRED and not proven:
        sub, verdict = SubIndication.OUT_OF_BOUNDS_NO_POE, Verdict.INDETERMINATE
        return failed(number, "chain", found.detail, sub, verdict)
    return failed(number, "chain", found.detail, found.sub_indication, found.verdict)


def token_problem(stamp: TokenReport) -> str | None:
    """Return what stands in a verified token's uncovered bytes that should not."""
    if stamp.token is None:
        return "not verified"
    if stamp.chain is None:
        return "no path"
    return frame_problem(stamp.token.signed, [facts.der for facts in stamp.chain.certificates])
