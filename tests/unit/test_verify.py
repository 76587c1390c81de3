"""Verification of evidence, and the front door: every rule has its broken twin."""

import asyncio
import base64
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils

from evidence.forms import rem_xml
from evidence.model.events import TS_KINDS
from evidence.ports import BytesSource
from evidence.report import SubIndication, Verdict
from evidence.seal.sealing import Sealer
from evidence.verify.evidence import check_evidence, verify_evidence
from evidence.verify.files import Kind, detect, exit_code, verify_source
from evidence.verify.message import check_kep_message
from evidence.x509.chain import TrustStore
from evidence.x509.role import SealPolicy
from evidence.xades.check import open_signature
from evidence.xades.signing import XadesSigner
from kephs.testpki import profiles
from tests.support.bundles import bundle
from tests.support.evidence_samples import AT, record
from tests.support.pki import ayse, make_pki, shared_pki
from tests.support.sealed import (
    HS92,
    LATER,
    ORIGINAL,
    STAMPED,
    LocalTimestamper,
    accepted,
    delivered,
    dispatch,
    foreign_xml,
    seal,
    signer_of,
    trust,
)

XML = delivered().xml


def check(xml: bytes, **options):
    return verify_evidence(xml, options.get("trust", trust()), options.get("at", LATER))


def sealed_by(issued, **changes) -> bytes:
    return asyncio.run(Sealer(signer_of(issued), LocalTimestamper()).seal(record(**changes))).xml


def unstamped(issued=None) -> bytes:
    issued = issued or shared_pki().transactions["hs91.kep.tr"]
    writer = XadesSigner(issued.certificate, issued.chain)
    draft = writer.to_be_signed(rem_xml.write(record()), AT)
    (signature,) = signer_of(issued).sign_now([draft.digest])
    return writer.assemble(writer.with_signature(draft, signature))


# ------------------------------------------------------------------- evidence that passes


@pytest.mark.parametrize("kind", sorted(TS_KINDS))
def test_every_kind_passes(kind):
    report = check(seal(record(kind)).xml)
    assert report.verdict is Verdict.PASSED, report.failing_step
    assert report.facts["code"] == kind.value


def test_both_issuing_authorities_pass():
    assert check(seal(record(issuer=HS92)).xml).passed


def test_the_report_says_what_the_evidence_proves():
    facts = check(XML).facts
    assert facts["issuer"] == "kep-hizmet@hs91.kep.tr"
    assert facts["refers_to"] == "kurum@hs91.kep.tr"
    assert facts["stamped_at"] == "2026-11-21T09:07:00.000Z"
    assert facts["digest_sha256"] == sha256(ORIGINAL).hexdigest()


def test_without_a_stamp_it_passes_with_a_warning():
    report = check(unstamped())
    assert report.passed
    (step,) = [step for step in report.steps if step.number == "6"]
    assert step.ok is None
    assert step.detail == "no proof of time"


def test_the_stamp_proves_the_past_after_the_certificate_expired():
    late = AT + timedelta(days=365 * 4)
    assert check(XML, at=late).passed
    report = check(unstamped(), at=late)
    assert report.verdict is Verdict.INDETERMINATE
    assert report.sub_indication is SubIndication.OUT_OF_BOUNDS_NO_POE


# ------------------------------------------------------------------- evidence that must not pass


@pytest.mark.parametrize("store", [None, TrustStore(())])
def test_without_trust_nothing_passes(store):
    report = check(XML, trust=store)
    assert report.verdict is Verdict.INDETERMINATE
    assert exit_code([report]) == 2


def test_another_root_of_the_same_name_is_no_trust():
    assert not check(XML, trust=TrustStore((make_pki().root,))).passed


def test_evidence_of_a_domain_the_certificate_does_not_name_fails():
    report = check(sealed_by(shared_pki().transactions["hs92.kep.tr"]))
    assert report.verdict is Verdict.FAILED
    assert report.failing_step.name == "role"


def test_evidence_signed_with_a_holders_certificate_fails():
    report = check(sealed_by(ayse()))
    assert report.verdict is Verdict.FAILED
    assert report.failing_step.name == "role"


@pytest.mark.parametrize("which", ["tls", "tsa", "responder"])
def test_evidence_signed_with_a_tls_ocsp_or_tsa_certificate_fails(which):
    pki = shared_pki()
    issued = {
        "tls": lambda: pki.issue(
            profiles.name(common_name="TEST hs91.kep.tr"),
            profiles.tls_extensions(("hs91.kep.tr",)),
            authority=pki.authorities["p384"],
        ),
        "tsa": lambda: pki.tsa,
        "responder": lambda: pki.issue_responder("p384"),
    }[which]()
    report = check(sealed_by(issued))
    assert report.verdict is Verdict.FAILED
    assert report.failing_step.name == "role"


