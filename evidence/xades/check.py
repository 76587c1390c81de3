"""Read an enveloped XAdES signature strictly: what exactly was signed, by which key, stamped when.

Generic verifiers accept a document whose signed element was moved under a forged root. Here the
shape is fixed (signing §2.7): one ``ds:Signature``, the root's last child; one reference with
``URI=""``, one to the SignedProperties inside that signature, at most a third to its KeyInfo; unique
Ids; every algorithm from a short list. Callers read business data from `XadesSignature.body`, the
very bytes that were hashed. What our own writer made is recognised first, by making it again
(`evidence.xades.own`).
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import new as new_hash
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from lxml import etree

from evidence.report import SubIndication
from evidence.x509.algorithms import Family, SignatureAlgorithm, verify_signature
from evidence.x509.certificates import CertificateError, CertificateFacts, certificate_facts
from evidence.xades.own import OwnSignature, open_own
from evidence.xades.signing import (
    ENVELOPED,
    EXCLUSIVE_C14N,
    SIGNED_PROPERTIES_TYPE,
    WRITER_MARK,
    XADES_NAMESPACE,
    XadesKeyError,
    XadesSigned,
    XadesSigner,
)
from evidence.xml.canonical import (
    XadesError,
    base64_content,
    canonical,
    canonical_without,
    inclusive_text,
)
from evidence.xml.reader import EvidenceFormatError, XmlElement, parse_time, parse_xml, text_of
from evidence.xml.writer import DSIG_NAMESPACE

FILTER2: Final = "http://www.w3.org/2002/06/xmldsig-filter2"
CERTIFICATES_MAX: Final = 16
STAMPS_MAX: Final = 4

_DIGESTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "http://www.w3.org/2001/04/xmlenc#sha256": "sha256",
        "http://www.w3.org/2001/04/xmldsig-more#sha384": "sha384",
        "http://www.w3.org/2001/04/xmlenc#sha512": "sha512",
    }
)
_MORE: Final = "http://www.w3.org/2001/04/xmldsig-more#"
_MORE_2007: Final = "http://www.w3.org/2007/05/xmldsig-more#"
_METHODS: Final[Mapping[str, SignatureAlgorithm]] = MappingProxyType(
    {
        f"{_MORE}ecdsa-{name}": SignatureAlgorithm(Family.ECDSA, name)
        for name in ("sha256", "sha384", "sha512")
    }
    | {f"{_MORE}rsa-{name}": SignatureAlgorithm(Family.RSA, name) for name in ("sha256", "sha384", "sha512")}
    | {
        f"{_MORE_2007}{name}-rsa-MGF1": SignatureAlgorithm(Family.RSA_PSS, name)
        for name in ("sha256", "sha384", "sha512")
    }
)
_AFTER_COMMA: Final = re.compile(r"(?<!\\)\s*,\s*")
_ID_NAMES: Final = ("Id", "ID", "id", "{http://www.w3.org/XML/1998/namespace}id")


@dataclass(frozen=True, slots=True)
class XadesReference:
    """One digest the signature states, and the bytes it is about."""

    what: str
    hash_name: str
    stated: bytes
    covered: bytes

    @property
    def holds(self) -> bool:
        """Say whether the bytes have the stated digest."""
        return new_hash(self.hash_name, self.covered).digest() == self.stated


@dataclass(frozen=True, slots=True)
class XadesSignature:
    """A signature taken apart; nothing is believed yet but its shape."""

    document: bytes
    body: bytes  # canonical bytes of the document without the signature
    references: tuple[XadesReference, ...]
    signed_info: bytes  # canonical
    algorithm: SignatureAlgorithm
    value: bytes
    stamped: bytes  # what a time stamp covers: the canonical SignatureValue element
    certificates: tuple[bytes, ...]
    certificate_hash: tuple[str, bytes]  # SigningCertificate: hash name and digest
    issuer_serial: tuple[str, str] | None
    signing_time: datetime | None
    tokens: tuple[bytes, ...]
    own: bool  # carries our writer's signed mark: byte identity is demanded
    made_again: OwnSignature | None = None  # byte identity is shown already, and with it both digests

    def signing_certificate(self) -> CertificateFacts:
        """Return the certificate of KeyInfo that the signed SigningCertificate names.

        Raises:
            XadesError: none is named, or its issuer or serial number differ.
        """
        if self.made_again is not None:
            return self.made_again.certificate
        name, digest = self.certificate_hash
        for der in self.certificates:
            if new_hash(name, der).digest() != digest:
                continue
            try:
                facts = certificate_facts(der)
            except CertificateError as error:
                raise XadesError(str(error), SubIndication.NO_SIGNING_CERTIFICATE_FOUND) from error
            if self.issuer_serial is not None and not _names(self.issuer_serial, facts):
                raise XadesError("IssuerSerial differs", SubIndication.NO_SIGNING_CERTIFICATE_FOUND)
            return facts
        raise XadesError(
            "SigningCertificate names no certificate of KeyInfo", SubIndication.NO_SIGNING_CERTIFICATE_FOUND
        )

    def value_holds(self, certificate: CertificateFacts) -> bool:
        """Say whether the certificate's key made the signature value over SignedInfo."""
        value = self.value
        if self.algorithm.family is Family.ECDSA:
            size = (certificate.key.size + 7) // 8
            if len(value) != 2 * size:  # spec: RFC4050#3.3 - r and s have fixed length
                return False
            value = encode_dss_signature(
                int.from_bytes(value[:size], "big"), int.from_bytes(value[size:], "big")
            )
        hash_name = self.algorithm.hash_name or "sha256"
        return verify_signature(certificate.public_key, self.algorithm, hash_name, value, self.signed_info)

    def rewritten(self) -> bytes | None:
        """Return the document as our writer makes it from what was read, None where it cannot.

        For our own evidence this must equal the document byte for byte.
        """
        if self.made_again is not None:
            return self.document
        if not self.certificates or self.signing_time is None or len(self.tokens) > 1:
            return None
        try:
            writer = XadesSigner(self.certificates[0], self.certificates[1:])
        except (XadesKeyError, UnsupportedAlgorithm, x509.InvalidVersion, ValueError):
            return None
        draft = writer.to_be_signed(self.body, self.signing_time)
        signed = XadesSigned(draft, b64encode(self.value).decode(), b"")
        return writer.assemble(signed, self.tokens[0] if self.tokens else None)


