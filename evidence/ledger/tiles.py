"""The ledger's tree cut into tiles that anybody can fetch and nobody needs to compute (C2SP tlog-tiles).

A tile holds up to 256 hashes of complete subtrees, 32 octets each: level 0 the leaves' hashes, level ``L``
the roots of the full tiles below it, which are subtrees of height ``8 * L``. A tile with fewer than 256
hashes is partial; it grows at its right end only: a shorter reading of it is the beginning of a longer one.

Paths: ``tile/<level>/<number>`` and ``tile/entries/<number>``, the number in groups of three digits, all
but the last with an ``x`` before them (1234067 is ``x001/x234/067``); ``.p/<width>`` behind a partial one.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Final

from evidence.ledger.merkle import HASH_SIZE, MAX_SIZE, NODE_PREFIX, MissingNodeError, fold, root

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
TILE_BYTES: Final = WIDTH * HASH_SIZE
ENTRIES: Final = -1
"""The level of entry bundles in a `TileName`: they hold the leaves' data, not hashes."""
MAX_LEVEL: Final = 7
"""The highest level that a tree of `MAX_SIZE` leaves has."""
MAX_ENTRY: Final = (1 << 16) - 1
_PATH: Final = re.compile(
    r"tile/(?P<level>entries|[0-7])/(?P<number>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)

ReadTile = Callable[[int, int, int], bytes | None]
"""``read(level, number, width)``: a tile's hashes, ``width`` of them or more; None where there is no tile."""


@dataclass(frozen=True, slots=True, order=True)
class TileName:
    """Which tile, or which bundle of entries, at which width."""

    level: int  # `ENTRIES` for a bundle of entries
    number: int
    width: int = WIDTH

    @property
    def full(self) -> bool:
        """Say whether it never changes any more."""
        return self.width == WIDTH

    @property
    def path(self) -> str:
        """Return the path below the log's address."""
        digits = f"{self.number:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        number = "/".join((*(f"x{group}" for group in groups[:-1]), groups[-1]))
        level = "entries" if self.level == ENTRIES else str(self.level)
        return f"tile/{level}/{number}" + ("" if self.full else f".p/{self.width}")

    @classmethod
    def parse(cls, path: str) -> "TileName | None":
        """Return what a path names; None unless it is exactly a path that `path` makes."""
        found = _PATH.fullmatch(path) if len(path) <= 64 else None
        if found is None:
            return None
        level = ENTRIES if found["level"] == "entries" else int(found["level"])
        number = int(found["number"].replace("x", "").replace("/", ""))
        name = cls(level, number, int(found["width"] or WIDTH))
        return name if name.path == path and name.width <= WIDTH else None


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile's hashes, one after the other, 32 octets each."""

    level: int
    number: int
    hashes: bytes

    @property
    def name(self) -> TileName:
        """Return its name at its present width."""
        return TileName(self.level, self.number, len(self.hashes) // HASH_SIZE)


def width_at(level: int, number: int, size: int) -> int:
    """Return how many hashes a tile has in a tree of this size, 0 to 256; bundles like level 0."""
    known = size >> (HEIGHT * max(level, 0))
    return max(0, min(WIDTH, known - number * WIDTH))


def changed_tiles(old: int, new: int) -> Iterator[TileName]:
    """Return the tiles, by level and number, that a tree of ``new`` leaves has and one of ``old`` has not.

    That includes partial tiles that grew or became full; it is O(new - old). Without bundles of entries.

    Raises:
        ValueError: the sizes fall.
    """
    if not 0 <= old <= new <= MAX_SIZE:
        raise ValueError("sizes of a growing tree do not fall")
    return _changed(old, new)


def _changed(old: int, new: int) -> Iterator[TileName]:
    for level in range(MAX_LEVEL + 1):
        before, after = old >> (HEIGHT * level), new >> (HEIGHT * level)
        if before == after:
            return
        for number in range(before >> HEIGHT, -(-after >> HEIGHT)):
            yield TileName(level, number, width_at(level, number, new))


def tiles_of(size: int) -> Iterator[TileName]:
    """Return all tiles of a tree of this size."""
    return changed_tiles(0, size)


def encode_entries(entries: Iterable[bytes]) -> bytes:
    """Return a bundle of entries: each with its length before it, two octets, big-endian.

    Raises:
        ValueError: an entry is longer than 65,535 octets, or there are more than 256.
    """
    listed = list(islice(entries, WIDTH + 1))
    if len(listed) > WIDTH or any(len(entry) > MAX_ENTRY for entry in listed):
        raise ValueError("a bundle has at most 256 entries of at most 65,535 octets")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in listed)


def read_entries(bundle: bytes, width: int) -> list[bytes]:
    """Return the ``width`` entries of a bundle.

    Raises:
        ValueError: it has more, fewer, or is cut off.
    """
    found: list[bytes] = []
    at = 0
    while at < len(bundle) and len(found) < width:
        start = at + 2
        at = start + int.from_bytes(bundle[at:start], "big")
        found.append(bundle[start:at])
    if at != len(bundle) or len(found) != width:
        raise ValueError(f"the bundle does not hold exactly {width} entries")
    return found


def read_hashes(read: ReadTile, level: int, number: int, width: int) -> bytes:
    """Return the first ``width`` hashes of a tile.

    Raises:
        MissingNodeError: there is no such tile, it is shorter, or it is no sequence of hashes.
    """
    data = read(level, number, width)
    if data is None or len(data) < width * HASH_SIZE:
        raise MissingNodeError(f"{TileName(level, number, width).path} is missing or too short")
    if len(data) > TILE_BYTES or len(data) % HASH_SIZE:
        raise MissingNodeError(f"{TileName(level, number, width).path} does not consist of hashes")
    return data[: width * HASH_SIZE]


class TileSource:
    """A `evidence.ledger.merkle.NodeSource` over the tiles of a tree; keeps the tiles it read last."""

    def __init__(self, read: ReadTile, size: int, *, keep: int = 64) -> None:
        """Prepare reading.

        Args:
            read: gets a tile; its errors go through.
            size: of the tree the tiles belong to, which says how wide each must be. Smaller trees can be
                asked about too.
            keep: how many tiles to remember, of 16 KiB each at most, with the hashes above.
        """
        self._read = read
        self._size = size
        self._keep = keep
        self._tiles: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()  # its hashes, and above them

    def hashes(self, level: int, start: int, count: int) -> Sequence[bytes]:
        """Return hashes of complete subtrees; see `evidence.ledger.merkle.NodeSource`."""
        if level < 0 or start < 0 or count < 0 or (start + count) << level > self._size:
            raise MissingNodeError(f"no complete subtree {start + count - 1} of height {level}")
        tile_level, height = divmod(level, HEIGHT)
        return [self._node(tile_level, height, number) for number in range(start, start + count)]

    def _node(self, tile_level: int, height: int, number: int) -> bytes:
        tile, spot = divmod(number, WIDTH >> height)
        rows = self._tile(tile_level, tile)
        while len(rows) <= height:
            rows.append(_row_above(rows[-1]))
        return rows[height][spot * HASH_SIZE : (spot + 1) * HASH_SIZE]

    def _tile(self, level: int, number: int) -> list[bytes]:
        """Return a tile's rows: its hashes; those of each height above them, once they were asked for."""
        key = level, number
        found = self._tiles.get(key)
        if found is None:
            found = [read_hashes(self._read, level, number, width_at(level, number, self._size))]
            self._tiles[key] = found
            if len(self._tiles) > self._keep:
                self._tiles.popitem(last=False)
        else:
            self._tiles.move_to_end(key)
        return found


class GrowingTree:
    """A tree that only grows: holds its right edge, at most 255 hashes a level; says which tiles change."""

    def __init__(self, read: ReadTile | None = None, size: int = 0) -> None:
        """Take up a tree where it ended.

        Args:
            read: gets the partial tiles at the right edge of the tree; not needed for an empty one.
            size: leaves it has.

        Raises:
            ValueError: no such size.
            MissingNodeError: a partial tile cannot be had.
        """
        if not 0 <= size <= MAX_SIZE:
            raise ValueError("a tree has 0 to 2**63 - 1 leaves")
        self._size = size
        self._edges: list[bytes] = []  # by level: the hashes of its partial tile
        for level in range(MAX_LEVEL + 1):
            number, width = divmod(size >> (HEIGHT * level), WIDTH)
            edge = b""
            if width:
                if read is None:
                    raise MissingNodeError("a tree with leaves needs its tiles")
                edge = read_hashes(read, level, number, width)
            self._edges.append(edge)

    @property
    def size(self) -> int:
        """Return the number of leaves."""
        return self._size

    @property
    def edge(self) -> list[Tile]:
        """Return the partial tiles at the right edge, lowest level first."""
        return [
            Tile(level, self._size >> (HEIGHT * (level + 1)), hashes)
            for level, hashes in enumerate(self._edges)
            if hashes
        ]

    def append(self, leaves: Iterable[bytes]) -> list[Tile]:
        """Add leaves' hashes, all in memory at once; return every tile that is new or grew, at its new width.

        It costs one to two hashes a leaf, however large the tree is. Put the tiles into the store before
        anything is signed about the new size.

        Raises:
            ValueError: a hash does not have 32 octets; the tree is unchanged then.
        """
        listed = list(leaves)
        if any(len(leaf) != HASH_SIZE for leaf in listed):
            raise ValueError("hashes have 32 octets")
        fresh = b"".join(listed)
        changed: list[Tile] = []
        for level in range(MAX_LEVEL + 1):
            if not fresh:
                break
            number = self._size >> (HEIGHT * (level + 1))
            row = self._edges[level] + fresh
            whole = len(row) - len(row) % TILE_BYTES
            full = [row[at : at + TILE_BYTES] for at in range(0, whole, TILE_BYTES)]
            self._edges[level] = row[whole:]
            changed += [Tile(level, number + at, hashes) for at, hashes in enumerate(full)]
            if whole < len(row):
                changed.append(Tile(level, number + len(full), row[whole:]))
            fresh = b"".join([_subtree_root(hashes) for hashes in full])
        self._size += len(listed)
        return changed

    def root(self) -> bytes:
        """Return the root of the tree as it stands, from its edge alone."""
        return root(self._size, _Edge(self._edges, self._size))


class _Edge:
    """The `NodeSource` of a growing tree's edge: the complete subtrees its root is made of."""

    def __init__(self, edges: Sequence[bytes], size: int) -> None:
        self._edges = edges
        self._size = size

    def hashes(self, level: int, start: int, count: int) -> Sequence[bytes]:
        tile_level, height = divmod(level, HEIGHT)
        first = (start << height) - (self._size >> (HEIGHT * (tile_level + 1)) << HEIGHT)
        width = 1 << height
        data = self._edges[tile_level]
        spots = [(first + at * width) * HASH_SIZE for at in range(count)]
        return [_subtree_root(data[spot : spot + width * HASH_SIZE]) for spot in spots]


def _row_above(row: bytes) -> bytes:
    """Return the hashes of neighbouring pairs of hashes; a last one without neighbour has none."""
    pairs = range(0, len(row) - HASH_SIZE, 2 * HASH_SIZE)
    return b"".join([sha256(NODE_PREFIX + row[at : at + 2 * HASH_SIZE]).digest() for at in pairs])


def _subtree_root(data: bytes) -> bytes:
    """Return the root over hashes that stand one after the other; a power of two of them."""
    while len(data) > HASH_SIZE:
        pairs = [
            sha256(NODE_PREFIX + data[at : at + 64]).digest() for at in range(0, len(data), 2 * HASH_SIZE)
        ]
        if len(pairs) <= 2:
            return fold(pairs)
        data = b"".join(pairs)
    return data
