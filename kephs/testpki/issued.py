"""One certificate with its key and chain, and the files people keep them in."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from kephs.testpki.keys import PrivateKey, key_pem, load_key, save_private


@dataclass(frozen=True, slots=True)
class IssuedFiles:
    """Where `Issued.write` put things: certificate, key (0600), chain without the root."""

    certificate: Path
    key: Path
    chain: Path


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate (DER), its private key and the intermediates (DER, issuer first, without the root)."""

    certificate: bytes
    key: PrivateKey
    chain: tuple[bytes, ...]

    @property
    def x509(self) -> x509.Certificate:
        """Return the certificate, parsed."""
        return x509.load_der_x509_certificate(self.certificate)

    @property
    def serial(self) -> int:
        """Return the serial number."""
        return self.x509.serial_number

    def write(self, directory: Path, stem: str) -> IssuedFiles:
        """Write ``stem.pem``, ``stem.key`` (0600) and ``stem-chain.pem``; the chain file may be empty."""
        files = IssuedFiles(
            directory / f"{stem}.pem", directory / f"{stem}.key", directory / f"{stem}-chain.pem"
        )
        files.certificate.write_bytes(to_pem((self.certificate,)))
        save_private(files.key, key_pem(self.key))
        files.chain.write_bytes(to_pem(self.chain))
        return files

    @classmethod
    def read(cls, directory: Path, stem: str) -> "Issued":
        """Read what `write` wrote."""
        (certificate,) = from_pem((directory / f"{stem}.pem").read_bytes())
        chain = from_pem((directory / f"{stem}-chain.pem").read_bytes())
        return cls(certificate, load_key(directory / f"{stem}.key"), chain)


def to_pem(certificates: Iterable[bytes]) -> bytes:
    """Return DER certificates as one PEM file."""
    return b"".join(
        x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM) for der in certificates
    )


def from_pem(data: bytes) -> tuple[bytes, ...]:
    """Return the certificates of a PEM file as DER; an empty file holds none."""
    if not data.strip():
        return ()
    return tuple(
        certificate.public_bytes(serialization.Encoding.DER)
        for certificate in x509.load_pem_x509_certificates(data)
    )


def write_p12(issued: Issued, path: Path, password: str) -> None:
    """Write a PKCS#12 file (PBES2, AES-256, HMAC-SHA-256) with the chain; openssl 3 reads it; mode 0600."""
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(20_000)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(password.encode())
    )
    chain = [x509.load_der_x509_certificate(der) for der in issued.chain]
    save_private(
        path, pkcs12.serialize_key_and_certificates(b"TEST kephs", issued.key, issued.x509, chain, encryption)
    )
