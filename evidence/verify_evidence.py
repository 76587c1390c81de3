"""Verify one evidence XML offline.

The steps, in this order; the earliest failing one decides (spec: EN319102-1#5, signing §1, §2.7):

1. format: strict XML and the one signature shape (`evidence.xades_verify`)
2. digests of the document and the SignedProperties
3. signing certificate: SigningCertificate digest and IssuerSerial match a certificate of KeyInfo
4. signature value
5. byte identity: our own evidence equals, byte for byte, what our writer makes of it
6. time stamp over the signature value (none: a warning, "no proof of time")
7. chain to a given root, at the stamp's time or else at the verification time
8. algorithms allowed; 8.1 for our own evidence: the bytes no signature covers (embedded certificates,
   versions and sets inside the token)
9. content readable from the bytes that were hashed
10. role: a transaction certificate of the provider named as issuer
11. order of times: event, signature and stamp do not contradict each other
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import new as new_hash
from typing import Final

from evidence import rem_xml
from evidence.algorithms import Role
from evidence.certificates import CertificateError, CertificateFacts, certificate_facts
from evidence.chain import Chain, ChainFailure, TrustStore, build_chain
from evidence.cms_frame import frame_problem
from evidence.records import NAMES, EvidenceRecord
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from evidence.role import DEFAULT_SEAL_POLICY, SealPolicy, domain_of, transaction_problem
from evidence.timestamps import TokenReport, verify_token
from evidence.xades_verify import XadesSignature, open_signature
from evidence.xml_canonical import XadesError
from evidence.xml_reader import EvidenceFormatError, format_time

CLOCK_TOLERANCE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class EvidenceCheck:
    """What a verification found; the facts are None where it did not get that far."""

    report: Report
    record: EvidenceRecord | None = None
    chain: Chain | None = None
    stamped_at: datetime | None = None
    tsa: CertificateFacts | None = None
    own: bool = False

    @property
    def passed(self) -> bool:
        """Say whether the verdict is TOTAL-PASSED."""
        return self.report.passed


@dataclass(frozen=True, slots=True)
class StampCheck:
    """The outcome of looking at the time stamps: a step, their reports, and the earliest good time."""

    step: Step
    reports: tuple[Report, ...]
    best: TokenReport | None


def failed(
    number: str,
    name: str,
    detail: str,
    sub: SubIndication = SubIndication.FORMAT_FAILURE,
    verdict: Verdict = Verdict.FAILED,
) -> Step:
    """Return a failing step."""
    return Step(number, name, ok=False, detail=detail, sub_indication=sub, verdict=verdict)


def verify_evidence(
    xml: bytes, trust: TrustStore | None, at: datetime, policy: SealPolicy = DEFAULT_SEAL_POLICY
) -> Report:
    """Verify an evidence and return the report; see the module's docstring for the steps.

    Args:
        xml: untrusted bytes.
        trust: configured roots; None or empty: at best INDETERMINATE.
        at: the verification time, UTC.
        policy: which certificates seal.
    """
    return check_evidence(xml, trust, at, policy).report


def check_evidence(
    xml: bytes,
    trust: TrustStore | None,
    at: datetime,
    policy: SealPolicy = DEFAULT_SEAL_POLICY,
    *,
    subject: str = "evidence",
) -> EvidenceCheck:
    """Verify an evidence and return the report with what was read; see `verify_evidence`."""
    trust = TrustStore(()) if trust is None else trust
    steps: list[Step] = []
    try:
        signature = open_signature(xml)
        steps.append(Step("1", "format", ok=True))
        certificate = _integrity(signature, steps)
    except XadesError as error:
        number = str(len(steps) + 1)
        verdict = Verdict.FAILED
        if error.sub not in {SubIndication.FORMAT_FAILURE, SubIndication.HASH_FAILURE}:
            verdict = Verdict.INDETERMINATE
        steps.append(
            failed(number, "format" if number == "1" else "signature", str(error), error.sub, verdict)
        )
        return EvidenceCheck(conclude(subject, steps, at))
    if certificate is None:
        return EvidenceCheck(conclude(subject, steps, at))
    stamps = check_stamps(signature.tokens, signature.stamped, trust, at, number="6")
    stamped_at = stamps.best.gen_time if stamps.best else None
    steps += [_identity_step(signature), stamps.step]
    chain, step = chain_step(certificate, signature.certificates, trust, at, stamped_at, number="7")
    steps += [step, _algorithm_step(signature, certificate, policy, stamped_at or at)]
    if chain is not None and signature.own:
        steps.append(_frame_step(signature, chain, stamps.best, trust))
    record, step = _content_step(signature.body)
    steps.append(step)
    if record is not None:
        steps += [
            _role_step(certificate, record, policy),
            _order_step(record, signature.signing_time, stamped_at, at),
        ]
    facts = _facts(record, certificate, stamped_at)
    report = conclude(subject, steps, at, facts=facts, parts=stamps.reports)
    tsa = stamps.best.certificate if stamps.best else None
    return EvidenceCheck(report, record, chain, stamped_at, tsa, signature.own)


def _integrity(signature: XadesSignature, steps: list[Step]) -> CertificateFacts | None:
    """Make steps 2 to 4; None where the signature does not hold."""
    broken = next((reference for reference in signature.references if not reference.holds), None)
    if broken is not None:
        steps.append(failed("2", "digests", f"{broken.what} was changed", SubIndication.HASH_FAILURE))
        return None
    steps.append(Step("2", "digests", ok=True))
    certificate = signature.signing_certificate()
    steps.append(Step("3", "signing certificate", ok=True, detail=certificate.subject_text))
    if not signature.value_holds(certificate):
        steps.append(
            failed("4", "signature value", "the signature does not hold", SubIndication.SIG_CRYPTO_FAILURE)
        )
        return None
    steps.append(Step("4", "signature value", ok=True))
    return certificate


def _identity_step(signature: XadesSignature) -> Step:
    if not signature.own:
        return Step(
            "5", "byte identity", ok=None, detail="another writer's evidence: only signed parts are covered"
        )
    if signature.rewritten() != signature.document:
        return failed("5", "byte identity", "bytes outside the signed parts were changed")
    return Step("5", "byte identity", ok=True)


def check_stamps(
    tokens: tuple[bytes, ...], stamped: bytes, trust: TrustStore, at: datetime, *, number: str
) -> StampCheck:
    """Verify signature time stamps: none is a warning, a broken one fails, the earliest counts."""
    if not tokens:
        return StampCheck(Step(number, "time stamp", ok=None, detail="no proof of time"), (), None)
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


def _frame_step(
    signature: XadesSignature, chain: Chain, stamp: TokenReport | None, trust: TrustStore
) -> Step:
    """Our own evidence carries its paths and nothing else: what no signature covers is checked here."""
    name = "embedded material"
    if tuple(facts.der for facts in chain.certificates[:-1]) != signature.certificates:
        return failed("8.1", name, "KeyInfo holds other certificates than the path")
    problem = None if stamp is None else token_problem(stamp, trust)
    if problem is not None:
        return failed("8.1", name, f"time stamp: {problem}")
    return Step("8.1", name, ok=True)


def token_problem(stamp: TokenReport, trust: TrustStore) -> str | None:
    """Return what stands in a verified token's uncovered bytes that should not."""
    if stamp.certificate is None or stamp.gen_time is None or stamp.token is None:
        return "not verified"
    embedded = stamp.token.signed.certificates
    chain, _ = chain_step(stamp.certificate, embedded, trust, stamp.gen_time, None, number="0")
    if chain is None:
        return "no path"
    return frame_problem(stamp.token.der, [facts.der for facts in chain.certificates])


