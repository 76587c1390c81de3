"""Enveloped XAdES signatures of evidence, by string template: canonical by construction.

Three phases, so that keys and time stamps can be asked for in between (habit 11):

1. ``to_be_signed(body, at)`` gives a draft and the digest the key signs;
2. ``with_signature(draft, signature)`` gives the digest the time stamp covers;
3. ``assemble(signed, token)`` gives the document.

Every hashed fragment is a string already in exclusive-C14N form; the same strings stand in the
document (spec: rem-formats §1.4, signing §3). `evidence.xades_verify` reads the result back.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from evidence.rem_xml import DSIG_NAMESPACE, SHA256_URI, escape_text
from evidence.xml_reader import format_time

XADES_NAMESPACE: Final = "http://uri.etsi.org/01903/v1.3.2#"
SIGNED_PROPERTIES_TYPE: Final = "http://uri.etsi.org/01903#SignedProperties"
EXCLUSIVE_C14N: Final = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED: Final = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
ECDSA_SHA256: Final = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
RSA_SHA256: Final = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
WRITER_MARK: Final = "kephs-evidence-1"
"""DataObjectFormat/Description of our own evidence: signed, so a verifier may rely on it and demand
byte identity with this template (rules in detail, "What one flipped byte does")."""
DECLARATION: Final = b'<?xml version="1.0" encoding="UTF-8"?>\n'

_DS: Final = f' xmlns:ds="{DSIG_NAMESPACE}"'
_XADES: Final = f' xmlns:xades="{XADES_NAMESPACE}"'
_SHA256_METHOD: Final = f'<ds:DigestMethod Algorithm="{SHA256_URI}"></ds:DigestMethod>'
_C14N_TRANSFORM: Final = f'<ds:Transform Algorithm="{EXCLUSIVE_C14N}"></ds:Transform>'
_REFERENCE_BODY: Final = (
    f'<ds:Reference Id="ref-1" URI=""><ds:Transforms><ds:Transform Algorithm="{ENVELOPED}"></ds:Transform>'
    f"{_C14N_TRANSFORM}</ds:Transforms>{_SHA256_METHOD}<ds:DigestValue>"
)
_REFERENCE_PROPERTIES: Final = (
    f'</ds:DigestValue></ds:Reference><ds:Reference Type="{SIGNED_PROPERTIES_TYPE}" URI="#sp-1">'
    f"<ds:Transforms>{_C14N_TRANSFORM}</ds:Transforms>{_SHA256_METHOD}<ds:DigestValue>"
)
_SIGNED_INFO_END: Final = "</ds:DigestValue></ds:Reference></ds:SignedInfo>"
_PROPERTIES_HEAD: Final = (
    ' Id="sp-1"><xades:SignedSignatureProperties><xades:SigningTime>'  # after the element name and xmlns
)
_PROPERTIES_END: Final = (
    "</xades:SignedSignatureProperties><xades:SignedDataObjectProperties>"
    f'<xades:DataObjectFormat ObjectReference="#ref-1"><xades:Description>{WRITER_MARK}</xades:Description>'
    "<xades:MimeType>application/xml</xades:MimeType></xades:DataObjectFormat>"
    "</xades:SignedDataObjectProperties></xades:SignedProperties>"
)
_SIGNATURE_HEAD: Final = f'<ds:Signature{_DS} Id="sig-1"><ds:SignedInfo'.encode()
_SIGNATURE_END: Final = b"</xades:QualifyingProperties></ds:Object></ds:Signature>"
_STAMP_HEAD: Final = (
    "<xades:UnsignedProperties><xades:UnsignedSignatureProperties><xades:SignatureTimeStamp>"
    f'<ds:CanonicalizationMethod{_DS} Algorithm="{EXCLUSIVE_C14N}"></ds:CanonicalizationMethod>'
    "<xades:EncapsulatedTimeStamp>"
).encode()
_STAMP_END: Final = (
    b"</xades:EncapsulatedTimeStamp></xades:SignatureTimeStamp></xades:UnsignedSignatureProperties>"
    b"</xades:UnsignedProperties>"
)


class XadesKeyError(Exception):
    """The certificate's key cannot make the XML signatures we emit."""


@dataclass(frozen=True, slots=True)
class XadesDraft:
    """A body with its SignedInfo; ``digest`` is what the key signs (SHA-256)."""

    body: bytes
    signed_info: str
    signed_properties: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class XadesSigned:
    """A signed body; ``imprint`` is what a signature time stamp covers (SHA-256)."""

    draft: XadesDraft
    signature_value: str
    imprint: bytes


