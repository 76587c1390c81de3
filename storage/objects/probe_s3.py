"""The points of the probe on an S3 server, by the bare client: what the port never does must be refused."""

import base64
import hashlib
import io
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from minio import Minio
from minio.commonconfig import COMPLIANCE, ENABLED, GOVERNANCE
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from minio.retention import Retention
from minio.versioningconfig import SUSPENDED, VersioningConfig

from kephs.ports.objects import whole_second
from storage.objects.probe import (
    KEPT,
    PREFIX,
    SMALL,
    Look,
    NotAsExpectedError,
    NothingToSeeError,
    large_content,
)
from storage.objects.probe_table import POINTS
from storage.objects.s3_link import GONE, PART, asking, pieces
from storage.objects.threads import digests_of

_BYPASS: Final = {"x-amz-bypass-governance-retention": "true"}
_CLOCK_OFF: Final = timedelta(minutes=1)
_DIGEST: Final = hashlib.sha512(SMALL).hexdigest()
_NOT_THERE: Final = "00000000000000000000000000000000"
_VANISHED: Final = frozenset({"NoSuchKey", "NoSuchVersion", "NoSuchBucket"})
_EMPTY_RETENTION: Final = b'<Retention xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>'

SyncLook: TypeAlias = Callable[[], str]


