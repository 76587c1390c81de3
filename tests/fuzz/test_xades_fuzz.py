"""Hostile evidence and KEP messages never pass, never crash the verifier, and never take long."""

import contextlib
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from evidence.model.records import Profile
from evidence.ports import BytesSource
from evidence.report import Verdict
from evidence.verify.evidence import check_evidence
from evidence.verify.files import verify_source
from evidence.verify.message import check_kep_message
from evidence.xades.check import open_signature
from evidence.xades.own import open_own
from evidence.xml.canonical import XadesError
from evidence.xml.reader import ELEMENTS_MAX, XML_SIZE_MAX, EvidenceFormatError, parse_xml
from tests.support.batches import accepted_in_batch, batched, delivered_in_batch
from tests.support.evidence_samples import record
from tests.support.sealed import LATER, dispatch, foreign_xml, receipt, trust

E = delivered_in_batch()
OURS = (E.xml, batched(profile=Profile.REM_BASELINE)[0].xml)
FOREIGN = foreign_xml(record())
MESSAGES = (dispatch(accepted_in_batch()), receipt(E))
PIECES = (
    b"<", b">", b"</", b"&amp;", b"&#13;", b"<!---->", b"<?x?>", b"<![CDATA[x]]>", b"<!DOCTYPE x>", b'"', b"'",
    b' Id="sig-1"', b' xmlns:ds="x"', b"<ds:Signature>", b"</ds:Signature>", b"\r\n", b"\n", b"\x00", b"\xff",
    b"\xef\xbb\xbf", b"<x/>", b"</ds:Object></ds:Signature>", b"==", b"A", b"0", b" ",
)  # fmt: skip
JUNK = st.one_of(st.sampled_from(PIECES), st.binary(min_size=1, max_size=8))


@settings(max_examples=400)
@given(which=st.sampled_from(OURS), position=st.integers(0, 20_000), cut=st.integers(0, 40), junk=JUNK)
def test_our_evidence_with_any_other_bytes_in_it_never_passes(which, position, cut, junk):
    at = position % (len(which) + 1)
    changed = which[:at] + junk + which[at + cut :]
    assert (changed == which) or not check_evidence(changed, trust(), LATER).passed


@settings(max_examples=300)
@given(
    which=st.sampled_from(OURS),
    start=st.integers(0, 20_000),
    size=st.integers(1, 3000),
    to=st.integers(0, 20_000),
)
def test_our_evidence_with_a_piece_moved_or_doubled_never_passes(which, start, size, to):
    start, to = start % len(which), to % len(which)
    piece, rest = which[start : start + size], which[:start] + which[start + size :]
    moved, doubled = rest[:to] + piece + rest[to:], which[:to] + piece + which[to:]
    for changed in (moved, doubled, rest):
        assert (changed == which) or not check_evidence(changed, trust(), LATER).passed


@settings(max_examples=300)
@given(position=st.integers(0, 20_000), cut=st.integers(0, 40), junk=JUNK)
def test_what_another_writer_signed_is_read_or_refused_and_its_content_never_changes(position, cut, junk):
    at = position % (len(FOREIGN) + 1)
    found = check_evidence(FOREIGN[:at] + junk + FOREIGN[at + cut :], trust(), LATER)
    if found.passed:
        assert found.record == record()


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)))
def test_readers_of_any_bytes_raise_their_own_error_only(data):
    with contextlib.suppress(XadesError):
        open_signature(data)
    with contextlib.suppress(EvidenceFormatError):
        parse_xml(data)
    assert open_own(data) is None
    assert verify_source(BytesSource(data), trust(), LATER).verdict is not Verdict.PASSED


