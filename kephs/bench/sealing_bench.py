"""Benchmarks of sealing evidence, beside raw P-256 signatures in the same turns, and of its memory."""

import os
from pathlib import Path
from statistics import linear_regression
from typing import Final

from evidence.model.records import EvidenceRecord
from kephs.bench.figures import IN_MEMORY, Figure, own_peak_rss_mb, ticks
from kephs.bench.site import Site
from kephs.bench.stage import (
    CALLERS,
    JOINED,
    RAW_SIGN,
    GroupSupply,
    Stage,
    Supply,
    by_processor,
    raw_sign_supply,
)
from kephs.bench.turns import take_turns

SLICE: Final = 0.25  # seconds
GROUP: Final = 2000  # evidence between two looks at memory
WARM_UP: Final = 10  # looks that do not count: caches and the allocator fill up first
_FEWEST: Final = 4
_PER: Final = 100_000
_MB: Final = 1e6


async def seal(site: Site) -> list[Figure]:
    """Seal evidence: in batches, and with a token inside each; every record another one."""
    stage = Stage.make(site.clock)
    sealer, batcher = stage.batch_sealer()
    own = stage.own_sealer()
    joined = GroupSupply(stage.records, sealer.seal_many, CALLERS // JOINED, JOINED)
    alone, _ = stage.batch_sealer()
    callers, singles = Supply(stage.records, alone.seal, CALLERS), Supply(stage.records, own.seal)
    raws = raw_sign_supply()
    works = joined.runner, callers.runner, singles.runner, raws.runner
    await take_turns(works, site.seconds, slice_seconds=SLICE)
    batched, called, single, raw = (work.rate for work in works)
    count = batcher.counters
    notes = {
        "target_ratio": 0.25, **by_processor(joined, raws), "callers": CALLERS, "joined": JOINED,
        "mean_batch": round(count.leaves / count.batches, 1),
        "note": "XML, signature and evidence record (RFC 4998) of each, joined as the signer's process joins "
        "what arrives together; one token a batch from a TSA in this process, verified as the HTTP client "
        "does; cpu_...: by processor time",
    }  # fmt: skip
    called_notes = {
        **by_processor(callers, raws), "callers": CALLERS, "note": "the same, each caller asks for one",
    }  # fmt: skip
    own_notes = {
        **by_processor(singles, raws),
        "note": "XAdES-B-T: one signature and one token of a TSA in this process each, so 0.5 would be the "
        "ceiling; the token is not verified again",
    }
    peak = own_peak_rss_mb()
    return [
        Figure("seal", batched, "evidence/s", raw, RAW_SIGN, peak, IN_MEMORY, notes),
        Figure("seal-single", called, "evidence/s", raw, RAW_SIGN, peak, IN_MEMORY, called_notes),
        Figure("seal-own", single, "evidence/s", raw, RAW_SIGN, peak, IN_MEMORY, own_notes),
    ]


async def seal_memory(site: Site) -> list[Figure]:
    """Seal in batches as long as there is time and look at the memory on the way."""
    stage = Stage.make(site.clock)
    sealer, _ = stage.batch_sealer()
    supply: Supply[EvidenceRecord] = Supply(stage.records, sealer.seal, CALLERS)
    sealed, sizes = list[int](), list[float]()
    end = ticks() + site.seconds
    while ticks() < end or len(sizes) < _FEWEST:
        await supply.all(GROUP)
        sealed.append(GROUP * (1 + len(sealed)))
        sizes.append(_rss_mb())
    skipped = min(WARM_UP, len(sizes) // 2)
    slope = linear_regression(sealed[skipped:], sizes[skipped:]).slope
    more = {
        "rss_start_mb": round(sizes[0], 1), "rss_warm_mb": round(sizes[skipped], 1),
        "rss_end_mb": round(sizes[-1], 1), "rss_growth_mb_per_100k": round(slope * _PER, 2),
        "target_growth": 0,
        "note": f"value is how many were sealed; resident size looked at every {GROUP}, its slope by least "
        f"squares without the first {skipped} looks",
    }  # fmt: skip
    name = "none: memory must stay flat"
    return [Figure("seal-memory", sealed[-1], "evidence", None, name, own_peak_rss_mb(), IN_MEMORY, more)]


def _rss_mb() -> float:
    """Return this process's resident size now, MB (spec: proc(5), statm)."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / _MB
