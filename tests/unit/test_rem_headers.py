"""KEP messages in the form ``rem-baseline``: their tree, their headers, and that both are checked."""

import asyncio
import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage
from functools import cache
from hashlib import sha256
from itertools import pairwise

import pytest
from lxml import etree

from evidence.mail.kep_message import parse_kep_message
from evidence.mail.package import Attachment, Boundaries, Envelope, plan_dispatch, plan_receipt
from evidence.mail.rem_headers import FORMS, dispatch_header, form_of
from evidence.model.records import (
    KEP_KINDS,
    NAMES,
    EvidenceKind,
    EvidenceRecord,
    Profile,
    Reason,
    ReasonCode,
    SealedEvidence,
)
from evidence.ports import BytesSource, Stamping
from evidence.report import Verdict
from evidence.verify.message import MessageCheck, check_kep_message
from tests.support import sealed
from tests.support.erds_samples import full
from tests.support.evidence_samples import AT, HS91, MESSAGE
from tests.support.sealed import LATER, ORIGINAL, trust

SERVICE = "kep-hizmet@hs92.kep.tr"
DIGEST = sha256(ORIGINAL).digest()
by_kind = pytest.mark.parametrize("kind", sorted(KEP_KINDS), ids=lambda kind: kind.name)


def of(kind: EvidenceKind, original: bytes = ORIGINAL, **changes: object) -> EvidenceRecord:
    made = full(kind, **changes)
    return replace(made, message=replace(made.message, digest_sha256=sha256(original).digest()))


def seal(record: EvidenceRecord) -> SealedEvidence:
    making = sealed.sealer().seal_many([record], profile=Profile.REM_BASELINE, stamping=Stamping.OWN)
    (made,) = asyncio.run(making)
    return made


def dispatch(original: bytes = ORIGINAL, **changes: object) -> bytes:
    return sealed.dispatch(seal(of(EvidenceKind.SUBMISSION_ACCEPTANCE, original, **changes)), original)


@cache
def one_dispatch() -> bytes:
    return dispatch()


def receipt(record: EvidenceRecord, to: str = "ayse@hs91.kep.tr") -> bytes:
    envelope, boundaries = Envelope(HS91.address, (to,)), Boundaries.of("fedcba9876543210")
    plan = plan_receipt(envelope, seal(record), boundaries=boundaries)
    return plan.finish(asyncio.run(sealed.sealer().sign_entity(plan.digest(), AT)))


def mail(content: bytes) -> EmailMessage:
    parsed = email.message_from_bytes(content, policy=email.policy.SMTP)
    assert isinstance(parsed, EmailMessage)
    return parsed


def check(content: bytes) -> MessageCheck:
    return check_kep_message(BytesSource(content), trust(), LATER)


# ------------------------------------------------------------------- dispatch


def test_the_parts_stand_in_the_order_of_the_profile() -> None:
    mixed, signature = mail(one_dispatch()).iter_parts()
    assert [(part.get_content_type(), part["REM-Section-Type"]) for part in mixed.iter_parts()] == [
        ("multipart/alternative", "rem_message/introduction"),
        ("message/rfc822", "rem_message/original"),
        ("application/xml", "rem_message/xml_evidence"),
    ]
    introduction, original, evidence = mixed.iter_parts()
    assert [part.get_content_type() for part in introduction.iter_parts()] == ["text/plain", "text/html"]
    assert original.get_param("name") == "AttachedMimeMessage"
    assert evidence.get_param("charset").upper() == "UTF-8"
    assert evidence.get_filename() == "SubmissionAcceptance.xml"
    assert evidence["Content-Transfer-Encoding"] == signature["Content-Transfer-Encoding"] == "base64"
    assert (signature.get_content_type(), signature.get_filename()) == (
        "application/pkcs7-signature", "smime.p7s",
    )  # fmt: skip


def test_extensions_stand_between_the_original_and_the_evidence() -> None:
    evidence = seal(of(EvidenceKind.SUBMISSION_ACCEPTANCE))
    plan = plan_dispatch(
        Envelope(HS91.address, ("kurum@hs91.kep.tr",)), evidence, label="7bit",
        boundaries=Boundaries.of("00"), extensions=(Attachment("REMExtensions.xml", b"<x/>"),),
    )  # fmt: skip
    whole = plan.prefix + plan.entity_head + ORIGINAL + plan.entity_tail + plan.suffix(b"p7s")
    mixed = next(iter(mail(whole).iter_parts()))
    assert [part["REM-Section-Type"].rpartition("/")[2] for part in mixed.iter_parts()] == [
        "introduction", "original", "extension", "xml_evidence",
    ]  # fmt: skip
    assert parse_kep_message(BytesSource(whole)).extensions[0].content == b"<x/>"
    assert plan.size(len(ORIGINAL), 3) == len(whole)


