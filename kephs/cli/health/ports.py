"""What `kephs doctor` finds at ports: our own, and the SMTP servers of peers, asked as our courier would."""

import asyncio
import hashlib
import socket
import ssl
from dataclasses import dataclass
from typing import Final

import aiohttp
import aiosmtplib

from config.settings import Settings
from evidence.adapters.trust_folder import certificates_of
from evidence.x509.certificates import CertificateError
from kephs.cli.findings import Finding, error, ok
from smtp_gateway.relay_wire import relay_context

METRICS_HOST: Final = "127.0.0.1"
_PORT_SECONDS: Final = 3.0
_SMTP_SECONDS: Final = 15.0
_PAGE_MOST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class SmtpFacts:
    """What an SMTP server with STARTTLS shows: SHA-256 of its certificate, and what it offers under TLS."""

    certificate: bytes
    offers: dict[str, str]


class NoStartTlsError(Exception):
    """The server offers no encrypted connection."""


async def ask_smtp(host: str, port: int, hostname: str) -> SmtpFacts:
    """Say EHLO, STARTTLS and EHLO to a server, and QUIT.

    Raises:
        OSError: no connection, or no TLS.
        aiosmtplib.SMTPException: it gives other answers than it should.
        NoStartTlsError: it offers none.
        TimeoutError: it is too slow.
    """
    client = aiosmtplib.SMTP(
        hostname=host, port=port, local_hostname=hostname, timeout=_SMTP_SECONDS, start_tls=False
    )
    async with asyncio.timeout(_SMTP_SECONDS):
        await client.connect()
        try:
            await client.ehlo()
            if not client.supports_extension("starttls"):
                raise NoStartTlsError
            await client.starttls(server_hostname=host, tls_context=relay_context())
            await client.ehlo()
            shown = client.get_transport_info("ssl_object")
            certificate = shown.getpeercert(binary_form=True) if isinstance(shown, ssl.SSLObject) else None
            return SmtpFacts(hashlib.sha256(certificate or b"").digest(), dict(client.esmtp_extensions))
        finally:
            await _leave(client)


async def _leave(client: aiosmtplib.SMTP) -> None:
    """End a connection at once, and let the loop take note of it."""
    transport = client.transport
    client.close()
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
    for _ in range(3):
        await asyncio.sleep(0)


async def check_ports(settings: Settings) -> list[Finding]:
    """Say of each port of ours whether it is free, or answers with our certificate."""
    network = settings.network
    findings = [
        await asyncio.to_thread(_port, settings, name, port)
        for name, port in (("submission", network.submission_port), ("imap", network.imap_port))
    ]
    return [*findings, await _inbound(settings)]


async def _inbound(settings: Settings) -> Finding:
    network, code = settings.network, "port-inbound"
    host, port = network.host, network.inbound_port
    if not await asyncio.to_thread(listens, host, port):
        return await asyncio.to_thread(_free, host, port, code)
    try:
        facts = await ask_smtp(host, port, settings.provider.domain)
        ours = hashlib.sha256(certificates_of(network.tls_certificate.read_bytes())[0]).digest()
    except (OSError, aiosmtplib.SMTPException, NoStartTlsError, CertificateError) as failure:
        return _taken(host, port, code, type(failure).__name__)
    return _judged(host, port, code, same=facts.certificate == ours)


async def check_metrics(settings: Settings, session: aiohttp.ClientSession) -> Finding:
    """Say whether figures are shown, on this machine alone."""
    port, code = settings.network.metrics_port, "port-metrics"
    if not port:
        return ok(code, "figures are not shown: network.metrics_port is 0")
    if not await asyncio.to_thread(listens, METRICS_HOST, port):
        return await asyncio.to_thread(_free, METRICS_HOST, port, code)
    try:
        async with (
            asyncio.timeout(_PORT_SECONDS),
            session.get(f"http://{METRICS_HOST}:{port}/metrics") as page,
        ):
            content = await page.content.read(_PAGE_MOST)
    except (OSError, aiohttp.ClientError) as failure:
        return _taken(METRICS_HOST, port, code, type(failure).__name__)
    if b"kephs_build_info" not in content:
        return _taken(METRICS_HOST, port, code, "its answer is not ours")
    return ok(code, f"{METRICS_HOST}:{port} shows figures, to this machine alone")


def _port(settings: Settings, name: str, port: int) -> Finding:
    """Say whether a port of ours with implicit TLS is free, or answers with our certificate."""
    host, code = settings.network.host, f"port-{name}"
    if not listens(host, port):
        return _free(host, port, code)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # compared with our own below
    try:
        with (
            socket.create_connection((host, port), _PORT_SECONDS) as raw,
            context.wrap_socket(raw, server_hostname=settings.provider.domain) as wrapped,
        ):
            shown = wrapped.getpeercert(binary_form=True)
        ours = certificates_of(settings.network.tls_certificate.read_bytes())[0]
    except (OSError, CertificateError) as failure:
        return _taken(host, port, code, str(failure))
    return _judged(host, port, code, same=shown == ours)


def _judged(host: str, port: int, code: str, *, same: bool) -> Finding:
    if same:
        return ok(code, f"{host}:{port} is ours and answers")
    return error(
        code, f"{host}:{port} answers with another certificate", "restart the server, or stop what answers"
    )


def _taken(host: str, port: int, code: str, why: str) -> Finding:
    return error(code, f"{host}:{port} is taken by something else ({why})", "stop it, or change [network]")


def _free(host: str, port: int, code: str) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as failure:
        return error(
            code, f"{host}:{port} cannot be used: {failure.strerror}",
            "change [network], or let the service use low ports (CAP_NET_BIND_SERVICE)",
        )  # fmt: skip
    return ok(code, f"{host}:{port} is free")


def listens(host: str, port: int) -> bool:
    """Say whether somebody takes connections there."""
    try:
        with socket.create_connection((host, port), _PORT_SECONDS):
            return True
    except OSError:
        return False
