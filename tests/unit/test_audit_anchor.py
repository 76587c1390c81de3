"""Anchors and exported records: one spelling, any change found, times compared with what stands around."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kephs.domain.audit import AuditEntry, next_entry
from kephs.domain.audit_anchor import (
    Anchored,
    BreakKind,
    RecordCheck,
    Statement,
    StatementError,
    anchor_name,
    anchored_number,
    is_anchor_name,
)
from kephs.domain.audit_check import RecordFormError, read_record, record_line

T0 = datetime(2026, 3, 2, 9, 30, 15, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)


def chain(*at: datetime) -> list[AuditEntry]:
    made: list[AuditEntry] = []
    for time in at:
        last = made[-1] if made else None
        made.append(next_entry(last, at=time, actor="Ayşe", action="a.b", subject="s", detail=""))
    return made


def anchor(entry: AuditEntry, at: datetime) -> Anchored:
    return Anchored(entry.number, Statement(entry.number, entry.digest, at).sha256, at, entry.number * 10)


def kinds(entries: list[AuditEntry], anchors: list[Anchored]) -> list[tuple[int, BreakKind]]:
    check = RecordCheck(anchors)
    found = [one for entry in entries for one in check.take(entry)] + check.finish()
    return [(one.number, one.kind) for one in found]


@given(st.integers(1, 10**12 - 1), st.binary(min_size=32, max_size=32), st.datetimes(timezones=st.just(UTC)))
def test_a_statement_reads_back(number: int, digest: bytes, at: datetime) -> None:
    one = Statement(number, digest, at)
    assert Statement.read(one.encode()) == one


@given(st.integers(0, 150), st.integers(1, 255))
def test_a_changed_statement_is_another_or_none(place: int, flip: int) -> None:
    one = Statement(7, b"\1" * 32, T0)
    data = one.encode()
    place %= len(data)
    with suppress(StatementError):
        assert Statement.read(data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]) != one


@given(st.binary(max_size=200))
def test_noise_is_no_statement(data: bytes) -> None:
    with pytest.raises(StatementError):
        Statement.read(data)


@given(st.integers(1, 10**12 - 1), st.integers(1, 10**12 - 1))
def test_names_of_anchors_sort_as_their_numbers(one: int, other: int) -> None:
    assert anchored_number(anchor_name(one)) == one
    assert is_anchor_name(anchor_name(one))
    assert (anchor_name(one) < anchor_name(other)) == (one < other)


@pytest.mark.parametrize(
    "name", ["", "e1", "audit:1", "audit:000000000000", "audit:00000000000１", "audit:0000000000011"]
)
def test_other_names_are_no_anchors(name: str) -> None:
    assert anchored_number(name) is None


def test_a_record_that_agrees_with_its_anchors_has_no_break() -> None:
    entries = chain(*(T0 + n * HOUR for n in range(6)))
    assert kinds(entries, [anchor(entries[1], T0 + HOUR), anchor(entries[4], T0 + 4 * HOUR)]) == []
    check = RecordCheck([anchor(entries[1], T0 + HOUR)])
    for entry in entries:
        check.take(entry)
    assert check.first_open == entries[2]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda e: e[:5], (6, BreakKind.ANCHOR)),
        (lambda e: [*e[:2], replace(e[2], actor="Ali"), *e[3:]], (3, BreakKind.CHAIN)),
        (lambda e: [*e[:2], *e[3:]], (4, BreakKind.CHAIN)),
    ],
    ids=["cut", "altered", "dropped"],
)  # fmt: skip
def test_a_change_is_told_where_it_stands(
    change: Callable[[list[AuditEntry]], list[AuditEntry]], expected: tuple[int, BreakKind]
) -> None:
    entries = chain(*(T0 + n * HOUR for n in range(6)))
    anchors = [anchor(entries[1], T0 + HOUR), anchor(entries[5], T0 + 5 * HOUR)]
    assert expected in kinds(change(entries), anchors)


def test_times_are_held_against_the_anchors_around_with_an_hour_of_tolerance() -> None:
    early, late = T0 - HOUR - timedelta(seconds=1), T0 + HOUR + timedelta(seconds=1)
    entries = chain(T0, T0 - HOUR)
    assert kinds(entries, [anchor(entries[0], T0)]) == []
    entries = chain(T0, early)
    assert kinds(entries, [anchor(entries[0], T0)]) == [(2, BreakKind.TIME)]
    entries = chain(late, T0)
    assert kinds(entries, [anchor(entries[1], T0)]) == [(1, BreakKind.TIME)]


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=4))
def test_an_exported_record_reads_back_with_the_digests_of_the_chain(texts: list[tuple[str, str]]) -> None:
    made: list[AuditEntry] = []
    for subject, detail in texts:
        last = made[-1] if made else None
        made.append(next_entry(last, at=T0, actor="Ayşe", action="a.b", subject=subject, detail=detail))
    assert list(read_record(map(record_line, made))) == made


@given(st.binary(max_size=80))
def test_noise_is_no_record(line: bytes) -> None:
    with pytest.raises(RecordFormError):
        list(read_record([line]))


@pytest.mark.parametrize(
    "line",
    [
        b'{"action":"a.b","actor":"x","at":1,"detail":"","number":1,"subject":""} \n',
        b'{"action":"a.b","actor":"x","at":1.0,"detail":"","number":1,"subject":""}\n',
        b'{"action":"a.b","actor":"x","at":true,"detail":"","number":1,"subject":""}\n',
        b'{"action":"a.b","actor":"x","at":1,"detail":"","number":1,"subject":"","more":1}\n',
        b'{"action":"a.b","actor":"\\u0041","at":1,"detail":"","number":1,"subject":""}\n',
        b"[" * 100_000 + b"\n",
    ],
    ids=["space", "float", "bool", "more", "escape", "deep"],
)
def test_another_spelling_is_refused(line: bytes) -> None:
    with pytest.raises(RecordFormError):
        list(read_record([line]))
