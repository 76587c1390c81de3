"""At reception: our stamp over the sender's signature, its certificate bound, all with evidence 10."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from evidence.mail.mime import scan
from evidence.mail.smime import locate
from evidence.model.records import EvidenceKind
from evidence.nes.policy import Grace, NesPolicy
from evidence.ports import BytesSource
from evidence.report import Verdict
from evidence.stamps.ers import split_record
from evidence.stamps.ers_check import check_record
from kephs.bootstrap.sealing import _Announcing
from kephs.domain.refusals import RefusalCode
from kephs.testpki.profiles import make_tckn
from kephs.together import together
from kephs.usecases.submission.material import Material, decode_material
from kephs.usecases.submission.results import Accepted, Refused
from kephs.usecases.submission.signers import BindingRule
from tests.support.nes_zoo import Specimen, make
from tests.support.nes_zoo_valid import VALID
from tests.support.pki import AYSE_TCKN, ayse, shared_pki
from tests.support.signers import opaque_message
from tests.support.world import AYSE, MEHMET, World, compose, new_world, signed


@pytest.fixture
async def world() -> World:
    return await new_world()


async def kept(world: World) -> tuple[Material, bytes | None]:
    """Return the material of the only message, and evidence 10's record."""
    (message,) = await world.store.read(lambda tx: list(tx.messages.all()))
    blob, ers = await world.store.read(
        lambda tx: (
            tx.blobs.get(message.material),
            tx.evidence.ers(tx.evidence.of_message(message.message_id)[0].evidence_id),
        )
    )
    source = world.blobs.open(blob)
    return decode_material(source.read(0, source.size)), ers


def p7s_of(message: bytes) -> bytes:
    return locate(BytesSource(message), scan(BytesSource(message))).der


async def bound(world: World):
    account = await world.accounts.find(AYSE)
    return await world.store.read(lambda tx: list(tx.accounts.certificates(account.account_id)))


async def entries(world: World, action: str):
    page = await world.store.read(lambda tx: list(tx.audit.page(0, 1000)))
    return [one for one in page if one.action == action]


def code_of(answer: object) -> RefusalCode:
    assert isinstance(answer, Refused), answer
    return answer.refusal.code


# ------------------------------------------------------------------- the stamp


async def test_evidence_10_and_the_stamp_over_the_signature_cost_one_token_in_batch_mode(world):
    before = world.tsa.stamps
    assert isinstance(await world.send(await signed(compose(), ayse())), Accepted)
    assert world.tsa.stamps == before + 1
    material, ers = await kept(world)
    assert split_record(material.record)[1] == split_record(ers)[1], "one token, two records"


async def test_ten_messages_at_one_moment_cost_one_token(world):
    letters = [await signed(compose(message_id=f"<{n}@test>"), ayse()) for n in range(10)]
    before = world.tsa.stamps
    answers = await asyncio.gather(*(world.send(letter) for letter in letters))
    assert all(isinstance(answer, Accepted) for answer in answers)
    assert world.tsa.stamps == before + 1


async def test_where_each_evidence_has_its_own_token_the_signature_costs_a_second_one():
    world = await new_world(batch=False)
    before = world.tsa.stamps
    message = await signed(compose(), ayse())
    assert isinstance(await world.send(message), Accepted)
    assert world.tsa.stamps == before + 2
    material, ers = await kept(world)
    assert ers is None
    assert proven(world, material.record, message) == world.clock.now()


class Device:
    """A key that answers some turns later, as one in a device does."""

    def __init__(self, inner) -> None:
        self._inner, self.certificate, self.chain = inner, inner.certificate, inner.chain

    async def sign_many(self, digests):
        for _ in range(5):
            await asyncio.sleep(0)
        return await self._inner.sign_many(digests)


@pytest.mark.parametrize("announced", [True, False])
async def test_with_a_key_in_a_device_the_batch_waits_for_what_is_being_signed(world, announced):
    device = Device(world.sealer._signer)
    world.sealer._signer = _Announcing(device, world.sealer._batcher) if announced else device
    before = world.tsa.stamps
    assert isinstance(await world.send(await signed(compose(), ayse())), Accepted)
    assert world.tsa.stamps == before + (1 if announced else 2)


def proven(world: World, record: bytes, message: bytes):
    check = check_record(
        record, lambda _: sha256(p7s_of(message)).digest(), world.trust, world.clock.now() + timedelta(days=1)
    )
    assert check.passed, check.report.failing_step
    return check.proven_at


