"""Submission of signed letters against Postfix's bare acceptance: same client, TLS on both sides."""

from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Protocol

from kephs.bench.figures import Figure, ticks
from kephs.bench.instance import Instance, Server, login_of, serving
from kephs.bench.letters import LETTER_BYTES, Letters, Strangers
from kephs.bench.postfix import Postfix
from kephs.bench.site import Site
from kephs.bench.turns import Runner, each, take_turns
from kephs.bench.wire import Place, SmtpClient
from kephs.testpki.authority import TestPki

CONNECTIONS: Final = 10
_AHEAD: Final = 2.0  # letters kept ready, as a multiple of what a slice took last
_ALONE: Final = 2 / 3  # of the time, for acceptance alone
FIRST: Final = 400  # letters of the first slice, which only warms up


class Writer(Protocol):
    """Writes a holder's letters: `Letters`, or `Strangers` with a new certificate for each."""

    def write_many(self, to: str, count: int) -> list[bytes]:
        """Return so many signed letters."""
        ...


@dataclass(slots=True)
class Sender:
    """One holder on one connection, with letters written before the clock runs."""

    client: SmtpClient
    letters: Writer
    sender: str
    recipient: str
    stock: deque[bytes]

    async def work(self, deadline: float) -> int:
        """Submit letter after letter until the deadline; return how many were accepted."""
        done = 0
        while self.stock and ticks() < deadline:
            await self.client.submit(self.sender, self.recipient, self.stock.popleft())
            done += 1
        return done

    def fill(self, wanted: int) -> None:
        """Write letters until so many are ready."""
        missing = wanted - len(self.stock)
        if missing > 0:
            self.stock.extend(self.letters.write_many(self.recipient, missing))


class Load:
    """Holders who submit at the same time, each on a connection of their own that is used again and again."""

    def __init__(self, senders: Sequence[Sender]) -> None:
        self._senders = senders
        self._wanted = FIRST
        self.sent = [0] * len(senders)

    @classmethod
    async def connect(
        cls, ours: Instance, place: Place, site: Site, stack: AsyncExitStack, *, signed_in: bool,
        strangers: bool = False,
    ) -> "Load":  # fmt: skip
        """Connect everybody; each sends to the next one.

        Args:
            ours: whose people send.
            place: the server that takes the letters.
            site: gives the time.
            stack: closes the connections.
            signed_in: whether the server asks for a password.
            strangers: sign every letter with a certificate nobody has seen before.
        """
        pki = TestPki.load(ours.settings.test_pki.directory) if strangers else None
        people = ours.people[:CONNECTIONS]
        senders = []
        for holder, other in zip(people, (*people[1:], people[0]), strict=True):
            client = await SmtpClient.connect(place, stack)
            await client.hello(login_of(holder) if signed_in else None)
            letters = Letters(holder, site.clock) if pki is None else Strangers(holder, site.clock, pki)
            senders.append(Sender(client, letters, holder.address, other.address, deque()))
        return cls(senders)

    @property
    def received(self) -> list[int]:
        """Return how many letters of the last turn each person is to receive."""
        return [*self.sent[-1:], *self.sent[:-1]]

    async def before(self) -> None:
        """Write enough letters for a slice."""
        for sender in self._senders:
            sender.fill(self._wanted // len(self._senders) + 1)

    async def turn(self, deadline: float) -> int:
        """Submit until the deadline; return how many letters were accepted."""
        started = ticks()
        self.sent = await each([sender.work for sender in self._senders], deadline)
        done = sum(self.sent)
        self._wanted = int(done * _AHEAD * max(1.0, (deadline - started) / (ticks() - started)))
        return done


class Turning(Protocol):
    """Something that works until a deadline."""

    async def turn(self, deadline: float) -> int:
        """Work; return how much was done."""
        ...


@dataclass(slots=True)
class Metered:
    """A load on our server with the processor time it takes there, left-over work included."""

    load: Turning
    server: Server
    done: int = 0
    cpu: float = 0.0
    _last: tuple[int, float] | None = None
    _warm: bool = False

    async def turn(self, deadline: float) -> int:
        """Work one slice."""
        before = self.server.cpu_seconds()
        done = await self.load.turn(deadline)
        self._last = done, before
        return done

    async def quiet(self) -> None:
        """Wait until the server is quiet, then count; the first slice only warms up."""
        await self.server.quiet()
        if self._warm and self._last is not None:
            self.done += self._last[0]
            self.cpu += self.server.cpu_seconds() - self._last[1]
        self._warm = True


async def submit(site: Site) -> list[Figure]:
    """Measure acceptance alone, then with deliveries under way in the same process."""
    alone = await _measure(
        site, "submit", ("smtp",), site.seconds * _ALONE, "acceptance alone (role smtp): deliveries wait"
    )
    both = await _measure(
        site, "submit-delivering", ("smtp", "imap", "worker"), site.seconds * (1 - _ALONE),
        "all roles: the process also builds, signs and delivers what it accepts; the rest of that is waited "
        "for outside the clock, its processor time counts",
    )  # fmt: skip
    return [alone, both]


async def _measure(site: Site, name: str, roles: Sequence[str], seconds: float, note: str) -> Figure:
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(site.instance())
        server = await stack.enter_async_context(serving(ours, roles))
        peer = await stack.enter_async_context(site.postfix(ours))
        load = await Load.connect(ours, ours.submission, site, stack, signed_in=True)
        metered = Metered(load, server)
        runners = [Runner(metered.turn, load.before, metered.quiet)]
        if isinstance(peer, Postfix):
            against = await Load.connect(ours, peer.place, site, stack, signed_in=False)
            runners.append(Runner(against.turn, against.before, peer.quiet))
        await take_turns(runners, seconds)
        more = {
            "connections": CONNECTIONS, "message_bytes": LETTER_BYTES, "messages": runners[0].done,
            "cpu_ms_each": round(1000 * metered.cpu / max(1, metered.done), 2), "note": note,
        }  # fmt: skip
        beside = peer if isinstance(peer, str) else f"{peer.name}, queue file synced, then discarded"
        return Figure(
            name, runners[0].rate, "messages/s", runners[1].rate if len(runners) > 1 else None, beside,
            server.peak_rss_mb(), site.disk, more,
        )  # fmt: skip
