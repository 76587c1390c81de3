"""A peer's receipt: its evidence is matched by id and digest, kept as received, and filed for the sender.

Late, repeated and contradictory evidence is kept beside what stands; only the first that ends a recipient's
state moves it (R-19). A receipt never causes a receipt (R-17).

spec: KEP-EV-20 to KEP-EV-61 (route S to sender), R-13, R-14, R-18, R-19.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from evidence.forms.serialise import profile_of_root
from evidence.model.records import NAMES, EvidenceKind, EvidenceRecord, Profile
from evidence.xml.reader import parse_xml
from kephs.domain.lifecycle import DECIDED, DeliveryEvent, DeliveryState, MessageState, advance_delivery
from kephs.domain.message_index import encode as encode_index
from kephs.domain.messages import Delivery, StoredEvidence, Submission
from kephs.domain.refusals import Refusal, RefusalCode
from kephs.domain.relay_times import RelayTimes
from kephs.ports import Blob, BlobStore, Changes, Clock, Store, StoreUnavailableError, Tx
from kephs.usecases.delivery.receipts import file_receipt
from kephs.usecases.people.closing import close_when_decided, dispatch_to, follow_deliveries
from kephs.usecases.records import received
from kephs.usecases.relay.inspect_sealed import Sealed
from kephs.usecases.relay.pass_refusal import PassRefusal, RefusalPassed, refused_by
from kephs.usecases.submission.results import Arriving, Taken

EVENTS: Final[Mapping[EvidenceKind, DeliveryEvent]] = MappingProxyType(
    {
        EvidenceKind.RELAY_ACCEPTANCE: DeliveryEvent.PEER_ACCEPTED,
        EvidenceKind.RELAY_REJECTION: DeliveryEvent.PEER_REFUSED,
        EvidenceKind.DELIVERY: DeliveryEvent.PEER_DELIVERED,
        EvidenceKind.NON_DELIVERY: DeliveryEvent.PEER_FAILED,
        EvidenceKind.RETRIEVAL: DeliveryEvent.PEER_READ,
        EvidenceKind.NON_RETRIEVAL: DeliveryEvent.PEER_UNREAD,
    }
)
"""What a peer's evidence means for the recipients it is about; no other kind is a peer's to make."""
CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""What the clocks of two providers may differ."""
KEPT_PER_RECIPIENT: Final = 32
"""Evidence of one message and recipient beyond this is refused: a peer cannot fill the store."""


_TRIES: Final = 3


class _OvertakenError(Exception):
    """The recipients' states changed while evidence about them was sealed."""


