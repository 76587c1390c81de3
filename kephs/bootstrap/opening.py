"""What settings mean, part by part: trust, register, limits, the edges' TLS."""

import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from config.settings import Settings, SettingsError
from directory.adapters.live_peers import LivePeers
from directory.adapters.register_folder import RegisterError, RegisterFolder
from directory.addresses import AddressError, KepAddress
from directory.providers import ProviderRegister
from evidence.adapters.trust_folder import TrustFolderError, certificates_in
from evidence.model.records import Issuer
from evidence.x509.certificates import CertificateError
from evidence.x509.chain import TrustStore
from kephs.domain.policy import MIB, Limits
from kephs.domain.relay_times import RelayTimes
from kephs.domain.trust_list import TrustAnchor
from kephs.ports import Scanner
from kephs.register_seal import read_pins, register_verifier
from kephs.system import SystemClock, ThreadOffload
from kephs.testpki.marker import is_test_root
from kephs.usecases.governance.trust_list import Door, active
from smtp_gateway.relay_client import SmtpCourier
from smtp_gateway.relay_settings import RelaySettings as CourierSettings
from smtp_gateway.scanner import ClamdAddress, ClamdScanner


def open_trust(settings: Settings) -> TrustStore:
    """Read what the trust list holds active; TEST roots only where the instance was made for them (D8).

    Intermediates of the configured folder complete paths; they are never trusted by themselves.

    Raises:
        SettingsError: the list or a file cannot be read, or holds a TEST root in an instance not for tests.
        SchemaError: the database is missing, unreadable, or not at this program's revision.
    """
    roots, intermediates = active(read_anchors(settings))
    if not settings.test_pki.enabled and any(is_test_root(root) for root in roots):
        raise SettingsError(
            "the trust list holds a TEST root and this instance is not for tests: kephs trust retire it"
        )
    try:
        return TrustStore(
            roots, intermediates=[*intermediates, *read_certificates(settings.trust.intermediates)]
        )
    except CertificateError as error:
        raise SettingsError(f"the trust list: {error}") from None


def read_anchors(settings: Settings) -> list[TrustAnchor]:
    """Return the whole trust list of an instance; no store needs to be open.

    Raises:
        SettingsError: it cannot be read with the instance's key.
        SchemaError: the database is missing, unreadable, or not at this program's revision.
    """
    from kephs.instances.databases import at_once  # noqa: PLC0415  # the signer's process loads no database
    from kephs.instances.keys import key_problem, read_keys  # noqa: PLC0415
    from storage.files.survey import UNREADABLE  # noqa: PLC0415

    keys = read_keys(settings)
    try:
        return at_once(settings, lambda tx: list(tx.anchors.all()), column_key=keys.columns)
    except UNREADABLE as error:
        problem = key_problem(settings, keys)
        raise SettingsError(
            problem
            or f"a row of the trust list was not written by kephs ({type(error).__name__}): "
            "kephs fsck DIR names it"
        ) from None


def open_door(settings: Settings) -> Door:
    """Return which certificates may come on the trust list of an instance."""
    return Door(test_allowed=settings.test_pki.enabled, is_test=is_test_root)


def open_some_trust(settings: Settings) -> TrustStore:
    """Read the trusted roots of an instance that is to run.

    Raises:
        SettingsError: as `open_trust`, or there is no root.
        SchemaError: as `open_trust`.
    """
    trust = open_trust(settings)
    if trust.empty:
        raise SettingsError(
            "the trust list holds no root that is active: no signature can be trusted; "
            "kephs trust import DIR FILE, then two persons: kephs trust approve DIR FINGERPRINT"
        )
    return trust


def read_certificates(folder: Path) -> list[bytes]:
    """Return all certificates of a folder as DER; none where there is no such folder.

    Raises:
        SettingsError: a file cannot be read.
    """
    try:
        return certificates_in(folder) if folder.is_dir() else []
    except TrustFolderError as error:
        raise SettingsError(str(error)) from None


def open_register_folder(settings: Settings, clock: Callable[[], datetime]) -> RegisterFolder:
    """Return the folder of the signed register of providers.

    Raises:
        SettingsError: a pin of its signers is no SHA-256.
    """
    try:
        pins = read_pins(settings.peers.register_signers)
    except ValueError as error:
        raise SettingsError(f"peers.register_signers: {error}") from None
    return RegisterFolder(
        settings.peers.directory, own=settings.provider.domain, suffix=settings.provider.suffix,
        verify=register_verifier(pins), clock=clock,
    )  # fmt: skip


