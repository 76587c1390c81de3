"""Ledger proofs of many neighbours under one checkpoint: what they share is computed, and read, once."""

from base64 import b64encode
from collections.abc import Sequence

from evidence.ledger.chain import LedgerEntry
from evidence.ledger.merkle import MissingNodeError, NodeSource, inclusion_proof
from evidence.ledger.notes import Checkpoint, Note, NoteError
from evidence.ledger.proof import MAGIC, LedgerProof, check_proof
from kephs.ports import StoredCheckpoint
from kephs.usecases.proof.publish_ledger import LedgerContradictionError


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
        self._edge: dict[int, bytes] = {}  # by level: the incomplete subtree at the right edge
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
            path = self._path(entry.number - 1)
            proof = LedgerProof(entry.number, entry.salt, path, self._size, self._note)
        except (MissingNodeError, ValueError) as error:
            raise LedgerContradictionError(f"entry {entry.number}: {error}") from None
        if not check_proof(proof, entry.evidence_sha256, self._checkpoint):
            raise LedgerContradictionError(f"entry {entry.number} is not the one that was published")
        return self._encoded(proof)

    def _path(self, index: int) -> tuple[bytes, ...]:
        """Return what `evidence.ledger.merkle.inclusion_proof` does."""
        path: list[bytes] = []
        for level in range((self._size - 1).bit_length()):
            sibling = (index >> level) ^ 1
            start = sibling << level
            if start + (1 << level) <= self._size:
                path.append(self._nodes.hashes(level, sibling, 1)[0])
            elif start < self._size:
                if level not in self._edge:
                    self._edge[level] = inclusion_proof(index, self._size, self._nodes)[len(path)]
                path.append(self._edge[level])
        return tuple(path)

    def _encoded(self, proof: LedgerProof) -> bytes:
        """Return the file; the first is compared with the one that the format's own writer makes.

        Raises:
            LedgerContradictionError: they differ.
        """
        lines = (
            MAGIC, f"extra {_b64(proof.salt)}", f"index {proof.index}", *map(_b64, proof.path), "\n",
        )  # fmt: skip
        made = "\n".join(lines).encode() + self._note
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
