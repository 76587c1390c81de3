"""The shapes of what crosses between providers, by the public ids of TR 103 071 (MSGF, SIG; rem-formats §3, §4).

The ids number what a part must be; which number means what is our reading, said in each test's name.
"""

import asyncio
import re
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cache
from hashlib import sha256
from html import unescape
from typing import Any

import pytest

from evidence.cms.signed_data import parse_signed_data
from evidence.forms.rem_xml import read as read_record
from evidence.mail.kep_message import parse_kep_message
from evidence.model.records import NAMES, REASON_NAMES, EvidenceKind, EvidenceRecord
from evidence.ports import BytesSource
from evidence.verify.evidence import check_evidence
from evidence.verify.message import MessageCheck, check_kep_message
from tests.support.pair import Pair, new_pair, proofs_of, transaction_of, xml_of
from tests.support.world import AYSE, CAN, DOMAIN, FATMA, PEER

SECTION = "X-REM-Section-Type"
UNKNOWN = f"yok.kimse@{PEER}"


@dataclass(frozen=True)
class Sent:
    """One message that crossed: its bytes, parsed by Python's own parser, and its evidence."""

    content: bytes
    mail: EmailMessage
    record: EvidenceRecord
    domain: str

    @property
    def sections(self) -> dict[str, Any]:
        """Return the signed parts by section."""
        (mixed, _) = self.mail.iter_parts()
        found = {part[SECTION]: part for part in mixed.iter_parts()}
        assert len(found) == len(list(mixed.iter_parts()))
        return found


def sent(content: bytes, domain: str) -> Sent:
    mail = message_from_bytes(content, policy=policy.SMTP)
    assert isinstance(mail, EmailMessage)
    (file,) = parse_kep_message(BytesSource(content)).evidences
    return Sent(content, mail, read_record(file.content), domain)


async def _story() -> Pair:
    pair = await new_pair()
    message_id = await pair.send(to=(FATMA, UNKNOWN), cc=(CAN,), subject="Şirket: İhtarname")
    await pair.work()
    await pair.read(FATMA, message_id)
    await pair.work()
    return pair


@cache
def story() -> Pair:
    """Return a pair after one notice crossed, was read, and was refused for an unknown recipient."""
    return asyncio.run(_story())


@pytest.fixture(scope="module")
def pair() -> Pair:
    """Return the story's pair: these tests only look."""
    return story()


@pytest.fixture
async def dispatch(pair: Pair) -> Sent:
    ((_, content),) = pair.out.sent
    return sent(content, DOMAIN)


@pytest.fixture
async def receipts(pair: Pair) -> list[Sent]:
    found = [sent(content, PEER) for _, content in pair.back.sent]
    assert sorted(int(one.record.kind) for one in found) == [20, 20, 21, 40, 40, 60]
    return found


async def crossed(pair: Pair) -> list[Sent]:
    out = [sent(content, DOMAIN) for _, content in pair.out.sent]
    return out + [sent(content, PEER) for _, content in pair.back.sent]


def check(pair: Pair, one: Sent) -> MessageCheck:
    return check_kep_message(BytesSource(one.content), pair.here.trust, pair.clock.now())


# --------------------------------------------------------------------------- MSGF-INTR


async def test_MSGF_INTR_1_every_message_begins_with_one_introduction(pair: Pair) -> None:
    for one in await crossed(pair):
        introduction = one.sections["rem_message/introduction"]
        assert introduction.get_content_type() == "multipart/alternative"
        first, *_ = next(iter(one.mail.iter_parts())).iter_parts()
        assert first[SECTION] == "rem_message/introduction"


async def test_MSGF_INTR_2_it_is_plain_text_and_html_in_utf_8_quoted_printable(pair: Pair) -> None:
    for one in await crossed(pair):
        parts = list(one.sections["rem_message/introduction"].iter_parts())
        assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
        for part in parts:
            assert part.get_content_charset() == "utf-8"
            assert part["Content-Transfer-Encoding"] == "quoted-printable"