def _algorithm_step(
    signature: XadesSignature, certificate: CertificateFacts, policy: SealPolicy, at: datetime
) -> Step:
    name = signature.algorithm.hash_name or ""
    refusal = policy.algorithms.refusal(Role.SIGNER, signature.algorithm, name, certificate.key.size, at)
    if refusal is None:
        return Step("8", "algorithms", ok=True, detail=f"{signature.algorithm.family} {name}")
    sub = SubIndication.CRYPTO_CONSTRAINTS_FAILURE
    return failed("8", "algorithms", refusal, sub, Verdict.INDETERMINATE)


def _content_step(body: bytes) -> tuple[EvidenceRecord | None, Step]:
    try:
        record = rem_xml.read(body)
    except EvidenceFormatError as error:
        return None, failed("9", "content", str(error))
    return record, Step("9", "content", ok=True, detail=f"{record.kind.value} {NAMES[record.kind].event}")


def _role_step(certificate: CertificateFacts, record: EvidenceRecord, policy: SealPolicy) -> Step:
    problem = transaction_problem(certificate, (domain_of(record.issuer.address),), policy)
    if problem is None:
        return Step("10", "role", ok=True, detail=record.issuer.address)
    return failed("10", "role", problem, SubIndication.CHAIN_CONSTRAINTS_FAILURE)


def _order_step(
    record: EvidenceRecord, signing_time: datetime | None, stamped_at: datetime | None, at: datetime
) -> Step:
    latest = (stamped_at or at) + CLOCK_TOLERANCE
    for what, time in (("event", record.event_time), ("signing time", signing_time)):
        if time is not None and time > latest:
            detail = f"the {what} lies after {'the stamp' if stamped_at else 'the verification time'}"
            sub = SubIndication.TIMESTAMP_ORDER_FAILURE
            return failed("11", "order of times", detail, sub, Verdict.INDETERMINATE)
    return Step("11", "order of times", ok=True)


def _facts(
    record: EvidenceRecord | None, certificate: CertificateFacts, stamped_at: datetime | None
) -> dict[str, object]:
    facts: dict[str, object] = {
        "signer": certificate.subject_text,
        "stamped_at": format_time(stamped_at) if stamped_at else None,
    }
    if record is None:
        return facts
    concerned = record.recipients[record.refers_to - 1].address if record.refers_to else None
    return facts | {
        "code": record.kind.value,
        "event": NAMES[record.kind].event,
        "evidence_id": record.evidence_id,
        "issuer": record.issuer.address,
        "issuer_name": record.issuer.name,
        "event_time": format_time(record.event_time),
        "submission_time": format_time(record.submission_time),
        "sender": record.sender.address,
        "recipients": [party.address for party in record.recipients],
        "refers_to": concerned,
        "message_id": record.message.kep_message_id,
        "subject": record.message.subject,
        "digest_sha256": record.message.digest_sha256.hex(),
        "reasons": [f"{reason.code.value} {reason.details}".strip() for reason in record.reasons],
    }
