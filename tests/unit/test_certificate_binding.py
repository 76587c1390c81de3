"""Binding certificates to accounts by signed challenge, withdrawing them, listing them; seals."""

from datetime import timedelta
from hashlib import sha256

import pytest

from directory.accounts import AccountState, Operator, Right
from directory.certificates import BindingState
from evidence.nes.policy import NesPolicy
from evidence.nes.verifier import SignerIdentity
from evidence.report import SubIndication
from kephs.cli.people.certificates import BINDING_CURES
from kephs.system import HmacIdentity
from kephs.testpki.issued import Issued
from kephs.testpki.profiles import make_tckn
from kephs.usecases.people.accounts import AccountError, AccountFault, AccountWork
from kephs.usecases.people.certificates import (
    SIGNATURE_MAX,
    BindingError,
    BindingFault,
    CertificateState,
    CertificateWork,
)
from kephs.usecases.submission.signers import BindingRule, judge_signers
from tests.support.pki import AYSE_TCKN, MEHMET_TCKN, NOW, ayse, mehmet, shared_pki
from tests.support.signers import CmsSigner, good_attributes, raw_sign, signed_data, signer_info
from tests.support.world import AYSE, KURUM, MEHMET, Inline, PlainPasswords, World

F = BindingFault
IDENTITY = HmacIdentity(bytes(32))


def sign(content: bytes, by: Issued, *, inside: bool = False) -> bytes:
    """Return a CAdES-BES signature of a holder, detached or with the content inside."""
    signer = CmsSigner(by.certificate, by.chain)
    draft = signer.to_be_signed(sha256(content).digest(), NOW)
    return signer.assemble(draft, raw_sign(by, draft.digest), content=content if inside else None)


def sign_together(content: bytes, *signers: Issued) -> bytes:
    """Return one signature of several parallel signers."""
    rows = [
        signer_info(one, list(good_attributes(one, sha256(content).digest()).values())) for one in signers
    ]
    return signed_data(sorted(rows), sorted(one.certificate for one in signers))


class Desk:
    """A world whose identity numbers are keyed, with the work under test."""

    def __init__(self, world: World, policy: NesPolicy) -> None:
        self.world, self.policy = world, policy
        shared = {"store": world.store, "identity": IDENTITY, "clock": world.clock, "ids": world.ids}
        self.accounts = world.accounts = AccountWork(
            **shared, passwords=PlainPasswords(), register=world.register
        )
        self.work = CertificateWork(
            accounts=self.accounts, revocation=world.ocsp, trust=world.trust, policy=policy, offload=Inline(),
            **shared,
        )  # fmt: skip

    async def bind(self, by: Issued, address: str = AYSE, operator_id: str | None = None, **how):
        text = await self.work.challenge(address, operator_id)
        return await self.work.bind(address, text, sign(text, by, **how))

    async def refused(self, fault: BindingFault, address: str, text: bytes, signature: bytes) -> BindingError:
        before = await self.rows(address)
        with pytest.raises(BindingError) as caught:
            await self.work.bind(address, text, signature)
        assert caught.value.fault is fault
        assert await self.rows(address) == before
        return caught.value

    async def rows(self, address: str = AYSE):
        account = await self.accounts.find(address)
        return list(await self.world.store.read(lambda tx: tx.accounts.certificates(account.account_id)))

    async def audit(self) -> list[tuple[str, str, str]]:
        page = await self.world.store.read(lambda tx: tx.audit.page(0, 1000))
        return [(one.actor, one.action, one.subject) for one in page]

    async def force(self, state: AccountState, address: str = AYSE) -> None:
        account = await self.accounts.find(address)
        await self.world.store.write(lambda tx: tx.accounts.set_state(account.account_id, state, NOW))


@pytest.fixture
async def desk() -> Desk:
    made = Desk(World(), NesPolicy(allow_seals=True))
    await made.world.open_accounts()
    return made


