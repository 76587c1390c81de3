"""What `kephs doctor` finds out by asking: time stamps, revocation, scanner, ports."""

import asyncio
import secrets
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import sha256
from typing import Final

import aiohttp

from config.settings import Settings, SettingsError
from evidence.adapters.revocation_http import HttpRevocation, HttpRevocationSettings
from evidence.adapters.trust_folder import certificates_of
from evidence.adapters.tsa_http import HttpTimestamper
from evidence.certificates import CertificateError, certificate_facts
from evidence.chain import Chain, TrustStore, build_chain
from evidence.ports import BytesSource, TimestampUnavailableError
from evidence.revocation import RevocationStatus
from evidence.timestamps import verify_token
from kephs.bootstrap import open_scanner, read_signer
from kephs.cli.doctor_files import lifetime
from kephs.cli.findings import Finding, error, ok, warning
from kephs.ports import ScannerUnavailableError
from kephs.system import SystemClock

_PORT_SECONDS: Final = 3.0
_SKEW_WARNING: Final = timedelta(seconds=5)
_SKEW_ERROR: Final = timedelta(seconds=60)  # beyond this our own client refuses the stamp
_ANY_SKEW: Final = timedelta(days=36_500)  # here the difference is measured, not judged


async def check_network(settings: Settings, trust: TrustStore, clock: SystemClock) -> list[Finding]:
    """Ask every service once."""
    findings = [finding async for finding in _scanner(settings)]
    resting = _test_pki_rests(settings)
    if resting:
        findings.append(
            warning(
                "test-pki-down", "the TEST PKI does not answer; it runs with the server", "kephs serve DIR"
            )
        )
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        if not resting:
            findings += [one async for one in _time_stamps(settings, trust, clock, session)]
            findings += [one async for one in _revocation(settings, trust, clock, session)]
    for name, port in (
        ("submission", settings.network.submission_port),
        ("imap", settings.network.imap_port),
    ):
        findings.append(await asyncio.to_thread(_port, settings, name, port))
    return findings


def _test_pki_rests(settings: Settings) -> bool:
    """Say whether our own TEST PKI is meant to answer, but is not running."""
    pki = settings.test_pki
    return pki.enabled and bool(pki.port) and not _listens(pki.host, pki.port)


async def _scanner(settings: Settings) -> AsyncIterator[Finding]:
    scanner = open_scanner(settings)
    if scanner is None:
        return
    try:
        await scanner.scan(BytesSource(b"kephs doctor\r\n"))
    except ScannerUnavailableError as failure:
        yield error(
            "scanner", f"{settings.scanner.clamd} does not answer ({failure}): nothing is accepted meanwhile",
            "start clamd, or correct scanner.clamd",
        )  # fmt: skip
    else:
        yield ok("scanner", f"{settings.scanner.clamd} answers")


# --------------------------------------------------------------------------- time stamps


async def _time_stamps(
    settings: Settings, trust: TrustStore, clock: SystemClock, session: aiohttp.ClientSession
) -> AsyncIterator[Finding]:
    found = [await _time_stamp(settings, trust, clock, session, url) for url in settings.seal.tsa]
    good = any(answered for answered, _ in found)
    if not found:
        yield error("tsa", "no time-stamping authority is configured", "name one in seal.tsa, better two")
    for answered, findings in found:
        for finding in findings:
            spare = good and not answered
            yield warning(finding.code, finding.text, finding.cure) if spare else finding


async def _time_stamp(
    settings: Settings, trust: TrustStore, clock: SystemClock, session: aiohttp.ClientSession, url: str
) -> tuple[bool, list[Finding]]:
    """Return whether one authority gave a usable stamp, and what is to say about it."""
    client = HttpTimestamper(
        (url,), session=session, clock=clock.now, trust=trust, nonces=lambda: secrets.randbits(64),
        timeout=timedelta(seconds=settings.seal.tsa_seconds), max_skew=_ANY_SKEW,
    )  # fmt: skip
    imprint = sha256(secrets.token_bytes(32)).digest()
    try:
        token = await client.stamp(imprint)
    except TimestampUnavailableError as failure:
        return False, [
            error(
                "tsa", f"no usable time stamp: {failure}", "check seal.tsa, the network, and the TSA's root"
            )
        ]
    now = clock.now()
    report = verify_token(token, imprint=imprint, trust=trust, at=now)
    findings = [ok("tsa", f"{url} answers")]
    if report.gen_time is not None:
        findings.append(_skew(abs(report.gen_time - now)))
    if report.certificate is not None:
        findings.append(lifetime("tsa-certificate", report.certificate, now))
    return True, findings


def _skew(apart: timedelta) -> Finding:
    text = f"our clock and the time-stamping authority's are {apart.total_seconds():.0f} s apart"
    if apart > _SKEW_ERROR:
        return error("clock-tsa", text, "keep the clock by NTP: such stamps are refused")
    if apart > _SKEW_WARNING:
        return warning("clock-tsa", text, "keep the clock by NTP")
    return ok("clock-tsa", text)


# --------------------------------------------------------------------------- revocation


async def _revocation(
    settings: Settings, trust: TrustStore, clock: SystemClock, session: aiohttp.ClientSession
) -> AsyncIterator[Finding]:
    try:
        signer = read_signer(settings)
        facts = certificate_facts(signer.certificate)
        offered = [certificate_facts(der) for der in signer.chain]
    except (SettingsError, CertificateError):
        return  # said elsewhere
    now = clock.now()
    chain = build_chain(facts, offered, trust, now)
    if not isinstance(chain, Chain):
        return
    client = HttpRevocation(
        session, clock=clock.now, trust=trust, nonces=lambda: secrets.token_bytes(16),
        settings=HttpRevocationSettings(timeout=settings.trust.revocation_seconds),
    )  # fmt: skip
    for certificate, issuer in chain.links:
        answer = await client.status(certificate, issuer, now)
        name = certificate.subject_text
        if answer is None:
            yield warning(
                "revocation", f"{name}: neither OCSP nor CRL answers",
                "check the network: signers of the same issuer are refused for the moment",
            )  # fmt: skip
        elif answer.status is RevocationStatus.GOOD:
            yield ok("revocation", f"{name}: good ({answer.source.value.upper()})")
        else:
            yield error("revoked", f"{name}: {answer.status.value}", "stop, and order a new certificate")


# --------------------------------------------------------------------------- ports


def _port(settings: Settings, name: str, port: int) -> Finding:
    """Say whether a port of ours is free, or answers with our certificate."""
    host, code = settings.network.host, f"port-{name}"
    if not _listens(host, port):
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
        return error(
            code, f"{host}:{port} is taken by something else ({failure})", "stop it, or change [network]"
        )
    if shown != ours:
        return error(
            code,
            f"{host}:{port} answers with another certificate",
            "restart the server, or stop what answers",
        )
    return ok(code, f"{host}:{port} is ours and answers")


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


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), _PORT_SECONDS):
            return True
    except OSError:
        return False
