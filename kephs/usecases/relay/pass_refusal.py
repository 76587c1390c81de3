"""A ``rem-baseline`` peer refuses: our sender gets 31 from us, with the peer's reason (rem-formats §5).

In that profile the peer's RelayRejection (21) is for the sender's provider, which tells its sender of a
RelayFailure with the same code. The recipient's state is what 21 says; 31 stands beside it and decides
nothing. Which rule holds is seen from the form of the peer's evidence: TS 102 640 evidence goes to the sender
as it is, and makes no 31.

spec: KEP-EV-21, KEP-EV-31, KEP-EV-02, rem-formats §5 (FLOW-3).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evidence.model.reasons import erds_row
from evidence.model.records import EvidenceKind, EvidenceRecord, Profile, Reason, ReasonCode, SealedEvidence
from evidence.ports import Sealing
from kephs.domain.lifecycle import DeliveryState
from kephs.domain.messages import Delivery, Submission
from kephs.ports import Blob, BlobStore, Tx
from kephs.usecases.people.closing import own_numbers
from kephs.usecases.records import RecordMaker, stored


@dataclass(frozen=True, slots=True)
class RefusalPassed:
    """Sealed evidence 31 with its content; empty where there is nothing to say."""

    evidence: tuple[tuple[SealedEvidence, Blob], ...] = ()

    def add(self, tx: Tx, message: Submission) -> None:
        """Store it; its receipts are due."""
        for sealed, blob in self.evidence:
            tx.blobs.add(blob)
            tx.evidence.add(stored(sealed, message, blob, receipt_due=sealed.record.event_time), sealed.ers)


@dataclass(frozen=True, slots=True)
class PassRefusal:
    """Makes the evidence 31 that passes a peer's refusal on."""

    blobs: BlobStore
    sealer: Sealing
    records: RecordMaker

    async def seal(
        self, refusal: EvidenceRecord, message: Submission, refused: Sequence[Delivery]
    ) -> RefusalPassed:
        """Seal 31 for recipients that a peer has just refused.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: try again later.
        """
        kind = EvidenceKind.RELAY_FAILURE
        reasons = tuple(_same(reason) for reason in refusal.reasons) or (Reason(ReasonCode.OTHER),)
        made = [
            self.records.make(kind, message, number=number, reasons=reasons)
            for number in own_numbers(message, refused, kind)
        ]
        if not made:
            return RefusalPassed()
        sealed = await self.sealer.seal_many(made)
        blobs = await self.blobs.put_many([one.xml for one in sealed])
        return RefusalPassed(tuple(zip(sealed, blobs, strict=True)))


def refused_by(
    record: EvidenceRecord, profile: Profile, concerned: Sequence[Delivery]
) -> tuple[Delivery, ...]:
    """Return the recipients that a peer's evidence refuses and for whom we pass that on."""
    if record.kind is not EvidenceKind.RELAY_REJECTION or profile is not Profile.REM_BASELINE:
        return ()
    return tuple(delivery for delivery in concerned if delivery.state is DeliveryState.PENDING)


def _same(reason: Reason) -> Reason:
    """Return a reason of 21 as it reads in 31: under its EN code, though the event would suggest another."""
    code = erds_row(EvidenceKind.RELAY_REJECTION, reason).code
    usual = erds_row(EvidenceKind.RELAY_FAILURE, replace(reason, erds_code="")).code
    return replace(reason, erds_code="" if code == usual else code)
