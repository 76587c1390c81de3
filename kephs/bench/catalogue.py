"""The benchmarks by name."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from kephs.bench.archive_bench import archive_put, archive_s3
from kephs.bench.archiving_bench import archive
from kephs.bench.big import big_in, big_out
from kephs.bench.big_bundle import bundle
from kephs.bench.fetch import fetch
from kephs.bench.figures import Figure
from kephs.bench.first_read import first_read
from kephs.bench.idle import idle
from kephs.bench.inbound import inbound
from kephs.bench.life import life
from kephs.bench.nes_bench import nes
from kephs.bench.proofs_bench import proof
from kephs.bench.sealing_bench import seal, seal_memory
from kephs.bench.site import Site
from kephs.bench.submit import submit
from kephs.bench.token_bench import pkcs11
from kephs.bench.verifying_bench import ers, verify

Bench: TypeAlias = Callable[[Site], Awaitable[list[Figure]]]

BENCHES: Final[Mapping[str, Bench]] = MappingProxyType(
    {
        "submit": submit,
        "life": life,
        "inbound": inbound,
        "fetch": fetch,
        "first-read": first_read,
        "idle": idle,
        "seal": seal,
        "seal-memory": seal_memory,
        "pkcs11": pkcs11,
        "verify": verify,
        "ers": ers,
        "proof": proof,
        "nes": nes,
        "bundle": bundle,
        "big-in": big_in,
        "big-out": big_out,
        "archive": archive,
        "archive-put": archive_put,
        "archive-s3": archive_s3,
    }
)
