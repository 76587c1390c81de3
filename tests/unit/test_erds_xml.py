"""The EN 319 522-3 writer and reader, and the choice between both serialisations."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from evidence.forms import erds_xml, rem_xml, serialise
from evidence.forms.erds_terms import BASELINE_POLICY, LOA_HIGH
from evidence.forms.rem_xml import UnknownEventError
from evidence.model.events import NAMES, TS_KINDS, EvidenceKind
from evidence.model.reasons import Reason, ReasonCode
from evidence.model.records import Authentication, Issuer, MessageFacts, Party, Profile
from evidence.xml.reader import EvidenceFormatError
from evidence.xml.writer import ProfileError
from tests.support.erds_samples import OTHER, SHARED, SMARTCARD, full, portable, schemas
from tests.support.evidence_samples import AT, HS91, MESSAGE, METHOD

KINDS = list(EvidenceKind)
VECTORS = SHARED / "vectors" / "evidence"
by_name = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def canonical(xml: bytes) -> bytes:
    return etree.tostring(etree.fromstring(xml), method="c14n", exclusive=True, with_comments=False)


@pytest.fixture(scope="module")
def schema():
    return schemas().load("EVIDENCE19352v117-202201.xsd")


@pytest.fixture(scope="module")
def ts_schema():
    return schemas().load("TS102640_v2.xsd")


def valid(schema, body: bytes) -> bool:
    assert schema.validate(etree.fromstring(serialise.document_form(body))), schema.error_log
    return True


# ----------------------------------------------------------------- writing


def test_the_bytes_of_a_relay_rejection_are_these():
    item = full(
        EvidenceKind.RELAY_REJECTION,
        reasons=(Reason(ReasonCode.OTHER, "", "RB04"),),
        covers=(2,),
        issuer=replace(HS91, street="", locality="", postal_code="", country=""),
        recipients=(Party("a@hs91.kep.tr"), Party("b@hs91.kep.tr", "B & <C>")),
        untrusted_path=(1,),
    )
    saml = (
        '<saml:Attribute xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" FriendlyName="{}" Name="{}" '
        'NameFormat="urn:oasis:names:tc:SAML:2.0:attrname-format:uri"><saml:AttributeValue{}>{}'
        "</saml:AttributeValue></saml:Attribute>"
    )

    def legal(name: str) -> str:
        typed = ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="elp:LegalNameType"'
        uri = "http://eidas.europa.eu/attributes/legalperson/LegalName"
        return saml.format("LegalName", uri, typed, name)

    def mail(address: str) -> str:
        return saml.format("mail", "urn:oid:0.9.2342.19200300.100.1.3", "", address)

    def person(name: str) -> str:
        return f"<tns:Identity>{saml.format('cn', 'urn:oid:2.5.4.3', '', name)}</tns:Identity>"

    expected = (
        '<tns:Evidence xmlns:tns="http://uri.etsi.org/19522/v1#" Id="ev-00021.20261121" version="EN319522v1.1.1">'
        "<tns:EvidenceIdentifier>00021.20261121@hs91.kep.tr</tns:EvidenceIdentifier>"
        "<tns:ERDSEventId>http://uri.etsi.org/19522/Event/RelayRejection</tns:ERDSEventId>"
        "<tns:EventReasons><tns:EventReason>"
        "<Code>http://uri.etsi.org/19522/EventReason/R_ERDS_MessageRejectedForInvalidSignature</Code>"
        "<Details>RB04</Details><Details>Rejected by R-ERDSP: invalid ERDS signature</Details>"
        "</tns:EventReason></tns:EventReasons><EventTime>2026-11-21T09:06:00.250Z</EventTime>"
        "<tns:EvidenceIssuerPolicyID><PolicyID>http://uri.etsi.org/19532/v1#/REMbaseline</PolicyID>"
        "<PolicyID>https://hs91.kep.tr/kep-ilkeleri</PolicyID></tns:EvidenceIssuerPolicyID>"
        f"<tns:EvidenceIssuerDetails><tns:Identity>{legal('TEST Örnek KEP Hizmet Sağlayıcısı A.Ş.')}"
        f"{mail('kep-hizmet@hs91.kep.tr')}</tns:Identity></tns:EvidenceIssuerDetails>"
        f"<tns:SenderDetails>{person('Ayşe Yılmaz')}"
        '<Identifier IdentifierSchemeName="mailto">ayse@hs91.kep.tr</Identifier>'
        "<AssuranceLevelsDetails><GlobalAssuranceLevel>"
        "<AssuranceLevel>http://eidas.europa.eu/LoA/substantial</AssuranceLevel>"
        "<PolicyID>https://hs91.kep.tr/kep-ilkeleri</PolicyID></GlobalAssuranceLevel>"
        "<tns:AuthenticationDetails><AuthenticationTime>2026-11-21T08:59:00.000Z</AuthenticationTime>"
        f"<AuthenticationMethod>{METHOD}</AuthenticationMethod></tns:AuthenticationDetails>"
        "</AssuranceLevelsDetails></tns:SenderDetails>"
        '<tns:RecipientDetails><Identifier IdentifierSchemeName="mailto">a@hs91.kep.tr</Identifier>'
        f"</tns:RecipientDetails><tns:RecipientDetails>{person('B &amp; &lt;C&gt;')}"
        '<Identifier IdentifierSchemeName="mailto">b@hs91.kep.tr</Identifier></tns:RecipientDetails>'
        "<tns:SubmissionTime>2026-11-21T09:00:00.000Z</tns:SubmissionTime>"
        "<tns:MessageIdentifier>kep-000001.20261121@hs91.kep.tr</tns:MessageIdentifier>"
        "<tns:UserContentInfo><AppLayerIdentifier>&lt;abc123@mua.example&gt;</AppLayerIdentifier>"
        "<ComposingParts>1</ComposingParts><tns:PartsInfo><tns:PartInfo>"
        "<Identifier>urn:oid:1.3.6.1.7</Identifier><ContentType>message/rfc822</ContentType>"
        '<ds:DigestMethod xmlns:ds="http://www.w3.org/2000/09/xmldsig#" '
        'Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></ds:DigestMethod>'
        '<ds:DigestValue xmlns:ds="http://www.w3.org/2000/09/xmldsig#">'
        f"{rem_xml.b64encode(MESSAGE.digest_sha256).decode()}</ds:DigestValue>"
        "</tns:PartInfo></tns:PartsInfo></tns:UserContentInfo>"
        f"<tns:ExternalERDSDetails><tns:Identity>{legal('TEST İkinci KEPHS A.Ş.')}"
        f"{mail('kep-hizmet@hs92.kep.tr')}</tns:Identity></tns:ExternalERDSDetails>"
        '<tns:Extensions><tns:Extension isCritical="false">'
        '<ext:GeneralEvidenceInfo xmlns:ext="http://uri.etsi.org/19532/v1#">'
        "<ext:Subject>Deneme iletisi &lt;1&gt; &amp; ötesi</ext:Subject>"
        "<ext:UntrustedPathToRecipient>1</ext:UntrustedPathToRecipient></ext:GeneralEvidenceInfo>"
        '</tns:Extension><tns:Extension isCritical="false">'
        '<ext:RelayEvidenceInfo xmlns:ext="http://uri.etsi.org/19532/v1#">'
        "<ext:RelayEvidenceRefersTo>2</ext:RelayEvidenceRefersTo></ext:RelayEvidenceInfo>"
        "</tns:Extension></tns:Extensions></tns:Evidence>"
    )
    assert erds_xml.write(item).decode() == expected


@by_name
def test_the_hashed_form_is_what_exclusive_c14n_makes_of_the_document_form(kind):
    body = erds_xml.write(full(kind))
    document = serialise.document_form(body)
    assert document != body
    assert document.count(b"xmlns:elp=") == (2 if NAMES[kind].family == "B" else 1)
    assert canonical(document) == canonical(body) == body
    assert serialise.hashed_form(document) == body
    assert serialise.document_form(document) == document


def test_bodies_of_the_other_serialisation_are_left_alone():
    trap = '<saml:AttributeValue xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    item = full(EvidenceKind.DELIVERY, message=replace(MESSAGE, subject=trap))
    body = serialise.write(item, Profile.KEP)
    assert serialise.document_form(body) == serialise.hashed_form(body) == body
    body = serialise.write(item, Profile.REM_BASELINE)
    assert serialise.document_form(body).count(b"xmlns:elp=") == 1
    assert serialise.read(serialise.document_form(body)).message.subject == trap


@pytest.mark.shared
@by_name
def test_every_kind_is_valid_under_the_schema(kind, schema):
    assert valid(schema, erds_xml.write(full(kind)))
    small = full(kind, message=replace(MESSAGE, user_message_id=None, subject=""), delegate=None)
    assert valid(schema, erds_xml.write(replace(small, sender=Party("a@b"), recipients=(Party("c@d"),))))


@pytest.mark.shared
@pytest.mark.parametrize("kind", sorted(TS_KINDS), ids=lambda kind: kind.name)
def test_the_same_records_are_valid_in_the_ts_form(kind, ts_schema):
    assert valid(ts_schema, serialise.write(full(kind)))
    reasons = (Reason(ReasonCode.OTHER, "a", "RA77", "http://uri.etsi.org/19522/EventReason/A_b c%"),)
    assert valid(ts_schema, serialise.write(full(kind, reasons=reasons)))


@pytest.mark.shared
def test_texts_with_forbidden_characters_stay_valid(schema, ts_schema):
    odd = "\x00\ud800 kırık\r\n\tİĞşğüöç ]]> <&\"'>\ufffe\U0001f4e7"
    for kind in (EvidenceKind.RELAY_FAILURE, EvidenceKind.NON_RETRIEVAL):
        item = full(
            kind,
            sender=Party(odd, odd),
            recipients=(Party(odd, odd), Party("b@c")),
            message=MessageFacts(odd, odd, odd, MESSAGE.digest_sha256),
            issuer=Issuer(odd, odd, odd, odd, odd, odd, odd),
            other_party=Party(odd, odd) if kind is EvidenceKind.RELAY_FAILURE else None,
            reasons=(Reason(ReasonCode.MALWARE_FOUND, odd), Reason(ReasonCode.OTHER, odd, "", odd)),
            sender_authentication=Authentication(AT, odd, odd, odd),
            evidence_id=odd,
        )
        for profile, xsd in ((Profile.REM_BASELINE, schema), (Profile.KEP, ts_schema)):
            body = serialise.write(item, profile)
            assert canonical(body) == body
            assert valid(xsd, body)
            again = serialise.read(body)
            assert again.message.subject == odd.replace("\x00", "\ufffd").replace("\ud800", "\ufffd").replace(
                "\ufffe", "\ufffd"
            )
            assert serialise.write(again, profile) == body


def test_an_incomplete_record_is_refused_with_all_its_faults():
    item = full(EvidenceKind.RELAY_FAILURE, other_party=None, reasons=())
    with pytest.raises(ProfileError, match=r"RelayFailure: a failure needs a reason; the other provider"):
        erds_xml.write(item)
    with pytest.raises(ProfileError, match="no NotificationForAcceptance"):
        serialise.write(full(EvidenceKind.NOTIFICATION_FOR_ACCEPTANCE))
    with pytest.raises(ProfileError, match="part of the recipients"):
        serialise.write(full(EvidenceKind.RELAY_FAILURE, covers=(1,)))


def test_a_password_is_a_low_level_of_assurance_and_a_card_a_high_one():
    for method, level in (
        (SMARTCARD, "high"),
        (METHOD, "substantial"),
        ("urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport", "low"),
    ):
        item = full(EvidenceKind.SUBMISSION_ACCEPTANCE, sender_authentication=Authentication(AT, method))
        assert f"LoA/{level}<" in erds_xml.write(item).decode()
        assert serialise.read(erds_xml.write(item)) == item


# ----------------------------------------------------------------- round trips


@by_name
def test_what_is_written_reads_back_as_the_same_record(kind):
    item = full(kind)
    assert serialise.read(serialise.write(item, Profile.REM_BASELINE)) == portable(item)
    if kind in TS_KINDS:
        assert serialise.read(serialise.write(item)) == replace(item, other_party=None)


@pytest.mark.parametrize(
    "changes",
    [
        {"refers_to": 2},
        {"refers_to": None, "covers": (1, 3)},
        {"refers_to": None, "untrusted_path": (2, 3)},
        {"other_party": Party("", "Yalnız adı bilinen")},
    ],
    ids=["one", "some", "untrusted", "name only"],
)
def test_whom_relay_evidence_concerns_reads_back(changes):
    three = (Party("a@hs91.kep.tr"), Party("b@hs91.kep.tr"), Party("c@hs91.kep.tr"))
    item = full(EvidenceKind.RELAY_REJECTION, recipients=three, **changes)
    assert serialise.read(erds_xml.write(item)) == portable(item)


def test_relay_evidence_about_all_names_nobody():
    item = full(EvidenceKind.RELAY_ACCEPTANCE, covers=(1, 2))
    assert serialise.read(erds_xml.write(item)).covers == ()
    with_issuer = full(EvidenceKind.RELAY_ACCEPTANCE, other_party=HS91)
    assert serialise.read(erds_xml.write(with_issuer)).other_party == Party(HS91.address, HS91.name)
    nameless = full(EvidenceKind.RELAY_ACCEPTANCE, other_party=Party("kep-hizmet@hs92.kep.tr"))
    assert serialise.read(erds_xml.write(nameless)).other_party.name == "kep-hizmet@hs92.kep.tr"


@pytest.mark.parametrize(
    ("login", "delegate", "expected"),
    [
        (Authentication(AT, SMARTCARD), None, Authentication(AT, SMARTCARD)),
        (Authentication(AT, METHOD, "Veli Kaya", LOA_HIGH), None, None),
        (Authentication(AT, METHOD, "Örnek Kurum"), None, Authentication(AT, METHOD)),
        (Authentication(AT, METHOD, "Veli Kaya"), Party("veli@hs91.kep.tr", "Veli Kaya"), None),
    ],
    ids=["recipient", "named person", "the recipient named", "delegate"],
)
def test_who_read_for_the_recipient_reads_back(login, delegate, expected):
    item = full(EvidenceKind.RETRIEVAL, recipient_authentication=login, delegate=delegate)
    found = serialise.read(erds_xml.write(item))
    assert found.recipient_authentication == (expected or login)
    assert found.delegate == delegate
    assert found.reasons == ()


def test_who_sent_for_the_sender_reads_back():
    login = Authentication(AT, METHOD, "Veli Kaya")
    item = full(EvidenceKind.SUBMISSION_ACCEPTANCE, sender_authentication=login)
    assert serialise.read(erds_xml.write(item)) == item


text = st.text(max_size=20)
some = st.text(min_size=1, max_size=20)
turkish = st.text(
    st.sampled_from("ığüşöçİĞÜŞÖÇâîû <>&\"'\r\n\t\x00\x1f\ufffe\ud800]"), min_size=1, max_size=20
)
parties = st.builds(Party, some.map(str.strip).filter(bool), st.none() | turkish)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(KINDS),
    recipients=st.lists(parties, min_size=1, max_size=5).map(tuple),
    subject=turkish | text,
    details=turkish | text,
    code=st.sampled_from(list(ReasonCode)),
    identifier=some,
    at=st.timedeltas(timedelta(0), timedelta(days=4000)),
    data=st.data(),
)
def test_any_record_is_canonical_and_reads_back_in_both_forms(
    kind, recipients, subject, details, code, identifier, at, data
):
    names = NAMES[kind]
    number = data.draw(st.integers(1, len(recipients))) if names.per_recipient else None
    item = full(
        kind,
        recipients=recipients,
        message=MessageFacts(subject, None, identifier, sha256(details.encode("utf-8", "replace")).digest()),
        reasons=(Reason(code, details),) if names.negative else (),
        refers_to=number,
        event_time=AT + at,
        delegate=None,
        recipient_authentication=None,
    )
    for profile in Profile:
        if profile is Profile.KEP and kind not in TS_KINDS:
            continue
        body = serialise.write(item, profile)
        assert canonical(body) == body
        found = serialise.read(serialise.document_form(body))
        assert serialise.write(replace(found, other_party=item.other_party), profile) == body
        assert found.refers_to == number
        assert [reason.code for reason in found.reasons] == [reason.code for reason in item.reasons]
        assert found.message.subject == rem_xml.clean_text(subject)
        assert len(found.recipients) == len(recipients)


# ----------------------------------------------------------------- reading others


@pytest.mark.shared
@pytest.mark.parametrize("folder", ["en319522", "ts102640"])
def test_example_evidence_of_other_writers_is_read(folder):
    files = sorted((VECTORS / folder).glob("*.xml"))
    assert len(files) == (21 if folder == "en319522" else 16)
    for file in files:
        found = serialise.read(file.read_bytes())
        event = NAMES[found.kind].event
        assert event == file.stem or (folder == "en319522" and "Download" in file.stem)
        outside = found.kind is EvidenceKind.RECEIVED_FROM_NON_REM
        assert found.sender.address == ("dis@mail.example" if outside else "ayse@hs90.kep.example")
        assert found.message.subject == "Deneme iletisi"
        assert found.issuer.name.startswith("Örnek KEP Hizmet Sağlayıcısı")
        assert found.issuer.policy_id == "https://kep.example/kep-ilkeleri"
        assert (found.sender_authentication is None) == outside
        assert bool(found.reasons) == NAMES[found.kind].negative
        assert (found.refers_to is not None) == NAMES[found.kind].per_recipient
        assert bool(found.forwarded_to) == (NAMES[found.kind].family == "F")


@pytest.mark.shared
@pytest.mark.parametrize("stem", [path.stem for path in sorted((VECTORS / "ts102640").glob("*.xml"))])
def test_examples_become_valid_evidence_of_the_other_form(stem, schema, ts_schema):
    ts = serialise.read((VECTORS / "ts102640" / f"{stem}.xml").read_bytes())
    other = OTHER if NAMES[ts.kind].family == "B" else None
    login = None if ts.kind is EvidenceKind.RECEIVED_FROM_NON_REM else ts.sender_authentication
    acted = None if NAMES[ts.kind].family == "E" and NAMES[ts.kind].negative else ts.recipient_authentication
    item = replace(ts, other_party=other, sender_authentication=login, recipient_authentication=acted)
    body = serialise.write(item, Profile.REM_BASELINE)
    assert valid(schema, body)
    en = serialise.read((VECTORS / "en319522" / f"{stem}.xml").read_bytes())
    assert valid(ts_schema, serialise.write(replace(en, covers=())))
    back = serialise.read(body)
    for field in ("kind", "evidence_id", "event_time", "submission_time", "refers_to", "message"):
        assert getattr(back, field) == getattr(en, field)
    assert [party.address for party in back.recipients] == [party.address for party in en.recipients]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'version="EN319522v1.1.1"', b'version="EN319522v1.2.1"'),
        (b"<EventTime>", b'<tns:Unknown xmlns:tns="urn:x"><a></a></tns:Unknown><EventTime>'),
        (b"EventTime>", b"tns:EventTime>"),
        (b"<AppLayerIdentifier>", b"<AppLayerIdentifier >"),
        (b">ayse@hs91", b">mailto:ayse@hs91"),
        (b"ayse@hs91.kep.tr</Id", b" ayse@hs91.kep.tr\n</Id"),
        (b"AssuranceLevelsDetails>", b"AssuranceX>"),
        (b"19532/v1#/REMbaseline", b"19532/v2#/REMbaseline"),
        (b"LegalName", b"LegalNam"),
    ],
)
def test_known_faults_of_other_writers_are_tolerated(old, new):
    body = erds_xml.write(full(EvidenceKind.DELIVERY))
    assert old in body
    assert serialise.read(body.replace(old, new)).sender.address == "ayse@hs91.kep.tr"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<EventTime>2026-11-21T09:06:00.250Z</EventTime>", b""),
        (b"2026-11-21T09:06:00.250Z", b"yesterday"),
        (b"19522/v1#", b"19522/v2#"),
        (b"<EvidenceRefersToRecipient>1<", b"<EvidenceRefersToRecipient>3<"),
        (b"<EvidenceRefersToRecipient>1<", b"<EvidenceRefersToRecipient>0<"),
        (b"<EvidenceRefersToRecipient>1<", "<EvidenceRefersToRecipient>١<".encode()),
        (b"xmlenc#sha256", b"xmldsig#sha1"),
        (b"<tns:Evidence ", b"<!DOCTYPE x><tns:Evidence "),
        (b"<EventTime>", b"<!-- --><EventTime>"),
        (b"tns:SenderDetails", b"tns:SenderX"),
        (b"tns:RecipientDetails", b"tns:RecipientX"),
        (b"tns:EvidenceIdentifier", b"tns:EvidenceX"),
        (b"tns:EvidenceIssuerDetails", b"tns:EvidenceIssuerX"),
        (b"tns:UserContentInfo", b"tns:UserContentX"),
        (b"tns:PartInfo", b"tns:PartX"),
        (b"tns:MessageIdentifier", b"tns:MessageX"),
        (b"</tns:PartInfo>", b"</tns:PartInfo><tns:PartInfo><ContentType>message/rfc822</ContentType></tns:PartInfo>"),
    ],
)  # fmt: skip
def test_what_says_nothing_or_hides_something_is_refused(old, new):
    body = erds_xml.write(full(EvidenceKind.DELIVERY))
    assert old in body
    with pytest.raises(EvidenceFormatError):
        serialise.read(body.replace(old, new))


def test_events_of_a_later_edition_are_told_apart_from_rubbish():
    body = erds_xml.write(full(EvidenceKind.DELIVERY))
    with pytest.raises(UnknownEventError):
        serialise.read(body.replace(b"Event/ContentConsignment<", b"Event/ContentAccess<"))
    with pytest.raises(UnknownEventError):
        serialise.read(serialise.write(full(EvidenceKind.DELIVERY)).replace(b"#Delivery<", b"#Later<"))


def test_relay_indexes_are_checked_and_counted():
    body = erds_xml.write(full(EvidenceKind.RELAY_REJECTION, covers=(1,)))
    one = b"<ext:RelayEvidenceRefersTo>1</ext:RelayEvidenceRefersTo>"
    assert one in body
    for broken in (one.replace(b"1<", b"3<"), one.replace(b"1<", b"x<"), one * 10_001):
        with pytest.raises(EvidenceFormatError):
            serialise.read(body.replace(one, broken))


def test_the_subject_of_an_evidence_with_unknown_extensions_is_found():
    body = erds_xml.write(full(EvidenceKind.DELIVERY))
    more = b'<tns:Extensions><tns:Extension isCritical="false"><x xmlns="urn:x"></x></tns:Extension>'
    assert serialise.read(body.replace(b"<tns:Extensions>", more)).message.subject == MESSAGE.subject


def test_the_baseline_policy_is_not_the_issuers():
    body = erds_xml.write(full(EvidenceKind.DELIVERY))
    assert body.count(BASELINE_POLICY.encode()) == 1
    assert serialise.read(body).issuer.policy_id == HS91.policy_id


def test_each_body_tells_its_profile():
    item = full(EvidenceKind.DELIVERY)
    for profile in Profile:
        assert serialise.profile_of(serialise.write(item, profile)) is profile


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_in_another_way(data):
    with pytest.raises(EvidenceFormatError):
        serialise.read(data)


WHOLE = erds_xml.write(full(EvidenceKind.RELAY_REJECTION, covers=(1,)))


@settings(max_examples=300)
@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=3), st.integers(0, 40))
def test_no_damage_makes_the_reader_fail_in_another_way(at, put, cut):
    with suppress(EvidenceFormatError):
        serialise.read(WHOLE[:at] + put + WHOLE[at + cut :])
