"""KEP addresses: what is folded, what is refused, and that nobody can make two spellings of one address."""

import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.addresses import ADDRESS_MAX, LOCAL_PART_MAX, AddressError, KepAddress, fold

TURKISH = "çÇğĞıIİöÖşŞüÜâÂîÎûÛ"
NAMES = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12)
LOCALS = st.lists(NAMES, min_size=1, max_size=4).map(".".join)
PROVIDERS = st.integers(0, 99).map(lambda number: f"hs{number:02d}.kep.tr")


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("IŞIK.İNCİ@hs91.kep.tr", "isik.inci@hs91.kep.tr"),
        ("ışık.inci@HS91.KEP.TR", "isik.inci@hs91.kep.tr"),
        ("Çağrı.ÖZGÜR.2@hs03.kep.tr", "cagri.ozgur.2@hs03.kep.tr"),
        ("kâzım.hakkî.sûkût@hs01.kep.tr", "kazim.hakki.sukut@hs01.kep.tr"),
        ("i\u0307nci.I\u0307@hs91.kep.tr", "inci.i@hs91.kep.tr"),
        ("c\u0327ag\u0306ri.ak@hs91.kep.tr", "cagri.ak@hs91.kep.tr"),  # decomposed, as some keyboards send it
        ("0123456789012345@ornek.hs92.kep.tr", "0123456789012345@ornek.hs92.kep.tr"),
    ],
)
def test_turkish_letters_and_case_fold_to_the_stored_form(written: str, stored: str) -> None:
    assert str(KepAddress.parse(written)) == stored


def test_the_provider_is_the_end_of_the_domain() -> None:
    at_company = KepAddress.parse("ali.veli@ornek.hs91.kep.tr")
    assert (at_company.local, at_company.domain, at_company.provider) == (
        "ali.veli",
        "ornek.hs91.kep.tr",
        "hs91.kep.tr",
    )
    assert KepAddress.parse("ali.veli@hs91.kep.tr").provider == "hs91.kep.tr"


@given(LOCALS.filter(lambda local: len(local) <= LOCAL_PART_MAX), PROVIDERS)
def test_a_folded_address_parses_to_itself(local: str, provider: str) -> None:
    address = KepAddress.parse(f"{local}@{provider}")
    assert str(address) == f"{local}@{provider}"
    assert KepAddress.parse(str(address)) == address


@given(st.text(max_size=80))
def test_whatever_parses_is_plain_ascii_and_stays_the_same(text: str) -> None:
    try:
        address = KepAddress.parse(f"{text}@hs91.kep.tr")
    except AddressError:
        return
    assert str(address).isascii()
    assert str(address) == str(address).lower()
    assert KepAddress.parse(str(address)) == address


@given(st.text(TURKISH + string.ascii_letters + string.digits + ".", max_size=40))
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert fold(text).isascii()


@given(st.text(TURKISH + string.ascii_letters, min_size=1, max_size=30))
def test_composed_and_decomposed_spellings_fold_alike(text: str) -> None:
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize(
    "local",
    [
        "\u212aemal.ak",  # KELVIN SIGN, which NFC turns into K
        "ke\u0301mal.ak",  # é is no Turkish letter
        "\uff41li.ak",  # fullwidth a
        "\u0430li.ak",  # Cyrillic a
        "ali\u200b.ak",  # zero width space
        "a\u0131\u0301li.ak",  # dotless i with an accent
        "ali\u202e.ak",  # right-to-left override
        "al\ufb01.ak",  # ligature fi
        "ali\u00ad.ak",  # soft hyphen
        "stra\u00dfe.ak",  # sharp s, two letters in upper case
        "\u017feyma.ak",  # long s, which lower() leaves and upper() makes S
        "ali\u0660.ak",  # Arabic digit
    ],
)
def test_letters_that_only_look_like_ours_are_refused(local: str) -> None:
    with pytest.raises(AddressError):
        KepAddress.parse(f"{local}@hs91.kep.tr")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "ali.veli",
        "@hs91.kep.tr",
        "ali@",
        "ali@kep.tr",
        "ali@hs9.kep.tr",
        "ali@hs911.kep.tr",
        "ali@hsab.kep.tr",
        "ali@gmail.com",
        "ali@hs91.kep.tr.example.com",
        "ali@evilhs91.kep.tr",
        "ali@a.b.hs91.kep.tr",
        "ali@.hs91.kep.tr",
        "ali@hs91..kep.tr",
        "ali@hs91.kep.tr.",
        ".ali@hs91.kep.tr",
        "ali.@hs91.kep.tr",
        "ali..veli@hs91.kep.tr",
        "ali veli@hs91.kep.tr",
        "ali@veli@hs91.kep.tr",
        "ali\r\nveli@hs91.kep.tr",
        "ali\x00@hs91.kep.tr",
        '"ali"@hs91.kep.tr',
        "<ali@hs91.kep.tr>",
        "ali+etiket@hs91.kep.tr",
        "ali@[127.0.0.1]",
    ],
)
def test_what_the_grammar_does_not_know_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        KepAddress.parse(text)


def test_lengths_count_on_the_folded_form_and_end_at_the_limits() -> None:
    longest = "a" * LOCAL_PART_MAX
    assert KepAddress.parse(f"{longest}@hs91.kep.tr").local == longest
    assert KepAddress.parse(f"{'ş' * LOCAL_PART_MAX}@hs91.kep.tr").local == "s" * LOCAL_PART_MAX
    with pytest.raises(AddressError):
        KepAddress.parse(f"{longest}a@hs91.kep.tr")
    with pytest.raises(AddressError):
        KepAddress.parse(f"a@{'b' * ADDRESS_MAX}.hs91.kep.tr")
    with pytest.raises(AddressError):
        KepAddress.parse("a" * 10_000_000)


def test_another_suffix_serves_another_network() -> None:
    assert KepAddress.parse("ali@hs91.kep.example", suffix="kep.example").provider == "hs91.kep.example"
    with pytest.raises(AddressError):
        KepAddress.parse("ali@hs91.kep.tr", suffix="kep.example")


@given(st.text(min_size=1, max_size=60))
def test_an_error_never_repeats_what_was_written(text: str) -> None:
    with pytest.raises(AddressError) as raised:
        KepAddress.parse("!" + text + "!")
    assert "!" not in str(raised.value)
