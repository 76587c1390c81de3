"""The KEP message in the form of one peer: evidence 10 in EN XML, the same original, REM headers.

Its id, sender, recipients and original are those of the message that our own recipients and other peers
get; only the serialisation differs (rem-formats §0, rules in detail "Sealed faces of one message"). Evidence
10 in that form is an evidence of its own: one per message, with its own id, ledger entry and time stamp
inside (D16). It goes nowhere but into these messages, for the sender has evidence 10 as KEP law names it.

spec: KEP-EV-10, KEP-MS-13, rem-formats §0.2, §3.1 to §3.3.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from evidence.model.records import EvidenceKind, Profile, SealedEvidence
from evidence.ports import Stamping
from kephs.domain.lifecycle import TO_HAND_OVER
from kephs.domain.messages import StoredEvidence, Submission, Transfer
from kephs.ports import Blob, BlobMissingError, StoreUnavailableError, Tx
from kephs.usecases.delivery.dispatch import DispatchMaker, Wanted, acceptance
from kephs.usecases.records import stored

PROFILE: Final = Profile.REM_BASELINE
LATE: Final = timedelta(minutes=4)
"""When evidence 10 is older than this, its second form says that it was made later.

The process that holds the key seals no event that is five minutes old. SubmissionTime says the same in both.
"""
_TRIES: Final = 3


class _OvertakenError(Exception):
    """Another transfer of the same message made evidence 10 first: its evidence stands."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the store holds: the message made before, or what one is made of."""

    made: Blob | None
    accepted: StoredEvidence | None  # in KEP form
    evidence: StoredEvidence | None  # in the peer's
    original: Blob | None


@dataclass(frozen=True, slots=True)
class FaceMaker:
    """Makes a message in the peer's form once, at first need. Safe to repeat and to race.

    Until the peer has it, every try sends the same bytes: what was named in the transfer first stands.
    """

    dispatches: DispatchMaker

    async def face(self, message: Submission, transfer: Transfer) -> Blob | None:
        """Return the message for a peer; None where it is not to be handed over any more.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
            BlobMissingError: content is gone.
        """
        for _ in range(_TRIES):
            rows = await self.dispatches.store.read(lambda tx: _look(tx, message, transfer))
            if rows is None or rows.made is not None:
                return None if rows is None else rows.made
            try:
                return await self._make(message, transfer, rows)
            except _OvertakenError:
                continue
        raise StoreUnavailableError("evidence 10 of this message is being made by others again and again")

    async def _make(self, message: Submission, transfer: Transfer, rows: _Rows) -> Blob | None:
        maker = self.dispatches
        if rows.original is None or rows.accepted is None:
            raise BlobMissingError(message.message_id)
        sealed = await self._evidence(message, rows.accepted, rows.evidence)
        (xml,) = await maker.blobs.put_many([sealed.xml])
        async with maker.rendered((Wanted(message, sealed, rows.original),)) as (rendered,):
            blob = await maker.blobs.keep(rendered.spool)

        def commit(tx: Tx) -> Blob | None:
            return _name(tx, message, transfer, sealed, xml, blob)

        return await maker.store.write(commit)

    async def _evidence(
        self, message: Submission, accepted: StoredEvidence, made: StoredEvidence | None
    ) -> SealedEvidence:
        if made is not None:
            return await self.dispatches.kept.open(made)
        record = self.dispatches.records.make(EvidenceKind.SUBMISSION_ACCEPTANCE, message)
        if record.event_time - accepted.event_time < LATE:
            record = replace(record, event_time=accepted.event_time)
        (sealed,) = await self.dispatches.sealer.seal_many([record], profile=PROFILE, stamping=Stamping.OWN)
        return sealed


def _look(tx: Tx, message: Submission, transfer: Transfer) -> _Rows | None:
    current = tx.transfers.get(transfer.transfer_id)
    if current is None or current.state not in TO_HAND_OVER:
        return None
    if current.blob is not None:
        return _Rows(_named(tx, current.blob, message), None, None, None)
    made = tx.evidence.of_message(message.message_id)
    return _Rows(
        None,
        acceptance(made),
        acceptance(made, PROFILE),
        tx.blobs.get(message.digest_sha256),
    )


def _name(
    tx: Tx, message: Submission, transfer: Transfer, sealed: SealedEvidence, xml: Blob, blob: Blob
) -> Blob | None:
    """Name a finished message in its transfer and return it, or the one that was named first."""
    earlier = _look(tx, message, transfer)
    if earlier is None or earlier.made is not None:
        return None if earlier is None else earlier.made
    if earlier.evidence is None:
        tx.blobs.add(xml)
        tx.evidence.add(stored(sealed, message, xml, receipt_due=None), sealed.ers)
    elif earlier.evidence.evidence_id != sealed.record.evidence_id:
        raise _OvertakenError
    tx.blobs.add(blob)
    tx.transfers.name_blob(transfer.transfer_id, blob.sha256)
    return blob


def _named(tx: Tx, sha256: bytes, message: Submission) -> Blob:
    blob = tx.blobs.get(sha256)
    if blob is None:
        raise BlobMissingError(message.message_id)
    return blob
