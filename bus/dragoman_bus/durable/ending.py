"""How a durable task ends: its final, and everything that is stored together with it.

Spec: spec/durable.md: a failed task's dead letter (DUR-43), the cancels of open children (DUR-35),
the outbox (DUR-40) and the turn of the context (DUR-49) stand in one atomic batch with the final.
"""

from __future__ import annotations

from msgspec import UNSET

from dragoman_bus.durable.letters import dead_letter
from dragoman_bus.durable.store import LogStore
from dragoman_bus.protocol.a2a import Artifact, TaskState, TaskStatus, TaskStatusUpdateEvent
from dragoman_bus.protocol.codec import encode
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.error_objects import cancellation
from dragoman_bus.protocol.messages import (
    Envelope,
    TaskCancel,
    TaskFinal,
    TaskGet,
    TaskOutbox,
)
from dragoman_bus.protocol.payloads import (
    CancelData,
    ErrorObject,
    FinalData,
    GetData,
    Receipt,
    Usage,
)
from dragoman_bus.protocol.subjects import dead_letter_subject, log_subject, turn_subject
from dragoman_bus.protocol.tasklog import LogFold
from dragoman_bus.transports.streams import Expectation, Record

__all__ = ["Ending", "above", "canceled", "ending_records"]

HEADER_BYTES = 1024
"""What the headers of a record take of the server's limit, amply."""


class Ending:
    """A terminal state and what is said with it.

    Args:
        state: Terminal.
        error: Why, unless it completed.
        artifacts: Artifacts that replace those of the same id.
        usage: What the task used; by default, what its log tells.
        receipt: Who did it.
        outbox: What is sent afterwards.
    """

    def __init__(
        self,
        state: TaskState,
        *,
        error: ErrorObject | None = None,
        artifacts: list[Artifact] | None = None,
        usage: Usage | None = None,
        receipt: Receipt | None = None,
        outbox: TaskOutbox | None = None,
    ) -> None:
        self.state = state
        self.error = error
        self.artifacts = artifacts
        self.usage = usage
        self.receipt = receipt
        self.outbox = outbox

    def final(self, log: LogFold, sender: Sender) -> TaskFinal:
        """The ``task.final`` that continues ``log``."""
        attempt, sequence = max(1, log.attempt), log.task.sequence + 1
        if log.attempt > log.task.attempt:
            sequence = 1
        data = FinalData(
            status_update=TaskStatusUpdateEvent(
                task_id=log.task_id,
                context_id=log.task.context_id,
                status=TaskStatus(state=self.state),
            ),
            sequence=sequence,
            attempt=attempt,
            artifacts=self.artifacts or UNSET,
            usage=self.usage or log.used or UNSET,
            receipt=self.receipt or UNSET,
            error=self.error or UNSET,
        )
        return sender.wrap(TaskFinal, data, id=f"{log.task_id}.{attempt}.{sequence}")


def ending_records(
    log: LogFold,
    ending: Ending,
    final: TaskFinal,
    sender: Sender,
    *,
    open_children: list[str],
    max_payload: int,
) -> list[Record]:
    """The records to append at once; a single one for the usual end.

    Args:
        log: What is known of the task; its submission at least. Nobody else holds it (DUR-84).
        ending: How it ends.
        final: ``ending.final(log, sender)``.
        sender: Who ends it.
        open_children: Children that have not ended.
        max_payload: Bytes of the largest record.
    """
    spine = LogStore.on_spine(log.task_id, log.spine)
    records = [_record(log_subject(log.task_id, "state"), final, spine)]
    if ending.state is TaskState.FAILED:
        subject = dead_letter_subject(log.data.skill, log.task_id)
        letter = dead_letter(log, ending.error, sender, max_payload - HEADER_BYTES)
        records.append(Record(subject=subject, data=letter))
    if ending.outbox is not None:
        records.append(_record(log_subject(log.task_id, "control"), ending.outbox))
    for child in open_children:
        data = CancelData(task_id=child, reason=above(log.task_id))
        records.append(_record(log_subject(child, "control"), sender.wrap(TaskCancel, data)))
    if log.data.ordered is True:
        turn = sender.wrap(TaskGet, GetData(task_id=log.task_id))
        records.append(_record(turn_subject(log.task.context_id, log.task_id), turn))
    return records


def canceled(wish: CancelData) -> Ending:
    """How a canceled task ends."""
    return Ending(TaskState.CANCELED, error=cancellation(wish, "canceled"))


def above(task_id: str) -> str:
    """Why a child is canceled."""
    return f"task {task_id}, above it, has ended"


def _record(subject: str, message: Envelope, expect: Expectation | None = None) -> Record:
    return Record(subject=subject, data=encode(message), expect=expect)
