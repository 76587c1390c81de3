"""The TS 102 640 v2 writer and reader."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from evidence.forms import rem_xml
from evidence.model.events import TS_KINDS
from evidence.model.records import EvidenceKind, Party, Reason, ReasonCode
from evidence.xml.reader import EvidenceFormatError
from tests.support.evidence_samples import HS91, MESSAGE, record

SHARED = Path(__file__).resolve().parents[3] / "shared"
ALL_KINDS = sorted(TS_KINDS)


def canonical(xml):
    return etree.tostring(etree.fromstring(xml), method="c14n", exclusive=True, with_comments=False)


@pytest.fixture(scope="module")
def schema():
    spec = importlib.util.spec_from_file_location(
        "check_schemas", SHARED / "schemas" / "rem" / "check_schemas.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load("TS102640_v2.xsd")


def test_the_bytes_of_a_delivery_evidence_are_these():
    expected = (
        '<DeliveryNonDeliveryToRecipient xmlns="http://uri.etsi.org/02640/v2#" Id="ev-00040.20261121" version="2.1.1">'
        "<EventCode>http:uri.etsi.org/02640/Event#Delivery</EventCode>"
        "<EvidenceIdentifier>00040.20261121@hs91.kep.tr</EvidenceIdentifier>"
        "<EvidenceIssuerPolicyID><PolicyID>https://hs91.kep.tr/kep-ilkeleri</PolicyID></EvidenceIssuerPolicyID>"
        "<EvidenceIssuerDetails><NamesPostalAddresses><NamePostalAddress><EntityName>"
        "<Name>TEST Örnek KEP Hizmet Sağlayıcısı A.Ş.</Name></EntityName><PostalAddress>"
        "<StreetAddress>Büyükdere Cd. 2</StreetAddress><Locality>İstanbul</Locality>"
        "<PostalCode>34330</PostalCode><CountryName>TR</CountryName></PostalAddress></NamePostalAddress>"
        '</NamesPostalAddresses><AttributedElectronicAddress scheme="mailto">kep-hizmet@hs91.kep.tr'
        "</AttributedElectronicAddress></EvidenceIssuerDetails>"
        "<SenderAuthenticationDetails><AuthenticationTime>2026-11-21T08:59:00.000Z</AuthenticationTime>"
        "<AuthenticationMethod>urn:oasis:names:tc:SAML:2.0:ac:classes:MobileTwoFactorContract"
        "</AuthenticationMethod><AdditionalDetails>Ayşe Yılmaz</AdditionalDetails></SenderAuthenticationDetails>"
        "<EventTime>2026-11-21T09:06:00.250Z</EventTime><SubmissionTime>2026-11-21T09:00:00.000Z</SubmissionTime>"
        "<SenderDetails><NamesPostalAddresses><NamePostalAddress><EntityName><Name>Ayşe Yılmaz</Name>"
        '</EntityName></NamePostalAddress></NamesPostalAddresses><AttributedElectronicAddress scheme="mailto">'
        "ayse@hs91.kep.tr</AttributedElectronicAddress></SenderDetails>"
        "<RecipientsDetails><EntityDetails><NamesPostalAddresses><NamePostalAddress><EntityName>"
        "<Name>Örnek Kurum</Name></EntityName></NamePostalAddress></NamesPostalAddresses>"
        '<AttributedElectronicAddress scheme="mailto">kurum@hs91.kep.tr</AttributedElectronicAddress></EntityDetails>'
        '<EntityDetails><AttributedElectronicAddress scheme="mailto">mehmet@hs91.kep.tr'
        "</AttributedElectronicAddress></EntityDetails></RecipientsDetails>"
        "<EvidenceRefersToRecipient>1</EvidenceRefersToRecipient>"
        '<SenderMessageDetails isNotification="false"><MessageSubject>Deneme iletisi &lt;1&gt; &amp; ötesi'
        "</MessageSubject><UAMessageIdentifier>&lt;abc123@mua.example&gt;</UAMessageIdentifier>"
        "<MessageIdentifierByREMMD>kep-000001.20261121@hs91.kep.tr</MessageIdentifierByREMMD>"
        '<ds:DigestMethod xmlns:ds="http://www.w3.org/2000/09/xmldsig#" '
        'Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></ds:DigestMethod>'
        '<ds:DigestValue xmlns:ds="http://www.w3.org/2000/09/xmldsig#">'
        "BoLGQyFfiZ/U3V1iRi/2dXDaOYUyyZwtVgR1xBvA0b8=</ds:DigestValue></SenderMessageDetails>"
        "</DeliveryNonDeliveryToRecipient>"
    )
    expected = expected.replace(
        "BoLGQyFfiZ/U3V1iRi/2dXDaOYUyyZwtVgR1xBvA0b8=",
        rem_xml.b64encode(MESSAGE.digest_sha256).decode(),
    )
    assert rem_xml.write(record()).decode() == expected


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_writer_is_canonical_by_construction(kind):
    body = rem_xml.write(record(kind))
    assert canonical(body) == body


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_what_is_written_reads_back_as_the_same_record(kind):
    assert rem_xml.read(rem_xml.write(record(kind))) == record(kind)


@pytest.mark.shared
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_kind_is_valid_under_the_schema(kind, schema):
    for item in (record(kind), record(kind, sender_authentication=None, sender=Party("a@b", None))):
        assert schema.validate(etree.fromstring(rem_xml.write(item))), schema.error_log


@pytest.mark.shared
def test_odd_addresses_and_texts_stay_valid_under_the_schema(schema):
    odd = record(
        EvidenceKind.SUBMISSION_REJECTION,
        recipients=(Party('"a b%41<>^`{|}\\"@x.example', "\x00\ud800 kırık\r\n\tad\ufffe"),),
        message=replace(MESSAGE, subject="\x01\x1f", user_message_id=None),
        issuer=replace(HS91, street="", policy_id=""),
        reasons=(Reason(ReasonCode.OTHER), Reason(ReasonCode.POLICY_VIOLATION, "a & b")),
        evidence_id="çok garip:kimlik@hs91.kep.tr",
    )
    body = rem_xml.write(odd)
    assert schema.validate(etree.fromstring(body)), schema.error_log
    assert canonical(body) == body
    again = rem_xml.read(body)
    assert again.recipients[0].address == '"a b%41<>^`{|}\\"@x.example'
    assert again.message.subject == "\ufffd\ufffd"
    assert rem_xml.write(again) == body


@given(subject=st.text(max_size=40), name=st.text(max_size=20), address=st.text(min_size=1, max_size=20))
def test_any_text_gives_canonical_xml_that_reads_back(subject, name, address):
    body = rem_xml.write(
        record(recipients=(Party(address, name),), message=replace(MESSAGE, subject=subject))
    )
    assert canonical(body) == body
    assert rem_xml.write(rem_xml.read(body)).count(b"<") == body.count(b"<")


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    ["SubmissionAcceptance", "SubmissionRejection", "RelayAcceptance", "RelayRejection", "RelayFailure",
     "Delivery", "NonDelivery", "Retrieval", "NonRetrieval"],
)  # fmt: skip
def test_example_evidence_of_other_writers_is_readable(name):
    xml = (SHARED / "vectors" / "evidence" / "ts102640" / f"{name}.xml").read_bytes()
    found = rem_xml.read(xml)
    assert found.message.kep_message_id
    assert found.sender.address == "ayse@hs90.kep.example"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Event#Delivery<", b"Event#NonDelivery<"),
        (b'version="2.1.1"', b'version="1"'),
        (b"http:uri.etsi.org/02640/Event", b"http://uri.etXsi.org/02640/Event"),
        (b"<EventTime>", b'<Unknown xmlns="urn:x"><a/></Unknown><EventTime>'),
        (b"<MessageSubject>Deneme iletisi &lt;1&gt; &amp; \xc3\xb6tesi</MessageSubject>", b""),
    ],
)
def test_known_faults_of_other_writers_are_tolerated(old, new):
    body = rem_xml.write(record())
    assert old in body
    assert rem_xml.read(body.replace(old, new)).sender.address == "ayse@hs91.kep.tr"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<EventTime>2026-11-21T09:06:00.250Z</EventTime>", b""),
        (b"2026-11-21T09:06:00.250Z", b"yesterday"),
        (b"Event#Delivery<", b"Event#Dancing<"),
        (b"02640/v2#", b"02640/v3#"),
        (b"<EvidenceRefersToRecipient>1<", b"<EvidenceRefersToRecipient>3<"),
        (b"<EvidenceRefersToRecipient>1<", "<EvidenceRefersToRecipient>١<".encode()),
        (b"xmlenc#sha256", b"xmldsig#sha1"),
        (b"<DeliveryNon", b"<!DOCTYPE x><DeliveryNon"),
        (b"<EventTime>", b"<!-- --><EventTime>"),
        (b"<EventTime>", b"<?x y?><EventTime>"),
        (b"<EventTime>", b"&unknown;<EventTime>"),
        (b"<DeliveryNon", b"\xff<DeliveryNon"),
        (b"</SenderMessageDetails>", b""),
        (b"SenderDetails>", b"SenderX>"),
        (b"EntityDetails>", b"EntityX>"),
        (b"EvidenceIdentifier>", b"EvidenceX>"),
        (b"EvidenceIssuerDetails>", b"EvidenceIssuerX>"),
        (b"SenderMessageDetails", b"SenderMessageX"),
        (b"#sha256", b"#sha512"),
        (b"BoLF8", b"!"),
        (b"BoLF8", b""),
    ],
)
def test_what_says_nothing_or_hides_something_is_refused(old, new):
    body = rem_xml.write(record())
    assert old in body
    with pytest.raises(EvidenceFormatError):
        rem_xml.read(body.replace(old, new))


def test_an_assertion_in_place_of_a_login_is_skipped():
    body = rem_xml.write(record())
    for name in (b"AuthenticationTime", b"AuthenticationMethod"):
        body = re.sub(b"<%s>[^<]*</%s>" % (name, name), b"", body)
    assert rem_xml.read(body).sender_authentication is None


def test_unknown_reasons_are_kept_as_text():
    body = rem_xml.write(record(EvidenceKind.NON_DELIVERY)).replace(b"#UnknownRecipient", b"#RB99")
    (reason,) = rem_xml.read(body).reasons
    uri = "http:uri.etsi.org/REM/EventReason#RB99"
    assert reason == Reason(ReasonCode.OTHER, "recipient.unknown: no such address", "RD21", uri)


def test_the_code_of_the_other_format_stands_before_the_details():
    body = rem_xml.write(record(EvidenceKind.NON_DELIVERY))
    assert b"<Details>RD21: recipient.unknown: no such address</Details>" in body


def test_the_delivery_of_a_notification_is_no_delivery():
    for kind, other in (
        (EvidenceKind.DELIVERY, EvidenceKind.CONSIGNMENT_NOTIFICATION),
        (EvidenceKind.NON_DELIVERY, EvidenceKind.CONSIGNMENT_NOTIFICATION_FAILURE),
        (EvidenceKind.RETRIEVAL, EvidenceKind.RETRIEVAL),
    ):
        body = rem_xml.write(record(kind)).replace(b'isNotification="false"', b'isNotification="true"')
        assert rem_xml.read(body).kind is other


def test_where_ordinary_mail_went_is_said():
    item = record(EvidenceKind.RELAY_TO_NON_REM, forwarded_to="mx1.mail.example")
    body = rem_xml.write(item)
    assert b"</SenderMessageDetails><ForwardedToExternalSystem>mx1.mail.example<" in body
    assert rem_xml.read(body) == item


def test_large_and_deep_documents_are_refused():
    with pytest.raises(EvidenceFormatError):
        rem_xml.read(b" " * (1 << 20) + rem_xml.write(record()))
    with pytest.raises(EvidenceFormatError):
        rem_xml.read(b"<a>" * 100 + b"</a>" * 100)
    with pytest.raises(EvidenceFormatError):
        rem_xml.read(b"<a>" + b"<b/>" * 60_000 + b"</a>")


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_in_another_way(data):
    with pytest.raises(EvidenceFormatError):
        rem_xml.read(data)
