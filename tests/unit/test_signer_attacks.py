"""Perfect signatures of the wrong person: what a certificate says of names and e-mail opens no account."""

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from evidence.model.records import EvidenceKind, ReasonCode
from evidence.nes.verifier import NesPolicy
from kephs.domain.refusals import RefusalCode
from kephs.testpki.issued import Issued
from kephs.testpki.profiles import make_tckn
from kephs.usecases.submission.results import Accepted, Refused
from kephs.usecases.submission.signers import BindingRule
from tests.support.pki import AYSE_TCKN, ayse, mehmet, shared_pki
from tests.support.signers import ENTITY, detached_around, good_attributes, sha256, signed_data, signer_info
from tests.support.world import AYSE, KURUM, World, compose, signed


def with_email(issued: Issued, address: str) -> Issued:
    """Return a holder's certificate with an e-mail address beside the name, signed by the same authority."""
    old, authority = issued.x509, shared_pki().authorities["p384"]
    builder = x509.CertificateBuilder(
        old.issuer, old.subject, old.public_key(), old.serial_number,
        old.not_valid_before_utc, old.not_valid_after_utc,
    )  # fmt: skip
    for one in old.extensions:
        builder = builder.add_extension(one.value, critical=one.critical)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(address)]), critical=False)
    made = builder.sign(authority.issued.key, hashes.SHA384())
    return replace(issued, certificate=made.public_bytes(Encoding.DER))


async def rows(world: World, address: str = AYSE):
    return await world.store.read(
        lambda tx: list(tx.accounts.certificates(tx.accounts.by_address(address).account_id))
    )


async def refused(world: World, message: bytes, code: RefusalCode, **how) -> None:
    outcome = await world.send(message, **how)
    assert isinstance(outcome, Refused)
    assert outcome.refusal.code is code, outcome.refusal
    record = (await world.evidence())[-1]
    assert record.kind is EvidenceKind.SUBMISSION_REJECTION
    assert record.reasons[0].details.startswith(code.value)
    assert await rows(world, how.get("sender", AYSE)) == []


@pytest.fixture
async def world() -> World:
    return await World().open_accounts()


async def test_the_twin_the_holders_own_certificate_is_accepted_and_bound(world: World):
    assert isinstance(await world.send(await signed(compose(), ayse())), Accepted)
    (row,) = await rows(world)
    assert (row.der, row.how) == (ayse().certificate, "first-use")


async def test_attack_same_common_name_other_number(world: World):
    double = shared_pki().issue_user("Ayşe Yılmaz", make_tckn(900))
    await refused(world, await signed(compose(), double), RefusalCode.SIGNER_NOT_AUTHORISED)


async def test_attack_the_accounts_address_as_the_certificates_email(world: World):
    double = with_email(shared_pki().issue_user("Ayşe Yılmaz", make_tckn(901)), AYSE)
    assert AYSE.encode() in double.certificate
    await refused(world, await signed(compose(), double), RefusalCode.SIGNER_NOT_AUTHORISED)


async def test_attack_a_stranger_signs_beside_the_holder(world: World):
    both = (ayse(), mehmet_p384())
    cms = signed_data(
        sorted(
            signer_info(one, list(good_attributes(one, sha256(ENTITY).digest()).values())) for one in both
        ),
        sorted(one.certificate for one in both),
    )
    message = _as_mail(cms)
    await refused(world, message, RefusalCode.SIGNER_NOT_AUTHORISED)
    alone = signed_data(
        [signer_info(ayse(), list(good_attributes(ayse(), sha256(ENTITY).digest()).values()))],
        [ayse().certificate],
    )
    assert isinstance(await world.send(_as_mail(alone)), Accepted)


def mehmet_p384() -> Issued:
    return shared_pki().issue_user("Mehmet Demir", make_tckn(2))


def _as_mail(cms: bytes) -> bytes:
    """Return Ayşe's message to Mehmet around a signature over `ENTITY`."""
    return (
        detached_around(cms)
        .replace(b"ayse@hs91.kep.tr", AYSE.encode())
        .replace(b"mehmet@hs91.kep.tr", b"mehmet.demir@hs91.kep.tr")
    )


async def test_attack_a_certificate_of_another_account_of_this_provider(world: World):
    await refused(world, await signed(compose(), mehmet()), RefusalCode.SIGNER_NOT_AUTHORISED)


async def test_attack_a_seal_that_names_the_holders_number():
    world = await World(nes_policy=NesPolicy(allow_seals=True)).open_accounts()
    seal = shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN, seal=True)
    await refused(world, await signed(compose(), seal), RefusalCode.CERTIFICATE_NOT_QUALIFIED)
    account = await world.accounts.find(KURUM)
    await world.store.write(lambda tx: tx.accounts.set_seals_allowed(account.account_id, True))
    message = await signed(compose(sender=KURUM), seal)
    await refused(world, message, RefusalCode.CERTIFICATE_NOT_BOUND, sender=KURUM)


async def test_in_challenge_mode_even_the_holder_is_told_to_bind_first():
    world = await World(binding=BindingRule.CHALLENGE).open_accounts()
    await refused(world, await signed(compose(), ayse()), RefusalCode.CERTIFICATE_NOT_BOUND)
    assert (await world.evidence())[-1].reasons[0].code is ReasonCode.POLICY_VIOLATION
