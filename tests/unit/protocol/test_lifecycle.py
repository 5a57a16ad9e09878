"""The lifecycle table, walked without any message."""

from __future__ import annotations

import itertools

import pytest

from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.lifecycle import INITIAL_STATE, TRANSITIONS, advance, is_terminal


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == set(TaskState)


def test_terminal_states_lead_nowhere_and_all_others_lead_to_every_ending() -> None:
    endings = {state for state in TaskState if is_terminal(state)}
    for state, events in TRANSITIONS.items():
        if is_terminal(state):
            assert not events
        else:
            assert endings <= set(events.values())


def test_every_state_can_be_reached_from_the_initial_one() -> None:
    reached = {INITIAL_STATE}
    while fresh := {t for s in reached for t in TRANSITIONS[s].values()} - reached:
        reached |= fresh

    assert reached == set(TaskState)


@pytest.mark.parametrize(("current", "target"), list(itertools.product(TaskState, TaskState)))
def test_advance_allows_exactly_what_the_table_says(current: TaskState, target: TaskState) -> None:
    if target in TRANSITIONS[current].values():
        assert advance(current, target) is target
    else:
        with pytest.raises(ProtocolError, match="cannot go from"):
            advance(current, target)


def test_a_working_task_does_not_silently_become_queued_for_no_reason() -> None:
    retries = [e.value for e, t in TRANSITIONS[TaskState.WORKING].items() if t is INITIAL_STATE]

    assert retries == ["retry"]