@dataclass(frozen=True, slots=True)
class _Match:
    """The message a receipt belongs to, and the recipients it is about."""

    message: Submission
    concerned: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What lies in the blob store: the receipt with its index, the evidence and its serialisation."""

    receipt: Blob
    index: bytes
    evidence: Blob
    profile: Profile


@dataclass(frozen=True, slots=True)
class TakeReceipt:
    """Takes a receipt. Safe to repeat: the same evidence is kept once."""

    store: Store
    blobs: BlobStore
    changes: Changes
    clock: Clock
    times: RelayTimes
    own: str  # our domain
    refusals: PassRefusal

    async def take(self, found: Sealed, arriving: Arriving) -> Taken | Refusal:
        """File a receipt with its evidence, or refuse it where it belongs to nothing of ours.

        Raises:
            TimestampUnavailableError, SignerUnavailableError, StoreUnavailableError: nothing was taken; the
                peer tries again.
        """
        if found.fault is not None:
            return found.fault
        outcome = await self.store.read(lambda tx: self._look(tx, found))
        if not isinstance(outcome, _Match):
            return outcome
        source = arriving.spool.source()
        index = encode_index(source, found.root)
        receipt = await self.blobs.keep(arriving.spool)
        (evidence,) = await self.blobs.put_many([found.xml])
        kept = _Kept(receipt, index, evidence, profile_of_root(parse_xml(found.xml)))
        for _ in range(_TRIES):
            try:
                result = await self._keep(found, outcome, kept)
            except _OvertakenError:
                outcome = await self.store.read(lambda tx: self._look(tx, found))
                if not isinstance(outcome, _Match):
                    return outcome
                continue
            if isinstance(result, Taken) and outcome.message.account_id:
                self.changes.publish({outcome.message.account_id})
            return result
        raise StoreUnavailableError("the recipients' states change faster than evidence is sealed")

    async def _keep(self, found: Sealed, match: _Match, kept: _Kept) -> Taken | Refusal:
        """Store a receipt; with a refusal of a ``rem-baseline`` peer, what we say to our sender (31)."""
        refused = refused_by(found.record, kept.profile, match.concerned)
        passed = await self.refusals.seal(found.record, match.message, refused)

        def commit(tx: Tx) -> Taken | Refusal:
            again = self._look(tx, found)
            if not isinstance(again, _Match):
                return again
            if refused_by(found.record, kept.profile, again.concerned) != refused:
                raise _OvertakenError
            return self._file(tx, found, again, kept, passed)

        return await self.store.write(commit)

    # --- matching -----------------------------------------------------------------------------

    def _look(self, tx: Tx, found: Sealed) -> _Match | Taken | Refusal:
        record = found.record
        message = self._message(tx, record)
        if message is None or message.origin is not None:
            return Refusal(RefusalCode.RECEIPT_UNMATCHED, "no such message")
        if record.message.digest_sha256 != message.digest_sha256:
            return Refusal(RefusalCode.RECEIPT_UNMATCHED, "digest")
        known = tx.evidence.get(record.evidence_id)
        if known is not None:
            return _known_already(known, found, message)
        concerned = _concerned(tx, message, found)
        if not concerned:
            return Refusal(RefusalCode.RECEIPT_UNMATCHED, "recipients, kind or time")
        kept = sum(one.origin == found.peer.domain for one in tx.evidence.of_message(message.message_id))
        if kept >= KEPT_PER_RECIPIENT * len(message.recipients):
            return Refusal(RefusalCode.RECEIPT_UNMATCHED, "too much evidence about one message")
        return _Match(message, concerned)

    def _message(self, tx: Tx, record: EvidenceRecord) -> Submission | None:
        """Find the message; a peer may have rewritten the domain of its id (R-13)."""
        message_id = record.message.kep_message_id
        message = tx.messages.get(message_id) or tx.messages.get(f"{message_id.partition('@')[0]}@{self.own}")
        refused = message is not None and message.state is MessageState.REFUSED
        return None if refused else message

    # --- filing -------------------------------------------------------------------------------

    def _file(self, tx: Tx, found: Sealed, match: _Match, kept: _Kept, passed: RefusalPassed) -> Taken:
        record, message, now = found.record, match.message, self.clock.now()
        tx.blobs.add(kept.evidence)
        tx.evidence.add(
            received(record, message, kept.evidence, peer=found.peer.domain, profile=kept.profile),
            found.ers,
        )
        passed.add(tx, message)
        for delivery in match.concerned:
            self._apply(tx, record, delivery)
        if message.account_id:
            file_receipt(tx, message.account_id, kept.receipt, kept.index, now)
        transfer = dispatch_to(tx, message.message_id, found.peer.domain)
        assert transfer is not None  # the peer serves a recipient
        follow_deliveries(tx, transfer, self.times, now)
        close_when_decided(tx, message.message_id)
        return Taken(record.evidence_id, message.message_id)

    def _apply(self, tx: Tx, record: EvidenceRecord, delivery: Delivery) -> None:
        state = advance_delivery(delivery.state, EVENTS[record.kind]).state
        was_read = delivery.read_evidence_id is not None
        if record.kind is EvidenceKind.RETRIEVAL:
            tx.deliveries.read_elsewhere(delivery.delivery_id, record.evidence_id)
        elif state is DeliveryState.DELIVERED and was_read:  # 60 came before 40
            state = advance_delivery(state, DeliveryEvent.PEER_READ).state
        if state is delivery.state:
            return
        decides = state in DECIDED and delivery.state not in DECIDED
        evidence_id = record.evidence_id if decides else None  # reading is later: 40 and its time stand
        tx.deliveries.move(delivery.delivery_id, delivery.state, state, evidence_id, record.event_time)


def _known_already(known: StoredEvidence, found: Sealed, message: Submission) -> Taken | Refusal:
    """Answer a repeated receipt; the same id with other bytes is a forgery or a fault of the peer's."""
    same = known.origin == found.peer.domain and known.blob == sha256(found.xml).digest()
    if same and known.message_id == message.message_id:
        return Taken(known.evidence_id, message.message_id)
    return Refusal(RefusalCode.RECEIPT_UNMATCHED, "evidence id")


def _concerned(tx: Tx, message: Submission, found: Sealed) -> tuple[Delivery, ...]:
    """Return the peer's recipients that an evidence is about; none where it is not the peer's to make."""
    record = found.record
    if record.kind not in EVENTS or record.sender.address.lower() != message.sender.address:
        return ()
    if [p.address.lower() for p in record.recipients] != [str(r.address) for r in message.recipients]:
        return ()
    if record.event_time < message.submitted_at - CLOCKS_DIFFER:  # nothing happens before the submission
        return ()
    served = [d for d in tx.deliveries.of_message(message.message_id) if d.peer == found.peer.domain]
    if record.refers_to is not None:
        served = [delivery for delivery in served if delivery.number == record.refers_to]
    elif record.covers:
        served = [delivery for delivery in served if delivery.number in record.covers]
    elif NAMES[record.kind].per_recipient:
        return ()
    return tuple(served)
