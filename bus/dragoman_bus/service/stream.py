"""The agent's side of one task's stream: sequence, keep-alive promise, flow window, snapshot.

Spec: spec/operations.md, streaming and flow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from msgspec import UNSET, UnsetType

from dragoman_bus.protocol.a2a import (
    Artifact,
    Message,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.flow import SendWindow
from dragoman_bus.protocol.fold import TaskFold
from dragoman_bus.protocol.messages import (
    TaskArtifact,
    TaskFinal,
    TaskSnapshot,
    TaskStatusUpdate,
)
from dragoman_bus.protocol.payloads import (
    ArtifactData,
    ErrorObject,
    FinalData,
    Receipt,
    SnapshotData,
    StatusData,
    Usage,
)

__all__ = ["KEEP_ALIVE_SECONDS", "Publish", "ReplyStream"]

KEEP_ALIVE_SECONDS = 2.0
"""What an agent promises: another message within this time."""

Update = TaskStatusUpdate | TaskArtifact | TaskFinal
Encode = Callable[[Update | TaskSnapshot], bytes]
"""Encodes a message, or raises PayloadTooLarge: judged before the log counts it."""
Publish = Callable[[str, bytes], Awaitable[None]]


class ReplyStream:
    """Publishes the updates of one task to whoever subscribed last, and keeps their fold."""

    def __init__(
        self,
        task_id: str,
        context_id: str,
        *,
        reply: str,
        window: int | None,
        sender: Sender,
        encode: Encode,
        publish: Publish,
    ) -> None:
        self.fold = TaskFold(task_id, context_id)
        self.reply = reply
        self.sent_at = time.monotonic()
        self.stalled_since: float | None = None
        self.whole_log: bytes | None = None
        self._sender = sender
        self._encode = encode
        self._publish = publish
        self._window = SendWindow(window)
        self._introductions: list[tuple[str, bytes]] = []
        # Most tasks send nothing but their end: what orders a stream is made when one begins.
        self._opened: asyncio.Event | None = None
        self._lock: asyncio.Lock | None = None

    @property
    def has_room(self) -> bool:
        """Whether the flow window allows one more message now."""
        return self._window.may_send(self.fold.sequence + 1)

    async def status(self, state: TaskState, message: Message | None = None) -> None:
        """Tell a state that is not terminal; waits for room in the flow window."""
        async with self._in_order():
            await self._room()
            if self.fold.is_terminal:
                return
            event = self._event(state, message)
            data = StatusData(
                status_update=event,
                sequence=self.fold.sequence + 1,
                attempt=1,
                keep_alive_seconds=KEEP_ALIVE_SECONDS,
            )
            await self._send(TaskStatusUpdate, data)

    async def artifact(self, artifact: Artifact, *, append: bool) -> None:
        """Send an artifact or more of one; waits for room in the flow window."""
        async with self._in_order():
            await self._room()
            if self.fold.is_terminal:
                return
            event = TaskArtifactUpdateEvent(
                task_id=self.fold.task_id,
                context_id=self.fold.context_id,
                artifact=artifact,
                append=append or UNSET,
            )
            data = ArtifactData(
                artifact_update=event,
                sequence=self.fold.sequence + 1,
                attempt=1,
                keep_alive_seconds=KEEP_ALIVE_SECONDS,
            )
            await self._send(TaskArtifact, data)

    async def final(
        self,
        state: TaskState,
        *,
        artifacts: list[Artifact] | None = None,
        usage: Usage | None = None,
        receipt: Receipt | None = None,
        error: ErrorObject | None = None,
    ) -> bool:
        """End the task; whether this call ended it. Never waits for the flow window."""
        if self.fold.is_terminal:
            return False
        data = FinalData(
            status_update=self._event(state, None),
            sequence=self.fold.sequence + 1,
            attempt=1,
            artifacts=artifacts or UNSET,
            usage=usage or UNSET,
            receipt=receipt or UNSET,
            error=error or UNSET,
        )
        await self._send(TaskFinal, data)
        return True

    async def keep_alive(self) -> None:
        """Repeat the present status, if the window has room and nobody else is sending."""
        busy = self._lock is not None and self._lock.locked()
        if busy or not self.has_room or self.fold.is_terminal:
            return
        words = self.fold.status.message
        state = self.fold.state
        await self.status(state, None if isinstance(words, UnsetType) else words)

    def acknowledge(self, through: int) -> None:
        """Take a task.flow."""
        if self._window.acknowledge(through):
            self._open()

    def attach(self, reply: str, *, window: int | None) -> Coroutine[Any, Any, None]:
        """Continue on another reply subject, after a snapshot: the newest subscriber wins.

        Returns what sends the snapshot; whatever is sent meanwhile sends it first.

        Raises:
            PayloadTooLarge: the snapshot does not fit into a message; nothing was moved.
        """
        self._introductions.append((reply, self._encode(self.snapshot())))
        self.reply = reply
        self._window = SendWindow(window)
        self._window.acknowledge(self.fold.sequence)
        self._open()
        return self._introduce()

    def snapshot(self) -> TaskSnapshot:
        """The task as it is now."""
        fold = self.fold
        data = SnapshotData(
            task=fold.task(),
            sequence=fold.sequence,
            attempt=1,
            keep_alive_seconds=UNSET if fold.is_terminal else KEEP_ALIVE_SECONDS,
            usage=fold.usage,
            receipt=fold.receipt,
            error=fold.error,
        )
        return self._sender.wrap(TaskSnapshot, data)

    async def _introduce(self) -> None:
        while self._introductions:
            await self._publish(*self._introductions.pop(0))

    async def _room(self) -> None:
        while not self.has_room and not self.fold.is_terminal:
            if self.stalled_since is None:
                self.stalled_since = time.monotonic()
            self._opened = asyncio.Event()
            await self._opened.wait()
        self.stalled_since = None

    def _open(self) -> None:
        if self._opened is not None:
            self._opened.set()

    def _in_order(self) -> asyncio.Lock:
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self._lock

    def _event(self, state: TaskState, message: Message | None) -> TaskStatusUpdateEvent:
        return TaskStatusUpdateEvent(
            task_id=self.fold.task_id,
            context_id=self.fold.context_id,
            status=TaskStatus(state=state, message=message or UNSET),
        )

    async def _send(self, kind: type[Update], data: StatusData | ArtifactData | FinalData) -> None:
        message = self._sender.wrap(kind, data, id=f"{self.fold.task_id}.1.{data.sequence}")
        document = self._encode(message)
        self.fold.apply(message)
        self.sent_at = time.monotonic()
        if kind is TaskFinal:
            # A short task's final is all that was ever sent of it.
            self.whole_log = document if data.sequence == 1 else None
            # Whoever waits for room finds the task ended, and gives up its message.
            self._open()
        if self._introductions:
            await self._introduce()
        if self.reply:
            await self._publish(self.reply, document)
