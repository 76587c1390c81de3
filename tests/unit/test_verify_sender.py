"""A sender's signature checked later, from data at hand alone: messages and bare signatures."""

import asyncio
from datetime import timedelta
from functools import cache
from hashlib import sha256

import pytest

from evidence.cms.signed_data import CmsSigner
from evidence.mail.mime import scan
from evidence.nes.policy import NesPolicy
from evidence.ports import BytesSource
from evidence.report import SubIndication, Verdict
from evidence.stamps.ers import encode_record
from evidence.stamps.messages import granted
from evidence.verify.at_hand import AtHand, gathered
from evidence.verify.sender import LaterSetting, check_message, check_signature
from evidence.verify.telling import described, sentences_of
from kephs.testpki.issued import Issued
from kephs.testpki.profiles import make_tckn
from tests.support.bundles import revocation_files, sender_signature
from tests.support.nes_zoo import NOW as ZOO_NOW
from tests.support.nes_zoo import make
from tests.support.nes_zoo_valid import VALID
from tests.support.pki import NOW, ayse, make_pki, shared_pki
from tests.support.sealed import LATER, STAMPED, LocalTimestamper, trust
from tests.support.signers import raw_sign, signed_message

MINUTE = timedelta(minutes=1)
CONTENT = b"Sozlesme metni\n"


def bare(issued: Issued, content: bytes = CONTENT, *, inside: bool = False, chain: bool = True) -> bytes:
    """Return a bare signature of a file."""
    signer = CmsSigner(issued.certificate, issued.chain if chain else ())
    draft = signer.to_be_signed(sha256(content).digest(), NOW)
    return signer.assemble(draft, raw_sign(issued, draft.digest), content=content if inside else None)


def answers(issued: Issued, at=LATER) -> list[tuple[str, bytes]]:
    return [(file.name, file.content) for file in revocation_files([issued], at=at)]


def stamp(data: bytes, at=STAMPED, tsa: Issued | None = None) -> bytes:
    return asyncio.run(LocalTimestamper(at, tsa).stamp(sha256(data).digest()))


def setting(*contents: tuple[str, bytes], at=LATER, **changes) -> LaterSetting:
    return LaterSetting(trust(), at, data=gathered(contents), **changes)


def of_message(message: bytes, how: LaterSetting):
    return check_message(BytesSource(message), scan(BytesSource(message)), how)


@cache
def revoked(minutes: int) -> Issued:
    """Return a holder whose certificate was revoked so long after `STAMPED`."""
    issued = shared_pki().issue_user("Geri Alınmış", make_tckn(81))
    shared_pki().revoke(issued.serial, STAMPED + minutes * MINUTE)
    return issued


# ------------------------------------------------------------------- shapes


@pytest.mark.parametrize("inside", [False, True])
def test_a_bare_signature_passes_with_its_content_beside_or_inside(inside):
    der = bare(ayse(), inside=inside)
    made = check_signature(der, None if inside else BytesSource(CONTENT), setting(*answers(ayse())))
    assert made.report.passed, made.report.failing_step
    assert made.signer.tckn
    assert made.profile == "P1"


@pytest.mark.parametrize("inside", [False, True])
def test_another_content_fails(inside):
    der = bare(ayse(), inside=inside)
    if inside:
        der = der.replace(b"Sozlesme", b"sozlesme")
    content = None if inside else BytesSource(CONTENT.replace(b"S", b"s"))
    made = check_signature(der, content, setting(*answers(ayse())))
    assert made.verdict is Verdict.FAILED
    assert made.sub_indication is SubIndication.HASH_FAILURE


def test_without_its_content_a_detached_signature_fails():
    assert not check_signature(bare(ayse()), None, setting(*answers(ayse()))).report.passed


def test_a_message_is_checked_with_what_is_shown():
    made = of_message(signed_message(ayse()), setting(*answers(ayse())))
    assert made.report.passed, made.report.failing_step
    assert "6" in {step.number for step in made.steps}


def test_without_revocation_data_nobody_can_know():
    made = check_signature(bare(ayse()), BytesSource(CONTENT), setting())
    assert made.sub_indication is SubIndication.TRY_LATER


