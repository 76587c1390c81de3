"""`kephs doctor`: a good instance passes; each single thing that is spoiled is named with its own code."""

import json
import shutil
import socket
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import tomli_w

from config.settings import FILE_NAME
from kephs.cli.instance import free_port
from tests.functional.site import Site, kephs, now


@pytest.fixture
def copy(site: Site, tmp_path: Path) -> Path:
    """A copy of the running instance's folder: settings, keys, trust, database; the server stays its own."""
    home = tmp_path / "copy"
    shutil.copytree(site.home, home, ignore=shutil.ignore_patterns("run", "clamd", "blobs"))
    (home / "data" / "blobs").mkdir(mode=0o700)
    return home


def _set(home: Path, section: str, **values: object) -> None:
    path = home / FILE_NAME
    settings = tomllib.loads(path.read_text("utf-8"))
    settings.setdefault(section, {}).update(values)
    path.write_text(tomli_w.dumps(settings), "utf-8")


def _doctor(home: Path) -> SimpleNamespace:
    done = kephs("doctor", home, "--json", ok=False)
    found = json.loads(done.stdout)
    levels: dict[str, set[str]] = {}
    for finding in found["findings"]:
        levels.setdefault(finding["code"], set()).add(finding["level"])
        assert finding["text"]
        assert bool(finding["cure"]) == (finding["level"] != "ok"), finding
        assert (" / " in finding["cure"]) == (finding["level"] != "ok"), finding  # English / Turkish
    return SimpleNamespace(exit=done.returncode, level=found["level"], levels=levels)


def test_a_good_instance_passes_with_every_service_asked(site: Site, copy: Path):
    found = _doctor(copy)
    assert (found.exit, found.level) == (0, "warning")
    for code in (
        "clock", "clock-tsa", "disk", "folders", "key", "key-right", "schema", "root", "transaction-certificate", "transaction-role",
        "transaction-chain", "tls-certificate", "tsa", "tsa-certificate", "revocation", "port-submission",
        "port-imap", "port-inbound", "port-metrics", "queue",
    ):  # fmt: skip
        assert found.levels[code] == {"ok"}, code
    assert found.levels["test-pki"] == {"warning"}
    if site.settings.scanner.clamd:
        assert found.levels["scanner-eicar"] == {"ok"}


def _key_readable_by_all(home: Path, site: Site) -> None:
    (home / "keys" / "master.key").chmod(0o644)


def _key_gone(home: Path, site: Site) -> None:
    (home / "keys" / "identity.key").unlink()


def _key_cut(home: Path, site: Site) -> None:
    path = home / "keys" / "master.key"
    path.write_text(path.read_text()[:20])


def _another_master_key(home: Path, site: Site) -> None:
    (home / "keys" / "master.key").write_text("ab" * 32)


def _another_identity_key(home: Path, site: Site) -> None:
    (home / "keys" / "identity.key").write_text("ab" * 32)


def _no_key_check(home: Path, site: Site) -> None:
    (home / "data" / "keys.check").unlink()


def _key_check_damaged(home: Path, site: Site) -> None:
    (home / "data" / "keys.check").write_text("master\n")


def _folder_writable_by_all(home: Path, site: Site) -> None:
    (home / "keys").chmod(0o777)


def _database_readable_by_all(home: Path, site: Site) -> None:
    (home / "data" / "kephs.db").chmod(0o644)


def _database_is_text(home: Path, site: Site) -> None:
    _no_database(home, site)
    (home / "data" / "kephs.db").write_bytes(b"This is no database, but a text. " * 100)
    (home / "data" / "kephs.db").chmod(0o600)


def _no_root(home: Path, site: Site) -> None:
    (root,) = json.loads(kephs("trust", "list", home, "--json").stdout)["anchors"]
    kephs("trust", "retire", home, root["fingerprint"], "--by", "Ayşe Yılmaz", "--reason", "test")


