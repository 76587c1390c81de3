"""Objects as files on a real disk: kills, full disks, links, other processes, spoiled octets."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kephs.ports.objects import (
    ObjectDamagedError,
    ObjectError,
    ObjectRef,
    ObjectUnavailableError,
    PointState,
)
from storage.objects.file import FileObjectStore
from storage.objects.folders import UNKNOWN
from tests.support.objects import wall_clock

UNTIL = datetime(2047, 1, 1, tzinfo=UTC)
NAME = "delil/2026/a.kepa"
DATA = b"sealed octets " * 20_000

CHILD = """
import asyncio, os, resource, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from kephs.ports.objects import ObjectError, ObjectUnavailableError
from storage.objects.file import FileObjectStore

folder, number, limit, octets = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
seen = 0
def hook(event, arguments):
    global seen
    if event in ("open", "os.link", "os.rename", "os.mkdir", "os.remove", "os.scandir", "os.truncate", "fcntl.flock"):
        if event != "open" or str(arguments[0]).startswith(("temp/", "lock", "objects", "delil", "a.", ".a")):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
async def main():
    store = FileObjectStore(folder, clock=lambda: datetime(2026, 11, 22, tzinfo=UTC))
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.addaudithook(hook)
    try:
        await store.put("delil/2026/a.kepa", octets * 20_000, datetime(2047, 1, 1, tzinfo=UTC))
    except ObjectError as error:
        print(type(error).__name__, flush=True)
    else:
        print("done", flush=True)
    os._exit(0)
asyncio.run(main())
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileObjectStore]:
    made = FileObjectStore(tmp_path / "archive", clock=wall_clock)
    yield made
    await made.close()


def child(folder: Path, *, kill: int = 0, limit: int = 0, octets: str = "sealed octets ") -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), str(kill), str(limit), octets],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.strip()


async def listed(store: FileObjectStore) -> list[ObjectRef]:
    return [ref async for ref in store.list("")]


@pytest.mark.slow
async def test_a_kill_at_any_step_leaves_the_whole_object_or_none_and_put_again_succeeds(
    tmp_path: Path,
) -> None:
    killed = 0
    for number in range(1, 60):
        folder = tmp_path / str(number) / "archive"
        folder.parent.mkdir()
        code, said = await asyncio.to_thread(child, folder, kill=number)
        if code == 0:
            assert said == "done"
            break
        assert (code, said) == (-signal.SIGKILL, "")
        killed += 1
        store = FileObjectStore(folder, clock=wall_clock)
        for ref in await listed(store):
            assert await store.get(ref) == DATA
        # What was never acknowledged may come with other octets, unless it is there already.
        try:
            again = await store.put(NAME, b"sealed once more", UNTIL)
        except ObjectError:
            again = await store.put(NAME, DATA, UNTIL)
        assert await listed(store) == [again]
        assert again.retain_until == UNTIL
        await store.check(again)
        assert list((folder / "temp").iterdir()) == []
        await store.close()
    assert killed > 10


async def test_a_full_disk_means_try_again_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    assert await asyncio.to_thread(child, folder, limit=100_000) == (0, "ObjectUnavailableError")
    store = FileObjectStore(folder, clock=wall_clock)
    assert await listed(store) == []
    assert list((folder / "temp").iterdir()) == []
    assert await store.get(await store.put(NAME, DATA, UNTIL)) == DATA
    await store.close()


@pytest.mark.parametrize("read", ["get", "check", "extend", "put"])
@pytest.mark.parametrize("spoil", ["flip", "cut", "grow", "gone", "swapped", "folder", "link"])
async def test_spoiled_octets_are_damage_and_never_content(
    store: FileObjectStore, tmp_path: Path, spoil: str, read: str
) -> None:
    ref = await store.put(NAME, DATA, UNTIL)
    other = await store.put("delil/2026/b.kepa", DATA[::-1], UNTIL)
    path = tmp_path / "archive" / "objects" / NAME
    if spoil == "gone" and read == "put":
        return  # a file that is gone is written again
    if read == "extend" and spoil in {"flip", "swapped"}:
        return  # extending reads no octets
    octets = bytearray(DATA)
    octets[len(octets) // 2] ^= 1
    path.unlink()
    match spoil:
        case "flip":
            path.write_bytes(octets)
        case "cut":
            path.write_bytes(DATA[:-1])
        case "grow":
            path.write_bytes(DATA + b"x")
        case "swapped":
            (path.parent / "b.kepa").rename(path)
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(path.parent / "b.kepa")
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "get": lambda: store.get(ref),
        "check": lambda: store.check(ref),
        "extend": lambda: store.extend(ref, UNTIL + timedelta(days=1)),
        "put": lambda: store.put(NAME, DATA, UNTIL),
    }
    with pytest.raises(ObjectError if read == "put" else ObjectDamagedError) as raised:
        await calls[read]()
    assert not isinstance(raised.value, ObjectUnavailableError)
    assert other.size == ref.size


