"""What a bundle brings of the sender's signature: cut out of the original, its revocation data named."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from evidence.bundle.making import RevocationFile, revocation_name
from evidence.mail.mime import scan
from evidence.mail.smime import SmimeError, locate
from evidence.ports import ByteSource
from evidence.verify.holder_content import is_exact
from evidence.x509.certificates import CertificateError, CertificateFacts, certificate_facts
from evidence.x509.chain import TrustStore
from evidence.x509.revocation import RevocationError, RevocationSource, check_ocsp
from kephs.usecases.submission.material import Material


def sender_files(kept: Material, at: datetime, trust: TrustStore) -> list[RevocationFile]:
    """Return the revocation data of the holder's certificate, named after what it speaks of."""
    certificates = readable([*kept.certificates, *(root.der for root in trust.roots)])
    files = []
    for number, der in enumerate(kept.ocsp, 1):
        named = next((c for c in certificates if _speaks_of(der, c, certificates, at, trust)), None)
        ending = revocation_name(named.sha256, RevocationSource.OCSP) if named else f"{number}.ocsp"
        files.append(RevocationFile(f"gonderici-{ending}", der))
    files += [RevocationFile(f"gonderici-{n}.crl", der) for n, der in enumerate(kept.crls, 1)]
    return list({file.name: file for file in files}.values())


def _speaks_of(
    der: bytes, certificate: CertificateFacts, others: Sequence[CertificateFacts], at: datetime,
    trust: TrustStore,
) -> bool:  # fmt: skip
    for issuer in others:
        if issuer.subject != certificate.issuer:
            continue
        try:
            check_ocsp(der, certificate, issuer, at=at, trust=trust)
        except RevocationError:
            continue
        return True
    return False


def readable(ders: Iterable[bytes]) -> list[CertificateFacts]:
    """Return the certificates that can be read."""
    found = []
    for der in ders:
        try:
            found.append(certificate_facts(der))
        except CertificateError:
            continue
    return found


def sender_signature(original: ByteSource) -> tuple[bytes | None, bool]:
    """Return the holder's signature as it stands in the original, and whether it covers its exact octets."""
    root = scan(original)
    try:
        return locate(original, root).der, is_exact(original, root)
    except SmimeError:
        return None, False
