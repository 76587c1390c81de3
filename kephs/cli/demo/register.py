"""The demo's register of providers: an operator's key, the signed file, its import on both sides."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from directory.adapters.register_folder import RegisterError
from directory.providers import Stamps
from evidence.adapters.soft_signer import SoftSigner
from kephs.bootstrap import open_register_folder, read_seal
from kephs.cli.demo.clients import DemoError
from kephs.cli.demo.people import Stage
from kephs.register_seal import make_register, register_entry

_YEARS: Final = timedelta(days=5 * 365)
_NEXT_UPDATE: Final = timedelta(days=30)


def register_operator(folder: Path, now: datetime) -> SoftSigner:
    """Return the key of the register's operator, made if it is not there."""
    certificate, key = folder / "operator.crt", folder / "operator.key"
    if not certificate.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        _make_operator(certificate, key, now)
    return SoftSigner.from_pem(certificate, key, [])


def pin_of(operator: SoftSigner) -> str:
    """Return what instances pin: the SHA-256 of the operator's certificate, hexadecimal."""
    return sha256(operator.certificate).hexdigest()


def publish_register(folder: Path, operator: SoftSigner, stages: Sequence[Stage], now: datetime) -> None:
    """Sign the register of these providers and import it into each of them.

    Raises:
        DemoError: an instance refuses it.
    """
    entries = [_entry(stage, now) for stage in stages]
    content, signature = make_register(
        entries, operator, sequence=int(now.timestamp()), issued_at=now, next_update=now + _NEXT_UPDATE
    )
    path = folder / "providers.json"
    path.write_bytes(content)
    path.with_name("providers.json.p7s").write_bytes(signature)
    for stage in stages:
        try:
            open_register_folder(stage.settings, lambda: now).import_file(path)
        except RegisterError as error:
            raise DemoError(f"{stage.home}: the register is refused: {error}") from None


def _entry(stage: Stage, now: datetime) -> dict[str, object]:
    settings = stage.settings
    tls = x509.load_pem_x509_certificate(settings.network.tls_certificate.read_bytes())
    return register_entry(
        domain=settings.provider.domain,
        name=settings.provider.legal_name,
        service_address=settings.provider.service_address,
        host=settings.network.host,
        port=settings.network.inbound_port,
        tls_certificates=[tls.public_bytes(serialization.Encoding.DER)],
        transaction_certificates=[read_seal(settings).certificate],
        max_message_mib=settings.limits.max_elsewhere_mib,
        since=now,
        stamps=Stamps.BATCH,  # these two agreed to exchange evidence records
    )


def _make_operator(certificate: Path, key: Path, now: datetime) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "TEST kephs register of providers")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _YEARS)
        .sign(private, hashes.SHA256())
    )
    key.touch(mode=0o600)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
