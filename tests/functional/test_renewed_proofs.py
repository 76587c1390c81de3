"""Proofs that go out after a round of renewal outlive the authority that stamped first: an instance, years on."""

import json
import re
import shutil
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import new as new_hash
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from evidence.ports import BytesSource
from evidence.report import Step, Verdict
from evidence.stamps.ers import read_record
from evidence.stamps.ers_check import check_record
from evidence.verify.bundle_dispatch import Beside, dispatch_part
from evidence.verify.bundle_sender import SenderFiles, sender_part
from evidence.x509.chain import TrustStore
from evidence.x509.role import SealPolicy
from kephs.dossier.facts import BUNDLE_NAME
from tests.functional.site import Site, compose, kephs, sign, until
from tests.support.pdfa import attachments

pytestmark = pytest.mark.slow

FIRST_ENDS = timedelta(days=30)
LATER = timedelta(days=60)
"""After the end of the first authority's certificate, within the life of the second's."""


@dataclass(frozen=True)
class Renewed:
    """A message stamped by an authority that ends soon; then another one renewed its proofs."""

    site: Site
    message_id: str
    evidence_ids: tuple[str, ...]
    early: Path  # its bundle as it was made before the round


def _swap_authority(site: Site, not_after: datetime) -> None:
    """Give the TEST PKI another time-stamping certificate; its server reads it when it starts."""
    site.pki.issue_tsa(not_after=not_after).write(site.settings.test_pki.directory, "tsa")


@pytest.fixture(scope="module")
def renewed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Renewed]:
    folder = tmp_path_factory.mktemp("renewed")
    site = Site(folder / "hs91")
    try:
        now = datetime.now(UTC)
        _swap_authority(site, now + FIRST_ENDS)
        ayse = site.with_core(lambda core: site.open(core, "ayse", "Ayşe Yılmaz"))
        mehmet = site.with_core(lambda core: site.open(core, "mehmet", "Mehmet Demir"))
        site.start()
        letter = sign(compose(ayse.address, mehmet.address), ayse.issued)
        answer = site.submit(ayse, letter, [mehmet.address])
        assert answer.code == 250, answer

        def found() -> list[str]:
            shown = json.loads(kephs("show", site.home, answer.message_id, "--json").stdout)
            ids = re.findall(r'"id": "([^"]+)", "code"', json.dumps(shown))
            return ids if shown["recipients"][0]["state"] == "delivered" else []

        ids = until(found, "the delivery")
        early = folder / "early.kepdelil"
        kephs("bundle", site.home, answer.message_id, early)
        site.stop()
        _swap_authority(site, now + timedelta(days=700))
        site.start()
        kephs("archive", "seal", site.home)
        made = json.loads(kephs("archive", "renew", site.home, "--now", "--json").stdout)
        assert made["round"]["leaves"] >= 1
        yield Renewed(site, answer.message_id, tuple(ids), early)
        site.stop()
    finally:
        site.close()


def verdict(renewed: Renewed, path: Path, after: timedelta = LATER) -> dict[str, Any]:
    """Return the report of a file at a time after now; nothing is asked of a network."""
    at = (datetime.now(UTC) + after).isoformat()
    trust = renewed.site.home / "trust"
    done = kephs("verify", path, "--trust", trust, "--at", at, "--json", ok=False)
    (report,) = json.loads(done.stdout)["reports"]
    return dict(report)


def stamps(record: bytes) -> int:
    return sum(map(len, read_record(record).chains))


def records_in(bundle: Path) -> list[int]:
    with zipfile.ZipFile(bundle) as archive:
        names = [one for one in archive.namelist() if one.startswith("delil/") and one.endswith(".ers")]
        return [stamps(archive.read(name)) for name in names]


@pytest.mark.parametrize("deep", [(), ("--deep",)], ids=["plain", "deep"])
def test_rows_and_archive_hold_after_a_round(renewed: Renewed, deep: tuple[str, ...]) -> None:
    done = kephs("fsck", renewed.site.home, *deep)
    assert "everything holds" in done.stdout


def test_a_bundle_carries_renewed_records_and_passes_when_the_first_authority_has_ended(
    renewed: Renewed, tmp_path: Path
) -> None:
    out = tmp_path / "b.kepdelil"
    kephs("bundle", renewed.site.home, renewed.message_id, out)
    assert records_in(out) == [2, 2]
    assert verdict(renewed, out, timedelta())["verdict"] == "TOTAL-PASSED"
    later = verdict(renewed, out)
    assert later["verdict"] == "TOTAL-PASSED", [step for step in later["steps"] if step["ok"] is not True]
    assert [
        step["name"] for step in later["steps"] if step["ok"] is None and "has ended" in step["detail"]
    ] == ["KEP message", "time of the holder's signature"]


