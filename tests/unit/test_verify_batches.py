"""Evidence whose proof of time is the evidence record beside it: both profiles, and every broken twin."""

import asyncio
import base64
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from evidence.forms import serialise
from evidence.model.events import TS_KINDS
from evidence.model.records import EvidenceKind, Party, Profile, SealedEvidence
from evidence.ports import BytesSource, Stamping
from evidence.report import SubIndication, Verdict
from evidence.seal.sealing import Sealer
from evidence.stamps.ers import split_record
from evidence.verify.evidence import check_evidence, verify_evidence
from evidence.verify.files import exit_code, verify_source
from evidence.verify.message import check_kep_message, match_records
from evidence.x509.chain import TrustStore
from evidence.xades.check import _open, open_signature
from evidence.xades.own import open_own
from evidence.xades.signing import XadesSigner
from evidence.xml.reader import parse_xml
from kephs.testpki import profiles as certificates
from tests.support.batches import (
    LocalBatcher,
    accepted_in_batch,
    batch_sealer,
    batched,
    delivered_in_batch,
)
from tests.support.erds_samples import full
from tests.support.evidence_samples import AT, record
from tests.support.pki import ayse, make_pki, shared_pki
from tests.support.sealed import (
    LATER,
    STAMPED,
    LocalTimestamper,
    about,
    accepted,
    dispatch,
    foreign_xml,
    receipt,
    signer_of,
    trust,
)

E = delivered_in_batch()


def check(evidence: SealedEvidence = E, **options):
    return check_evidence(
        options.get("xml", evidence.xml),
        options.get("trust", trust()),
        options.get("at", LATER),
        ers=options.get("ers", evidence.ers),
    )


def deciding(report) -> tuple[Verdict, SubIndication | None, str | None]:
    step = report.failing_step
    return report.verdict, report.sub_indication, step.name if step else None


def small(profile: Profile = Profile.KEP) -> SealedEvidence:
    """Return an evidence with as little in it as there may be."""
    item = record(EvidenceKind.SUBMISSION_ACCEPTANCE, recipients=(Party("k@hs91.kep.tr"),))
    return batched(item, profile=profile)[0]


# ------------------------------------------------------------------- what passes


@pytest.mark.parametrize("kind", sorted(TS_KINDS))
def test_every_kind_of_ts_102640_passes_with_its_record(kind):
    found = check(batched(record(kind))[0])
    assert found.passed, found.report.failing_step
    assert (found.own, found.ers.own, found.stamped_at) == (True, True, STAMPED)


@pytest.mark.parametrize("kind", list(EvidenceKind))
def test_every_kind_of_the_rem_baseline_passes_with_its_record(kind):
    found = check(batched(full(kind), profile=Profile.REM_BASELINE)[0])
    assert found.passed, found.report.failing_step
    assert (found.own, found.ers.own, found.stamped_at) == (True, True, STAMPED)


def test_the_rem_baseline_passes_with_a_stamp_of_its_own():
    (evidence,) = batched(profile=Profile.REM_BASELINE, stamping=Stamping.OWN)
    assert evidence.ers is None
    found = check(evidence)
    assert found.passed, found.report.failing_step
    assert found.stamped_at == STAMPED


def test_the_report_names_the_record_as_the_proof_of_time():
    report = check().report
    (step,) = (step for step in report.steps if step.number == "6")
    assert step.detail == "2026-11-21T09:07:00.000Z, evidence record"
    assert [part.subject for part in report.parts] == ["evidence record"]


def test_without_its_record_there_is_a_note_and_no_proof_of_time():
    found = check(ers=None)
    assert found.passed
    assert found.stamped_at is None
    assert [step.detail for step in found.report.steps if step.number == "6"] == ["no proof of time"]


def test_the_record_proves_the_past_after_the_transaction_certificate_expired():
    late = AT + timedelta(days=365 * 4)
    assert check(at=late).passed
    assert deciding(check(at=late, ers=None).report) == (
        Verdict.INDETERMINATE,
        SubIndication.OUT_OF_BOUNDS_NO_POE,
        "chain",
    )


