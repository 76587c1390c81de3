"""Were the certificates behind a set of seals good when the seals were made? From data at hand, offline.

A revocation counts from its date: what a stamp proves to be older stays valid (signing §1). Answers count
that were fresh at a stamp, at export or now, and those said later while the certificate still lived. For a
transaction certificate data is needed; for authorities and time-stamping authorities it is looked at
where present and its absence is a warning.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from evidence.report import Step, SubIndication, Verdict
from evidence.stamps.stamp_check import failed
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import Chain, TrustStore, build_chain
from evidence.x509.crl import check_crl
from evidence.x509.offline import OfflineRevocation
from evidence.x509.revocation import RevocationAnswer, RevocationError, RevocationStatus, check_ocsp


class SealedThing(Protocol):
    """Evidence, message or manifest after its verification."""

    @property
    def chain(self) -> Chain | None:
        """Return the signer's path."""
        ...

    @property
    def stamped_at(self) -> datetime | None:
        """Return the proven time."""
        ...

    @property
    def tsa(self) -> CertificateFacts | None:
        """Return the time-stamping authority's certificate."""
        ...


def revocation_step(
    things: Iterable[SealedThing],
    files: Sequence[tuple[str, bytes]],
    times: Sequence[datetime],
    trust: TrustStore,
    *,
    number: str,
    near: Sequence[CertificateFacts] = (),
) -> Step:
    """Check every certificate behind some seals against revocation data.

    Args:
        things: what was sealed.
        files: name and content of OCSP responses and CRLs (``.crl``), untrusted.
        times: when the data may have been fresh, beside the stamps: export, now.
        trust: the roots; gives the algorithm table too.
        number: of the step.
        near: certificates that may lead from an authority to a root, beside the signers'.
    """
    sealed = _sealed(things, trust, near)
    stamps = [time for _, proven, _ in sealed for time in proven if time is not None]
    moments = sorted({*times, *([min(stamps), max(stamps)] if stamps else [])}, reverse=True)
    known: dict[tuple[bytes, bytes], list[RevocationAnswer]] = {}
    offline = OfflineRevocation(
        [content for name, content in files if not name.endswith(".crl")],
        [content for name, content in files if name.endswith(".crl")],
    )
    latest = max(times, default=None)
    unknown: set[str] = set()
    for chain, proven, needed in sealed:
        for position, (certificate, issuer) in enumerate(chain.links):
            key = (certificate.sha256, issuer.sha256)
            if key not in known:
                known[key] = _answers(files, certificate, issuer, moments, trust)
                known[key] += _later(offline, certificate, issuer, trust, proven, latest)
            if any(_was_revoked(answer, at) for answer in known[key] for at in proven):
                detail = f"{certificate.subject_text} was revoked"
                return failed(number, "revocation", detail, SubIndication.REVOKED)
            if all(any(_covers(answer, at) for answer in known[key]) for at in proven):
                continue
            if needed and position == 0:
                detail = f"no revocation data for {certificate.subject_text}"
                sub = SubIndication.TRY_LATER
                return failed(number, "revocation", detail, sub, Verdict.INDETERMINATE)
            unknown.add(certificate.subject_text)
    if unknown:
        return Step(number, "revocation", ok=None, detail=f"no data for {'; '.join(sorted(unknown))}")
    return Step(number, "revocation", ok=True)


def _sealed(
    things: Iterable[SealedThing], trust: TrustStore, near: Sequence[CertificateFacts]
) -> list[tuple[Chain, set[datetime | None], bool]]:
    """Return each signer's and each authority's path once, with every proven time; the last says needed."""
    found: dict[bytes, tuple[Chain, set[datetime | None], bool]] = {}
    for thing in things:
        if thing.chain is None:
            continue
        found.setdefault(thing.chain.leaf.sha256, (thing.chain, set(), True))[1].add(thing.stamped_at)
        if thing.tsa is None or thing.stamped_at is None:
            continue
        path = build_chain(thing.tsa, [*thing.chain.certificates, *near], trust, thing.stamped_at)
        if isinstance(path, Chain):
            found.setdefault(path.leaf.sha256, (path, set(), False))[1].add(thing.stamped_at)
    return list(found.values())


def _answers(
    files: Sequence[tuple[str, bytes]],
    certificate: CertificateFacts,
    issuer: CertificateFacts,
    moments: Sequence[datetime],
    trust: TrustStore,
) -> list[RevocationAnswer]:
    """Return what authentic data says of a certificate, one answer per file that was fresh at a moment."""
    found = []
    for name, content in files:
        for at in moments:
            try:
                if name.endswith(".crl"):
                    answer = check_crl(content, issuer, at=at, trust=trust).answer(certificate, at)
                else:
                    answer = check_ocsp(content, certificate, issuer, at=at, trust=trust)
            except RevocationError:
                continue
            found.append(answer)
            break
    return found


def _later(
    offline: OfflineRevocation,
    certificate: CertificateFacts,
    issuer: CertificateFacts,
    trust: TrustStore,
    proven: Iterable[datetime | None],
    latest: datetime | None,
) -> list[RevocationAnswer]:
    """Return what was said after the stamps, while the certificate lived: an archive collects it then.

    Issuers are silent about certificates long expired, so nobody can get a fresh answer at export.
    """
    found = (
        offline.answer(certificate, issuer, trust, at, not_after=latest) for at in proven if at is not None
    )
    return [answer for answer in found if answer is not None]


def _was_revoked(answer: RevocationAnswer, stamped_at: datetime | None) -> bool:
    if answer.status is not RevocationStatus.REVOKED:
        return False
    return stamped_at is None or answer.revoked_at is None or answer.revoked_at <= stamped_at


def _covers(answer: RevocationAnswer, stamped_at: datetime | None) -> bool:
    """Say whether an answer speaks of the time of the seal: one that ended before it says nothing."""
    if answer.status is RevocationStatus.UNKNOWN:
        return False
    return stamped_at is None or (answer.next_update or answer.this_update) >= stamped_at
