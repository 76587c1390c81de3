"""The second phase of the verifier: steps 4 and 5, the verdict. Use it through `evidence.nes.verifier`."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

from evidence.nes.findings import failing, noted
from evidence.nes.model import Material, Moment, Prepared, Role, SenderReport, SignerIdentity, Use
from evidence.nes.policy import Grace
from evidence.nes.qualified import money_limit, restrictions
from evidence.report import Step, SubIndication, Verdict, held
from evidence.report import conclude as conclude_report
from evidence.x509.certificates import CertificateFacts, certificate_facts
from evidence.x509.revocation import (
    RevocationAnswer,
    RevocationSource,
    RevocationStatus,
    is_fresh,
    revoked_by,
    speaks_about,
)

_SUBJECT: Final = "sender signature"
_REVOKED_NAME: Final = "not revoked"
_KNOWN_NAME: Final = "revocation status known"
_HARMLESS: Final = frozenset({"unspecified", "affiliationChanged", "superseded", "cessationOfOperation"})
"""Reasons that leave a time-stamping authority's earlier tokens valid; no reason given does not.

(spec: RFC3161#4)
"""


class _Told(NamedTuple):
    """What is known about one certificate: the answer that settles it, or why none does."""

    answer: RevocationAnswer | None
    revoked: RevocationAnswer | None
    problem: str
    code: str


def conclude_prepared(
    prepared: Prepared, answers: Mapping[bytes, RevocationAnswer | None], at: datetime
) -> SenderReport:
    """Decide; see `evidence.nes.verifier.conclude`."""
    revoked: list[Step] = []
    known: list[Step] = []
    used: list[RevocationAnswer] = []
    brought = dict(prepared.told)
    for index, ((facts, _), use) in enumerate(zip(prepared.needs, prepared.uses, strict=True), 1):
        live = answers.get(facts.sha256)
        told = _settle(prepared, facts, use, live, brought.get(facts.sha256, ()), at)
        revoked.append(_revoked_step(f"4.{index}", facts, use, told, prepared.moment))
        known.append(_known_step(f"5.{index}", facts, told))
        kept = told.answer or told.revoked or live
        if kept is not None:
            used.append(kept)
    steps = (*prepared.steps, *revoked, *known)
    if prepared.grace_from is not None and prepared.needs:
        grace = _grace_step(prepared, used, f"5.{len(known) + 1}")
        if grace is not None:
            steps = (*steps, grace)
    report = conclude_report(_SUBJECT, steps, at, facts=_facts(prepared))
    return SenderReport(
        report,
        prepared.signers,
        Material(
            tuple(dict.fromkeys((*prepared.certificates, *prepared.embedded.certificates))),
            _unique([answer.der for answer in used if answer.source is RevocationSource.OCSP]),
            _unique([answer.der for answer in used if answer.source is RevocationSource.CRL]),
        ),
        prepared.best_time,
        prepared.profile,
    )


def _settle(
    prepared: Prepared,
    facts: CertificateFacts,
    use: Use,
    live: RevocationAnswer | None,
    brought: tuple[RevocationAnswer, ...],
    at: datetime,
) -> _Told:
    """Choose the answer that counts: what was asked for, else what the signature brought."""
    problem, code = "neither OCSP nor CRL answered", "no-revocation-answer"
    chosen = None
    serving = brought and tuple([one for one in brought if _may_serve(prepared, use, live, one)])
    for answer in (live, *serving) if serving else (live,):
        if answer is None:
            continue
        found = _problem(prepared, facts, use, answer, at)
        if found is None and use.ocsp_only and answer.source is not RevocationSource.OCSP:
            found = "P4 wants an OCSP answer", "ocsp-required"
        if found is None:
            chosen = answer
            break
        if answer is live:
            problem, code = found
    if live is not None and _counts(live, use):
        return _Told(chosen, live, problem, code)
    for answer in brought:  # a revocation is final: once told, no other answer takes it back
        if _counts(answer, use) and (chosen is None or chosen is answer or not answer.on_hold):
            return _Told(chosen, answer, problem, code)
    return _Told(chosen, None, problem, code)


def _may_serve(prepared: Prepared, use: Use, live: RevocationAnswer | None, answer: RevocationAnswer) -> bool:
    """Say whether an answer that the signature brought may stand in for the network's.

    At reception nobody but the issuer says "valid now": a sender whose certificate was revoked could bring an
    answer from before. One made after the signature's own time stamp tells what the profiles P2 to P4 ask, as
    long as the network does not say that it knows nothing of the certificate.
    """
    if prepared.moment is not Moment.RECEPTION or answer.status is RevocationStatus.REVOKED:
        return True
    if live is not None and live.status is RevocationStatus.UNKNOWN:
        return False
    if use.role not in {Role.SIGNER, Role.COUNTER_SIGNER}:
        return True
    return prepared.best_time is not None and answer.this_update >= prepared.best_time


def _problem(
    prepared: Prepared, facts: CertificateFacts, use: Use, answer: RevocationAnswer, at: datetime
) -> tuple[str, str] | None:
    rules = prepared.policy.freshness
    if answer.status is RevocationStatus.UNKNOWN:
        return "the responder does not know it", "revocation-unknown"
    if use.proven:
        if not speaks_about(answer, facts, use.at, rules):
            return f"the answer says nothing about {use.at.isoformat()}", "revocation-not-fresh"
    elif not is_fresh(answer, at, rules):
        return "the answer is not fresh", "revocation-not-fresh"
    return None


def _counts(answer: RevocationAnswer, use: Use) -> bool:
    """Say whether the answer tells of a revocation that spoils the signature."""
    if answer.status is not RevocationStatus.REVOKED:
        return False
    if use.stamped is not None and use.role is Role.STAMPER:
        if use.existed is not None and answer.revoked_at is not None and answer.revoked_at > use.existed:
            return False  # whoever has the key now did not make this token: it was there before
        later = answer.revoked_at is not None and answer.revoked_at > use.stamped
        return not (later and answer.reason in _HARMLESS)
    return revoked_by(answer, use.at) if use.proven else True


def _revoked_step(number: str, facts: CertificateFacts, use: Use, told: _Told, moment: Moment) -> Step:
    """Fail for a certificate known to be revoked: certain for the signer's, no proof of time above."""
    answer = told.revoked
    if answer is None:
        later = told.answer
        if later is not None and later.status is RevocationStatus.REVOKED and later.revoked_at is not None:
            detail = f"{facts.label} revoked {later.revoked_at.isoformat()}, after the time that counts"
            return held(number, _REVOKED_NAME, detail, "revoked-later")
        if later is None:  # step 5 says so, and decides
            return noted(number, _REVOKED_NAME, told.code, facts.label)
        return _not_revoked(number, facts)
    since = answer.revoked_at.isoformat() if answer.revoked_at is not None else "unknown"
    detail = f"{facts.label} revoked {since} {answer.reason or ''}".rstrip()
    if use.role is Role.AUTHORITY:
        code, sub = "authority-revoked", SubIndication.REVOKED_CA_NO_POE
    elif use.role is Role.STAMPER:
        code, sub = "stamper-revoked", SubIndication.REVOKED_NO_POE
    elif use.role is Role.COUNTER_SIGNER:
        code, sub = "counter-signer-revoked", SubIndication.REVOKED_NO_POE
    elif moment is Moment.RECEPTION or use.proven:
        return failing(number, _REVOKED_NAME, "revoked", detail, SubIndication.REVOKED, Verdict.FAILED)
    else:
        code, sub = "revoked-no-proof", SubIndication.REVOKED_NO_POE
    return failing(number, _REVOKED_NAME, code, detail, sub)


@lru_cache(maxsize=1024)
def _not_revoked(number: str, facts: CertificateFacts) -> Step:
    return held(number, _REVOKED_NAME, facts.label)


def _known_step(number: str, facts: CertificateFacts, told: _Told) -> Step:
    answer = told.answer
    if answer is not None:
        return _known_held(number, answer.source, answer.this_update)
    detail = f"{facts.label}: {told.problem}"
    return failing(number, _KNOWN_NAME, told.code, detail, SubIndication.TRY_LATER)


@lru_cache(maxsize=1024)
def _known_held(number: str, source: RevocationSource, this_update: datetime) -> Step:
    return held(number, _KNOWN_NAME, f"{source} {this_update.isoformat()}")


def _grace_step(prepared: Prepared, used: Iterable[RevocationAnswer], number: str) -> Step | None:
    """Note, or wait for, the list that P2 and P3 want: made a day after the time stamp or later."""
    since = prepared.grace_from
    assert since is not None
    signers = {
        facts.sha256
        for (facts, _), use in zip(prepared.needs, prepared.uses, strict=True)
        if use.role is Role.SIGNER
    }
    told = [answer for digest, answers in prepared.told if digest in signers for answer in answers]
    if any(answer.this_update >= since for answer in (*used, *told)):
        return None
    name, detail = "grace", f"no answer of {since.isoformat()} or later yet"
    if prepared.policy.grace is Grace.HOLD:
        return failing(number, name, "grace-hold", detail, SubIndication.TRY_LATER)
    return noted(number, name, "grace", detail)


# --------------------------------------------------------------------------- what the report tells


def _facts(prepared: Prepared) -> dict[str, object]:
    best = prepared.best_time
    return {
        "kind": prepared.kind.value if prepared.kind is not None else None,
        "moment": prepared.moment.value,
        "profile": prepared.profile.value if prepared.profile is not None else None,
        "best_time": best.isoformat() if best is not None else None,
        "signers": [_signer(signer) for signer in prepared.signers],
    }


def _signer(signer: SignerIdentity) -> dict[str, object]:
    claimed = signer.signing_time
    return {
        **_about(signer.certificate),
        "signing_time": claimed.isoformat() if claimed is not None else None,
    }


@lru_cache(maxsize=1024)  # a pure memo: senders write more than one message. Nobody changes what it returns
def _about(certificate: bytes) -> Mapping[str, object]:
    facts = certificate_facts(certificate)
    limit = money_limit(facts)
    return {
        "common_name": facts.common_name,
        "serial": f"{facts.serial:x}",
        "issuer": facts.issuer_text,
        "not_after": facts.not_after.isoformat(),
        "certificate_sha256": facts.sha256.hex(),
        "policies": [one.oid for one in facts.extensions.policies],
        "money_limit": limit._asdict() if limit is not None else None,
        "restrictions": list(restrictions(facts)),
    }


def _unique(ders: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(ders))
