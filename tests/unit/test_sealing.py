"""Sealing: nothing leaves without signature and stamp."""

import asyncio
from datetime import timedelta
from hashlib import sha256

import pytest

from evidence.adapters.batch_stamper import BatchStamper
from evidence.cms.signed_data import SIGNATURE_TIME_STAMP, parse_signed_data
from evidence.model.records import KEP_KINDS
from evidence.ports import SignerUnavailableError, Stamping, TimestampUnavailableError
from evidence.seal.sealing import STAMPS_AT_ONCE, Sealer
from evidence.stamps.ers import split_record
from evidence.stamps.timestamps import read_token
from evidence.verify.evidence import verify_evidence
from evidence.x509.certificates import certificate_facts
from evidence.xades.check import open_signature
from kephs.domain.refusals import RefusalCode
from tests.support.evidence_samples import AT, record
from tests.support.pki import ayse, shared_pki
from tests.support.sealed import LATER, STAMPED, LocalTimestamper, sealer, signer_of, trust
from tests.support.world import DOMAIN, MEHMET, compose, new_world, signed


class SilentTimestamper:
    async def stamp(self, _digest):
        raise TimestampUnavailableError


class SilentSigner:
    def __init__(self):
        issued = shared_pki().transactions["hs91.kep.tr"]
        self.certificate, self.chain = issued.certificate, issued.chain

    async def sign_many(self, _digests):
        raise SignerUnavailableError


class CountingSigner:
    """Says how often the key was asked."""

    def __init__(self):
        self.inner = signer_of(shared_pki().transactions["hs91.kep.tr"])
        self.certificate, self.chain = self.inner.certificate, self.inner.chain
        self.calls = 0

    async def sign_many(self, digests):
        self.calls += 1
        return await self.inner.sign_many(digests)


async def test_sealed_evidence_has_a_stamp_over_its_signature():
    sealed = await sealer().seal(record())
    found = open_signature(sealed.xml)
    (token,) = found.tokens
    info = read_token(token).info
    assert info.imprint == sha256(found.stamped).digest()
    assert info.gen_time == STAMPED
    assert verify_evidence(sealed.xml, trust(), LATER).passed


async def test_without_a_stamp_there_is_no_evidence():
    quiet = Sealer(signer_of(shared_pki().transactions["hs91.kep.tr"]), SilentTimestamper())
    with pytest.raises(TimestampUnavailableError):
        await quiet.seal(record())
    with pytest.raises(TimestampUnavailableError):
        await quiet.sign_entity(bytes(32), AT)


class GatheringTimestamper(LocalTimestamper):
    """Gives a token once so many ask at the same time; says how many that were at most."""

    def __init__(self, company):
        super().__init__()
        self.company, self.waiting, self.most = asyncio.Barrier(company), 0, 0

    async def stamp(self, digest):
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self.company.wait()
        self.waiting -= 1
        return await super().stamp(digest)


async def test_many_messages_are_signed_at_once_and_each_has_a_stamp_over_its_own_signature():
    stamps = GatheringTimestamper(STAMPS_AT_ONCE)
    signer = CountingSigner()
    digests = [sha256(bytes([number])).digest() for number in range(3 * STAMPS_AT_ONCE)]
    signed = await Sealer(signer, stamps).sign_entities(digests, AT)
    assert signer.calls == 1
    assert stamps.most == STAMPS_AT_ONCE, "a slow authority is not asked for more at once"
    for digest, p7s in zip(digests, signed, strict=True):
        assert digest in p7s
        (one,) = parse_signed_data(p7s).signers
        (token,) = one.unsigned_values(SIGNATURE_TIME_STAMP)
        assert read_token(token.whole).info.imprint == sha256(one.signature).digest()


async def test_where_one_of_many_has_no_stamp_none_is_signed_and_nobody_goes_on_asking():
    asked = []

    class Failing:
        async def stamp(self, digest):
            asked.append(digest)
            await asyncio.sleep(0)  # as whoever asks over a network
            raise TimestampUnavailableError("closed")

    quiet = Sealer(signer_of(shared_pki().transactions["hs91.kep.tr"]), Failing())
    with pytest.raises(TimestampUnavailableError, match="closed"):
        await quiet.sign_entities([bytes(32)] * 100, AT)
    assert len(asked) < 2 * STAMPS_AT_ONCE


async def test_without_a_key_there_is_no_evidence():
    with pytest.raises(SignerUnavailableError):
        await Sealer(SilentSigner(), LocalTimestamper()).seal(record())


async def test_many_records_cost_one_call_of_the_key_and_keep_their_order():
    signer = CountingSigner()
    records = [record(kind, refers_to=None) for kind in sorted(KEP_KINDS)]
    sealed = await Sealer(signer, LocalTimestamper()).seal_many(records)
    assert signer.calls == 1
    assert [item.record for item in sealed] == records
    assert all(verify_evidence(item.xml, trust(), LATER).passed for item in sealed)


