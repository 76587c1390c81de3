"""A crowd of clients that goes on through any number of server deaths and notes all it is told."""

import asyncio
import random
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from hashlib import sha256
from types import TracebackType
from typing import Self

from tests.faults.clients import (
    Endpoint,
    GoneError,
    LaterError,
    Line,
    Mailbox,
    Submission,
    mailbox,
    submission,
)
from tests.faults.letters import Letter
from tests.faults.told import Item, Told
from tests.support.crash import Holder, Provider, Server

_USER_ID = re.compile(rb"<\d+\.[0-9a-f]{12}@faults\.example>")
_HANGING_UP = 10.0  # seconds in which a server that hung up must be dead
CONNECTIONS = 2  # submission connections per holder
_ASK_AGAIN = 0.1  # seconds, for those who were told to come later
ASK = "BODY.PEEK[]", "BODY.PEEK[TEXT]", "BODY.PEEK[]<0.1>", "BODY[]"


class Crowd:
    """Clients of every holder: some submit, one each reads.

    Letters are handed out in portions (`allow`), so that there is work left for the last server too. A
    letter whose answer got lost is submitted again, mostly; some are never heard of again.
    """

    def __init__(
        self, provider: Provider, letters: Iterator[Letter], told: Told, seed: int, *,
        always: bool = False, patient: bool = False,
    ) -> None:  # fmt: skip
        """Be ready; ``always``: every lost answer is asked for again, and everything is read.

        ``patient``: who is told that content cannot be shown now asks again; else that is a defect.
        """
        self._always, self._patient = always, patient
        self._letters, self.told = letters, told
        self._choice = random.Random(seed)
        self._people = provider.people
        tls, network = provider.tls(), provider.settings.network
        self._smtp, self._imap = Endpoint(network.submission_port, tls), Endpoint(network.imap_port, tls)
        self._server: Server | None = None
        self._fuse: Counter[str] = Counter()
        self._up = asyncio.Event()
        self._queues: dict[str, deque[Letter]] = {holder.address: deque() for holder in self._people.values()}
        self._wake = {address: asyncio.Event() for address in self._queues}
        self._busy = 0
        self._looking: set[str] = set()
        self._idle = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._going: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        for holder in self._people.values():
            for _ in range(CONNECTIONS):
                self._going.append(self._tasks.create_task(self._submitting(holder)))
            self._going.append(self._tasks.create_task(self._reading(holder)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._going:
            task.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    # --- what the test says to it -------------------------------------------------------------

    def meet(self, server: Server) -> None:
        """Tell everybody that a server is up."""
        self._server = server
        self._up.set()

    def part(self) -> None:
        """Tell everybody that there is none; call it when it is dead."""
        self._up.clear()

    def allow(self, fresh: int, again: int) -> None:
        """Hand out some new letters, and some that were answered before."""
        for _ in range(fresh):
            self._hand_out(next(self._letters))
        known = [u for u in self.told.accepted if self.told.letters[u].sender.address in self._queues]
        for user_id in self._choice.sample(known, min(again, len(known))):
            self._hand_out(self.told.letters[user_id])

    def submit(self, letter: Letter) -> None:
        """Hand out one letter."""
        self._hand_out(letter)

    def caught_up(self, inboxes: Mapping[str, int]) -> bool:
        """Say whether everybody has seen all that is in INBOX, and read what they will ever read."""
        told = self.told
        for address in self._queues:
            mine = [item for item in told.names if item[0] == address]
            wanted = [item for item in mine if self._is_read(item)]
            if len(mine) != inboxes[address] or any(item not in told.contents for item in wanted):
                return False
        return not self._looking

    async def settled(self) -> None:
        """Wait until everything handed out has been answered."""
        while self._busy or any(self._queues.values()):
            self._idle.clear()
            await self._idle.wait()

    def _hand_out(self, letter: Letter, *, first: bool = False) -> None:
        queue = self._queues[letter.sender.address]
        if first:
            queue.appendleft(letter)
        else:
            queue.append(letter)
        self._wake[letter.sender.address].set()

    def strike_after(self, answers: int = 0, readings: int = 0) -> None:
        """Kill the server the moment so many answers, or first bytes of unread messages, have come."""
        self._fuse = Counter(answers=answers, readings=readings)

    def _heard(self, what: str) -> None:
        if self._fuse[what]:
            self._fuse[what] -= 1
            if not self._fuse[what] and self._server is not None:
                self._server.strike()

    # --- clients ------------------------------------------------------------------------------

    async def _gone(self, server: Server | None) -> None:
        """Go on after a connection broke; a server that hangs up and lives is a defect."""
        if server is None or server is not self._server:
            return
        try:
            await server.dead(_HANGING_UP)
        except TimeoutError:
            self.told.complaints.append("a server hung up on its client, and lives")
        if server is self._server:
            self.part()

    async def _submitting(self, holder: Holder) -> None:
        queue, wake = self._queues[holder.address], self._wake[holder.address]
        while True:
            await self._up.wait()
            server = self._server
            try:
                async with submission(self._smtp, holder) as session:
                    while True:
                        while not queue:
                            wake.clear()
                            self._idle.set()
                            await _either(wake, server)
                        await self._submit(session, queue.popleft())
            except GoneError:
                await self._gone(server)

    async def _submit(self, session: Submission, letter: Letter) -> None:
        told = self.told
        told.letters.setdefault(letter.user_id, letter)
        self._busy += 1
        try:
            answer = await session.deliver(letter.sender.address, letter.recipients, letter.dotted)
        except GoneError as gone:
            told.unknown[letter.user_id] += gone.complete
            if self._always or self._choice.random() < 0.8:
                self._hand_out(letter, first=True)
            raise
        finally:
            self._busy -= 1
            self._idle.set()
        if answer.code // 100 == 4:
            told.later += 1
            self._hand_out(letter)
            if self._patient:
                await asyncio.sleep(_ASK_AGAIN)
        else:
            named = answer.message_id if answer.code == 250 else ""
            told.answered(letter, answer.code, answer.evidence_id, named)
            self._heard("answers")

    async def _reading(self, holder: Holder) -> None:
        latest = 0
        while True:
            await self._up.wait()
            server = self._server
            try:
                async with mailbox(self._imap, holder) as (session, validity):
                    while True:
                        known = session.exists
                        self._looking.add(holder.address)
                        try:
                            latest = await self._look(session, holder.address, validity, latest)
                        except LaterError:
                            if not self._patient:
                                raise
                            self.told.later += 1
                            await asyncio.sleep(_ASK_AGAIN)
                            continue
                        self._looking.discard(holder.address)
                        await session.more_than(known)
            except GoneError:
                await self._gone(server)

    async def _look(self, session: Mailbox, address: str, validity: str, latest: int) -> int:
        """Look at the headers of what is new, read most of it, and read something again."""
        lines = await session.command(f"UID FETCH {latest + 1}:* (UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
        for line in lines:
            uid = _uid(line)
            if not uid or not line.literals:
                continue
            (name,) = re.findall(rb"<([^<>]+)>", line.literals[0])
            self.told.named((address, validity, uid), name.decode())
            latest = max(latest, uid)
        mine = [item for item in self.told.names if item[:2] == (address, validity)]
        wanted = [item for item in mine if self._is_read(item) and item not in self.told.contents]
        for first in range(0, len(wanted), 5):
            await self._read(session, wanted[first : first + 5], ASK[0])
        if mine and (old := self._choice.choice(mine)) and self._is_read(old):
            await self._read(session, [old], self._choice.choice(ASK))
        return latest

    def _is_read(self, item: Item) -> bool:
        """Say whether this is one of those that are read at all: three of four."""
        return self._always or sha256(self.told.names[item].encode()).digest()[0] % 4 != 0

    async def _read(self, session: Mailbox, items: list[Item], what: str) -> None:
        by_uid = {item[2]: item for item in items}

        def begun(so_far: str) -> None:
            found = re.search(r"\bUID (\d+)", so_far)
            assert found, so_far
            item = by_uid[int(found[1])]
            if item not in self.told.shown:
                self.told.shown.add(item)
                self._heard("readings")

        self.told.asked.update(items)
        uids = ",".join(map(str, by_uid))
        for line in await session.command(f"UID FETCH {uids} (UID {what})", begun):
            if line.literals and what in {"BODY.PEEK[]", "BODY[]"}:
                self._check_content(by_uid[_uid(line)], line.literals[0])

    def _check_content(self, item: Item, content: bytes) -> None:
        self.told.read(item, content)
        inside = [
            user_id for raw in _USER_ID.findall(content) if (user_id := raw.decode()) in self.told.letters
        ]
        if not inside or self.told.letters[inside[0]].content not in content:
            self.told.complaints.append(f"{item}: not the original that was sent")


def _uid(line: Line) -> int:
    found = re.search(r"FETCH .*\bUID (\d+)", line.text)
    return int(found[1]) if found else 0


async def _either(wake: asyncio.Event, server: Server | None) -> None:
    """Wait for work or for the server's end."""
    assert server is not None
    tasks = [asyncio.ensure_future(event.wait()) for event in (wake, server.died)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    if server.died.is_set():
        raise GoneError
