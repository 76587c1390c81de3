"""What can be wrong with a holder's certificate: one finding each, for ``kephs sign --diagnose``."""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

import aiohttp

from evidence.adapters.revocation_http import TEST_MARKER, HttpRevocation, HttpRevocationSettings
from evidence.adapters.soft_signer import KeyMaterialError, SoftSigner
from evidence.asn1.der import oid
from evidence.nes.policy import DEFAULT_NES_POLICY
from evidence.nes.qualified import qualified_steps
from evidence.nes.sentences import sentence
from evidence.report import Step
from evidence.x509.algorithms import Role, SignatureAlgorithm
from evidence.x509.certificates import CertificateFacts, certificate_facts
from evidence.x509.chain import TrustStore
from evidence.x509.revocation import RevocationAnswer, RevocationSource, RevocationStatus
from kephs.cli.findings import Finding, error, ok, warning
from kephs.cli.sign.turkish import told, told_by_code
from kephs.system import SystemClock

_SOON: Final = timedelta(days=30)
_CLOCK_TOLERANCE: Final = timedelta(minutes=5)  # what providers allow a signing time to lie ahead
_PATIENCE: Final = 10.0  # seconds
_QUALIFIED: Final = MappingProxyType(
    {
        "qualified": "nitelikli sertifika beyanı",
        "key-usage": "anahtar kullanımı",
        "policies": "sertifika ilkeleri",
    }
)
"""The verifier's three questions by our codes, in its order."""
_RENEW: Final = "renew the certificate at your certificate provider (ESHS)"


async def diagnose_holder(p12: Path, password: str, clock: SystemClock) -> list[Finding]:
    """Look at everything a provider will look at in a key file, as far as it can be known here.

    Args:
        p12: PKCS#12 file.
        password: its password.
        clock: this machine's time.
    """
    try:
        signer = SoftSigner.from_p12(p12, password)
    except KeyMaterialError as failure:
        found = told_by_code("key-file", str(failure))
        return [error("key-file", found, "check the file and its password")]
    return [
        ok("key-file", told("key and certificate belong together", "anahtar ve sertifika birbirinin")),
        *await certificate_findings(certificate_facts(signer.certificate), signer.chain, clock),
    ]


async def certificate_findings(
    facts: CertificateFacts, chain: Sequence[bytes], clock: SystemClock
) -> list[Finding]:
    """Look at a certificate and ask whether it is revoked, wherever its key lies.

    Args:
        facts: the holder's certificate.
        chain: intermediates, DER, issuer first.
        clock: this machine's time.
    """
    issuers = [certificate_facts(der) for der in chain]
    now = clock.now()
    findings = [
        _identity(facts),
        _validity(facts, now),
        *_qualified(facts),
        _algorithm(facts, now),
        _chain(issuers),
    ]
    answer = await _ask(facts, issuers, clock, now)
    return [*findings, _revocation(facts, issuers, answer), _clock(answer, now)]


def _identity(facts: CertificateFacts) -> Finding:
    name = facts.common_name or facts.subject_text
    if facts.tckn is None:
        found = told_by_code("identity", f"the certificate of {name} names no T.C. Kimlik No")
        return error("identity", found, "sign with a certificate issued to a person")
    end = facts.tckn[-2:]
    return ok(
        "identity",
        told(f"{name}, T.C. Kimlik No ends in {end}", f"T.C. Kimlik No'nun son iki rakamı {end}"),
    )


def _validity(facts: CertificateFacts, now: datetime) -> Finding:
    if now < facts.not_before:
        begin = f"{facts.not_before:%Y-%m-%d %H:%M} UTC"
        found = told(
            f"the certificate is valid only from {begin} on", f"sertifika ancak {begin} itibarıyla geçerli"
        )
        return error("validity", found, "wait, or correct this machine's clock")
    end = f"{facts.not_after:%Y-%m-%d}"
    if now > facts.not_after:
        found = told(f"the certificate expired on {end}", f"sertifikanın süresi dolmuş: {end}")
        return error("validity", found, _RENEW)
    left = (facts.not_after - now).days
    if facts.not_after - now < _SOON:
        found = told(
            f"the certificate expires in {left} days", f"sertifikanın süresi {left} gün sonra doluyor"
        )
        return warning("validity", found, _RENEW)
    return ok("validity", told(f"valid until {end}", f"geçerlilik sonu {end}"))


def _qualified(facts: CertificateFacts) -> list[Finding]:
    steps = qualified_steps(facts, DEFAULT_NES_POLICY, number="1", first=1)
    return [_judged(code, step) for code, step in zip(_QUALIFIED, steps, strict=True)]


