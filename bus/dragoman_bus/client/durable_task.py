"""A durable task from the outside: follow it, await it, cancel it, answer it.

Spec: spec/durable.md. It has the methods of ``TaskHandle``. Nothing is lost with the program that
submitted the task: ``Bus.durable.task`` gives a handle to it again, anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from msgspec import UnsetType

from dragoman_bus.client.contracts import check_output
from dragoman_bus.client.log_reader import LogReader
from dragoman_bus.client.result import Result, result_of
from dragoman_bus.client.stream import Update
from dragoman_bus.durable.store import LogStore
from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.a2a import (
    Message,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from dragoman_bus.protocol.contracts import message_for_input, text_of
from dragoman_bus.protocol.envelopes import Sender, parse_source
from dragoman_bus.protocol.errors import (
    DeadlineExceeded,
    LocalError,
    RevisionConflict,
    TaskRejected,
)
from dragoman_bus.protocol.messages import (
    TaskArtifact,
    TaskCancel,
    TaskFinal,
    TaskReply,
    TaskStatusUpdate,
)
from dragoman_bus.protocol.payloads import CancelData, Contract, ReplyData
from dragoman_bus.protocol.soundness import reason_of
from dragoman_bus.protocol.tasklog import LogEntry, LogFold
from dragoman_bus.transports.lagging import seen
from dragoman_bus.transports.port import Transport

__all__ = ["DurableTask", "updates_of"]

GRACE_SECONDS = 30.0
"""How long after its deadline a task's end may take: the supervisor may be changing hands."""


