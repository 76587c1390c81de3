"""The contract of `kephs.ports.Store`: the tree over the ledger, its checkpoints, other logs' checkpoints."""

from dataclasses import replace
from typing import Any

import pytest

from kephs.ports import StoredCheckpoint, Tx
from storage.errors import ReadOnlyError
from tests.support.ledger_world import LedgerWorld
from tests.support.stores import T0, after, evidence, with_message


def checkpoint(size: int = 3, **changes: Any) -> StoredCheckpoint:
    note = f"hs91.kep.tr/kephs-ledger\n{size}\nAAAA\n\n\N{EM DASH} log c2lnbmF0dXJl\n"
    return replace(StoredCheckpoint(size, bytes([size % 256]) * 32, note, after(size)), **changes)


async def test_a_tile_comes_back_as_it_went_in_and_a_longer_one_replaces_it(store: Any) -> None:
    assert await store.read(lambda tx: tx.tree.tile(0, 0)) is None
    await store.write(lambda tx: tx.tree.put_tile(0, 0, b"a" * 32))
    await store.write(lambda tx: tx.tree.put_tile(0, 1, b"b" * 32))
    await store.write(lambda tx: tx.tree.put_tile(1, 0, b"c" * 32))
    await store.write(lambda tx: tx.tree.put_tile(0, 0, b"a" * 64))
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    tiles = await store.read(lambda tx: [tx.tree.tile(*place) for place in places])
    assert tiles == [b"a" * 64, b"b" * 32, b"c" * 32, None]
    assert await store.read(lambda tx: tx.tree.tile_count()) == 3


async def test_tiles_of_a_very_large_tree_have_their_place(store: Any) -> None:
    await store.write(lambda tx: tx.tree.put_tile(0, 1 << 55, bytes(32)))
    assert await store.read(lambda tx: tx.tree.tile(0, 1 << 55)) == bytes(32)


async def test_the_newest_checkpoint_is_the_largest_and_each_is_found_by_its_size(store: Any) -> None:
    assert await store.read(lambda tx: tx.tree.checkpoint()) is None
    for size in (3, 700, 12):
        row = checkpoint(size, root=bytes(32))
        assert await store.write(lambda tx, row=row: tx.tree.add_checkpoint(row))
    assert await store.read(lambda tx: tx.tree.checkpoint()) == checkpoint(700, root=bytes(32))
    assert await store.read(lambda tx: tx.tree.checkpoint(12)) == checkpoint(12, root=bytes(32))
    assert await store.read(lambda tx: tx.tree.checkpoint(13)) is None


async def test_checkpoints_are_listed_by_size_a_page_at_a_time(store: Any) -> None:
    rows = [checkpoint(size) for size in (1, 2, 5, 9)]

    def add(tx: Tx) -> None:
        for row in reversed(rows):
            tx.tree.add_checkpoint(row)

    await store.write(add)
    assert await store.read(lambda tx: tx.tree.checkpoints(0, 2)) == rows[:2]
    assert await store.read(lambda tx: tx.tree.checkpoints(2, 10)) == rows[2:]
    assert await store.read(lambda tx: tx.tree.checkpoints(9, 10)) == []
    assert await store.read(lambda tx: list(tx.tree.survey_checkpoints())) == rows


async def test_a_second_checkpoint_of_one_size_is_refused_and_the_first_stays(store: Any) -> None:
    await store.write(lambda tx: tx.tree.add_checkpoint(checkpoint()))
    assert not await store.write(lambda tx: tx.tree.add_checkpoint(checkpoint(root=bytes(32))))
    assert await store.read(lambda tx: tx.tree.checkpoint()) == checkpoint()


async def test_a_note_gains_signatures(store: Any) -> None:
    await store.write(lambda tx: tx.tree.add_checkpoint(checkpoint()))
    await store.write(lambda tx: tx.tree.set_note(3, "longer"))
    assert await store.read(lambda tx: tx.tree.checkpoint(3)) == checkpoint(note="longer")
    with pytest.raises(KeyError):
        await store.write(lambda tx: tx.tree.set_note(4, "of none"))


async def test_the_newest_checkpoint_of_each_other_log_is_remembered(store: Any) -> None:
    assert await store.read(lambda tx: tx.tree.witnessed("hs92.kep.tr/kephs-ledger")) is None
    for size in (3, 8):
        row = checkpoint(size)
        await store.write(lambda tx, row=row: tx.tree.set_witnessed("hs92.kep.tr/kephs-ledger", row))
    await store.write(lambda tx: tx.tree.set_witnessed("other", checkpoint(1, at=T0)))
    assert await store.read(lambda tx: tx.tree.witnessed("hs92.kep.tr/kephs-ledger")) == checkpoint(8)
    assert await store.read(lambda tx: tx.tree.witnessed("other")) == checkpoint(1, at=T0)


async def test_a_failing_publication_leaves_neither_tiles_nor_checkpoint(store: Any) -> None:
    def fails(tx: Tx) -> None:
        tx.tree.put_tile(0, 0, bytes(32))
        tx.tree.add_checkpoint(checkpoint())
        tx.tree.set_witnessed("other", checkpoint())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.write(fails)
    left = await store.read(lambda tx: (tx.tree.tile(0, 0), tx.tree.checkpoint(), tx.tree.witnessed("other")))
    assert left == (None, None, None)


async def test_a_tree_that_is_read_cannot_be_written(store: Any) -> None:
    with pytest.raises(ReadOnlyError):
        await store.read(lambda tx: tx.tree.put_tile(0, 0, bytes(32)))
    assert await store.read(lambda tx: tx.tree.tile(0, 0)) is None


async def test_every_ledger_entry_has_its_own_random_salt(store: Any) -> None:
    await store.write(with_message)
    rows = [evidence(name, number=number) for name, number in (("e1", None), ("e2", 1), ("e3", 2))]
    entries = await store.write(lambda tx: [tx.evidence.add(row) for row in rows])
    stored = await store.read(lambda tx: tx.evidence.ledger(0, 10))
    assert stored == entries
    assert {len(entry.salt) for entry in stored} == {32}
    assert len({entry.salt for entry in stored}) == 3


async def test_a_ledger_is_published_proved_and_found_sound(store: Any) -> None:
    world = await LedgerWorld(store).build()
    made = await world.grow(5, 250, 3)
    assert [one.size for one in made] == [5, 255, 258]
    assert await world.store.read(lambda tx: tx.tree.checkpoints(0, 10)) == made
    proof = await world.prove.one("e256")
    assert (proof.number, proof.size) == (256, 258)
    assert await world.findings() == []
