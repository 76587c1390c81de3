"""The rules of submission, each with a passing twin that differs in one thing."""

from dataclasses import replace

import pytest

from directory.accounts import AccountState, ServiceType
from evidence.report import SubIndication, Verdict
from kephs.domain.policy import (
    MIB,
    RULES,
    SIGNATURE_CODES,
    Destination,
    Facts,
    FormFacts,
    Limits,
    RecipientFacts,
    SenderFacts,
    SignatureFacts,
    decide,
    decide_late,
)
from kephs.domain.refusals import RefusalCode

ME, YOU, PEER = "ayse.yilmaz@hs91.kep.tr", "mehmet.demir@hs91.kep.tr", "ali.kaya@hs92.kep.tr"

SENDER = SenderFacts(ME, AccountState.ACTIVE, ServiceType.SEND_AND_RECEIVE, True, 0, 100 * MIB)
FORM = FormFacts(
    nul=False, line_too_long=False, well_formed=True, header_valid=True, envelope_from=ME, header_from=ME,
    attempted=frozenset({YOU}), any_refused=False, named=frozenset({YOU}), has_to=True, bcc_present=False,
    recipients=(RecipientFacts(YOU, Destination.HERE),), decoded_size=1000, signed=True, inner_differs="",
)  # fmt: skip
GOOD = SignatureFacts(Verdict.PASSED, None, "", authorised=True)
FACTS = Facts(SENDER, FORM, Limits(), GOOD)


def to(*destinations: Destination) -> dict[str, object]:
    written = [f"r{n}@hs91.kep.tr" for n in range(len(destinations))]
    return {
        "recipients": tuple(map(RecipientFacts, written, destinations)),
        "attempted": frozenset(written),
        "named": frozenset(written),
    }


def test_a_message_that_breaks_no_rule_is_accepted():
    assert decide(FACTS) is None
    assert decide(replace(FACTS, signature=None)) is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"nul": True}, RefusalCode.NUL_BYTE),
        ({"line_too_long": True}, RefusalCode.LINE_TOO_LONG),
        ({"well_formed": False}, RefusalCode.NOT_MIME),
        ({"header_valid": False}, RefusalCode.HEADER_INVALID),
        ({"envelope_from": YOU}, RefusalCode.FROM_DIFFERS),
        ({"header_from": YOU}, RefusalCode.FROM_DIFFERS),
        ({"bcc_present": True}, RefusalCode.BCC_PRESENT),
        ({"has_to": False}, RefusalCode.RECIPIENTS_MISSING),
        (to(Destination.HERE, Destination.NOT_KEP), RefusalCode.RECIPIENT_NOT_KEP),
        (to(Destination.HERE, Destination.UNKNOWN_PROVIDER), RefusalCode.PROVIDER_UNKNOWN),
        ({"any_refused": True}, RefusalCode.RECIPIENTS_DIFFER),
        ({"attempted": frozenset({YOU, PEER})}, RefusalCode.RECIPIENTS_DIFFER),
        ({"attempted": frozenset()}, RefusalCode.RECIPIENTS_DIFFER),
        (to(*[Destination.HERE] * 501), RefusalCode.TOO_MANY_RECIPIENTS),
        ({"decoded_size": 100 * MIB + 1}, RefusalCode.TOO_BIG),
        ({"decoded_size": 25 * MIB + 1} | to(Destination.PEER), RefusalCode.TOO_BIG_FOR_PROVIDER),
        ({"signed": False}, RefusalCode.UNSIGNED),
        ({"inner_differs": "subject"}, RefusalCode.HEADERS_DIFFER),
    ],
)
def test_each_fault_of_form_has_its_own_refusal(change, code):
    refusal = decide(replace(FACTS, form=replace(FORM, **change)))
    assert refusal is not None
    assert refusal.code is code


@pytest.mark.parametrize(
    "change",
    [
        to(*[Destination.HERE] * 500),
        {"decoded_size": 100 * MIB},
        {"decoded_size": 25 * MIB} | to(Destination.PEER),
        {"decoded_size": 26 * MIB} | to(Destination.HERE),
    ],
)
def test_at_the_limit_a_message_is_still_accepted(change):
    assert decide(replace(FACTS, form=replace(FORM, **change))) is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"state": AccountState.BLOCKED}, RefusalCode.ACCOUNT_BLOCKED),
        ({"state": AccountState.CLOSED}, RefusalCode.ACCOUNT_BLOCKED),
        ({"service": ServiceType.RECEIVE_ONLY}, RefusalCode.ACCOUNT_RECEIVE_ONLY),
        ({"may_send": False}, RefusalCode.NO_RIGHT_TO_SEND),
        ({"used_bytes": 100 * MIB}, RefusalCode.OVER_QUOTA),
    ],
)
def test_the_account_must_be_allowed_to_send(change, code):
    refusal = decide(replace(FACTS, sender=replace(SENDER, **change)))
    assert refusal is not None
    assert refusal.code is code


