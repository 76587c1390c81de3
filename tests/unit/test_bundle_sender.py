"""The holder's signature in a bundle: what was known at reception keeps proving it, and nothing else does."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import cache
from hashlib import sha256

import pytest

from evidence.bundle.making import BundleContents, RevocationFile, revocation_name
from evidence.bundle.readme import ReadmeFacts, commands, readme
from evidence.cms.signed_data import CmsSigner
from evidence.mail.mime import scan
from evidence.ports import BytesSource
from evidence.report import SubIndication, Verdict
from evidence.stamps.ers import HashTree, encode_record
from evidence.verify.bundle import verify_bundle
from evidence.verify.holder_content import is_exact
from evidence.x509.certificates import certificate_facts
from evidence.x509.revocation import RevocationSource
from kephs.testpki.profiles import make_tckn
from tests.support.bundles import (
    LOG_KEY,
    about_holder,
    bundle,
    everything,
    revocation_files,
    sender_record,
    sender_signature,
    signed_original,
)
from tests.support.evidence_samples import AT
from tests.support.pki import NOW, ayse, mehmet, shared_pki
from tests.support.sealed import LATER, STAMPED, LocalTimestamper, trust
from tests.support.signers import detached_around, opaque_message, raw_sign, signed_message

MINUTE = timedelta(minutes=1)
TIME = "time of the holder's signature"
AGAIN = "holder's signature, judged for that time"


def check(made: BundleContents, **options):
    return verify_bundle(
        BytesSource(bundle(made)), trust(), options.get("at", LATER), log_key=LOG_KEY.verifier
    )


def step(report, name: str):
    return next(one for one in report.steps if one.name == name)


def unchecked(report) -> list[str]:
    return [one.name for one in report.steps if one.ok is None]


@cache
def original() -> bytes:
    return signed_original()


def only_ours(made: BundleContents) -> list[RevocationFile]:
    """Return the revocation data without what is about the holder."""
    return [file for file in made.revocation if not file.name.startswith("gonderici-")]


def revoked(minutes: int, **changes) -> BundleContents:
    """Return a bundle whose holder's certificate was revoked so long after the stamp; the issuer says so."""
    pki = shared_pki()
    issued = pki.issue_user("Geri Alınmış", make_tckn(61))
    pki.revoke(issued.serial, STAMPED + minutes * MINUTE)
    return about_holder(issued, signed_message(issued), **changes)


# ------------------------------------------------------------------- what passes


def test_the_signature_is_judged_for_the_time_of_the_providers_stamp():
    report = check(everything())
    assert report.passed, report.failing_step
    assert unchecked(report) == []
    assert step(report, TIME).detail == "2026-11-21T09:07:00.000Z"
    part = next(one for one in report.parts if one.subject == "imza.p7s")
    assert part.passed
    assert {"1", "2", "3.1.7", "4.1", "5.1"} <= {one.number for one in part.steps}


@pytest.mark.parametrize("years", [1, 4, 8])
def test_it_still_passes_when_the_holders_certificate_has_long_expired(years):
    at = AT + timedelta(days=365 * years)
    assert certificate_facts(ayse().certificate).not_after < AT + timedelta(days=365 * 8)
    report = check(everything(), at=at)
    assert report.passed, report.failing_step


def test_revoked_after_the_stamp_does_no_harm():
    report = check(revoked(10))
    assert report.passed, report.failing_step


def test_expired_after_the_stamp_does_no_harm():
    soon = shared_pki().issue_user("Süresi Dolmuş", make_tckn(62), not_after=STAMPED + MINUTE)
    report = check(about_holder(soon, signed_message(soon), holder_at=STAMPED))
    assert report.passed, report.failing_step


def test_an_opaque_signature_is_judged_alike():
    report = check(about_holder(ayse(), opaque_message(ayse())))
    assert report.passed, report.failing_step


def test_intermediates_that_the_signature_lacks_stand_beside():
    alone = about_holder(ayse(), signed_message(ayse(), chain=False))
    assert check(alone).passed
    lost = check(replace(alone, sender_certificates=()))
    assert lost.sub_indication is SubIndication.NO_CERTIFICATE_CHAIN_FOUND
    assert lost.failing_step.name == AGAIN


