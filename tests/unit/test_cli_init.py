"""`kephs init`: what is made, for whom, and what is refused; `kephs migrate` on odd databases."""

import json
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from config.settings import FILE_NAME, SettingsError, load
from kephs.cli.main import main
from kephs.instances.keys import key_check_file, open_keys, read_keys
from storage.revision import DatabaseUnreadableError, check_current


def _run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def _init(home: Path, *more: object, domain: str = "hs91.kep.tr") -> Result:
    return _run("init", home, "--domain", domain, *more)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    assert _init(tmp_path / "hs91").exit_code == 0
    return tmp_path / "hs91"


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _open_account(home: Path) -> None:
    done = _run(
        "account", "open", home, "ayse.yilmaz@hs91.kep.tr", "--name", "Ayşe Yılmaz", "--tckn", "10000000146"
    )
    assert done.exit_code == 0, done.output


def test_a_domain_in_capitals_is_folded_to_lower_case(tmp_path: Path):
    made = _init(tmp_path / "x", "--json", domain="HS91.KEP.TR")
    assert json.loads(made.stdout)["domain"] == "hs91.kep.tr"
    provider = load(tmp_path / "x").provider
    assert (provider.domain, provider.service_address) == ("hs91.kep.tr", "kep-hizmet@hs91.kep.tr")


@pytest.mark.parametrize("before", ["new", "empty and open to all"])
def test_folders_keys_and_database_belong_to_their_owner_alone(tmp_path: Path, before: str):
    home = tmp_path / "hs91"
    if before != "new":
        home.mkdir(mode=0o755)
    assert _init(home).exit_code == 0
    folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
    assert {_mode(folder) for folder in folders} == {0o700}
    secrets = [
        home / "keys" / "master.key",
        home / "keys" / "identity.key",
        *(home / "data").glob("kephs.db*"),
    ]
    assert {_mode(path) for path in secrets} == {0o600}
    _open_account(home)
    assert {_mode(path) for path in (home / "data").glob("kephs.db*")} == {0o600}


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "letter.txt").write_text("mine")
    result = _init(tmp_path)
    assert result.exit_code == 1
    assert "not empty" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_an_instance_is_not_made_twice(home: Path):
    result = _init(home)
    assert result.exit_code == 1
    assert "an instance already" in result.output


@pytest.mark.parametrize("option", ["--submission-port", "--imap-port", "--test-pki-port"])
@pytest.mark.parametrize("port", ["65536", "-1"])
def test_a_port_that_cannot_be_is_a_usage_error(tmp_path: Path, option: str, port: str):
    assert _init(tmp_path / "x", option, port).exit_code == 2
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "line", ["[network]\nsubmission_port = 99999", "[network]\nimap_port = -1", "[test_pki]\nport = 65536",
             "[limits]\nmax_recipients = 0", "[seal]\ntsa_seconds = nan", "[limits]\nwire_factor = inf"],
)  # fmt: skip
def test_a_number_that_cannot_be_is_named_with_its_place(tmp_path: Path, line: str):
    section, _, setting = line.partition("\n")
    provider = '[provider]\ndomain = "hs91.kep.tr"\nlegal_name = ""\nservice_address = "x@hs91.kep.tr"\n'
    (tmp_path / FILE_NAME).write_text(f"{provider}{line}\n", "utf-8")
    with pytest.raises(SettingsError, match=rf"{section.strip('[]')}\.{setting.split()[0]}"):
        load(tmp_path)


def test_settings_that_are_no_text_are_a_clear_error(home: Path):
    (home / FILE_NAME).write_bytes(b"\xff\xfe")
    result = _run("migrate", home)
    assert result.exit_code == 1
    assert "[settings-invalid]" in result.stderr


# --------------------------------------------------------------------------- keys


@pytest.mark.parametrize("name", ["master", "identity"])
@pytest.mark.parametrize("command", [("account", "list"), ("fsck",)], ids=" ".join)
def test_another_instances_key_is_refused_by_every_command(tmp_path: Path, home: Path, name: str, command):
    assert _init(tmp_path / "other").exit_code == 0
    shutil.copy(tmp_path / "other" / "keys" / f"{name}.key", home / "keys" / f"{name}.key")
    result = _run(*command, home)
    assert result.exit_code == 1
    assert f"this is not the {name} key of this instance; restore it from its backup" in result.stderr


def test_a_wrong_key_is_refused_even_before_anything_is_stored(tmp_path: Path, home: Path):
    (home / "keys" / "identity.key").write_text("00" * 32)
    with pytest.raises(SettingsError, match="identity key of this instance"):
        open_keys(load(home))


def test_an_empty_instance_without_check_values_gets_them_at_its_first_start(home: Path):
    settings = load(home)
    key_check_file(settings).unlink()
    assert open_keys(settings) == read_keys(settings)
    assert key_check_file(settings).exists()


def test_an_instance_in_use_without_check_values_is_refused_until_they_are_restored_or_noted(home: Path):
    _open_account(home)
    settings = load(home)
    path = key_check_file(settings)
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(SettingsError, match="--note-keys"):
        open_keys(settings)
    assert not path.exists()
    assert _run("migrate", home, "--note-keys").exit_code == 0
    assert path.read_bytes() == kept
    assert open_keys(settings)


def test_a_master_key_that_does_not_open_the_content_is_not_noted(home: Path):
    settings = load(home)
    before = key_check_file(settings).read_bytes()
    with sqlite3.connect(settings.storage.database) as connection:
        row = (b"1" * 32, b"2" * 64, 1, "f:" + "0" * 32, b"3" * 40)
        connection.execute(
            "INSERT INTO blobs (sha256, sha512, size, place, data_key) VALUES (?,?,?,?,?)", row
        )
    connection.close()
    result = _run("migrate", home, "--note-keys")
    assert result.exit_code == 1
    assert "[master-key-wrong]" in result.stderr
    assert key_check_file(settings).read_bytes() == before


# --------------------------------------------------------------------------- databases that are none


def _not_sqlite(database: Path) -> None:
    database.write_bytes(b"This is no database, but a text. " * 100)


def _folder(database: Path) -> None:
    database.unlink()
    database.mkdir()


@pytest.mark.parametrize("spoil", [_not_sqlite, _folder])
@pytest.mark.parametrize("command", [("fsck",), ("account", "list"), ("migrate",)], ids=" ".join)
def test_a_database_that_is_none_is_named_and_no_migration_is_advised(home: Path, command, spoil):
    database = load(home).storage.database
    spoil(database)
    with pytest.raises(DatabaseUnreadableError):
        check_current(database)
    result = _run(*command, home)
    assert result.exit_code == 1
    assert "[schema-old]" not in result.stderr
    assert "[internal-error]" not in result.stderr
    assert "kephs.db" in result.stderr


def test_a_revision_this_program_does_not_know_is_a_clear_error_and_nothing_changes(home: Path):
    database = load(home).storage.database
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'zzz'")
    connection.close()
    result = _run("migrate", home)
    assert result.exit_code == 1
    assert "[schema-unknown]" in result.stderr
    assert "zzz" in result.stderr
