"""Objects of the archive in a bucket with object lock, every one under COMPLIANCE retention.

The octets lie under their name; ``x-amz-meta-kephs-sha256`` and ``-sha512`` hold the digests. A name is
written once by us; should somebody write it again, that is another version, and the first one counts.
"""

import asyncio
import io
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import Final, ParamSpec, TypeVar

from minio.commonconfig import COMPLIANCE
from minio.datatypes import Object
from minio.error import S3Error
from minio.retention import Retention

from kephs.ports.objects import (
    ObjectError,
    ObjectRef,
    ObjectUnavailableError,
    ProbeReport,
    check_name,
    whole_second,
)
from storage.objects.folders import UNKNOWN, Digests
from storage.objects.probe import run_points
from storage.objects.probe_s3 import S3Probe
from storage.objects.s3_link import GONE, NO_RETENTION, PART, S3Place, asking, open_client, pieces
from storage.objects.threads import ObjectThreads, digests_of

P = ParamSpec("P")
T = TypeVar("T")

_SLOWEST: Final = 500_000  # octets a second; a server that is slower is as good as silent
_CALLS: Final = 4  # requests of one piece of work, beside its content
_PAGE: Final = 100
_META: Final = "x-amz-meta-kephs-"
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")  # headers may come cut short: nothing shorter counts
_SHA512: Final = re.compile(r"[0-9a-f]{128}\Z")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z\Z")
_NO_VERSION: Final = frozenset({"", "null", None})
_MODE: Final = "x-amz-object-lock-mode"
_UNTIL: Final = "x-amz-object-lock-retain-until-date"


