"""`kephs dossier` beside a running server: a PDF/A-3 with a bundle that verifies, the same bytes again."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from kephs.cli.proof.bundle import _CURES
from kephs.dossier.facts import BUNDLE_NAME, DATA_NAME, ORIGINAL_NAME
from kephs.usecases.proof.bundle import BundleFault
from tests.functional.site import Answer, Site, compose, kephs, sign, until
from tests.support.pdfa import attachments, pdfa_faults, text_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("dossier") / "hs91")
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
def message(site: Site) -> Answer:
    ayse, mehmet = site.who.ayse, site.who.mehmet
    letter = sign(compose(ayse.address, mehmet.address), ayse.issued)
    answer = site.submit(ayse, letter, [mehmet.address])
    assert answer.code == 250, answer

    def there() -> bool:
        shown = json.loads(kephs("show", site.home, answer.message_id, "--json").stdout)
        return bool(shown["recipients"][0]["state"] == "delivered")

    until(there, "the delivery")
    return answer


def test_a_dossier_carries_a_bundle_that_verifies_and_is_the_same_again(
    site: Site, message: Answer, tmp_path: Path
) -> None:
    path = tmp_path / "1.pdf"
    told = json.loads(kephs("dossier", site.home, message.message_id, path, "--json").stdout)
    data = path.read_bytes()
    assert (told["message_id"], told["size"]) == (message.message_id, len(data))
    assert pdfa_faults(data) == []
    files = attachments(data)
    assert {one["name"]: one["sha256"] for one in told["attached"]} == {
        name: sha256(content).hexdigest() for name, content in files.items()
    }
    assert set(files) == {ORIGINAL_NAME, BUNDLE_NAME, DATA_NAME}
    (tmp_path / BUNDLE_NAME).write_bytes(files[BUNDLE_NAME])
    done = kephs("verify", tmp_path / BUNDLE_NAME, "--trust", site.home / "trust", "--json")
    assert json.loads(done.stdout)["verdict"] == "TOTAL-PASSED"
    kephs("bundle", site.home, message.message_id, tmp_path / "again.kepdelil")
    assert (tmp_path / "again.kepdelil").read_bytes() == files[BUNDLE_NAME]
    kephs("dossier", site.home, message.message_id, tmp_path / "2.pdf")
    assert (tmp_path / "2.pdf").read_bytes() == data
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "1.pdf", "2.pdf", "again.kepdelil", BUNDLE_NAME,
    ]  # fmt: skip


def test_the_language_can_be_chosen(site: Site, message: Answer, tmp_path: Path) -> None:
    kephs("dossier", site.home, message.message_id, tmp_path / "en.pdf", "--lang", "en")
    text = text_of((tmp_path / "en.pdf").read_bytes())
    assert "Court dossier" in text
    assert "Dava dosyası" not in text


def test_what_cannot_be_had_has_a_code_and_a_cure_and_leaves_nothing_behind(
    site: Site, message: Answer, tmp_path: Path
) -> None:
    done = kephs("dossier", site.home, "nobody", tmp_path / "d.pdf", ok=False)
    assert done.returncode == 1
    assert "[no-such-message]" in done.stderr
    empty = tmp_path / "fonts"
    empty.mkdir()
    done = kephs("dossier", site.home, message.message_id, tmp_path / "d.pdf", "--fonts", empty, ok=False)
    assert done.returncode == 1
    assert "[fonts-missing]" in done.stderr
    assert "fonts-dejavu-core" in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["fonts"]
    assert set(_CURES) == set(BundleFault)
