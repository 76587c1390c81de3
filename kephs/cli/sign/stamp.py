"""``kephs sign --tsa``: a time stamp over each signature, checked up to a root that the person names."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import aiohttp

from evidence.adapters.tsa_http import HttpTimestamper
from evidence.ports import Timestamper
from evidence.x509.chain import TrustStore
from kephs.cli.output import ExitError
from kephs.cli.sign.chain import read_chain
from kephs.cli.sign.turkish import both
from kephs.system import SystemClock

_PATIENCE: Final = timedelta(seconds=20)


@asynccontextmanager
async def open_stamper(url: str, roots: Sequence[Path]) -> AsyncIterator[Timestamper]:
    """Give a client of the authority at an address.

    Args:
        url: the authority's address; it must ask for no credentials.
        roots: PEM or DER files with the authority's root, and intermediates that its tokens lack.

    Raises:
        ExitError: the address or a file cannot be used.
    """
    given = read_chain(roots)
    trust = TrustStore([one.der for one in given if one.self_issued])
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        try:
            stamper = HttpTimestamper(
                [url], session=session, clock=SystemClock().now, trust=trust,
                nonces=lambda: secrets.randbits(64), timeout=_PATIENCE,
                intermediates=[one.der for one in given if not one.self_issued],
            )  # fmt: skip
        except ValueError as error:
            cure = both("tsa-address", "give the authority's http(s) address")
            raise ExitError("tsa-address", f"--tsa: {error}", cure) from None
        yield stamper