def test_both_kinds_of_stamps_are_verified_and_the_earlier_counts():
    evidence = _with_both(STAMPED + timedelta(minutes=2))
    found = check(evidence)
    assert found.passed, found.report.failing_step
    assert found.stamped_at == STAMPED
    assert [s.number for s in found.report.steps if s.name == "time stamp"] == ["6.1", "6.2"]


def test_the_record_keeps_a_stamp_alive_whose_authority_expired():
    old = shared_pki().issue_tsa(not_after=STAMPED + timedelta(minutes=1))
    evidence = _with_both(STAMPED + timedelta(seconds=30), tsa=old)
    assert check(evidence).passed
    alone = check(evidence, ers=None).report
    assert deciding(alone) == (Verdict.INDETERMINATE, SubIndication.OUT_OF_BOUNDS_NO_POE, "time stamp")


def test_a_record_from_before_the_stamp_inside_contradicts_it():
    report = check(_with_both(STAMPED - timedelta(minutes=3))).report
    assert deciding(report) == (Verdict.INDETERMINATE, SubIndication.TIMESTAMP_ORDER_FAILURE, "time stamp")


def _with_both(recorded, **stamp) -> SealedEvidence:
    signer = signer_of(shared_pki().transactions["hs91.kep.tr"])
    sealer = Sealer(signer, LocalTimestamper(STAMPED, **stamp))
    (inside,) = asyncio.run(sealer.seal_many((record(),), stamping=Stamping.OWN))
    (ers,) = asyncio.run(LocalBatcher(recorded).records([sha256(inside.xml).digest()]))
    return replace(inside, ers=ers)


def test_another_writers_evidence_passes_with_a_record_beside_it():
    xml = foreign_xml(record())
    (ers,) = asyncio.run(LocalBatcher(STAMPED + timedelta(minutes=1)).records([sha256(xml).digest()]))
    assert check_evidence(xml, trust(), LATER, ers=ers).passed


def test_another_writers_rem_baseline_evidence_passes_with_a_warning(monkeypatch):
    from tests.support import sealed  # noqa: PLC0415 - only here

    monkeypatch.setattr(sealed.rem_xml, "write", lambda item: serialise.write(item, Profile.REM_BASELINE))
    found = check_evidence(foreign_xml(record()), trust(), LATER)
    assert found.passed, found.report.failing_step
    assert (found.own, found.stamped_at, found.record.kind) == (False, STAMPED, EvidenceKind.DELIVERY)
    assert not check_evidence(foreign_xml(record(), mark="kephs-evidence-1"), trust(), LATER).passed


# ------------------------------------------------------------------- what does not


def test_the_record_of_another_evidence_fails():
    first, second, third = batched(*(record(evidence_id=f"{name}@hs91.kep.tr") for name in "abc"))
    assert first.ers == second.ers  # neighbours in the tree share theirs
    assert check(first).passed
    swapped = check(first, ers=third.ers).report
    assert deciding(swapped) == (Verdict.FAILED, SubIndication.HASH_FAILURE, "time stamp")


def test_the_record_of_another_message_fails():
    other = batched(about(b"another", EvidenceKind.DELIVERY))[0]
    assert check(ers=other.ers).report.verdict is Verdict.FAILED


@pytest.mark.parametrize("junk", [b"", b"0", b"0\x80\x00\x00", bytes(300_000), b"\x30\x03\x02\x01\x01"])
def test_a_record_that_is_none_fails(junk):
    assert deciding(check(ers=junk).report) == (Verdict.FAILED, SubIndication.FORMAT_FAILURE, "time stamp")


def test_trailing_bytes_after_the_record_fail():
    assert check(ers=E.ers + b"\x00").report.verdict is Verdict.FAILED
    assert check(ers=E.ers[:-1]).report.verdict is Verdict.FAILED


@pytest.mark.parametrize("store", [None, TrustStore(())])
def test_without_trust_a_record_proves_nothing(store):
    assert check(trust=store).report.verdict is Verdict.INDETERMINATE


