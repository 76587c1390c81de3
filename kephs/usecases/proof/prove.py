"""Proofs that evidence stands in the ledger, under a checkpoint that was signed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evidence.ledger.chain import LedgerEntry
from evidence.ledger.merkle import MissingNodeError
from evidence.ledger.notes import Checkpoint, NoteError
from evidence.ledger.proof import LedgerProof, check_proof, make_proof
from kephs.ports import Store, StoredCheckpoint, Tx
from kephs.usecases.proof.publish_ledger import LedgerContradictionError, stored_tiles


class NotInLedgerError(Exception):
    """The ledger has no entry of this evidence."""


class Publishing(Protocol):
    """What integrates new entries (`kephs.usecases.proof.publish_ledger.PublishLedger`)."""

    async def publish(self) -> StoredCheckpoint | None:
        """Publish everything that is entered."""
        ...


@dataclass(frozen=True, slots=True)
class Proven:
    """Proofs of several evidence under one checkpoint."""

    note: bytes  # the checkpoint's, with the signatures gathered so far
    proofs: dict[str, LedgerProof]  # by evidence id


class Prove:
    """Makes inclusion proofs; what is newer than the newest checkpoint is published first."""

    def __init__(self, store: Store, publishing: Publishing) -> None:
        self._store, self._publishing = store, publishing

    async def one(self, evidence_id: str) -> LedgerProof:
        """Return the proof of one evidence; see `prove`."""
        return (await self.prove([evidence_id])).proofs[evidence_id]

    async def prove(self, evidence_ids: Sequence[str]) -> Proven:
        """Return the proofs of evidence, all under the newest checkpoint.

        Raises:
            NotInLedgerError: one of them is not entered.
            LedgerContradictionError: what is stored does not give a proof that holds.
            StoreUnavailableError: the newest could not be published.
            ValueError: none was named.
        """
        if not evidence_ids:
            raise ValueError("name at least one evidence")
        proven = await self._store.read(lambda tx: _prove(tx, evidence_ids))
        if proven is None:
            await self._publishing.publish()
            proven = await self._store.read(lambda tx: _prove(tx, evidence_ids))
        if proven is None:
            raise LedgerContradictionError("an entry was not published")
        return proven


def _prove(tx: Tx, evidence_ids: Sequence[str]) -> Proven | None:
    """Make the proofs on one snapshot; None where an entry is newer than the newest checkpoint."""
    newest = tx.tree.checkpoint()
    entries = [_entry(tx, evidence_id) for evidence_id in evidence_ids]
    if newest is None or max(entry.number for entry in entries) > newest.size:
        return None
    note = newest.note.encode()
    try:
        nodes = stored_tiles(tx, newest.size)
        proofs = {entry.evidence_id: make_proof(entry.number, entry.salt, note, nodes) for entry in entries}
    except (MissingNodeError, NoteError, ValueError) as error:
        raise LedgerContradictionError(str(error)) from None
    signed = Checkpoint(proofs[entries[0].evidence_id].checkpoint.origin, newest.size, newest.root)
    for entry in entries:
        if not check_proof(proofs[entry.evidence_id], entry.evidence_sha256, signed):
            raise LedgerContradictionError(f"entry {entry.number} is not the one that was published")
    return Proven(note, proofs)


def _entry(tx: Tx, evidence_id: str) -> LedgerEntry:
    entry = tx.evidence.ledger_of(evidence_id)
    if entry is None:
        raise NotInLedgerError(evidence_id)
    return entry
