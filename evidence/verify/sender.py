"""A sender's signature checked again later, from data at hand: nothing is asked of the network.

The steps 1 to 5 are those of `evidence.nes.verifier`; 6 of `evidence.nes.shown`. Before them stand:

0.k  proofs of time that were kept beside the signature, one step each that is about it: an evidence record
     (RFC 4998) or a time stamp over SHA-2 of the SignedData. The earliest one that holds is the time at which
     the signature is judged. One that does not hold is a note: without it the signature may still pass.

What a proof of time needs (its authority's path and status) is judged here; revocation data, certificates and
proofs are untrusted and may come from anywhere (`evidence.verify.at_hand`).

(spec: EN319102-1#5.6, signing.md 1 and 2.3)
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import new as new_hash
from typing import Final

from evidence.asn1.der import DerError
from evidence.mail.mime import Part
from evidence.mail.smime import SmimeError, locate
from evidence.nes.policy import DEFAULT_NES_POLICY, NesPolicy
from evidence.nes.shown import shown_steps
from evidence.nes.verifier import Moment, Prepared, SenderReport, conclude, prepare, prepare_signature
from evidence.ports import ByteSource
from evidence.report import Report, Step
from evidence.report import conclude as conclude_report
from evidence.stamps.ers import ErsError, read_record
from evidence.stamps.ers_check import check_record
from evidence.stamps.ers_tree import tree_root
from evidence.stamps.timestamps import TimestampRefusedError, parse_response, read_token, verify_token
from evidence.verify.at_hand import AtHand, Sort
from evidence.x509.answers import revoked_by
from evidence.x509.certificates import CertificateError, certificate_facts
from evidence.x509.chain import Chain, TrustStore
from evidence.x509.offline import OfflineRevocation
from evidence.xml.reader import format_time

PROOF: Final = "proof of time"
PROOFS_MAX: Final = 64
"""Records and time stamps looked at."""
HELPERS_MAX: Final = 200
"""Certificates at hand that may help to build paths."""


@dataclass(frozen=True, slots=True)
class LaterSetting:
    """What a later check rests on.

    ``proven``: the caller has proved that the signature existed then. ``policy``: what counts as a sender's
    signature; whether an account may use seals was decided at reception.
    """

    trust: TrustStore
    at: datetime
    policy: NesPolicy = DEFAULT_NES_POLICY
    data: AtHand = field(default_factory=AtHand)
    proven: datetime | None = None


def check_message(source: ByteSource, root: Part, setting: LaterSetting) -> SenderReport:
    """Check the sender's signature of a message, and that what is shown is what was signed.

    Args:
        source: the message as received, CRLF lines.
        root: its structure.
        setting: what the check rests on.
    """
    proven, steps = setting.proven, list[Step]()
    if setting.data.of(Sort.RECORD) or setting.data.of(Sort.STAMP):
        try:
            der = locate(source, root, limits=setting.policy.limits).der
        except SmimeError:
            der = None  # step 1 says what is wrong
        if der is not None:
            proven, steps = _proofs(der, setting)
    prepared = prepare(
        source, root, trust=_helped(setting), policy=setting.policy, at=setting.at, moment=Moment.LATER,
        proven=proven,
    )  # fmt: skip
    shown = shown_steps(source, root, limits=setting.policy.limits)
    return _concluded(prepared, setting, steps, shown)


def check_signature(der: bytes, content: ByteSource | None, setting: LaterSetting) -> SenderReport:
    """Check a bare CMS signature (.p7s, .p7m).

    Args:
        der: the SignedData, DER ContentInfo.
        content: what it signs; None where that is inside.
        setting: what the check rests on.
    """
    proven, steps = _proofs(der, setting)
    prepared = prepare_signature(
        der, content, trust=_helped(setting), policy=setting.policy, at=setting.at, moment=Moment.LATER,
        proven=proven,
    )  # fmt: skip
    return _concluded(prepared, setting, steps, [])


def _concluded(
    prepared: Prepared, setting: LaterSetting, before: Sequence[Step], after: Sequence[Step]
) -> SenderReport:
    """Answer what revocation must be known from what is at hand, and decide."""
    data, embedded = setting.data, prepared.embedded
    offline = OfflineRevocation(
        [*embedded.ocsp, *data.of(Sort.OCSP)], [*embedded.crls, *data.of(Sort.CRL)], setting.policy.freshness
    )
    answers = {
        certificate.sha256: offline.answer(certificate, issuer, setting.trust, use.at, not_after=setting.at)
        for (certificate, issuer), use in zip(prepared.needs, prepared.uses, strict=True)
    }
    made = conclude(prepared, answers, setting.at)
    steps = (*before, *made.report.steps, *after)
    facts = {**made.report.facts, "material": _material(made, setting)}
    report = conclude_report(made.report.subject, steps, setting.at, facts=facts, parts=made.report.parts)
    return replace(made, report=report)


def _helped(setting: LaterSetting) -> TrustStore:
    """Return the roots with the certificates at hand as helpers, which are trusted in nothing."""
    helpers = []
    for der in setting.data.of(Sort.CERTIFICATE)[:HELPERS_MAX]:
        try:
            helpers.append(certificate_facts(der))
        except CertificateError:
            continue
    trust = setting.trust
    if not helpers:
        return trust
    known = {facts.der for facts in (*trust.roots, *trust.intermediates)}
    ders = [*(facts.der for facts in trust.intermediates), *(f.der for f in helpers if f.der not in known)]
    return TrustStore([root.der for root in trust.roots], intermediates=ders, algorithms=trust.algorithms)


def _material(made: SenderReport, setting: LaterSetting) -> list[dict[str, str]]:
    """Return what the verdict rests on: sort, fingerprint and where it came from."""
    used = made.material
    listed = [
        *(("certificate", der) for der in used.certificates),
        *(("ocsp", der) for der in used.ocsp),
        *(("crl", der) for der in used.crls),
    ]
    roots = {root.der for root in setting.trust.roots}
    return [
        {
            "sort": sort,
            "sha256": new_hash("sha256", der).hexdigest(),
            "from": setting.data.name_of(der) or ("trust" if der in roots else "signature"),
        }
        for sort, der in listed
    ]


# --------------------------------------------------------------------------- proofs of time


def _proofs(der: bytes, setting: LaterSetting) -> tuple[datetime | None, list[Step]]:
    """Return the earliest proven time and a step for each proof at hand that is about this signature."""
    found = [(record, _record) for record in setting.data.of(Sort.RECORD)]
    found += [(token, _token) for token in setting.data.of(Sort.STAMP)]
    offline = OfflineRevocation(
        setting.data.of(Sort.OCSP), setting.data.of(Sort.CRL), setting.policy.freshness
    )
    times = [] if setting.proven is None else [setting.proven]
    steps: list[Step] = []
    digests: dict[str, bytes] = {}

    def digest_of(name: str) -> bytes:
        if name not in digests:
            digests[name] = new_hash(name, der).digest()
        return digests[name]

    for proof, check in found[:PROOFS_MAX]:
        judged = check(proof, digest_of, setting)
        if judged is None:
            continue  # about something else
        time, problem, chains = judged
        problem = problem or _status_problem(chains, time, offline, setting)
        name = setting.data.name_of(proof) or ""
        number = f"0.{len(steps) + 1}"
        if time is None or problem is not None:
            detail = f"{name}: {problem or 'not valid'}"
            steps.append(Step(number, PROOF, None, detail, code="proof-of-time-unusable"))
            continue
        times.append(time)
        steps.append(Step(number, PROOF, True, f"{name}: {format_time(time)}", code="proof-of-time"))  # noqa: FBT003 - `ok` by place
    return min(times, default=None), steps


Judged = tuple[datetime | None, str | None, list[Chain]]
"""A proof's time, what is wrong with it, and its authorities' paths."""


def _record(proof: bytes, digest_of: Callable[[str], bytes], setting: LaterSetting) -> Judged | None:
    try:
        first = read_record(proof).chains[0][0]
        token = read_token(first.token)
    except (ErsError, DerError):
        return None
    if token.info.imprint != tree_root(first.reduced, digest_of(first.digest_name), first.digest_name):
        return None
    check = check_record(proof, digest_of, setting.trust, setting.at, ours=False)
    return check.proven_at, _problem(check.report), [one.chain for one in check.tokens if one.chain]


def _token(proof: bytes, digest_of: Callable[[str], bytes], setting: LaterSetting) -> Judged | None:
    try:
        der = parse_response(proof)
    except TimestampRefusedError:
        der = proof
    try:
        token = read_token(der)
    except DerError:
        return None
    if token.info.imprint != digest_of(token.info.hash_name):
        return None
    check = verify_token(token, imprint=digest_of, trust=setting.trust, at=setting.at, strangers=True)
    return check.gen_time, _problem(check.report), [check.chain] if check.chain else []


def _problem(report: Report) -> str | None:
    step = report.failing_step
    return None if report.passed else f"{step.name}: {step.detail}" if step else "not valid"


def _status_problem(
    chains: Iterable[Chain], time: datetime | None, offline: OfflineRevocation, setting: LaterSetting
) -> str | None:
    """Return which authority was revoked when it stamped; where nobody says anything it counts."""
    if time is None:
        return None
    for certificate, issuer in (link for chain in chains for link in chain.links):
        answer = offline.answer(certificate, issuer, setting.trust, time, not_after=setting.at)
        if answer is not None and revoked_by(answer, time):
            return f"{certificate.label} was revoked"
    return None
