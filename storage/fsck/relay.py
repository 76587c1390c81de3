"""fsck on what goes to and comes from peers: their recipients' states, transfers, receipts."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from evidence.model.records import EvidenceKind, Profile
from kephs.domain.lifecycle import DECIDED, TO_HAND_OVER, DeliveryState, MessageState, TransferState
from kephs.domain.messages import Delivery, StoredEvidence, Submission, Transfer, TransferKind
from storage.fsck.evidence import Covers, about
from storage.fsck.findings import Finding, FindingCode

_K, _S, _T = EvidenceKind, DeliveryState, TransferState

_THE_PEERS: Final[Mapping[DeliveryState, EvidenceKind]] = MappingProxyType(
    {
        _S.DELIVERED: _K.DELIVERY,
        _S.READ: _K.DELIVERY,
        _S.FAILED: _K.NON_DELIVERY,
        _S.REJECTED: _K.RELAY_REJECTION,
    }
)
"""Which evidence of the peer ends a recipient's state."""
_OURS: Final[Mapping[DeliveryState, EvidenceKind]] = MappingProxyType(
    {_S.UNREACHED: _K.RELAY_FAILURE, _S.FAILED: _K.NON_DELIVERY}
)
"""Which evidence of ours does."""
_WOULD_MOVE: Final[Mapping[DeliveryState, frozenset[EvidenceKind]]] = MappingProxyType(
    {
        _S.PENDING: frozenset({_K.RELAY_ACCEPTANCE, _K.RELAY_REJECTION, _K.DELIVERY, _K.NON_DELIVERY}),
        _S.RELAYED: frozenset({_K.DELIVERY, _K.NON_DELIVERY}),
    }
)
"""What a peer says that a recipient in this state cannot have: it would have moved."""
OPEN: Final = (_T.QUEUED, _T.HELD, _T.HANDED, _T.ANSWERED)


def delivered_elsewhere(
    delivery: Delivery, evidence: Sequence[StoredEvidence], covers: Covers
) -> Iterator[Finding]:
    """Check that the state of a peer's recipient has its evidence: 20, and one of 21, 31, 40, 41 at its end.

    Late, repeated and contradictory evidence of the peer may stand beside what decided (R-19), and 31 of
    ours must stand beside a 21 in EN XML (rem-formats §5).
    """
    key, state = delivery.delivery_id, delivery.state
    concerning = [e for e in evidence if about(e, delivery, covers)]
    theirs = [e for e in concerning if e.origin == delivery.peer]
    ours = [e for e in concerning if e.origin is None and e.kind in _OURS.values()]
    if len(ours) > 1:
        yield Finding(FindingCode.DELIVERY_CONTRADICTED, key, ", ".join(str(e.kind.value) for e in ours))
    if state in DECIDED:
        yield from _decided(delivery, theirs, ours)
    else:
        early = {e.kind for e in theirs} & _WOULD_MOVE[state] | {e.kind for e in ours}
        if early or delivery.evidence_id is not None:
            detail = ", ".join(str(kind.value) for kind in sorted(early))
            yield Finding(FindingCode.DELIVERY_EVIDENCE_EARLY, key, detail)
        if state is _S.RELAYED and all(e.kind is not _K.RELAY_ACCEPTANCE for e in theirs):
            yield Finding(FindingCode.DELIVERY_WITHOUT_EVIDENCE, key, state.value)
    yield from _read(delivery, theirs)


def _decided(
    delivery: Delivery, theirs: Sequence[StoredEvidence], ours: Sequence[StoredEvidence]
) -> Iterator[Finding]:
    key, state = delivery.delivery_id, delivery.state
    deciding = [e for e in theirs if e.kind is _THE_PEERS.get(state)]
    deciding += [e for e in ours if e.kind is _OURS.get(state)]
    owed = next((e for e in deciding if e.evidence_id == delivery.evidence_id), None)
    if owed is None:
        yield Finding(FindingCode.DELIVERY_WITHOUT_EVIDENCE, key, state.value)
        return
    passed_on = owed.kind is _K.RELAY_REJECTION and owed.profile is Profile.REM_BASELINE
    if passed_on:
        if _K.RELAY_FAILURE not in {e.kind for e in ours}:
            yield Finding(FindingCode.DELIVERY_WITHOUT_EVIDENCE, key, "refused without 31 to the sender")
        ours = [e for e in ours if e.kind is not _K.RELAY_FAILURE]
    if ours and owed not in ours:  # the peer's word came first, so there was nothing for us to say
        yield Finding(FindingCode.DELIVERY_CONTRADICTED, key, str(ours[0].kind.value))
    decided = delivery.decided_at
    # Ours is decided when it is stored, right after it was made.
    if decided is None or (decided < owed.event_time if owed in ours else decided != owed.event_time):
        yield Finding(FindingCode.DELIVERY_OTHER_TIME, key, owed.evidence_id)


