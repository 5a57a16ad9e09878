"""A finished run as the server kept it: the log of each task, and the dead letters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.messages import (
    AnyMessage,
    TaskArtifact,
    TaskChild,
    TaskDeadLetter,
    TaskFinal,
    TaskSettlement,
    TaskStatusUpdate,
    TaskStep,
    TaskSubmit,
)
from dragoman_bus.protocol.payloads import SubmitData
from dragoman_bus.protocol.subjects import parse_log_subject
from dragoman_bus.transports.streams import Stored

__all__ = ["Entry", "Letters", "TaskLog", "attempt_of", "ends", "letters_of", "logs_of"]

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a log; ``time`` is when the server stored it (Unix seconds)."""

    kind: str
    position: int
    message: AnyMessage
    time: float


class TaskLog:
    """Everything that was stored of one task, in order of position."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.entries: list[Entry] = []

    def of(self, kind: str, type_: type[Kind]) -> list[Kind]:
        """The messages of one kind and type."""
        return [
            entry.message
            for entry in self.entries
            if entry.kind == kind and isinstance(entry.message, type_)
        ]

    @cached_property
    def submission(self) -> SubmitData | None:
        """What was submitted; ``None`` for a log without its beginning."""
        first = self.of("submit", TaskSubmit)
        return first[0].data if first else None

    @cached_property
    def end(self) -> Entry | None:
        """The first entry that ends the task."""
        ends = (entry for entry in self.entries if isinstance(entry.message, TaskFinal))
        return next(ends, None)

    @property
    def final(self) -> TaskFinal | None:
        """What it says."""
        message = None if self.end is None else self.end.message
        return message if isinstance(message, TaskFinal) else None

    @property
    def state(self) -> str:
        """The name of the terminal state, without its prefix; ``none`` without one."""
        if self.final is None:
            return "none"
        return self.final.data.status_update.status.state.value.removeprefix("TASK_STATE_")

    @cached_property
    def claims(self) -> list[Entry]:
        """The entries by which the task was taken: to run it, or from its worker to end it."""
        return [entry for entry in self.entries if entry.kind == "state" and _claims(entry)]

    @cached_property
    def runs(self) -> list[Entry]:
        """The claims of workers that ran the task."""
        return [claim for claim in self.claims if not ends(claim)]


class Letters:
    """What is stored of one dead letter: the letter itself, and how it was settled."""

    def __init__(self) -> None:
        self.letters: list[TaskDeadLetter] = []
        self.settlements: list[TaskSettlement] = []


def logs_of(stored: Iterable[Stored]) -> dict[str, TaskLog]:
    """The logs in ``stored``, by task."""
    logs: dict[str, TaskLog] = {}
    for message in stored:
        place = parse_log_subject(message.subject)
        if place is not None:
            task_id, kind = place
            entry = Entry(kind, message.position, decode(message.data), message.time)
            logs.setdefault(task_id, TaskLog(task_id)).entries.append(entry)
    return logs


def letters_of(stored: Iterable[Stored]) -> dict[str, Letters]:
    """The dead letters in ``stored``, by the task that failed."""
    found: dict[str, Letters] = defaultdict(Letters)
    for message in stored:
        decoded = decode(message.data)
        if isinstance(decoded, TaskDeadLetter):
            found[decoded.data.task_id].letters.append(decoded)
        elif isinstance(decoded, TaskSettlement):
            found[decoded.data.task_id].settlements.append(decoded)
    return dict(found)


def attempt_of(entry: Entry) -> int | None:
    """The attempt that an entry belongs to; ``None`` for what no worker writes."""
    written = TaskStatusUpdate | TaskArtifact | TaskFinal | TaskStep | TaskChild
    return entry.message.data.attempt if isinstance(entry.message, written) else None


def ends(claim: Entry) -> bool:
    """Whether a claim takes a task in order to end it (DUR-84)."""
    message = claim.message
    return isinstance(message, TaskStatusUpdate) and bool(message.data.error)


def _claims(entry: Entry) -> bool:
    message = entry.message
    return (
        isinstance(message, TaskStatusUpdate)
        and message.data.status_update.status.state is TaskState.WORKING
    )