@settings(max_examples=200)
@given(
    which=st.sampled_from(MESSAGES), position=st.integers(0, 100_000), cut=st.integers(0, 60), junk=JUNK,
    skip_head=st.booleans(),
)  # fmt: skip
def test_a_damaged_message_never_crashes_and_passes_with_the_same_content_alone(
    which, position, cut, junk, skip_head
):
    at = position % len(which)
    if skip_head:  # beyond the outer header, which nothing covers
        at = max(at, which.index(b"\r\n\r\n") + 4)
    good = check_kep_message(BytesSource(which), trust(), LATER)
    found = check_kep_message(BytesSource(which[:at] + junk + which[at + cut :]), trust(), LATER)
    if found.passed:
        assert found.records == good.records
        assert found.original_sha256 == good.original_sha256


@settings(max_examples=200)
@given(position=st.integers(0, 10_000), cut=st.integers(0, 8), junk=st.binary(max_size=8))
def test_a_damaged_record_beside_good_evidence_never_passes(position, cut, junk):
    at = position % (len(E.ers) + 1)
    changed = E.ers[:at] + junk + E.ers[at + cut :]
    assert (changed == E.ers) or not check_evidence(E.xml, trust(), LATER, ers=changed).passed


_NAMES = st.sampled_from(["a", "ds:b", "x:c"])
_TREES = st.recursive(
    st.builds(lambda n: f'<{n} xmlns:ds="urn:d" xmlns:x="urn:x"></{n}>', _NAMES),
    lambda inner: st.builds(
        lambda n, parts, text: f'<{n} xmlns:ds="urn:d" xmlns:x="urn:x" q="1">{text}{"".join(parts)}</{n}>',
        _NAMES, st.lists(inner, max_size=4), st.sampled_from(["", "t", "&amp;", "&#xD;", "ş"]),
    ),
    max_leaves=20,
)  # fmt: skip


@given(_TREES)
def test_the_strict_parser_reads_what_the_library_reads(text):
    data = text.encode()
    expected, found = etree.fromstring(data), parse_xml(data)
    assert etree.tostring(found, method="c14n") == etree.tostring(expected, method="c14n")


# ------------------------------------------------------------------- bombs


def bombs() -> dict[str, bytes]:
    size = XML_SIZE_MAX - 1000
    entities = b"".join(b'<!ENTITY e%d "%b">' % (n, b"&e%d;" % (n - 1) * 10) for n in range(1, 12))
    return {
        "entities": b'<!DOCTYPE x [<!ENTITY e0 "x">' + entities + b"]><x>&e11;</x>",
        "external": b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x"><x/>',
        "depth": b"<a>" * 50_000 + b"</a>" * 50_000,
        "many elements": b"<x>" + b"<a/>" * (ELEMENTS_MAX + 10) + b"</x>",
        "many attributes": b"<x " + b" ".join(b'a%d="1"' % n for n in range(60_000)) + b"/>",
        "many namespaces": b"<x " + b" ".join(b'xmlns:a%d="u"' % n for n in range(40_000)) + b"/>",
        "many ids": b"<x>" + b"".join(b'<a Id="%d"/>' % n for n in range(45_000)) + b"</x>",
        "long text": b"<x>" + b"&amp;" * (size // 5) + b"</x>",
        "many signatures": b'<x xmlns:ds="http://www.w3.org/2000/09/xmldsig#">'
        + b"<ds:Signature></ds:Signature>" * 30_000
        + b"</x>",
        "too long": b"<x>" + b" " * XML_SIZE_MAX + b"</x>",
        "many certificates": E.xml.replace(
            b"</ds:X509Data>", b"<ds:X509Certificate>MA==</ds:X509Certificate>" * 15_000 + b"</ds:X509Data>"
        ),
        "long value": E.xml.replace(b"</ds:SignatureValue>", b"A" * 900_000 + b"</ds:SignatureValue>"),
    }


@pytest.mark.parametrize("name", sorted(bombs()))
def test_a_bomb_is_refused_quickly(name):
    data = bombs()[name]
    started = perf_counter()
    report = check_evidence(data, trust(), LATER, ers=E.ers).report
    assert report.verdict is not Verdict.PASSED
    assert perf_counter() - started < 3