async def test_an_archive_that_is_not_mounted_is_silence_and_no_damage(
    store: FileObjectStore, tmp_path: Path
) -> None:
    ref = await store.put(NAME, DATA, UNTIL)
    (tmp_path / "archive").rename(tmp_path / "away")
    for work in (store.get(ref), store.check(ref), store.put("delil/b.kepa", DATA, UNTIL)):
        with pytest.raises(ObjectUnavailableError):
            await work
    (tmp_path / "archive").mkdir()  # the mount point alone
    with pytest.raises(ObjectUnavailableError):
        await store.get(ref)


async def test_a_lost_or_spoiled_side_file_loses_the_retention_and_no_object(
    store: FileObjectStore, tmp_path: Path
) -> None:
    ref = await store.put(NAME, DATA, UNTIL)
    side = tmp_path / "archive" / "objects" / "delil" / "2026" / ".a.kepa.json"
    fields = json.loads(side.read_text())
    assert fields["sha512"] == ref.sha512.hex()
    for text in ("", "{", "[]", "null", json.dumps(fields | {"sha256": "x"}), json.dumps(fields | {"size": "1"}),
                 json.dumps(fields | {"name": "delil/b.kepa"}), json.dumps(fields | {"retain_until": 7}), "[" * 4000):  # fmt: skip
        side.unlink()
        side.write_text(text)
        (found,) = await listed(store)
        assert (found.sha512, found.retain_until) == (ref.sha512, UNKNOWN)
        assert await store.get(found) == DATA
        assert await store.put(NAME, DATA, UNTIL) == ref
        assert await listed(store) == [ref]


async def test_links_on_the_way_are_not_followed(store: FileObjectStore, tmp_path: Path) -> None:
    await store.put("delil/2026/a.kepa", DATA, UNTIL)
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "archive" / "objects" / "surec").symlink_to(outside)
    with pytest.raises(ObjectError):
        await store.put("surec/a.kepa", DATA, UNTIL)
    assert list(outside.iterdir()) == []


async def test_an_object_cannot_be_a_folder_of_others(store: FileObjectStore) -> None:
    ref = await store.put("delil/2026", DATA, UNTIL)
    with pytest.raises(ObjectError):
        await store.put("delil/2026/a.kepa", DATA, UNTIL)
    assert await listed(store) == [ref]


async def test_files_are_for_reading_alone_and_nobody_else_looks_in(
    store: FileObjectStore, tmp_path: Path
) -> None:
    await store.put(NAME, DATA, UNTIL)
    folder = tmp_path / "archive"
    assert folder.stat().st_mode & 0o777 == 0o700
    files = [path for path in (folder / "objects").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o400}
    assert len(files) == 2


async def test_what_a_dead_writer_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    temp = tmp_path / "archive" / "temp"
    temp.mkdir(parents=True)
    (temp / "dead").write_bytes(b"x")
    living = os.open(temp / "living", os.O_CREAT | os.O_RDWR)
    fcntl.flock(living, fcntl.LOCK_EX)
    store = FileObjectStore(tmp_path / "archive", clock=wall_clock)
    await store.put(NAME, DATA, UNTIL)
    assert [path.name for path in temp.iterdir()] == ["living"]
    os.close(living)
    await store.close()


async def test_two_processes_write_the_same_name_and_one_content_wins(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    said = await asyncio.gather(
        *(asyncio.to_thread(child, folder, octets=octets) for octets in ("sealed octets ", "others octets "))
    )
    assert sorted(said) == [(0, "ObjectError"), (0, "done")]
    store = FileObjectStore(folder, clock=wall_clock)
    (ref,) = await listed(store)
    await store.check(ref)
    await store.close()


async def test_a_clock_set_back_shuts_the_archive(tmp_path: Path) -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    shown = [now]
    for moved, passes in ((timedelta(0), True), (timedelta(hours=3), True), (-timedelta(days=365), False)):
        store = FileObjectStore(tmp_path / "archive", clock=lambda: shown[0])
        shown[0] = now + moved
        report = await store.probe()
        assert report.passed is passes
        assert [point.code for point in report.failed][:1] == ([] if passes else ["clock"])
        await store.close()


async def test_the_deep_probe_of_files_writes_its_objects_once(
    store: FileObjectStore, tmp_path: Path
) -> None:
    for _ in range(2):
        report = await store.probe(deep=True)
        assert report.passed, report.failed
        assert len(report.points) == 37
        assert {point.code for point in report.points if point.state is PointState.SKIPPED} >= {
            "delete-refused"
        }
    assert [ref.name async for ref in store.list("probe/")] == ["probe/write-once", "probe/write-once-large"]
