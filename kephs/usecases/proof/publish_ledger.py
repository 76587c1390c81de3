"""Publishing the ledger: new entries enter the Merkle tree, and the log signs a checkpoint about them.

Tiles and checkpoint become durable in one transaction. What is signed was compared first with what was
signed before: a tree that does not begin with the tree of the newest checkpoint, or entries that do not
continue the chain of those published, are refused, and the alarm is raised. Nothing repairs that by itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from evidence.ledger.chain import LedgerEntry, check_run
from evidence.ledger.merkle import (
    MissingNodeError,
    NodeSource,
    consistency_proof,
    leaf_data,
    leaf_hash,
    verify_consistency,
)
from evidence.ledger.notes import Checkpoint, NoteError, NoteSigner, NoteVerifier, open_note, sign_checkpoint
from evidence.ledger.tiles import WIDTH, GrowingTree, Tile, TileSource, width_at
from kephs.ports import Clock, Store, StoredCheckpoint, Tx

EVERY: Final = timedelta(seconds=10)
BATCH: Final = 10_000
_MOST_ROUNDS: Final = 1 << 20  # no more than a store that never stops giving would cost


class LedgerContradictionError(Exception):
    """What is stored contradicts what was published: nothing may be signed about it."""


@dataclass(frozen=True, slots=True)
class _Growth:
    """What one publication would add; made on a snapshot, valid while ``old`` is the newest checkpoint."""

    old: StoredCheckpoint | None
    tiles: Sequence[Tile]
    size: int
    root: bytes


def stored_tiles(tx: Tx, size: int) -> TileSource:
    """Return the nodes of the tree as it is stored.

    Args:
        tx: the source lives as long as this transaction.
        size: of the published tree.
    """

    def read(level: int, number: int, _width: int) -> bytes | None:
        return tx.tree.tile(level, number)

    return TileSource(read, size)


def entry_leaf(entry: LedgerEntry) -> bytes:
    """Return the hash of an entry's leaf.

    Raises:
        ValueError: salt or digest does not have 32 octets.
    """
    return leaf_hash(leaf_data(entry.salt, entry.evidence_sha256))


class PublishLedger:
    """Integrates the ledger into the tree. Any number of processes may do so at the same time.

    Args:
        store: the rows.
        signer: the log's own key, under the log's origin; it signs nothing else.
        clock: the time.
        alarm: told why publication was refused.
        every: a checkpoint at most so often, where nobody asks for one.
        batch: entries of one transaction.
    """

    def __init__(
        self, store: Store, signer: NoteSigner, clock: Clock, *, alarm: Callable[[str], object],
        every: timedelta = EVERY, batch: int = BATCH,
    ) -> None:  # fmt: skip
        self._store, self._signer, self._clock, self._alarm = store, signer, clock, alarm
        self._every, self._batch = every, batch

    @property
    def origin(self) -> str:
        """Return the log's name."""
        return self._signer.name

    @property
    def verifier(self) -> NoteVerifier:
        """Return the log's public key."""
        return self._signer.verifier

    def due(self, tx: Tx) -> datetime | None:
        """Return when the next checkpoint is due; None while there is nothing new."""
        newest = tx.tree.checkpoint()
        fresh = tx.evidence.ledger(0 if newest is None else newest.size, 1)
        if not fresh:
            return None
        return fresh[0].at if newest is None else newest.at + self._every

    async def publish(self) -> StoredCheckpoint | None:
        """Publish everything that is entered; return the newest checkpoint, None where nothing ever was.

        Raises:
            LedgerContradictionError: what is stored is not what was published before; nothing was signed.
            StoreUnavailableError: what was published so far stands.
        """
        for _ in range(_MOST_ROUNDS):
            try:
                growth = await self._store.read(self._grow)
            except LedgerContradictionError as error:
                self._alarm(str(error))
                raise
            if isinstance(growth, StoredCheckpoint) or growth is None:
                return growth
            checkpoint = self._sign(growth)
            await self._store.write(lambda tx, g=growth, c=checkpoint: _enter(tx, g, c))  # type: ignore[misc]
        raise LedgerContradictionError("the ledger grows faster than it can be published")

    def _sign(self, growth: _Growth) -> StoredCheckpoint:
        now = self._clock.now()
        at = (
            now if growth.old is None else max(now, growth.old.at)
        )  # a clock set back is no earlier checkpoint
        note = sign_checkpoint(Checkpoint(self.origin, growth.size, growth.root), self._signer)
        return StoredCheckpoint(growth.size, growth.root, note.decode(), at)

    def _grow(self, tx: Tx) -> _Growth | StoredCheckpoint | None:
        """Compute the next tree; the newest checkpoint where there is nothing new."""
        old = tx.tree.checkpoint()
        size = 0 if old is None else old.size
        entries = tx.evidence.ledger(max(size - 1, 0), self._batch + bool(size))
        last, fresh = (entries[:1], entries[1:]) if size else ([], entries)
        if old is not None:
            self._believe(old)
            _check_last(tx, size, last)
        if not fresh:
            return old
        broken = check_run(fresh, after=last[0] if last else None)
        if broken is not None:
            raise LedgerContradictionError(f"entry {broken.number}: {broken.cause}")
        try:
            return _grown(tx, old, [entry_leaf(entry) for entry in fresh])
        except (MissingNodeError, ValueError) as error:
            raise LedgerContradictionError(f"the tree at {size}: {error}") from None

    def _believe(self, old: StoredCheckpoint) -> None:
        """Check that we did sign the newest checkpoint, and that its row says the same.

        Raises:
            LedgerContradictionError: not so.
        """
        try:
            signed = open_note(old.note.encode(), [self.verifier]).checkpoint
        except (NoteError, ValueError) as error:
            raise LedgerContradictionError(f"the checkpoint at {old.size} is not ours: {error}") from None
        if (signed.size, signed.root) != (old.size, old.root):
            raise LedgerContradictionError(f"the checkpoint at {old.size} says otherwise than its row")


