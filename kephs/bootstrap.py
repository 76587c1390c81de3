"""Wiring: picks the implementation behind every port. Nothing else does."""

import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import aiohttp

from config.settings import Settings, SettingsError, failpoint
from directory.adapters.live_peers import LivePeers
from directory.adapters.register_folder import RegisterError, RegisterFolder
from directory.addresses import AddressError, KepAddress
from directory.providers import ProviderRegister
from evidence.adapters.revocation_http import HttpRevocation, HttpRevocationSettings
from evidence.adapters.soft_signer import KeyMaterialError, SoftSigner
from evidence.adapters.trust_folder import TrustFolderError, certificates_in
from evidence.adapters.tsa_http import HttpTimestamper
from evidence.certificates import CertificateError
from evidence.chain import TrustStore
from evidence.ports import Timestamper
from evidence.qualified import NesPolicy
from evidence.records import Issuer
from evidence.role import SealPolicy
from evidence.seal_check import SealCheck, check_seal
from evidence.sealing import Sealer
from evidence.smime import SmimeLimits
from evidence.xades import XadesKeyError
from kephs.domain.policy import MIB, Limits
from kephs.domain.relay_times import RelayTimes
from kephs.failpoints import (
    FailingBlobs,
    FailingSealer,
    FailingStore,
    Failpoint,
    failing_courier,
    failing_receive,
)
from kephs.instance_keys import Keys, open_keys
from kephs.metered import Meter, MeteredCourier, MeteredSealer, MeteredTimestamper
from kephs.ports import BlobStore, Courier, Scanner, Store
from kephs.register_seal import read_pins, register_verifier
from kephs.system import (
    Argon2Passwords,
    HmacIdentity,
    LocalChanges,
    SystemClock,
    ThreadOffload,
    TimeOrderedIds,
)
from kephs.testpki.marker import is_test_root
from kephs.testpki.oids import TEST_TRANSACTION_POLICY
from kephs.usecases.accounts import AccountWork
from kephs.usecases.deliver import Deliver
from kephs.usecases.dispatch import DispatchMaker
from kephs.usecases.fresh import FreshEvidence
from kephs.usecases.give_up import GiveUp
from kephs.usecases.mailbox import MailboxService
from kephs.usecases.read import Reader
from kephs.usecases.receipts import FileReceipts, ReceiptMaker
from kephs.usecases.receive import Receive
from kephs.usecases.records import RecordMaker
from kephs.usecases.relay import Relay, Wait
from kephs.usecases.sign_in import SignIn
from kephs.usecases.submit import Submit, SubmitSettings
from kephs.usecases.take_dispatch import TakeDispatch
from kephs.usecases.take_receipt import TakeReceipt
from kephs.usecases.tidy import Tidy
from smtp_gateway.inbound_server import Receiving
from smtp_gateway.relay_client import SmtpCourier
from smtp_gateway.relay_settings import RelaySettings as CourierSettings
from smtp_gateway.scanner import ClamdAddress, ClamdScanner
from storage.files import FileBlobStore
from storage.unit_of_work import SqliteStore

MAIN_NODE: Final = "main"


@dataclass(frozen=True, slots=True)
class Core:
    """Everything an edge or a command may need of a running instance."""

    settings: Settings
    node: str  # names this process in leases
    store: Store
    blobs: BlobStore
    sealer: Sealer
    clock: SystemClock
    ids: TimeOrderedIds
    offload: ThreadOffload
    changes: LocalChanges
    trust: TrustStore
    revocation: HttpRevocation
    records: RecordMaker
    register: ProviderRegister
    submit: Submit
    receive: Receiving
    deliver: Deliver
    receipts: FileReceipts
    relay: Relay
    wait: Wait
    tidy: Tidy
    reader: Reader
    sign_in: SignIn
    accounts: AccountWork
    mailbox: MailboxService

    @property
    def shared_ports(self) -> bool:
        """Say whether other processes of the instance may listen on the same ports."""
        return bool(self.settings.storage.database_url)


@asynccontextmanager
async def open_core(
    settings: Settings, node: str = MAIN_NODE, *, meter: Meter | None = None
) -> AsyncIterator[Core]:
    """Open an instance: store, keys, clients of outside services; close them on leaving.

    ``node`` names the process among those that work on one database; ``meter`` counts what it does.

    Raises:
        SettingsError: something configured is missing or wrong; the text says what and the cure.
        SchemaError: the database is missing, unreadable, or not at this program's revision.
        StoreUnavailableError: another process writes here.
    """
    async with AsyncExitStack() as stack:
        yield await _open(settings, node, meter, stack)


