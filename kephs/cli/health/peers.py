"""What `kephs doctor` finds out about other providers: the register, their certificates, their servers."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, Protocol

import aiosmtplib

from config.settings import Settings, SettingsError
from directory.adapters.register_folder import LoadedRegister, RegisterError, RegisterFolder
from directory.provider_file import ProviderEntry
from directory.providers import Peer
from evidence.adapters.trust_folder import certificates_of
from evidence.x509.certificates import CertificateError
from kephs.bootstrap import open_register_folder, read_seal
from kephs.cli.findings import Finding, error, ok, warning
from kephs.cli.health.ports import NoStartTlsError, ask_smtp

_SOON: Final = timedelta(days=60)
_REGISTER_SOON: Final = timedelta(days=7)
_ASK_REGISTER: Final = "ask the provider; the register's operator issues a new register: kephs peers import"
_GET_REGISTER: Final = "get the current issue and take it in: kephs peers import DIR FILE"


class _Listed(Protocol):
    """A certificate in the register."""

    @property
    def sha256(self) -> bytes: ...
    @property
    def valid_until(self) -> datetime: ...
    def valid_at(self, at: datetime) -> bool: ...


def check_register(settings: Settings, now: datetime) -> tuple[list[Finding], list[Peer]]:
    """Return what is to say about the register and what it lists, and the peers of now."""
    try:
        folder = open_register_folder(settings, lambda: now)
        loaded = folder.load()
    except (RegisterError, SettingsError) as failure:
        return [error("register", str(failure), "see kephs peers history DIR; take a good issue in")], []
    if loaded.issued_at is None:
        nobody = "no register of providers: nothing can be sent to another provider, nor taken from one"
        return [warning("register-none", nobody, "kephs peers import DIR FILE")], []
    peers = sorted(loaded.register.peers.values(), key=lambda one: one.domain)
    findings = [_age(loaded, now), *_own(settings, folder, now)]
    if loaded.problem is not None:
        findings.insert(0, warning("register-problem", loaded.problem, _GET_REGISTER))
    for peer in peers:
        entry = folder.entry(peer.domain)
        if entry is not None:
            findings += _peer_certificates(entry, now)
    return findings, peers


def _age(loaded: LoadedRegister, now: datetime) -> Finding:
    issued_at, until = loaded.issued_at, loaded.next_update
    assert issued_at is not None
    assert until is not None
    count, by = len(loaded.register.peers), f"{until:%Y-%m-%d %H:%M} UTC"
    text = f"issue {loaded.sequence}, {count} peers, next issue by {by}"
    if loaded.stale:
        return error("register-stale", f"{text}: that has passed, nothing is relayed", _GET_REGISTER)
    if until - now < min(_REGISTER_SOON, (until - issued_at) / 4):
        return warning("register-next", f"{text}: soon", _GET_REGISTER)
    return ok("register", text)


def _own(settings: Settings, folder: RegisterFolder, now: datetime) -> Iterator[Finding]:
    """Compare what peers are told about us with what we have."""
    own = settings.provider.domain
    entry = folder.entry(own)
    if entry is None:
        yield warning(
            "register-own", f"{own} is not in the register: no peer takes anything from us",
            "give the register's operator what kephs peers describe DIR prints",
        )  # fmt: skip
        return
    cure = "tell the register's operator: kephs peers describe DIR prints the right entry"
    try:
        tls = certificates_of(settings.network.tls_certificate.read_bytes())[0]
        transaction = read_seal(settings).certificate
    except (OSError, CertificateError, SettingsError):
        return  # said elsewhere
    listed: tuple[tuple[str, Sequence[_Listed], bytes], ...] = (
        ("TLS", entry.tls, tls),
        ("transaction", entry.certificates, transaction),
    )
    for name, certificates, ours in listed:
        digest = sha256(ours).digest()
        if any(one.sha256 == digest and one.valid_at(now) for one in certificates):
            yield ok("register-own", f"our {name} certificate is registered")
        else:
            yield error("register-own", f"our {name} certificate is not registered for now", cure)


def _peer_certificates(entry: ProviderEntry, now: datetime) -> Iterable[Finding]:
    kinds: tuple[tuple[str, Sequence[_Listed]], ...] = (
        ("TLS", entry.tls),
        ("transaction", entry.certificates),
    )
    for name, certificates in kinds:
        valid = [one for one in certificates if one.valid_at(now)]
        last = max((one.valid_until for one in certificates), default=now)
        if not valid:
            yield error(
                "peer-certificate", f"{entry.domain}: no {name} certificate is registered for now",
                _ASK_REGISTER,
            )  # fmt: skip
        elif last - now < _SOON:
            days = (last - now).days
            yield warning(
                "peer-certificate", f"{entry.domain}: the last known {name} certificate ends in {days} days",
                _ASK_REGISTER,
            )  # fmt: skip
        else:
            yield ok("peer-certificate", f"{entry.domain}: {name} certificate until {last:%Y-%m-%d}")


# --------------------------------------------------------------------------- their servers


async def check_peers(settings: Settings, peers: Sequence[Peer]) -> list[Finding]:
    """Ask every peer's server, all at the same time."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_server(settings, peer)) for peer in peers]
    return [finding for task in tasks for finding in task.result()]


async def _server(settings: Settings, peer: Peer) -> list[Finding]:
    place = f"{peer.domain} at {peer.host}:{peer.port}"
    try:
        facts = await ask_smtp(peer.host, peer.port, settings.provider.domain)
    except NoStartTlsError:
        return [warning("peer-tls", f"{place} offers no encrypted connection", "ask the provider")]
    except (OSError, UnicodeError, aiosmtplib.SMTPException) as failure:
        return [
            warning(
                "peer-unreachable", f"{place} does not answer as it should ({type(failure).__name__})",
                "check the network and the firewall; messages wait and are tried again: kephs queue list DIR",
            )
        ]  # fmt: skip
    if facts.certificate not in peer.tls_pins:
        return [
            error(
                "peer-pin", f"{place} shows a certificate that is not registered: {facts.certificate.hex()}",
                "nothing is handed over: import a newer register, or ask the provider by telephone",
            )
        ]  # fmt: skip
    return [_offers(peer, place, facts.offers)]


def _offers(peer: Peer, place: str, offers: dict[str, str]) -> Finding:
    missing = [name.upper() for name in ("8bitmime", "size") if name not in offers]
    if missing:
        return warning(
            "peer-extension", f"{place} does not offer {' and '.join(missing)}",
            "messages that need it end in evidence 31: ask the provider",
        )  # fmt: skip
    size = offers["size"].strip()
    if size.isdecimal() and len(size) < 19 and 0 < int(size) < peer.max_message:
        return warning(
            "peer-size", f"{place} takes {int(size):,} octets, the register says {peer.max_message:,}",
            _ASK_REGISTER,
        )  # fmt: skip
    return ok("peer", f"{place} answers with a registered certificate")