@pytest.mark.parametrize("shape", ["detached", "opaque"])
async def test_the_record_proves_the_signature_as_it_stands_in_the_message(world, shape):
    message = await signed(compose(), ayse())
    if shape == "opaque":
        unsigned = opaque_message(ayse())
        message = unsigned.replace(b"ayse@hs91", b"ayse.yilmaz@hs91").replace(
            b"mehmet@hs91", b"mehmet.demir@hs91"
        )
    assert isinstance(await world.send(message), Accepted)
    material, _ = await kept(world)
    assert proven(world, material.record, message) == world.clock.now()


async def test_without_a_stamp_nothing_is_accepted_and_nothing_is_left(world):
    world.tsa.down = True
    assert code_of(await world.send(await signed(compose(), ayse()))) is RefusalCode.SEALING_UNAVAILABLE
    assert await world.evidence() == []
    assert await bound(world) == []


class OnlyEvidence:
    """A sealer whose authority fails as soon as evidence is sealed."""

    def __init__(self, inner) -> None:
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def records(self, _leaves):
        from evidence.ports import TimestampUnavailableError  # noqa: PLC0415 - one use

        raise TimestampUnavailableError("down")


async def test_stamped_evidence_without_a_stamp_over_the_signature_is_not_enough(world):
    world.submit._sealer = OnlyEvidence(world.sealer)
    assert code_of(await world.send(await signed(compose(), ayse()))) is RefusalCode.SEALING_UNAVAILABLE
    assert await world.evidence() == []


async def test_in_the_grace_a_message_goes_without_both_stamps_and_says_so():
    world = await new_world(grace=True)
    world.tsa.down = True
    assert isinstance(await world.send(await signed(compose(), ayse())), Accepted)
    material, ers = await kept(world)
    assert material.record is None
    assert ers is None


async def test_material_stored_before_there_were_records_is_still_read(world):
    await world.send(await signed(compose(), ayse()))
    (message,) = await world.store.read(lambda tx: list(tx.messages.all()))
    blob = await world.store.read(lambda tx: tx.blobs.get(message.material))
    source = world.blobs.open(blob)
    plain = json.loads(source.read(0, source.size))
    del plain["record"]
    old = decode_material(json.dumps(plain).encode())
    assert old.record is None
    assert old.ocsp
    assert old.report["verdict"] == Verdict.PASSED


async def test_of_two_things_begun_together_the_first_error_goes_up_and_nobody_is_left_running():
    ended = []

    async def fails():
        await asyncio.sleep(0)
        raise LookupError

    async def waits():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    for pair in ((fails, waits), (waits, fails)):
        with pytest.raises(LookupError):
            await together(pair[0](), pair[1]())
    assert ended == [True, True]


# ------------------------------------------------------------------- the certificate


async def test_a_certificate_is_bound_when_it_first_signs_and_noted_in_the_process_record(world):
    answer = await world.send(await signed(compose(), ayse()))
    (certificate,) = await bound(world)
    assert certificate.sha256 == sha256(ayse().certificate).digest()
    assert certificate.how == "first-use"
    (entry,) = await entries(world, "certificate.bound")
    assert entry.subject == AYSE
    assert answer.message_id in entry.detail
    assert AYSE_TCKN not in entry.detail + entry.actor
    await world.send(await signed(compose(message_id="<2@test>"), ayse()))
    assert len(await bound(world)) == 1
    assert len(await entries(world, "certificate.bound")) == 1


async def test_a_new_certificate_on_two_messages_at_one_moment_is_bound_once(world):
    world.sealer.together = asyncio.Barrier(2)
    letters = [await signed(compose(message_id=f"<{n}@test>"), ayse()) for n in range(2)]
    answers = await asyncio.gather(*(world.send(letter) for letter in letters))
    assert all(isinstance(answer, Accepted) for answer in answers)
    assert len(await bound(world)) == len(await entries(world, "certificate.bound")) == 1


async def test_a_refused_message_binds_nothing(world):
    spoiled = (await signed(compose(), ayse())).replace(b"bildiririz", b"bildirmeyiz")
    assert isinstance(await world.send(spoiled), Refused)
    assert await bound(world) == []


async def test_a_withdrawn_certificate_is_refused_with_evidence(world):
    await world.send(await signed(compose(), ayse()))
    (one,) = await bound(world)
    await world.store.write(
        lambda tx: tx.accounts.withdraw_certificate(one.account_id, one.sha256, world.clock.now(), "test")
    )
    answer = await world.send(await signed(compose(message_id="<2@test>"), ayse()))
    assert code_of(answer) is RefusalCode.CERTIFICATE_WITHDRAWN
    assert (await world.kinds())[-1] is EvidenceKind.SUBMISSION_REJECTION


async def test_where_certificates_are_bound_by_challenge_alone_an_unbound_one_is_refused():
    world = await new_world(binding=BindingRule.CHALLENGE)
    assert code_of(await world.send(await signed(compose(), ayse()))) is RefusalCode.CERTIFICATE_NOT_BOUND
    assert await bound(world) == []


