"""Reading our own bodies by writing them again."""

from base64 import b64decode, b64encode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.forms import erds_xml, rem_scan, rem_xml
from evidence.model.events import TS_KINDS, EvidenceKind
from evidence.model.records import Party, Reason, ReasonCode
from evidence.xml.canonical import canonical
from evidence.xml.reader import EvidenceFormatError, parse_xml
from evidence.xml.writer import ProfileError
from tests.support.erds_samples import full
from tests.support.evidence_samples import record

TEXT = st.text(max_size=30)
BODY = rem_xml.write(record())


@pytest.mark.parametrize("kind", sorted(TS_KINDS), ids=lambda kind: kind.name.lower())
def test_what_the_short_way_reads_is_what_the_xml_reader_reads(kind):
    for sample in (record(kind), full(kind)):
        body = rem_xml.write(sample)
        found = rem_scan.record_of(body)
        assert found is not None
        assert found == rem_xml.read(body)


@given(
    names=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), subject=TEXT, user_id=TEXT, details=TEXT,
    person=TEXT, kind=st.sampled_from(sorted(TS_KINDS)),
)  # fmt: skip
def test_whatever_text_a_record_holds_the_short_way_says_the_same_or_nothing(
    names, subject, user_id, details, person, kind
):
    sample = record(kind)
    authentication = sample.sender_authentication
    body = rem_xml.write(
        replace(
            sample,
            recipients=tuple(Party(address, name or None) for address, name in names),
            refers_to=1,
            message=replace(sample.message, subject=subject, user_message_id=user_id or None),
            reasons=(Reason(ReasonCode.OTHER, details),),
            sender_authentication=authentication and replace(authentication, person=person or None),
        )
    )
    found = rem_scan.record_of(body)
    assert found is None or found == rem_xml.read(body)


@given(at=st.integers(0, len(BODY) - 1), put=st.binary(max_size=6), cut=st.integers(0, 12))
def test_a_changed_body_is_read_as_the_xml_reader_reads_it_or_not_at_all(at, put, cut):
    changed = BODY[:at] + put + BODY[at + cut :]
    found = rem_scan.record_of(changed)
    if found is not None:
        assert found == rem_xml.read(changed)
        assert canonical(parse_xml(changed)) == changed


@pytest.mark.parametrize("octets", [0, 29, 31, 33, 35])
def test_a_digest_that_is_no_sha256_is_left_to_the_xml_reader(octets):
    value = BODY.partition(b"DigestValue")[2].partition(b">")[2].partition(b"<")[0]
    assert b64decode(value)
    assert rem_scan.record_of(BODY) is not None
    assert rem_scan.record_of(BODY.replace(value, b64encode(bytes(octets)))) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<EventTime>", b"<!-- x --><EventTime>"),
        (b"<EventTime>", b"\n<EventTime>"),
        (b"</EventTime>", b"</EventTime >"),
        (b'version="2.1.1"', b"version='2.1.1'"),
        (b"kurum@hs91", b"kurum&#64;hs91"),
        (b"kurum@hs91", b"mailto:kurum@hs91"),
        (b"<MessageSubject>", b"<MessageSubject><![CDATA[x]]>"),
        (b"<MessageSubject>", b"<MessageSubject>\x00"),
        (b"<MessageSubject>", b"<MessageSubject>\xff"),
        (b"<SenderDetails>", b'<SenderDetails Id="sig-1">'),
        (b'isNotification="false"', b'isNotification="true"'),
        (b".250Z</EventTime>", b".25Z</EventTime>"),
        (b"=</ds:DigestValue>", b"</ds:DigestValue>"),
        (b".250Z</EventTime>", b".250+00:00</EventTime>"),
    ],
)
def test_what_our_writer_would_write_otherwise_goes_the_general_way(old, new):
    assert old in BODY
    assert rem_scan.record_of(BODY.replace(old, new)) is None


def test_a_body_of_the_european_form_goes_the_general_way():
    assert rem_scan.record_of(erds_xml.write(full(EvidenceKind.DELIVERY))) is None


def test_an_index_beyond_the_recipients_goes_the_general_way():
    body = rem_xml.write(replace(record(), refers_to=2))
    beyond = body.replace(b"Recipient>2<", b"Recipient>3<")
    assert beyond != body
    assert rem_scan.record_of(beyond) is None
    with pytest.raises((EvidenceFormatError, ProfileError)):
        rem_xml.read(beyond)


@pytest.mark.parametrize(
    "piece",
    [
        b"</EventReasons><EvidenceIdentifier>",
        b"<EvidenceIssuerDetails></EvidenceIssuerDetails>",
        b"<EntityDetails></EntityDetails>",
        b"<EventReason><Code></Code></EventReason>",
    ],
    ids=["reasons", "issuer", "recipients", "reason"],
)
def test_a_body_full_of_beginnings_is_passed_over_once_not_searched_in_every_way(piece):
    """With backtracking these would take hours; the pattern has none."""
    head = BODY[: BODY.index(b"<EvidenceIdentifier>")] + b"<EventReasons>"
    for start in (
        head,
        BODY[: BODY.index(b"<RecipientsDetails>") + 19],
        BODY[: BODY.index(b"<EvidenceIssuer")],
    ):
        assert rem_scan.record_of(start + piece * (200_000 // len(piece))) is None
