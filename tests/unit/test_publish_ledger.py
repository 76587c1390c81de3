"""Publishing the ledger: what enters the tree, what is signed, and what is refused."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.ledger.merkle import MemoryTree, consistency_proof, root, verify_consistency
from evidence.ledger.notes import open_note
from evidence.ledger.proof import LedgerProof, check_proof
from kephs.ports import StoredCheckpoint
from kephs.usecases.proof.prove import NotInLedgerError
from kephs.usecases.proof.publish_ledger import (
    LedgerContradictionError,
    PublishLedger,
    _enter,
    entry_leaf,
    stored_tiles,
)
from storage.memory.store import MemoryStore
from storage.unit_of_work import SqliteStore
from tests.support.ledger_world import Cheat, LedgerWorld, signer
from tests.support.stores import COLUMN_KEY, T0, new_database


@pytest.fixture
async def world() -> LedgerWorld:
    return await LedgerWorld(MemoryStore()).build()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_database(tmp_path_factory.mktemp("template"))


@pytest.fixture
async def on_disk(tmp_path: Path, template: Path) -> AsyncIterator[tuple[LedgerWorld, Cheat]]:
    path = new_database(tmp_path, template)
    store = SqliteStore(path, column_key=COLUMN_KEY)
    await store.start()
    made = await LedgerWorld(store).build()
    yield made, Cheat(path, made.key)
    await store.close()


async def naive(world: LedgerWorld) -> MemoryTree:
    entries = await world.store.read(lambda tx: tx.evidence.ledger(0, 1_000_000))
    return MemoryTree(entry_leaf(entry) for entry in entries)


# What enters, what is signed.


async def test_nothing_is_signed_about_an_empty_ledger(world: LedgerWorld) -> None:
    assert await world.publisher.publish() is None
    assert await world.newest() is None


async def test_the_checkpoint_names_log_size_and_root_and_bears_the_logs_signature(
    world: LedgerWorld,
) -> None:
    await world.enter(3)
    made = await world.publisher.publish()
    assert made is not None
    signed = open_note(made.note.encode(), [world.key.verifier]).checkpoint
    tree = await naive(world)
    assert (signed.origin, signed.size, signed.root) == (world.key.name, 3, root(3, tree))
    assert made == StoredCheckpoint(3, signed.root, made.note, T0) == await world.newest()


async def test_publishing_again_with_nothing_new_signs_nothing(world: LedgerWorld) -> None:
    first = (await world.grow(3))[0]
    world.clock.forward()
    assert await world.publisher.publish() == first
    assert await world.store.read(lambda tx: tx.tree.checkpoints(0, 10)) == [first]


@pytest.mark.parametrize("counts", [(1, 1, 1), (255, 1, 1), (256, 256), (3, 600, 200), (700,)], ids=str)
async def test_tiles_and_roots_are_those_of_the_whole_tree_however_it_grew(
    world: LedgerWorld, counts: tuple[int, ...]
) -> None:
    made = await world.grow(*counts)
    tree = await naive(world)
    assert [(one.size, one.root) for one in made] == [
        (size, root(size, tree)) for size in (sum(counts[: n + 1]) for n in range(len(counts)))
    ]
    stored = await world.store.read(lambda tx: root(sum(counts), stored_tiles(tx, sum(counts))))
    assert stored == made[-1].root
    assert await world.found() == set()


async def test_more_than_a_batch_is_published_in_several_transactions_that_continue_each_other(
    world: LedgerWorld,
) -> None:
    await world.enter(25)
    publisher = PublishLedger(world.store, world.key, world.clock, alarm=world.alarms.append, batch=10)
    made = await publisher.publish()
    assert made is not None
    assert made.size == 25
    sizes = await world.store.read(lambda tx: [one.size for one in tx.tree.checkpoints(0, 100)])
    assert sizes == [10, 20, 25]


@settings(max_examples=25)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_every_checkpoint_begins_with_every_earlier_one(counts: list[int]) -> None:
    async def run() -> None:
        world = await LedgerWorld(MemoryStore()).build()
        made = await world.grow(*counts)
        newest = made[-1]
        for old in made:
            proof = await world.store.read(
                lambda tx, old=old: consistency_proof(old.size, newest.size, stored_tiles(tx, newest.size))
            )
            assert verify_consistency(old.size, old.root, newest.size, newest.root, proof)

    asyncio.run(run())


async def test_it_costs_as_much_as_is_new_however_large_the_tree_is(world: LedgerWorld) -> None:
    await world.grow(600)
    writes: list[tuple[int, int]] = []
    tree = world.store._tx.tree
    put = tree.put_tile

    def noted(level: int, number: int, hashes: bytes) -> None:
        writes.append((level, number))
        put(level, number, hashes)

    tree.put_tile = noted
    await world.grow(1)
    assert writes == [(0, 2)]


# When.


async def test_a_checkpoint_is_due_once_there_is_something_new_and_the_last_one_is_old_enough(
    world: LedgerWorld,
) -> None:
    async def due() -> Any:
        return await world.store.read(world.publisher.due)

    assert await due() is None
    await world.enter(1)
    since = await due()
    assert since <= world.clock.now()
    world.clock.forward(timedelta(seconds=1))
    assert await due() == since  # a moment that moves along with the clock would never have come
    await world.publisher.publish()
    assert await due() is None
    published = world.clock.now()
    world.clock.forward(timedelta(seconds=1))
    await world.enter(1)
    assert await due() == published + timedelta(seconds=10)


async def test_a_clock_that_was_set_back_makes_no_earlier_checkpoint(world: LedgerWorld) -> None:
    await world.grow(1)
    before = await world.newest()
    world.clock.forward(timedelta(hours=-2))
    await world.enter(1)
    made = await world.publisher.publish()
    assert before is not None
    assert made is not None
    assert made.at == before.at


# Several at once.


async def test_publishers_at_the_same_time_make_one_history(on_disk: tuple[LedgerWorld, Cheat]) -> None:
    world, _ = on_disk
    await world.enter(30)
    others = [
        PublishLedger(world.store, world.key, world.clock, alarm=world.alarms.append, batch=batch)
        for batch in (3, 7, 10, 30)
    ]
    made = await asyncio.gather(*(one.publish() for one in others))
    assert {one.size for one in made if one} == {30}
    assert world.alarms == []
    assert await world.found() == set()


async def test_one_that_was_overtaken_stores_nothing_of_its_own(on_disk: tuple[LedgerWorld, Cheat]) -> None:
    world, _ = on_disk
    await world.enter(3)
    growth = await world.store.read(world.publisher._grow)
    await world.grow(1)
    newest = await world.newest()
    late = replace(world.publisher._sign(growth), root=bytes(32))
    await world.store.write(lambda tx: _enter(tx, growth, late))
    assert await world.newest() == newest
    assert await world.found() == set()


# What is refused.


async def refused(world: LedgerWorld, why: str) -> None:
    before = await world.newest()
    await world.enter(1)
    with pytest.raises(LedgerContradictionError, match=why):
        await world.publisher.publish()
    assert len(world.alarms) == 1
    assert await world.newest() == before


async def test_nothing_is_signed_after_a_published_entry_was_dropped(
    on_disk: tuple[LedgerWorld, Cheat],
) -> None:
    world, cheat = on_disk
    await world.grow(5)
    cheat.drop(2)
    await refused(world, "not the one that was published|continue")


async def test_nothing_is_signed_after_the_last_published_entry_was_altered(
    on_disk: tuple[LedgerWorld, Cheat],
) -> None:
    world, cheat = on_disk
    await world.grow(5)
    cheat.alter(5, b"other bytes")
    await refused(world, "entry 5 is not the one that was published")


async def test_nothing_is_signed_over_a_broken_chain(on_disk: tuple[LedgerWorld, Cheat]) -> None:
    world, cheat = on_disk
    await world.grow(2)
    await world.enter(2)
    cheat.sql("UPDATE ledger SET at = at - 1 WHERE seq = 3")
    await refused(world, "entry 3")


async def test_nothing_is_signed_where_an_entry_is_missing(on_disk: tuple[LedgerWorld, Cheat]) -> None:
    world, cheat = on_disk
    await world.grow(2)
    await world.enter(3)
    cheat.sql("DELETE FROM ledger WHERE seq = 4")
    await refused(world, "entry 4")


async def test_nothing_is_signed_over_tiles_that_were_altered(on_disk: tuple[LedgerWorld, Cheat]) -> None:
    world, cheat = on_disk
    await world.grow(5)
    tile = cheat.sql("SELECT hashes FROM ledger_tiles")[0][0]
    cheat.sql("UPDATE ledger_tiles SET hashes = ?", bytes(32) + tile[32:])
    await refused(world, "has not the root any more that was signed at 5")


async def test_nothing_is_signed_over_tiles_that_are_gone(on_disk: tuple[LedgerWorld, Cheat]) -> None:
    world, cheat = on_disk
    await world.grow(5)
    cheat.sql("DELETE FROM ledger_tiles")
    await refused(world, "not the one that was published")


async def test_nothing_is_signed_after_a_checkpoint_that_is_not_ours(
    on_disk: tuple[LedgerWorld, Cheat],
) -> None:
    world, cheat = on_disk
    await world.grow(5)
    Cheat(cheat.path, signer(2)).publish_anew(keep_older=False)
    await refused(world, "the checkpoint at 5 is not ours")


async def test_nothing_is_signed_after_a_checkpoint_whose_row_says_otherwise(
    on_disk: tuple[LedgerWorld, Cheat],
) -> None:
    world, cheat = on_disk
    await world.grow(5)
    cheat.sql("UPDATE checkpoints SET root = ?", bytes(32))
    await refused(world, "says otherwise than its row")


async def test_nothing_is_signed_after_a_salt_was_lost(on_disk: tuple[LedgerWorld, Cheat]) -> None:
    world, cheat = on_disk
    await world.grow(2)
    await world.enter(2)
    cheat.sql("UPDATE ledger SET salt = X'00' WHERE seq = 4")
    await refused(world, "32 octets")


# Proofs.


async def test_each_evidence_is_proved_under_one_checkpoint(world: LedgerWorld) -> None:
    await world.grow(3, 300)
    proven = await world.prove.prove(list(world.xml))
    checkpoint = open_note(proven.note, [world.key.verifier]).checkpoint
    assert checkpoint.size == 303
    entries = await world.store.read(lambda tx: {e.evidence_id: e for e in tx.evidence.ledger(0, 1000)})
    for evidence_id, proof in proven.proofs.items():
        read = LedgerProof.read(proof.encode())
        digest = entries[evidence_id].evidence_sha256
        assert check_proof(read, digest, checkpoint)
        assert not check_proof(read, bytes(32), checkpoint)


async def test_what_is_newer_than_the_newest_checkpoint_is_published_before_it_is_proved(
    world: LedgerWorld,
) -> None:
    await world.grow(2)
    (fresh,) = await world.enter(1)
    proof = await world.prove.one(fresh)
    assert (proof.number, proof.size) == (3, 3)


async def test_what_is_not_entered_is_not_proved(world: LedgerWorld) -> None:
    await world.grow(2)
    with pytest.raises(NotInLedgerError):
        await world.prove.one("nobody")


async def test_no_proof_is_given_out_that_does_not_hold(on_disk: tuple[LedgerWorld, Cheat]) -> None:
    world, cheat = on_disk
    await world.grow(5)
    cheat.alter(2, b"other bytes")
    with pytest.raises(LedgerContradictionError):
        await world.prove.one("e2")
    assert (await world.prove.one("e3")).number == 3
