"""fsck on the ledger: its chain, the tree over it, and every checkpoint that was signed about the tree.

One pass over the entries. Memory does not grow with the tree: one tile of each level and the roots of the
complete subtrees to the left are held. Leaves are compared with the tiles, and the tiles, as they are
stored, with themselves and with the root that each checkpoint names at its size; so one altered entry is
one finding, and a tree that was made anew contradicts the checkpoints signed before.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, Protocol, cast

from evidence.ledger.chain import GENESIS, LedgerEntry, entry_hash
from evidence.ledger.merkle import HASH_SIZE, empty_root, leaf_data, leaf_hash, node_hash
from evidence.ledger.notes import NoteError, NoteVerifier, open_note
from evidence.ledger.tiles import HEIGHT, WIDTH
from kephs.domain.audit_anchor import Anchored, anchored_number
from kephs.domain.messages import StoredEvidence
from kephs.ports import StoredCheckpoint
from storage.files.survey import UNREADABLE, UnreadableRow
from storage.fsck.findings import Finding, FindingCode, unreadable
from storage.fsck.scope import PAGE, Scope

ENTERED_LATE: Final = timedelta(hours=1)
"""Evidence of ours is entered when it is made: what is this much older than the checkpoint before was not."""


class CheckedTree(Protocol):
    """What fsck asks of the tree."""

    def tile(self, level: int, number: int) -> bytes | None:
        """Return a tile's hashes."""
        ...

    def tile_count(self) -> int:
        """Return how many tiles there are."""
        ...

    def checkpoint(self, size: int | None = None) -> StoredCheckpoint | None:
        """Return the newest checkpoint."""
        ...

    def survey_checkpoints(self) -> Iterable[StoredCheckpoint | UnreadableRow]:
        """Yield every checkpoint, ascending, readable or not."""
        ...


class _WithTree(Protocol):
    @property
    def tree(self) -> CheckedTree: ...


def check_ledger(scope: Scope, log: NoteVerifier | None = None) -> Iterator[Finding]:
    """Yield what does not hold of ledger, tree and checkpoints; note in ``scope`` which evidence is entered.

    Args:
        scope: of the run.
        log: the key whose signature every checkpoint must have; without it signatures are not looked at,
            and a checkpoint is believed as its row has it.
    """
    tree = _TreeCheck(scope, log)
    count, number, previous = 0, 0, GENESIS
    for count, entry in enumerate(scope.tx.evidence.survey_ledger(), 1):
        if isinstance(entry, UnreadableRow):
            yield unreadable(entry)
            continue
        yield from _link(entry, number + 1, previous)
        yield from _entered(scope, entry)
        yield from tree.take(entry)
        scope.entered[entry.evidence_id] += 1
        number, previous = entry.number, entry.hash
        if count % PAGE == 0:
            scope.progress("ledger", count)
    yield from tree.finish()
    scope.progress("ledger", count)
    scope.progress("checkpoints", tree.checkpoints)
    for evidence_id, times in scope.entered.items():
        if times > 1:
            yield Finding(FindingCode.LEDGER_DOUBLED, evidence_id, f"{times} entries")


def _link(entry: LedgerEntry, number: int, previous: bytes) -> Iterator[Finding]:
    """Check one link of the chain against the one before."""
    if entry.number != number:
        yield Finding(FindingCode.LEDGER_GAP, str(number), f"entry {entry.number} follows")
    try:
        expected = entry_hash(entry.number, previous, entry.evidence_id, entry.evidence_sha256, entry.at)
    except UNREADABLE:  # a digest of another length, a number below 1
        expected = b""
    if entry.previous != previous or entry.hash != expected:
        yield Finding(FindingCode.LEDGER_BROKEN, str(entry.number), entry.evidence_id)


def _entered(scope: Scope, entry: LedgerEntry) -> Iterator[Finding]:
    """Check an entry against the evidence it is about."""
    evidence: StoredEvidence | None
    number = anchored_number(entry.evidence_id)
    if number is not None:  # compared where the process record is read
        scope.anchors.append(Anchored(number, entry.evidence_sha256, entry.at, entry.number))
        return
    try:
        evidence = scope.tx.evidence.get(entry.evidence_id)
    except UNREADABLE:
        return  # found where evidence is read
    if evidence is None:
        yield Finding(FindingCode.LEDGER_UNKNOWN_EVIDENCE, str(entry.number), entry.evidence_id)
        return
    if evidence.blob != entry.evidence_sha256:
        yield Finding(FindingCode.LEDGER_OTHER_DIGEST, str(entry.number), entry.evidence_id)
    if evidence.event_time != entry.at:
        yield Finding(FindingCode.LEDGER_OTHER_TIME, str(entry.number), entry.evidence_id)