def test_the_dispatch_carries_the_headers_of_the_profile_and_no_others() -> None:
    root = mail(one_dispatch())
    assert [(name, " ".join(value.split())) for name, value in root.items() if name.startswith("REM-")] == [
        ("REM-MetadataVersion", "EN31953203V010201"),
        ("REM-MessageType", "http://uri.etsi.org/19522/v1#/ERDMessageType/dispatch"),
        ("REM-Evidence-ID", "00010.20261121@hs91.kep.tr"),
        ("REM-EventIdentifier", "http://uri.etsi.org/19522/Event/SubmissionAcceptance"),
        ("REM-ReasonIdentifier", "http://uri.etsi.org/19522/EventReason/MessageAccepted"),
        ("REM-ApplicablePolicy", "http://uri.etsi.org/19532/v1#/REMbaseline"),
        ("REM-ApplicablePolicy", "https://hs91.kep.tr/kep-ilkeleri"),
        ("REM-ModeOfConsignment", "http://uri.etsi.org/19522/v1#/consignment/basic"),
        ("REM-MD08", "ayse@hs91.kep.tr"),
        ("REM-UAMessageIdentifier", "<abc123@mua.example>"),
        ("REM-DigestAlgorithm", "http://www.w3.org/2001/04/xmlenc#sha256"),
        ("REM-DigestValue", email.base64mime.body_encode(DIGEST).strip()),
    ]
    assert not [name for name in root if name.startswith("X-")]
    assert root["From"] == '"On behalf of: ayse@hs91.kep.tr" <kep-hizmet@hs91.kep.tr>'
    assert root["Reply-To"].addresses[0].addr_spec == "ayse@hs91.kep.tr"
    assert root["To"].addresses[0].addr_spec == "kurum@hs91.kep.tr"
    assert root["Cc"].addresses[0].addr_spec == "mehmet@hs91.kep.tr"
    assert root["Subject"] == "REM Dispatch: Deneme iletisi <1> & ötesi"
    assert root["Message-ID"] == "<kep-000001.20261121@hs91.kep.tr>"
    assert root["MIME-Version"] == "1.0"
    assert root.get_param("micalg") == "sha-256"
    assert {"Date", "Content-Type"} <= set(root.keys())
    assert not {"Bcc", "REM-RelayDate"} & set(root.keys())


@pytest.mark.parametrize(
    "original",
    [ORIGINAL, "Konu: ş\r\n\r\nTürkçe\r\n".encode(), b"a: b\r\n\r\nno final line end"],
    ids=["7bit", "8bit", "no-final-line-end"],
)
def test_the_original_is_labelled_binary_and_not_a_byte_of_it_changes(original: bytes) -> None:
    content = dispatch(original)
    message = parse_kep_message(BytesSource(content))
    assert message.original is not None
    assert content[message.original.start : message.original.end] == original
    mixed = message.root.children[0]
    labelled = [message.root, mixed, next(part for part in mixed.children if part.message is not None)]
    assert [part.encoding for part in labelled] == ["binary"] * 3  # who holds such a part must say so too
    assert check(content).passed


@pytest.mark.parametrize(
    ("user_id", "line"),
    [
        (None, None),
        ("<" + "x" * 300 + "@mua.example>", b"<" + b"x" * 300 + b"@mua.example>"),
        ("<a b@mua.example>", b"<a b@mua.example>"),
        ("<\u015f@mua.example>", b"=?UTF-8?B?PMWfQG11YS5leGFtcGxlPg==?="),
        ("<=?x@mua.example>", b"=?UTF-8?B?PD0/eEBtdWEuZXhhbXBsZT4=?="),
    ],
    ids=["none", "long", "blank", "turkish", "looks-encoded"],
)
def test_the_clients_message_id_is_given_as_it_is_or_encoded(user_id: str | None, line: bytes | None) -> None:
    content = dispatch(message=replace(MESSAGE, user_message_id=user_id))
    found = parse_kep_message(BytesSource(content)).root.all("rem-uamessageidentifier")
    assert [value.strip() for value in found] == ([] if line is None else [line])
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert check(content).passed


# ------------------------------------------------------------------- receipts


@by_kind
def test_a_receipt_has_one_evidence_and_the_headers_of_the_profile(kind: EvidenceKind) -> None:
    record, event = of(kind), NAMES[kind].erds_event
    content = receipt(record)
    root, report = mail(content), check(content)
    assert report.passed, report.report.failing_step
    assert root["REM-MessageType"] == "http://uri.etsi.org/19522/v1#/ERDMessageType/receipt"
    assert root["REM-EventIdentifier"] == f"http://uri.etsi.org/19522/Event/{event}"
    assert root["Subject"] == f"REM {event}: Deneme iletisi <1> & ötesi"
    assert b"\r\nFrom: <kep-hizmet@hs91.kep.tr>\r\n" in b"\r\n" + content
    assert root["Message-ID"] == f"<{record.evidence_id}>"
    assert root["Auto-Submitted"] == "auto-generated"
    assert not {"Reply-To", "REM-ModeOfConsignment"} & set(root.keys())
    message = parse_kep_message(BytesSource(content))
    assert message.original is None
    (evidence,) = message.evidences
    assert evidence.name == f"{event}.xml"
    xml = etree.fromstring(evidence.content)
    assert root.get_all("REM-ReasonIdentifier") == [
        code.text for code in xml.findall(".//{*}EventReason/Code")
    ]
    assert root["REM-EventIdentifier"] == xml.find("{*}ERDSEventId").text
    assert [part.encoding for part in (message.root, message.root.children[0])] == ["7bit", "7bit"]