class XadesSigner:
    """The template of one key. Constants are made once, a signature costs string joins and hashes."""

    def __init__(self, certificate: bytes, chain: Sequence[bytes] = ()) -> None:
        """Prepare the template.

        Args:
            certificate: the signer's certificate, DER.
            chain: intermediates, DER, issuer first, without the root.

        Raises:
            XadesKeyError: the key is neither ECDSA (P-256 or larger) nor RSA.
        """
        parsed = x509.load_der_x509_certificate(certificate)
        self._method, self._integer_size = _signature_method(parsed)
        self._signing_certificate = (
            "</xades:SigningTime><xades:SigningCertificate><xades:Cert><xades:CertDigest>"
            f'<ds:DigestMethod{_DS} Algorithm="{SHA256_URI}"></ds:DigestMethod>'
            f"<ds:DigestValue{_DS}>{_b64(sha256(certificate).digest())}</ds:DigestValue></xades:CertDigest>"
            f"<xades:IssuerSerial><ds:X509IssuerName{_DS}>{escape_text(issuer_name(parsed))}"
            f"</ds:X509IssuerName><ds:X509SerialNumber{_DS}>{parsed.serial_number}</ds:X509SerialNumber>"
            f"</xades:IssuerSerial></xades:Cert></xades:SigningCertificate>{_PROPERTIES_END}"
        )
        self._signed_info_head = (
            f'><ds:CanonicalizationMethod Algorithm="{EXCLUSIVE_C14N}"></ds:CanonicalizationMethod>'
            f'<ds:SignatureMethod Algorithm="{self._method}"></ds:SignatureMethod>{_REFERENCE_BODY}'
        )
        self._after_value = (
            "</ds:SignatureValue><ds:KeyInfo><ds:X509Data>"
            + "".join(
                f"<ds:X509Certificate>{_b64(der)}</ds:X509Certificate>" for der in (certificate, *chain)
            )
            + f'</ds:X509Data></ds:KeyInfo><ds:Object><xades:QualifyingProperties{_XADES} Target="#sig-1">'
            "<xades:SignedProperties"
        ).encode()

    def to_be_signed(self, body: bytes, at: datetime) -> XadesDraft:
        """Return the draft over a canonical body.

        Args:
            body: exclusive-C14N bytes of the unsigned document, as `evidence.rem_xml.write` makes them.
            at: the claimed signing time, UTC.
        """
        properties = f"{_PROPERTIES_HEAD}{format_time(at)}{self._signing_certificate}"
        hashed_properties = f"<xades:SignedProperties{_XADES}{properties}"
        signed_info = (
            f"{self._signed_info_head}{_b64(sha256(body).digest())}{_REFERENCE_PROPERTIES}"
            f"{_b64(sha256(hashed_properties.encode()).digest())}{_SIGNED_INFO_END}"
        )
        digest = sha256(f"<ds:SignedInfo{_DS}{signed_info}".encode()).digest()
        return XadesDraft(body, signed_info, properties, digest)

    def with_signature(self, draft: XadesDraft, signature: bytes) -> XadesSigned:
        """Add the key's answer (ECDSA: DER SEQUENCE; RSA: raw) and return what the stamp must cover."""
        if self._integer_size:
            r, s = decode_dss_signature(signature)
            signature = r.to_bytes(self._integer_size) + s.to_bytes(self._integer_size)
        value = _b64(signature)
        hashed = f"<ds:SignatureValue{_DS}>{value}</ds:SignatureValue>"
        return XadesSigned(draft, value, sha256(hashed.encode()).digest())

    def assemble(self, signed: XadesSigned, token: bytes | None = None) -> bytes:
        """Return the signed document: XAdES-B-T with a time-stamp token, XAdES-B-B without.

        Args:
            signed: the outcome of phase two.
            token: RFC 3161 token (DER ContentInfo) over ``signed.imprint``.
        """
        draft = signed.draft
        cut = draft.body.rindex(b"</")
        stamp = b"" if token is None else b"".join((_STAMP_HEAD, b64encode(token), _STAMP_END))
        return b"".join(
            (
                DECLARATION,
                draft.body[:cut],
                _SIGNATURE_HEAD,
                draft.signed_info.encode(),
                b"<ds:SignatureValue>",
                signed.signature_value.encode(),
                self._after_value,
                draft.signed_properties.encode(),
                stamp,
                _SIGNATURE_END,
                draft.body[cut:],
            )
        )


def issuer_name(certificate: x509.Certificate) -> str:
    """Return the issuer as XML signatures name it: RFC 4514, most specific part first."""
    return certificate.issuer.rfc4514_string()


def _signature_method(certificate: x509.Certificate) -> tuple[str, int]:
    """Return the algorithm URI and, for ECDSA, the octets of one integer."""
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size >= 256:
        return ECDSA_SHA256, (key.curve.key_size + 7) // 8
    if isinstance(key, rsa.RSAPublicKey):
        return RSA_SHA256, 0
    raise XadesKeyError("evidence is signed with ECDSA P-256 or larger, or RSA")


def _b64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
