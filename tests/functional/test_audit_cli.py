"""`kephs audit export` and `check`, `fsck` and `doctor` as commands, on a record and a folder that somebody cut."""

import asyncio
import json
import re
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config import settings as config_settings
from directory.providers import ProviderRegister
from kephs.cli.beside import open_beside
from kephs.cli.providers.foreign import foreign_folder, seal_key
from kephs.testpki.profiles import make_tckn
from kephs.usecases.ending.take_over import TakeOver
from storage.hand_over_parts import READ_ONLY, FolderParts, KeyCipher
from tests.functional.site import Done, kephs
from tests.support.hand_over import KEY, MemoryParts, ending
from tests.support.world import DOMAIN as OLD

DOMAIN = "hs93.kep.tr"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "hs93"
    kephs("init", home, "--domain", DOMAIN)
    for number in range(3):
        opened(home, number)
    return home


def opened(home: Path, number: int) -> None:
    address = f"deneme.kisi{'.' + str(number + 1) if number else ''}@{DOMAIN}"
    kephs("account", "open", home, address, "--name", "Deneme Kişi", "--tckn", make_tckn(500 + number))


def vkey(home: Path) -> str:
    return str(json.loads(kephs("ledger", "key", home, "--json").stdout)["vkey"])


def exported(home: Path, name: str = "out") -> Path:
    kephs("audit", "export", home, home.parent / name)
    return home.parent / name


def checked(home: Path, folder: Path, *more: object) -> Done:
    return kephs("audit", "check", folder, "--log-key", vkey(home), *more, "--json", ok=False)


def cut(folder: Path, by: int) -> None:
    path = folder / "kayit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)[:-by]
    path.write_bytes(b"".join(lines))
    for one in (folder / "capa").iterdir():
        if int(re.sub(r"\D", "", one.name)) > len(lines):
            one.unlink()


def delete_rows(home: Path, above: int) -> None:
    """Delete the end of the record as the database's owner can."""
    connection = sqlite3.connect(home / "data" / "kephs.db")
    connection.execute("DROP TRIGGER audit_no_delete")
    connection.execute("DELETE FROM audit WHERE number > ?", (above,))
    connection.commit()
    connection.close()


def codes(done: Done) -> set[str]:
    return {one["code"] for one in json.loads(done.stdout)["findings"] if one.get("level") != "ok"}


def test_an_export_without_its_end_is_undecided_and_with_it_valid(home: Path) -> None:
    out = exported(home)
    assert checked(home, out).returncode == 0
    cut(out, 1)
    assert checked(home, out).returncode == 2
    cut(out, 1)
    assert checked(home, out).returncode == 2


def test_an_export_cut_back_to_an_older_one_is_refused_by_who_says_when_they_asked(home: Path) -> None:
    kept = json.loads(checked(home, exported(home, "old")).stdout)["facts"]["head"]
    opened(home, 7)
    out = exported(home, "new")
    newest = json.loads(checked(home, out, "--head", kept).stdout)["facts"]["head"]
    cut(out, 2)
    assert checked(home, out).returncode == 0  # it is the older export, to the letter
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    assert checked(home, out, "--asked", later).returncode == 1
    assert checked(home, out, "--head", newest).returncode == 1
    assert checked(home, out, "--head", kept).returncode == 0


@pytest.mark.parametrize("option", [("--asked", "yesterday"), ("--head", "1:00"), ("--head", "x")])
def test_what_is_no_time_and_no_head_is_told(home: Path, option: tuple[str, str]) -> None:
    done = checked(home, exported(home), *option)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_deleted_rows_that_were_anchored_are_found_by_every_command(home: Path) -> None:
    kephs("audit", "anchor", home)
    assert "audit.other_anchor" not in codes(kephs("fsck", home, "--json"))
    delete_rows(home, 2)
    assert kephs("audit", "verify", home, ok=False).returncode == 1
    assert "audit.other_anchor" in codes(kephs("fsck", home, "--json", ok=False))
    doctor = kephs("doctor", home, "--no-network", "--json", ok=False)
    assert "audit-cut" in codes(doctor)
    done = kephs("audit", "export", home, home.parent / "out", "--json", ok=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["gone"] == [3]  # the export's own entry has its number now
    assert checked(home, home.parent / "out").returncode == 1


def test_anchored_entries_that_are_gone_are_named_by_the_export(home: Path) -> None:
    kephs("audit", "anchor", home)
    delete_rows(home, 1)
    done = kephs("audit", "export", home, home.parent / "out", "--json", ok=False)
    assert (done.returncode, json.loads(done.stdout)["gone"]) == (1, [3])
    assert checked(home, home.parent / "out").returncode == 1


@pytest.fixture
def successor(home: Path) -> Path:
    """Return an instance that took a provider over."""
    settings = config_settings.load(home)

    async def inside() -> None:
        old, parts = await ending(), MemoryParts()
        await old.hand(parts)
        async with open_beside(settings) as beside:
            await TakeOver(
                store=beside.store, register=ProviderRegister(DOMAIN, peers={}), source=parts,
                check=old.checker(parts).run, cipher=KeyCipher(KEY), offload=beside.offload,
                target=lambda one: FolderParts(foreign_folder(home, one), beside.offload.run, mode=READ_ONLY),
                key_file=lambda one: seal_key(settings, one, KEY), clock=beside.clock,
            ).run("Yeni Yetkili")  # fmt: skip

    asyncio.run(inside())
    return home


def test_fsck_and_doctor_look_at_providers_taken_over(successor: Path) -> None:
    folder = foreign_folder(successor, OLD)
    clean = kephs("fsck", successor, "--deep", "--json")
    assert json.loads(clean.stdout)["checked"]["foreign"] > 10
    doctor = kephs("doctor", successor, "--no-network", "--json", ok=False)
    assert {"foreign"} <= {one["code"] for one in json.loads(doctor.stdout)["findings"]}
    pack = next((folder / "icerik").iterdir())
    content = pack.read_bytes()
    pack.chmod(0o600)
    pack.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert kephs("fsck", successor).returncode == 0  # its size is right; --deep reads it
    done = kephs("fsck", successor, "--deep", "--json", ok=False)
    assert codes(done) == {"foreign.altered"}
    assert "kephs take-over" in json.loads(done.stdout)["findings"][0]["cure"]
    pack.unlink()
    assert codes(kephs("fsck", successor, "--json", ok=False)) == {"foreign.missing"}
    doctor = kephs("doctor", successor, "--no-network", "--json", ok=False)
    assert doctor.returncode == 1
    assert "foreign-damaged" in codes(doctor)
    shutil.rmtree(folder)
    assert codes(kephs("fsck", successor, "--json", ok=False)) == {"foreign.missing"}
