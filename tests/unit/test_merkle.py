"""The tree: our iterative proofs are exactly what the recursive definition of RFC 9162 says, at every size."""

from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.ledger.merkle import (
    MAX_SIZE,
    MemoryTree,
    MissingNodeError,
    consistency_proof,
    empty_root,
    fold,
    inclusion_proof,
    leaf_data,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

ALL = 301  # sizes 0 to 300
LEAVES = [leaf_hash(b"%d" % number) for number in range(ALL)]
TREE = MemoryTree(LEAVES)

# The inputs and roots that every implementation of Certificate Transparency is tested with.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
L0, L01, N23, N45, L4, L6, N67, N47 = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
)


# --- the definition, word for word -----------------------------------------------------------------------------


@cache
def mth(start: int, end: int) -> bytes:
    if start == end:
        return sha256(b"").digest()
    if end - start == 1:
        return LEAVES[start]
    middle = start + split(end - start)
    return sha256(b"\x01" + mth(start, middle) + mth(middle, end)).digest()


def split(size: int) -> int:
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def path(index: int, start: int, end: int) -> list[bytes]:
    if end - start == 1:
        return []
    middle = split(end - start)
    if index < middle:
        return [*path(index, start, start + middle), mth(start + middle, end)]
    return [*path(index - middle, start + middle, end), mth(start, start + middle)]


def subproof(old: int, start: int, end: int, whole: bool) -> list[bytes]:
    size = end - start
    if old == size:
        return [] if whole else [mth(start, end)]
    middle = split(size)
    if old <= middle:
        return [*subproof(old, start, start + middle, whole), mth(start + middle, end)]
    return [*subproof(old - middle, start + middle, end, False), mth(start, start + middle)]


# --- every size ------------------------------------------------------------------------------------------------


def test_the_roots_are_those_of_the_definition_at_every_size():
    assert [root(size, TREE) for size in range(ALL)] == [mth(0, size) for size in range(ALL)]


def test_inclusion_proofs_are_those_of_the_definition_and_verify_for_every_leaf_at_every_size():
    for size in range(1, ALL):
        for index in range(size):
            proof = inclusion_proof(index, size, TREE)
            assert proof == path(index, 0, size)
            assert verify_inclusion(LEAVES[index], index, size, proof, mth(0, size))


def test_consistency_proofs_are_those_of_the_definition_and_verify_for_every_pair_of_sizes():
    for new in range(ALL):
        for old in range(new + 1):
            proof = consistency_proof(old, new, TREE)
            assert proof == (subproof(old, 0, new, True) if old else [])
            assert verify_consistency(old, mth(0, old), new, mth(0, new), proof)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8, 31, 33, 50])
def test_a_proof_for_one_place_or_size_holds_for_no_other(size):
    for index in range(size):
        proof = inclusion_proof(index, size, TREE)
        held = [
            (at, of)
            for of in range(1, size + 20)
            for at in range(of)
            if verify_inclusion(LEAVES[index], at, of, proof, mth(0, size))
        ]
        assert (index, size) in held
        # The algorithm cannot know the size where a path looks the same in two trees: the signed checkpoint does.
        assert {at for at, of in held if of == size} == {index}


@pytest.mark.parametrize("new", [2, 3, 7, 8, 9, 16])
def test_a_consistency_proof_holds_for_no_sizes_that_need_a_longer_or_shorter_one(new):
    for old in range(1, new):
        proof = consistency_proof(old, new, TREE)
        for to in range(1, 40):
            for since in range(1, to):
                if verify_consistency(since, mth(0, old), to, mth(0, new), proof):
                    assert len(consistency_proof(since, to, TREE)) == len(proof)


# --- known vectors ---------------------------------------------------------------------------------------------


def known() -> MemoryTree:
    return MemoryTree(leaf_hash(data) for data in INPUTS)


def test_the_roots_of_the_known_inputs_are_the_known_ones():
    assert [root(size, known()).hex() for size in range(1, 9)] == ROOTS
    assert empty_root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert root(0, known()) == empty_root()


@pytest.mark.parametrize(
    ("index", "size", "expected"),
    [
        (0, 1, []),
        (0, 8, [L01, N23, N47]),
        (5, 8, [L4, N67, ROOTS[3]]),
        (2, 3, [ROOTS[1]]),
        (1, 5, [L0, N23, L4]),
    ],
)
def test_known_inclusion_proofs(index, size, expected):
    assert [one.hex() for one in inclusion_proof(index, size, known())] == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [(1, 1, []), (1, 8, [L01, N23, N47]), (6, 8, [N45, N67, ROOTS[3]]), (2, 5, [N23, L4])],
)
def test_known_consistency_proofs(old, new, expected):
    assert [one.hex() for one in consistency_proof(old, new, known())] == expected


# --- broken twins ----------------------------------------------------------------------------------------------

SIZES = st.integers(2, 300)


def flipped(value: bytes, bit: int) -> bytes:
    return (int.from_bytes(value, "big") ^ 1 << bit % (8 * len(value))).to_bytes(len(value), "big")