def _root_unreadable(home: Path, site: Site) -> None:
    (home / "trust" / "bad.pem").write_text("no certificate")


def _test_root_in_production(home: Path, site: Site) -> None:
    _set(home, "test_pki", enabled=False)


def _another_domain(home: Path, site: Site) -> None:
    _set(home, "provider", domain="hs92.kep.tr")


def _domain_in_capitals(home: Path, site: Site) -> None:
    _set(home, "provider", domain="HS91.KEP.TR")


def _key_of_another(home: Path, site: Site) -> None:
    shutil.copy(home / "keys" / "tls.key", home / "keys" / "transaction.key")


def _write_transaction(home: Path, issued) -> None:
    files = issued.write(home / "keys", "changed")
    _set(
        home, "seal", certificate=str(files.certificate), key=str(files.key), chain=str(files.chain),
    )  # fmt: skip


def _transaction(site: Site, **more):
    return site.pki.issue_transaction("hs91.kep.tr", "TEST Birinci", "p384", **more)


def _transaction_expired(home: Path, site: Site) -> None:
    _write_transaction(home, _transaction(site, not_after=now() - timedelta(hours=1)))


def _transaction_revoked(home: Path, site: Site) -> None:
    issued = _transaction(site)
    site.pki.revoke(issued.serial, now() - timedelta(minutes=1))
    _write_transaction(home, issued)


def _holder_as_transaction(home: Path, site: Site) -> None:
    _write_transaction(home, site.people["ayse"].issued)


def _tls_gone(home: Path, site: Site) -> None:
    (home / "keys" / "tls-full.pem").unlink()


def _no_database(home: Path, site: Site) -> None:
    for path in (home / "data").glob("kephs.db*"):
        path.unlink()


def _tsa_down(home: Path, site: Site) -> None:
    _set(home, "seal", tsa=[f"http://127.0.0.1:{free_port()}/tsa"])


def _no_tsa(home: Path, site: Site) -> None:
    _set(home, "seal", tsa=[])


def _scanner_down(home: Path, site: Site) -> None:
    _set(home, "scanner", clamd=f"unix:{home}/nobody")


def _settings_broken(home: Path, site: Site) -> None:
    (home / FILE_NAME).write_text("[provider\n")


def _setting_unknown(home: Path, site: Site) -> None:
    _set(home, "network", colour="red")


SPOILED: list[tuple[Callable[[Path, Site], None], str]] = [
    (_key_readable_by_all, "key-exposed"),
    (_key_gone, "key-missing"),
    (_key_cut, "key-form"),
    (_another_master_key, "key-wrong"),
    (_another_identity_key, "key-wrong"),
    (_no_key_check, "key-wrong"),
    (_key_check_damaged, "key-wrong"),
    (_folder_writable_by_all, "exposed"),
    (_database_readable_by_all, "exposed"),
    (_database_is_text, "database"),
    (_no_root, "trust-empty"),
    (_root_unreadable, "trust"),
    (_test_root_in_production, "test-root"),
    (_another_domain, "transaction-role"),
    (_domain_in_capitals, "provider-domain"),
    (_key_of_another, "transaction-certificate"),
    (_transaction_expired, "transaction-certificate"),
    (_transaction_revoked, "revoked"),
    (_holder_as_transaction, "transaction-role"),
    (_tls_gone, "tls-certificate"),
    (_no_database, "schema"),
    (_tsa_down, "tsa"),
    (_no_tsa, "tsa"),
    (_scanner_down, "scanner"),
    (_settings_broken, "settings"),
    (_setting_unknown, "settings"),
]


@pytest.mark.parametrize(("spoil", "code"), SPOILED, ids=[spoil.__name__.strip("_") for spoil, _ in SPOILED])
def test_each_thing_that_is_spoiled_is_an_error_with_its_own_code(site: Site, copy: Path, spoil, code: str):
    spoil(copy, site)
    found = _doctor(copy)
    assert (found.exit, found.level) == (1, "error")
    assert "error" in found.levels[code], found.levels


