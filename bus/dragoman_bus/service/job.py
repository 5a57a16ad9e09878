"""A task that an instance has accepted: its request, its stream, and how to stop it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import UnsetType

from dragoman_bus.protocol.a2a import Artifact, Message, TaskState
from dragoman_bus.protocol.error_objects import error_object
from dragoman_bus.protocol.errors import LocalError
from dragoman_bus.protocol.fold import TaskFold
from dragoman_bus.protocol.messages import TaskSnapshot
from dragoman_bus.protocol.payloads import ErrorObject, EventData, Receipt, SubmitData, Usage
from dragoman_bus.protocol.timestamps import parse_timestamp
from dragoman_bus.protocol.traces import TraceContext

__all__ = ["Job", "Outcome", "Released", "TaskStream"]


Answer = TypeVar("Answer")


class Released(BaseException):
    """The task goes on elsewhere, later: the skill is left as it is, and its slot is free."""


class TaskStream(Protocol):
    """Where the updates of a task go: to a caller (``ReplyStream``) or to a log (``LogStream``)."""

    sent_at: float
    stalled_since: float | None
    whole_log: bytes | None
    """The final message, when nothing else was sent of the task."""

    @property
    def fold(self) -> TaskFold:
        """The task so far."""

    @property
    def has_room(self) -> bool:
        """Whether a message can be sent now."""

    async def status(self, state: TaskState, message: Message | None = None) -> None:
        """Tell a state that is not terminal."""

    async def artifact(self, artifact: Artifact, *, append: bool) -> None:
        """Send an artifact or more of one."""

    async def final(
        self,
        state: TaskState,
        *,
        artifacts: list[Artifact] | None = None,
        usage: Usage | None = None,
        receipt: Receipt | None = None,
        error: ErrorObject | None = None,
    ) -> bool:
        """End the task; whether this call ended it."""

    async def keep_alive(self) -> None:
        """Say that the task lives."""

    def acknowledge(self, through: int) -> None:
        """Take a task.flow."""

    def attach(self, reply: str, *, window: int | None) -> Coroutine[Any, Any, None] | None:
        """Continue on another reply subject; returns what sends the snapshot that goes before.

        ``None``: this stream does not move, and the snapshot is all that is answered.
        """

    def snapshot(self) -> TaskSnapshot:
        """The task as it is now."""


class Outcome(msgspec.Struct, kw_only=True):
    """How a skill ended, before the instance makes it the task's final message."""

    state: TaskState
    artifacts: list[Artifact] | None = None
    usage: Usage | None = None
    error: ErrorObject | None = None
    receipt: Receipt | None = None


class Job:
    """One accepted task.

    Args:
        data: What was submitted.
        stream: Where its updates go.
        trace: The trace context of the message that asked for it.
        request: That message; ``None`` when it is kept elsewhere.
    """

    def __init__(
        self,
        data: SubmitData,
        stream: TaskStream,
        trace: TraceContext | None = None,
        *,
        request: bytes | None = None,
    ) -> None:
        self.data = data
        self.trace = trace
        self.stream = stream
        self.request = request
        self.accepted_at = time.monotonic()
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.cancel_reason: ErrorObject | None = None
        self.canceled_at: float | None = None
        self.work: asyncio.Task[None] | None = None
        self.speaks_first = False
        """Whether the caller is told at once who has the task, so that it can cancel it."""
        self.usage: Usage | None = None
        """What the task has used so far, for one that ends before its skill does."""
        self.used_itself: Usage | None = None
        """The part of it that no task below it has used."""
        self._answer: asyncio.Future[Message] | None = None
        self._replies: set[str] = set()

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.data.task_id

    @property
    def attempt(self) -> int:
        """Which run of the task this is; direct tasks are run once."""
        return 1

    # Most tasks end before anybody looks at it.
    @functools.cached_property
    def deadline(self) -> float | None:
        """When the task has to have ended, by the monotonic clock; ``None`` without a deadline."""
        limits = self.data.limits
        if isinstance(limits, UnsetType) or isinstance(limits.deadline, UnsetType):
            return None
        return time.monotonic() + parse_timestamp(limits.deadline) - time.time()

    @property
    def waits_for_reply(self) -> bool:
        """Whether the skill asked something."""
        return self._answer is not None and not self._answer.done()

    def remaining(self) -> float | None:
        """Seconds until the deadline; ``None`` without one."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    async def ask(self, question: Message) -> Message:
        """Put the question to the caller and wait for the reply."""
        self._answer = asyncio.get_running_loop().create_future()
        try:
            await self.stream.status(TaskState.INPUT_REQUIRED, question)
            answer = await self._answer
        finally:
            self._answer = None
        await self.stream.status(TaskState.WORKING)
        return answer

    async def step(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do a piece of work; durable tasks keep its result (spec/durable.md, steps)."""
        return await work()

    async def patiently(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Do what may be repeated; durable tasks wait for a bus that is away."""
        return await work()

    async def delegation(self, skill: str, agent: str | None, input: Any) -> dict[str, Any]:
        """How a task below this one is submitted: options of ``Bus.submit``."""
        return {}

    def send_afterwards(self, item: SubmitData | EventData) -> None:
        """Keep what is sent once the task has completed.

        Raises:
            LocalError: ``NOT_CONFIGURED``: only durable tasks have an outbox.
        """
        raise LocalError(
            "only a durable task sends something together with its end", code="NOT_CONFIGURED"
        )

    async def settle(self, outcome: Outcome) -> bool | None:
        """End the task another way than by its stream; ``None``: the stream ends it."""
        return None

    def hand_back(self) -> bool:
        """Give the unfinished task to another instance, where that is possible."""
        return False

    def reply(self, message: Message) -> bool:
        """Hand a reply to the skill; whether it waited for one, or had this one already."""
        if message.message_id in self._replies:
            return True
        if self._answer is None or self._answer.done():
            return False
        self._replies.add(message.message_id)
        self._answer.set_result(message)
        return True

    def cancel(self, reason: ErrorObject) -> None:
        """Stop the skill; the first reason counts."""
        if self.cancel_reason is None:
            self.cancel_reason = reason
            self.canceled_at = time.monotonic()
            if self.work is not None:
                self.work.cancel()

    def canceled_outcome(self) -> Outcome:
        """How a stopped task ends: failed when it was not its caller who stopped it."""
        reason = self.cancel_reason or error_object("CANCELED", "the agent stopped")
        ended = TaskState.CANCELED if reason.code == "CANCELED" else TaskState.FAILED
        return Outcome(state=ended, error=reason, usage=self.usage)
