"""State machines of kephs, one table each; an unknown pair raises.

spec: KEP-EV-03, KEP-EV-05, KEP-MS-12, R-19, KEP-AC-08, KEP-CL-01..05, KEP-NE-08.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeVar

from directory.accounts import AccountState
from directory.certificates import BindingState
from evidence.model.records import EvidenceKind

_S = TypeVar("_S", bound=StrEnum)
_E = TypeVar("_E", bound=StrEnum)
_R = TypeVar("_R")


class UnknownTransitionError(Exception):
    """The event is not possible in this state: a defect, never a user's mistake."""


class MessageState(StrEnum):
    """One message, submitted here or relayed to us."""

    RECEIVED = "received"  # in flight, before its transaction: never stored
    ACCEPTED = "accepted"
    REFUSED = "refused"
    COMPLETED = "completed"  # every recipient reached an end state


class MessageEvent(StrEnum):
    """What can happen to a message."""

    ACCEPT = "accept"
    REFUSE = "refuse"
    TAKE_OVER = "take_over"  # a peer relayed it to us, and some recipient of ours can have it
    TURN_AWAY = "turn_away"  # a peer relayed it to us, and nobody can have it
    ALL_DECIDED = "all_decided"


class DeliveryState(StrEnum):
    """One message for one recipient, ours or a peer's. What ends it is one of 21, 31, 40, 41 (KEP-EV-03)."""

    PENDING = "pending"
    RELAYED = "relayed"  # its provider has taken the message (20) and owes 40 or 41
    DELIVERED = "delivered"
    FAILED = "failed"  # 41
    READ = "read"  # 40, and 60 after it
    REJECTED = "rejected"  # 21
    UNREACHED = "unreached"  # 31


class DeliveryEvent(StrEnum):
    """What can happen to a delivery. PEER events are evidence of the recipient's provider."""

    STORE = "store"
    FAIL = "fail"
    EXPOSE = "expose"
    PEER_ACCEPTED = "peer_accepted"  # 20
    PEER_REFUSED = "peer_refused"  # 21
    PEER_DELIVERED = "peer_delivered"  # 40
    PEER_FAILED = "peer_failed"  # 41
    PEER_READ = "peer_read"  # 60
    PEER_UNREAD = "peer_unread"  # 61
    GIVE_UP = "give_up"  # the peer was not reached, or took the message and never said so
    SILENCE = "silence"  # 20 came, 40 or 41 did not


class TransferState(StrEnum):
    """One KEP message on its way to one peer: a dispatch with its recipients there, or a receipt."""

    QUEUED = "queued"
    HELD = "held"  # by an operator; its deadline runs on
    HANDED = "handed"  # the peer said 250 to a dispatch; its evidence is awaited
    ANSWERED = "answered"  # 20 or better for every recipient; 40 or 41 is awaited
    DONE = "done"
    FAILED = "failed"


TO_HAND_OVER: Final = frozenset({TransferState.QUEUED, TransferState.HELD})
"""While a transfer is here its content is needed."""


class TransferEvent(StrEnum):
    """What can happen to a transfer."""

    HAND_OVER = "hand_over"
    HAND_OVER_RECEIPT = "hand_over_receipt"
    HOLD = "hold"
    RELEASE = "release"
    ANSWER = "answer"
    COMPLETE = "complete"  # every recipient of a dispatch reached an end state
    GIVE_UP = "give_up"
    REQUEUE = "requeue"  # an operator sends a receipt again that could not be handed over


class AccountEvent(StrEnum):
    """What can happen to an account."""

    ACTIVATE = "activate"
    BLOCK = "block"
    UNBLOCK = "unblock"
    CLOSE = "close"


class BindingEvent(StrEnum):
    """What can happen to a certificate bound to an account."""

    WITHDRAW = "withdraw"


@dataclass(frozen=True, slots=True)
class MessageStep:
    """The next state and the evidence owed."""

    state: MessageState
    evidence: EvidenceKind | None = None


@dataclass(frozen=True, slots=True)
class DeliveryStep:
    """The next state and the evidence owed."""

    state: DeliveryState
    evidence: EvidenceKind | None = None


