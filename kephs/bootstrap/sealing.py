"""The sealing side: transaction certificate, key, time stamps, and whoever seals with them."""

import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import aiohttp
from cryptography import x509

from config.settings import Settings, SettingsError, TsaAccount
from evidence.adapters.batch_stamper import BatchStamper
from evidence.adapters.kept_connections import KeptConnections
from evidence.adapters.revocation_http import HttpRevocation, HttpRevocationSettings
from evidence.adapters.soft_signer import KeyMaterialError, SoftSigner, der_of, issuing_path
from evidence.adapters.tsa_credits import CreditFile
from evidence.adapters.tsa_http import HttpTimestamper, revocation_check
from evidence.adapters.tsa_identity import TsaEndpoint
from evidence.cms.signed_data import DEFAULT_RULES, MAIL_PROGRAM_RULES
from evidence.mail.smime import SmimeLimits
from evidence.mail.variants import LINE_END_VARIANTS
from evidence.nes.policy import Grace, NesPolicy
from evidence.ports import Signer, SignerUnavailableError, Timestamper
from evidence.seal.seal_check import SealCheck, check_seal
from evidence.seal.sealing import Sealer
from evidence.x509.certificates import CertificateError
from evidence.x509.chain import TrustStore
from evidence.x509.role import SealPolicy
from evidence.xades.signing import XadesKeyError
from kephs.bootstrap.opening import open_some_trust, open_trust
from kephs.domain.policy import MIB
from kephs.system import SystemClock
from kephs.testpki.oids import TEST_TRANSACTION_POLICY

_NO_TSA: Final = "seal.tsa names no time-stamping authority; evidence needs one (KEP-SG-10)"


def transaction_policies(settings: Settings) -> tuple[str, ...]:
    """Return the policy OIDs of transaction certificates, the TEST one only in TEST instances."""
    configured = settings.seal.transaction_policies
    return (*configured, TEST_TRANSACTION_POLICY) if settings.test_pki.enabled else configured


def open_seal_policy(settings: Settings) -> SealPolicy:
    """Return what makes a transaction certificate, ours and peers'."""
    return SealPolicy(transaction_policies=frozenset(transaction_policies(settings)))


def open_nes_policy(settings: Settings) -> NesPolicy:
    """Return the rules for senders' signatures."""
    return NesPolicy(
        allow_seals=settings.trust.allow_qualified_seals,
        transaction_policies=frozenset(transaction_policies(settings)),
        # what differs in line ends is delivered as received; doubled dots would be seen
        limits=SmimeLimits(opaque=settings.limits.opaque_mib * MIB, variants=LINE_END_VARIANTS),
        grace=Grace(settings.trust.grace),
        cms=DEFAULT_RULES if settings.trust.client_signatures == "strict" else MAIL_PROGRAM_RULES,
    )


def open_revocation(settings: Settings, session: aiohttp.ClientSession, trust: TrustStore) -> HttpRevocation:
    """Return the client of OCSP responders and CRLs, as the server and its commands use it.

    Args:
        settings: of the instance.
        session: for its requests.
        trust: roots and algorithm table for responders and lists.
    """
    seconds = settings.trust.revocation_seconds
    return HttpRevocation(
        session, clock=SystemClock().now, trust=trust, nonces=lambda: secrets.token_bytes(16),
        settings=HttpRevocationSettings(
            timeout=seconds, crl_timeout=seconds,
            refresh_after=timedelta(seconds=settings.trust.revocation_refresh_seconds),
        ),
        proxy=settings.trust.proxy or None,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SealCertificates:
    """The transaction certificate and its intermediates, DER, issuer first: what anybody may see of a key."""

    certificate: bytes
    chain: tuple[bytes, ...]


def read_seal(settings: Settings) -> SealCertificates:
    """Return the transaction certificate, whatever it is worth and wherever its key lies.

    Raises:
        SettingsError: it is missing or unreadable.
    """
    seal = settings.seal
    try:
        (leaf,) = x509.load_pem_x509_certificates(seal.certificate.read_bytes())
        text = seal.chain.read_bytes() if seal.chain.exists() else b""
        others = x509.load_pem_x509_certificates(text) if text.strip() else []
    except (OSError, ValueError) as error:
        raise SettingsError(f"transaction certificate: {error}; see seal in kephs.toml") from None
    return SealCertificates(der_of(leaf), tuple(map(der_of, issuing_path(leaf, others))))


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


def check_signer(
    settings: Settings, signer: Signer | SealCertificates, trust: TrustStore, at: datetime
) -> SealCheck:
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
    _refuse_unusable(settings, signer, open_trust(settings) if trust is None else trust)
    return signer


def _refuse_unusable(settings: Settings, signer: Signer | SealCertificates, trust: TrustStore) -> None:
    problem = check_signer(settings, signer, trust, SystemClock().now()).problem
    if problem is not None:
        raise SettingsError(f"the transaction certificate cannot be used: {problem}; see seal in kephs.toml")


def check_sealing(settings: Settings) -> None:
    """Look, without the key, whether evidence sealed now would verify; before anything is started.

    Raises:
        SettingsError: there is no root, no authority, or the transaction certificate cannot be used.
    """
    _refuse_unusable(settings, read_seal(settings), open_some_trust(settings))
    if not settings.seal.tsa:
        raise SettingsError(_NO_TSA)
    open_tsa_endpoints(settings)


def open_tsa_endpoints(settings: Settings) -> tuple[TsaEndpoint, ...]:
    """Return the time-stamping authorities in the order of their use, each with how it knows us.

    Raises:
        SettingsError: an account is of no authority named, or its password cannot be read.
    """
    accounts = {account.url: account for account in settings.seal.tsa_accounts}
    for url in accounts.keys() - set(settings.seal.tsa):
        raise SettingsError(f"seal.tsa_accounts: {url} is not among seal.tsa")
    return tuple(_endpoint(url, accounts.get(url)) for url in settings.seal.tsa)


def _endpoint(url: str, account: TsaAccount | None) -> TsaEndpoint:
    if account is None:
        account = TsaAccount(url=url)
    try:
        password = None
        if account.password_file is not None:
            password = account.password_file.read_text("utf-8").splitlines()[0].strip()
        return TsaEndpoint(
            url, account.user or None, password, auth=account.auth, credits=account.credits,
            policy=account.policy or None,
        )  # fmt: skip
    except (OSError, ValueError, IndexError) as error:
        raise SettingsError(f"seal.tsa_accounts: {url}: {error}") from None


def credits_file(settings: Settings) -> Path:
    """Return where used time stamps are counted."""
    return settings.storage.database.parent / "tsa-credits.json"


@asynccontextmanager
async def open_timestamper(settings: Settings, trust: TrustStore) -> AsyncIterator[HttpTimestamper]:
    """Open the client of the time-stamping authorities for the block; what it spends is counted.

    Raises:
        SettingsError: no authority is named, or an account is wrong.
    """
    if not settings.seal.tsa:
        raise SettingsError(_NO_TSA)
    endpoints, clock = open_tsa_endpoints(settings), SystemClock()
    proxy = settings.trust.proxy or None
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False, proxy=proxy))
        # proxies are the general client's business
        exchange = stack.enter_context(closing(KeptConnections())) if proxy is None else None
        credits_ = CreditFile(credits_file(settings), endpoints)
        revocation = open_revocation(settings, session, trust)
        try:
            yield HttpTimestamper(
                endpoints, session=session, exchange=exchange, clock=clock.now, trust=trust,
                nonces=lambda: secrets.randbits(64),
                timeout=timedelta(seconds=settings.seal.tsa_seconds),
                spent=credits_.spent, revocation=revocation_check(revocation, clock.now),
            )  # fmt: skip
        finally:
            await credits_.close()


