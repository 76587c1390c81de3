"""`kephs bundle` beside a running server: the same bytes again, verified offline, also with a lot in it."""

import json
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from evidence.bundle.readme import commands
from evidence.stamps.ers import split_record
from kephs.cli.proof.bundle import _CURES
from kephs.usecases.proof.bundle import BundleFault
from tests.functional.site import Answer, Site, compose, kephs, sign, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("bundle") / "hs91")
    try:
        ayse = made.with_core(lambda core: made.open(core, "ayse", "Ayşe Yılmaz"))
        mehmet = made.with_core(lambda core: made.open(core, "mehmet", "Mehmet Demir"))
        made.who = SimpleNamespace(ayse=ayse, mehmet=mehmet)
        made.start()
        yield made
        made.stop()
    finally:
        made.close()


def delivered(site: Site, **letter: str) -> Answer:
    """Send a notice and wait until it lies in the mailbox and its receipt is filed."""
    ayse, mehmet = site.who.ayse, site.who.mehmet
    answer = site.submit(
        ayse, sign(compose(ayse.address, mehmet.address, **letter), ayse.issued), [mehmet.address]
    )
    assert answer.code == 250, answer

    def there() -> bool:
        shown = json.loads(kephs("show", site.home, answer.message_id, "--json").stdout)
        return bool(shown["recipients"][0]["state"] == "delivered")

    until(there, "the delivery")
    return answer


def bundle(site: Site, message: str, out: Path) -> dict[str, object]:
    made: dict[str, object] = json.loads(kephs("bundle", site.home, message, out, "--json").stdout)
    return made


def log_key(site: Site) -> str:
    told: dict[str, object] = json.loads(kephs("ledger", "key", site.home, "--json").stdout)
    return str(next(value for value in told.values() if str(value).count("+") >= 2))


def test_a_bundle_verifies_offline_and_is_the_same_again(site: Site, tmp_path: Path):
    answer = delivered(site)
    facts = bundle(site, answer.message_id, tmp_path / "1.kepdelil")
    assert facts["message_id"] == answer.message_id
    assert facts["evidence"] == 2
    bundle(site, answer.message_id, tmp_path / "2.kepdelil")
    assert (tmp_path / "1.kepdelil").read_bytes() == (tmp_path / "2.kepdelil").read_bytes()
    done = kephs("verify", tmp_path / "1.kepdelil", "--trust", site.home / "trust", "--json")
    (report,) = json.loads(done.stdout)["reports"]
    assert report["verdict"] == "TOTAL-PASSED"
    unchecked = [step["name"] for step in report["steps"] if step["ok"] is None]
    assert unchecked == ["checkpoint"], "nobody gave the ledger's key"
    known = kephs(
        "verify",
        tmp_path / "1.kepdelil",
        "--trust",
        site.home / "trust",
        "--log-key",
        log_key(site),
        "--json",
    )
    (report,) = json.loads(known.stdout)["reports"]
    assert [step["name"] for step in report["steps"] if step["ok"] is None] == []
    assert kephs("verify", tmp_path / "1.kepdelil", ok=False).returncode == 2


def test_the_senders_signature_shares_its_token_with_evidence_10_also_through_the_signers_process(
    site: Site, tmp_path: Path
):
    tokens = []
    for number in range(5):
        bundle(site, delivered(site).message_id, tmp_path / f"{number}.kepdelil")
        with zipfile.ZipFile(tmp_path / f"{number}.kepdelil") as archive:
            both = [archive.read(name) for name in ("imza.ers", "delil/10-SubmissionAcceptance.ers")]
        tokens.append({split_record(ers)[1] for ers in both})
    assert [len(one) for one in tokens] == [1] * 5


def test_an_unpacked_bundle_is_all_that_a_report_on_the_sender_needs(site: Site, tmp_path: Path):
    bundle(site, delivered(site).message_id, tmp_path / "b.kepdelil")
    with zipfile.ZipFile(tmp_path / "b.kepdelil") as archive:
        archive.extractall(tmp_path / "b")
    asked = ("verify", "--json", "--trust", site.home / "trust", "--offline-material", tmp_path / "b")
    for sender in ("ileti/original.eml", "ileti/dispatch.eml"):
        done = kephs(*asked, "--sender", tmp_path / "b" / sender)
        (report,) = json.loads(done.stdout)["reports"]
        assert report["verdict"] == "TOTAL-PASSED"
        assert report["facts"]["best_time"]
        assert report["steps"][0]["detail"].startswith("imza.ers: ")
    kept = json.loads((tmp_path / "b" / "imza-rapor.json").read_text())
    assert kept["verdict"] == "TOTAL-PASSED"


@pytest.mark.tools
def test_a_strangers_tools_say_the_same(site: Site, tmp_path: Path):
    bundle(site, delivered(site).message_id, tmp_path / "b.kepdelil")
    with zipfile.ZipFile(tmp_path / "b.kepdelil") as archive:
        archive.extractall(tmp_path / "b")
    done = subprocess.run(
        ["bash", "-c", commands((tmp_path / "b" / "BENIOKU.txt").read_text())],
        cwd=tmp_path / "b", capture_output=True, text=True, timeout=300, check=False,
        env={
            "PATH": os.environ["PATH"], "KOKLER": str(site.home / "trust"),
            "KAYIT_ANAHTARI": log_key(site),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("TAMAM / ALL HOLDS\n")
    assert "not its certificate here" not in done.stdout


def test_a_changed_bundle_is_refused(site: Site, tmp_path: Path):
    path = tmp_path / "b.kepdelil"
    bundle(site, delivered(site).message_id, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert kephs("verify", path, "--trust", site.home / "trust", ok=False).returncode == 1


def test_a_message_is_found_by_the_id_its_sender_gave_it(site: Site, tmp_path: Path):
    answer = delivered(site, message_id="<mine@test.example>")
    assert bundle(site, "<mine@test.example>", tmp_path / "b.kepdelil")["message_id"] == answer.message_id


def test_what_cannot_be_had_has_a_code_and_a_cure(site: Site, tmp_path: Path):
    done = kephs("bundle", site.home, "nobody", tmp_path / "b.kepdelil", ok=False)
    assert done.returncode == 1
    assert "[no-such-message]" in done.stderr
    assert not list(tmp_path.iterdir()), "nothing is left behind"
    assert set(_CURES) == set(BundleFault)


def test_a_bundle_needs_the_issuers_only_the_first_time(site: Site, tmp_path: Path):
    known, new = delivered(site), delivered(site)
    bundle(site, known.message_id, tmp_path / "1.kepdelil")
    with site.silent_pki():
        bundle(site, known.message_id, tmp_path / "2.kepdelil")
        done = kephs("bundle", site.home, new.message_id, tmp_path / "3.kepdelil", ok=False)
    assert done.returncode == 1
    assert "revocation-silent" in done.stderr or "sealing-unavailable" in done.stderr
    assert (tmp_path / "1.kepdelil").read_bytes() == (tmp_path / "2.kepdelil").read_bytes()