def open_signature(xml: bytes) -> XadesSignature:
    """Take a signed document apart.

    Args:
        xml: untrusted bytes, at most 1 MiB.

    Raises:
        XadesError: not the one shape this library accepts (see the module's docstring).
    """
    own = open_own(xml)
    if own is not None:
        return _made_again(xml, own)
    try:
        root = parse_xml(xml)
        return _open(xml, root)
    except EvidenceFormatError as error:
        raise XadesError(str(error)) from error


def _made_again(xml: bytes, own: OwnSignature) -> XadesSignature:
    family = own.certificate.key.family or Family.ECDSA
    return XadesSignature(
        document=xml,
        body=own.body,
        references=(),
        signed_info=own.signed_info,
        algorithm=SignatureAlgorithm(family, "sha256"),
        value=own.value,
        stamped=own.stamped,
        certificates=own.certificates,
        certificate_hash=("sha256", own.certificate.sha256),
        issuer_serial=own.issuer_serial,
        signing_time=own.signing_time,
        tokens=() if own.token is None else (own.token,),
        own=True,
        made_again=own,
    )


def _open(xml: bytes, root: XmlElement) -> XadesSignature:
    _unique_ids(root)
    signatures = [*root.iter(_ds("Signature"))]
    if len(signatures) != 1 or len(root) == 0 or root[-1] is not signatures[0]:
        raise XadesError("exactly one ds:Signature, the root's last child, is needed")
    signature = signatures[0]
    info, value = _one(signature, _ds("SignedInfo")), _one(signature, _ds("SignatureValue"))
    key_info = _one(signature, _ds("KeyInfo"))
    qualifying = _qualifying(signature)
    properties = _one(qualifying, _xades("SignedProperties"))
    method = _METHODS.get(_one(info, _ds("SignatureMethod")).get("Algorithm", ""))
    if method is None:
        raise XadesError("signature algorithm not allowed", SubIndication.CRYPTO_CONSTRAINTS_FAILURE)
    if _canonicalization(_one(info, _ds("CanonicalizationMethod"))) != EXCLUSIVE_C14N:
        raise XadesError("SignedInfo is not in exclusive canonical form")
    stated = _references(info, properties, key_info)
    hashed_info, value_bytes = canonical(info), base64_content(value)
    hashed = {"SignedProperties": canonical(properties), "KeyInfo": canonical(key_info)}
    signature_properties = _one(properties, _xades("SignedSignatureProperties"))
    signing_time = signature_properties.find(_xades("SigningTime"))
    certificate_hash, issuer_serial = _signing_certificate(signature_properties)
    tokens, exclusive = _tokens(qualifying)
    stamped = canonical(value) if exclusive else inclusive_text(value)
    own = any(text_of(found) == WRITER_MARK for found in properties.iter(_xades("Description")))
    certificates = tuple(base64_content(found) for found in key_info.iter(_ds("X509Certificate")))
    if not 1 <= len(certificates) <= CERTIFICATES_MAX:
        raise XadesError("no certificates in KeyInfo", SubIndication.NO_SIGNING_CERTIFICATE_FOUND)
    hashed["document"] = body = canonical_without(root, signature)
    return XadesSignature(
        document=xml,
        body=body,
        references=tuple(XadesReference(w, name, digest, hashed[w]) for w, name, digest in stated),
        algorithm=method,
        certificates=certificates,
        certificate_hash=certificate_hash,
        issuer_serial=issuer_serial,
        signing_time=None if signing_time is None else parse_time(text_of(signing_time) or ""),
        tokens=tokens,
        own=own,
        signed_info=hashed_info,
        value=value_bytes,
        stamped=stamped,
    )


