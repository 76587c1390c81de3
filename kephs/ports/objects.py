"""Objects of the archive: written once, kept for twenty years, read by name and version (KEP-RT-01).

What a store gets is sealed already (`storage.objects.crypto`); digests are those of the sealed octets.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

NAME_MAX: Final = 512
_SEGMENT_MAX: Final = 200
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*)*\Z")


class ObjectError(Exception):
    """An object cannot be kept or read as asked; trying again does not help."""


class ObjectUnavailableError(ObjectError):
    """The store does not answer, is full or lets us in no more: try again later, nothing is lost."""


class ObjectDamagedError(ObjectError):
    """An object is not what its reference says, or that version is gone: quarantine it, tell somebody.

    Never come back to it as content; a copy elsewhere is the cure.
    """


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One version of one object, durable before this value exists.

    Attributes:
        name: lower-case path, `check_name`.
        version: the store's own name of this version; never empty.
        size: octets.
        sha256: of the octets as stored.
        sha512: the same; one of the two may be broken one day.
        retain_until: whole second, UTC; nobody can delete or shorten before. 1970 where a store that is
            listed no longer knows it.
    """

    name: str
    version: str
    size: int
    sha256: bytes
    sha512: bytes
    retain_until: datetime


class PointState(StrEnum):
    """How a point of the probe went."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"  # an earlier failure, or this kind of store, leaves nothing to look at


@dataclass(frozen=True, slots=True)
class ProbePoint:
    """One thing a store must do or refuse. ``number`` and ``code`` are stable."""

    number: int
    code: str
    state: PointState
    expected: str
    seen: str
    cure: str = ""
    cure_turkish: str = ""


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What a probe of a store showed."""

    store: str
    points: tuple[ProbePoint, ...]

    @property
    def failed(self) -> tuple[ProbePoint, ...]:
        """Return the points that failed."""
        return tuple(point for point in self.points if point.state is PointState.FAILED)

    @property
    def passed(self) -> bool:
        """Say whether the archive may use this store: something was looked at and nothing failed."""
        return not self.failed and any(point.state is PointState.PASSED for point in self.points)


class ObjectStore(Protocol):
    """Write-once objects under retention. There is no way to delete one."""

    async def put(self, name: str, data: bytes, retain_until: datetime) -> ObjectRef:
        """Write an object once.

        The same octets under the same name again give the same reference (a caller that was killed asks
        again); a later ``retain_until`` then extends what is there, an earlier one changes nothing. It is
        rounded up to the second.

        Raises:
            ObjectError: other octets stand under the name, or the name is none.
            ObjectUnavailableError: not now; perhaps it was written, ask again.
            ObjectDamagedError: it was there before and is damaged.
        """
        ...

    async def get(self, ref: ObjectRef) -> bytes:
        """Return that version, both digests checked.

        Raises:
            ObjectUnavailableError: not now.
            ObjectDamagedError: not what the reference says, or gone.
        """
        ...

    async def check(self, ref: ObjectRef) -> None:
        """Read that version in pieces and check both digests; nothing is kept.

        Raises:
            ObjectUnavailableError: not now.
            ObjectDamagedError: not what the reference says, or gone.
        """
        ...

    def list(self, prefix: str) -> AsyncIterator[ObjectRef]:
        """Yield every object whose name begins so, in order of names: the first version written under each.

        Asks the store alone (rebuild). Where the store lost the digests they are made from the octets.

        Raises:
            ObjectUnavailableError: not now.
        """
        ...

    async def extend(self, ref: ObjectRef, retain_until: datetime) -> ObjectRef:
        """Keep that version longer and return its new reference; the same time again changes nothing.

        Raises:
            ObjectError: it would be shorter.
            ObjectUnavailableError: not now.
            ObjectDamagedError: that version is gone.
        """
        ...

    async def probe(self, *, deep: bool = False) -> ProbeReport:
        """Prove on objects made for it that deleting, overwriting and shortening are refused.

        Args:
            deep: all points, 100 MB among them; otherwise those that a start needs.

        Raises:
            ObjectUnavailableError: not now; nothing is proved.
        """
        ...

    async def close(self) -> None:
        """Finish what runs; safe to call twice."""
        ...


def check_name(name: str) -> str:
    """Return the name of an object.

    Raises:
        ObjectError: it is none: lower-case ASCII letters, digits, ``.``, ``_``, ``-`` between slashes, no
            segment begins with a dot, at most 512 characters.
    """
    fits = len(name) <= NAME_MAX and all(len(part) <= _SEGMENT_MAX for part in name.split("/"))
    if not fits or _NAME.match(name) is None:
        raise ObjectError(f"no name of an object: {name[:80]!r}")
    return name


def whole_second(at: datetime) -> datetime:
    """Return a time rounded up to the second: stores keep no finer ones.

    Raises:
        ObjectError: it has no time zone.
    """
    if at.tzinfo is None:
        raise ObjectError("a time without a zone")
    return at if not at.microsecond else at.replace(microsecond=0) + timedelta(seconds=1)
