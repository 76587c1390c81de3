"""Profiles, moments, several signers and the sentences of the verifier: what the matrix does not ask."""

import ast
import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

import evidence.cms.signed_data
import evidence.nes
from evidence.asn1 import der
from evidence.cms.signed_data import SIGNATURE_POLICY, SIGNATURE_TIME_STAMP
from evidence.nes import concluding, long_term, preparing, signature_stamps
from evidence.nes.policy import DEFAULT_NES_POLICY, Grace, NesPolicy
from evidence.nes.profiles import PROFILES, Profile, read_claim
from evidence.nes.qualified import BTK_RESTRICTIONS, MoneyLimit, money_limit, qualified_steps, restrictions
from evidence.nes.sentences import SENTENCES, sentence
from evidence.nes.verifier import Moment, conclude, prepare_signature
from evidence.ports import BytesSource
from evidence.report import Step, SubIndication, Verdict, held
from evidence.stamps.timestamps import build_request, parse_response
from evidence.x509.algorithms import AlgorithmPolicy
from evidence.x509.certificates import QC_LIMIT, QcStatement, certificate_facts
from evidence.x509.chain import TrustStore
from evidence.x509.revocation import RevocationStatus
from tests.support.nes_zoo import CLAIMED, DAY, MINUTE, STAMPED, Plan, SignerPlan, make
from tests.support.nes_zoo_ades import policy_id
from tests.support.nes_zoo_twins import TWINS, one
from tests.support.pki import NOW, ayse, mehmet, shared_pki
from tests.support.signers import (
    ENTITY,
    attribute,
    detached_around,
    good_attributes,
    signed_data,
    signer_info,
    verified,
)

# ------------------------------------------------------------------ sentences

_MODULES = Path(evidence.nes.__file__).parent
_SOURCES = [*sorted(_MODULES.glob("*.py")), Path(evidence.cms.signed_data.__file__)]
_MAKERS = {"failing": 2, "noted": 2, "_Problem": 0, "_CheckError": 0, "_FormError": 0, "_broken": 0, "_refused": 1,
           "ProfileClaim": 1, "held": 3, "_step": 4}  # fmt: skip
_CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def codes():
    """Return every code that the sources write as a literal, and those made of a stem."""
    found = {stem for _, stem in _stems()}
    for path in _SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            found |= set(_literals(node))
    tables = (preparing._PATH_CODES, signature_stamps._CODES)
    return found | {code for table in tables for code in table.values()}


def _literals(node):
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        at = _MAKERS.get(name)
        given = [one.value for one in node.keywords if one.arg == "code"]
        if at is not None and len(node.args) > at:
            given.append(node.args[at])
        for value in given:
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value:
                assert _CODE.fullmatch(value.value), value.value
                yield value.value
    if isinstance(node, ast.Assign) and isinstance(
        node.value, ast.Tuple
    ):  # code, sub = "...", SubIndication.X
        names = [one.id for one in getattr(node.targets[0], "elts", []) if isinstance(one, ast.Name)]
        if names and "code" in names and isinstance(node.value.elts[names.index("code")], ast.Constant):
            yield node.value.elts[names.index("code")].value


def _stems():
    yield from (
        (code, f"{code}-{end}") for code in long_term._CODES for end in ("missing", "malformed", "wrong")
    )
    yield from (("only", f"{code}-missing") for code in ("signing-time", "content-type", "digest", "ess"))


def test_every_code_has_its_turkish_and_english_sentence():
    found = codes()
    assert len(found) > 90
    assert found - set(SENTENCES) == set()


def test_no_sentence_is_told_twice_or_empty_and_both_languages_differ():
    assert len(set(SENTENCES.values())) == len(SENTENCES)
    for turkish, english in SENTENCES.values():
        assert turkish.endswith(".")
        assert english.endswith(".")
        assert turkish != english


def test_a_step_without_a_code_gets_a_general_sentence():
    assert sentence(held("1", "x"))[1] == "This check holds."
    assert sentence(Step("1", "x", ok=None))[1] == "This check could not be made."
    assert sentence(Step("1", "x", ok=False))[1] == "This check fails."
    later = Step("1", "x", ok=False, sub_indication=SubIndication.TRY_LATER)
    assert "later" in sentence(later)[1]


