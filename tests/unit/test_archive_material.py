"""The kept material of senders' signatures comes back to the letter; what many share stands once."""

import json
import re
from base64 import b64decode, b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.stamps.ers import split_record
from evidence.stamps.messages import read_token
from kephs.usecases.archive.material import CertificateFinder, SlimMaterial, whole_material
from tests.support.archive_world import archive_world

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


_CERTIFICATE = re.compile(rb"X509Certificate>([A-Za-z0-9+/=\s]{1,40000})</")
_XML = (
    b"<ds:X509Certificate>", b"</ds:X509Certificate>", b"QUJD", b"QUI=", b"\n", b"=", b"<", b"</", b">",
    b"X509Certificate>", b"<a/>", b"?",
)  # fmt: skip
_PIECES = (
    b"{", b"}", b",", b'"record":"QQ=="', b'"report":', b'"', b"]", b"1", b',"certificates":["QQ=="]', b',"ocsp":[]',
    b',"crls":[]', b'{"report":1,"certificates":["QQ=="],"ocsp":["QQ=="],"crls":[]', b',"record":"QQ=="}',
)  # fmt: skip
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
    "report",
    [
        USUAL.replace(b"PASSED", b"P\\u0041SSED"),
        USUAL.replace(b'{"report"', b'{ "report"'),
        USUAL.replace(b'{"report"', b'{"report":1,"report"'),
        USUAL.replace(b'{"report"', b'{"certificates":[],"report"'),
        USUAL.replace(b'{"report"', b'{"x":{"certificates":[],"ocsp":[],"crls":[]},"report"'),
        USUAL.replace(b"}", b"", 1),
    ],
    ids=range(6),
)
def test_whatever_stands_before_the_lists_comes_back_to_the_letter(report: bytes) -> None:
    files, name = SlimMaterial().slim(report)
    assert len(files) == 4
    assert whole_material(files[name], files) == report


@given(st.lists(st.sampled_from(_PIECES), max_size=12))
def test_pieces_of_material_in_any_order_come_back_or_are_kept_as_they_are(pieces: list[bytes]) -> None:
    material = b"".join(pieces)
    files, name = SlimMaterial().slim(material)
    if files != {name: material}:
        assert whole_material(files[name], files) == material


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"{}",
        USUAL[:-1],
        USUAL.replace(b',"certificates"', b', "certificates"'),
        USUAL.replace(b'"crls":[]', b'"crls":[],"crls":[]'),
        USUAL.replace(b'"crls":[]', b'"crls":["A"]'),
        b'{"report":{"a":1,"certificates":["QQ=="],"ocsp":[],"crls":[]}}',
        b'{"report":1,"certificates":["dogrulama/x"],"ocsp":[],"crls":[]}',
    ],
    ids=range(8),
)
def test_octets_of_another_form_are_kept_as_they_are(odd: bytes) -> None:
    slim = SlimMaterial()
    slim.slim(USUAL)
    files, name = slim.slim(odd)
    assert files == {name: odd}


@given(st.lists(st.lists(st.sampled_from(_XML), max_size=12), min_size=1, max_size=4))
def test_every_certificate_of_an_evidence_is_found_whatever_was_read_before(files: list[list[bytes]]) -> None:
    finder = CertificateFinder()
    for xml in map(b"".join, files):
        expected = set()
        for text in _CERTIFICATE.findall(xml):
            with suppress(ValueError):
                expected.add(b64decode(text))
        assert finder.certificates_of(xml, None) == expected - {b""}


async def test_the_certificates_behind_an_evidence_are_those_of_its_seal_and_its_stamp() -> None:
    world = await archive_world()
    await world.letters(2)
    finder = CertificateFinder()
    for row in await world.world.store.read(lambda tx: list(tx.evidence.entered(0, 10))):
        xml = world.world.blobs.open(row.blob).read(0, row.blob.size)
        seal = {b64decode(text) for text in _CERTIFICATE.findall(xml)}
        stamp = set(read_token(split_record(row.ers)[1]).signed.certificates)
        assert seal
        assert stamp
        assert finder.certificates_of(xml, row.ers) == seal | stamp
        assert finder.certificates_of(xml, row.ers[:-1]) == finder.certificates_of(xml, None) == seal
