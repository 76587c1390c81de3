"""Verify a bundle of one message (``.kepdelil``) offline; its layout stands in `evidence.bundle.making`.

The steps, in this order; the earliest failing one decides:

1. container: a plain archive within the caps; ours byte for byte where it says so
2. manifest: readable, of our format
3. manifest signature: value, chain, algorithms (as steps 2 to 5 of `evidence.verify.message`), and time stamp
4. manifest role: a transaction certificate of a provider whose evidence is inside
5. files: exactly those listed, with their sizes and digests
6. evidence: each verified, with the evidence record beside it, named by what it says, with a time stamp
7. message: evidence, original and KEP message are about one message and one digest
8. KEP message: verified, and the acceptance evidence inside it is the one in the folder; a note where its
   own time stamp has ended since (`evidence.verify.bundle_dispatch`)
9. ledger: every entry's hash holds and its digest is that of the evidence in the folder
10. revocation: every transaction certificate, and whoever stamped the holder's signature, was good when
    the stamp was made (`evidence.stamps.sealed_links`)
11. ledger proofs: all evidence with an entry stands in the checkpoint's tree; 11.1 the checkpoint's own
    signature, where the log's key was given from outside (without it: a note)
12. files for common tools: tokens and paths say what the evidence records say
13. roots inside: their fingerprints are theirs; they are information, never trust
14. holder's signature: ``imza.p7s`` is the one in the original
15. its time: the provider's record over it (``imza.ers``) holds (`evidence.verify.bundle_sender`)
16. the signature itself, judged for that time with the revocation data inside; its report is a part

Format kephs-bundle-1 (no evidence records, no proofs) is read alike, without steps 11 to 16.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from evidence.asn1.der import DerError
from evidence.bundle.destroyed import MAX_FILE as DESTROYED_MAX
from evidence.bundle.destroyed import NAME as DESTROYED
from evidence.bundle.destroyed import DestroyedContent, statement_about
from evidence.bundle.making import (
    DISPATCH,
    EVIDENCE_FOLDER,
    FORMAT,
    LEDGER_FOLDER,
    MANIFEST,
    MANIFEST_SIGNATURE,
    MEDIA_TYPE,
    MIMETYPE,
    OLD_FORMAT,
    ORIGINAL,
    PATH_ENDING,
    REVOCATION_FOLDER,
    ROOT_FOLDER,
    SENDER_PATH,
    SENDER_RECORD,
    SENDER_REPORT,
    SENDER_SIGNATURE,
)
from evidence.bundle.zip_store import Archive, ArchiveError, Measure, Member, measure, read_archive
from evidence.cms.signed_data import parse_signed_data
from evidence.ledger.notes import NoteVerifier
from evidence.ledger.proof import MAX_FILE as PROOF_MAX
from evidence.model.records import EvidenceKind, EvidenceRecord, file_stem
from evidence.ports import ByteSource
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from evidence.seal.seal import Seal, check_seal, uncovered_problem
from evidence.stamps.ers import MAX_RECORD
from evidence.stamps.messages import MAX_RESPONSE
from evidence.stamps.sealed_links import revocation_step
from evidence.stamps.stamp_check import failed
from evidence.verify.bundle_dispatch import Beside, dispatch_part
from evidence.verify.bundle_parts import (
    PATH_MAX,
    LedgerFacts,
    entries_step,
    helper_step,
    proofs_step,
    roots_step,
)
from evidence.verify.bundle_sender import SenderFiles, SenderPart, StampedSignature, sender_part
from evidence.verify.evidence import EvidenceCheck, check_evidence
from evidence.verify.message import MessageCheck
from evidence.x509.certificates import CertificateError, CertificateFacts, certificate_facts
from evidence.x509.chain import TrustStore
from evidence.x509.role import DEFAULT_SEAL_POLICY, SealPolicy, domain_of, transaction_problem
from evidence.xml.reader import XML_SIZE_MAX

_AGAIN: Final = re.compile(r"\.[2-9][0-9]{0,3}\.xml\Z")  # a provider's repeated evidence about one event
MANIFEST_MAX: Final = 4 << 20
SIGNATURE_MAX: Final = 1 << 20
REPORT_MAX: Final = 4 << 20
REVOCATION_MAX: Final = 20 << 20
REVOCATION_FILES_MAX: Final = 200
SENDER_ENDINGS: Final = (".ocsp", ".crl", ".cer")
PROBLEMS_MAX: Final = 20  # named; one is enough to fail
TEXT_MAX: Final = 200
FOLDER_MAX: Final = 64 << 20
"""Octets of all small files of one folder together: they are held in memory."""


@dataclass(slots=True)
class _Bundle:
    """One bundle while it is being checked."""

    archive: Archive
    trust: TrustStore
    at: datetime
    policy: SealPolicy
    log_key: NoteVerifier | None
    members: dict[str, Member]
    manifest: Mapping[str, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    parts: list[Report] = field(default_factory=list)
    seal: Seal | None = None
    evidences: dict[str, EvidenceCheck] = field(default_factory=dict)
    message: MessageCheck | None = None
    measures: dict[str, Measure] = field(default_factory=dict)

    def source(self, name: str) -> ByteSource:
        return self.archive.open(self.members[name])

    def content(self, name: str, limit: int) -> bytes:
        member = self.members.get(name)
        if member is None or member.size > limit:
            raise ArchiveError(f"{name} is missing or too large")
        return self.archive.open(member).read(0, member.size)

    def in_folder(self, folder: str, ending: str = "") -> list[str]:
        return sorted(name for name in self.members if name.startswith(folder) and name.endswith(ending))

    def contents(self, names: list[str], limit: int) -> dict[str, bytes]:
        """Return small files, each within ``limit`` and together within `FOLDER_MAX`."""
        if sum(self.members[name].size for name in names) > FOLDER_MAX:
            raise ArchiveError(f"{names[0]} and others are too large together")
        return {name: self.content(name, limit) for name in names}

    def digest(self, name: str) -> bytes | None:
        """Return a member's SHA-256, None where there is no such member."""
        if name in self.members and name not in self.measures:
            self.measures[name] = measure(self.source(name))
        return self.measures[name].sha256 if name in self.measures else None


