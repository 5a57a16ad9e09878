"""A durable task as its stored log tells it: what a worker, a reader and the supervisor agree on.

Spec: spec/durable.md. The fold is pure: feed the entries in order of position; a second feeding of
an entry changes nothing, and nothing changes after a terminal state.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from msgspec import Raw, UnsetType

from dragoman_bus.protocol.a2a import Message, TaskState
from dragoman_bus.protocol.durable import AttemptReport
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.fold import TaskFold
from dragoman_bus.protocol.messages import (
    AnyMessage,
    TaskArtifact,
    TaskCancel,
    TaskChild,
    TaskFinal,
    TaskOutbox,
    TaskReply,
    TaskStatusUpdate,
    TaskStep,
    TaskSubmit,
)
from dragoman_bus.protocol.payloads import CancelData, ErrorObject, SubmitData, Usage
from dragoman_bus.protocol.timestamps import parse_timestamp

__all__ = ["DEFAULT_ATTEMPTS", "LogEntry", "LogFold"]

DEFAULT_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of a task's log: its kind (a token of the subject), position, and message."""

    kind: str
    position: int
    message: AnyMessage


@dataclass(slots=True)
class LogFold:
    """What the log says so far.

    Attributes:
        task_id: The task.
        task: The A2A side: status, artifacts, usage, receipt, error.
        submission: The first entry.
        submitted_position: Where it is stored; 0 before.
        spine: The position of the last entry of the spine; 0 for none.
        position: The position of the last entry of any kind.
        attempt: The number of the last claim; 0 before the first.
        attempts: Every run of the task, with how it ended.
        free_attempts: How many of them ended by a question, or were handed back.
        worker: The ``source`` of the claim that holds the task now; empty when nobody does.
        steps: Results of finished steps by name.
        children: Ids of delegated tasks.
        questions: How often the task asked.
        replies: Answers to questions, in their order.
        cancel: The first wish to cancel.
        outbox: What is to be sent after the end.
        used: What the task itself has used in all attempts, as far as the log tells.
    """

    task_id: str
    task: TaskFold = field(init=False)
    submission: TaskSubmit | None = None
    submitted_position: int = 0
    spine: int = 0
    position: int = 0
    attempt: int = 0
    attempts: list[AttemptReport] = field(default_factory=list)
    free_attempts: int = 0
    worker: str = ""
    steps: dict[str, Raw] = field(default_factory=dict)
    children: list[str] = field(default_factory=list)
    questions: int = 0
    replies: list[Message] = field(default_factory=list)
    cancel: CancelData | None = None
    outbox: TaskOutbox | None = None
    used: Usage | None = None

    def __post_init__(self) -> None:
        self.task = TaskFold(self.task_id)

    @property
    def ended(self) -> bool:
        """Whether the task has a terminal state."""
        return self.task.is_terminal

    @property
    def data(self) -> SubmitData:
        """The submission's data.

        Raises:
            ProtocolError: the log has no submission.
        """
        if self.submission is None:
            raise ProtocolError(f"the log of task {self.task_id} has no submission")
        return self.submission.data

    @property
    def maximum_attempts(self) -> int:
        """How many attempts the task may use."""
        wanted = self.data.maximum_attempts
        return DEFAULT_ATTEMPTS if isinstance(wanted, UnsetType) else wanted

    @property
    def used_attempts(self) -> int:
        """Attempts that failed or that nobody ended (DUR-23)."""
        return len(self.attempts) - self.free_attempts

    @property
    def deadline(self) -> float | None:
        """Unix seconds of the deadline."""
        limits = self.data.limits
        if isinstance(limits, UnsetType) or isinstance(limits.deadline, UnsetType):
            return None
        return parse_timestamp(limits.deadline)

    @property
    def waits_for_reply(self) -> bool:
        """Whether the task asked something that no reply has answered."""
        return self.task.state is TaskState.INPUT_REQUIRED and len(self.replies) < self.questions

    def begin(self, submission: TaskSubmit) -> None:
        """Take the submission from elsewhere than the log: a queue message holds it as well."""
        self._submitted(submission, 0)

    def skip(self, kind: str, position: int) -> None:
        """Note the place of an entry that is not valid: it says nothing (DUR-51)."""
        if position > self.position:
            self.position = position
            if kind == "state":
                self.spine = position

    def apply(self, entry: LogEntry) -> bool:
        """Fold one entry in; whether it was news.

        Raises:
            ProtocolError: the log contradicts the lifecycle.
        """
        if entry.position <= self.position:
            return False
        self.position = entry.position
        if self.ended:
            return False
        message = entry.message
        if isinstance(message, TaskSubmit):
            self._submitted(message, entry.position)
        elif isinstance(message, TaskStatusUpdate | TaskFinal) and entry.kind == "state":
            self._decided(message, entry.position)
        elif entry.kind == "state":
            # Nothing that this kind has, but it is what the server compares with.
            self.spine = entry.position
            return False
        elif isinstance(message, TaskStatusUpdate | TaskArtifact):
            # An answer that was lost may have made the worker store the same update twice.
            return self.task.apply(message)
        else:
            self._noted(message)
        return True

    def _submitted(self, message: TaskSubmit, position: int) -> None:
        if self.submission is not None:
            self.submitted_position = self.submitted_position or position
            return
        self.submission, self.submitted_position = message, position
        context = message.data.context_id
        self.task.context_id = self.task_id if isinstance(context, UnsetType) else context

    def _decided(self, message: TaskStatusUpdate | TaskFinal, position: int) -> None:
        """An entry of the spine: a claim, a retry, a question, or the end."""
        self.spine = position
        state = message.data.status_update.status.state
        if state is TaskState.WORKING:
            self._claimed(message)
        elif self.worker:
            self._closed(message, state)
        self.task.apply(message)

    def _claimed(self, message: TaskStatusUpdate | TaskFinal) -> None:
        self.attempt, error = message.data.attempt, message.data.error
        if isinstance(error, UnsetType):
            self.attempts.append(
                AttemptReport(attempt=self.attempt, source=message.source, started_at=message.time)
            )
        else:
            # Taken from its worker in order to end it (DUR-85).
            self._close_last(message.time, error)
        self.worker = message.source

    def _closed(self, message: TaskStatusUpdate | TaskFinal, state: TaskState) -> None:
        error = message.data.error
        if isinstance(message, TaskStatusUpdate):
            self.used = message.data.usage or self.used
        self._close_last(message.time, error)
        if isinstance(message, TaskStatusUpdate) and isinstance(error, UnsetType):
            self.free_attempts += 1
            self.questions += state is TaskState.INPUT_REQUIRED
        self.worker = ""

    def _close_last(self, time: str, error: ErrorObject | UnsetType) -> None:
        if self.attempts:
            last = self.attempts[-1]
            self.attempts[-1] = msgspec.structs.replace(last, ended_at=time, error=error)

    def _noted(self, message: AnyMessage) -> None:
        if isinstance(message, TaskStep):
            self.steps.setdefault(message.data.name, message.data.output)
            self.used = message.data.usage or self.used
        elif isinstance(message, TaskChild):
            if message.data.child_task_id not in self.children:
                self.children.append(message.data.child_task_id)
        elif isinstance(message, TaskCancel):
            self.cancel = self.cancel or message.data
        elif isinstance(message, TaskReply):
            self.replies.append(message.data.message)
        elif isinstance(message, TaskOutbox):
            self.outbox = message
