"""T.C. identity numbers: any single wrong digit is found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.identity import is_identity_number


def completed(nine: str) -> str:
    """Return the nine digits with the two check digits that the law's formula gives."""
    digits = [int(char) for char in nine]
    tenth = ((digits[0] + digits[2] + digits[4] + digits[6] + digits[8]) * 7 - sum(digits[1:8:2])) % 10
    return f"{nine}{tenth}{(sum(digits) + tenth) % 10}"


NINE = st.integers(100_000_000, 999_999_999).map(str)


@given(NINE)
def test_right_check_digits_pass(nine: str) -> None:
    assert is_identity_number(completed(nine))


@given(NINE, st.integers(0, 10), st.integers(1, 9))
def test_one_wrong_digit_is_found(nine: str, place: int, off: int) -> None:
    number = completed(nine)
    wrong = f"{number[:place]}{(int(number[place]) + off) % 10}{number[place + 1 :]}"
    assert not is_identity_number(wrong)


def test_the_number_of_the_official_example_passes() -> None:
    assert is_identity_number("10000000146")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1000000014",
        "100000001460",
        "00000000000",
        "01234567890",
        " 10000000146",
        "10000000146\n",
        "1000000014a",
        "-0000000146",
        "１００００００0146",
        "१००००००0146",
        "1000000014²",
    ],
)
def test_anything_but_eleven_ascii_digits_is_refused(text: str) -> None:
    assert not is_identity_number(text)


@given(st.text(max_size=20))
def test_no_text_makes_it_fail(text: str) -> None:
    assert is_identity_number(text) in {True, False}
