"""The hash tree of RFC 4998 over one batch, and the way from a leaf back to the root.

A node is H(a || b) with a and b in ascending byte order; the last node of an odd level moves up unchanged.
Equal leaves of one batch are one leaf of the tree and share one path: the same bytes need no second proof,
and no list ever holds one value twice, which readers that treat lists as sets would stumble on.
Import these names from `evidence.stamps.ers`. (spec: RFC4998#4.2, signing.md 4)
"""

import hashlib
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from evidence.x509.algorithms import HASH_OIDS

Path: TypeAlias = tuple[tuple[bytes, ...], ...]
"""Partial hash trees, from the leaf's list upwards."""

HASHERS: Final = MappingProxyType({name: getattr(hashlib, name) for name in HASH_OIDS.values()})
SIZES: Final = MappingProxyType({name: make().digest_size for name, make in HASHERS.items()})
"""Octets of a digest, by hashlib's name of the hash."""


class HashTree:
    """The tree over one batch; 1,000 leaves take less than a millisecond.

    Args:
        leaves: digests, at least one; equal ones share one place.
        digest_name: the hash of the nodes, and of the leaves, as hashlib names it.

    Raises:
        ValueError: no leaf, or one that has not the length of the hash.
    """

    __slots__ = ("_levels", "_places", "root")

    root: bytes

    def __init__(self, leaves: Sequence[bytes], digest_name: str = "sha256") -> None:
        size, hasher = SIZES[digest_name], HASHERS[digest_name]
        if not leaves or any(len(leaf) != size for leaf in leaves):
            raise ValueError(f"leaves must be {digest_name} digests, at least one")
        level = list(dict.fromkeys(leaves))
        place = {leaf: index for index, leaf in enumerate(level)}
        self._places = [place[leaf] for leaf in leaves]
        self._levels: list[list[bytes]] = []
        while len(level) > 1:
            self._levels.append(level)
            pairs = zip(level[::2], level[1::2], strict=False)
            above = [hasher(a + b if a < b else b + a).digest() for a, b in pairs]
            if len(level) & 1:
                above.append(level[-1])
            level = above
        self.root = level[0]

    def path(self, index: int) -> Path:
        """Return the partial hash trees of a leaf: {leaf, sibling} sorted, then siblings; () if alone."""
        leaf, siblings = self._siblings(index)
        if not siblings:
            return ()
        first, *others = siblings
        pair = (leaf, first) if leaf < first else (first, leaf)
        return (pair, *[(sibling,) for sibling in others])

    def path_alone(self, index: int) -> Path:
        """Return the same with the leaf alone in the first list, as a new chain wants it.

        (spec: RFC4998#5.2 "the first hash value list ... should only contain h(i)'")
        """
        leaf, siblings = self._siblings(index)
        return ((leaf,), *[(sibling,) for sibling in siblings]) if siblings else ()

    def _siblings(self, index: int) -> tuple[bytes, list[bytes]]:
        place = self._places[index]
        leaf = self._levels[0][place] if self._levels else self.root
        found = []
        for level in self._levels:
            beside = place ^ 1
            if beside < len(level):
                found.append(level[beside])
            place >>= 1
        return leaf, found


def tree_root(reduced: Path | None, leaf: bytes, digest_name: str) -> bytes | None:
    """Return the root that a reduced tree leads to, None where the leaf is not in its first list.

    Each list, and the value of the one before, are hashed together in ascending byte order; a single value
    stands for itself, which only the first list can be. (spec: RFC4998#4.3)
    """
    if reduced is None:
        return leaf
    if leaf not in reduced[0]:
        return None
    hasher = HASHERS[digest_name]
    value = b""
    for entries in reduced:
        group = sorted((*entries, value)) if value else sorted(entries)
        value = group[0] if len(group) == 1 else hasher(b"".join(group)).digest()
    return value
