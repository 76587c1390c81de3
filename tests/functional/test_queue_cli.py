"""`kephs queue` beside a running server whose peer does not answer: every command, and that the server hears."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config import settings as config_settings
from kephs.cli.instance import free_port
from tests.functional.registered import entry, pinned_operator, publish, set_values
from tests.functional.site import Site, compose, kephs, now, sign, until
from tests.support.registers import issued

pytestmark = pytest.mark.slow

PEER = "hs92.kep.tr"
FATMA = f"fatma.kaya@{PEER}"


def _know_a_peer(site: Site, port: int) -> None:
    """Let the instance know one peer, at a port where nobody answers, and not try it again by itself."""
    operator = pinned_operator(site.home)
    set_values(site.home, "relay", first_retry_seconds=3000.0, longest_retry_seconds=3000.0)
    site.settings = config_settings.load(site.home)
    peer = entry(PEER, issued("tls").certificate, issued("seal").certificate, port=port)
    publish(site.home, operator, [peer], at=now())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:  # shadows the one without a peer
    made = Site(tmp_path_factory.mktemp("queue") / "hs91")
    try:
        _know_a_peer(made, free_port())
        ayse = made.with_core(lambda core: made.open(core, "ayse", "Ayşe Yılmaz"))
        made.who = SimpleNamespace(ayse=ayse)
        made.start()
        yield made
        made.stop()
    finally:
        made.close()


def _queue(site: Site, *arguments: object, ok: bool = True) -> Any:
    name, *more = arguments
    return json.loads(kephs("queue", name, site.home, *more, "--json", ok=ok).stdout)


def _stuck(site: Site) -> dict[str, Any]:
    """Send a message to the peer and return its transfer, once it was tried in vain."""
    ayse = site.who.ayse
    answer = site.submit(ayse, sign(compose(ayse.address, FATMA), ayse.issued), [FATMA])
    assert answer.code == 250, answer

    def tried() -> list[dict[str, Any]]:
        listed = _queue(site, "list", "--state", "queued")["transfers"]
        return [one for one in listed if one["message_id"] == answer.message_id and one["attempts"]]

    return until(tried, "the first try")[0]


def test_what_waits_is_listed_with_its_cause_in_both_languages(site: Site):
    transfer = _stuck(site)
    assert (transfer["kind"], transfer["peer"], transfer["cause"]) == ("dispatch", PEER, "no-connection")
    assert " / Alıcının KEPHS'sine bağlanılamadı." in transfer["cause_text"]
    counts = _queue(site, "list", "--peer", PEER)["counts"]
    assert counts[PEER]["queued"] >= 1
    assert _queue(site, "list", "--peer", "HS77.kep.tr") == {"counts": {}, "transfers": []}
    text = kephs("queue", "list", site.home).stdout
    assert transfer["id"] in text
    assert "no-connection: The recipient's provider could not be reached. / Alıcının" in text


def test_one_is_shown_with_its_recipients_and_evidence(site: Site):
    transfer = _stuck(site)
    shown = _queue(site, "show", transfer["id"])
    assert [(one["address"], one["state"]) for one in shown["recipients"]] == [(FATMA, "pending")]
    assert [one["kind"] for one in shown["evidence"]] == [10]
    assert FATMA in kephs("queue", "show", site.home, transfer["id"]).stdout
    missing = kephs("queue", "show", site.home, "nobody", ok=False)
    assert missing.returncode == 1
    assert "no-such-transfer" in missing.stderr


def test_the_running_server_hears_of_a_retry_within_seconds(site: Site):
    transfer = _stuck(site)
    done = _queue(site, "retry", transfer["id"])
    assert [one["id"] for one in done["changed"]] == [transfer["id"]]
    until(lambda: _queue(site, "show", transfer["id"])["attempts"] > transfer["attempts"], "the next try", 15)


def test_a_held_one_is_left_alone_until_it_is_released(site: Site):
    transfer = _stuck(site)
    held = _queue(site, "hold", "--message", transfer["message_id"])["changed"]
    assert [(one["id"], one["state"], one["next_at"]) for one in held] == [
        (transfer["id"], "held", transfer["deadline"])
    ]
    again = kephs("queue", "hold", site.home, transfer["id"], ok=False)
    assert again.returncode == 1
    assert "[not-queued]" in again.stderr
    assert "durdurulabilir" in again.stderr
    assert _queue(site, "retry", transfer["id"], ok=False)["denied"][0]["code"] == "held"
    released = _queue(site, "release", "--peer", PEER)["changed"]
    assert transfer["id"] in {one["id"] for one in released}
    until(lambda: _queue(site, "show", transfer["id"])["attempts"] > transfer["attempts"], "the next try", 15)


def test_all_are_held_and_released_together(site: Site):
    transfer = _stuck(site)
    assert transfer["id"] in {one["id"] for one in _queue(site, "hold", "--all")["changed"]}
    assert _queue(site, "list")["counts"][PEER]["queued"] == 0
    doctor = json.loads(kephs("doctor", site.home, "--no-network", "--json").stdout)["findings"]
    assert "queue-held" in {one["code"] for one in doctor}
    assert transfer["id"] in {one["id"] for one in _queue(site, "release", "--all")["changed"]}


@pytest.mark.parametrize(
    "arguments", [(), ("--all", "--peer", PEER), ("x", "--all")], ids=["none", "two", "id-and-all"]
)
def test_which_are_meant_must_be_said_once(site: Site, arguments: tuple[str, ...]):
    done = kephs("queue", "retry", site.home, *arguments, ok=False)
    assert done.returncode == 2
    assert "say which" in done.stderr


def test_a_folder_that_is_no_instance_is_one_clear_line(tmp_path: Path):
    done = kephs("queue", "list", tmp_path, ok=False)
    assert done.returncode == 1
    assert "settings-invalid" in done.stderr
