"""Ledger proofs of many neighbours under one checkpoint: what they share is computed, and read, once."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from evidence.ledger.chain import LedgerEntry
from evidence.ledger.merkle import MissingNodeError, NodeSource, inclusion_proof
from evidence.ledger.notes import Checkpoint, Note, NoteError
from evidence.ledger.proof import MAGIC, LedgerProof, check_proof
from kephs.ports import StoredCheckpoint
from kephs.usecases.proof.publish_ledger import LedgerContradictionError


@dataclass(frozen=True, slots=True)
class _Way:
    """The path from a subtree to the root, and its lines in a proof."""

    number: int  # of the subtree, on its level
    path: tuple[bytes, ...]
    lines: str


class Proofs:
    """Makes the files ``kayit/<number>.proof``.

    Args:
        newest: the checkpoint they lead to.
        nodes: of the tree at its size.

    Raises:
        LedgerContradictionError: the checkpoint is none, or its row says otherwise.
    """

    def __init__(self, newest: StoredCheckpoint, nodes: NodeSource) -> None:
        self._note, self._size = newest.note.encode(), newest.size
        self._nodes = RememberedNodes(nodes)
        self._ways: dict[int, _Way] = {}  # by level: the newest
        self._compared = False
        try:
            self._checkpoint = Checkpoint.parse(Note.parse(self._note).text)
        except NoteError as error:
            raise LedgerContradictionError(f"the checkpoint at {newest.size}: {error}") from None
        if (self._checkpoint.size, self._checkpoint.root) != (newest.size, newest.root):
            raise LedgerContradictionError(f"the checkpoint at {newest.size} says otherwise than its row")

    def file(self, entry: LedgerEntry) -> bytes:
        """Return the proof of an entry, checked.

        Raises:
            LedgerContradictionError: it is not the one that was published, or the tree lacks a node.
        """
        try:
            way = self._way(0, entry.number - 1)
            proof = LedgerProof(entry.number, entry.salt, way.path, self._size, self._note)
        except (MissingNodeError, ValueError) as error:
            raise LedgerContradictionError(f"entry {entry.number}: {error}") from None
        if not check_proof(proof, entry.evidence_sha256, self._checkpoint):
            raise LedgerContradictionError(f"entry {entry.number} is not the one that was published")
        return self._encoded(proof, way.lines)

    def _way(self, level: int, number: int) -> _Way:
        """Return the way from a subtree to the root; neighbours share all but its beginning."""
        known = self._ways.get(level)
        if known is not None and known.number == number:
            return known
        if 1 << level >= self._size:
            return _Way(number, (), "")
        above = self._way(level + 1, number >> 1)
        sibling = self._sibling(level, number)
        if sibling is None:  # the tree ends before it: the subtree goes up unchanged
            way = _Way(number, above.path, above.lines)
        else:
            way = _Way(number, (sibling, *above.path), f"{_b64(sibling)}\n{above.lines}")
        self._ways[level] = way
        return way

    def _sibling(self, level: int, number: int) -> bytes | None:
        start = (number ^ 1) << level
        if start + (1 << level) <= self._size:
            return self._nodes.hashes(level, number ^ 1, 1)[0]
        if start >= self._size:
            return None
        # the incomplete subtree at the right edge; below it, a path has one hash of each level
        return inclusion_proof(number << level, self._size, self._nodes)[level]

    def _encoded(self, proof: LedgerProof, lines: str) -> bytes:
        """Return the file; the first is compared with the one that the format's own writer makes.

        Raises:
            LedgerContradictionError: they differ.
        """
        head = f"{MAGIC}\nextra {_b64(proof.salt)}\nindex {proof.index}\n{lines}\n"
        made = head.encode() + self._note
        if not self._compared:
            self._compared = True
            if proof.encode() != made:
                raise LedgerContradictionError("a proof is not as its writer makes it")
        return made


class RememberedNodes:
    """A `NodeSource` that remembers: proofs of neighbours share nearly all their nodes."""

    def __init__(self, inner: NodeSource) -> None:
        self._inner = inner
        self._known: dict[tuple[int, int, int], Sequence[bytes]] = {}

    def hashes(self, level: int, start: int, count: int) -> Sequence[bytes]:
        """Return hashes of complete subtrees; see `evidence.ledger.merkle.NodeSource`."""
        key = level, start, count
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._inner.hashes(level, start, count)
        return found


def _b64(data: bytes) -> str:
    return b64encode(data).decode()