def test_a_failing_step_always_names_its_code():
    for name in ("TT", "P4", "nested"):
        made = make(TWINS[name])
        prepared = made.prepared()
        for step in conclude(prepared, {}, made.at).steps:
            assert step.ok is not False or step.code in SENTENCES, step


# ------------------------------------------------------------------ policies as data


@pytest.mark.parametrize("level", ["P2", "P3", "P4"])
def test_each_policy_of_the_table_is_known_by_oid_hash_and_address(level):
    claim = read_claim(der.parse(policy_id(level).der(), max_size=1000), PROFILES)
    assert (claim.row.profile, claim.code) == (Profile(level), "")


def test_another_table_of_policies_decides_otherwise():
    (row,) = [row for row in PROFILES if row.profile is Profile.P4]
    node = der.parse(policy_id("P4").der(), max_size=1000)
    other = replace(row, digests=(("sha256", bytes(32)),))
    assert read_claim(node, (other,)).code == "policy-hash"
    assert read_claim(node, ()).sub_indication is SubIndication.SIGNATURE_POLICY_NOT_AVAILABLE


def test_two_addresses_in_one_policy_are_malformed():
    good = policy_id("P2")
    uri = der.seq(der.oid("1.2.840.113549.1.9.16.5.1"), der.ia5(good.uri))
    hashed = der.seq(der.seq(der.oid("2.16.840.1.101.3.4.2.1")), der.octets(good.value))
    twice = der.seq(der.oid(good.identifier), hashed, der.seq(uri, uri))
    assert read_claim(der.parse(twice, max_size=1000), PROFILES).code == "policy-malformed"


def test_the_profile_of_an_unknown_policy_is_none():
    made = make(
        Plan(
            signers=one(
                "P2",
            ),
            spoil="policy-unknown",
        )
    )
    assert made.judge().profile is None


# ------------------------------------------------------------------ times at the ends of the calendar


def with_attribute(name, value, *, unsigned=b""):
    attributes = good_attributes(ayse(), sha256(ENTITY).digest()) | {name: value}
    info = signer_info(ayse(), list(attributes.values()), unsigned=unsigned)
    return detached_around(signed_data([info], [ayse().certificate]))


@pytest.mark.parametrize(
    ("text", "verdict"), [(b"00010101000000Z", Verdict.PASSED), (b"99991231235959Z", Verdict.INDETERMINATE)]
)
def test_a_claimed_time_at_an_end_of_the_calendar_is_judged_without_overflow(text, verdict):
    claimed = attribute("1.2.840.113549.1.9.5", der.tlv(der.GENERALIZED_TIME, text))
    assert verified(with_attribute("time", claimed)).verdict is verdict
    token = parse_response(shared_pki().timestamp_reply(build_request(bytes(32), 1), NOW))
    stamps = der.tlv(0xA1, attribute(SIGNATURE_TIME_STAMP, token))
    assert verified(with_attribute("time", claimed, unsigned=stamps)).verdict is not Verdict.PASSED


@pytest.mark.parametrize("text", [b"00010101000000Z", b"99991231235959Z"])
@pytest.mark.parametrize("name", ["T", "P3", "A", "later-stamped"])
def test_a_token_of_an_end_of_the_calendar_is_judged_without_overflow(name, text):
    made = make(TWINS[name])
    stamped = der.generalized_time(NOW + STAMPED)
    cms = made.shop.cms.replace(stamped, der.tlv(der.GENERALIZED_TIME, text))
    assert cms != made.shop.cms
    moment = Moment.LATER if made.plan.later else Moment.RECEPTION
    content = BytesSource(made.shop.content)
    prepared = prepare_signature(cms, content, trust=made.trust, at=made.at, moment=moment)
    assert conclude(prepared, {}, made.at).verdict is not Verdict.PASSED


# ------------------------------------------------------------------ who must sign


def parallel(*signers):
    infos = [
        signer_info(who, list(good_attributes(who, sha256(ENTITY).digest()).values())) for who in signers
    ]
    return detached_around(
        signed_data(infos, [der_ for who in signers for der_ in (who.certificate, *who.chain)])
    )