def _read(delivery: Delivery, theirs: Sequence[StoredEvidence]) -> Iterator[Finding]:
    """Check the note of the peer's first 60, and that 40 with 60 reads as read."""
    read = {e.evidence_id for e in theirs if e.kind is _K.RETRIEVAL}
    noted = delivery.read_evidence_id
    if noted is None:
        if delivery.state is _S.READ:
            yield Finding(FindingCode.DELIVERY_WITHOUT_EVIDENCE, delivery.delivery_id, "read")
        elif read:
            yield Finding(FindingCode.DELIVERY_EVIDENCE_EARLY, delivery.delivery_id, "read")
    elif noted not in read:
        yield Finding(FindingCode.DELIVERY_WITHOUT_EVIDENCE, delivery.delivery_id, "read")
    elif delivery.state is _S.DELIVERED:
        yield Finding(FindingCode.DELIVERY_EVIDENCE_EARLY, delivery.delivery_id, "read")


def transfers_of(
    message: Submission,
    deliveries: Sequence[Delivery],
    evidence: Sequence[StoredEvidence],
    transfers: Sequence[Transfer],
) -> Iterator[Finding]:
    """Check that everything owed to peers is on its way or done, and nothing else is."""
    peers = {d.peer for d in deliveries if d.peer is not None}
    queued = {t.peer for t in transfers if t.kind is TransferKind.DISPATCH}
    if message.state is not MessageState.REFUSED:
        for peer in sorted(peers - queued):
            yield Finding(FindingCode.TRANSFER_MISSING, message.message_id, peer)
    own = {e.evidence_id for e in evidence if e.origin is None}
    for transfer in transfers:
        yield from _due(transfer)
        if transfer.kind is TransferKind.RECEIPT:
            yield from _receipt(transfer, message, own)
            continue
        if transfer.blob is not None and transfer.state not in TO_HAND_OVER:
            yield Finding(FindingCode.TRANSFER_OTHER_STATE, transfer.transfer_id, "it keeps its content")
        if transfer.peer not in peers:
            yield Finding(FindingCode.TRANSFER_OTHER_PEER, transfer.transfer_id, transfer.peer)
        else:
            yield from _follows(transfer, [d.state for d in deliveries if d.peer == transfer.peer])
    if message.origin is not None:
        yield from _receipts(evidence, transfers)


def _due(transfer: Transfer) -> Iterator[Finding]:
    if transfer.state in OPEN and transfer.next_at is None:
        yield Finding(FindingCode.TRANSFER_STUCK, transfer.transfer_id, transfer.state.value)


def _receipt(transfer: Transfer, message: Submission, own: Collection[str]) -> Iterator[Finding]:
    if transfer.evidence_id not in own:
        detail = transfer.evidence_id or ""
        yield Finding(FindingCode.TRANSFER_WITHOUT_EVIDENCE, transfer.transfer_id, detail)
    if transfer.peer != message.origin:
        yield Finding(FindingCode.TRANSFER_OTHER_PEER, transfer.transfer_id, transfer.peer)
    if transfer.state in (_T.HANDED, _T.ANSWERED):  # nothing answers a receipt
        yield Finding(FindingCode.TRANSFER_OTHER_STATE, transfer.transfer_id, transfer.state.value)


def _follows(transfer: Transfer, states: Sequence[DeliveryState]) -> Iterator[Finding]:
    """Check that a dispatch is open while its recipients are, and answered once none of them is pending."""
    decided = all(state in DECIDED for state in states)
    answered = not decided and _S.PENDING not in states
    if decided == (transfer.state in OPEN) or answered != (transfer.state is _T.ANSWERED):
        detail = f"{transfer.state.value}: {', '.join(sorted({state.value for state in states}))}"
        yield Finding(FindingCode.TRANSFER_OTHER_STATE, transfer.transfer_id, detail)


def _receipts(evidence: Sequence[StoredEvidence], transfers: Sequence[Transfer]) -> Iterator[Finding]:
    """Check that what we said about a relayed message went to its sender's provider, or is due to."""
    sent = {t.evidence_id for t in transfers if t.kind is TransferKind.RECEIPT}
    for row in evidence:
        if row.origin is None and row.receipt_due is None and row.evidence_id not in sent:
            yield Finding(FindingCode.EVIDENCE_WITHOUT_RECEIPT, row.evidence_id)