def test_certificates_at_hand_complete_a_path_and_are_never_trusted():
    der = bare(ayse(), chain=False)
    content = BytesSource(CONTENT)
    assert (
        check_signature(der, content, setting(*answers(ayse()))).sub_indication
        is SubIndication.NO_CERTIFICATE_CHAIN_FOUND
    )
    beside = ("ca", ayse().chain[0])
    assert check_signature(der, content, setting(beside, *answers(ayse()))).report.passed
    strange = make_pki()
    other = strange.issue_user("Yabancı", make_tckn(82))
    every = [("r", strange.root), *(("c", one) for one in other.chain)]
    made = check_signature(bare(other), content, setting(*every))
    assert made.sub_indication is SubIndication.NO_CERTIFICATE_CHAIN_FOUND


def test_seals_count_where_the_caller_says_so():
    seal = shared_pki().issue_user("Örnek Mühür", make_tckn(83), seal=True)
    der, content = bare(seal), BytesSource(CONTENT)
    assert not check_signature(der, content, setting(*answers(seal))).report.passed
    allowed = setting(*answers(seal), policy=NesPolicy(allow_seals=True))
    assert check_signature(der, content, allowed).report.passed


# ------------------------------------------------------------------- time


@pytest.mark.parametrize("form", ["record", "token", "response", "proven"])
@pytest.mark.parametrize(("minutes", "passes"), [(-10, False), (10, True)])
def test_with_a_proof_of_time_revocation_is_judged_at_that_time(form, minutes, passes):
    issued = revoked(minutes)
    der = bare(issued)
    token = stamp(der)
    proof = {"record": encode_record((), token), "token": token, "response": granted(token)}.get(form, b"")
    proven = STAMPED if form == "proven" else None
    how = setting(("proof", proof), *answers(issued), proven=proven)
    made = check_signature(der, BytesSource(CONTENT), how)
    assert made.report.passed is passes, made.report.failing_step
    assert made.best_time == STAMPED
    if not passes:
        assert made.sub_indication is SubIndication.REVOKED


def test_without_a_proof_of_time_a_revocation_leaves_everything_open():
    issued = revoked(10)
    made = check_signature(bare(issued), BytesSource(CONTENT), setting(*answers(issued)))
    assert made.sub_indication is SubIndication.REVOKED_NO_POE
    assert made.verdict is Verdict.INDETERMINATE
    assert made.best_time is None


def test_expired_today_is_undecided_without_a_proof_of_time_and_passes_with_one():
    soon = shared_pki().issue_user("Süresi Dolmuş", make_tckn(84), not_after=STAMPED + MINUTE)
    der, content = bare(soon), BytesSource(CONTENT)
    kept = answers(soon, at=STAMPED)
    made = check_signature(der, content, setting(*kept))
    assert made.sub_indication is SubIndication.OUT_OF_BOUNDS_NO_POE
    made = check_signature(der, content, setting(("imza.ers", encode_record((), stamp(der))), *kept))
    assert made.report.passed, made.report.failing_step


def test_a_message_has_its_record_beside_it():
    issued = revoked(10)
    message = signed_message(issued)
    record = encode_record((), stamp(sender_signature(message)))
    assert not of_message(message, setting(*answers(issued))).report.passed
    made = of_message(message, setting(("imza.ers", record), *answers(issued)))
    assert made.report.passed, made.report.failing_step
    first = made.steps[0]
    assert (first.number, first.ok, first.code) == ("0.1", True, "proof-of-time")
    assert first.detail.startswith("imza.ers: 2026-11-21T09:07:00")


def test_a_proof_of_something_else_is_not_even_mentioned():
    der = bare(ayse())
    strange = [
        ("a.ers", encode_record((), stamp(b"x"))),
        ("b.tsr", granted(stamp(b"y"))),
        ("c", b"0\x82\x01"),
    ]
    made = check_signature(der, BytesSource(CONTENT), setting(*strange, *answers(ayse())))
    assert made.report.passed
    assert not [step for step in made.steps if step.number.startswith("0")]
    assert made.best_time is None


