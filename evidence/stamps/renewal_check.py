"""Were the authorities behind all time stamps of a record good when they stamped? From data at hand, offline.

`evidence.stamps.ers_check` judges tokens, hashes and order; revocation is the caller's with its data, and
this is how a caller with the archive's material does it. For each token the data must speak of its time and
be no younger than the next token, which proves when it was there at the latest: what somebody makes up
afterwards with a responder's old key does not count. A revocation later than a stamp does it no harm
(signing.md 1); that the stamp is older is proven by the next round.
"""

from datetime import datetime
from typing import Final

from evidence.report import Step, SubIndication, Verdict
from evidence.stamps.ers_check import RecordCheck
from evidence.stamps.stamp_check import failed
from evidence.x509.chain import TrustStore
from evidence.x509.offline import OfflineRevocation
from evidence.x509.revocation import RevocationStatus, revoked_by

_NAME: Final = "authorities"


def authorities_step(
    found: RecordCheck,
    known: OfflineRevocation,
    trust: TrustStore,
    at: datetime,
    *,
    number: str = "8",
    needed: bool = True,
) -> Step:
    """Check every certificate behind a record's tokens against revocation data.

    Args:
        found: what `check_record` said.
        known: the data at hand.
        trust: roots and algorithms.
        at: the time of validation.
        number: of the step.
        needed: without data the step is INDETERMINATE; False makes that a warning.
    """
    silent: dict[str, None] = {}
    times = [token.gen_time for token in found.tokens]
    for position, token in enumerate(found.tokens):
        if token.chain is None or token.gen_time is None:
            return failed(
                number, _NAME, "a time stamp does not hold", SubIndication.GENERIC, Verdict.INDETERMINATE
            )
        later = times[position + 1] if position + 1 < len(times) else at
        for certificate, issuer in token.chain.links:
            answer = known.answer(certificate, issuer, trust, token.gen_time, not_after=later)
            if answer is None or answer.status is RevocationStatus.UNKNOWN:
                silent[certificate.subject_text] = None
            elif revoked_by(answer, token.gen_time):
                detail = f"{certificate.subject_text} was revoked before it stamped"
                return failed(number, _NAME, detail, SubIndication.REVOKED)
    if not silent:
        return Step(number, _NAME, ok=True, detail=f"time stamps: {len(times)}")
    detail = f"no revocation data for {'; '.join(silent)}"
    if needed:
        return failed(number, _NAME, detail, SubIndication.TRY_LATER, Verdict.INDETERMINATE)
    return Step(number, _NAME, ok=None, detail=detail)
