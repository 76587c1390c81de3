"""Benchmark of proving that an evidence stands in a ledger of ten million.

The tree is the product's own, in its database: tiles as `PublishLedger` stores them, made here of random
leaves (what a leaf's hash looks like), because ten million evidence cannot be sealed in a minute.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.ledger.merkle import HASH_SIZE, leaf_data, leaf_hash
from evidence.ledger.notes import Checkpoint, NoteSigner, sign_checkpoint
from evidence.ledger.proof import LedgerProof, check_proof, make_proof
from evidence.ledger.tiles import GrowingTree, Tile
from kephs.bench.figures import BenchError, Figure, own_peak_rss_mb, ticks
from kephs.bench.site import Site
from kephs.bench.stage import DOMAIN, share_ms
from kephs.ports import StoredCheckpoint, Tx
from kephs.usecases.proof.publish_ledger import stored_tiles
from storage.migrate import upgrade_sqlite
from storage.unit_of_work import SqliteStore

LEAVES: Final = 10_000_000
TARGET_MS: Final = 5
MARKED: Final = 16_384
"""Leaves of evidence whose digest and salt we know: those that are proven and whose proofs are checked."""
_CHUNK: Final = 1 << 16
_BUILD_SHARE: Final = 2  # the tree may take so many times the measured time
_WARM_UP: Final = 20


@dataclass(frozen=True, slots=True)
class _Marked:
    """An evidence in the ledger."""

    index: int
    salt: bytes
    sha256: bytes


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What was built."""

    marked: list[_Marked]
    note: bytes
    checkpoint: Checkpoint
    seconds: float


async def proof(site: Site) -> list[Figure]:
    """Make inclusion proofs from the tiles in the database, each of another leaf."""
    with site.room("p", 0o700) as room:
        database = room / "kephs.sqlite3"
        upgrade_sqlite(database)
        store = SqliteStore(database, column_key=secrets.token_bytes(32))
        await store.start()
        try:
            ledger = await _build(store, site)
            waits = await _prove_all(store, ledger, site.seconds)
            disk_mb = _size_mb(room)
        finally:
            await store.close()
    more = {
        "leaves": ledger.checkpoint.size, "proofs": len(waits), "target_ms": TARGET_MS,
        "p50_ms": share_ms(waits, 0.5), "p99_ms": share_ms(waits, 0.99), "max_ms": share_ms(waits, 1),
        "build_seconds": round(ledger.seconds, 1), "database_mb": round(disk_mb),
        "note": "one transaction each: tiles read, path computed; each proof is checked outside the clock; "
        f"{MARKED} leaves from all over the ledger take turns; the kernel may hold the database in its cache"
        + ("" if ledger.checkpoint.size == LEAVES else f"; the time was over before all {LEAVES} stood"),
    }  # fmt: skip
    name = f"none: {TARGET_MS} ms are allowed"
    rate = len(waits) / sum(waits)
    return [Figure("proof", rate, "proofs/s", None, name, own_peak_rss_mb(), site.disk, more)]


async def _build(store: SqliteStore, site: Site) -> _Ledger:
    """Grow the tree leaf by leaf and store its tiles and a signed checkpoint."""
    started = ticks()
    tree, marked = GrowingTree(), list[_Marked]()
    every = LEAVES // MARKED
    while tree.size < LEAVES and ticks() - started < _BUILD_SHARE * site.seconds:
        start, count = tree.size, min(_CHUNK, LEAVES - tree.size)
        leaves = _split(secrets.token_bytes(HASH_SIZE * count))
        for index in range(-(-start // every) * every, start + count, every):
            one = _Marked(index, secrets.token_bytes(32), secrets.token_bytes(32))
            leaves[index - start] = leaf_hash(leaf_data(one.salt, one.sha256))
            marked.append(one)
        tiles = tree.append(leaves)
        await store.write(lambda tx, new=tiles: _put(tx, new))  # type: ignore[misc]
    checkpoint = Checkpoint(f"{DOMAIN}/kephs-ledger", tree.size, tree.root())
    note = sign_checkpoint(checkpoint, NoteSigner(checkpoint.origin, Ed25519PrivateKey.generate()))
    stored = StoredCheckpoint(checkpoint.size, checkpoint.root, note.decode(), site.clock())
    await store.write(lambda tx: tx.tree.add_checkpoint(stored))
    return _Ledger(marked, note, checkpoint, ticks() - started)


async def _prove_all(store: SqliteStore, ledger: _Ledger, seconds: float) -> list[float]:
    """Prove leaf after leaf in no order; return the seconds of each proof."""
    waits: list[float] = []
    end = ticks() + seconds
    order = Random(0).sample(ledger.marked, len(ledger.marked))  # noqa: S311  # an order, no secret
    for one in cycle(order):
        if ticks() >= end and len(waits) > _WARM_UP:
            break
        started = ticks()
        made = await store.read(_making(one, ledger.note))
        waits.append(ticks() - started)
        if not check_proof(made, one.sha256, ledger.checkpoint):
            raise BenchError("a proof does not hold")
    return waits[_WARM_UP:]


def _making(one: _Marked, note: bytes) -> Callable[[Tx], LedgerProof]:
    def make(tx: Tx) -> LedgerProof:
        newest = tx.tree.checkpoint()
        if newest is None:
            raise BenchError("the ledger has no checkpoint")
        return make_proof(one.index + 1, one.salt, note, stored_tiles(tx, newest.size))

    return make


def _split(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE)]


def _put(tx: Tx, tiles: Sequence[Tile]) -> None:
    for tile in tiles:
        tx.tree.put_tile(tile.level, tile.number, tile.hashes)


def _size_mb(room: Path) -> float:
    return sum(path.stat().st_size for path in room.iterdir()) / 1e6
