"""Text from outside on paper: everything visible, nothing in a font of the machine, nothing as markup."""

from xml.etree.ElementTree import fromstring, tostring

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kephs.dossier.display import MARKS_MAX, Coverage, _hidden, shortened
from kephs.dossier.markup import Values, document, el

ASCII = Coverage(frozenset(range(32, 127)))
WIDE = Coverage(frozenset(range(0x20, 0x3000)) | frozenset(range(0x1F300, 0x1F700)))
VALUES = Values(WIDE, ASCII)


@given(text=st.text(max_size=60))
@example(text="\u202egpj.exe")
@example(text="\u05d0")
def test_what_is_shown_consists_of_visible_characters_that_the_font_has(text: str) -> None:
    shown = WIDE.shown(text).removeprefix("\u2068").removesuffix("\u2069")
    assert all(ord(char) in WIDE.glyphs and not _hidden(char) for char in shown)


@given(text=st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_plain_letters_stay_as_they_are(text: str) -> None:
    assert ASCII.shown(text) == text


def test_turkish_letters_stay_as_they_are() -> None:
    letters = "İıŞşĞğÇçÖöÜüÂâÎîÛû"
    assert WIDE.shown(letters) == letters


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fatura\u202efdp.exe", "fatura[U+202E]fdp.exe"),
        ("a\u200bb", "a[U+200B]b"),
        ("a\u2066b\u2069", "a[U+2066]b[U+2069]"),
        ("a\x00b", "a[U+0000]b"),
        ("a\u00adb", "a[U+00AD]b"),
        ("a\u2003b", "a[U+2003]b"),
        ("\U0001f600", "[U+1F600]"),
        ("\u2b50", "[U+2B50]"),
        ("\u4f60", "[U+4F60]"),
        ("\ud800", "[U+D800]"),
    ],
    ids=[
        "override",
        "zero-width",
        "isolates",
        "nul",
        "soft-hyphen",
        "em-space",
        "emoji",
        "star",
        "cjk",
        "lone",
    ],
)
def test_what_cannot_be_seen_or_printed_is_named(text: str, shown: str) -> None:
    assert WIDE.shown(text) == shown


def test_letters_from_right_to_left_move_nothing_beside_them() -> None:
    assert WIDE.shown("\u05d0 12") == "\u2068\u05d0 12\u2069"
    assert WIDE.shown("\u2068\u05d0") == "\u2068[U+2068]\u05d0\u2069"


def test_stacked_marks_that_would_cover_other_lines_are_named() -> None:
    shown = WIDE.shown("z" + "\u0301" * (MARKS_MAX + 2))
    assert shown == "z" + "\u0301" * MARKS_MAX + "[U+0301]" * 2


@given(text=st.text(max_size=30), most=st.integers(1, 20))
def test_a_shortened_text_says_that_it_was_cut(text: str, most: int) -> None:
    short = shortened(text, most)
    assert len(short) <= most
    assert (short == text) == (len(text) <= most or (len(text) == most))


@pytest.mark.parametrize(
    "attack",
    [
        "<img src=http://evil.example/x.png>",
        "</style><style>@import url(http://evil.example/x.css)</style>",
        "</title><script>alert(1)</script>",
        '" onload="x" style="background:url(file:///etc/passwd)',
        "&lt;b&gt; &#60;script&#62;",
        "<!-- ]]> <?xml?>",
    ],
)
def test_a_value_with_markup_stays_text(attack: str) -> None:
    made = el("div", VALUES.text(attack), el("b", "x"), VALUES.plain(attack))
    page = document([el("title", VALUES.plain(attack))], [made], language="tr")
    assert "<img" not in page
    assert "<script" not in page
    assert page.count("<style") == 0
    again = fromstring(tostring(made))
    assert [one.tag for one in again.iter()] == ["div", "bdi", "b"]
    assert "".join(again.itertext()) == f"{attack}x{attack}"