@asynccontextmanager
async def open_sealing(settings: Settings, trust: TrustStore | None = None) -> AsyncIterator[Sealer]:
    """Open key and time stamps in this process, and whoever seals with them, for the block.

    Args:
        settings: of the instance.
        trust: its trusted roots, where they are read already (the signer's process is handed them).

    Raises:
        SettingsError: something configured is missing or wrong.
    """
    trust = open_trust(settings) if trust is None else trust
    async with AsyncExitStack() as stack:
        signer = stack.enter_context(open_key(settings, trust))
        timestamper = await stack.enter_async_context(open_timestamper(settings, trust))
        try:
            batcher = _batcher(settings, timestamper)
            announced = signer if batcher is None else _Announcing(signer, batcher)
            yield Sealer(announced, timestamper, batcher, unstamped_grace=settings.seal.unstamped_grace)
        except XadesKeyError as error:
            raise SettingsError(f"transaction certificate: {error}; see seal in kephs.toml") from None


class _Announcing:
    """A key whose work the batcher of time stamps knows of: what it signs is stamped next."""

    def __init__(self, signer: Signer, batcher: BatchStamper) -> None:
        self._signer, self._batcher = signer, batcher

    @property
    def certificate(self) -> bytes:
        """Return the signer's certificate, DER."""
        return self._signer.certificate

    @property
    def chain(self) -> tuple[bytes, ...]:
        """Return the intermediates, DER."""
        return self._signer.chain

    async def sign_many(self, digests: Sequence[bytes]) -> list[bytes]:
        """Sign SHA-256 digests; see `Signer.sign_many`."""
        with self._batcher.company():
            return await self._signer.sign_many(digests)


@contextmanager
def open_key(settings: Settings, trust: TrustStore) -> Iterator[Signer]:
    """Open the key of the transaction certificate, in its device or its file, for the block.

    Raises:
        SettingsError: the device, token, key or certificate cannot be used.
    """
    seal = settings.seal
    if not seal.pkcs11_module:
        yield open_signer(settings, trust)
        return
    from evidence.adapters.pkcs11_signer import Pkcs11Signer  # noqa: PLC0415  # loads a library of its own
    from evidence.adapters.pkcs11_token import TokenPlace  # noqa: PLC0415

    place = TokenPlace(
        Path(seal.pkcs11_module), seal.pkcs11_token, seal.pin_file, key_label=seal.pkcs11_key or None,
        refused_mark=seal.pin_file.with_name(f"{seal.pin_file.name}.refused"),
    )  # fmt: skip
    chain = [seal.chain] if seal.chain.exists() else []
    try:
        _refuse_unusable(settings, read_seal(settings), trust)
        signer = Pkcs11Signer.from_pem(place, seal.certificate, chain)
    except (KeyMaterialError, SignerUnavailableError) as error:
        raise SettingsError(f"the key's device: {error}; see seal in kephs.toml") from None
    try:
        yield signer
    finally:
        signer.close()


def _batcher(settings: Settings, timestamper: Timestamper) -> BatchStamper | None:
    seal = settings.seal
    if seal.stamping != "batch":
        return None
    return BatchStamper(timestamper, window=timedelta(seconds=seal.batch_seconds), most=seal.batch_most)
