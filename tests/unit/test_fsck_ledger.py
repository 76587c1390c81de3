"""fsck on a ledger whose provider cheats with the database, and with its own key, in hand."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from evidence.ledger.merkle import leaf_data, leaf_hash
from evidence.ledger.notes import Checkpoint, sign_checkpoint
from storage.fsck.findings import FindingCode
from storage.rows.values import to_micros
from storage.unit_of_work import SqliteStore
from tests.support.ledger_world import DAY, Cheat, LedgerWorld, signer
from tests.support.stores import COLUMN_KEY, T0, new_database

Play = Callable[[LedgerWorld, Cheat], None]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_database(tmp_path_factory.mktemp("template"))


@pytest.fixture
async def world(tmp_path: Path, template: Path) -> AsyncIterator[LedgerWorld]:
    store = SqliteStore(new_database(tmp_path, template), column_key=COLUMN_KEY)
    await store.start()
    yield await LedgerWorld(store).build()
    await store.close()


@pytest.fixture
def cheat(world: LedgerWorld) -> Cheat:
    return Cheat(world.store._path, world.key)


def drop(_world: LedgerWorld, cheat: Cheat) -> None:
    cheat.drop(4)


def drop_last(_world: LedgerWorld, cheat: Cheat) -> None:
    cheat.drop(12)


def alter(world: LedgerWorld, cheat: Cheat) -> None:
    cheat.alter(4, world.xml["e4"].replace(b"Demir", b"Kaya."))


def swap(_world: LedgerWorld, cheat: Cheat) -> None:
    cheat.swap(4, 6)


def back_date(world: LedgerWorld, cheat: Cheat) -> None:
    row, content = world.made(99, T0)
    cheat.back_date(4, row, content)


WAYS: dict[str, Play] = {
    "drop": drop, "drop-last": drop_last, "alter": alter, "swap": swap, "back-date": back_date,
}  # fmt: skip


# Sound ones.


@pytest.mark.parametrize("counts", [(), (1,), (5, 0, 3), (256,), (250, 6, 1), (300, 300)], ids=str)
async def test_a_sound_ledger_has_no_findings(world: LedgerWorld, counts: tuple[int, ...]) -> None:
    await world.grow(*counts)
    assert await world.found() == set()
    await world.enter(2)  # not published yet
    assert await world.found() == set()


async def test_a_ledger_that_was_never_published_has_no_findings(world: LedgerWorld) -> None:
    await world.enter(3)
    assert await world.found() == set()


async def test_without_the_logs_key_signatures_are_not_looked_at(world: LedgerWorld, cheat: Cheat) -> None:
    await world.grow(3)
    Cheat(cheat.path, signer(2)).publish_anew(keep_older=False)
    assert await world.found() == {("checkpoint.unsigned", "3")}
    world.key = signer(2)
    assert await world.found() == set()


# A provider that cheats with the rows, the hash chain made anew without a flaw, the tree left alone.


async def test_an_evidence_that_was_dropped_is_found(world: LedgerWorld, cheat: Cheat) -> None:
    await world.grow(5, 7)
    cheat.drop(4)
    findings = {(f.code.value, f.subject): f.detail for f in await world.findings()}
    assert findings == {
        ("tree.other_leaf", "4"): "to 11: 8",
        ("ledger.short", "12"): "1 of 12 published entries are gone",
    }


async def test_the_newest_evidence_that_was_dropped_is_found(world: LedgerWorld, cheat: Cheat) -> None:
    await world.grow(5, 7)
    cheat.drop(12)
    assert await world.found() == {("ledger.short", "12")}


async def test_an_evidence_that_was_altered_is_found(world: LedgerWorld, cheat: Cheat) -> None:
    await world.grow(5, 7)
    alter(world, cheat)
    assert await world.found() == {("tree.other_leaf", "4")}


async def test_two_evidence_that_changed_places_are_found(world: LedgerWorld, cheat: Cheat) -> None:
    await world.grow(5, 7)
    cheat.swap(4, 6)
    assert await world.found() == {("tree.other_leaf", "4"), ("tree.other_leaf", "6")}


async def test_an_evidence_that_was_put_in_among_older_ones_is_found(
    world: LedgerWorld, cheat: Cheat
) -> None:
    await world.grow(5, 7)
    back_date(world, cheat)
    assert ("tree.other_leaf", "4") in await world.found()


async def test_an_evidence_that_was_entered_late_with_an_old_time_is_found(world: LedgerWorld) -> None:
    await world.grow(5)
    world.clock.forward(DAY)
    await world.grow(3)
    await world.enter(1, at=T0)
    assert await world.found() == {("ledger.entered_late", "9")}
    await world.grow(1)
    assert await world.found() == {("ledger.entered_late", "9")}


async def test_evidence_of_peers_may_be_older_than_its_entry(world: LedgerWorld) -> None:
    await world.grow(5)
    world.clock.forward(DAY)
    await world.grow(3)
    await world.enter(1, at=T0, origin="hs92.kep.tr")
    await world.grow(1)
    assert await world.found() == set()


async def test_a_short_wait_before_an_evidence_is_entered_is_no_finding(world: LedgerWorld) -> None:
    await world.grow(5)
    await world.enter(1, at=world.clock.now() - timedelta(minutes=59))
    assert await world.found() == set()


async def test_a_time_changed_in_ledger_and_evidence_with_the_chain_made_anew_is_left_to_the_signed_xml(
    world: LedgerWorld, cheat: Cheat
) -> None:
    """What the tree does not cover the XML does: fsck compares the row's time with it (evidence.other_facts)."""
    await world.grow(5)
    cheat.rewrite(lambda all_: [replace(e, at=e.at - DAY) if e.number == 4 else e for e in all_])
    assert await world.found() == {("ledger.other_time", "4")}


