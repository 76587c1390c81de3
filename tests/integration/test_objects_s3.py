"""A real S3 server with object lock: what the bucket refuses, and what happens when it is the wrong one."""

import io
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from minio.commonconfig import ENABLED, GOVERNANCE
from minio.error import S3Error
from minio.retention import Retention
from minio.versioningconfig import SUSPENDED, VersioningConfig

from kephs.ports.objects import ObjectDamagedError, ObjectError, ObjectUnavailableError, PointState
from storage.objects.folders import UNKNOWN
from storage.objects.probe_table import POINTS
from storage.objects.s3 import S3ObjectStore
from tests.support import seaweed
from tests.support.objects import wall_clock

UNTIL = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
NAME = "delil/2026/a.kepa"
DATA = b"sealed octets\n" * 1000
Opener = Callable[..., S3ObjectStore]


@pytest.fixture
async def opened() -> AsyncIterator[Opener]:
    stores: list[S3ObjectStore] = []

    def open_store(
        bucket: str, key: str = seaweed.ARCHIVE, clock: Callable[[], datetime] = wall_clock
    ) -> S3ObjectStore:
        stores.append(
            S3ObjectStore(seaweed.running().place(bucket, key), clock=clock, random=secrets.token_hex)
        )
        return stores[-1]

    yield open_store
    for store in stores:
        await store.close()


@pytest.mark.slow
@pytest.mark.parametrize("key", [seaweed.OWNER, seaweed.ARCHIVE])
async def test_all_37_points_pass_with_every_right_and_with_the_documented_ones(
    opened: Opener, key: str
) -> None:
    report = await opened(seaweed.running().bucket(), key).probe(deep=True)
    assert [point.number for point in report.points] == list(range(1, 38))
    assert {point.state for point in report.points} == {PointState.PASSED}, report.failed
    assert report.passed


def test_points_have_numbers_codes_and_both_languages() -> None:
    assert [point.number for point in POINTS] == list(range(1, 38))
    assert len({point.code for point in POINTS}) == 37
    assert all(point.expected and point.cure and point.cure_turkish for point in POINTS)
    page = (Path(__file__).parents[2] / "docs" / "archive.md").read_text("utf-8")
    for point in POINTS:
        assert f"| {point.number}{'*' if point.short else ''} | `{point.code}` | {point.expected} |" in page


async def test_the_program_s_key_can_do_nothing_that_weakens(opened: Opener) -> None:
    server = seaweed.running()
    bucket = server.bucket()
    ref = await opened(bucket).put(NAME, DATA, UNTIL)
    ours = server.client(seaweed.ARCHIVE)
    works: list[Callable[[], object]] = [
        lambda: ours.remove_object(bucket, NAME, version_id=ref.version),
        lambda: ours.remove_object(bucket, NAME),
        lambda: ours.set_object_retention(bucket, NAME, Retention(GOVERNANCE, UNTIL), ref.version),
        lambda: ours.set_bucket_versioning(bucket, VersioningConfig(SUSPENDED)),
        lambda: ours.delete_object_lock_config(bucket),
        lambda: ours.remove_bucket(bucket),
        lambda: ours.make_bucket("kephs-another", object_lock=True),
    ]
    for work in works:
        with pytest.raises(S3Error):
            work()


async def test_without_default_retention_the_deep_probe_says_so_and_the_short_one_passes(
    opened: Opener,
) -> None:
    store = opened(seaweed.running().bucket(default=False))
    assert (await store.probe()).passed
    failed = {point.code for point in (await store.probe(deep=True)).failed}
    assert failed == {"default-retention", "default-applied"}


async def test_a_bucket_without_lock_is_never_used(opened: Opener) -> None:
    store = opened(seaweed.running().bucket(lock=False))
    report = await store.probe()
    assert {"lock-on", "versioning-on", "put-version"} == {point.code for point in report.failed}
    assert all(point.cure and point.cure_turkish for point in report.failed)
    with pytest.raises(ObjectError) as refused:
        await store.put(NAME, DATA, UNTIL)
    assert not isinstance(refused.value, ObjectUnavailableError)


@pytest.mark.parametrize("status", [ENABLED, SUSPENDED])
async def test_versions_without_lock_and_suspended_versions_are_never_used(
    opened: Opener, status: str
) -> None:
    server = seaweed.running()
    bucket = server.bucket(lock=False)
    server.client().set_bucket_versioning(bucket, VersioningConfig(ENABLED))
    server.client().set_bucket_versioning(bucket, VersioningConfig(status))
    store = opened(bucket, seaweed.OWNER)
    report = await store.probe(deep=True)
    assert not report.passed
    assert ("versioning-on" in {point.code for point in report.failed}) is (status == SUSPENDED)
    with pytest.raises(ObjectError):
        await store.put(NAME, DATA, UNTIL)


