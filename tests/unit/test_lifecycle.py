"""The state machines: every state can be reached and left, and each step owes the evidence the rules name."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import product
from typing import Any, NamedTuple

import pytest

from directory.accounts import AccountState
from evidence.records import EvidenceKind
from kephs.domain import lifecycle
from kephs.domain.lifecycle import (
    ACCOUNT,
    DELIVERY,
    MESSAGE,
    AccountEvent,
    DeliveryEvent,
    DeliveryState,
    MessageEvent,
    MessageState,
    UnknownTransitionError,
    advance_account,
    advance_delivery,
    advance_message,
)


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
        frozenset({DeliveryState.FAILED, DeliveryState.READ}),
    ),
    "account": Machine(
        ACCOUNT, AccountState, AccountEvent, advance_account, AccountState.WAITING,
        frozenset({AccountState.CLOSED}),
    ),
}  # fmt: skip

each_machine = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())


def test_every_table_of_the_module_is_tested_here() -> None:
    tables = [v for k, v in vars(lifecycle).items() if k.isupper() and isinstance(v, Mapping)]
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
        (MESSAGE, MessageState.ACCEPTED, MessageEvent.ALL_DECIDED, None),
        (DELIVERY, DeliveryState.PENDING, DeliveryEvent.STORE, 40),
        (DELIVERY, DeliveryState.PENDING, DeliveryEvent.FAIL, 41),
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
    assert sorted(owed) == [10, 11, 40, 41, 60]
    assert all(isinstance(kind, EvidenceKind) for kind in owed)


def test_evidence_of_reading_is_owed_by_the_first_reading_only() -> None:
    first = advance_delivery(DeliveryState.DELIVERED, DeliveryEvent.EXPOSE)
    assert first.evidence is EvidenceKind.RETRIEVAL
    assert advance_delivery(first.state, DeliveryEvent.EXPOSE).evidence is None


def test_what_was_not_delivered_can_never_be_read() -> None:
    for state in (DeliveryState.PENDING, DeliveryState.FAILED):
        with pytest.raises(UnknownTransitionError):
            advance_delivery(state, DeliveryEvent.EXPOSE)


def test_a_refused_message_stays_refused() -> None:
    for event in MessageEvent:
        with pytest.raises(UnknownTransitionError):
            advance_message(MessageState.REFUSED, event)


def test_an_account_closes_only_through_the_block_and_never_opens_again() -> None:
    assert {state for state, event in ACCOUNT if event is AccountEvent.CLOSE} == {AccountState.BLOCKED}
    for event in AccountEvent:
        with pytest.raises(UnknownTransitionError):
            advance_account(AccountState.CLOSED, event)
