"""Commands on an instance without TEST PKI and without a server: migrate, fsck, doctor, accounts."""

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from config.settings import load
from kephs.cli.main import main
from kephs.testpki.profiles import make_tckn


def _run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def home(tmp_path: Path) -> Path:
    assert _run("init", tmp_path / "hs91", "--domain", "hs91.kep.tr").exit_code == 0
    return tmp_path / "hs91"


def test_migrate_makes_a_missing_database_and_then_has_nothing_to_do(home: Path):
    database = load(home).storage.database
    database.unlink()
    first = json.loads(_run("migrate", home, "--json").stdout)
    assert (first["before"], first["changed"]) == (None, True)
    assert first["after"] == first["head"]
    assert json.loads(_run("migrate", home, "--json").stdout)["changed"] is False
    assert "already" in _run("migrate", home).stdout


@pytest.mark.parametrize("command", ["migrate", "fsck", "doctor"])
def test_where_there_is_no_instance_the_cure_is_named(tmp_path: Path, command: str):
    result = _run(command, tmp_path)
    assert result.exit_code == 1
    assert "kephs init" in result.output


def test_without_a_database_the_cure_is_named(home: Path):
    load(home).storage.database.unlink()
    result = _run("account", "list", home)
    assert result.exit_code == 1
    assert "[schema-old]" in result.stderr


def test_a_new_instance_is_clean_but_not_ready(home: Path):
    assert json.loads(_run("fsck", home, "--json").stdout)["clean"] is True
    found = json.loads(_run("doctor", home, "--json").stdout)
    errors = {one["code"] for one in found["findings"] if one["level"] == "error"}
    assert {"trust-empty", "transaction-certificate", "tls-certificate", "tsa"} <= errors


def test_account_work_needs_no_seal_and_no_time_stamps(home: Path):
    done = _run(
        "account", "open", home, "ayse@hs91.kep.tr", "--name", "Ayşe", "--tckn", make_tckn(7),
        "--quota-mib", "7", "--kind", "legal_person", "--person", "Zeynep", "--json",
    )  # fmt: skip
    assert json.loads(done.stdout)["quota_bytes"] == 7 << 20
    shown = json.loads(_run("account", "show", home, "ayse@hs91.kep.tr", "--json").stdout)
    assert [one["name"] for one in shown["operators"]] == ["Zeynep"]


def test_a_label_must_be_readable(home: Path):
    _run("account", "open", home, "ayse@hs91.kep.tr", "--name", "Ayşe", "--tckn", make_tckn(7))
    assert _run("account", "add-password", home, "ayse@hs91.kep.tr", "--label", " ").exit_code == 2
    assert (
        _run("account", "open", home, "b@hs91.kep.tr", "--name", "a\x00b", "--tckn", make_tckn(8)).exit_code
        == 2
    )


def test_fsck_names_a_broken_ledger_and_exits_1(home: Path):
    connection = sqlite3.connect(load(home).storage.database)
    with connection:
        connection.execute(
            "INSERT INTO ledger (seq, evidence_id, digest, at, previous, hash, salt)"
            " VALUES (1, 'x', ?, 0, ?, ?, zeroblob(32))",
            (b"0" * 32, b"1" * 32, b"2" * 32),
        )
    connection.close()
    result = _run("fsck", home)
    assert result.exit_code == 1
    assert "ledger.broken" in result.stdout
    assert "NOT everything holds" in result.stdout
    found = json.loads(_run("fsck", home, "--json").stdout)
    assert found["clean"] is False
    assert {"ledger.broken", "ledger.unknown_evidence"} <= {one["code"] for one in found["findings"]}
    assert all(one["text"] and one["cure"] for one in found["findings"])