def open_register(settings: Settings, clock: Callable[[], datetime] | None = None) -> ProviderRegister:
    """Return which addresses are served here and which by whom; peers follow the register's file.

    Raises:
        SettingsError: the configured domain is no provider's, or not in its stored form; or the register's
            file is not usable and no earlier one is.
    """
    domain, suffix = settings.provider.domain, settings.provider.suffix
    try:
        provider = KepAddress.parse(f"kephizmet@{domain}", suffix=suffix).provider
    except AddressError:
        provider = None
    if provider != domain:
        raise SettingsError(f"provider.domain: {domain} is no provider domain; it looks like hs91.{suffix}")
    now = clock or SystemClock().now
    folder = open_register_folder(settings, now)
    try:
        folder.load()
    except RegisterError as error:
        raise SettingsError(f"{settings.peers.directory}: {error}") from None
    return ProviderRegister(
        domain, suffix, LivePeers(folder),
        stale=lambda: folder.current().stale, doubtful=lambda: folder.current().doubtful_at(now()),
    )  # fmt: skip


def open_issuer(settings: Settings) -> Issuer:
    """Return how evidence names this provider."""
    provider = settings.provider
    return Issuer(
        provider.legal_name, provider.service_address, provider.policy_id,
        provider.street, provider.locality, provider.postal_code, provider.country,
    )  # fmt: skip


def open_limits(settings: Settings) -> Limits:
    """Return the limits policy works with."""
    limits = settings.limits
    return Limits(
        limits.max_local_mib * MIB, limits.max_elsewhere_mib * MIB, limits.wire_factor,
        limits.max_recipients,
    )  # fmt: skip


def open_times(settings: Settings) -> RelayTimes:
    """Return the timers of relay."""
    relay = settings.relay
    return RelayTimes(
        give_up=timedelta(seconds=relay.give_up_seconds),
        no_answer=timedelta(seconds=relay.no_answer_seconds),
        no_delivery_info=timedelta(seconds=relay.no_delivery_info_seconds),
        receipts=timedelta(seconds=relay.receipts_seconds),
        first_retry=timedelta(seconds=relay.first_retry_seconds),
        longest_retry=timedelta(seconds=relay.longest_retry_seconds),
    )


def open_scanner(settings: Settings) -> Scanner | None:
    """Return the malware scanner, or None where none is configured (doctor warns)."""
    address = settings.scanner.clamd
    if not address:
        return None
    kind, _, place = address.partition(":")
    if kind == "unix":
        where = ClamdAddress(path=place)
    elif kind == "tcp" and place.rpartition(":")[2].isdigit():
        host, _, port = place.rpartition(":")
        where = ClamdAddress(host=host, port=int(port))
    else:
        raise SettingsError("scanner.clamd is neither unix:/path nor tcp:host:port")
    return ClamdScanner(where, scan_timeout=settings.scanner.seconds)


def open_courier(settings: Settings, offload: ThreadOffload) -> SmtpCourier:
    """Return the client that hands messages to peers."""
    return SmtpCourier(relay_limits(settings), hostname=settings.provider.domain, offload=offload)


def relay_limits(settings: Settings) -> CourierSettings:
    """Return the limits of handing over."""
    relay = settings.relay
    return CourierSettings(
        connect_timeout=relay.connect_seconds,
        opening_timeout=min(60.0, relay.reply_seconds),
        reply_timeout=relay.reply_seconds,
        final_timeout=relay.final_reply_seconds,
        idle_connections=relay.connections,
    )


def inbound_wire(settings: Settings) -> int:
    """Return how many bytes a KEP message between providers may have: original, evidence and envelope."""
    return int(settings.limits.max_elsewhere_mib * MIB * settings.limits.wire_factor) + MIB


def open_tls(settings: Settings) -> ssl.SSLContext:
    """Return the edges' TLS context: TLS 1.2 or newer.

    Raises:
        SettingsError: certificate or key is missing or wrong.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.network.tls_certificate, settings.network.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"TLS certificate: {error}; see network in kephs.toml") from None
    return context
