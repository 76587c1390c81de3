"""Time stamps of a running instance: batches, fail-over, the grace, stamps of each evidence's own, credits.

One instance with two authorities that the test plays itself; its server is started again where the settings
of a test differ, so that evidence of all modes lies in one store.
"""

import http.client
import json
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from config import settings as config_settings
from evidence.adapters.tsa_credits import read_credits
from evidence.mail.kep_message import EvidenceFile, KepMessage, parse_kep_message
from evidence.ports import BytesSource
from evidence.stamps.ers import read_record
from evidence.stamps.timestamps import read_token
from evidence.stamps.token_budget import CreditState
from evidence.verify.message import MessageCheck, check_kep_message
from kephs.bootstrap import credits_file, open_tsa_endpoints
from kephs.cli.instance import free_port
from tests.functional.registered import set_values
from tests.functional.site import Answer, Holder, Site, compose, kephs, now, sign, until
from tests.support.live_tsa import (
    LiveTsa,
    Manner,
    another_imprint,
    broken,
    closed,
    dripping,
    garbage,
    silent,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
CROWD = 6
WINDOW = 2.0  # seconds
_EVENT = re.compile(r'\{"[^\n]*?"timestamp": "[^"]*"\}')  # those of server and signer may share a line


@dataclass
class Stamped:
    """The instance, its two authorities, and which settings its server runs with."""

    site: Site
    tsas: list[LiveTsa]
    running: dict[str, Any] | None = None
    port: int = field(default_factory=free_port)

    def serve(self, **seal: object) -> Site:
        """Have a server that runs with these settings of [seal]; the others are those of the first start."""
        if self.running != seal:
            self.stop()
            usual = {
                "stamping": "batch", "batch_seconds": 0.0, "unstamped_grace": False, "tsa_accounts": [],
                "tsa": [tsa.url for tsa in self.tsas], "tsa_seconds": 1.0,
            }  # fmt: skip
            set_values(self.site.home, "seal", **usual | seal)
            self.site.settings = config_settings.load(self.site.home)
            self.site.start()
            self.running = dict(seal)
        return self.site

    def stop(self) -> None:
        """Stop the server: it writes down what it counted."""
        if self.running is not None:
            process = self.site._server
            assert process is not None
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            self.running = None

    def send(self, **letter: str) -> Answer:
        ayse, mehmet = self.site.who.ayse, self.site.who.mehmet
        return self.site.submit(
            ayse, sign(compose(ayse.address, mehmet.address, **letter), ayse.issued), [mehmet.address]
        )

    def metrics(self) -> dict[tuple[str, ...], float]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/metrics")
            page = connection.getresponse().read().decode()
        finally:
            connection.close()
        return {
            (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return what was logged under a name, in all lives of the server and its signer."""
        text = (self.site.home / "run" / "serve.log").read_text("utf-8")
        found = (json.loads(event) for event in _EVENT.findall(text))
        return [one for one in found if one["event"] == name]

    def read(self, holder: Holder, evidence_id: str) -> tuple[KepMessage, MessageCheck]:
        """Return a receipt from Deliller taken apart, and what a stranger finds out about it."""
        with self.site.imap(holder, "Deliller") as client:
            uid = self.site.find(client, "X-REM-Evidence-Identifier", evidence_id)
            source = BytesSource(self.site.fetch(client, uid, "BODY.PEEK[]"))
        return parse_kep_message(source), check_kep_message(source, self.site.trust, now())

    def fsck(self) -> set[tuple[str, str]]:
        """Return code and subject of all that fsck notes; nothing of it may be an error.

        Content of messages that were told to come later is no finding: it is released by and by.
        """
        done = json.loads(kephs("fsck", self.site.home, "--json").stdout)
        assert done["clean"] is True
        found = {(finding["code"], finding["subject"]) for finding in done["findings"]}
        return {one for one in found if not one[0].startswith("blobs.")}


@pytest.fixture(scope="module")
def _stamped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stamped]:
    site = Site(tmp_path_factory.mktemp("stamping") / "hs91")
    made = Stamped(site, [LiveTsa(site.pki), LiveTsa(site.pki)])
    try:
        set_values(site.home, "network", metrics_port=made.port)
        ayse = site.with_core(lambda core: site.open(core, "ayse", "Ayşe Yılmaz"))
        mehmet = site.with_core(lambda core: site.open(core, "mehmet", "Mehmet Demir"))
        site.who = SimpleNamespace(ayse=ayse, mehmet=mehmet)
        yield made
        made.stop()
    finally:
        site.close()
        for tsa in made.tsas:
            tsa.close()


@pytest.fixture
def stamped(_stamped: Stamped) -> Stamped:
    assert [tsa.manner.__name__ for tsa in _stamped.tsas] == ["good", "good"]
    return _stamped


def record_beside(message: KepMessage) -> EvidenceFile | None:
    return next((file for file in message.extensions if file.name.endswith(".ers")), None)


# --------------------------------------------------------------------------- batches


def test_evidence_of_a_batch_shares_a_token_and_carries_its_record_in_every_receipt(stamped: Stamped):
    site = stamped.serve(batch_seconds=WINDOW)
    assert stamped.send().code == 250  # OCSP's answer about the sender is fresh from now on
    with ThreadPoolExecutor(CROWD) as pool:
        answers = [future.result() for future in [pool.submit(stamped.send) for _ in range(CROWD)]]
    assert {answer.code for answer in answers} == {250}
    stamps = {
        stamp
        for answer in answers
        for (stamp,) in site.rows("SELECT stamp FROM evidence WHERE evidence_id = ?", answer.evidence_id)
    }
    assert len(stamps) < CROWD, "each had a token of its own"
    for answer in answers[:2]:
        assert answer.evidence_id
        message, check = stamped.read(site.who.ayse, answer.evidence_id)
        beside = record_beside(message)
        assert beside is not None
        assert beside.name.removesuffix(".ers") == message.evidences[0].name.removesuffix(".xml")
        assert b"EncapsulatedTimeStamp" not in message.evidences[0].content
        assert check.passed, check.report.failing_step
        ((stamp,),) = read_record(beside.content).chains
        imprint = read_token(stamp.token).info.imprint
        assert imprint in {one for tsa in stamped.tsas for one in tsa.over}


def test_who_is_alone_is_not_kept_for_company_that_never_comes(stamped: Stamped):
    stamped.serve(batch_seconds=WINDOW)
    before = sum(tsa.given for tsa in stamped.tsas)
    answer = stamped.send()
    assert answer.code == 250
    stamped.site.wait_evidence(answer.message_id, 40)
    assert sum(tsa.given for tsa in stamped.tsas) > before


# --------------------------------------------------------------------------- authorities that fail


@pytest.mark.parametrize(
    ("manner", "said"),
    [
        (closed, "cannot connect"),
        (broken, "HTTP 503"),
        (garbage, "Bakim calismasi"),
        (another_imprint, "imprint"),
        (dripping, "no answer within"),
        (silent, "no answer within"),
    ],
    ids=["closed", "broken", "garbage", "another_imprint", "dripping", "silent"],
)
def test_where_one_authority_fails_the_other_stamps_and_the_log_says_so(
    stamped: Stamped, manner: Manner, said: str
):
    site = stamped.serve()
    before = [tsa.given for tsa in stamped.tsas]
    assert stamped.send().code == 250
    used, other = sorted(
        stamped.tsas, key=lambda tsa: before[stamped.tsas.index(tsa)] - tsa.given
    )  # who failed in an earlier test is asked last
    failed = len(stamped.events("stamp.authority_failed"))
    with used.behaving(manner):
        known = other.given
        answer = stamped.send()
        assert answer.code == 250
        assert other.given > known
        site.wait_evidence(answer.message_id, 40)
    news = stamped.events("stamp.authority_failed")[failed:]
    assert {one["url"] for one in news} == {used.url}
    assert all(said in one["detail"] for one in news), news
    assert answer.evidence_id
    assert stamped.read(site.who.ayse, answer.evidence_id)[1].passed


def test_while_both_authorities_are_down_acceptance_waits_and_is_counted(stamped: Stamped):
    site = stamped.serve()
    ayse, mehmet = site.who.ayse, site.who.mehmet
    assert stamped.send().code == 250
    message = sign(compose(ayse.address, mehmet.address), ayse.issued)
    refused = sign(compose(ayse.address, mehmet.address), ayse.issued).replace(b"Ihtar", b"ihtar")
    with stamped.tsas[0].behaving(closed), stamped.tsas[1].behaving(broken):
        before = stamped.metrics()
        for content in (message, refused):  # a refusal is evidence too
            answer = site.submit(ayse, content, [mehmet.address])
            assert (answer.code, answer.enhanced, answer.stable_code) == (451, "4.3.0", "sealing-unavailable")
            assert site.traces(content) == 0
        after = stamped.metrics()
    for name in (("kephs_stamp_failures_total",), ("kephs_events_total", "stamp.unavailable", "warning")):
        assert after[name] >= before.get(name, 0) + 2, name
    cause = stamped.events("stamp.unavailable")[-1]["cause"]
    assert all(tsa.url in cause for tsa in stamped.tsas)
    assert site.submit(ayse, message, [mehmet.address]).code == 250


# --------------------------------------------------------------------------- the grace (D16)


def test_in_the_grace_messages_are_accepted_and_their_records_follow(stamped: Stamped):
    site = stamped.serve(unstamped_grace=True)
    assert stamped.send().code == 250
    until(lambda: site.rows("SELECT count(*) FROM evidence WHERE receipt_due NOT NULL") == [(0,)], "quiet")
    assert stamped.fsck() == set()
    with stamped.tsas[0].behaving(closed), stamped.tsas[1].behaving(closed):
        answer = stamped.send()
        assert answer.code == 250
        assert answer.evidence_id
        row = "SELECT unstamped, proof, stamp FROM evidence WHERE evidence_id = ?"
        assert site.rows(row, answer.evidence_id) == [(1, None, None)]
        assert ("evidence.unstamped", answer.evidence_id) in stamped.fsck()
        assert {code for code, _ in stamped.fsck()} == {"evidence.unstamped"}
        until(lambda: stamped.events("worker.later"), "delivery, which has to wait")
        assert site.evidence_kinds(answer.message_id) == [10], "KEP messages are never signed unstamped"
        done = kephs("bundle", site.home, answer.message_id, site.home.parent / "b.kepdelil", ok=False)
        assert done.returncode == 1
        assert "[evidence-unstamped]" in done.stderr or "[sealing-unavailable]" in done.stderr
        back = now()
    delivered = site.wait_evidence(answer.message_id, 40)
    for evidence_id in (answer.evidence_id, *delivered):
        message, check = stamped.read(site.who.ayse, evidence_id)
        assert record_beside(message) is not None
        assert check.passed, check.report.failing_step
        assert check.evidences[0].stamped_at is not None
    (accepted,) = stamped.read(site.who.ayse, answer.evidence_id)[1].evidences
    assert accepted.stamped_at is not None
    assert accepted.stamped_at >= back.replace(microsecond=0), "the record says when it was made, not before"
    assert site.rows(row.replace("proof, stamp", "proof IS NULL"), answer.evidence_id) == [(0, 0)]
    assert stamped.fsck() == set()
    bundle = site.home.parent / "b.kepdelil"
    kephs("bundle", site.home, answer.message_id, bundle)
    kephs("verify", bundle, "--trust", site.home / "trust")


# --------------------------------------------------------------------------- a stamp of its own in each


def test_an_instance_that_stamps_each_evidence_by_itself_lives_the_whole_life(
    stamped: Stamped, tmp_path: Path
):
    site = stamped.serve(stamping="per_evidence")
    ayse, mehmet = site.who.ayse, site.who.mehmet
    answer = stamped.send()
    assert answer.code == 250
    site.wait_evidence(answer.message_id, 40)
    with site.imap(mehmet) as client:
        uid = site.find(client, "X-REM-Message-Identifier", answer.message_id)
        dispatch = BytesSource(site.fetch(client, uid, "BODY[]"))
    assert check_kep_message(dispatch, site.trust, now()).passed
    assert record_beside(parse_kep_message(dispatch)) is None
    ids = [
        answer.evidence_id,
        *site.evidence_ids(answer.message_id, 40),
        *site.wait_evidence(answer.message_id, 60),
    ]
    for evidence_id in ids:
        assert evidence_id
        message, check = stamped.read(ayse, evidence_id)
        assert record_beside(message) is None
        assert b"EncapsulatedTimeStamp" in message.evidences[0].content
        assert check.passed, check.report.failing_step
        assert check.evidences[0].stamped_at is not None
    assert site.rows(
        "SELECT count(*) FROM evidence WHERE message_id = ? AND proof NOT NULL", answer.message_id
    ) == [(0,)]
    kephs("bundle", site.home, answer.message_id, tmp_path / "own.kepdelil")
    kephs("verify", tmp_path / "own.kepdelil", "--trust", site.home / "trust")
    until(lambda: site.rows("SELECT count(*) FROM evidence WHERE receipt_due NOT NULL") == [(0,)], "quiet")
    assert stamped.fsck() == set(), "evidence of both modes lies here"


# --------------------------------------------------------------------------- accounts and credits


def test_an_authority_that_wants_to_know_who_asks_is_told_and_what_it_gives_is_counted(stamped: Stamped):
    stamped.stop()
    site, second = stamped.site, stamped.tsas[1]
    strict = LiveTsa(site.pki, user="saglayici", password="parola-ğ")
    try:
        (site.home / "keys" / "tsa-password").write_text("parola-ğ\n", "utf-8")
        accounts = [
            {"url": strict.url, "auth": "basic", "user": "saglayici", "password_file": "keys/tsa-password", "credits": 1000},
            {"url": second.url, "credits": 3},
        ]  # fmt: skip
        credits_file(site.settings).unlink()
        before = second.given
        stamped.serve(tsa=[strict.url, second.url], tsa_accounts=accounts)
        for _ in range(3):
            assert stamped.send().code == 250
        with strict.behaving(broken):
            answers = [stamped.send() for _ in range(3)]
            assert {answer.code for answer in answers} == {250}, "the count is an aid and never a gate"
            for answer in answers:
                site.wait_evidence(answer.message_id, 40)
        stamped.stop()
        lines = {
            line.endpoint: line
            for line in read_credits(credits_file(site.settings), open_tsa_endpoints(site.settings))
        }
        assert set(lines) == {strict.url, second.url}
        assert (lines[strict.url].used, lines[strict.url].left) == (strict.given, 1000 - strict.given)
        assert lines[strict.url].state is CreditState.PLENTY
        assert (lines[second.url].used, lines[second.url].left) == (second.given - before, 0)
        assert lines[second.url].state is CreditState.EXHAUSTED
        told = [one for one in stamped.events("stamp.credits_low") if one["url"] == second.url]
        assert [one["state"] for one in told] == ["low", "critical", "exhausted"][-len(told) :]
        assert told[-1]["level"] == "error"
        stamped.serve(tsa=[strict.url, second.url], tsa_accounts=accounts)
        found = json.loads(kephs("doctor", site.home, "--json", ok=False).stdout)["findings"]
        levels = {one["text"].split(": ")[0]: one["level"] for one in found if one["code"] == "tsa-credits"}
        assert levels == {strict.url: "ok", second.url: "error"}
    finally:
        strict.close()
