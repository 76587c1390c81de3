"""The proof that an evidence stands in the ledger: the file ``kayit/<name of the evidence>.proof``.

It is a C2SP tlog-proof (version 1), so that strangers' tools read it, lines ended by a newline each::

    c2sp.org/tlog-proof@v1
    extra <base64 of the salt, 32 octets>
    index <number in the ledger minus one>
    <base64 of a hash>          the inclusion path, from the leaf up, a line each; none in a tree of one
                                (an empty line)
    <the checkpoint's note, as it was signed>

The leaf's data is SHA-256(salt || SHA-256 of the evidence file); see `evidence.ledger.merkle`. The checkpoint
inside proves nothing until somebody verified its signatures with keys from elsewhere
(`evidence.ledger.notes.open_note`).
"""

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Final

from evidence.ledger.merkle import (
    HASH_SIZE,
    MAX_PROOF,
    NodeSource,
    inclusion_proof,
    leaf_data,
    leaf_hash,
    verify_inclusion,
)
from evidence.ledger.notes import MAX_NOTE, Checkpoint, Note, NoteError, read_hash, read_size

MAGIC: Final = "c2sp.org/tlog-proof@v1"
SUFFIX: Final = ".proof"
MAX_FILE: Final = MAX_NOTE + 256 + 45 * MAX_PROOF
"""Octets of the longest proof that is read."""
_INDEX: Final = re.compile(r"index (\S+)")
_EXTRA: Final = re.compile(r"extra (\S+)")


class ProofError(Exception):
    """The bytes are no proof of ours."""


@dataclass(frozen=True, slots=True)
class LedgerProof:
    """One evidence's place in the tree."""

    number: int  # in the ledger, from 1; the leaf's index is one less
    salt: bytes
    path: tuple[bytes, ...]
    size: int  # leaves of the tree the path belongs to
    note: bytes  # the checkpoint of that size, with all signatures that were gathered

    @property
    def index(self) -> int:
        """Return the leaf's index, from 0."""
        return self.number - 1

    @property
    def checkpoint(self) -> Checkpoint:
        """Return what the checkpoint inside says; nothing is verified."""
        return Checkpoint.parse(Note.parse(self.note).text)

    def encode(self) -> bytes:
        """Return the file.

        Raises:
            ProofError: it could not be read back.
        """
        lines = (MAGIC, f"extra {_b64(self.salt)}", f"index {self.index}", *map(_b64, self.path), "")
        data = "".join(f"{line}\n" for line in lines).encode() + self.note
        if LedgerProof.read(data) != self:
            raise ProofError("not a proof that could be read back")
        return data

    @classmethod
    def read(cls, data: bytes) -> "LedgerProof":
        """Read a file; only its form is checked.

        Raises:
            ProofError: it is not exactly what `encode` makes, or is longer than `MAX_FILE`.
        """
        if len(data) > MAX_FILE:
            raise ProofError("too long for a proof")
        head, gap, note = data.partition(b"\n\n")
        lines = head.decode("ascii", "replace").split("\n")
        if not gap or lines[0] != MAGIC or not 3 <= len(lines) <= 3 + MAX_PROOF:
            raise ProofError(f"not a {MAGIC} with its salt and index")
        extra, index = _EXTRA.fullmatch(lines[1]), _INDEX.fullmatch(lines[2])
        if extra is None or index is None:
            raise ProofError("no salt or no index where they belong")
        try:
            size = Checkpoint.parse(Note.parse(note).text).size
            path = tuple(read_hash(line) for line in lines[3:])
            return cls(read_size(index[1]) + 1, read_hash(extra[1]), path, size, note)
        except NoteError as error:
            raise ProofError(str(error)) from None


def make_proof(number: int, salt: bytes, note: bytes, source: NodeSource) -> LedgerProof:
    """Return the proof of a ledger entry in the tree of a checkpoint.

    Args:
        number: of the entry, from 1.
        salt: of the entry.
        note: the checkpoint, at least as large as the number.
        source: nodes of the tree (`evidence.ledger.tiles.TileSource`).

    Raises:
        NoteError: not a checkpoint.
        ValueError: the checkpoint is older than the entry, or the salt does not have 32 octets.
        evidence.ledger.merkle.MissingNodeError: the source lacks a node.
    """
    if len(salt) != HASH_SIZE:
        raise ValueError("a salt has 32 octets")
    size = Checkpoint.parse(Note.parse(note).text).size
    return LedgerProof(number, salt, tuple(inclusion_proof(number - 1, size, source)), size, note)


def check_proof(proof: LedgerProof, evidence_sha256: bytes, checkpoint: Checkpoint) -> bool:
    """Say whether a proof leads from an evidence's digest to a checkpoint's root; never raises.

    Args:
        proof: what was handed over.
        evidence_sha256: of the evidence file's bytes.
        checkpoint: verified by the caller; it need not be the one inside the proof, but has its size.
    """
    if len(evidence_sha256) != HASH_SIZE or len(proof.salt) != HASH_SIZE or proof.size != checkpoint.size:
        return False
    leaf = leaf_hash(leaf_data(proof.salt, evidence_sha256))
    return verify_inclusion(leaf, proof.index, proof.size, proof.path, checkpoint.root)


def _b64(data: bytes) -> str:
    return b64encode(data).decode()
