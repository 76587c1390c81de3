"""Evidence of a batch: sealed XAdES-B-B with its evidence record, made as the product makes it."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import cache

from evidence.model.records import EvidenceKind, EvidenceRecord, Profile, SealedEvidence
from evidence.ports import Stamping
from evidence.seal.sealing import Sealer
from evidence.stamps.ers import HashTree, encode_record
from kephs.testpki.issued import Issued
from tests.support.evidence_samples import record
from tests.support.pki import shared_pki
from tests.support.sealed import ORIGINAL, STAMPED, LocalTimestamper, about, signer_of


class LocalBatcher:
    """Evidence records over tokens of the TEST TSA, without the network."""

    def __init__(self, at: datetime = STAMPED, tsa: Issued | None = None, company: int = 2) -> None:
        self._stamps = LocalTimestamper(at, tsa)
        self._company = [bytes([number]) * 32 for number in range(1, company + 1)]

    async def records(self, leaves: Sequence[bytes]) -> list[bytes]:
        tree = HashTree([*leaves, *self._company])
        token = await self._stamps.stamp(tree.root)
        return [encode_record(tree.path(index), token) for index in range(len(leaves))]


def batch_sealer(
    domain: str = "hs91.kep.tr",
    *,
    issued: Issued | None = None,
    at: datetime = STAMPED,
    tsa: Issued | None = None,
) -> Sealer:
    signer = signer_of(issued or shared_pki().transactions[domain])
    return Sealer(signer, LocalTimestamper(at, tsa), LocalBatcher(at, tsa))


def batched(
    *items: EvidenceRecord,
    profile: Profile = Profile.KEP,
    stamping: Stamping | None = None,
    by: Sealer | None = None,
) -> list[SealedEvidence]:
    """Seal records in one batch; no record means a delivery."""
    sealer = by or batch_sealer()
    return asyncio.run(sealer.seal_many(items or (record(),), profile=profile, stamping=stamping))


@cache
def accepted_in_batch() -> SealedEvidence:
    return batched(about(ORIGINAL, EvidenceKind.SUBMISSION_ACCEPTANCE))[0]


@cache
def delivered_in_batch() -> SealedEvidence:
    return batched(about(ORIGINAL, EvidenceKind.DELIVERY))[0]
