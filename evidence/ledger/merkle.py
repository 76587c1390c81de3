"""The Merkle tree over the ledger: roots, inclusion and consistency proofs (spec: RFC9162#2.1, signing §5).

A leaf is the salted digest of one evidence (`leaf_data`): its hash can be published, because without the
32 random octets of salt nobody can try out which evidence it stands for. Leaf ``i`` is ledger entry ``i+1``.
This is not the tree of the batch time stamps (RFC 4998): that one sorts its nodes and has no prefixes.

Nothing here holds a tree: hashes of complete subtrees come from a `NodeSource`, so that a proof among ten
million leaves touches three tiles (`evidence.ledger.tiles`).
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, Protocol

HASH_SIZE: Final = 32
LEAF_PREFIX: Final = b"\x00"  # spec: RFC9162#2.1.1
NODE_PREFIX: Final = b"\x01"  # spec: RFC9162#2.1.1
MAX_SIZE: Final = (1 << 63) - 1
"""The largest tree anybody may talk about, in leaves; a proof in it has at most 63 hashes."""
MAX_PROOF: Final = 63
_EMPTY_ROOT: Final = sha256(b"").digest()


class MissingNodeError(Exception):
    """The source does not have a hash that the tree must have, or gave something that is no hash."""


class NodeSource(Protocol):
    """Hashes of the complete subtrees of one tree."""

    def hashes(self, level: int, start: int, count: int) -> Sequence[bytes]:
        """Return the hashes of ``count`` complete subtrees of height ``level``, from number ``start``.

        Subtree ``n`` of height ``h`` covers the leaves ``n * 2**h`` up to ``(n + 1) * 2**h``.

        Raises:
            MissingNodeError: one of them is not complete in this tree, or cannot be had.
        """
        ...


def leaf_data(salt: bytes, evidence_sha256: bytes) -> bytes:
    """Return what enters the tree for an evidence: SHA-256(salt || SHA-256 of its bytes).

    Raises:
        ValueError: salt or digest does not have 32 octets.
    """
    if len(salt) != HASH_SIZE or len(evidence_sha256) != HASH_SIZE:
        raise ValueError("salt and digest have 32 octets")
    return sha256(salt + evidence_sha256).digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(LEAF_PREFIX + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(NODE_PREFIX + left + right).digest()


def empty_root() -> bytes:
    """Return the root of the tree without leaves."""
    return _EMPTY_ROOT


def root(size: int, source: NodeSource) -> bytes:
    """Return the root of the tree of the first ``size`` leaves.

    Raises:
        ValueError: no such size.
        MissingNodeError: the source lacks a node.
    """
    _check_size(size)
    return _range_root(0, size, source) if size else _EMPTY_ROOT


def inclusion_proof(index: int, size: int, source: NodeSource) -> list[bytes]:
    """Return the hashes that lead from leaf ``index`` to the root at ``size``, from the leaf up.

    Raises:
        ValueError: the tree has no such leaf.
        MissingNodeError: the source lacks a node.
    """
    # spec: RFC9162#2.1.3.1
    _check_size(size)
    if not 0 <= index < size:
        raise ValueError("the tree has no such leaf")
    path = []
    for level in range((size - 1).bit_length()):
        sibling = (index >> level) ^ 1
        start = sibling << level
        if start < size:
            path.append(_range_root(start, min(start + (1 << level), size), source))
    return path


def consistency_proof(old: int, new: int, source: NodeSource) -> list[bytes]:
    """Return the hashes that show that the tree at ``new`` begins with the whole tree at ``old``.

    Nothing needs to be shown from the empty tree, nor from a tree to itself: the proof is empty.

    Raises:
        ValueError: the old tree is larger than the new one.
        MissingNodeError: the source lacks a node.
    """
    # spec: RFC9162#2.1.4.1; SUBPROOF without its recursion, outermost hash first, turned round at the end
    _check_size(new)
    if not 0 <= old <= new:
        raise ValueError("the old tree is larger than the new one")
    if old in {0, new}:
        return []
    proof, start, end, from_the_left = [], 0, new, True
    while old != end:
        middle = start + (1 << ((end - start - 1).bit_length() - 1))
        if old <= middle:
            proof.append(_range_root(middle, end, source))
            end = middle
        else:
            proof.append(_range_root(start, middle, source))
            start, from_the_left = middle, False
    if not from_the_left:
        proof.append(_range_root(start, end, source))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Say whether a proof leads from a leaf's hash (see `leaf_hash`) to the root; never raises.

    Args:
        leaf: the leaf's hash, not its data.
        index: from 0.
        size: leaves of the tree.
        proof: as `inclusion_proof` makes it.
        root: of the tree at ``size``; it comes from a signed checkpoint.
    """
    # spec: RFC9162#2.1.3.2
    if not 0 <= index < size <= MAX_SIZE or not _are_hashes((leaf, root, *proof)):
        return False
    first, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if first & 1 or first == last:
            found = node_hash(sibling, found)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Say whether the new tree begins with the whole old one; never raises.

    From the empty tree, and from a tree to itself, the proof must be empty and the roots the right ones.
    """
    # spec: RFC9162#2.1.4.2
    if not 0 <= old_size <= new_size <= MAX_SIZE or not _are_hashes((old_root, new_root, *proof)):
        return False
    if new_size == 0 and new_root != _EMPTY_ROOT:
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    if old_size == 0:
        return not proof and old_root == _EMPTY_ROOT
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    return bool(path) and _roots_agree(old_size, old_root, new_size, new_root, path)


def _roots_agree(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: list[bytes]) -> bool:
    """Compute both roots along one path, steps 3 to 6 of the algorithm."""
    first, last = old_size - 1, new_size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old_found = new_found = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            old_found, new_found = node_hash(sibling, old_found), node_hash(sibling, new_found)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            new_found = node_hash(new_found, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and old_found == old_root and new_found == new_root


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over neighbouring subtrees of one height, the first of which is aligned.

    Raises:
        ValueError: there are none.
    """
    if not hashes:
        raise ValueError("no hashes")
    row = list(hashes)
    while len(row) > 1:
        odd = row[-1:] if len(row) & 1 else []  # goes up as it is: it is the last at every height
        row = [
            sha256(NODE_PREFIX + left + right).digest()
            for left, right in zip(row[::2], row[1::2], strict=False)
        ]
        row += odd
    return row[0]


