"""How commands end: exit codes, clear sentences with code and cure, never a stack trace."""

import json
import re
import subprocess
import sys

import click
import pytest
import structlog
from click.testing import CliRunner

from config.settings import SettingsError
from evidence.adapters.soft_signer import KeyMaterialError
from kephs.cli.findings import Level, error, ok, warning, worst
from kephs.cli.health.fsck import SENTENCES
from kephs.cli.output import (
    ACCOUNT_CURES,
    ExitError,
    Usage64Command,
    guarded,
    json_option,
    print_table,
    read_secret,
    usage_error,
)
from kephs.cli.people.account import new_app_password
from kephs.cli.proof.bundle import _CURES as BUNDLE_CURES
from kephs.ports import BlobMissingError, StoreUnavailableError
from kephs.usecases.people.accounts import AccountError, AccountFault
from kephs.usecases.people.sign_in import SELECTOR_LENGTH
from kephs.usecases.proof.bundle import BundleFault
from storage.errors import SchemaError
from storage.fsck.check import FindingCode


def _ends(failure: BaseException, *arguments: str):
    @click.command()
    @json_option
    @guarded
    def command(as_json: bool) -> None:
        raise failure

    return CliRunner().invoke(command, arguments)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (SettingsError("no instance in x: make one with kephs init"), "settings-invalid"),
        (AccountError(AccountFault.ADDRESS_TAKEN, "choose another"), "address-taken"),
        (StoreUnavailableError("disk full"), "store-unavailable"),
        (BlobMissingError("gone"), "content-missing"),
        (KeyMaterialError("wrong password"), "key-unusable"),
        (SchemaError("revision none"), "schema-old"),
        (FileNotFoundError(2, "No such file or directory", "x.eml"), "file-error"),
        (ExitError("my-code", "my text", "my cure"), "my-code"),
        (ZeroDivisionError("unexpected"), "internal-error"),
    ],
)
def test_every_failure_is_one_sentence_with_code_and_cure(failure, code):
    result = _ends(failure)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    first, cure = result.stderr.splitlines()
    assert first.startswith("kephs: ")
    assert first.endswith(f"[{code}]")
    assert cure.strip()
    assert result.stdout == ""


def test_with_json_the_error_is_json_on_standard_output():
    result = _ends(StoreUnavailableError("disk full"), "--json")
    assert result.exit_code == 1
    assert set(json.loads(result.stdout)["error"]) == {"code", "text", "cure"}


def test_of_a_group_of_failures_the_first_is_told():
    inner = ExceptionGroup("inner", [StoreUnavailableError("disk full"), ValueError("x")])
    assert "[store-unavailable]" in _ends(ExceptionGroup("outer", [inner])).stderr


def test_an_internal_error_names_its_place_but_shows_no_stack():
    result = _ends(ZeroDivisionError("unexpected"))
    assert "test_cli_output.py:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [("--unknown",), ("--number", "x"), ("a", "b")])
def test_usage_errors_of_such_a_command_exit_64(arguments: tuple[str, ...]) -> None:
    @click.command(cls=Usage64Command)
    @click.argument("one", required=False)
    @click.option("--number", type=int)
    def command(one: str | None, number: int | None) -> None: ...

    assert CliRunner().invoke(command, arguments).exit_code == 64
    assert CliRunner().invoke(command, ()).exit_code == 0


def test_a_usage_error_found_later_exits_64_too():
    assert _ends(usage_error("write it differently")).exit_code == 64


def test_the_librarys_events_stay_out_of_a_commands_output() -> None:
    @click.command()
    @guarded
    def command() -> None:
        structlog.get_logger().error("something.happened")
        click.echo("result")

    before = structlog.get_config()
    assert CliRunner().invoke(command).output == "result\n"
    assert structlog.get_config() == before


def test_an_app_password_has_26_letters_in_five_groups_and_begins_with_its_selector():
    password = new_app_password()
    assert re.fullmatch(r"[a-z2-7]{6}(-[a-z2-7]{5}){4}", password)
    assert password.index("-") == SELECTOR_LENGTH
    assert len({new_app_password() for _ in range(200)}) == 200


def test_every_account_fault_and_bundle_fault_has_a_cure():
    assert set(ACCOUNT_CURES) == {fault.value for fault in AccountFault}
    assert set(BUNDLE_CURES) == set(BundleFault)


def test_every_finding_of_fsck_has_a_sentence_and_a_cure():
    assert set(SENTENCES) == set(FindingCode)
    assert all(sentence and cure for sentence, cure in SENTENCES.values())


def test_verifying_loads_neither_the_settings_nor_the_log_nor_the_database():
    code = "import sys, kephs.cli.proof.verify; print(*sorted({'pydantic', 'structlog', 'sqlalchemy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_worst_finding_decides():
    assert worst([]) is Level.OK
    assert worst([ok("a", "fine"), warning("b", "soon", "do")]) is Level.WARNING
    assert worst([error("c", "broken", "do"), ok("a", "fine")]) is Level.ERROR


def test_tables_are_aligned(capsys):
    print_table(("a", "bb"), [("1", "2"), ("333", "4")])
    assert capsys.readouterr().out.splitlines() == ["a    bb", "1    2", "333  4"]


def test_a_password_file_gives_its_first_line(tmp_path):
    path = tmp_path / "password"
    path.write_bytes("şifre 1\r\nsecond\n".encode())
    assert read_secret(path) == "şifre 1"
    path.write_text("\n")
    with pytest.raises(ExitError, match="empty"):
        read_secret(path)
    with pytest.raises(ExitError, match="cannot be read"):
        read_secret(tmp_path / "none")