def test_broken_twin_without_the_round_nothing_is_decided(renewed: Renewed) -> None:
    assert records_in(renewed.early) == [1, 1]
    assert verdict(renewed, renewed.early, timedelta())["verdict"] == "TOTAL-PASSED"
    assert verdict(renewed, renewed.early)["verdict"] == "INDETERMINATE"


def test_the_dossier_has_the_same_bundle_inside(renewed: Renewed, tmp_path: Path) -> None:
    bundle, pdf, inside = (tmp_path / name for name in ("b.kepdelil", "d.pdf", "inside.kepdelil"))
    kephs("bundle", renewed.site.home, renewed.message_id, bundle)
    kephs("dossier", renewed.site.home, renewed.message_id, pdf, "--lang", "tr")
    inside.write_bytes(attachments(pdf.read_bytes())[BUNDLE_NAME])
    assert inside.read_bytes() == bundle.read_bytes()
    assert verdict(renewed, inside)["verdict"] == "TOTAL-PASSED"


def test_an_export_has_the_renewed_record_beside_it(renewed: Renewed, tmp_path: Path) -> None:
    for number, evidence_id in enumerate(renewed.evidence_ids):
        out = tmp_path / f"{number}.xml"
        kephs("export", renewed.site.home, evidence_id, out)
        record = out.with_suffix(".ers")
        assert stamps(record.read_bytes()) == 2
        assert verdict(renewed, out)["verdict"] == "TOTAL-PASSED"
        record.write_bytes(stored_record(renewed, evidence_id))  # the broken twin: as it was before the round
        assert verdict(renewed, out, timedelta())["verdict"] == "TOTAL-PASSED"
        assert verdict(renewed, out)["verdict"] == "INDETERMINATE"


def test_a_proof_from_the_ledger_has_the_renewed_record_beside_it(renewed: Renewed, tmp_path: Path) -> None:
    for evidence_id in renewed.evidence_ids:
        out = tmp_path / f"{evidence_id}.proof"
        kephs("ledger", "prove", renewed.site.home, evidence_id, out)
        xml, record = out.with_suffix(".xml"), out.with_suffix(".ers")
        xml.write_bytes(evidence_of(renewed, evidence_id))
        assert stamps(record.read_bytes()) == 2
        assert verdict(renewed, xml)["verdict"] == "TOTAL-PASSED"
        record.write_bytes(stored_record(renewed, evidence_id))
        assert verdict(renewed, xml)["verdict"] == "INDETERMINATE"


def test_where_the_archive_lacks_the_round_nothing_goes_out_with_an_old_record(
    renewed: Renewed, tmp_path: Path
) -> None:
    home, out = tmp_path / "hs91", tmp_path / "b.kepdelil"
    copied(renewed.site.home, home)
    for path in (home / "data" / "archive").rglob("yenileme*"):
        shutil.rmtree(path)
    done = kephs("bundle", home, renewed.message_id, out, ok=False)
    assert (done.returncode, "[archive-silent]" in done.stderr) == (1, True), done.stderr
    done = kephs("dossier", home, renewed.message_id, tmp_path / "d.pdf", ok=False)
    assert (done.returncode, "[archive-silent]" in done.stderr) == (1, True), done.stderr
    done = kephs("export", home, renewed.evidence_ids[0], tmp_path / "x.xml", ok=False)
    assert (done.returncode, "[archive-silent]" in done.stderr) == (1, True), done.stderr
    done = kephs("ledger", "prove", home, renewed.evidence_ids[0], tmp_path / "x.proof", ok=False)
    assert done.returncode == 1, done.stdout
    assert "archive" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["hs91"]


def early(renewed: Renewed) -> dict[str, bytes]:
    with zipfile.ZipFile(renewed.early) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def evidence_of(renewed: Renewed, evidence_id: str) -> bytes:
    return early(renewed)[name_of(renewed, evidence_id)]


def stored_record(renewed: Renewed, evidence_id: str) -> bytes:
    return early(renewed)[name_of(renewed, evidence_id).replace(".xml", ".ers")]


def name_of(renewed: Renewed, evidence_id: str) -> str:
    return next(
        name for name, content in early(renewed).items()
        if name.startswith("delil/") and name.endswith(".xml") and evidence_id.encode() in content
    )  # fmt: skip


