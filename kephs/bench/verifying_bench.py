"""Benchmarks of verifying evidence and evidence records, beside raw P-256 verifications in the same loop.

Every item is another one and no verdict is remembered. Links between certificates are, as in a server.
"""

import secrets
from collections.abc import Sequence
from hashlib import new as new_hash
from hashlib import sha256
from random import Random
from typing import Final, NamedTuple, TypeVar

from evidence.ports import TimestampUnavailableError
from evidence.seal.sealing import Sealer
from evidence.stamps.ers import HashTree, encode_record
from evidence.stamps.ers_check import check_record
from evidence.verify.evidence import check_evidence
from kephs.bench.figures import IN_MEMORY, BenchError, Figure, own_peak_rss_mb
from kephs.bench.site import Site
from kephs.bench.stage import (
    RAW_VERIFY,
    SEAL_POLICY,
    LocalStamps,
    Stage,
    Supply,
    by_processor,
    outcome,
    raw_verify_supply,
)
from kephs.bench.turns import take_turns

BATCH: Final = 100  # under one token
DATA_BYTES: Final = 4096  # about as much as an evidence has
TARGET: Final = 3000  # a second
_SLICE: Final = 0.25  # seconds
T = TypeVar("T")


class _Proven(NamedTuple):
    """Data and the evidence record beside it, if any."""

    data: bytes
    record: bytes | None


async def verify(site: Site) -> list[Figure]:
    """Verify evidence XML completely: strict XML, digests, signature, path, byte identity, role."""
    stage = Stage.make(site.clock)
    makers, trust = _Makers(stage), stage.trust()

    async def check(item: _Proven) -> None:
        if not check_evidence(item.data, trust, stage.clock(), SEAL_POLICY, ers=item.record).passed:
            raise BenchError("an evidence did not pass")

    works = {
        "verify": Supply(makers.bare, check),
        "verify-batch": Supply(makers.batched, check),
        "verify-own": Supply(makers.own, check),
    }
    notes = (
        "XAdES-B-B: the evidence alone, no stamp given (which the report notes): one signature",
        f"with its evidence record, {BATCH} under one token, mixed: two signatures",
        "XAdES-B-T, the token inside: two signatures",
    )
    return await _measured(site, "evidence/s", works, notes)


async def ers(site: Site) -> list[Figure]:
    """Verify evidence records (RFC 4998) against the data they are about."""
    stage = Stage.make(site.clock)
    makers, trust = _Makers(stage), stage.trust()

    async def check(item: _Proven) -> None:
        data, record = item
        found = check_record(
            record or b"", lambda name: new_hash(name, data).digest(), trust, stage.clock()
        )  # fmt: skip
        if not found.passed:
            raise BenchError("an evidence record did not pass")

    works = {"ers": Supply(makers.records, check), "ers-alone": Supply(makers.records_alone, check)}
    together = (
        f"records of batches of {BATCH}, mixed: records and the {DATA_BYTES} octets they are about all "
        "differ, the token is another in each batch and comes again with each record of it"
    )
    alone = "batches of one: record, data and token all differ"
    return await _measured(site, "records/s", works, (together, alone))


async def _measured(
    site: Site, unit: str, works: dict[str, Supply[_Proven]], notes: Sequence[str]
) -> list[Figure]:
    """Let all works and the raw verification take turns."""
    raw = raw_verify_supply()
    runners = {name: work.runner for name, work in works.items()}
    baseline = raw.runner
    await take_turns((*runners.values(), baseline), site.seconds, slice_seconds=_SLICE)
    figures = []
    for (name, runner), note in zip(runners.items(), notes, strict=True):
        target: dict[str, object] = {} if name == "verify-own" else {"target": TARGET}
        more = target | by_processor(works[name], raw) | {"note": f"{note}; cpu_...: by processor time"}
        figures.append(
            Figure(name, runner.rate, unit, baseline.rate, RAW_VERIFY, own_peak_rss_mb(), IN_MEMORY, more)
        )
    return figures


class _Away:
    """A `Batcher` that gives nothing: what is sealed comes without a stamp."""

    async def records(self, _leaves: Sequence[bytes]) -> list[bytes]:
        raise TimestampUnavailableError("stamped apart")


class _Makers:
    """Make what is verified, in each of its forms."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._stamps = LocalStamps(stage.pki, stage.clock)
        self._own = stage.own_sealer()
        self._bare = Sealer(stage.signer(), self._stamps, _Away(), unstamped_grace=True)

    def own(self, count: int) -> list[_Proven]:
        """Return evidence with a token inside each."""
        return self._sealed(self._own, count)

    def bare(self, count: int) -> list[_Proven]:
        """Return evidence without any stamp."""
        return self._sealed(self._bare, count)

    def batched(self, count: int) -> list[_Proven]:
        """Return evidence with evidence records, in another order than they were stamped."""
        return self._recorded([item.data for item in self.bare(count)], BATCH)

    def records(self, count: int) -> list[_Proven]:
        """Return data with evidence records, likewise."""
        return self._recorded(_data(count), BATCH)

    def records_alone(self, count: int) -> list[_Proven]:
        """Return data with evidence records, each under a token of its own."""
        return self._recorded(_data(count), 1)

    def _sealed(self, sealer: Sealer, count: int) -> list[_Proven]:
        return [
            _Proven(outcome(sealer.seal(record)).xml, None) for record in self._stage.records(count)
        ]  # fmt: skip

    def _recorded(self, contents: Sequence[bytes], batch: int) -> list[_Proven]:
        made: list[_Proven] = []
        for start in range(0, len(contents), batch):
            together = contents[start : start + batch]
            tree = HashTree([sha256(one).digest() for one in together])
            token = outcome(self._stamps.stamp(tree.root))
            made += [_Proven(one, encode_record(tree.path(at), token)) for at, one in enumerate(together)]
        return _mixed(made)


def _data(count: int) -> list[bytes]:
    return [secrets.token_bytes(DATA_BYTES) for _ in range(count)]


def _mixed(items: Sequence[T]) -> list[T]:
    return Random(0).sample(items, len(items))  # noqa: S311  # an order, no secret
