"""The process record: what is digested, what an entry may hold, what an altered one shows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kephs.domain.audit import GENESIS, AuditEntry, audit_digest, first_break, link_problem, next_entry

T0 = datetime(2026, 3, 2, 9, 30, 15, 123456, tzinfo=UTC)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)


def chain(*subjects: str) -> list[AuditEntry]:
    made: list[AuditEntry] = []
    for number, subject in enumerate(subjects):
        last = made[-1] if made else None
        made.append(
            next_entry(
                last, at=T0 + timedelta(seconds=number), actor="Çiğdem Şahin", action="trust.imported",
                subject=subject, detail="",
            )
        )  # fmt: skip
    return made


def test_the_digest_is_that_of_the_form_the_module_describes() -> None:
    (entry,) = chain("kök")
    text = (
        '{"action":"trust.imported","actor":"Çiğdem Şahin","at":1772443815123456,"detail":"",'
        '"number":1,"subject":"kök"}'
    )
    assert entry.digest == sha256(GENESIS + text.encode()).digest()


@given(st.lists(TEXTS, min_size=1, max_size=6), st.data())
def test_any_change_of_any_entry_shows_where_it_was_made(subjects: list[str], data: st.DataObject) -> None:
    entries = chain(*subjects)
    assert first_break(entries) is None
    index = data.draw(st.integers(0, len(entries) - 1))
    one = entries[index]
    change = data.draw(
        st.sampled_from(
            [
                {"subject": one.subject + "x"}, {"actor": "Veli"}, {"detail": one.subject + "."},
                {"action": "trust.retired"}, {"at": one.at + timedelta(microseconds=1)}, {"number": one.number + 1},
                {"previous": bytes(32)}, {"digest": bytes(32)},
            ]
        )
    )  # fmt: skip
    entries[index] = replace(one, **change)  # type: ignore[arg-type]
    broken = first_break(entries)
    assert broken is not None
    assert broken.number == index + 1


@given(TEXTS, TEXTS)
def test_where_one_field_ends_and_the_next_begins_is_told_apart(one: str, two: str) -> None:
    def digest(subject: str, detail: str) -> bytes:
        return audit_digest(GENESIS, number=1, at=T0, actor="a", action="b.c", subject=subject, detail=detail)

    assert (digest(one, two) == digest(one + two, "")) is (two == "")


def test_a_run_is_checked_from_the_entry_before_it() -> None:
    entries = chain("a", "b", "c")
    assert first_break(entries[1:], number=1, digest=entries[0].digest) is None
    assert first_break(entries[1:]) is not None
    assert link_problem(entries[2], 3, entries[0].digest) == "it does not name the entry before it"


@pytest.mark.parametrize(
    "change",
    [{"number": 0}, {"number": 1 << 63}, {"at": T0.replace(tzinfo=None)}, {"previous": b"short"}],
    ids=["zero", "large", "naive", "digest"],
)
def test_what_no_entry_may_have_is_refused(change: dict[str, object]) -> None:
    values: dict[str, object] = {
        "previous": GENESIS, "number": 1, "at": T0, "actor": "a", "action": "b.c", "subject": "", "detail": "",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"."):
        audit_digest(**(values | change))  # type: ignore[arg-type]
