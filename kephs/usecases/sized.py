"""Where work on content runs: short work at once, long work in a worker.

Handing work to a thread and back costs more than reading, hashing or scanning a small letter, and the
interpreter runs one thread at a time anyway; what is large must not hold up the other connections.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from kephs.ports import Offload

T = TypeVar("T")

HERE_MAX: Final = 64 * 1024
"""Octets of content that are worked on in the event loop: well below a millisecond."""


async def run_sized(offload: Offload, size: int, function: Callable[..., T], *args: object) -> T:
    """Run ``function(*args)``, which works on ``size`` octets; exceptions pass through."""
    if size <= HERE_MAX:
        return function(*args)
    return await offload.run(function, *args)