@pytest.mark.parametrize(
    ("sub", "code"),
    [
        (SubIndication.FORMAT_FAILURE, RefusalCode.SIGNATURE_INCOMPLETE),
        (SubIndication.SIG_CONSTRAINTS_FAILURE, RefusalCode.SIGNATURE_INCOMPLETE),
        (SubIndication.HASH_FAILURE, RefusalCode.SIGNATURE_BROKEN),
        (SubIndication.SIG_CRYPTO_FAILURE, RefusalCode.SIGNATURE_BROKEN),
        (SubIndication.SIGNED_DATA_NOT_FOUND, RefusalCode.UNSIGNED),
        (SubIndication.REVOKED, RefusalCode.CERTIFICATE_REVOKED),
        (SubIndication.EXPIRED, RefusalCode.CERTIFICATE_EXPIRED),
        (SubIndication.NOT_YET_VALID, RefusalCode.CERTIFICATE_EXPIRED),
        (SubIndication.CHAIN_CONSTRAINTS_FAILURE, RefusalCode.CERTIFICATE_NOT_QUALIFIED),
        (SubIndication.CRYPTO_CONSTRAINTS_FAILURE, RefusalCode.ALGORITHM_NOT_ALLOWED),
        (SubIndication.NO_CERTIFICATE_CHAIN_FOUND, RefusalCode.SIGNATURE_UNTRUSTED),
        (SubIndication.NO_SIGNING_CERTIFICATE_FOUND, RefusalCode.SIGNATURE_UNTRUSTED),
        (SubIndication.TIMESTAMP_ORDER_FAILURE, RefusalCode.SIGNATURE_INCOMPLETE),
        (SubIndication.REVOKED_NO_POE, RefusalCode.CERTIFICATE_REVOKED),
        (SubIndication.OUT_OF_BOUNDS_NO_POE, RefusalCode.CERTIFICATE_EXPIRED),
        (SubIndication.TRY_LATER, RefusalCode.REVOCATION_UNKNOWN),
        (None, RefusalCode.SIGNATURE_UNTRUSTED),
    ],
)
def test_a_signature_that_did_not_pass_is_refused_by_its_cause(sub, code):
    bad = SignatureFacts(Verdict.INDETERMINATE, sub, "", authorised=True)
    refusal = decide(replace(FACTS, signature=bad))
    assert refusal is not None
    assert refusal.code is code


@pytest.mark.parametrize("sub", [sub for sub in SubIndication if sub is not SubIndication.TRY_LATER])
def test_only_missing_data_lets_a_signature_wait(sub):
    refusal = decide(
        replace(FACTS, signature=SignatureFacts(Verdict.INDETERMINATE, sub, "", authorised=True))
    )
    assert refusal is not None
    assert not refusal.text.temporary


def test_no_sub_indication_lacks_a_code():
    assert set(SIGNATURE_CODES) >= {sub.value for sub in SubIndication}


def test_the_codes_are_keyed_by_names_of_the_standard():
    # spec: EN319102-1#5.1; a misspelt key would silently fall back to "untrusted"
    unknown = set(SIGNATURE_CODES) - {sub.value for sub in SubIndication}
    assert unknown == set()


@pytest.mark.parametrize("code", [RefusalCode.CERTIFICATE_WITHDRAWN, RefusalCode.CERTIFICATE_NOT_BOUND])
def test_the_judge_of_signers_may_say_why(code):
    told = replace(GOOD, authorised=False, signer_refusal=code)
    refusal = decide(replace(FACTS, signature=told))
    assert refusal is not None
    assert refusal.code is code
    assert decide(replace(FACTS, signature=replace(told, authorised=True))) is None
    broken = decide(
        replace(FACTS, signature=replace(told, verdict=Verdict.FAILED, sub_indication=SubIndication.REVOKED))
    )
    assert broken is not None
    assert broken.code is RefusalCode.CERTIFICATE_REVOKED


def test_a_perfect_signature_of_somebody_else_is_refused():
    refusal = decide(replace(FACTS, signature=replace(GOOD, authorised=False)))
    assert refusal is not None
    assert refusal.code is RefusalCode.SIGNER_NOT_AUTHORISED


def test_malware_is_refused_even_in_a_well_signed_message():
    refusal = decide(replace(FACTS, malware="Eicar"))
    assert refusal is not None
    assert refusal.code is RefusalCode.MALWARE


def test_bad_recipients_are_named_to_the_sender():
    facts = replace(FACTS, form=replace(FORM, **to(Destination.HERE, Destination.NOT_KEP)))
    refusal = decide(facts)
    assert refusal is not None
    assert refusal.recipients == ("r1@hs91.kep.tr",)


def test_every_rule_can_refuse():
    assert len(RULES) == len(set(RULES)) == 10


def test_the_wire_may_carry_1_4_times_the_decoded_limit():
    assert Limits().max_wire == 146_800_640  # spec: D15, KEP-MS-03
    assert Limits(max_local=10, wire_factor=1.25).max_wire == 12


@pytest.mark.parametrize("malware", ["", "Eicar"])
@pytest.mark.parametrize("authorised", [True, False])
@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_late_rules_say_what_all_rules_say_where_the_form_has_passed(verdict, authorised, malware):
    facts = replace(FACTS, signature=replace(GOOD, verdict=verdict, authorised=authorised), malware=malware)
    assert decide(replace(FACTS, signature=None)) is None
    assert decide_late(facts) == decide(facts)


def test_the_late_rules_leave_the_form_alone():
    facts = replace(FACTS, signature=None, form=replace(FORM, nul=True))
    assert decide(facts) is not None
    assert decide_late(facts) is None
