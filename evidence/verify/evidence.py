"""Verify one evidence XML offline.

The steps, in this order; the earliest failing one decides (spec: EN319102-1#5, signing §1, §2.7):

1. format: strict XML and the one signature shape (`evidence.xades.check`)
2. digests of the document and the SignedProperties
3. signing certificate: SigningCertificate digest and IssuerSerial match a certificate of KeyInfo
4. signature value
5. byte identity: our own evidence equals, byte for byte, what our writer makes of it
6. time stamp: over the signature value inside (XAdES-T), or an evidence record over the whole file beside
   it (RFC 4998), or both, and then both must hold (none: a warning, "no proof of time"); 6.1 and 6.2 say
   what each of them found
7. chain to a given root, at the stamp's time or else at the verification time
8. algorithms allowed; 8.1 for our own evidence: the bytes no signature covers (embedded certificates,
   versions and sets inside the token)
9. content readable from the bytes that were hashed
10. role: a transaction certificate of the provider named as issuer
11. order of times: event, signature and stamp do not contradict each other; a stamp much later than the
    event is a note: a provider makes such evidence in the grace of D16, and where it dates evidence back

An evidence record proves that the whole file, its embedded stamp included, existed at its time: the
embedded stamp is then judged for that time and may have expired since.

An export as XAdES-B-LTA (`evidence.xades.lta`) is judged as the evidence inside it, with the steps that
`evidence.xades.lta_check` adds: 6.3, 8.2 and 8.3. The evidence record beside it is the one of the evidence as
it was stored, or one over the export itself.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import new as new_hash
from typing import Final, NamedTuple

from evidence.forms import serialise
from evidence.model.records import NAMES, EvidenceRecord
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from evidence.stamps.ers_check import RecordCheck, check_record
from evidence.stamps.stamp_check import NO_PROOF, StampCheck, chain_step, check_stamps, failed, token_problem
from evidence.stamps.timestamps import TokenReport
from evidence.x509.algorithms import AlgorithmPolicy, Role
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import Chain, TrustStore
from evidence.x509.role import DEFAULT_SEAL_POLICY, SealPolicy, domain_of, transaction_problem
from evidence.xades.check import XadesSignature, open_signature
from evidence.xades.lta import Archived, open_archived
from evidence.xades.lta_check import ProvenPath, archive_steps, check_archive_stamp
from evidence.xml.canonical import XadesError
from evidence.xml.reader import EvidenceFormatError, format_time

__all__ = [
    "CLOCK_TOLERANCE", "EvidenceCheck", "StampCheck", "chain_step", "check_evidence", "check_stamps",
    "failed", "token_problem", "verify_evidence",
]  # fmt: skip

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
STAMPED_LATE: Final = timedelta(hours=1)
"""A stamp is got before anybody sees the evidence, apart from a short grace: what is this late is told."""
_FORMAT_HOLDS: Final = Step("1", "format", ok=True)
_DIGESTS_HOLD: Final = Step("2", "digests", ok=True)
_VALUE_HOLDS: Final = Step("4", "signature value", ok=True)
_IDENTICAL: Final = Step("5", "byte identity", ok=True)
_NOTHING_ELSE: Final = Step("8.1", "embedded material", ok=True)
_IN_ORDER: Final = Step("11", "order of times", ok=True)


@dataclass(frozen=True, slots=True)
class EvidenceCheck:
    """What a verification found; the facts are None where it did not get that far."""

    report: Report
    record: EvidenceRecord | None = None
    chain: Chain | None = None
    stamped_at: datetime | None = None
    tsa: CertificateFacts | None = None
    own: bool = False
    ers: RecordCheck | None = None  # what the evidence record beside the file says
    archived_at: datetime | None = None  # time of the archive stamp of an export as XAdES-B-LTA

    @property
    def passed(self) -> bool:
        """Say whether the verdict is TOTAL-PASSED."""
        return self.report.passed


def verify_evidence(
    xml: bytes,
    trust: TrustStore | None,
    at: datetime,
    policy: SealPolicy = DEFAULT_SEAL_POLICY,
    *,
    ers: bytes | None = None,
) -> Report:
    """Verify an evidence and return the report; see the module's docstring for the steps.

    Args:
        xml: untrusted bytes.
        trust: configured roots; None or empty: at best INDETERMINATE.
        at: the verification time, UTC.
        policy: which certificates seal.
        ers: the evidence record (RFC 4998, DER) over exactly these bytes, where one came along; untrusted.
    """
    return check_evidence(xml, trust, at, policy, ers=ers).report


def check_evidence(
    xml: bytes,
    trust: TrustStore | None,
    at: datetime,
    policy: SealPolicy = DEFAULT_SEAL_POLICY,
    *,
    subject: str = "evidence",
    ers: bytes | None = None,
) -> EvidenceCheck:
    """Verify an evidence and return the report with what was read; see `verify_evidence`."""
    trust = TrustStore(()) if trust is None else trust
    steps: list[Step] = []
    try:
        archived = open_archived(xml)
        signature = open_signature(xml) if archived is None else archived.signature
        steps.append(_FORMAT_HOLDS)
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
    stamps = _stamps(signature, archived, ers, _Setting(trust, at, policy.algorithms))
    stamped_at = stamps.stamped_at
    steps += [_identity_step(signature), *stamps.steps]
    chain, step = chain_step(certificate, signature.certificates, trust, at, stamped_at, number="7")
    steps += [step, _algorithm_step(signature, certificate, policy, stamped_at or at)]
    if chain is not None and signature.own:
        steps.append(_frame_step(signature, chain, stamps.embedded.best))
        steps += _archived_steps(archived, chain, stamps, trust)
    record, step = _content_step(signature)
    steps.append(step)
    if record is not None:
        steps += [
            _role_step(certificate, record, policy),
            _order_step(record, signature.signing_time, stamped_at, at),
        ]
    facts = _facts(record, certificate, stamped_at)
    archived_at = None if stamps.archive is None else stamps.archive.stamped_at
    if archived_at is not None:
        facts["archived_at"] = format_time(archived_at)
    report = conclude(subject, steps, at, facts=facts, parts=stamps.reports)
    return EvidenceCheck(
        report, record, chain, stamped_at, stamps.tsa, signature.own, stamps.record, archived_at
    )


def _integrity(signature: XadesSignature, steps: list[Step]) -> CertificateFacts | None:
    """Make steps 2 to 4; None where the signature does not hold."""
    broken = next((reference for reference in signature.references if not reference.holds), None)
    if broken is not None:
        steps.append(failed("2", "digests", f"{broken.what} was changed", SubIndication.HASH_FAILURE))
        return None
    steps.append(_DIGESTS_HOLD)
    certificate = signature.signing_certificate()
    steps.append(Step("3", "signing certificate", ok=True, detail=certificate.subject_text))
    if not signature.value_holds(certificate):
        steps.append(
            failed("4", "signature value", "the signature does not hold", SubIndication.SIG_CRYPTO_FAILURE)
        )
        return None
    steps.append(_VALUE_HOLDS)
    return certificate


def _identity_step(signature: XadesSignature) -> Step:
    if not signature.own:
        return Step(
            "5", "byte identity", ok=None, detail="another writer's evidence: only signed parts are covered"
        )
    if signature.rewritten() != signature.document:
        return failed("5", "byte identity", "bytes outside the signed parts were changed")
    return _IDENTICAL


@dataclass(frozen=True, slots=True)
class _Stamps:
    """Both kinds of stamps together."""

    embedded: StampCheck
    record: RecordCheck | None
    archive: StampCheck | None = None  # of an export as XAdES-B-LTA

    @property
    def best(self) -> TokenReport | None:
        """Return the earliest stamp that holds."""
        found = [] if self.embedded.best is None else [self.embedded.best]
        if self.record is not None and self.record.passed:
            found += self.record.tokens[:1]
        return min(found, key=lambda token: (token.gen_time is None, token.gen_time), default=None)

    @property
    def stamped_at(self) -> datetime | None:
        """Return the earliest proven time."""
        return None if self.best is None else self.best.gen_time

    @property
    def tsa(self) -> CertificateFacts | None:
        """Return the certificate of the authority whose stamp proves the time."""
        return None if self.best is None else self.best.certificate

    @property
    def reports(self) -> tuple[Report, ...]:
        """Return the reports of all stamps."""
        record = () if self.record is None else (self.record.report,)
        return (*self.embedded.reports, *record, *(() if self.archive is None else self.archive.reports))

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return step 6; with several kinds of stamps 6.1, 6.2 and 6.3."""
        if self.archive is not None:
            inside = self.embedded.step._replace(number="6.1")
            beside = () if self.record is None else (_record_step(self.record)._replace(number="6.2"),)
            return (inside, *beside, self.archive.step)
        if self.record is None:
            return (self.embedded.step,)
        found = _record_step(self.record)
        if self.embedded.step.detail == NO_PROOF:
            return (found,)
        return (self.embedded.step._replace(number="6.1"), found._replace(number="6.2"))