def verify_bundle(
    source: ByteSource,
    trust: TrustStore | None,
    at: datetime,
    policy: SealPolicy = DEFAULT_SEAL_POLICY,
    *,
    log_key: NoteVerifier | None = None,
) -> Report:
    """Verify a bundle and return the report; see the module's docstring for the steps.

    Args:
        source: the archive; stored members are read in place, never held.
        trust: configured roots; None or empty: at best INDETERMINATE. Roots inside are never trusted.
        at: the verification time, UTC.
        policy: which certificates seal.
        log_key: the public key of the provider's ledger, got from elsewhere than the bundle.
    """
    try:
        archive = read_archive(source)
        bundle = _Bundle(
            archive,
            TrustStore(()) if trust is None else trust,
            at,
            policy,
            log_key,
            {member.name: member for member in archive.members},
        )
        _check(bundle)
    except ArchiveError as error:
        return conclude("bundle", [failed("1", "container", str(error))], at)
    records = [check.record for check in bundle.evidences.values() if check.record is not None]
    facts: dict[str, object] = {
        "message_id": _shown(bundle.manifest.get("message_id")),
        "evidence": sorted(name.removeprefix(EVIDENCE_FOLDER) for name in bundle.evidences),
        "sender": records[0].sender.address if records else None,
        "subject": records[0].message.subject if records else None,
    }
    return conclude("bundle", bundle.steps, at, facts=facts, parts=tuple(bundle.parts))


def _check(bundle: _Bundle) -> None:
    manifest_step = _read_manifest(bundle)
    bundle.steps += [_container_step(bundle), manifest_step]
    if not manifest_step.ok:
        return
    bundle.steps += _manifest_signature_steps(bundle)
    bundle.steps.append(_files_step(bundle))
    for name in bundle.in_folder(EVIDENCE_FOLDER, ".xml"):
        record = f"{name.removesuffix('.xml')}.ers"
        check = check_evidence(
            bundle.content(name, XML_SIZE_MAX), bundle.trust, bundle.at, bundle.policy, subject=name,
            ers=bundle.content(record, MAX_RECORD) if record in bundle.members else None,
        )  # fmt: skip
        bundle.evidences[name] = check
        bundle.parts.append(check.report)
    bundle.steps += [_role_step(bundle), _evidence_step(bundle), _message_step(bundle)]
    if DISPATCH in bundle.members:
        bundle.message, step = dispatch_part(
            bundle.source(DISPATCH), bundle.trust, bundle.at, bundle.policy, _beside(bundle), number="8"
        )
        bundle.parts.append(bundle.message.report)
        bundle.steps.append(step)
    facts = _ledger_facts(bundle)
    old = bundle.manifest.get("format") == OLD_FORMAT
    sender = SenderPart(()) if old else _sender(bundle)
    bundle.steps += [entries_step(facts, number="9"), _revocation_step(bundle, sender)]
    if not old:
        bundle.steps += proofs_step(facts, bundle.log_key, number="11")
        bundle.steps += [_helper_step(bundle), _roots_step(bundle), *sender.steps]
        bundle.parts += sender.parts


