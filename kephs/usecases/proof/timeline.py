"""What happened to one message, for people: per recipient every event, the state now, what is still awaited.

Rows say the state, evidence says the rest: each is read from its stored bytes, ours and peers' alike.
Signatures are not looked at here; that is for `kephs verify` and `kephs fsck`.

spec: KEP-EV-03, KEP-EV-06, KEP-EV-07, KEP-MS-12, R-19.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from evidence.forms.serialise import read as read_record
from evidence.model.records import EvidenceKind, EvidenceRecord, Party, Reason
from evidence.x509.role import domain_of
from kephs.domain.erasure import Destroyed
from kephs.domain.lifecycle import DECIDED, DeliveryState, MessageState, TransferState
from kephs.domain.messages import Delivery, StoredEvidence, Submission, Transfer, TransferKind
from kephs.ports import Blob, BlobMissingError, BlobStore, Clock, Offload, Store, Tx

_OF_MESSAGE = frozenset({EvidenceKind.SUBMISSION_ACCEPTANCE, EvidenceKind.SUBMISSION_REJECTION})
_ENDS = frozenset(
    {
        EvidenceKind.RELAY_REJECTION,
        EvidenceKind.RELAY_FAILURE,
        EvidenceKind.DELIVERY,
        EvidenceKind.NON_DELIVERY,
    }
)


class MessageUnknownError(Exception):
    """The store has no such message."""


class MessageAmbiguousError(Exception):
    """Several messages have this Message-ID; ``ids`` are their KEP ids."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(", ".join(ids))
        self.ids = tuple(ids)


class Stamp(StrEnum):
    """How an evidence's time is proven. Stable."""

    INSIDE = "inside"  # a time stamp in the XML
    BESIDE = "beside"  # an evidence record beside it
    AWAITED = "awaited"  # released unstamped; the record follows (D16)
    NONE = "none"


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One evidence. ``standing`` is False for what came beside the evidence that decided (R-19)."""

    evidence_id: str
    kind: EvidenceKind
    at: datetime  # UTC, the event's own time
    issuer_name: str
    issuer_domain: str
    ours: bool
    reasons: tuple[Reason, ...]
    person: str | None  # who was signed in, for a reading
    stamp: Stamp
    ledger_number: int | None
    standing: bool = True


@dataclass(frozen=True, slots=True)
class Awaited:
    """What is still to come about a recipient.

    ``kinds`` may come from ``provider`` until ``until`` (None: no limit); if nothing does, we issue ``then``.
    ``held``: an operator of ours keeps the message from being handed over. ``trouble``: the last one.
    """

    kinds: tuple[EvidenceKind, ...]
    provider: str
    until: datetime | None = None
    then: EvidenceKind | None = None
    held: bool = False
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class RecipientTimeline:
    """One recipient. ``state`` is None where another provider knows it, not we."""

    number: int
    address: str
    name: str | None
    provider: str
    state: DeliveryState | None
    events: tuple[TimelineEvent, ...]
    awaited: Awaited | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """One message. ``events`` are those about the message as a whole: 10 or 11."""

    message_id: str
    user_message_id: str | None
    subject: str
    sender: Party
    sender_provider: str
    submitted_at: datetime
    size: int
    digest_sha256: bytes
    origin: str | None
    state: MessageState
    events: tuple[TimelineEvent, ...]
    recipients: tuple[RecipientTimeline, ...]
    as_of: datetime = field(compare=False)
    destroyed: tuple[Destroyed, ...] = ()  # of its content, in the order of the process record
    content_kept: bool = True  # whether the original can still be had, by itself or in the KEP message


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store holds of one message."""

    message: Submission
    deliveries: tuple[Delivery, ...]
    transfers: tuple[Transfer, ...]
    evidence: tuple[tuple[StoredEvidence, Blob | None, bool, int | None], ...]  # record beside it, number
    destroyed: tuple[Destroyed, ...]
    content_kept: bool