# --------------------------------------------------------------------------- binding


@pytest.mark.parametrize("inside", [False, True], ids=["detached", "opaque"])
async def test_the_certificate_that_signed_the_text_is_bound_for_the_person(desk: Desk, inside: bool):
    bound = await desk.bind(ayse(), inside=inside)
    account = await desk.accounts.find(AYSE)
    assert bound.sha256 == sha256(ayse().certificate).digest()
    assert (bound.account_id, bound.der, bound.how) == (account.account_id, ayse().certificate, "challenge")
    assert bound.state is BindingState.BOUND
    assert await desk.rows() == [bound]
    assert ("shell", "certificate.bound", AYSE) in await desk.audit()


async def test_one_text_works_once(desk: Desk):
    text = await desk.work.challenge(AYSE)
    signature = sign(text, ayse())
    await desk.work.bind(AYSE, text, signature)
    await desk.refused(F.ALREADY_BOUND, AYSE, text, signature)
    await desk.refused(F.ALREADY_BOUND, AYSE, text, sign(text, ayse()))


async def test_a_certificate_of_somebody_else_is_not_bound(desk: Desk):
    text = await desk.work.challenge(AYSE)
    await desk.refused(F.OTHER_PERSON, AYSE, text, sign(text, mehmet()))


async def test_attack_the_holders_name_in_a_certificate_of_another_number(desk: Desk):
    impostor = shared_pki().issue_user("Ayşe Yılmaz", make_tckn(404))
    text = await desk.work.challenge(AYSE)
    await desk.refused(F.OTHER_PERSON, AYSE, text, sign(text, impostor))


async def test_an_operators_certificate_is_bound_for_the_operator_the_text_names(desk: Desk):
    clerk = await desk.accounts.add_operator(AYSE, "Mehmet Demir", MEHMET_TCKN, Right.READ | Right.SEND)
    bound = await desk.bind(mehmet(), operator_id=clerk.operator_id)
    assert bound.operator_id == clerk.operator_id
    text = await desk.work.challenge(AYSE, clerk.operator_id)
    await desk.refused(F.OTHER_PERSON, AYSE, text, sign(text, ayse()))


async def test_exactly_one_certificate_signs_the_text(desk: Desk):
    clerk = await desk.accounts.add_operator(AYSE, "Mehmet Demir", MEHMET_TCKN, Right.SEND)
    other = shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN)
    text = await desk.work.challenge(AYSE, clerk.operator_id)
    await desk.refused(F.SEVERAL_SIGNERS, AYSE, text, sign_together(text, ayse(), other))


async def test_what_was_signed_must_be_the_text_byte_for_byte(desk: Desk):
    text = await desk.work.challenge(AYSE)
    again = await desk.work.challenge(AYSE)
    for content in (again, text + b"\r\n", text.replace(b"\r\n", b"\n"), b""):
        for inside in (False, True):
            await desk.refused(F.OTHER_CONTENT, AYSE, text, sign(content, ayse(), inside=inside))


async def test_a_text_is_good_for_ten_minutes(desk: Desk):
    text = await desk.work.challenge(AYSE)
    signature = sign(text, ayse())
    desk.world.clock.at += timedelta(minutes=10)
    await desk.refused(F.CHALLENGE_EXPIRED, AYSE, text, signature)
    desk.world.clock.at -= timedelta(seconds=1)
    await desk.work.bind(AYSE, text, signature)


async def test_a_text_of_another_account_or_instance_or_with_another_word_binds_nothing(desk: Desk):
    text = await desk.work.challenge(AYSE)
    kurum = (await desk.accounts.find(KURUM)).account_id
    changed = text.replace((await desk.accounts.find(AYSE)).account_id.encode(), kurum.encode())
    await desk.refused(F.CHALLENGE_INVALID, KURUM, changed, sign(changed, ayse()))
    await desk.refused(F.CHALLENGE_INVALID, AYSE, b"", sign(b"", ayse()))
    await desk.refused(F.CHALLENGE_ELSEWHERE, MEHMET, text, sign(text, ayse()))