def test_the_role_depends_on_the_policy_given():
    other = SealPolicy(transaction_policies=frozenset({"1.2.3"}))
    assert not verify_evidence(XML, trust(), LATER, other).passed


def test_a_certificate_not_valid_at_the_stamp_fails():
    issued = shared_pki().issue_transaction("hs91.kep.tr", "TEST", not_after=STAMPED - timedelta(seconds=30))
    report = check(sealed_by(issued))  # valid at the claimed time, or the sealer would not have sealed
    assert report.verdict is Verdict.FAILED
    assert report.sub_indication is SubIndication.EXPIRED


def test_a_stamp_over_other_bytes_fails():
    mine, other = (open_signature(seal(record(evidence_id=f"{n}@hs91.kep.tr")).xml) for n in "ab")
    swapped = mine.document.replace(base64.b64encode(mine.tokens[0]), base64.b64encode(other.tokens[0]))
    report = check(swapped)
    assert report.verdict is Verdict.FAILED
    assert report.failing_step.name == "time stamp"


@pytest.mark.parametrize("spoilt", ["no time stamping", "not critical", "expired", "transaction"])
def test_a_stamp_by_a_certificate_that_may_not_stamp_fails(spoilt):
    pki = shared_pki()
    tsa = {
        "no time stamping": lambda: pki.issue_tsa(eku=False),
        "not critical": lambda: pki.issue_tsa(critical=False),
        "expired": lambda: pki.issue_tsa(not_after=AT),
        "transaction": lambda: pki.transactions["hs91.kep.tr"],
    }[spoilt]()
    stamps = LocalTimestamper(tsa=tsa)
    sealed = asyncio.run(Sealer(signer_of(pki.transactions["hs91.kep.tr"]), stamps).seal(record()))
    report = check(sealed.xml)
    assert not report.passed
    assert report.failing_step.name == "time stamp"


def test_a_stamp_from_the_future_does_not_pass():
    assert not check(XML, at=AT).passed


def test_an_event_after_the_stamp_does_not_pass():
    report = check(seal(record(event_time=STAMPED + timedelta(hours=1))).xml)
    assert report.sub_indication is SubIndication.TIMESTAMP_ORDER_FAILURE


def test_an_extra_certificate_in_our_evidence_is_found():
    end = b"</ds:X509Certificate></ds:X509Data>"
    other = base64.b64encode(shared_pki().transactions["hs92.kep.tr"].certificate)
    report = check(XML.replace(end, b"</ds:X509Certificate><ds:X509Certificate>" + other + end))
    assert report.failing_step.name == "embedded material"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'<?xml version="1.0" encoding="UTF-8"?>\n', b""),
        (b"UTF-8", b"utf-8"),
        (b"?>\n", b"?>\n\n"),
        (b"<EventCode>", b"<EventCode >"),
        (b"</ds:SignatureValue>", b"\n</ds:SignatureValue>"),
        (b'Id="sig-1"', b'Id="sig-1" '),
        (b"#sp-1", b"#sp-1"),
        (b"<ds:KeyInfo>", b'<ds:KeyInfo Id="k">'),
        (b"</DeliveryNonDeliveryToRecipient>", b"</DeliveryNonDeliveryToRecipient>\n"),
        (b"<ds:Object>", b'<ds:Object Id="o">'),
    ],
)
def test_our_evidence_is_refused_when_bytes_outside_the_signature_differ(old, new):
    changed = XML.replace(old, new, 1)
    if old == new:
        changed = XML.replace(b"</xades:QualifyingProperties>", b" </xades:QualifyingProperties>")
    assert changed != XML
    assert check(changed).verdict is Verdict.FAILED


def test_a_flip_of_any_sampled_byte_is_refused():
    for position in range(0, len(XML), 23):
        changed = bytearray(XML)
        changed[position] ^= 1
        assert not check(bytes(changed)).passed, position


@pytest.mark.slow
@pytest.mark.parametrize("start", range(4))
def test_a_flip_of_any_byte_is_refused(start):
    for position in range(start, len(XML), 4):
        changed = bytearray(XML)
        changed[position] ^= 0x20 if position % 2 else 1
        assert not check(bytes(changed)).passed, position


