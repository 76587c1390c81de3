"""`kephs sign`: any line ends in, a signed message with CRLF out; `--diagnose` names what would be refused."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import assume, given
from hypothesis import strategies as st

from evidence.adapters.soft_signer import SoftSigner
from evidence.mail.kep_message import is_kep_message
from evidence.mail.mime import scan
from evidence.mail.smime import locate, read_signed
from evidence.mail.smime_sign import sign_message
from evidence.ports import BytesSource
from kephs.cli.main import main
from kephs.cli.sign.letter import letter_problem
from kephs.system import SystemClock
from tests.support.cards import pss_only
from tests.support.pki import AYSE_TCKN, P12_PASSWORD, ayse, p12_of, shared_pki
from tests.support.signers import verified

PLAIN = "From: ayse@hs91.kep.tr\nTo: mehmet@hs91.kep.tr\nSubject: Ihtar\nDate: Sat, 21 Nov 2026 12:00:00 +0300\nMessage-ID: <1@x>\n\nSayın Bay\n"
HEAD = b"From: ayse@hs91.kep.tr\nDate: Sat, 21 Nov 2026 12:00:00 +0300\nSubject: x\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text(P12_PASSWORD + "\n")
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "in.eml").write_text(PLAIN)
    return tmp_path


def _sign(folder: Path, *more: str, p12: Path | None = None) -> Result:
    key = p12 or p12_of(ayse(), folder)
    arguments = ["sign", *more, "--p12", str(key), "--password-file", str(folder / "password")]
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def _signed(folder: Path) -> bytes:
    result = _sign(folder, "--force", str(folder / "in.eml"), str(folder / "out.eml"))
    assert result.exit_code == 0, result.output
    return (folder / "out.eml").read_bytes()


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_any_line_ends_go_in_and_crlf_comes_out_under_a_valid_signature(folder: Path, line_end: str):
    (folder / "in.eml").write_bytes(PLAIN.replace("\n", line_end).encode())
    message = _signed(folder)
    assert b"\n" not in message.replace(b"\r\n", b"")
    assert not is_kep_message(scan(BytesSource(message)))
    report = verified(message, at=SystemClock().now())
    steps = {step.number: step.ok for step in report.report.steps}
    assert steps["1"]
    assert steps["3.1.2"], "the digest fits the exact bytes"
    assert steps["3.1.4"], "the signature holds"


async def test_a_key_that_allows_only_pss_signs_with_pss():
    issued = pss_only(
        shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN, key="rsa2048"), shared_pki().authorities["p384"]
    )
    signer, now = SoftSigner(issued.key, issued.certificate, issued.chain), SystemClock().now()
    report = verified(await sign_message(PLAIN.encode(), signer, now, boundary="b1"), at=now)
    assert {step.number: step.ok for step in report.report.steps}["3.1.4"]


def test_boundaries_are_random(folder: Path):
    boundaries = {scan(BytesSource(_signed(folder))).boundary for _ in range(3)}
    assert len(boundaries) == 3


def test_the_chain_is_embedded(folder: Path):
    source = BytesSource(_signed(folder))
    found = read_signed(locate(source, scan(source))).certificates
    assert set(found) == {ayse().certificate, *ayse().chain}


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"no header at all", "header"), (b"", "header"), (HEAD + b"\nnul\0\n", "NUL"),
     (HEAD + b"\n" + b"x" * 1200, "998")],
)  # fmt: skip
def test_what_cannot_be_signed_is_refused_with_the_reason(folder: Path, content: bytes, word: str):
    (folder / "in.eml").write_bytes(content)
    result = _sign(folder, str(folder / "in.eml"), str(folder / "out.eml"))
    assert result.exit_code == 1
    assert "[unsignable]" in result.stderr
    assert word in result.stderr
    assert not (folder / "out.eml").exists()


@pytest.mark.parametrize("crlf", [False, True])
@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (b"Date: Sat, 21 Nov 2026 12:00:00 +0300\nTo: x@y\n", "no From"),
        (b"From: ayse@hs91.kep.tr\nTo: x@y\n", "no Date"),
        (b"Subject: x\n", "no From and no Date"),
        (b"From: ayse@hs91.kep.tr\nDate:\n", "no Date"),
        (b"From: \nDate: Sat, 21 Nov 2026 12:00:00 +0300\n", "no From"),
        (HEAD + b"From: mehmet@hs91.kep.tr\n", "more than one From"),
        (HEAD + b"Date: Sun, 22 Nov 2026 12:00:00 +0300\n", "more than one Date"),
        (HEAD.replace(b"hs91.kep.tr", b"hs91.kep.tr, mehmet@hs91.kep.tr"), "From names 2 addresses"),
        (HEAD.replace(b"ayse@hs91.kep.tr", b"Ayse <ayse@hs91.kep.tr"), "From cannot be read"),
    ],
    ids=[
        "from",
        "date",
        "both",
        "empty-date",
        "empty-from",
        "two-from",
        "two-date",
        "two-senders",
        "broken-from",
    ],
)
def test_a_letter_without_one_from_and_one_date_is_refused_before_the_key_is_used(
    folder: Path, head: bytes, problem: str, crlf: bool
):
    letter = head + b"\nFrom: in the body\nDate: in the body\n"
    (folder / "in.eml").write_bytes(letter.replace(b"\n", b"\r\n") if crlf else letter)
    result = _sign(folder, "--json", str(folder / "in.eml"), str(folder / "out.eml"))
    (told,) = json.loads(result.stdout)["files"]
    assert (result.exit_code, told["code"]) == (1, "letter-incomplete")
    assert problem in told["error"]
    assert told["cure"].startswith("write From")
    assert "Kimden (From) ya da Tarih (Date)" in told["cure"]
    assert not (folder / "out.eml").exists()


@given(st.binary(max_size=300))
def test_any_octets_get_an_answer_and_a_good_head_before_them_makes_a_letter(octets: bytes):
    assert isinstance(letter_problem(octets), str)
    assert letter_problem(HEAD + b"\n" + octets) == ""


@given(st.lists(st.sampled_from([b"From: a@b", b"Date: x", b"To: c@d", b" folded", b"no colon"]), max_size=8))
def test_one_from_and_one_date_are_asked_for_wherever_they_stand(lines: list[bytes]):
    assume(lines and b":" in lines[0] and b"no colon" not in lines)
    good = lines.count(b"From: a@b") == lines.count(b"Date: x") == 1
    folded_from = b" folded" in lines[lines.index(b"From: a@b") + 1 :][:1] if good else False
    assume(not folded_from)
    assert (letter_problem(b"\r\n".join(lines) + b"\r\n\r\nbody") == "") is good


def test_its_twin_with_from_and_date_is_signed(folder: Path):
    (folder / "in.eml").write_bytes(HEAD + b"\nFrom: in the body\n")
    result = _sign(folder, "--json", str(folder / "in.eml"), str(folder / "out.eml"))
    assert json.loads(result.stdout)["files"][0]["cure"] == ""
    assert result.exit_code == 0


def test_a_bare_signature_asks_for_no_letter(folder: Path):
    (folder / "in.eml").write_bytes(b"Subject: x\n\nno letter\n")
    assert _sign(folder, "--p7s", str(folder / "in.eml"), str(folder / "out.p7s")).exit_code == 0


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_password_file_that_others_can_read_is_warned_of_with_the_cure(
    folder: Path, mode: int, warned: bool
):
    (folder / "password").chmod(mode)
    result = _sign(folder, "--json", str(folder / "in.eml"), str(folder / "out.eml"))
    assert result.exit_code == 0, "programs that write such a file go on working"
    assert json.loads(result.stdout)["signed"] == 1
    assert ("[password-file-open]" in result.stderr) is warned
    assert ("chmod 600" in result.stderr) is warned
    assert ("başkaları okuyabilir" in result.stderr) is warned
    diagnosed = _sign(folder, "--diagnose", "--json")
    assert ("[password-file-open]" in diagnosed.stderr) is warned
    assert json.loads(diagnosed.stdout)["findings"]


def test_a_password_file_that_is_not_there_is_told_as_such(folder: Path):
    (folder / "password").unlink()
    result = _sign(folder, "--diagnose")
    assert (result.exit_code, "[password-file]" in result.stderr) == (1, True)


def test_a_signed_message_is_not_signed_again(folder: Path):
    (folder / "in.eml").write_bytes(_signed(folder))
    result = _sign(folder, str(folder / "in.eml"), str(folder / "twice.eml"))
    assert "signed already" in result.stderr


def test_a_wrong_password_is_told_as_such(folder: Path):
    (folder / "password").write_text("yanlis")
    result = _sign(folder, str(folder / "in.eml"), str(folder / "out.eml"))
    assert result.exit_code == 1
    assert "wrong password" in result.stderr


def test_without_files_it_is_wrong_usage(folder: Path):
    assert _sign(folder).exit_code == 2


# --------------------------------------------------------------------------- --diagnose


def _diagnose(folder: Path, **defect) -> tuple[int, dict[str, str]]:
    pki = shared_pki()
    now = SystemClock().now()
    defect.setdefault("not_before", now - timedelta(days=1))
    defect.setdefault("not_after", now + timedelta(days=365))
    issued = pki.issue_user("Ayşe Yılmaz", AYSE_TCKN, **defect)
    result = _sign(folder, "--diagnose", "--json", p12=p12_of(issued, folder))
    found = json.loads(result.stdout)["findings"]
    assert all(all(one["text"].split(" / ", 1)) and " / " in one["text"] for one in found)
    assert all(" / " in one["cure"] for one in found if one["level"] != "ok")
    assert all(bool(one["cure"]) == (one["level"] != "ok") for one in found)
    return result.exit_code, {one["code"]: one["level"] for one in found}


def test_a_good_key_file_has_no_error_and_says_that_nobody_could_be_asked(folder: Path):
    code, levels = _diagnose(folder)
    assert code == 0
    assert {name for name, level in levels.items() if level != "ok"} == {"revocation", "clock"}


@pytest.mark.parametrize(
    ("defect", "finding"),
    [
        ({"qualified": False}, "qualified"),
        ({"btk": False}, "qualified"),
        ({"seal": True}, "qualified"),
        ({"non_repudiation": False}, "key-usage"),
        ({"user_notice": False}, "policies"),
        ({"mali_muhur": True}, "policies"),
        ({"key": "rsa1024"}, "key-type"),
    ],
)
def test_each_defect_of_a_certificate_is_found(folder: Path, defect, finding):
    code, levels = _diagnose(folder, **defect)
    assert (code, levels[finding]) == (1, "error")
    assert [name for name, level in levels.items() if level == "error"] == [finding]


@pytest.mark.parametrize(
    ("begin", "end", "level"), [(-9, -1, "error"), (1, 90, "error"), (-9, 9, "warning"), (-9, 90, "ok")]
)
def test_the_validity_of_the_certificate_is_told(folder: Path, begin: int, end: int, level: str):
    now = SystemClock().now()
    _, levels = _diagnose(folder, not_before=now + timedelta(days=begin), not_after=now + timedelta(days=end))
    assert levels["validity"] == level


def test_a_transaction_certificate_is_told_from_a_holders(folder: Path):
    issued = shared_pki().transactions["hs91.kep.tr"]
    result = _sign(folder, "--diagnose", p12=p12_of(issued, folder))
    assert result.exit_code == 1
    assert "ERROR" in result.stdout


def test_a_file_that_is_no_key_file_is_the_only_finding(folder: Path):
    (folder / "x.p12").write_bytes(b"nothing")
    result = _sign(folder, "--diagnose", p12=folder / "x.p12")
    assert result.exit_code == 1
    assert result.stdout.startswith("ERROR   key-file")
