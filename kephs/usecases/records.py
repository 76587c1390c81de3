"""Evidence records about a stored submission: what all of them say alike."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from evidence.forms.serialise import profile_of
from evidence.model.records import (
    Authentication,
    EvidenceKind,
    EvidenceRecord,
    Issuer,
    MessageFacts,
    Party,
    Profile,
    Reason,
    SealedEvidence,
)
from evidence.xades.signing import DECLARATION
from kephs.domain.messages import StoredEvidence, Submission
from kephs.ports import Blob, Clock, Ids


@dataclass(frozen=True, slots=True)
class RecordMaker:
    """Makes records with fresh ids and the event's time, in the name of one provider."""

    issuer: Issuer
    domain: str
    clock: Clock
    ids: Ids

    def fresh_id(self) -> str:
        """Return a new identifier in Message-ID style, without <>."""
        return f"{self.ids.new()}@{self.domain}"

    def make(
        self,
        kind: EvidenceKind,
        of: Submission,
        *,
        number: int | None = None,
        reasons: tuple[Reason, ...] = (),
        recipients: tuple[Party, ...] | None = None,
        reader: Authentication | None = None,
        delegate: Party | None = None,
        other_party: Party | None = None,
    ) -> EvidenceRecord:
        """Return the record of an event that happens now.

        Args:
            kind: the event.
            of: the message.
            number: the recipient's, 1-based.
            reasons: why, where it is negative.
            recipients: others than the message's own, where they were written otherwise.
            reader: how the recipient proved who they are.
            delegate: who acted for them.
            other_party: the other provider, in events between two.
        """
        return EvidenceRecord(
            kind=kind,
            evidence_id=self.fresh_id(),
            event_time=self.clock.now(),
            submission_time=of.submitted_at,
            issuer=self.issuer,
            sender=of.sender,
            recipients=recipients or of.parties,
            message=MessageFacts(of.subject, of.user_message_id, of.message_id, of.digest_sha256),
            reasons=reasons,
            refers_to=number,
            sender_authentication=of.authentication,
            recipient_authentication=reader,
            delegate=delegate,
            other_party=other_party,
        )


def stored(
    sealed: SealedEvidence, of: Submission, blob: Blob, *, receipt_due: datetime | None
) -> StoredEvidence:
    """Return the row of a sealed evidence; its receipt is to be filed for the sender."""
    record = sealed.record
    return StoredEvidence(
        record.evidence_id,
        record.kind,
        of.message_id,
        record.refers_to,
        of.account_id,
        blob.sha256,
        record.event_time,
        receipt_due,
        unstamped=not sealed.stamped,
        profile=profile_of(sealed.xml.removeprefix(DECLARATION)),
    )


def received(
    record: EvidenceRecord, of: Submission, blob: Blob, *, peer: str, profile: Profile
) -> StoredEvidence:
    """Return the row of an evidence that ``peer`` (its domain) made: nobody gets a receipt of it from us."""
    return StoredEvidence(
        record.evidence_id,
        record.kind,
        of.message_id,
        record.refers_to,
        of.account_id,
        blob.sha256,
        record.event_time,
        origin=peer,
        profile=profile,
    )


_TO_PROVIDER: Final = frozenset({EvidenceKind.RELAY_ACCEPTANCE, EvidenceKind.RELAY_REJECTION})


def receipt_recipient(kind: EvidenceKind, sender: str, provider: str) -> str:
    """Return whom a receipt is addressed to: relay receipts the sender's provider, others the sender.

    spec: rem-formats §3.3
    """
    return provider if kind in _TO_PROVIDER else sender
