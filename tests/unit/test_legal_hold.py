"""A legal hold: one person sets it, two of different names lift it; the process record can be read back."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kephs.domain.legal_hold import (
    ACTIONS,
    HoldError,
    HoldKind,
    HoldState,
    hold_detail,
    hold_number,
    lift,
    new_hold,
)

T0 = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def hold():
    return new_hold(HoldKind.MESSAGE, "m1", "Ayşe  Savcı", T0, " 2026/12   esas ")


def test_a_hold_names_who_and_why_as_it_is_kept() -> None:
    one = hold()
    assert (one.set_by, one.reason, one.state, one.keeps) == (
        "Ayşe Savcı",
        "2026/12 esas",
        HoldState.STANDING,
        True,
    )
    assert one.sound


def test_two_different_persons_lift_it() -> None:
    asked = lift(hold(), "Ali Kaya", T0, "bitti")
    assert (asked.state, asked.keeps, asked.lifted_at) == (HoldState.LIFT_ASKED, True, None)
    done = lift(asked, "Veli Demir", T0, "bitti")
    assert (done.state, done.keeps, done.lifted_at) == (HoldState.LIFTED, False, T0)
    assert asked.sound
    assert done.sound
    with pytest.raises(HoldError, match="lifted before"):
        lift(done, "Can Er", T0, "bitti")


@pytest.mark.parametrize("again", ["Ali Kaya", "ALİ KAYA", "alı  kaya"], ids=["same", "upper", "dotless"])
def test_one_person_in_another_spelling_is_not_two(again: str) -> None:
    with pytest.raises(HoldError, match="different person"):
        lift(lift(hold(), "Ali Kaya", T0, "bitti"), again, T0, "bitti")


@pytest.mark.parametrize(
    ("by", "reason"), [("", "r"), ("123", "r"), ("Ali", ""), ("Ali", "x" * 501), ("Ali", "a\x1bb")]
)
def test_nobody_or_no_reason_holds_nothing(by: str, reason: str) -> None:
    with pytest.raises(HoldError):
        new_hold(HoldKind.MESSAGE, "m1", by, T0, reason)
    with pytest.raises(HoldError):
        lift(hold(), by, T0, reason)


@given(st.integers(1, 10**12), st.text(max_size=30))
def test_the_records_detail_names_the_hold(number: int, reason: str) -> None:
    assert hold_number(hold_detail(number, reason)) == number


@given(st.text(max_size=40))
def test_other_details_name_none_or_a_number(text: str) -> None:
    found = hold_number(text)
    assert found is None or text.startswith(f"hold {found}: ")


def test_every_state_has_its_action() -> None:
    assert set(ACTIONS.values()) == set(HoldState)
