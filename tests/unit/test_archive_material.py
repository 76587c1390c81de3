"""The kept material of senders' signatures comes back to the letter; what many share stands once."""

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kephs.usecases.archive.material import SlimMaterial, whole_material

DERS = st.lists(st.binary(min_size=1, max_size=20), max_size=3)
TEXTS = st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=3)


def stored(report: object, lists: list[list[bytes]], record: bytes | None = b"record") -> bytes:
    """Return material in its stored form (`kephs.usecases.submission.material`)."""
    members = zip(("certificates", "ocsp", "crls"), lists, strict=True)
    plain: dict[str, object] = {"report": report}
    plain |= {name: [b64encode(der).decode() for der in ders] for name, ders in members}
    if record is not None:
        plain["record"] = b64encode(record).decode()
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


USUAL = stored({"verdict": "TOTAL-PASSED"}, [[b"one", b"two"], [b"answer"], []])


@given(TEXTS, st.lists(DERS, min_size=3, max_size=3), st.none() | st.binary(max_size=9))
def test_whatever_was_kept_comes_back_to_the_letter(report, lists, record) -> None:
    material = stored(report, lists, record)
    files, name = SlimMaterial().slim(material)
    assert whole_material(files[name], files) == material
    assert set().union(*lists) <= set(files.values())


def test_messages_that_rest_on_the_same_answers_name_the_same_files() -> None:
    slim = SlimMaterial()
    first, second = (slim.slim(stored({"n": n}, [[b"one"], [b"answer"], []])) for n in (1, 2))
    assert first[1] != second[1]
    assert len(first[0]) == len(second[0]) == 3
    assert first[0].keys() & second[0].keys() == first[0].keys() - {first[1]}


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"{}",
        USUAL[:-1],
        USUAL.replace(b',"certificates"', b', "certificates"'),
        USUAL.replace(b"PASSED", b"P\\u0041SSED"),
        USUAL.replace(b'{"report"', b'{"certificates":[],"report"'),
        USUAL.replace(b'{"report"', b'{"report":1,"report"'),
        USUAL.replace(b'"crls":[]', b'"crls":[],"crls":[]'),
        USUAL.replace(b'"crls":[]', b'"crls":["A"]'),
        b'{"report":{"a":1,"certificates":["QQ=="],"ocsp":[],"crls":[]}}',
        b'{"report":1,"certificates":["dogrulama/x"],"ocsp":[],"crls":[]}',
    ],
    ids=range(11),
)
def test_octets_of_another_form_are_kept_as_they_are(odd: bytes) -> None:
    slim = SlimMaterial()
    slim.slim(USUAL)
    files, name = slim.slim(odd)
    assert files == {name: odd}