def test_a_record_of_an_authority_nobody_trusts_is_undecided():
    other = make_pki()
    (ers,) = asyncio.run(LocalBatcher(tsa=other.tsa).records([sha256(E.xml).digest()]))
    found = check(ers=ers)
    assert found.report.verdict is Verdict.INDETERMINATE
    assert found.stamped_at is None


@pytest.mark.parametrize("which", ["holder", "tls", "tsa", "responder", "another provider"])
@pytest.mark.parametrize("profile", Profile)
def test_a_certificate_of_another_role_seals_nothing(which, profile):
    pki = shared_pki()
    issued = {
        "holder": ayse,
        "tls": lambda: pki.issue(
            certificates.name(common_name="TEST hs91.kep.tr"),
            certificates.tls_extensions(("hs91.kep.tr",)),
            authority=pki.authorities["p384"],
        ),
        "tsa": lambda: pki.tsa,
        "responder": lambda: pki.issue_responder("p384"),
        "another provider": lambda: pki.transactions["hs92.kep.tr"],
    }[which]()
    (evidence,) = batched(profile=profile, by=batch_sealer(issued=issued))
    assert deciding(check(evidence).report) == (
        Verdict.FAILED,
        SubIndication.CHAIN_CONSTRAINTS_FAILURE,
        "role",
    )


@pytest.mark.parametrize("profile", Profile)
def test_a_foreign_certificate_in_keyinfo_is_refused(profile):
    (evidence,) = batched(profile=profile)
    ours, other = (shared_pki().transactions[f"hs9{n}.kep.tr"].certificate for n in (1, 2))
    for new in (other, shared_pki().tsa.certificate):
        swapped = evidence.xml.replace(base64.b64encode(ours), base64.b64encode(new))
        assert not check(xml=swapped, ers=evidence.ers).passed
        added = evidence.xml.replace(
            b"</ds:X509Data>",
            b"<ds:X509Certificate>" + base64.b64encode(new) + b"</ds:X509Certificate></ds:X509Data>",
        )
        assert not check(xml=added, ers=None).passed


@pytest.mark.parametrize("profile", Profile)
def test_a_flip_of_any_sampled_byte_of_the_evidence_is_refused(profile):
    xml = small(profile).xml
    for position in range(0, len(xml), 29):
        _refused(xml, position, 1, ers=None)


@pytest.mark.slow
@pytest.mark.parametrize("profile", Profile)
def test_a_flip_of_any_byte_of_the_evidence_is_refused(profile):
    xml = small(profile).xml
    for position in range(len(xml)):
        for flip in (0x01, 0x20):
            _refused(xml, position, flip, ers=None)


def _refused(xml: bytes, position: int, flip: int, *, ers: bytes | None) -> None:
    changed = bytearray(xml)
    changed[position] ^= flip
    assert not verify_evidence(bytes(changed), trust(), LATER, ers=ers).passed, (position, flip)


def test_a_flip_of_any_sampled_byte_of_the_record_is_refused():
    evidence = small()
    for position in range(0, len(evidence.ers), 11):
        _record_refused(evidence, position, 1)


@pytest.mark.slow
def test_a_flip_of_any_byte_of_the_record_is_refused():
    evidence = small()
    for position in range(len(evidence.ers)):
        for flip in (0x01, 0x20, 0x80):
            _record_refused(evidence, position, flip)


def _record_refused(evidence: SealedEvidence, position: int, flip: int) -> None:
    changed = bytearray(evidence.ers or b"")
    changed[position] ^= flip
    assert not verify_evidence(evidence.xml, trust(), LATER, ers=bytes(changed)).passed, (position, flip)


