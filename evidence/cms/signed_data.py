"""CMS SignedData: a strict reader and verifier; `CmsSigner`, the emitter, comes from `evidence.cms.emission`.

Verification reads the original bytes and never re-encodes them.
(spec: RFC5652#5, ETSI EN 319 122-1, signing.md 2.4)
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import new as hashlib_new
from typing import Final, NamedTuple

from evidence.asn1.der import (
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    SET,
    Cursor,
    DerError,
    Node,
    children,
    inside,
    parse,
    tlv,
    to_int,
    to_octets,
    to_oid,
    to_time,
)
from evidence.cms.emission import (
    CONTENT_TYPE,
    ID_DATA,
    ID_SIGNED_DATA,
    ID_TST_INFO,
    MESSAGE_DIGEST,
    SIGNATURE_TIME_STAMP,
    SIGNING_CERTIFICATE_V2,
    SIGNING_TIME,
    CmsDraft,
    CmsSigner,
)
from evidence.cms.reading import (
    MAX_CERTIFICATES,
    MAX_SIGNED_DATA,
    Attribute,
    SignedData,
    SignerInfo,
    known,
    parse_signed_data,
    read_signer_info,
)
from evidence.report import Step, SubIndication, Verdict
from evidence.x509.algorithms import (
    Family,
    SignatureAlgorithm,
    digest_algorithm,
    verify_signature,
)
from evidence.x509.certificates import CertificateError, CertificateFacts, certificate_facts

_ESS_REMEMBERED: Final = 1024
COUNTER_SIGNATURE: Final = "1.2.840.113549.1.9.6"
SIGNING_CERTIFICATE_V1: Final = "1.2.840.113549.1.9.16.2.12"
SIGNATURE_POLICY: Final = "1.2.840.113549.1.9.16.2.15"


__all__ = [
    "CONTENT_TYPE",
    "COUNTER_SIGNATURE",
    "ID_DATA",
    "ID_SIGNED_DATA",
    "ID_TST_INFO",
    "MAX_SIGNED_DATA",
    "MESSAGE_DIGEST",
    "SIGNATURE_POLICY",
    "SIGNATURE_TIME_STAMP",
    "SIGNING_CERTIFICATE_V1",
    "SIGNING_CERTIFICATE_V2",
    "SIGNING_TIME",
    "Attribute",
    "CmsDraft",
    "CmsRules",
    "CmsSigner",
    "SignedData",
    "SignerCheck",
    "SignerInfo",
    "parse_signed_data",
    "read_signer_info",
    "verify_signer",
]


@dataclass(frozen=True, slots=True)
class SignerCheck:
    """What `verify_signer` found; ``steps`` are in the order of checking and carry the verdicts."""

    certificate: CertificateFacts | None
    signing_time: datetime | None
    digest_name: str | None
    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        """Say whether every step passed."""
        return all(step.ok for step in self.steps)


@dataclass(frozen=True, slots=True)
class CmsRules:
    """Switches for clients in the field; the defaults are the strict reading.

    ``attributes_in_order``: refuse signedAttrs that are not in DER order ([unconfirmed] that every Turkish
    client sorts). ``key_type_decides``: where signatureAlgorithm names another family than the
    certificate's key (a known client writes shaNNNWithRSA for EC keys) the key decides.
    """

    attributes_in_order: bool = True
    key_type_decides: bool = True


DEFAULT_RULES: Final = CmsRules()


class _CheckError(Exception):
    def __init__(self, sub: SubIndication, detail: str, verdict: Verdict = Verdict.FAILED) -> None:
        super().__init__(detail)
        self.sub, self.verdict = sub, verdict


def verify_signer(
    signed: SignedData,
    signer: SignerInfo,
    *,
    digest_of: Callable[[str], bytes],
    rules: CmsRules = DEFAULT_RULES,
    number: str = "1",
    counter: bool = False,
) -> SignerCheck:
    """Check one signer of a SignedData: the four things, each a step.

    1 signed attributes and contentType; 2 messageDigest over the content; 3 certificate by signer identifier
    and ESS signing-certificate-v2; 4 signature value over the original attribute bytes.

    Args:
        signed: the parsed structure.
        signer: one of ``signed.signers``.
        digest_of: gives the digest of the exact content octets for a hashlib name ("sha256").
        rules: switches for clients in the field.
        number: prefix of the step numbers.
        counter: the signer is a counter-signature, whose content is the parent's signature value and which
            has no contentType (spec: RFC5652#11.4).
    """
    steps: list[Step] = []
    found: list[CertificateFacts] = []

    def certificate() -> str:
        found.append(_signing_certificate(signed, signer))
        return found[0].label

    def value() -> str:
        if not found:
            raise _CheckError(
                SubIndication.NO_SIGNING_CERTIFICATE_FOUND, "no certificate", Verdict.INDETERMINATE
            )
        return _check_value(signer, found[0], rules)

    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("signed attributes", lambda: _check_attributes(signed, signer, rules, counter=counter)),
        ("message digest", lambda: _check_digest(signer, digest_of)),
        ("signing certificate", certificate),
        ("signature value", value),
    )
    for index, (name, check) in enumerate(checks, 1):
        try:
            detail = check()
        except _CheckError as error:
            steps.append(
                Step(
                    f"{number}.{index}",
                    name,
                    ok=False,
                    detail=str(error),
                    sub_indication=error.sub,
                    verdict=error.verdict,
                )
            )
        except DerError as error:
            failure = SubIndication.FORMAT_FAILURE
            steps.append(
                Step(
                    f"{number}.{index}",
                    name,
                    ok=False,
                    detail=str(error),
                    sub_indication=failure,
                    verdict=Verdict.FAILED,
                )
            )
        else:
            steps.append(Step(f"{number}.{index}", name, ok=True, detail=detail))
    return SignerCheck(found[0] if found else None, _signing_time(signer), signer.digest_name, tuple(steps))


def _signing_time(signer: SignerInfo) -> datetime | None:
    try:
        return to_time(signer.signed_attribute(SIGNING_TIME))
    except DerError:
        return None


def _check_attributes(signed: SignedData, signer: SignerInfo, rules: CmsRules, *, counter: bool) -> str:
    if not signer.attributes:
        raise DerError("no signed attributes")
    kinds = [attribute.oid for attribute in signer.attributes]
    if len(set(kinds)) != len(kinds):
        raise DerError("a signed attribute stands twice")
    if rules.attributes_in_order and not signer.attributes_sorted:
        raise DerError("signed attributes are not in DER order")
    if SIGNING_TIME in kinds:
        to_time(signer.signed_attribute(SIGNING_TIME))
    if counter:
        if CONTENT_TYPE in kinds:
            raise DerError("a counter-signature with contentType")
        return "counter-signature"
    kind = to_oid(signer.signed_attribute(CONTENT_TYPE))
    if kind != signed.content_type:
        raise DerError(f"contentType {kind} is not the eContentType {signed.content_type}")
    return kind


def _check_digest(signer: SignerInfo, digest_of: Callable[[str], bytes]) -> str:
    if signer.digest_name is None:
        raise _CheckError(
            SubIndication.CRYPTO_CONSTRAINTS_FAILURE, "unknown digest algorithm", Verdict.INDETERMINATE
        )
    claimed = to_octets(signer.signed_attribute(MESSAGE_DIGEST))
    if claimed != digest_of(signer.digest_name):
        raise _CheckError(SubIndication.HASH_FAILURE, "messageDigest is not the digest of the content")
    return signer.digest_name


def _signing_certificate(signed: SignedData, signer: SignerInfo) -> CertificateFacts:
    """Find the certificate by SID and bind it by ESS v2 (spec: RFC5035#3, signing.md 2.4 rule 3)."""
    if any(attribute.oid == SIGNING_CERTIFICATE_V1 for attribute in signer.attributes) and not any(
        attribute.oid == SIGNING_CERTIFICATE_V2 for attribute in signer.attributes
    ):
        raise _CheckError(
            SubIndication.SIG_CONSTRAINTS_FAILURE, "signing-certificate v1 (SHA-1)", Verdict.INDETERMINATE
        )
    hash_name, expected, issuer_serial = _ess_entry(signer.signed_attribute(SIGNING_CERTIFICATE_V2))
    if hash_name is None or hash_name in {"sha1", "sha224"}:
        raise _CheckError(
            SubIndication.SIG_CONSTRAINTS_FAILURE, "signing-certificate-v2 hash", Verdict.INDETERMINATE
        )
    facts = _by_identifier(signed, signer)
    digest = facts.sha256 if hash_name == "sha256" else _digest(hash_name, facts.der)
    if digest != expected or (issuer_serial is not None and not issuer_serial.names(facts)):
        raise _CheckError(
            SubIndication.NO_SIGNING_CERTIFICATE_FOUND,
            "signing-certificate-v2 names another certificate",
            Verdict.INDETERMINATE,
        )
    return facts


def _by_identifier(signed: SignedData, signer: SignerInfo) -> CertificateFacts:
    for der in signed.certificates:
        try:
            facts = certificate_facts(der)
        except CertificateError:
            continue
        if signer.key_id is not None:
            if facts.extensions.subject_key_id == signer.key_id:
                return facts
        elif facts.serial == signer.serial and facts.issuer == signer.issuer:
            return facts
    raise _CheckError(
        SubIndication.NO_SIGNING_CERTIFICATE_FOUND,
        "the signer's certificate is not embedded",
        Verdict.INDETERMINATE,
    )


class _IssuerSerial(NamedTuple):
    names_der: tuple[bytes, ...]
    serial: int

    def names(self, facts: CertificateFacts) -> bool:
        """Say whether this IssuerSerial (GeneralNames, serial) is the certificate's."""
        return self.serial == facts.serial and facts.issuer in self.names_der


def _ess_entry(value: Node) -> tuple[str | None, bytes, _IssuerSerial | None]:
    """Return hash name, certificate hash and IssuerSerial of the first ESSCertIDv2."""
    der = value.whole
    return _remembered_entry(der) if len(der) <= _ESS_REMEMBERED else _read_entry(der)


@lru_cache(maxsize=256)  # a pure memo: an authority names the same certificate in every stamp
def _remembered_entry(der: bytes) -> tuple[str | None, bytes, _IssuerSerial | None]:
    return _read_entry(der)


def _read_entry(der: bytes) -> tuple[str | None, bytes, _IssuerSerial | None]:
    listed = Cursor(parse(der, max_size=MAX_SIGNED_DATA), limit=2).take(SEQUENCE)
    entries = children(listed, limit=MAX_CERTIFICATES)
    if not entries:
        raise DerError("signing-certificate-v2 names no certificate")
    entry = Cursor(entries[0], limit=3)
    identifier = entry.optional(SEQUENCE)
    hash_name = known(digest_algorithm, identifier) if identifier is not None else "sha256"
    expected = to_octets(entry.take(OCTET_STRING))
    issuer_serial = entry.optional(SEQUENCE)
    entry.finish()
    return hash_name, expected, None if issuer_serial is None else _issuer_serial(issuer_serial)


def _issuer_serial(node: Node) -> _IssuerSerial:
    cursor = Cursor(node, limit=3)
    names, serial = cursor.take(SEQUENCE), to_int(cursor.take(INTEGER), max_octets=64)
    directory = [name for name in children(names, limit=16) if name.tag == 0xA4]
    return _IssuerSerial(tuple(inside(name).whole for name in directory), serial)


def _digest(name: str, data: bytes) -> bytes:
    return hashlib_new(name, data).digest()


def _check_value(signer: SignerInfo, certificate: CertificateFacts, rules: CmsRules) -> str:
    """Check the signature over the attributes as received, tag 0xA0 read as SET (spec: RFC5652#5.4)."""
    algorithm, name = signer.algorithm, signer.digest_name
    if algorithm is None or name is None:
        raise _CheckError(
            SubIndication.CRYPTO_CONSTRAINTS_FAILURE, "unknown signature algorithm", Verdict.INDETERMINATE
        )
    if algorithm.hash_name is not None and algorithm.hash_name != name:
        raise _CheckError(
            SubIndication.SIG_CRYPTO_FAILURE, f"signature says {algorithm.hash_name}, digest {name}"
        )
    family = certificate.key.family
    same = algorithm.family is family or {algorithm.family, family} == {Family.RSA, Family.RSA_PSS}
    if not same and rules.key_type_decides and family is not None:
        algorithm = SignatureAlgorithm(family, name)
    if certificate.key.pss_only and algorithm.family is not Family.RSA_PSS:
        raise _CheckError(SubIndication.SIG_CRYPTO_FAILURE, "an RSA-PSS key signed otherwise")
    data = tlv(SET, signer.attributes_der)
    if not verify_signature(certificate.public_key, algorithm, name, signer.signature, data):
        raise _CheckError(SubIndication.SIG_CRYPTO_FAILURE, "the signature value does not verify")
    return f"{algorithm.family} {name}"
