"""A peer may take less, or more, than the general limit between providers (KEP-MS-02, KEP-MS-04)."""

from dataclasses import replace

import pytest

from kephs.domain.refusals import RefusalCode
from kephs.usecases.submission.results import Accepted, Refused
from tests.support.pair import new_pair, peer_of
from tests.support.pki import ayse
from tests.support.world import CAN, FATMA, MEHMET, PEER, compose, signed


@pytest.mark.parametrize(("takes", "accepted"), [(20, False), (10_000, True)])
async def test_the_registers_size_of_the_peer_decides_and_names_its_recipients(
    takes: int, accepted: bool
) -> None:
    pair = await new_pair()
    pair.here.peers[PEER] = replace(peer_of(PEER), max_message=takes)
    to = (MEHMET, FATMA, CAN)
    outcome = await pair.here.send(await signed(compose(to=to), ayse()), to=to)
    if accepted:
        assert isinstance(outcome, Accepted)
        return
    assert isinstance(outcome, Refused)
    assert outcome.refusal.code is RefusalCode.TOO_BIG_FOR_PROVIDER
    assert set(outcome.refusal.recipients) == {FATMA, CAN}