def find_message(tx: Tx, wanted: str, *, account: str | None = None) -> Submission:
    """Return a message by our id of it, or by the Message-ID of its sender's client.

    Args:
        tx: the transaction.
        wanted: the id, with or without <>.
        account: only messages of this sender's address.

    Raises:
        MessageUnknownError: there is none.
        MessageAmbiguousError: several have this Message-ID.
    """
    plain = wanted.strip("<>")
    exact = tx.messages.get(plain)
    if exact is not None and account in (None, exact.sender.address):
        return exact
    named = f"<{plain}>"
    owner = tx.accounts.by_address(account) if account is not None else None
    accepted = tx.messages.accepted_with(owner.account_id, named) if owner is not None else None
    if accepted is not None:  # by an index: what follows looks at every message there is
        return accepted
    found = [
        one
        for one in tx.messages.all()
        if one.user_message_id == named and account in (None, one.sender.address)
    ]
    kept = [one for one in found if one.state is not MessageState.REFUSED] or found
    if not kept:  # refused ones may share an id with the one that was accepted
        raise MessageUnknownError(wanted)
    if len(kept) > 1:
        raise MessageAmbiguousError([one.message_id for one in kept[:10]])
    return kept[0]


@dataclass(frozen=True, slots=True)
class ShowTimeline:
    """Makes the timeline of one message."""

    store: Store
    blobs: BlobStore
    offload: Offload
    clock: Clock
    own: str  # our domain

    async def show(self, wanted: str, *, account: str | None = None) -> Timeline:
        """Return the timeline; see `find_message` for the arguments.

        Raises:
            MessageUnknownError, MessageAmbiguousError: which message is meant is not clear.
            BlobMissingError: an evidence's bytes are gone.
            StoreUnavailableError: the store cannot be read.
        """
        known = await self.store.read(lambda tx: _known(tx, wanted, account))
        records = [(item, await self._record(item[0], item[1])) for item in known.evidence]
        message = known.message
        events = [
            (record, item[0].number, self._event(known, item, record, xml)) for item, (record, xml) in records
        ]
        return Timeline(
            message_id=message.message_id,
            user_message_id=message.user_message_id,
            subject=message.subject,
            sender=message.sender,
            sender_provider=message.origin or self.own,
            submitted_at=message.submitted_at,
            size=message.size,
            digest_sha256=message.digest_sha256,
            origin=message.origin,
            state=message.state,
            events=tuple(event for _, _, event in events if event.kind in _OF_MESSAGE),
            recipients=tuple(self._recipients(known, events)),
            as_of=self.clock.now(),
            destroyed=known.destroyed,
            content_kept=known.content_kept,
        )

    async def _record(self, row: StoredEvidence, blob: Blob | None) -> tuple[EvidenceRecord, bytes]:
        if blob is None:
            raise BlobMissingError(row.evidence_id)
        source = self.blobs.open(blob)
        xml = await self.offload.run(source.read, 0, source.size)
        return read_record(xml), xml

    def _event(
        self,
        known: _Known,
        item: tuple[StoredEvidence, Blob | None, bool, int | None],
        record: EvidenceRecord,
        xml: bytes,
    ) -> TimelineEvent:
        row, _, beside, number = item
        reader = record.recipient_authentication
        person = reader.person if reader is not None else None
        if person is None and record.delegate is not None:
            person = record.delegate.name or record.delegate.address
        return TimelineEvent(
            evidence_id=row.evidence_id,
            kind=row.kind,
            at=row.event_time,
            issuer_name=record.issuer.name,
            issuer_domain=domain_of(record.issuer.address),
            ours=row.origin is None,
            reasons=record.reasons,
            person=person,
            stamp=_stamp(row, xml, beside=beside),
            ledger_number=number,
            standing=_stands(row, record, known.deliveries),
        )

    def _recipients(
        self,
        known: _Known,
        events: Sequence[tuple[EvidenceRecord, int | None, TimelineEvent]],
    ) -> list[RecipientTimeline]:
        """Join what evidence calls the recipients with the rows about them."""
        ours = next((record for record, _, event in events if event.ours), None)
        parties = known.message.parties if ours is None else ours.recipients
        rows = {delivery.number: delivery for delivery in known.deliveries}
        found = []
        for number, party in enumerate(parties, 1):
            delivery = rows.get(number)
            provider = domain_of(party.address)
            concerned = tuple(
                event for record, of, event in events if event.kind not in _OF_MESSAGE
                and _about(record, of, number)
            )  # fmt: skip
            found.append(
                RecipientTimeline(
                    number=number,
                    address=party.address,
                    name=party.name,
                    provider=provider,
                    state=delivery.state if delivery is not None else None,
                    events=concerned,
                    awaited=None if delivery is None else self._awaited(known, delivery),
                )
            )
        return found

    def _awaited(self, known: _Known, delivery: Delivery) -> Awaited | None:
        kinds = _NEXT.get(delivery.state)
        if kinds is None:
            return None
        provider = delivery.peer or self.own
        transfer = _transfer(known.transfers, delivery.peer)
        if delivery.state is DeliveryState.PENDING and delivery.peer is None:
            return Awaited((EvidenceKind.DELIVERY, EvidenceKind.NON_DELIVERY), provider)
        if delivery.state is DeliveryState.DELIVERED or transfer is None:
            return Awaited(kinds, provider)
        accepted = delivery.state is DeliveryState.RELAYED
        # only in the phase that a transfer is in does its deadline say something about this recipient
        phase = (transfer.state is TransferState.ANSWERED) == accepted
        return Awaited(
            kinds,
            provider,
            until=transfer.deadline if phase else None,
            then=EvidenceKind.NON_DELIVERY if accepted else EvidenceKind.RELAY_FAILURE,
            held=transfer.state is TransferState.HELD,
            trouble=transfer.cause if transfer.state in _TRYING else "",
        )