# The same, and the tree made anew: the newest checkpoint is signed again over it.


@pytest.mark.parametrize("play", WAYS.values(), ids=WAYS)
async def test_a_tree_made_anew_contradicts_the_checkpoints_signed_before(
    world: LedgerWorld, cheat: Cheat, play: Play
) -> None:
    await world.grow(5, 3, 4)
    play(world, cheat)
    cheat.publish_anew(keep_older=True)
    found = await world.found()
    if (
        play is drop_last
    ):  # it is in the newest checkpoint alone, which is gone: only who holds that one sees it
        assert found == set()
    else:
        assert ("tree.other_root", "5") in found


async def test_a_newest_checkpoint_signed_again_at_another_size_is_found_by_times_or_roots(
    world: LedgerWorld, cheat: Cheat
) -> None:
    await world.grow(5, 3)
    cheat.sql("UPDATE checkpoints SET at = ? WHERE size = 8", to_micros(T0 - DAY))
    assert await world.found() == {("checkpoint.other_time", "8")}


# Tiles.


async def test_a_leaf_altered_in_its_tile_is_found_by_entry_and_root(
    world: LedgerWorld, cheat: Cheat
) -> None:
    await world.grow(5, 3)
    tile = cheat.sql("SELECT hashes FROM ledger_tiles")[0][0]
    cheat.sql("UPDATE ledger_tiles SET hashes = ?", tile[:64] + bytes(32) + tile[96:])
    findings = {(f.code.value, f.subject): f.detail for f in await world.findings()}
    assert findings == {("tree.other_leaf", "3"): "", ("tree.other_root", "5"): "to 8: 2"}


async def test_an_upper_tile_altered_is_found_by_itself(world: LedgerWorld, cheat: Cheat) -> None:
    await world.grow(600)
    tile = cheat.sql("SELECT hashes FROM ledger_tiles WHERE level = 1")[0][0]
    cheat.sql("UPDATE ledger_tiles SET hashes = ? WHERE level = 1", tile[:32] + bytes(32))
    assert await world.found() == {("tree.other_tile", "1/0")}


@pytest.mark.parametrize(("level", "number"), [(0, 0), (0, 2), (1, 0)])
async def test_a_tile_that_is_gone_is_found(
    world: LedgerWorld, cheat: Cheat, level: int, number: int
) -> None:
    await world.grow(600)
    cheat.sql("DELETE FROM ledger_tiles WHERE level = ? AND number = ?", level, number)
    assert await world.found() == {("tree.tile_missing", f"{level}/{number}")}


async def test_a_tile_that_was_cut_is_found(world: LedgerWorld, cheat: Cheat) -> None:
    await world.grow(5)
    cheat.sql("UPDATE ledger_tiles SET hashes = substr(hashes, 1, 100)")
    assert await world.found() == {("tree.tile_missing", "0/0")}


async def test_tiles_beyond_the_newest_checkpoint_are_found(world: LedgerWorld, cheat: Cheat) -> None:
    await world.grow(5, 3)
    cheat.sql("DELETE FROM checkpoints WHERE size = 8")
    assert ("tree.tile_extra", "0/0") in await world.found()
    cheat.sql("INSERT INTO ledger_tiles VALUES (3, 7, X'00')")
    assert ("tree.tile_extra", "") in await world.found()


async def test_tiles_without_any_checkpoint_are_found(world: LedgerWorld, cheat: Cheat) -> None:
    await world.grow(5)
    cheat.sql("DELETE FROM checkpoints")
    assert await world.found() != set()