@given(SIZES, st.data())
def test_an_inclusion_proof_with_one_flipped_bit_a_hash_more_or_a_hash_less_does_not_hold(size, data):
    index, bit = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 255))
    proof, top = inclusion_proof(index, size, TREE), mth(0, size)
    at = data.draw(st.integers(0, len(proof) - 1))
    leaf = LEAVES[index]
    broken = [*proof[:at], flipped(proof[at], bit), *proof[at + 1 :]]
    assert not verify_inclusion(leaf, index, size, broken, top)
    assert not verify_inclusion(leaf, index, size, proof[:at] + proof[at + 1 :], top)
    assert not verify_inclusion(leaf, index, size, [*proof[:at], leaf, *proof[at:]], top)
    assert not verify_inclusion(flipped(leaf, bit), index, size, proof, top)
    assert not verify_inclusion(leaf, index, size, proof, flipped(top, bit))
    assert not verify_inclusion(leaf, index, size, [*proof[:at], proof[at][:31], *proof[at + 1 :]], top)


@given(SIZES, st.data())
def test_a_consistency_proof_with_one_flipped_bit_a_hash_more_or_a_hash_less_does_not_hold(size, data):
    old, bit = data.draw(st.integers(1, size - 1)), data.draw(st.integers(0, 255))
    proof, before, after = consistency_proof(old, size, TREE), mth(0, old), mth(0, size)
    at = data.draw(st.integers(0, len(proof) - 1))
    for broken in (
        [*proof[:at], flipped(proof[at], bit), *proof[at + 1 :]],
        proof[:at] + proof[at + 1 :],
        [*proof[:at], before, *proof[at:]],
        [*proof[:at], proof[at] + b"x", *proof[at + 1 :]],
    ):
        assert not verify_consistency(old, before, size, after, broken)
    assert not verify_consistency(old, flipped(before, bit), size, after, proof)
    assert not verify_consistency(old, before, size, flipped(after, bit), proof)


@given(SIZES, st.data())
def test_no_proof_makes_a_changed_history_consistent(size, data):
    old, changed = data.draw(st.integers(1, size)), data.draw(st.integers(0, 299))
    other = MemoryTree([*LEAVES[:changed], leaf_hash(b"forged"), *LEAVES[changed + 1 :]])
    holds = verify_consistency(old, mth(0, old), size, root(size, other), consistency_proof(old, size, other))
    assert holds == (changed >= old)


def test_trees_that_shrink_and_places_that_do_not_exist_hold_never():
    proof = inclusion_proof(3, 10, TREE)
    assert not verify_inclusion(LEAVES[3], -1, 10, proof, mth(0, 10))
    assert not verify_inclusion(LEAVES[3], 10, 10, proof, mth(0, 10))
    assert not verify_inclusion(LEAVES[0], 0, 0, [], mth(0, 0))
    assert not verify_inclusion(LEAVES[3], 3, MAX_SIZE + 1, proof, mth(0, 10))
    assert not verify_consistency(10, mth(0, 10), 9, mth(0, 9), [])
    assert not verify_consistency(-1, mth(0, 0), 9, mth(0, 9), [])


def test_the_empty_tree_has_one_root_and_needs_no_proof():
    assert verify_consistency(0, empty_root(), 9, mth(0, 9), [])
    assert not verify_consistency(0, mth(0, 9), 9, mth(0, 9), [])
    assert not verify_consistency(0, empty_root(), 9, mth(0, 9), [mth(0, 9)])
    assert verify_consistency(0, empty_root(), 0, empty_root(), [])
    assert not verify_consistency(0, mth(0, 9), 0, mth(0, 9), [])


def test_a_tree_is_consistent_with_itself_only_without_a_proof_and_with_the_same_root():
    assert verify_consistency(9, mth(0, 9), 9, mth(0, 9), [])
    assert not verify_consistency(9, mth(0, 9), 9, mth(0, 9), [mth(0, 9)])
    assert not verify_consistency(9, mth(0, 9), 9, mth(0, 8), [])
    assert not verify_consistency(5, mth(0, 5), 9, mth(0, 9), [])
    assert not verify_consistency(8, mth(0, 8), 9, mth(0, 9), [])


# --- arguments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        lambda: root(-1, TREE),
        lambda: root(MAX_SIZE + 1, TREE),
        lambda: inclusion_proof(5, 5, TREE),
        lambda: inclusion_proof(-1, 5, TREE),
        lambda: consistency_proof(6, 5, TREE),
        lambda: consistency_proof(-1, 5, TREE),
        lambda: fold([]),
        lambda: leaf_data(b"short", bytes(32)),
        lambda: leaf_data(bytes(32), b"short"),
    ],
    ids=["size", "large", "leaf", "negative", "falls", "below", "nothing", "salt", "digest"],
)
def test_what_does_not_exist_is_a_mistake_of_the_caller(ask):
    with pytest.raises(ValueError):
        ask()


@pytest.mark.parametrize("size", [ALL + 1, 1 << 40])
def test_a_source_without_the_nodes_says_so(size):
    with pytest.raises(MissingNodeError):
        root(size, TREE)
    with pytest.raises(MissingNodeError):
        inclusion_proof(0, size, TREE)


def test_a_source_that_answers_with_no_hash_is_not_believed():
    class Liar:
        def hashes(self, level, start, count):
            return [b"short"] * count

    with pytest.raises(MissingNodeError):
        root(3, Liar())


@given(st.integers(1, 300))
def test_folding_neighbours_is_the_tree_over_them(size):
    assert fold(LEAVES[:size]) == mth(0, size)


def test_leaves_and_nodes_never_share_a_hash_and_the_salt_hides_the_evidence():
    left, right = LEAVES[:2]
    assert node_hash(left, right) != leaf_hash(left + right)
    digest, salt = sha256(b"evidence").digest(), bytes(range(32))
    assert leaf_data(salt, digest) == sha256(salt + digest).digest()
    assert leaf_data(bytes(32), digest) != leaf_data(salt, digest)