MESSAGE: Final[Mapping[tuple[MessageState, MessageEvent], MessageStep]] = MappingProxyType(
    {
        (MessageState.RECEIVED, MessageEvent.ACCEPT): MessageStep(
            MessageState.ACCEPTED, EvidenceKind.SUBMISSION_ACCEPTANCE
        ),
        (MessageState.RECEIVED, MessageEvent.REFUSE): MessageStep(
            MessageState.REFUSED, EvidenceKind.SUBMISSION_REJECTION
        ),
        (MessageState.RECEIVED, MessageEvent.TAKE_OVER): MessageStep(
            MessageState.ACCEPTED, EvidenceKind.RELAY_ACCEPTANCE
        ),
        (MessageState.RECEIVED, MessageEvent.TURN_AWAY): MessageStep(
            MessageState.REFUSED, EvidenceKind.RELAY_REJECTION
        ),
        (MessageState.ACCEPTED, MessageEvent.ALL_DECIDED): MessageStep(MessageState.COMPLETED),
    }
)

DECIDED: Final = frozenset(
    {
        DeliveryState.DELIVERED,
        DeliveryState.FAILED,
        DeliveryState.READ,
        DeliveryState.REJECTED,
        DeliveryState.UNREACHED,
    }
)
"""The end states of a delivery, spec: KEP-EV-03."""
_FROM_PEER: Final = (
    DeliveryEvent.PEER_ACCEPTED,
    DeliveryEvent.PEER_REFUSED,
    DeliveryEvent.PEER_DELIVERED,
    DeliveryEvent.PEER_FAILED,
    DeliveryEvent.PEER_READ,
    DeliveryEvent.PEER_UNREAD,
)
# Late, repeated and contradictory evidence of a peer is kept beside what stands and moves nothing.
_LATE: Final = {(state, event): DeliveryStep(state) for state in sorted(DECIDED) for event in _FROM_PEER}

DELIVERY: Final[Mapping[tuple[DeliveryState, DeliveryEvent], DeliveryStep]] = MappingProxyType(
    _LATE
    | {
        (DeliveryState.PENDING, DeliveryEvent.STORE): DeliveryStep(
            DeliveryState.DELIVERED, EvidenceKind.DELIVERY
        ),
        (DeliveryState.PENDING, DeliveryEvent.FAIL): DeliveryStep(
            DeliveryState.FAILED, EvidenceKind.NON_DELIVERY
        ),
        (DeliveryState.DELIVERED, DeliveryEvent.EXPOSE): DeliveryStep(
            DeliveryState.READ, EvidenceKind.RETRIEVAL
        ),
        (DeliveryState.READ, DeliveryEvent.EXPOSE): DeliveryStep(
            DeliveryState.READ
        ),  # first reading only, KEP-LM-06
        (DeliveryState.PENDING, DeliveryEvent.PEER_ACCEPTED): DeliveryStep(DeliveryState.RELAYED),
        (DeliveryState.PENDING, DeliveryEvent.PEER_REFUSED): DeliveryStep(DeliveryState.REJECTED),
        (DeliveryState.PENDING, DeliveryEvent.PEER_DELIVERED): DeliveryStep(DeliveryState.DELIVERED),
        (DeliveryState.PENDING, DeliveryEvent.PEER_FAILED): DeliveryStep(DeliveryState.FAILED),
        (DeliveryState.PENDING, DeliveryEvent.PEER_READ): DeliveryStep(DeliveryState.PENDING),
        (DeliveryState.PENDING, DeliveryEvent.PEER_UNREAD): DeliveryStep(DeliveryState.PENDING),
        (DeliveryState.PENDING, DeliveryEvent.GIVE_UP): DeliveryStep(
            DeliveryState.UNREACHED, EvidenceKind.RELAY_FAILURE
        ),
        (DeliveryState.RELAYED, DeliveryEvent.PEER_ACCEPTED): DeliveryStep(DeliveryState.RELAYED),
        # a refusal after an acceptance contradicts it: what the mailbox says decides
        (DeliveryState.RELAYED, DeliveryEvent.PEER_REFUSED): DeliveryStep(DeliveryState.RELAYED),
        (DeliveryState.RELAYED, DeliveryEvent.PEER_DELIVERED): DeliveryStep(DeliveryState.DELIVERED),
        (DeliveryState.RELAYED, DeliveryEvent.PEER_FAILED): DeliveryStep(DeliveryState.FAILED),
        (DeliveryState.RELAYED, DeliveryEvent.PEER_READ): DeliveryStep(DeliveryState.RELAYED),
        (DeliveryState.RELAYED, DeliveryEvent.PEER_UNREAD): DeliveryStep(DeliveryState.RELAYED),
        (DeliveryState.RELAYED, DeliveryEvent.SILENCE): DeliveryStep(
            DeliveryState.FAILED, EvidenceKind.NON_DELIVERY
        ),
        (DeliveryState.DELIVERED, DeliveryEvent.PEER_READ): DeliveryStep(DeliveryState.READ),
    }
)

