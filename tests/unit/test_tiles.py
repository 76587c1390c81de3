"""Tiles: they hold exactly the nodes the definition names, and growing costs what is new, not what is there."""

from hashlib import sha256
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.ledger import merkle
from evidence.ledger.merkle import (
    MAX_SIZE,
    MemoryTree,
    MissingNodeError,
    consistency_proof,
    inclusion_proof,
    verify_consistency,
    verify_inclusion,
)
from evidence.ledger.tiles import (
    ENTRIES,
    MAX_LEVEL,
    GrowingTree,
    Tile,
    TileName,
    TileSource,
    changed_tiles,
    encode_entries,
    read_entries,
    read_hashes,
    tiles_of,
    width_at,
)

LARGE = 70_000
LEAVES = [sha256(b"%d" % number).digest() for number in range(LARGE)]


class Store:
    """Tiles by level and number; remembers what was read and written."""

    def __init__(self) -> None:
        self.tiles: dict[tuple[int, int], bytes] = {}
        self.read_count = 0

    def put(self, tiles: list[Tile]) -> None:
        for tile in tiles:
            assert tile.hashes.startswith(self.tiles.get((tile.level, tile.number), b""))
            self.tiles[tile.level, tile.number] = tile.hashes

    def read(self, level: int, number: int, width: int) -> bytes | None:
        self.read_count += 1
        return self.tiles.get((level, number))


@pytest.fixture(scope="module")
def large() -> Store:
    store, tree = Store(), GrowingTree()
    for start in range(0, LARGE, 9_999):
        store.put(tree.append(LEAVES[start : start + 9_999]))
    return store


@pytest.fixture(scope="module")
def whole() -> MemoryTree:
    return MemoryTree(LEAVES)


