"""The holder's signature in a bundle, checked again: what was known at reception keeps proving it.

Called by `evidence.verify.bundle`, whose docstring numbers the steps. The signature is judged for the time
at which it provably existed: that of the provider's own record over it (``imza.ers``) or, in bundles without
one, of the stamp of evidence 10, which covers the whole original. Revoked or expired after that does no harm.
The record of evidence 10 is renewed, that over the signature is not: where it cannot be decided any more and
evidence 10 holds, evidence 10 proves the time.

A bundle without the record (made before there were records, of a message that a peer took in, or let out in
the grace) need not bring what a check needs: what cannot be decided is a note there. What is certain to be
wrong fails in any case.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import new as new_hash
from typing import Final

from evidence.asn1.der import DerError
from evidence.bundle.making import ORIGINAL, SENDER_RECORD, SENDER_REPORT, SENDER_SIGNATURE
from evidence.cms.signed_data import MAIL_PROGRAM_RULES
from evidence.mail.mime import MimeLimitError, Part, scan
from evidence.mail.smime import SmimeError, locate
from evidence.nes.policy import NesPolicy
from evidence.ports import ByteSource
from evidence.report import Report, Step, SubIndication, Verdict
from evidence.stamps.ers_check import RecordCheck, check_record
from evidence.stamps.stamp_check import failed
from evidence.verify.at_hand import gathered
from evidence.verify.sender import LaterSetting, check_message
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import Chain, TrustStore
from evidence.x509.role import SealPolicy
from evidence.xml.reader import format_time

SIGNATURE: Final = "holder's signature"
TIME: Final = "time of the holder's signature"
AGAIN: Final = "holder's signature, judged for that time"


@dataclass(frozen=True, slots=True)
class SenderFiles:
    """What a bundle holds about the holder's signature, untrusted.

    ``original``, ``signature`` None where missing; ``signature_sha256`` its digest; ``material``: files of
    the folder dogrulama/ by name; ``accepted_at``: what the stamp of the acceptance evidence proves, where
    that evidence is about this original.
    """

    original: ByteSource | None
    signature: ByteSource | None
    signature_sha256: bytes | None
    record: bytes | None
    report: bytes | None
    material: Mapping[str, bytes]
    accepted_at: datetime | None


@dataclass(frozen=True, slots=True)
class StampedSignature:
    """The record's authority as `evidence.stamps.sealed_links` wants it: its path, and when it stamped."""

    chain: Chain | None
    stamped_at: datetime | None
    tsa: CertificateFacts | None = None


@dataclass(frozen=True, slots=True)
class SenderPart:
    """What was found: steps, parts of the report, and whoever stamped the signature."""

    steps: tuple[Step, ...]
    parts: tuple[Report, ...] = ()
    stamped: tuple[StampedSignature, ...] = ()


def sender_part(
    files: SenderFiles, trust: TrustStore, at: datetime, policy: SealPolicy, *, first: int
) -> SenderPart:
    """Check the holder's signature of a bundle in three steps.

    Args:
        files: what the bundle holds.
        trust: the reader's roots.
        at: the verification time, UTC.
        policy: names the policies of transaction certificates, which never sign as a holder.
        first: number of the first step: the signature is the one in the original; then its time; then the
            signature itself, judged for that time.
    """
    root, step = _found(files, f"{first}")
    if root is None or files.original is None:
        return SenderPart((step,))
    check = _record_check(files, trust, at)
    ended = check is not None and files.accepted_at is not None and _has_ended(check)
    time_step = _time_step(files, check, f"{first + 1}", ended=ended)
    if check is not None and not check.passed and not ended:
        return SenderPart((step, time_step), (check.report,))
    proven = files.accepted_at if check is None or ended else check.proven_at
    accepted = NesPolicy(  # what a provider's switches may have let in is noted, not failed
        allow_seals=True, transaction_policies=policy.transaction_policies, cms=MAIL_PROGRAM_RULES
    )
    setting = LaterSetting(trust, at, accepted, gathered(files.material.items()), proven)
    again = check_message(files.original, root, setting).report
    steps = (step, time_step, _again_step(again, f"{first + 2}", proven=check is not None))
    parts = () if check is None or ended else (check.report,)
    if again.passed or steps[-1].ok is False:
        parts = (*parts, replace(again, subject=SENDER_SIGNATURE))
    stamped = () if check is None or ended else tuple(_stamped(check))
    return SenderPart(steps, parts, stamped)


