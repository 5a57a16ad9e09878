"""The dead letter of a failed task: all that is known of it, or as much as fits into a message.

Spec: spec/durable.md, dead letters. A task has to end whatever its letter weighs, so a letter that
is too large leaves out what the task's log has anyway (DUR-60).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UNSET, UnsetType, structs

from dragoman_bus.protocol.codec import encode
from dragoman_bus.protocol.durable import AttemptReport, DeadLetterData
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.error_objects import error_object
from dragoman_bus.protocol.messages import TaskDeadLetter
from dragoman_bus.protocol.payloads import ErrorObject
from dragoman_bus.protocol.tasklog import LogFold

__all__ = ["LETTER_BYTES", "dead_letter"]

LETTER_BYTES = 16 * 1024
"""What a submission leaves of a message, so that its dead letter fits into one (DUR-59)."""

MAXIMUM_ATTEMPTS = 1024
FEW_ATTEMPTS = 16
SHORT_WORDS = 256


def dead_letter(
    log: LogFold, error: ErrorObject | UnsetType | None, sender: Sender, room: int
) -> bytes:
    """The encoded ``task.deadletter`` of a task that fails now.

    Args:
        log: What is known of the task.
        error: Why it fails.
        sender: Who ends it.
        room: Bytes that it may take.
    """
    reason = error or error_object("INTERNAL", "the task failed without a reason")
    letter = b""
    for data in _ever_shorter(_whole(log, reason, sender)):
        letter = encode(sender.wrap(TaskDeadLetter, data))
        if len(letter) <= room:
            break
    return letter


def _whole(log: LogFold, error: ErrorObject, sender: Sender) -> DeadLetterData:
    submission = log.submission
    assert submission is not None  # whoever ends a task has read it
    return DeadLetterData(
        task_id=log.task_id,
        submission=submission.data,
        submitted_by=submission.source,
        submitted_at=submission.time,
        attempts=_attempts(log, error, sender.now())[-MAXIMUM_ATTEMPTS:],
        error=error,
        artifacts=log.task.artifacts or UNSET,
    )


def _attempts(log: LogFold, error: ErrorObject, now: str) -> list[AttemptReport]:
    """Every attempt with its end: whoever said nothing before the next one began had vanished."""
    following = [*(report.started_at for report in log.attempts[1:]), now]
    reports = [
        report
        if not isinstance(report.ended_at, UnsetType)
        else structs.replace(report, ended_at=ended_at, error=_vanished(report))
        for report, ended_at in zip(log.attempts, following, strict=False)
    ]
    if reports and log.worker:
        reports[-1] = structs.replace(reports[-1], error=error)
    return reports


def _vanished(report: AttemptReport) -> ErrorObject:
    words = f"nothing more was heard of {report.source}"
    return error_object("AGENT_LOST", words, side_effects="possible", attempt=report.attempt)


def _ever_shorter(data: DeadLetterData) -> Iterator[DeadLetterData]:
    yield data
    data = structs.replace(data, artifacts=UNSET)
    yield data
    attempts = [structs.replace(report, error=_short(report.error)) for report in data.attempts]
    data = structs.replace(data, attempts=attempts)
    yield data
    data = structs.replace(data, attempts=attempts[-FEW_ATTEMPTS:])
    yield data
    data = structs.replace(data, error=_short(data.error))
    yield data
    yield structs.replace(data, attempts=[])


def _short(error: ErrorObject | UnsetType) -> ErrorObject | UnsetType:
    if isinstance(error, UnsetType):
        return error
    return structs.replace(error, message=error.message[:SHORT_WORDS], details=UNSET)
