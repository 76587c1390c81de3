"""`kephs trust` and `kephs audit` on a real instance: four eyes in, two eyes out, all of it on record."""

import base64
import json
import shutil
import sqlite3
import tomllib
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from config.settings import SettingsError as Refusal
from config.settings import load, save
from evidence.adapters.trust_folder import certificates_of
from kephs.bootstrap import open_trust
from kephs.bootstrap.opening import open_some_trust
from kephs.testpki.authority import TestPki
from kephs.usecases.governance.trust_file import make_trust_file
from tests.functional.site import Done, Site, kephs
from tests.support.anchors import authority

NOW = datetime.now(UTC)
ROOT = authority(start=NOW - timedelta(days=1))


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


PEM = _pem(ROOT)
FINGERPRINT = sha256(ROOT).hexdigest()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A production instance: nothing is trusted."""
    kephs("init", tmp_path / "hs91", "--domain", "hs91.kep.tr")
    (tmp_path / "root.pem").write_bytes(PEM)
    return tmp_path / "hs91"


def import_(home: Path, *more: object, by: str = "Ayşe Yılmaz", ok: bool = True) -> Done:
    return kephs("trust", "import", home, *(more or (home.parent / "root.pem",)), "--by", by, "--json", ok=ok)


def approve(home: Path, by: str, typed: str = FINGERPRINT, *, ok: bool = True) -> Any:
    return json.loads(kephs("trust", "approve", home, typed, "--by", by, "--json", ok=ok).stdout)


def listed(home: Path, *more: str) -> Any:
    return json.loads(kephs("trust", "list", home, "--json", *more).stdout)


def record(home: Path) -> list[tuple[str, str]]:
    entries = json.loads(kephs("audit", "list", home, "--json").stdout)["entries"]
    return [(entry["action"], entry["actor"]) for entry in entries]


def test_a_production_instance_trusts_nothing_by_default(home: Path) -> None:
    assert listed(home) == {"active": 0, "anchors": []}
    assert record(home) == []
    with pytest.raises(Refusal, match="no root that is active"):
        open_some_trust(load(home))


def test_a_root_counts_after_two_persons_typed_its_whole_fingerprint(home: Path) -> None:
    (made,) = json.loads(import_(home).stdout)["proposals"]
    assert (made["state"], made["fingerprint"], made["kind"]) == ("proposed", FINGERPRINT, "root")
    assert len(made["spki_sha256"]) == 64
    assert made["subject"]
    refused = approve(home, "Veli Demir", FINGERPRINT[:40], ok=False)
    assert refused["error"]["code"] == "fingerprint-incomplete"
    assert approve(home, "Ayşe Yılmaz")["state"] == "proposed"
    assert open_trust(load(home)).empty
    again = approve(home, "AYŞE YILMAZ", ok=False)
    assert again["error"]["code"] == "step-not-allowed"
    assert approve(home, "Veli Demir")["trusted"]
    (root,) = open_trust(load(home)).roots
    assert root.der == ROOT
    assert record(home) == [
        ("trust.imported", "Ayşe Yılmaz"), ("trust.confirmed", "Ayşe Yılmaz"), ("trust.confirmed", "Veli Demir"),
    ]  # fmt: skip


def test_one_person_retires_at_once_and_the_list_keeps_it(home: Path) -> None:
    import_(home)
    for name in ("Ayşe Yılmaz", "Veli Demir"):
        approve(home, name)
    missing = kephs("trust", "retire", home, FINGERPRINT, "--by", "Ali Kaya", "--reason", " ", ok=False)
    assert missing.returncode == 1
    kephs("trust", "retire", home, FINGERPRINT, "--by", "Ali Kaya", "--reason", "anahtarı çalındı")
    assert open_trust(load(home)).empty
    assert listed(home)["anchors"] == []
    (gone,) = listed(home, "--all")["anchors"]
    assert (gone["state"], gone["retired"]["reason"]) == ("retired", "anahtarı çalındı")
    assert record(home)[-1] == ("trust.retired", "Ali Kaya")


def test_the_list_warns_ninety_days_ahead_in_both_languages(home: Path) -> None:
    soon = authority("Biten Kök", start=NOW - timedelta(days=10), days=60)
    (home.parent / "soon.der").write_bytes(soon)
    import_(home, home.parent / "soon.der")
    text = kephs("trust", "list", home).stdout
    assert "expires in 49 days / 49 gün sonra süresi doluyor" in text
    assert "PROPOSED / önerildi" in text
    for name in ("Ayşe Yılmaz", "Veli Demir"):
        approve(home, name, sha256(soon).hexdigest())
    codes = findings(home)
    assert codes["trust-expiring"] == "warning"
    assert "trust-empty" not in codes


def findings(home: Path) -> dict[str, str]:
    done = kephs("doctor", home, "--no-network", "--json", ok=False)
    return {one["code"]: one["level"] for one in json.loads(done.stdout)["findings"]}


def test_doctor_names_an_empty_list_what_waits_and_what_only_the_folder_holds(home: Path) -> None:
    assert findings(home)["trust-empty"] == "error"
    import_(home)
    (home / "trust" / "root.pem").write_bytes(PEM)
    codes = findings(home)
    assert (codes["trust-empty"], codes["trust-waiting"], codes["trust-folder"]) == (
        "error", "warning", "warning",
    )  # fmt: skip
    for name in ("Ayşe Yılmaz", "Veli Demir"):
        approve(home, name)
    codes = findings(home)
    assert codes["root"] == "ok"
    assert not {"trust-empty", "trust-waiting", "trust-folder"} & codes.keys()


def test_a_file_dropped_into_the_folder_is_not_trusted(home: Path) -> None:
    (home / "trust" / "root.pem").write_bytes(PEM)
    assert open_trust(load(home)).empty
    (home / "trust" / "intermediates" / "root.pem").write_bytes(PEM)
    trust = open_trust(load(home))
    assert trust.empty
    assert len(trust.intermediates) == 1  # helps paths, trusted in nothing


def test_an_import_says_of_each_certificate_why_it_was_refused(home: Path) -> None:
    leaf = home.parent / "leaf.der"
    leaf.write_bytes(authority("Kişi", is_ca=False))
    done = import_(home, leaf, home.parent / "root.pem", ok=False)
    refused, made = json.loads(done.stdout)["proposals"]
    assert done.returncode == 1
    assert refused["refused"]["code"] == "not-an-authority"
    assert made["state"] == "proposed"
    text = kephs("trust", "import", home, leaf, "--by", "Ayşe Yılmaz", ok=False).stdout
    assert "REFUSED / reddedildi" in text
    assert "bu bir makam sertifikası değil" in text
    assert "bu bir makam sertifikası değil" in refused["refused"]["cure"]


def test_an_rsa_2048_root_is_proposed_with_a_warning_that_two_persons_see_before_they_confirm(
    home: Path,
) -> None:
    weak = home.parent / "weak.der"
    weak.write_bytes(authority("Eski Kök", key=rsa.generate_private_key(65537, 2048), start=NOW))  # type: ignore[arg-type]
    weak_one, good = json.loads(import_(home, weak, home.parent / "root.pem").stdout)["proposals"]
    assert [one["code"] for one in weak_one["warnings"]] == ["key-too-weak"]
    assert good["warnings"] == []
    for text in (
        kephs("trust", "import", home, weak, "--by", "Ayşe Yılmaz").stdout,
        kephs("trust", "list", home).stdout,
        kephs("trust", "approve", home, weak_one["fingerprint"], "--by", "Veli Demir").stdout,
    ):
        assert "RSA 2048: no signature that leads to this key is accepted" in text
        assert "RSA 2048: bu anahtara dayanan hiçbir imza kabul edilmez" in text
        assert "ECDSA >= 256 (.. 2027-12-31)" in text


def test_mistakes_of_trust_are_told_in_both_languages(home: Path) -> None:
    import_(home)
    again = kephs("trust", "approve", home, "ab" * 32, "--by", "Veli Demir", ok=False)
    assert "[no-such-anchor]" in again.stderr
    assert "see kephs trust list DIR --all / listede bu parmak izinde sertifika yok" in again.stderr
    short = kephs("trust", "retire", home, FINGERPRINT[:9], "--by", "Ali", "--reason", "x", ok=False)
    assert "parmak izi eksik" in short.stderr
    text = home.parent / "text.pem"
    text.write_text("no certificate")
    unread = kephs("trust", "import", home, text, "--by", "Ayşe Yılmaz", ok=False)
    assert "sertifika okunamıyor" in unread.stderr + unread.stdout


def test_a_test_root_never_comes_into_production(home: Path, site: Site) -> None:
    done = import_(home, *(site.home / "trust").glob("*.pem"), ok=False)
    (refused,) = json.loads(done.stdout)["proposals"]
    assert refused["refused"]["code"] == "test-certificate"


# Signed lists.


@pytest.fixture
def signed(home: Path, site: Site) -> Callable[[bytes], Path]:
    """Signs a list as its operator, whose certificate the instance pins."""
    files = site.pki.issue_user("Liste Yöneticisi", "10000000146").write(home.parent, "lister")
    _pin(home, sha256(certificates_of(files.certificate.read_bytes())[0]).hexdigest())

    def sign(content: bytes) -> Path:
        path = home.parent / "list.json"
        path.write_bytes(content)
        kephs("trust", "sign", path, "--key", files.key, "--certificate", files.certificate)
        return path

    return sign


def _pin(home: Path, *pins: str) -> None:
    values = tomllib.loads((home / "kephs.toml").read_text())
    values.setdefault("trust", {})["list_signers"] = list(pins)
    save(home, values)


def test_a_signed_list_proposes_and_trusts_nothing(home: Path, signed: Callable[[bytes], Path]) -> None:
    path = signed(make_trust_file([ROOT, authority("İkinci Kök")], NOW))
    made = json.loads(import_(home, path).stdout)["proposals"]
    assert [one["state"] for one in made] == ["proposed", "proposed"]
    assert open_trust(load(home)).empty


def test_a_list_altered_after_signing_or_by_another_signer_is_refused(
    home: Path, signed: Callable[[bytes], Path]
) -> None:
    path = signed(make_trust_file([ROOT], NOW))
    path.write_bytes(make_trust_file([authority("Sahte Kök")], NOW))
    assert json.loads(import_(home, path, ok=False).stdout)["error"]["code"] == "list-signature"
    path = signed(make_trust_file([ROOT], NOW))
    _pin(home, "ab" * 32)
    assert json.loads(import_(home, path, ok=False).stdout)["error"]["code"] == "list-signature"
    _pin(home)
    assert json.loads(import_(home, path, ok=False).stdout)["error"]["code"] == "list-signer"
    assert listed(home)["anchors"] == []


# The process record.


def test_the_record_verifies_and_a_shortened_one_shows_against_its_head(home: Path) -> None:
    import_(home)
    before = json.loads(kephs("audit", "verify", home, "--json").stdout)
    approve(home, "Ayşe Yılmaz")
    after = json.loads(kephs("audit", "verify", home, "--head", before["head"], "--json").stdout)
    assert (before["entries"], after["entries"], after["holds"]) == (1, 2, True)
    with closing(sqlite3.connect(home / "data" / "kephs.db")) as connection:
        connection.execute("DROP TRIGGER audit_no_delete")
        connection.execute("DELETE FROM audit WHERE number = 2")
        connection.commit()
    assert kephs("audit", "verify", home).returncode == 0
    cut = kephs("audit", "verify", home, "--head", after["head"], "--json", ok=False)
    assert cut.returncode == 1
    assert "ends with 1" in json.loads(cut.stdout)["problem"]


def test_a_row_taken_out_of_the_middle_breaks_the_record_and_fsck_says_so(home: Path) -> None:
    import_(home)
    for name in ("Ayşe Yılmaz", "Veli Demir"):
        approve(home, name)
    assert kephs("fsck", home).returncode == 0
    with closing(sqlite3.connect(home / "data" / "kephs.db")) as connection:
        connection.execute("DROP TRIGGER audit_no_delete")
        connection.execute("DELETE FROM audit WHERE number = 2")
        connection.commit()
    assert kephs("audit", "verify", home, ok=False).returncode == 1
    done = kephs("fsck", home, "--json", ok=False)
    codes = {one["code"] for one in json.loads(done.stdout)["findings"]}
    assert {"audit.broken", "anchor.unrecorded"} <= codes


def test_the_record_is_anchored_in_the_ledger_and_a_stranger_checks_what_is_handed_over(home: Path) -> None:
    import_(home)
    assert json.loads(kephs("audit", "anchor", home, "--json").stdout) == {"anchored": 1}
    assert json.loads(kephs("audit", "anchor", home, "--json").stdout) == {"anchored": None}
    approve(home, "Ayşe Yılmaz")
    out = home.parent / "out"
    assert json.loads(kephs("audit", "export", home, out, "--json").stdout)["anchors"] == 2
    told = json.loads(kephs("audit", "verify", home, "--json").stdout)
    assert (told["anchors"], told["anchors_published"], told["anchored_to"]) == (2, 2, 3)
    key = json.loads(kephs("ledger", "key", home, "--json").stdout)["vkey"]
    assert kephs("audit", "check", out, "--log-key", key).returncode == 0
    (out / "kayit.jsonl").write_bytes((out / "kayit.jsonl").read_bytes().replace(b"trust.imp", b"trust.exp"))
    assert kephs("audit", "check", out, "--log-key", key, ok=False).returncode == 1


# Instances from before there was a list.


def test_migrate_proposes_the_folders_roots_in_production_once(home: Path) -> None:
    (home / "trust" / "root.pem").write_bytes(PEM)
    done = json.loads(kephs("migrate", home, "--json").stdout)
    assert done["roots"] == {"active": 0, "proposed": 1}
    (one,) = listed(home)["anchors"]
    assert (one["state"], one["proposed"]["by"]) == ("proposed", "kephs migrate")
    (home / "trust" / "more.pem").write_bytes(_pem(authority("Sonradan Gelen Kök")))
    assert json.loads(kephs("migrate", home, "--json").stdout)["roots"]["proposed"] == 0
    assert len(listed(home)["anchors"]) == 1


def test_migrate_keeps_a_test_instance_working(site: Site, tmp_path: Path) -> None:
    home = tmp_path / "old"
    shutil.copytree(site.home, home, ignore=shutil.ignore_patterns("run", "clamd", "blobs"))
    with closing(sqlite3.connect(home / "data" / "kephs.db")) as connection:
        connection.executescript("DROP TRIGGER audit_no_delete; DELETE FROM audit; DELETE FROM trust_anchors")
    text = kephs("migrate", home).stdout
    assert "proposed" not in text
    (root,) = listed(home)["anchors"]
    assert [one["by"] for one in root["confirmed"]] == ["kephs migrate", "test_pki.enabled"]
    assert not open_trust(load(home)).empty


# A running server.


def test_a_running_server_follows_the_list_and_a_test_instance_starts_with_its_root(site: Site) -> None:
    (root,) = listed(site.home)["anchors"]
    assert [one["by"] for one in root["confirmed"]] == ["kephs init", "--test-pki"]
    assert record(site.home)[0][0] == "trust.imported"
    assert TestPki.load(site.settings.test_pki.directory).root == open_trust(site.settings).roots[0].der
