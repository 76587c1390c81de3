"""Benchmarks of signing and verifying, in memory, beside the raw P-256 operation in the same loop."""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from evidence.adapters.soft_signer import SoftSigner
from evidence.certificates import CertificateFacts
from evidence.chain import TrustStore
from evidence.mime import scan
from evidence.nes import conclude, prepare
from evidence.ports import BytesSource
from evidence.records import (
    Authentication,
    EvidenceKind,
    EvidenceRecord,
    Issuer,
    MessageFacts,
    Party,
    SealedEvidence,
)
from evidence.report import Verdict
from evidence.revocation import RevocationAnswer, check_ocsp, ocsp_request
from evidence.sealing import Sealer
from evidence.timestamps import TokenIssuer, build_request, read_request
from evidence.verify_evidence import check_evidence
from kephs.bench.figures import IN_MEMORY, BenchError, Figure, own_peak_rss_mb
from kephs.bench.interleave import Work, rates
from kephs.bench.letters import Letters
from kephs.testpki.authority import TestPki
from kephs.testpki.issued import Issued
from kephs.testpki.keys import make_key, sign_digest
from kephs.testpki.oids import TEST_TSA_POLICY
from kephs.testpki.profiles import make_tckn

DOMAIN: Final = "hs91.kep.tr"
KNOWN_SENDERS: Final = 200
_ECDSA: Final = ec.ECDSA(Prehashed(hashes.SHA256()))
_RAW_SIGN: Final = "raw P-256 sign, same loop"
_RAW_VERIFY: Final = "raw P-256 verify, same loop"


class LocalStamps:
    """A `Timestamper` in this process: a token of the TEST TSA by template, no network, not checked."""

    def __init__(self, pki: TestPki, clock: Callable[[], datetime]) -> None:
        self._tokens = TokenIssuer(pki.tsa.certificate, pki.tsa.chain, TEST_TSA_POLICY)
        self._key, self._clock = pki.tsa.key, clock

    async def stamp(self, digest: bytes) -> bytes:
        """Return a token over a digest."""
        request = read_request(build_request(digest, secrets.randbits(64)))
        draft = self._tokens.to_be_signed(request, self._clock(), secrets.randbits(64))
        return self._tokens.assemble(draft, sign_digest(self._key, draft.digest))


@dataclass(frozen=True, slots=True)
class CryptoStage:
    """A TEST PKI in memory and what hangs on it."""

    pki: TestPki
    trust: TrustStore
    sealer: Sealer
    clock: Callable[[], datetime]

    @classmethod
    def make(cls, clock: Callable[[], datetime]) -> "CryptoStage":
        """Make everything; the RSA authority plays no part and gets a shorter key, made quickly."""
        pki = TestPki.create(
            None, base_url="http://127.0.0.1:9", now=clock(), keys={"pss": make_key("rsa2048")}
        )
        transaction = pki.transactions[DOMAIN]
        assert isinstance(transaction.key, ec.EllipticCurvePrivateKey)
        signer = SoftSigner(transaction.key, transaction.certificate, transaction.chain)
        trust = TrustStore([pki.root], intermediates=pki.intermediates)
        return cls(pki, trust, Sealer(signer, LocalStamps(pki, clock)), clock)


def seal(clock: Callable[[], datetime], seconds: float) -> list[Figure]:
    """Seal evidence: XML written, signed and time-stamped (XAdES-B-T, two signatures), each another record."""
    stage = CryptoStage.make(clock)
    key = _p256()
    with asyncio.Runner() as runner:
        sealing = Work(
            lambda count: [_record(stage.clock()) for _ in range(count)],
            lambda record: runner.run(stage.sealer.seal(record)),
        )
        batch = Work(
            lambda count: [[_record(stage.clock()) for _ in range(count)]],
            lambda records: runner.run(_seal_all(stage.sealer, records)),
        )
        del sealing
        value, raw = _per_item(batch, Work(_digests, lambda digest: key.sign(digest, _ECDSA)), seconds)
    notes = {"signatures_each": 2, "note": "own in-process TEST TSA; two signatures make 0.5 the ceiling"}
    return [_figure("seal", value, "evidence/s", raw, _RAW_SIGN, notes)]
