"""What can be wrong with a holder's certificate: one finding each, for ``kephs sign --diagnose``."""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import aiohttp

from evidence.adapters.revocation_http import TEST_MARKER, HttpRevocation, HttpRevocationSettings
from evidence.adapters.soft_signer import KeyMaterialError, SoftSigner
from evidence.asn1.der import oid
from evidence.nes.policy import DEFAULT_NES_POLICY
from evidence.nes.qualified import qualified_steps
from evidence.x509.algorithms import Role, SignatureAlgorithm
from evidence.x509.certificates import CertificateFacts, certificate_facts
from evidence.x509.chain import TrustStore
from evidence.x509.revocation import RevocationAnswer, RevocationSource, RevocationStatus
from kephs.cli.findings import Finding, error, ok, warning
from kephs.system import SystemClock

_SOON: Final = timedelta(days=30)
_CLOCK_TOLERANCE: Final = timedelta(minutes=5)  # what providers allow a signing time to lie ahead
_PATIENCE: Final = 10.0  # seconds
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
        return [error("key-file", str(failure), "check the file and its password")]
    return [
        ok("key-file", "key and certificate belong together"),
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
        return error(
            "identity", f"the certificate of {name} names no T.C. Kimlik No",
            "sign with a certificate issued to a person",
        )  # fmt: skip
    return ok("identity", f"{name}, T.C. Kimlik No ends in {facts.tckn[-2:]}")


def _validity(facts: CertificateFacts, now: datetime) -> Finding:
    if now < facts.not_before:
        return error(
            "validity", f"the certificate is valid only from {facts.not_before:%Y-%m-%d %H:%M} UTC on",
            "wait, or correct this machine's clock",
        )  # fmt: skip
    if now > facts.not_after:
        return error("validity", f"the certificate expired on {facts.not_after:%Y-%m-%d}", _RENEW)
    left = facts.not_after - now
    if left < _SOON:
        return warning("validity", f"the certificate expires in {left.days} days", _RENEW)
    return ok("validity", f"valid until {facts.not_after:%Y-%m-%d}")


def _qualified(facts: CertificateFacts) -> list[Finding]:
    codes = ("qualified", "key-usage", "policies")
    steps = qualified_steps(facts, DEFAULT_NES_POLICY, number="1", first=1)
    return [
        ok(code, f"{step.name}: as law 5070 demands")
        if step.ok
        else error(code, step.detail, "sign with a qualified certificate (NES) under law 5070")
        for code, step in zip(codes, steps, strict=True)
    ]


def _algorithm(facts: CertificateFacts, now: datetime) -> Finding:
    family, size = facts.key.family, facts.key.size
    refusal: str | None = "unknown kind of key"
    if family is not None:
        algorithm = SignatureAlgorithm(family, "sha256")
        refusal = DEFAULT_NES_POLICY.algorithms.refusal(Role.SIGNER, algorithm, "sha256", size, now)
    if refusal is not None:
        return error("key-type", f"the key cannot be used: {refusal}", _RENEW)
    return ok("key-type", f"{family} {size}")


def _chain(chain: list[CertificateFacts]) -> Finding:
    if not chain:
        return warning(
            "chain", "there is no issuing certificate, so the signature carries none",
            "export the key with its whole chain, or give it with --chain",
        )  # fmt: skip
    return ok("chain", " <- ".join(one.common_name or one.subject_text for one in chain))


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
        asked = ", ".join((*facts.extensions.ocsp_urls, *facts.extensions.crl_urls))
        why = f"no answer from {asked or 'any service: the certificate names none'}"
        text = why if chain else "it cannot be asked without the issuing certificate"
        return warning(
            "revocation", f"whether the certificate is revoked is unknown: {text}",
            "try again; the provider refuses for the moment while nobody answers"
            if chain
            else "give the issuing certificates with --chain",
        )  # fmt: skip
    if answer.status is RevocationStatus.REVOKED:
        since = f" since {answer.revoked_at:%Y-%m-%d %H:%M} UTC" if answer.revoked_at else ""
        return error("revocation", f"the certificate is revoked{since}", "get a new certificate")
    if answer.status is RevocationStatus.UNKNOWN:
        return error(
            "revocation", "the issuer does not know this certificate", "ask your certificate provider"
        )
    return ok("revocation", f"not revoked ({answer.source.value.upper()})")


def _clock(answer: RevocationAnswer | None, now: datetime) -> Finding:
    """Compare with the responder's clock; a revocation list says nothing about this moment."""
    if answer is None or answer.source is not RevocationSource.OCSP:
        return warning(
            "clock", "this machine's clock could not be compared with anybody's", "check it yourself"
        )
    apart = abs(answer.at - now)
    if apart > _CLOCK_TOLERANCE:
        return error(
            "clock", f"this machine's clock and the OCSP responder's are {apart.total_seconds():.0f} s apart",
            "set the clock: signatures claim the time they are made",
        )  # fmt: skip
    return ok("clock", "agrees with the OCSP responder's")
