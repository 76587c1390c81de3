"""`kephs hold` and the record of deletion on a real instance, beside a running server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from config.settings import load
from kephs.usecases.governance.note_process import settings_digest
from tests.functional.site import Site, compose, kephs, sign, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("hold") / "hs91")
    try:
        made.ayse = made.with_core(lambda core: made.open(core, "ayse", "Ayşe Yılmaz"))
        made.mehmet = made.with_core(lambda core: made.open(core, "mehmet", "Mehmet Demir"))
        made.start()
        yield made
        made.stop()
    finally:
        made.close()


def shown(site: Site, message_id: str) -> Any:
    return json.loads(kephs("show", site.home, message_id, "--json").stdout)


def actions(site: Site, prefix: str) -> list[tuple[str, str]]:
    entries = json.loads(kephs("audit", "list", site.home, "--action", prefix, "--json").stdout)["entries"]
    return [(one["action"], one["actor"]) for one in entries]


def empty(site: Site, person: Any) -> None:
    """Delete everything as a mail program does."""
    with site.imap(person) as client:
        for folder in ("INBOX", "Giden", "Deliller"):
            client.select(folder)
            if client.search(None, "ALL")[1][0]:
                client.store("1:*", "+FLAGS", "(\\Deleted)")
                client.expunge()


def test_a_hold_keeps_what_both_sides_delete_and_lifting_it_lets_it_go(site: Site) -> None:
    unsigned = compose(site.ayse.address, site.mehmet.address, subject="Kira", message_id="<k@test.example>")
    answer = site.submit(site.ayse, sign(unsigned, site.ayse.issued), [site.mehmet.address])
    message_id = answer.message_id
    until(lambda: shown(site, message_id)["recipients"][0]["state"] == "delivered", "the delivery")
    by = ("--by", "Ali Savcı", "--reason", "2026/12 esas", "--json")
    held = json.loads(kephs("hold", "set", site.home, "--message", "<k@test.example>", *by).stdout)
    assert (held["subject"], held["state"]) == (message_id, "standing")
    empty(site, site.ayse)
    empty(site, site.mehmet)
    assert shown(site, message_id)["content_kept"]
    (listed,) = json.loads(kephs("hold", "list", site.home, "--json").stdout)["holds"]
    assert listed == held
    lift = ("hold", "lift", site.home, held["number"])
    assert json.loads(kephs(*lift, *by).stdout)["state"] == "lift-asked"
    again = json.loads(kephs(*lift, *by, ok=False).stdout)
    assert again["error"]["code"] == "step-not-allowed"
    other = ("--by", "Veli Kaya", "--reason", "karar kesinleşti", "--json")
    assert json.loads(kephs(*lift, *other).stdout)["state"] == "lifted"
    until(lambda: not shown(site, message_id)["content_kept"], "the destruction", seconds=60)
    gone = shown(site, message_id)["destroyed"]
    assert {one["part"] for one in gone} == {"original", "kep-message"}
    assert {actor for _, actor in actions(site, "content.")} <= {"Ayşe Yılmaz", "Mehmet Demir"}
    assert actions(site, "hold.") == [
        ("hold.set", "Ali Savcı"), ("hold.lift-asked", "Ali Savcı"), ("hold.lifted", "Veli Kaya"),
    ]  # fmt: skip
    assert kephs("fsck", site.home).returncode == 0
    bundle = site.home.parent / "x.kepdelil"
    kephs("bundle", site.home, message_id, bundle)
    assert kephs("verify", bundle, "--trust", site.home / "trust").returncode == 0
    assert actions(site, "message.bundled") == [("message.bundled", "shell")]


def test_start_and_reading_by_staff_are_on_record_and_the_worker_anchors_it(site: Site) -> None:
    assert actions(site, "serve.")[0] == ("serve.started", "shell")
    assert ("message.shown", "shell") in actions(site, "message.")

    def anchored() -> bool:
        told = json.loads(kephs("audit", "verify", site.home, "--json").stdout)
        assert told["holds"], told
        return bool(told["anchors"])

    until(anchored, "the first anchor")


def test_what_cannot_be_held_is_refused_with_a_cure(site: Site) -> None:
    by = ("--by", "Ali Savcı", "--reason", "esas", "--json")
    for arguments, code in (
        (("--message", "none@hs91.kep.tr"), "no-such-message"),
        (("--account", "kimse@hs91.kep.tr"), "no-such-account"),
    ):
        done = kephs("hold", "set", site.home, *arguments, *by, ok=False)
        error = json.loads(done.stdout)["error"]
        assert (error["code"], bool(error["cure"])) == (code, True)
    assert kephs("hold", "set", site.home, *by, ok=False).returncode == 2


def test_a_server_that_drained_is_on_record_with_the_digest_of_its_settings(site: Site) -> None:
    site.stop()
    entries = json.loads(kephs("audit", "list", site.home, "--action", "serve.", "--json").stdout)["entries"]
    assert [one["action"] for one in entries] == ["serve.started", "serve.stopped"]
    assert settings_digest(load(site.home).model_dump(mode="json")) in entries[0]["detail"]
    site.start()