TRANSFER: Final[Mapping[tuple[TransferState, TransferEvent], TransferState]] = MappingProxyType(
    {
        (TransferState.QUEUED, TransferEvent.HAND_OVER): TransferState.HANDED,
        (TransferState.QUEUED, TransferEvent.HAND_OVER_RECEIPT): TransferState.DONE,
        (TransferState.QUEUED, TransferEvent.HOLD): TransferState.HELD,
        (TransferState.HELD, TransferEvent.RELEASE): TransferState.QUEUED,
        # the peer's evidence may come before its 250, or instead of one that was lost
        (TransferState.QUEUED, TransferEvent.ANSWER): TransferState.ANSWERED,
        (TransferState.HELD, TransferEvent.ANSWER): TransferState.ANSWERED,
        (TransferState.HANDED, TransferEvent.ANSWER): TransferState.ANSWERED,
        (TransferState.ANSWERED, TransferEvent.ANSWER): TransferState.ANSWERED,
        (TransferState.QUEUED, TransferEvent.COMPLETE): TransferState.DONE,
        (TransferState.HELD, TransferEvent.COMPLETE): TransferState.DONE,
        (TransferState.HANDED, TransferEvent.COMPLETE): TransferState.DONE,
        (TransferState.ANSWERED, TransferEvent.COMPLETE): TransferState.DONE,
        (TransferState.QUEUED, TransferEvent.GIVE_UP): TransferState.FAILED,
        (TransferState.HELD, TransferEvent.GIVE_UP): TransferState.FAILED,
        (TransferState.HANDED, TransferEvent.GIVE_UP): TransferState.FAILED,
        (TransferState.FAILED, TransferEvent.REQUEUE): TransferState.QUEUED,  # receipts only
    }
)

ACCOUNT: Final[Mapping[tuple[AccountState, AccountEvent], AccountState]] = MappingProxyType(
    {
        (AccountState.WAITING, AccountEvent.ACTIVATE): AccountState.ACTIVE,
        (AccountState.ACTIVE, AccountEvent.BLOCK): AccountState.BLOCKED,
        (AccountState.BLOCKED, AccountEvent.UNBLOCK): AccountState.ACTIVE,
        (
            AccountState.BLOCKED,
            AccountEvent.CLOSE,
        ): AccountState.CLOSED,  # every closing passes the block, KEP-CL-03
    }
)

BINDING: Final[Mapping[tuple[BindingState, BindingEvent], BindingState]] = MappingProxyType(
    {
        # nothing leads back: who withdrew a certificate must be able to rely on it (KEP-NE-08)
        (BindingState.BOUND, BindingEvent.WITHDRAW): BindingState.WITHDRAWN,
    }
)


def advance_message(state: MessageState, event: MessageEvent) -> MessageStep:
    """Return the next state of a message and the evidence owed.

    Raises:
        UnknownTransitionError: the table has no such pair.
    """
    return _look_up(MESSAGE, state, event)


def advance_delivery(state: DeliveryState, event: DeliveryEvent) -> DeliveryStep:
    """Return the next state of a delivery and the evidence owed.

    Raises:
        UnknownTransitionError: the table has no such pair.
    """
    return _look_up(DELIVERY, state, event)


def advance_transfer(state: TransferState, event: TransferEvent) -> TransferState:
    """Return the next state of a transfer.

    Raises:
        UnknownTransitionError: the table has no such pair.
    """
    return _look_up(TRANSFER, state, event)


def advance_account(state: AccountState, event: AccountEvent) -> AccountState:
    """Return the next state of an account.

    Raises:
        UnknownTransitionError: the table has no such pair.
    """
    return _look_up(ACCOUNT, state, event)


def advance_binding(state: BindingState, event: BindingEvent) -> BindingState:
    """Return the next state of a certificate's binding to an account.

    Raises:
        UnknownTransitionError: the table has no such pair.
    """
    return _look_up(BINDING, state, event)


def _look_up(table: Mapping[tuple[_S, _E], _R], state: _S, event: _E) -> _R:
    try:
        return table[state, event]
    except KeyError:
        raise UnknownTransitionError(f"{event} in {state}") from None
