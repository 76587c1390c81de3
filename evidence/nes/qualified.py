"""What makes a certificate a Turkish qualified one (NES), checked as numbered steps.

(spec: law 5070 and its communiqué as read in signing.md 2.2)
"""

from functools import lru_cache
from typing import Final, NamedTuple

from evidence.asn1.der import INTEGER, PRINTABLE_STRING, Cursor, DerError, parse, to_int, to_text
from evidence.nes.policy import DEFAULT_NES_POLICY, NesPolicy
from evidence.report import Step, SubIndication, Verdict
from evidence.x509.certificates import (
    BTK_SEAL,
    BTK_SIGNATURE,
    NON_REPUDIATION,
    QC_COMPLIANCE,
    QC_LIMIT,
    CertificateFacts,
)

__all__ = [
    "BTK_RESTRICTIONS",
    "DEFAULT_NES_POLICY",
    "MoneyLimit",
    "NesPolicy",
    "is_seal",
    "money_limit",
    "qualified_steps",
    "restrictions",
]

BTK_RESTRICTIONS: Final = ("2.16.792.1.61.0.1.5070.1.3", "2.16.792.1.61.0.1.5070.2.2")
"""Statements that the certificate's use is restricted, of a signature's and of a seal's."""
_LIMIT_MAX: Final = 64


class MoneyLimit(NamedTuple):
    """How much a signature may be worth: ``amount * 10 ** exponent`` (spec: EN319412-5#4.3.2)."""

    currency: str
    amount: int
    exponent: int


class _Problem(NamedTuple):
    code: str
    detail: str


def qualified_steps(
    facts: CertificateFacts, policy: NesPolicy, *, number: str, first: int
) -> tuple[Step, ...]:
    """Return the three steps ``number.first`` and following: statements, key usage, policies.

    Every failure is INDETERMINATE / CHAIN_CONSTRAINTS_FAILURE (spec: EN319102-1#5.2.6).
    """
    return _steps(
        facts, policy.allow_seals, policy.transaction_policies, policy.refused_policy_arcs, number, first
    )


@lru_cache(maxsize=1024)  # a pure memo by certificate: senders write more than one message
def _steps(
    facts: CertificateFacts,
    allow_seals: bool,  # noqa: FBT001 - the memo's key, by place
    transaction: frozenset[str],
    arcs: tuple[str, ...],
    number: str,
    first: int,
) -> tuple[Step, ...]:
    listed = restrictions(facts)
    note = f"usage restricted by {', '.join(listed)}" if listed else ""
    return (
        _step(
            f"{number}.{first}",
            "qualified certificate statements",
            _statements(facts, allow_seals=allow_seals),
            note,
            "usage-restricted" if listed else "",
        ),
        _step(f"{number}.{first + 1}", "key usage", _key_usage(facts)),
        _step(f"{number}.{first + 2}", "certificate policies", _policies(facts, transaction, arcs)),
    )


def _step(number: str, name: str, problem: _Problem | None, note: str = "", code: str = "") -> Step:
    if problem is None:
        return Step(number, name, ok=True, detail=note, code=code)
    constraint = SubIndication.CHAIN_CONSTRAINTS_FAILURE
    return Step(
        number,
        name,
        ok=False,
        detail=problem.detail,
        sub_indication=constraint,
        verdict=Verdict.INDETERMINATE,
        code=problem.code,
    )


def _statements(facts: CertificateFacts, *, allow_seals: bool) -> _Problem | None:
    if not facts.has_qc(QC_COMPLIANCE):
        return _Problem("not-qualified", f"no statement {QC_COMPLIANCE}: not a qualified certificate")
    if facts.has_qc(BTK_SIGNATURE):
        return None
    if facts.has_qc(BTK_SEAL):
        problem = _Problem("seal-not-allowed", "a qualified seal, which this account may not use")
        return None if allow_seals else problem
    return _Problem("not-under-law-5070", "no statement under law 5070")


def _key_usage(facts: CertificateFacts) -> _Problem | None:
    if facts.extensions.is_ca:
        return _Problem("authority", "an authority's certificate")
    usage = facts.extensions.key_usage
    if usage is not None and NON_REPUDIATION in usage:
        return None
    return _Problem("no-non-repudiation", "nonRepudiation is not set")


def _policies(facts: CertificateFacts, transaction: frozenset[str], arcs: tuple[str, ...]) -> _Problem | None:
    listed = facts.extensions.policies
    if any(one.oid in transaction for one in listed):
        return _Problem("transaction-certificate", "a provider's transaction certificate")
    for one in listed:
        if any(one.oid == arc or one.oid.startswith(arc + ".") for arc in arcs):
            return _Problem("mali-muhur", f"policy {one.oid} is no qualified signature (Mali Mühür)")
    if not any(text.strip() for one in listed for text in one.notices):
        return _Problem("no-user-notice", "no user notice")
    return None


# --------------------------------------------------------------------------- what is recorded


@lru_cache(maxsize=1024)
def is_seal(facts: CertificateFacts) -> bool:
    """Say whether the certificate is a qualified seal's and no person's."""
    return facts.has_qc(BTK_SEAL) and not facts.has_qc(BTK_SIGNATURE)


def restrictions(facts: CertificateFacts) -> tuple[str, ...]:
    """Return the statements that restrict the certificate's use; what they say is for people to read."""
    return tuple(oid for oid in BTK_RESTRICTIONS if facts.has_qc(oid))


@lru_cache(maxsize=1024)
def money_limit(facts: CertificateFacts) -> MoneyLimit | None:
    """Return the money limit of the certificate; None where there is none, or none that can be read."""
    info = next((one.info for one in facts.extensions.qc_statements if one.oid == QC_LIMIT), b"")
    try:
        cursor = Cursor(parse(info, max_size=_LIMIT_MAX), limit=3)
        currency = cursor.take()
        amount, exponent = to_int(cursor.take(INTEGER)), to_int(cursor.take(INTEGER))
        cursor.finish()
        text = to_text(currency) if currency.tag == PRINTABLE_STRING else f"{to_int(currency):03d}"
    except DerError:
        return None
    return MoneyLimit(text, amount, exponent)
