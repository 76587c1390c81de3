"""CMS SignedData: a strict reader and verifier; `CmsSigner`, the emitter, comes from `evidence.cms.emission`.

Verification reads the original bytes and never re-encodes them.
(spec: RFC5652#5, ETSI EN 319 122-1, signing.md 2.4)
"""

from collections.abc import Callable, Mapping
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
from evidence.report import Step, SubIndication, Verdict, held
from evidence.x509.algorithms import (
    Family,
    SignatureAlgorithm,
    digest_algorithm,
    verify_signature,
)
from evidence.x509.certificates import CertificateError, CertificateFacts, certificate_facts

COUNTER_SIGNATURE: Final = "1.2.840.113549.1.9.6"
SIGNATURE_POLICY: Final = "1.2.840.113549.1.9.16.2.15"
SIGNING_CERTIFICATE_V1: Final = "1.2.840.113549.1.9.16.2.12"
MAX_SIGNER_CERTIFICATE: Final = 16 * 1024
"""Ten times a usual one; signers' certificates are remembered, so strangers must not fill the memory."""
_ESS_REMEMBERED: Final = 1024
_SINGLE: Final = frozenset(
    {CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_TIME, SIGNING_CERTIFICATE_V2, SIGNATURE_POLICY}
)
"""Signed attributes with exactly one value each (spec: RFC5652#11, signing.md 2.4 rule 2)."""
_WEAK: Final = frozenset({"sha1", "sha224"})
_RSA_FAMILIES: Final = frozenset({Family.RSA, Family.RSA_PSS})


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
    ``definite_frame``: refuse indefinite lengths around the SignedData, which no signature covers; else they
    are made definite first (`evidence.asn1.framing`). ``certificate_bound``: refuse a signature that does not
    name its certificate (no signing-certificate attribute); else that is noted.
    """

    attributes_in_order: bool = True
    key_type_decides: bool = True
    definite_frame: bool = True
    certificate_bound: bool = True


DEFAULT_RULES: Final = CmsRules()
MAIL_PROGRAM_RULES: Final = CmsRules(definite_frame=False, certificate_bound=False)
"""What Thunderbird, Outlook and Apple Mail sign by themselves passes: CMS of RFC 5652, not yet CAdES."""


class _CheckError(Exception):
    def __init__(
        self, code: str, sub: SubIndication, detail: str, verdict: Verdict = Verdict.INDETERMINATE
    ) -> None:
        super().__init__(detail)
        self.code, self.sub, self.verdict = code, sub, verdict


class _FormError(_CheckError):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, SubIndication.FORMAT_FAILURE, detail, Verdict.FAILED)


_Values = Mapping[str, tuple[Node, ...]]


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
    values: dict[str, tuple[Node, ...]] = {one.oid: one.values for one in signer.attributes}
    failed: dict[int, _CheckError] = {}
    facts, signing_time, kind, value = None, None, "", ""
    try:
        kind, signing_time = _check_attributes(signed, signer, values, rules, counter=counter)
    except _CheckError as error:
        failed[1] = error
    try:
        _check_digest(signer, values, digest_of)
    except _CheckError as error:
        failed[2] = error
    try:
        facts = _signing_certificate(signed, signer, values, rules)
    except _CheckError as error:
        failed[3] = error
    try:
        value = _check_value(signer, facts, rules)
    except _CheckError as error:
        failed[4] = error
    held_steps = _good_steps(number, kind, signer.digest_name or "", facts.label if facts else "", value)
    steps = held_steps if not failed else _with_failures(held_steps, failed)
    if facts is not None and SIGNING_CERTIFICATE_V2 not in values:
        unbound = steps[2]._replace(ok=None, detail=f"{facts.label}: not named", code="ess-absent")
        steps = (*steps[:2], unbound, *steps[3:])
    return SignerCheck(facts, signing_time, signer.digest_name, steps)


@lru_cache(maxsize=2048)  # a pure memo: the same four steps hold for all messages of one sender
def _good_steps(number: str, kind: str, digest: str, label: str, value: str) -> tuple[Step, ...]:
    return (
        held(f"{number}.1", "signed attributes", kind),
        held(f"{number}.2", "message digest", digest),
        held(f"{number}.3", "signing certificate", label),
        held(f"{number}.4", "signature value", value),
    )


def _with_failures(steps: tuple[Step, ...], failed: Mapping[int, _CheckError]) -> tuple[Step, ...]:
    found = []
    for index, step in enumerate(steps, 1):
        error = failed.get(index)
        if error is None:
            found.append(step)
            continue
        found.append(
            Step(
                step.number,
                step.name,
                ok=False,
                detail=str(error),
                sub_indication=error.sub,
                verdict=error.verdict,
                code=error.code,
            )
        )
    return tuple(found)


def _only(values: _Values, kind: str, code: str) -> Node:
    """Return the only value of a signed attribute that must be there."""
    found = values.get(kind)
    if found is None:
        raise _FormError(f"{code}-missing", f"signed attribute {kind} is missing")
    if len(found) != 1:
        raise _FormError("attribute-values", f"signed attribute {kind} must stand once with one value")
    return found[0]


def _check_attributes(
    signed: SignedData, signer: SignerInfo, values: _Values, rules: CmsRules, *, counter: bool
) -> tuple[str, datetime | None]:
    """Return the content type and the claimed signing time."""
    if not signer.attributes:
        raise _FormError("attributes-missing", "no signed attributes")
    if len(values) != len(signer.attributes):
        raise _FormError("attribute-twice", "a signed attribute stands twice")
    for attribute in signer.attributes:
        if len(attribute.values) != 1 and attribute.oid in _SINGLE:
            raise _FormError("attribute-values", f"signed attribute {attribute.oid} must have one value")
    if rules.attributes_in_order and not signer.attributes_sorted:
        raise _FormError("attributes-order", "signed attributes are not in DER order")
    try:
        claimed = to_time(_only(values, SIGNING_TIME, "signing-time")) if SIGNING_TIME in values else None
        if counter:
            if CONTENT_TYPE in values:
                raise _FormError("counter-content-type", "a counter-signature with contentType")
            return "counter-signature", claimed
        kind = to_oid(_only(values, CONTENT_TYPE, "content-type"))
    except DerError as error:
        raise _FormError("attribute-malformed", str(error)) from error
    if kind != signed.content_type:
        raise _FormError(
            "content-type-differs", f"contentType {kind} is not the eContentType {signed.content_type}"
        )
    return kind, claimed


def _check_digest(signer: SignerInfo, values: _Values, digest_of: Callable[[str], bytes]) -> None:
    if signer.digest_name is None:
        raise _CheckError(
            "digest-unknown", SubIndication.CRYPTO_CONSTRAINTS_FAILURE, "unknown digest algorithm"
        )
    try:
        claimed = to_octets(_only(values, MESSAGE_DIGEST, "digest"))
    except DerError as error:
        raise _FormError("attribute-malformed", str(error)) from error
    if claimed != digest_of(signer.digest_name):
        raise _CheckError(
            "digest-differs",
            SubIndication.HASH_FAILURE,
            "messageDigest is not the digest of the content",
            Verdict.FAILED,
        )


def _signing_certificate(
    signed: SignedData, signer: SignerInfo, values: _Values, rules: CmsRules
) -> CertificateFacts:
    """Find the certificate by SID and bind it by ESS v2 (spec: RFC5035#3, signing.md 2.4 rule 3)."""
    if SIGNING_CERTIFICATE_V2 not in values:
        if SIGNING_CERTIFICATE_V1 in values:
            weak = SubIndication.SIG_CONSTRAINTS_FAILURE
            raise _CheckError("ess-v1", weak, "signing-certificate v1 (SHA-1)")
        if not rules.certificate_bound:
            return _not_too_large(_by_identifier(signed, signer))
    try:
        hash_name, expected, issuer_serial = _ess_entry(_only(values, SIGNING_CERTIFICATE_V2, "ess"))
    except DerError as error:
        raise _FormError("ess-malformed", str(error)) from error
    if hash_name is None or hash_name in _WEAK:
        raise _CheckError("ess-weak", SubIndication.SIG_CONSTRAINTS_FAILURE, "signing-certificate-v2 hash")
    facts = _not_too_large(_by_identifier(signed, signer))
    digest = facts.sha256 if hash_name == "sha256" else _digest(hash_name, facts.der)
    if digest != expected or (issuer_serial is not None and not issuer_serial.names(facts)):
        raise _CheckError(
            "ess-differs",
            SubIndication.NO_SIGNING_CERTIFICATE_FOUND,
            "signing-certificate-v2 names another certificate",
        )
    return facts


def _not_too_large(facts: CertificateFacts) -> CertificateFacts:
    if len(facts.der) > MAX_SIGNER_CERTIFICATE:
        too_large = SubIndication.SIG_CONSTRAINTS_FAILURE
        raise _CheckError("certificate-too-large", too_large, "the signer's certificate is too large")
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
        "certificate-missing",
        SubIndication.NO_SIGNING_CERTIFICATE_FOUND,
        "the signer's certificate is not embedded",
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


def _check_value(signer: SignerInfo, certificate: CertificateFacts | None, rules: CmsRules) -> str:
    """Check the signature over the attributes as received, tag 0xA0 read as SET (spec: RFC5652#5.4)."""
    constraint = SubIndication.CRYPTO_CONSTRAINTS_FAILURE
    if certificate is None:
        missing = SubIndication.NO_SIGNING_CERTIFICATE_FOUND
        raise _CheckError("certificate-missing", missing, "no certificate")
    algorithm, name = signer.algorithm, signer.digest_name
    if algorithm is None or name is None:
        raise _CheckError("signature-algorithm", constraint, "unknown signature algorithm")
    if algorithm.hash_name is not None and algorithm.hash_name != name:
        raise _broken("signature-hash", f"signature says {algorithm.hash_name}, digest {name}")
    family = certificate.key.family
    if family is None:
        raise _CheckError(
            "key-unusable", constraint, "the certificate's key is of no kind that signs legally"
        )
    if algorithm.family is not family and {algorithm.family, family} != _RSA_FAMILIES:
        if not rules.key_type_decides:
            raise _broken("signature-family", f"{algorithm.family} by a key for {family}")
        algorithm = SignatureAlgorithm(family, name)
    if certificate.key.pss_only and algorithm.family is not Family.RSA_PSS:
        raise _broken("signature-pss", "an RSA-PSS key signed otherwise")
    data = tlv(SET, signer.attributes_der)
    if not verify_signature(certificate.public_key, algorithm, name, signer.signature, data):
        raise _broken("signature-wrong", "the signature value does not verify")
    return f"{algorithm.family} {name}"


def _broken(code: str, detail: str) -> _CheckError:
    return _CheckError(code, SubIndication.SIG_CRYPTO_FAILURE, detail, Verdict.FAILED)