# ------------------------------------------------------------------- the short way is as strict as the long one


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("stamping", Stamping)
def test_our_evidence_takes_the_short_way_which_finds_what_the_long_one_finds(profile, stamping):
    xml = batched(profile=profile, stamping=stamping)[0].xml
    short = open_signature(xml)
    assert short.made_again is not None
    long = _open(xml, parse_xml(xml))
    assert all(reference.holds for reference in long.references)
    for name in (
        "document", "body", "signed_info", "algorithm", "value", "stamped", "certificates", "certificate_hash",
        "issuer_serial", "signing_time", "tokens", "own",
    ):  # fmt: skip
        assert getattr(short, name) == getattr(long, name), name
    assert long.rewritten() == xml
    assert short.signing_certificate() == long.signing_certificate()


@pytest.mark.parametrize("profile", Profile)
def test_text_that_looks_like_an_id_is_text_and_passes(profile):
    subject = 'x Id="sig-1" Id="a" Id="a"'
    item = record()
    evidence = batched(replace(item, message=replace(item.message, subject=subject)), profile=profile)[0]
    assert (open_own(evidence.xml) is None) is (profile is Profile.REM_BASELINE)  # the long way
    found = check(evidence)
    assert found.passed, found.report.failing_step
    assert found.own


def _signed(body: bytes) -> bytes:
    issued = shared_pki().transactions["hs91.kep.tr"]
    writer = XadesSigner(issued.certificate, issued.chain)
    draft = writer.to_be_signed(body, AT)
    (signature,) = signer_of(issued).sign_now([draft.digest])
    return writer.assemble(writer.with_signature(draft, signature))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<EventCode>", b"<EventCode  >"),
        (b"<EventCode>", b"<EventCode><!-- -->"),
        (b"<EventCode>", b"<EventCode><?x?>"),
        (b"<EventCode>", b'<EventCode b="1" a="2">'),
        (b"</EventCode>", b"</EventCode><x/>"),
        (b"</EventCode>", b"</EventCode>\r\n"),
        (b"</EventCode>", b"</EventCode><![CDATA[x]]>"),
        (b"</EventCode>", b'</EventCode><x Id="sig-1"></x>'),
        (b"</EventCode>", b'</EventCode><x Id="sp-1"></x>'),
        (b"</EventCode>", b'</EventCode><x Id="a"></x><x Id="a"></x>'),
        (b"</EventCode>", b'</EventCode><x ID="a"></x><x xml:id="a"></x>'),
        (
            b"</EventCode>",
            b'</EventCode><d:Signature xmlns:d="http://www.w3.org/2000/09/xmldsig#"></d:Signature>',
        ),
        (b"<Delivery", b"<!DOCTYPE x><Delivery"),
        (b"<Delivery", b"\n<Delivery"),
        (b"</DeliveryNonDeliveryToRecipient>", b"</DeliveryNonDeliveryToRecipient>\n"),
    ],
)
def test_a_body_that_is_not_canonical_fails_though_our_own_key_signed_those_bytes(old, new):
    from evidence.forms import rem_xml  # noqa: PLC0415 - only here

    good = rem_xml.write(record())
    assert verify_evidence(_signed(good), trust(), LATER).passed
    body = good.replace(old, new, 1)
    assert body != good
    xml = _signed(body)
    assert open_own(xml) is None
    assert verify_evidence(xml, trust(), LATER).verdict is Verdict.FAILED


@pytest.mark.parametrize("wrapping", [b"<x>%b</x>", b"<x><y>%b</y><z></z></x>", b"%b%b"])
def test_evidence_wrapped_in_something_is_refused(wrapping):
    inner = E.xml.partition(b"\n")[2]
    wrapped = E.xml.partition(b"\n")[0] + b"\n" + wrapping.replace(b"%b", inner)
    assert open_own(wrapped) is None
    assert verify_evidence(wrapped, trust(), LATER).verdict is Verdict.FAILED


def test_the_signature_of_one_evidence_moved_into_another_is_refused():
    other = batched(record(evidence_id="other@hs91.kep.tr"))[0].xml
    at, end = (E.xml.index(b"<ds:Signature xmlns"), E.xml.index(b"</ds:Signature>"))
    there, over = (other.index(b"<ds:Signature xmlns"), other.index(b"</ds:Signature>"))
    moved = other[:there] + E.xml[at:end] + other[over:]
    assert deciding(verify_evidence(moved, trust(), LATER))[:2] == (
        Verdict.FAILED,
        SubIndication.HASH_FAILURE,
    )