def _shown(value: object) -> str | None:
    """Return a text of the manifest's as it may be shown: what is not plain ASCII is escaped."""
    if not isinstance(value, str):
        return None
    return value[:TEXT_MAX] if value.isascii() and value.isprintable() else ascii(value[:TEXT_MAX])


# --------------------------------------------------------------------------- container and manifest


def _container_step(bundle: _Bundle) -> Step:
    """Check the archive's form; each content is read once for it, and for the files' digests."""
    archive = bundle.archive
    for member in archive.members:
        bundle.digest(member.name)
        if bundle.measures[member.name].crc != member.crc:
            return failed("1", "container", f"{member.name}: damaged")
    current = bundle.manifest.get("format") == FORMAT
    if current and bundle.content(MIMETYPE, len(MEDIA_TYPE)) != MEDIA_TYPE:
        return failed("1", "container", "not of the media type that it must have")
    named = bundle.manifest.get("format", archive.comment.decode("ascii", "replace"))
    if archive.exact and archive.comment == str(named).encode():
        return Step("1", "container", ok=True)
    if archive.comment:
        return failed("1", "container", "the archive is not as its mark says")
    return Step("1", "container", ok=None, detail="repacked: only the files are covered, not the archive")


def _read_manifest(bundle: _Bundle) -> Step:
    try:
        manifest = json.loads(bundle.content(MANIFEST, MANIFEST_MAX))
    except (ArchiveError, ValueError, RecursionError) as error:
        return failed("2", "manifest", f"not readable: {error}", SubIndication.SIGNED_DATA_NOT_FOUND)
    if not isinstance(manifest, dict) or manifest.get("format") not in (FORMAT, OLD_FORMAT):
        return failed("2", "manifest", "unknown format")
    bundle.manifest = manifest
    return Step("2", "manifest", ok=True, detail=_shown(manifest.get("created_at")) or "")


def _manifest_signature_steps(bundle: _Bundle) -> list[Step]:
    """Check the signature over the manifest; for a bundle the stamp is needed."""
    manifest = bundle.content(MANIFEST, MANIFEST_MAX)
    try:
        signed = parse_signed_data(bundle.content(MANIFEST_SIGNATURE, SIGNATURE_MAX))
    except (ArchiveError, DerError) as error:
        return [failed("3", "manifest signature", str(error), SubIndication.SIGNED_DATA_NOT_FOUND)]
    seal = check_seal(
        signed,
        lambda name: hashlib.new(name, manifest).digest(),
        bundle.trust,
        bundle.at,
        bundle.policy,
        prefix="3.",
    )
    bundle.seal = seal
    bundle.parts += seal.stamps.reports
    steps = list(seal.steps)
    if seal.intact and seal.stamps.best is None:
        sub = SubIndication.NO_POE
        steps.append(failed("3.6", "proof of time", "the manifest has no stamp", sub, Verdict.INDETERMINATE))
    if seal.chain is not None and (problem := uncovered_problem(seal)) is not None:
        steps.append(failed("3.7", "byte identity", problem))
    return steps


def _files_step(bundle: _Bundle) -> Step:
    """Compare the archive with the list: nothing dropped, swapped or added."""
    listed = bundle.manifest.get("files")
    if not isinstance(listed, list) or any(not isinstance(item, dict) for item in listed):
        return failed("5", "files", "the list is not readable")
    expected = {str(item.get("name")): (item.get("size"), item.get("sha256")) for item in listed}
    present = set(bundle.members) - {MANIFEST, MANIFEST_SIGNATURE}
    if len(expected) != len(listed):
        return failed("5", "files", "a file is listed twice")
    problems = [f"dropped: {_shown(name)}" for name in sorted(expected.keys() - present)]
    problems += [f"added: {name}" for name in sorted(present - expected.keys())]
    for name in sorted(present & expected.keys()):
        digest = bundle.digest(name) or b""
        if (bundle.members[name].size, digest.hex()) != expected[name]:
            problems.append(f"changed: {name}")
    if problems:
        return failed("5", "files", ", ".join(problems[:PROBLEMS_MAX]), SubIndication.HASH_FAILURE)
    return Step("5", "files", ok=True, detail=str(len(expected)))


# --------------------------------------------------------------------------- content


def _role_step(bundle: _Bundle) -> Step:
    certificate = bundle.seal.certificate if bundle.seal is not None else None
    if certificate is None:
        return Step("4", "manifest role", ok=None, detail="no signer")
    domains = {domain_of(record.issuer.address) for record in _records(bundle)}
    problem = transaction_problem(certificate, domains, bundle.policy)
    if problem is None:
        return Step("4", "manifest role", ok=True, detail=certificate.subject_text)
    return failed("4", "manifest role", problem, SubIndication.CHAIN_CONSTRAINTS_FAILURE)


