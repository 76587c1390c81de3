"""Who may seal: only a transaction certificate, and only for the provider it names.

A holder's certificate (NES), a TLS, OCSP or time-stamping certificate never passes here, whatever it
signed (interfaces, `kephs verify`, "Role").
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from evidence.x509.algorithms import DEFAULT_ALGORITHMS, AlgorithmPolicy
from evidence.x509.certificates import (
    DIGITAL_SIGNATURE,
    NON_REPUDIATION,
    TEST_TRANSACTION_POLICY,
    CertificateFacts,
)


@dataclass(frozen=True, slots=True)
class SealPolicy:
    """What makes a certificate a transaction certificate, and which algorithms count.

    ``transaction_policies``: certificate policy OIDs, any one suffices. The default is the TEST PKI's;
    a production instance sets its ESHS's.
    """

    transaction_policies: frozenset[str] = frozenset({TEST_TRANSACTION_POLICY})
    algorithms: AlgorithmPolicy = DEFAULT_ALGORITHMS


_NEEDED_USAGE: Final = frozenset({DIGITAL_SIGNATURE, NON_REPUDIATION})
DEFAULT_SEAL_POLICY: Final = SealPolicy()


def domain_of(address: str) -> str:
    """Return the domain of ``a@b`` in lower case, ``""`` where there is none."""
    domain = address.rpartition("@")[2]
    return domain.lower() if domain.isascii() and "@" in address else ""


def provider_domains(certificate: CertificateFacts) -> frozenset[str]:
    """Return the provider domains a transaction certificate names in its SAN."""
    return frozenset(name.lower() for name in certificate.extensions.dns_names if name.isascii())


def transaction_problem(
    certificate: CertificateFacts, domains: Iterable[str], policy: SealPolicy = DEFAULT_SEAL_POLICY
) -> str | None:
    """Return why this certificate may not seal for one of these domains, None where it may.

    Args:
        certificate: the signer's.
        domains: provider domains, lower case; one of them must be named in the SAN.
        policy: which certificate policies make a transaction certificate.
    """
    named, wanted = provider_domains(certificate), frozenset(domain for domain in domains if domain)
    whose, needed = " or ".join(sorted(named)) or "nobody", " or ".join(sorted(wanted)) or "nobody"
    facts = certificate.extensions
    problems = (
        (not certificate.has_policy(*policy.transaction_policies), "it lacks the transaction policy"),
        (bool(facts.qc_statements), "it is a holder's qualified certificate"),
        (bool(facts.extended_key_usage), "it is made for TLS, OCSP or time stamps"),
        (facts.is_ca, "it is an authority's"),
        (not (facts.key_usage or frozenset()) >= _NEEDED_USAGE, "its keyUsage does not fit"),
        (not wanted & named, f"it is {whose}'s, {needed}'s is needed"),
    )
    found = next((text for holds, text in problems if holds), None)
    return None if found is None else f"no transaction certificate of the issuer: {found}"