def _judged(code: str, step: Step) -> Finding:
    turkish, english = sentence(step)
    if not step.ok:
        found = told(f"{english} ({step.detail})", turkish)
        return error(code, found, "sign with a qualified certificate (NES) under law 5070")
    name = _QUALIFIED[code]
    return ok(code, told(f"{step.name}: as law 5070 demands", f"{name}: 5070 sayılı Kanuna uygun"))


def _algorithm(facts: CertificateFacts, now: datetime) -> Finding:
    family, size = facts.key.family, facts.key.size
    refusal: str | None = "unknown kind of key"
    if family is not None:
        algorithm = SignatureAlgorithm(family, "sha256")
        refusal = DEFAULT_NES_POLICY.algorithms.refusal(Role.SIGNER, algorithm, "sha256", size, now)
    if refusal is not None:
        return error("key-type", told_by_code("key-type", f"the key cannot be used: {refusal}"), _RENEW)
    return ok("key-type", told(f"the key is {family} {size}", f"anahtar {family} {size}"))


def _chain(chain: list[CertificateFacts]) -> Finding:
    if not chain:
        found = told_by_code("chain", "there is no issuing certificate, so the signature carries none")
        cure = "export the key with its whole chain, or give it with --chain"
        return warning("chain", found, cure)
    names = " <- ".join(one.common_name or one.subject_text for one in chain)
    return ok("chain", told(f"issued by {names}", f"sertifikayı veren {names}"))


async def _ask(
    facts: CertificateFacts, chain: list[CertificateFacts], clock: SystemClock, now: datetime
) -> RevocationAnswer | None:
    if not chain:
        return None
    trust = TrustStore(())  # the question here is whether the issuer answers, not whether it is trusted
    # TEST certificates name this machine; no other certificate may send requests into a private network
    settings = HttpRevocationSettings(
        crl_timeout=_PATIENCE, question_timeout=2 * _PATIENCE, private_addresses=oid(TEST_MARKER) in facts.der
    )
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        client = HttpRevocation(
            session, clock=clock.now, trust=trust, nonces=lambda: secrets.token_bytes(16), settings=settings
        )
        return await client.status(facts, chain[0], now)


def _revocation(
    facts: CertificateFacts, chain: list[CertificateFacts], answer: RevocationAnswer | None
) -> Finding:
    if answer is None:
        return _unknown(facts, asked=bool(chain))
    if answer.status is RevocationStatus.REVOKED:
        since = f"{answer.revoked_at:%Y-%m-%d %H:%M} UTC" if answer.revoked_at else ""
        found = told(
            f"the certificate is revoked since {since}" if since else "the certificate is revoked",
            f"sertifika iptal edilmiş: {since}" if since else "sertifika iptal edilmiş",
        )
        return error("revocation", found, "get a new certificate")
    if answer.status is RevocationStatus.UNKNOWN:
        found = told(
            "the issuer does not know this certificate", "sertifikayı veren bu sertifikayı tanımıyor"
        )
        return error("revocation", found, "ask your certificate provider")
    source = answer.source.value.upper()
    return ok("revocation", told(f"not revoked ({source})", f"iptal edilmemiş ({source})"))


def _unknown(facts: CertificateFacts, *, asked: bool) -> Finding:
    """Tell that nobody answered, or that nobody could be asked without the issuing certificate."""
    urls = ", ".join((*facts.extensions.ocsp_urls, *facts.extensions.crl_urls))
    english, turkish = (
        "it cannot be asked without the issuing certificate",
        "veren sertifika olmadan sorulamaz",
    )
    cure = "give the issuing certificates with --chain"
    if asked:
        english = f"no answer from {urls or 'any service: the certificate names none'}"
        turkish = f"yanıt yok: {urls or 'sertifika bir adres göstermiyor'}"
        cure = "try again; the provider refuses for the moment while nobody answers"
    found = told(
        f"whether the certificate is revoked is unknown: {english}",
        f"sertifikanın iptal edilip edilmediği bilinmiyor: {turkish}",
    )
    return warning("revocation", found, cure)


def _clock(answer: RevocationAnswer | None, now: datetime) -> Finding:
    """Compare with the responder's clock; a revocation list says nothing about this moment."""
    if answer is None or answer.source is not RevocationSource.OCSP:
        found = told(
            "this machine's clock could not be compared with anybody's",
            "bilgisayarın saati hiçbir saatle karşılaştırılamadı",
        )
        return warning("clock", found, "check it yourself")
    apart = abs(answer.at - now)
    if apart > _CLOCK_TOLERANCE:
        seconds = f"{apart.total_seconds():.0f}"
        found = told(
            f"this machine's clock and the OCSP responder's are {seconds} s apart",
            f"bilgisayarın saatiyle OCSP sunucusunun saati arasında {seconds} sn fark var",
        )
        return error("clock", found, "set the clock: signatures claim the time they are made")
    return ok("clock", told("agrees with the OCSP responder's", "OCSP sunucusunun saatiyle uyuşuyor"))
