"""What stands in the certificates of the TEST PKI: names, extensions and their deliberate defects."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from evidence.asn1.der import oid, seq, utf8
from kephs.testpki.oids import (
    BTK_QUALIFIED,
    BTK_QUALIFIED_SEAL,
    BTK_TEXT,
    ETSI_QC_COMPLIANCE,
    MALI_MUHUR_POLICY,
    QC_STATEMENTS,
    TEST_MARKER,
    TEST_NES_POLICY,
    TEST_TRANSACTION_POLICY,
    TEST_TSA_POLICY,
)

Extension: TypeAlias = tuple[x509.ExtensionType, bool]
"""An extension and whether it is critical."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A qualified certificate (NES) as the law wants it; each switch spoils one thing (signing.md 2.8)."""

    qualified: bool = True
    """The ETSI statement 0.4.0.1862.1.1."""
    btk: bool = True
    """The Turkish statement: ...5070.1.1, or 5070.2.1 with ``seal``."""
    seal: bool = False
    user_notice: bool = True
    non_repudiation: bool = True
    digital_signature: bool = True
    mali_muhur: bool = False
    """Add the policy of the Mali Mühür, which is no NES."""


@dataclass(frozen=True, slots=True)
class Urls:
    """Where one authority answers; they go into the certificates it issues."""

    ocsp: str
    crl: str
    certificate: str

    @classmethod
    def of(cls, base_url: str, authority: str) -> "Urls":
        """Return the addresses that `kephs.testpki.server` serves for one authority."""
        return cls(
            f"{base_url}/ocsp/{authority}",
            f"{base_url}/crl/{authority}.crl",
            f"{base_url}/ca/{authority}.cer",
        )


def name(*, common_name: str, organization: str | None = None, tckn: str | None = None) -> x509.Name:
    """Return a subject in C=TR; every one says TEST."""
    marked = common_name if "TEST" in common_name else f"TEST {common_name}"
    attributes = [x509.NameAttribute(NameOID.COUNTRY_NAME, "TR")]
    if organization is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    if tckn is not None:
        attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, tckn))
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, marked))
    return x509.Name(attributes)


def make_tckn(number: int) -> str:
    """Return a T.C. identity number with valid check digits, 11 digits, for a number below 900,000,000.

    Numbers of this shape may belong to people; the demo's start with 10000000 and are TEST data only.

    Raises:
        ValueError: the number is out of range.
    """
    if not 0 <= number < 900_000_000:
        raise ValueError("at most nine digits, the first not zero")
    digits = [int(digit) for digit in str(100_000_000 + number)]
    digits.append((sum(digits[0::2]) * 7 - sum(digits[1::2])) % 10)
    digits.append(sum(digits) % 10)
    return "".join(map(str, digits))


def whole_second(at: datetime) -> datetime:
    """Drop the fraction: certificates, OCSP and tokens carry whole seconds only.

    Raises:
        ValueError: the time has no zone.
    """
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at.replace(microsecond=0)


def key_usage(
    *, digital_signature: bool = False, non_repudiation: bool = False, authority: bool = False
) -> Extension:
    """Return a critical keyUsage; ``authority`` sets keyCertSign and cRLSign."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=non_repudiation,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    ), True


def locations(urls: Urls) -> list[Extension]:
    """Return AIA (OCSP, caIssuers) and the CRL distribution point."""
    access = x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(
                AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(urls.ocsp)
            ),
            x509.AccessDescription(
                AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(urls.certificate)
            ),
        ]
    )
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(urls.crl)], None, None, None)
    return [(access, False), (x509.CRLDistributionPoints([point]), False)]


def authority_extensions(*, path_length: int | None) -> list[Extension]:
    """Return the extensions of a root or issuing authority."""
    return [(x509.BasicConstraints(ca=True, path_length=path_length), True), key_usage(authority=True)]


def holder_extensions(profile: Profile) -> list[Extension]:
    """Return the extensions of a holder's qualified certificate (spec: signing.md 2.2)."""
    notice: list[str | x509.UserNotice] = [x509.UserNotice(None, BTK_TEXT)] if profile.user_notice else []
    policies = [x509.PolicyInformation(x509.ObjectIdentifier(TEST_NES_POLICY), notice or None)]
    if profile.mali_muhur:
        policies.append(x509.PolicyInformation(x509.ObjectIdentifier(MALI_MUHUR_POLICY), None))
    extensions: list[Extension] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        key_usage(digital_signature=profile.digital_signature, non_repudiation=profile.non_repudiation),
        (x509.CertificatePolicies(policies), False),
    ]
    statements = _qc_statements(profile)
    if statements:
        statement_list = x509.UnrecognizedExtension(x509.ObjectIdentifier(QC_STATEMENTS), seq(*statements))
        extensions.append((statement_list, False))
    return extensions


