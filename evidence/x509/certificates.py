"""The facts of one X.509 certificate, parsed once by the strict DER reader.

An own parser, not `cryptography.x509`, because Turkish roots exist that it refuses (ECDSA identifiers with
parameters) and because facts such as QC statements and user notices would need DER work anyway; keys and
signature values are always `cryptography`'s business. (spec: RFC5280#4, signing.md 2.2)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from evidence.asn1.der import (
    BIT_STRING,
    INTEGER,
    SEQUENCE,
    SET,
    Cursor,
    DerError,
    Node,
    children,
    inside,
    parse,
    to_bits,
    to_int,
    to_oid,
    to_text,
    to_time,
)
from evidence.x509.algorithms import KeyDescription, describe_key, load_key
from evidence.x509.extensions import MAX_CERTIFICATE, Extensions, Policy, QcStatement, read_extensions

__all__ = [
    "BTK_SEAL", "BTK_SIGNATURE", "CRL_SIGN", "DIGITAL_SIGNATURE", "EKU_OCSP_SIGNING", "EKU_TIME_STAMPING",
    "KEY_CERT_SIGN", "MALI_MUHUR_ARC", "MAX_CERTIFICATE", "NON_REPUDIATION", "QC_COMPLIANCE", "QC_LIMIT",
    "TEST_TRANSACTION_POLICY", "CertificateError", "CertificateFacts", "Extensions", "Policy", "QcStatement",
    "certificate_facts", "name_attributes",
]  # fmt: skip

_CACHEABLE: Final = 16 * 1024

TEST_TRANSACTION_POLICY: Final = "2.25.3095612381273628172"
"""Policy of transaction certificates of the test PKI (UUID arc; test only)."""

QC_COMPLIANCE: Final = "0.4.0.1862.1.1"
QC_LIMIT: Final = "0.4.0.1862.1.2"
BTK_SIGNATURE: Final = "2.16.792.1.61.0.1.5070.1.1"
BTK_SEAL: Final = "2.16.792.1.61.0.1.5070.2.1"
MALI_MUHUR_ARC: Final = "2.16.792.1.2.1.1.5.7.50"

EKU_TIME_STAMPING: Final = "1.3.6.1.5.5.7.3.8"
EKU_OCSP_SIGNING: Final = "1.3.6.1.5.5.7.3.9"

DIGITAL_SIGNATURE: Final = 0
NON_REPUDIATION: Final = 1
KEY_CERT_SIGN: Final = 5
CRL_SIGN: Final = 6

_NAME_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "2.5.4.3": "CN",
        "2.5.4.4": "SN",
        "2.5.4.5": "serialNumber",
        "2.5.4.6": "C",
        "2.5.4.7": "L",
        "2.5.4.8": "ST",
        "2.5.4.10": "O",
        "2.5.4.11": "OU",
        "2.5.4.12": "title",
        "2.5.4.42": "GN",
        "2.5.4.97": "organizationIdentifier",
        "1.2.840.113549.1.9.1": "emailAddress",
        "0.9.2342.19200300.100.1.25": "DC",
    }
)


class CertificateError(ValueError):
    """The bytes are not a certificate that this library reads."""


@dataclass(frozen=True, slots=True, eq=False)
class CertificateFacts:
    """One certificate. Equality and hash go by the SHA-256 of its DER."""

    der: bytes
    sha256: bytes
    serial: int
    issuer: bytes  # the Name as encoded: names are compared byte for byte
    subject: bytes
    subject_attributes: tuple[tuple[str, str], ...]
    issuer_attributes: tuple[tuple[str, str], ...]
    not_before: datetime
    not_after: datetime
    spki: bytes
    key_bits: bytes  # content of subjectPublicKey, the input of OCSP key hashes
    tbs: bytes
    signature_identifier: bytes
    signature: bytes
    extensions: Extensions
    public_key: PublicKeyTypes | None = field(repr=False)
    key: KeyDescription
    label: str = field(init=False, repr=False)
    """A name for reports and logs that holds no identity number."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.common_name or f"serial {self.serial:x}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CertificateFacts) and other.sha256 == self.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    @property
    def common_name(self) -> str | None:
        """Return the subject's CN."""
        return self._one("2.5.4.3")

    @property
    def organization(self) -> str | None:
        """Return the subject's O."""
        return self._one("2.5.4.10")

    @property
    def country(self) -> str | None:
        """Return the subject's C."""
        return self._one("2.5.4.6")

    @property
    def tckn(self) -> str | None:
        """Return the T.C. number in serialNumber: 11 digits, alone or after ``PNOTR-``; None if not one."""
        text = (self._one("2.5.4.5") or "").removeprefix("PNOTR-")
        return text if len(text) == 11 and text.isascii() and text.isdigit() else None

    @property
    def subject_text(self) -> str:
        """Return the subject for people, most specific attribute first (spec: RFC4514#2)."""
        return _name_text(self.subject_attributes)

    @property
    def issuer_text(self) -> str:
        """Return the issuer for people, most specific attribute first."""
        return _name_text(self.issuer_attributes)

    @property
    def self_issued(self) -> bool:
        """Say whether issuer and subject are the same name."""
        return self.issuer == self.subject

    @property
    def extended_key_usage_critical(self) -> bool:
        """Say whether extendedKeyUsage is marked critical (time stamping demands it, RFC 3161 2.3)."""
        return "2.5.29.37" in self.extensions.critical

    def valid_at(self, at: datetime) -> bool:
        """Say whether ``at`` is inside the validity period, both ends included (spec: RFC5280#4.1.2.5)."""
        return self.not_before <= at <= self.not_after

    def has_policy(self, *oids: str) -> bool:
        """Say whether one of the policies is asserted."""
        return any(policy.oid in oids for policy in self.extensions.policies)

    def has_qc(self, oid: str) -> bool:
        """Say whether this qualified-certificate statement is present."""
        return any(statement.oid == oid for statement in self.extensions.qc_statements)

    def _one(self, oid: str) -> str | None:
        return _only(self.subject_attributes, oid)


