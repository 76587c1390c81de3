"""`kephs archive` on what the demo leaves: sealed, checked, lost and restored, and the server goes on."""

import json
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.functional.site import KEPHS, Done, kephs

pytestmark = [pytest.mark.tools, pytest.mark.slow, pytest.mark.timeout(300)]

INDEX = (
    "renewals", "evidence", "ledger", "ledger_tiles", "checkpoints", "time_stamps", "archive_objects",
    "archive_authorities",
)  # fmt: skip


def demo(directory: Path) -> dict:
    done = subprocess.run(
        [KEPHS, "demo", "--once", "--json", "--dir", str(directory)],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    directory = tmp_path_factory.mktemp("demo")
    return directory, demo(directory)


@pytest.fixture
def home(shown: tuple[Path, dict], tmp_path: Path) -> Path:
    """Return a copy of hs91 as the demo left it, stopped; its settings name no path outside it."""
    copy = tmp_path / "hs91"
    shutil.copytree(shown[0] / "hs91", copy)
    return copy


def told(done: Done) -> dict:
    return json.loads(done.stdout)


def delete_index(home: Path) -> None:
    connection = sqlite3.connect(home / "data" / "kephs.db")
    for table in INDEX:
        connection.execute(f"DELETE FROM {table}")
    connection.commit()
    connection.close()


def objects(home: Path, kind: str = "delil") -> list[Path]:
    return sorted((home / "data" / "archive" / "objects" / kind).rglob("[0-9]*.kepa"))


def test_the_demo_archives_its_evidence_and_says_where(shown: tuple[Path, dict]) -> None:
    directory, summary = shown
    assert [one["provider"] for one in summary["archives"]] == ["hs91.kep.tr", "hs92.kep.tr"]
    for one in summary["archives"]:
        assert Path(one["where"]).is_relative_to(directory)
        assert one["objects"] >= 2
        assert one["entries"] >= 3
    for number in (1, 2):
        assert (directory / "out" / str(number) / "dosya.pdf").read_bytes().startswith(b"%PDF-1.7")


def test_rebuild_after_deleting_the_index_gives_the_same_fsck_result(home: Path) -> None:
    before = told(kephs("fsck", home, "--deep", "--json"))
    assert before["clean"]
    assert before["checked"]["evidence"] == 7
    delete_index(home)
    assert kephs("fsck", home, ok=False).returncode == 1
    result = told(kephs("archive", "rebuild", home, "--json"))
    assert result["whole"]
    assert result["evidence"] == 7
    assert told(kephs("fsck", home, "--deep", "--json")) == before
    again = told(kephs("archive", "rebuild", home, "--json"))
    assert (again["whole"], again["evidence"], again["known"]) == (True, 0, 7)


def test_a_rebuilt_provider_goes_on_as_before(tmp_path: Path, shown: tuple[Path, dict]) -> None:
    directory = tmp_path / "demo"
    shutil.copytree(shown[0], directory)
    for name in ("hs91", "hs92"):
        delete_index(directory / name)
        kephs("archive", "rebuild", directory / name)
    assert demo(directory)["passed"]
    for name in ("hs91", "hs92"):
        assert told(kephs("fsck", directory / name, "--deep", "--json"))["clean"]


def test_fixity_finds_a_flipped_byte_until_a_copy_comes_back(home: Path) -> None:
    (path,) = objects(home)
    assert told(kephs("archive", "verify", home, "--all", "--deep", "--json"))["damaged"] == []
    good = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(good[:1000] + bytes([good[1000] ^ 4]) + good[1001:])
    assert told(kephs("fsck", home, "--deep", "--json", ok=False))["findings"][0]["code"] == (
        "archive.object_altered"
    )
    connection = sqlite3.connect(home / "data" / "kephs.db")
    connection.execute("UPDATE archive_objects SET checked_at = NULL, check_due = NULL")
    connection.commit()
    connection.close()
    found = kephs("archive", "verify", home, "--json", ok=False)
    assert found.returncode == 1
    assert len(told(found)["damaged"]) == 1
    status = kephs("archive", "status", home, "--json", ok=False)
    assert status.returncode == 1
    assert len(told(status)["damaged"]) == 1
    path.write_bytes(good)
    assert kephs("archive", "verify", home).returncode == 0
    assert told(kephs("archive", "status", home, "--json"))["healthy"]


def test_a_lost_object_is_found_by_fsck_and_by_rebuild(home: Path) -> None:
    (path,) = objects(home)
    path.unlink()
    for side in path.parent.glob(".*.json"):
        side.unlink()
    codes = {one["code"] for one in told(kephs("fsck", home, "--json", ok=False))["findings"]}
    assert codes == {"archive.object_missing"}


def test_status_tells_the_retention_ledger(home: Path) -> None:
    status = told(kephs("archive", "status", home, "--json"))
    assert status["healthy"]
    assert status["archived_entry"] == status["newest_entry"]
    assert status["expiring"] == 0
    assert "kept until at least" in kephs("archive", "status", home).stdout


def test_moving_to_a_store_that_the_settings_do_not_name_is_refused_in_one_line(home: Path) -> None:
    done = kephs("archive", "move", home, "s3", ok=False)
    assert done.returncode == 1
    assert "archive-refused" in done.stderr
