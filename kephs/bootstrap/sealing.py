"""The sealing side: transaction certificate, key, time stamps, and whoever seals with them."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import aiohttp

from config.settings import Settings, SettingsError
from evidence.adapters.batch_stamper import BatchStamper
from evidence.adapters.soft_signer import KeyMaterialError, SoftSigner
from evidence.adapters.tsa_http import HttpTimestamper
from evidence.certificates import CertificateError
from evidence.chain import TrustStore
from evidence.ports import Timestamper
from evidence.qualified import NesPolicy
from evidence.role import SealPolicy
from evidence.seal_check import SealCheck, check_seal
from evidence.sealing import Sealer
from evidence.smime import SmimeLimits
from evidence.xades import XadesKeyError
from kephs.bootstrap.opening import open_trust
from kephs.domain.policy import MIB
from kephs.system import SystemClock
from kephs.testpki.oids import TEST_TRANSACTION_POLICY


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


@asynccontextmanager
async def open_sealing(settings: Settings) -> AsyncIterator[Sealer]:
    """Open key and time stamps in this process, and whoever seals with them, for the block.

    Raises:
        SettingsError: something configured is missing or wrong.
    """
    if not settings.seal.tsa:
        raise SettingsError("seal.tsa names no time-stamping authority; evidence needs one (KEP-SG-10)")
    trust, clock = open_trust(settings), SystemClock()
    signer = open_signer(settings, trust)
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        timestamper: Timestamper = HttpTimestamper(
            settings.seal.tsa, session=session, clock=clock.now, trust=trust,
            nonces=lambda: secrets.randbits(64), timeout=timedelta(seconds=settings.seal.tsa_seconds),
        )  # fmt: skip
        try:
            yield Sealer(
                signer, timestamper, _batcher(settings, timestamper),
                unstamped_grace=settings.seal.unstamped_grace,
            )  # fmt: skip
        except XadesKeyError as error:
            raise SettingsError(f"transaction certificate: {error}; see seal in kephs.toml") from None


def _batcher(settings: Settings, timestamper: Timestamper) -> BatchStamper | None:
    seal = settings.seal
    if seal.stamping != "batch":
        return None
    return BatchStamper(timestamper, window=timedelta(seconds=seal.batch_seconds), most=seal.batch_most)