class _Setting(NamedTuple):
    """What stamps are judged by."""

    trust: TrustStore
    at: datetime
    algorithms: AlgorithmPolicy

    def record(self, ers: bytes, document: bytes, *, ours: bool) -> RecordCheck:
        """Judge an evidence record over a document."""
        return check_record(
            ers, lambda name: new_hash(name, document).digest(), self.trust, self.at,
            ours=ours, algorithms=self.algorithms,
        )  # fmt: skip


def _stamps(
    signature: XadesSignature, archived: Archived | None, ers: bytes | None, setting: _Setting
) -> _Stamps:
    if archived is not None:
        return _archived_stamps(archived, ers, setting)
    record, proven = None, setting.at
    if ers is not None:
        record = setting.record(ers, signature.document, ours=signature.own)
        proven = _proven(record, setting.at)
    embedded = check_stamps(signature.tokens, signature.stamped, setting.trust, proven, number="6")
    return _Stamps(embedded, record)


def _archived_stamps(archived: Archived, ers: bytes | None, setting: _Setting) -> _Stamps:
    """Judge every stamp of an export for the time that the next one over it proves."""
    trust, at = setting.trust, setting.at
    record, stamp_at, archive_at = None, at, at
    if ers is not None:
        # Beside an export lies the record of what was stored; the archiver may make one over the export.
        documents = (archived.unstamped, archived.stamped, archived.document)
        found = [setting.record(ers, document, ours=True) for document in documents]
        record = next((one for one in found if one.passed), found[0])
        stamp_at = _proven(record, at) if record is not found[0] else at
        archive_at = _proven(record, at) if record is found[2] else at
    archive = check_archive_stamp(archived, trust, archive_at)
    stamp_at = min(stamp_at, archive.stamped_at or at)
    signature = archived.signature
    embedded = check_stamps(signature.tokens, signature.stamped, trust, stamp_at, number="6")
    return _Stamps(embedded, record, archive)