def _records(bundle: _Bundle) -> list[EvidenceRecord]:
    return [check.record for check in bundle.evidences.values() if check.record is not None]


def _evidence_step(bundle: _Bundle) -> Step:
    if not bundle.evidences:
        return failed("6", "evidence", "no evidence inside", SubIndication.SIGNED_DATA_NOT_FOUND)
    stray = next(iter(_strays(bundle)), None)
    if stray is not None:
        return failed("6", "evidence", f"{stray} belongs to no evidence inside")
    problem = next(filter(None, (_evidence_problem(*item) for item in bundle.evidences.items())), None)
    if problem is not None:
        return problem
    ids = [record.evidence_id for record in _records(bundle)]
    if len(set(ids)) != len(ids):
        return failed("6", "evidence", "one evidence stands under two names")
    return Step("6", "evidence", ok=True, detail=str(len(bundle.evidences)))


def _evidence_problem(name: str, check: EvidenceCheck) -> Step | None:
    if not check.passed:
        step = check.report.failing_step
        sub = check.report.sub_indication or SubIndication.GENERIC
        detail = f"{name}: {step.name}: {step.detail}" if step else name
        return failed("6", "evidence", detail, sub, check.report.verdict)
    record = check.record
    if record is None or _AGAIN.sub(".xml", name) != (
        f"{EVIDENCE_FOLDER}{file_stem(record.kind, record.refers_to)}.xml"
    ):
        return failed("6", "evidence", f"{name} is not what its name says")
    if check.stamped_at is None:
        detail = f"{name} has no time stamp"
        return failed("6", "evidence", detail, SubIndication.NO_POE, Verdict.INDETERMINATE)
    return None


def _strays(bundle: _Bundle) -> list[str]:
    """Return what stands in the evidence folder without belonging to an evidence."""
    stems = {name.removesuffix(".xml") for name in bundle.evidences}
    known = {f"{stem}{ending}" for stem in stems for ending in (".xml", ".ers", PATH_ENDING)}
    return sorted(set(bundle.in_folder(EVIDENCE_FOLDER)) - known)


def _message_step(bundle: _Bundle) -> Step:
    """Check that all parts are about one message and the original has the recorded digest."""
    digest, gone = bundle.digest(ORIGINAL), _destroyed(bundle)
    digest = digest if gone is None else gone.sha256
    if digest is None:
        return failed("7", "message", "no original inside", SubIndication.SIGNED_DATA_NOT_FOUND)
    wanted = (bundle.manifest.get("message_id"), digest)
    records = _records(bundle)
    if any((record.message.kep_message_id, record.message.digest_sha256) != wanted for record in records):
        detail = "evidence of another message, or the original was changed"
        return failed("7", "message", detail, SubIndication.HASH_FAILURE)
    kinds = {record.kind for record in records}
    if not kinds & {EvidenceKind.SUBMISSION_ACCEPTANCE, EvidenceKind.SUBMISSION_REJECTION}:
        detail = "neither acceptance nor rejection inside"
        sub = SubIndication.SIGNED_DATA_NOT_FOUND
        return failed("7", "message", detail, sub, Verdict.INDETERMINATE)
    if gone is not None:
        last = max(one.at for one in gone.parts)
        detail = f"its content is destroyed since {last:%Y-%m-%dT%H:%M:%SZ}; the evidence stays"
        return Step("7", "message", ok=None, detail=detail)
    return Step("7", "message", ok=True, detail=_shown(wanted[0]) or "")


def _destroyed(bundle: _Bundle) -> DestroyedContent | None:
    """Return what the signed bundle says in the place of its original; None where it has one."""
    if ORIGINAL in bundle.members or bundle.members.get(DESTROYED) is None:
        return None
    return statement_about(bundle.content(DESTROYED, DESTROYED_MAX), bundle.manifest.get("message_id"))


def _beside(bundle: _Bundle) -> Beside:
    """Return what a KEP message must carry: evidence that does not hold fails by itself."""
    digests = {bundle.digest(name) for name in bundle.evidences}
    return Beside({one for one in digests if one is not None}, bundle.digest(ORIGINAL))