async def test_MSGF_INTR_3_it_holds_no_active_code_and_no_address_but_the_one_shown(pair: Pair) -> None:
    for one in await crossed(pair):
        (html,) = [p for p in one.mail.walk() if p.get_content_type() == "text/html"]
        text = html.get_content().lower()
        assert not re.search(
            r"<(script|iframe|object|embed|form|img|link|meta http)|\son\w+=|javascript:", text
        )
        for href, shown in re.findall(r'<a href="([^"]*)">([^<]*)</a>', text):
            assert href == shown


async def test_MSGF_INTR_4_it_tells_event_subject_recipient_and_reason(receipts: list[Sent]) -> None:
    for one in receipts:
        for part in one.sections["rem_message/introduction"].iter_parts():
            text = unescape(part.get_content())
            assert NAMES[one.record.kind].turkish in text
            assert "Şirket: İhtarname" in text
            assert one.record.evidence_id in text
            assert one.record.refers_to is not None
            assert one.record.recipients[one.record.refers_to - 1].address in text
            assert all(REASON_NAMES[reason.code] in text for reason in one.record.reasons)


# --------------------------------------------------------------------------- MSGF-EVD


async def test_MSGF_EVD_1_2_3_one_evidence_as_base64_xml_attachment_named_by_its_event(pair: Pair) -> None:
    for one in await crossed(pair):
        part = one.sections["rem_message/xml_evidence"]
        name = f"{NAMES[one.record.kind].event}.xml"
        assert part.get_content_type() == "application/xml"
        assert part.get_content_charset() == "utf-8"
        assert part["Content-Transfer-Encoding"] == "base64"
        assert part.get_content_disposition() == "attachment"
        assert part.get_filename() == part.get_param("name") == name


async def test_MSGF_EVD_4_its_bytes_are_those_that_its_provider_keeps(pair: Pair) -> None:
    kept = {DOMAIN: await xml_of(pair.here), PEER: await xml_of(pair.there)}
    for one in await crossed(pair):
        assert one.sections["rem_message/xml_evidence"].get_payload(decode=True) in kept[one.domain]


async def test_MSGF_EVD_5_the_senders_provider_keeps_them_unchanged(pair: Pair, receipts: list[Sent]) -> None:
    kept = await xml_of(pair.here)
    for one in receipts:
        assert one.sections["rem_message/xml_evidence"].get_payload(decode=True) in kept


async def test_MSGF_EVD_6_7_8_the_header_names_evidence_message_and_digest(pair: Pair) -> None:
    for one in await crossed(pair):
        record, names = one.record, NAMES[one.record.kind]
        assert one.mail["X-REM-Evidence-Identifier"] == record.evidence_id
        assert one.mail["X-REM-Evidence-Type"] == names.root
        assert one.mail["X-REM-Event"] == f"http:uri.etsi.org/02640/Event#{names.event_code}"
        assert one.mail["X-REM-Message-Identifier"] == record.message.kep_message_id
        assert one.mail["X-REM-DigestMethod"] == "http://www.w3.org/2001/04/xmlenc#sha256"


async def test_MSGF_EVD_9_success_has_no_reason_and_failure_has_one_in_words(pair: Pair) -> None:
    for record in await pair.here.evidence():
        assert bool(record.reasons) == NAMES[record.kind].negative
        assert all(": " in reason.details for reason in record.reasons)


# --------------------------------------------------------------------------- MSGF-ORM


async def test_MSGF_ORM_1_the_original_is_an_attached_message(dispatch: Sent) -> None:
    part = dispatch.sections["rem_message/original"]
    assert part.get_content_type() == "message/rfc822"
    assert part.get_content_disposition() == "attachment"
    assert part["Content-Transfer-Encoding"] in ("7bit", "8bit")


