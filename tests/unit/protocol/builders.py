"""Messages of one task, as an agent would send them, for tests of the core."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from dragoman_bus.protocol.a2a import (
    Artifact,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
    text_part,
)
from dragoman_bus.protocol.envelopes import Sender, agent_source
from dragoman_bus.protocol.messages import TaskArtifact, TaskFinal, TaskSnapshot, TaskStatusUpdate
from dragoman_bus.protocol.payloads import ArtifactData, FinalData, SnapshotData, StatusData

SENDER = Sender(agent_source("worker", "worker-1"), lambda: 1_700_000_000.0, lambda: "fixed")
TASK = "task-1"


def _status(state: TaskState) -> TaskStatusUpdateEvent:
    return TaskStatusUpdateEvent(task_id=TASK, context_id=TASK, status=TaskStatus(state=state))


def status(sequence: int, state: TaskState, attempt: int = 1) -> TaskStatusUpdate:
    data = StatusData(status_update=_status(state), sequence=sequence, attempt=attempt)
    return SENDER.wrap(TaskStatusUpdate, data)


def chunk(sequence: int, text: str, *, append: bool = True, attempt: int = 1) -> TaskArtifact:
    event = TaskArtifactUpdateEvent(
        task_id=TASK,
        context_id=TASK,
        artifact=Artifact(artifact_id="output", parts=[text_part(text)]),
        append=append or UNSET,
    )
    return SENDER.wrap(
        TaskArtifact, ArtifactData(artifact_update=event, sequence=sequence, attempt=attempt)
    )


def final(
    sequence: int,
    state: TaskState = TaskState.COMPLETED,
    *,
    texts: list[str] | None = None,
    attempt: int = 1,
    **members: Any,
) -> TaskFinal:
    artifacts = (
        [Artifact(artifact_id="output", parts=[text_part(text) for text in texts])]
        if texts
        else UNSET
    )
    data = FinalData(
        status_update=_status(state),
        sequence=sequence,
        attempt=attempt,
        artifacts=artifacts,
        **members,
    )
    return SENDER.wrap(TaskFinal, data)


def snapshot(
    sequence: int, texts: list[str], state: TaskState = TaskState.WORKING, attempt: int = 1
) -> TaskSnapshot:
    artifacts = [Artifact(artifact_id="output", parts=[text_part(text) for text in texts])]
    task = Task(id=TASK, context_id=TASK, status=TaskStatus(state=state), artifacts=artifacts)
    return SENDER.wrap(TaskSnapshot, SnapshotData(task=task, sequence=sequence, attempt=attempt))