class S3ObjectStore:
    """`kephs.ports.objects.ObjectStore` on an S3 server with object lock.

    Args:
        place: bucket and key.
        clock: dates the objects of a probe, and is compared with the server's.
        random: names the objects of a probe: so many octets as hexadecimal digits.

    Raises:
        ObjectUnavailableError: place or authorities cannot be used.
    """

    def __init__(
        self, place: S3Place, *, clock: Callable[[], datetime], random: Callable[[int], str]
    ) -> None:
        self._place = place
        self._clock = clock
        self._random = random
        self._threads = ObjectThreads(place.threads)
        self._client, self._connections = open_client(place)

    async def put(self, name: str, data: bytes, retain_until: datetime) -> ObjectRef:
        """Write an object once (`ObjectStore.put`)."""
        check_name(name)
        until = whole_second(retain_until)
        digests = self._threads.digests(data)
        return await self._run(len(data), self._put, name, data, until, digests)

    async def get(self, ref: ObjectRef) -> bytes:
        """Return that version (`ObjectStore.get`)."""
        return await self._run(ref.size, self._get, ref)

    async def check(self, ref: ObjectRef) -> None:
        """Read that version in pieces (`ObjectStore.check`)."""
        await self._run(ref.size, self._check, ref)

    async def list(self, prefix: str) -> AsyncIterator[ObjectRef]:
        """Yield the first version under every name that begins so (`ObjectStore.list`)."""
        names = self._first_versions(prefix)
        while page := await self._run(0, lambda: list(islice(names, _PAGE))):
            looks = (self._run(version.size or 0, self._look, version) for version in page)
            for seen in await asyncio.gather(*looks, return_exceptions=True):
                if isinstance(seen, BaseException):
                    raise seen
                yield seen

    async def extend(self, ref: ObjectRef, retain_until: datetime) -> ObjectRef:
        """Keep that version longer (`ObjectStore.extend`)."""
        return await self._run(0, self._extend, ref, whole_second(retain_until))

    async def probe(self, *, deep: bool = False) -> ProbeReport:
        """Prove what the bucket refuses (`ObjectStore.probe`, `storage.objects.probe_s3`)."""
        probe = S3Probe(self._client, self._place.bucket, self._clock, self._random(8))
        looks = probe.looks(self._threads.run)
        return await run_points(str(self._place), looks, deep=deep)

    async def close(self) -> None:
        """Finish what runs; safe to call twice."""
        await self._threads.close()
        self._connections.clear()

    async def _run(self, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            async with asyncio.timeout(self._longest(size)):
                return await self._threads.run(work, *args, **kwargs)
        except TimeoutError:
            raise ObjectUnavailableError(f"{self._place}: no end in sight") from None

    def _longest(self, size: int) -> float:
        return _CALLS * self._place.seconds + size / _SLOWEST

    # Everything below runs in the threads.

    def _put(self, name: str, data: bytes, until: datetime, digests: Callable[[], Digests]) -> ObjectRef:
        with asking(f"put {name}"):
            first = next(self._first_versions(name), None)
            made = digests()
            if first is not None and first.object_name == name:
                return self._again(first, made, until)
            written = self._client.put_object(
                self._place.bucket,
                name,
                io.BytesIO(data),
                len(data),
                metadata={"kephs-sha256": made.sha256.hex(), "kephs-sha512": made.sha512.hex()},
                part_size=PART,
                num_parallel_uploads=self._place.threads,
                retention=Retention(COMPLIANCE, until),
            )
            return self._written(name, written.version_id or "", made, until)

    def _written(self, name: str, version: str, made: Digests, until: datetime) -> ObjectRef:
        """Return the reference of what was written, where the server says that it is kept as asked."""
        head = self._head_if_there(name, version)
        if head.get("content-length") == str(made.size):
            kept = self._retention(name, version, head)
            if kept is None or kept < until:
                raise ObjectError(f"{name}: the server does not keep it under COMPLIANCE as long as asked")
            return made.ref(name, version, kept)
        first = next(self._first_versions(name), None)  # headers may have come cut short
        if first is None or first.object_name != name:
            raise ObjectUnavailableError(f"{name}: is not seen yet")
        if first.version_id in _NO_VERSION:
            raise ObjectError(f"{self._place}: versioning is off, what was written is not safe")
        return self._again(first, made, until)

    def _again(self, first: Object, made: Digests, until: datetime) -> ObjectRef:
        """Return the reference of what is there, where it is the same and whole."""
        ref = self._look(first)
        if (ref.size, ref.sha256, ref.sha512) != (made.size, made.sha256, made.sha512):
            raise ObjectError(f"{ref.name}: other octets stand under this name")
        self._check(ref)
        return ref if ref.retain_until >= until else self._extend(ref, until)

    def _get(self, ref: ObjectRef) -> bytes:
        kept = bytearray()
        with asking(f"get {ref.name}"):
            for piece in self._pieces(ref.name, ref.version, ref.size):
                kept += piece
        data = bytes(kept)
        self._threads.digests(data)().check(ref)
        return data

    def _check(self, ref: ObjectRef) -> None:
        with asking(f"check {ref.name}"):
            made = digests_of(self._pieces(ref.name, ref.version, ref.size))
        made.check(ref)

    def _extend(self, ref: ObjectRef, until: datetime) -> ObjectRef:
        with asking(f"extend {ref.name}"):
            kept = self._retention(ref.name, ref.version, self._head(ref.name, ref.version))
            if kept is not None and until < kept:
                raise ObjectError(f"{ref.name}: is kept longer already, nobody can shorten that")
            if kept is None or until > kept:
                wanted = Retention(COMPLIANCE, until)
                self._client.set_object_retention(self._place.bucket, ref.name, wanted, ref.version)
                kept = self._retention(ref.name, ref.version, self._head(ref.name, ref.version))
            if kept != until:
                raise ObjectError(f"{ref.name}: the server does not keep the retention it was told")
        return replace(ref, retain_until=until)

    def _look(self, version: Object) -> ObjectRef:
        """Return the reference of a listed version."""
        name, number = version.object_name or "", version.version_id or "null"
        with asking(f"look at {name}"):
            head = self._head(name, number)
            kept = self._retention(name, number, head) or UNKNOWN
            size = version.size or 0
            sha256, sha512 = (head.get(f"{_META}{one}", "") for one in ("sha256", "sha512"))
            if _SHA256.match(sha256) and _SHA512.match(sha512):
                made = Digests(size, bytes.fromhex(sha256), bytes.fromhex(sha512))
            else:
                made = digests_of(self._pieces(name, number, size))
        return made.ref(name, number, kept)

    def _first_versions(self, prefix: str) -> Iterator[Object]:
        """Yield the oldest version under each name, in order of names; markers do not count."""
        listed = self._client.list_objects(
            self._place.bucket, prefix=prefix, recursive=True, include_version=True
        )
        with asking(f"list {prefix}"):
            for name, versions in groupby(listed, key=lambda one: one.object_name):
                real = [one for one in versions if not one.is_delete_marker]
                if real and name and not name.endswith("/"):
                    yield min(reversed(real), key=lambda one: one.last_modified or UNKNOWN)

    def _head_if_there(self, name: str, version: str) -> dict[str, str]:
        """Return the head of a version, empty where there is none."""
        try:
            return {} if version in _NO_VERSION else self._head(name, version)
        except S3Error as error:
            if error.code not in GONE:
                raise
            return {}

    def _head(self, name: str, version: str) -> dict[str, str]:
        head = self._client.stat_object(self._place.bucket, name, version_id=version)
        return {key.lower(): value for key, value in (head.metadata or {}).items()}

    def _retention(self, name: str, version: str, head: dict[str, str]) -> datetime | None:
        """Return until when a version is kept under COMPLIANCE; asked for where its head is silent."""
        if head.get(_MODE) == COMPLIANCE and _TIME.match(head.get(_UNTIL, "")):
            return datetime.fromisoformat(head[_UNTIL]).astimezone(UTC)
        try:
            found = self._client.get_object_retention(self._place.bucket, name, version)
        except S3Error as error:
            if error.code not in NO_RETENTION:
                raise
            return None
        if found is None or found.mode != COMPLIANCE:
            return None
        return found.retain_until_date

    def _pieces(self, name: str, version: str, size: int) -> Iterator[bytes]:
        end = time.monotonic() + self._longest(size)

        def in_time() -> None:
            if time.monotonic() > end:
                raise ObjectUnavailableError(f"{name}: comes too slowly")

        return pieces(self._client, self._place.bucket, name, version, size, in_time)