async def test_the_claimed_signing_time_is_the_event_time():
    assert open_signature((await sealer().seal(record())).xml).signing_time == record().event_time


async def test_in_batch_mode_the_record_stands_beside_and_one_token_serves_all():
    stamps = LocalTimestamper()
    batches = Sealer(signer_of(shared_pki().transactions["hs91.kep.tr"]), stamps, BatchStamper(stamps))
    sealed = await batches.seal_many([record(kind, refers_to=None) for kind in sorted(KEP_KINDS)])
    tokens = {split_record(item.ers)[1] for item in sealed}
    assert len(tokens) == 1
    for item in sealed:
        assert open_signature(item.xml).tokens == ()
        assert verify_evidence(item.xml, trust(), LATER, ers=item.ers).passed
    # siblings of the tree share one record (RFC 4998); further ones do not
    assert not verify_evidence(sealed[0].xml, trust(), LATER, ers=sealed[-1].ers).passed


async def test_a_peer_that_did_not_agree_gets_its_stamp_inside_in_batch_mode_too():
    stamps = LocalTimestamper()
    batches = Sealer(signer_of(shared_pki().transactions["hs91.kep.tr"]), stamps, BatchStamper(stamps))
    (sealed,) = await batches.seal_many([record()], stamping=Stamping.OWN)
    assert sealed.ers is None
    assert len(open_signature(sealed.xml).tokens) == 1


async def test_only_the_grace_lets_evidence_out_without_its_record():
    signer = signer_of(shared_pki().transactions["hs91.kep.tr"])
    quiet = BatchStamper(SilentTimestamper())
    with pytest.raises(TimestampUnavailableError):
        await Sealer(signer, SilentTimestamper(), quiet).seal(record())
    (sealed,) = await Sealer(signer, SilentTimestamper(), quiet, unstamped_grace=True).seal_many([record()])
    assert sealed.ers is None
    assert open_signature(sealed.xml).tokens == ()
    with pytest.raises(TimestampUnavailableError):  # what leaves to a peer never does so unstamped
        await Sealer(signer, SilentTimestamper(), quiet, unstamped_grace=True).seal_many(
            [record()], stamping=Stamping.OWN
        )


async def test_the_message_signature_is_detached_and_stamped():
    p7s = await sealer().sign_entity(sha256(b"entity").digest(), AT)
    signed = parse_signed_data(p7s)
    assert signed.content is None
    (signer,) = signed.signers
    (token,) = signer.unsigned_values(SIGNATURE_TIME_STAMP)
    assert read_token(token.whole).info.imprint == sha256(signer.signature).digest()


def valid(**limits) -> Sealer:
    issued = shared_pki().issue_transaction("hs91.kep.tr", "TEST", **limits)
    return Sealer(signer_of(issued), LocalTimestamper())


@pytest.mark.parametrize(
    "limits",
    [
        {"not_after": AT - timedelta(seconds=1)},
        {"not_before": AT + timedelta(hours=1), "not_after": AT + timedelta(days=1)},
    ],
    ids=["expired", "not valid yet"],
)
async def test_an_expired_transaction_certificate_seals_and_signs_nothing(limits):
    with pytest.raises(SignerUnavailableError):
        await valid(**limits).seal(record())
    with pytest.raises(SignerUnavailableError):
        await valid(**limits).sign_entity(sha256(b"entity").digest(), AT)


async def test_one_claimed_time_outside_the_certificates_validity_stops_the_whole_batch():
    ends = valid(not_after=AT + timedelta(minutes=10))
    late = record(event_time=AT + timedelta(minutes=11))
    assert len(await ends.seal_many([record()])) == 1
    with pytest.raises(SignerUnavailableError):
        await ends.seal_many([record(), late])
    with pytest.raises(SignerUnavailableError):
        await ends.seal(late)


async def test_both_ends_of_the_validity_belong_to_it():
    ends = valid(not_before=AT, not_after=STAMPED)
    for at in (AT, STAMPED):
        assert await ends.seal(record(event_time=at))
        assert await ends.sign_entity(sha256(b"entity").digest(), at)


async def test_a_transaction_certificate_that_expires_while_running_makes_senders_and_readers_wait():
    world = await new_world()
    await world.send(await signed(compose(), ayse()))
    await world.work()
    before = await world.kinds()
    delivery = (await world.store.read(lambda tx: list(tx.deliveries.of_message(_only(tx)))))[0]
    mine = certificate_facts(shared_pki().transactions[DOMAIN].certificate)
    world.clock.at = mine.not_after + timedelta(seconds=1)
    answer = await world.send(compose(message_id="<2@test>"))
    assert answer.refusal.code is RefusalCode.SEALING_UNAVAILABLE
    assert answer.evidence_id is None
    reader = await world.person(MEHMET)
    assert await world.reader.expose(reader, [delivery.delivery_id]) == frozenset()
    assert await world.kinds() == before


def _only(tx) -> str:
    (message,) = tx.messages.all()
    return str(message.message_id)