@pytest.mark.parametrize("fault", ["unknown-authority", "authority-revoked", "future"])
def test_a_proof_that_does_not_hold_is_a_note_and_proves_nothing(fault):
    issued = revoked(10)
    der = bare(issued)
    kept = answers(issued)
    tsa = shared_pki().issue_tsa()
    if fault == "unknown-authority":
        token = stamp(der, tsa=make_pki().tsa)
    elif fault == "authority-revoked":
        shared_pki().revoke(tsa.serial, STAMPED - MINUTE)
        token = stamp(der, tsa=tsa)
        kept += answers(tsa)
    else:
        token = stamp(der, at=LATER + timedelta(hours=1))
    made = check_signature(der, BytesSource(CONTENT), setting(("p", granted(token)), *kept))
    assert made.sub_indication is SubIndication.REVOKED_NO_POE
    assert (made.steps[0].ok, made.steps[0].code) == (None, "proof-of-time-unusable")


def test_of_several_proofs_the_earliest_counts():
    der = bare(ayse())
    proofs = [("1", stamp(der, at=STAMPED + MINUTE)), ("2", encode_record((), stamp(der)))]
    made = check_signature(der, BytesSource(CONTENT), setting(*proofs, *answers(ayse())))
    assert made.best_time == STAMPED
    assert [step.number for step in made.steps[:2]] == ["0.1", "0.2"]


# ------------------------------------------------------------------- telling


def test_every_finding_is_told_in_two_languages():
    issued = revoked(10)
    made = check_signature(bare(issued), BytesSource(CONTENT), setting(("p", stamp(b"x")), *answers(issued)))
    for step in made.steps:
        if step.ok is not True:
            assert step.code, step
            assert all(sentences_of(step)), step
    plain = described(made.report, all_steps=True)
    told = [step for step in plain["steps"] if step["ok"] is False]
    assert told
    assert all(step["turkish"] and step["english"] and step["code"] for step in told)


@pytest.mark.parametrize(
    "code",
    [
        "proof-of-time", "proof-of-time-unusable", "not-readable", "header-differs", "header-twice",
        "shown-as-signed",
    ],
)  # fmt: skip
def test_findings_beside_the_verifiers_own_have_their_sentences(code):
    from evidence.report import Step  # noqa: PLC0415 - one use

    turkish, english = sentences_of(Step("1", "x", ok=None, code=code))
    assert turkish != english
    assert turkish.endswith(".")
    assert english.endswith(".")


def test_the_report_names_what_it_rests_on_and_where_that_came_from():
    made = check_signature(bare(ayse()), BytesSource(CONTENT), setting(*answers(ayse())))
    material = made.report.facts["material"]
    assert {one["sort"] for one in material} == {"certificate", "ocsp"}
    assert {one["from"] for one in material if one["sort"] == "ocsp"} == {name for name, _ in answers(ayse())}
    assert "trust" in {one["from"] for one in material}


def test_no_data_at_hand_is_the_default():
    assert LaterSetting(trust(), LATER).data == AtHand()


# ------------------------------------------------------------------- signatures of others, with all they need


@pytest.mark.parametrize("years", [0, 2, 6])
@pytest.mark.parametrize("name", ["p3", "p4", "p4-opaque", "archive-v3", "archive-v2"])
def test_a_signature_that_brings_everything_needs_nothing_at_hand(name, years):
    specimen = make(VALID[name])
    at = ZOO_NOW + timedelta(hours=1, days=365 * years)
    how = LaterSetting(specimen.trust, at, specimen.policy)
    for made in (
        of_message(specimen.message, how),
        check_signature(
            specimen.shop.cms, None if "opaque" in name else BytesSource(specimen.shop.content), how
        ),
    ):
        assert made.report.passed, made.report.failing_step
        assert made.best_time is not None
        assert made.profile in {"P3", "P4"}


@pytest.mark.parametrize("years", [0, 2, 6])
def test_a_stamped_signature_needs_only_what_its_issuers_said_then(years):
    specimen = make(VALID["p2"])
    at = ZOO_NOW + timedelta(hours=1, days=365 * years)
    how = LaterSetting(specimen.trust, at, specimen.policy)
    assert of_message(specimen.message, how).sub_indication is SubIndication.TRY_LATER
    said = [
        (name, specimen.shop.answer(name, ZOO_NOW).response())
        for name in specimen.shop.entities
        if "root" not in name
    ]
    made = of_message(specimen.message, LaterSetting(specimen.trust, at, specimen.policy, gathered(said)))
    assert made.report.passed, made.report.failing_step
