"""The first FETCH of unread messages: ours proves each reading by evidence 60 before it sends content.

A message is read for the first time once only, so both servers get a fresh supply: ours by mail, the peer by
APPEND of what was just read here.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from kephs.bench.dovecot import Dovecot
from kephs.bench.fetch import Folder, content_of, send, wait_for
from kephs.bench.figures import Figure, ticks
from kephs.bench.instance import Instance, Server, login_of, serving
from kephs.bench.site import Site
from kephs.bench.turns import each
from kephs.bench.wire import ImapClient

CONNECTIONS: Final = 10
BATCH: Final = 100  # messages of one turn
_SHARE: Final = 0.5  # of the time, for each of the two figures
_P50, _P99 = 0.50, 0.99


@dataclass(slots=True)
class _Tally:
    """What one server did: messages, seconds, and how long each message took."""

    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Return messages per second."""
        return len(self.waits) / self.seconds if self.seconds else 0.0

    def at(self, share: float) -> float | None:
        """Return the time below which this share of all waits lies, ms."""
        ordered = sorted(self.waits)
        return round(1000 * ordered[int(share * (len(ordered) - 1))], 2) if ordered else None


@dataclass(slots=True)
class _Readers:
    """Clients of one folder that read messages nobody has read."""

    folder: Folder
    clients: Sequence[ImapClient]
    tally: _Tally = field(default_factory=_Tally)
    read: int = 0

    async def turn(self, count: int, *, counted: bool) -> list[bytes]:
        """Read the next so many messages, shared among the clients; return them.

        Arrivals are announced first, outside the clock.
        """
        for client in self.clients:
            await client.command(b"NOOP")
        numbers = range(self.read + 1, self.read + count + 1)
        waits: list[float] = []
        found: list[bytes] = []

        def reader(client: ImapClient, own: Sequence[int]) -> "_Reading":
            return _Reading(client, own, waits, found)

        started = ticks()
        lanes = len(self.clients)
        readings = [reader(client, numbers[at::lanes]) for at, client in enumerate(self.clients)]
        await each([reading.run for reading in readings], started)
        if counted:
            self.tally.seconds += ticks() - started
            self.tally.waits += waits
        self.read += count
        return found


@dataclass(slots=True)
class _Reading:
    client: ImapClient
    numbers: Sequence[int]
    waits: list[float]
    found: list[bytes]

    async def run(self, _deadline: float) -> int:
        """Read all of it, one message a command."""
        for number in self.numbers:
            started = ticks()
            answer = await self.client.command(b"FETCH %d BODY[]" % number)
            self.waits.append(ticks() - started)
            self.found.append(content_of(answer))
        return len(self.numbers)


async def first_read(site: Site) -> list[Figure]:
    """Measure first readings on ten connections and on one."""
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(site.instance())
        server = await stack.enter_async_context(serving(ours, ("smtp", "imap", "worker")))
        peer = await stack.enter_async_context(site.dovecot(ours))
        figures = []
        for number, (name, connections) in enumerate((("first-read", CONNECTIONS), ("first-read-1", 1))):
            figures.append(await _measure(site, server, ours, peer, name, connections, number))
        return figures


async def _measure(
    site: Site, server: Server, ours: Instance, peer: Dovecot | str, name: str, connections: int, number: int
) -> Figure:
    """Read in turns; each figure has an INBOX of its own."""
    recipient = ours.people[1 + number]
    inbox = Folder(ours.imap, login_of(recipient), "INBOX")
    async with AsyncExitStack() as stack:
        mine = _Readers(inbox, [await inbox.open(stack) for _ in range(connections)])
        other, filler = None, None
        if isinstance(peer, Dovecot):
            target = Folder(peer.place, peer.login, f"Unread{number}")
            filler = await ImapClient.connect(peer.place, stack)
            await filler.hello(peer.login)
            await filler.command(b"CREATE " + target.name.encode("ascii"))
            other = _Readers(target, [await target.open(stack) for _ in range(connections)])
        end, rounds = ticks() + site.seconds * _SHARE, 0
        while ticks() < end or rounds < 2:  # the first round warms up
            await send(site, ours, ours.people[0], recipient, BATCH)
            await wait_for(inbox, mine.read + BATCH)
            await server.quiet()
            messages = await mine.turn(BATCH, counted=rounds > 0)
            if other is not None and filler is not None:
                for message in messages:
                    await filler.command(b"APPEND " + other.folder.name.encode("ascii"), message)
                await other.turn(BATCH, counted=rounds > 0)
            rounds += 1
    return _figure(site, server, name, connections, peer, mine.tally, other.tally if other else None)


def _figure(
    site: Site, server: Server, name: str, connections: int, peer: Dovecot | str, mine: _Tally,
    other: _Tally | None,
) -> Figure:  # fmt: skip
    more = {
        "connections": connections, "messages": len(mine.waits),
        "p50_ms": mine.at(_P50), "p99_ms": mine.at(_P99),
        "baseline_p50_ms": other.at(_P50) if other else None,
        "baseline_p99_ms": other.at(_P99) if other else None,
        "note": "FETCH n BODY[] of unread KEP messages, one a command; each makes evidence 60, signed, "
        "time-stamped and durable, before its content is sent",
    }  # fmt: skip
    beside = peer if isinstance(peer, str) else f"{peer.name}, maildir, first FETCH of the same messages"
    return Figure(
        name, mine.rate, "messages/s", other.rate if other else None, beside, server.peak_rss_mb(), site.disk,
        more,
    )  # fmt: skip
