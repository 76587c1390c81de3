"""Who may hold which address, and who may act for it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from directory.accounts import AccountKind, Right, ServiceType, fits
from directory.addresses import KepAddress
from kephs.cli.people.account import APPLICATION_CURES
from kephs.testpki.profiles import make_tckn
from kephs.usecases.people.accounts import (
    AccountError,
    AccountFault,
    ApplicationError,
    ApplicationFault,
    Opening,
)
from storage.memory.store import MemoryStore
from tests.support.pki import AYSE_TCKN
from tests.support.world import AYSE, KURUM, MEHMET, World

REAL, LEGAL, MEMBER = AccountKind.REAL_PERSON, AccountKind.LEGAL_PERSON, AccountKind.CORPORATE_MEMBER


@pytest.fixture
async def world() -> World:
    return await World().open_accounts()


def _opening(address: str, kind: AccountKind, person: str = "Can Ak", holder: str = "Can Ak") -> Opening:
    return Opening(address, kind, ServiceType.SEND_AND_RECEIVE, holder, person, make_tckn(77))


@pytest.mark.parametrize(
    ("address", "kinds"),
    [
        ("ayse.yilmaz@hs91.kep.tr", {REAL, LEGAL}),
        ("AYŞE.YILMAZ@hs91.kep.tr", {REAL, LEGAL}),
        ("ayse.yilmaz.2@hs91.kep.tr", {REAL}),
        ("hizmet@hs91.kep.tr", {LEGAL}),
        ("ayse.yilmaz.can@hs91.kep.tr", set()),
        ("ayse2.yilmaz@hs91.kep.tr", {LEGAL}),
        ("ayse.2@hs91.kep.tr", {LEGAL}),
        ("0123456789012345@hs91.kep.tr", {LEGAL}),
        ("0123456789012345.muhasebe@hs91.kep.tr", {LEGAL}),
        ("a.b.c.1@hs91.kep.tr", set()),
        ("ornekkurum@ornekkurum.hs91.kep.tr", {LEGAL}),
        ("ayse.yilmaz@ornekkurum.hs91.kep.tr", {LEGAL, MEMBER}),
        ("ayse.yilmaz.3@ornekkurum.hs91.kep.tr", {MEMBER}),
    ],
)
def test_each_kind_of_account_has_its_form_of_address(address: str, kinds: set[AccountKind]):
    parsed = KepAddress.parse(address)
    assert {kind for kind in AccountKind if fits(parsed, kind)} == kinds


def test_the_addresses_of_the_cast_have_the_form_of_their_kind():
    assert [fits(KepAddress.parse(one), REAL) for one in (AYSE, MEHMET, KURUM)] == [True, True, False]
    assert fits(KepAddress.parse(KURUM), LEGAL)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("hizmet@hs91.kep.tr", REAL),
        ("a.b.c@hs91.kep.tr", LEGAL),
        ("ayse.yilmaz.1@hs91.kep.tr", MEMBER),
    ],
)
async def test_an_applicant_gets_no_address_of_another_kind(world: World, address: str, kind: AccountKind):
    with pytest.raises(ApplicationError, match=r"hs91\.kep\.tr") as caught:
        await world.accounts.apply(_opening(address, kind, holder="Örnek A.Ş."))
    assert caught.value.fault is ApplicationFault.ADDRESS_FORM
    with pytest.raises(AccountError) as missing:
        await world.accounts.find(address)
    assert missing.value.fault is AccountFault.NO_SUCH_ACCOUNT


async def test_an_applicant_gets_an_address_of_the_right_kind_once(world: World):
    account = await world.accounts.apply(_opening("Can.AK@hs91.kep.tr", REAL))
    assert str(account.address) == "can.ak@hs91.kep.tr"
    with pytest.raises(AccountError) as caught:
        await world.accounts.apply(_opening("can.ak@hs91.kep.tr", REAL))
    assert caught.value.fault is AccountFault.ADDRESS_TAKEN


@pytest.mark.parametrize("kind", [LEGAL, MEMBER])
@pytest.mark.parametrize("person", ["", " ", "Işık İnşaat A.Ş.", "IŞIK  İNŞAAT a.ş."])
async def test_an_organisation_never_is_its_own_operator(world: World, kind: AccountKind, person: str):
    opening = _opening("can.ak@isik.hs91.kep.tr", kind, person, "Işık İnşaat A.Ş.")
    for work in (world.accounts.open, world.accounts.apply):
        with pytest.raises(ApplicationError) as caught:
            await work(opening)
        assert caught.value.fault is ApplicationFault.PERSON_MISSING
    account = await world.accounts.apply(replace(opening, person_name="Can Ak"))
    (operator,) = await world.store.read(lambda tx: tx.accounts.operators(account.account_id))
    assert (operator.name, account.holder_name) == ("Can Ak", "Işık İnşaat A.Ş.")


async def test_a_person_acts_for_an_account_once(world: World):
    tckn = make_tckn(78)
    await world.accounts.add_operator(KURUM, "Can Ak", tckn, Right.READ)
    for number in (tckn, "10000000382"):  # added before, and the main operator
        with pytest.raises(ApplicationError) as caught:
            await world.accounts.add_operator(KURUM, "Başka Ad", number, Right.SEND)
        assert caught.value.fault is ApplicationFault.OPERATOR_EXISTS
    await world.accounts.add_operator(KURUM, "Ayşe Yılmaz", AYSE_TCKN, Right.READ)  # holds another account
    account = await world.accounts.find(KURUM)
    operators = await world.store.read(lambda tx: tx.accounts.operators(account.account_id))
    assert [one.name for one in operators] == ["Zeynep Işık", "Can Ak", "Ayşe Yılmaz"]


async def test_a_person_whose_time_ended_may_be_added_again(world: World):
    tckn = make_tckn(78)
    first = await world.accounts.add_operator(KURUM, "Can Ak", tckn, Right.READ)
    assert isinstance(world.store, MemoryStore)
    ended = replace(first, valid_until=world.clock.now())

    def end(tx) -> None:
        tx.accounts._t.operators.put(first.operator_id, ended)

    await world.store.write(end)
    again = await world.accounts.add_operator(KURUM, "Can Ak", tckn, Right.READ)
    assert again.operator_id != first.operator_id


def test_every_fault_of_an_application_has_a_cure():
    assert set(APPLICATION_CURES) == set(ApplicationFault)


def test_rights_stored_before_a_tick_was_dropped_are_still_read():
    assert Right.MANAGE in Right(63)
    assert "evidence" not in {str(right.name).lower() for right in Right}


# --------------------------------------------------------------------------- the process record


async def _record(world: World) -> list[tuple[str, str, str, str]]:
    page = await world.store.read(lambda tx: tx.audit.page(0, 1000))
    return [(one.actor, one.action, one.subject, one.detail) for one in page]


async def test_every_change_of_an_account_is_in_the_process_record_with_who_did_it(world: World):
    before = len(await _record(world))
    done = world.accounts
    await done.apply(_opening("can.ak@hs91.kep.tr", REAL), actor="Memur")
    clerk = await done.add_operator(
        "can.ak@hs91.kep.tr", "Su Er", make_tckn(78), Right.READ | Right.SEND, actor="Memur"
    )
    await done.add_password("can.ak@hs91.kep.tr", "secret-secret", label="telefon")
    assert await done.revoke_password("can.ak@hs91.kep.tr", "secret", actor="Can")
    await done.block("can.ak@hs91.kep.tr", actor="Can")
    await done.unblock("can.ak@hs91.kep.tr", actor="Can")
    await done.block("can.ak@hs91.kep.tr")
    world.clock.at += timedelta(days=93)
    await done.close("can.ak@hs91.kep.tr", actor="Memur")
    entries = (await _record(world))[before:]
    assert [entry[:2] for entry in entries] == [
        ("Memur", "account.opened"),
        ("Memur", "account.operator-added"),
        ("shell", "account.password-added"),
        ("Can", "account.password-revoked"),
        ("Can", "account.blocked"),
        ("Can", "account.unblocked"),
        ("shell", "account.blocked"),
        ("Memur", "account.closed"),
    ]
    assert {entry[2] for entry in entries} == {"can.ak@hs91.kep.tr"}
    assert entries[1][3] == f"{clerk.operator_id} read,send"


async def test_the_process_record_names_no_identity_number_and_no_password(world: World):
    await world.accounts.apply(_opening("can.ak@hs91.kep.tr", REAL))
    await world.accounts.add_password("can.ak@hs91.kep.tr", "secret-secret", label="telefon")
    everything = str(await _record(world))
    assert make_tckn(77) not in everything
    assert "secret-secret" not in everything


async def test_what_was_refused_leaves_no_entry(world: World):
    before = await _record(world)
    with pytest.raises(AccountError):
        await world.accounts.open(_opening(AYSE, REAL))
    with pytest.raises(AccountError):
        await world.accounts.unblock(AYSE)
    with pytest.raises(ApplicationError):
        await world.accounts.add_operator(AYSE, "Ayşe Yılmaz", AYSE_TCKN, Right.READ)
    assert not await world.accounts.revoke_password(AYSE, "nobody")
    assert await _record(world) == before