class MemoryTree:
    """A whole tree in memory, every node of it: for small logs and tests. It is a `NodeSource`."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        """Start with these leaf hashes."""
        self._levels: list[list[bytes]] = [[]]
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        """Return the number of leaves."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> None:
        """Add a leaf's hash."""
        self._levels[0].append(leaf)
        level = 0
        while len(self._levels[level]) % 2 == 0:
            row = self._levels[level]
            if level + 1 == len(self._levels):
                self._levels.append([])
            self._levels[level + 1].append(node_hash(row[-2], row[-1]))
            level += 1

    def hashes(self, level: int, start: int, count: int) -> Sequence[bytes]:
        """Return hashes of complete subtrees; see `NodeSource`."""
        row = self._levels[level] if 0 <= level < len(self._levels) else []
        if start < 0 or count < 0 or start + count > len(row):
            raise MissingNodeError(f"no complete subtree {start + count - 1} of height {level}")
        return row[start : start + count]


def _range_root(start: int, end: int, source: NodeSource) -> bytes:
    """Return the root over the leaves ``start`` up to ``end``, a range as the tree itself divides it."""
    found: bytes | None = None
    while end > start:  # from the right: the smallest complete subtree stands last
        level = min(_trailing_zeros(end), (end - start).bit_length() - 1)
        end -= 1 << level
        node = source.hashes(level, end >> level, 1)
        if len(node) != 1 or len(node[0]) != HASH_SIZE:
            raise MissingNodeError(f"no complete subtree {end >> level} of height {level}")
        found = node[0] if found is None else node_hash(node[0], found)
    if found is None:
        raise ValueError("an empty range has no root")
    return found


def _trailing_zeros(number: int) -> int:
    return (number & -number).bit_length() - 1


def _are_hashes(values: Iterable[bytes]) -> bool:
    return all(len(value) == HASH_SIZE for value in values)


def _check_size(size: int) -> None:
    if not 0 <= size <= MAX_SIZE:
        raise ValueError("a tree has 0 to 2**63 - 1 leaves")
