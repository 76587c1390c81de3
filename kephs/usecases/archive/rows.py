"""What the store knows of the next entries to archive, gathered on one snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from evidence.ledger.chain import LedgerEntry
from evidence.model.records import EvidenceKind, Profile
from kephs.domain.audit_anchor import Statement, anchored_number
from kephs.domain.messages import StoredEvidence
from kephs.ports import Blob, Entered, StoredCheckpoint, Tx
from kephs.usecases.archive.proofs import Proofs
from kephs.usecases.proof.publish_ledger import stored_tiles

OCTETS_MAX: Final = 64 << 20
"""Octets of the evidence of one object: it is held in memory, sealed and plain."""
FILES_FREE: Final = 3_900
"""Files of one object, as estimated here; its format takes a few more."""
_PER_EVIDENCE: Final = 3  # XML, evidence record, proof
_PER_SENDER: Final = 5  # verdict, certificate, two answers of its own; what is shared is spread over many
_SUBMISSION: Final = frozenset({EvidenceKind.SUBMISSION_ACCEPTANCE, EvidenceKind.SUBMISSION_REJECTION})


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """One entry as the store has it: an evidence, or an anchor of the process record with its statement.

    ``material``: of the sender's signature, with the first evidence of a message.
    """

    entry: LedgerEntry
    evidence: StoredEvidence | None
    blob: Blob | None
    ers: bytes | None
    proof: bytes | None
    material: Blob | None
    statement: bytes = b""

    @property
    def size(self) -> int:
        """Return octets."""
        return sum(blob.size for blob in (self.blob, self.material) if blob is not None)


@dataclass(frozen=True, slots=True)
class EvidenceRows:
    """Consecutive entries, and the checkpoints that speak of them."""

    rows: tuple[EvidenceRow, ...]
    checkpoints: tuple[StoredCheckpoint, ...]
    stopped: str = ""  # why there are not more, where the store has more


class EvidenceIncompleteError(Exception):
    """The index names evidence that is not there: `kephs fsck` says more. Nothing behind it is archived."""


def gather(tx: Tx, after: int, limit: int) -> EvidenceRows:
    """Return the next entries of the ledger that fit into one object and may go there.

    Only entries that the newest checkpoint covers are taken, and none behind one that waits for its stamp.

    Args:
        tx: a snapshot.
        after: number of the last entry that is archived.
        limit: entries at most.

    Raises:
        EvidenceIncompleteError: a row or its content is gone.
        LedgerContradictionError: an entry is not the one that was published.
    """
    newest = tx.tree.checkpoint()
    if newest is None or newest.size <= after:
        return EvidenceRows((), (), "not published")
    entries = tx.evidence.entered(after, min(limit, newest.size - after))
    proofs = Proofs(newest, stored_tiles(tx, newest.size))
    rows: list[EvidenceRow] = []
    files, octets, stopped = 0, 0, ""
    for entered in entries:
        row = _row(tx, entered, proofs)
        files += _PER_EVIDENCE + (_PER_SENDER if row.material is not None else 0)
        octets += row.size
        if row.evidence is not None and row.evidence.unstamped:
            stopped = f"evidence {row.entry.evidence_id} waits for its time stamp"
            break
        if rows and (files > FILES_FREE or octets > OCTETS_MAX):
            stopped = "full"
            break
        rows.append(row)
    checkpoints = _checkpoints(tx, rows, newest) if rows else ()
    return EvidenceRows(tuple(rows), checkpoints, stopped)


def plain_row(evidence: StoredEvidence) -> dict[str, str | int | None]:
    """Return what an object keeps of a row: what stands neither in the ledger nor in the evidence."""
    due = evidence.receipt_due
    return {
        "message_id": evidence.message_id,
        "kind": int(evidence.kind),
        "recipient": evidence.number,
        "account_id": evidence.account_id,
        "origin": evidence.origin,
        "profile": evidence.profile.value,
        "receipt": None if due is None else "due",
    }


def row_of(plain: dict[str, str | int | None], entry: LedgerEntry) -> StoredEvidence:
    """Return the row that `plain_row` came from. A receipt that was due is due at the time of the event.

    Raises:
        KeyError, TypeError, ValueError: not what `plain_row` makes.
    """
    number, account, origin = plain["recipient"], plain["account_id"], plain["origin"]
    if not isinstance(number, int | None) or not isinstance(account, str | None):
        raise TypeError("a row of odd types")
    if not isinstance(origin, str | None) or not isinstance(plain["kind"], int):
        raise TypeError("a row of odd types")
    return StoredEvidence(
        entry.evidence_id, EvidenceKind(plain["kind"]), str(plain["message_id"]), number, account,
        entry.evidence_sha256, entry.at, entry.at if plain["receipt"] == "due" else None,
        origin=origin, profile=Profile(str(plain["profile"])),
    )  # fmt: skip


def _row(tx: Tx, entered: Entered, proofs: Proofs) -> EvidenceRow:
    entry, evidence, blob = entered.entry, entered.evidence, entered.blob
    anchored = anchored_number(entry.evidence_id)
    if anchored is not None:
        statement = _statement(tx, entry, anchored)
        return EvidenceRow(entry, None, None, None, proofs.file(entry), None, statement)
    if evidence is None or blob is None or evidence.blob != entry.evidence_sha256:
        raise EvidenceIncompleteError(f"evidence {entry.evidence_id} of ledger entry {entry.number}")
    first = evidence.kind in _SUBMISSION and evidence.origin is None
    material = entered.material if first else None
    return EvidenceRow(entry, evidence, blob, entered.ers, proofs.file(entry), material)


def _statement(tx: Tx, entry: LedgerEntry, number: int) -> bytes:
    """Return what an anchor says, made again from the process record."""
    found = tx.audit.page(number - 1, 1)
    said = Statement(number, found[0].digest, entry.at).encode() if found else b""
    if sha256(said).digest() != entry.evidence_sha256:
        raise EvidenceIncompleteError(f"the process record's entry {number} of ledger entry {entry.number}")
    return said


def _checkpoints(
    tx: Tx, rows: Sequence[EvidenceRow], newest: StoredCheckpoint
) -> tuple[StoredCheckpoint, ...]:
    """Return those signed about sizes within the range, and the newest, to which the proofs lead."""
    first, last = rows[0].entry.number, rows[-1].entry.number
    found: list[StoredCheckpoint] = []
    after = first - 1
    while page := tx.tree.checkpoints(after, 500):
        found += [one for one in page if one.size <= last]
        if page[-1].size > last:
            break
        after = page[-1].size
    return tuple(found) if found and found[-1].size == newest.size else (*found, newest)
