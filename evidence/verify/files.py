"""Verify whatever is handed in, told apart by content.

Evidence XML, its evidence record, a KEP message, a bundle, a proof from the ledger, a checkpoint.
This is what `kephs verify` calls; it reads no file and no clock. The checks themselves stand in
`evidence.verify.evidence`, `evidence.stamps.ers_check`, `evidence.verify.message`,
`evidence.verify.bundle` and `evidence.ledger.audit`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Final, TypeAlias

from evidence.ledger.audit import audit_checkpoint, audit_entry
from evidence.ledger.notes import MAX_NOTE, Checkpoint, Note, NoteError, NoteVerifier
from evidence.ledger.proof import MAGIC, MAX_FILE, LedgerProof, ProofError, check_proof
from evidence.mail.kep_message import KepMessageError, digest_of_range, is_sender_message
from evidence.mail.mime import MimeLimitError, Range, scan
from evidence.ports import ByteSource, BytesSource
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from evidence.stamps.ers import MAX_RECORD, ErsError, read_record
from evidence.stamps.ers_check import check_record
from evidence.stamps.stamp_check import failed
from evidence.verify.bundle import verify_bundle
from evidence.verify.evidence import verify_evidence
from evidence.verify.message import check_kep_message, verify_kep_message
from evidence.x509.chain import TrustStore
from evidence.x509.role import DEFAULT_SEAL_POLICY, SealPolicy
from evidence.xml.reader import XML_SIZE_MAX

__all__ = [
    "Beside",
    "Kind",
    "Setting",
    "detect",
    "exit_code",
    "verify_bundle",
    "verify_evidence",
    "verify_kep_message",
    "verify_source",
    "with_crlf",
]

HEAD_SIZE: Final = 64 * 1024
LF_MESSAGE_MAX: Final = 64 << 20
"""A message saved with Unix line ends is put right in memory up to this size."""
SENDER_MESSAGE: Final = "sender's message"
"""The fact ``type`` of a report on a message that only its holder signed."""
RECORD_ENDING: Final = ".ers"
EVIDENCE_ENDING: Final = ".xml"
_HEADER_LINE: Final = re.compile(rb"[!-9;-~]+[ \t]*:")
_CHECKPOINT: Final = re.compile(rb"[^\n]{1,1024}\n[0-9]{1,20}\n[A-Za-z0-9+/]{43}=\n")
_RECORD: Final = re.compile(rb"\x30(?:[\x00-\x7f]|\x81.|\x82..|\x83...)\x02\x01\x01\x30", re.DOTALL)
_NO_KEY: Final = "the ledger's key is not known: give it with --log-key"

Beside: TypeAlias = Callable[[str], ByteSource | None]
"""Gives the file of the same name with another ending (".ers"), None where there is none."""


class Kind(StrEnum):
    """What can be verified."""

    EVIDENCE = "evidence"
    MESSAGE = "message"
    BUNDLE = "bundle"
    RECORD = "evidence record"
    PROOF = "ledger proof"
    CHECKPOINT = "checkpoint"


def _nothing(ending: str) -> ByteSource | None:  # noqa: ARG001 - the shape of `Beside`
    return None


@dataclass(frozen=True, slots=True)
class Setting:
    """What a verification rests on, beside the bytes themselves.

    ``trust``: configured roots; None or empty: at best INDETERMINATE. ``at``: the verification time, UTC.
    ``policy``: which certificates seal. ``beside``: files of the same name. ``log_key``: the public key of
    the provider's ledger, got from elsewhere.
    """

    trust: TrustStore | None
    at: datetime
    policy: SealPolicy = DEFAULT_SEAL_POLICY
    beside: Beside = _nothing
    log_key: NoteVerifier | None = None


def detect(source: ByteSource) -> Kind | None:
    """Say what a source holds by its first bytes, None where it is nothing we verify."""
    head = source.read(0, HEAD_SIZE)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Kind.BUNDLE
    if _RECORD.match(head):
        return Kind.RECORD
    if head.startswith(f"{MAGIC}\n".encode()):
        return Kind.PROOF
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return Kind.EVIDENCE
    if _CHECKPOINT.match(head):
        return Kind.CHECKPOINT
    return Kind.MESSAGE if _HEADER_LINE.match(head) else None


def verify_source(
    source: ByteSource,
    trust: TrustStore | None,
    at: datetime,
    policy: SealPolicy = DEFAULT_SEAL_POLICY,
    *,
    subject: str | None = None,
    beside: Beside = _nothing,
    log_key: NoteVerifier | None = None,
) -> Report:
    """Verify a source of any kind; unknown content is TOTAL-FAILED.

    A message that only its holder signed is TOTAL-FAILED too, as no provider's seal is on it, and is named as
    such: it has a check of its own (`evidence.nes.verifier`).

    Args:
        source: untrusted bytes. A message whose lines end in LF alone (a file saved on Unix) is read with
            CRLF, as it was signed.
        trust: configured roots; None or empty: at best INDETERMINATE.
        at: the verification time, UTC.
        policy: which certificates seal.
        subject: what the report is called, a file name for instance.
        beside: gives files of the same name: the evidence record of an evidence, the evidence of a record or
            of a proof.
        log_key: the ledger's public key; without it proofs and checkpoints are INDETERMINATE.
    """
    setting = Setting(trust, at, policy, beside, log_key)
    kind = detect(source)
    if kind is None:
        steps = [failed("1", "format", "neither evidence, KEP message, bundle nor proof of one")]
        report = conclude("unknown", steps, at)
    else:
        report = _CHECKS[kind](source, setting)
    return report if subject is None else replace(report, subject=subject)


def _bundle(source: ByteSource, setting: Setting) -> Report:
    return verify_bundle(source, setting.trust, setting.at, setting.policy, log_key=setting.log_key)


def _evidence(source: ByteSource, setting: Setting) -> Report:
    record = setting.beside(RECORD_ENDING)
    ers = None if record is None else record.read(0, MAX_RECORD + 1)
    xml = source.read(0, XML_SIZE_MAX + 1)
    return verify_evidence(xml, setting.trust, setting.at, setting.policy, ers=ers)


def _record(source: ByteSource, setting: Setting) -> Report:
    """Verify an evidence record against the evidence beside it; the evidence itself is not verified."""
    data, ers = setting.beside(EVIDENCE_ENDING), source.read(0, MAX_RECORD + 1)
    if data is None:
        return _without_evidence(Kind.RECORD, partial(read_record, ers), setting.at)
    trust = TrustStore(()) if setting.trust is None else setting.trust
    digest_of = partial(digest_of_range, data, Range(0, data.size))
    try:
        return check_record(ers, digest_of, trust, setting.at).report
    except KepMessageError as error:
        return conclude(Kind.RECORD.value, [failed("0", "read", str(error))], setting.at)


def _without_evidence(kind: Kind, read: Callable[[], object], at: datetime) -> Report:
    """Without what a proof is about only its form can be judged."""
    try:
        read()
    except (ErsError, ProofError) as error:
        return conclude(kind.value, [failed("1", "format", str(error))], at)
    detail = "the evidence it is about does not lie beside it"
    sub = SubIndication.SIGNED_DATA_NOT_FOUND
    return conclude(kind.value, [failed("0", "evidence", detail, sub, Verdict.INDETERMINATE)], at)


def _proof(source: ByteSource, setting: Setting) -> Report:
    data, proof = setting.beside(EVIDENCE_ENDING), source.read(0, MAX_FILE + 1)
    if data is None:
        return _without_evidence(Kind.PROOF, partial(LedgerProof.read, proof), setting.at)
    evidence = data.read(0, XML_SIZE_MAX + 1)
    if setting.log_key is not None:
        return audit_entry(proof, evidence, setting.log_key, setting.at)
    return conclude(Kind.PROOF.value, _steps_without_key(proof, data), setting.at)


def _steps_without_key(proof: bytes, data: ByteSource) -> list[Step]:
    """Check what can be checked: a proof that contradicts itself fails, any other is undecided."""
    try:
        read = LedgerProof.read(proof)
        leads = check_proof(read, digest_of_range(data, Range(0, data.size)), read.checkpoint)
    except (ProofError, NoteError, KepMessageError) as error:
        return [failed("1", "form", str(error))]
    form = Step("1", "form", ok=True, detail=f"entry {read.number} of {read.size}")
    if not leads:
        detail = "digest and salt do not lead to the root of the checkpoint"
        return [form, failed("4", "inclusion", detail, SubIndication.HASH_FAILURE)]
    return [form, Step("4", "inclusion", ok=True, detail=read.checkpoint.origin), _no_key("2")]


def _checkpoint(source: ByteSource, setting: Setting) -> Report:
    note = source.read(0, MAX_NOTE + 1)
    if setting.log_key is not None:
        return audit_checkpoint(note, setting.log_key, setting.at)
    try:
        origin = Checkpoint.parse(Note.parse(note).text).origin
    except NoteError as error:
        return conclude(Kind.CHECKPOINT.value, [failed("1", "checkpoint", str(error))], setting.at)
    return conclude(Kind.CHECKPOINT.value, [_no_key("1")], setting.at, facts={"origin": origin})


def _no_key(number: str) -> Step:
    sub = SubIndication.NO_SIGNING_CERTIFICATE_FOUND
    return failed(number, "checkpoint", _NO_KEY, sub, Verdict.INDETERMINATE)


def _message(source: ByteSource, setting: Setting) -> Report:
    source, trust, at, policy = with_crlf(source), setting.trust, setting.at, setting.policy
    try:
        root = scan(source)
    except MimeLimitError:
        return verify_kep_message(source, trust, at, policy)  # says what is too much
    if not is_sender_message(root):
        return check_kep_message(source, trust, at, policy, root=root).report
    text = "a sender's message, signed by its holder only, not a KEP message: kephs verify --sender checks it"
    return conclude(SENDER_MESSAGE, [failed("1", "format", text)], at, facts={"type": SENDER_MESSAGE})


_CHECKS: Final[dict[Kind, Callable[[ByteSource, Setting], Report]]] = {
    Kind.BUNDLE: _bundle,
    Kind.EVIDENCE: _evidence,
    Kind.RECORD: _record,
    Kind.PROOF: _proof,
    Kind.CHECKPOINT: _checkpoint,
    Kind.MESSAGE: _message,
}


def exit_code(reports: Iterable[Report]) -> int:
    """Return the exit status of `kephs verify`: 0 all passed, 1 a failure, 2 something undecided."""
    verdicts = {report.verdict for report in reports}
    if Verdict.FAILED in verdicts:
        return 1
    return 2 if Verdict.INDETERMINATE in verdicts else 0


def with_crlf(source: ByteSource) -> ByteSource:
    """Return a message with CRLF line ends, where its file has LF alone and is no larger than the cap."""
    head = source.read(0, HEAD_SIZE)
    if b"\r\n" in head or b"\n" not in head or source.size > LF_MESSAGE_MAX:
        return source
    return BytesSource(source.read(0, source.size).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
