"""The ``data`` of the messages that only durable tasks have: steps, children, dead letters.

Spec: spec/durable.md. The messages that direct and durable tasks share stand in ``payloads``.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from dragoman_bus.protocol.a2a import Artifact, Timestamp, Token
from dragoman_bus.protocol.payloads import ErrorObject, EventData, Sequence, SubmitData, Usage
from dragoman_bus.protocol.receipts import Name, Reason

__all__ = [
    "AttemptReport",
    "ChildData",
    "DeadLetterData",
    "OutboxData",
    "SettlementData",
    "StepData",
]

Source: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]


class _Data(Struct, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    pass


class StepData(_Data, kw_only=True):
    """The result of a finished piece of work, kept so that no later attempt repeats it."""

    task_id: Token
    attempt: Sequence
    name: Name
    output: Raw
    usage: Usage | UnsetType = UNSET


class ChildData(_Data, kw_only=True):
    """A task has delegated a durable task."""

    task_id: Token
    attempt: Sequence
    child_task_id: Token
    skill: Token


class OutboxData(_Data, kw_only=True):
    """What is sent once the task has ended: tasks and events, stored together with its end."""

    task_id: Token
    submissions: Annotated[list[SubmitData], Meta(max_length=256)] | UnsetType = UNSET
    events: Annotated[list[EventData], Meta(max_length=256)] | UnsetType = UNSET


class AttemptReport(_Data, kw_only=True):
    """One run of a task: who, when, and why it did not end the task."""

    attempt: Sequence
    source: Source
    started_at: Timestamp
    ended_at: Timestamp | UnsetType = UNSET
    error: ErrorObject | UnsetType = UNSET


class DeadLetterData(_Data, kw_only=True):
    """A durable task that failed: what was asked, every attempt, what there was of an output."""

    task_id: Token
    submission: SubmitData
    submitted_by: Source
    submitted_at: Timestamp
    attempts: Annotated[list[AttemptReport], Meta(max_length=1024)]
    error: ErrorObject
    artifacts: Annotated[list[Artifact], Meta(max_length=1024)] | UnsetType = UNSET


class SettlementData(_Data, kw_only=True):
    """A dead letter was redriven as another task, or dropped."""

    task_id: Token
    action: Literal["redriven", "dropped"]
    redriven_as: Token | UnsetType = UNSET
    reason: Reason | UnsetType = UNSET