def test_a_certificate_near_its_end_is_a_warning(site: Site, copy: Path):
    _write_transaction(copy, _transaction(site, not_after=now() + timedelta(days=20)))
    found = _doctor(copy)
    assert (found.exit, found.levels["transaction-certificate"]) == (0, {"warning"})


def test_one_of_two_time_stampers_may_be_down(site: Site, copy: Path):
    _set(copy, "seal", tsa=[f"http://127.0.0.1:{free_port()}/tsa", *site.settings.seal.tsa])
    found = _doctor(copy)
    assert (found.exit, found.levels["tsa"]) == (0, {"ok", "warning"})
    assert "tsa-single" not in found.levels


@pytest.mark.parametrize("folder", ["", "keys", "data", "data/blobs"])
def test_a_folder_that_others_may_look_into_is_a_warning(copy: Path, folder: str):
    (copy / folder).chmod(0o755)
    found = _doctor(copy)
    assert (found.exit, found.levels["folder-open"]) == (0, {"warning"})


def test_without_a_database_text_and_cure_name_the_same_command(site: Site, copy: Path):
    _no_database(copy, site)
    done = kephs("doctor", copy, ok=False)
    (line,) = [line for line in done.stdout.splitlines() if "schema:" in line]
    assert "kephs migrate" in line
    assert "kephs init" not in done.stdout


def test_a_master_key_without_a_backup_is_a_warning(copy: Path):
    _set(copy, "storage", master_key_backup=False)
    assert _doctor(copy).levels["master-key-backup"] == {"warning"}


def test_no_scanner_is_a_warning(copy: Path):
    _set(copy, "scanner", clamd="")
    found = _doctor(copy)
    assert (found.exit, found.levels["scanner-none"]) == (0, {"warning"})


def test_a_free_port_is_well_and_a_strangers_is_an_error(copy: Path):
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        _set(copy, "network", submission_port=free_port(), imap_port=stranger.getsockname()[1])
        stranger.settimeout(0)
        found = _doctor(copy)
    assert found.levels["port-submission"] == {"ok"}
    assert found.levels["port-imap"] == {"error"}


def test_a_test_instance_at_rest_is_no_error(site: Site, copy: Path):
    port = free_port()
    _set(copy, "test_pki", port=port)
    _set(copy, "network", submission_port=free_port(), imap_port=free_port())
    found = _doctor(copy)
    assert (found.exit, found.levels["test-pki-down"]) == (0, {"warning"})


def test_no_instance_at_all_is_one_clear_error(tmp_path: Path):
    done = kephs("doctor", tmp_path, ok=False)
    assert done.returncode == 1
    assert "kephs init" in done.stdout


# --------------------------------------------------------------------------- kephs sign --diagnose, with OCSP


def _diagnose(site: Site, folder: Path, issued) -> tuple[int, dict[str, str]]:
    site.pki.write_p12(issued, folder / "h.p12", "gizli")
    (folder / "password").write_text("gizli")
    done = kephs(
        "sign",
        "--diagnose",
        "--json",
        "--p12",
        folder / "h.p12",
        "--password-file",
        folder / "password",
        ok=False,
    )
    return done.returncode, {one["code"]: one["level"] for one in json.loads(done.stdout)["findings"]}


def test_diagnose_asks_ocsp_and_compares_the_clock(site: Site, tmp_path: Path):
    code, levels = _diagnose(site, tmp_path, site.people["ayse"].issued)
    assert code == 0
    assert set(levels.values()) == {"ok"}
    assert {"revocation", "clock"} <= set(levels)


def test_diagnose_finds_a_revoked_certificate(site: Site, tmp_path: Path):
    issued = site.issue("Ayşe Yılmaz", site.people["ayse"].tckn)
    site.pki.revoke(issued.serial, now() - timedelta(minutes=1))
    code, levels = _diagnose(site, tmp_path, issued)
    assert (code, levels["revocation"]) == (1, "error")
