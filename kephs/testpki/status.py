"""Answers on revocation: OCSP by a delegated responder, CRLs by the authority itself.

OCSP responses are emitted from DER parts, because `cryptography` writes its own clock into producedAt
and time is an argument here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ocsp

from evidence.asn1.der import (
    ENUMERATED,
    bits,
    explicit,
    generalized_time,
    implicit,
    integer,
    octets,
    oid,
    seq,
    tlv,
)
from kephs.testpki.index import Revocation
from kephs.testpki.issued import Issued
from kephs.testpki.keys import PrivateKey, pss_sha256

OCSP_LIFETIME: Final = timedelta(hours=1)
CRL_LIFETIME: Final = timedelta(days=1)

SigningHash: TypeAlias = hashes.SHA256 | hashes.SHA384 | hashes.SHA512

_NULL: Final = b"\x05\x00"
_SHA256: Final = seq(oid("2.16.840.1.101.3.4.2.1"), _NULL)
_BASIC_RESPONSE: Final = oid("1.3.6.1.5.5.7.48.1.1")
_NONCE: Final = oid("1.3.6.1.5.5.7.48.1.2")
_ECDSA: Final[Mapping[int, tuple[bytes, SigningHash]]] = {
    256: (seq(oid("1.2.840.10045.4.3.2")), hashes.SHA256()),
    384: (seq(oid("1.2.840.10045.4.3.3")), hashes.SHA384()),
    521: (seq(oid("1.2.840.10045.4.3.4")), hashes.SHA512()),
}
_PSS_IDENTIFIER: Final = seq(
    oid("1.2.840.113549.1.1.10"),
    seq(
        explicit(0, _SHA256),
        explicit(1, seq(oid("1.2.840.113549.1.1.8"), _SHA256)),
        explicit(2, integer(32)),
    ),
)
_REASON_CODES: Final = {  # spec: RFC5280#5.3.1
    x509.ReasonFlags.key_compromise: 1,
    x509.ReasonFlags.ca_compromise: 2,
    x509.ReasonFlags.affiliation_changed: 3,
    x509.ReasonFlags.superseded: 4,
    x509.ReasonFlags.cessation_of_operation: 5,
    x509.ReasonFlags.certificate_hold: 6,
    x509.ReasonFlags.privilege_withdrawn: 9,
    x509.ReasonFlags.aa_compromise: 10,
}


def signature_hash(key: PrivateKey) -> SigningHash:
    """Return the hash that goes with a key: SHA-384 and SHA-512 with the longer curves, else SHA-256."""
    return hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else _ECDSA[key.curve.key_size][1]


@dataclass(frozen=True, slots=True)
class IssuerHashes:
    """The CertID fields that name one issuer, for one hash algorithm (spec: RFC6960#4.1.1)."""

    name: bytes
    key: bytes

    @classmethod
    def of(cls, issuer: x509.Certificate, algorithm: hashes.HashAlgorithm) -> "IssuerHashes":
        """Hash the issuer's name and its public key bits."""
        by_name, by_key = hashes.Hash(algorithm), hashes.Hash(algorithm)
        by_name.update(issuer.subject.public_bytes())
        by_key.update(_key_bits(issuer))
        return cls(by_name.finalize(), by_key.finalize())


class Responder:
    """Signs OCSP responses with one certificate and key; constant parts are made once."""

    def __init__(self, issued: Issued) -> None:
        certificate = issued.x509
        self._key = issued.key
        self._id = explicit(2, octets(IssuerHashes.of(certificate, hashes.SHA1()).key))  # noqa: S303 - RFC 6960 wants it
        self._certificates = explicit(0, seq(issued.certificate))
        if isinstance(self._key, rsa.RSAPrivateKey):
            self._identifier = _PSS_IDENTIFIER
        else:
            self._identifier = _ECDSA[self._key.curve.key_size][0]

    def answer(
        self,
        request: ocsp.OCSPRequest,
        *,
        known: bool,
        revocation: Revocation | None,
        produced_at: datetime,
        this_update: datetime,
        next_update: datetime | None,
        nonce: bytes | None,
    ) -> bytes:
        """Return a signed response, DER, on the one certificate that a request names.

        ``known`` says whether the issuer ever issued the serial number; if not, the answer is "unknown".
        Times are written in whole seconds.
        """
        return self.sign(
            cert_id(request),
            certificate_status(known=known, revocation=revocation),
            produced_at,
            this_update,
            next_update,
            nonce,
        )

    def sign(
        self,
        certificate_id: bytes,
        status: bytes,
        produced_at: datetime,
        this_update: datetime,
        next_update: datetime | None,
        nonce: bytes | None,
    ) -> bytes:
        """Return a response from encoded parts (spec: RFC6960#4.2.1)."""
        until = explicit(0, generalized_time(next_update)) if next_update is not None else b""
        single = seq(certificate_id, status, generalized_time(this_update), until)
        extensions = explicit(1, seq(seq(_NONCE, octets(octets(nonce))))) if nonce is not None else b""
        data = seq(self._id, generalized_time(produced_at), seq(single), extensions)
        basic = seq(data, self._identifier, bits(self._sign(data)), self._certificates)
        return seq(tlv(ENUMERATED, b"\x00"), explicit(0, seq(_BASIC_RESPONSE, octets(basic))))

    def _sign(self, data: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(data, pss_sha256(), hashes.SHA256())
        return self._key.sign(data, ec.ECDSA(signature_hash(self._key)))


def cert_id(request: ocsp.OCSPRequest) -> bytes:
    """Return the CertID of a request, re-encoded with NULL parameters as everybody writes them."""
    algorithm = seq(oid(_HASH_OIDS[request.hash_algorithm.name]), _NULL)
    return seq(
        algorithm,
        octets(request.issuer_name_hash),
        octets(request.issuer_key_hash),
        integer(request.serial_number),
    )


_HASH_OIDS: Final = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}


def certificate_status(*, known: bool, revocation: Revocation | None) -> bytes:
    """Return the CertStatus choice: good, revoked with time and reason, or unknown."""
    if revocation is not None:
        code = _REASON_CODES.get(revocation.reason)
        reason = explicit(0, tlv(ENUMERATED, bytes((code,)))) if code is not None else b""
        return explicit(1, generalized_time(revocation.at), reason)
    return implicit(0, b"") if known else implicit(2, b"")


def nonce_of(request: ocsp.OCSPRequest) -> bytes | None:
    """Return the nonce of a request, or None."""
    try:
        return request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    except x509.ExtensionNotFound:
        return None


def failure(status: ocsp.OCSPResponseStatus) -> bytes:
    """Return an unsigned OCSP error."""
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(serialization.Encoding.DER)


def revocation_list(
    *,
    issuer: x509.Certificate,
    key: PrivateKey,
    revoked: Iterable[tuple[int, Revocation]],
    this_update: datetime,
    next_update: datetime,
    number: int,
) -> bytes:
    """Return a signed CRL, DER, with its number and the issuer's key identifier."""
    key_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(this_update)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
    )
    for serial, revocation in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(revocation.at)
        if revocation.reason is not x509.ReasonFlags.unspecified:
            entry = entry.add_extension(x509.CRLReason(revocation.reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    pss: padding.PSS | None = pss_sha256() if isinstance(key, rsa.RSAPrivateKey) else None
    return builder.sign(key, signature_hash(key), rsa_padding=pss).public_bytes(serialization.Encoding.DER)


def _key_bits(certificate: x509.Certificate) -> bytes:
    public = certificate.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    if isinstance(public, ec.EllipticCurvePublicKey):
        return public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    raise TypeError("not an ECDSA or RSA key")
