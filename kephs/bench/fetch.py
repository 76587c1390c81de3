"""IMAP FETCH of whole messages, one by one, against Dovecot: same client, same bytes, TLS on both."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from kephs.bench.dovecot import Dovecot
from kephs.bench.figures import BenchError, Figure, ticks
from kephs.bench.instance import Instance, Server, login_of, serving
from kephs.bench.letters import Holder, Letters
from kephs.bench.site import Site
from kephs.bench.turns import Runner, take_turns
from kephs.bench.wire import ImapClient, Login, Place, SmtpClient

MESSAGES: Final = 120
CONNECTIONS: Final = 10
_DELIVERY_SECONDS: Final = 60.0
_LOOK: Final = 0.05  # seconds


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a mailbox on one of the servers."""

    place: Place
    login: Login
    name: str

    async def open(self, stack: AsyncExitStack) -> ImapClient:
        """Return a connection that has it selected."""
        client = await ImapClient.connect(self.place, stack)
        await client.hello(self.login)
        await client.command(b"SELECT " + self.name.encode("ascii"))
        return client


class Readers:
    """Clients that fetch message after message, each beginning at another one."""

    def __init__(self, clients: Sequence[ImapClient]) -> None:
        self._pairs = [(client, _numbers(at * MESSAGES // len(clients))) for at, client in enumerate(clients)]

    @classmethod
    async def connect(cls, folder: Folder, connections: int, stack: AsyncExitStack) -> "Readers":
        """Open the folder on so many connections."""
        return cls([await folder.open(stack) for _ in range(connections)])

    async def turn(self, deadline: float) -> int:
        """Fetch until the deadline; return how many messages came."""

        async def read(client: ImapClient, numbers: Iterator[int]) -> int:
            done = 0
            while ticks() < deadline:
                await client.command(b"FETCH %d BODY.PEEK[]" % next(numbers))
                done += 1
            return done

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(read(client, numbers)) for client, numbers in self._pairs]
        return sum(task.result() for task in tasks)


@dataclass(frozen=True, slots=True)
class Match:
    """One comparison: a folder of ours, its copy on the other server, and what lies in them."""

    name: str
    ours: Folder
    theirs: Folder | None
    theirs_name: str
    connections: int
    note: str


async def fetch(site: Site) -> list[Figure]:
    """Measure the recipient's INBOX on ten connections and on one, then letters in the sender's Giden."""
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(site.instance())
        server = await stack.enter_async_context(serving(ours, ("smtp", "imap", "worker")))
        peer = await stack.enter_async_context(site.dovecot(ours))
        await deliver(site, ours)
        sender, recipient = ours.people[:2]
        inbox = Folder(ours.imap, login_of(recipient), "INBOX")
        sent = Folder(ours.imap, login_of(sender), "Giden")
        inbox_copy, sent_copy, name = None, None, str(peer)
        if isinstance(peer, Dovecot):
            inbox_copy = Folder(peer.place, peer.login, "INBOX")
            sent_copy = Folder(peer.place, peer.login, "Sent")
            name = f"{peer.name}, maildir, same messages"
        await open_gates(inbox)
        await copy_all(inbox, inbox_copy)
        await copy_all(sent, sent_copy)
        read = "KEP messages in INBOX whose reading is proved already; all fit into either side's cache"
        matches = (
            Match("fetch", inbox, inbox_copy, name, CONNECTIONS, read),
            Match("fetch-1", inbox, inbox_copy, name, 1, read),
            Match(
                "fetch-sent",
                sent,
                sent_copy,
                name,
                CONNECTIONS,
                "signed letters in Giden; all fit into either side's cache",
            ),
        )
        await server.quiet()
        return [await _measure(site, server, match, site.seconds / len(matches)) for match in matches]


async def _measure(site: Site, server: Server, match: Match, seconds: float) -> Figure:
    async with AsyncExitStack() as stack:
        size = len(content_of(await (await match.ours.open(stack)).command(b"FETCH 1 BODY.PEEK[]")))
        readers = await Readers.connect(match.ours, match.connections, stack)
        ours, theirs = Runner(readers.turn, after=server.quiet), None
        if match.theirs is not None:
            others = await Readers.connect(match.theirs, match.connections, stack)
            theirs = Runner(others.turn)
        await take_turns([ours] if theirs is None else [ours, theirs], seconds)
    more = {
        "connections": match.connections, "message_bytes": size, "messages": MESSAGES, "note": match.note,
    }  # fmt: skip
    return Figure(
        match.name, ours.rate, "messages/s", None if theirs is None else theirs.rate, match.theirs_name,
        server.peak_rss_mb(), site.disk, more,
    )  # fmt: skip


async def deliver(site: Site, ours: Instance) -> None:
    """Send letters from the first account to the second and wait until all lie in its INBOX.

    Raises:
        BenchError: they did not arrive.
    """
    sender, recipient = ours.people[:2]
    await send(site, ours, sender, recipient, MESSAGES)
    await wait_for(Folder(ours.imap, login_of(recipient), "INBOX"), MESSAGES)


async def send(site: Site, ours: Instance, sender: Holder, recipient: Holder, count: int) -> None:
    """Submit so many letters from one account to another."""
    letters = Letters(sender, site.clock).write_many(recipient.address, count)

    async def submit(client: SmtpClient, own: Sequence[bytes]) -> None:
        await client.hello(login_of(sender))
        for letter in own:
            await client.submit(sender.address, recipient.address, letter)

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for number in range(CONNECTIONS):
            client = await SmtpClient.connect(ours.submission, stack)
            group.create_task(submit(client, letters[number::CONNECTIONS]))


async def wait_for(folder: Folder, count: int) -> None:
    """Wait until a folder holds so many messages.

    Raises:
        BenchError: it does not in time.
    """
    wanted = b"* %d EXISTS" % count
    end = ticks() + _DELIVERY_SECONDS
    async with AsyncExitStack() as stack:
        client = await folder.open(stack)
        while wanted not in await client.command(b"SELECT " + folder.name.encode("ascii")):
            if ticks() > end:
                raise BenchError(f"{folder.name} did not fill within {_DELIVERY_SECONDS:.0f} s")
            await asyncio.sleep(_LOOK)


async def open_gates(folder: Folder) -> None:
    """Read every message once: first readings are proved by evidence and are not what is measured."""
    async with AsyncExitStack() as stack:
        client = await folder.open(stack)
        for number in range(1, MESSAGES + 1):
            await client.command(b"FETCH %d BODY.PEEK[]<0.1>" % number)


async def copy_all(source: Folder, target: Folder | None) -> None:
    """Append the messages of one folder to another, on another server."""
    if target is None:
        return
    async with AsyncExitStack() as stack:
        reader = await source.open(stack)
        writer = await ImapClient.connect(target.place, stack)
        await writer.hello(target.login)
        if target.name != "INBOX":
            await writer.command(b"CREATE " + target.name.encode("ascii"))
        for number in range(1, MESSAGES + 1):
            message = content_of(await reader.command(b"FETCH %d BODY.PEEK[]" % number))
            await writer.command(b"APPEND " + target.name.encode("ascii"), message)


def content_of(answer: bytes) -> bytes:
    """Return the literal of a FETCH answer."""
    head, _, rest = answer.partition(b"}\r\n")
    return rest[: int(head.rpartition(b"{")[2])]


def _numbers(start: int) -> Iterator[int]:
    """Return all message numbers in a ring that begins behind ``start``."""
    return itertools.cycle([*range(start + 1, MESSAGES + 1), *range(1, start + 1)])
