"""What others want of a task: cancel it, answer it, send what it left in its outbox.

Spec: spec/durable.md, cancel, questions, DUR-40.
"""

from __future__ import annotations

import logging
import time

from dragoman_bus.durable.closing import close_task, open_children
from dragoman_bus.durable.ending import Ending, canceled
from dragoman_bus.durable.layout import TIMER_STREAM
from dragoman_bus.durable.store import LogStore
from dragoman_bus.durable.submission import enqueue, submit, timer_record
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.codec import decode, encode
from dragoman_bus.protocol.envelopes import Sender, parse_source
from dragoman_bus.protocol.errors import (
    NoResponders,
    ProtocolError,
    RequestTimeout,
    TaskCanceled,
    TaskRejected,
)
from dragoman_bus.protocol.messages import (
    BusEvent,
    TaskCancel,
    TaskOutbox,
    TaskReply,
    TaskSubmit,
    trace_of,
)
from dragoman_bus.protocol.payloads import CancelData
from dragoman_bus.protocol.subjects import event_subject, instance_subject
from dragoman_bus.protocol.tasklog import LogFold
from dragoman_bus.supervisor.intake import (
    STALE_SECONDS,
    UNKNOWN_DELIVERIES,
    UNKNOWN_SECONDS,
    Later,
)
from dragoman_bus.supervisor.vacating import vacate
from dragoman_bus.transports.port import Transport
from dragoman_bus.transports.streams import Pulled

__all__ = ["Controls"]

logger = logging.getLogger("dragoman.supervisor")

CANCEL_GRACE_SECONDS = 10.0
INSTANCE_SECONDS = 2.0


class Controls:
    """Deals with the control entries of all logs.

    Args:
        transport: The bus.
        store: The logs.
        sender: This supervisor.
        grace_seconds: What a worker gets to end a canceled task itself.
    """

    def __init__(
        self,
        transport: Transport,
        store: LogStore,
        sender: Sender,
        *,
        grace_seconds: float = CANCEL_GRACE_SECONDS,
    ) -> None:
        self._transport = transport
        self._store = store
        self._sender = sender
        self._grace = grace_seconds

    async def handle(self, pulled: Pulled) -> None:
        """Do what one control entry asks for; again without harm."""
        try:
            message = decode(pulled.data)
        except ProtocolError as error:
            logger.warning("%s: ignored: %s", pulled.subject, error)
            return
        if isinstance(message, TaskCancel):
            await self._cancel(message, pulled.delivery)
        elif isinstance(message, TaskReply):
            await self._resume(message.data.task_id, pulled.position)
        elif isinstance(message, TaskOutbox):
            await self._send(message)

    async def _cancel(self, wish: TaskCancel, delivery: int) -> None:
        def judge(log: LogFold) -> Ending | None:
            return None if log.worker else canceled(wish.data)

        log = await close_task(self._store, self._sender, wish.data.task_id, judge)
        if log.submission is None:
            if delivery < UNKNOWN_DELIVERIES:
                # A child is noted before it is submitted, so its cancel may be first.
                raise Later(UNKNOWN_SECONDS)
            return
        # The worker first: a child's end would look to it like a failure of its own.
        if not log.ended and log.worker:
            timer = timer_record(log.task_id, "cancel", time.time() + self._grace, self._sender)
            await self._store.streams.append(TIMER_STREAM, timer)
            await self._tell(log.worker, wish)
        for child in await open_children(self._store, log):
            words = f"task {log.task_id}, above it, was canceled"
            await self._wish(child, words)
        if log.task.state is TaskState.CANCELED and not log.attempts:
            await vacate(self._store.streams, log.data)

    async def _wish(self, task_id: str, reason: str) -> None:
        child = await self._store.read(task_id)
        if child.cancel is None and not child.ended:
            data = CancelData(task_id=task_id, reason=reason)
            await self._store.append(task_id, "control", self._sender.wrap(TaskCancel, data))

    async def _tell(self, worker: str, wish: TaskCancel) -> None:
        """Let the worker stop by itself; when it does not, the timer ends the task."""
        place = parse_source(worker)
        if place is None:
            return
        message = encode(self._sender.wrap(TaskCancel, wish.data))
        try:
            await self._transport.request(
                instance_subject(place[1], "cancel"), message, timeout=INSTANCE_SECONDS
            )
        except (NoResponders, RequestTimeout) as error:
            logger.info("task %s: its worker does not hear: %s", wish.data.task_id, error)

    async def _resume(self, task_id: str, position: int) -> None:
        """Queue a task again whose question has a reply (DUR-28)."""
        log = await self._store.read(task_id)
        if log.position < position:
            # The node that was read from has yet to hear of the reply.
            raise Later(STALE_SECONDS)
        answered = log.questions > 0 and len(log.replies) >= log.questions
        if log.ended or log.submission is None or log.worker or not answered:
            return
        await enqueue(self._store, log.submission, run=log.attempt + 1)

    async def _send(self, outbox: TaskOutbox) -> None:
        for data in outbox.data.submissions or ():
            submission = self._sender.wrap(
                TaskSubmit, data, id=data.task_id, trace=trace_of(outbox)
            )
            try:
                await submit(self._store, self._sender, submission)
            except (TaskCanceled, TaskRejected) as error:
                logger.warning("from the outbox of %s: %s", outbox.data.task_id, error)
        for number, event in enumerate(outbox.data.events or ()):
            identity = f"{outbox.id}.{number}"[:128]
            message = self._sender.wrap(BusEvent, event, id=identity, trace=trace_of(outbox))
            await self._transport.publish(event_subject(event.topic, event.event), encode(message))