@pytest.mark.parametrize(
    ("defect", "sub"),
    [
        ({"qualified": False}, SubIndication.CHAIN_CONSTRAINTS_FAILURE),
        ({"btk": False}, SubIndication.CHAIN_CONSTRAINTS_FAILURE),
        ({"non_repudiation": False}, SubIndication.CHAIN_CONSTRAINTS_FAILURE),
        ({"impostor": True}, None),
        ({"not_after": NOW - timedelta(days=1)}, SubIndication.EXPIRED),
    ],
    ids=["not qualified", "no law 5070", "no nonRepudiation", "impostor", "expired"],
)
async def test_a_certificate_that_could_not_sign_a_message_is_not_bound(desk: Desk, defect, sub):
    bad = shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN, **defect)
    text = await desk.work.challenge(AYSE)
    error = await desk.refused(F.SIGNATURE_NOT_VALID, AYSE, text, sign(text, bad))
    assert error.report is not None
    assert sub in {None, error.report.sub_indication}


async def test_a_revoked_certificate_is_not_bound_and_an_unknown_status_waits(desk: Desk):
    bad = shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN)
    shared_pki().revoke(bad.serial, NOW)
    text = await desk.work.challenge(AYSE)
    error = await desk.refused(F.SIGNATURE_NOT_VALID, AYSE, text, sign(text, bad))
    assert error.report is not None
    assert error.report.sub_indication is SubIndication.REVOKED
    desk.world.ocsp.down = True
    await desk.refused(F.REVOCATION_UNKNOWN, AYSE, text, sign(text, ayse()))
    desk.world.ocsp.down = False
    await desk.work.bind(AYSE, text, sign(text, ayse()))


async def test_bytes_that_are_no_signature_are_refused(desk: Desk):
    text = await desk.work.challenge(AYSE)
    good = sign(text, ayse())
    for bad in (b"", b"-----BEGIN", good[:-1], good + b"\0", b"\0" * (SIGNATURE_MAX + 1)):
        await desk.refused(F.SIGNATURE_NOT_VALID, AYSE, text, bad)


async def test_who_acts_no_more_binds_nothing(desk: Desk):
    for operator_id in ("nobody", ""):
        with pytest.raises(BindingError) as caught:
            await desk.work.challenge(AYSE, operator_id)
        assert caught.value.fault is F.NO_SUCH_OPERATOR


async def test_an_operator_whose_time_is_over_binds_nothing(desk: Desk):
    account, now = await desk.accounts.find(AYSE), desk.world.clock.now()
    clerk = Operator(
        "op-past", account.account_id, "Mehmet Demir", IDENTITY.mac(MEHMET_TCKN), Right.SEND, False,
        now - timedelta(days=9), now + timedelta(minutes=5),
    )  # fmt: skip
    await desk.world.store.write(lambda tx: tx.accounts.add_operator(clerk))
    text = await desk.work.challenge(AYSE, "op-past")
    desk.world.clock.at += timedelta(minutes=5)
    await desk.refused(F.NO_SUCH_OPERATOR, AYSE, text, sign(text, mehmet()))
    desk.world.clock.at -= timedelta(seconds=1)
    await desk.work.bind(AYSE, text, sign(text, mehmet()))


async def test_what_changes_while_revocation_is_asked_counts(desk: Desk):
    status = desk.world.ocsp.status
    meanwhile: list = []

    async def slow(certificate, issuer, at):
        for change in meanwhile:
            await change()
        return await status(certificate, issuer, at)

    desk.world.ocsp.status = slow
    await desk.work.allow_seals(KURUM, allowed=True, by="x")
    text = await desk.work.challenge(KURUM)
    meanwhile[:] = [lambda: desk.work.allow_seals(KURUM, allowed=False, by="x")]
    await desk.refused(F.SEALS_NOT_ALLOWED, KURUM, text, sign(text, _seal()))
    mine = await desk.work.challenge(AYSE)
    meanwhile[:] = [lambda: desk.force(AccountState.CLOSED)]
    await desk.refused(F.ACCOUNT_CLOSED, AYSE, mine, sign(mine, ayse()))


