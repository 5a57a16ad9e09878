"""What a finished task gave: its value, its text, who served it, what it used."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from dragoman_bus.protocol.a2a import Artifact, Task, TaskState
from dragoman_bus.protocol.contracts import OUTPUT_ARTIFACT, output_from_artifact, text_of
from dragoman_bus.protocol.errors import RemoteError, TaskCanceled, TaskFailed, TaskRejected
from dragoman_bus.protocol.fold import TaskFold
from dragoman_bus.protocol.payloads import ErrorObject, Receipt, Usage

__all__ = ["Result", "error_from", "result_of"]


class Result(msgspec.Struct, frozen=True):
    """A completed task.

    ``usage`` and ``receipt`` are ``None`` when the agent did not report them.
    """

    task: Task
    usage: Usage | None
    receipt: Receipt | None

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.task.id

    @property
    def output(self) -> Artifact | None:
        """The artifact that holds the skill's output."""
        for artifact in self.task.artifacts or ():
            if artifact.artifact_id == OUTPUT_ARTIFACT:
                return artifact
        return None

    @property
    def value(self) -> Any:
        """The output: a string, or the decoded JSON value; ``None`` without output."""
        output = self.output
        return None if output is None else output_from_artifact(output)

    @property
    def text(self) -> str:
        """The output as text: its text parts joined, or its JSON."""
        if self.output is None:
            return ""
        text = text_of(self.output.parts, separator="")
        return msgspec.json.encode(self.value).decode() if text is None else text


def result_of(fold: TaskFold) -> Result:
    """The result of a task that completed.

    Raises:
        TaskFailed, TaskCanceled, TaskRejected: when it ended otherwise.
    """
    if fold.state is TaskState.COMPLETED:
        return Result(
            task=fold.task(),
            usage=None if isinstance(fold.usage, msgspec.UnsetType) else fold.usage,
            receipt=None if isinstance(fold.receipt, msgspec.UnsetType) else fold.receipt,
        )
    raise _ending_error(fold)


def error_from(
    reported: ErrorObject, kind: type[RemoteError], task_id: str | None = None
) -> RemoteError:
    """The exception for an error object that the other side sent."""
    details = {} if reported.details is UNSET else dict(reported.details or {})
    if not isinstance(reported.supported_versions, msgspec.UnsetType):
        details["supportedVersions"] = reported.supported_versions
    wait = reported.retry_after_seconds
    return kind(
        reported.message,
        code=reported.code,
        retryable=reported.retryable,
        retry_after=None if isinstance(wait, msgspec.UnsetType) else wait,
        side_effects=reported.side_effects,
        details=details,
        task_id=task_id,
    )


def _ending_error(fold: TaskFold) -> RemoteError:
    kinds: dict[TaskState, type[RemoteError]] = {
        TaskState.CANCELED: TaskCanceled,
        TaskState.REJECTED: TaskRejected,
    }
    kind = kinds.get(fold.state, TaskFailed)
    if isinstance(fold.error, msgspec.UnsetType):
        words = fold.status.message
        text = None if isinstance(words, msgspec.UnsetType) else text_of(words.parts)
        error = kind(text or f"the task ended in {fold.state.value}", task_id=fold.task_id)
    else:
        error = error_from(fold.error, kind, fold.task_id)
    error.task_usage = None if isinstance(fold.usage, msgspec.UnsetType) else fold.usage
    error.receipt = None if isinstance(fold.receipt, msgspec.UnsetType) else fold.receipt
    return error