async def _open(settings: Settings, node: str, meter: Meter | None, stack: AsyncExitStack) -> Core:
    clock, offload = SystemClock(), ThreadOffload()
    stack.callback(offload.close)
    ids = TimeOrderedIds(clock)
    trust = open_trust(settings)
    if trust.empty:
        raise SettingsError(
            f"{settings.trust.roots} holds no root: no signature can be trusted; put the roots of the "
            "certificate providers there, as PEM"
        )
    keys, register = open_keys(settings), open_register(settings, clock.now)
    session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
    store, blobs, changes = await _open_store(settings, keys, node, stack)
    sealer = _open_sealer(settings, session, clock, trust, meter)
    point = _failpoint()
    store, blobs, sealer = _with_failpoint(point, store, blobs, sealer)
    issuer = open_issuer(settings)
    records = RecordMaker(issuer, register.own, clock, ids)
    passwords, identity = Argon2Passwords(offload), HmacIdentity(keys.identity)
    revocation = HttpRevocation(
        session, clock=clock.now, trust=trust, nonces=lambda: secrets.token_bytes(16),
        settings=HttpRevocationSettings(
            timeout=settings.trust.revocation_seconds, crl_timeout=settings.trust.revocation_seconds
        ),
    )  # fmt: skip
    shared = {"store": store, "blobs": blobs, "sealer": sealer, "changes": changes}
    limits, times, policy = open_limits(settings), open_times(settings), open_seal_policy(settings)
    scanner = open_scanner(settings)
    reader = Reader(**shared, records=records)  # type: ignore[arg-type]
    fresh = FreshEvidence()
    dispatches = DispatchMaker(store, blobs, sealer, records, offload, clock, ids, fresh)
    receipts = ReceiptMaker(sealer, records, register, clock, ids)
    give_up = GiveUp(store, blobs, sealer, records, changes, clock, times)
    smtp = open_courier(settings, offload)
    stack.push_async_callback(smtp.close)
    courier: Courier = smtp if meter is None else MeteredCourier(smtp, meter)
    return Core(
        settings=settings, node=node, store=store, blobs=blobs, sealer=sealer, clock=clock, ids=ids,
        offload=offload, changes=changes, trust=trust, revocation=revocation, records=records,
        register=register,
        submit=Submit(
            store=store, blobs=blobs, sealer=sealer, revocation=revocation, scanner=scanner,
            identity=identity, offload=offload, clock=clock, ids=ids, changes=changes, trust=trust,
            settings=SubmitSettings(issuer, register, limits, open_nes_policy(settings), times), fresh=fresh,
        ),
        receive=failing_receive(point, Receive(
            dispatches=TakeDispatch(
                store, blobs, sealer, records, scanner, register, limits, offload, changes, ids
            ),
            receipts=TakeReceipt(store, blobs, changes, clock, times, register.own),
            revocation=revocation, offload=offload, clock=clock, trust=trust, policy=policy,
            register=register,
        )),
        deliver=Deliver(store, blobs, sealer, records, dispatches, receipts, changes),
        receipts=FileReceipts(store, blobs, receipts, offload, clock, ids, changes, times),
        relay=Relay(
            store, blobs, dispatches, records, register, failing_courier(point, courier), give_up,
            offload, clock, times,
        ),
        wait=Wait(store, give_up, register, clock),
        tidy=Tidy(store=store, blobs=blobs),
        reader=reader,
        sign_in=SignIn(store=store, passwords=passwords, clock=clock, register=register),
        accounts=AccountWork(
            store=store, identity=identity, passwords=passwords, clock=clock, ids=ids, register=register
        ),
        mailbox=MailboxService(
            store=store, blobs=blobs, reader=reader, changes=changes, offload=offload, clock=clock
        ),
    )  # fmt: skip


def open_trust(settings: Settings) -> TrustStore:
    """Read the trusted roots; TEST ones only where the instance was made for them (D8).

    Raises:
        SettingsError: a file cannot be read, or a TEST root in an instance that is not for tests.
    """
    roots = read_certificates(settings.trust.roots)
    if not settings.test_pki.enabled and any(is_test_root(root) for root in roots):
        raise SettingsError(
            f"{settings.trust.roots} holds a TEST root: take it out, this instance is not for tests"
        )
    try:
        return TrustStore(roots, intermediates=read_certificates(settings.trust.intermediates))
    except CertificateError as error:
        raise SettingsError(f"{settings.trust.roots}: {error}") from None


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


def transaction_policies(settings: Settings) -> tuple[str, ...]:
    """Return the policy OIDs of transaction certificates, the TEST one only in TEST instances."""
    configured = settings.seal.transaction_policies
    return (*configured, TEST_TRANSACTION_POLICY) if settings.test_pki.enabled else configured


def open_seal_policy(settings: Settings) -> SealPolicy:
    """Return what makes a transaction certificate, ours and peers'."""
    return SealPolicy(transaction_policies=frozenset(transaction_policies(settings)))


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


