"""Both digests of a message are stored, however large it is and whatever became of it."""

from hashlib import sha256, sha512

import pytest

from kephs.usecases.sized import HERE_MAX
from kephs.usecases.submission.results import Accepted, Refused
from tests.support.pki import ayse
from tests.support.world import compose, new_world, signed

LINE = b"satir metni, bir cok kelime ve daha\r\n"


@pytest.mark.parametrize("lines", [1, 2 * HERE_MAX // len(LINE)], ids=["small", "large"])
@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "refused"])
async def test_a_message_is_stored_with_both_digests_of_its_octets(lines: int, *, accepted: bool) -> None:
    world = await new_world()
    letter = compose().replace(b"Say", LINE * lines + b"Say")
    letter = await signed(letter, ayse()) if accepted else letter
    assert (len(letter) > HERE_MAX) is (lines > 1)
    outcome = await world.send(letter)
    assert isinstance(outcome, Accepted if accepted else Refused)
    (stored,) = await world.store.read(lambda tx: list(tx.messages.all()))
    expected = (sha256(letter).digest(), sha512(letter).digest(), len(letter))
    assert (stored.digest_sha256, stored.digest_sha512, stored.size) == expected
