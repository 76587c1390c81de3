"""Valid variants of senders' signatures: what must pass although naive verifiers stumble over it."""

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyasn1.codec.der.decoder import decode
from pyasn1.codec.der.encoder import encode
from pyasn1_alt_modules import rfc5126

from evidence.cms.signed_data import parse_signed_data
from evidence.nes.policy import Grace
from evidence.report import Verdict
from tests.support import nes_zoo_ades as ades
from tests.support.nes_zoo import CLAIMED, DAY, MINUTE, STAMPED, Plan, SignerPlan, make
from tests.support.nes_zoo_pki import key_of
from tests.support.nes_zoo_twins import one
from tests.support.nes_zoo_valid import VALID
from tests.support.pki import AYSE_TCKN, MEHMET_TCKN, NOW


@pytest.mark.parametrize("name", VALID)
def test_a_valid_variant_passes(name):
    report = make(VALID[name]).judge()
    assert report.verdict is Verdict.PASSED, report.report.failing_step
    assert all(step.ok is not False for step in report.steps)


def test_there_are_enough_variants():
    assert len(VALID) >= 25


@pytest.mark.parametrize("level", ["P1", "P2", "P3", "P4"])
def test_the_profile_is_reported(level):
    assert make(Plan(signers=one(level))).judge().profile == level


def test_the_earliest_proven_time_is_reported():
    assert make(Plan()).judge().best_time is None
    assert make(Plan(signers=one("P2"))).judge().best_time == NOW + STAMPED
    stamps = (STAMPED + MINUTE, STAMPED)
    assert make(Plan(signers=one(stamps=stamps))).judge().best_time == NOW + STAMPED
    proven = Plan(at=DAY, later=True, proven=MINUTE)
    assert make(proven).judge().best_time == NOW + MINUTE


def test_both_parallel_signers_are_named_and_counter_signers_are_not():
    report = make(VALID["parallel"]).judge()
    assert sorted(signer.tckn for signer in report.signers) == sorted((AYSE_TCKN, MEHMET_TCKN))
    report = make(VALID["serial-two"]).judge()
    assert [signer.tckn for signer in report.signers] == [AYSE_TCKN]


def test_where_one_signer_is_required_the_others_are_only_reported():
    plan = Plan(signers=(SignerPlan(), SignerPlan(key="rsa2048")), spoil="second-no-btk")
    assert make(plan).judge().sub_indication == "CHAIN_CONSTRAINTS_FAILURE"
    for who, verdict in (("s1", Verdict.PASSED), ("s2", Verdict.INDETERMINATE)):
        wanted = sha256(make(plan).shop.entities[who].der).digest()
        report = make(replace(plan, policy=(("required_signer", wanted),))).judge()
        assert report.verdict is verdict, who
    absent = replace(plan, spoil="", policy=(("required_signer", bytes(32)),))
    assert make(absent).judge().verdict is not Verdict.PASSED


def test_a_seal_names_no_person():
    report = make(VALID["seal-where-allowed"]).judge()
    assert (report.signer.tckn, report.signer.seal) == (None, True)
    report = make(VALID["p256"]).judge()
    assert (report.signer.tckn, report.signer.seal) == (AYSE_TCKN, False)


def test_the_grace_of_p2_and_p3_is_a_note_and_waits_where_told():
    for level in ("P2", "P3"):
        notes = [step for step in make(Plan(signers=one(level))).judge().steps if step.ok is None]
        assert [step for step in notes if step.code == "grace"], level
        held = make(Plan(signers=one(level), policy=(("grace", Grace.HOLD),))).judge()
        assert held.sub_indication == "TRY_LATER", level
    notes = [step.code for step in make(Plan(signers=one("P4"))).judge().steps if step.ok is None]
    assert "grace" not in notes


