"""The benchmarks by name."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, TypeAlias

from kephs.bench import crypto
from kephs.bench.big import big_in, big_out
from kephs.bench.fetch import fetch
from kephs.bench.figures import Figure
from kephs.bench.first_read import first_read
from kephs.bench.idle import idle
from kephs.bench.inbound import inbound
from kephs.bench.life import life
from kephs.bench.site import Site
from kephs.bench.submit import submit

Bench: TypeAlias = Callable[[Site], Awaitable[list[Figure]]]


def _in_memory(work: Callable[[Callable[[], datetime], float], list[Figure]]) -> Bench:
    async def run(site: Site) -> list[Figure]:
        return work(site.clock, site.seconds)

    return run


BENCHES: Final[Mapping[str, Bench]] = MappingProxyType(
    {
        "submit": submit,
        "life": life,
        "inbound": inbound,
        "fetch": fetch,
        "first-read": first_read,
        "idle": idle,
        "seal": _in_memory(crypto.seal),
        "verify": _in_memory(crypto.verify),
        "nes": _in_memory(crypto.nes),
        "big-in": big_in,
        "big-out": big_out,
    }
)
