"""`kephs demo --once --json`, as scripts use it: what it leaves, on SQLite and on PostgreSQL."""

import json
import subprocess
from pathlib import Path

import pytest

from evidence.x509.certificates import certificate_facts
from evidence.xades.check import open_signature
from tests.functional.site import KEPHS
from tests.support.postgres import running

pytestmark = [pytest.mark.tools, pytest.mark.slow, pytest.mark.timeout(300)]  # a demo runs half a minute

FIRST = {"10-SubmissionAcceptance", "40-Delivery-1", "60-Retrieval-1"}
SECOND = FIRST | {"20-RelayAcceptance"}
BY_PEER = {"20-RelayAcceptance", "40-Delivery-1", "60-Retrieval-1"}


def demo(directory: Path, *more: str) -> dict[str, object]:
    done = subprocess.run(
        [KEPHS, "demo", "--once", "--json", "--dir", str(directory), *more],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def signer_domains(xml: Path) -> frozenset[str]:
    (leaf, *_) = open_signature(xml.read_bytes()).certificates
    return frozenset(certificate_facts(leaf).extensions.dns_names)


def stems(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "evidence").glob("*.xml")}


def test_the_second_notice_leaves_evidence_of_both_providers_each_under_its_own_certificate(
    tmp_path: Path,
) -> None:
    summary = demo(tmp_path)
    assert summary["passed"] is True
    out = tmp_path / "out"
    assert stems(out / "1") == FIRST
    assert stems(out / "2") == SECOND
    for path in (out / "2" / "evidence").glob("*.xml"):
        maker = "hs92.kep.tr" if path.stem in BY_PEER else "hs91.kep.tr"
        assert maker in signer_domains(path), path.name
    described = json.loads((tmp_path / "demo.json").read_text("utf-8"))
    assert [p["domain"] for p in described["providers"]] == ["hs91.kep.tr", "hs92.kep.tr"]
    assert all(p["inbound"]["port"] for p in described["providers"])
    assert {a["provider"] for a in described["accounts"]} == {"hs91.kep.tr", "hs92.kep.tr"}
    assert (out / "2" / "bundle.kepdelil").exists()
    again = demo(tmp_path)  # an existing folder is accepted
    assert again["passed"] is True


def test_the_whole_demo_runs_on_postgresql(tmp_path: Path) -> None:
    server = running()
    urls = [server.empty(), server.empty()]
    try:
        summary = demo(tmp_path, "--database-url", urls[0], "--database-url", urls[1])
    finally:
        for url in urls:
            server.drop(url)
    assert summary["passed"] is True
    assert stems(tmp_path / "out" / "2") == SECOND