async def test_a_clock_back_by_a_year_fails_the_probe(opened: Opener) -> None:
    store = opened(seaweed.running().bucket(), clock=lambda: wall_clock() - timedelta(days=365))
    report = await store.probe()
    assert {"clock", "put-version"} <= {point.code for point in report.failed}
    with pytest.raises(ObjectError):
        await store.put(NAME, DATA, wall_clock() - timedelta(days=365))  # a retention that is over


async def test_a_version_that_is_gone_is_damage(opened: Opener) -> None:
    server = seaweed.running()
    bucket = server.bucket(default=False)
    store = opened(bucket)
    ref = await store.put(NAME, DATA, UNTIL)
    # Nobody can remove a locked version, so the lost one is one that was never locked.
    loose = server.client().put_object(bucket, NAME, io.BytesIO(b"x"), 1)
    server.client().remove_object(bucket, NAME, version_id=loose.version_id)
    gone = type(ref)(NAME, str(loose.version_id), ref.size, ref.sha256, ref.sha512, ref.retain_until)
    for work in (store.get(gone), store.check(gone), store.extend(gone, UNTIL + timedelta(days=1))):
        with pytest.raises(ObjectDamagedError):
            await work
    assert await store.get(ref) == DATA


async def test_a_swapped_version_is_damage_and_the_first_one_stays_the_object(opened: Opener) -> None:
    server = seaweed.running()
    bucket = server.bucket()
    store = opened(bucket)
    ref = await store.put(NAME, DATA, UNTIL)
    evil = server.client().put_object(
        bucket, NAME, io.BytesIO(DATA[::-1]), len(DATA),
        metadata={"kephs-sha256": ref.sha256.hex(), "kephs-sha512": ref.sha512.hex()},
    )  # fmt: skip
    swapped = type(ref)(NAME, str(evil.version_id), ref.size, ref.sha256, ref.sha512, ref.retain_until)
    for work in (store.get(swapped), store.check(swapped)):
        with pytest.raises(ObjectDamagedError):
            await work
    assert [one async for one in store.list("")] == [ref]
    assert await store.put(NAME, DATA, UNTIL) == ref
    assert await store.get(ref) == DATA


async def test_a_hidden_object_is_found_by_listing_and_by_putting_it_again(opened: Opener) -> None:
    server = seaweed.running()
    bucket = server.bucket()
    store = opened(bucket)
    ref = await store.put(NAME, DATA, UNTIL)
    server.client().remove_object(bucket, NAME)
    assert [one async for one in store.list("")] == [ref]
    assert await store.put(NAME, DATA, UNTIL) == ref
    with pytest.raises(ObjectError):
        await store.put(NAME, b"others", UNTIL)
    assert await store.get(ref) == DATA


async def test_objects_that_came_without_our_metadata_are_listed_by_their_octets(opened: Opener) -> None:
    server = seaweed.running()
    bucket = server.bucket(default=False)
    store = opened(bucket)
    server.client().put_object(bucket, NAME, io.BytesIO(DATA), len(DATA))
    server.client().put_object(
        bucket, "delil/2026/b.kepa", io.BytesIO(DATA), len(DATA), metadata={"kephs-sha256": "00", "kephs-sha512": "x"}
    )  # fmt: skip
    found = [one async for one in store.list("delil/")]
    assert [(one.name, one.retain_until) for one in found] == [
        (NAME, UNKNOWN),
        ("delil/2026/b.kepa", UNKNOWN),
    ]
    assert [await store.get(one) for one in found] == [DATA, DATA]
    longer = await store.put(NAME, DATA, UNTIL)  # found there without retention: it gets the one asked for
    assert longer.retain_until == UNTIL
    assert longer.version == found[0].version


@pytest.mark.slow
async def test_octets_that_rot_on_the_server_s_disk_are_never_content(opened: Opener) -> None:
    server = seaweed.running()
    store = opened(server.bucket())
    data = secrets.token_bytes(40_000)
    ref = await store.put(NAME, data, UNTIL)
    spoiled = 0
    for path in (server.folder / "data").glob("*.dat"):
        at = path.read_bytes().find(data[:1000])
        if at >= 0:
            with path.open("r+b") as file:
                file.seek(at + 500)
                file.write(bytes([data[500] ^ 1]))
            spoiled += 1
    assert spoiled == 1
    with pytest.raises((ObjectDamagedError, ObjectUnavailableError)):  # this server notices, and answers 500
        await store.get(ref)


async def test_large_objects_go_in_parts_and_keep_their_lock(opened: Opener) -> None:
    server = seaweed.running()
    bucket = server.bucket()
    store = opened(bucket)
    data = secrets.token_bytes(40 << 20)
    ref = await store.put(NAME, data, UNTIL)
    assert "-" in str(server.client().stat_object(bucket, NAME).etag)  # three parts
    assert await store.get(ref) == data
    assert ref.retain_until == UNTIL
    with pytest.raises(S3Error):
        server.client().remove_object(bucket, NAME, version_id=ref.version)