def _found(files: SenderFiles, number: str) -> tuple[Part | None, Step]:
    """Compare ``imza.p7s`` with the original; the verdict at reception is the provider's word (sealed)."""
    if files.signature is None:
        return None, Step(number, SIGNATURE, ok=None, detail="not taken out of the original")
    if files.original is None:
        missing = SubIndication.SIGNED_DATA_NOT_FOUND
        return None, failed(number, SIGNATURE, f"{ORIGINAL} is missing", missing)
    try:
        root: Part | None = scan(files.original)
        assert root is not None
        inside = locate(files.original, root).der
    except (SmimeError, DerError, MimeLimitError):
        root, inside = None, b""
    if root is None or new_hash("sha256", inside).digest() != files.signature_sha256:
        detail = f"{SENDER_SIGNATURE} is not the signature in the original"
        return None, failed(number, SIGNATURE, detail, SubIndication.HASH_FAILURE)
    if files.report is None:
        return root, Step(number, SIGNATURE, ok=True, detail="no verdict at reception inside")
    try:
        verdict = Verdict(json.loads(files.report)["verdict"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return None, failed(number, SIGNATURE, f"{SENDER_REPORT} is not readable")
    return root, Step(number, SIGNATURE, ok=True, detail=f"at reception: {verdict}")


def _record_check(files: SenderFiles, trust: TrustStore, at: datetime) -> RecordCheck | None:
    signature, known = files.signature, files.signature_sha256
    if files.record is None or signature is None or known is None:
        return None

    def digest_of(name: str) -> bytes:
        return known if name == "sha256" else new_hash(name, signature.read(0, signature.size)).digest()

    return check_record(files.record, digest_of, trust, at, subject=SENDER_RECORD)


def _has_ended(check: RecordCheck) -> bool:
    """Say whether nothing but the end of the authority's certificate, or of a hash, is in the way."""
    ends = (SubIndication.OUT_OF_BOUNDS_NO_POE, SubIndication.CRYPTO_CONSTRAINTS_FAILURE)
    failing = [step for step in check.report.steps if step.ok is False]
    return bool(failing) and all(
        step.verdict is Verdict.INDETERMINATE and step.sub_indication in ends for step in failing
    )


def _time_step(files: SenderFiles, check: RecordCheck | None, number: str, *, ended: bool) -> Step:
    if ended and files.accepted_at is not None:
        detail = f"what proved {SENDER_RECORD} has ended; by evidence 10: {format_time(files.accepted_at)}"
        return Step(number, TIME, ok=None, detail=detail)
    if check is None:
        proven = files.accepted_at
        told = "nothing proves it" if proven is None else f"by evidence 10: {format_time(proven)}"
        return Step(number, TIME, ok=None, detail=f"no {SENDER_RECORD} inside; {told}")
    if check.passed:
        proven = check.proven_at
        return Step(number, TIME, ok=True, detail=format_time(proven) if proven is not None else "")
    step = check.report.failing_step
    detail = f"{SENDER_RECORD}: {step.name}: {step.detail}" if step else SENDER_RECORD
    sub = check.report.sub_indication or SubIndication.GENERIC
    return failed(number, TIME, detail, sub, check.report.verdict)


def _again_step(report: Report, number: str, *, proven: bool) -> Step:
    if report.passed:
        return Step(number, AGAIN, ok=True)
    step = report.failing_step
    detail = f"{step.number} {step.name}: {step.detail}" if step else "not valid"
    if not proven and report.verdict is Verdict.INDETERMINATE:
        return Step(number, AGAIN, ok=None, detail=f"cannot be decided from this bundle: {detail}")
    return failed(number, AGAIN, detail, report.sub_indication or SubIndication.GENERIC, report.verdict)


def _stamped(check: RecordCheck) -> Sequence[StampedSignature]:
    return [StampedSignature(one.chain, one.gen_time) for one in check.tokens if one.chain is not None]
