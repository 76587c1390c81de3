"""Certificates of authorities that carry no TEST marker, as production would see them."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

START = datetime(2026, 1, 1, tzinfo=UTC)
ROOT_KEY = ec.derive_private_key(7, ec.SECP256R1())
OTHER_KEY = ec.derive_private_key(11, ec.SECP256R1())


def authority(
    name: str = "Örnek ESHS Kök Sertifikası",
    *,
    issuer: str | None = None,
    key: ec.EllipticCurvePrivateKey = ROOT_KEY,
    signer: ec.EllipticCurvePrivateKey | None = None,
    is_ca: bool = True,
    cert_sign: bool = True,
    days: int = 3650,
    start: datetime = START,
    more: tuple[tuple[x509.ExtensionType, bool], ...] = (),
) -> bytes:
    """Return a certificate, DER: a root, where no other issuer is named."""
    usage = x509.KeyUsage(
        digital_signature=not cert_sign, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=cert_sign, crl_sign=cert_sign,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer or name))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    for extension, critical in more:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer or key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
