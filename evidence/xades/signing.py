"""Enveloped XAdES signatures of evidence, by string template: canonical by construction.

Three phases, so that keys and time stamps can be asked for in between (habit 11):

1. ``to_be_signed(body, at)`` gives a draft and the digest the key signs;
2. ``with_signature(draft, signature)`` gives the digest the time stamp covers;
3. ``assemble(signed, token)`` gives the document.

Every hashed fragment is a string already in exclusive-C14N form; the same strings stand in the
document, but for declarations that C14N drops (`evidence.forms.erds_xml`; spec: rem-formats §1.4, signing
§3). Both serialisations are signed alike and carry the mark of this writer. `evidence.xades.check` reads
the result back.
"""

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from evidence.forms.erds_xml import ROOT_START, document_form
from evidence.model.records import Profile
from evidence.xml.writer import DSIG_NAMESPACE, SHA256_URI, escape_text, timestamp

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
).encode()
_SIGNED_INFO_START: Final = len(f"<ds:SignedInfo{_DS}")  # in the document ds:Signature declares the prefix
_SIGNED_INFO_END: Final = b"</ds:DigestValue></ds:Reference></ds:SignedInfo>"
_HASHED_PROPERTIES: Final = f"<xades:SignedProperties{_XADES}".encode()
# after the element name and xmlns
_PROPERTIES_HEAD: Final = b' Id="sp-1"><xades:SignedSignatureProperties><xades:SigningTime>'
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


class XadesDraft(NamedTuple):  # a tuple: frozen dataclasses are slow to make
    """A body with its SignedInfo; ``digest`` is what the key signs (SHA-256)."""

    body: bytes
    to_sign: bytes  # SignedInfo in canonical form: what ``digest`` is the digest of
    signed_properties: bytes  # after the element's name and namespace
    digest: bytes

    @property
    def signed_info(self) -> str:
        """Return SignedInfo as text, canonical."""
        return self.to_sign.decode()


class XadesSigned(NamedTuple):  # a tuple: frozen dataclasses are slow to make
    """A signed body; ``imprint`` is what a signature time stamp covers (SHA-256)."""

    draft: XadesDraft
    signature_value: str
    imprint: bytes


class XadesSigner:
    """The template of one key. Constants are made once, a signature costs byte joins and hashes."""

    def __init__(
        self, certificate: bytes, chain: Sequence[bytes] = (), *, profile: Profile | None = None
    ) -> None:
        """Prepare the template.

        Args:
            certificate: the signer's certificate, DER.
            chain: intermediates, DER, issuer first, without the root.
            profile: how the certificate is named. KEP: SigningCertificate (v1, all that its schema knows);
                REM baseline: SigningCertificateV2 (rem-formats §1.4). None: as each body's root asks for.

        Raises:
            XadesKeyError: the key is neither ECDSA (P-256 or larger) nor RSA.
        """
        parsed = x509.load_der_x509_certificate(certificate)
        method, self._integer_size = _signature_method(parsed)
        kep, baseline = _named_v1(certificate, parsed), _named_v2(certificate)
        self._kep = baseline if profile is Profile.REM_BASELINE else kep
        self._baseline = kep if profile is Profile.KEP else baseline
        self._to_sign_head = (
            f'<ds:SignedInfo{_DS}><ds:CanonicalizationMethod Algorithm="{EXCLUSIVE_C14N}">'
            f'</ds:CanonicalizationMethod><ds:SignatureMethod Algorithm="{method}"></ds:SignatureMethod>'
            f"{_REFERENCE_BODY}"
        ).encode()
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
            body: exclusive-C14N bytes of the unsigned document, as `evidence.forms.serialise.write` makes
                them.
            at: the claimed signing time, UTC.
        """
        named = self._baseline if body.startswith(ROOT_START) else self._kep
        properties = b"%b%b%b" % (_PROPERTIES_HEAD, timestamp(at).encode(), named)
        to_sign = b"%b%b%b%b%b" % (
            self._to_sign_head,
            b64encode(sha256(body).digest()),
            _REFERENCE_PROPERTIES,
            b64encode(sha256(_HASHED_PROPERTIES + properties).digest()),
            _SIGNED_INFO_END,
        )
        return XadesDraft(body, to_sign, properties, sha256(to_sign).digest())

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
        body = document_form(draft.body)
        cut = body.rindex(b"</")
        stamp = b"" if token is None else b"".join((_STAMP_HEAD, b64encode(token), _STAMP_END))
        return b"".join(
            (
                DECLARATION,
                body[:cut],
                _SIGNATURE_HEAD,
                draft.to_sign[_SIGNED_INFO_START:],
                b"<ds:SignatureValue>",
                signed.signature_value.encode(),
                self._after_value,
                draft.signed_properties,
                stamp,
                _SIGNATURE_END,
                body[cut:],
            )
        )


def issuer_name(certificate: x509.Certificate) -> str:
    """Return the issuer as XML signatures name it: RFC 4514, most specific part first."""
    return certificate.issuer.rfc4514_string()


def _named_v1(der: bytes, certificate: x509.Certificate) -> bytes:
    """Return the rest of SignedProperties with SigningCertificate, which needs IssuerSerial."""
    issuer_serial = (
        f"<xades:IssuerSerial><ds:X509IssuerName{_DS}>{escape_text(issuer_name(certificate))}"
        f"</ds:X509IssuerName><ds:X509SerialNumber{_DS}>{certificate.serial_number}</ds:X509SerialNumber>"
        "</xades:IssuerSerial>"
    )
    return _named("SigningCertificate", der, issuer_serial)


def _named_v2(der: bytes) -> bytes:
    """Return the rest of SignedProperties with SigningCertificateV2; IssuerSerialV2 would add a hint."""
    return _named("SigningCertificateV2", der, "")


def _named(element: str, der: bytes, issuer_serial: str) -> bytes:
    return (
        f"</xades:SigningTime><xades:{element}><xades:Cert><xades:CertDigest>"
        f'<ds:DigestMethod{_DS} Algorithm="{SHA256_URI}"></ds:DigestMethod>'
        f"<ds:DigestValue{_DS}>{_b64(sha256(der).digest())}</ds:DigestValue></xades:CertDigest>"
        f"{issuer_serial}</xades:Cert></xades:{element}>{_PROPERTIES_END}"
    ).encode()


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
