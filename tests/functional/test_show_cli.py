"""`kephs show` on a real instance, beside a running server."""

import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.functional.site import Site, compose, kephs, sign, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("show") / "hs91")
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
def message_id(site: Site) -> str:
    ayse, mehmet = site.who.ayse, site.who.mehmet
    unsigned = compose(
        ayse.address, mehmet.address, subject="Kira sözleşmesi", message_id="<kira@test.example>"
    )
    answer = site.submit(ayse, sign(unsigned, ayse.issued), [mehmet.address])
    assert answer.code == 250, answer

    def there() -> bool:
        shown = json.loads(kephs("show", site.home, answer.message_id, "--json").stdout)
        return bool(shown["recipients"][0]["state"] == "delivered")

    until(there, "the delivery")
    return answer.message_id


def test_it_tells_who_when_and_what_it_proves_in_both_languages(site: Site, message_id: str):
    told = kephs("show", site.home, message_id).stdout
    for words in (
        "Kira sözleşmesi", "Ayşe Yılmaz <ayse@hs91.kep.tr>", "1. Mehmet Demir <mehmet@hs91.kep.tr>",
        "40  Teslim edildi / Delivered", "Kanıtlamaz: Alıcının iletiyi açtığını",
        "Does not prove: That the recipient opened or read it.", "Bekleniyor / Awaited: 60 Okundu / Read",
    ):  # fmt: skip
        assert words in told
    assert max(map(len, told.splitlines())) <= 100


def test_one_language_can_be_asked_for(site: Site, message_id: str):
    assert "Proves" not in kephs("show", site.home, message_id, "--language", "tr").stdout
    assert "Kanıtlar" not in kephs("show", site.home, message_id, "--language", "en").stdout
    assert kephs("show", site.home, message_id, "--language", "de", ok=False).returncode == 2


def test_programs_get_json(site: Site, message_id: str):
    shown = json.loads(kephs("show", site.home, "<kira@test.example>", "--json").stdout)
    assert shown["message_id"] == message_id
    assert [event["code"] for event in shown["evidence"]] == [10]
    (recipient,) = shown["recipients"]
    assert [event["code"] for event in recipient["evidence"]] == [40]
    assert recipient["awaited"]["codes"] == [60]


def test_a_reading_shows_who_read(site: Site, message_id: str):
    mehmet = site.who.mehmet
    with site.imap(mehmet) as client:
        client.select("INBOX")
        client.fetch("1:*", "(BODY[])")
    shown = json.loads(kephs("show", site.home, message_id, "--json").stdout)
    (recipient,) = shown["recipients"]
    assert recipient["state"] == "read"
    assert recipient["evidence"][-1]["person"] == "Mehmet Demir"
    assert recipient["awaited"] is None


def test_an_unknown_message_has_a_code_and_a_cure(site: Site):
    done = kephs("show", site.home, "nobody", ok=False)
    assert done.returncode == 1
    assert "[no-such-message]" in done.stderr
    error = json.loads(kephs("show", site.home, "nobody", "--json", ok=False).stdout)["error"]
    assert error["code"] == "no-such-message"
    missing = kephs("show", site.home, "<kira@test.example>", "--account", "x@hs91.kep.tr", ok=False)
    assert "[no-such-message]" in missing.stderr