# --------------------------------------------------------------------------- structure


def _ds(name: str) -> str:
    return f"{{{DSIG_NAMESPACE}}}{name}"


def _xades(name: str) -> str:
    return f"{{{XADES_NAMESPACE}}}{name}"


def _one(parent: XmlElement, name: str) -> XmlElement:
    found = parent.findall(name)
    if len(found) != 1:
        raise XadesError(f"exactly one {etree.QName(name).localname} is needed")
    return found[0]


def _unique_ids(root: XmlElement) -> None:
    seen: set[str] = set()
    for element in root.iter():
        for name in _ID_NAMES:
            value = element.get(name)
            if value is None:
                continue
            if value in seen:
                raise XadesError("an Id stands twice")
            seen.add(value)


def _qualifying(signature: XmlElement) -> XmlElement:
    """Return the one QualifyingProperties, inside this signature's ds:Object and aimed at it."""
    found = [*signature.iter(_xades("QualifyingProperties"))]
    if len(found) != 1 or len([*signature.iter(_xades("SignedProperties"))]) != 1:
        raise XadesError("exactly one QualifyingProperties with SignedProperties is needed")
    parent = found[0].getparent()
    if parent is None or parent.tag != _ds("Object") or parent.getparent() is not signature:
        raise XadesError("QualifyingProperties must stand in ds:Object")
    if not signature.get("Id") or found[0].get("Target") != f"#{signature.get('Id')}":
        raise XadesError("QualifyingProperties aims at another signature")
    return found[0]


def _references(
    info: XmlElement, properties: XmlElement, key_info: XmlElement
) -> list[tuple[str, str, bytes]]:
    """Return (what, hash name, stated digest) of each reference, in order."""
    targets = {"": "document"}
    for element, label in ((properties, "SignedProperties"), (key_info, "KeyInfo")):
        if element.get("Id"):
            targets[f"#{element.get('Id')}"] = label
    found: list[tuple[str, str, bytes]] = []
    for reference in info.findall(_ds("Reference")):
        uri = reference.get("URI")
        what = None if uri is None else targets.pop(uri, None)
        if what is None:
            raise XadesError("a reference names something else, or the same thing twice")
        if what == "SignedProperties" and reference.get("Type") != SIGNED_PROPERTIES_TYPE:
            raise XadesError("the reference to SignedProperties lacks its Type")
        _transforms(reference, enveloped=what == "document")
        name = _DIGESTS.get(_one(reference, _ds("DigestMethod")).get("Algorithm", ""))
        if name is None:
            raise XadesError("digest algorithm not allowed", SubIndication.CRYPTO_CONSTRAINTS_FAILURE)
        found.append((what, name, base64_content(_one(reference, _ds("DigestValue")))))
    listed = [what for what, _, _ in found]
    if listed[:1] != ["document"] or "SignedProperties" not in listed:
        raise XadesError("the references must be the document and the SignedProperties")
    return found


