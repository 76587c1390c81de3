"""`kephs verify --second-opinion`: strangers' programs agree, a disagreement is shown, a missing one is said."""

import asyncio
import json
import os
import stat
import subprocess
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner

from evidence.model.records import Profile
from evidence.ports import BytesSource
from evidence.report import Step, SubIndication, Verdict, conclude
from evidence.verify.files import verify_source
from evidence.x509.chain import TrustStore
from kephs.cli.main import main
from kephs.cli.proof.second_opinion import Tools, second_opinion
from kephs.testpki.issued import to_pem
from tests.support.batches import LocalBatcher, accepted_in_batch, batched, delivered_in_batch
from tests.support.bundles import bundle, everything
from tests.support.evidence_samples import record
from tests.support.pki import make_pki, shared_pki
from tests.support.sealed import HS92, LATER, accepted, delivered, dispatch, foreign_xml, receipt, seal, trust

pytestmark = pytest.mark.tools
E = delivered_in_batch()
NOBODY = Tools(None, None, None)


def beside(**files: bytes):
    return lambda ending: BytesSource(files[ending[1:]]) if ending[1:] in files else None


def opinion(data: bytes, *, store: TrustStore | None = None, tools: Tools | None = None, **files: bytes):
    store = store or trust()
    source = BytesSource(data)
    report = verify_source(source, store, LATER, beside=beside(**files))
    return second_opinion(source, report, store, LATER, beside=beside(**files), tools=tools)


def said(report) -> list[tuple[str, bool | None]]:
    part = next(part for part in report.parts if part.subject == "second opinion")
    return [(step.name.partition(":")[0], step.ok) for step in part.steps]


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


ALL = [("xmlsec1", True), ("openssl", True), ("pyhanko", True)]


@pytest.mark.parametrize("profile", Profile)
def test_all_three_accept_evidence_with_its_record(profile):
    evidence = batched(profile=profile)[0]
    report = opinion(evidence.xml, ers=evidence.ers)
    assert report.passed, report.failing_step
    assert said(report) == ALL
    assert report.steps[-1].detail == "agreed: openssl, pyhanko, xmlsec1"


def test_all_three_accept_evidence_with_a_stamp_of_its_own():
    assert said(opinion(delivered().xml)) == ALL
    assert said(opinion(seal(record(issuer=HS92)).xml)) == ALL


def test_they_accept_a_record_alone():
    assert said(opinion(E.ers, xml=E.xml)) == ALL[1:]


def test_they_accept_kep_messages_and_the_evidence_inside():
    for message in (dispatch(), dispatch(accepted_in_batch()), receipt(E)):
        report = opinion(message)
        assert report.passed, report.failing_step
        assert {name for name, _ in said(report)} == {"openssl", "pyhanko", "xmlsec1"}
        assert all(ok for _, ok in said(report))


def test_they_accept_what_another_writer_made():
    xml = foreign_xml(record())
    (ers,) = asyncio.run(LocalBatcher().records([sha256(xml).digest()]))
    assert opinion(xml, ers=ers).passed


def test_they_refuse_too_what_was_changed():
    changed = E.xml.replace(b"Deneme", b"deneme")
    report = opinion(changed, ers=E.ers)
    assert report.verdict is Verdict.FAILED
    assert ("xmlsec1", True) in said(report)  # agrees with us: it refuses
    report = opinion(dispatch().replace(b"Merhaba", b"merhaba"))
    assert report.verdict is Verdict.FAILED
    assert said(report)[0] == ("openssl", True)


def test_they_refuse_too_without_our_roots():
    report = opinion(E.xml, store=TrustStore((make_pki().root,)), ers=E.ers)
    assert report.verdict is Verdict.INDETERMINATE
    assert all(ok for _, ok in said(report))
    assert not opinion(E.xml, store=TrustStore(()), ers=E.ers).passed


def test_what_they_accept_undoes_no_refusal_of_ours():
    (evidence,) = batched(record(issuer=HS92))  # sealed by hs91: a role they know nothing of
    report = opinion(evidence.xml, ers=evidence.ers)
    assert report.verdict is Verdict.FAILED
    assert report.failing_step.name == "role"
    assert said(report)[0] == ("xmlsec1", None)


def test_a_disagreement_is_shown_and_undoes_the_pass(tmp_path):
    refusing = program(tmp_path / "xmlsec1", "echo 'no, never' >&2; exit 1")
    report = opinion(E.xml, tools=replace(NOBODY, xmlsec1=refusing), ers=E.ers)
    assert (report.verdict, report.sub_indication) == (Verdict.INDETERMINATE, SubIndication.GENERIC)
    assert "refuses what we accept: no, never" in report.failing_step.detail


def test_a_program_that_never_answers_is_stopped_and_said(tmp_path):
    sleeping = program(tmp_path / "xmlsec1", "exec sleep 60")
    tools = Tools(None, sleeping, None, time_limit=0.2)
    report = opinion(E.xml, tools=tools, ers=E.ers)
    assert report.passed
    part = report.parts[-1]
    assert [step.detail for step in part.steps if step.name.startswith("xmlsec1:")] == [
        "no answer within 0.2 s"
    ]


