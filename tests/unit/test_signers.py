"""Whose certificate may sign for which account: by number and binding, never by name or e-mail."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import permutations

import pytest

from directory.accounts import ALL_RIGHTS, Account, AccountKind, AccountState, Operator, Right, ServiceType
from directory.addresses import KepAddress
from directory.certificates import BoundCertificate
from evidence.nes.verifier import SignerIdentity
from kephs.domain.refusals import RefusalCode
from kephs.usecases.submission.signers import BindingRule, SignerDecision, judge_signers

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)
DAY = timedelta(days=1)
AYSE, MEHMET, CAN = "10000000146", "10000000382", "11111111110"
ACCOUNT = Account(
    "acc-1", KepAddress.parse("ornekkurum@hs91.kep.tr"), AccountKind.LEGAL_PERSON,
    ServiceType.SEND_AND_RECEIVE, AccountState.ACTIVE, "Örnek Kurum", 1000, 0, AT - 9 * DAY, AT - 9 * DAY,
)  # fmt: skip
FIRST, CHALLENGE = BindingRule.FIRST_USE, BindingRule.CHALLENGE


def mac(number: str) -> bytes:
    return sha256(b"key" + number.encode()).digest()


def operator(name: str, number: str, **more: object) -> Operator:
    base = Operator(f"op-{name}", "acc-1", name, mac(number), ALL_RIGHTS, False, AT - 9 * DAY, None)
    return replace(base, **more)  # type: ignore[arg-type]


HOLDER = operator("ayse", AYSE, is_holder=True)
CLERK = operator("mehmet", MEHMET, rights=Right.READ | Right.SEND)


def signer(
    number: str | None, which: str = "one", *, seal: bool = False, name: str = "Ayşe"
) -> SignerIdentity:
    der = f"certificate {which}".encode()
    return SignerIdentity(
        tckn=number, common_name=name, serial=7, issuer="CN=TEST", certificate_sha256=sha256(der).digest(),
        not_after=AT + DAY, signing_time=AT, certificate=der, seal=seal,
    )  # fmt: skip


def bound(one: SignerIdentity, to: Operator = HOLDER, **more: object) -> BoundCertificate:
    base = BoundCertificate(
        one.certificate_sha256, "acc-1", to.operator_id, one.certificate, "first-use", AT - DAY, None, None
    )
    return replace(base, **more)  # type: ignore[arg-type]


def judge(
    *signers: SignerIdentity,
    certificates: tuple[BoundCertificate, ...] = (),
    operators: tuple[Operator, ...] = (HOLDER, CLERK),
    account: Account = ACCOUNT,
    rule: BindingRule = FIRST,
) -> SignerDecision:
    return judge_signers(signers, operators, certificates, account, mac=mac, at=AT, rule=rule)


def refused(decision: SignerDecision, code: RefusalCode = RefusalCode.SIGNER_NOT_AUTHORISED) -> bool:
    assert decision.to_bind == ()
    assert decision.detail
    return not decision.authorised and decision.refusal is code


# --------------------------------------------------------------------------- by number


def test_a_new_certificate_of_who_may_send_is_authorised_and_bound_with_the_acceptance() -> None:
    one = signer(MEHMET)
    decision = judge(one)
    assert decision.authorised
    assert decision.refusal is None
    assert decision.to_bind == (
        BoundCertificate(
            one.certificate_sha256, "acc-1", "op-mehmet", one.certificate, "first-use", AT, None, None
        ),
    )


def test_a_bound_certificate_is_authorised_and_not_bound_again() -> None:
    one = signer(AYSE)
    for rule in BindingRule:
        decision = judge(one, certificates=(bound(one, how="challenge"),), rule=rule)
        assert (decision.authorised, decision.to_bind) == (True, ())


def test_what_was_bound_stays_bound_when_the_rule_changes() -> None:
    one = signer(AYSE)
    assert judge(one, certificates=(bound(one, how="first-use"),), rule=CHALLENGE).authorised


def test_a_number_of_nobody_here_is_refused() -> None:
    assert refused(judge(signer(CAN)))


@pytest.mark.parametrize(
    "change",
    [
        {"rights": Right.READ},
        {"rights": ALL_RIGHTS & ~Right.SEND},
        {"valid_until": AT},
        {"valid_from": AT + timedelta(seconds=1)},
    ],
    ids=["reads only", "all but send", "ended now", "begins later"],
)
def test_the_right_to_send_must_hold_at_reception_also_for_a_bound_certificate(change) -> None:
    one, former = signer(MEHMET), replace(CLERK, **change)
    assert judge(one, certificates=(bound(one, CLERK),)).authorised
    assert refused(judge(one, operators=(HOLDER, former)))
    assert refused(judge(one, operators=(HOLDER, former), certificates=(bound(one, former),)))


def test_an_operator_of_another_account_is_nobody_here() -> None:
    assert refused(judge(signer(MEHMET), operators=(HOLDER, replace(CLERK, account_id="acc-2"))))


def test_a_certificate_without_a_number_is_refused_even_where_somebody_bound_it() -> None:
    for number in (None, ""):
        one = signer(number)
        assert refused(judge(one, certificates=(bound(one),)))


def test_nobody_signed_is_refused() -> None:
    assert refused(judge())


# --------------------------------------------------------------------------- never by name or e-mail


def test_attack_same_common_name_as_the_holder() -> None:
    assert refused(judge(signer(CAN, name="ayse")))


def test_attack_same_name_and_no_number() -> None:
    assert refused(judge(signer(None, name="ayse")))


def test_attack_the_holders_serial_number_and_issuer_name_in_another_certificate() -> None:
    mine, forged = signer(AYSE), signer(CAN, "other")
    assert (forged.serial, forged.issuer) == (mine.serial, mine.issuer)
    assert refused(judge(forged, certificates=(bound(mine),)))


# --------------------------------------------------------------------------- by binding


def test_a_withdrawn_certificate_is_refused_for_ever_whatever_its_number_says() -> None:
    withdrawn = {"withdrawn_at": AT - DAY, "withdrawn_by": "Ayşe"}
    for number, rule in ((AYSE, FIRST), (AYSE, CHALLENGE), (MEHMET, FIRST), (None, FIRST)):
        one = signer(number)
        gone = bound(one, **withdrawn)
        assert refused(judge(one, certificates=(gone,), rule=rule), RefusalCode.CERTIFICATE_WITHDRAWN)
        again = bound(one, how="challenge")
        for rows in permutations((gone, again)):
            assert refused(judge(one, certificates=rows, rule=rule), RefusalCode.CERTIFICATE_WITHDRAWN)


def test_another_certificate_of_the_same_person_is_not_withdrawn_with_it() -> None:
    old, new = signer(AYSE, "old"), signer(AYSE, "new")
    gone = bound(old, withdrawn_at=AT - DAY, withdrawn_by="Ayşe")
    assert judge(new, certificates=(gone,)).authorised


def test_a_certificate_bound_for_another_operator_does_not_help() -> None:
    one = signer(MEHMET)
    assert judge(one, certificates=(bound(one, CLERK),)).authorised
    assert refused(judge(one, certificates=(bound(one, HOLDER),)))


def test_a_certificate_bound_to_another_account_does_not_help() -> None:
    one = signer(MEHMET)
    elsewhere = bound(one, CLERK, account_id="acc-2")
    assert refused(judge(one, certificates=(elsewhere,), rule=CHALLENGE), RefusalCode.CERTIFICATE_NOT_BOUND)
    (fresh,) = judge(one, certificates=(elsewhere,)).to_bind
    assert fresh.account_id == "acc-1"


def test_what_another_account_withdrew_is_that_accounts_affair() -> None:
    one = signer(AYSE)
    elsewhere = bound(one, account_id="acc-2", withdrawn_at=AT - DAY, withdrawn_by="x")
    assert judge(one, certificates=(elsewhere,)).authorised


def test_who_left_and_came_back_keeps_the_certificate() -> None:
    before = replace(CLERK, operator_id="op-old", valid_until=AT - DAY)
    one = signer(MEHMET)
    assert judge(one, operators=(HOLDER, before, CLERK), certificates=(bound(one, before),)).authorised
    assert refused(judge(one, operators=(HOLDER, before), certificates=(bound(one, before),)))


def test_in_challenge_mode_an_unbound_certificate_waits_for_its_challenge() -> None:
    assert refused(judge(signer(AYSE), rule=CHALLENGE), RefusalCode.CERTIFICATE_NOT_BOUND)


# --------------------------------------------------------------------------- seals


SEALS = replace(ACCOUNT, seals_allowed=True)


def test_a_seal_counts_only_where_bound_by_challenge_and_allowed() -> None:
    seal = signer(None, seal=True)
    row = bound(seal, how="challenge")
    for rule in BindingRule:
        decision = judge(seal, certificates=(row,), account=SEALS, rule=rule)
        assert (decision.authorised, decision.to_bind) == (True, ())
    assert refused(judge(seal, certificates=(row,), account=ACCOUNT))
    not_bound = RefusalCode.CERTIFICATE_NOT_BOUND
    assert refused(judge(seal, account=SEALS), not_bound)
    assert refused(judge(seal, certificates=(bound(seal, how="first-use"),), account=SEALS), not_bound)
    assert refused(judge(seal, certificates=(bound(signer(None, "two")),), account=SEALS), not_bound)


def test_a_seal_that_names_a_persons_number_is_still_a_seal() -> None:
    assert refused(judge(signer(AYSE, seal=True), account=SEALS), RefusalCode.CERTIFICATE_NOT_BOUND)


def test_a_withdrawn_seal_is_refused() -> None:
    seal = signer(None, seal=True)
    row = bound(seal, how="challenge", withdrawn_at=AT, withdrawn_by="x")
    assert refused(judge(seal, certificates=(row,), account=SEALS), RefusalCode.CERTIFICATE_WITHDRAWN)


# --------------------------------------------------------------------------- several signers


def test_of_parallel_signers_each_must_be_authorised() -> None:
    good, also, stranger = signer(AYSE, "a"), signer(MEHMET, "b"), signer(CAN, "c")
    assert {one.operator_id for one in judge(good, also).to_bind} == {"op-ayse", "op-mehmet"}
    for row in permutations((good, also, stranger)):
        assert refused(judge(*row))


def test_one_certificate_that_signs_twice_is_bound_once() -> None:
    assert len(judge(signer(AYSE), signer(AYSE)).to_bind) == 1


def test_the_judgement_tells_the_log_no_name_and_no_number() -> None:
    for decision in (judge(signer(CAN, name="Can Ak")), judge(signer(AYSE, name="Ayşe"))):
        assert not any(word in decision.detail for word in (CAN, AYSE, "Can Ak", "Ayşe"))
