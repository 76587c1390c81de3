"""What makes a certificate a Turkish qualified one (NES), checked as numbered steps.

(spec: law 5070 and its communiqué as read in signing.md 2.2)
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from evidence.cms.signed_data import DEFAULT_RULES, CmsRules
from evidence.mail.smime import DEFAULT_SMIME_LIMITS, SmimeLimits
from evidence.report import Step, SubIndication, Verdict
from evidence.x509.algorithms import DEFAULT_ALGORITHMS, AlgorithmPolicy
from evidence.x509.certificates import (
    BTK_SEAL,
    BTK_SIGNATURE,
    MALI_MUHUR_ARC,
    NON_REPUDIATION,
    QC_COMPLIANCE,
    TEST_TRANSACTION_POLICY,
    CertificateFacts,
)
from evidence.x509.revocation import DEFAULT_FRESHNESS, FreshnessRules


@dataclass(frozen=True, slots=True)
class NesPolicy:
    """What a provider accepts as a sender's signature.

    ``allow_seals``: a qualified e-seal (5070.2.1) counts too; by account type only.
    ``transaction_policies``: policies of providers' transaction certificates, which never sign as senders.
    ``refused_policy_arcs``: these policies and all below them (Mali Mühür).
    ``signing_time_tolerance``: how far a claimed signing time may lie ahead of reception.
    """

    allow_seals: bool = False
    transaction_policies: frozenset[str] = frozenset({TEST_TRANSACTION_POLICY})
    refused_policy_arcs: tuple[str, ...] = (MALI_MUHUR_ARC,)
    signing_time_tolerance: timedelta = timedelta(minutes=5)
    algorithms: AlgorithmPolicy = DEFAULT_ALGORITHMS
    freshness: FreshnessRules = DEFAULT_FRESHNESS
    cms: CmsRules = DEFAULT_RULES
    limits: SmimeLimits = field(default=DEFAULT_SMIME_LIMITS)


DEFAULT_NES_POLICY: Final = NesPolicy()


def qualified_steps(facts: CertificateFacts, policy: NesPolicy, *, number: str, first: int) -> list[Step]:
    """Return the three steps ``number.first`` and following: statements, key usage, policies.

    Every failure is INDETERMINATE / CHAIN_CONSTRAINTS_FAILURE (spec: EN319102-1#5.2.6).
    """
    checks: tuple[tuple[str, Callable[[CertificateFacts, NesPolicy], str | None]], ...] = (
        ("qualified certificate statements", _statements),
        ("key usage", _key_usage),
        ("certificate policies", _policies),
    )
    steps = []
    for index, (name, check) in enumerate(checks, first):
        problem = check(facts, policy)
        if problem is None:
            steps.append(Step(f"{number}.{index}", name, ok=True))
        else:
            constraint = SubIndication.CHAIN_CONSTRAINTS_FAILURE
            failed = Step(f"{number}.{index}", name, False, problem, constraint, Verdict.INDETERMINATE)  # noqa: FBT003
            steps.append(failed)
    return steps


def _statements(facts: CertificateFacts, policy: NesPolicy) -> str | None:
    if not facts.has_qc(QC_COMPLIANCE):
        return f"no statement {QC_COMPLIANCE}: not a qualified certificate"
    if facts.has_qc(BTK_SIGNATURE):
        return None
    if facts.has_qc(BTK_SEAL):
        return None if policy.allow_seals else "a qualified seal, which this account may not use"
    return "no statement under law 5070"


def _key_usage(facts: CertificateFacts, _policy: NesPolicy) -> str | None:
    if facts.extensions.is_ca:
        return "an authority's certificate"
    usage = facts.extensions.key_usage
    return None if usage is not None and NON_REPUDIATION in usage else "nonRepudiation is not set"


def _policies(facts: CertificateFacts, policy: NesPolicy) -> str | None:
    listed = facts.extensions.policies
    if any(one.oid in policy.transaction_policies for one in listed):
        return "a provider's transaction certificate"
    for one in listed:
        if any(one.oid == arc or one.oid.startswith(arc + ".") for arc in policy.refused_policy_arcs):
            return f"policy {one.oid} is no qualified signature (Mali Mühür)"
    if not any(text.strip() for one in listed for text in one.notices):
        return "no user notice"
    return None
