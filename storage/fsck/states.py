"""fsck on states: messages and recipients served here against the evidence rows."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from evidence.model.records import EvidenceKind, Profile
from kephs.domain.lifecycle import DECIDED, DeliveryState, MessageState
from kephs.domain.messages import Delivery, StoredEvidence, Submission
from storage.fsck.evidence import Covers
from storage.fsck.findings import Finding, FindingCode

_IN_A_MAILBOX: Final = (DeliveryState.DELIVERED, DeliveryState.READ)
_SERVED_HERE: Final = (
    DeliveryState.PENDING,
    DeliveryState.DELIVERED,
    DeliveryState.FAILED,
    DeliveryState.READ,
)


_NOT_THERE: Final = (DeliveryState.PENDING, DeliveryState.UNREACHED)
"""Where a peer's recipient stands while its provider need not have the message."""


def in_mailbox(delivery: Delivery) -> bool:
    """Say whether a message was put into a mailbox of ours."""
    return delivery.peer is None and delivery.state in _IN_A_MAILBOX


def message_states(
    message: Submission,
    deliveries: Sequence[Delivery],
    evidence: Sequence[StoredEvidence],
    covers: Covers,
    own: set[str],
) -> Iterator[Finding]:
    """Check that a message's state has its evidence and fits its deliveries."""
    refused = message.state is MessageState.REFUSED
    if message.origin is None:
        yield from _answered(message, deliveries, evidence)
    else:
        yield from _relayed(message, deliveries, evidence, covers, own)
    if refused and deliveries:
        yield Finding(FindingCode.MESSAGE_REFUSED_WITH_DELIVERIES, message.message_id)
    yield from _work(message, deliveries, evidence)


def _answered(
    message: Submission, deliveries: Sequence[Delivery], evidence: Sequence[StoredEvidence]
) -> Iterator[Finding]:
    """Check a message submitted here: 10 or 11, once, and somebody on record for each recipient.

    Evidence 10 in EN XML, which went to peers, is no second one: it says the same.
    """
    key = message.message_id
    kinds = Counter(e.kind for e in evidence if e.origin is None and e.profile is Profile.KEP)
    refused = message.state is MessageState.REFUSED
    owed = EvidenceKind.SUBMISSION_REJECTION if refused else EvidenceKind.SUBMISSION_ACCEPTANCE
    if kinds[owed] != 1:
        detail = f"{message.state.value} with {kinds[owed]} of {owed.value}"
        yield Finding(FindingCode.MESSAGE_WITHOUT_EVIDENCE, key, detail)
    if kinds[EvidenceKind.SUBMISSION_ACCEPTANCE] and kinds[EvidenceKind.SUBMISSION_REJECTION]:
        yield Finding(FindingCode.MESSAGE_ACCEPTED_AND_REFUSED, key)
    if not refused:
        numbers = {d.number for d in deliveries}
        for number in sorted(set(range(1, len(message.recipients) + 1)) - numbers):
            yield Finding(FindingCode.MESSAGE_WITHOUT_DELIVERY, key, f"recipient {number}")


def _said(evidence: Sequence[StoredEvidence], kind: EvidenceKind, covers: Covers) -> set[int | None]:
    """Return which recipients evidence of ours is about; None stands for all."""
    ours = [e for e in evidence if e.origin is None and e.kind is kind]
    return {number for e in ours for number in covers.get(e.evidence_id) or (e.number,)}


def _relayed(
    message: Submission,
    deliveries: Sequence[Delivery],
    evidence: Sequence[StoredEvidence],
    covers: Covers,
    own: set[str],
) -> Iterator[Finding]:
    """Check a message relayed to us: 20 or 21 for each recipient served here, or one for all."""
    key = message.message_id
    taken = _said(evidence, EvidenceKind.RELAY_ACCEPTANCE, covers)
    turned_away = _said(evidence, EvidenceKind.RELAY_REJECTION, covers)
    if message.state is MessageState.REFUSED:
        if taken:
            yield Finding(FindingCode.MESSAGE_ACCEPTED_AND_REFUSED, key)
        if not turned_away:
            yield Finding(FindingCode.MESSAGE_WITHOUT_EVIDENCE, key, "refused with 0 of 21")
        return
    numbers = {d.number for d in deliveries}
    for number, recipient in enumerate(message.recipients, 1):
        if number in numbers:
            if not taken & {None, number}:
                yield Finding(FindingCode.MESSAGE_WITHOUT_EVIDENCE, key, f"recipient {number} without 20")
            if number in turned_away:
                yield Finding(FindingCode.MESSAGE_ACCEPTED_AND_REFUSED, key, f"recipient {number}")
        elif recipient.address.provider in own and not turned_away & {None, number}:
            yield Finding(FindingCode.MESSAGE_WITHOUT_EVIDENCE, key, f"recipient {number} without 21")
    if not taken:
        yield Finding(FindingCode.MESSAGE_WITHOUT_EVIDENCE, key, f"{message.state.value} with 0 of 20")


