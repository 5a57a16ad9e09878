"""A worker's side of a durable task's log: claims, updates, steps, questions, the end.

Spec: spec/durable.md, work. It has the methods of ``ReplyStream``, so a skill does not notice
where its updates go. Every write is fenced by the claim: once the server refuses one because the
spine has moved on, the task belongs to somebody else, and ``Fenced`` is raised here for ever.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from msgspec import UNSET, Raw

from dragoman_bus.durable.claiming import claim, know
from dragoman_bus.durable.closing import children_to_cancel
from dragoman_bus.durable.ending import Ending, ending_records
from dragoman_bus.durable.store import LogStore
from dragoman_bus.protocol.a2a import (
    Artifact,
    Message,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from dragoman_bus.protocol.codec import encode
from dragoman_bus.protocol.durable import ChildData, StepData
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.protocol.fold import TaskFold
from dragoman_bus.protocol.messages import (
    Envelope,
    TaskArtifact,
    TaskChild,
    TaskSnapshot,
    TaskStatusUpdate,
    TaskStep,
)
from dragoman_bus.protocol.payloads import (
    ArtifactData,
    ErrorObject,
    SnapshotData,
    StatusData,
    Usage,
)
from dragoman_bus.protocol.subjects import log_subject
from dragoman_bus.protocol.tasklog import LogEntry, LogFold
from dragoman_bus.service.continuing import Continuation
from dragoman_bus.service.persisting import patiently, persist
from dragoman_bus.service.pieces import Piece, next_piece
from dragoman_bus.transports.streams import Record

__all__ = ["Fenced", "LogStream"]

logger = logging.getLogger("dragoman.service")

MAXIMUM_PENDING = 256


class Fenced(Exception):
    """The task belongs to another worker, or has ended: whatever this one does is void."""


class LogStream:
    """Writes the log of one task that this worker runs.

    Args:
        log: What is known of the log. For a first delivery that is the submission alone.
        store: The logs.
        sender: This instance.
        lost: Called once when the task is found to belong to somebody else.
    """

    stalled_since: float | None = None
    whole_log: bytes | None = None
    has_room = True

    def __init__(
        self, log: LogFold, store: LogStore, sender: Sender, lost: Callable[[], None]
    ) -> None:
        self.log = log
        self.sent_at = time.monotonic()
        self.fenced = False
        self._store = store
        self._sender = sender
        self._lost = lost
        self._claimed = False
        self._let_go = False
        self._lock = asyncio.Lock()
        self._continuation = Continuation(log.task.artifacts)
        self._pending: deque[Piece] = deque()
        self._flusher: asyncio.Task[None] | None = None
        self._broken: DragomanError | None = None
        self._room = asyncio.Event()

    @property
    def fold(self) -> TaskFold:
        """The task as far as this worker knows it."""
        return self.log.task

    @property
    def claimed(self) -> bool:
        """Whether this worker holds the task in the log now."""
        return self._claimed

    async def claim(self) -> None:
        """Take the task, unless that was done.

        Raises:
            Fenced: somebody else has it, or it has ended.
        """
        async with self._lock:
            await self._claim_locked(None)

    async def status(
        self, state: TaskState, message: Message | None = None, used: Usage | None = None
    ) -> None:
        """Tell progress; a question goes to the spine and gives the task back.

        Raises:
            Fenced: the task is lost.
        """
        await self._flush()
        async with self._lock:
            if state is TaskState.WORKING and not self._claimed:
                await self._claim_locked(message)
                return
            await self._claim_locked(None)
            if state is TaskState.WORKING:
                if message is not None:
                    await self._write("update", self._status(state, message))
            else:
                await self._write("state", self._status(state, message, used=used))
                self._release()

    async def artifact(self, artifact: Artifact, *, append: bool) -> None:
        """Add to the output; text is gathered while an earlier piece is being stored.

        Raises:
            Fenced: the task is lost.
            PayloadTooLarge: an earlier piece, or this one, does not fit into a message.
        """
        self._check()
        self._check_stored()
        for piece, more in self._continuation.take(artifact, append=append):
            self._pending.append((piece, more))
        if self._pending and self._flusher is None:
            self._flusher = asyncio.create_task(self._write_pending())
        while len(self._pending) > MAXIMUM_PENDING and self._flusher is not None:
            self._room.clear()
            await self._room.wait()
            self._check()

    async def step(self, name: str, output: Raw, used: Usage | None = None) -> None:
        """Keep the result of a step."""
        async with self._lock:
            await self._claim_locked(None)
            data = StepData(
                task_id=self.log.task_id,
                attempt=self.log.attempt,
                name=name,
                output=output,
                usage=used or UNSET,
            )
            await self._write("step", self._sender.wrap(TaskStep, data))

    async def child(self, task_id: str, skill: str) -> None:
        """Note a delegated task, before it is submitted."""
        async with self._lock:
            await self._claim_locked(None)
            data = ChildData(
                task_id=self.log.task_id,
                attempt=self.log.attempt,
                child_task_id=task_id,
                skill=skill,
            )
            await self._write("child", self._sender.wrap(TaskChild, data))

    async def retry(self, error: ErrorObject | None, used: Usage | None = None) -> None:
        """Give the task back: after a failure with its ``error``, or unfinished without one."""
        await self._flush()
        async with self._lock:
            await self._claim_locked(None)
            await self._write("state", self._status(TaskState.SUBMITTED, None, error, used))
            self._release()

    async def end(self, ending: Ending, *, ran: bool = True) -> None:
        """Store the end; of a task that was not even begun here when it never ``ran``.

        Raises:
            Fenced: somebody else ended the task, or has it.
            PayloadTooLarge: the final does not fit into one message.
        """
        await self._flush()
        async with self._lock:
            self._check()
            if ending.state is TaskState.COMPLETED:
                self._check_stored()
            elsewhere = bool(self.log.worker) and not self._claimed
            if elsewhere or (ran and ending.state is TaskState.FAILED):
                # Only who holds a task ends it (DUR-84); a dead letter tells every attempt.
                await self._claim_locked(None, ending.error if elsewhere else None)
            final = ending.final(self.log, self._sender)
            records = ending_records(
                self.log,
                ending,
                final,
                self._sender,
                open_children=await self._open_children(),
                max_payload=self._store.streams.max_payload,
            )
            position = await self._persist(records, final)
            self.log.apply(LogEntry("state", position, final))
            self._release()

    async def final(self, state: TaskState, **members: Any) -> bool:
        """End the task as ``ReplyStream.final`` does; whether this call ended it."""
        if self.log.ended or self.fenced:
            return False
        await self.end(Ending(state, **members))
        return True

    async def keep_alive(self) -> None:
        """Nothing: the queue's ack wait, not the log, tells that a worker lives."""

    def acknowledge(self, through: int) -> None:
        """Nothing: a stored log has no flow window."""

    def attach(self, reply: str, *, window: int | None) -> None:
        """Nothing: readers of a stored log read the log."""

    def snapshot(self) -> TaskSnapshot:
        """The task as it is here."""
        fold = self.fold
        data = SnapshotData(
            task=fold.task(),
            sequence=fold.sequence,
            attempt=fold.attempt,
            usage=fold.usage,
            receipt=fold.receipt,
            error=fold.error,
        )
        return self._sender.wrap(TaskSnapshot, data)

    async def close(self) -> None:
        """Stop writing what is pending."""
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.wait([self._flusher])

    # ---- writing

    def _check(self) -> None:
        if self.fenced or self._let_go:
            raise Fenced(self.log.task_id)

    def _release(self) -> None:
        """The task is not this worker's any more; what it still wants to write comes too late.

        The server would take it, since this worker knows the spine's last entry: its own.
        """
        self._claimed = False
        self._let_go = True

    def _status(
        self,
        state: TaskState,
        message: Message | None,
        error: ErrorObject | None = None,
        used: Usage | None = None,
    ) -> TaskStatusUpdate:
        data = StatusData(
            status_update=TaskStatusUpdateEvent(
                task_id=self.log.task_id,
                context_id=self.fold.context_id,
                status=TaskStatus(state=state, message=message or UNSET),
            ),
            sequence=self.fold.sequence + 1,
            attempt=self.log.attempt,
            error=error or UNSET,
            usage=used or UNSET,
        )
        return self._sender.wrap(TaskStatusUpdate, data, id=self._id(data.attempt, data.sequence))

    def _id(self, attempt: int, sequence: int) -> str:
        return f"{self.log.task_id}.{attempt}.{sequence}"

    async def _claim_locked(
        self, message: Message | None, error: ErrorObject | None = None
    ) -> None:
        self._check()
        if self._claimed:
            return
        entry = claim(self.log, self._sender, message, error=error)
        position = await self._append("state", entry)
        held = await patiently(
            lambda: know(self._store, self.log, position, entry), self.log.task_id
        )
        if not held:
            self._fence()
        self._continuation = Continuation(self.fold.artifacts)
        self._claimed = True

    async def _write(self, kind: str, message: Any) -> None:
        """Store one entry under the fence and fold it."""
        position = await self._append(kind, message)
        self.log.apply(LogEntry(kind, position, message))

    async def _append(self, kind: str, message: Any) -> int:
        """Store one entry under the fence; its position."""
        record = Record(
            subject=log_subject(self.log.task_id, kind),
            data=encode(message),
            expect=LogStore.on_spine(self.log.task_id, self.log.spine),
        )
        position = await self._persist([record], message)
        self.sent_at = time.monotonic()
        return position

    async def _persist(self, records: list[Record], message: Envelope) -> int:
        """Store, through every outage, or find out that the task is lost."""
        position = await persist(self._store, self.log.task_id, records, message)
        if position is None:
            self._fence()
        return position

    def _fence(self) -> NoReturn:
        if not self.fenced:
            self.fenced = True
            self._room.set()
            self._lost()
        raise Fenced(self.log.task_id)

    async def _open_children(self) -> list[str]:
        return await patiently(
            lambda: children_to_cancel(self._store, self._sender, self.log), self.log.task_id
        )

    # ---- output

    async def _flush(self) -> None:
        """Wait until all emitted output is stored."""
        while self._flusher is not None:
            await asyncio.wait([self._flusher])
        self._check()

    def _check_stored(self) -> None:
        """Raise what kept a piece of the output from being stored: it must not just be missing."""
        if self._broken is not None:
            raise self._broken

    async def _write_pending(self) -> None:
        try:
            while self._pending:
                largest = self._store.streams.max_payload // 8
                artifact, append = next_piece(self._pending, largest)
                self._room.set()
                async with self._lock:
                    await self._claim_locked(None)
                    await self._write("update", self._artifact(artifact, append))
        except Fenced:
            self._pending.clear()
        except DragomanError as error:
            self._broken = error
            self._pending.clear()
        finally:
            self._flusher = None
            self._room.set()

    def _artifact(self, artifact: Artifact, append: bool) -> TaskArtifact:
        data = ArtifactData(
            artifact_update=TaskArtifactUpdateEvent(
                task_id=self.log.task_id,
                context_id=self.fold.context_id,
                artifact=artifact,
                append=append or UNSET,
            ),
            sequence=self.fold.sequence + 1,
            attempt=self.log.attempt,
        )
        return self._sender.wrap(TaskArtifact, data, id=self._id(data.attempt, data.sequence))
