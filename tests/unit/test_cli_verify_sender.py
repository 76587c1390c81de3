"""`kephs verify --sender`: any person's signature, offline, told in Turkish and English."""

import json
import os
import resource
import subprocess
import sys
from base64 import encodebytes
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from evidence.bundle.making import to_pem
from evidence.mail.mime import scan
from evidence.ports import BytesSource
from evidence.stamps.ers import encode_record
from evidence.verify.at_hand import Sort
from kephs.cli.main import main
from kephs.cli.proof.offline_material import material_in
from kephs.cli.proof.second_opinion import Tools, sender_second_opinion
from kephs.cli.proof.sender_report import sender_report
from kephs.testpki.profiles import make_tckn
from tests.support.bundles import sender_signature
from tests.support.pki import ayse, mehmet, shared_pki
from tests.support.sealed import LATER, STAMPED, dispatch
from tests.support.signers import opaque_message, signed_message
from tests.unit.test_verify_sender import CONTENT, answers, bare, revoked, setting, stamp

AT = LATER.isoformat()
RUN = "import sys; from kephs.cli.main import main; main(sys.argv[1:])"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "root.pem").write_bytes(to_pem(shared_pki().root))
    kept = tmp_path / "kept" / "deeper"
    kept.mkdir(parents=True)
    for name, content in answers(ayse()):
        (kept / name.replace(".ocsp", ".bin")).write_bytes(content)
    (tmp_path / "m.eml").write_bytes(signed_message(ayse()))
    (tmp_path / "text.txt").write_bytes(CONTENT)
    (tmp_path / "text.txt.p7s").write_bytes(bare(ayse()))
    (tmp_path / "inside.p7m").write_bytes(bare(ayse(), inside=True))
    return tmp_path


def run(folder: Path, *arguments: object, kept: bool = True) -> Result:
    more = ["--offline-material", folder / "kept"] if kept else []
    words = ["verify", "--trust", folder / "trust", "--at", AT, *more, *arguments]
    return CliRunner().invoke(main, [str(word) for word in words])


def report(folder: Path, *arguments: object, **options) -> dict:
    result = run(folder, "--json", *arguments, **options)
    (one,) = json.loads(result.stdout)["reports"]
    return one | {"exit": result.exit_code}


# ------------------------------------------------------------------- shapes


@pytest.mark.parametrize("name", ["m.eml", "text.txt.p7s", "inside.p7m"])
def test_a_message_a_detached_and_an_opaque_signature_pass(folder, name):
    result = run(folder, "--sender", folder / name)
    assert result.exit_code == 0, result.output
    assert "GEÇERLİ / valid" in result.stdout
    assert "profile: P1" in result.stdout


def test_content_may_be_named_or_lies_beside(folder):
    away = folder / "elsewhere.bin"
    (folder / "text.txt").rename(away)
    assert run(folder, "--sender", folder / "text.txt.p7s").exit_code == 1
    assert run(folder, "--sender", folder / "text.txt.p7s", "--content", away).exit_code == 0
    away.write_bytes(CONTENT + b" ")
    found = report(folder, "--sender", folder / "text.txt.p7s", "--content", away)
    assert (found["exit"], found["sub_indication"]) == (1, "HASH_FAILURE")


def test_a_file_beside_an_opaque_signature_is_not_taken_for_its_content(folder):
    (folder / "inside").write_bytes(b"other")
    assert run(folder, "--sender", folder / "inside.p7m").exit_code == 0


def test_a_kep_message_is_looked_into(folder):
    (folder / "d.eml").write_bytes(dispatch(original=signed_message(ayse())))
    assert run(folder, "--sender", folder / "d.eml").exit_code == 0


@pytest.mark.parametrize("label", ["PKCS7", "CMS", "SIGNED MESSAGE"])
def test_pem_is_read_whatever_its_label(folder, label):
    text = f"-----BEGIN {label}-----\n{encodebytes(bare(ayse())).decode()}-----END {label}-----\n"
    (folder / "text.txt.p7s").write_text(text)
    assert run(folder, "--sender", folder / "text.txt.p7s").exit_code == 0


def test_an_opaque_message_passes(folder):
    (folder / "m.eml").write_bytes(opaque_message(ayse()))
    assert run(folder, "--sender", folder / "m.eml").exit_code == 0


# ------------------------------------------------------------------- material


def test_without_material_it_is_undecided_and_says_what_to_give(folder):
    result = run(folder, "--sender", folder / "m.eml", kept=False)
    assert result.exit_code == 2
    assert "TRY_LATER" in result.stdout
    assert "--offline-material" in result.stderr


def test_without_trust_nothing_passes(folder):
    words = ["verify", "--at", AT, "--sender", str(folder / "m.eml")]
    assert CliRunner().invoke(main, words).exit_code == 2


