"""The state of a task as a pure fold over the messages of its log.

Spec: spec/model.md, "the log is the task"; spec/operations.md, streaming.
"""

from __future__ import annotations

from msgspec import UNSET, UnsetType, structs

from dragoman_bus.protocol.a2a import (
    Artifact,
    Part,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
)
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.lifecycle import INITIAL_STATE, advance, is_terminal
from dragoman_bus.protocol.messages import (
    TaskArtifact,
    TaskFinal,
    TaskSnapshot,
    TaskStatusUpdate,
    TaskUpdate,
)
from dragoman_bus.protocol.payloads import ErrorObject, Receipt, Usage

__all__ = ["TaskFold"]


_BEFORE_ALL = TaskStatus(state=INITIAL_STATE)


class TaskFold:
    """A task as its log tells it. Feed messages in order of ``sequence``; read the task.

    A message that has been folded already (same or lower sequence of the same attempt, or a lower
    attempt) changes nothing, so feeding a log twice gives the same task.
    """

    def __init__(self, task_id: str, context_id: str | None = None) -> None:
        self.task_id = task_id
        self.context_id = context_id or task_id
        self.status = _BEFORE_ALL
        self.sequence = 0
        self.attempt = 1
        self.usage: Usage | UnsetType = UNSET
        self.receipt: Receipt | UnsetType = UNSET
        self.error: ErrorObject | UnsetType = UNSET
        self._artifacts: dict[str, Artifact] = {}

    @property
    def state(self) -> TaskState:
        """The state now."""
        return self.status.state

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended."""
        return is_terminal(self.status.state)

    @property
    def artifacts(self) -> list[Artifact]:
        """The artifacts so far, in the order in which they appeared."""
        return list(self._artifacts.values())

    def apply(self, message: TaskUpdate) -> bool:
        """Fold one message in; whether it was news.

        Raises:
            ProtocolError: when the lifecycle does not allow it, or it grows an artifact that
                is not there.
        """
        data = message.data
        if (data.attempt, data.sequence) <= (self.attempt, self.sequence):
            return False
        if isinstance(message, TaskSnapshot):
            self._replace(message)
        elif isinstance(message, TaskArtifact):
            self._grow(message.data.artifact_update)
        else:
            self._move(message)
        self.attempt, self.sequence = data.attempt, data.sequence
        return True

    def task(self) -> Task:
        """The A2A Task of this moment. Its artifacts are shared with the fold: do not change."""
        return Task(
            id=self.task_id,
            context_id=self.context_id,
            status=self.status,
            artifacts=self.artifacts or UNSET,
        )

    def parts_of(self, artifact_id: str) -> list[Part]:
        """The parts of an artifact so far; none when it is not there."""
        artifact = self._artifacts.get(artifact_id)
        return artifact.parts if artifact else []

    def _move(self, message: TaskStatusUpdate | TaskFinal) -> None:
        status = message.data.status_update.status
        if message.data.attempt == self.attempt:
            advance(self.status.state, status.state)
        elif self.is_terminal:
            raise ProtocolError("an ended task has no further attempt")
        self.status = status
        if isinstance(message, TaskFinal):
            self.usage, self.receipt = message.data.usage, message.data.receipt
            self.error = message.data.error
            for artifact in message.data.artifacts or ():
                self._artifacts[artifact.artifact_id] = artifact

    def _grow(self, event: TaskArtifactUpdateEvent) -> None:
        if self.is_terminal:
            raise ProtocolError("an ended task produces nothing more")
        # Streaming is work: a first chunk needs no status before it (spec/lifecycle.md).
        self.status = TaskStatus(state=advance(self.state, TaskState.WORKING))
        artifact = event.artifact
        known = self._artifacts.get(artifact.artifact_id)
        if event.append is not True or known is None:
            # The list is copied since later chunks grow it in place.
            self._artifacts[artifact.artifact_id] = structs.replace(
                artifact, parts=list(artifact.parts)
            )
        else:
            known.parts.extend(artifact.parts)

    def _replace(self, message: TaskSnapshot) -> None:
        data = message.data
        self.context_id = data.task.context_id
        self.status = data.task.status
        self.usage, self.receipt, self.error = data.usage, data.receipt, data.error
        self._artifacts = {
            artifact.artifact_id: structs.replace(artifact, parts=list(artifact.parts))
            for artifact in data.task.artifacts or ()
        }