class DurableTask:
    """A durable task, wherever it runs.

    Args:
        transport: The bus.
        sender: Who cancels and answers.
        log: What is known of the task.
        contract: What its output has to fit, where it is known.
    """

    def __init__(
        self, transport: Transport, sender: Sender, log: LogFold, contract: Contract | None = None
    ) -> None:
        self._transport = transport
        self._sender = sender
        self._store = LogStore(transport.streams())
        self._log = log
        self._given: int | None = None
        self._contract = contract

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self._log.task_id

    @property
    def log(self) -> LogFold:
        """Everything the log says, as far as it was read here."""
        return self._log

    @property
    def agent(self) -> str | None:
        """Who works on it, or worked on it last."""
        worker = self._worker()
        return None if worker is None else worker[0]

    @property
    def instance(self) -> str | None:
        """Which instance works on it, or worked on it last."""
        worker = self._worker()
        return None if worker is None else worker[1]

    @property
    def state(self) -> TaskState:
        """The state as far as it was read here."""
        return self._log.task.state

    @property
    def task(self) -> Task:
        """The A2A task as far as it was read here."""
        return self._log.task.task()

    @property
    def position(self) -> int:
        """Where ``updates`` can go on later: the position of the last entry that was given here.

        More may have been read ahead. Of a task that is not followed, that of the last one read.
        """
        return self._log.position if self._given is None else self._given

    @property
    def question(self) -> str | None:
        """The question of a task that waits for a reply."""
        words = self._log.task.status.message
        if not self._log.waits_for_reply or isinstance(words, UnsetType):
            return None
        return text_of(words.parts)

    def __aiter__(self) -> AsyncIterator[Update]:
        """All updates from the beginning, up to and with the end."""
        return self.updates()

    async def updates(self, *, after: int = 0) -> AsyncIterator[Update]:
        """A2A status and artifact updates in order, those after a position of the log.

        Survives lost connections, and the death of every worker; ends with the terminal status.

        Raises:
            TaskRejected: ``TASK_NOT_FOUND`` when there is no such task.
            DeadlineExceeded: the supervisor did not end it in time.
        """
        async with contextlib.aclosing(self._follow(after)) as entries:
            async for entry in entries:
                updates = updates_of(entry, self._log)
                for update in updates[:-1]:
                    yield update
                self._given = entry.position
                if updates:
                    yield updates[-1]

    async def entries(self, *, after: int = 0) -> AsyncGenerator[LogEntry, None]:
        """The entries of the log in order, those after a position, up to and with the end.

        Each has its position, from which ``entries`` or ``updates`` can go on later.

        Raises:
            TaskRejected: ``TASK_NOT_FOUND`` when there is no such task.
            DeadlineExceeded: the supervisor did not end it in time.
        """
        async with contextlib.aclosing(self._follow(after)) as entries:
            async for entry in entries:
                self._given = entry.position
                yield entry

    async def _follow(self, after: int) -> AsyncGenerator[LogEntry, None]:
        async with LogReader(self._transport, self._store, self.task_id, after=after) as reader:
            self._log = self._found(reader.log)
            self._given = after
            while reader.has_next or not reader.log.ended:
                yield await self._in_time(reader)

    async def result(self, reader: LogReader | None = None) -> Result:
        """Wait for the end; with ``reader``, one that follows the task already.

        Raises:
            TaskFailed, TaskCanceled, TaskRejected: the task ended so, or there is none.
            LocalError: ``INPUT_REQUIRED`` when it waits for a reply.
            DeadlineExceeded: the supervisor did not end it in time.
        """
        await self._until(lambda log: log.ended or log.waits_for_reply, reader)
        if not self._log.ended:
            raise LocalError(
                f"the task asks: {self.question or 'for input'}",
                code="INPUT_REQUIRED",
                task_id=self.task_id,
            )
        result = result_of(self._log.task)
        check_output(self._contract, result)
        return result

    async def cancel(self, reason: str = "") -> TaskState:
        """Store the wish to cancel, and wait for the terminal state, which is returned."""
        if not (await self.refresh()).ended:
            await self.request_cancel(reason)
            await self._until(lambda log: log.ended)
        return self.state

    async def request_cancel(self, reason: str = "") -> None:
        """Store the wish to cancel; it lands whatever happens to this program."""
        data = CancelData(task_id=self.task_id, reason=reason_of(reason))
        await self._store.append(self.task_id, "control", self._sender.wrap(TaskCancel, data))

    async def reply(self, value: Any) -> None:
        """Answer the task's question with text, a JSON value, or an A2A message.

        Raises:
            TaskRejected: ``TASK_NOT_WAITING`` when it asked nothing, or was answered.
        """
        log = await seen(self.refresh, lambda log: log.ended or log.waits_for_reply)
        if not log.waits_for_reply:
            raise self._not_waiting()
        message = (
            value if isinstance(value, Message) else message_for_input(new_identifier(), value)
        )
        reply = self._sender.wrap(TaskReply, ReplyData(task_id=self.task_id, message=message))
        try:
            # Nothing may have come in between, another answer above all.
            await self._store.append(
                self.task_id,
                "control",
                reply,
                expect=LogStore.on_log(self.task_id, log.position),
            )
        except RevisionConflict:
            raise self._not_waiting() from None

    async def get(self) -> Task:
        """The task as its log has it now."""
        return (await self.refresh()).task.task()

    async def refresh(self) -> LogFold:
        """Read what is new in the log.

        Raises:
            TaskRejected: ``TASK_NOT_FOUND`` when there is no such task.
        """
        return self._found(await self._store.find(self._log))

    def abandon(self, reason: str = "") -> None:
        """Nothing: a durable task goes on without whoever asked for it."""

    def _found(self, log: LogFold) -> LogFold:
        if log.submission is None:
            raise TaskRejected(
                "there is no such durable task", code="TASK_NOT_FOUND", task_id=self.task_id
            )
        return log

    def _not_waiting(self) -> TaskRejected:
        return TaskRejected(
            "the task asks for nothing now", code="TASK_NOT_WAITING", task_id=self.task_id
        )

    def _worker(self) -> tuple[str, str] | None:
        attempts = self._log.attempts
        return parse_source(attempts[-1].source) if attempts else None

    async def _until(
        self, reached: Callable[[LogFold], bool], reader: LogReader | None = None
    ) -> None:
        if reader is None:
            async with LogReader(self._transport, self._store, self.task_id) as opened:
                await self._until(reached, opened)
            return
        self._log = self._found(reader.log)
        while not reached(reader.log):
            await self._in_time(reader)

    async def _in_time(self, reader: LogReader) -> LogEntry:
        """The next entry, or the end of patience some time after the deadline (DL-1)."""
        if reader.has_next:
            return await reader.next()
        try:
            async with asyncio.timeout(self._patience(reader.log)):
                return await reader.next()
        except TimeoutError:
            raise DeadlineExceeded(
                "the task has not ended, and its deadline has passed: is a supervisor running "
                "(`dragoman up` or `dragoman supervise`)?",
                task_id=self.task_id,
            ) from None

    @staticmethod
    def _patience(log: LogFold) -> float | None:
        deadline = log.deadline
        return None if deadline is None else max(0.0, deadline - time.time()) + GRACE_SECONDS


def updates_of(entry: LogEntry, log: LogFold) -> list[Update]:
    """The A2A updates that an entry of a task's log stands for; none for most kinds."""
    message = entry.message
    if isinstance(message, TaskArtifact):
        return [message.data.artifact_update]
    if isinstance(message, TaskStatusUpdate):
        return [message.data.status_update]
    if isinstance(message, TaskFinal):
        replaced = [
            TaskArtifactUpdateEvent(
                task_id=log.task_id,
                context_id=log.task.context_id,
                artifact=artifact,
                last_chunk=True,
            )
            for artifact in message.data.artifacts or ()
        ]
        return [*replaced, _status(message.data.status_update.status, log)]
    return []


def _status(status: TaskStatus, log: LogFold) -> TaskStatusUpdateEvent:
    return TaskStatusUpdateEvent(task_id=log.task_id, context_id=log.task.context_id, status=status)
