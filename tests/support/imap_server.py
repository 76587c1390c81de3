"""A real IMAP server on loopback for the tests: TLS with a certificate made on the spot."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from kephs.imap.server import ImapServer, ServerLimits
from kephs.imap.states import SessionParts
from kephs.imap.throttle import LoginThrottle
from kephs.system import SystemClock


@cache
def tls_files() -> tuple[Path, Path]:
    """Return certificate and key of ``localhost``."""
    directory = Path(mkdtemp(prefix="kephs-imap-"))
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = SystemClock().now()
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = directory / "cert.pem", directory / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert_file, key_file


def server_context() -> ssl.SSLContext:
    """Return the server's TLS context."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*tls_files())
    return context


def client_context() -> ssl.SSLContext:
    """Return a context that verifies the server."""
    return ssl.create_default_context(cafile=str(tls_files()[0]))


@dataclass
class Running:
    """A server that accepts connections."""

    server: ImapServer
    port: int


@asynccontextmanager
async def running_server(parts: SessionParts, limits: ServerLimits | None = None) -> AsyncIterator[Running]:
    """Run a server for the length of the block, then drain it."""
    server = ImapServer(parts, server_context(), limits=limits, throttle=LoginThrottle(unit=0.001))
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve("127.0.0.1", 0, ready=port.set_result))
        try:
            yield Running(server, await port)
        finally:
            server.drain()