def test_missing_tools_are_said():
    report = opinion(E.xml, tools=NOBODY, ers=E.ers)
    assert report.passed
    assert [step.detail for step in report.parts[-1].steps] == ["not installed: not asked"] * 3
    assert (report.steps[-1].ok, report.steps[-1].detail) == (None, "nobody could be asked")


def test_nothing_is_shown_to_others_that_we_cannot_read(tmp_path):
    asked = tmp_path / "asked"
    spying = program(tmp_path / "spy", f"touch {asked}")
    tools = Tools(spying, spying, spying)
    for junk in (
        b"<x/>",
        b"\x30\x03\x02\x01\x01",
        b"a: b\r\n\r\n",
        b"PK\x03\x04",
        E.xml.replace(b"?>", b"?><!DOCTYPE x>"),
    ):
        assert not opinion(junk, tools=tools, ers=b"", xml=b"").passed
    assert not asked.exists()


def test_their_files_are_private_and_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    import tempfile  # noqa: PLC0415 - only here

    monkeypatch.setattr(tempfile, "tempdir", None)
    mode = tmp_path / "mode"
    noting = program(tmp_path / "note", f"stat -c %a . > {mode}")
    opinion(E.xml, tools=replace(NOBODY, xmlsec1=noting), ers=E.ers)
    assert mode.read_text().strip() == "700"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mode", "note"]


def test_they_accept_a_bundle_and_everything_signed_inside():
    report = opinion(bundle(everything()))
    asked = [step.name for step in report.parts[-1].steps]
    assert any("manifest.p7s" in name or "manifest.json" in name for name in asked)
    assert all(step.ok for step in report.parts[-1].steps), report.parts[-1].failing_step
    assert {name.partition(":")[0] for name in asked} == {"openssl", "pyhanko", "xmlsec1"}


def test_only_so_many_questions_are_asked(monkeypatch):
    monkeypatch.setattr("kephs.cli.proof.second_opinion.ASKED_MAX", 3)
    report = opinion(dispatch(accepted_in_batch()))
    assert [step.detail for step in report.parts[-1].steps] == [
        "accepts", "accepts", "not asked: after 3 questions",
    ]  # fmt: skip


def test_content_that_is_too_large_is_not_copied(monkeypatch):
    monkeypatch.setattr("kephs.cli.proof.second_opinion.CONTENT_MAX", 100)
    report = opinion(dispatch(accepted_in_batch()))
    assert report.parts[-1].steps[0].detail == "too large to be copied: not asked"
    assert report.passed


def test_a_report_that_failed_keeps_its_verdict():
    failed = conclude("x", [Step("1", "format", ok=False, verdict=Verdict.FAILED)], LATER)
    joined = second_opinion(BytesSource(b"junk"), failed, trust(), LATER, tools=NOBODY)
    assert joined.verdict is Verdict.FAILED


# ------------------------------------------------------------------- the command


@pytest.fixture
def files(tmp_path):
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "root.pem").write_bytes(to_pem((shared_pki().root,)))
    (tmp_path / "d.xml").write_bytes(E.xml)
    (tmp_path / "d.ers").write_bytes(E.ers)
    (tmp_path / "a.xml").write_bytes(accepted().xml)
    return tmp_path


def command(files: Path, *names: str, **options):
    words = [
        "verify",
        "--json",
        "--second-opinion",
        "--trust",
        str(files / "trust"),
        "--at",
        LATER.isoformat(),
    ]
    return CliRunner().invoke(main, [*words, *(str(files / name) for name in names)], **options)


def test_the_command_exits_0_where_all_agree(files):
    done = command(files, "d.xml", "d.ers", "a.xml")
    assert done.exit_code == 0, done.output
    for report in json.loads(done.output)["reports"]:
        assert report["parts"][-1]["subject"] == "second opinion"


def test_the_command_exits_2_where_one_disagrees(files, tmp_path):
    bad = tmp_path / "bin"
    bad.mkdir()
    program(bad / "openssl", "exit 1")
    done = command(files, "d.xml", env={"PATH": f"{bad}:{os.environ['PATH']}"})
    assert done.exit_code == 2, done.output


def test_the_command_asks_nobody_unless_told(files):
    words = ["verify", "--json", "--trust", str(files / "trust"), "--at", LATER.isoformat()]
    done = CliRunner().invoke(main, [*words, str(files / "d.xml")])
    assert "second opinion" not in done.output


def test_the_child_says_why_it_refuses_and_when_it_cannot_be_asked(files):
    import sys  # noqa: PLC0415 - only here

    root = str(files / "trust" / "root.pem")
    empty = files / "empty"
    empty.write_bytes(b"")
    words = [
        sys.executable,
        "-I",
        "-m",
        "kephs.cli.proof.pyhanko_child",
        "stamp",
        LATER.isoformat(),
        root,
        str(empty),
    ]
    done = subprocess.run([*words, str(files / "d.xml"), str(empty)], capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr
    done = subprocess.run([*words, str(files / "nothing"), str(empty)], capture_output=True, check=False)
    assert done.returncode == 70
