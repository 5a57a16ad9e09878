"""The life of a task as one table: which event leads from which state to which.

Spec: spec/lifecycle.md, whose table and diagram are generated from ``TRANSITIONS``. Two rules:
everything that says what may follow what stands in this file; and this file does not know which
side it runs on.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.payloads import TERMINAL_STATES

__all__ = ["INITIAL_STATE", "TRANSITIONS", "Event", "advance", "is_terminal"]

INITIAL_STATE = TaskState.SUBMITTED


class Event(enum.Enum):
    """What can happen to a task. The value is the word the spec uses."""

    QUEUE = "queue"
    START = "start"
    PROGRESS = "progress"
    ASK_INPUT = "ask for input"
    ASK_AUTHORIZATION = "ask for authorization"
    RESUME = "resume"
    RETRY = "retry"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"
    REJECT = "reject"


_ENDINGS: dict[Event, TaskState] = {
    Event.COMPLETE: TaskState.COMPLETED,
    Event.FAIL: TaskState.FAILED,
    Event.CANCEL: TaskState.CANCELED,
    Event.REJECT: TaskState.REJECTED,
}

_QUESTIONS: dict[Event, TaskState] = {
    Event.ASK_INPUT: TaskState.INPUT_REQUIRED,
    Event.ASK_AUTHORIZATION: TaskState.AUTH_REQUIRED,
}

# An interrupted task asks again by the same event: a keep-alive repeats the state it is in.
_INTERRUPTED: dict[Event, TaskState] = {
    **_QUESTIONS,
    Event.RESUME: TaskState.WORKING,
    Event.RETRY: TaskState.SUBMITTED,
    **_ENDINGS,
}

TRANSITIONS: Mapping[TaskState, Mapping[Event, TaskState]] = MappingProxyType(
    {
        TaskState.SUBMITTED: {
            Event.QUEUE: TaskState.SUBMITTED,
            Event.START: TaskState.WORKING,
            **_QUESTIONS,
            **_ENDINGS,
        },
        TaskState.WORKING: {
            Event.PROGRESS: TaskState.WORKING,
            **_QUESTIONS,
            Event.RETRY: TaskState.SUBMITTED,
            **_ENDINGS,
        },
        TaskState.INPUT_REQUIRED: _INTERRUPTED,
        TaskState.AUTH_REQUIRED: _INTERRUPTED,
        TaskState.COMPLETED: {},
        TaskState.FAILED: {},
        TaskState.CANCELED: {},
        TaskState.REJECTED: {},
    }
)

_REACHABLE = {state: frozenset(events.values()) for state, events in TRANSITIONS.items()}


def is_terminal(state: TaskState) -> bool:
    """Whether nothing can follow ``state``."""
    return state in TERMINAL_STATES


def advance(current: TaskState, target: TaskState) -> TaskState:
    """``target``, when one event leads there from ``current``.

    Raises:
        ProtocolError: when no event does, for instance out of a terminal state.
    """
    if target not in _REACHABLE[current]:
        raise ProtocolError(
            f"a task cannot go from {current.value} to {target.value}",
            details={"from": current.value, "to": target.value},
        )
    return target
