"""Verification of KEP messages: every rule has its broken twin."""

import asyncio
import base64
import re
from dataclasses import replace
from hashlib import sha256

import pytest

from evidence.cms.signed_data import CmsSigner
from evidence.mail.package import Boundaries, Envelope, plan_dispatch, plan_receipt
from evidence.model.events import TS_KINDS
from evidence.model.records import EvidenceKind, SealedEvidence
from evidence.ports import BytesSource
from evidence.report import SubIndication, Verdict
from evidence.verify.files import exit_code
from evidence.verify.message import check_kep_message, verify_kep_message
from tests.support.evidence_samples import AT, HS91, record
from tests.support.pki import ayse, shared_pki
from tests.support.sealed import (
    HS92,
    LATER,
    ORIGINAL,
    about,
    accepted,
    delivered,
    dispatch,
    foreign_xml,
    receipt,
    seal,
    sealer,
    signer_of,
    trust,
)


def message_check(message: bytes, **options):
    return verify_kep_message(BytesSource(message), options.get("trust", trust()), options.get("at", LATER))


def test_a_dispatch_passes_and_its_parts_are_reported():
    report = message_check(dispatch())
    assert report.passed, report.failing_step
    assert [part.subject for part in report.parts] == ["SubmissionAcceptance.xml", "time stamp"]
    assert report.facts["original_sha256"] == sha256(ORIGINAL).hexdigest()


@pytest.mark.parametrize("kind", sorted(TS_KINDS))
def test_a_receipt_of_every_kind_passes(kind):
    report = message_check(receipt(seal(record(kind))))
    assert report.passed, report.failing_step


def test_the_senders_provider_may_forward_evidence_of_another():
    foreign = seal(record(EvidenceKind.DELIVERY, issuer=HS92))
    assert message_check(receipt(foreign)).passed
    stranger = seal(record(EvidenceKind.DELIVERY))
    report = message_check(receipt(stranger, by=sealer("hs92.kep.tr"), service=HS92.address))
    assert report.failing_step.name == "issuer"


def test_a_dispatch_sealed_by_another_provider_fails():
    report = message_check(dispatch(by=sealer("hs92.kep.tr")))
    assert report.verdict is Verdict.FAILED
    assert report.failing_step.name == "issuer"


def test_a_dispatch_sealed_with_a_holders_certificate_fails():
    report = message_check(dispatch(by=sealer(issued=ayse())))
    assert report.verdict is Verdict.FAILED


def test_another_original_under_genuine_evidence_fails():
    other = ORIGINAL.replace(b"Merhaba", b"Elveda!")
    report = message_check(dispatch(original=other))
    assert report.failing_step.name == "original"
    assert report.sub_indication is SubIndication.HASH_FAILURE


def test_a_changed_signed_entity_fails():
    report = message_check(dispatch().replace(b"Merhaba", b"Elveda!"))
    assert report.failing_step.name == "message digest"


def test_broken_evidence_inside_fails_the_message():
    broken = SealedEvidence(accepted().record, accepted().xml.replace(b"Deneme", b"deneme"))
    report = message_check(dispatch(broken))
    assert report.failing_step.name == "evidence"


def test_a_dispatch_without_acceptance_evidence_fails():
    report = message_check(dispatch(seal(about(ORIGINAL, EvidenceKind.DELIVERY))))
    assert report.failing_step.name == "evidence"


def test_without_trust_a_message_is_undecided():
    assert exit_code([message_check(dispatch(), trust=None)]) == 2


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (b"On behalf of: ayse@", b"On behalf of: fatma@", Verdict.FAILED),
        (b"<kep-hizmet@hs91.kep.tr>\r\nReply", b"<kep-hizmet@hs92.kep.tr>\r\nReply", Verdict.FAILED),
        (b"Subject: ", b"Subject: Re: ", Verdict.FAILED),
        (b"Subject: ", b"X-Subject: ", Verdict.INDETERMINATE),
        (b"Date: Sat, 21", b"Date: Sun, 22", Verdict.FAILED),
        (b"Message-ID: <kep-000001", b"Message-ID: <kep-000002", Verdict.FAILED),
        (b"Cc: mehmet@hs91.kep.tr\r\n", b"", Verdict.FAILED),
        (b"Cc: mehmet@", b"Cc: osman@", Verdict.FAILED),
        (
            b"MIME-Version: 1.0\r\nContent-Type: multipart/signed",
            b"Content-Type: multipart/signed",
            Verdict.INDETERMINATE,
        ),
        (b"X-REM-Evidence-Type: Sub", b"X-REM-Evidence-Type: sub", Verdict.FAILED),
    ],
)
def test_outer_headers_that_differ_from_the_evidence_are_reported(old, new, verdict):
    message = dispatch()
    assert old in message
    report = message_check(message.replace(old, new, 1))
    assert report.failing_step.name == "outer headers"
    assert report.verdict is verdict


def test_a_header_given_twice_is_undecided():
    report = message_check(b"Subject: other\r\n" + dispatch())
    assert report.verdict is Verdict.INDETERMINATE