def test_single_files_do_too(folder):
    files = [word for path in (folder / "kept" / "deeper").iterdir() for word in ("--revocation", path)]
    assert run(folder, "--sender", folder / "m.eml", *files, kept=False).exit_code == 0


@pytest.mark.parametrize(("minutes", "code"), [(10, 0), (-10, 1)])
def test_the_record_of_reception_beside_it_makes_a_later_revocation_harmless(folder, minutes, code):
    issued = revoked(minutes)
    message = signed_message(issued)
    (folder / "m.eml").write_bytes(message)
    for name, content in answers(issued):
        (folder / "kept" / name).write_bytes(content)
    assert run(folder, "--sender", folder / "m.eml").exit_code == 2
    record = encode_record((), stamp(sender_signature(message)))
    (folder / "kept" / "imza.ers").write_bytes(record)
    found = report(folder, "--sender", folder / "m.eml")
    assert found["exit"] == code
    assert found["facts"]["best_time"] == STAMPED.isoformat()
    assert found["steps"][0]["detail"].startswith("imza.ers: 2026-11-21T09:07:00")


def test_links_that_lead_out_of_the_folder_are_not_followed(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    for path in (folder / "kept" / "deeper").iterdir():
        path.rename(outside / path.name)
    (folder / "kept" / "link").symlink_to(outside)
    for path in outside.iterdir():
        (folder / "kept" / path.name).symlink_to(path)
    assert run(folder, "--sender", folder / "m.eml").exit_code == 2
    assert material_in(outside).of(Sort.OCSP)


def test_pipes_and_links_to_nothing_hold_nothing_up(folder):
    os.mkfifo(folder / "kept" / "pipe")
    (folder / "kept" / "nothing").symlink_to(folder / "kept" / "no")
    (folder / "kept" / "loop").symlink_to(folder / "kept" / "loop")
    assert run(folder, "--sender", folder / "m.eml").exit_code == 0


def test_large_files_in_the_folder_are_passed_over(folder):
    with (folder / "kept" / "large").open("wb") as file:
        file.write(b"0\x84\x3f\xff\xff\xff")
        file.truncate(1 << 30)
    with (folder / "kept" / "film.mp4").open("wb") as file:
        file.truncate(1 << 30)
    assert run(folder, "--sender", folder / "m.eml").exit_code == 0


# ------------------------------------------------------------------- telling


def test_each_finding_has_a_code_and_a_turkish_and_an_english_sentence(folder):
    data = (folder / "m.eml").read_bytes().replace(b"borcunuz", b"borcumuz")
    (folder / "m.eml").write_bytes(data)
    found = report(folder, "--sender", folder / "m.eml")
    (failed,) = [step for step in found["steps"] if step["ok"] is False]
    assert failed["number"] == "3.1.2"
    assert failed["code"]
    assert failed["turkish"] != failed["english"]
    result = run(folder, "--sender", folder / "m.eml")
    assert failed["turkish"] in result.stdout
    assert failed["english"] in result.stdout


def test_what_is_shown_is_compared_with_what_was_signed(folder):
    inner = b"Content-Type: message/rfc822\r\n\r\n" + signed_message(mehmet()).partition(b"\r\nMIME-V")[0]
    unsigned = (
        b"From: ayse@hs91.kep.tr\r\nTo: mehmet@hs91.kep.tr\r\nSubject: Baska\r\nMIME-Version: 1.0\r\n"
        + inner
        + b"\r\n\r\nMetin\r\n"
    )
    (folder / "m.eml").write_bytes(signed_message(ayse(), unsigned=unsigned))
    found = report(folder, "--sender", folder / "m.eml")
    assert (found["exit"], found["sub_indication"]) == (2, "SIG_CONSTRAINTS_FAILURE")
    step = next(one for one in found["steps"] if one["number"] == "6")
    assert step["code"] == "header-differs"


def test_seals_are_counted_where_asked(folder):
    seal = shared_pki().issue_user("Örnek Mühür", make_tckn(91), seal=True)
    for name, content in answers(seal):
        (folder / "kept" / name).write_bytes(content)
    (folder / "m.eml").write_bytes(signed_message(seal))
    assert run(folder, "--sender", folder / "m.eml").exit_code == 2
    assert run(folder, "--sender", folder / "m.eml", "--seals").exit_code == 0


# ------------------------------------------------------------------- wrong use, broken files


@pytest.mark.parametrize(
    "words",
    [
        ("--sender", "m.eml", "--offline-material", "no-such-folder"),
        ("--sender", "m.eml", "--revocation", "no-such-file"),
        ("--sender", "m.eml", "--sender", "inside.p7m", "--content", "text.txt"),
        ("m.eml", "--content", "text.txt"),
    ],
    ids=range(4),
)
def test_wrong_use_ends_with_64(folder, words):
    arguments = [folder / word if not word.startswith("--") else word for word in words]
    assert run(folder, *arguments, kept=False).exit_code == 64


@pytest.mark.parametrize(
    "content",
    [b"", b"\x30", b"\x30\x82\x00\x00", b"-----BEGIN PKCS7-----\n", b"hello", bytes(1000)],
    ids=range(6),
)
def test_what_is_no_signature_is_not_valid_and_no_crash(folder, content):
    (folder / "x.p7s").write_bytes(content)
    result = run(folder, "--sender", folder / "x.p7s")
    assert result.exit_code in (1, 2), result.output
    assert "internal-error" not in result.output


def test_content_for_a_message_is_refused(folder):
    result = run(folder, "--sender", folder / "m.eml", "--content", folder / "text.txt")
    assert result.exit_code == 1
    assert "bare signature" in result.stdout


def test_a_missing_file_is_not_valid(folder):
    assert run(folder, "--sender", folder / "none.eml").exit_code == 1
    assert run(folder, "--sender", folder / "text.txt.p7s", "--content", folder / "none").exit_code == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["content", "opaque", "message"])
