"""Reads the logs of all tasks and says what must not be: lost, ended twice, written after the end.

It knows nothing of how the run was made: only the stored entries, and what callers were told.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.messages import (
    AnyMessage,
    TaskArtifact,
    TaskCancel,
    TaskDeadLetter,
    TaskFinal,
    TaskStatusUpdate,
    TaskStep,
)
from dragoman_bus.protocol.subjects import parse_log_subject
from dragoman_bus.protocol.tasklog import LogEntry, LogFold
from dragoman_bus.transports.streams import Stored
from tests.chaos.workload import Order

__all__ = ["Promise", "Report", "check"]

CONTROL = "control"


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller was told: the task was accepted; perhaps also that its cancel was."""

    order: Order
    canceled: bool = False


class Report(msgspec.Struct, kw_only=True):
    """What the checker found.

    ``digest`` names the history: of every task its end and its attempts.
    """

    tasks: int
    ends: dict[str, int]
    attempts: int
    violations: list[str]
    digest: str


class _Log(msgspec.Struct):
    entries: list[tuple[LogEntry, float]] = msgspec.field(default_factory=list)

    def of(self, kind: str) -> list[AnyMessage]:
        return [entry.message for entry, _ in self.entries if entry.kind == kind]


def check(
    stored: Iterable[Stored], letters: Iterable[Stored], promises: Iterable[Promise]
) -> Report:
    """Judge a finished run.

    Args:
        stored: Everything in the logs, in order of position.
        letters: Everything among the dead letters.
        promises: What callers were told.
    """
    logs = _by_task(stored)
    told = {promise.order.task_id: promise for promise in promises}
    violations = [
        f"{task_id}: accepted, and there is no log" for task_id in told if task_id not in logs
    ]
    for task_id, log in logs.items():
        violations += [f"{task_id}: {words}" for words in _judge(log, task_id, told.get(task_id))]
    violations += _judge_letters(logs, letters)
    ends = {task_id: _end(log) for task_id, log in logs.items()}
    counted: dict[str, int] = defaultdict(int)
    for end in ends.values():
        counted[end] += 1
    return Report(
        tasks=len(logs),
        ends=dict(sorted(counted.items())),
        attempts=sum(_claims(log) for log in logs.values()),
        violations=violations,
        digest=_digest(logs, ends),
    )


def _by_task(stored: Iterable[Stored]) -> dict[str, _Log]:
    logs: dict[str, _Log] = defaultdict(_Log)
    for message in stored:
        place = parse_log_subject(message.subject)
        if place is not None:
            entry = LogEntry(place[1], message.position, decode(message.data))
            logs[place[0]].entries.append((entry, message.time))
    return logs


def _judge(log: _Log, task_id: str, promise: Promise | None) -> list[str]:
    finals = [message for message in log.of("state") if isinstance(message, TaskFinal)]
    wrong = []
    if promise is not None and not log.of("submit"):
        wrong.append("accepted, and there is no submission")
    if not log.of("submit"):
        return wrong
    if not finals:
        wrong.append("it has no end")
    if len(finals) > 1:
        wrong.append(f"it has {len(finals)} ends")
    wrong += _after_the_end(log)
    wrong += _attempts(log)
    wrong += _sequences(log)
    wrong += _steps(log)
    wrong += _fold(log, task_id)
    if promise is not None and finals:
        wrong += _kept(promise, log, finals[0], task_id)
    return wrong


def _after_the_end(log: _Log) -> list[str]:
    ended = False
    wrong = []
    for entry, _ in log.entries:
        if ended and entry.kind != CONTROL:
            wrong.append(f"a {entry.kind} at {entry.position} follows the end")
        ended = ended or isinstance(entry.message, TaskFinal)
    return wrong


def _attempts(log: _Log) -> list[str]:
    claims = [
        message.data.attempt
        for message in log.of("state")
        if isinstance(message, TaskStatusUpdate)
        and message.data.status_update.status.state is TaskState.WORKING
    ]
    return [] if claims == list(range(1, len(claims) + 1)) else [f"its attempts are {claims}"]


