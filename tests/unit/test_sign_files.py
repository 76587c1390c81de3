"""Files that `kephs sign` writes: complete or not there, never over another unasked; codes with cures."""

import errno
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from evidence.adapters.pkcs11_card import CardFault
from kephs.cli.main import main
from kephs.cli.output import ExitError
from kephs.cli.sign import files as sign_files
from kephs.cli.sign.chain import read_chain
from kephs.cli.sign.files import How, Job, write_new
from kephs.cli.sign.files import Result as FileResult
from kephs.cli.sign.stamp import open_stamper
from kephs.cli.sign.turkish import CARD_CURES, FILE_CURES, TURKISH
from kephs.system import SystemClock
from kephs.testpki.issued import to_pem
from tests.support.pki import P12_PASSWORD, ayse, p12_of
from tests.support.signers import KeySigner

PLAIN = b"From: ayse@hs91.kep.tr\nDate: Sat, 21 Nov 2026 12:00:00 +0300\nSubject: x\n\nMerhaba\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text(P12_PASSWORD + "\n")
    (tmp_path / "password").chmod(0o600)
    p12_of(ayse(), tmp_path).rename(tmp_path / "key.p12")
    for name in ("a.eml", "b.eml"):
        (tmp_path / name).write_bytes(PLAIN)
    return tmp_path


def run_sign(folder: Path, *more: object) -> Result:
    key = ("--p12", folder / "key.p12", "--password-file", folder / "password")
    result = CliRunner().invoke(main, ["sign", *map(str, (*key, *more))])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_an_output_that_exists_is_kept_unless_force_is_given(folder: Path):
    (folder / "out.eml").write_bytes(b"mine")
    refused = run_sign(folder, folder / "a.eml", folder / "out.eml")
    assert (refused.exit_code, "[output-exists]" in refused.stderr) == (1, True)
    assert (folder / "out.eml").read_bytes() == b"mine"
    assert run_sign(folder, "--force", folder / "a.eml", folder / "out.eml").exit_code == 0
    assert b"multipart/signed" in (folder / "out.eml").read_bytes()


def test_no_input_is_ever_replaced(folder: Path):
    done = run_sign(folder, "--force", "--out-dir", folder, folder / "a.eml", folder / "b.eml")
    assert done.exit_code == 1
    assert done.stderr.count("[output-is-input]") == 2
    assert (folder / "a.eml").read_bytes() == PLAIN


def test_two_files_of_one_name_do_not_replace_each_other(folder: Path):
    (folder / "more").mkdir()
    (folder / "more" / "a.eml").write_bytes(PLAIN)
    done = run_sign(
        folder, "--json", "--out-dir", folder / "out", folder / "a.eml", folder / "more" / "a.eml"
    )
    told = json.loads(done.stdout)
    assert [one["code"] for one in told["files"]] == ["", "name-taken"]
    assert (done.exit_code, told["signed"]) == (1, 1)


def test_a_file_that_is_not_there_stops_no_other(folder: Path):
    done = run_sign(folder, "--out-dir", folder / "out", folder / "none.eml", folder / "b.eml")
    assert (done.exit_code, "[file-error]" in done.stderr) == (1, True)
    assert [path.name for path in (folder / "out").iterdir()] == ["b.eml"]


def test_a_bare_signature_has_its_ending_behind_the_name(folder: Path):
    assert run_sign(folder, "--p7s", "--out-dir", folder / "out", folder / "a.eml").exit_code == 0
    assert [path.name for path in (folder / "out").iterdir()] == ["a.eml.p7s"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("a.eml",), ("a.eml", "b.eml", "c.eml"), ("--out-dir", "out"), ("--attached", "a.eml", "o.eml"),
        ("--token", "x", "a.eml", "o.eml"), ("--use-last-try", "a.eml", "o.eml"), ("--pkcs11", "m", "a.eml", "o.eml"),
    ],
    ids=["no output", "three", "no input", "attached", "token of a file", "last try of a file", "both keys"],
)  # fmt: skip
def test_options_that_contradict_each_other_are_wrong_usage(folder: Path, arguments: tuple[str, ...]):
    done = run_sign(folder, *(folder / one if one.endswith(".eml") else one for one in arguments))
    assert done.exit_code == 2
    assert not (folder / "o.eml").exists()


