"""`kephs export` beside a running server: XAdES-B-LTA that verifies alone and with its evidence record."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from evidence.xades.lta import open_archived
from kephs.cli.proof.export import _CURES
from kephs.usecases.proof.export_evidence import ExportFault
from tests.functional.site import Site, compose, kephs, kephs_process, sign, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("export") / "hs91")
    try:
        ayse = made.with_core(lambda core: made.open(core, "ayse", "Ayşe Yılmaz"))
        mehmet = made.with_core(lambda core: made.open(core, "mehmet", "Mehmet Demir"))
        made.who = SimpleNamespace(ayse=ayse, mehmet=mehmet)
        made.start()
        yield made
        made.stop()
    finally:
        made.close()


@pytest.fixture(scope="module")
def evidence_ids(site: Site) -> list[str]:
    """Send a notice; return the ids of its acceptance and its delivery."""
    ayse, mehmet = site.who.ayse, site.who.mehmet
    answer = site.submit(ayse, sign(compose(ayse.address, mehmet.address), ayse.issued), [mehmet.address])
    assert answer.code == 250, answer

    def found() -> list[str]:
        shown = json.loads(kephs("show", site.home, answer.message_id, "--json").stdout)
        ids = re.findall(r'"id": "([^"]+)", "code"', json.dumps(shown))
        return ids if shown["recipients"][0]["state"] == "delivered" else []

    return until(found, "the delivery")


def verified(site: Site, path: Path) -> dict[str, object]:
    done = kephs("verify", path, "--trust", site.home / "trust", "--json")
    (report,) = json.loads(done.stdout)["reports"]
    return dict(report)


def test_an_export_verifies_with_its_record_and_alone(site: Site, evidence_ids: list[str], tmp_path: Path):
    for number, evidence_id in enumerate(evidence_ids):
        out = tmp_path / f"{number}.xml"
        facts = json.loads(kephs("export", site.home, evidence_id, out, "--json").stdout)
        assert (facts["evidence_id"], facts["size"]) == (evidence_id, out.stat().st_size)
        assert facts["record"] == str(out.with_suffix(".ers"))
        assert sorted(path.name for path in tmp_path.iterdir() if path.stem == str(number)) == [
            f"{number}.ers", f"{number}.xml",
        ]  # fmt: skip
        together = verified(site, out)
        assert together["verdict"] == "TOTAL-PASSED"
        assert not [step for step in together["steps"] if step["ok"] is None]  # type: ignore[attr-defined]
        out.with_suffix(".ers").unlink()
        assert verified(site, out)["verdict"] == "TOTAL-PASSED"
        assert open_archived(out.read_bytes()) is not None


def test_what_a_person_sees(site: Site, evidence_ids: list[str], tmp_path: Path):
    out = tmp_path / "delil.xml"
    told = kephs_process("export", site.home, evidence_ids[0], out).stdout
    assert evidence_ids[0] in told
    assert "archived_at" in told
    assert kephs_process("verify", out, "--trust", site.home / "trust").returncode == 0
    assert kephs("verify", out, ok=False).returncode == 2  # nobody is trusted
    content = bytearray(out.read_bytes())
    content[-600] ^= 1
    out.write_bytes(content)
    assert kephs("verify", out, "--trust", site.home / "trust", ok=False).returncode == 1


@pytest.mark.tools
def test_strangers_agree(site: Site, evidence_ids: list[str], tmp_path: Path):
    out = tmp_path / "delil.xml"
    kephs("export", site.home, evidence_ids[0], out)
    done = kephs("verify", out, "--trust", site.home / "trust", "--second-opinion", "--json")
    (report,) = json.loads(done.stdout)["reports"]
    assert report["steps"][-1]["detail"] == "agreed: openssl, pyhanko, xmlsec1"


def test_what_cannot_be_had_has_a_code_and_a_cure(site: Site, evidence_ids: list[str], tmp_path: Path):
    done = kephs("export", site.home, "nobody", tmp_path / "x.xml", ok=False)
    assert done.returncode == 1
    assert "[no-such-evidence]" in done.stderr
    done = kephs("export", site.home, evidence_ids[0], tmp_path / "x.ers", ok=False)
    assert "[file-name]" in done.stderr
    with site.silent_pki():
        done = kephs("export", site.home, evidence_ids[0], tmp_path / "x.xml", ok=False)
    assert done.returncode == 1
    assert "revocation-silent" in done.stderr or "stamping-unavailable" in done.stderr
    assert not list(tmp_path.iterdir()), "nothing is left behind"
    assert set(_CURES) == set(ExportFault)
