"""What `kephs doctor` judges: clocks, lifetimes, the queue; and that every code has its Turkish sentence."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evidence.x509.certificates import certificate_facts
from kephs.cli.health import files as doctor_files
from kephs.cli.health import queue as doctor_queue
from kephs.cli.health.files import lifetime
from kephs.cli.health.network import skew
from kephs.cli.health.queue import _judged, _Waiting
from kephs.cli.health.turkish import TURKISH, turkish_of
from kephs.domain.lifecycle import TransferState
from tests.support.registers import issued

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
SOON = NOW + timedelta(milliseconds=200)
EXACT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("told", "level"),
    [
        (NOW + timedelta(milliseconds=100), "ok"),
        (SOON + timedelta(milliseconds=499), "ok"),
        (SOON + timedelta(milliseconds=501), "warning"),
        (NOW - timedelta(milliseconds=501), "warning"),
        (SOON + timedelta(milliseconds=1001), "error"),
        (NOW - timedelta(milliseconds=1001), "error"),
    ],
    ids=["within", "under-500", "behind", "ahead", "behind-1s", "ahead-1s"],
)
def test_the_clock_warns_at_500_ms_and_fails_at_one_second(told: datetime, level: str):
    finding = skew(NOW, SOON, told)
    assert (finding.code, finding.level.value) == ("clock-tsa", level)


def test_a_time_told_to_the_second_is_any_moment_of_it():
    told = NOW - timedelta(seconds=1)  # no fraction: up to 08:59:59.999999
    assert skew(NOW, SOON, told).level.value == "ok"
    assert skew(NOW, SOON, told + EXACT).level.value == "warning"
    assert "ahead" in skew(NOW, SOON, told - timedelta(seconds=1)).text
    assert "behind" in skew(NOW, SOON, NOW + timedelta(seconds=5)).text


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [
        (61, "ok", ""),
        (59, "warning", "in time"),
        (29, "warning", "order"),
        (6, "error", "today"),
        (-1, "error", "renew"),
    ],
)
def test_a_certificate_warns_60_days_ahead_urges_at_30_and_is_an_error_in_the_last_7(days, level, words):
    facts = replace(certificate_facts(issued("x").certificate), not_after=NOW + timedelta(days=days, hours=1))
    if days < 0:
        facts = replace(facts, not_after=NOW - timedelta(days=1))
    finding = lifetime("tls-certificate", facts, NOW)
    assert finding.level.value == level
    assert words in finding.cure


def test_what_others_must_renew_is_no_error_before_its_end():
    facts = replace(certificate_facts(issued("x").certificate), not_after=NOW + timedelta(days=3))
    assert lifetime("tsa-certificate", facts, NOW, ours=False).level.value == "warning"


@pytest.mark.parametrize(
    ("free", "share", "level"),
    [(1 << 20, 0.9, "error"), (20 << 30, 0.05, "warning"), (20 << 30, 0.5, "ok")],
    ids=["full", "tenth", "room"],
)
def test_the_disk_fails_below_a_gib_and_warns_below_a_tenth(free: int, share: float, level: str):
    assert doctor_files._room(Path("/d"), free, share).level.value == level


def test_the_queue_tells_age_held_failed_receipts_and_overdue_work():
    quiet = _Waiting({}, None, 0, None)
    assert [one.level.value for one in _judged(quiet, NOW)] == ["ok"]
    busy = _Waiting(
        {TransferState.QUEUED: 3, TransferState.HELD: 2},
        NOW - timedelta(hours=2),
        4,
        NOW - timedelta(hours=1),
    )
    found = {one.code: one.level.value for one in _judged(busy, NOW)}
    assert found == dict.fromkeys(("queue-old", "queue-held", "queue-receipts", "work-overdue"), "warning")


def test_every_code_that_can_be_a_warning_or_an_error_has_a_turkish_sentence():
    folder = Path(doctor_queue.__file__).parent
    source = "".join(path.read_text("utf-8") for path in sorted(folder.glob("*.py")))
    codes = set(
        re.findall(r"\b(?:error|warning|lifetime|Finding)\(\s*(?:Level\.\w+, )?\"([a-z-]+)\"", source)
    )
    codes |= {f"port-{name}" for name in ("submission", "imap", "inbound", "metrics")}
    assert len(codes) > 40
    assert codes - set(TURKISH) == set()
    assert set(TURKISH) - codes == set()
    assert "veritabanı" in turkish_of("database-unreachable")