def transaction_extensions(domain: str, service_address: str) -> list[Extension]:
    """Return the extensions of a provider's transaction certificate (işlem sertifikası): no QC statements."""
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        key_usage(digital_signature=True, non_repudiation=True),
        (
            x509.CertificatePolicies(
                [x509.PolicyInformation(x509.ObjectIdentifier(TEST_TRANSACTION_POLICY), None)]
            ),
            False,
        ),
        (x509.SubjectAlternativeName([x509.DNSName(domain), x509.RFC822Name(service_address)]), False),
    ]


def timestamp_extensions(*, eku: bool = True, critical: bool = True) -> list[Extension]:
    """Return the extensions of a time-stamping certificate (spec: RFC3161#2.3); the switches spoil it."""
    extensions: list[Extension] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        key_usage(digital_signature=True, non_repudiation=True),
        (
            x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(TEST_TSA_POLICY), None)]),
            False,
        ),
    ]
    if eku:
        extensions.append((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical))
    return extensions


def responder_extensions(*, eku: bool = True, nocheck: bool = True) -> list[Extension]:
    """Return the extensions of a delegated OCSP responder (spec: RFC6960#4.2.2.2); the switches spoil it."""
    extensions: list[Extension] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        key_usage(digital_signature=True),
    ]
    if eku:
        extensions.append((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False))
    if nocheck:
        extensions.append((x509.OCSPNoCheck(), False))
    return extensions


def tls_extensions(domains: Sequence[str]) -> list[Extension]:
    """Return the extensions of a TLS server: its domains, localhost, 127.0.0.1 and ::1."""
    names: list[x509.GeneralName] = [x509.DNSName(domain) for domain in domains]
    names += [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        key_usage(digital_signature=True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(names), False),
    ]


def certificate_builder(
    *,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    issuer: x509.Certificate | None,
    not_before: datetime,
    not_after: datetime,
    extensions: Sequence[Extension],
    like: x509.Certificate | None = None,
) -> x509.CertificateBuilder:
    """Return a certificate ready to be signed, with key identifiers and the TEST marker.

    Without ``issuer`` it is self-signed; with ``like`` it copies that one's key identifier, as an
    impostor does.
    """
    own = like.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value if like else None
    own = own or x509.SubjectKeyIdentifier.from_public_key(public_key)
    above = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value if issuer else own
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(whole_second(not_before))
        .not_valid_after(whole_second(not_after))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), critical=False)
        .add_extension(own, critical=False)
        .add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(TEST_MARKER), utf8("TEST")), critical=False
        )
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder


def years(count: float) -> timedelta:
    """Return about that many years."""
    return timedelta(days=round(365.25 * count))


def _qc_statements(profile: Profile) -> list[bytes]:
    statements = []
    if profile.qualified:
        statements.append(seq(oid(ETSI_QC_COMPLIANCE)))
    if profile.btk:
        identifier = BTK_QUALIFIED_SEAL if profile.seal else BTK_QUALIFIED
        statements.append(seq(oid(identifier), utf8(BTK_TEXT)))
    return statements
