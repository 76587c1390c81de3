"""The register's folder: what is accepted, kept, held to, and what is not."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from directory.adapters.live_peers import LivePeers
from directory.adapters.register_folder import RegisterError, RegisterFault, RegisterFolder
from directory.addresses import KepAddress
from directory.provider_changes import ChangeKind
from directory.providers import ProviderRegister, Served
from evidence.x509.certificates import certificate_facts
from kephs.register_seal import register_verifier, sign_register
from tests.support.registers import DAY, NOW, SECOND, entry, issued, made, pin, signer


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> datetime:
        return self.at


class Desk:
    """A folder, its clock, and a place for files that come in."""

    def __init__(self, root: Path) -> None:
        self.root, self.home, self.clock = root, root / "peers", Clock()
        self.checks = 0
        self.folder = self.fresh()

    def fresh(self, *names: str, own: str = "hs91.kep.tr") -> RegisterFolder:
        check = register_verifier([pin(name) for name in names or ("operator",)])

        def verify(content: bytes, signature: bytes) -> None:
            self.checks += 1
            check(content, signature)

        return RegisterFolder(self.home, own=own, suffix="kep.tr", verify=verify, clock=self.clock)

    def file(self, pair: tuple[bytes, bytes]) -> Path:
        path = self.root / "incoming.json"
        path.write_bytes(pair[0])
        path.with_name("incoming.json.p7s").write_bytes(pair[1])
        return path

    def take(self, pair: tuple[bytes, bytes]):
        return self.folder.import_file(self.file(pair))

    def lay_down(self, pair: tuple[bytes, bytes]) -> None:
        """Put a pair into the folder by hand."""
        self.home.mkdir(exist_ok=True)
        for name, content in (("providers.json.p7s", pair[1]), ("providers.json", pair[0])):
            fresh = self.home / f"{name}.hand"
            fresh.write_bytes(content)
            fresh.replace(self.home / name)

    def later(self, by: timedelta = SECOND) -> None:
        self.clock.at += by

    def refused(self, pair: tuple[bytes, bytes]) -> RegisterFault:
        before = self.files()
        with pytest.raises(RegisterError) as caught:
            self.take(pair)
        assert self.files() == before
        return caught.value.fault

    def files(self) -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in self.home.rglob("*.*")
            if path.is_file() and path.name != ".lock"
        }


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# ------------------------------------------------------------------ accepting


def test_an_empty_folder_knows_no_peers(desk):
    loaded = desk.folder.load()
    assert (loaded.register.peers, loaded.sequence, loaded.stale, loaded.problem) == ({}, 0, False, None)
    assert desk.folder.history() == []


def test_an_imported_register_holds_and_is_kept(desk):
    done = desk.take(made(entry()))
    assert done.stored
    assert [(one.kind, one.domain) for one in done.changes] == [(ChangeKind.NEW, "hs92.kep.tr")]
    loaded = desk.folder.load()
    assert (set(loaded.register.peers), loaded.sequence, loaded.stale) == ({"hs92.kep.tr"}, 1, False)
    assert (loaded.issued_at, loaded.next_update) == (NOW, NOW + 7 * DAY)
    names = {path.name for path in (desk.home / "history").iterdir()}
    assert names == {"1.json", "1.json.p7s"}
    assert desk.home.stat().st_mode & 0o077 == 0


def test_every_accepted_issue_is_kept_for_ever(desk):
    for sequence in (1, 2, 10):
        desk.take(made(entry(), sequence=sequence))
    assert [file.sequence for file in desk.folder.history()] == [1, 2, 10]


def test_the_same_bytes_again_change_nothing(desk):
    pair = made(entry())
    desk.take(pair)
    before = desk.files()
    assert not desk.take(pair).stored
    assert desk.files() == before


def test_a_falling_sequence_is_refused(desk):
    desk.take(made(entry(), sequence=5))
    assert desk.refused(made(entry(), sequence=4)) is RegisterFault.FALLING


def test_a_falling_sequence_is_refused_also_where_the_newest_issue_was_damaged(desk):
    desk.take(made(entry(), sequence=4))
    desk.take(made(entry(), sequence=6))
    for name in ("history/6.json", "providers.json"):
        (desk.home / name).write_bytes(b"{}")
    assert desk.refused(made(entry(), sequence=5)) is RegisterFault.FALLING
    assert desk.fresh().load().sequence == 4


def test_a_damaged_issue_of_the_history_is_put_right_from_the_current_pair(desk):
    desk.take(made(entry()))
    path = desk.home / "history" / "1.json"
    good = path.read_bytes()
    path.write_bytes(b"{}")
    assert (desk.fresh().load().problem, path.read_bytes()) == (None, good)


def test_a_sequence_is_never_used_for_two_contents(desk):
    desk.take(made(entry()))
    assert desk.refused(made(entry(), entry("hs93.kep.tr"))) is RegisterFault.REWRITTEN


def test_a_newer_issue_is_not_issued_earlier(desk):
    desk.take(made(entry()))
    assert desk.refused(made(entry(), sequence=2, at=NOW - SECOND)) is RegisterFault.BACKDATED


def test_an_issue_of_the_future_is_refused_but_a_clock_may_differ_by_minutes(desk):
    assert desk.refused(made(entry(), at=NOW + timedelta(minutes=6))) is RegisterFault.FUTURE
    assert desk.take(made(entry(), at=NOW + timedelta(minutes=4))).stored


def test_a_register_past_its_next_update_is_not_imported(desk):
    assert desk.refused(made(entry(), at=NOW - 8 * DAY)) is RegisterFault.EXPIRED


def test_a_missing_signature_is_refused(desk):
    path = desk.file(made(entry()))
    path.with_name("incoming.json.p7s").unlink()
    with pytest.raises(RegisterError) as caught:
        desk.folder.import_file(path)
    assert caught.value.fault is RegisterFault.UNREADABLE


def test_an_endless_file_is_not_read_to_its_end(desk):
    path = desk.file(made(entry()))
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RegisterError, match="larger"):
        desk.folder.import_file(path)


def test_a_well_signed_file_that_breaks_the_format_is_refused(desk):
    content = made(entry())[0].replace(b'"version": 1', b'"version": 1, "more": 1')
    assert desk.refused((content, sign_register(content, signer(), NOW))) is RegisterFault.CONTENT


def test_the_own_domain_is_ignored_and_reported(desk):
    desk.take(made(entry("hs91.kep.tr"), entry()))
    loaded = desk.folder.load()
    assert loaded.own_listed
    assert set(loaded.register.peers) == {"hs92.kep.tr"}
    assert desk.folder.peer_at("hs91.kep.tr", NOW) is None


# ------------------------------------------------------------------ what holds while time passes


def test_past_next_update_the_peers_stay_known_and_the_register_is_stale(desk):
    desk.take(made(entry()))
    assert not desk.folder.load().stale
    desk.clock.at = NOW + 7 * DAY - SECOND
    assert not desk.folder.current().stale
    desk.later()
    loaded = desk.folder.current()
    assert loaded.stale
    assert set(loaded.register.peers) == {"hs92.kep.tr"}
    assert desk.fresh().load().stale


def test_a_pin_comes_and_goes_without_a_new_file(desk):
    pins = entry()
    new = entry(tls_certificates=[issued("new").certificate])["tls_certificates"][0]
    pins["tls_certificates"][0]["valid_until"] = "2026-11-21T09:00:10Z"
    pins["tls_certificates"].append(new | {"valid_from": "2026-11-21T09:00:05Z"})
    desk.take(made(pins))
    counts = []
    for _ in range(13):
        counts.append(len(desk.folder.current().register.peers["hs92.kep.tr"].tls_pins))
        desk.later()
    assert counts == [1] * 5 + [2] * 6 + [1] * 2


def test_a_new_file_is_seen_within_a_second_and_looked_for_no_more_often(desk):
    desk.take(made(entry()))
    assert desk.folder.current().sequence == 1
    desk.fresh().import_file(desk.file(made(entry(), sequence=2)))
    desk.later(timedelta(milliseconds=999))
    assert desk.folder.current().sequence == 1
    desk.later(timedelta(milliseconds=1))
    assert desk.folder.current().sequence == 2


def test_an_unchanged_file_is_not_read_again(desk):
    desk.take(made(entry()))
    desk.folder.current()
    before = desk.checks
    for _ in range(5):
        desk.later()
        desk.folder.current()
    assert desk.checks == before


def test_a_clock_set_back_does_not_stop_the_looking(desk):
    desk.take(made(entry()))
    desk.folder.current()
    desk.fresh().import_file(desk.file(made(entry(), sequence=2)))
    desk.later(-DAY)
    assert desk.folder.current().sequence == 2


def test_a_file_laid_down_by_hand_is_checked_and_kept_like_an_imported_one(desk):
    desk.lay_down(made(entry()))
    assert desk.folder.current().sequence == 1
    assert [file.sequence for file in desk.folder.history()] == [1]


def test_an_import_does_not_fall_below_what_was_laid_down_by_hand(desk):
    desk.take(made(entry()))
    desk.lay_down(made(entry(), sequence=9))
    with pytest.raises(RegisterError, match="below 9"):
        desk.fresh().import_file(desk.file(made(entry(), sequence=8)))


_SPOILED = {
    "flipped byte": lambda: (made(entry(), sequence=2)[0].replace(b"hs92", b"hs93", 1), made(entry())[1]),
    "foreign signer": lambda: made(entry(), sequence=2, by="stranger"),
    "falling sequence": lambda: made(entry(), sequence=0 + 1, at=NOW - SECOND),
    "no JSON": lambda: (b"{", sign_register(b"{", signer(), NOW)),
}


@pytest.mark.parametrize("name", _SPOILED)
def test_a_bad_new_file_changes_nothing_but_the_problem(desk, name):
    good = made(entry(), sequence=3)
    desk.take(good)
    assert desk.folder.current().problem is None
    desk.lay_down(_SPOILED[name]())
    desk.later()
    for folder in (desk.folder, desk.fresh()):  # the running server, and one that starts now
        loaded = folder.current()
        assert (loaded.sequence, set(loaded.register.peers)) == (3, {"hs92.kep.tr"})
        assert loaded.problem
        assert "issue 3" in loaded.problem
    desk.lay_down(good)
    desk.later()
    assert desk.folder.current().problem is None


def test_a_pair_that_is_replaced_file_by_file_is_taken_when_it_is_whole(desk):
    desk.take(made(entry()))
    desk.folder.current()
    content, signature = made(entry(), sequence=2)
    (desk.home / "providers.json.p7s").write_bytes(signature)
    desk.later()
    assert desk.folder.current().problem
    (desk.home / "providers.json").write_bytes(content)
    desk.later()
    loaded = desk.folder.current()
    assert (loaded.sequence, loaded.problem) == (2, None)


def test_where_the_current_pair_is_gone_the_newest_accepted_issue_holds(desk):
    desk.take(made(entry()))
    for name in ("providers.json", "providers.json.p7s"):
        (desk.home / name).unlink()
    loaded = desk.fresh().load()
    assert (loaded.sequence, "missing" in (loaded.problem or "")) == (1, True)


def test_a_first_file_that_is_bad_is_an_error_and_no_empty_register(desk):
    desk.lay_down(made(entry(), by="stranger"))
    with pytest.raises(RegisterError) as caught:
        desk.folder.load()
    assert caught.value.fault is RegisterFault.SIGNATURE


def test_a_folder_whose_signers_are_all_pinned_no_more_is_an_error_and_no_empty_register(desk):
    desk.take(made(entry()))
    (desk.home / "providers.json").unlink()
    (desk.home / "providers.json.p7s").unlink()
    with pytest.raises(RegisterError) as caught:
        desk.fresh("stranger").load()
    assert caught.value.fault is RegisterFault.MISSING


def test_a_clock_set_back_and_right_again_shows_what_holds_then(desk):
    desk.take(made(entry()))
    desk.clock.at = NOW + 8 * DAY
    assert desk.folder.current().stale
    desk.clock.at = NOW
    assert not desk.folder.current().stale


def test_a_file_that_was_of_the_future_is_taken_when_its_time_has_come(desk):
    desk.take(made(entry()))
    desk.lay_down(made(entry(), sequence=2, at=NOW + timedelta(minutes=7)))
    desk.later()
    assert "future" in (desk.folder.current().problem or "")
    desk.later(timedelta(minutes=3))
    loaded = desk.folder.current()
    assert (loaded.sequence, loaded.problem) == (2, None)


def test_what_holds_stays_where_the_history_cannot_be_read(desk):
    desk.take(made(entry()))
    desk.folder.current()
    (desk.home / "history").rename(desk.root / "away")
    (desk.home / "history").write_bytes(b"no folder")
    desk.lay_down(made(entry(), sequence=2))
    desk.later()
    loaded = desk.folder.current()
    assert (loaded.sequence, "history" in (loaded.problem or "")) == (1, True)


def test_what_holds_stays_where_the_whole_folder_vanishes_under_a_running_server(desk):
    desk.take(made(entry()))
    desk.folder.current()
    desk.home.rename(desk.root / "away")
    desk.later()
    loaded = desk.folder.current()
    assert (loaded.sequence, bool(loaded.problem)) == (1, True)


def test_an_issue_that_cannot_be_kept_holds_and_the_problem_says_so(desk):
    desk.lay_down(made(entry()))
    (desk.home / "history").write_bytes(b"no folder")
    with pytest.raises(RegisterError, match="history"):
        desk.folder.load()
    (desk.home / "history").unlink()
    (desk.home / ".lock").mkdir()  # writing is impossible, reading is not
    loaded = desk.folder.load()
    assert (loaded.sequence, "could not be kept" in (loaded.problem or "")) == (1, True)
    desk.lay_down(made(entry(), sequence=2))
    desk.later()
    assert desk.folder.current().sequence == 2
    desk.lay_down(made(entry(), sequence=1))
    desk.later()
    assert desk.folder.current().sequence == 2


def test_a_live_register_shows_the_peers_of_the_moment(desk):
    desk.folder.load()
    live = ProviderRegister("hs91.kep.tr", "kep.tr", LivePeers(desk.folder))
    address = KepAddress.parse("mehmet@hs93.kep.tr")
    assert (live.served(address), len(live.peers)) == (Served.NOWHERE, 0)
    desk.fresh().import_file(desk.file(made(entry(), entry("hs93.kep.tr"))))
    desk.later()
    assert live.served(address) is Served.PEER
    assert set(live.peers) == set(dict(live.peers.items())) == {"hs92.kep.tr", "hs93.kep.tr"}
    found = live.sealed_by(certificate_facts(issued("seal hs93.kep.tr").certificate).sha256)
    assert found is not None
    assert live.peers["hs93.kep.tr"] == found[0]


# ------------------------------------------------------------------ who was registered then


def test_an_old_message_is_judged_by_the_issue_in_force_then(desk):
    moved = entry(host="127.0.0.2")
    for sequence, (days, entries) in enumerate(
        [(0, [entry()]), (1, [entry(), entry("hs93.kep.tr")]), (2, [moved]), (3, [])], 1
    ):
        desk.clock.at = NOW + days * DAY
        desk.take(made(*entries, sequence=sequence, at=desk.clock.at))
    known = [
        [domain for domain in ("hs92.kep.tr", "hs93.kep.tr") if desk.folder.peer_at(domain, NOW + days * DAY)]
        for days in (0, 1, 1.5, 2, 2.9, 3, 30)
    ]
    assert known == [["hs92.kep.tr"], *[["hs92.kep.tr", "hs93.kep.tr"]] * 2, *[["hs92.kep.tr"]] * 2, [], []]
    hosts = [peer.host for days in (1, 2) if (peer := desk.folder.peer_at("hs92.kep.tr", NOW + days * DAY))]
    assert hosts == ["127.0.0.1", "127.0.0.2"]


def test_before_the_first_issue_its_own_dates_decide(desk):
    desk.take(made(entry(), entry("hs93.kep.tr", since=NOW - DAY, until=NOW)))
    assert desk.folder.peer_at("hs92.kep.tr", NOW - 10 * DAY) is not None
    assert desk.folder.peer_at("hs92.kep.tr", NOW - 11 * DAY) is None
    assert desk.folder.peer_at("hs93.kep.tr", NOW - SECOND) is not None
    assert desk.folder.peer_at("hs93.kep.tr", NOW) is None


def test_an_altered_old_issue_is_passed_over(desk):
    for sequence in (1, 2, 3):
        desk.clock.at = NOW + sequence * DAY
        desk.take(made(*[entry("hs93.kep.tr")] * (sequence == 2), sequence=sequence, at=desk.clock.at))
    at = NOW + 2.5 * DAY
    assert desk.folder.peer_at("hs93.kep.tr", at) is not None
    path = desk.home / "history" / "2.json"
    path.write_bytes(path.read_bytes().replace(b"2525", b"2526"))
    folder = desk.fresh()
    assert folder.peer_at("hs93.kep.tr", at) is None
    assert [file.sequence for file in folder.history()] == [1, 3]


def test_a_file_of_the_history_under_another_number_does_not_count(desk):
    desk.take(made(entry()))
    for name in ("1.json", "1.json.p7s"):
        (desk.home / "history" / name.replace("1", "7", 1)).write_bytes(
            (desk.home / "history" / name).read_bytes()
        )
    assert [file.sequence for file in desk.folder.history()] == [1]