def _ledger_facts(bundle: _Bundle) -> LedgerFacts:
    names = [name for name in bundle.in_folder(LEDGER_FOLDER) if name not in {MANIFEST, MANIFEST_SIGNATURE}]
    evidence = {
        name: (check.record.evidence_id if check.record else None, bundle.digest(name) or b"")
        for name, check in bundle.evidences.items()
    }
    return LedgerFacts(bundle.manifest.get("ledger"), evidence, bundle.contents(names, PROOF_MAX))


def _revocation_step(bundle: _Bundle, sender: SenderPart) -> Step:
    names = [name for ending in (".ocsp", ".crl") for name in bundle.in_folder(REVOCATION_FOLDER, ending)]
    if len(names) > REVOCATION_FILES_MAX:
        return failed("10", "revocation", "too many files")
    files = [(name, bundle.content(name, REVOCATION_MAX)) for name in names]
    checks: list[EvidenceCheck | MessageCheck | Seal | StampedSignature] = [*bundle.evidences.values()]
    checks += [check for check in (bundle.message, bundle.seal) if check is not None]
    checks += sender.stamped  # last: the same authority's own stamps on evidence are known by then
    times = [
        time for time in (bundle.seal.stamped_at if bundle.seal else None, bundle.at) if time is not None
    ]
    return revocation_step(checks, files, times, bundle.trust, number="10", near=_embedded(bundle))


def _embedded(bundle: _Bundle) -> list[CertificateFacts]:
    """Return what the tokens carry: the authorities' intermediates stand nowhere else."""
    tokens = [token for check in bundle.evidences.values() if check.ers for token in check.ers.tokens]
    if bundle.seal is not None and bundle.seal.stamps.best is not None:
        tokens.append(bundle.seal.stamps.best)
    ders = {der for one in tokens if one.token is not None for der in one.token.signed.certificates}
    found = []
    for der in sorted(ders):
        try:
            found.append(certificate_facts(der))
        except CertificateError:
            continue  # the token's own check says so
    return found


# --------------------------------------------------------------------------- what is there for strangers


def _helper_step(bundle: _Bundle) -> Step:
    files = bundle.contents(bundle.in_folder(EVIDENCE_FOLDER, PATH_ENDING), PATH_MAX)
    files |= bundle.contents(bundle.in_folder(REVOCATION_FOLDER, ".tsr"), MAX_RESPONSE)
    evidence = {
        name: (
            bundle.digest(name) or b"",
            check.ers.record.der if check.ers is not None and check.ers.record is not None else None,
        )
        for name, check in bundle.evidences.items()
    }
    if SENDER_RECORD in bundle.members:
        digest = bundle.digest(SENDER_SIGNATURE) or b""
        evidence[SENDER_SIGNATURE] = (digest, bundle.content(SENDER_RECORD, MAX_RECORD))
    if SENDER_PATH in bundle.members:
        files[SENDER_PATH] = bundle.content(SENDER_PATH, PATH_MAX)
    return helper_step(files, evidence, number="12")


def _roots_step(bundle: _Bundle) -> Step:
    return roots_step(bundle.contents(bundle.in_folder(ROOT_FOLDER), SIGNATURE_MAX), number="13")


def _sender(bundle: _Bundle) -> SenderPart:
    """Check the holder's signature; what it rests on stands beside the seals' revocation data."""

    def small(name: str, limit: int) -> bytes | None:
        return bundle.content(name, limit) if name in bundle.members else None

    names = [
        name for ending in SENDER_ENDINGS for name in bundle.in_folder(REVOCATION_FOLDER, ending)
    ][:REVOCATION_FILES_MAX]  # fmt: skip
    files = SenderFiles(
        original=bundle.source(ORIGINAL) if ORIGINAL in bundle.members else None,
        signature=bundle.source(SENDER_SIGNATURE) if SENDER_SIGNATURE in bundle.members else None,
        signature_sha256=bundle.digest(SENDER_SIGNATURE),
        record=small(SENDER_RECORD, MAX_RECORD),
        report=small(SENDER_REPORT, REPORT_MAX),
        material=bundle.contents(names, REVOCATION_MAX) if names else {},
        accepted_at=_accepted_at(bundle),
    )
    return sender_part(files, bundle.trust, bundle.at, bundle.policy, first=14)


def _accepted_at(bundle: _Bundle) -> datetime | None:
    """Return when evidence 10 was stamped, if it holds and is about this original."""
    gone = _destroyed(bundle)
    digest = bundle.digest(ORIGINAL) if gone is None else gone.sha256
    times = [
        check.stamped_at
        for check in bundle.evidences.values()
        if check.passed
        and check.stamped_at is not None
        and check.record is not None
        and check.record.kind is EvidenceKind.SUBMISSION_ACCEPTANCE
        and check.record.message.digest_sha256 == digest
    ]
    return min(times, default=None)
