"""Ports that count what passes through them. They change nothing else; who counts is the `Meter`'s business.

Apart from `kephs.observability.metrics`: commands which open an instance need not load the metrics library.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

import structlog

from directory.providers import Peer
from evidence.asn1.der import DerError
from evidence.model.records import EvidenceKind, EvidenceRecord, Profile, SealedEvidence
from evidence.ports import Sealing, Stamping, TimestampUnavailableError
from evidence.stamps.ers import ErsError, split_record
from evidence.stamps.timestamps import read_token
from kephs.domain.relay import Handed, Letter, NotHanded
from kephs.ports import Clock, Courier

log = structlog.get_logger()

T = TypeVar("T")
Timer = Callable[[], float]
_HALF_SECOND: Final = timedelta(milliseconds=500)
_CLOCK_EVERY: Final = timedelta(seconds=10)  # reading a token costs more than its news is worth each time


class Meter(Protocol):
    """Who counts."""

    def sealed(self, kinds: Sequence[EvidenceKind], seconds: float) -> None:
        """Note evidence that was signed and stamped together."""
        ...

    def signed(self, seconds: float) -> None:
        """Note a KEP message that was signed and stamped."""
        ...

    def not_stamped(self) -> None:
        """Note that no authority gave a time stamp."""
        ...

    def clock_offset(self, seconds: float) -> None:
        """Note how far our clock is ahead of the time-stamping authority's."""
        ...

    def handed(self, peer: str, seconds: float) -> None:
        """Note a message that a peer took."""
        ...

    def not_handed(self, peer: str, trouble: str) -> None:
        """Note a message that a peer did not take, and the stable code of why."""
        ...


class MeteredSealing:
    """A `Sealing` whose work is timed, and whose time stamps are compared with our clock."""

    def __init__(
        self, inner: Sealing, meter: Meter, clock: Clock, *, timer: Timer = time.perf_counter
    ) -> None:
        self._inner, self._meter, self._clock, self._timer = inner, meter, clock, timer
        self._compared: datetime | None = None

    async def seal_many(
        self,
        records: Sequence[EvidenceRecord],
        *,
        profile: Profile = Profile.KEP,
        stamping: Stamping | None = None,
    ) -> list[SealedEvidence]:
        """Seal and count; see `Sealing.seal_many`."""
        began, before = self._timer(), self._clock.now()
        sealed = await self._counted(self._inner.seal_many(records, profile=profile, stamping=stamping))
        if sealed:
            self._meter.sealed([one.record.kind for one in sealed], self._timer() - began)
            if not all(one.stamped for one in sealed):  # let out in the grace (D16): still an alarm
                self._meter.not_stamped()
                log.warning("stamp.unavailable", cause="released unstamped, the record follows")
            if sealed[0].ers is not None:
                self._compare(sealed[0].ers, before, self._clock.now())
        return sealed

    async def records(self, leaves: Sequence[bytes]) -> list[bytes]:
        """Stamp; see `Sealing.records`."""
        return await self._counted(self._inner.records(leaves))

    async def sign_entity(self, digest: bytes, at: datetime) -> bytes:
        """Sign and count; see `Sealing.sign_entity`."""
        (signature,) = await self.sign_entities((digest,), at)
        return signature

    async def sign_entities(self, digests: Sequence[bytes], at: datetime) -> list[bytes]:
        """Sign and count; see `Sealing.sign_entities`."""
        began = self._timer()
        signatures = await self._counted(self._inner.sign_entities(digests, at))
        seconds = self._timer() - began
        for _ in signatures:
            self._meter.signed(seconds)
        return signatures

    async def _counted(self, work: Awaitable[T]) -> T:
        """Count and log what cannot be stamped."""
        try:
            return await work
        except TimestampUnavailableError as error:
            self._meter.not_stamped()
            log.warning("stamp.unavailable", cause=str(error))
            raise

    def _compare(self, ers: bytes, before: datetime, after: datetime) -> None:
        """Compare the authority's time with the middle of the time it had for its answer."""
        if self._compared is not None and after - self._compared < _CLOCK_EVERY:
            return
        self._compared = after
        try:
            gen_time = read_token(split_record(ers)[1]).info.gen_time
        except (DerError, ErsError):  # who made it has checked it; a figure is not worth a failure
            return
        if not gen_time.microsecond:  # most likely told to the second: the middle of it is the best guess
            gen_time += _HALF_SECOND
        self._meter.clock_offset((before + (after - before) / 2 - gen_time).total_seconds())


class MeteredCourier:
    """A `Courier` whose outcomes are counted and logged."""

    def __init__(self, inner: Courier, meter: Meter, *, timer: Timer = time.perf_counter) -> None:
        self._inner, self._meter, self._timer = inner, meter, timer

    async def hand_over(self, peer: Peer, letter: Letter) -> Handed | NotHanded:
        """Hand over and count; see `Courier.hand_over`."""
        began = self._timer()
        outcome = await self._inner.hand_over(peer, letter)
        seconds = self._timer() - began
        size = letter.content.size
        if isinstance(outcome, Handed):
            self._meter.handed(peer.domain, seconds)
            log.info("relay.handed", peer=peer.domain, size=size, seconds=round(seconds, 3))
        else:
            trouble = outcome.trouble.value
            self._meter.not_handed(peer.domain, trouble)
            log.warning(
                "relay.not_handed", peer=peer.domain, size=size, seconds=round(seconds, 3),
                trouble=trouble, detail=outcome.detail,
            )  # fmt: skip
        return outcome