def test_a_crl_of_the_time_is_as_good_as_ocsp():
    made = everything()
    pki = shared_pki()
    lists = [
        RevocationFile(f"gonderici-{n}.crl", pki.crl(ca, LATER)) for n, ca in enumerate(("p384", "root"))
    ]
    report = check(replace(made, revocation=[*only_ours(made), *lists]))
    assert report.passed, report.failing_step


def test_a_qualified_seal_that_its_provider_accepted_passes():
    seal = shared_pki().issue_user("Örnek Mühür", make_tckn(63), seal=True)
    report = check(about_holder(seal, signed_message(seal)))
    assert report.passed, report.failing_step


def test_a_record_whose_token_is_the_evidences_own_passes():
    """In batch mode one token covers both: the record shares it with evidence 10."""
    signature = sender_signature(original())
    leaf = sha256(signature).digest()
    tree = HashTree([leaf, *(sha256(b"%d" % n).digest() for n in range(3))])
    token = asyncio.run(LocalTimestamper().stamp(tree.root))
    report = check(everything(sender_record=encode_record(tree.path(0), token)))
    assert report.passed, report.failing_step
    alone = asyncio.run(LocalTimestamper().stamp(leaf))
    report = check(everything(sender_record=encode_record((), alone)))
    assert report.passed, report.failing_step


# ------------------------------------------------------------------- bundles without the record


def test_a_bundle_without_the_record_goes_by_the_stamp_of_evidence_10_and_says_so():
    report = check(everything(sender_record=None))
    assert report.passed, report.failing_step
    assert unchecked(report) == [TIME]
    assert "by evidence 10: 2026-11-21T09:07:00.000Z" in step(report, TIME).detail


def test_an_older_bundle_that_lacks_what_a_check_needs_still_passes_with_a_note():
    made = everything(sender_record=None, sender_report=None)
    report = check(replace(made, revocation=only_ours(made)))
    assert report.passed, report.failing_step
    assert "cannot be decided" in step(report, AGAIN).detail


def test_with_the_record_the_holders_revocation_data_must_be_there():
    made = everything()
    report = check(replace(made, revocation=only_ours(made)))
    assert report.verdict is Verdict.INDETERMINATE
    assert report.sub_indication is SubIndication.TRY_LATER
    assert report.failing_step.name == AGAIN


def test_leaving_out_the_record_does_not_save_a_broken_signature():
    spoiled = original().replace(b"borcunuz", b"borcumuz")
    assert spoiled != original()
    report = check(about_holder(ayse(), spoiled, sender_record=None))
    assert report.verdict is Verdict.FAILED
    assert report.sub_indication is SubIndication.HASH_FAILURE


# ------------------------------------------------------------------- what must not pass


@pytest.mark.parametrize("record", [True, False], ids=["record", "evidence-10"])
def test_revoked_before_the_stamp_fails(record):
    made = revoked(-10)
    report = check(made if record else replace(made, sender_record=None))
    assert report.verdict is Verdict.FAILED
    assert report.sub_indication is SubIndication.REVOKED
    assert report.failing_step.name == AGAIN


def test_expired_before_the_stamp_fails():
    soon = shared_pki().issue_user("Süresi Dolmuş", make_tckn(64), not_after=STAMPED - MINUTE)
    report = check(about_holder(soon, signed_message(soon), holder_at=STAMPED - 2 * MINUTE))
    assert not report.passed
    assert report.failing_step.name == AGAIN


def test_a_changed_original_fails():
    report = check(about_holder(ayse(), original().replace(b"borcunuz", b"borcumuz")))
    assert report.sub_indication is SubIndication.HASH_FAILURE


def test_a_certificate_that_is_not_qualified_fails():
    plain = shared_pki().issue_user("Nitelikli Değil", make_tckn(65), qualified=False)
    report = check(about_holder(plain, signed_message(plain)))
    assert report.sub_indication is SubIndication.CHAIN_CONSTRAINTS_FAILURE


def test_the_transaction_certificate_never_passes_as_a_holder():
    issued = shared_pki().transactions["hs91.kep.tr"]
    assert not check(about_holder(issued, signed_message(issued))).passed


