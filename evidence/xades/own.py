"""The short way to read evidence of our own writer: make the document again and compare.

Our writer is deterministic: certificates, signing time, signature value, token and body determine every
byte (`evidence.xades.signing`). Where the document made again from these equals the document at hand, both
digests
hold, the signed properties name the first certificate, and no byte stands outside the template. What is
left to prove is that the body itself is canonical, holds no signature and no Id of the template's: it is
written again too (`evidence.forms.rem_scan`), or else parsed. Whatever does not fit is None here, and the
strict general reader (`evidence.xades.check`) says what is wrong.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from evidence.forms.rem_scan import record_of
from evidence.forms.serialise import hashed_form, read_root
from evidence.model.records import EvidenceRecord
from evidence.x509.algorithms import Family
from evidence.x509.certificates import CertificateError, CertificateFacts, certificate_facts
from evidence.xades.signing import DECLARATION, XadesKeyError, XadesSigned, XadesSigner, issuer_name
from evidence.xml.canonical import XadesError, canonical
from evidence.xml.reader import XML_SIZE_MAX, EvidenceFormatError, parse_xml
from evidence.xml.writer import DSIG_NAMESPACE

CERTIFICATES_MAX: Final = 16
MATERIAL_MAX: Final = 64 * 1024
"""Longer KeyInfo goes the general way: templates are remembered, 64 of them."""

_SPACE: Final = f' xmlns:ds="{DSIG_NAMESPACE}"'.encode()
_HEAD: Final = b"<ds:Signature" + _SPACE + b' Id="sig-1"><ds:SignedInfo'
_VALUE: Final = b"<ds:SignatureValue>"
_VALUE_END: Final = b"</ds:SignatureValue>"
_PROPERTIES: Final = b"<xades:SignedProperties"
_TIME: Final = b"<xades:SigningTime>"
_TIME_SIZE: Final = 24  # 2026-11-21T09:00:00.000Z
_SECOND_VERSION: Final = b"</xades:SigningTime><xades:SigningCertificateV2>"
_TOKEN: Final = b"<xades:EncapsulatedTimeStamp>"
_TOKEN_END: Final = b"</xades:EncapsulatedTimeStamp>"
_END: Final = b"</ds:Object></ds:Signature>"
_CERTIFICATE: Final = re.compile(rb"<ds:X509Certificate>([A-Za-z0-9+/=]+)</ds:X509Certificate>")
_SIGNATURE: Final = f"{{{DSIG_NAMESPACE}}}Signature"
_ID: Final = re.compile(rb'[ :][Ii][Dd]="([^"]*)"')
_OUR_IDS: Final = (b'="sig-1"', b'="sp-1"', b'="ref-1"')
_VALUE_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class OwnSignature:
    """A document that is, byte for byte, what our writer makes; the signature value is not checked yet."""

    body: bytes  # canonical
    record: EvidenceRecord  # what the body says
    signed_info: bytes
    value: bytes
    stamped: bytes
    certificate: CertificateFacts
    certificates: tuple[bytes, ...]
    issuer_serial: tuple[str, str] | None  # as SigningCertificate states them; V2 leaves them out
    signing_time: datetime
    token: bytes | None


@dataclass(frozen=True, slots=True)
class _Template:
    writer: XadesSigner
    certificate: CertificateFacts
    certificates: tuple[bytes, ...]
    issuer_serial: tuple[str, str]


def open_own(xml: bytes) -> OwnSignature | None:
    """Take a document of our own writer apart, None where it is not exactly one.

    Args:
        xml: untrusted bytes.
    """
    try:
        return _open(xml)
    except (Base64Error, EvidenceFormatError, XadesError, ValueError):
        return None


def _open(xml: bytes) -> OwnSignature | None:
    start = xml.find(_HEAD)
    value_at = xml.find(_VALUE, start)
    value_end = xml.find(_VALUE_END, value_at)
    properties = xml.find(_PROPERTIES, value_end)
    end = xml.rfind(_END)
    if min(start, value_at, value_end, properties, end) < 0 or len(xml) > XML_SIZE_MAX:
        return None
    written = xml[len(DECLARATION) : start] + xml[end + len(_END) :]
    body = hashed_form(written)
    time_at = xml.find(_TIME, properties) + len(_TIME)
    time_end = time_at + _TIME_SIZE
    template = _template(xml[value_end:properties])
    text = xml[value_at + len(_VALUE) : value_end]
    if template is None or len(text) > _VALUE_MAX:
        return None
    value, token = b64decode(text, validate=True), _token(xml, time_end)
    signing_time = datetime.fromisoformat(xml[time_at:time_end].decode("ascii"))
    draft = template.writer.to_be_signed(body, signing_time)
    made = template.writer.assemble(XadesSigned(draft, b64encode(value).decode(), b""), token)
    if made != xml:
        return None
    record = record_of(body) or _parsed(written, body)
    if record is None:
        return None
    v2 = xml.startswith(_SECOND_VERSION, time_end)
    return OwnSignature(
        body=body,
        record=record,
        signed_info=draft.to_sign,
        value=value,
        stamped=b"<ds:SignatureValue" + _SPACE + b">" + text + _VALUE_END,
        certificate=template.certificate,
        certificates=template.certificates,
        issuer_serial=None if v2 else template.issuer_serial,
        signing_time=signing_time,
        token=token,
    )


def _token(xml: bytes, after: int) -> bytes | None:
    at = xml.find(_TOKEN, after)
    return None if at < 0 else b64decode(xml[at + len(_TOKEN) : xml.find(_TOKEN_END, at)], validate=True)


def _parsed(written: bytes, body: bytes) -> EvidenceRecord | None:
    """Return what a body says if ``body`` is its canonical form, unsigned, without Ids of the template.

    This is for the European form, for long ones, and for those of earlier and later writers.
    """
    root = parse_xml(written)
    if next(root.iter(_SIGNATURE), None) is not None or canonical(root) != body:
        return None
    # In canonical bytes attributes can look no other way; where text looks so too, no harm is done.
    if any(taken in body for taken in _OUR_IDS):
        return None
    if body.count(b'd="') + body.count(b'D="') > 1:
        ids = _ID.findall(body)
        if len(set(ids)) != len(ids):
            return None
    return read_root(root)


def _template(material: bytes) -> _Template | None:
    return _remembered(material) if len(material) <= MATERIAL_MAX else None


@lru_cache(maxsize=64)  # a pure memo: a provider signs with one certificate for years
def _remembered(material: bytes) -> _Template | None:
    try:
        certificates = tuple(b64decode(text, validate=True) for text in _CERTIFICATE.findall(material))
        if not 1 <= len(certificates) <= CERTIFICATES_MAX:
            return None
        facts = certificate_facts(certificates[0])
        if facts.key.family not in {Family.ECDSA, Family.RSA} or facts.key.pss_only or facts.serial <= 0:
            return None
        writer = XadesSigner(certificates[0], certificates[1:])
        issuer = issuer_name(x509.load_der_x509_certificate(certificates[0]))
    except (Base64Error, CertificateError, XadesKeyError, UnsupportedAlgorithm, ValueError):
        return None
    return _Template(writer, facts, certificates, (issuer, str(facts.serial)))
