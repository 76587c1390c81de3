"""A message of 100 MB in and out: speed, extra memory, and how long others wait meanwhile."""

import asyncio
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kephs.bench import bulk
from kephs.bench.dovecot import Dovecot
from kephs.bench.fetch import Folder, wait_for
from kephs.bench.figures import Figure, ticks
from kephs.bench.instance import Instance, Server, login_of, serving
from kephs.bench.letters import BigLetter, write_big
from kephs.bench.postfix import Postfix
from kephs.bench.site import Site
from kephs.bench.wire import Place

DECODED_BYTES: Final = 100_000_000  # below the 100 MiB that may be sent inside one provider
FETCHED: Final = 2  # messages for big-out; each lies twice on the disk, once more in the peer
_MB: Final = 1e6


@dataclass(slots=True)
class _Tally:
    """What one server did: octets, seconds, longest wait of the neighbour, extra memory."""

    octets: int = 0
    seconds: float = 0.0
    longest_ms: float = 0.0
    extra_mb: float = 0.0
    rounds: int = field(default=0)

    @property
    def rate(self) -> float:
        """Return MB per second."""
        return self.octets / _MB / max(self.seconds, 1e-9)

    def add(self, octets: int, seconds: float, longest_ms: float) -> None:
        """Count one transfer."""
        self.octets += octets
        self.seconds += seconds
        self.longest_ms = max(self.longest_ms, longest_ms)
        self.rounds += 1


async def big_in(site: Site) -> list[Figure]:
    """Submit a signed 100 MB message again and again, ours and Postfix in turns."""
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(site.instance())
        server = await stack.enter_async_context(serving(ours, ("smtp",)))
        peer = await stack.enter_async_context(site.postfix(ours))
        letter = await _letter(site, ours, stack)
        mine, other = _Tally(), _Tally()
        end = ticks() + site.seconds
        while ticks() < end or not mine.rounds:
            before = server.rss_mb()
            server.forget_peak()
            await asyncio.to_thread(_submit, ours.submission, ours, letter, site, mine, signed_in=True)
            mine.extra_mb = max(mine.extra_mb, server.peak_rss_mb() - before)
            await server.quiet()
            if isinstance(peer, Postfix):
                await asyncio.to_thread(_submit, peer.place, ours, letter, site, other, signed_in=False)
                await peer.quiet()
        name = peer if isinstance(peer, str) else peer.name
        return [
            _figure(
                "big-in", mine, other, name, server, site, "signed message with one attachment, role smtp"
            )
        ]


async def big_out(site: Site) -> list[Figure]:
    """Fetch KEP messages of 100 MB whose reading is proved, ours and Dovecot in turns."""
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(site.instance())
        server = await stack.enter_async_context(serving(ours, ("smtp", "imap", "worker")))
        peer = await stack.enter_async_context(site.dovecot(ours))
        letter = await _letter(site, ours, stack)
        for _ in range(FETCHED):
            await asyncio.to_thread(_submit, ours.submission, ours, letter, site, _Tally(), signed_in=True)
        inbox = Folder(ours.imap, login_of(ours.people[1]), "INBOX")
        await wait_for(inbox, FETCHED)
        copy = Folder(peer.place, peer.login, "INBOX") if isinstance(peer, Dovecot) else None
        await asyncio.to_thread(_read_and_copy, inbox, copy, letter.entity.with_name("copy"))
        await server.quiet()
        mine, other = _Tally(), _Tally()
        end = ticks() + site.seconds
        while ticks() < end or not mine.rounds:
            number = 1 + mine.rounds % FETCHED
            before = server.rss_mb()
            server.forget_peak()
            await asyncio.to_thread(_fetch, inbox, number, mine)
            mine.extra_mb = max(mine.extra_mb, server.peak_rss_mb() - before)
            await server.quiet()
            if copy is not None:
                await asyncio.to_thread(_fetch, copy, number, other)
        name = peer if isinstance(peer, str) else peer.name
        return [
            _figure(
                "big-out", mine, other, name, server, site, "KEP messages in INBOX, read before; all roles"
            )
        ]


async def _letter(site: Site, ours: Instance, stack: AsyncExitStack) -> BigLetter:
    room = stack.enter_context(site.room("letter-", 0o700))
    sender, recipient = ours.people[:2]
    return await asyncio.to_thread(
        write_big, sender, recipient.address, room / "entity", DECODED_BYTES, site.clock()
    )


def _submit(
    place: Place, ours: Instance, letter: BigLetter, site: Site, tally: _Tally, *, signed_in: bool
) -> None:
    """Submit the letter under a new Message-ID while a neighbour asks; runs in a thread."""
    login = login_of(ours.people[0]) if signed_in else None
    head = letter.head(site.clock())
    with ExitStack() as stack:
        client = bulk.smtp(place, login, stack)
        neighbour = bulk.Neighbour(bulk.noop_smtp(bulk.smtp(place, login, stack)))
        with neighbour:
            seconds = bulk.submit_file(client, letter.sender, letter.to, head, letter.entity, letter.tail())
        tally.add(letter.size(head), seconds, neighbour.longest_ms)


def _fetch(folder: Folder, number: int, tally: _Tally) -> None:
    """Fetch one message while a neighbour asks; runs in a thread."""
    with ExitStack() as stack:
        client = bulk.imap(folder.place, folder.login, folder.name, stack)
        neighbour = bulk.Neighbour(bulk.noop_imap(bulk.imap(folder.place, folder.login, folder.name, stack)))
        with neighbour:
            octets, seconds = bulk.fetch_message(client, number)
        tally.add(octets, seconds, neighbour.longest_ms)


def _read_and_copy(inbox: Folder, copy: Folder | None, path: Path) -> None:
    """Read each message once, which makes its evidence, and append it to the peer's mailbox."""
    with ExitStack() as stack:
        client = bulk.imap(inbox.place, inbox.login, inbox.name, stack)
        for number in range(1, FETCHED + 1):
            with path.open("wb") as file:
                bulk.fetch_message(client, number, file.write)
            if copy is not None:
                with ExitStack() as there:
                    bulk.append_file(bulk.imap(copy.place, copy.login, copy.name, there), copy.name, path)
    path.unlink()


def _figure(
    name: str, mine: _Tally, other: _Tally, peer: str, server: Server, site: Site, note: str
) -> Figure:
    more = {
        "message_bytes": mine.octets // max(1, mine.rounds),
        "decoded_bytes": DECODED_BYTES,
        "transfers": mine.rounds,
        "extra_rss_mb": round(mine.extra_mb, 1),
        "max_wait_ms": round(mine.longest_ms, 1),
        "baseline_max_wait_ms": round(other.longest_ms, 1) if other.rounds else None,
        "note": note,
    }
    return Figure(
        name,
        mine.rate,
        "MB/s",
        other.rate if other.rounds else None,
        peer,
        server.peak_rss_mb(),
        site.disk,
        more,
    )
