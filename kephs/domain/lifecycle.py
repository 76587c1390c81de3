"""State machines of kephs, one table each; an unknown pair raises.

spec: KEP-EV-03, KEP-EV-05, KEP-AC-08, KEP-CL-01..05.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeVar

from directory.accounts import AccountState
from evidence.records import EvidenceKind

_S = TypeVar("_S", bound=StrEnum)
_E = TypeVar("_E", bound=StrEnum)
_R = TypeVar("_R")


class UnknownTransitionError(Exception):
    """The event is not possible in this state: a defect, never a user's mistake."""


class MessageState(StrEnum):
    """One submission."""

    RECEIVED = "received"  # in flight, before its transaction: never stored
    ACCEPTED = "accepted"
    REFUSED = "refused"
    COMPLETED = "completed"  # every recipient reached an end state


class MessageEvent(StrEnum):
    """What can happen to a submission."""

    ACCEPT = "accept"
    REFUSE = "refuse"
    ALL_DECIDED = "all_decided"


class DeliveryState(StrEnum):
    """One message for one recipient of ours."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    READ = "read"


class DeliveryEvent(StrEnum):
    """What can happen to a delivery."""

    STORE = "store"
    FAIL = "fail"
    EXPOSE = "expose"


class AccountEvent(StrEnum):
    """What can happen to an account."""

    ACTIVATE = "activate"
    BLOCK = "block"
    UNBLOCK = "unblock"
    CLOSE = "close"


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
        (MessageState.ACCEPTED, MessageEvent.ALL_DECIDED): MessageStep(MessageState.COMPLETED),
    }
)

DELIVERY: Final[Mapping[tuple[DeliveryState, DeliveryEvent], DeliveryStep]] = MappingProxyType(
    {
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


def advance_account(state: AccountState, event: AccountEvent) -> AccountState:
    """Return the next state of an account.

    Raises:
        UnknownTransitionError: the table has no such pair.
    """
    return _look_up(ACCOUNT, state, event)


def _look_up(table: Mapping[tuple[_S, _E], _R], state: _S, event: _E) -> _R:
    try:
        return table[state, event]
    except KeyError:
        raise UnknownTransitionError(f"{event} in {state}") from None
