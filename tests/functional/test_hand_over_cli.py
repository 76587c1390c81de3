"""A provider ends: hs91 is handed over, hs93 takes it over, and every old proof stays what it was."""

import json
import shutil
import sqlite3
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from config import settings as config_settings
from directory.accounts import AccountState
from evidence.stamps.ers import read_record
from kephs.bootstrap.core import Core
from tests.functional.site import Answer, Done, Site, compose, kephs, sign, until

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Handed:
    """What hs91 left behind; ``early``: the bundle as it was sealed before a round of renewal."""

    site: Site
    answer: Answer
    early: Path
    bundle: Path
    out: Path
    key: Path
    trust: Path
    told: dict[str, object]


async def _people(site: Site, core: Core) -> None:
    ayse = await site.open(core, "ayse.yilmaz", "Ayşe Yılmaz")
    mehmet = await site.open(core, "mehmet.demir", "Mehmet Demir")
    closed = await site.open(core, "kapali.hesap", "Kapalı Hesap")
    await site.force_state(core, closed, AccountState.CLOSED)
    site.who = SimpleNamespace(ayse=ayse, mehmet=mehmet, closed=closed)


@pytest.fixture(scope="module")
def handed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handed]:
    folder = tmp_path_factory.mktemp("hand-over")
    site = Site(folder / "hs91")
    try:
        site.with_core(lambda core: _people(site, core))
        site.start()
        ayse, mehmet = site.who.ayse, site.who.mehmet
        message = sign(compose(ayse.address, mehmet.address), ayse.issued)
        answer = site.submit(ayse, message, [mehmet.address])
        assert answer.code == 250, answer

        def there() -> bool:
            shown = json.loads(kephs("show", site.home, answer.message_id, "--json").stdout)
            return bool(shown["recipients"][0]["state"] == "delivered")

        until(there, "the delivery")
        early, bundle = folder / "early.kepdelil", folder / "old.kepdelil"
        kephs("bundle", site.home, answer.message_id, early)
        trust = folder / "roots"
        trust.mkdir()
        for path in (site.home / "trust").iterdir():
            if path.is_file():
                shutil.copy(path, trust)
        kephs("archive", "seal", site.home)
        kephs("archive", "renew", site.home, "--now")
        _handed_without_bundles(site.home, folder / "bare-0")
        kephs("bundle", site.home, answer.message_id, bundle)
        _handed_without_bundles(site.home, folder / "bare-1", more_rounds=1)
        out, key = folder / "out", folder / "devir.key"
        done = kephs("hand-over", site.home, out, "--key", key, "--by", "Derya Devir", "--json")
        site.stop()
        yield Handed(site, answer, early, bundle, out, key, trust, json.loads(done.stdout))
    finally:
        site.close()


def _handed_without_bundles(home: Path, folder: Path, *, more_rounds: int = 0) -> None:
    """Hand a copy over as it stands: no bundle is sealed anew, whatever rounds came after it."""
    copy = folder / "home"
    shutil.copytree(home, copy, ignore=shutil.ignore_patterns("clamd", "run", "kephs.db*"))
    (copy / "run").mkdir()
    with (
        closing(sqlite3.connect(home / "data" / "kephs.db")) as source,
        closing(sqlite3.connect(copy / "data" / "kephs.db")) as target,
    ):
        source.backup(target)
    for _ in range(more_rounds):
        kephs("archive", "renew", copy, "--now")
    kephs("hand-over", copy, folder / "out", "--key", folder / "key", "--by", "Derya Devir", "--no-bundles")


def verified(handed: Handed, folder: Path | None = None, *, key: bool = True, trust: bool = True) -> Done:
    options: list[object] = []
    if key:
        options += ["--key", handed.key]
    if trust:
        options += ["--trust", handed.trust]
    return kephs("hand-over", "verify", folder or handed.out, *options, "--json", ok=False)


def test_a_hand_over_verifies_offline_with_its_key_and_trusted_roots(handed: Handed):
    done = verified(handed)
    assert done.returncode == 0, done.stdout
    facts = json.loads(done.stdout)["report"]["facts"]
    assert facts["provider"] == "hs91.kep.tr"
    assert facts["counts"]["closed_addresses"] == 1
    assert facts["verified_in_full"] > 0


def test_without_the_key_digests_and_signature_are_checked_and_the_inside_is_left_open(handed: Handed):
    done = verified(handed, key=False)
    assert done.returncode == 0, done.stdout
    steps = {step["name"]: step["ok"] for step in json.loads(done.stdout)["report"]["steps"]}
    assert steps["key"] is None
    assert steps["files"] is True


def test_without_a_trusted_root_nothing_passes(handed: Handed):
    assert verified(handed, trust=False).returncode == 2


def test_another_key_opens_nothing(handed: Handed, tmp_path: Path):
    other = tmp_path / "other.key"
    other.write_text("00" * 32)
    done = kephs(
        "hand-over", "verify", handed.out, "--key", other, "--trust", handed.trust, "--json", ok=False
    )
    assert done.returncode == 2, done.stdout


