"""Named moments at which a fault test kills the process. Wired by bootstrap, and only when asked for.

Syntax: ``point`` or ``point:n`` (the n-th time it is reached). Points:

=====================  ==========================================================================
store.write.before     before a unit of work is handed to the writer
store.write.after      after its commit, before the use case goes on (between commit and reply)
blobs.keep.before      before large content, a peer's message or a mailbox's is made durable
blobs.keep.after       after it, before anything names it
blobs.put.after        after small content, evidence, receipts or small KEP messages are durable, before
                       anything names them
seal.before            before evidence is signed
seal.after             after it, before it is stored
relay.before           before a message or receipt is handed to a peer
relay.after            after the peer's 250, before it is noted
receive.before         before what a peer handed over is looked at
objects.put.before     before an object of the archive is written
objects.put.after      after it is durable, before any row names it
receive.after          after it was decided (and is durable if taken), before the peer hears the answer
=====================  ==========================================================================
"""

import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Final, TypeVar

from directory.providers import Peer
from evidence.model.records import EvidenceRecord, Profile, SealedEvidence
from evidence.ports import ByteSource, Sealing, Stamping
from kephs.domain.relay import Handed, Letter, NotHanded
from kephs.ports import Blob, BlobStore, Courier, Spool, Store, Tx
from kephs.ports.objects import ObjectRef, ObjectStore, ProbeReport
from kephs.usecases.relay.receive import Receive
from kephs.usecases.submission.results import Arriving, Refused, Taken

T = TypeVar("T")

POINTS: Final = (
    "store.write.before", "store.write.after", "blobs.keep.before", "blobs.keep.after",
    "blobs.put.after", "seal.before", "seal.after",
    "relay.before", "relay.after", "receive.before", "receive.after",
    "objects.put.before", "objects.put.after",
)  # fmt: skip


class Failpoint:
    """Kills this process with SIGKILL when its point is reached the n-th time."""

    def __init__(self, wanted: str) -> None:
        """Parse ``point[:n]``.

        Raises:
            ValueError: no such point.
        """
        name, _, count = wanted.partition(":")
        if name not in POINTS:
            raise ValueError(f"no failpoint {name!r}; there are {', '.join(POINTS)}")
        self._name, self._left = name, int(count or "1")

    def reach(self, name: str) -> None:
        """Die here if this is the moment."""
        if name == self._name:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


class FailingStore:
    """A store that may die around its writes."""

    def __init__(self, store: Store, point: Failpoint) -> None:
        self._store, self._point = store, point

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Write; perhaps die before or after."""
        self._point.reach("store.write.before")
        result = await self._store.write(work)
        self._point.reach("store.write.after")
        return result

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Read; nothing dies here."""
        return await self._store.read(work)


class FailingBlobs:
    """A blob store that may die around its syncs."""

    def __init__(self, blobs: BlobStore, point: Failpoint) -> None:
        self._blobs, self._point = blobs, point

    def spool(self) -> Spool:
        """Return an empty spool."""
        return self._blobs.spool()

    async def keep(self, spool: Spool) -> Blob:
        """Keep; perhaps die before or after."""
        self._point.reach("blobs.keep.before")
        blob = await self._blobs.keep(spool)
        self._point.reach("blobs.keep.after")
        return blob

    async def put(self, data: bytes) -> Blob:
        """Put; perhaps die after."""
        return (await self.put_many([data]))[0]

    async def put_many(self, contents: Sequence[bytes]) -> list[Blob]:
        """Put; perhaps die after."""
        blobs = await self._blobs.put_many(contents)
        self._point.reach("blobs.put.after")
        return blobs

    async def erase(self, blob: Blob) -> None:
        """Erase; nothing dies here."""
        await self._blobs.erase(blob)

    def open(self, blob: Blob) -> ByteSource:
        """Open; nothing dies here."""
        return self._blobs.open(blob)