@pytest.mark.parametrize(
    "arguments",
    [(), ("--p12", "x"), ("--pkcs11", "m", "--password-file", "x"), ("--pkcs11", "m", "--token", "t", "--slot", "1")],
    ids=["no key", "no password", "password of a card", "token and slot"],
)  # fmt: skip
def test_a_key_is_named_in_one_way(arguments: tuple[str, ...]):
    assert CliRunner().invoke(main, ["sign", *arguments, "a", "b"]).exit_code == 2


async def test_what_is_too_big_for_memory_is_refused_but_a_detached_signature_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sign_files, "_HELD_MAX", 10)
    codes = []
    for how in (How(), How(p7s=True, attached=True), How(p7s=True)):
        job = Job(folder / "a.eml", folder / f"{len(codes)}.out")
        told: list[FileResult] = []
        await sign_files.sign_files([job], KeySigner(ayse()), how, SystemClock().now, told.append)
        codes.append(told[0].code)
    assert codes == ["too-big", "too-big", ""]


# --------------------------------------------------------------------------- one file


def test_a_file_appears_whole_and_leaves_nothing_beside_it(tmp_path: Path):
    write_new(tmp_path / "x", b"1")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "x", b"2")
    assert (tmp_path / "x").read_bytes() == b"1"
    write_new(tmp_path / "x", b"3", force=True)
    assert (tmp_path / "x").read_bytes() == b"3"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_where_the_file_system_has_no_links_the_same_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_links(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no links here", str(self))

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    write_new(tmp_path / "x", b"1")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "x", b"2")
    assert (tmp_path / "x").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_that_cannot_be_written_is_a_file_error(folder: Path):
    done = run_sign(folder, folder / "a.eml", folder / "none" / "out.eml")
    assert "[file-error]" in done.stderr


def test_a_chain_is_read_from_pem_or_der_and_nothing_else(tmp_path: Path):
    pem, der, bad, empty = (tmp_path / name for name in ("pem", "der", "bad", "empty"))
    pem.write_bytes(b"a remark\n" + to_pem((ayse().certificate, *ayse().chain)))
    der.write_bytes(ayse().chain[0])
    bad.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    empty.write_bytes(b"-----BEGIN PUBLIC KEY-----\n")
    read = [one.der for one in read_chain([pem, der])]
    assert read == [ayse().certificate, *ayse().chain, ayse().chain[0]]
    for path in (bad, empty):
        with pytest.raises(ExitError) as caught:
            read_chain([path])
        assert (caught.value.code, " / " in caught.value.cure) == ("chain-file", True)


async def test_a_tsa_address_that_is_none_is_told(tmp_path: Path):
    (tmp_path / "root").write_bytes(ayse().chain[0])
    with pytest.raises(ExitError) as caught:
        async with open_stamper("ftp://tsa.example/", [tmp_path / "root"]):
            pass
    assert caught.value.code == "tsa-address"


# --------------------------------------------------------------------------- words


def test_every_fault_of_a_card_has_a_cure_in_both_languages():
    assert set(CARD_CURES) == set(CardFault)
    assert {fault.value for fault in CardFault} <= set(TURKISH)
    assert set(FILE_CURES) <= set(TURKISH)


def test_no_sentence_ends_in_a_full_stop_or_is_empty():
    for text in (*CARD_CURES.values(), *FILE_CURES.values(), *TURKISH.values()):
        assert text
        assert not text.endswith(".")


def test_each_turkish_sentence_is_what_was_found_and_then_the_cure():
    for text in TURKISH.values():
        found, between, cure = text.partition(": ")
        assert found
        assert (between, ": " in cure) == (": ", False)
        assert cure
