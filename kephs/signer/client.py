"""The signer as the main process sees it: an `evidence.ports.Sealing` at the other end of a socket.

The socket is one end of a pair that whoever starts the signer made and its child inherited
(`kephs.cli.run.signer_child`). It has no name: nobody else can ask the signer for anything, there is no file
whose mode must be right, and each process sees the other's end at once.
"""

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import count
from types import MappingProxyType
from typing import Final

from evidence.forms.record_wire import RECORD_MAX, RecordWireError, encode, fingerprint
from evidence.model.records import EvidenceRecord, Profile, SealedEvidence
from evidence.ports import (
    SignerRefusedError,
    SignerUnavailableError,
    Stamping,
    TimestampUnavailableError,
)
from kephs.signer.link import FrameLink
from kephs.signer.wire import (
    ANSWER_MAX,
    DIGEST_SIZE,
    LEAVES_MAX,
    RECORDS_MAX,
    Answer,
    Failure,
    Frame,
    Hello,
    Part,
    Seal,
    Sign,
    Stamp,
    Trouble,
    WireError,
    pack_request,
    read_answer,
)

WAIT_SECONDS: Final = 10.0
"""So long a call waits for a signer that is being started again."""
ANSWER_SECONDS: Final = 90.0
"""So long it waits for an answer: longer than the signer waits for the time-stamping authorities."""