def _work(
    message: Submission, deliveries: Sequence[Delivery], evidence: Sequence[StoredEvidence]
) -> Iterator[Finding]:
    """Check that what is left to do is due, and that what is done left its KEP message."""
    key = message.message_id
    here = any(d.peer is None and d.state not in DECIDED for d in deliveries)
    elsewhere = any(d.peer is not None and d.state not in DECIDED for d in deliveries)
    completed = message.state is MessageState.COMPLETED
    if completed and (here or elsewhere):
        yield Finding(FindingCode.MESSAGE_COMPLETED_EARLY, key)
    # What is left to do with peers is due on the transfers.
    if message.state is MessageState.ACCEPTED and message.next_at is None and (here or not elsewhere):
        what = "deliveries are pending" if here else "nothing is pending, yet it is not completed"
        yield Finding(FindingCode.MESSAGE_STUCK, key, f"{what} and no work is due")
    if message.dispatch is None and _needs_dispatch(message, deliveries, evidence, completed=completed):
        yield Finding(FindingCode.MESSAGE_WITHOUT_DISPATCH, key)


def _needs_dispatch(
    message: Submission,
    deliveries: Sequence[Delivery],
    evidence: Sequence[StoredEvidence],
    *,
    completed: bool,
) -> bool:
    """Say whether there must be a KEP message; its content may be gone, its digest stays on the row.

    Peers that read another form got a message of their own, which is not kept: then only our own recipients
    show that there is one.
    """
    if message.origin is not None:
        return message.state is not MessageState.REFUSED
    other_form = any(e.origin is None and e.profile is not Profile.KEP for e in evidence)
    reached = not other_form and any(d.peer is not None and d.state not in _NOT_THERE for d in deliveries)
    if reached or any(in_mailbox(d) for d in deliveries):
        return True
    ours = [d for d in deliveries if d.peer is None]
    return completed and bool(ours) and all(d.state in DECIDED for d in ours)


def delivered_here(delivery: Delivery, evidence: Sequence[StoredEvidence]) -> Iterator[Finding]:
    """Check that the state of a recipient served here has its evidence, ours, and no other."""
    ours = {(e.kind, e.number): e for e in evidence if e.origin is None}

    def of(kind: EvidenceKind) -> StoredEvidence | None:
        return ours.get((kind, delivery.number))

    key, state = delivery.delivery_id, delivery.state
    delivered, failed = of(EvidenceKind.DELIVERY), of(EvidenceKind.NON_DELIVERY)
    if delivered is not None and failed is not None:
        yield Finding(FindingCode.DELIVERY_CONTRADICTED, key)
    if state is DeliveryState.PENDING:
        if delivered is not None or failed is not None:
            yield Finding(FindingCode.DELIVERY_EVIDENCE_EARLY, key)
        return
    owed = failed if state is DeliveryState.FAILED else delivered
    if owed is None or owed.evidence_id != delivery.evidence_id or state not in _SERVED_HERE:
        yield Finding(FindingCode.DELIVERY_WITHOUT_EVIDENCE, key, state.value)
    elif delivery.decided_at != owed.event_time:
        yield Finding(FindingCode.DELIVERY_OTHER_TIME, key, owed.evidence_id)
    read = of(EvidenceKind.RETRIEVAL)
    if state is DeliveryState.READ:
        if read is None or read.evidence_id != delivery.read_evidence_id:
            yield Finding(FindingCode.DELIVERY_WITHOUT_EVIDENCE, key, state.value)
    elif read is not None or delivery.read_evidence_id is not None:
        yield Finding(FindingCode.DELIVERY_EVIDENCE_EARLY, key, "read")


def addressed(
    delivery: Delivery, message: Submission, accounts: Mapping[str, str | None], own: set[str]
) -> Iterator[Finding]:
    """Check that a delivery is for the recipient its message names, where that address is served."""
    index = delivery.number - 1
    if 0 <= index < len(message.recipients) and delivery.address == str(message.recipients[index].address):
        serving = message.recipients[index].address.provider
        if serving != delivery.peer if delivery.peer is not None else bool(own) and serving not in own:
            yield Finding(FindingCode.DELIVERY_OTHER_PEER, delivery.delivery_id, serving)
    else:
        detail = f"recipient {delivery.number}"
        yield Finding(FindingCode.DELIVERY_OTHER_RECIPIENT, delivery.delivery_id, detail)
    if delivery.account_id is None:
        return  # nobody had the address when the message came
    known = delivery.account_id in accounts
    address = accounts.get(delivery.account_id)
    if not known or address not in (None, delivery.address):
        yield Finding(FindingCode.DELIVERY_OTHER_ACCOUNT, delivery.delivery_id, delivery.account_id)