# ------------------------------------------------------------------- inside KEP messages


def message(raw: bytes):
    return check_kep_message(BytesSource(raw), trust(), LATER)


def test_a_dispatch_brings_the_record_of_its_evidence():
    found = message(dispatch(accepted_in_batch()))
    assert found.passed, found.report.failing_step
    assert found.evidences[0].stamped_at == STAMPED
    assert found.evidences[0].ers.own


def test_a_receipt_brings_the_record_of_its_evidence():
    found = message(receipt(delivered_in_batch()))
    assert found.passed, found.report.failing_step
    assert found.evidences[0].ers.passed


def test_a_dispatch_with_the_record_of_another_evidence_fails():
    wrong = replace(accepted_in_batch(), ers=delivered_in_batch().ers)
    report = message(dispatch(wrong)).report
    assert deciding(report) == (Verdict.FAILED, SubIndication.HASH_FAILURE, "evidence")


def test_a_dispatch_with_a_damaged_record_fails():
    ers = bytearray(accepted_in_batch().ers)
    ers[-1] ^= 1
    assert not message(dispatch(replace(accepted_in_batch(), ers=bytes(ers)))).passed


def test_records_are_matched_by_name_and_where_names_repeat_by_content():
    from evidence.mail.kep_message import EvidenceFile  # noqa: PLC0415 - only here

    first, _, second = batched(*(record(evidence_id=f"{name}@hs91.kep.tr") for name in "abc"))
    files = [EvidenceFile("Delivery.xml", first.xml), EvidenceFile("Delivery.xml", second.xml)]
    records = [EvidenceFile("Delivery.ers", second.ers), EvidenceFile("Delivery.ERS", first.ers)]
    assert match_records(files, records) == ([first.ers, second.ers], ())
    stray = EvidenceFile("Delivery.ers", E.ers)
    assert match_records(files, [*records, stray]) == ([first.ers, second.ers], ("Delivery.ers",))
    assert match_records(files, [EvidenceFile("notes.txt", b"x")]) == ([None, None], ())
    assert match_records(files[:1], [EvidenceFile("Delivery.ers", b"junk")]) == ([b"junk"], ())


# ------------------------------------------------------------------- the front door


def beside(**files: bytes):
    return lambda ending: BytesSource(files[ending[1:]]) if ending[1:] in files else None


def front(data: bytes, **files: bytes):
    return verify_source(BytesSource(data), trust(), LATER, beside=beside(**files))


def test_the_record_beside_the_evidence_is_found_and_verified():
    assert front(E.xml, ers=E.ers).facts["stamped_at"] == "2026-11-21T09:07:00.000Z"
    assert front(E.xml).facts["stamped_at"] is None
    assert front(E.xml, ers=accepted_in_batch().ers).verdict is Verdict.FAILED


def test_a_record_is_verified_against_the_evidence_beside_it():
    report = front(E.ers, xml=E.xml)
    assert report.passed, report.failing_step
    assert report.facts["proven_at"] == "2026-11-21T09:07:00.000Z"
    assert front(E.ers, xml=E.xml + b" ").sub_indication is SubIndication.HASH_FAILURE
    alone = front(E.ers)
    assert (alone.verdict, alone.sub_indication) == (
        Verdict.INDETERMINATE,
        SubIndication.SIGNED_DATA_NOT_FOUND,
    )
    assert exit_code([alone]) == 2


def test_a_record_cut_anywhere_is_no_pass():
    for length in range(1, len(E.ers), 97):
        assert not front(E.ers[:length], xml=E.xml).passed


def test_evidence_with_a_token_of_the_batch_in_place_of_the_record_fails():
    assert front(E.xml, ers=split_record(E.ers)[1]).verdict is Verdict.FAILED


def test_evidence_stamped_by_itself_needs_no_record():
    assert front(accepted().xml).passed
