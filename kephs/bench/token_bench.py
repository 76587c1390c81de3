"""Benchmark of sealing with a key on a PKCS#11 token, beside the token's own signatures in the same turns."""

import os
from contextlib import closing
from pathlib import Path
from typing import Final

import pkcs11 as python_pkcs11
from pkcs11 import Mechanism

from evidence.adapters.pkcs11_signer import Pkcs11Signer
from evidence.adapters.pkcs11_token import PinFile, TokenPlace
from kephs.bench import softhsm
from kephs.bench.figures import Figure, own_peak_rss_mb
from kephs.bench.site import Site
from kephs.bench.stage import CALLERS, JOINED, GroupSupply, Stage, Supply, digests, raw_sign_supply
from kephs.bench.turns import Runner, take_turns

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
        _logged_in(place),
    ):
        sealer, batcher = stage.batch_sealer(signer)
        key = softhsm.raw_key(place)

        async def sign(digest: bytes) -> None:
            key.sign(digest, mechanism=Mechanism.ECDSA, buffer_size=_BUFFER)

        joined = GroupSupply(stage.records, sealer.seal_many, CALLERS // JOINED, JOINED)
        raw = Supply(digests, sign)
        ours, token, soft = joined.runner, raw.runner, raw_sign_supply().runner
        assert signer.pid is not None
        child = _OtherTime(ours, signer.pid)
        await take_turns((child.runner, token, soft), site.seconds, slice_seconds=_SLICE)
    count = batcher.counters
    more = {
        "target_ratio": 0.6, **_by_processor(joined.done, joined.cpu_seconds, child.seconds, raw),
        "callers": CALLERS, "joined": JOINED, "mean_batch": round(count.leaves / count.batches, 1),
        "raw_soft_sign": round(soft.rate),
        "note": "P-256 on SoftHSM: XML, signature by the token and evidence record of each; the token in a "
        "process of its own; cpu_...: by the processor time of the busier of both, the rate where each has a "
        "core to itself; ..._us: processor time for one",
    }  # fmt: skip
    name = "SoftHSM, C_Sign through python-pkcs11, one session"
    return [
        Figure(
            "pkcs11", child.runner.rate, "evidence/s", token.rate, name, own_peak_rss_mb(), site.disk, more
        )
    ]


def _logged_in(place: TokenPlace) -> "closing[python_pkcs11.Session]":
    """Log in in this process too, for the token's own rate."""
    token = python_pkcs11.lib(str(place.module)).get_token(token_label=place.token_label)
    return closing(token.open(user_pin=PinFile(place.pin_file).read(place.token_label)))


class _OtherTime:
    """Processor time that another process spends on a runner's turns, the first left out."""

    def __init__(self, inner: Runner, process: int) -> None:
        self._inner, self._process = inner, process
        self._turns = 0
        self.seconds = 0.0
        self.runner = Runner(self._turn, before=inner.before)

    async def _turn(self, deadline: float) -> int:
        started = _seconds_of(self._process)
        done = await self._inner.turn(deadline)
        if self._turns:
            self.seconds += _seconds_of(self._process) - started
        self._turns += 1
        return done


def _seconds_of(process: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _by_processor(done: int, own: float, other: float, token: Supply[bytes]) -> dict[str, object]:
    """Return rates by processor time; neighbours change them much less.

    Args:
        done: evidence.
        own: seconds of this process.
        other: seconds of the token's process.
        token: the token alone.
    """
    rate = done / max(own, other)
    return {
        "cpu_value": round(rate), "cpu_ratio": float(f"{rate / token.cpu_rate:.3g}"),
        "own_us": round(1e6 * own / done), "token_process_us": round(1e6 * other / done),
        "token_alone_us": round(1e6 / token.cpu_rate),
    }  # fmt: skip
