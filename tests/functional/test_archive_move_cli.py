"""`kephs archive move` from files to a real S3 with object lock: killed in the middle, resumed, nothing lost."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config import settings as config_settings
from kephs.bench.seaweed import REGION
from kephs.bootstrap.core import Core
from tests.functional.site import KEPHS, Site, compose, kephs, sign, until
from tests.support.s3_proxy import S3Proxy
from tests.support.seaweed import ARCHIVE, running

pytestmark = [pytest.mark.tools, pytest.mark.slow, pytest.mark.timeout(300)]

LETTERS = 4


class Gate(S3Proxy):
    """Stops at the n-th object of the archive that is written: before the server hears of it, or after."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.stop_at, self.after = 0, False
        self.puts = 0
        self.stopped = threading.Event()

    def arm(self, stop_at: int, *, after: bool) -> None:
        self.stop_at, self.after, self.puts = stop_at, after, 0
        self.stopped.clear()

    async def _ask(self, request: bytes, *, whole: bool = True) -> bytes:
        line = request.partition(b"\r\n")[0]
        if line.startswith(b"PUT ") and (b"/delil/" in line or b"/surec/" in line):
            self.puts += 1
            if self.puts == self.stop_at:
                if self.after:
                    await super()._ask(request)
                self.stopped.set()
                await asyncio.Event().wait()
        return await super()._ask(request, whole=whole)


@contextmanager
def gate(target: int) -> Iterator[Gate]:
    """Run a gate in a thread of its own."""
    loop, made, ready = asyncio.new_event_loop(), Gate(target), threading.Event()
    done = asyncio.Event()

    async def inside() -> None:
        async with made:
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(inside(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield made
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(30)
        loop.close()


async def _people(site: Site, core: Core) -> None:
    ayse = await site.open(core, "ayse", "Ayşe Yılmaz")
    mehmet = await site.open(core, "mehmet", "Mehmet Demir")
    site.who = SimpleNamespace(ayse=ayse, mehmet=mehmet)


def change(site: Site, **values: Any) -> None:
    path = site.home / config_settings.FILE_NAME
    loaded = tomllib.loads(path.read_text("utf-8"))
    loaded.setdefault("archive", {}).update(values)
    loaded.pop("scanner", None)  # it ends with the first stop
    config_settings.save(site.home, loaded)


def send(site: Site) -> str:
    ayse, mehmet = site.who.ayse, site.who.mehmet
    answer = site.submit(ayse, sign(compose(ayse.address, mehmet.address), ayse.issued), [mehmet.address])
    assert answer.code == 250, answer
    site.wait_evidence(answer.message_id, 40)
    return answer.message_id


@pytest.fixture
def archived(tmp_path: Path) -> Iterator[Site]:
    """Yield a stopped instance whose evidence lies in files, each in an object of its own."""
    site = Site(tmp_path / "hs91")
    try:
        change(site, objects_of=1, seal_after_seconds=0.5)
        site.with_core(lambda core: _people(site, core))
        site.start()
        for _ in range(LETTERS):
            send(site)
        all_archived(site)
        site.stop()
        yield site
    finally:
        site.close()


def places(site: Site) -> dict[str, int]:
    connection = sqlite3.connect(site.home / "data" / "kephs.db")
    found = dict(connection.execute("SELECT place, count(*) FROM archive_objects GROUP BY place").fetchall())
    connection.close()
    return found


def all_archived(site: Site) -> None:
    """Wait until the server has sealed all evidence, and some of the process record."""

    def done() -> bool:
        found = json.loads(kephs("archive", "status", site.home, "--json").stdout)
        last = int(found["newest_entry"])
        return bool(found["archived_entry"] == last and found["objects"] > last)

    until(done, "the archive", 60)


def told(*arguments: object) -> Any:
    return json.loads(kephs(*arguments, "--json").stdout)


def use_s3(site: Site, port: int, bucket: str) -> None:
    for name, text in (("access", ARCHIVE), ("secret", running().secrets[ARCHIVE])):
        path = site.home / f"s3-{name}"
        path.touch(0o600)
        path.write_text(text)
    change(
        site, kind="s3", endpoint=f"127.0.0.1:{port}", bucket=bucket, region=REGION, tls=False,
        access_key_file=str(site.home / "s3-access"), secret_key_file=str(site.home / "s3-secret"),
    )  # fmt: skip


def killed(site: Site, between: Gate, stop_at: int, *, after: bool) -> None:
    """Run the command and kill it while it writes its n-th object."""
    between.arm(stop_at, after=after)
    process = subprocess.Popen(
        [KEPHS, "archive", "move", str(site.home)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        until(lambda: between.stopped.is_set() or process.poll() is not None, "the object to stop at", 60)
        assert process.poll() is None, process.communicate()
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_move_to_s3_is_killed_in_the_middle_and_resumed_and_nothing_is_lost(archived: Site) -> None:
    site, server = archived, running()
    every = places(site)["files"]
    assert every >= 2 * LETTERS + 1
    before = told("fsck", site.home, "--deep")
    assert before["clean"], before
    with gate(server.port) as between:
        use_s3(site, between.port, server.bucket())
        killed(site, between, 3, after=False)  # nothing of the third
        assert places(site) == {"files": every - 2, "s3": 2}
        killed(site, between, 3, after=True)  # written, and no row says so
        assert places(site) == {"files": every - 4, "s3": 4}
        halfway = told("fsck", site.home, "--deep")
        assert halfway["clean"], halfway
        assert [one["code"] for one in halfway["findings"]].count("archive.object_unknown") == 2
        result = told("archive", "move", site.home)
        assert (result["to"], result["objects"], result["damaged"]) == ("s3", every - 4, [])
        assert places(site) == {"s3": every}
        assert told("archive", "move", site.home)["objects"] == 0
        checked = told("archive", "verify", site.home, "--all", "--deep")
        assert (checked["objects"], checked["damaged"], checked["waiting"]) == (0, [], [])  # just read back
        _forget_checks(site)
        checked = told("archive", "verify", site.home, "--all", "--deep")
        assert (checked["objects"], checked["damaged"], checked["waiting"]) == (every, [], [])
        after = told("fsck", site.home, "--deep")
        assert after["clean"]
        assert after["checked"] == before["checked"]
        status = told("archive", "status", site.home)
        assert (status["moved"], status["objects"], status["damaged"]) == (every, every, [])
        _goes_on(site, every)


def _forget_checks(site: Site) -> None:
    connection = sqlite3.connect(site.home / "data" / "kephs.db")
    connection.execute("UPDATE archive_objects SET checked_at = NULL, check_due = NULL")
    connection.commit()
    connection.close()


def _goes_on(site: Site, every: int) -> None:
    """The server writes what comes to S3, and a rebuild reads everything from there."""
    site.start()
    send(site)
    all_archived(site)
    site.stop()
    assert places(site)["s3"] >= every + 2
    carried = site.home / "data" / "archive" / "objects"
    carried.rename(carried.with_name("carried"))
    connection = sqlite3.connect(site.home / "data" / "kephs.db")
    for table in ("renewals", "evidence", "ledger", "archive_objects", "archive_authorities"):
        connection.execute(f"DELETE FROM {table}")
    connection.commit()
    connection.close()
    rebuilt = told("archive", "rebuild", site.home)
    assert rebuilt["evidence"] == 2 * LETTERS + 2
    assert rebuilt["whole"]
    found = told("fsck", site.home, "--deep")
    assert found["clean"], found