def _proven(record: RecordCheck, at: datetime) -> datetime:
    return min(record.proven_at, at) if record.passed and record.proven_at is not None else at


def _record_step(record: RecordCheck) -> Step:
    if record.passed:
        detail = (
            f"{format_time(record.proven_at)}, evidence record" if record.proven_at else "evidence record"
        )
        return Step("6", "time stamp", ok=True, detail=detail)
    step, sub = record.report.failing_step, record.report.sub_indication or SubIndication.GENERIC
    detail = f"evidence record: {step.name}: {step.detail}" if step else "the evidence record does not hold"
    return failed("6", "time stamp", detail, sub, record.report.verdict)


def _frame_step(signature: XadesSignature, chain: Chain, stamp: TokenReport | None) -> Step:
    """Our own evidence carries its paths and nothing else: what no signature covers is checked here."""
    name = "embedded material"
    if tuple(facts.der for facts in chain.certificates[:-1]) != signature.certificates:
        return failed("8.1", name, "KeyInfo holds other certificates than the path")
    problem = None if stamp is None else token_problem(stamp)
    if problem is not None:
        return failed("8.1", name, f"time stamp: {problem}")
    return _NOTHING_ELSE


def _archived_steps(
    archived: Archived | None, chain: Chain, stamps: _Stamps, trust: TrustStore
) -> list[Step]:
    if (
        archived is None
        or stamps.archive is None
        or stamps.archive.best is None
        or stamps.embedded.best is None
    ):
        return []  # no export, or a stamp failed already
    signer = ProvenPath(chain, stamps.stamped_at)
    return archive_steps(archived, signer, stamps.embedded.best, stamps.archive.best, trust)


def _algorithm_step(
    signature: XadesSignature, certificate: CertificateFacts, policy: SealPolicy, at: datetime
) -> Step:
    name = signature.algorithm.hash_name or ""
    refusal = policy.algorithms.refusal(Role.SIGNER, signature.algorithm, name, certificate.key.size, at)
    if refusal is None:
        return Step("8", "algorithms", ok=True, detail=f"{signature.algorithm.family} {name}")
    sub = SubIndication.CRYPTO_CONSTRAINTS_FAILURE
    return failed("8", "algorithms", refusal, sub, Verdict.INDETERMINATE)


def _content_step(signature: XadesSignature) -> tuple[EvidenceRecord | None, Step]:
    again = signature.made_again
    try:
        record = serialise.read(signature.body) if again is None else again.record
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
    if stamped_at is not None and stamped_at - record.event_time > STAMPED_LATE:
        late = str(stamped_at - record.event_time).partition(".")[0]
        detail = f"stamped {late} after the time the event claims; nobody else vouches for that earlier time"
        return Step("11", "order of times", ok=None, detail=detail)
    return _IN_ORDER


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
