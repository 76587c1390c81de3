"""Wiring: picks the implementation behind every port. Nothing else does."""

import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp

from config.settings import Settings, SettingsError, failpoint
from directory.addresses import AddressError, KepAddress
from directory.providers import ProviderRegister
from evidence.adapters.revocation_http import HttpRevocation, HttpRevocationSettings
from evidence.adapters.soft_signer import KeyMaterialError, SoftSigner
from evidence.adapters.trust_folder import TrustFolderError, certificates_in
from evidence.adapters.tsa_http import HttpTimestamper
from evidence.certificates import CertificateError
from evidence.chain import TrustStore
from evidence.qualified import NesPolicy
from evidence.records import Issuer
from evidence.role import SealPolicy
from evidence.seal_check import SealCheck, check_seal
from evidence.sealing import Sealer
from evidence.smime import SmimeLimits
from evidence.xades import XadesKeyError
from kephs.domain.policy import MIB, Limits
from kephs.failpoints import FailingBlobs, FailingSealer, FailingStore, Failpoint
from kephs.instance_keys import Keys, open_keys
from kephs.ports import BlobStore, Scanner, Store
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
from kephs.usecases.mailbox import MailboxService
from kephs.usecases.read import Reader
from kephs.usecases.receipts import FileReceipts
from kephs.usecases.records import RecordMaker
from kephs.usecases.sign_in import SignIn
from kephs.usecases.submit import Submit, SubmitSettings
from kephs.usecases.tidy import Tidy
from smtp_gateway.scanner import ClamdAddress, ClamdScanner
from storage.files import FileBlobStore
from storage.unit_of_work import SqliteStore


@dataclass(frozen=True, slots=True)
class Core:
    """Everything an edge or a command may need of a running instance."""

    settings: Settings
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
    deliver: Deliver
    receipts: FileReceipts
    tidy: Tidy
    reader: Reader
    sign_in: SignIn
    accounts: AccountWork
    mailbox: MailboxService


@asynccontextmanager
async def open_core(settings: Settings) -> AsyncIterator[Core]:
    """Open an instance: store, keys, clients of outside services; close them on leaving.

    Raises:
        SettingsError: something configured is missing or wrong; the text says what and the cure.
        SchemaError: the database is missing, unreadable, or not at this program's revision.
        StoreUnavailableError: another process writes here.
    """
    async with AsyncExitStack() as stack:
        yield await _open(settings, stack)


async def _open(settings: Settings, stack: AsyncExitStack) -> Core:
    clock, changes, offload = SystemClock(), LocalChanges(), ThreadOffload()
    stack.callback(offload.close)
    ids = TimeOrderedIds(clock)
    trust = open_trust(settings)
    if trust.empty:
        raise SettingsError(
            f"{settings.trust.roots} holds no root: no signature can be trusted; put the roots of the "
            "certificate providers there, as PEM"
        )
    keys, register = open_keys(settings), open_register(settings)
    session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
    store, blobs = await _open_store(settings, keys, stack)
    sealer = _open_sealer(settings, session, clock, trust)
    store, blobs, sealer = _with_failpoint(store, blobs, sealer)
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
    work = {**shared, "records": records, "offload": offload, "clock": clock, "ids": ids}
    reader = Reader(**shared, records=records)  # type: ignore[arg-type]
    return Core(
        settings=settings, store=store, blobs=blobs, sealer=sealer, clock=clock, ids=ids, offload=offload,
        changes=changes, trust=trust, revocation=revocation, records=records, register=register,
        submit=Submit(
            store=store, blobs=blobs, sealer=sealer, revocation=revocation, scanner=open_scanner(settings),
            identity=identity, offload=offload, clock=clock, ids=ids, changes=changes, trust=trust,
            settings=SubmitSettings(issuer, register, open_limits(settings), open_nes_policy(settings)),
        ),
        deliver=Deliver(**work),  # type: ignore[arg-type]
        receipts=FileReceipts(**work),  # type: ignore[arg-type]
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


def open_register(settings: Settings) -> ProviderRegister:
    """Return which addresses are served here.

    Raises:
        SettingsError: the configured domain is no provider's, or not in its stored form.
    """
    domain, suffix = settings.provider.domain, settings.provider.suffix
    try:
        provider = KepAddress.parse(f"kephizmet@{domain}", suffix=suffix).provider
    except AddressError:
        provider = None
    if provider != domain:
        raise SettingsError(f"provider.domain: {domain} is no provider domain; it looks like hs91.{suffix}")
    return ProviderRegister(domain, suffix)


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
    policy = SealPolicy(transaction_policies=frozenset(transaction_policies(settings)))
    try:
        return check_seal(
            signer.certificate, signer.chain,
            domain=settings.provider.domain, trust=trust, policy=policy, at=at,
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
    settings: Settings, session: aiohttp.ClientSession, clock: SystemClock, trust: TrustStore
) -> Sealer:
    if not settings.seal.tsa:
        raise SettingsError("seal.tsa names no time-stamping authority; evidence needs one (KEP-SG-10)")
    timestamper = HttpTimestamper(
        settings.seal.tsa, session=session, clock=clock.now, trust=trust,
        nonces=lambda: secrets.randbits(64), timeout=timedelta(seconds=settings.seal.tsa_seconds),
    )  # fmt: skip
    kind = FailingSealer if failpoint() else Sealer
    try:
        return kind(open_signer(settings, trust), timestamper)
    except XadesKeyError as error:
        raise SettingsError(f"transaction certificate: {error}; see seal in kephs.toml") from None


async def _open_store(settings: Settings, keys: Keys, stack: AsyncExitStack) -> tuple[Store, BlobStore]:
    blobs = FileBlobStore(settings.storage.blobs, master_key=keys.blobs)
    await blobs.start()
    stack.push_async_callback(blobs.close)
    store = SqliteStore(settings.storage.database, column_key=keys.columns)
    await store.start()
    stack.push_async_callback(store.close)
    return store, blobs


def _with_failpoint(store: Store, blobs: BlobStore, sealer: Sealer) -> tuple[Store, BlobStore, Sealer]:
    wanted = failpoint()
    if not wanted:
        return store, blobs, sealer
    try:
        point = Failpoint(wanted)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if isinstance(sealer, FailingSealer):
        sealer.point = point
    return FailingStore(store, point), FailingBlobs(blobs, point), sealer