@pytest.mark.slow
def test_a_flip_in_the_stamp_is_refused():
    token = open_signature(XML).tokens[0]
    for position in range(0, len(token), 3):
        changed = bytearray(token)
        changed[position] ^= 1
        xml = XML.replace(base64.b64encode(token), base64.b64encode(bytes(changed)))
        assert not check(xml).passed, position


def test_a_foreign_certificate_inside_the_stamp_is_found():
    pki = shared_pki()
    crowded = replace(pki.tsa, chain=(*pki.tsa.chain, pki.transactions["hs91.kep.tr"].certificate))
    stamps = LocalTimestamper(tsa=crowded)
    sealed = asyncio.run(Sealer(signer_of(pki.transactions["hs91.kep.tr"]), stamps).seal(record()))
    report = check(sealed.xml)
    assert report.failing_step.name == "embedded material"


def test_a_genuine_signature_over_something_else_than_evidence_fails():
    issued = shared_pki().transactions["hs91.kep.tr"]
    body = rem_xml.write(record()).replace(b"Event#Delivery<", b"Event#Dancing<")
    writer = XadesSigner(issued.certificate, issued.chain)
    draft = writer.to_be_signed(body, AT)
    (signature,) = signer_of(issued).sign_now([draft.digest])
    report = check(writer.assemble(writer.with_signature(draft, signature)))
    assert report.verdict is Verdict.FAILED
    assert report.failing_step.name == "content"


def test_a_short_key_does_not_count():
    issued = shared_pki().issue_user("TEST short", profiles.make_tckn(9), key="rsa1024")
    writer = XadesSigner(issued.certificate, issued.chain)
    draft = writer.to_be_signed(rem_xml.write(record()), AT)
    raw = issued.key.sign(draft.digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
    report = check(writer.assemble(writer.with_signature(draft, raw)))
    assert "algorithms" in [step.name for step in report.steps if step.ok is False]


def test_evidence_cut_anywhere_fails():
    for length in range(0, len(XML), 101):
        assert check(XML[:length]).verdict is Verdict.FAILED


def test_evidence_of_another_writer_passes_with_a_warning():
    report = check(foreign_xml(record()))
    assert report.passed
    assert next(step for step in report.steps if step.number == "5").ok is None
    assert not check(foreign_xml(record(), mark="kephs-evidence-1")).passed


# ------------------------------------------------------------------- the front door


def test_kinds_are_told_apart_by_content():
    assert detect(BytesSource(XML)) is Kind.EVIDENCE
    assert detect(BytesSource(b"\n " + XML)) is Kind.EVIDENCE
    assert detect(BytesSource(dispatch())) is Kind.MESSAGE
    assert detect(BytesSource(bundle())) is Kind.BUNDLE
    assert detect(BytesSource(b"")) is None
    assert detect(BytesSource(b"\x00\x01")) is None


def test_the_worst_verdict_decides_the_exit_status():
    good = verify_source(BytesSource(XML), trust(), LATER)
    bad = verify_source(BytesSource(b"\x00"), trust(), LATER, subject="x.bin")
    open_question = verify_source(BytesSource(XML), None, LATER)
    assert exit_code([]) == 0
    assert exit_code([good]) == 0
    assert exit_code([good, open_question]) == 2
    assert exit_code([good, open_question, bad]) == 1
    assert bad.subject == "x.bin"


def test_a_message_saved_with_unix_line_ends_passes():
    assert verify_source(BytesSource(dispatch().replace(b"\r\n", b"\n")), trust(), LATER).passed


def test_the_check_gives_what_callers_need():
    found = check_evidence(XML, trust(), LATER)
    assert found.record == replace(delivered().record)
    assert found.stamped_at == STAMPED
    assert found.own
    assert found.chain.leaf.extensions.dns_names == ("hs91.kep.tr",)
    message = check_kep_message(BytesSource(dispatch()), trust(), LATER)
    assert message.records == (accepted().record,)
    assert message.original_sha256 == sha256(ORIGINAL).digest()


# ------------------------------------------------------------------- stamped long after the event


@pytest.mark.parametrize(("late", "told"), [(timedelta(minutes=59), False), (timedelta(hours=20), True)])
def test_that_a_stamp_is_much_later_than_the_event_it_proves_is_told(late, told):
    event = STAMPED - late
    report = check(seal(record(event_time=event, submission_time=event)).xml)
    assert report.passed, report.failing_step
    (step,) = (one for one in report.steps if one.number == "11")
    assert step.ok is (None if told else True)
    assert ("20:00:00 after" in step.detail) is told