def open_nes_policy(settings: Settings) -> NesPolicy:
    """Return the rules for senders' signatures."""
    return NesPolicy(
        allow_seals=settings.trust.allow_qualified_seals,
        transaction_policies=frozenset(transaction_policies(settings)),
        limits=SmimeLimits(opaque=settings.limits.opaque_mib * MIB),
    )


def read_signer(settings: Settings) -> SoftSigner:
    """Return the key of the transaction certificate, whatever that certificate is worth.

    Raises:
        SettingsError: key or certificate is missing, unreadable, or they are no pair.
    """
    seal = settings.seal
    try:
        return SoftSigner.from_pem(seal.certificate, seal.key, [seal.chain] if seal.chain.exists() else [])
    except (KeyMaterialError, OSError) as error:
        raise SettingsError(f"transaction certificate: {error}; see seal in kephs.toml") from None


def check_signer(settings: Settings, signer: SoftSigner, trust: TrustStore, at: datetime) -> SealCheck:
    """Look at the transaction certificate as verifiers of our evidence will.

    Raises:
        SettingsError: a certificate cannot be read.
    """
    try:
        return check_seal(
            signer.certificate, signer.chain,
            domain=settings.provider.domain, trust=trust, policy=open_seal_policy(settings), at=at,
        )  # fmt: skip
    except CertificateError as error:
        raise SettingsError(f"transaction certificate: {error}; see seal in kephs.toml") from None


def open_signer(settings: Settings, trust: TrustStore | None = None) -> SoftSigner:
    """Return the key of the transaction certificate, if evidence that it seals now will verify.

    Args:
        settings: of the instance.
        trust: its trusted roots, where they are read already.

    Raises:
        SettingsError: key or certificate is missing or wrong, not valid now, not this provider's, or
            leads to no trusted root.
    """
    signer = read_signer(settings)
    trust = open_trust(settings) if trust is None else trust
    problem = check_signer(settings, signer, trust, SystemClock().now()).problem
    if problem is not None:
        raise SettingsError(f"the transaction certificate cannot be used: {problem}; see seal in kephs.toml")
    return signer


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


def _open_sealer(
    settings: Settings, session: aiohttp.ClientSession, clock: SystemClock, trust: TrustStore,
    meter: Meter | None,
) -> Sealer:  # fmt: skip
    if not settings.seal.tsa:
        raise SettingsError("seal.tsa names no time-stamping authority; evidence needs one (KEP-SG-10)")
    timestamper: Timestamper = HttpTimestamper(
        settings.seal.tsa, session=session, clock=clock.now, trust=trust,
        nonces=lambda: secrets.randbits(64), timeout=timedelta(seconds=settings.seal.tsa_seconds),
    )  # fmt: skip
    try:
        signer = open_signer(settings, trust)
        if failpoint():
            return FailingSealer(signer, timestamper)
        if meter is None:
            return Sealer(signer, timestamper)
        return MeteredSealer(signer, MeteredTimestamper(timestamper, meter, clock), meter)
    except XadesKeyError as error:
        raise SettingsError(f"transaction certificate: {error}; see seal in kephs.toml") from None


async def _open_store(
    settings: Settings, keys: Keys, node: str, stack: AsyncExitStack
) -> tuple[Store, BlobStore, LocalChanges]:
    blobs = FileBlobStore(settings.storage.blobs, master_key=keys.blobs, writer=node)
    await blobs.start()
    stack.push_async_callback(blobs.close)
    url = settings.storage.database_url
    if not url:
        store = SqliteStore(settings.storage.database, column_key=keys.columns)
        await store.start()
        stack.push_async_callback(store.close)
        return store, blobs, LocalChanges()
    from kephs.postgres_changes import PostgresChanges  # noqa: PLC0415  # psycopg: the cluster profile's alone
    from storage.postgres import PostgresStore  # noqa: PLC0415

    shared, changes = PostgresStore(url, column_key=keys.columns), PostgresChanges(url)
    await shared.start()
    stack.push_async_callback(shared.close)
    await changes.start()
    stack.push_async_callback(changes.close)
    return shared, blobs, changes


def _failpoint() -> Failpoint | None:
    """Return where this process is to die (fault tests only)."""
    try:
        return Failpoint(wanted) if (wanted := failpoint()) else None
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _with_failpoint(
    point: Failpoint | None, store: Store, blobs: BlobStore, sealer: Sealer
) -> tuple[Store, BlobStore, Sealer]:
    if point is None:
        return store, blobs, sealer
    if isinstance(sealer, FailingSealer):
        sealer.point = point
    return FailingStore(store, point), FailingBlobs(blobs, point), sealer