class FailingSealing:
    """A sealer that may die around signing."""

    def __init__(self, inner: Sealing, point: Failpoint) -> None:
        self._inner, self._point = inner, point

    async def seal_many(
        self,
        records: Sequence[EvidenceRecord],
        *,
        profile: Profile = Profile.KEP,
        stamping: Stamping | None = None,
    ) -> list[SealedEvidence]:
        """Seal; perhaps die before or after."""
        self._point.reach("seal.before")
        sealed = await self._inner.seal_many(records, profile=profile, stamping=stamping)
        self._point.reach("seal.after")
        return sealed

    async def records(self, leaves: Sequence[bytes]) -> list[bytes]:
        """Stamp; nothing dies here."""
        return await self._inner.records(leaves)

    async def sign_entity(self, digest: bytes, at: datetime) -> bytes:
        """Sign; nothing dies here."""
        return await self._inner.sign_entity(digest, at)

    async def sign_entities(self, digests: Sequence[bytes], at: datetime) -> list[bytes]:
        """Sign several; nothing dies here."""
        return await self._inner.sign_entities(digests, at)


class FailingCourier:
    """A courier; the process may die before or after a hand-over."""

    def __init__(self, courier: Courier, point: Failpoint) -> None:
        self._courier, self._point = courier, point

    async def hand_over(self, peer: Peer, letter: Letter) -> Handed | NotHanded:
        """Hand over; perhaps die before, or after the peer's 250."""
        self._point.reach("relay.before")
        outcome = await self._courier.hand_over(peer, letter)
        if isinstance(outcome, Handed):
            self._point.reach("relay.after")
        return outcome


class FailingReceive:
    """The inbound use case; the process may die before or after its decision."""

    def __init__(self, receive: Receive, point: Failpoint) -> None:
        self._receive, self._point = receive, point

    async def receive(self, arriving: Arriving) -> Taken | Refused:
        """Take or refuse; perhaps die before or after."""
        self._point.reach("receive.before")
        outcome = await self._receive.receive(arriving)
        self._point.reach("receive.after")
        return outcome


class FailingObjects:
    """An object store; the process may die around its writes."""

    def __init__(self, inner: ObjectStore, point: Failpoint) -> None:
        self._inner, self._point = inner, point

    async def put(self, name: str, data: bytes, retain_until: datetime) -> ObjectRef:
        """Put; perhaps die before or after."""
        self._point.reach("objects.put.before")
        ref = await self._inner.put(name, data, retain_until)
        self._point.reach("objects.put.after")
        return ref

    async def get(self, ref: ObjectRef) -> bytes:
        """Get; nothing dies here."""
        return await self._inner.get(ref)

    async def check(self, ref: ObjectRef) -> None:
        """Check; nothing dies here."""
        await self._inner.check(ref)

    async def list(self, prefix: str) -> AsyncIterator[ObjectRef]:
        """List; nothing dies here."""
        async for ref in self._inner.list(prefix):
            yield ref

    async def extend(self, ref: ObjectRef, retain_until: datetime) -> ObjectRef:
        """Extend; nothing dies here."""
        return await self._inner.extend(ref, retain_until)

    async def probe(self, *, deep: bool = False) -> ProbeReport:
        """Probe; nothing dies here."""
        return await self._inner.probe(deep=deep)

    async def close(self) -> None:
        """Close."""
        await self._inner.close()


def failing_objects(point: Failpoint | None, objects: ObjectStore) -> ObjectStore:
    """Return the object store, failing where a point is given."""
    return objects if point is None else FailingObjects(objects, point)


def failing_courier(point: Failpoint | None, courier: Courier) -> Courier:
    """Return the courier, failing where a point is given."""
    return courier if point is None else FailingCourier(courier, point)


def failing_receive(point: Failpoint | None, receive: Receive) -> Receive | FailingReceive:
    """Return the use case, failing where a point is given."""
    return receive if point is None else FailingReceive(receive, point)