def test_trace_headers_and_refolding_change_nothing():
    message = b"Received: from x\r\n\tby y\r\nReturn-Path: <a@b>\r\n" + dispatch()
    folded = message.replace(
        b'"On behalf of: ayse@hs91.kep.tr" <', b'"On behalf of:\r\n ayse@hs91.kep.tr"\r\n\t<'
    )
    assert folded != message
    assert message_check(folded).passed


def test_text_beside_the_signed_part_is_undecided():
    assert message_check(dispatch() + b"Please pay here\r\n").verdict is Verdict.INDETERMINATE


def test_a_signature_that_embeds_its_content_or_says_nothing_fails():
    pki = shared_pki()
    issued = pki.transactions["hs91.kep.tr"]
    plan = plan_receipt(
        Envelope(HS91.address, ("ayse@hs91.kep.tr",)),
        delivered(),
        boundaries=Boundaries.of("0123456789abcdef"),
    )
    cms = CmsSigner(issued.certificate, issued.chain)
    draft = cms.to_be_signed(plan.digest(), AT)
    (signature,) = signer_of(issued).sign_now([draft.digest])
    embedded = cms.assemble(draft, signature, content=plan.entity_head + plan.entity_tail)
    assert message_check(plan.finish(embedded)).failing_step.name == "signature"
    assert message_check(plan.finish(b"junk")).failing_step.name == "format"
    unstamped_report = message_check(plan.finish(cms.assemble(draft, signature)))
    assert unstamped_report.passed
    assert next(step for step in unstamped_report.steps if step.number == "3").ok is None


def test_an_unknown_unsigned_attribute_fails():
    """Else a flip in the attribute's name would turn a stamped message into an unstamped one."""
    message = dispatch()
    part = re.search(rb'filename="smime.p7s"\r\n\r\n(.*?)\r\n\r\n--', message, re.DOTALL)[1]
    der = base64.b64decode(part)
    name = bytes.fromhex("060b2a864886f70d010910020e")
    assert der.count(name) == 1
    changed = base64.encodebytes(der.replace(name, name[:-1] + b"\x7e"))
    body = b"\r\n".join(re.findall(rb".{1,76}", changed.replace(b"\n", b"")))
    assert message_check(message.replace(part, body)).failing_step.name == "time stamp"


def test_a_flip_of_any_sampled_byte_of_a_message_is_reported():
    message = dispatch()
    for position in range(0, len(message), 131):
        changed = bytearray(message)
        changed[position] ^= 1
        assert not message_check(bytes(changed)).passed, position


@pytest.mark.slow
def test_a_flip_in_the_signature_part_is_reported():
    message = dispatch()
    start = message.rindex(b"Content-Type: application/pkcs7-signature") - 30
    for position in [*range(start, start + 200), *range(start + 200, len(message), 13)]:
        changed = bytearray(message)
        changed[position] ^= 1
        assert not message_check(bytes(changed)).passed, position


def test_large_originals_are_read_in_pieces():
    class Watched(BytesSource):
        largest = 0

        def read(self, start, length):
            Watched.largest = max(Watched.largest, length)
            return super().read(start, length)

    original = ORIGINAL + b"x" * 76 + b"\r\n" * 600_000
    evidence = seal(about(original, EvidenceKind.SUBMISSION_ACCEPTANCE))
    message = dispatch(evidence, original)
    assert check_kep_message(Watched(message), trust(), LATER).passed
    assert Watched.largest <= 1 << 20


def test_a_message_written_otherwise_still_passes_where_no_signature_covers():
    """Another provider's software: headers are compared only where evidence determines them."""
    record_ = about(ORIGINAL, EvidenceKind.SUBMISSION_ACCEPTANCE)
    foreign = SealedEvidence(record_, foreign_xml(record_))
    message = dispatch(foreign).replace(b"Subject: REM Dispatch:", b"Subject: KEP:")
    report = message_check(message)
    assert report.passed, report.failing_step
    wrong = message.replace(b"Reply-To: =?UTF-8?B?QXnFn2UgWcSxbG1heg==?= <ayse@", b"Reply-To: <fatma@")
    assert message_check(wrong).verdict is Verdict.FAILED


def test_a_dispatch_with_evidence_of_two_messages_fails():
    second = seal(replace(record(EvidenceKind.DELIVERY)))
    plan = plan_dispatch(
        Envelope(HS91.address, ("kurum@hs91.kep.tr",), ("mehmet@hs91.kep.tr",)),
        accepted(),
        label="7bit",
        boundaries=Boundaries.of("0123456789abcdef"),
    )
    extra = re.search(
        rb"\r\n--m=_0123456789abcdef\r\nContent-Type: application/xml.*?(?=\r\n--m=_)",
        plan.entity_head,
        re.DOTALL,
    )[0]
    body = (
        extra.split(b"\r\n\r\n", 1)[0] + b"\r\n\r\n" + base64.encodebytes(second.xml).replace(b"\n", b"\r\n")
    )
    head = plan.entity_head.replace(extra, extra + body)
    p7s = asyncio.run(sealer().sign_entity(sha256(head + ORIGINAL + plan.entity_tail).digest(), AT))
    report = message_check(plan.prefix + head + ORIGINAL + plan.entity_tail + plan.suffix(p7s))
    assert report.failing_step.name == "original"