# --- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (TileName(0, 0), "tile/0/000"),
        (TileName(0, 1234067), "tile/0/x001/x234/067"),
        (TileName(1, 999, 5), "tile/1/999.p/5"),
        (TileName(7, 1000, 255), "tile/7/x001/000.p/255"),
        (TileName(ENTRIES, 12, 1), "tile/entries/012.p/1"),
        (TileName(ENTRIES, 123456), "tile/entries/x123/456"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_paths_are_those_of_the_specification(name, path):
    assert name.path == path
    assert TileName.parse(path) == name


@given(st.integers(-1, MAX_LEVEL), st.integers(0, MAX_SIZE >> 8), st.integers(1, 256))
def test_every_name_is_read_back(level, number, width):
    name = TileName(level, number, width)
    assert TileName.parse(name.path) == name


@pytest.mark.parametrize(
    "path",
    ["", "tile/0/0", "tile/0/0000", "tile/0/x000/001", "tile/0/001/x002", "tile/8/000", "tile/00/000", "tile/-1/000",
     "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/", "tile/0/000/", "/tile/0/000",
     "tile/0/000\n", "tile/0/٠٠٠", "tile/0/../000", "tile/entries/x1/000", "tile/data/000",
     "tile/0/" + "x001/" * 9 + "000"],
)  # fmt: skip
def test_any_other_path_names_nothing(path):
    assert TileName.parse(path) is None


# --- which tiles a tree has ------------------------------------------------------------------------------------


def test_a_tree_of_70000_has_the_tiles_that_the_specification_counts():
    found = list(tiles_of(70_000))
    assert len([tile for tile in found if tile.level == 0 and tile.full]) == 273
    assert [(tile.level, tile.width) for tile in found if tile.level or not tile.full] == [
        (0, 112), (1, 256), (1, 17), (2, 1),
    ]  # fmt: skip
    assert [(tile.level, tile.width) for tile in tiles_of(256)] == [(0, 256), (1, 1)]
    assert list(tiles_of(0)) == []


def test_tiles_hold_the_hashes_that_the_definition_names(large, whole):
    assert sorted(large.tiles) == sorted((name.level, name.number) for name in tiles_of(LARGE))
    for (level, number), hashes in large.tiles.items():
        width = width_at(level, number, LARGE)
        assert hashes == b"".join(whole.hashes(8 * level, number * 256, width))


@given(st.integers(0, 200_000), st.integers(0, 70_000))
def test_the_tiles_that_change_are_those_whose_width_does(old, more):
    new = old + more
    expected = {
        name for name in tiles_of(new) if width_at(name.level, name.number, old) != name.width
    }  # fmt: skip
    found = list(changed_tiles(old, new))
    assert set(found) == expected
    assert found == sorted(found)


def test_listing_what_changes_in_a_tree_of_any_size_costs_what_is_new():
    assert len(list(changed_tiles(10**18, 10**18 + 1000))) < 20
    with pytest.raises(ValueError):
        changed_tiles(5, 4)


# --- growing ---------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(st.integers(0, 900), max_size=8), st.booleans())
def test_however_a_tree_is_cut_into_batches_and_restarts_it_is_the_same_tree(steps, restarts):
    store, tree, done = Store(), GrowingTree(), 0
    for step in steps:
        if restarts:
            tree = GrowingTree(store.read, done)
        changed = tree.append(iter(LEAVES[done : done + step]))
        assert [tile.name for tile in changed] == list(changed_tiles(done, done + step))
        store.put(changed)
        done += step
        assert tree.size == done
        assert tree.root() == merkle.root(done, TileSource(store.read, done))
    assert tree.root() == merkle.root(done, MemoryTree(LEAVES[:done]))
    for tile in tree.edge:
        assert store.tiles[tile.level, tile.number] == tile.hashes
        assert not tile.name.full


def test_taking_up_a_large_tree_and_growing_it_touches_its_edge_only(large, whole):
    before = large.read_count
    tree = GrowingTree(large.read, LARGE)
    assert large.read_count - before <= MAX_LEVEL + 1
    assert tree.root() == merkle.root(LARGE, whole)
    assert len(tree.append([bytes(32)])) == 1


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 69_999, LARGE])
def test_sizes_at_the_edges_of_tiles(large, whole, size):
    source = TileSource(large.read, size)
    top = merkle.root(size, whole)
    assert merkle.root(size, source) == GrowingTree(large.read, size).root() == top
    for index in {0, 1, 254, 255, 256, 65_535, 65_536, size // 2, size - 1}:
        if index < size:
            proof = inclusion_proof(index, size, source)
            assert proof == inclusion_proof(index, size, whole)
            assert verify_inclusion(LEAVES[index], index, size, proof, top)
            if index:
                proof = consistency_proof(index, size, source)
                assert verify_consistency(index, merkle.root(index, whole), size, top, proof)


@settings(max_examples=60)
@given(st.integers(1, LARGE), st.data())
def test_proofs_from_tiles_are_the_proofs_of_the_whole_tree(large, whole, size, data):
    index = data.draw(st.integers(0, size - 1))
    source = TileSource(large.read, LARGE)  # the tiles of a larger tree serve smaller ones
    assert inclusion_proof(index, size, source) == inclusion_proof(index, size, whole)
    assert consistency_proof(index, size, source) == consistency_proof(index, size, whole)


def test_an_inclusion_proof_reads_few_tiles(large):
    before = large.read_count
    inclusion_proof(12_345, LARGE, TileSource(large.read, LARGE))
    assert large.read_count - before <= 5


def test_a_source_forgets_old_tiles_and_reads_them_again(large):
    source = TileSource(large.read, LARGE, keep=1)
    first = source.hashes(0, 0, 1)
    source.hashes(0, 300, 1)
    before = large.read_count
    assert source.hashes(0, 0, 1) == first
    assert large.read_count == before + 1


@pytest.mark.parametrize(
    ("level", "start", "count"),
    [(0, LARGE, 1), (0, LARGE - 1, 2), (8, 273, 1), (17, 0, 1), (-1, 0, 1), (0, -1, 1)],
)
def test_subtrees_that_are_not_complete_cannot_be_had(large, level, start, count):
    with pytest.raises(MissingNodeError):
        TileSource(large.read, LARGE).hashes(level, start, count)


@pytest.mark.parametrize(
    "data", [None, b"", bytes(31), bytes(4 * 32), bytes(5 * 32 + 1), bytes(257 * 32)],
    ids=["none", "empty", "part", "short", "odd", "long"],
)  # fmt: skip
def test_what_is_no_tile_of_that_width_is_missing(data):
    with pytest.raises(MissingNodeError):
        read_hashes(lambda *_: data, 0, 0, 5)
    with pytest.raises(MissingNodeError):
        GrowingTree(lambda *_: data, 5)


def test_a_wider_tile_serves_where_the_partial_one_is_gone():
    assert read_hashes(lambda *_: bytes(range(256)) * 32, 0, 0, 1) == bytes(range(32))


def test_growing_refuses_what_is_no_hash_and_stays_as_it_was():
    tree = GrowingTree()
    tree.append(LEAVES[:3])
    before = tree.root()
    with pytest.raises(ValueError):
        tree.append([LEAVES[3], b"short"])
    assert (tree.size, tree.root()) == (3, before)
    with pytest.raises(ValueError):
        GrowingTree(size=-1)
    with pytest.raises(MissingNodeError):
        GrowingTree(size=1)


# --- bundles of entries ----------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=50), max_size=256))
def test_bundles_of_entries_are_read_back(entries):
    assert read_entries(encode_entries(entries), len(entries)) == entries


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=9), st.data())
def test_a_bundle_cut_off_or_with_more_behind_is_refused(entries, data):
    bundle = encode_entries(entries)
    cut = data.draw(st.integers(0, len(bundle) - 1))
    for wrong in (bundle[:cut], bundle + b"\0\0", bundle + b"x"):
        with pytest.raises(ValueError):
            read_entries(wrong, len(entries))


def test_what_does_not_fit_into_a_bundle_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError):
        encode_entries([b"x"] * 257)
    with pytest.raises(ValueError):
        encode_entries([bytes(65_536)])


# --- speed -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_proof_among_ten_million_leaves_takes_less_than_5_ms_and_growing_to_them_does_not_slow_down():
    size, store, tree = 10_000_000, {}, GrowingTree()
    spent = []
    for start in range(0, size, 100_000):
        leaves = [number.to_bytes(32, "big") for number in range(start, start + 100_000)]
        begun = perf_counter()
        changed = tree.append(leaves)
        spent.append(perf_counter() - begun)
        store |= {(tile.level, tile.number): tile.hashes for tile in changed}
    assert sorted(spent)[50] < 100_000 / 200_000  # the aim is 300,000 a second on a machine by itself
    times = []
    for index in range(0, size, 99_991):
        begun = perf_counter()
        proof = inclusion_proof(
            index, size, TileSource(lambda level, number, _: store.get((level, number)), size)
        )
        times.append(perf_counter() - begun)
        assert verify_inclusion(index.to_bytes(32, "big"), index, size, proof, tree.root())
    assert sorted(times)[len(times) // 2] < 0.005
