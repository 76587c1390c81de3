"""Is this certificate fit to seal evidence, at this moment, as a verifier will see it?

One answer for whoever starts a server, makes a bundle or looks after an instance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from evidence.x509.certificates import CertificateFacts, certificate_facts
from evidence.x509.chain import Chain, ChainFailure, TrustStore, build_chain
from evidence.x509.role import SealPolicy, transaction_problem


@dataclass(frozen=True, slots=True)
class SealCheck:
    """What was found. The three texts are None where that part is well.

    ``lifetime_problem``: not valid yet, or expired. ``role_problem``: no transaction certificate of this
    provider (KEP-SG-01). ``chain_problem``: no path to a trusted root.
    """

    certificate: CertificateFacts
    lifetime_problem: str | None
    role_problem: str | None
    chain_problem: str | None
    chain: Chain | None

    @property
    def problem(self) -> str | None:
        """Return the first problem: with it, evidence would never verify."""
        return self.lifetime_problem or self.role_problem or self.chain_problem


def check_seal(
    certificate: bytes, chain: Sequence[bytes], *, domain: str, trust: TrustStore, policy: SealPolicy,
    at: datetime,
) -> SealCheck:  # fmt: skip
    """Look at a transaction certificate.

    Args:
        certificate: DER.
        chain: intermediates, DER, that evidence will carry.
        domain: the provider's, lower case.
        trust: roots and known intermediates.
        policy: what makes a transaction certificate.
        at: now, UTC.

    Raises:
        CertificateError: a certificate cannot be read.
    """
    facts = certificate_facts(certificate)
    found = build_chain(facts, [certificate_facts(der) for der in chain], trust, at)
    reached, failure = (None, found.detail) if isinstance(found, ChainFailure) else (found, None)
    return SealCheck(
        certificate=facts,
        lifetime_problem=lifetime_problem(facts, at),
        role_problem=transaction_problem(facts, (domain,), policy),
        chain_problem=failure,
        chain=reached,
    )


def lifetime_problem(facts: CertificateFacts, at: datetime) -> str | None:
    """Return why a certificate does not count at a time, None where it is within its validity."""
    if at < facts.not_before:
        return f"valid only from {facts.not_before:%Y-%m-%d %H:%M} UTC on"
    if at > facts.not_after:
        return f"expired on {facts.not_after:%Y-%m-%d %H:%M} UTC"
    return None