def _transforms(reference: XmlElement, *, enveloped: bool) -> None:
    """Allow exactly [enveloped,] exclusive C14N; peers may write the first as Filter-2 subtract."""
    listed = _one(reference, _ds("Transforms")).findall(_ds("Transform"))
    if enveloped:
        if len(listed) != 2 or not (_plain(listed[0], ENVELOPED) or _subtracts(listed[0])):
            raise XadesError("the document needs enveloped-signature, then exclusive C14N")
        listed = listed[1:]
    if len(listed) != 1 or not _plain(listed[0], EXCLUSIVE_C14N):
        raise XadesError("a reference must be in exclusive canonical form")


def _plain(element: XmlElement, algorithm: str) -> bool:
    return bool(element.get("Algorithm") == algorithm and len(element) == 0)


def _subtracts(transform: XmlElement) -> bool:
    """Say whether this is Filter-2 "subtract every ds:Signature" (there is exactly one)."""
    if transform.get("Algorithm") != FILTER2 or len(transform) != 1:
        return False
    path = transform[0]
    prefix, _, rest = (text_of(path) or "").strip().removeprefix("/descendant::").partition(":")
    return bool(
        path.tag == f"{{{FILTER2}}}XPath"
        and path.get("Filter") == "subtract"
        and rest == "Signature"
        and path.nsmap.get(prefix) == DSIG_NAMESPACE
    )


def _canonicalization(method: XmlElement) -> str | None:
    return None if len(method) else method.get("Algorithm")


def _signing_certificate(properties: XmlElement) -> tuple[tuple[str, bytes], tuple[str, str] | None]:
    """Return hash name and digest of the signing certificate and, where given, issuer and serial."""
    v1, v2 = (properties.findall(_xades(name)) for name in ("SigningCertificate", "SigningCertificateV2"))
    if len(v1) + len(v2) != 1:
        raise XadesError("exactly one SigningCertificate is needed", SubIndication.SIG_CONSTRAINTS_FAILURE)
    listed = (v1 or v2)[0].findall(_xades("Cert"))
    if not listed:
        raise XadesError("SigningCertificate is empty", SubIndication.SIG_CONSTRAINTS_FAILURE)
    digest = _one(listed[0], _xades("CertDigest"))
    name = _DIGESTS.get(_one(digest, _ds("DigestMethod")).get("Algorithm", ""))
    if name is None:
        raise XadesError("CertDigest algorithm not allowed", SubIndication.CRYPTO_CONSTRAINTS_FAILURE)
    value = base64_content(_one(digest, _ds("DigestValue")))
    if v2:
        return (name, value), None  # IssuerSerialV2 is a hint; the digest binds
    serial = _one(listed[0], _xades("IssuerSerial"))
    return (name, value), (
        text_of(_one(serial, _ds("X509IssuerName"))) or "",
        text_of(_one(serial, _ds("X509SerialNumber"))) or "",
    )


def _names(issuer_serial: tuple[str, str], facts: CertificateFacts) -> bool:
    """Compare XAdES v1 IssuerSerial with a certificate; the name by its parts, spellings vary."""
    name, serial = issuer_serial
    if serial.strip() != str(facts.serial) or facts.serial <= 0:  # spec: RFC5280#4.1.2.2
        return False
    try:
        issuer = x509.load_der_x509_certificate(facts.der).issuer
        if name == issuer.rfc4514_string():
            return True
        read = x509.Name.from_rfc4514_string(_AFTER_COMMA.sub(",", name.strip()))
    except ValueError:
        return False
    return {(part.oid, part.value) for part in read} == {(part.oid, part.value) for part in issuer}


def _tokens(qualifying: XmlElement) -> tuple[tuple[bytes, ...], bool]:
    """Return the signature time stamps and whether they cover the exclusive canonical form."""
    path = "/".join(map(_xades, ("UnsignedProperties", "UnsignedSignatureProperties", "SignatureTimeStamp")))
    stamps = qualifying.findall(path)
    if len(stamps) > STAMPS_MAX:
        raise XadesError("too many time stamps")
    tokens: list[bytes] = []
    exclusive = True
    for stamp in stamps:
        # Without the child, inclusive C14N is meant: another imprint (signing §3).
        method = stamp.find(_ds("CanonicalizationMethod"))
        if method is not None and _canonicalization(method) != EXCLUSIVE_C14N:
            raise XadesError("the time stamp names a canonical form that is not allowed")
        if tokens and exclusive is not (method is not None):
            raise XadesError("time stamps over two canonical forms")
        exclusive = method is not None
        tokens.append(base64_content(_one(stamp, _xades("EncapsulatedTimeStamp"))))
    return tuple(tokens), exclusive
