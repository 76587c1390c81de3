"""A signer whose key lies in a file: PEM or PKCS#12. For tests, demos and small providers."""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from evidence.x509.certificates import certificate_facts

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_SHA256: Final = Prehashed(hashes.SHA256())
_ECDSA: Final = ec.ECDSA(_SHA256)
_PSS: Final = padding.PSS(padding.MGF1(hashes.SHA256()), 32)  # as `evidence.cms.emission` writes it
_INLINE_MAX: Final = 64
"""So many P-256 signatures (1.4 ms) are made at once: they hold the interpreter's lock in a thread as well,
and handing them to one and back costs several signatures more."""


class KeyMaterialError(Exception):
    """Key, certificate or chain cannot be used: unreadable, wrong password, not a pair, wrong kind."""


class SoftSigner:
    """Signs SHA-256 digests with a key in memory; an `evidence.ports.Signer`.

    ECDSA (DER SEQUENCE) for EC keys, PKCS #1 v1.5 for RSA keys, RSA-PSS (salt 32) where the certificate
    allows nothing else.

    Args:
        key: EC or RSA private key.
        certificate: its certificate, DER.
        chain: intermediates, DER, in any order; roots among them and strangers are left out.

    Raises:
        KeyMaterialError: the certificate is not the key's.
    """

    __slots__ = ("_certificate", "_chain", "_key", "_scheme")

    def __init__(self, key: PrivateKey, certificate: bytes, chain: Iterable[bytes] = ()) -> None:
        try:
            leaf = x509.load_der_x509_certificate(certificate)
            others = [x509.load_der_x509_certificate(der) for der in chain]
            facts = certificate_facts(certificate)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyMaterialError("a certificate cannot be read") from error
        if facts.public_key != key.public_key():
            raise KeyMaterialError("the certificate is not this key's")
        self._key = key
        self._scheme = _PSS if facts.key.pss_only else padding.PKCS1v15()
        self._certificate = certificate
        self._chain = tuple(der_of(found) for found in issuing_path(leaf, others))

    @classmethod
    def from_pem(cls, certificate: Path, key: Path, chain: Sequence[Path] = ()) -> "SoftSigner":
        """Read PEM files; chain files may hold several certificates, or none.

        Raises:
            KeyMaterialError: a file cannot be read or used.
        """
        try:
            found = load_pem_private_key(key.read_bytes(), password=None)
            (leaf,) = x509.load_pem_x509_certificates(certificate.read_bytes())
            texts = [path.read_bytes() for path in chain]
            others = [one for text in texts if text.strip() for one in x509.load_pem_x509_certificates(text)]
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyMaterialError(f"key or certificate cannot be read: {error}") from error
        return cls(_usable(found), der_of(leaf), map(der_of, others))

    @classmethod
    def from_p12(cls, path: Path, password: str) -> "SoftSigner":
        """Read a PKCS#12 file (.p12, .pfx).

        Raises:
            KeyMaterialError: it cannot be read, the password is wrong, or key or certificate is missing.
        """
        try:
            store = load_pkcs12(path.read_bytes(), password.encode())
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise KeyMaterialError(f"PKCS#12 cannot be read (wrong password?): {error}") from error
        if store.cert is None:
            raise KeyMaterialError("PKCS#12 holds no certificate for its key")
        others = [der_of(extra.certificate) for extra in store.additional_certs]
        return cls(_usable(store.key), der_of(store.cert.certificate), others)

    @property
    def certificate(self) -> bytes:
        """Return the signer's certificate, DER."""
        return self._certificate

    @property
    def chain(self) -> tuple[bytes, ...]:
        """Return the intermediates, DER, issuer first, without the root."""
        return self._chain

    async def sign_many(self, digests: Sequence[bytes]) -> list[bytes]:
        """Sign SHA-256 digests, in order; longer work runs in a thread.

        Raises:
            ValueError: a digest is not of 32 octets.
        """
        if isinstance(self._key, ec.EllipticCurvePrivateKey) and len(digests) <= _INLINE_MAX:
            return self.sign_now(digests)
        return await asyncio.to_thread(self.sign_now, digests)

    def sign_now(self, digests: Sequence[bytes]) -> list[bytes]:
        """Sign SHA-256 digests in this thread, in order.

        Raises:
            ValueError: a digest is not of 32 octets.
        """
        key = self._key
        if isinstance(key, rsa.RSAPrivateKey):
            return [key.sign(digest, self._scheme, _SHA256) for digest in digests]
        return [key.sign(digest, _ECDSA) for digest in digests]


def _usable(key: object) -> PrivateKey:
    if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        return key
    raise KeyMaterialError("neither an EC nor an RSA key")


def issuing_path(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return the intermediates from the leaf's issuer upwards; self-issued ones are roots and stay out."""
    by_subject = {other.subject: other for other in others if other.subject != other.issuer}
    found: list[x509.Certificate] = []
    current = leaf
    while (issuer := by_subject.pop(current.issuer, None)) is not None:
        found.append(issuer)
        current = issuer
    return found


def der_of(certificate: x509.Certificate) -> bytes:
    """Return a certificate's DER."""
    return certificate.public_bytes(Encoding.DER)