class S3Probe:
    """One probe of one bucket; its objects are kept for a day and then may be deleted by a lifecycle rule.

    Args:
        client: to ask.
        bucket: where.
        clock: ours.
        token: lower-case hexadecimal, another one each time.
    """

    def __init__(self, client: Minio, bucket: str, clock: Callable[[], datetime], token: str) -> None:
        self._client, self._bucket, self._clock = client, bucket, clock
        self._name = f"{PREFIX}/{token}"
        self._until = whole_second(clock()) + KEPT
        self._version = self._second = self._large = self._held = ""

    def looks(self, run: Callable[[SyncLook], Awaitable[str]]) -> dict[str, Look]:
        """Return how each point is looked at; ``run`` takes blocking work to a thread."""

        def look(code: str) -> Look:
            sync: SyncLook = getattr(self, f"_{code.replace('-', '_')}_")

            async def in_thread() -> str:
                return await run(lambda: _told(code, sync))

            return in_thread

        return {point.code: look(point.code) for point in POINTS}

    # The bucket.

    def _bucket_there_(self) -> str:
        if not self._client.bucket_exists(self._bucket):
            raise NotAsExpectedError("there is no such bucket")
        return self._bucket

    def _lock_on_(self) -> str:
        on = b">Enabled<" in self._lock()
        return _must(on, "on" if on else "off")

    def _versioning_on_(self) -> str:
        status = self._client.get_bucket_versioning(self._bucket).status
        return _must(status == ENABLED, str(status))

    def _clock_(self) -> str:
        before = self._clock()
        answer = self._raw("GET", {"versioning": ""}, name=None)
        theirs = parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
        off = max(before - theirs, theirs - self._clock())  # a second of theirs is cut off
        return _must(off <= _CLOCK_OFF, f"{max(off.total_seconds(), 0):.0f} s off")

    def _default_retention_(self) -> str:
        if b"<DefaultRetention>" not in self._lock():
            raise NotAsExpectedError("none")
        config = self._client.get_object_lock_config(self._bucket)
        return _must(config.mode == COMPLIANCE, f"{config.mode} {config.duration} {config.duration_unit}")

    # Writing and reading.

    def _put_version_(self) -> str:
        self._version = self._put(self._name, SMALL, Retention(COMPLIANCE, self._until))
        return self._version

    def _retention_kept_(self) -> str:
        return self._must_keep(self._first(), self._until)

    def _default_applied_(self) -> str:
        name = f"{self._name}-default"
        kept = self._retention(self._put(name, SMALL, None), name)
        if kept is None:
            raise NotAsExpectedError("no retention")
        return _must(kept.mode == COMPLIANCE, _text(kept))

    def _metadata_kept_(self) -> str:
        head = self._client.stat_object(self._bucket, self._name, version_id=self._first())
        seen = (head.metadata or {}).get("x-amz-meta-kephs-sha512")
        return _must(seen == _DIGEST, str(seen)[:16])

    def _read_back_(self) -> str:
        return self._must_read(self._first(), SMALL)

    def _range_read_(self) -> str:
        answer = self._client.get_object(
            self._bucket, self._name, offset=6, length=5, version_id=self._first()
        )
        try:
            seen = answer.read(len(SMALL))
        finally:
            answer.release_conn()
        return _must(seen == SMALL[6:11], f"{len(seen)} octets")

    # Deleting.

    def _delete_refused_(self) -> str:
        return self._refused(lambda: self._delete(self._first(), {}))

    def _bulk_delete_refused_(self) -> str:
        return self._bulk(bypass=False)

    def _bypass_delete_refused_(self) -> str:
        return self._refused(lambda: self._delete(self._first(), _BYPASS))

    def _bulk_bypass_refused_(self) -> str:
        return self._bulk(bypass=True)

    def _still_there_(self) -> str:
        return self._must_read(self._first(), SMALL)

    # Retention.

    def _shorten_refused_(self) -> str:
        return self._keeps(lambda: self._retain(COMPLIANCE, -timedelta(hours=1)))

    def _bypass_shorten_refused_(self) -> str:
        return self._keeps(lambda: self._retain(COMPLIANCE, -timedelta(hours=1), _BYPASS))

    def _mode_change_refused_(self) -> str:
        return self._keeps(lambda: self._retain(GOVERNANCE, timedelta(0), _BYPASS))

    def _clear_refused_(self) -> str:
        return self._keeps(lambda: self._put_retention(_EMPTY_RETENTION, _BYPASS))

    def _extend_allowed_(self) -> str:
        self._retain(COMPLIANCE, timedelta(hours=1))
        self._until += timedelta(hours=1)
        return _stamp(self._until)

    def _extend_kept_(self) -> str:
        return self._must_keep(self._first(), self._until)

    # Versions.

    def _overwrite_new_version_(self) -> str:
        self._first()
        until = Retention(COMPLIANCE, self._until)
        self._second = self._put(self._name, SMALL + b"another\n", until)
        return _must(self._second != self._version, self._second)

    def _old_version_read_(self) -> str:
        self._newer()
        return self._must_read(self._version, SMALL)

    def _old_version_locked_(self) -> str:
        self._newer()
        return self._refused(lambda: self._delete(self._version, _BYPASS))

    def _marker_hides_(self) -> str:
        self._first()
        self._client.remove_object(self._bucket, self._name)
        try:
            self._client.stat_object(self._bucket, self._name)
        except S3Error as error:
            return _must(error.code in GONE, str(error.code))
        raise NotAsExpectedError("is still seen")

    def _marked_version_read_(self) -> str:
        return self._must_read(self._first(), SMALL)

    def _versions_listed_(self) -> str:
        self._newer()
        listed = list(
            self._client.list_objects(self._bucket, prefix=self._name, recursive=True, include_version=True)
        )
        own = [one for one in listed if one.object_name == self._name]
        real = {one.version_id for one in own if not one.is_delete_marker}
        markers = sum(one.is_delete_marker for one in own)
        fits = real == {self._version, self._second} and markers == 1
        return _must(fits, f"{len(real)} versions, {markers} markers")

    def _wrong_version_refused_(self) -> str:
        self._first()
        try:
            self._must_read(_NOT_THERE, SMALL)
        except S3Error as error:
            return f"refused: {error.code}"
        raise NotAsExpectedError("answered")

    # Retention that is none, and holds.

    def _past_refused_(self) -> str:
        past = Retention(COMPLIANCE, self._until - 3 * KEPT)
        return self._refused(lambda: self._put(f"{self._name}-past", SMALL, past))

    def _half_lock_refused_(self) -> str:
        headers = {"x-amz-object-lock-retain-until-date": _stamp(self._until)}
        return self._refused(lambda: self._put(f"{self._name}-half", SMALL, None, headers))

    def _hold_set_(self) -> str:
        name = f"{self._name}-held"
        self._held = self._put(name, SMALL, Retention(GOVERNANCE, self._until))
        self._client.enable_object_legal_hold(self._bucket, name, self._held)
        held = self._client.is_object_legal_hold_enabled(self._bucket, name, self._held)
        return _must(held, f"hold {'on' if held else 'off'}")

    def _hold_blocks_(self) -> str:
        version = self._holding()
        return self._refused(lambda: self._delete(version, _BYPASS, f"{self._name}-held"))

    def _hold_cleared_(self) -> str:
        name, version = f"{self._name}-held", self._holding()
        self._client.disable_object_legal_hold(self._bucket, name, version)
        held = self._client.is_object_legal_hold_enabled(self._bucket, name, version)
        kept = self._retention(version, name)
        return _must(not held and kept is not None, f"hold {'on' if held else 'off'}, {_text(kept)}")

    # What is large, and the bucket's own switch.

    def _multipart_(self) -> str:
        content = large_content()
        name = f"{self._name}-large"
        self._large = self._put(name, content, Retention(COMPLIANCE, self._until))
        return self._must_read(self._large, content, name)

    def _multipart_locked_(self) -> str:
        if not self._large:
            raise NothingToSeeError("nothing came in parts")
        return self._refused(lambda: self._delete(self._large, _BYPASS, f"{self._name}-large"))

    def _suspend_refused_(self) -> str:
        try:
            self._client.set_bucket_versioning(self._bucket, VersioningConfig(SUSPENDED))
        except S3Error as error:
            return f"refused: {error.code}"
        self._client.set_bucket_versioning(self._bucket, VersioningConfig(ENABLED))
        raise NotAsExpectedError("was done (and taken back)")

    # What the points share.

    def _first(self) -> str:
        if not self._version:
            raise NothingToSeeError("nothing could be written")
        return self._version

    def _newer(self) -> str:
        if not self._second or self._second == self._first():
            raise NothingToSeeError("no second version was made")
        return self._second

    def _holding(self) -> str:
        if not self._held:
            raise NothingToSeeError("no hold could be set")
        return self._held

    def _put(
        self, name: str, data: bytes, retention: Retention | None, headers: dict[str, str] | None = None
    ) -> str:
        digest = {"kephs-sha512": hashlib.sha512(data).hexdigest()}
        written = self._client.put_object(
            self._bucket, name, io.BytesIO(data), len(data),
            metadata={**digest, **(headers or {})}, part_size=PART, retention=retention,
        )  # fmt: skip
        version = written.version_id or ""
        if version in {"", "null"}:
            raise NotAsExpectedError("written without a version")
        return version

    def _must_read(self, version: str, content: bytes, name: str = "") -> str:
        read = pieces(self._client, self._bucket, name or self._name, version, len(content), _no_limit)
        seen, wanted = digests_of(read), digests_of([content])
        return _must(seen == wanted, f"{seen.size} octets, SHA-512 {seen.sha512.hex()[:16]}")

    def _retention(self, version: str, name: str = "") -> Retention | None:
        return self._client.get_object_retention(self._bucket, name or self._name, version)

    def _must_keep(self, version: str, until: datetime) -> str:
        kept = self._retention(version)
        fits = kept is not None and kept.mode == COMPLIANCE and kept.retain_until_date >= until
        return _must(fits, _text(kept))

    def _keeps(self, change: Callable[[], object]) -> str:
        """Try to weaken the retention; what counts is that it stays."""
        version = self._first()
        try:
            seen = self._refused(change)
        except NotAsExpectedError:
            seen = "answered as if done"
        return f"{seen}; {self._must_keep(version, self._until)}"

    def _retain(self, mode: str, more: timedelta, headers: dict[str, str] | None = None) -> None:
        self._put_retention(
            f"<Retention><Mode>{mode}</Mode>"
            f"<RetainUntilDate>{_stamp(self._until + more)}</RetainUntilDate></Retention>".encode(),
            headers,
        )

    def _put_retention(self, body: bytes, headers: dict[str, str] | None) -> None:
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        query = {"retention": "", "versionId": self._first()}
        self._raw("PUT", query, body=body, headers={"Content-MD5": digest, **(headers or {})})

    def _delete(self, version: str, headers: dict[str, str], name: str = "") -> None:
        self._raw("DELETE", {"versionId": version}, headers=dict(headers), name=name or self._name)

    def _bulk(self, *, bypass: bool) -> str:
        wanted = [DeleteObject(self._name, self._first())]
        errors = list(self._client.remove_objects(self._bucket, wanted, bypass_governance_mode=bypass))
        return _must(bool(errors), f"refused: {errors[0].code}" if errors else "was done")

    def _refused(self, work: Callable[[], object]) -> str:
        try:
            work()
        except S3Error as error:
            if _later(error):
                raise
            return _must(error.code not in _VANISHED, f"refused: {error.code}")
        raise NotAsExpectedError("was done")

    def _lock(self) -> bytes:
        answer: bytes = self._raw("GET", {"object-lock": ""}, name=None).data
        return answer

    def _raw(
        self,
        method: str,
        query: dict[str, str],
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        name: str | None = "",
    ) -> Any:
        """Send what the client has no word for: bypass headers, an empty retention."""
        name = self._name if name == "" else name
        return self._client._execute(  # noqa: SLF001  # the client's words end before ours
            method, self._bucket, name, body=body, headers=dict(headers or {}), query_params=dict(query)
        )


def _told(code: str, look: SyncLook) -> str:
    """Look at one point; an error the server answers with is what was seen, anything else ends the probe."""
    with asking(f"probe {code}"):
        try:
            return look()
        except S3Error as error:
            if _later(error):
                raise
            raise NotAsExpectedError(f"{error.code}: {error.message}"[:200]) from error


def _later(error: S3Error) -> bool:
    status = error.response.status if error.response is not None else 0
    return status in {0, 429} or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _must(fits: bool, seen: str) -> str:  # noqa: FBT001  # reads as a sentence
    if not fits:
        raise NotAsExpectedError(seen)
    return seen


def _no_limit() -> None:
    """Let a probe take its time: its caller waits no longer than it likes."""


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(kept: Retention | None) -> str:
    return "no retention" if kept is None else f"{kept.mode} until {_stamp(kept.retain_until_date)}"
