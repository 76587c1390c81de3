"""The stored form of verification material: the same octets as one JSON dump, whatever comes from a memo."""

import json
from base64 import b64encode
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.nes.model import Material as Found
from evidence.nes.model import SenderReport
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from evidence.verify.telling import described
from kephs.usecases.submission.material import Material, decode_material, encode_material

AT = datetime(2026, 11, 21, 9, 1, tzinfo=UTC)
STEPS = st.builds(
    Step,
    st.text(max_size=4),
    st.text(max_size=8),
    st.sampled_from([True, False, None]),
    st.text(max_size=20),
    st.sampled_from([None, *SubIndication]),
    code=st.sampled_from(["", "revoked", "no-path", "proof-of-time"]),
)
DERS = st.lists(st.binary(max_size=30), max_size=3).map(tuple)


def sender_report(report: Report, *ders: tuple[bytes, ...]) -> SenderReport:
    return SenderReport(report, (), Found(*ders))


def as_one_dump(found: SenderReport, record: bytes | None) -> bytes:
    """Return the stored form as its table in `kephs.usecases.submission.material` tells it."""
    plain: dict[str, object] = {"report": described(found.report)}
    for name in ("certificates", "ocsp", "crls"):
        plain[name] = [b64encode(der).decode() for der in getattr(found.material, name)]
    if record is not None:
        plain["record"] = b64encode(record).decode()
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


@given(
    steps=st.lists(STEPS, max_size=4),
    ders=st.tuples(DERS, DERS, DERS),
    record=st.none() | st.binary(max_size=9),
)
def test_the_stored_form_is_one_json_object(steps, ders, record):
    facts = {"kind": "detached", "signers": [{"common_name": 'Ayşe "Ş"', "steps": []}]}
    report = conclude("sender signature", steps, AT, facts=facts)
    found = sender_report(report, *ders)
    for _ in range(2):  # the second time from the memo
        assert encode_material(found, record) == as_one_dump(found, record)
    assert decode_material(encode_material(found, record)) == Material(described(report), *ders, record)


@pytest.mark.parametrize("size", [10, 100_000], ids=["small", "larger than the memo takes"])
def test_parts_of_a_report_and_large_answers_are_stored_too(size):
    part = conclude("stamp", [Step("1", "form", False, code="revoked")], AT)
    report = conclude("sender signature", [Step("1", "form", True)], AT, parts=(part, part))
    assert report.verdict is Verdict.FAILED
    found = sender_report(report, (b"c" * size,), (b"o" * size,), (b"l" * size,))
    assert encode_material(found) == as_one_dump(found, None)