class RemoteSealer:
    """Seals through the signer's process; an `evidence.ports.Sealing`.

    Many calls may be under way; each has its answer when it is ready, whatever the order. When the signer is
    lost, all of them end with `SignerUnavailableError`; later calls wait a little for the next one.

    Args:
        wait_seconds: longest wait for a signer.
        answer_seconds: longest wait for an answer. A signer that says nothing at all for so long is given up.
    """

    def __init__(self, *, wait_seconds: float = WAIT_SECONDS, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        self._answer_seconds = answer_seconds
        self._link: _ClientLink | None = None
        self._attached = asyncio.Event()
        self._barred: str | None = None
        self._numbers = count()

    async def attach(self, connected: socket.socket) -> FrameLink:
        """Use a new signer from now on, once it has said that it is ready.

        Args:
            connected: our end of the pair; ours from now on.

        Returns:
            the connection, for whoever watches over the signer: `FrameLink.lost`.

        Raises:
            SignerUnavailableError: it ends, or takes other records than we make.
        """
        link = _ClientLink()
        loop = asyncio.get_running_loop()
        try:
            await loop.create_unix_connection(lambda: link, sock=connected)
        except BaseException:
            connected.close()
            raise
        try:
            await link.ready()
        except BaseException:
            link.abort("the signer was not ready")
            raise
        if self._link is not None:
            self._link.close()
        self._link = link
        self._attached.set()
        return link

    def bar(self, reason: str) -> None:
        """Let every call fail at once from now on: no signer will come."""
        self._barred = reason
        self._attached.set()

    def close(self) -> None:
        """Give the signer up; it ends when it sees that."""
        self.bar("the signer was closed")
        if self._link is not None:
            self._link.close()

    async def seal_many(
        self,
        records: Sequence[EvidenceRecord],
        *,
        profile: Profile = Profile.KEP,
        stamping: Stamping | None = None,
    ) -> list[SealedEvidence]:
        """Seal records; see `evidence.ports.Sealing.seal_many`."""
        try:
            encoded = [encode(record) for record in records]
        except RecordWireError as error:
            raise SignerRefusedError(f"a record cannot be handed to the signer: {error}") from error
        groups = [Seal(next(self._numbers), group, profile, stamping) for group in _groups(encoded)]
        parts = await self._ask(groups, [2 * len(group.records) for group in groups])
        return [
            SealedEvidence(record, _present(xml), ers)
            for record, xml, ers in zip(records, parts[::2], parts[1::2], strict=True)
        ]

    async def records(self, leaves: Sequence[bytes]) -> list[bytes]:
        """Stamp digests; see `evidence.ports.Sealing.records`."""
        _check_digests(leaves)
        groups = [
            Stamp(next(self._numbers), tuple(leaves[start : start + LEAVES_MAX]))
            for start in range(0, len(leaves), LEAVES_MAX)
        ]
        parts = await self._ask(groups, [len(group.leaves) for group in groups])
        return [_present(part) for part in parts]

    async def sign_entity(self, digest: bytes, at: datetime) -> bytes:
        """Sign an entity's digest; see `evidence.ports.Sealing.sign_entity`."""
        (signature,) = await self.sign_entities((digest,), at)
        return signature

    async def sign_entities(self, digests: Sequence[bytes], at: datetime) -> list[bytes]:
        """Sign digests of entities; see `evidence.ports.Sealing.sign_entities`."""
        _check_digests(digests)
        groups = [
            Sign(next(self._numbers), tuple(digests[start : start + RECORDS_MAX]), at)
            for start in range(0, len(digests), RECORDS_MAX)
        ]
        parts = await self._ask(groups, [len(group.digests) for group in groups])
        return [_present(part) for part in parts]

    async def _ask(self, requests: Sequence[Seal | Sign | Stamp], counts: Sequence[int]) -> list[Part]:
        """Send requests that belong together and return the parts of all their answers, in order."""
        if not requests:
            return []
        try:
            frames = [(request.number, pack_request(request)) for request in requests]
        except (WireError, RecordWireError) as error:
            raise SignerRefusedError(f"this cannot be handed to the signer: {error}") from error
        link = await self._linked()
        heard = link.heard
        try:
            async with asyncio.timeout(self._answer_seconds):
                answers = []
                for number, frame in frames:
                    await link.writable.wait()
                    answers.append(link.ask(number, frame))
                found: list[Part] = []
                for answer, expected in zip(answers, counts, strict=True):
                    found += _parts(await answer, expected)
                return found
        except TimeoutError:
            if link.heard == heard:
                link.abort("it said nothing for too long")
            raise SignerUnavailableError(f"the signer gave no answer in {self._answer_seconds:g} s") from None
        finally:
            for number, _ in frames:
                link.forget(number)

    async def _linked(self) -> "_ClientLink":
        """Return a connection that stands; wait a little where there is none."""
        if self._barred is None and (self._link is None or self._link.lost.is_set()):
            self._attached.clear()
            try:
                async with asyncio.timeout(self._wait_seconds):
                    await self._attached.wait()
            except TimeoutError:
                raise SignerUnavailableError("there is no signer") from None
        if self._barred is not None:
            raise SignerUnavailableError(self._barred)
        if self._link is None or self._link.lost.is_set():
            raise SignerUnavailableError("the signer is gone again")
        return self._link


class _ClientLink(FrameLink):
    """The client's end: who waits for which answer."""

    def __init__(self) -> None:
        super().__init__(ANSWER_MAX)
        self.heard = 0
        """Answers so far."""
        self._pending: dict[int, asyncio.Future[Answer | Failure]] = {}
        self._highest = -1
        self._hello: asyncio.Future[Hello | None] = asyncio.get_running_loop().create_future()

    async def ready(self) -> None:
        """Wait for the signer's first word.

        Raises:
            SignerUnavailableError: it says another one, or none and ends.
        """
        hello = await self._hello
        if hello is None:
            raise SignerUnavailableError(f"the signer did not get ready: {self.reason}")
        if hello.form != fingerprint():
            raise SignerUnavailableError("the signer is of another version: restart the server")

    def ask(self, number: int, frame: bytes) -> "asyncio.Future[Answer | Failure]":
        """Send a request and return where its answer will be."""
        future: asyncio.Future[Answer | Failure] = asyncio.get_running_loop().create_future()
        if self.lost.is_set():
            future.set_result(self._loss(number))
            return future
        self._pending[number] = future
        self._highest = max(number, self._highest)
        self.send(frame)
        return future

    def forget(self, number: int) -> None:
        """Nobody waits for this answer any more."""
        self._pending.pop(number, None)

    def take(self, frame: Frame) -> None:
        """Hand an answer to whoever waits for it.

        Raises:
            WireError: to a question that was never asked.
        """
        answer = read_answer(frame)
        if isinstance(answer, Hello):
            if self._hello.done():
                raise WireError("a second hello")
            self._hello.set_result(answer)
            return
        if answer.number > self._highest:
            raise WireError("an answer to no question")
        self.heard += 1
        future = self._pending.pop(answer.number, None)
        if future is not None and not future.done():
            future.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let everybody who waits know."""
        super().connection_lost(exc)
        if not self._hello.done():
            self._hello.set_result(None)
        pending, self._pending = self._pending, {}
        for number, future in pending.items():
            if not future.done():
                future.set_result(self._loss(number))

    def _loss(self, number: int) -> Failure:
        return Failure(number, Trouble.SIGNER, f"the signer was lost: {self.reason}")


def _groups(encoded: Sequence[bytes]) -> Iterator[tuple[bytes, ...]]:
    """Cut records into requests of a bearable size, in order."""
    group: list[bytes] = []
    size = 0
    for one in encoded:
        if group and (size + len(one) > RECORD_MAX or len(group) == RECORDS_MAX):
            yield tuple(group)
            group, size = [], 0
        group.append(one)
        size += len(one)
    if group:
        yield tuple(group)


def _parts(answer: Answer | Failure, expected: int) -> tuple[Part, ...]:
    """Return what an answer holds, or raise what it says."""
    if isinstance(answer, Failure):
        raise _ERRORS[answer.trouble](answer.text)
    if len(answer.parts) != expected:
        raise SignerUnavailableError("the signer answered something else")
    return answer.parts


def _present(part: Part) -> bytes:
    if part is None:
        raise SignerUnavailableError("the signer left something out")
    return part


def _check_digests(digests: Sequence[bytes]) -> None:
    if any(len(digest) != DIGEST_SIZE for digest in digests):
        raise SignerRefusedError(f"a digest is of {DIGEST_SIZE} octets")


_ERRORS: Final[Mapping[Trouble, type[Exception]]] = MappingProxyType(
    {
        Trouble.SIGNER: SignerUnavailableError,
        Trouble.STAMP: TimestampUnavailableError,
        Trouble.REFUSED: SignerRefusedError,
    }
)
