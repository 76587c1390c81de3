"""What every object store promises: the twin in memory, files, and a real S3 server pass the same tests."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kephs.ports.objects import (
    ObjectDamagedError,
    ObjectError,
    ObjectStore,
    ObjectUnavailableError,
    PointState,
    check_name,
)
from tests.support.objects import OBJECT_STORES, open_objects

NOW = datetime(2026, 11, 22, 9, 0, 0, tzinfo=UTC)
UNTIL = datetime(2047, 1, 1, tzinfo=UTC)
SIZES = [0, 1, 70_000, 3_000_000]


@pytest.fixture(params=OBJECT_STORES)
async def objects(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with open_objects(request.param, tmp_path) as opened:
        yield opened


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_put_comes_back_with_both_digests(objects: ObjectStore, size: int) -> None:
    data = content(size)
    ref = await objects.put("delil/2026/11/22/000000000001-000000001000.kepa", data, UNTIL)
    assert (ref.size, ref.sha256) == (size, hashlib.sha256(data).digest())
    assert (ref.sha512, ref.retain_until) == (hashlib.sha512(data).digest(), UNTIL)
    assert ref.version
    assert await objects.get(ref) == data
    await objects.check(ref)


async def test_the_same_octets_again_are_the_same_version(objects: ObjectStore) -> None:
    first = await objects.put("delil/a.kepa", b"abc", UNTIL)
    assert await objects.put("delil/a.kepa", b"abc", UNTIL) == first
    assert [ref async for ref in objects.list("delil/")] == [first]


async def test_other_octets_under_the_name_are_refused_and_the_first_stay(objects: ObjectStore) -> None:
    first = await objects.put("delil/a.kepa", b"abc", UNTIL)
    with pytest.raises(ObjectError) as refused:
        await objects.put("delil/a.kepa", b"abd", UNTIL)
    assert not isinstance(refused.value, ObjectUnavailableError | ObjectDamagedError)
    assert await objects.get(first) == b"abc"


async def test_put_again_may_extend_and_never_shortens(objects: ObjectStore) -> None:
    await objects.put("delil/a.kepa", b"abc", UNTIL)
    later = await objects.put("delil/a.kepa", b"abc", UNTIL + timedelta(days=9))
    assert later.retain_until == UNTIL + timedelta(days=9)
    assert await objects.put("delil/a.kepa", b"abc", UNTIL) == later


async def test_two_callers_with_the_same_octets_both_succeed(objects: ObjectStore) -> None:
    both = await asyncio.gather(*(objects.put("delil/a.kepa", content(100_000), UNTIL) for _ in range(2)))
    assert [await objects.get(ref) for ref in both] == [content(100_000)] * 2


async def test_retention_is_rounded_up_to_the_second(objects: ObjectStore) -> None:
    ref = await objects.put("delil/a.kepa", b"abc", UNTIL + timedelta(microseconds=1))
    assert ref.retain_until == UNTIL + timedelta(seconds=1)


async def test_retention_is_extended_and_never_shortened(objects: ObjectStore) -> None:
    ref = await objects.put("delil/a.kepa", b"abc", UNTIL)
    longer = await objects.extend(ref, UNTIL + timedelta(days=365))
    assert longer == replace(ref, retain_until=UNTIL + timedelta(days=365))
    assert await objects.extend(longer, longer.retain_until) == longer
    with pytest.raises(ObjectError):
        await objects.extend(longer, UNTIL)
    assert [one async for one in objects.list("delil/")] == [longer]
    assert await objects.get(longer) == b"abc"


async def test_listing_asks_the_store_alone_and_is_in_order_of_names(objects: ObjectStore) -> None:
    names = ["delil/2026/a.kepa", "delil/2026-b.kepa", "delil/2027/a.kepa", "surec/a.kepa", "delil/2026.kepa"]
    refs = {name: await objects.put(name, name.encode(), UNTIL) for name in names}
    assert [ref async for ref in objects.list("")] == [refs[name] for name in sorted(names)]
    assert [ref.name async for ref in objects.list("delil/2026/")] == ["delil/2026/a.kepa"]
    assert [ref.name async for ref in objects.list("delil/202")] == sorted(names)[:4]
    assert [ref async for ref in objects.list("yenileme/")] == []


async def test_listing_an_archive_that_was_never_written_is_empty(objects: ObjectStore) -> None:
    assert [ref async for ref in objects.list("")] == []


@pytest.mark.parametrize("change", ["version", "sha256", "sha512", "size", "name"])
async def test_a_reference_that_does_not_fit_is_damage_never_content(
    objects: ObjectStore, change: str
) -> None:
    ref = await objects.put("delil/a.kepa", b"abc", UNTIL)
    wrong = {
        "version": replace(ref, version=ref.version[::-1] + "0"),
        "sha256": replace(ref, sha256=bytes(32)),
        "sha512": replace(ref, sha512=bytes(64)),
        "size": replace(ref, size=4),
        "name": replace(ref, name="delil/b.kepa"),
    }[change]
    for read in (objects.get, objects.check):
        with pytest.raises(ObjectDamagedError):
            await read(wrong)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "../a",
        "a/../b",
        "a/.b",
        ".a",
        "A",
        "ğ",
        "a b",
        "a\n",
        "a\0",
        "x" * 201,
        "a/" * 300 + "a",
    ],
    ids=range(15),
)
async def test_what_is_no_name_is_refused(objects: ObjectStore, name: str) -> None:
    with pytest.raises(ObjectError):
        check_name(name)
    with pytest.raises(ObjectError):
        await objects.put(name, b"abc", UNTIL)


async def test_a_time_without_zone_is_refused(objects: ObjectStore) -> None:
    with pytest.raises(ObjectError):
        await objects.put("delil/a.kepa", b"abc", UNTIL.replace(tzinfo=None))


async def test_the_short_probe_passes(objects: ObjectStore) -> None:
    report = await objects.probe()
    assert report.passed, report.failed
    assert {"put-version", "retention-kept", "read-back", "shorten-refused"} <= {
        point.code for point in report.points if point.state is PointState.PASSED
    }


async def test_closing_twice_is_safe_and_ends_the_work(objects: ObjectStore) -> None:
    await objects.put("delil/a.kepa", b"abc", UNTIL)
    await objects.close()
    await objects.close()
