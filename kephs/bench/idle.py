"""Clients that only wait: the memory of each, and how soon one of them hears of a new message.

Everybody signs in under TLS, selects a folder and idles (RFC 2177), as mail programs do all day. One server
is looked at after the other: waiting costs no processor, so turns would prove nothing. The peer gets fewer
clients, because more than 100 of one user it would only ask for news every 30 seconds.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final

from kephs.bench.dovecot import Dovecot
from kephs.bench.fetch import Folder
from kephs.bench.figures import Figure, ticks
from kephs.bench.instance import login_of, serving
from kephs.bench.site import Site
from kephs.bench.wire import ImapClient

CLIENTS: Final = 1000
PEER_CLIENTS: Final = 100  # each of them is a process there, and inotify(7) serves 128 of one user
_AT_ONCE: Final = 20  # clients that sign in at the same time
_SOURCES: Final = 20  # loopback addresses they come from
_CAP: Final = CLIENTS + 100
_SETTLE: Final = 1.0  # seconds before memory is read
_PUSHES_MIN: Final = 5
_SHARE: Final = 0.4  # of the time, for the news of one server
_MESSAGE: Final = b"From: a@bench.test\r\nSubject: TEST\r\nMIME-Version: 1.0\r\n\r\nTEST\r\n"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one server showed."""

    extra_mb: float
    clients: int
    waits: list[float]  # seconds from the beginning of an APPEND until the waiting client is told

    @property
    def kb_each(self) -> float:
        """Return the memory of one waiting client, kB."""
        return 1000 * self.extra_mb / self.clients

    def ms(self, share: float) -> float:
        """Return the time below which this share of the waits lies, ms."""
        ordered = sorted(self.waits)
        return round(1000 * ordered[int(share * (len(ordered) - 1))], 2)


async def idle(site: Site) -> list[Figure]:
    """Measure memory and news with so many waiting clients."""
    ours, peak = await _ours(site)
    other, beside = await _theirs(site)
    memory = {
        "clients": ours.clients, "extra_mb": round(ours.extra_mb, 1), "kb_each": round(ours.kb_each, 1),
        "baseline_clients": other.clients if other else None,
        "baseline_kb_each": round(other.kb_each, 1) if other else None,
        "note": "TLS, signed in, a folder selected, IDLE; ours: resident size, Dovecot: proportional size of "
        "all its processes",
    }  # fmt: skip
    news = {
        "clients": ours.clients, "p50_ms": ours.ms(0.5), "p99_ms": ours.ms(0.99), "pushes": len(ours.waits),
        "baseline_p50_ms": other.ms(0.5) if other else None,
        "baseline_p99_ms": other.ms(0.99) if other else None,
        "note": "value is 1 s / p50: from the beginning of another connection's APPEND until the waiting "
        "client is told EXISTS, with all others waiting too",
    }  # fmt: skip
    return [
        Figure(
            "idle", 1000 / ours.kb_each, "clients/MB", 1000 / other.kb_each if other else None,
            beside, peak, site.disk, memory,
        ),
        Figure(
            "idle-push", 1000 / ours.ms(0.5), "1/s", 1000 / other.ms(0.5) if other else None,
            beside, peak, site.disk, news,
        ),
    ]  # fmt: skip


async def _ours(site: Site) -> tuple[_Seen, float]:
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(site.instance({"network": {"max_connections": _CAP}}))
        server = await stack.enter_async_context(serving(ours, ("imap",)))
        news, *folders = (Folder(ours.imap, login_of(person), "Taslaklar") for person in ours.people)
        seen = await _look(site, news, folders, CLIENTS, server.rss_mb)
        return seen, server.peak_rss_mb()


async def _theirs(site: Site) -> tuple[_Seen | None, str]:
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(site.instance())  # for its TLS certificate
        peer = await stack.enter_async_context(site.dovecot(ours))
        if not isinstance(peer, Dovecot):
            return None, peer
        news = Folder(peer.place, replace(peer.login, user="news"), "INBOX")
        folder = Folder(peer.place, peer.login, "INBOX")
        seen = await _look(site, news, [folder], PEER_CLIENTS, peer.memory_mb)
        return seen, f"{peer.name}, one process for each client"


async def _look(
    site: Site, news: Folder, folders: list[Folder], clients: int, memory_mb: Callable[[], float]
) -> _Seen:
    """Let so many clients wait in ``folders``, and one more in the mailbox that gets ``news``."""
    async with AsyncExitStack() as stack:
        writer = await news.open(stack)  # what every server loads for its first client is no client's
        listener = await news.open(stack)
        before = memory_mb()
        await _gather(folders, clients, stack)
        await asyncio.sleep(_SETTLE)
        extra = memory_mb() - before
        waits = await _push(writer, listener, news.name, site.seconds * _SHARE)
        return _Seen(extra, clients, waits)


async def _gather(folders: list[Folder], clients: int, stack: AsyncExitStack) -> None:
    """Let all clients sign in and wait, some at a time."""
    context = folders[0].place.tls()
    free = asyncio.Semaphore(_AT_ONCE)

    async def enter(number: int) -> None:
        folder = folders[number % len(folders)]
        async with free:
            source = f"127.0.0.{2 + number % _SOURCES}"
            client = await ImapClient.connect(folder.place, stack, context=context, source=source)
            await client.hello(folder.login)
            await client.command(b"SELECT " + folder.name.encode("ascii"))
            await client.idle()

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(enter(number))


async def _push(writer: ImapClient, listener: ImapClient, folder: str, seconds: float) -> list[float]:
    """Append message after message; return how long each time the waiting client heard nothing of it."""
    await listener.idle()
    waits: list[float] = []
    end = ticks() + seconds
    while ticks() < end or len(waits) < _PUSHES_MIN:
        started = ticks()
        async with asyncio.TaskGroup() as group:
            told = group.create_task(_told(listener))
            group.create_task(writer.command(b"APPEND " + folder.encode("ascii"), _MESSAGE))
        waits.append(told.result() - started)
    return waits


async def _told(listener: ImapClient) -> float:
    await listener.news(b" EXISTS")
    return ticks()
