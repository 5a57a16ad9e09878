"""Takes a task: a claim on the spine fences off whoever had it, and then is read what that wrote.

Spec: spec/durable.md, DUR-14, DUR-81. In this order, since a replicated stream compares no pattern
with what is on its way to being stored: reading first would leave a gap before the claim.
"""

from __future__ import annotations

from msgspec import UNSET

from dragoman_bus.durable.store import LogStore
from dragoman_bus.protocol.a2a import Message, TaskState, TaskStatus, TaskStatusUpdateEvent
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.messages import TaskStatusUpdate
from dragoman_bus.protocol.payloads import ErrorObject, StatusData
from dragoman_bus.protocol.tasklog import LogEntry, LogFold

__all__ = ["claim", "know"]


def claim(
    log: LogFold,
    sender: Sender,
    message: Message | None = None,
    *,
    error: ErrorObject | None = None,
) -> TaskStatusUpdate:
    """The entry that takes a task as ``log`` tells it: to run it, or with ``error`` to end it."""
    attempt = log.attempt + 1
    data = StatusData(
        status_update=TaskStatusUpdateEvent(
            task_id=log.task_id,
            context_id=log.task.context_id,
            status=TaskStatus(state=TaskState.WORKING, message=message or UNSET),
        ),
        sequence=1,
        attempt=attempt,
        error=error or UNSET,
    )
    return sender.wrap(TaskStatusUpdate, data, id=f"{log.task_id}.{attempt}.1")


async def know(store: LogStore, log: LogFold, position: int, claim: TaskStatusUpdate) -> bool:
    """Fold a stored claim into ``log``, and all before it; whether the task is still held by it.

    Raises:
        RequestTimeout: the node that was read from is behind; ask again.
    """
    if log.position:
        await store.read_through(log, position)
    else:
        # Nobody had the task: nothing can lie between its submission and this claim but a wish.
        log.apply(LogEntry("state", position, claim))
    return log.spine == position
