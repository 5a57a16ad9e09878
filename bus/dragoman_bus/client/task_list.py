"""Lists durable tasks: those that fit, oldest or latest first, a page at a time.

Spec: spec/durable.md, read. A list is read from the logs: the submissions in order of position, and
the last entry of each spine. Times are the server's, one clock for all callers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from msgspec import UnsetType

from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.durable.store import LogStore, entry_of
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.envelopes import parse_source
from dragoman_bus.protocol.messages import TaskFinal, TaskStatusUpdate, TaskSubmit
from dragoman_bus.protocol.payloads import SubmitData
from dragoman_bus.protocol.subjects import log_subject
from dragoman_bus.protocol.tasklog import LogEntry
from dragoman_bus.protocol.timestamps import format_timestamp
from dragoman_bus.transports.streams import Stored

__all__ = ["TaskFilter", "TaskSummary", "list_tasks"]

PAGE = 200
FIRST_WINDOW = 1024
LONGEST_WINDOW = 2**20
SKEW_SECONDS = 1.0
"""Times of one stream may go back a little where nodes with other clocks have led it."""


class TaskSummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One line of a list of tasks.

    Attributes:
        task_id: The task.
        skill: What it asks for.
        context_id: Its context; the task's own id when it has none.
        state: Its state now.
        submitted_at: When it was stored.
        submitted_by: The ``source`` of the submission.
        position: Where it is stored; where a list continues.
        agent: Who has it now, or had it last; ``None`` before the first attempt.
        attempt: The last attempt; 0 before the first.
        changed_at: When it took this state; ``None`` before the first attempt.
    """

    task_id: str
    skill: str
    context_id: str
    state: TaskState
    submitted_at: str
    submitted_by: str
    position: int
    agent: str | None = None
    attempt: int = 0
    changed_at: str | None = None


class TaskFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks a list has; everything given must fit.

    Attributes:
        state: In this state now.
        skill: Of this skill.
        context_id: Of this context.
        since: Submitted at this time (Unix seconds) or later.
        until: Submitted before this time.
    """

    state: TaskState | None = None
    skill: str | None = None
    context_id: str | None = None
    since: float | None = None
    until: float | None = None

    def may_have(self, data: SubmitData, submitted: float) -> bool:
        """Whether a submission that was stored at ``submitted`` fits, whatever became of it."""
        return (
            (self.skill is None or data.skill == self.skill)
            and (self.context_id is None or _context_of(data) == self.context_id)
            and (self.since is None or submitted >= self.since)
            and (self.until is None or submitted < self.until)
        )


async def list_tasks(
    store: LogStore,
    wanted: TaskFilter,
    *,
    latest_first: bool = False,
    after: int = 0,
    before: int | None = None,
) -> AsyncIterator[TaskSummary]:
    """The tasks that fit, between two positions.

    Args:
        store: The logs.
        wanted: Which.
        latest_first: The order; oldest first otherwise.
        after: Only above this position.
        before: Only below this position.
    """
    if wanted.since is not None:
        first = await _first_since(store, wanted.since - SKEW_SECONDS)
        if first is None:
            return
        after = max(after, first - 1)
    if wanted.until is not None:
        end = await _first_since(store, wanted.until + SKEW_SECONDS)
        before = before if end is None else min(end, before or end)
    pages = _backward(store, after, before) if latest_first else _forward(store, after, before)
    async for page in pages:
        submissions = [(stored, _submission(stored)) for stored in page]
        fitting = [
            (stored, submission)
            for stored, submission in submissions
            if submission is not None and wanted.may_have(submission.data, stored.time)
        ]
        states = await store.states(submission.data.task_id for _, submission in fitting)
        for stored, submission in fitting:
            last = states.get(submission.data.task_id)
            summary = _summary(stored, submission, last)
            if wanted.state not in (None, summary.state):
                continue
            if last is not None and summary.agent is None:
                summary = await _with_worker(store, summary)
            yield summary


async def _first_since(store: LogStore, moment: float) -> int | None:
    """The position of the first submission that was stored at a moment or later."""
    pattern = log_subject("*", "submit")
    page = await store.streams.read(LOG_STREAM, pattern, since=moment, limit=1)
    return page.messages[0].position if page.messages else None


async def _forward(store: LogStore, after: int, before: int | None) -> AsyncIterator[list[Stored]]:
    while True:
        page = await store.streams.read(
            LOG_STREAM, log_subject("*", "submit"), after=after, limit=PAGE
        )
        found = [
            message for message in page.messages if before is None or message.position < before
        ]
        if found:
            yield found
        if not page.more or len(found) < len(page.messages) or not page.messages:
            return
        after = page.messages[-1].position


async def _backward(store: LogStore, after: int, before: int | None) -> AsyncIterator[list[Stored]]:
    """Windows of the stream from its end, wider where few of its entries are submissions."""
    if before is None:
        state = await store.streams.stream_state(LOG_STREAM)
        # Without the stream there is something to read, so that whoever reads is told.
        first, last = (1, 1) if state is None else (state.first_position, state.last_position)
        after, before = max(after, first - 1), last + 1
    window = FIRST_WINDOW
    while before > after + 1:
        start = max(after, before - 1 - window)
        found: list[Stored] = []
        async for page in _forward(store, start, before):
            found += page
        for end in range(len(found), 0, -PAGE):
            yield found[max(0, end - PAGE) : end][::-1]
        window = window // 2 if len(found) > PAGE else min(2 * window, LONGEST_WINDOW)
        before = start + 1


def _submission(stored: Stored) -> TaskSubmit | None:
    """The submission in a stored message; ``None`` for what does not belong there."""
    entry = entry_of(stored)
    if entry is None or not isinstance(entry.message, TaskSubmit):
        return None
    belongs = stored.subject == log_subject(entry.message.data.task_id, "submit")
    return entry.message if belongs else None


def _context_of(data: SubmitData) -> str:
    return data.task_id if isinstance(data.context_id, UnsetType) else data.context_id


def _summary(stored: Stored, submission: TaskSubmit, last: LogEntry | None) -> TaskSummary:
    data = submission.data
    summary = TaskSummary(
        task_id=data.task_id,
        skill=data.skill,
        context_id=_context_of(data),
        state=TaskState.SUBMITTED,
        submitted_at=format_timestamp(stored.time),
        submitted_by=submission.source,
        position=stored.position,
    )
    if last is None or not isinstance(last.message, TaskStatusUpdate | TaskFinal):
        return summary
    # The spine holds claims, retries, questions and the end: each has a status.
    change = last.message
    worker = parse_source(change.source)
    return msgspec.structs.replace(
        summary,
        state=change.data.status_update.status.state,
        agent=None if worker is None else worker[0],
        attempt=0 if worker is None else change.data.attempt,
        changed_at=change.time,
    )


async def _with_worker(store: LogStore, summary: TaskSummary) -> TaskSummary:
    """Who had a task last that was ended from outside; the attempt that ended it did not run."""
    attempts = (await store.read(summary.task_id)).attempts
    worker = parse_source(attempts[-1].source) if attempts else None
    if worker is None:
        return summary
    return msgspec.structs.replace(summary, agent=worker[0], attempt=attempts[-1].attempt)
