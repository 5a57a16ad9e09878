"""Accepts a durable task: its timer, the first entry of its log, its place in a queue.

Spec: spec/durable.md, submit. Every step may be repeated: the same submission again is the same
task, and another one under its id is a conflict.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from msgspec import UnsetType

from dragoman_bus.durable.layout import LOG_STREAM, QUEUE_STREAM, TIMER_STREAM
from dragoman_bus.durable.store import LogStore
from dragoman_bus.protocol.codec import encode
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.errors import (
    Overloaded,
    ProtocolError,
    RevisionConflict,
    StreamFull,
    TaskRejected,
)
from dragoman_bus.protocol.messages import TaskGet, TaskSubmit
from dragoman_bus.protocol.payloads import GetData, SubmitData
from dragoman_bus.protocol.subjects import (
    due_subject,
    log_subject,
    queue_subject,
    timer_subject,
    turn_subject,
)
from dragoman_bus.protocol.tasklog import LogFold
from dragoman_bus.protocol.timestamps import parse_timestamp
from dragoman_bus.transports.streams import Expectation, Record

__all__ = ["deadline_of", "enqueue", "queue_of", "submission_records", "submit", "timer_record"]

RETRY_AFTER_SECONDS = 1.0


def queue_of(data: SubmitData) -> str:
    """The queue subject of a submission."""
    class_ = "interactive" if isinstance(data.class_, UnsetType) else data.class_
    agent = None if isinstance(data.agent, UnsetType) else data.agent
    return queue_subject(data.skill, class_, agent=agent)


def deadline_of(data: SubmitData) -> float:
    """Unix seconds of the deadline, which a durable task has (DUR-4).

    Raises:
        ProtocolError: it has none.
    """
    limits = data.limits
    if isinstance(limits, UnsetType) or isinstance(limits.deadline, UnsetType):
        raise ProtocolError("a durable task has a deadline", task_id=data.task_id)
    return parse_timestamp(limits.deadline)


def timer_record(task_id: str, purpose: str, at: float, sender: Sender) -> Record:
    """A schedule that wakes the supervisor for a task at ``at`` (Unix seconds)."""
    wake = sender.wrap(TaskGet, GetData(task_id=task_id))
    return Record(
        subject=timer_subject(task_id, purpose),
        data=encode(wake),
        deliver_at=at,
        deliver_to=due_subject(task_id),
    )


def submission_records(submission: TaskSubmit, sender: Sender) -> list[Record]:
    """The first entry of the log; with the turn of its context when it is ordered (DUR-41)."""
    data = submission.data
    subject = log_subject(data.task_id, "submit")
    records = [Record(subject=subject, data=encode(submission), expect=Expectation(subject, 0))]
    if data.ordered is True:
        context = data.task_id if isinstance(data.context_id, UnsetType) else data.context_id
        turn = sender.wrap(TaskGet, GetData(task_id=data.task_id))
        records.append(Record(subject=turn_subject(context, data.task_id), data=encode(turn)))
    return records


async def enqueue(store: LogStore, submission: TaskSubmit, *, run: int = 1) -> None:
    """Put a task into its queue; again, with the number of the ``run``, after a question.

    Raises:
        Overloaded: the queue is full.
    """
    data = submission.data
    record = Record(
        subject=queue_of(data),
        data=encode(submission),
        identity=data.task_id if run == 1 else f"{data.task_id}.{run}",
        ttl=max(1.0, deadline_of(data) - time.time()),
    )
    try:
        await store.streams.append(QUEUE_STREAM, record)
    except StreamFull as error:
        raise Overloaded(
            f"the queue {record.subject} is full",
            retry_after=RETRY_AFTER_SECONDS,
            task_id=data.task_id,
        ) from error


async def _all_at_once(*works: Coroutine[Any, Any, Any]) -> None:
    """Do all in the order of their start; the error of the earliest counts."""
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def submit(
    store: LogStore, sender: Sender, submission: TaskSubmit, *, fresh: bool = False
) -> LogFold | None:
    """Submit a durable task; the log of a task that was there already, else ``None``.

    With ``fresh`` (the id was made for this submission, so the log cannot have it) nothing waits
    for an answer before the next message is sent; the order is that of one connection (DUR-5).

    Raises:
        TaskRejected: ``TASK_CONFLICT``: the id belongs to another task.
        Overloaded: the queue is full; the task can be submitted again.
        BusUnavailable: ``NOT_CONFIGURED`` when the bus has no durable delivery.
    """
    data = submission.data
    timer = timer_record(data.task_id, "deadline", deadline_of(data), sender)
    if fresh and data.ordered is not True:
        await _all_at_once(
            store.streams.append(TIMER_STREAM, timer),
            store.streams.append(LOG_STREAM, *submission_records(submission, sender)),
            enqueue(store, submission),
        )
        return None
    await store.streams.append(TIMER_STREAM, timer)
    known: LogFold | None = None
    try:
        await store.streams.append(LOG_STREAM, *submission_records(submission, sender))
    except RevisionConflict:
        known = await store.read(data.task_id)
        if (known.data.skill, known.data.message) != (data.skill, data.message):
            raise TaskRejected(
                f"another task has the id {data.task_id}",
                code="TASK_CONFLICT",
                task_id=data.task_id,
            ) from None
    if data.ordered is not True and (known is None or known.spine == 0):
        await enqueue(store, submission)
    return known