async def test_a_closed_account_binds_nothing_and_an_unknown_one_is_named(desk: Desk):
    text = await desk.work.challenge(AYSE)
    await desk.force(AccountState.CLOSED)
    with pytest.raises(BindingError) as caught:
        await desk.work.challenge(AYSE)
    assert caught.value.fault is F.ACCOUNT_CLOSED
    await desk.refused(F.ACCOUNT_CLOSED, AYSE, text, sign(text, ayse()))
    with pytest.raises(AccountError) as unknown:
        await desk.work.challenge("kimse.yok@hs91.kep.tr")
    assert unknown.value.fault is AccountFault.NO_SUCH_ACCOUNT


# --------------------------------------------------------------------------- withdrawing, listing


async def test_a_withdrawn_certificate_is_listed_and_never_bound_again(desk: Desk):
    bound = await desk.bind(ayse())
    gone = await desk.work.withdraw(AYSE, bound.sha256, by="Ayşe Yılmaz")
    assert gone.state is BindingState.WITHDRAWN
    assert await desk.rows() == [gone]
    assert gone.withdrawn_by == "Ayşe Yılmaz"
    assert (await desk.audit())[-1] == ("Ayşe Yılmaz", "certificate.withdrawn", AYSE)
    text = await desk.work.challenge(AYSE)
    await desk.refused(F.WITHDRAWN, AYSE, text, sign(text, ayse()))
    with pytest.raises(BindingError) as again:
        await desk.work.withdraw(AYSE, bound.sha256, by="x")
    assert again.value.fault is F.WITHDRAWN


async def test_what_was_never_bound_here_cannot_be_withdrawn(desk: Desk):
    bound = await desk.bind(ayse())
    for address, fingerprint in ((MEHMET, bound.sha256), (AYSE, bytes(32)), (AYSE, bound.sha256[:-1])):
        with pytest.raises(BindingError) as caught:
            await desk.work.withdraw(address, fingerprint, by="x")
        assert caught.value.fault is F.NO_SUCH_CERTIFICATE


async def test_one_certificate_may_be_bound_to_several_accounts_of_one_person(desk: Desk):
    clerk = await desk.accounts.add_operator(KURUM, "Ayşe Yılmaz", AYSE_TCKN, Right.SEND)
    first = await desk.bind(ayse())
    second = await desk.bind(ayse(), KURUM, clerk.operator_id)
    assert first.sha256 == second.sha256
    await desk.work.withdraw(AYSE, first.sha256, by="x")
    assert [one.state for one in await desk.rows(KURUM)] == [BindingState.BOUND]


async def test_the_list_tells_issuer_serial_validity_state_and_how(desk: Desk):
    short = shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN, not_after=NOW + timedelta(days=40))
    await desk.bind(ayse())
    await desk.bind(short)
    rows = await desk.work.list(AYSE)
    assert [row.state for row in rows] == [CertificateState.VALID] * 2
    assert [row.facts.serial for row in rows] == [ayse().serial, short.serial]
    assert (rows[1].days_left, rows[1].operator_name, rows[1].bound.how) == (39, "Ayşe Yılmaz", "challenge")
    desk.world.clock.at += timedelta(days=41)
    assert [(row.state, row.days_left > 0) for row in await desk.work.list(AYSE)] == [
        (CertificateState.VALID, True),
        (CertificateState.EXPIRED, False),
    ]
    await desk.work.withdraw(AYSE, rows[1].bound.sha256, by="x")
    assert (await desk.work.list(AYSE))[1].state is CertificateState.WITHDRAWN
    desk.world.clock.at -= timedelta(days=400)
    assert (await desk.work.list(AYSE))[0].state is CertificateState.NOT_YET_VALID
    assert await desk.work.list(MEHMET) == []


