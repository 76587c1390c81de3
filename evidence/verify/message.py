"""Verify one KEP message (dispatch or receipt) offline.

The steps, in this order; the earliest failing one decides:

1. format: multipart/signed around sections that name themselves (`evidence.mail.kep_message`)
2. signature: one signer; attributes, digest of the signed entity, certificate, value (2.1 to 2.4)
3. time stamp over the signature (none: a warning; an unknown unsigned attribute fails)
4. chain to a given root, at the stamp's time or else at the verification time
5. algorithms allowed
6. evidence: every one inside is verified as in `evidence.verify.evidence`, with the evidence record (RFC
   4998) that travels beside it in an extension; their reports are parts. A record that fits none fails
7. issuer: the signer is the transaction certificate of the provider whose evidence is inside, or,
   for a forwarded receipt, of the sender's provider
8. original: its SHA-256 equals the digest in the evidence; no original beside a receipt's evidence
9. message: all evidence inside speaks of one message
10. byte identity: for messages of our own software the signature part is exactly what we write
11. outer headers: what a mail program shows equals what the evidence recorded
12. unsigned text before or after the signed part (reported, shown by no careful program)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import new as new_hash
from typing import Final

from evidence.asn1.der import DerError
from evidence.cms.signed_data import parse_signed_data
from evidence.mail.kep_message import (
    EvidenceFile,
    KepMessage,
    KepMessageError,
    digest_of_range,
    parse_kep_message,
)
from evidence.mail.mime import Part
from evidence.mail.outer_headers import outer_steps
from evidence.mail.package import signature_end
from evidence.model.records import NAMES, EvidenceKind, EvidenceRecord
from evidence.ports import ByteSource
from evidence.report import Report, Step, SubIndication, conclude
from evidence.seal.seal import Seal, check_seal, uncovered_problem
from evidence.stamps.stamp_check import failed
from evidence.verify.evidence import EvidenceCheck, check_evidence
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import Chain, TrustStore
from evidence.x509.role import (
    DEFAULT_SEAL_POLICY,
    SealPolicy,
    domain_of,
    provider_domains,
    transaction_problem,
)
from evidence.xml.reader import format_time

_DIRECT: Final = frozenset({EvidenceKind.SUBMISSION_ACCEPTANCE})
"""Evidence that stands in a dispatch."""
_RECORD_HASHES: Final = ("sha256", "sha384", "sha512")
NOT_OURS: Final = Step(
    "10", "byte identity", ok=None, detail="another writer's message: only signed parts are covered"
)


@dataclass(frozen=True, slots=True)
class MessageCheck:
    """What a verification found; the facts are empty where it did not get that far."""

    report: Report
    message: KepMessage | None = None
    evidences: tuple[EvidenceCheck, ...] = ()
    certificate: CertificateFacts | None = None  # whose signature holds, trusted or not
    chain: Chain | None = None
    stamped_at: datetime | None = None
    tsa: CertificateFacts | None = None
    original_sha256: bytes | None = None

    @property
    def passed(self) -> bool:
        """Say whether the verdict is TOTAL-PASSED."""
        return self.report.passed

    @property
    def records(self) -> tuple[EvidenceRecord, ...]:
        """Return the records of the evidence that could be read."""
        return tuple(check.record for check in self.evidences if check.record is not None)


def verify_kep_message(
    source: ByteSource, trust: TrustStore | None, at: datetime, policy: SealPolicy = DEFAULT_SEAL_POLICY
) -> Report:
    """Verify a KEP message and return the report; see the module's docstring for the steps.

    Args:
        source: the message as received, CRLF lines; read in pieces, never held.
        trust: configured roots; None or empty: at best INDETERMINATE.
        at: the verification time, UTC.
        policy: which certificates seal.
    """
    return check_kep_message(source, trust, at, policy).report


def check_kep_message(
    source: ByteSource,
    trust: TrustStore | None,
    at: datetime,
    policy: SealPolicy = DEFAULT_SEAL_POLICY,
    *,
    root: Part | None = None,
    subject: str = "KEP message",
) -> MessageCheck:
    """Verify a KEP message and return the report with what was read; see `verify_kep_message`.

    ``root`` spares a second scan where the structure is already known.
    """
    trust = TrustStore(()) if trust is None else trust
    try:
        message = parse_kep_message(source, root)
        signed = parse_signed_data(message.p7s)
        original = None if message.original is None else digest_of_range(source, message.original)
    except (KepMessageError, DerError) as error:
        return MessageCheck(conclude(subject, [failed("1", "format", str(error))], at))
    steps = [Step("1", "format", ok=True, detail="dispatch" if message.is_dispatch else "receipt")]
    matched, strays = match_records(message.evidences, message.extensions)
    evidences = tuple(
        check_evidence(file.content, trust, at, policy, subject=file.name or "evidence", ers=ers)
        for file, ers in zip(message.evidences, matched, strict=True)
    )
    seal = check_seal(
        signed, lambda name: digest_of_range(source, message.signed_entity, name), trust, at, policy
    )
    steps += seal.steps
    steps.append(_evidence_step(message, evidences, strays))
    records = [check.record for check in evidences if check.record is not None]
    records.sort(key=lambda record: record.kind not in _DIRECT)  # a dispatch is described by its acceptance
    if records:
        steps += _content_steps(source, message, seal, evidences, records, original, policy)
    parts = (*(check.report for check in evidences), *seal.stamps.reports)
    facts: dict[str, object] = {
        "type": "dispatch" if message.is_dispatch else "receipt",
        "signer": seal.certificate.subject_text if seal.certificate else None,
        "stamped_at": format_time(seal.stamped_at) if seal.stamped_at else None,
        "message_id": records[0].message.kep_message_id if records else None,
        "evidence": [f"{record.kind.value} {NAMES[record.kind].event}" for record in records],
        "original_sha256": original.hex() if original else None,
    }
    return MessageCheck(
        report=conclude(subject, steps, at, facts=facts, parts=parts),
        message=message,
        evidences=evidences,
        certificate=seal.certificate if seal.intact else None,
        chain=seal.chain,
        stamped_at=seal.stamped_at,
        tsa=seal.stamps.best.certificate if seal.stamps.best else None,
        original_sha256=original,
    )


def match_records(
    evidences: Sequence[EvidenceFile], extensions: Iterable[EvidenceFile]
) -> tuple[list[bytes | None], tuple[str, ...]]:
    """Return each evidence's record, in order, and the names of records that belong to none.

    ``<Event>.ers`` belongs to ``<Event>.xml``. Where several carry that name, or none does, the digest of
    the evidence inside the record tells; extensions of other kinds are left alone.
    """
    matched: list[bytes | None] = [None] * len(evidences)
    digests: dict[int, list[bytes]] = {}
    strays = []

    def could_be_about(record: bytes, index: int) -> bool:
        if index not in digests:  # each file is hashed once, however many records there are
            digests[index] = [new_hash(name, evidences[index].content).digest() for name in _RECORD_HASHES]
        return any(digest in record for digest in digests[index])

    for record in extensions:
        stem, dot, ending = record.name.rpartition(".")
        if not dot or ending.lower() != "ers":
            continue
        free = [index for index, found in enumerate(matched) if found is None]
        named = [index for index in free if evidences[index].name.rpartition(".")[0] == stem]
        if len(named) != 1:
            named = [index for index in named or free if could_be_about(record.content, index)]
        if named:
            matched[named[0]] = record.content
        else:
            strays.append(record.name)
    return matched, tuple(strays)


# --------------------------------------------------------------------------- what it holds together


def _content_steps(
    source: ByteSource,
    message: KepMessage,
    seal: Seal,
    evidences: tuple[EvidenceCheck, ...],
    records: list[EvidenceRecord],
    original: bytes | None,
    policy: SealPolicy,
) -> list[Step]:
    """Make steps 7 to 12: do seal, evidence, original and outer header belong together?"""
    ours = _is_ours(seal, evidences)
    domains = provider_domains(seal.certificate) if seal.certificate else frozenset()
    issuer = [] if seal.certificate is None else [_issuer_step(seal.certificate, message, records, policy)]
    return [
        *issuer,
        _original_step(original, records),
        _agreement_step(records),
        _identity_step(source, message, seal) if ours else NOT_OURS,
        *outer_steps(message, records[0], domains, ours=ours),
    ]


def _evidence_step(
    message: KepMessage, evidences: tuple[EvidenceCheck, ...], strays: tuple[str, ...]
) -> Step:
    if not evidences:
        return failed("6", "evidence", "no evidence inside", SubIndication.SIGNED_DATA_NOT_FOUND)
    bad = next((check for check in evidences if not check.passed), None)
    if bad is not None:
        step = bad.report.failing_step
        sub = bad.report.sub_indication or SubIndication.GENERIC
        detail = f"{bad.report.subject}: {step.name}: {step.detail}" if step else bad.report.subject
        return failed("6", "evidence", detail, sub, bad.report.verdict)
    if strays:
        detail = f"fits no evidence inside, or one that has a record: {', '.join(strays)}"
        return failed("6", "evidence", detail, SubIndication.HASH_FAILURE)
    kinds = {check.record.kind for check in evidences if check.record is not None}
    if message.is_dispatch and not kinds & _DIRECT:
        return failed("6", "evidence", "a dispatch needs the evidence of acceptance")
    return Step("6", "evidence", ok=True, detail=f"{len(evidences)}")


def _issuer_step(
    certificate: CertificateFacts, message: KepMessage, records: list[EvidenceRecord], policy: SealPolicy
) -> Step:
    domains = {domain_of(record.issuer.address) for record in records}
    if not message.is_dispatch:  # the sender's provider forwards the evidence of others (KEP-EV 20-61)
        domains |= {domain_of(record.sender.address) for record in records}
    problem = transaction_problem(certificate, domains, policy)
    if problem is None:
        return Step("7", "issuer", ok=True, detail=certificate.subject_text)
    return failed("7", "issuer", problem, SubIndication.CHAIN_CONSTRAINTS_FAILURE)


def _original_step(original: bytes | None, records: list[EvidenceRecord]) -> Step:
    if original is None:
        return Step("8", "original", ok=None, detail="no original inside")
    if any(record.message.digest_sha256 != original for record in records):
        return failed(
            "8", "original", "the original is not the one the evidence is about", SubIndication.HASH_FAILURE
        )
    return Step("8", "original", ok=True, detail=original.hex())


def _agreement_step(records: list[EvidenceRecord]) -> Step:
    about = {(record.message.kep_message_id, record.message.digest_sha256) for record in records}
    if len(about) != 1:
        return failed(
            "9", "message", "the evidence inside speaks of different messages", SubIndication.HASH_FAILURE
        )
    return Step("9", "message", ok=True, detail=records[0].message.kep_message_id)


def _is_ours(seal: Seal, evidences: tuple[EvidenceCheck, ...]) -> bool:
    """Say whether the signer of the message also sealed evidence inside that our writer made."""
    return any(
        check.own and check.chain is not None and check.chain.leaf == seal.certificate for check in evidences
    )


def _identity_step(
    source: ByteSource,
    message: KepMessage,
    seal: Seal,
) -> Step:
    """Check what no signature covers, in a message that our own software made."""
    name = "byte identity"
    problem = uncovered_problem(seal)
    expected = signature_end(message.root.boundary or "", message.p7s)
    if problem is None and source.read(message.signed_entity.end, len(expected)) != expected:
        problem = "the signature part is not written as we write it"
    return Step("10", name, ok=True) if problem is None else failed("10", name, problem)
