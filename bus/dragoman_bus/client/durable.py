"""Durable tasks from a caller's side: submit one, find one again, list them.

Spec: spec/durable.md. Reached as ``Bus.durable``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

from dragoman_bus.client.dead_letters import DeadLetters
from dragoman_bus.client.durable_task import DurableTask
from dragoman_bus.client.log_reader import LogReader
from dragoman_bus.client.result import Result
from dragoman_bus.client.task_list import TaskFilter, TaskSummary, list_tasks
from dragoman_bus.durable.closing import close_task
from dragoman_bus.durable.ending import Ending
from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.durable.store import LogStore
from dragoman_bus.durable.submission import deadline_of, queue_of, submit
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.error_objects import error_of
from dragoman_bus.protocol.errors import DragomanError, InvalidInput, Overloaded
from dragoman_bus.protocol.messages import TaskSubmit
from dragoman_bus.protocol.payloads import Contract, SubmitData
from dragoman_bus.protocol.tasklog import LogFold
from dragoman_bus.tracing import current_trace
from dragoman_bus.transports.port import Transport

__all__ = ["DurableClient"]

UNQUESTIONED_SECONDS = 86400.0
"""A log lasts longer than this, whatever an operator chose: who wants less need not ask."""


class DurableClient:
    """Durable tasks on one bus.

    Args:
        transport: The bus.
        sender: Who submits, cancels and answers.
    """

    def __init__(self, transport: Transport, sender: Sender) -> None:
        self.store = LogStore(transport.streams())
        self._transport = transport
        self._sender = sender
        self.dead_letters = DeadLetters(self.store, sender)
        self._full_until: dict[str, float] = {}

    async def submit(
        self, data: SubmitData, contract: Contract | None, *, fresh: bool, retries: int
    ) -> DurableTask:
        """Submit a task; returns once it is accepted, which nothing undoes.

        Args:
            data: What to do.
            contract: What the output has to fit.
            fresh: Whether the id was made for this submission, so that nobody can repeat it.
            retries: How often a full queue is tried again.

        Raises:
            Overloaded: the queue is full, and stays so.
            TaskRejected: ``TASK_CONFLICT``: the id belongs to another task.
            BusUnavailable: ``NOT_CONFIGURED`` when the bus has no durable delivery.
        """
        submission = self._sender.wrap(TaskSubmit, data, id=data.task_id, trace=current_trace())
        log = await self._accept(submission, fresh, retries)
        return DurableTask(self._transport, self._sender, log, contract)

    async def ask(
        self, data: SubmitData, contract: Contract | None, *, fresh: bool, retries: int
    ) -> Result:
        """Submit a task and wait for its result; it is listened to before it is submitted.

        Raises:
            DragomanError: whatever ``submit`` and ``DurableTask.result`` raise.
        """
        submission = self._sender.wrap(TaskSubmit, data, id=data.task_id, trace=current_trace())
        reader = LogReader(self._transport, self.store, data.task_id)
        await reader.open_before(submission, self._accept(submission, fresh, retries))
        try:
            task = DurableTask(self._transport, self._sender, reader.log, contract)
            return await task.result(reader)
        finally:
            await reader.close()

    async def _accept(self, submission: TaskSubmit, fresh: bool, retries: int) -> LogFold:
        """Submit until it is accepted; the log as far as it is known."""
        data = submission.data
        await self._check_deadline(data)
        first = True
        while True:
            try:
                self._check_gate(data)
                known = await submit(self.store, self._sender, submission, fresh=fresh and first)
                break
            except Overloaded as error:
                if not await self._wait(data, error, retries):
                    if fresh:
                        await self._withdraw(submission, error)
                    raise
                retries -= 1
                first = False
        log = known or LogFold(data.task_id)
        if known is None:
            log.begin(submission)
        return log

    def task(self, task_id: str, contract: Contract | None = None) -> DurableTask:
        """A handle to a task that anybody submitted; nothing is read yet."""
        return DurableTask(self._transport, self._sender, LogFold(task_id), contract)

    def tasks(
        self,
        *,
        state: TaskState | None = None,
        skill: str | None = None,
        context_id: str | None = None,
        since: float | None = None,
        until: float | None = None,
        latest_first: bool = False,
        after: int = 0,
        before: int | None = None,
    ) -> AsyncIterator[TaskSummary]:
        """Tasks in the order of their submission, those that fit all that is given.

        Args:
            state: In this state now.
            skill: Of this skill.
            context_id: Of this context.
            since: Submitted at this time (Unix seconds of the server) or later.
            until: Submitted before this time.
            latest_first: The other order; a page before follows with ``before``.
            after: Submitted after this position: the last one of the page before.
            before: Submitted before this position.
        """
        wanted = TaskFilter(
            state=state, skill=skill, context_id=context_id, since=since, until=until
        )
        return list_tasks(self.store, wanted, latest_first=latest_first, after=after, before=before)

    async def _check_deadline(self, data: SubmitData) -> None:
        """No task outlives its log (DUR-4); what ends within a day is not worth the question."""
        lasts = deadline_of(data) - time.time()
        if lasts <= UNQUESTIONED_SECONDS:
            return
        log = await self.store.streams.stream_state(LOG_STREAM)
        if log is not None and 0 < log.maximum_age < lasts:
            days = f"{log.maximum_age / 86400:g} days"
            raise InvalidInput(
                f"a durable task lives at most as long as its log: {days}", task_id=data.task_id
            )

    def _check_gate(self, data: SubmitData) -> None:
        """A queue that was full is left alone for a while (DUR-8)."""
        queue = queue_of(data)
        wait = self._full_until.get(queue, 0.0) - time.monotonic()
        if wait > 0:
            raise Overloaded(
                f"the queue {queue} was full a moment ago", retry_after=wait, task_id=data.task_id
            )

    async def _wait(self, data: SubmitData, error: Overloaded, retries: int) -> bool:
        """Wait before the next attempt; whether there is one within the deadline."""
        wait = error.retry_after or 1.0
        queue = queue_of(data)
        self._full_until[queue] = max(self._full_until.get(queue, 0.0), time.monotonic() + wait)
        wait *= random.uniform(1.0, 1.5)
        if retries <= 0 or time.time() + wait > deadline_of(data):
            return False
        await asyncio.sleep(wait)
        return True

    async def _withdraw(self, submission: TaskSubmit, error: Overloaded) -> None:
        """End a task that never reached its queue, and that nobody can submit again (DUR-9)."""
        try:
            ending = Ending(TaskState.REJECTED, error=error_of(error))
            await close_task(self.store, self._sender, submission.data.task_id, lambda _: ending)
        except DragomanError as failure:
            error.add_note(f"the task could not be withdrawn and ends at its deadline: {failure}")
