"""Many digests, one time stamp: natural batching into RFC 4998 evidence records.

While a request is under way, whatever arrives collects into the next batch; when none is, what waits goes
at once (or after a window, for paid tokens). So a quiet server waits for nobody and a busy one asks for one
token per round trip, however many digests there are. (signing.md 4, steps 2 and 3)

There is no task of its own: the first caller leads. It makes the request for its batch and then hands the
lead to the first caller who waits, so that a batch lives and dies with the people who want it.

Who is about to have digests, because a key is just signing what they will be of, says so (`company`): a batch
that begins meanwhile waits for them, so that what was begun in one turn has one token, and no second round
trip, also with a key that takes its time.

- A caller who is cancelled takes only its own digests away.
- A leader who is cancelled while its request is under way ends the request; the other callers of its batch
  go back to the head of the queue and the first of them leads. A token may have been paid for in vain, but
  nobody is lost and nobody is answered twice.
- When no authority gives a token, the callers of that batch hear so, and no others.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import Final, TypeAlias

from evidence.ports import Timestamper, TimestampUnavailableError
from evidence.stamps.ers import HashTree, encode_record

DEFAULT_MOST: Final = 1000
COMPANY_SECONDS: Final = 0.1
"""So long a batch waits for company that was announced; a key that takes longer goes without."""
_DIGEST_OCTETS: Final = 32


@dataclass(slots=True)
class BatchCounters:
    """Figures since the start.

    Attributes:
        batches: tokens got.
        leaves: digests that they covered; the quotient is the mean batch size.
        longest: most digests under one token.
        failed: batches for which nobody gave a token.
        abandoned: requests ended because their leader was cancelled.
    """

    batches: int = 0
    leaves: int = 0
    longest: int = 0
    failed: int = 0
    abandoned: int = 0


class _Lead(Enum):
    TAKE = auto()


@dataclass(frozen=True, slots=True)
class _Stamped:
    """A token over a tree, and where one group's digests stand in it."""

    tree: HashTree
    token: bytes
    first: int

    def records(self, count: int) -> list[bytes]:
        """Return the evidence records of one group; each caller makes its own, in its own turn."""
        return [
            encode_record(self.tree.path(index), self.token)
            for index in range(self.first, self.first + count)
        ]


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why a batch has no token; a value, so that nobody needs to have asked for it."""

    reason: str


_Outcome: TypeAlias = _Stamped | _Failed | _Lead


@dataclass(slots=True, eq=False)
class _Group:
    """The digests of one call: they stay together."""

    leaves: Sequence[bytes]
    deadline: float
    answer: "asyncio.Future[_Outcome]" = field(repr=False)


class BatchStamper:
    """Joins digests of many callers under one token each round; an `evidence.ports.Batcher`.

    One event loop, one instance. Waits add at most ``window`` and the round trip already under way to the
    authority's own.

    Args:
        timestamper: who asks the authorities; its time-outs are the batch's.
        window: how long the first digest of a batch waits for others although no request is under way:
            zero sends at once, a second or so saves money where tokens are paid.
        most: most digests under one token; a call with more gets several tokens, one after the other.

    Raises:
        ValueError: a window below zero, or no digest at most.
    """

    def __init__(
        self, timestamper: Timestamper, *, window: timedelta = timedelta(0), most: int = DEFAULT_MOST
    ) -> None:
        if window < timedelta(0) or most < 1:
            raise ValueError("the window is not negative, and a batch has room for one digest at least")
        self._timestamper = timestamper
        self._window = window.total_seconds()
        self._most = most
        self._waiting: OrderedDict[_Group, None] = OrderedDict()
        self._leaves = 0  # in _waiting
        self._led = False  # exactly one caller leads, or nobody waits
        self._full = asyncio.Event()
        self._announced: dict[asyncio.Event, None] = {}
        self.counters = BatchCounters()

    async def records(self, leaves: Sequence[bytes]) -> list[bytes]:
        """Return one evidence record (RFC 4998, DER) for each SHA-256 digest, in order.

        Raises:
            TimestampUnavailableError: no authority gave a token for the batch.
            ValueError: a digest is not of 32 octets.
        """
        if any(len(leaf) != _DIGEST_OCTETS for leaf in leaves):
            raise ValueError("leaves must be SHA-256 digests")
        made: list[bytes] = []
        for start in range(0, len(leaves), self._most):
            made += await self._join(leaves[start : start + self._most])
        return made

    @contextmanager
    def company(self) -> Iterator[None]:
        """Announce digests: those that are handed in within the turn in which the block ends come along."""
        here = asyncio.Event()
        self._announced[here] = None
        try:
            yield
        finally:
            del self._announced[here]
            here.set()

    async def _join(self, leaves: Sequence[bytes]) -> list[bytes]:
        loop = asyncio.get_running_loop()
        group = _Group(leaves, loop.time() + self._window, loop.create_future())
        self._waiting[group] = None
        self._leaves += len(leaves)
        if self._leaves >= self._most:
            self._full.set()
        outcome = await self._turn(group)
        if outcome is _Lead.TAKE:
            outcome = await self._lead(group)
        if isinstance(outcome, _Stamped):
            return outcome.records(len(leaves))
        raise TimestampUnavailableError(outcome.reason if isinstance(outcome, _Failed) else "no leader")

    # ------------------------------------------------------------------ who leads

    async def _turn(self, group: _Group) -> _Outcome:
        """Wait until another leader answers for this group, or makes it the leader."""
        if not self._led:
            self._led = True
            return _Lead.TAKE
        try:
            return await group.answer
        except asyncio.CancelledError:
            self._drop(group)
            if group.answer.done() and not group.answer.cancelled() and group.answer.result() is _Lead.TAKE:
                self._hand_over()  # made leader in the very moment it was cancelled
            raise

    def _hand_over(self) -> None:
        """Make the first caller who still waits the leader; nobody, if there is none."""
        while self._waiting:
            group = next(iter(self._waiting))
            if not group.answer.done():
                group.answer.set_result(_Lead.TAKE)
                return
            self._drop(group)  # cancelled; its task has not yet run to say so itself
        self._led = False

    def _drop(self, group: _Group) -> None:
        if group in self._waiting:
            del self._waiting[group]
            self._leaves -= len(group.leaves)

    # ------------------------------------------------------------------ what a leader does

    async def _lead(self, leader: _Group) -> _Outcome:
        """Stamp the batch that begins with the leader's group; hand the lead over, whatever happens."""
        try:
            await self._gather(leader)
        except BaseException:
            self._drop(leader)
            self._hand_over()
            raise
        batch = self._take()
        try:
            tree = HashTree([leaf for group in batch for leaf in group.leaves])
            token = await self._timestamper.stamp(tree.root)
        except TimestampUnavailableError as error:
            self.counters.failed += 1
            self._hand_over()
            return self._settle(batch, _Failed(str(error)))
        except Exception as error:
            self.counters.failed += 1
            self._hand_over()
            self._settle(batch, _Failed(f"the batch failed: {type(error).__name__}"))
            raise
        except BaseException:
            self.counters.abandoned += 1
            self._return(batch, leader)
            self._hand_over()
            raise
        self._count(batch)
        self._hand_over()  # first: the next request is under way while the others make their records
        return self._settle(batch, _Stamped(tree, token, 0))

    async def _gather(self, leader: _Group) -> None:
        """Wait until the window of the leader's group closes, or the batch is full.

        Whoever is ready in this turn of the event loop comes along in any case: of callers who were
        answered together, the first would else go alone, and every other token would be its.
        """
        await asyncio.sleep(0)
        if self._announced and self._leaves < self._most:
            with suppress(TimeoutError):
                async with asyncio.timeout(COMPANY_SECONDS):
                    for company in list(self._announced):  # not those who come later: it would never end
                        await company.wait()
        left = leader.deadline - asyncio.get_running_loop().time()
        if left <= 0 or self._leaves >= self._most:
            return
        self._full.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._full.wait()

    def _take(self) -> list[_Group]:
        """Take whole groups from the head of the queue, as many as one token may cover."""
        batch: list[_Group] = []
        room = self._most
        while self._waiting:
            group = next(iter(self._waiting))
            if len(group.leaves) > room:
                break
            self._drop(group)
            if not group.answer.cancelled():
                batch.append(group)
                room -= len(group.leaves)
        return batch

    def _return(self, batch: Sequence[_Group], leader: _Group) -> None:
        """Put the callers of a batch that was abandoned back to the head of the queue, in their order."""
        for group in reversed(batch):
            if group is not leader and not group.answer.done():
                self._waiting[group] = None
                self._waiting.move_to_end(group, last=False)
                self._leaves += len(group.leaves)

    def _settle(self, batch: Sequence[_Group], outcome: _Stamped | _Failed) -> _Outcome:
        """Tell everybody of a batch; return what the leader, who is first in it, is told."""
        first = 0
        for group in batch:
            told = outcome
            if isinstance(outcome, _Stamped):
                told = _Stamped(outcome.tree, outcome.token, first)
                first += len(group.leaves)
            if not group.answer.done():
                group.answer.set_result(told)
        return outcome

    def _count(self, batch: Sequence[_Group]) -> None:
        size = sum(len(group.leaves) for group in batch)
        self.counters.batches += 1
        self.counters.leaves += size
        self.counters.longest = max(self.counters.longest, size)