@lru_cache(maxsize=1024)
def _only(attributes: tuple[tuple[str, str], ...], oid: str) -> str | None:
    """Return the only value of an attribute; None where it is missing or ambiguous."""
    found = [text for kind, text in attributes if kind == oid]
    return found[0] if len(found) == 1 else None


def certificate_facts(der: bytes) -> CertificateFacts:
    """Parse one certificate; results for usual sizes are remembered (a pure memo of 1,024 entries).

    Args:
        der: the certificate, at most 64 KiB.

    Raises:
        CertificateError: not strict DER, or not a certificate.
    """
    return _remembered(bytes(der)) if len(der) <= _CACHEABLE else _parse(bytes(der))


@lru_cache(maxsize=1024)
def _remembered(der: bytes) -> CertificateFacts:
    return _parse(der)


def _parse(der: bytes) -> CertificateFacts:
    try:
        return _certificate(parse(der, max_size=MAX_CERTIFICATE, tag=SEQUENCE))
    except (DerError, ValueError, IndexError, OverflowError) as error:
        raise CertificateError(f"not a readable certificate: {error}") from error


def _certificate(node: Node) -> CertificateFacts:
    outer = Cursor(node, limit=3)
    tbs, identifier, signature = outer.take(SEQUENCE), outer.take(SEQUENCE), outer.take(BIT_STRING)
    outer.finish()
    inner = Cursor(tbs, limit=12)
    version = inner.optional(0xA0)
    if version is not None and to_int(inside(version, INTEGER)) not in {1, 2}:
        raise DerError("certificate version")
    serial = to_int(inner.take(INTEGER), max_octets=64)
    if inner.take(SEQUENCE).whole != identifier.whole:  # spec: RFC5280#4.1.1.2
        raise DerError("the two signature algorithms differ")
    issuer = inner.take(SEQUENCE)
    validity = Cursor(inner.take(SEQUENCE), limit=2)
    not_before, not_after = to_time(validity.take()), to_time(validity.take())
    subject, spki = inner.take(SEQUENCE), inner.take(SEQUENCE)
    inner.optional(0x81)
    inner.optional(0x82)
    listed = inner.optional(0xA3)
    inner.finish()
    public_key, pss_only = load_key(spki)
    return CertificateFacts(
        der=node.data,
        sha256=sha256(node.data).digest(),
        serial=serial,
        issuer=issuer.whole,
        subject=subject.whole,
        subject_attributes=name_attributes(subject),
        issuer_attributes=name_attributes(issuer),
        not_before=not_before,
        not_after=not_after,
        spki=spki.whole,
        key_bits=to_bits(children(spki, limit=2)[1]),
        tbs=tbs.whole,
        signature_identifier=identifier.whole,
        signature=to_bits(signature),
        extensions=read_extensions(listed) if listed is not None else Extensions(),
        public_key=public_key,
        key=describe_key(public_key, pss_only=pss_only),
    )


def name_attributes(name: Node) -> tuple[tuple[str, str], ...]:
    """Return (type OID, text) of every attribute of a Name, in its order."""
    found = []
    for relative in children(name, limit=64, tag=SEQUENCE):
        for attribute in children(relative, limit=16, tag=SET):
            kind, value = children(attribute, limit=2, tag=SEQUENCE)
            found.append((to_oid(kind), to_text(value)))
    return tuple(found)


@lru_cache(maxsize=1024)  # a pure memo: reports name the same few issuers over and over
def _name_text(attributes: tuple[tuple[str, str], ...]) -> str:
    parts = []
    for kind, text in reversed(attributes):
        escaped = "".join("\\" + char if char in '\\,+"<>;=' else char for char in text)
        parts.append(f"{_NAME_TYPES.get(kind, kind)}={escaped}")
    return ", ".join(parts)
