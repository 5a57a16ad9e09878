"""Accepts a durable task: its timer, the first entry of its log, its place in a queue.

Spec: spec/durable.md, submit. Every step may be repeated: the same submission again is the same
task, and another one under its id is a conflict.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from msgspec import UnsetType

from dragoman_bus.durable.layout import LOG_STREAM, QUEUE_STREAM, TIMER_STREAM
from dragoman_bus.durable.letters import LETTER_BYTES
from dragoman_bus.durable.store import LogStore
from dragoman_bus.protocol.codec import encode
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.errors import (
    Overloaded,
    PayloadTooLarge,
    ProtocolError,
    RequestTimeout,
    RevisionConflict,
    StreamFull,
    TaskCanceled,
    TaskRejected,
)
from dragoman_bus.protocol.messages import TaskGet, TaskSubmit
from dragoman_bus.protocol.payloads import GetData, SubmitData
from dragoman_bus.protocol.soundness import check_sound
from dragoman_bus.protocol.subjects import (
    due_subject,
    log_subject,
    queue_subject,
    timer_subject,
    turn_subject,
)
from dragoman_bus.protocol.tasklog import LogFold
from dragoman_bus.protocol.timestamps import parse_timestamp
from dragoman_bus.transports.lagging import seen
from dragoman_bus.transports.streams import Expectation, Record, Streams

__all__ = [
    "check_storable",
    "correct_timer",
    "deadline_of",
    "enqueue",
    "queue_of",
    "set_timer",
    "submission_records",
    "submit",
    "timer_record",
]

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
    # What is delegated may have been canceled, with what is above it, before it is submitted.
    first = subject if isinstance(data.lineage, UnsetType) else log_subject(data.task_id)
    records = [Record(subject=subject, data=encode(submission), expect=Expectation(first, 0))]
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


def check_storable(streams: Streams, data: SubmitData) -> None:
    """Refuse what nobody could read from the log, or leaves no room for a dead letter (DUR-59).

    Raises:
        ProtocolError: a member is not valid; nobody would tell the caller later.
        PayloadTooLarge: says how to send large contents.
    """
    try:
        size = len(check_sound(data, "the task"))
    except ValueError as error:
        raise ProtocolError(str(error), task_id=data.task_id) from None
    largest = streams.max_payload - LETTER_BYTES
    if size > largest:
        raise PayloadTooLarge(
            f"a durable task of {size} bytes is larger than the {largest} that this bus takes; "
            "store large contents with `bus.artifacts.put` and send the part that names them",
            task_id=data.task_id,
        )


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
        TaskCanceled: a delegated task was canceled before it was submitted.
        Overloaded: the queue is full; the task can be submitted again.
        ProtocolError: a member of the submission is not valid.
        PayloadTooLarge: the submission leaves no room for its dead letter.
        BusUnavailable: ``NOT_CONFIGURED`` when the bus has no durable delivery.
    """
    data = submission.data
    check_storable(store.streams, data)
    timer = timer_record(data.task_id, "deadline", deadline_of(data), sender)
    if fresh and data.ordered is not True:
        await _all_at_once(
            store.streams.append(TIMER_STREAM, timer),
            store.streams.append(LOG_STREAM, *submission_records(submission, sender)),
            enqueue(store, submission),
        )
        return None
    timed = await set_timer(store, timer)
    known: LogFold | None = None
    try:
        await store.streams.append(LOG_STREAM, *submission_records(submission, sender))
    except RevisionConflict:
        known = await _known(store, data)
    if known is None or known.spine == 0:
        if known is not None or not timed:
            await correct_timer(store, sender, known.data if known else data)
        if data.ordered is not True:
            await enqueue(store, known.submission if known and known.submission else submission)
    return known


async def set_timer(store: LogStore, timer: Record) -> bool:
    """Set a task's timer unless there is one, so that nobody puts off what is not his; whether.

    Who submits first sets it right with ``correct_timer``, before the task is queued.
    """
    record = replace(timer, expect=Expectation(timer.subject, 0))
    try:
        await store.streams.append(TIMER_STREAM, record)
    except RevisionConflict:
        return False
    return True


async def correct_timer(store: LogStore, sender: Sender, data: SubmitData) -> None:
    """Set the timer of a stored submission, which another one may have set."""
    timer = timer_record(data.task_id, "deadline", deadline_of(data), sender)
    await store.streams.append(TIMER_STREAM, timer)


async def _known(store: LogStore, data: SubmitData) -> LogFold:
    """The task that has this id already, if it is the same."""
    known = await seen(
        lambda: store.read(data.task_id),
        lambda log: log.submission is not None or log.cancel is not None,
    )
    if known.submission is None:
        if known.cancel is None:
            # The node that was read from has yet to hear of what the leader has stored.
            raise RequestTimeout("the log of the task could not be read", task_id=data.task_id)
        raise TaskCanceled("the task was canceled before it was submitted", task_id=data.task_id)
    if (known.data.skill, known.data.message) != (data.skill, data.message):
        raise TaskRejected(
            f"another task has the id {data.task_id}", code="TASK_CONFLICT", task_id=data.task_id
        )
    return known