def copied(home: Path, target: Path) -> None:
    """Copy an instance whose server runs, at rest."""
    shutil.copytree(home, target, ignore=shutil.ignore_patterns("clamd", "run", "kephs.db*"))
    (target / "run").mkdir()
    with (
        closing(sqlite3.connect(home / "data" / "kephs.db")) as source,
        closing(sqlite3.connect(target / "data" / "kephs.db")) as copy,
    ):
        source.backup(copy)


# --- what the KEP message and the holder's signature in a bundle rest on then ---------------------


def judged(renewed: Renewed, dispatch: bytes, beside: Beside, after: timedelta = LATER) -> Step:
    at = datetime.now(UTC) + after
    _, step = dispatch_part(BytesSource(dispatch), renewed.site.trust, at, SealPolicy(), beside, number="8")
    return step


def beside(renewed: Renewed) -> Beside:
    files = early(renewed)
    evidences = {sha256(one).digest() for name, one in files.items() if name.startswith("delil/")}
    return Beside(evidences, sha256(files["ileti/original.eml"]).digest())


def test_the_kep_message_is_a_note_when_its_stamp_has_ended_and_it_carries_what_is_proven_beside(
    renewed: Renewed,
) -> None:
    dispatch = early(renewed)["ileti/dispatch.eml"]
    assert judged(renewed, dispatch, beside(renewed), timedelta()).ok is True
    assert judged(renewed, dispatch, beside(renewed)).ok is None


@pytest.mark.parametrize("after", [timedelta(), LATER], ids=["today", "later"])
def test_a_kep_message_that_carries_something_else_fails_at_any_time(
    renewed: Renewed, after: timedelta
) -> None:
    dispatch, known = early(renewed)["ileti/dispatch.eml"], beside(renewed)
    assert judged(renewed, dispatch, Beside((), known.original), after).verdict is Verdict.FAILED
    assert judged(renewed, dispatch, Beside(known.evidences, bytes(32)), after).verdict is Verdict.FAILED
    for word in (b"Ihtar", b"smime.p7s", b"kephs", b"delil"):
        at = dispatch.rfind(word)
        if at < 0:
            continue
        broken = dispatch[:at] + bytes([dispatch[at] ^ 1]) + dispatch[at + 1 :]
        assert judged(renewed, broken, known, after).ok is False, word


def test_a_seal_changed_in_its_last_octets_is_no_note(renewed: Renewed) -> None:
    dispatch = early(renewed)["ileti/dispatch.eml"]
    at = dispatch.rindex(b"\r\n\r\n") + 400  # in the base64 of the signature part
    letter = b"A" if dispatch[at : at + 1] != b"A" else b"B"
    assert judged(renewed, dispatch[:at] + letter + dispatch[at + 1 :], beside(renewed)).ok is False


def test_without_trusted_roots_the_kep_message_is_undecided(renewed: Renewed) -> None:
    dispatch = early(renewed)["ileti/dispatch.eml"]
    _, step = dispatch_part(
        BytesSource(dispatch), TrustStore(()), datetime.now(UTC) + LATER, SealPolicy(), beside(renewed),
        number="8",
    )  # fmt: skip
    assert (step.ok, step.verdict) == (False, Verdict.INDETERMINATE)


def test_the_holders_signature_needs_evidence_10_when_its_own_record_has_ended(renewed: Renewed) -> None:
    files = early(renewed)
    record = check_record(
        stored_record(renewed, renewed.evidence_ids[0]),
        lambda name: new_hash(name, evidence_of(renewed, renewed.evidence_ids[0])).digest(),
        renewed.site.trust, datetime.now(UTC),
    )  # fmt: skip
    accepted_at = record.proven_at
    assert accepted_at is not None
    for proven, outcome in ((accepted_at, None), (None, Verdict.INDETERMINATE)):
        part = sender_part(
            SenderFiles(
                BytesSource(files["ileti/original.eml"]), BytesSource(files["imza.p7s"]),
                sha256(files["imza.p7s"]).digest(), files["imza.ers"], files["imza-rapor.json"],
                {name: one for name, one in files.items() if name.startswith("dogrulama/")}, proven,
            ),
            renewed.site.trust, datetime.now(UTC) + LATER, SealPolicy(), first=14,
        )  # fmt: skip
        step = next(one for one in part.steps if one.name == "time of the holder's signature")
        assert step.verdict is outcome
        assert [one.ok for one in part.steps if one.number == "16"] == ([True] if proven else [])
