"""Judge what a XAdES-B-LTA export of ours carries beyond the evidence: steps of `evidence.verify.evidence`.

* 6.3 archive time stamp: over all that stands before it, holding at the verification time. The stamp on the
  signature is then judged for the archive stamp's time, so its authority may have expired since
* 8.2 archived material: the certificates are those of the two paths that stand nowhere else, each piece of
  revocation data speaks of a certificate of the path it stands with, and nothing else is there; the archive
  token, which no other stamp covers, holds nothing that could change unseen
* 8.3 revocation: by the data inside, nobody on the two paths was revoked at the proven times
  (`evidence.stamps.sealed_links`)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from evidence.report import Step
from evidence.stamps.sealed_links import revocation_step
from evidence.stamps.stamp_check import StampCheck, check_stamps, failed, token_problem
from evidence.stamps.timestamps import TokenReport
from evidence.x509.certificates import CertificateError, CertificateFacts, certificate_facts
from evidence.x509.chain import Chain, TrustStore, build_chain
from evidence.x509.crl import check_crl
from evidence.x509.revocation import RevocationError, check_ocsp
from evidence.xades.lta import Archived, Values

_MATERIAL = "archived material"


@dataclass(frozen=True, slots=True)
class ProvenPath:
    """A path and the time at which its first certificate was used (`sealed_links.SealedThing`)."""

    chain: Chain
    stamped_at: datetime | None
    tsa: CertificateFacts | None = None


def check_archive_stamp(archived: Archived, trust: TrustStore, at: datetime) -> StampCheck:
    """Verify the archive time stamp (step 6.3)."""
    found = check_stamps((archived.token,), archived.draft.covered, trust, at, number="6.3")
    return replace(found, step=found.step._replace(name="archive time stamp"))


def archive_steps(
    archived: Archived,
    signer: ProvenPath,
    stamp: TokenReport,
    archive: TokenReport,
    trust: TrustStore,
) -> list[Step]:
    """Make steps 8.2 and 8.3.

    Args:
        archived: the export.
        signer: the signer's path, and the proven time of its signature.
        stamp: the verified signature time stamp.
        archive: the verified archive time stamp.
        trust: the roots.
    """
    path = stamp_path(stamp, trust)
    if path is None or path.stamped_at is None or archive.gen_time is None:
        return [failed("8.2", _MATERIAL, "no path of the time stamp")]
    values, others = archived.draft.values, archived.draft.stamp_values
    times = (archive.gen_time,)
    moments = [*times, *(one.stamped_at for one in (signer, path) if one.stamped_at is not None)]
    problem = token_problem(archive) or _problem(archived, signer.chain, path.chain, stamp)
    if problem is None and not all(
        _each_speaks(one.files, links.chain, moments, trust)
        for one, links in ((values, signer), (others, path))
    ):
        problem = "revocation data that speak of no certificate of their path"
    step = Step("8.2", _MATERIAL, ok=True) if problem is None else failed("8.2", _MATERIAL, problem)
    files = (*values.files, *others.files)
    return [step, revocation_step((signer, path), files, times, trust, number="8.3")]


def stamp_path(stamp: TokenReport, trust: TrustStore) -> ProvenPath | None:
    """Return the path of a verified token's authority at its time, None where there is none."""
    if stamp.certificate is None or stamp.gen_time is None or stamp.token is None:
        return None
    offered = []
    for der in stamp.token.signed.certificates:
        try:
            offered.append(certificate_facts(der))
        except CertificateError:
            continue
    found = build_chain(stamp.certificate, offered, trust, stamp.gen_time)
    return ProvenPath(found, stamp.gen_time) if isinstance(found, Chain) else None


def signer_certificates(chain: Chain, key_info: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return what CertificateValues holds: the path without what KeyInfo has (spec: EN319132-1#5.4.2)."""
    known = set(key_info)
    return tuple(facts.der for facts in chain.certificates if facts.der not in known)


def stamp_certificates(chain: Chain, elsewhere: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return what TimeStampValidationData holds of a path (spec: EN319132-1#5.5.1.2).

    Args:
        chain: the authority's.
        elsewhere: what the token, KeyInfo and CertificateValues hold.
    """
    return signer_certificates(chain, elsewhere)


def _problem(archived: Archived, signer: Chain, authority: Chain, stamp: TokenReport) -> str | None:
    key_info = archived.signature.certificates
    values, others = archived.draft.values, archived.draft.stamp_values
    if values.certificates != signer_certificates(signer, key_info):
        return "CertificateValues holds other certificates than the rest of the path"
    token = stamp.token.signed.certificates if stamp.token is not None else ()
    if others.certificates != stamp_certificates(authority, (*token, *key_info, *values.certificates)):
        return "TimeStampValidationData holds other certificates than the rest of the stamp's path"
    if _repeated(values, others):
        return "revocation data stand twice"
    return None


def _repeated(values: Values, others: Values) -> bool:
    ders = [der for _, der in (*values.files, *others.files)]
    return len(set(ders)) != len(ders)


def _each_speaks(
    files: Iterable[tuple[str, bytes]], chain: Chain, moments: Sequence[datetime], trust: TrustStore
) -> bool:
    return all(
        any(
            _speaks(name, der, link, at, trust)
            for link in chain.links
            for at in moments
        )
        for name, der in files
    )  # fmt: skip


def _speaks(
    name: str, der: bytes, link: tuple[CertificateFacts, CertificateFacts], at: datetime, trust: TrustStore
) -> bool:
    """Say whether authentic data, fresh at a time, are about the first of two certificates."""
    certificate, issuer = link
    try:
        if name.endswith(".crl"):
            check_crl(der, issuer, at=at, trust=trust).answer(certificate, at)
        else:
            check_ocsp(der, certificate, issuer, at=at, trust=trust)
    except RevocationError:
        return False
    return True