def test_the_published_ledger_inside_passes_the_strangers_audit_with_the_old_logs_key(handed: Handed):
    ledger = handed.out / "acik" / "defter"
    vkey = (handed.out / "acik" / "defter.vkey").read_text("ascii").strip()
    kephs("ledger", "audit", "--old", ledger / "checkpoint", "--tiles", ledger, "--log-key", vkey)


@pytest.mark.parametrize("name", ["arsiv", "hesap", "icerik", "acik", "liste", "devir.json", "devir.p7s"])
def test_a_flipped_octet_anywhere_is_found_and_nothing_is_taken_over(
    handed: Handed, tmp_path: Path, name: str
):
    folder, home = tmp_path / "out", tmp_path / "hs94"
    shutil.copytree(handed.out, folder)
    path = folder / name
    if path.is_dir():
        path = next(one for one in sorted(path.rglob("*")) if one.is_file())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert verified(handed, folder).returncode == 1
    kephs("init", home, "--domain", "hs94.kep.tr")
    done = taken_over(handed, home, folder, ok=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "not-sound"
    assert not (home / "foreign").exists()


def taken_over(handed: Handed, home: Path, folder: Path | None = None, *, ok: bool = True) -> Done:
    return kephs(
        "take-over", home, folder or handed.out, "--trust", handed.trust, "--key", handed.key,
        "--by", "Yeni Yetkili", "--json", ok=ok,
    )  # fmt: skip


@pytest.fixture(scope="module")
def successor(handed: Handed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("successor") / "hs93"
    kephs("init", home, "--domain", "hs93.kep.tr")
    told = json.loads(taken_over(handed, home).stdout)
    assert (told["provider"], told["waiting"], told["closed"]) == ("hs91.kep.tr", 2, 1)
    assert told["again"] is False
    return home


def test_taking_over_again_changes_nothing(handed: Handed, successor: Path):
    before = {path: path.stat().st_mtime_ns for path in (successor / "foreign").rglob("*")}
    assert json.loads(taken_over(handed, successor).stdout)["again"] is True
    assert {path: path.stat().st_mtime_ns for path in (successor / "foreign").rglob("*")} == before


def test_what_was_taken_over_verifies_where_it_lies_and_nobody_may_write_it(handed: Handed, successor: Path):
    folder = successor / "foreign" / "hs91.kep.tr"
    assert verified(handed, folder).returncode == 0
    kephs("take-over", "verify", successor, "hs91.kep.tr", "--trust", handed.trust)
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o400}


def test_an_old_bundle_still_verifies_and_the_successor_gives_the_same_octets(
    handed: Handed, successor: Path
):
    again = successor.parent / "again.kepdelil"
    told = json.loads(
        kephs("take-over", "bundle", successor, handed.answer.message_id, again, "--json").stdout
    )
    assert again.read_bytes() == handed.bundle.read_bytes()
    assert told["provider"] == "hs91.kep.tr"
    kephs("verify", again, "--trust", handed.trust, "--log-key", told["log_key"])
    assert stamps_in(again) == [2, 2], "each record goes on in the round"


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_bundle_from_before_a_round_is_given_as_it_was_sealed_and_verifies(
    handed: Handed, tmp_path: Path, rounds: int
):
    old = (handed.early, handed.bundle)[rounds]
    assert stamps_in(old) == [1 + rounds, 1 + rounds]
    home, again, bare = tmp_path / "hs94", tmp_path / "again.kepdelil", handed.out.parent / f"bare-{rounds}"
    kephs("init", home, "--domain", "hs94.kep.tr")
    kephs("take-over", home, bare / "out", "--trust", handed.trust, "--key", bare / "key", "--by", "Yetkili")
    done = kephs("take-over", "bundle", home, handed.answer.message_id, again, "--json")
    assert again.read_bytes() == old.read_bytes()
    assert (json.loads(done.stdout)["renewals"], json.loads(done.stdout)["renewals_handed"]) == (
        rounds, rounds + 1,
    )  # fmt: skip
    kephs("verify", again, "--trust", handed.trust)


def stamps_in(bundle: Path) -> list[int]:
    """Return how many time stamps each evidence record in a bundle has."""
    with zipfile.ZipFile(bundle) as archive:
        names = [one for one in archive.namelist() if one.startswith("delil/") and one.endswith(".ers")]
        return [sum(map(len, read_record(archive.read(one)).chains)) for one in sorted(names)]


def test_show_tells_what_happened_at_the_old_provider(handed: Handed, successor: Path):
    old = json.loads(kephs("show", handed.site.home, handed.answer.message_id, "--json").stdout)
    new = json.loads(kephs("show", successor, handed.answer.message_id, "--json").stdout)
    assert new == old


def test_single_evidence_of_the_old_provider_verifies_with_its_record_and_proof(
    handed: Handed, successor: Path, tmp_path: Path
):
    kephs("take-over", "evidence", successor, handed.answer.message_id, tmp_path / "e")
    xml = sorted((tmp_path / "e").glob("*.xml"))
    assert len(xml) == 2
    kephs("verify", *xml, "--trust", handed.trust)
    records = [read_record(path.read_bytes()) for path in sorted((tmp_path / "e").glob("*.ers"))]
    assert [sum(map(len, record.chains)) for record in records] == [
        2,
        2,
    ]  # the batch's stamp, and the round's


def test_a_round_of_renewal_goes_along(handed: Handed):
    assert (handed.out / "arsiv" / "yenileme" / "000001.kepa").is_file()


def test_an_address_that_the_old_provider_closed_is_never_opened_again(handed: Handed, successor: Path):
    listed = json.loads(kephs("take-over", "list", successor, "hs91.kep.tr", "--json").stdout)
    states = {one["address"]: one["state"] for one in listed}
    assert states[handed.site.who.closed.address] == "closed"
    assert states[handed.site.who.ayse.address] == "waiting"
    for holder in (handed.site.who.closed, handed.site.who.ayse):
        done = opened(successor, holder.address, handed.site.next_tckn())
        assert json.loads(done.stdout)["error"]["code"] == "address-taken"


def test_a_holder_is_served_only_after_consenting_under_an_account_of_the_successor(
    handed: Handed, successor: Path
):
    old, new = handed.site.who.mehmet.address, "mehmet.demir@hs93.kep.tr"
    consent = ("take-over", "consent", successor, old, new, "--by", "Yeni Yetkili", "--json")
    assert kephs(*consent, ok=False).returncode == 1
    assert opened(successor, new, handed.site.next_tckn()).returncode == 0
    assert json.loads(kephs(*consent).stdout)["state"] == "consented"
    assert json.loads(kephs(*consent, ok=False).stdout)["error"]["code"] == "not-possible-now"
    closed = handed.site.who.closed.address
    done = kephs("take-over", "consent", successor, closed, new, "--by", "Yeni Yetkili", "--json", ok=False)
    assert json.loads(done.stdout)["error"]["code"] == "not-possible-now"


def test_the_process_record_of_the_successor_names_who_took_over(successor: Path):
    listed = kephs("audit", "list", successor, "--json").stdout
    assert "provider.taken-over" in listed
    assert "Yeni Yetkili" in listed


def test_a_provider_does_not_take_itself_over(handed: Handed):
    done = taken_over(handed, handed.site.home, ok=False)
    assert json.loads(done.stdout)["error"]["code"] == "own-provider"


def test_the_key_for_handing_on_is_the_one_that_came(handed: Handed, successor: Path, tmp_path: Path):
    out = tmp_path / "again.key"
    kephs("take-over", "key", successor, "hs91.kep.tr", out, "--by", "Yeni Yetkili")
    assert out.read_text("ascii") == handed.key.read_text("ascii")


@pytest.mark.tools
def test_the_page_inside_tells_how_to_check_with_common_tools(handed: Handed, tmp_path: Path):
    folder = tmp_path / "out"
    shutil.copytree(handed.out, folder)
    guide = (folder / "acik" / "BENIOKU.txt").read_text("utf-8")
    commands = [line.strip() for line in guide.replace("\\\n", " ").splitlines()]
    (folder / "KOKLER.pem").write_bytes(next(handed.trust.glob("*.pem")).read_bytes())
    wanted = [line for line in commands if line.startswith(("openssl ", "sha256sum ", "awk "))]
    assert len(wanted) == 4
    for line in wanted:
        done = subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stderr)
    path = next(one for one in (folder / "hesap").iterdir())
    path.write_bytes(path.read_bytes() + b"x")
    flipped = subprocess.run(["sh", "-c", wanted[2]], cwd=folder, capture_output=True, check=False)
    assert flipped.returncode != 0


