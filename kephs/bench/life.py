"""The whole life of a message inside one provider, seen as its people see it: over IMAP.

A letter counts when the evidence of its acceptance (10) and of its delivery (40) lie in the sender's
Deliller and the KEP message in the recipient's INBOX. The clock runs from the first MAIL of a slice until
the last of all that has arrived.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from kephs.bench.figures import BenchError, Figure, ticks
from kephs.bench.instance import Instance, Server, login_of, serving
from kephs.bench.letters import LETTER_BYTES
from kephs.bench.postfix import Postfix
from kephs.bench.site import Site
from kephs.bench.submit import CONNECTIONS, Load, Metered
from kephs.bench.turns import Runner, take_turns
from kephs.bench.wire import ImapClient

RECEIPTS: Final = 2  # evidence 10 and 40, each filed for the sender
INBOX: Final = "INBOX"
EVIDENCE: Final = "Deliller"
_SLICE: Final = 2.0  # seconds of submitting; waiting for the rest of all lives comes on top, and counts
_LOOK: Final = 0.02  # seconds between two looks into a folder
_PATIENCE: Final = 120.0
_WARM: Final = 2 / 3  # of the time, for senders whose certificates are known


@dataclass(slots=True)
class _Watch:
    """Sees what has arrived in one person's folders."""

    client: ImapClient
    before: dict[str, int] = field(default_factory=dict)

    async def begin(self) -> None:
        """Count from here on."""
        self.before = {folder: await self._count(folder) for folder in (INBOX, EVIDENCE)}

    async def wait(self, folder: str, wanted: int, end: float) -> None:
        """Wait until so many messages have come into a folder.

        Raises:
            BenchError: they have not in time.
        """
        while (found := await self._count(folder) - self.before[folder]) < wanted:
            if ticks() > end:
                raise BenchError(f"{found} of {wanted} messages came into {folder} within {_PATIENCE:.0f} s")
            await asyncio.sleep(_LOOK)

    async def _count(self, folder: str) -> int:
        answer = await self.client.command(f"STATUS {folder} (MESSAGES)".encode("ascii"))
        return int(answer.partition(b"(MESSAGES ")[2].partition(b")")[0])


class Lives:
    """Holders who submit, and looks into their folders until everything has come to its end."""

    def __init__(self, load: Load, watches: Sequence[_Watch]) -> None:
        self._load, self._watches = load, watches

    @classmethod
    async def connect(cls, ours: Instance, load: Load, stack: AsyncExitStack) -> "Lives":
        """Sign in once for each person, beside the connections that submit."""
        watches = []
        for holder in ours.people[:CONNECTIONS]:
            client = await ImapClient.connect(ours.imap, stack)
            await client.hello(login_of(holder))
            watches.append(_Watch(client))
        return cls(load, watches)

    async def before(self) -> None:
        """Write letters, and note what lies in the folders."""
        await self._load.before()
        for watch in self._watches:
            await watch.begin()

    async def turn(self, deadline: float) -> int:
        """Submit until the deadline, then wait until every letter's life is complete.

        Raises:
            BenchError: it does not come to its end.
        """
        done = await self._load.turn(deadline)
        end = ticks() + _PATIENCE
        for watch, sent, received in zip(self._watches, self._load.sent, self._load.received, strict=True):
            await watch.wait(EVIDENCE, RECEIPTS * sent, end)
            await watch.wait(INBOX, received, end)
        return done


async def life(site: Site) -> list[Figure]:
    """Measure whole lives with senders whose certificates are known, then with strangers."""
    until = "until evidence 10 and 40 lie in the sender's Deliller and the message in the recipient's INBOX"
    warm = await _measure(site, "life", site.seconds * _WARM, until, strangers=False)
    cold = await _measure(
        site, "life-cold", site.seconds * (1 - _WARM),
        f"every letter under a new certificate: path, OCSP asked and checked; {until}", strangers=True,
    )  # fmt: skip
    return [warm, cold]


async def _measure(site: Site, name: str, seconds: float, note: str, *, strangers: bool) -> Figure:
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(site.instance())
        server = await stack.enter_async_context(serving(ours, ("smtp", "imap", "worker")))
        peer = await stack.enter_async_context(site.postfix(ours))
        load = await Load.connect(ours, ours.submission, site, stack, signed_in=True, strangers=strangers)
        lives = await Lives.connect(ours, load, stack)
        metered = Metered(lives, server)
        runners = [Runner(metered.turn, lives.before, metered.quiet)]
        if isinstance(peer, Postfix):
            against = await Load.connect(ours, peer.place, site, stack, signed_in=False)
            runners.append(Runner(against.turn, against.before, peer.quiet))
        await take_turns(runners, seconds, slice_seconds=_SLICE)
        return _figure(site, name, server, runners, metered, peer, note)


def _figure(
    site: Site, name: str, server: Server, runners: Sequence[Runner], metered: Metered, peer: Postfix | str,
    note: str,
) -> Figure:  # fmt: skip
    more = {
        "connections": CONNECTIONS, "message_bytes": LETTER_BYTES, "messages": runners[0].done,
        "cpu_ms_each": round(1000 * metered.cpu / max(1, metered.done), 2), "note": note,
    }  # fmt: skip
    beside = peer if isinstance(peer, str) else f"{peer.name}, bare acceptance: queue file synced, discarded"
    return Figure(
        name, runners[0].rate, "messages/s", runners[1].rate if len(runners) > 1 else None, beside,
        server.peak_rss_mb(), site.disk, more,
    )  # fmt: skip