_NEXT = {
    DeliveryState.PENDING: (EvidenceKind.RELAY_ACCEPTANCE, EvidenceKind.RELAY_REJECTION),
    DeliveryState.RELAYED: (EvidenceKind.DELIVERY, EvidenceKind.NON_DELIVERY),
    DeliveryState.DELIVERED: (EvidenceKind.RETRIEVAL,),
}
_TRYING = frozenset({TransferState.QUEUED, TransferState.HELD})


def _known(tx: Tx, wanted: str, account: str | None) -> _Known:
    message = find_message(tx, wanted, account=account)
    evidence = []
    for row in tx.evidence.of_message(message.message_id):
        entry = tx.evidence.ledger_of(row.evidence_id)
        beside = tx.evidence.ers(row.evidence_id) is not None
        evidence.append((row, tx.blobs.get(row.blob), beside, entry.number if entry is not None else None))
    return _Known(
        message,
        tuple(tx.deliveries.of_message(message.message_id)),
        tuple(tx.transfers.of_message(message.message_id)),
        tuple(evidence),
        tuple(tx.erasures.destroyed(message.message_id)),
        any(one is not None and tx.blobs.get(one) for one in (message.digest_sha256, message.dispatch)),
    )


def _about(record: EvidenceRecord, number: int | None, recipient: int) -> bool:
    if number is not None:
        return number == recipient
    return not record.covers or recipient in record.covers


def _stands(row: StoredEvidence, record: EvidenceRecord, deliveries: Sequence[Delivery]) -> bool:
    """Say whether an evidence is the one that decided, for some recipient that it is about."""
    about = [one for one in deliveries if _about(record, row.number, one.number)]
    if row.kind is EvidenceKind.RETRIEVAL:
        return not about or any(one.read_evidence_id in (None, row.evidence_id) for one in about)
    if row.kind not in _ENDS:
        return True
    decided = [one for one in about if one.state in DECIDED]
    return not decided or any(one.evidence_id == row.evidence_id for one in decided)


def _stamp(row: StoredEvidence, xml: bytes, *, beside: bool) -> Stamp:
    if beside:
        return Stamp.BESIDE
    if row.unstamped:
        return Stamp.AWAITED
    return Stamp.INSIDE if b"EncapsulatedTimeStamp" in xml else Stamp.NONE


def _transfer(transfers: Sequence[Transfer], peer: str | None) -> Transfer | None:
    return next((one for one in transfers if one.kind is TransferKind.DISPATCH and one.peer == peer), None)