def test_where_one_signer_counts_the_others_are_reported_only():
    good, bad = ayse(), shared_pki().issue_user("Can", "10000000146", btk=False)
    message = parallel(good, bad)
    assert verified(message).verdict is Verdict.INDETERMINATE
    wanted = NesPolicy(required_signer=sha256(good.certificate).digest())
    report = verified(message, policy=wanted)
    assert report.verdict is Verdict.PASSED
    assert "not-under-law-5070" in [step.code for step in report.steps if step.ok is None]
    other = NesPolicy(required_signer=sha256(bad.certificate).digest())
    assert verified(message, policy=other).sub_indication is SubIndication.CHAIN_CONSTRAINTS_FAILURE


def test_a_signer_that_counts_and_did_not_sign_is_missed():
    wanted = NesPolicy(required_signer=sha256(mehmet().certificate).digest())
    report = verified(parallel(ayse()), policy=wanted)
    assert (report.verdict, report.report.failing_step.code) == (
        Verdict.INDETERMINATE,
        "required-signer-missing",
    )


# ------------------------------------------------------------------ what is recorded of a certificate


def with_statements(*statements):
    facts = certificate_facts(ayse().certificate)
    listed = (*facts.extensions.qc_statements, *statements)
    return replace(facts, sha256=sha256(repr(listed).encode()).digest(),
                   extensions=replace(facts.extensions, qc_statements=listed))  # fmt: skip


PRINTABLE_TRY = der.tlv(der.PRINTABLE_STRING, b"TRY")


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (der.seq(PRINTABLE_TRY, der.integer(5), der.integer(3)), MoneyLimit("TRY", 5, 3)),
        (der.seq(der.integer(949), der.integer(1), der.integer(0)), MoneyLimit("949", 1, 0)),
        (der.seq(PRINTABLE_TRY), None),
        (b"", None),
    ],
)
def test_the_money_limit_is_recorded_where_it_can_be_read(info, expected):
    facts = with_statements(QcStatement(QC_LIMIT, info))
    assert money_limit(facts) == expected
    assert concluding._about(ayse().certificate)["money_limit"] is None


@pytest.mark.parametrize("oid", BTK_RESTRICTIONS)
def test_a_restriction_of_use_is_noted_and_refuses_nothing(oid):
    facts = with_statements(QcStatement(oid))
    assert restrictions(facts) == (oid,)
    step = qualified_steps(facts, DEFAULT_NES_POLICY, number="3.1", first=8)[0]
    assert (step.ok, step.code) == (True, "usage-restricted")


def test_the_report_tells_profile_best_time_moment_and_policies():
    facts = make(TWINS["P4"]).judge().report.facts
    assert facts["profile"] == "P4"
    assert facts["best_time"] == (NOW + STAMPED).isoformat()
    assert facts["moment"] == "reception"
    assert facts["signers"][0]["policies"]
    assert facts["signers"][0]["money_limit"] is None


# ------------------------------------------------------------------ bare files


def test_a_bare_signature_is_judged_as_the_message_is():
    for name in ("detached", "opaque", "P4", "A"):
        made = make(TWINS[name])
        assert made.judge_file().verdict is made.judge().verdict is Verdict.PASSED


def test_a_bare_signature_wants_its_content_exactly_once():
    made = make(TWINS["opaque"])
    twice = prepare_signature(made.shop.cms, BytesSource(made.shop.content), trust=made.trust, at=made.at)
    assert twice.steps[-1].code == "content-not-once"
    made = make(TWINS["detached"])
    never = prepare_signature(made.shop.cms, None, trust=made.trust, at=made.at)
    assert never.steps[-1].code == "content-not-once"


def test_what_the_signature_carries_is_handed_on():
    prepared = make(TWINS["P4"]).prepared()
    assert prepared.embedded.certificates
    assert prepared.embedded.ocsp
    assert prepared.embedded.crls
    assert prepared.profile is Profile.P4
    assert prepared.best_time == NOW + STAMPED
    assert len(prepared.signature_values) == 1
    bare = make(TWINS["detached"]).prepared()
    assert (bare.embedded.certificates, bare.best_time, bare.profile) == ((), None, Profile.P1)