@pytest.mark.parametrize(
    ("provider", "account", "code"),
    [
        (False, False, RefusalCode.CERTIFICATE_NOT_QUALIFIED),
        (False, True, RefusalCode.CERTIFICATE_NOT_QUALIFIED),
        (True, False, RefusalCode.CERTIFICATE_NOT_QUALIFIED),
        (True, True, RefusalCode.CERTIFICATE_NOT_BOUND),
    ],
    ids=["nobody", "account-alone", "provider-alone", "both-unbound"],
)
async def test_a_seal_counts_where_provider_and_account_allow_it_and_it_is_bound(provider, account, code):
    world = await new_world(nes_policy=NesPolicy(allow_seals=provider))
    found = await world.accounts.find(AYSE)
    await world.store.write(lambda tx: tx.accounts.set_seals_allowed(found.account_id, account))
    seal = shared_pki().issue_user("Örnek Mühür", make_tckn(5), seal=True)
    assert code_of(await world.send(await signed(compose(), seal))) is code


async def test_a_seal_that_was_bound_by_challenge_signs_for_its_account():
    world = await new_world(nes_policy=NesPolicy(allow_seals=True))
    seal = shared_pki().issue_user("Örnek Mühür", make_tckn(5), seal=True)
    await world.send(await signed(compose(), ayse()))
    (ours,) = await bound(world)
    digest = sha256(seal.certificate).digest()

    def bind(tx):
        tx.accounts.set_seals_allowed(ours.account_id, True)
        tx.accounts.add_certificate(
            replace(ours, sha256=digest, der=seal.certificate, how="challenge", bound_at=world.clock.now())
        )

    await world.store.write(bind)
    answer = await world.send(await signed(compose(message_id="<2@test>"), seal))
    assert isinstance(answer, Accepted), answer


# ------------------------------------------------------------------- waiting


async def test_while_nobody_says_whether_the_certificate_is_revoked_the_message_waits(world):
    world.ocsp.down = True
    answer = await world.send(await signed(compose(), ayse()), to=(MEHMET,))
    assert code_of(answer) is RefusalCode.REVOCATION_UNKNOWN
    assert answer.refusal.text.temporary
    assert await world.evidence() == []
    assert await bound(world) == []


class Network:
    """What issuers of a specimen's certificates answer."""

    def __init__(self, specimen: Specimen) -> None:
        self._specimen = specimen

    async def status(self, certificate, issuer, _at):
        names = {sha256(one.der).digest(): name for name, one in self._specimen.shop.entities.items()}
        return self._specimen._answer(names[certificate.sha256], certificate, issuer)


async def submitted(name: str, *, grace: Grace = Grace.ANNOTATE, late: timedelta = timedelta(0), **changes):
    """Submit a message of the zoo to a provider that trusts the zoo's roots."""
    specimen = make(replace(VALID[name], asked=late, **changes))
    world = await new_world(nes_policy=NesPolicy(grace=grace))
    world.clock.at += late
    world.submit._trust, world.submit._revocation = specimen.trust, Network(specimen)
    message = specimen.message.replace(b"ayse@hs91", b"ayse.yilmaz@hs91").replace(
        b"mehmet@hs91", b"mehmet.demir@hs91"
    )
    return world, await world.send(message)


async def test_a_signature_that_claims_p4_is_accepted_and_its_profile_kept():
    world, answer = await submitted("p4")
    assert isinstance(answer, Accepted), answer
    material, _ = await kept(world)
    assert material.report["facts"]["profile"] == "P4"
    assert material.ocsp


async def test_a_signature_that_claims_p4_waits_where_its_certificate_is_known_by_a_list_alone():
    """The signature's own answer is past its time, and the responder is silent."""
    world, answer = await submitted("p4", network="crl", late=timedelta(days=3))
    assert code_of(answer) is RefusalCode.REVOCATION_UNKNOWN
    assert answer.refusal.text.temporary
    assert await world.evidence() == []


async def test_the_grace_of_p2_is_noted_in_both_languages_in_the_kept_report():
    world, answer = await submitted("p2")
    assert isinstance(answer, Accepted), answer
    material, _ = await kept(world)
    noted = [step for step in material.report["steps"] if step["ok"] is None]
    assert noted
    assert all(step["turkish"] and step["english"] and step["code"] for step in noted)
    assert not any("turkish" in step for step in material.report["steps"] if step["ok"])


async def test_where_the_grace_is_held_a_p2_signature_waits():
    world, answer = await submitted("p2", grace=Grace.HOLD)
    assert code_of(answer).value
    assert answer.refusal.text.temporary
    assert await world.evidence() == []
