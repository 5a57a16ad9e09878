"""What must hold between tasks: parents and children, contexts with an order, dead letters.

Spec: spec/durable.md, DUR-33 to 35, 40 to 45 and 49.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping

from msgspec import UnsetType

from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.durable import AttemptReport
from dragoman_bus.protocol.messages import (
    TaskArtifact,
    TaskCancel,
    TaskChild,
    TaskDeadLetter,
    TaskOutbox,
    TaskStatusUpdate,
)
from tests.chaos.history import Entry, Letters, TaskLog, attempt_of

__all__ = ["judge_relations"]

Logs = Mapping[str, TaskLog]


def judge_relations(logs: Logs, dead: Mapping[str, Letters]) -> list[str]:
    """Everything that is wrong between tasks."""
    return [
        *_children(logs),
        *_outboxes(logs),
        *_lines(logs),
        *_letters(logs, dead),
        *_redrives(logs, dead),
    ]


def _children(logs: Logs) -> Iterator[str]:
    """Who ends leaves no child behind: it has ended before, or its cancel is stored."""
    for log in logs.values():
        for note in log.of("child", TaskChild):
            child = logs.get(note.data.child_task_id)
            if child is None or child.submission is None or log.end is None:
                continue
            ended = child.end is not None and child.end.position < log.end.position
            if not ended and not child.of("control", TaskCancel):
                yield f"{child.task_id}: {log.task_id}, above it, ended without its cancel"


def _outboxes(logs: Logs) -> Iterator[str]:
    """What a completed task left to be submitted was submitted; nobody else left anything."""
    for log in logs.values():
        boxes = [box for box in log.of("control", TaskOutbox) if not _redrives_it(box)]
        if len(boxes) > 1 or (boxes and log.state != "COMPLETED"):
            yield f"{log.task_id}: it ended in {log.state} and has {len(boxes)} outboxes"
        skill = log.submission.skill if log.submission else ""
        if not boxes and log.state == "COMPLETED" and skill == "follow":
            yield f"{log.task_id}: it completed without its outbox"
        for box in log.of("control", TaskOutbox):
            for data in box.data.submissions or ():
                if data.task_id not in logs or logs[data.task_id].submission is None:
                    yield f"{log.task_id}: its outbox was not sent: {data.task_id}"


def _redrives_it(box: TaskOutbox) -> bool:
    return any(data.redrive_of == box.data.task_id for data in box.data.submissions or ())


def _lines(logs: Logs) -> Iterator[str]:
    """Ordered tasks of a context run one after the other, as they were submitted."""
    contexts: dict[str, list[TaskLog]] = defaultdict(list)
    for log in logs.values():
        data = log.submission
        if data is not None and data.ordered is True:
            contexts[data.context_id or data.task_id].append(log)
    for line in contexts.values():
        line.sort(key=lambda log: log.entries[0].position)
        for before, after in itertools.pairwise(line):
            began = after.runs[0].position if after.runs else _position(after.end)
            # A task that was canceled in the queue ended without its turn.
            ran = after.runs or after.state == "COMPLETED"
            if ran and before.end is not None and began < before.end.position:
                yield f"{after.task_id}: it began before {before.task_id}, ahead of it, had ended"


def _position(entry: Entry | None) -> int:
    return 0 if entry is None else entry.position


def _letters(logs: Logs, dead: Mapping[str, Letters]) -> Iterator[str]:
    """Every failure has one dead letter that tells all of it; nothing else has one."""
    for task_id, log in logs.items():
        letters = dead[task_id].letters if task_id in dead else []
        wanted = int(log.state == "FAILED")
        if len(letters) != wanted:
            yield f"{task_id}: {len(letters)} dead letters, not {wanted}"
        for letter in letters[:wanted]:
            for words in _letter(log, letter):
                yield f"{task_id}: its dead letter {words}"
    for task_id in dead.keys() - logs.keys():
        yield f"{task_id}: a dead letter, and there is no log"


def _letter(log: TaskLog, letter: TaskDeadLetter) -> Iterator[str]:
    data, final = letter.data, log.final
    assert final is not None  # a task that failed has ended
    if data.submission != log.submission:
        yield "does not have what was submitted"
    if data.error != final.data.error:
        yield "has another error than the end"
    ran = [(run.message.source, attempt_of(run)) for run in log.runs]
    told = [(report.source, report.attempt) for report in data.attempts]
    if told != ran:
        yield f"tells {len(told)} attempts of {len(ran)}, or other workers"
        return
    given_back = _given_back(log)
    for report in data.attempts:
        yield from _attempt(report, report.attempt in given_back)
    if _has_output(log) and not data.artifacts:
        yield "has nothing of what the last attempt had streamed"


def _attempt(report: AttemptReport, given_back: bool) -> Iterator[str]:
    if isinstance(report.ended_at, UnsetType):
        yield f"does not say when attempt {report.attempt} ended"
    if isinstance(report.error, UnsetType) and not given_back:
        yield f"does not say why attempt {report.attempt} failed"


def _given_back(log: TaskLog) -> set[int]:
    """Attempts that ended by a question, or unfinished and without an error."""
    return {
        message.data.attempt
        for message in log.of("state", TaskStatusUpdate)
        if message.data.status_update.status.state is not TaskState.WORKING
        and isinstance(message.data.error, UnsetType)
    }


def _has_output(log: TaskLog) -> bool:
    return bool(log.of("update", TaskArtifact))


def _redrives(logs: Logs, dead: Mapping[str, Letters]) -> Iterator[str]:
    """A dead letter is settled once, and redriven as one task."""
    again: dict[str, list[str]] = defaultdict(list)
    for log in logs.values():
        if log.submission is not None and log.submission.redrive_of:
            again[log.submission.redrive_of].append(log.task_id)
    for task_id, letters in dead.items():
        settlements = [settlement.data for settlement in letters.settlements]
        if len(settlements) > 1:
            yield f"{task_id}: its dead letter was settled {len(settlements)} times"
        named = [data.redriven_as for data in settlements if data.redriven_as]
        if again.get(task_id, []) != named:
            yield f"{task_id}: redriven as {again.get(task_id, [])}, settled as {named}"
    for task_id in again.keys() - dead.keys():
        yield f"{task_id}: redriven, and it has no dead letter"
