"""Keys of the TEST PKI: made by name, kept as PEM with mode 0600."""

import os
from pathlib import Path
from typing import Final, Literal, TypeAlias

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
KeyKind: TypeAlias = Literal["p256", "p384", "p521", "rsa1024", "rsa2048", "rsa3072", "rsa4096"]

_CURVES: Final = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
_PREHASHED: Final = Prehashed(hashes.SHA256())
_ECDSA_PREHASHED: Final = ec.ECDSA(_PREHASHED)
_RSA_BITS: Final = {"rsa1024": 1024, "rsa2048": 2048, "rsa3072": 3072, "rsa4096": 4096}


def make_key(kind: KeyKind) -> PrivateKey:
    """Make a private key. ``rsa1024`` exists for negative tests only; ``rsa4096`` takes seconds."""
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind])
    return rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS[kind])


def sign_digest(key: PrivateKey, digest: bytes) -> bytes:
    """Sign a SHA-256 digest: ECDSA as DER SEQUENCE, RSA with PKCS #1 v1.5."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, padding.PKCS1v15(), _PREHASHED)
    return key.sign(digest, _ECDSA_PREHASHED)


def pss_sha256() -> padding.PSS:
    """Return the RSA-PSS parameters of the TEST PKI: MGF1 with SHA-256, salt of 32 octets."""
    return padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


def save_private(path: Path, data: bytes) -> None:
    """Write a secret so that it never was readable by others, not even for a moment."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def key_pem(key: PrivateKey) -> bytes:
    """Return a key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(path: Path) -> PrivateKey:
    """Read a key that `save_private` wrote.

    Raises:
        TypeError: the file holds a key of another kind than ECDSA or RSA.
    """
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError(f"{path}: not an ECDSA or RSA key")
    return key
