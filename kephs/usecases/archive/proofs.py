"""Ledger proofs of many neighbours under one checkpoint: what they share is computed, and checked, once."""

from base64 import b64encode
from dataclasses import dataclass

from evidence.ledger.chain import LedgerEntry
from evidence.ledger.merkle import (
    MissingNodeError,
    NodeSource,
    inclusion_proof,
    node_hash,
)
from evidence.ledger.notes import Checkpoint, Note, NoteError
from evidence.ledger.proof import MAGIC, LedgerProof, check_proof
from kephs.ports import StoredCheckpoint
from kephs.usecases.proof.publish_ledger import LedgerContradictionError, entry_leaf


@dataclass(frozen=True, slots=True)
class _Node:
    """An inner node of the tree whose hash leads to the checkpoint's root.

    ``left`` and ``right`` are the hashes of the subtrees below and make up its own; where the tree ends
    before the right one, the left one's is its own.
    """

    number: int  # of the subtree, on its level
    left: bytes
    right: bytes | None
    path: tuple[bytes, ...]  # from here to the root
    lines: str  # of a proof: the path


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
        self._tree = nodes
        self._nodes: dict[int, _Node] = {}  # by level: the newest
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
        index = entry.number - 1
        if not 0 <= index < self._size:
            raise LedgerContradictionError(f"entry {entry.number}: the checkpoint is older")
        try:
            leaf = entry_leaf(entry)
            own, path, lines = _half(self._node(1, index >> 1), index)
        except (MissingNodeError, ValueError) as error:
            raise LedgerContradictionError(f"entry {entry.number}: {error}") from None
        if own != leaf:
            raise LedgerContradictionError(f"entry {entry.number} is not the one that was published")
        made = f"{MAGIC}\nextra {_b64(entry.salt)}\nindex {index}\n{lines}\n".encode() + self._note
        if not self._compared:
            self._compare(entry, path, made)
            self._compared = True
        return made

    def _node(self, level: int, number: int) -> _Node:
        """Return an inner node, checked against the one above; neighbours share all but the lowest."""
        known = self._nodes.get(level)
        if known is not None and known.number == number:
            return known
        if 1 << level < self._size:
            own, path, lines = _half(self._node(level + 1, number >> 1), number)
        else:
            own, path, lines = self._checkpoint.root, tuple[bytes, ...](), ""
        left, right = self._halves(level, number, own)
        if (left if right is None else node_hash(left, right)) != own:
            raise LedgerContradictionError(f"the tree at {self._size}: height {level}, subtree {number}")
        node = self._nodes[level] = _Node(number, left, right, path, lines)
        return node

    def _halves(self, level: int, number: int, own: bytes) -> tuple[bytes, bytes | None]:
        """Return the hashes of the two subtrees below a node whose hash is known."""
        height, left = level - 1, 2 * number
        if (left + 2) << height <= self._size:
            first, second = self._tree.hashes(height, left, 2)
            return first, second
        if (left + 1) << height >= self._size:
            return own, None
        # the right one is the incomplete subtree at the edge; below it, a path has one hash of each level
        edge = inclusion_proof(left << height, self._size, self._tree)[height]
        return self._tree.hashes(height, left, 1)[0], edge

    def _compare(self, entry: LedgerEntry, path: tuple[bytes, ...], made: bytes) -> None:
        """Compare a file with the one that the format's own writer makes, and check it as others will.

        Raises:
            LedgerContradictionError: they differ, or it leads elsewhere.
        """
        proof = LedgerProof(entry.number, entry.salt, path, self._size, self._note)
        if proof.encode() != made or not check_proof(proof, entry.evidence_sha256, self._checkpoint):
            raise LedgerContradictionError("a proof is not as its writer makes it")


def _half(above: _Node, number: int) -> tuple[bytes, tuple[bytes, ...], str]:
    """Return the hash of a subtree, its path to the root, and the path's lines in a proof."""
    own, sibling = (above.right, above.left) if number & 1 else (above.left, above.right)
    if own is None:
        raise MissingNodeError("the tree ends before")
    if sibling is None:  # the subtree goes up unchanged
        return own, above.path, above.lines
    return own, (sibling, *above.path), f"{_b64(sibling)}\n{above.lines}"


def _b64(data: bytes) -> str:
    return b64encode(data).decode()