def test_a_gigabyte_is_judged_in_bounded_memory(folder, kind):
    big = folder / "big"
    if kind == "content":
        with big.open("wb") as file:
            file.truncate(1 << 30)
        words = ["--sender", folder / "text.txt.p7s", "--content", big]
    else:
        with big.open("wb") as file:
            file.write(b"0\x84\x3f\xff\xff\xfa" if kind == "opaque" else signed_message(ayse()))
            file.truncate(1 << 30)
        words = ["--sender", big]
    command = [sys.executable, "-c", RUN, "verify", "--trust", folder / "trust", "--at", AT, *words]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, timeout=120, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20)),
    )  # fmt: skip
    assert done.returncode in (1, 2), done.stderr
    assert b"internal-error" not in done.stderr


# ------------------------------------------------------------------- others' opinions


@pytest.mark.tools
@pytest.mark.parametrize("name", ["m.eml", "text.txt.p7s", "inside.p7m"])
def test_others_are_asked_and_agree(folder, name):
    found = report(folder, "--sender", folder / name, "--second-opinion")
    assert found["exit"] == 0
    last = found["steps"][-1]
    assert (last["name"], last["ok"]) == ("second opinion", True)
    assert last["detail"] == "agreed: openssl, pyhanko"


@pytest.mark.tools
def test_a_signature_without_its_intermediates_is_shown_to_others_with_them(folder):
    (folder / "m.eml").write_bytes(signed_message(ayse(), chain=False))
    (folder / "trust" / "intermediates").mkdir()
    (folder / "trust" / "intermediates" / "ca.pem").write_bytes(to_pem(ayse().chain[0]))
    assert report(folder, "--sender", folder / "m.eml", "--second-opinion")["exit"] == 0


@pytest.mark.tools
def test_they_are_asked_about_the_proven_time(folder):
    soon = shared_pki().issue_user("Süresi Dolmuş", make_tckn(92), not_after=STAMPED + timedelta(minutes=1))
    message = signed_message(soon)
    (folder / "m.eml").write_bytes(message)
    (folder / "kept" / "r").write_bytes(encode_record((), stamp(sender_signature(message))))
    for name, content in answers(soon, at=STAMPED):
        (folder / "kept" / name).write_bytes(content)
    found = report(folder, "--sender", folder / "m.eml", "--second-opinion")
    assert found["exit"] == 0, found["steps"]


def test_a_refusal_by_others_undoes_a_pass(folder):
    no = folder / "no"
    no.write_text("#!/bin/sh\necho refused >&2\nexit 1\n")
    no.chmod(0o755)
    made = sender_report(BytesSource(bare(ayse())), BytesSource(CONTENT), setting(*answers(ayse())))
    assert made.report.passed
    assert made.signed is not None
    tools = Tools(str(no), None, None)
    told = sender_second_opinion(
        made.signed.der, made.signed.content, made.report, setting().trust, LATER, tools=tools
    )
    assert not told.passed
    assert told.failing_step.name == "second opinion"


def test_a_broken_twin_is_not_saved_by_others(folder):
    yes = folder / "yes"
    yes.write_text("#!/bin/sh\nexit 0\n")
    yes.chmod(0o755)
    made = sender_report(BytesSource(bare(ayse())), BytesSource(b"x"), setting(*answers(ayse())))
    assert made.signed is not None
    tools = replace(Tools(str(yes), None, None), time_limit=10)
    told = sender_second_opinion(
        made.signed.der, made.signed.content, made.report, setting().trust, LATER, tools=tools
    )
    assert told.verdict == made.report.verdict
    assert scan(BytesSource(signed_message(ayse()))).children