# ------------------------------------------------------------------ moments


def later(proven, answers_change, *, at=DAY):
    """Judge a basic signature later, with what the authority says of the holder changed."""
    made = make(Plan(at=at, later=True, proven=proven))
    prepared = made.prepared()
    answers = made.answers(prepared)
    holder = prepared.signers[0].certificate_sha256
    answers[holder] = replace(answers[holder], **answers_change)
    report = conclude(prepared, answers, made.at)
    return report.verdict, report.sub_indication


REVOKED = {"status": RevocationStatus.REVOKED}


def test_later_a_revocation_counts_by_its_date_where_the_time_is_proven():
    after, before = NOW + 2 * MINUTE, NOW - MINUTE
    assert later(MINUTE, {**REVOKED, "revoked_at": after}) == (Verdict.PASSED, None)
    assert later(MINUTE, {**REVOKED, "revoked_at": before}) == (Verdict.FAILED, SubIndication.REVOKED)
    assert later(MINUTE, {**REVOKED, "revoked_at": None}) == (Verdict.FAILED, SubIndication.REVOKED)


def test_later_without_a_proven_time_any_revocation_counts_without_certainty():
    for moment in (NOW + 2 * MINUTE, NOW - MINUTE):
        assert later(None, {**REVOKED, "revoked_at": moment}) == (
            Verdict.INDETERMINATE, SubIndication.REVOKED_NO_POE,
        )  # fmt: skip


def test_the_claimed_time_proves_nothing():
    revoked = NOW + CLAIMED + MINUTE
    assert later(None, {**REVOKED, "revoked_at": revoked})[0] is not Verdict.PASSED


def test_later_an_answer_about_the_proven_time_is_enough_and_one_before_it_is_not():
    old = {"this_update": NOW - DAY, "next_update": NOW - DAY + MINUTE}
    assert later(MINUTE, old) == (Verdict.INDETERMINATE, SubIndication.TRY_LATER)
    then = {"this_update": NOW, "next_update": NOW + 2 * MINUTE}
    assert later(MINUTE, then) == (Verdict.PASSED, None)
    assert later(None, then) == (Verdict.INDETERMINATE, SubIndication.TRY_LATER)


def test_an_algorithm_past_its_end_needs_a_proof_of_time():
    ended = AlgorithmPolicy(enforce_end=True)
    policy = (("algorithms", ended),)
    for proven, verdict, code in (
        (None, Verdict.INDETERMINATE, "algorithm-ended"),
        (MINUTE, Verdict.PASSED, ""),
    ):
        made = make(Plan(at=600 * DAY, later=True, proven=proven, policy=policy, asked=2 * MINUTE))
        report = made.judge()
        step = next(step for step in report.steps if step.number == "3.1.5")
        assert step.code == code
        if proven is None:
            assert step.sub_indication is SubIndication.CRYPTO_CONSTRAINTS_FAILURE_NO_POE
        assert report.verdict is verdict


# ------------------------------------------------------------------ P4, grace and embedded answers


def test_an_embedded_answer_serves_where_the_network_is_silent():
    made = make(TWINS["P4"])
    prepared = made.prepared()
    holder = prepared.signers[0].certificate_sha256
    answers = made.answers(prepared)
    answers[holder] = None
    report = conclude(prepared, answers, made.at)
    assert report.verdict is Verdict.PASSED
    assert report.material.ocsp


def test_a_second_parallel_signer_under_p4_wants_ocsp_too():
    made = make(Plan(signers=(SignerPlan(), SignerPlan(level="P4"))))
    uses = made.prepared().uses
    assert [use.ocsp_only for use in uses if use.role == "signer"] in ([False, True], [True, False])


def test_grace_holds_or_notes():
    made = make(TWINS["P2"])
    prepared = made.prepared()
    answers = made.answers(prepared)
    assert conclude(prepared, answers, made.at).steps[-1].code == "grace"
    held_back = prepared._replace(policy=NesPolicy(grace=Grace.HOLD))
    assert conclude(held_back, answers, made.at).sub_indication is SubIndication.TRY_LATER


# ------------------------------------------------------------------ trust renewed