class _TreeCheck:
    """Follows the tree leaf by leaf, as far as there are tiles and a checkpoint."""

    def __init__(self, scope: Scope, log: NoteVerifier | None) -> None:
        self._scope, self._log = scope, log
        self._tree = cast("_WithTree", scope.tx).tree
        self._size = self._published()
        self._row: list[LedgerEntry | None] = []  # of the tile under way; None where there is no entry
        self._taken = 0  # leaves, with those of the tile under way
        self._short = 0  # how many of them have no entry
        self._missing = 0  # tiles
        self._uppers = _Uppers(self._tree, self._size)
        self._notes = self._read_notes()
        self._next: StoredCheckpoint | None = None
        self._last: StoredCheckpoint | None = None
        self._leaves = _Run(FindingCode.TREE_OTHER_LEAF)
        self._roots = _Run(FindingCode.TREE_OTHER_ROOT)
        self.checkpoints = 0

    def take(self, entry: LedgerEntry) -> Iterator[Finding]:
        """Compare one entry, in the order of numbers, with what was published."""
        if self._taken == 0:
            yield from self._advance()
        index = entry.number - 1
        while self._taken < min(index, self._size):
            yield from self._add(None)
        if self._taken == index < self._size:
            yield from self._add(entry)
        elif index >= self._size:  # the next publication enters it
            yield from _salt(entry)
            yield from self._late(entry)

    def finish(self) -> Iterator[Finding]:
        """Compare what is left: tiles without entries, checkpoints without tiles, tiles that are too many."""
        if self._taken == 0:
            yield from self._advance()
        while self._taken < self._size:
            yield from self._add(None)
        if self._short:
            detail = f"{self._short} of {self._size} published entries are gone"
            yield Finding(FindingCode.LEDGER_SHORT, str(self._size), detail)
        yield from self._uppers.finish()
        yield from self._leaves.end()
        while self._next is not None:  # what is signed about a tree that is not there
            yield from self._judge(self._next, None)
            yield from self._advance()
        yield from self._roots.end()
        missing = self._missing + self._uppers.missing
        extra = self._tree.tile_count() - (_tiles_at(self._size) - missing)
        if extra > 0:
            yield Finding(FindingCode.TREE_TILE_EXTRA, "", f"{extra} tiles")

    def _published(self) -> int:
        """Return the size of the published tree; a number with no tiles behind it costs nothing."""
        try:
            newest = self._tree.checkpoint()
        except UNREADABLE:
            newest = None
        most = WIDTH * self._tree.tile_count()
        return most if newest is None else max(0, min(newest.size, most))

    def _add(self, entry: LedgerEntry | None) -> Iterator[Finding]:
        self._row.append(entry)
        self._taken += 1
        if len(self._row) == WIDTH or self._taken == self._size:
            yield from self._close()

    def _close(self) -> Iterator[Finding]:
        """Compare a tile of leaves with its entries; what the tile says goes up into the tree."""
        first = self._taken - len(self._row)
        stored = _hashes(self._tree, 0, first // WIDTH)
        if len(stored) < len(self._row):
            self._missing += not stored
            yield Finding(FindingCode.TREE_TILE_MISSING, f"0/{first // WIDTH}")
        elif len(stored) > len(self._row):
            yield Finding(FindingCode.TREE_TILE_EXTRA, f"0/{first // WIDTH}", "longer than the tree")
        for at, entry in enumerate(self._row):
            leaf = None if entry is None else _leaf(entry)
            published = stored[at] if at < len(stored) else leaf or bytes(HASH_SIZE)
            if entry is None:
                self._short += 1
            else:
                yield from self._leaves.note(entry.number, wrong=leaf != published)
                yield from self._late(entry)
            yield from self._uppers.push(published)
            while self._next is not None and self._next.size == first + at + 1:
                yield from self._judge(self._next, self._uppers.root())
                yield from self._advance()
        self._row.clear()

    def _late(self, entry: LedgerEntry) -> Iterator[Finding]:
        """Find evidence of ours that claims a time from before a checkpoint it is not in."""
        if self._last is None or entry.at >= self._last.at - ENTERED_LATE:
            return
        ours = anchored_number(entry.evidence_id) is not None
        try:
            evidence = None if ours else self._scope.tx.evidence.get(entry.evidence_id)
        except UNREADABLE:
            return  # found where evidence is read
        # a peer's is entered when it comes
        if ours or (evidence is not None and evidence.origin is None):
            detail = f"of {_time(entry.at)}, after the checkpoint of {_time(self._last.at)}"
            yield Finding(FindingCode.LEDGER_ENTERED_LATE, str(entry.number), detail)

    def _read_notes(self) -> Iterator[StoredCheckpoint | Finding]:
        for row in self._tree.survey_checkpoints():
            self.checkpoints += 1
            yield unreadable(row) if isinstance(row, UnreadableRow) else row

    def _advance(self) -> Iterator[Finding]:
        """Go to the next checkpoint that can be read."""
        self._next = None
        for row in self._notes:
            if isinstance(row, StoredCheckpoint):
                self._next = row
                break
            yield row
        if self._next is not None and self._next.size == 0:
            yield from self._judge(self._next, empty_root())
            yield from self._advance()

    def _judge(self, row: StoredCheckpoint, root: bytes | None) -> Iterator[Finding]:
        """Compare a checkpoint with the tree at its size, with its own note, and with the one before."""
        said = row.root
        if self._log is not None:
            try:
                signed = open_note(row.note.encode(), (self._log,)).checkpoint
            except (NoteError, *UNREADABLE) as error:
                yield Finding(FindingCode.CHECKPOINT_UNSIGNED, str(row.size), str(error))
            else:
                if (signed.size, signed.root) != (row.size, row.root):
                    yield Finding(FindingCode.CHECKPOINT_OTHER_FACTS, str(row.size))
                said = signed.root if signed.size == row.size else said
        if self._last is not None and row.at < self._last.at:
            yield Finding(FindingCode.CHECKPOINT_OTHER_TIME, str(row.size), "earlier than the one before")
        self._last = row
        yield from self._roots.note(row.size, wrong=said != root)


class _Uppers:
    """The tree above its leaves: each complete subtree, compared with the tiles as they fill up."""

    def __init__(self, tree: CheckedTree, size: int) -> None:
        self._tree, self._size = tree, size
        self._count = 0
        self._peaks: list[tuple[int, bytes]] = []  # heights falling: the complete subtrees, from the left
        self._rows: list[list[bytes]] = []  # by tile level above 0: hashes of the tile under way
        self._numbers: list[int] = []
        self.missing = 0  # tiles

    def push(self, leaf: bytes) -> Iterator[Finding]:
        """Take the next leaf's hash."""
        height, node = 0, leaf
        while self._peaks and self._peaks[-1][0] == height:
            node, height = node_hash(self._peaks.pop()[1], node), height + 1
            if height % HEIGHT == 0:
                yield from self._complete(height // HEIGHT, node)
        self._peaks.append((height, node))
        self._count += 1

    def root(self) -> bytes:
        """Return the root as of the last leaf."""
        if not self._peaks:
            return empty_root()
        found = self._peaks[-1][1]
        for _, node in reversed(self._peaks[:-1]):
            found = node_hash(node, found)
        return found

    def finish(self) -> Iterator[Finding]:
        """Compare the partial tiles at the right edge."""
        for level, row in enumerate(self._rows, 1):
            if row:
                yield from self._compare(level, row)

    def _complete(self, level: int, node: bytes) -> Iterator[Finding]:
        if level > len(self._rows):
            self._rows.append([])
            self._numbers.append(0)
        row = self._rows[level - 1]
        row.append(node)
        if len(row) == WIDTH:
            yield from self._compare(level, row)
            self._numbers[level - 1] += 1
            row.clear()

    def _compare(self, level: int, row: list[bytes]) -> Iterator[Finding]:
        place = f"{level}/{self._numbers[level - 1]}"
        stored = _hashes(self._tree, level, self._numbers[level - 1])
        if len(stored) < len(row):
            self.missing += not stored
            yield Finding(FindingCode.TREE_TILE_MISSING, place)
        if any(one != other for one, other in zip(stored, row, strict=False)):
            yield Finding(FindingCode.TREE_OTHER_TILE, place)
        if len(stored) > len(row):
            yield Finding(FindingCode.TREE_TILE_EXTRA, place, "longer than the tree")


class _Run:
    """Findings of one kind about neighbours, told as one."""

    def __init__(self, code: FindingCode) -> None:
        self._code = code
        self._first = self._last = self._count = 0

    def note(self, number: int, *, wrong: bool) -> Iterator[Finding]:
        """Take the next one; what came before is told once one is right again."""
        if not wrong:
            yield from self.end()
            return
        self._first = self._first if self._count else number
        self._last = number
        self._count += 1

    def end(self) -> Iterator[Finding]:
        """Tell what came before."""
        if self._count:
            detail = f"to {self._last}: {self._count}" if self._count > 1 else ""
            yield Finding(self._code, str(self._first), detail)
        self._count = 0


def _salt(entry: LedgerEntry) -> Iterator[Finding]:
    if len(entry.salt) != HASH_SIZE:
        yield Finding(FindingCode.LEDGER_SALT, str(entry.number), entry.evidence_id)


def _leaf(entry: LedgerEntry) -> bytes | None:
    """Return the hash an entry has in the tree; None where it can have none."""
    try:
        return leaf_hash(leaf_data(entry.salt, entry.evidence_sha256))
    except UNREADABLE:
        return None


def _hashes(tree: CheckedTree, level: int, number: int) -> list[bytes]:
    """Return a stored tile's hashes; of one that is no sequence of hashes, those before that shows."""
    data = tree.tile(level, number)
    if not isinstance(data, bytes):  # SQLite keeps what it is given
        return []
    whole = len(data) - len(data) % HASH_SIZE
    return [data[at : at + HASH_SIZE] for at in range(0, whole, HASH_SIZE)]


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _tiles_at(size: int) -> int:
    """Return how many tiles a tree has."""
    count = 0
    while size:
        count += -(-size // WIDTH)
        size >>= HEIGHT
    return count
