"""The KEP message in a bundle, also when the authority that stamped its seal has ended since.

Called by `evidence.verify.bundle`, whose docstring numbers the steps. Records of evidence are renewed, the
seal of a KEP message is not: its time stamp lies in its own signature. What the message says is carried on
all the same: the original and the evidence in it are, octet by octet, those that stand beside it, whose
records prove their time today. So where nothing but the end of a certificate is in the way, the seal is
judged for the time that it claims, and the step is a note: its integrity holds, its own time is a claim.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from evidence.asn1.der import DerError
from evidence.bundle.making import DISPATCH
from evidence.cms.signed_data import SIGNATURE_TIME_STAMP, parse_signed_data
from evidence.ports import ByteSource
from evidence.report import Step, SubIndication, Verdict
from evidence.stamps.messages import read_token
from evidence.stamps.stamp_check import failed
from evidence.verify.message import MessageCheck, check_kep_message
from evidence.x509.chain import TrustStore
from evidence.x509.role import SealPolicy
from evidence.xml.reader import format_time

NAME: Final = "KEP message"


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside the KEP message: SHA-256 of each evidence, and of the original.

    Whether that evidence holds is the bundle's step 6.
    """

    evidences: Collection[bytes]
    original: bytes | None


def dispatch_part(
    source: ByteSource, trust: TrustStore, at: datetime, policy: SealPolicy, beside: Beside, *, number: str
) -> tuple[MessageCheck, Step]:
    """Check the KEP message of a bundle, and that it carries what stands beside it.

    Args:
        source: the message.
        trust: the reader's roots.
        at: the verification time, UTC.
        policy: which certificates seal.
        beside: what the bundle holds.
        number: of the step.
    """
    check = check_kep_message(source, trust, at, policy, subject=DISPATCH)
    if check.passed:
        return check, _beside_step(check, beside, number) or Step(number, NAME, ok=True)
    claimed = _claimed_time(check)
    if claimed is not None and claimed < at:
        then = check_kep_message(source, trust, claimed, policy, subject=DISPATCH)
        if then.passed:
            detail = f"what proved the time of its seal has ended; judged for {format_time(claimed)}"
            return then, _beside_step(then, beside, number) or Step(number, NAME, ok=None, detail=detail)
    step = check.report.failing_step
    sub = check.report.sub_indication or SubIndication.GENERIC
    detail = f"{step.name}: {step.detail}" if step else ""
    return check, failed(number, NAME, detail, sub, check.report.verdict)


def _beside_step(check: MessageCheck, beside: Beside, number: str) -> Step | None:
    """Return why the message does not carry what stands beside it; None where it does."""
    inside = check.message.evidences if check.message is not None else ()
    if any(sha256(file.content).digest() not in beside.evidences for file in inside):
        return failed(number, NAME, "evidence inside it is not in the folder", SubIndication.HASH_FAILURE)
    if check.original_sha256 != beside.original:
        return failed(number, NAME, "it carries another original", SubIndication.HASH_FAILURE)
    return None


def _claimed_time(check: MessageCheck) -> datetime | None:
    """Return when its seal says that it was stamped; None where anything but an end is in the way."""
    report = check.report
    ended = report.verdict is Verdict.INDETERMINATE and (
        report.sub_indication is SubIndication.OUT_OF_BOUNDS_NO_POE
    )
    if not ended or check.message is None:
        return None
    try:
        signers = parse_signed_data(check.message.p7s).signers
        tokens = [one.whole for signer in signers for one in signer.unsigned_values(SIGNATURE_TIME_STAMP)]
        return max((read_token(token).info.gen_time for token in tokens), default=None)
    except DerError:
        return None