def test_the_key_is_destroyed_by_two_persons_after_the_hand_over_alone(handed: Handed, tmp_path: Path):
    home = tmp_path / "hs91"
    shutil.copytree(handed.site.home, home, ignore=shutil.ignore_patterns("clamd"))
    key = config_settings.load(home).seal.key
    command = ("hand-over", "destroy-key", home, "--by", "Derya Devir")
    assert "not-confirmed" in kephs(*command, "--witness", "Tanık Kişi", ok=False).stderr
    assert "one-person" in kephs(*command, "--witness", "DERYA DEVİR", "--yes", ok=False).stderr
    assert key.is_file()
    kephs(*command, "--witness", "Tanık Kişi", "--yes")
    assert not key.exists()
    listed = kephs("audit", "list", home, "--json").stdout
    assert "provider.key-destroyed" in listed
    assert "Tanık Kişi" in listed
    assert "no-key" in kephs(*command, "--witness", "Tanık Kişi", "--yes", ok=False).stderr


def test_a_key_whose_provider_was_not_handed_over_stays(tmp_path: Path):
    home = tmp_path / "hs95"
    kephs("init", home, "--domain", "hs95.kep.tr", "--test-pki")
    key = config_settings.load(home).seal.key
    done = kephs("hand-over", "destroy-key", home, "--by", "Bir", "--witness", "Başka", "--yes", ok=False)
    assert "key-still-needed" in done.stderr
    assert key.is_file()


def opened(home: Path, address: str, tckn: str) -> Done:
    return kephs(
        "account", "open", home, address, "--name", "Deneme Kişi", "--tckn", tckn, "--json", ok=False
    )
