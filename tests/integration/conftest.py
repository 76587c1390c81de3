"""The submission edge under test."""

import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from smtp_gateway.authenticator import Authenticator, ThrottleSettings
from smtp_gateway.server import SubmissionServer
from smtp_gateway.settings import EdgeSettings
from tests.support.edge import SETTINGS, Edge, FixedClock, OnePassword, Spools, Twin


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "TEST localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + encoded)
    return path


@pytest.fixture
def settings() -> EdgeSettings:
    return SETTINGS


@pytest.fixture
async def edge(certificate: Path, settings: EdgeSettings) -> AsyncIterator[Edge]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    throttle = ThrottleSettings(delay=0.0, per_network=10)
    twin, spools, passwords = Twin(), Spools(), OnePassword()
    server = SubmissionServer(
        host="127.0.0.1", port=0, ssl_context=context, submit=twin, spools=spools, clock=FixedClock(),
        authenticator=Authenticator(passwords, clock=time.monotonic, settings=throttle), settings=settings,
    )  # fmt: skip
    async with server:
        client_context = ssl.create_default_context(cafile=str(certificate))
        yield Edge(server, twin, spools, client_context, certificate, passwords)
    assert spools.empty  # whatever happened, no content is left behind
