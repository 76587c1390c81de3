"""What a bundle needs and no mailbox holds is looked for too: material, KEP messages that were sent away."""

from typing import Any

import pytest

from kephs.ports import Tx
from tests.support.fsck_world import World, inbox


@pytest.fixture
async def world(store: Any) -> World:
    made = await World(store).build()
    made.rows["material"] = kept = await made.blobs.put(b"material")

    def add(tx: Tx) -> None:
        tx.blobs.add(kept)

    await store.write(add)
    made.change("messages", "m1", material=kept.sha256)
    assert await made.check(deep=True) == []
    return made


async def test_material_that_was_lost_is_found(world: World) -> None:
    await world.blobs.erase(world.rows["material"])
    assert await world.found() == {("message.content_missing", "m1")}


async def test_material_that_was_altered_is_found_when_deep(world: World) -> None:
    world.blobs._contents[world.rows["material"].place] = b"materia?"
    assert await world.found() == set()
    assert [f.code.value for f in await world.check(deep=True)] == ["message.content_missing"]


async def test_a_dispatch_that_lies_in_no_mailbox_here_is_read_when_deep(world: World) -> None:
    for key in ("d1", "d2"):
        world.change("deliveries", key, peer="hs92.kep.tr")
    await world.store.write(lambda tx: tx.mailboxes.remove(inbox(tx), [1]))
    world.blobs._contents[world.rows["dispatch"].place] = b"dispatc?"
    told = [(f.code.value, f.detail) for f in await world.check(deep=True)]
    assert ("message.content_missing", "KEP message: another digest") in told
