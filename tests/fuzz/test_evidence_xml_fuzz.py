"""Evidence pulled about never does more than raise the reader's own error; what is read can be written."""

from contextlib import suppress
from copy import deepcopy
from time import perf_counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from evidence.forms import serialise
from evidence.model.cardinality import faults
from evidence.model.events import TS_KINDS, EvidenceKind
from evidence.model.records import Profile
from evidence.xml.reader import EvidenceFormatError
from evidence.xml.writer import ProfileError
from tests.support.erds_samples import full

SOURCES = [
    etree.fromstring(serialise.document_form(serialise.write(full(kind), profile)))
    for profile in Profile
    for kind in EvidenceKind
    if profile is Profile.REM_BASELINE or kind in TS_KINDS
]
TEXTS = st.sampled_from(
    ["", " ", "0", "-1", "1", "2", "99999999999", "1 2", "x", "RB04", "RB04: a", "RZ99/new: b", "%", "%00", "mailto:",
     "2026-11-21T09:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "#", "/", "http://x/#/",
     "Other", "\ufffd", "İ", "]]>", "&<>", "\r\n\t", "true", "a" * 5000]
)  # fmt: skip
MOVES = st.lists(
    st.tuples(st.sampled_from(["drop", "copy", "move", "text", "clear", "rename"]), st.integers(0, 500), st.integers(0, 500), TEXTS),
    min_size=1, max_size=4,
)  # fmt: skip


def _apply(root, moves) -> bytes:
    for what, first, second, text in moves:
        nodes = [node for node in root.iter() if node is not root]
        if not nodes:
            break
        one, other = nodes[first % len(nodes)], nodes[second % len(nodes)]
        if what == "drop":
            one.getparent().remove(one)
        elif what == "copy":
            other.append(deepcopy(one))
        elif what == "move" and one not in other.iterancestors() and one is not other:
            other.append(one)
        elif what == "text":
            one.text = text
        elif what == "clear":
            one.clear()
        elif what == "rename":
            one.tag = other.tag
    return etree.tostring(root, encoding="utf-8")


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(source=st.integers(0, len(SOURCES) - 1), moves=MOVES)
def test_whatever_is_read_can_be_written_or_is_refused_as_incomplete(source, moves):
    xml = _apply(deepcopy(SOURCES[source]), moves)
    try:
        record = serialise.read(xml)
    except EvidenceFormatError:
        return
    for profile in Profile:
        faults(record, profile)
        with suppress(ProfileError):
            body = serialise.write(record, profile)
            assert etree.tostring(etree.fromstring(body), method="c14n", exclusive=True) == body
            again = serialise.read(body)
            assert serialise.read(serialise.document_form(body)) == again


@pytest.mark.parametrize("profile", list(Profile))
def test_the_largest_evidence_a_reader_takes_is_read_in_short_time(profile):
    body = serialise.write(full(EvidenceKind.DELIVERY), profile)
    tag = b"EntityDetails" if profile is Profile.KEP else b"tns:RecipientDetails"
    start = body.index(b"<" + tag + b">")
    end = body.index(b"</" + tag + b">") + len(tag) + 3
    many = body[:end] + b"<%b></%b>" % (tag, tag) * 9_000 + body[end:]
    began = perf_counter()
    assert len(serialise.read(many).recipients) == 9_002
    assert start < end
    with pytest.raises(EvidenceFormatError):
        serialise.read(body[:end] + b"<%b></%b>" % (tag, tag) * 10_001 + body[end:])
    assert perf_counter() - began < 5
