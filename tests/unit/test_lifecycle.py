"""The state machines: every state can be reached and left, and each step owes the evidence the rules name."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import product
from typing import Any, NamedTuple

import pytest

from directory.accounts import AccountState
from directory.certificates import BindingState
from evidence.model.records import EvidenceKind
from kephs.domain import lifecycle
from kephs.domain.lifecycle import (
    ACCOUNT,
    BINDING,
    DECIDED,
    DELIVERY,
    MESSAGE,
    TRANSFER,
    AccountEvent,
    BindingEvent,
    DeliveryEvent,
    DeliveryState,
    MessageEvent,
    MessageState,
    TransferEvent,
    TransferState,
    UnknownTransitionError,
    advance_account,
    advance_binding,
    advance_delivery,
    advance_message,
    advance_transfer,
)

FROM_PEER = frozenset(event for event in DeliveryEvent if event.name.startswith("PEER_"))


class Machine(NamedTuple):
    table: Mapping[Any, Any]
    states: type[StrEnum]
    events: type[StrEnum]
    advance: Callable[[Any, Any], Any]
    first: StrEnum
    final: frozenset[StrEnum]

    def after(self, state: StrEnum, event: StrEnum) -> StrEnum:
        step = self.table[state, event]
        following = getattr(step, "state", step)
        assert isinstance(following, StrEnum)
        return following


MACHINES = {
    "message": Machine(
        MESSAGE, MessageState, MessageEvent, advance_message, MessageState.RECEIVED,
        frozenset({MessageState.REFUSED, MessageState.COMPLETED}),
    ),
    "delivery": Machine(
        DELIVERY, DeliveryState, DeliveryEvent, advance_delivery, DeliveryState.PENDING,
        frozenset(
            {DeliveryState.FAILED, DeliveryState.READ, DeliveryState.REJECTED, DeliveryState.UNREACHED}
        ),
    ),
    "transfer": Machine(
        TRANSFER, TransferState, TransferEvent, advance_transfer, TransferState.QUEUED,
        frozenset({TransferState.DONE}),
    ),
    "account": Machine(
        ACCOUNT, AccountState, AccountEvent, advance_account, AccountState.WAITING,
        frozenset({AccountState.CLOSED}),
    ),
    "binding": Machine(
        BINDING, BindingState, BindingEvent, advance_binding, BindingState.BOUND,
        frozenset({BindingState.WITHDRAWN}),
    ),
}  # fmt: skip

each_machine = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())


def test_every_table_of_the_module_is_tested_here() -> None:
    named = ((k, v) for k, v in vars(lifecycle).items() if k.isupper() and not k.startswith("_"))
    tables = [table for _, table in named if isinstance(table, Mapping)]
    assert len(tables) == len(MACHINES)
    assert all(any(table is machine.table for machine in MACHINES.values()) for table in tables)


@each_machine
def test_every_pair_that_the_table_lacks_raises(machine: Machine) -> None:
    for state, event in product(machine.states, machine.events):
        if (state, event) in machine.table:
            assert machine.advance(state, event) == machine.table[state, event]
        else:
            with pytest.raises(UnknownTransitionError):
                machine.advance(state, event)


@each_machine
def test_every_state_can_be_reached_from_the_first(machine: Machine) -> None:
    reached = {machine.first}
    while True:
        more = {machine.after(s, e) for s, e in machine.table if s in reached} - reached
        if not more:
            break
        reached |= more
    assert reached == set(machine.states)


@each_machine
def test_every_state_but_the_final_ones_can_be_left(machine: Machine) -> None:
    left = {state for state, event in machine.table if machine.after(state, event) is not state}
    assert set(machine.states) - left == machine.final


@each_machine
def test_every_event_happens_somewhere(machine: Machine) -> None:
    assert {event for _, event in machine.table} == set(machine.events)


@each_machine
def test_the_tables_cannot_be_changed(machine: Machine) -> None:
    with pytest.raises(TypeError):
        machine.table[machine.first, next(iter(machine.events))] = None  # type: ignore[index]


@pytest.mark.parametrize(
    ("table", "state", "event", "evidence"),
    [
        (MESSAGE, MessageState.RECEIVED, MessageEvent.ACCEPT, 10),
        (MESSAGE, MessageState.RECEIVED, MessageEvent.REFUSE, 11),
        (MESSAGE, MessageState.RECEIVED, MessageEvent.TAKE_OVER, 20),
        (MESSAGE, MessageState.RECEIVED, MessageEvent.TURN_AWAY, 21),
        (MESSAGE, MessageState.ACCEPTED, MessageEvent.ALL_DECIDED, None),
        (DELIVERY, DeliveryState.PENDING, DeliveryEvent.STORE, 40),
        (DELIVERY, DeliveryState.PENDING, DeliveryEvent.FAIL, 41),
        (DELIVERY, DeliveryState.PENDING, DeliveryEvent.GIVE_UP, 31),
        (DELIVERY, DeliveryState.RELAYED, DeliveryEvent.SILENCE, 41),
        (DELIVERY, DeliveryState.DELIVERED, DeliveryEvent.EXPOSE, 60),
        (DELIVERY, DeliveryState.READ, DeliveryEvent.EXPOSE, None),
    ],
)
def test_each_step_owes_the_evidence_that_kep_names(
    table: Mapping[Any, Any], state: StrEnum, event: StrEnum, evidence: int | None
) -> None:
    assert table[state, event].evidence == evidence


def test_no_other_step_owes_evidence() -> None:
    owed = [
        step.evidence for table in (MESSAGE, DELIVERY) for step in table.values() if step.evidence is not None
    ]
    assert sorted(owed) == [10, 11, 20, 21, 31, 40, 41, 41, 60]
    assert all(isinstance(kind, EvidenceKind) for kind in owed)


def test_evidence_of_reading_is_owed_by_the_first_reading_only() -> None:
    first = advance_delivery(DeliveryState.DELIVERED, DeliveryEvent.EXPOSE)
    assert first.evidence is EvidenceKind.RETRIEVAL
    assert advance_delivery(first.state, DeliveryEvent.EXPOSE).evidence is None


def test_what_was_not_delivered_can_never_be_read() -> None:
    for state in set(DeliveryState) - {DeliveryState.DELIVERED, DeliveryState.READ}:
        with pytest.raises(UnknownTransitionError):
            advance_delivery(state, DeliveryEvent.EXPOSE)


def test_the_end_states_are_those_that_21_31_40_41_and_60_name() -> None:
    assert set(DeliveryState) - DECIDED == {DeliveryState.PENDING, DeliveryState.RELAYED}


@pytest.mark.parametrize("state", list(DeliveryState))
@pytest.mark.parametrize("event", sorted(FROM_PEER))
def test_a_peers_evidence_is_possible_in_every_state_and_owes_none_of_ours(
    state: DeliveryState, event: DeliveryEvent
) -> None:
    assert advance_delivery(state, event).evidence is None


@pytest.mark.parametrize("state", sorted(DECIDED))
def test_late_evidence_of_a_peer_never_changes_an_end_state(state: DeliveryState) -> None:
    moved = {event: advance_delivery(state, event).state for event in FROM_PEER}
    if state is DeliveryState.DELIVERED:  # reading is no other end, but what follows delivery
        assert moved.pop(DeliveryEvent.PEER_READ) is DeliveryState.READ
    assert set(moved.values()) == {state}


@pytest.mark.parametrize("state", sorted(DECIDED))
@pytest.mark.parametrize("event", [DeliveryEvent.GIVE_UP, DeliveryEvent.SILENCE])
def test_nobody_gives_up_on_what_has_ended(state: DeliveryState, event: DeliveryEvent) -> None:
    with pytest.raises(UnknownTransitionError):
        advance_delivery(state, event)


def test_after_20_nothing_is_unreached_and_before_20_nothing_is_silence() -> None:
    for state, event in (
        (DeliveryState.RELAYED, DeliveryEvent.GIVE_UP),
        (DeliveryState.PENDING, DeliveryEvent.SILENCE),
    ):
        with pytest.raises(UnknownTransitionError):
            advance_delivery(state, event)


def test_reading_before_delivery_ends_nothing() -> None:
    for state in (DeliveryState.PENDING, DeliveryState.RELAYED):
        for event in (DeliveryEvent.PEER_READ, DeliveryEvent.PEER_UNREAD):
            assert advance_delivery(state, event).state is state


def test_a_transfer_ends_once_and_only_a_failed_one_may_be_queued_again() -> None:
    for event in TransferEvent:
        with pytest.raises(UnknownTransitionError):
            advance_transfer(TransferState.DONE, event)
    after_failure = {event for state, event in TRANSFER if state is TransferState.FAILED}
    assert after_failure == {TransferEvent.REQUEUE}


def test_what_the_peer_holds_already_can_neither_be_held_nor_sent_again() -> None:
    for state in (TransferState.HANDED, TransferState.ANSWERED):
        for event in (TransferEvent.HOLD, TransferEvent.RELEASE, TransferEvent.HAND_OVER):
            with pytest.raises(UnknownTransitionError):
                advance_transfer(state, event)


def test_a_refused_message_stays_refused() -> None:
    for event in MessageEvent:
        with pytest.raises(UnknownTransitionError):
            advance_message(MessageState.REFUSED, event)


def test_a_withdrawn_certificate_is_never_bound_again() -> None:
    assert advance_binding(BindingState.BOUND, BindingEvent.WITHDRAW) is BindingState.WITHDRAWN
    for event in BindingEvent:
        with pytest.raises(UnknownTransitionError):
            advance_binding(BindingState.WITHDRAWN, event)


def test_an_account_closes_only_through_the_block_and_never_opens_again() -> None:
    assert {state for state, event in ACCOUNT if event is AccountEvent.CLOSE} == {AccountState.BLOCKED}
    for event in AccountEvent:
        with pytest.raises(UnknownTransitionError):
            advance_account(AccountState.CLOSED, event)