# --------------------------------------------------------------------------- seals


def _seal() -> Issued:
    return shared_pki().issue_user("Örnek Kurum A.Ş.", make_tckn(505), seal=True, organization="Örnek Kurum")


async def test_a_seal_is_bound_only_where_allowed_and_by_who_may_manage(desk: Desk):
    seal = _seal()
    text = await desk.work.challenge(KURUM)
    await desk.refused(F.SEALS_NOT_ALLOWED, KURUM, text, sign(text, seal))
    account = await desk.work.allow_seals(KURUM, allowed=True, by="Zeynep Işık")
    assert account.seals_allowed
    clerk = await desk.accounts.add_operator(KURUM, "Mehmet Demir", MEHMET_TCKN, Right.READ | Right.SEND)
    low = await desk.work.challenge(KURUM, clerk.operator_id)
    await desk.refused(F.SEAL_NEEDS_MANAGER, KURUM, low, sign(low, seal))
    bound = await desk.work.bind(KURUM, text, sign(text, seal))
    assert bound.how == "challenge"
    await desk.work.allow_seals(KURUM, allowed=False, by="Zeynep Işık")
    actions = [action for actor, action, _ in await desk.audit() if actor == "Zeynep Işık"]
    assert actions == ["account.seals-allowed", "account.seals-refused"]


async def test_persons_and_closed_accounts_and_providers_without_seals_allow_none(desk: Desk):
    with pytest.raises(BindingError) as person:
        await desk.work.allow_seals(AYSE, allowed=True, by="x")
    assert person.value.fault is F.SEALS_NOT_FOR_PERSONS
    none = Desk(desk.world, NesPolicy(allow_seals=False))
    with pytest.raises(BindingError) as off:
        await none.work.allow_seals(KURUM, allowed=True, by="x")
    assert off.value.fault is F.SEALS_OFF
    await none.work.allow_seals(KURUM, allowed=False, by="x")
    await desk.force(AccountState.CLOSED, KURUM)
    with pytest.raises(BindingError) as closed:
        await desk.work.allow_seals(KURUM, allowed=True, by="x")
    assert closed.value.fault is F.ACCOUNT_CLOSED


async def test_a_seal_of_an_account_that_lost_its_permission_meanwhile_is_refused(desk: Desk):
    await desk.work.allow_seals(KURUM, allowed=True, by="x")
    text = await desk.work.challenge(KURUM)
    await desk.work.allow_seals(KURUM, allowed=False, by="x")
    await desk.refused(F.SEALS_NOT_ALLOWED, KURUM, text, sign(text, _seal()))


# --------------------------------------------------------------------------- used by submission


async def test_what_was_bound_by_challenge_signs_in_challenge_mode(desk: Desk):
    bound = await desk.bind(ayse())
    account = await desk.accounts.find(AYSE)
    operators = await desk.world.store.read(lambda tx: tx.accounts.operators(account.account_id))
    signer = SignerIdentity(
        tckn=AYSE_TCKN, common_name=None, serial=1, issuer="", certificate_sha256=bound.sha256,
        not_after=NOW, signing_time=None, certificate=bound.der, seal=False,
    )  # fmt: skip
    decisions = [
        judge_signers(
            (signer,), operators, rows, account, mac=IDENTITY.mac, at=NOW + timedelta(minutes=1),
            rule=BindingRule.CHALLENGE,
        )
        for rows in ((bound,), ())
    ]  # fmt: skip
    assert [one.authorised for one in decisions] == [True, False]


def test_every_fault_has_its_cure_in_both_languages():
    assert set(BINDING_CURES) == set(BindingFault)
    for english, turkish in BINDING_CURES.values():
        assert english.isascii()
        assert english != turkish