def test_a_retired_root_ends_remembered_paths_at_once():
    pki = shared_pki()
    trust = TrustStore([pki.root], intermediates=pki.intermediates)
    message = parallel(ayse())
    assert verified(message, trust=trust).verdict is Verdict.PASSED
    trust.renew([])
    assert verified_path(message, trust) is SubIndication.NO_CERTIFICATE_CHAIN_FOUND
    trust.renew([pki.root], pki.intermediates)
    assert verified(message, trust=trust).verdict is Verdict.PASSED


def verified_path(message, trust):
    report = verified(message, trust=trust)
    return next(step.sub_indication for step in report.steps if step.number == "3.1.7")


def test_two_attributes_of_policy_are_refused():
    made = policy_id("P2").der()
    twice = der.seq(der.oid(SIGNATURE_POLICY), der.set_of([made, der.NULL_DER]))
    attributes = [*good_attributes(ayse(), sha256(ENTITY).digest()).values(), twice]
    message = detached_around(signed_data([signer_info(ayse(), attributes)], [ayse().certificate]))
    assert verified(message).report.failing_step.code == "attribute-values"


def test_answers_are_asked_for_every_certificate_of_a_stamp_too():
    prepared = make(TWINS["T"]).prepared()
    roles = [use.role for use in prepared.uses]
    assert roles.count("stamper") == 1
    assert len(prepared.needs) == len(prepared.uses)


# ------------------------------------------------------------------ OCSP responses among the lists (RFC 5940)


def with_crls(cms, entries, *, version):
    """Return a SignedData with these entries in its crls field."""
    kind, holder = der.children(der.parse(cms, max_size=1 << 24))
    members = [node.whole for node in der.children(der.inside(holder))]
    data = der.seq(der.integer(version), *members[1:-1], der.tlv(0xA1, *entries), members[-1])
    return der.seq(kind.whole, der.explicit(0, data))


def ocsp_entry(response):
    return der.tlv(0xA1, der.oid("1.3.6.1.5.5.7.16.2"), response)


def judged_with_crls(entries, *, version, moment=Moment.LATER):
    made = make(TWINS["detached"])
    cms = with_crls(made.shop.cms, entries(made), version=version)
    prepared = prepare_signature(
        cms, BytesSource(made.shop.content), trust=made.trust, at=made.at, moment=moment
    )
    answers = (
        made.answers(make(TWINS["detached"]).prepared()) if not prepared.needs else made.answers(prepared)
    )
    for signer in prepared.signers:
        answers[signer.certificate_sha256] = None
    return conclude(prepared, answers, made.at)


def test_a_response_among_the_lists_serves_where_the_network_is_silent():
    good = judged_with_crls(lambda made: [ocsp_entry(made.shop.answer("s1", made.at).response())], version=5)
    assert good.verdict is Verdict.PASSED
    other = judged_with_crls(lambda made: [ocsp_entry(made.shop.answer("ca", made.at).response())], version=5)
    assert other.sub_indication is SubIndication.TRY_LATER


def test_at_reception_an_unstamped_signature_brings_no_good_about_its_own_certificate():
    """A revoked holder could bring the answer of yesterday: where nobody answers, the message waits."""
    report = judged_with_crls(
        lambda made: [ocsp_entry(made.shop.answer("s1", made.at).response())],
        version=5,
        moment=Moment.RECEPTION,
    )
    assert report.sub_indication is SubIndication.TRY_LATER


def test_entries_of_no_known_kind_help_nothing_and_harm_nothing():
    unknown = der.tlv(0xA1, der.oid("1.2.3.4"), der.NULL_DER)
    cut = der.tlv(0xA1, der.NULL_DER)
    report = judged_with_crls(lambda _: [cut, unknown], version=5)
    assert report.sub_indication is SubIndication.TRY_LATER


@pytest.mark.parametrize("version", [1, 2, 4, 6])
def test_responses_among_the_lists_want_their_version(version):
    report = judged_with_crls(
        lambda made: [ocsp_entry(made.shop.answer("s1", made.at).response())], version=version
    )
    assert report.verdict is (Verdict.PASSED if version == 1 else Verdict.FAILED)
