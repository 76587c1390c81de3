"""What `kephs doctor` finds out by asking: time stamps, revocation, scanner, ports."""

import secrets
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

import aiohttp

from config.settings import Settings, SettingsError
from evidence.adapters.tsa_http import HttpTimestamper
from evidence.adapters.tsa_identity import TsaEndpoint
from evidence.ports import BytesSource, TimestampUnavailableError
from evidence.stamps.timestamps import verify_token
from evidence.x509.certificates import CertificateError, certificate_facts
from evidence.x509.chain import Chain, TrustStore, build_chain
from evidence.x509.revocation import RevocationStatus
from kephs.bootstrap import open_scanner, open_tsa_endpoints, read_seal
from kephs.bootstrap.sealing import open_revocation
from kephs.cli.findings import Finding, error, ok, warning
from kephs.cli.health.files import lifetime
from kephs.cli.health.ports import check_metrics, check_ports, listens
from kephs.ports import ScannerUnavailableError
from kephs.system import SystemClock

_SKEW_WARNING: Final = timedelta(milliseconds=500)  # spec: KEP-OP-04
_SKEW_ERROR: Final = timedelta(seconds=1)  # spec: KEP-OP-04; nothing may be signed beyond
_ONE_SECOND: Final = timedelta(seconds=1)
_EICAR: Final = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR" + b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""In two halves, so that scanners do not take this file for it."""
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
        findings.append(await check_metrics(settings, session))
    if not any(finding.code == "clock-tsa" for finding in findings):
        findings.append(
            warning(
                "clock-tsa",
                "the clock could not be compared: no time-stamping authority answered",
                "see tsa; meanwhile compare it by hand (chronyc tracking)",
            )
        )
    return findings + await check_ports(settings)


def _test_pki_rests(settings: Settings) -> bool:
    """Say whether our own TEST PKI is meant to answer, but is not running."""
    pki = settings.test_pki
    return pki.enabled and bool(pki.port) and not listens(pki.host, pki.port)


async def _scanner(settings: Settings) -> AsyncIterator[Finding]:
    scanner = open_scanner(settings)
    if scanner is None:
        return
    try:
        verdict = await scanner.scan(BytesSource(_EICAR))
    except ScannerUnavailableError as failure:
        yield error(
            "scanner", f"{settings.scanner.clamd} does not answer ({failure}): nothing is accepted meanwhile",
            "start clamd, or correct scanner.clamd",
        )  # fmt: skip
        return
    yield ok("scanner", f"{settings.scanner.clamd} answers")
    if verdict.clean:
        yield warning(
            "scanner-blind", "the scanner does not recognise the EICAR test file",
            "give clamd its signatures (freshclam)",
        )  # fmt: skip
    else:
        yield ok("scanner-eicar", f"the EICAR test file is recognised as {verdict.name}")


# --------------------------------------------------------------------------- time stamps


async def _time_stamps(
    settings: Settings, trust: TrustStore, clock: SystemClock, session: aiohttp.ClientSession
) -> AsyncIterator[Finding]:
    try:
        endpoints = open_tsa_endpoints(settings)
    except SettingsError:
        return  # said where credits are looked at
    found = [await _time_stamp(settings, trust, clock, session, one) for one in endpoints]
    good = any(answered for answered, _ in found)
    if not found:
        yield error("tsa", "no time-stamping authority is configured", "name one in seal.tsa, better two")
    for answered, findings in found:
        for finding in findings:
            spare = good and not answered
            yield warning(finding.code, finding.text, finding.cure) if spare else finding


async def _time_stamp(
    settings: Settings,
    trust: TrustStore,
    clock: SystemClock,
    session: aiohttp.ClientSession,
    endpoint: TsaEndpoint,
) -> tuple[bool, list[Finding]]:
    """Return whether one authority gave a usable stamp, and what is to say about it."""
    client = HttpTimestamper(
        (endpoint,), session=session, clock=clock.now, trust=trust, nonces=lambda: secrets.randbits(64),
        timeout=timedelta(seconds=settings.seal.tsa_seconds), max_skew=_ANY_SKEW,
    )  # fmt: skip
    imprint = sha256(secrets.token_bytes(32)).digest()
    before = clock.now()
    try:
        token = await client.stamp(imprint)
    except TimestampUnavailableError as failure:
        return False, [
            error(
                "tsa", f"no usable time stamp: {failure}", "check seal.tsa, the network, and the TSA's root"
            )
        ]
    after = clock.now()
    report = verify_token(token, imprint=imprint, trust=trust, at=after)
    findings = [ok("tsa", f"{endpoint.url} answers")]
    if report.gen_time is not None:
        findings.append(skew(before, after, report.gen_time))
    if report.certificate is not None:
        findings.append(lifetime("tsa-certificate", report.certificate, after, ours=False))
    return True, findings


def skew(before: datetime, after: datetime, gen_time: datetime) -> Finding:
    """Judge how far our clock is off, at least, given when we asked and heard and what we were told.

    A time told to the second means any moment of that second.
    """
    told_until = gen_time if gen_time.microsecond else gen_time + _ONE_SECOND
    apart = max(timedelta(0), before - told_until, gen_time - after)
    if not apart:
        return ok("clock-tsa", "our clock agrees with the time-stamping authority's")
    way = "ahead of" if before > told_until else "behind"
    text = f"our clock is at least {apart.total_seconds():.3f} s {way} the time-stamping authority's"
    if apart >= _SKEW_ERROR:
        return error("clock-tsa", text, "keep the clock by NTP: from one second on nothing may be signed")
    if apart >= _SKEW_WARNING:
        return warning("clock-tsa", text, "keep the clock by NTP")
    return ok("clock-tsa", text)


# --------------------------------------------------------------------------- revocation


async def _revocation(
    settings: Settings, trust: TrustStore, clock: SystemClock, session: aiohttp.ClientSession
) -> AsyncIterator[Finding]:
    try:
        signer = read_seal(settings)
        facts = certificate_facts(signer.certificate)
        offered = [certificate_facts(der) for der in signer.chain]
    except (SettingsError, CertificateError):
        return  # said elsewhere
    now = clock.now()
    chain = build_chain(facts, offered, trust, now)
    if not isinstance(chain, Chain):
        return
    client = open_revocation(settings, session, trust)
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