# Checkpoints.


async def test_a_checkpoint_signed_by_another_key_is_found(world: LedgerWorld) -> None:
    await world.grow(3)
    codes = {finding.code for finding in await world.findings(signer(2))}
    assert codes == {FindingCode.CHECKPOINT_UNSIGNED}


async def test_a_checkpoint_whose_row_says_otherwise_than_its_note_is_found(
    world: LedgerWorld, cheat: Cheat
) -> None:
    await world.grow(3, 3)
    cheat.sql("UPDATE checkpoints SET root = ? WHERE size = 3", bytes(32))
    assert await world.found() == {("checkpoint.other_facts", "3")}


async def test_a_checkpoint_about_entries_that_never_were_is_found(world: LedgerWorld, cheat: Cheat) -> None:
    await world.grow(3)
    note = sign_checkpoint(Checkpoint(world.key.name, 1 << 60, bytes(32)), world.key).decode()
    cheat.sql("INSERT INTO checkpoints VALUES (?, ?, ?, ?)", 1 << 60, bytes(32), note, to_micros(T0 + DAY))
    found = await world.found()
    assert ("tree.other_root", str(1 << 60)) in found
    assert ("ledger.short", "256") in found  # no further than there are tiles: it ends at once


async def test_rows_that_cannot_be_read_are_told_and_the_rest_is_checked(
    world: LedgerWorld, cheat: Cheat
) -> None:
    await world.grow(3, 3)
    cheat.sql("UPDATE checkpoints SET at = 9223372036854775807 WHERE size = 3")
    assert await world.found() == {("row.unreadable", "checkpoints:3")}
    cheat.sql("UPDATE ledger_tiles SET hashes = 'text'")
    assert ("tree.tile_missing", "0/0") in await world.found()


# Salts.


async def test_a_salt_that_was_altered_is_found(world: LedgerWorld, cheat: Cheat) -> None:
    await world.grow(3)
    cheat.sql("UPDATE ledger SET salt = ? WHERE seq = 2", bytes(32))
    assert await world.found() == {("tree.other_leaf", "2")}


async def test_a_salt_that_is_none_is_found_before_it_is_published(world: LedgerWorld, cheat: Cheat) -> None:
    await world.grow(3)
    await world.enter(1)
    cheat.sql("UPDATE ledger SET salt = X'00' WHERE seq = 4")
    assert await world.found() == {("ledger.salt", "4")}


# Gaps.


async def test_an_entry_taken_out_alone_is_a_gap_and_the_others_still_fit(
    world: LedgerWorld, cheat: Cheat
) -> None:
    await world.grow(5, 3)
    cheat.sql("DELETE FROM ledger WHERE seq = 4")
    assert await world.found() == {("ledger.gap", "4"), ("ledger.broken", "5"), ("ledger.short", "8")}


async def test_a_number_far_away_costs_nothing(world: LedgerWorld, cheat: Cheat) -> None:
    await world.grow(3)
    await world.enter(1)
    cheat.sql("UPDATE ledger SET seq = 9223372036854775807 WHERE seq = 4")
    assert ("ledger.gap", "4") in await world.found()


async def test_it_agrees_with_the_tree_computed_directly(world: LedgerWorld, cheat: Cheat) -> None:
    await world.grow(3)
    tile = cheat.sql("SELECT hashes FROM ledger_tiles")[0][0]
    leaves = [leaf_hash(leaf_data(entry.salt, entry.evidence_sha256)) for entry in cheat.entries()]
    assert tile == b"".join(leaves)


# One flipped bit anywhere.


@pytest.mark.parametrize(
    ("table", "column"),
    [
        *(("ledger", name) for name in ("evidence_id", "digest", "at", "previous", "hash", "salt")),
        ("ledger_tiles", "hashes"),
        *(("checkpoints", name) for name in ("size", "root", "note")),
    ],
    ids=lambda value: value,
)
@pytest.mark.parametrize("row", [0, -1], ids=["first", "last"])
async def test_one_flipped_bit_is_found_in_every_column(
    world: LedgerWorld, cheat: Cheat, table: str, column: str, row: int
) -> None:
    await world.grow(200, 100)
    key = sorted(cheat.sql(f"SELECT rowid, {column} FROM {table}"))[row]
    value = key[1]
    if isinstance(value, int):
        value ^= 1
    elif isinstance(value, str):
        at = max(0, len(value) - 7)
        value = value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :]
    else:
        value = value[:-1] + bytes([value[-1] ^ 1])
    cheat.sql(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", value, key[0])
    assert await world.found() != set()
