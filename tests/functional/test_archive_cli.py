"""`kephs archive` on what the demo leaves: sealed, checked, lost and restored, and the server goes on."""

import json
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.functional.site import KEPHS, Done, kephs

pytestmark = [pytest.mark.tools, pytest.mark.slow, pytest.mark.timeout(300)]

INDEX = (
    "renewals", "evidence", "ledger", "ledger_tiles", "checkpoints", "time_stamps", "archive_objects",
    "archive_authorities",
)  # fmt: skip


def demo(directory: Path) -> dict[str, Any]:
    done = subprocess.run(
        [KEPHS, "demo", "--once", "--json", "--dir", str(directory)],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    directory = tmp_path_factory.mktemp("demo")
    return directory, demo(directory)


@pytest.fixture
def home(shown: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """Return a copy of hs91 as the demo left it, stopped; its settings name no path outside it."""
    copy = tmp_path / "hs91"
    shutil.copytree(shown[0] / "hs91", copy)
    return copy


def told(done: Done) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def delete_index(home: Path) -> None:
    connection = sqlite3.connect(home / "data" / "kephs.db")
    for table in INDEX:
        connection.execute(f"DELETE FROM {table}")
    connection.commit()
    connection.close()


def objects(home: Path, kind: str = "delil") -> list[Path]:
    return sorted((home / "data" / "archive" / "objects" / kind).rglob("[0-9]*.kepa"))


def test_the_demo_archives_its_evidence_and_says_where(shown: tuple[Path, dict[str, Any]]) -> None:
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
    assert told(kephs("audit", "verify", home, "--archive", "--json"))["holds"]
    again = told(kephs("archive", "rebuild", home, "--json"))
    assert (again["whole"], again["evidence"], again["known"]) == (True, 0, 7)


def test_a_rebuilt_provider_goes_on_as_before(tmp_path: Path, shown: tuple[Path, dict[str, Any]]) -> None:
    directory = tmp_path / "demo"
    shutil.copytree(shown[0], directory)
    for name in ("hs91", "hs92"):
        delete_index(directory / name)
        kephs("archive", "rebuild", directory / name)
    assert demo(directory)["passed"]
    for name in ("hs91", "hs92"):
        assert told(kephs("fsck", directory / name, "--deep", "--json"))["clean"]


def forget_newest_message(home: Path) -> str:
    """Leave the database as a backup from before the newest message has it."""
    connection = sqlite3.connect(home / "data" / "kephs.db")
    ((message,),) = connection.execute("SELECT max(message_id) FROM messages").fetchall()
    of = "SELECT delivery_id FROM deliveries WHERE message_id = ?"
    connection.execute(f"DELETE FROM items WHERE delivery_id IN ({of})", (message,))
    for table in ("deliveries", "transfers", "bundle_appendices", "messages"):
        connection.execute(f"DELETE FROM {table} WHERE message_id = ?", (message,))
    connection.commit()
    connection.close()
    return str(message)


def test_evidence_of_a_message_that_the_backup_did_not_have_is_read_out_of_the_archive(
    shown: tuple[Path, dict[str, Any]], home: Path, tmp_path: Path
) -> None:
    delete_index(home)
    message = forget_newest_message(home)
    done = kephs("archive", "rebuild", home, "--json", ok=False)
    lost = told(done)["without_message"]
    assert done.returncode == 1
    assert len(lost) >= 2
    assert "kephs archive evidence" in kephs("archive", "rebuild", home, ok=False).stdout
    out = tmp_path / "out"
    found = told(kephs("archive", "evidence", home, message, out, "--json"))
    assert {one["evidence"] for one in found["evidence"]} == set(lost)
    xml = sorted(out.glob("*.xml"))
    assert len(xml) == len(lost)
    kephs("verify", *xml, "--trust", shown[0] / "trust")
    kephs("archive", "evidence", home, lost[0], tmp_path / "one")
    assert len(list((tmp_path / "one").glob("*.xml"))) == 1
    assert lost[0] in kephs("audit", "list", home, "--action", "evidence.exported").stdout
    assert "no-such-evidence" in kephs("archive", "evidence", home, "x", tmp_path / "x", ok=False).stderr
    (path,) = objects(home)
    path.unlink()
    refused = kephs("archive", "evidence", home, lost[0], tmp_path / "two", ok=False)
    assert "archive-" in refused.stderr
    assert not (tmp_path / "two").exists()


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
    (records, *_) = objects(home, "surec")
    kept = records.read_bytes()
    records.unlink()
    assert "archive-" in kephs("audit", "verify", home, "--archive", ok=False).stderr
    records.write_bytes(kept)
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
