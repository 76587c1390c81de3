"""Sealing: nothing leaves without signature and stamp."""

from datetime import timedelta
from hashlib import sha256

import pytest

from evidence.cms import SIGNATURE_TIME_STAMP, parse_signed_data
from evidence.ports import SignerUnavailableError, TimestampUnavailableError
from evidence.records import EvidenceKind
from evidence.sealing import Sealer
from evidence.timestamps import read_token
from evidence.verify_evidence import verify_evidence
from evidence.xades_verify import open_signature
from tests.support.evidence_samples import AT, record
from tests.support.pki import shared_pki
from tests.support.sealed import LATER, STAMPED, LocalTimestamper, sealer, signer_of, trust


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


async def test_without_a_key_there_is_no_evidence():
    with pytest.raises(SignerUnavailableError):
        await Sealer(SilentSigner(), LocalTimestamper()).seal(record())


async def test_many_records_cost_one_call_of_the_key_and_keep_their_order():
    signer = CountingSigner()
    records = [record(kind, refers_to=None) for kind in EvidenceKind]
    sealed = await Sealer(signer, LocalTimestamper()).seal_many(records)
    assert signer.calls == 1
    assert [item.record for item in sealed] == records
    assert all(verify_evidence(item.xml, trust(), LATER).passed for item in sealed)


async def test_the_claimed_signing_time_is_the_event_time_or_the_one_given():
    assert open_signature((await sealer().seal(record())).xml).signing_time == record().event_time
    at = AT + timedelta(seconds=3)
    assert open_signature((await sealer().seal(record(), at=at)).xml).signing_time == at


async def test_the_message_signature_is_detached_and_stamped():
    p7s = await sealer().sign_entity(sha256(b"entity").digest(), AT)
    signed = parse_signed_data(p7s)
    assert signed.content is None
    (signer,) = signed.signers
    (token,) = signer.unsigned_values(SIGNATURE_TIME_STAMP)
    assert read_token(token.whole).info.imprint == sha256(signer.signature).digest()
