"""Benchmark of sealing with a key on a PKCS#11 token, beside the token's own signatures in the same turns."""

from contextlib import closing
from typing import Final

from pkcs11 import Mechanism

from evidence.adapters.pkcs11_signer import Pkcs11Signer
from kephs.bench import softhsm
from kephs.bench.figures import Figure, own_peak_rss_mb
from kephs.bench.site import Site
from kephs.bench.stage import (
    CALLERS,
    JOINED,
    GroupSupply,
    Stage,
    Supply,
    by_processor,
    digests,
    raw_sign_supply,
)
from kephs.bench.turns import take_turns

_BUFFER: Final = 1024  # octets for a signature, as our signer asks for
_SLICE: Final = 0.25  # seconds


async def pkcs11(site: Site) -> list[Figure]:
    """Seal in batches through `Pkcs11Signer`, and sign with the token alone."""
    stage = Stage.make(site.clock)
    problem = softhsm.missing()
    if problem is not None:
        note = {"note": "nothing was measured"}
        return [Figure("pkcs11", 0, "evidence/s", None, problem, own_peak_rss_mb(), site.disk, note)]
    issued = stage.transaction
    with (
        site.room("t", 0o700) as room,
        softhsm.token(room, issued) as place,
        closing(Pkcs11Signer(place, issued.certificate, issued.chain)) as signer,
    ):
        sealer, batcher = stage.batch_sealer(signer)
        key = softhsm.raw_key(place)

        async def sign(digest: bytes) -> None:
            key.sign(digest, mechanism=Mechanism.ECDSA, buffer_size=_BUFFER)

        joined = GroupSupply(stage.records, sealer.seal_many, CALLERS // JOINED, JOINED)
        supplies = joined, Supply(digests, sign), raw_sign_supply()
        ours, token, soft = (supply.runner for supply in supplies)
        await take_turns((ours, token, soft), site.seconds, slice_seconds=_SLICE)
    count = batcher.counters
    more = {
        "target_ratio": 0.6, **by_processor(supplies[0], supplies[1]),
        "callers": CALLERS, "joined": JOINED, "mean_batch": round(count.leaves / count.batches, 1),
        "raw_soft_sign": round(soft.rate),
        "note": "P-256 on SoftHSM: XML, signature by the token and evidence record of each; the token in a "
        "thread beside the event loop; cpu_...: by processor time of both",
    }  # fmt: skip
    name = "SoftHSM, C_Sign through python-pkcs11, one session"
    return [Figure("pkcs11", ours.rate, "evidence/s", token.rate, name, own_peak_rss_mb(), site.disk, more)]
