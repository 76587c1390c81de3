"""Sign and time-stamp evidence and KEP messages with the provider's transaction certificate.

Every evidence gets its own signature. Its proof of time is either a signature time stamp inside (XAdES-B-T)
or an evidence record beside it, made with the others of its batch (D6). There is no way out without one:
when the key or the time-stamping authority is silent the error goes up and the caller waits (KEP-SG-10),
unless the provider allows a grace (D16). So it does when the certificate does not count at the claimed
time: it may expire while the server runs, and what it would sign then verifies nowhere.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final

from evidence.cms.signed_data import CmsSigner
from evidence.forms import serialise
from evidence.model.records import EvidenceRecord, Profile, SealedEvidence
from evidence.ports import (
    Batcher,
    Signer,
    SignerUnavailableError,
    Stamping,
    Timestamper,
    TimestampUnavailableError,
)
from evidence.seal.seal_check import lifetime_problem
from evidence.stamps.ers import encode_record
from evidence.x509.certificates import certificate_facts
from evidence.xades.signing import XadesSigned, XadesSigner

STAMPS_AT_ONCE: Final = 12
"""Stamps of message signatures under way: a slow authority is not asked for more than it gives in time.

The tokens that acceptances wait for do not stand in this queue."""


class Sealer:
    """Makes sealed evidence and message signatures; templates are prepared once per key and profile."""

    def __init__(
        self,
        signer: Signer,
        timestamper: Timestamper,
        batcher: Batcher | None = None,
        *,
        unstamped_grace: bool = False,
    ) -> None:
        """Prepare the templates.

        Args:
            signer: the key behind the transaction certificate.
            timestamper: client of the time-stamping authorities.
            batcher: stamps in batches; without it each evidence gets a token of its own.
            unstamped_grace: release evidence without its record while no authority answers (D16).

        Raises:
            evidence.xades.signing.XadesKeyError: the key makes no XML signatures.
            evidence.x509.certificates.CertificateError: the certificate cannot be read.
        """
        self._certificate = certificate_facts(signer.certificate)
        self._signer = signer
        self._timestamper = timestamper
        self._batcher = batcher
        self._grace = unstamped_grace
        self._xades = {
            profile: XadesSigner(signer.certificate, signer.chain, profile=profile) for profile in Profile
        }
        self._cms = CmsSigner(signer.certificate, signer.chain)
        self._turns = asyncio.Semaphore(STAMPS_AT_ONCE)

    async def seal(self, record: EvidenceRecord) -> SealedEvidence:
        """Seal one record in the provider's way; see `seal_many`."""
        (sealed,) = await self.seal_many((record,))
        return sealed

    async def seal_many(
        self,
        records: Sequence[EvidenceRecord],
        *,
        profile: Profile = Profile.KEP,
        stamping: Stamping | None = None,
    ) -> list[SealedEvidence]:
        """Seal several records with one call of the key; see `evidence.ports.Sealing`."""
        self._check_lifetime([record.event_time for record in records])
        xades = self._xades[profile]
        drafts = [
            xades.to_be_signed(serialise.write(record, profile), record.event_time) for record in records
        ]
        signatures = await self._signer.sign_many([draft.digest for draft in drafts])
        signed = [
            xades.with_signature(draft, signature)
            for draft, signature in zip(drafts, signatures, strict=True)
        ]
        if self._batcher is None or stamping is Stamping.OWN:
            return [
                await self._stamped(record, xades, one) for record, one in zip(records, signed, strict=True)
            ]
        contents = [xades.assemble(one, None) for one in signed]
        proofs = await self._proofs(self._batcher, contents)
        return [
            SealedEvidence(record, xml, ers)
            for record, xml, ers in zip(records, contents, proofs, strict=True)
        ]

    async def records(self, leaves: Sequence[bytes]) -> list[bytes]:
        """Stamp digests by themselves; see `evidence.ports.Batcher`.

        Evidence that was released unstamped, and senders' signatures at reception. Where this provider makes
        no batches each digest costs a token: its record has no tree, the token stamps the digest itself.

        Raises:
            TimestampUnavailableError: no authority answered.
        """
        if self._batcher is not None:
            return await self._batcher.records(leaves)
        return [encode_record((), await self._timestamper.stamp(leaf)) for leaf in leaves]

    async def sign_entity(self, digest: bytes, at: datetime) -> bytes:
        """Return the detached CMS signature of a KEP message; see `evidence.ports.Sealing`."""
        (signature,) = await self.sign_entities((digest,), at)
        return signature

    async def sign_entities(self, digests: Sequence[bytes], at: datetime) -> list[bytes]:
        """Return the detached CMS signatures of several messages; see `evidence.ports.Sealing`."""
        self._check_lifetime((at,))
        drafts = [self._cms.to_be_signed(digest, at) for digest in digests]
        signatures = await self._signer.sign_many([draft.digest for draft in drafts])
        tokens = await _all([self._stamp(signature) for signature in signatures])
        return [
            self._cms.assemble(draft, signature, timestamp_token=token)
            for draft, signature, token in zip(drafts, signatures, tokens, strict=True)
        ]

    async def _stamp(self, signature: bytes) -> bytes:
        """Return a token over the octets of a signature (spec: RFC3161#A), when it is its turn."""
        async with self._turns:
            return await self._timestamper.stamp(sha256(signature).digest())

    async def _stamped(
        self, record: EvidenceRecord, xades: XadesSigner, signed: XadesSigned
    ) -> SealedEvidence:
        token = await self._timestamper.stamp(signed.imprint)
        return SealedEvidence(record, xades.assemble(signed, token))

    async def _proofs(self, batcher: Batcher, contents: Sequence[bytes]) -> Sequence[bytes | None]:
        try:
            return await batcher.records([sha256(xml).digest() for xml in contents])
        except TimestampUnavailableError:
            if not self._grace:
                raise
            return [None] * len(contents)

    def _check_lifetime(self, times: Sequence[datetime]) -> None:
        for time in times:
            problem = lifetime_problem(self._certificate, time)
            if problem is not None:
                raise SignerUnavailableError(f"the transaction certificate does not count: {problem}")


async def _all(asked: Sequence[Coroutine[None, None, bytes]]) -> list[bytes]:
    """Return what all give; once one fails the others are given up."""
    if len(asked) == 1:
        return [await asked[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in asked]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