def test_the_note_on_grace_goes_with_a_list_a_day_younger_than_the_stamp():
    plan = Plan(signers=one("P3"), at=2 * DAY, later=True, network="crl")
    for one_plan in (plan, VALID["p3-complete-after-its-grace"]):
        report = make(one_plan).judge()
        assert report.verdict is Verdict.PASSED, report.report.failing_step
        assert not [step for step in report.steps if step.code == "grace"]


def test_an_archive_stamp_without_index_is_noted_and_proves_nothing():
    report = make(VALID["archive-without-index-is-noted"]).judge()
    assert [step.code for step in report.steps if step.ok is None] == ["archive-index-unknown"]
    assert report.best_time == NOW + STAMPED


def test_what_is_embedded_is_handed_out():
    prepared = make(Plan(signers=one("P4"))).prepared()
    assert len(prepared.embedded.ocsp) == 1
    assert len(prepared.embedded.crls) >= 3  # the authority's, and two for the TSA
    assert len(prepared.signature_values) == 1


def test_keys_are_made_once():
    assert key_of("s1", "p256") is key_of("s1", "p256")
    assert timedelta(0) > CLAIMED


# ------------------------------------------------------------------ the zoo's own octets, read by a stranger


STRUCTURES = {
    ades.POLICY_ID: rfc5126.SignaturePolicy,
    ades.CERT_REFS: rfc5126.CompleteCertificateRefs,
    ades.REVOCATION_REFS: rfc5126.CompleteRevocationRefs,
    ades.CERT_VALUES: rfc5126.CertificateValues,
    ades.REVOCATION_VALUES: rfc5126.RevocationValues,
}


@pytest.mark.parametrize("kind", STRUCTURES)
def test_the_zoo_writes_the_attributes_as_rfc_5126_defines_them(kind):
    for plan in (VALID["p3"], VALID["p4"]):
        (signer,) = parse_signed_data(make(plan).shop.cms).signers
        attributes = {one.oid: one.values for one in (*signer.attributes, *signer.unsigned)}
        (value,) = attributes[kind]
        read, rest = decode(value.whole, asn1Spec=STRUCTURES[kind]())
        assert (rest, encode(read)) == (b"", value.whole)


# ------------------------------------------------------------------ any combination


@st.composite
def signers(draw, *, depth=1):
    key = draw(st.sampled_from(["p256", "p384", "p521", "rsa2048", "rsa3072"]))
    return SignerPlan(
        key=key,
        digest=draw(st.sampled_from(["sha256", "sha384", "sha512"])),
        pss=key.startswith("rsa") and draw(st.booleans()),
        sid=draw(st.sampled_from(["issuer", "key"])),
        ess=draw(st.sampled_from(["sha256", "sha384", "sha512"])),
        ess_issuer=draw(st.booleans()),
        time=draw(st.sampled_from(["utc", "generalized", "fraction"])),
        level=draw(st.sampled_from(["P1", "P2", "P3", "P4"])) if depth else "P1",
        tsa_material=draw(st.sampled_from(["token", "unsigned", "values"])),
        archive=draw(st.sampled_from(["", "v3", "v3-old-index"])) if depth else "",
        counters=tuple(draw(st.lists(signers(depth=0), max_size=2))) if depth else (),
    )


@given(
    who=st.lists(signers(), min_size=1, max_size=2),
    form=st.sampled_from(["detached", "opaque"]),
    authority=st.sampled_from(["p256", "p384", "p521", "pss"]),
    later=st.booleans(),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_combination_of_good_things_passes_and_one_flipped_bit_does_not(who, form, authority, later):
    plan = Plan(tuple(who), form=form, authority=authority, later=later, at=3 * DAY if later else 0 * DAY)
    specimen = make(plan)
    report = specimen.judge()
    assert report.verdict is Verdict.PASSED, report.report.failing_step
    assert specimen.judge_file().verdict is Verdict.PASSED
    assert make(replace(plan, spoil="value-altered")).judge().sub_indication == "SIG_CRYPTO_FAILURE"