async def test_MSGF_ORM_2_it_is_what_the_sender_submitted_byte_for_byte(pair: Pair, dispatch: Sent) -> None:
    message = await pair.message(dispatch.record.message.kep_message_id)
    original = parse_kep_message(BytesSource(dispatch.content)).original
    assert original is not None
    content = dispatch.content[original.start : original.end]
    blob = await pair.here.store.read(lambda tx: tx.blobs.get(message.digest_sha256))
    assert blob is not None
    source = pair.here.blobs.open(blob)
    assert content == source.read(0, source.size)


async def test_MSGF_ORM_3_every_evidence_of_both_providers_copies_its_digest(
    pair: Pair, dispatch: Sent
) -> None:
    original = parse_kep_message(BytesSource(dispatch.content)).original
    assert original is not None
    digest = sha256(dispatch.content[original.start : original.end]).digest()
    records = [*await pair.here.evidence(), *await pair.there.evidence()]
    assert {record.message.digest_sha256 for record in records} == {digest}


async def test_MSGF_ORM_4_outside_stand_service_address_sender_recipients_and_subject(dispatch: Sent) -> None:
    mail = dispatch.mail
    assert mail["From"].addresses[0].addr_spec == f"kep-hizmet@{DOMAIN}"
    assert mail["From"].addresses[0].display_name == f"On behalf of: {AYSE}"
    assert mail["Reply-To"].addresses[0].addr_spec == AYSE
    assert [a.addr_spec for a in mail["To"].addresses] == [FATMA, UNKNOWN]
    assert [a.addr_spec for a in mail["Cc"].addresses] == [CAN]
    assert mail["Subject"] == "REM Dispatch: Şirket: İhtarname"
    assert mail["X-REM-Msg-Type"] == "Dispatch"
    assert mail["Message-ID"] == f"<{dispatch.record.message.kep_message_id}>"
    assert mail["Auto-Submitted"] is None


async def test_MSGF_ORM_EVD_a_dispatch_has_introduction_evidence_10_with_its_record_and_original(
    dispatch: Sent,
) -> None:
    assert list(dispatch.sections) == [
        "rem_message/introduction", "rem_message/xml_evidence", "rem_message/extension",
        "rem_message/original",
    ]  # fmt: skip
    assert dispatch.record.kind is EvidenceKind.SUBMISSION_ACCEPTANCE


async def test_MSGF_INTR_EVD_a_receipt_has_introduction_and_evidence_with_its_record(
    receipts: list[Sent],
) -> None:
    for one in receipts:
        assert list(one.sections) == [
            "rem_message/introduction", "rem_message/xml_evidence", "rem_message/extension",
        ]  # fmt: skip
        assert one.mail["X-REM-Msg-Type"] == "Message"
        assert one.mail["Message-ID"] == f"<{one.record.evidence_id}>"
        assert one.mail["From"].addresses[0].addr_spec == f"kep-hizmet@{PEER}"
        assert one.mail["Reply-To"] is None
        assert one.mail["Auto-Submitted"] == "auto-generated"
        relay = one.record.kind in (EvidenceKind.RELAY_ACCEPTANCE, EvidenceKind.RELAY_REJECTION)
        expected = f"kep-hizmet@{DOMAIN}" if relay else AYSE
        assert [a.addr_spec for a in one.mail["To"].addresses] == [expected]
        assert one.mail["Subject"] == f"REM {NAMES[one.record.kind].event}: Şirket: İhtarname"


# --------------------------------------------------------------------------- SIG-EVXADES


async def all_evidence(pair: Pair) -> list[tuple[bytes, str]]:
    here = [(xml, DOMAIN) for xml in await xml_of(pair.here)]
    return [(x, read_record(x).issuer.address.rpartition("@")[2]) for x, _ in here] + [
        (xml, PEER)
        for xml in await xml_of(pair.there)
        if read_record(xml).kind is not EvidenceKind.SUBMISSION_ACCEPTANCE  # that one is ours, as it crossed
    ]