def _check_last(tx: Tx, size: int, last: Sequence[LedgerEntry]) -> None:
    """Check that the last published entry is still there and the one that was published.

    Raises:
        LedgerContradictionError: not so.
    """
    tile = tx.tree.tile(0, (size - 1) // WIDTH) or b""
    end = width_at(0, (size - 1) // WIDTH, size) * 32
    try:
        same = last[0].number == size and entry_leaf(last[0]) == tile[end - 32 : end]
    except (IndexError, ValueError):
        same = False
    if not same:
        raise LedgerContradictionError(f"entry {size} is not the one that was published")


def _grown(tx: Tx, old: StoredCheckpoint | None, leaves: Sequence[bytes]) -> _Growth:
    """Compute the tree with more leaves, and that it begins with the old one.

    Raises:
        LedgerContradictionError: it does not.
        MissingNodeError: tiles are missing.
    """
    size = 0 if old is None else old.size
    tree = GrowingTree(lambda level, number, _width: tx.tree.tile(level, number), size)
    before = tree.root()
    tiles = tree.append(leaves)
    after = tree.root()
    if old is not None:
        nodes = _overlaid(tx, tiles, tree.size)
        proof = consistency_proof(size, tree.size, nodes)
        if before != old.root or not verify_consistency(size, old.root, tree.size, after, proof):
            raise LedgerContradictionError(f"the tree has not the root any more that was signed at {size}")
    return _Growth(old, tiles, tree.size, after)


def _overlaid(tx: Tx, tiles: Sequence[Tile], size: int) -> NodeSource:
    """Return the nodes of the tree as it will be stored."""
    fresh = {(tile.level, tile.number): tile.hashes for tile in tiles}

    def read(level: int, number: int, _width: int) -> bytes | None:
        return fresh.get((level, number)) or tx.tree.tile(level, number)

    return TileSource(read, size)


def _enter(tx: Tx, growth: _Growth, checkpoint: StoredCheckpoint) -> None:
    """Store tiles and checkpoint, unless somebody else published meanwhile."""
    newest, old = tx.tree.checkpoint(), growth.old
    known = None if old is None else (old.size, old.root)
    if (None if newest is None else (newest.size, newest.root)) != known:
        return
    if tx.tree.add_checkpoint(checkpoint):
        for tile in growth.tiles:
            tx.tree.put_tile(tile.level, tile.number, tile.hashes)