def _sequences(log: _Log) -> list[str]:
    """Each attempt counts 1, 2, 3, …; an entry may be stored twice when an answer was lost."""
    last: dict[int, int] = defaultdict(int)
    wrong = []
    for entry, _ in log.entries:
        message = entry.message
        if not isinstance(message, TaskStatusUpdate | TaskArtifact | TaskFinal):
            continue
        attempt, sequence = message.data.attempt, message.data.sequence
        if sequence not in (last[attempt], last[attempt] + 1):
            wrong.append(f"attempt {attempt} goes from {last[attempt]} to {sequence}")
        last[attempt] = max(last[attempt], sequence)
    return wrong


def _steps(log: _Log) -> list[str]:
    seen: dict[str, bytes] = {}
    wrong = []
    for message in log.of("step"):
        if isinstance(message, TaskStep):
            output = bytes(message.data.output)
            if seen.setdefault(message.data.name, output) != output:
                wrong.append(f"step {message.data.name!r} has two results")
    return wrong


def _fold(log: _Log, task_id: str) -> list[str]:
    fold = LogFold(task_id)
    try:
        for entry, _ in log.entries:
            fold.apply(entry)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return [f"it does not fold: {error}"]
    return []


def _kept(promise: Promise, log: _Log, final: TaskFinal, task_id: str) -> list[str]:
    state = final.data.status_update.status.state
    order = promise.order
    if promise.canceled and not any(isinstance(m, TaskCancel) for m in log.of(CONTROL)):
        return ["its cancel was accepted, and is not in the log"]
    if state is TaskState.CANCELED:
        return [] if promise.canceled else ["it was canceled, and nobody asked for it"]
    if order.expected is None:
        return [] if state is TaskState.FAILED else [f"it ended in {state.value}, not in failure"]
    if state is TaskState.FAILED:
        # Many workers died under it; that is an end, and it has a dead letter.
        code = final.data.error.code if final.data.error else ""
        allowed = ("AGENT_LOST", "DEADLINE_EXCEEDED", "OVERLOADED", "SKILL_FAILED", "CANCELED")
        return [] if code in allowed else [f"it failed with {code}"]
    if state is not TaskState.COMPLETED:
        return [f"it ended in {state.value}"]
    text = _output(log, task_id)
    return [] if text == order.expected else [f"its output is {text[:60]!r}"]


def _output(log: _Log, task_id: str) -> str:
    fold = LogFold(task_id)
    for entry, _ in log.entries:
        fold.apply(entry)
    parts = fold.task.parts_of("output")
    return "".join(part.text for part in parts if isinstance(part.text, str))


def _judge_letters(logs: Mapping[str, _Log], letters: Iterable[Stored]) -> list[str]:
    counted: dict[str, int] = defaultdict(int)
    for stored in letters:
        message = decode(stored.data)
        if isinstance(message, TaskDeadLetter):
            counted[message.data.task_id] += 1
    wrong = []
    for task_id, log in logs.items():
        wanted = int(_end(log) == "FAILED")
        if counted[task_id] != wanted:
            wrong.append(f"{task_id}: {counted[task_id]} dead letters, not {wanted}")
    return wrong


def _end(log: _Log) -> str:
    for message in log.of("state"):
        if isinstance(message, TaskFinal):
            return message.data.status_update.status.state.value.removeprefix("TASK_STATE_")
    return "none"


def _claims(log: _Log) -> int:
    return sum(
        isinstance(message, TaskStatusUpdate)
        and message.data.status_update.status.state is TaskState.WORKING
        for message in log.of("state")
    )


def _digest(logs: Mapping[str, _Log], ends: Mapping[str, str]) -> str:
    history = hashlib.sha256()
    for task_id in sorted(logs):
        history.update(f"{task_id} {ends[task_id]} {_claims(logs[task_id])}\n".encode())
    return history.hexdigest()