async def test_SIG_EVXADES_1_every_evidence_verifies(pair: Pair) -> None:
    for xml, _ in await all_evidence(pair):
        report = check_evidence(xml, pair.here.trust, pair.clock.now()).report
        assert report.passed, report.failing_step


async def test_SIG_EVXADES_2_it_is_signed_with_its_issuers_transaction_certificate(pair: Pair) -> None:
    for xml, domain in await all_evidence(pair):
        chain = check_evidence(xml, pair.here.trust, pair.clock.now()).chain
        assert chain is not None
        assert chain.leaf.der == transaction_of(domain).certificate


async def test_SIG_EVXADES_3_it_is_enveloped_last_and_names_its_certificate_in_the_form_of_the_profile(
    pair: Pair,
) -> None:
    for xml, _ in await all_evidence(pair):
        assert xml.count(b"<ds:Signature ") == 1
        assert xml.rpartition(b"</ds:Signature>")[2].startswith(b"</")
        assert b"<xades:SigningCertificate>" in xml
        assert b"SigningCertificateV2" not in xml


async def test_SIG_EVXADES_4_it_bears_a_time_stamp(pair: Pair) -> None:
    for world in (pair.here, pair.there):
        for xml, ers in await proofs_of(world):
            check = check_evidence(xml, world.trust, pair.clock.now(), ers=ers)
            assert check.passed
            assert check.stamped_at is not None


async def test_SIG_EVXADES_one_changed_byte_in_the_evidence_of_either_fails(pair: Pair) -> None:
    for xml, _ in await all_evidence(pair):
        changed = xml.replace(b"hs91", b"hs99", 1)
        assert not check_evidence(changed, pair.here.trust, pair.clock.now()).passed


# --------------------------------------------------------------------------- SIG-SMIME


async def test_SIG_SMIME_1_every_message_is_multipart_signed_with_a_detached_signature_last(
    pair: Pair,
) -> None:
    for one in await crossed(pair):
        assert one.mail.get_content_type() == "multipart/signed"
        assert one.mail.get_param("protocol") == "application/pkcs7-signature"
        assert one.mail.get_param("micalg") == "sha-256"
        mixed, signature = one.mail.iter_parts()
        assert mixed.get_content_type() == "multipart/mixed"
        assert signature.get_content_type() == "application/pkcs7-signature"
        assert signature.get_filename() == "smime.p7s"
        assert signature["Content-Transfer-Encoding"] == "base64"


async def test_SIG_SMIME_2_the_signature_holds_over_the_signed_entity(pair: Pair) -> None:
    for one in await crossed(pair):
        report = check(pair, one).report
        assert report.passed, report.failing_step


async def test_SIG_SMIME_3_the_signer_is_the_provider_that_made_the_evidence_inside(pair: Pair) -> None:
    for one in await crossed(pair):
        found = check(pair, one)
        assert found.certificate is not None
        assert found.certificate.der == transaction_of(one.domain).certificate
        assert found.evidences[0].chain is not None
        assert found.evidences[0].chain.leaf.der == found.certificate.der


async def test_SIG_SMIME_4_the_issuers_certificates_are_inside_and_the_root_is_not(pair: Pair) -> None:
    for one in await crossed(pair):
        signed = parse_signed_data(parse_kep_message(BytesSource(one.content)).p7s)
        issued = transaction_of(one.domain)
        assert set(signed.certificates) == {issued.certificate, *issued.chain}


async def test_SIG_SMIME_5_the_signature_is_time_stamped_by_rule_KEP_SG_02(pair: Pair) -> None:
    for one in await crossed(pair):
        found = check(pair, one)
        assert found.stamped_at is not None
        assert found.tsa is not None


async def test_SIG_SMIME_6_one_changed_byte_of_what_is_signed_fails(pair: Pair) -> None:
    for one in await crossed(pair):
        changed = one.content.replace(b"rem_message/introduction", b"rem_message/introductiom", 1)
        assert changed != one.content
        spoiled = check_kep_message(BytesSource(changed), pair.here.trust, pair.clock.now())
        assert not spoiled.passed