def test_each_reason_stands_in_a_header_of_its_own() -> None:
    reasons = (Reason(ReasonCode.MALWARE_FOUND, "bir"), Reason(ReasonCode.POLICY_VIOLATION, "iki"))
    content = receipt(of(EvidenceKind.RELAY_REJECTION, reasons=reasons))
    assert [uri.rpartition("/")[2] for uri in mail(content).get_all("REM-ReasonIdentifier")] == [
        "R_ERDS_MessageRejectedForMalware", "R_ERDS_PolicyViolation",
    ]  # fmt: skip
    assert check(content).passed
    first, second = (b"R_ERDS_MessageRejectedForMalware\r\n", b"R_ERDS_PolicyViolation\r\n")
    swapped = content.replace(first, b"-\r\n", 1).replace(second, first, 1).replace(b"-\r\n", second, 1)
    assert swapped.count(first) == content.count(first) == 1
    assert check(swapped).report.verdict is Verdict.FAILED


# ------------------------------------------------------------------- broken twins


def outer(content: bytes) -> int:
    """Return where the outer header ends."""
    return content.index(b"\r\n\r\n")


REM_FIELDS = [
    b"REM-MetadataVersion", b"REM-MessageType", b"REM-Evidence-ID", b"REM-EventIdentifier",
    b"REM-ReasonIdentifier", b"REM-ApplicablePolicy", b"REM-ModeOfConsignment", b"REM-MD08",
    b"REM-UAMessageIdentifier", b"REM-DigestAlgorithm", b"REM-DigestValue",
]  # fmt: skip


@pytest.mark.parametrize("name", REM_FIELDS, ids=lambda name: name.decode())
def test_a_header_that_is_changed_missing_or_doubled_never_passes(name: bytes) -> None:
    content = one_dispatch()
    start = content.index(name + b": ")
    end = content.index(b"\r\n", start) + 2
    line = content[start:end]
    changed = line[:-4] + bytes((line[-4] ^ 1,)) + line[-3:]
    assert check(content[:start] + changed + content[end:]).report.verdict is Verdict.FAILED
    assert check(content[:start] + content[end:]).report.verdict is Verdict.INDETERMINATE
    assert check(content[:start] + line + content[start:]).report.verdict is Verdict.INDETERMINATE


def test_no_flipped_byte_of_the_outer_header_passes() -> None:
    content = bytearray(one_dispatch())
    for at in range(0, outer(one_dispatch()), 11):
        content[at] ^= 1
        assert not check(bytes(content)).passed, at
        content[at] ^= 1
    assert check(bytes(content)).passed


def test_a_message_under_the_headers_of_the_other_form_does_not_pass() -> None:
    kep = sealed.dispatch(sealed.accepted())
    record = sealed.accepted().record
    boundary = parse_kep_message(BytesSource(kep)).root.boundary or ""
    envelope = Envelope(HS91.address, ("kurum@hs91.kep.tr",), ("mehmet@hs91.kep.tr",))
    headers = {profile: dispatch_header(envelope, record, boundary, "7bit", profile) for profile in Profile}
    assert kep.startswith(headers[Profile.KEP])
    assert check(kep).passed
    swapped = headers[Profile.REM_BASELINE] + kep.removeprefix(headers[Profile.KEP])
    assert check(swapped).report.verdict is Verdict.INDETERMINATE


def test_sections_of_both_forms_in_one_part_that_differ_are_no_section() -> None:
    content = one_dispatch()
    both = content.replace(
        b"REM-Section-Type: rem_message/original",
        b"REM-Section-Type: rem_message/original\r\nX-REM-Section-Type: rem_message/extension",
    )
    assert both != content
    assert not check(both).passed


def test_the_form_is_that_of_the_evidence_and_every_profile_has_one() -> None:
    assert set(FORMS) == set(Profile)
    assert form_of(sealed.accepted().xml) is Profile.KEP
    assert form_of(seal(of(EvidenceKind.DELIVERY)).xml) is Profile.REM_BASELINE
    assert len({form.section for form in FORMS.values()}) == len(FORMS)
    assert all(a != b for a, b in pairwise(form.section for form in FORMS.values()))