def test_a_record_of_another_signature_fails():
    other = sender_record(sender_signature(signed_message(mehmet())))
    with pytest.raises(Exception, match="something else"):
        check(everything(sender_record=other))


def test_a_record_whose_authority_nobody_trusts_leaves_the_time_unproven():
    strange = replace(
        everything(), sender_record=encode_record((), asyncio.run(stranger().stamp(leaf_of(original()))))
    )
    report = check(strange)
    assert not report.passed
    assert report.failing_step.name == TIME


def stranger() -> LocalTimestamper:
    from tests.support.pki import make_pki  # noqa: PLC0415 - costs a second where it is needed

    return LocalTimestamper(tsa=make_pki().tsa)


def leaf_of(message: bytes) -> bytes:
    return sha256(sender_signature(message)).digest()


@pytest.mark.parametrize(("minutes", "passes"), [(-30, False), (25, True)])
def test_an_authority_revoked_before_it_stamped_the_signature_proves_nothing(minutes, passes):
    pki = shared_pki()
    tsa = pki.issue_tsa()
    token = asyncio.run(LocalTimestamper(tsa=tsa).stamp(leaf_of(original())))
    pki.revoke(tsa.serial, STAMPED + minutes * MINUTE)
    made = everything(sender_record=encode_record((), token))
    files = {file.name: file for file in (*made.revocation, *revocation_files([tsa]))}
    report = check(replace(made, revocation=list(files.values())))
    assert report.passed is passes, report.failing_step
    if not passes:
        assert report.sub_indication is SubIndication.REVOKED


def test_whoever_stamped_the_signature_needs_revocation_data():
    tsa = shared_pki().issue_tsa()
    token = asyncio.run(LocalTimestamper(tsa=tsa).stamp(leaf_of(original())))
    report = check(everything(sender_record=encode_record((), token)))
    assert report.verdict is Verdict.INDETERMINATE
    assert report.failing_step.name == "revocation"


def test_an_ocsp_answer_of_another_holder_does_not_help():
    made = everything()
    about = revocation_name(certificate_facts(ayse().certificate).sha256, RevocationSource.OCSP)
    files = [
        replace(file, content=revocation_files([mehmet()])[0].content)
        if file.name == f"gonderici-{about}"
        else file
        for file in made.revocation
    ]
    assert check(replace(made, revocation=files)).sub_indication is SubIndication.TRY_LATER


def test_unsigned_text_put_around_the_signature_fails():
    signature = sender_signature(original())
    message = detached_around(signature, entity=b"Content-Type: text/plain\r\n\r\nBaska\r\n")
    assert check(about_holder(ayse(), message)).sub_indication is SubIndication.HASH_FAILURE


# ------------------------------------------------------------------- producers that sign other line ends


def with_final_line_end() -> bytes:
    """Return a message whose producer signed one line end more than it sent."""
    issued, entity = ayse(), b"Content-Type: text/plain\r\n\r\nMetin"
    signer = CmsSigner(issued.certificate, issued.chain)
    draft = signer.to_be_signed(sha256(entity + b"\r\n").digest(), NOW)
    return detached_around(signer.assemble(draft, raw_sign(issued, draft.digest)), entity=entity)


def test_only_exact_octets_are_shown_to_common_tools():
    for message, exact in (
        (original(), True), (opaque_message(ayse()), True), (with_final_line_end(), False),
        (original().replace(b"borcunuz", b"borcumuz"), False), (b"Subject: x\r\n\r\n", False),
    ):  # fmt: skip
        assert is_exact(BytesSource(message), scan(BytesSource(message))) is exact


def test_a_bundle_of_such_a_message_passes_and_its_text_does_not_ask_openssl():
    made = about_holder(ayse(), with_final_line_end(), sender_exact=False)
    report = check(made)
    assert report.passed, report.failing_step
    facts = ReadmeFacts("x@y", sender_record=True, sender_exact=False)
    assert "-in ileti/original.eml" not in commands(readme(facts))
    assert "-in ileti/original.eml" in commands(readme(replace(facts, sender_exact=True)))
